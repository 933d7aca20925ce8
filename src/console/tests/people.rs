//! Tokens, people, teams, virtual accounts and their grants.

use serde_json::{Value, json};

use super::{House, Shown, Visitor};
use crate::console::Console;

/// What the audit log says was done since, without times.
fn entries(house: &House) -> Vec<(String, String, String)> {
    let answer = house.done("GET", "/audit?limit=500", Value::Null);
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    let all = answer["data"].as_array().unwrap();
    all.iter().map(|entry| (text(entry, "action"), text(entry, "resource"), text(entry, "outcome"))).collect()
}

/// The text of the secret that a page shows.
fn secret(shown: &Shown) -> String {
    let (_, rest) =
        shown.text.split_once("<code>tfy_").unwrap_or_else(|| panic!("no secret: {}", shown.text));
    format!("tfy_{}", rest.split('<').next().unwrap())
}

fn went(shown: &Shown, to: &str) {
    assert_eq!((shown.status, shown.line("location")), (303, Some(to)), "{}", shown.text);
}

/// An act in the console, and the same by the API.
type Act = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
    &'static str,
    fn() -> Value,
);

const ACTS: &[Act] = &[
    (
        "make a person",
        "/people/new",
        &[("email", "new@x.io"), ("name", "N"), ("role", "member")],
        "POST",
        "/users/register",
        || json!({"email": "new@x.io", "displayName": "N", "role": "member"}),
    ),
    (
        "promote",
        "/people/plain@x.io/role",
        &[("role", "admin")],
        "PATCH",
        "/users/roles",
        || json!({"email": "plain@x.io", "roles": ["tenant-admin"]}),
    ),
    (
        "deactivate",
        "/people/lead@x.io/deactivate",
        &[],
        "PATCH",
        "/users/deactivate",
        || json!({"email": "lead@x.io"}),
    ),
    (
        "activate",
        "/people/lead@x.io/activate",
        &[],
        "PATCH",
        "/users/activate",
        || json!({"email": "lead@x.io"}),
    ),
    (
        "make a team",
        "/teams/new",
        &[("name", "ops"), ("description", "d")],
        "PUT",
        "/teams",
        || json!({"manifest": {"type": "team", "name": "ops", "description": "d", "members": []}}),
    ),
    (
        "add a member",
        "/teams/ops/members",
        &[("member", "plain@x.io")],
        "POST",
        "/teams/ops/members",
        || json!({"email": "plain@x.io"}),
    ),
    (
        "add a manager",
        "/teams/ops/managers",
        &[("manager", "plain@x.io")],
        "POST",
        "/teams/ops/managers",
        || json!({"email": "plain@x.io"}),
    ),
    (
        "remove a manager",
        "/teams/ops/managers/plain@x.io/remove",
        &[],
        "DELETE",
        "/teams/ops/managers/plain@x.io",
        || Value::Null,
    ),
    (
        "remove a member",
        "/teams/ops/members/plain@x.io/remove",
        &[],
        "DELETE",
        "/teams/ops/members/plain@x.io",
        || Value::Null,
    ),
    (
        "grant",
        "/grants/new",
        &[("subject", "team:ops"), ("role", "provider-account-access"), ("target", "main/gpt")],
        "POST",
        "/grants",
        || json!({"subject": "team:ops", "role": "provider-account-access", "target": "main/gpt"}),
    ),
    (
        "revoke",
        "/grants/revoke",
        &[("subject", "team:ops"), ("role", "provider-account-access"), ("target", "main/gpt")],
        "DELETE",
        "/grants?subject=team:ops&role=provider-account-access&target=main/gpt",
        || Value::Null,
    ),
    ("delete a team", "/teams/ops/delete", &[], "DELETE", "/teams/ops", || Value::Null),
    (
        "make a virtual account",
        "/virtual-accounts/new",
        &[
            ("name", "search-bot"),
            ("tags", "project=search\r\ntier = gold"),
            ("expires", "2031-01-31"),
            ("team", "search"),
        ],
        "PUT",
        "/virtual-accounts",
        || {
            json!({"manifest": {"type": "virtual-account", "name": "search-bot", "tags": {"project": "search", "tier": "gold"},
                "expiration_date": "2031-01-31", "ownedBy": {"team": "search"}}})
        },
    ),
    (
        "make a token",
        "/tokens/new",
        &[("virtual-account", "search-bot"), ("name", "production")],
        "POST",
        "/tokens",
        || json!({"virtualAccount": "search-bot", "name": "production"}),
    ),
    (
        "delete a virtual account",
        "/virtual-accounts/search-bot/delete",
        &[],
        "DELETE",
        "/virtual-accounts/search-bot",
        || Value::Null,
    ),
];

#[test]
fn every_act_leaves_the_audit_entry_that_the_api_leaves() {
    let (by_page, by_api, console) = (House::furnished(), House::furnished(), Console::default());
    let mut admin = Visitor::signed_in(&by_page, &console, "admin@x.io");
    by_api.token("admin@x.io", "console-0");
    for (what, page, form, method, path, body) in ACTS {
        let (before_page, before_api) = (entries(&by_page).len(), entries(&by_api).len());
        let shown = admin.post(page, form);
        assert!(matches!(shown.status, 200 | 303), "{what}: {} {}", shown.status, shown.text);
        let (status, answer) = by_api.ask(&super::super::super::api::tests::LOCAL, method, path, body());
        assert_eq!(status, 200, "{what}: {answer}");
        let without_ids = |entries: Vec<(String, String, String)>, before: usize| -> Vec<_> {
            let new = entries.len() - before;
            entries
                .into_iter()
                .take(new)
                .map(|(action, resource, outcome)| match resource.split_once("token/") {
                    Some(_) => (action, "token".to_owned(), outcome),
                    None => (action, resource, outcome),
                })
                .collect()
        };
        let (page_made, api_made) =
            (without_ids(entries(&by_page), before_page), without_ids(entries(&by_api), before_api));
        assert!(!page_made.is_empty(), "{what} left no entry");
        assert_eq!(page_made, api_made, "{what}");
    }
}

#[test]
fn a_secret_is_shown_once() {
    let (house, console) = (House::furnished(), Console::default());
    house.done("PATCH", "/settings", json!({"pat_may_mint": true}));
    let mut visitor = Visitor::signed_in(&house, &console, "plain@x.io");
    assert!(visitor.get("/tokens/new").text.contains("name=\"expires\""));
    let made = visitor.post("/tokens/new", &[("name", "laptop"), ("expires", "")]);
    assert_eq!(made.status, 200);
    assert_eq!(made.line("cache-control"), Some("no-store"));
    let text = secret(&made);
    let id = text.split('_').nth(2).unwrap().to_owned();
    for path in [
        "/tokens".to_owned(),
        format!("/tokens/{id}"),
        format!("/tokens/{id}/rotate"),
        format!("/tokens/{id}/revoke"),
    ] {
        let shown = visitor.get(&path);
        assert_eq!(shown.status, 200, "{path}");
        assert!(shown.text.contains("laptop") && !shown.text.contains(&text), "{path}");
    }
    let renamed = visitor.post(&format!("/tokens/{id}/rename"), &[("name", "desktop")]);
    went(&renamed, &format!("/tokens/{id}"));
    assert!(visitor.get(&format!("/tokens/{id}")).text.contains("The token was renamed"));
    let rotated = visitor.post(&format!("/tokens/{id}/rotate"), &[("grace", "60")]);
    assert_ne!(secret(&rotated), text);
    assert!(visitor.get(&format!("/tokens/{id}")).text.contains("in grace"));
    for (grace, status) in [("", 422), ("-1", 422), ("x", 422), ("99999999999", 422), ("60", 409)] {
        let refused = visitor.post(&format!("/tokens/{id}/rotate"), &[("grace", grace)]);
        assert_eq!(refused.status, status, "{grace}: {}", refused.text);
        assert!(refused.text.contains("role=\"alert\""));
    }
    went(&visitor.post(&format!("/tokens/{id}/revoke"), &[]), "/tokens");
    let gone = visitor.get(&format!("/tokens/{id}"));
    assert!(gone.text.contains("revoked") && !gone.text.contains(">Rotate<"), "{}", gone.text);
}

#[test]
fn forms_come_back_with_what_was_typed() {
    let (house, console) = (House::furnished(), Console::default());
    let mut admin = Visitor::signed_in(&house, &console, "admin@x.io");
    for (path, form, status, kept) in [
        ("/people/new", vec![("email", "not an address"), ("name", "Somebody")], 422, "Somebody"),
        ("/people/new", vec![("email", "plain@x.io"), ("name", "Twice")], 409, "Twice"),
        ("/teams/new", vec![("name", "Not A Name"), ("description", "words")], 422, "words"),
        ("/teams/new", vec![("name", "search"), ("description", "again")], 409, "again"),
        ("/teams/search/members", vec![("member", "nobody@x.io")], 422, "nobody@x.io"),
        ("/virtual-accounts/new", vec![("name", "app")], 409, "value=\"app\""),
        ("/virtual-accounts/new", vec![("name", "good-name"), ("tags", "no equals")], 422, "no equals"),
        ("/virtual-accounts/new", vec![("name", "good-name"), ("expires", "2031-02-30")], 422, "2031-02-30"),
        ("/virtual-accounts/new", vec![("name", "good-name"), ("team", "nowhere")], 422, "nowhere"),
        ("/virtual-accounts/app/clone", vec![("name", "app")], 409, "value=\"app\""),
        (
            "/grants/new",
            vec![("subject", "team:nowhere"), ("role", "access"), ("target", "main")],
            422,
            "team:nowhere",
        ),
        (
            "/grants/new",
            vec![("subject", "user:plain@x.io"), ("role", "access"), ("target", "absent")],
            422,
            "absent",
        ),
    ] {
        let shown = admin.post(path, &form);
        assert_eq!(shown.status, status, "{path} {form:?}: {}", shown.text);
        assert!(
            shown.text.contains("role=\"alert\"") && shown.text.contains(kept),
            "{path} {form:?}: {}",
            shown.text
        );
    }
}

#[test]
fn a_page_by_hand_gives_what_the_api_gives() {
    let (house, console) = (House::furnished(), Console::default());
    let (_, others_token, _) = house.token("admin@x.io", "secret-one");
    let mut member = Visitor::signed_in(&house, &console, "plain@x.io");
    for (path, status) in [
        ("/people".to_owned(), 403),
        ("/people/new".to_owned(), 403),
        ("/people/admin@x.io".to_owned(), 404),
        ("/people/plain@x.io".to_owned(), 200),
        ("/people/nobody@x.io".to_owned(), 404),
        ("/people/admin@x.io/deactivate".to_owned(), 404),
        ("/people/plain@x.io/deactivate".to_owned(), 403),
        ("/teams".to_owned(), 200),
        ("/teams/new".to_owned(), 403),
        ("/teams/search".to_owned(), 404),
        ("/teams/search/delete".to_owned(), 404),
        ("/virtual-accounts".to_owned(), 403),
        ("/virtual-accounts/new".to_owned(), 403),
        ("/virtual-accounts/app".to_owned(), 404),
        ("/virtual-accounts/app/manifest".to_owned(), 404),
        ("/virtual-accounts/app/clone".to_owned(), 403),
        (format!("/tokens/{others_token}"), 404),
        (format!("/tokens/{others_token}/revoke"), 404),
        ("/tokens/%00".to_owned(), 404),
        ("/tokens/new".to_owned(), 403),
        ("/grants/revoke?subject=team:search&role=access&target=main".to_owned(), 404),
        ("/grants/revoke".to_owned(), 422),
    ] {
        let shown = member.get(&path);
        assert_eq!(shown.status, status, "{path}: {}", shown.text);
    }
    for (path, form, status) in [
        ("/people/new", vec![("email", "x@x.io")], 403),
        ("/people/plain@x.io/role", vec![("role", "admin")], 403),
        ("/people/admin@x.io/deactivate", vec![], 404),
        ("/teams/new", vec![("name", "mine")], 403),
        ("/teams/search/members", vec![("member", "plain@x.io")], 404),
        ("/virtual-accounts/new", vec![("name", "mine")], 403),
        ("/virtual-accounts/app/delete", vec![], 404),
        ("/tokens/new", vec![("name", "mine")], 403),
        ("/tokens/new", vec![("name", "mine"), ("user", "admin@x.io")], 403),
        ("/grants/new", vec![("subject", "user:plain@x.io"), ("role", "access"), ("target", "main")], 404),
    ] {
        let shown = member.post(path, &form);
        assert_eq!(shown.status, status, "{path} {form:?}: {}", shown.text);
    }
}

#[test]
fn a_team_manager_manages_the_team_and_nothing_else() {
    let (house, console) = (House::furnished(), Console::default());
    let mut lead = Visitor::signed_in(&house, &console, "lead@x.io");
    let page = lead.get("/teams/search");
    assert!(page.text.contains("access@x.io") && page.text.contains("Add a member"), "{}", page.text);
    assert!(!page.text.contains("/teams/search/delete"));
    let asked = lead.get("/teams/search/members/access@x.io/remove");
    // The account is none of the lead's business.
    assert!(asked.text.contains("not yours to see") && !asked.text.contains("main/gpt"), "{}", asked.text);
    went(&lead.post("/teams/search/members", &[("member", "plain@x.io")]), "/teams/search");
    went(&lead.post("/teams/search/members/access@x.io/remove", &[]), "/teams/search");
    let page = lead.get("/teams/search");
    assert!(page.text.contains("plain@x.io") && page.text.contains("is out of the team"), "{}", page.text);
    assert_eq!(lead.get("/teams/hidden").status, 404);
    assert_eq!(lead.get("/teams/search/delete").status, 403);
}

#[test]
fn a_grant_is_tried_before_it_is_given_and_its_end_says_who_loses() {
    let (house, console) = (House::furnished(), Console::default());
    let mut admin = Visitor::signed_in(&house, &console, "admin@x.io");
    let form = [
        ("subject", "user:plain@x.io"),
        ("role", "provider-account-access"),
        ("target", "main"),
        ("back", "/people/plain@x.io"),
    ];
    let tried = admin.post("/grants/new", &[form.as_slice(), &[("try", "on")]].concat());
    assert!(
        tried.text.contains("What this would change") && tried.text.contains("main/gpt"),
        "{}",
        tried.text
    );
    assert!(admin.get("/people/plain@x.io").text.contains("No grant of its own"));
    went(&admin.post("/grants/new", &form), "/people/plain@x.io");
    let page = admin.get("/people/plain@x.io");
    assert!(page.text.contains("/grants/revoke?subject=user%3Aplain@x.io"), "{}", page.text);
    let asked = admin.get(
        "/grants/revoke?subject=user:plain@x.io&role=provider-account-access&target=main&back=//evil.example",
    );
    assert!(asked.text.contains("user:plain@x.io can no longer use main/gpt"), "{}", asked.text);
    assert!(!asked.text.contains("evil.example"), "{}", asked.text);
    // A grant of a manifest is changed there.
    let refused = admin.post(
        "/grants/revoke",
        &[("subject", "virtualaccount:app"), ("role", "provider-account-access"), ("target", "main")],
    );
    assert_eq!(refused.status, 409);
    assert!(refused.text.contains("virtual-account/app"), "{}", refused.text);
}

#[test]
fn a_virtual_account_is_copied_with_what_it_may_use() {
    let (house, console) = (House::furnished(), Console::default());
    let mut admin = Visitor::signed_in(&house, &console, "admin@x.io");
    let manifest = admin.get("/virtual-accounts/app/manifest");
    assert!(manifest.text.contains("type: virtual-account"), "{}", manifest.text);
    went(&admin.post("/virtual-accounts/app/clone", &[("name", "app-2")]), "/virtual-accounts/app-2");
    let page = admin.get("/virtual-accounts/app-2");
    assert!(page.text.contains("manifest") && page.text.contains("No token yet"), "{}", page.text);
    let made = admin.post("/tokens/new", &[("virtual-account", "app-2"), ("name", "production")]);
    assert!(secret(&made).starts_with("tfy_va_"));
    let asked = admin.get("/virtual-accounts/app-2/delete");
    assert!(asked.text.contains("1 of its tokens end now"), "{}", asked.text);
    assert!(asked.text.contains("virtualaccount:app-2 can no longer use main/gpt"), "{}", asked.text);
    went(&admin.post("/virtual-accounts/app-2/delete", &[]), "/virtual-accounts");
    assert_eq!(admin.get("/virtual-accounts/app-2").status, 404);
    assert_eq!(admin.get("/virtual-accounts/app").status, 200);
}

#[test]
fn whoever_is_deactivated_is_signed_out() {
    let (house, console) = (House::furnished(), Console::default());
    let mut admin = Visitor::signed_in(&house, &console, "admin@x.io");
    let mut plain = Visitor::signed_in(&house, &console, "plain@x.io");
    let asked = admin.get("/people/plain@x.io/deactivate");
    assert!(asked.text.contains("1 of their tokens end now"), "{}", asked.text);
    assert!(asked.text.contains("They could use nothing anyway"), "{}", asked.text);
    went(&admin.post("/people/plain@x.io/deactivate", &[]), "/people/plain@x.io");
    let shown = plain.get("/tokens");
    assert_eq!((shown.status, shown.line("location")), (303, Some("/sign-in?next=%2Ftokens")));
    assert_eq!(admin.get("/people/admin@x.io/deactivate").status, 409, "the last administrator stays");
    went(&admin.post("/people/plain@x.io/activate", &[]), "/people/plain@x.io");
    went(&admin.post("/people/plain@x.io/deactivate", &[]), "/people/plain@x.io");
    went(&admin.post("/people/plain@x.io/delete", &[]), "/people");
    assert_eq!(admin.get("/people/plain@x.io").status, 404);
}

#[test]
fn hostile_names_are_harmless_on_every_page() {
    let (house, console) = (House::furnished(), Console::default());
    let mut admin = Visitor::signed_in(&house, &console, "admin@x.io");
    let long = "x".repeat(200);
    let names = [
        "<script>alert(1)</script>",
        "\u{202e}\u{5d0}\u{5d1}\u{5d2} dlrow",
        "\"'><img src=x onerror=alert(1)>",
        &long,
    ];
    for (number, hostile) in names.iter().enumerate() {
        let email = format!("evil-{number}@x.io");
        went(
            &admin.post("/people/new", &[("email", &email), ("name", hostile), ("role", "member")]),
            &format!("/people/{email}"),
        );
        let team = format!("team-{number}");
        went(
            &admin.post("/teams/new", &[("name", &team), ("description", hostile)]),
            &format!("/teams/{team}"),
        );
        let account = format!("account-{number}");
        let tags = format!("note={}", hostile.chars().take(100).collect::<String>());
        let made = admin.post("/virtual-accounts/new", &[("name", &account), ("tags", &tags)]);
        went(&made, &format!("/virtual-accounts/{account}"));
        for path in [
            "/people".to_owned(),
            format!("/people/{email}"),
            format!("/people/{email}/deactivate"),
            "/teams".to_owned(),
            format!("/teams/{team}"),
            "/virtual-accounts".to_owned(),
            format!("/virtual-accounts/{account}"),
            format!("/virtual-accounts/{account}/manifest"),
            format!("/grants/new?subject={}&back=/teams", super::super::form::encode(hostile)),
            format!("/people?q={}", super::super::form::encode(hostile)),
        ] {
            let shown = admin.get(&path);
            assert_eq!(shown.status, 200, "{path}: {}", shown.text);
            assert!(
                !shown.text.contains("<script>alert") && !shown.text.contains("<img src=x"),
                "{path}: {}",
                shown.text
            );
        }
    }
}

#[test]
fn large_lists_are_shown_in_pages() {
    let (house, console) = (House::furnished(), Console::default());
    for number in 0..120 {
        let email = format!("person-{number:03}@x.io");
        house.done("POST", "/users/register", json!({"email": email, "role": "member"}));
    }
    let mut admin = Visitor::signed_in(&house, &console, "admin@x.io");
    let page = admin.get("/people?q=person&page=3&sort=-email");
    assert!(
        page.text.contains("101\u{2013}120 of 120") && page.text.contains("person-000@x.io"),
        "{}",
        page.text
    );
    assert!(!page.text.contains("person-119@x.io"));
}

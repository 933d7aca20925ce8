//! What an attacker with a token of their own tried, and what a change must not leave behind.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{House, LOCAL, account, model};
use crate::clock::UnixMillis;
use crate::domain::{Owner, Token, User};
use crate::id::{Email, SlugName, TokenId};
use crate::secret::SecretHash;
use crate::store::{Change, Expect, Object, Write};

fn lines(answer: &Value) -> Vec<String> {
    let all = [&answer["access"]["gains"], &answer["access"]["loses"]];
    let all = all.iter().flat_map(|lines| lines.as_array().unwrap().iter());
    all.map(|line| format!("{} {}", line["subject"].as_str().unwrap(), line["model"].as_str().unwrap()))
        .collect()
}

/// Who manages an account may give roles on it to a team, but that shows nobody who is in the team.
#[test]
fn a_dry_run_lists_nobody_whom_the_caller_may_not_see() {
    let house = House::furnished();
    let (_, _, keeper) = house.token("keeper@x.io", "key");
    for team in ["hidden", "everyone"] {
        let grant =
            json!({"subject": format!("team:{team}"), "role": "access", "target": "main", "dryRun": true});
        let (status, answer) = house.ask(&keeper, "POST", "/grants", grant.clone());
        assert_eq!(status, 200, "{answer}");
        assert!(!answer.to_string().contains("hidden@x.io"), "{answer}");
        assert_eq!(answer["access"]["truncated"], true, "what is not told is said to be: {answer}");
        let all = house.done("POST", "/grants", grant);
        assert!(all.to_string().contains("hidden@x.io"), "an administrator sees everyone: {all}");
    }
    // By a manifest it is the same.
    let mut manifest = account("main");
    manifest["collaborators"] = json!([{"subject": "team:hidden", "role_id": "provider-account-access"}]);
    for (path, body) in [
        ("/apply", json!({"manifest": manifest, "dryRun": true})),
        ("/provider-accounts", json!({"manifest": manifest, "dryRun": true})),
    ] {
        let (status, answer) = house.ask(&keeper, "PUT", path, body);
        assert_eq!(status, 200, "{answer}");
        assert!(!answer.to_string().contains("hidden@x.io"), "{answer}");
    }
    // Whom they name, and who is known to have a role there, they are told of.
    let grant = json!({"subject": "user:plain@x.io", "role": "access", "target": "main", "dryRun": true});
    let (_, answer) = house.ask(&keeper, "POST", "/grants", grant);
    assert_eq!(lines(&answer), ["user:plain@x.io main/gpt", "user:plain@x.io main/org/small"]);
    assert_eq!(answer["access"]["truncated"], false);
    house.done(
        "POST",
        "/grants",
        json!({"subject": "user:plain@x.io", "role": "access", "target": "main/gpt"}),
    );
    let (_, answer) =
        house.ask(&keeper, "DELETE", "/provider-accounts/main/models/gpt?dryRun=true", Value::Null);
    assert!(lines(&answer).contains(&"user:plain@x.io main/gpt".to_owned()), "{answer}");
    assert!(!answer.to_string().contains("access@x.io"), "in the team 'search', which is hidden: {answer}");
}

/// Who manages a team learns nothing of accounts that they do not see.
#[test]
fn a_dry_run_names_no_account_that_the_caller_may_not_see() {
    let house = House::furnished();
    let (_, _, lead) = house.token("lead@x.io", "key");
    let member = json!({"email": "plain@x.io", "dryRun": true});
    let (status, answer) = house.ask(&lead, "POST", "/teams/search/members", member.clone());
    assert_eq!(status, 200, "{answer}");
    assert!(lines(&answer).is_empty() && !answer.to_string().contains("main"), "{answer}");
    assert_eq!(answer["access"]["truncated"], true);
    // As one of the team they see what it may use, and so what another one gains.
    house.done("POST", "/teams/search/members", json!({"email": "lead@x.io"}));
    let (_, answer) = house.ask(&lead, "POST", "/teams/search/members", member);
    assert_eq!(lines(&answer).len(), 2, "{answer}");
}

fn store(house: &House, objects: Vec<Object>) {
    let writes = objects.into_iter().map(|object| Write::Put(object, Expect::Absent)).collect();
    house.manage.store.commit(Change { writes, audit: Vec::new() }).unwrap();
}

fn crowd(house: &House, count: usize) {
    let user = |number| {
        Object::User(User {
            email: Email::parse(&format!("crowd-{number}@x.io")).unwrap(),
            display_name: String::new(),
            role: crate::domain::TenantRole::Member,
            active: true,
            created_at: UnixMillis(1),
            updated_at: UnixMillis(1),
        })
    };
    store(house, (0..count).map(user).collect());
}

/// A change that makes no difference to anybody has to be looked at for everyone: that work is bounded too, as it
/// keeps a worker from its other connections.
#[test]
fn a_dry_run_does_not_work_for_ever() {
    let house = House::furnished();
    crowd(&house, 3000);
    let mut manifest = account("main");
    manifest["integrations"] = (0..600).map(|number| model(&format!("m{number}"))).collect();
    manifest["collaborators"] = json!([{"subject": "team:everyone", "role_id": "provider-account-access"}]);
    house.done("PUT", "/apply", json!({"manifest": manifest}));
    let (_, _, keeper) = house.token("keeper@x.io", "key");
    let grant = json!({"subject": "team:everyone", "role": "access", "target": "main/m7", "dryRun": true});
    let (status, answer) = house.ask(&keeper, "POST", "/grants", grant);
    assert_eq!((status, &answer["access"]["truncated"]), (200, &json!(true)), "{answer}");
    assert!(lines(&answer).is_empty());
}

#[test]
fn a_refused_first_read_of_a_token_is_an_entry() {
    let house = House::furnished();
    let (_, _, keeper) = house.token("keeper@x.io", "key");
    assert_eq!(house.ask(&keeper, "GET", "/virtual-accounts/app/token", Value::Null).0, 404);
    assert_eq!(house.ask(&keeper, "GET", "/virtual-accounts/app", Value::Null).0, 404);
    let entries = house.done("GET", "/audit?refused=true", Value::Null);
    let entries = entries["data"].as_array().unwrap();
    assert_eq!(entries.len(), 1, "reading it would have made a token: {entries:?}");
    assert_eq!(entries[0]["action"], "GET /virtual-accounts/{id}/token");
    assert_eq!(entries[0]["actor"], "user:keeper@x.io");
}

#[test]
fn a_token_in_a_path_is_masked_however_it_is_written() {
    let house = House::furnished();
    let (text, _, keeper) = house.token("keeper@x.io", "key");
    let escaped: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
    house.ask(&keeper, "DELETE", &format!("/users/{escaped}"), Value::Null);
    house.ask(&keeper, "DELETE", &format!("/teams/%74{}", &text[1..]), Value::Null);
    let entries = house.done("GET", "/audit?refused=true", Value::Null).to_string();
    assert!(!entries.contains(&escaped[60..]) && !entries.contains(&text[25..]), "{entries}");
}

/// What ended stays ended, as with every other end.
#[test]
fn a_longer_validity_revives_no_token() {
    let house = House::furnished();
    let old = |days: u64| UnixMillis(UnixMillis::now().0 - days * 86_400_000);
    let mut logins = Vec::new();
    for (name, days) in [("aged", 40), ("older", 20), ("fresh", 1)] {
        let (text, id, _) = house.token("plain@x.io", name);
        let world = house.manage.store.snapshot();
        let token = world.token(&id).unwrap();
        let moved = Token { created_at: old(days), ..Token::clone(token) };
        let writes = vec![Write::Put(Object::Token(moved), Expect::Revision(token.revision))];
        house.manage.store.commit(Change { writes, audit: Vec::new() }).unwrap();
        logins.push((text, id));
    }
    let works =
        |house: &House| logins.iter().map(|(text, _)| house.login(text).is_some()).collect::<Vec<_>>();
    assert_eq!(works(&house), [true, true, true]);
    house.done("PATCH", "/settings", json!({"pat_max_validity_days": 30, "yes": true}));
    assert_eq!(works(&house), [false, true, true]);
    house.done("PATCH", "/settings", json!({"pat_max_validity_days": 90}));
    assert_eq!(works(&house), [false, true, true]);
    let manifest =
        |days: Value| json!({"manifest": {"type": "settings", "pat_max_validity_days": days}, "force": true});
    house.done("PUT", "/apply", manifest(json!(10)));
    assert_eq!(works(&house), [false, false, true]);
    house.done("PUT", "/apply", manifest(Value::Null));
    assert_eq!(works(&house), [false, false, true]);
    house.done("PATCH", "/settings", json!({"pat_may_mint": true}));
    assert_eq!(works(&house), [false, false, true]);
    for (id, state) in [(&logins[0].1, "expired"), (&logins[1].1, "expired"), (&logins[2].1, "active")] {
        assert_eq!(house.done("GET", &format!("/tokens/{id}"), Value::Null)["data"]["state"], state);
    }
    assert_eq!(
        house.ask(&LOCAL, "PATCH", &format!("/tokens/{}", logins[0].1), json!({"name": "back"})).0,
        409
    );
}

/// A member's own lists cost what the member has, not what everyone has: any token could keep a worker busy.
#[test]
fn lists_of_a_member_do_not_walk_through_what_others_have() {
    let cost = |tokens: usize| {
        let house = House::furnished();
        let (_, _, plain) = house.token("plain@x.io", "key");
        crowd(&house, tokens / 100);
        let token = |number: usize| {
            let id = crate::token::random_id().unwrap();
            Object::Token(Token {
                id: TokenId::parse(&id).unwrap(),
                owner: Owner::User(Email::parse(&format!("crowd-{}@x.io", number / 100)).unwrap()),
                name: SlugName::parse("laptop").unwrap(),
                secret_hash: SecretHash::of(&id),
                expires_at: None,
                created_at: UnixMillis(1),
                created_by: String::new(),
                replaces: None,
                replaced_by: None,
                revoked_at: None,
            })
        };
        store(&house, (0..tokens).map(token).collect());
        let ask = |_| {
            let start = Instant::now();
            let (status, answer) = house.ask(&plain, "GET", "/tokens", Value::Null);
            assert_eq!((status, &answer["pagination"]["total"]), (200, &json!(1)), "{answer}");
            start.elapsed()
        };
        (0..10).map(ask).min().unwrap()
    };
    let (few, many) = (cost(100), cost(30_000));
    assert!(many < few * 20 + Duration::from_millis(1), "{few:?} with 100, {many:?} with 30,000");
}

#[test]
fn a_list_of_grants_is_the_same_as_one_by_one() {
    let house = House::furnished();
    for who in ["plain", "access", "keeper", "lead", "hidden", "admin"] {
        let (_, _, principal) = house.token(&format!("{who}@x.io"), "list");
        let (_, all) = house.ask(&principal, "GET", "/grants", Value::Null);
        let world = house.manage.store.snapshot();
        let seen: Vec<Value> = world
            .grants()
            .filter(|grant| crate::authz::may_see_grant(&principal, grant, &world))
            .map(|grant| json!(grant.subject))
            .collect();
        let listed: Vec<&Value> =
            all["data"].as_array().unwrap().iter().map(|grant| &grant["subject"]).collect();
        assert_eq!(listed, seen.iter().collect::<Vec<_>>(), "{who}");
        let (_, own) = house.ask(&principal, "GET", "/grants?subject=team:search", Value::Null);
        let count = seen.iter().filter(|subject| **subject == json!("team:search")).count();
        assert_eq!(own["pagination"]["total"], count, "{who}");
    }
}

/// Whatever ends, the log says so: also the older tokens that a new secret takes along.
#[test]
fn every_token_that_a_new_secret_ends_is_in_the_log() {
    let house = House::furnished();
    let id = |answer: Value| answer["data"]["id"].as_str().unwrap_or_default().to_owned();
    let first = id(house.done("GET", "/virtual-accounts/app/token", Value::Null));
    let anew = |minutes: u64| {
        let body = json!({"gracePeriodInMinutes": minutes});
        id(house.done("POST", "/virtual-accounts/app/regenerate-token", body))
    };
    let second = anew(60);
    let entries = |action: &str| {
        let log = house.done("GET", &format!("/audit?action={action}"), Value::Null);
        log["data"].as_array().unwrap().clone()
    };
    assert!(entries("token.shorten").is_empty(), "nothing else ended: {:?}", entries("token.shorten"));
    anew(90);
    assert!(entries("token.shorten").is_empty(), "a longer grace is none for the first");
    anew(0);
    let ended: Vec<String> =
        entries("token.shorten").iter().map(|entry| entry["resource"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ended.len(), 2, "{ended:?}");
    for old in [first, second] {
        assert!(ended.contains(&format!("token/{old}")), "{old} of {ended:?}");
    }
}

/// Entries can be large, so that a page of them is bounded by its bytes too, and nothing is left out.
#[test]
fn a_page_of_the_log_is_bounded_by_its_bytes() {
    let house = House::furnished();
    let text = "x".repeat(100_000);
    for number in 0..100 {
        let entry = crate::domain::AuditEntry {
            at: UnixMillis::now(),
            actor: "user:root@x.io".into(),
            token_id: None,
            source: crate::domain::AuditSource::Api,
            refused: None,
            count: 1,
            action: "big".into(),
            resource: format!("big/{number}"),
            before: json!(text),
            after: Value::Null,
        };
        house.manage.store.commit(Change { writes: Vec::new(), audit: vec![entry] }).unwrap();
    }
    let (mut before, mut found, mut pages) = (String::new(), Vec::new(), 0);
    loop {
        let page =
            house.call(Some(&LOCAL), "GET", &format!("/audit?action=big&limit=1000&before={before}"), b"");
        assert!(page.body.len() < 5_000_000, "{}", page.body.len());
        pages += 1;
        let page: Value = serde_json::from_str(&page.body).unwrap();
        found.extend(page["data"].as_array().unwrap().iter().map(|entry| entry["resource"].clone()));
        match page["pagination"]["before"].as_u64() {
            Some(next) => before = next.to_string(),
            None => break,
        }
    }
    assert_eq!(found, (0..100).rev().map(|number| json!(format!("big/{number}"))).collect::<Vec<_>>());
    assert!(pages > 2, "{pages}");
}

/// A trial of each of these changes nothing, and says what would be.
#[test]
fn trials_of_roles_activation_models_and_tokens() {
    let house = House::furnished();
    let (_, id, keeper) = house.token("keeper@x.io", "key");
    house.done("PATCH", "/users/deactivate", json!({"email": "access@x.io"}));
    let before = house.manage.store.snapshot().revision();
    let admin = json!({"email": "plain@x.io", "roles": ["tenant-admin"], "dryRun": true});
    let gained = lines(&house.done("PATCH", "/users/roles", admin.clone()));
    assert!(gained.contains(&"user:plain@x.io other/gpt".to_owned()), "{gained:?}");
    let activated = house.done("PATCH", "/users/activate", json!({"email": "access@x.io", "dryRun": true}));
    assert_eq!(lines(&activated), ["user:access@x.io main/gpt", "user:access@x.io main/org/small"]);
    let added = json!({"manifest": model("new"), "dryRun": true});
    let (status, answer) = house.ask(&keeper, "POST", "/provider-accounts/main/models", added.clone());
    assert_eq!(status, 200, "{answer}");
    assert!(lines(&answer).contains(&"user:keeper@x.io main/new".to_owned()), "{answer}");
    let path = format!("/tokens/{id}?dryRun=true");
    assert_eq!(house.done("DELETE", &path, Value::Null)["access"]["loses"], json!([]));
    assert_eq!(house.manage.store.snapshot().revision(), before);
    // What is refused is refused in a trial too.
    assert_eq!(house.ask(&keeper, "PATCH", "/users/roles", admin).0, 404);
    assert_eq!(house.ask(&keeper, "POST", "/provider-accounts/other/models", added).0, 404);
    house.refused(404, "DELETE", "/tokens/000000000000?dryRun=true", Value::Null);
    house.refused(400, "DELETE", &format!("/tokens/{id}?dryRun=perhaps"), Value::Null);
}

#[test]
fn teams_that_one_manages() {
    let house = House::furnished();
    let names = |who: &crate::domain::Principal, query: &str| {
        let (status, answer) = house.ask(who, "GET", &format!("/teams/user{query}"), Value::Null);
        assert_eq!(status, 200, "{answer}");
        let names =
            answer["data"].as_array().unwrap().iter().map(|team| team["id"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    let (_, _, lead) = house.token("lead@x.io", "key");
    let (_, _, access) = house.token("access@x.io", "key");
    assert_eq!(
        (names(&lead, "?role=manager"), names(&access, "")),
        (vec!["search".to_owned()], vec!["search".to_owned()])
    );
    assert!(names(&access, "?role=manager").is_empty());
    assert_eq!(names(&LOCAL, "?role=manager"), ["hidden", "search"]);
    house.refused(400, "GET", "/teams/user?role=member", Value::Null);
}

#[test]
fn a_filter_that_is_not_understood_is_refused() {
    let house = House::furnished();
    let (_, _, plain) = house.token("plain@x.io", "key");
    house.refused(422, "GET", "/virtual-accounts?filter=%7B%7D", Value::Null);
    house.done("GET", "/virtual-accounts?filter=", Value::Null);
    assert_eq!(house.ask(&plain, "GET", "/virtual-accounts?filter=%7B%7D", Value::Null).0, 403);
}

/// Many manifests at once, each of which asks what it gave before: the grants of others cost nothing.
#[test]
fn many_manifests_do_not_walk_through_all_grants_each() {
    let cost = |users: usize| {
        let house = House::furnished();
        crowd(&house, users);
        let mut many = account("many");
        many["integrations"] = (0..100).map(|number| model(&format!("m{number}"))).collect();
        house.done("PUT", "/apply", json!({"manifest": many}));
        let grant = |user: usize, model: usize| {
            Object::Grant(crate::domain::Grant {
                subject: crate::domain::Subject::parse(&format!("user:crowd-{user}@x.io")).unwrap(),
                role: crate::domain::Role::Access,
                target: crate::domain::Target::parse(&format!("many/m{model}")).unwrap(),
                source: crate::domain::GrantSource::Direct,
                created_at: UnixMillis(1),
                created_by: String::new(),
            })
        };
        let all = (0..users).flat_map(|user| (0..100).map(move |model| (user, model)));
        store(&house, all.map(|(user, model)| grant(user, model)).collect());
        let bindings: Vec<Value> = (0..50)
            .map(|number| {
                json!({
                    "type": "role-binding", "name": format!("binding-{number}"),
                    "subjects": [{"type": "user", "name": "plain@x.io"}],
                    "permissions": [{
                        "resourceFqn": format!("acme:openai:many:model:m{number}"),
                        "resourceType": "provider-integration", "role": "provider-integration-access",
                    }],
                })
            })
            .collect();
        let apply = |_| {
            let start = Instant::now();
            house.done("POST", "/manifests", json!({"manifests": bindings}));
            start.elapsed()
        };
        // The first of them writes; the others find it so already.
        (0..3).map(apply).min().unwrap()
    };
    let (few, many) = (cost(2), cost(300));
    // A walk through 30,000 grants for each of 50 bindings takes far longer than a busy machine can delay the rest.
    assert!(many < few * 20 + Duration::from_millis(20), "{few:?} beside 200 grants, {many:?} beside 30,000");
}

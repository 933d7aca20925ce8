//! The life of tokens: who makes them, how long they work, what lists say of them.

use std::time::Duration;

use serde_json::{Value, json};

use super::{House, LOCAL};
use crate::authn;
use crate::clock::UnixMillis;
use crate::domain::Principal;

pub(super) const DAY: u64 = 86_400;

pub(super) fn id_of(answer: &Value) -> String {
    answer["data"]["id"].as_str().unwrap().to_owned()
}

pub(super) fn text_of(answer: &Value) -> String {
    answer["token"].as_str().unwrap().to_owned()
}

pub(super) fn state(house: &House, id: &str) -> Value {
    house.done("GET", &format!("/tokens/{id}"), Value::Null)["data"]["state"].clone()
}

pub(super) fn in_days(days: u64) -> UnixMillis {
    UnixMillis::now().plus(Duration::from_secs(days * DAY))
}

/// Who a token makes someone, so many days from now.
pub(super) fn later(house: &House, token: &str, days: u64) -> Option<Principal> {
    authn::authenticate(token, &house.manage.store.snapshot(), in_days(days)).ok()
}

fn may_mint(house: &House) {
    house.done("PATCH", "/settings", json!({"pat_may_mint": true}));
}

#[test]
fn settings_are_read_by_people_and_changed_by_admins() {
    let house = House::furnished();
    let (_, _, plain) = house.token("plain@x.io", "laptop");
    let (_, _, admin) = house.token("admin@x.io", "laptop");
    let defaults = json!({"pat_max_validity_days": null, "pat_may_mint": false, "audit_retention_days": null, "limits_when_accounting_fails": "refuse",
            "logging_settings": {"type": "header_controlled", "log_body_by_default": false}});
    assert_eq!(house.ask(&plain, "GET", "/settings", Value::Null), (200, json!({"data": defaults})));
    assert_eq!(house.ask(&plain, "PATCH", "/settings", json!({"pat_may_mint": true})).0, 403);
    let change = json!({"pat_max_validity_days": 30, "audit_retention_days": 365});
    assert_eq!(house.ask(&admin, "PATCH", "/settings", change).0, 200);
    let changed = house.done("GET", "/settings", Value::Null);
    assert_eq!(
        changed["data"],
        json!({"pat_max_validity_days": 30, "pat_may_mint": false, "audit_retention_days": 365, "limits_when_accounting_fails": "refuse",
            "logging_settings": {"type": "header_controlled", "log_body_by_default": false}})
    );
    // Null takes a bound away; what is not named stays.
    let changed = house.done("PATCH", "/settings", json!({"pat_max_validity_days": null}));
    assert_eq!(changed["data"]["pat_max_validity_days"], Value::Null);
    assert_eq!(changed["data"]["audit_retention_days"], 365);
    for (status, body, word) in [
        (400, json!({"pat_max_days": 3}), "pat_max_days"),
        (400, json!({"pat_may_mint": "yes"}), "pat_may_mint"),
        (400, json!({"pat_max_validity_days": -1}), "pat_max_validity_days"),
        (422, json!({"pat_max_validity_days": 0}), "pat_max_validity_days"),
        (422, json!({"audit_retention_days": 36_501}), "audit_retention_days"),
        (400, json!({"limits_when_accounting_fails": "pray"}), "limits_when_accounting_fails"),
    ] {
        assert!(house.refused(status, "PATCH", "/settings", body).contains(word));
    }
}

#[test]
fn settings_that_change_nothing_are_no_change() {
    let house = House::furnished();
    let revision = || house.manage.store.snapshot().revision();
    let before = revision();
    house.done("PATCH", "/settings", json!({"pat_may_mint": false}));
    house.done("PATCH", "/settings", json!({}));
    house.done("PATCH", "/settings", json!({"pat_may_mint": true, "dryRun": true}));
    assert_eq!(revision(), before);
    may_mint(&house);
    assert_eq!(revision(), before + 1);
    may_mint(&house);
    assert_eq!(revision(), before + 1);
}

#[test]
fn the_longest_validity_bounds_every_personal_token_also_older_ones() {
    let house = House::furnished();
    let (old, id, _) = house.token("plain@x.io", "laptop");
    let (virtual_token, _, _) = house.token("app", "key");
    assert!(later(&house, &old, 1000).is_some());
    house.done("PATCH", "/settings", json!({"pat_max_validity_days": 30}));
    let (new, _, _) = house.token("plain@x.io", "phone");
    for token in [&old, &new] {
        assert!(later(&house, token, 29).is_some());
        assert!(later(&house, token, 31).is_none());
    }
    // A call in flight ends with it, too.
    let principal = house.login(&old).unwrap();
    let world = house.manage.store.snapshot();
    assert!(authn::expiry(&principal, &world).unwrap() <= in_days(30));
    assert!(authn::still_valid(&principal, &world, in_days(31)).is_none());
    let shown = house.done("GET", &format!("/tokens/{id}"), Value::Null);
    let end = UnixMillis::parse(shown["data"]["expiresAt"].as_str().unwrap()).unwrap();
    assert!(end <= in_days(30) && end > in_days(29));
    // Applications are not people.
    assert!(later(&house, &virtual_token, 1000).is_some());
    house.done("PATCH", "/settings", json!({"pat_max_validity_days": null}));
    assert!(later(&house, &old, 1000).is_some());
}

/// Puts a personal token into the store that was made so many days ago.
pub(super) fn old_token(house: &House, owner: &str, name: &str, days: u64) -> (String, String) {
    let (text, id, _) = house.token(owner, name);
    let world = house.manage.store.snapshot();
    let token = world.token(&id).unwrap();
    let made = UnixMillis(UnixMillis::now().0 - days * DAY * 1000);
    let older = crate::domain::Token { created_at: made, ..crate::domain::Token::clone(token) };
    let write = crate::store::Write::Put(
        crate::store::Object::Token(older),
        crate::store::Expect::Revision(token.revision),
    );
    house.manage.store.commit(crate::store::Change { writes: vec![write], audit: vec![] }).unwrap();
    (text, id)
}

#[test]
fn a_bound_that_ends_tokens_now_wants_a_yes() {
    let house = House::furnished();
    let (old, id) = old_token(&house, "plain@x.io", "laptop", 40);
    let (young, young_id) = old_token(&house, "plain@x.io", "phone", 20);
    let change = json!({"pat_max_validity_days": 30});
    let message = house.refused(409, "PATCH", "/settings", change.clone());
    assert!(
        message.contains("1 tokens") && message.contains(&id) && !message.contains(&young_id),
        "{message}"
    );
    assert!(house.login(&old).is_some());
    let tried = house.done("PATCH", "/settings", json!({"pat_max_validity_days": 30, "dryRun": true}));
    assert_eq!((&tried["endedTokens"], &tried["endedTokensTotal"]), (&json!([id]), &json!(1)));
    assert!(house.login(&old).is_some());
    let done = house.done("PATCH", "/settings", json!({"pat_max_validity_days": 30, "yes": true}));
    assert_eq!(done["endedTokens"], json!([id]));
    assert!(house.login(&old).is_none() && house.login(&young).is_some());
    assert_eq!((state(&house, &id), state(&house, &young_id)), (json!("expired"), json!("expiring")));
}

#[test]
fn a_personal_token_makes_none_unless_the_setting_allows_it() {
    let house = House::furnished();
    let (_, id, plain) = house.token("plain@x.io", "laptop");
    let (_, _, admin) = house.token("admin@x.io", "laptop");
    let own = json!({"name": "new-one"});
    let for_user = json!({"name": "new-one", "userEmail": "plain@x.io"});
    let refused = |who: &Principal, method: &str, path: &str, body: Value| {
        let (status, answer) = house.ask(who, method, path, body);
        assert_eq!(status, 403, "{path}: {answer}");
        answer["message"].as_str().unwrap().to_owned()
    };
    refused(&plain, "POST", "/personal-access-tokens", own.clone());
    refused(&plain, "POST", "/tokens", json!({"user": "plain@x.io", "name": "new-one"}));
    refused(&plain, "POST", &format!("/tokens/{id}/rotate"), json!({"gracePeriodInMinutes": 5}));
    for (path, body) in [
        ("/personal-access-tokens", own.clone()),
        ("/personal-access-tokens/for-user", for_user.clone()),
        ("/tokens", json!({"user": "plain@x.io", "name": "new-one"})),
    ] {
        let message = refused(&admin, "POST", path, body);
        assert!(message.contains("pat_may_mint") && message.contains("administrator"), "{message}");
    }
    refused(&admin, "POST", &format!("/tokens/{id}/rotate"), json!({"gracePeriodInMinutes": 5}));
    // The socket always may, and an admin's token makes those of applications.
    house.done("POST", "/personal-access-tokens/for-user", for_user.clone());
    assert_eq!(house.ask(&admin, "POST", "/tokens", json!({"virtualAccount": "app", "name": "key"})).0, 200);
    may_mint(&house);
    assert_eq!(house.ask(&plain, "POST", "/personal-access-tokens", json!({"name": "own"})).0, 200);
    assert_eq!(house.ask(&plain, "POST", "/tokens", json!({"user": "plain@x.io", "name": "two"})).0, 200);
    // Nobody but admins makes one for others.
    refused(&plain, "POST", "/tokens", json!({"user": "admin@x.io", "name": "two"}));
    refused(&plain, "POST", "/tokens", json!({"virtualAccount": "app", "name": "two"}));
    refused(&plain, "POST", "/personal-access-tokens/for-user", for_user);
    let other = json!({"name": "by-admin", "userEmail": "plain@x.io"});
    assert_eq!(house.ask(&admin, "POST", "/personal-access-tokens/for-user", other).0, 200);
}

#[test]
fn what_a_personal_token_makes_ends_no_later_than_itself() {
    let house = House::furnished();
    may_mint(&house);
    let made = house.done("POST", "/tokens", json!({"user": "plain@x.io", "name": "short", "validDays": 10}));
    let plain = house.login(&text_of(&made)).unwrap();
    let (status, made) = house.ask(&plain, "POST", "/personal-access-tokens", json!({"name": "child"}));
    assert_eq!(status, 200, "{made}");
    assert!(later(&house, &text_of(&made), 9).is_some() && later(&house, &text_of(&made), 11).is_none());
    let longer = json!({"name": "longer", "expirationDate": in_days(11).to_iso()});
    let (status, answer) = house.ask(&plain, "POST", "/personal-access-tokens", longer);
    assert_eq!(status, 403);
    assert!(answer["message"].as_str().unwrap().contains("administrator"));
    let shorter = json!({"name": "shorter", "expirationDate": in_days(9).to_iso()});
    assert_eq!(house.ask(&plain, "POST", "/personal-access-tokens", shorter).0, 200);
    // The settings' bound does not start again by a rotation either.
    let (old, id) = old_token(&house, "lead@x.io", "laptop", 20);
    house.done("PATCH", "/settings", json!({"pat_max_validity_days": 30}));
    let lead = house.login(&old).unwrap();
    let path = format!("/tokens/{id}/rotate");
    let (status, rotated) = house.ask(&lead, "POST", &path, json!({"gracePeriodInMinutes": 5}));
    assert_eq!(status, 200, "{rotated}");
    assert!(
        later(&house, &text_of(&rotated), 9).is_some() && later(&house, &text_of(&rotated), 11).is_none()
    );
}

#[test]
fn people_list_name_and_revoke_their_own() {
    let house = House::furnished();
    let (_, id, plain) = house.token("plain@x.io", "laptop");
    let (_, other, _) = house.token("lead@x.io", "laptop");
    let (_, second, _) = house.token("plain@x.io", "phone");
    let listed = |query: &str| {
        let (_, answer) = house.ask(&plain, "GET", &format!("/personal-access-tokens{query}"), Value::Null);
        answer["data"].as_array().unwrap().clone()
    };
    let rows = listed("");
    assert_eq!(rows.len(), 2);
    let row = rows.iter().find(|row| row["id"] == json!(id)).unwrap();
    assert_eq!(
        (&row["manifest"]["type"], &row["manifest"]["name"]),
        (&json!("virtual-account"), &json!("laptop"))
    );
    // The contract requires an expiry in each of these, so without one there are none.
    assert_eq!(row["jwts"], Value::Null);
    assert_eq!(listed("?nameSearchQuery=hon").len(), 1);
    assert_eq!(house.ask(&plain, "PATCH", &format!("/tokens/{id}"), json!({"name": "tablet"})).0, 200);
    assert_eq!(listed("?nameSearchQuery=tablet").len(), 1);
    assert_eq!(house.ask(&plain, "PATCH", &format!("/tokens/{id}"), json!({"name": "phone"})).0, 409);
    assert_eq!(house.ask(&plain, "PATCH", &format!("/tokens/{id}"), json!({"name": "A b"})).0, 422);
    assert_eq!(house.ask(&plain, "PATCH", &format!("/tokens/{other}"), json!({"name": "mine"})).0, 404);
    assert_eq!(house.ask(&plain, "DELETE", &format!("/personal-access-tokens/{other}"), Value::Null).0, 404);
    assert_eq!(house.ask(&plain, "DELETE", &format!("/personal-access-tokens/{second}"), Value::Null).0, 200);
    assert_eq!(listed("").len(), 1);
    house.done("PATCH", "/settings", json!({"pat_max_validity_days": 30}));
    let rows = listed("");
    assert_eq!(rows[0]["jwts"][0]["id"], rows[0]["jwtId"]);
    assert!(rows[0]["jwts"][0]["expiry"].is_string());
}

#[test]
fn admins_revoke_all_of_one_person() {
    let house = House::furnished();
    let (one, _, plain) = house.token("plain@x.io", "laptop");
    let (two, _, _) = house.token("plain@x.io", "phone");
    let (other, _, _) = house.token("lead@x.io", "laptop");
    let path = "/personal-access-tokens/revoke/all";
    assert_eq!(house.ask(&plain, "DELETE", path, json!({"email": "plain@x.io"})).0, 403);
    house.refused(404, "DELETE", path, json!({"email": "nobody@x.io"}));
    house.refused(400, "DELETE", path, json!({}));
    house.done("DELETE", path, json!({"email": "plain@x.io"}));
    assert!(house.login(&one).is_none() && house.login(&two).is_none() && house.login(&other).is_some());
    house.done("DELETE", path, json!({"email": "plain@x.io"}));
}

#[test]
fn a_token_for_a_user_names_a_team_of_theirs() {
    let house = House::furnished();
    let ask = |team: &str| json!({"name": "for-team", "userEmail": "access@x.io", "teamName": team});
    let path = "/personal-access-tokens/for-user";
    let hidden = house.refused(403, "POST", path, ask("hidden"));
    assert_eq!(hidden.replace("hidden", "none"), house.refused(403, "POST", path, ask("none")));
    house.done("POST", path, ask("search"));
    house.refused(404, "POST", path, json!({"name": "for-none", "userEmail": "nobody@x.io"}));
}

#[test]
fn states_of_a_token() {
    let house = House::furnished();
    let make = |name: &str, days: u64| {
        id_of(&house.done("POST", "/tokens", json!({"user": "plain@x.io", "name": name, "validDays": days})))
    };
    let (active, expiring) = (make("active", 15), make("expiring", 13));
    assert_eq!((state(&house, &active), state(&house, &expiring)), (json!("active"), json!("expiring")));
    let rotated =
        house.done("POST", &format!("/tokens/{active}/rotate"), json!({"gracePeriodInMinutes": 60}));
    let next = id_of(&rotated);
    assert_eq!((state(&house, &active), state(&house, &next)), (json!("in grace"), json!("active")));
    let shown = house.done("GET", &format!("/tokens/{active}"), Value::Null);
    assert_eq!(shown["data"]["replacedBy"], json!(next));
    // With no grace the old one ends at once, and is still there to be seen.
    house.done("POST", &format!("/tokens/{next}/rotate"), json!({"gracePeriodInMinutes": 0}));
    let shown = house.done("GET", &format!("/tokens/{next}"), Value::Null);
    assert_eq!(shown["data"]["state"], "revoked");
    assert!(shown["data"]["revokedAt"].is_string());
    assert!(house.login(&text_of(&rotated)).is_none());
    // An expired one shows as such while it is kept.
    let (_, old) = old_token(&house, "lead@x.io", "old", 40);
    house.done("PATCH", "/settings", json!({"pat_max_validity_days": 30, "yes": true}));
    assert_eq!(state(&house, &old), json!("expired"));
}

#[test]
fn what_is_over_gives_its_name_and_its_room_free() {
    let house = House::furnished();
    let mut last = String::new();
    for _ in 0..105 {
        let (_, id, _) = house.token("plain@x.io", "laptop");
        house.done("DELETE", &format!("/tokens/{id}"), Value::Null);
        last = id;
    }
    let kept = house.done("GET", "/tokens?user=plain@x.io", Value::Null);
    assert_eq!(kept["pagination"]["total"], 100);
    assert_eq!(state(&house, &last), json!("revoked"));
    house.refused(404, "DELETE", &format!("/tokens/{last}"), Value::Null);
    house.done("DELETE", "/users/plain@x.io?forceDelete=true", Value::Null);
    assert_eq!(house.done("GET", "/tokens?user=plain@x.io", Value::Null)["pagination"]["total"], 0);
}

#[test]
fn the_first_read_of_a_virtual_accounts_token_mints_and_no_other_shows() {
    let house = House::furnished();
    let (_, _, plain) = house.token("plain@x.io", "laptop");
    let (_, _, admin) = house.token("admin@x.io", "laptop");
    let path = "/virtual-accounts/app/token";
    assert_eq!(house.ask(&plain, "GET", path, Value::Null).0, 404);
    assert_eq!(house.call(Some(&LOCAL), "HEAD", path, b"").status, 405);
    let response = house.call(Some(&admin), "GET", path, b"");
    assert_eq!((response.status, response.no_store), (200, true));
    let made: Value = serde_json::from_str(&response.body).unwrap();
    assert!(house.login(&text_of(&made)).is_some());
    assert!(house.refused(410, "GET", path, Value::Null).contains("regenerate-token"));
    house.refused(404, "GET", "/virtual-accounts/none/token", Value::Null);
    // One that was made in another way counts as well, even when it is gone.
    let manifest = json!({"manifest": {"type": "virtual-account", "name": "bot"}});
    house.done("PUT", "/virtual-accounts", manifest.clone());
    let (_, id, _) = house.token("bot", "key");
    house.done("DELETE", &format!("/virtual-accounts/bot/jwt/{id}"), Value::Null);
    house.done("PUT", "/virtual-accounts", manifest);
    house.refused(410, "GET", "/virtual-accounts/bot/token", Value::Null);
}

#[test]
fn two_first_reads_at_once_make_one_secret() {
    for _ in 0..20 {
        let house = House::furnished();
        let read = || house.ask(&LOCAL, "GET", "/virtual-accounts/app/token", Value::Null).0;
        let (one, other) = std::thread::scope(|scope| {
            let (one, other) = (scope.spawn(read), scope.spawn(read));
            (one.join().unwrap(), other.join().unwrap())
        });
        assert!(matches!((one, other), (200, 410) | (410, 200)), "{one} {other}");
        assert_eq!(house.done("GET", "/tokens?virtualAccount=app", Value::Null)["pagination"]["total"], 1);
    }
}

#[test]
fn a_regenerated_token_leaves_the_old_one_its_grace() {
    let house = House::furnished();
    let path = "/virtual-accounts/app/regenerate-token";
    let first = house.done("POST", path, json!({"gracePeriodInMinutes": 5}));
    let second = house.done("POST", path, json!({"gracePeriodInMinutes": 5}));
    assert!(house.login(&text_of(&first)).is_some() && house.login(&text_of(&second)).is_some());
    assert_eq!(state(&house, &id_of(&first)), json!("in grace"));
    let third = house.done("POST", path, json!({"gracePeriodInDays": 365}));
    assert!(
        later(&house, &text_of(&second), 364).is_some() && later(&house, &text_of(&second), 366).is_none()
    );
    // A later call gives nobody a longer grace than they had.
    assert!(later(&house, &text_of(&first), 1).is_none());
    let fourth = house.done("POST", path, json!({"gracePeriodInMinutes": 0}));
    for token in [&first, &second, &third] {
        assert!(house.login(&text_of(token)).is_none());
    }
    assert!(house.login(&text_of(&fourth)).is_some());
    for (status, body) in [
        (400, json!({})),
        (400, json!({"gracePeriodInMinutes": 1, "gracePeriodInDays": 1})),
        (400, json!({"gracePeriodInMinutes": -1})),
        (400, json!({"gracePeriodInDays": -1})),
        (422, json!({"gracePeriodInDays": 366})),
    ] {
        house.refused(status, "POST", path, body);
    }
    house.refused(404, "POST", "/virtual-accounts/none/regenerate-token", json!({"gracePeriodInMinutes": 0}));
}

#[test]
fn one_secret_of_a_virtual_account_ends_alone() {
    let house = House::furnished();
    let (one, id, _) = house.token("app", "one");
    let (two, _, _) = house.token("app", "two");
    let (_, personal, _) = house.token("plain@x.io", "laptop");
    house.refused(404, "DELETE", &format!("/virtual-accounts/app/jwt/{personal}"), Value::Null);
    house.done("DELETE", &format!("/virtual-accounts/app/jwt/{id}"), Value::Null);
    assert!(house.login(&one).is_none() && house.login(&two).is_some());
    house.refused(404, "DELETE", &format!("/virtual-accounts/app/jwt/{id}"), Value::Null);
}

#[test]
fn only_the_host_puts_the_clock_right_and_the_audit_says_so() {
    let house = House::furnished();
    let (_, _, admin) = house.token("admin@x.io", "laptop");
    assert_eq!(house.ask(&admin, "POST", "/clock/reset", Value::Null).0, 403);
    let records = house.manage.store.verify_audit_chain().unwrap().records;
    let answer = house.done("POST", "/clock/reset", Value::Null);
    assert!(answer["data"]["before"].is_string() && answer["data"]["after"].is_string());
    assert_eq!(house.manage.store.verify_audit_chain().unwrap().records, records + 1);
}

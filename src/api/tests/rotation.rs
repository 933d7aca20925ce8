//! The rotation of virtual accounts by themselves, and what their views say of their tokens.

use serde_json::{Value, json};

use super::tokens::{DAY, id_of, in_days, later, old_token, state, text_of};
use super::{House, LOCAL};
use crate::clock::UnixMillis;
use crate::domain::AuditSource;
use crate::store::AuditFilter;

const TOKEN: &str = "/virtual-accounts/bot/token";
const REGENERATE: &str = "/virtual-accounts/bot/regenerate-token";

/// A house with the application `bot`, whose tokens are rotated every 30 days with a grace of 2.
fn house() -> House {
    let house = House::furnished();
    rotate(&house, json!({"auto_rotate_interval": 30, "grace_period": 2}));
    house
}

fn rotate(house: &House, auto_rotate: Value) {
    let manifest = json!({"type": "virtual-account", "name": "bot", "auto_rotate": auto_rotate});
    house.done("PUT", "/virtual-accounts", json!({"manifest": manifest}));
}

fn bot(house: &House) -> Value {
    house.done("GET", "/virtual-accounts/bot", Value::Null)["data"].clone()
}

/// A house whose `bot` has a token of 31 days that was rotated just now: its text and its id.
fn rotated() -> (House, String, String) {
    let house = house();
    let (old, id) = old_token(&house, "bot", "key", 31);
    assert_eq!(house.manage.rotate_due(UnixMillis::now()), 1);
    (house, old, id)
}

/// The tokens whose end rotation brought down, as the audit log has them, the newest first.
fn rotations(house: &House) -> Vec<crate::domain::AuditEntry> {
    let filter =
        AuditFilter { action: Some("token.auto-rotate".into()), limit: 100, ..AuditFilter::default() };
    let page = house.manage.store.read_audit(&filter).unwrap();
    page.entries.into_iter().map(|(_, entry)| entry).collect()
}

#[test]
fn a_token_that_is_not_due_stays() {
    let house = house();
    let (old, id) = old_token(&house, "bot", "key", 29);
    let (plain, _) = old_token(&house, "plain@x.io", "laptop", 400);
    // Without the setting nothing ever is.
    let (app, _) = old_token(&house, "app", "key", 400);
    let revision = house.manage.store.snapshot().revision();
    assert_eq!(house.manage.rotate_due(UnixMillis::now()), 0);
    assert_eq!(house.manage.store.snapshot().revision(), revision);
    for token in [&old, &plain, &app] {
        assert!(later(&house, token, 1000).is_some());
    }
    house.refused(410, "GET", TOKEN, Value::Null);
    // An account whose newest token is young is not due either, nor one without any that works.
    let (_, older) = old_token(&house, "bot", "older", 100);
    assert_eq!(house.manage.rotate_due(UnixMillis::now()), 0);
    for id in [id, older] {
        house.done("DELETE", &format!("/virtual-accounts/bot/jwt/{id}"), Value::Null);
    }
    assert_eq!(house.manage.rotate_due(in_days(1000)), 0);
}

#[test]
fn a_token_is_rotated_when_its_interval_is_over_not_before() {
    let house = house();
    let (_, id, _) = house.token("bot", "key");
    let made = house.manage.store.snapshot().token(&id).unwrap().created_at;
    let due = UnixMillis(made.0 + 30 * DAY * 1000);
    assert_eq!(house.manage.rotate_due(UnixMillis(due.0 - 1)), 0);
    assert_eq!(house.manage.rotate_due(due), 1);
    let end = house.manage.store.snapshot().token(&id).unwrap().expires_at;
    assert_eq!(end, Some(UnixMillis(due.0 + 2 * DAY * 1000)));
}

#[test]
fn a_rotated_token_works_until_its_grace_ends() {
    let (house, old, id) = rotated();
    assert!(later(&house, &old, 1).is_some() && later(&house, &old, 3).is_none());
    assert_eq!(state(&house, &id), json!("expiring"));
    let entries = rotations(&house);
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].actor.as_str(), entries[0].source), ("gateway", AuditSource::Gateway));
    assert_eq!(entries[0].resource, "virtual-account/bot");
    assert_eq!(entries[0].after["tokens"][0]["id"], json!(id));
    assert_eq!(entries[0].before["tokens"][0]["expiresAt"], Value::Null);
}

#[test]
fn rotation_makes_no_token_last_longer_and_leaves_none_behind() {
    let house = house();
    let (_, ends_soon) = old_token(&house, "bot", "short", 40);
    let world = house.manage.store.snapshot();
    let token = world.token(&ends_soon).unwrap();
    let end = in_days(1);
    let ending = crate::domain::Token { expires_at: Some(end), ..crate::domain::Token::clone(token) };
    let write = crate::store::Write::Put(
        crate::store::Object::Token(ending),
        crate::store::Expect::Revision(token.revision),
    );
    house.manage.store.commit(crate::store::Change { writes: vec![write], audit: vec![] }).unwrap();
    let (older, _) = old_token(&house, "bot", "older", 50);
    let (newest, _) = old_token(&house, "bot", "newest", 31);
    assert_eq!(house.manage.rotate_due(UnixMillis::now()), 1);
    assert_eq!(house.manage.store.snapshot().token(&ends_soon).unwrap().expires_at, Some(end));
    assert!(later(&house, &older, 3).is_none() && later(&house, &newest, 3).is_none());
}

#[test]
fn the_first_read_after_a_rotation_shows_the_new_token_once() {
    let (house, old, id) = rotated();
    let new = house.done("GET", TOKEN, Value::Null);
    assert!(later(&house, &text_of(&new), 1000).is_some());
    assert!(house.login(&old).is_some() && later(&house, &old, 3).is_none());
    let shown = house.done("GET", &format!("/tokens/{id}"), Value::Null)["data"].clone();
    assert_eq!((&shown["state"], &shown["replacedBy"]), (&json!("in grace"), &new["data"]["id"]));
    house.refused(410, "GET", TOKEN, Value::Null);
    // The next period begins with the new token.
    assert_eq!(house.manage.rotate_due(in_days(29)), 0);
    assert_eq!(house.manage.rotate_due(in_days(31)), 1);
    assert!(later(&house, &text_of(&new), 34).is_none());
}

#[test]
fn nothing_is_rotated_twice_for_one_period() {
    let (house, _, id) = rotated();
    let token = |house: &House| house.manage.store.snapshot().token(&id).unwrap().clone();
    let before = token(&house);
    assert_eq!(house.manage.rotate_due(UnixMillis::now()), 0);
    assert_eq!(house.manage.rotate_due(in_days(1)), 0);
    // Not with other words in the manifest either.
    rotate(&house, json!({"auto_rotate_interval": 31, "grace_period": 1}));
    assert_eq!(house.manage.rotate_due(UnixMillis::now()), 0);
    assert_eq!((token(&house).revision, rotations(&house).len()), (before.revision, 1));
    // When the new token is gone at once, the old one is no current token again.
    let new = id_of(&house.done("GET", TOKEN, Value::Null));
    house.done("DELETE", &format!("/virtual-accounts/bot/jwt/{new}"), Value::Null);
    assert_eq!(house.manage.rotate_due(UnixMillis::now()), 0);
    house.refused(410, "GET", TOKEN, Value::Null);
}

#[test]
fn other_ways_to_a_new_token_after_a_rotation_do_not_inherit_the_end() {
    for grace in [0, 60] {
        let (house, old, id) = rotated();
        let new = house.done("POST", REGENERATE, json!({"gracePeriodInMinutes": grace}));
        assert!(later(&house, &text_of(&new), 1000).is_some());
        assert_eq!(house.login(&old).is_some(), grace > 0);
        assert!(later(&house, &old, 1).is_none());
        let want = if grace > 0 { "in grace" } else { "revoked" };
        assert_eq!(state(&house, &id), json!(want));
        house.refused(410, "GET", TOKEN, Value::Null);
    }
    let (house, old, id) = rotated();
    let new = house.done("POST", &format!("/tokens/{id}/rotate"), json!({"gracePeriodInMinutes": 60}));
    assert!(later(&house, &text_of(&new), 1000).is_some() && later(&house, &old, 1).is_none());
    let (house, old, id) = rotated();
    let (new, _, _) = house.token("bot", "other");
    assert!(later(&house, &new, 1000).is_some());
    assert!(later(&house, &old, 1).is_some() && later(&house, &old, 3).is_none());
    assert_eq!(state(&house, &id), json!("in grace"));
    house.refused(410, "GET", TOKEN, Value::Null);
    // A token with an end of its own still hands it on when no rotation was there.
    let made =
        house.done("POST", "/tokens", json!({"virtualAccount": "bot", "name": "short", "validDays": 9}));
    let path = format!("/tokens/{}/rotate", id_of(&made));
    let next = house.done("POST", &path, json!({"gracePeriodInMinutes": 5}));
    assert!(later(&house, &text_of(&next), 8).is_some() && later(&house, &text_of(&next), 10).is_none());
}

#[test]
fn an_account_whose_time_is_over_is_left_alone() {
    let house = House::furnished();
    let manifest = json!({
        "type": "virtual-account", "name": "bot", "expiration_date": in_days(10).to_iso(),
        "auto_rotate": {"auto_rotate_interval": 30},
    });
    house.done("PUT", "/virtual-accounts", json!({"manifest": manifest}));
    old_token(&house, "bot", "key", 29);
    assert_eq!(house.manage.rotate_due(in_days(11)), 0);
    assert_eq!(house.manage.rotate_due(in_days(9)), 1);
}

#[test]
fn the_view_tells_of_the_tokens_and_the_next_rotation() {
    let house = house();
    assert_eq!(bot(&house)["nextScheduledRotation"], Value::Null);
    let (_, id) = old_token(&house, "bot", "key", 31);
    let view = bot(&house);
    assert_eq!(view["lastAccessedAt"], Value::Null);
    assert_eq!((&view["jwtId"], &view["jwts"][0]["id"]), (&json!(id), &json!(id)));
    assert_eq!(view["jwts"][0]["expiry"], "9999-12-31T23:59:59.999Z");
    let made = house.manage.store.snapshot().token(&id).unwrap().created_at;
    assert_eq!(view["nextScheduledRotation"], json!(UnixMillis(made.0 + 30 * DAY * 1000).to_iso()));
    assert_eq!(house.manage.rotate_due(UnixMillis::now()), 1);
    let view = bot(&house);
    assert_eq!((&view["jwtId"], &view["jwts"][0]["id"]), (&json!(id), &json!(id)));
    let jwt = &view["jwts"][0];
    assert_eq!((&jwt["tokenType"], &jwt["subjectId"]), (&json!("opaque"), &json!("bot")));
    let end = UnixMillis::parse(jwt["expiry"].as_str().unwrap()).unwrap();
    assert!(end > in_days(1) && end <= in_days(2));
    assert_eq!(view["nextScheduledRotation"], Value::Null);
    // Both work now, and the new one is the current.
    let new = id_of(&house.done("GET", TOKEN, Value::Null));
    *house.reports.used.lock().unwrap() =
        vec![(id.clone(), UnixMillis(60_000)), (new.clone(), UnixMillis(120_000))];
    let view = bot(&house);
    assert_eq!((&view["jwtId"], view["jwts"].as_array().unwrap().len()), (&json!(new), 2));
    assert_eq!(view["lastAccessedAt"], json!(UnixMillis(120_000).to_iso()));
    assert!(view["nextScheduledRotation"].is_string());
    // What is over is not among them either.
    house.done("DELETE", &format!("/virtual-accounts/bot/jwt/{id}"), Value::Null);
    assert_eq!(bot(&house)["jwts"].as_array().unwrap().len(), 1);
    let (_, listed) = house.ask(&LOCAL, "GET", "/virtual-accounts?nameSearchQuery=bot", Value::Null);
    assert_eq!(listed["data"][0]["lastAccessedAt"], json!(UnixMillis(120_000).to_iso()));
}

//! The audit log: what is in it, who reads it, and that refused attempts are in it too.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{House, LOCAL, PROVIDER_KEY};
use crate::clock::UnixMillis;
use crate::domain::{AuditEntry, AuditSource, Settings};
use crate::store::{Change, Expect, Object, Write};

fn audit(house: &House, query: &str) -> Vec<Value> {
    let (mut before, mut entries) = (String::new(), Vec::new());
    loop {
        let page = house.done("GET", &format!("/audit?limit=1000&{query}&before={before}"), Value::Null);
        entries.extend(page["data"].as_array().unwrap().clone());
        match page["pagination"]["before"].as_u64() {
            Some(next) => before = next.to_string(),
            None => return entries,
        }
    }
}

#[test]
fn changes_are_listed_and_filtered() {
    let house = House::furnished();
    let all = audit(&house, "");
    let numbers: Vec<u64> = all.iter().map(|entry| entry["number"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] == pair[1] + 1), "newest first: {numbers:?}");
    assert_eq!(numbers.last(), Some(&1));
    let (_, id, admin) = house.token("admin@x.io", "key");
    house.ask(&admin, "POST", "/users/register", json!({"email": "new@x.io"}));
    let newest = &audit(&house, "actor=user:admin@x.io")[..];
    assert_eq!(newest.len(), 1);
    let want = json!({"action": "user.create", "resource": "user/new@x.io", "tokenId": id, "source": "api",
        "refused": null, "count": 1, "before": null});
    for (name, value) in want.as_object().unwrap() {
        assert_eq!(&newest[0][name], value, "{name}");
    }
    assert_eq!(newest[0]["after"]["email"], "new@x.io");
    assert_eq!(audit(&house, "action=user.").len(), 7);
    assert_eq!(audit(&house, "resource=account/").len(), 2);
    assert_eq!(audit(&house, "refused=true").len(), 0);
    assert_eq!(audit(&house, "to=2020-01-01").len(), 0);
    assert_eq!(audit(&house, "from=2020-01-01").len(), all.len() + 2);
    // Page by page it is the same.
    let (mut before, mut paged) = (String::new(), Vec::new());
    loop {
        let page = house.done("GET", &format!("/audit?limit=5&before={before}"), Value::Null);
        paged.extend(page["data"].as_array().unwrap().clone());
        match page["pagination"]["before"].as_u64() {
            Some(next) => before = next.to_string(),
            None => break,
        }
    }
    assert_eq!(paged, audit(&house, ""));
    house.refused(400, "GET", "/audit?before=x", Value::Null);
    house.refused(400, "GET", "/audit?from=x", Value::Null);
    let text = json!(audit(&house, "")).to_string();
    assert!(!text.contains(PROVIDER_KEY) && !text.contains("tfy_"), "{text}");
}

#[test]
fn refused_attempts_are_entries() {
    let house = House::furnished();
    let (text, id, keeper) = house.token("keeper@x.io", "key");
    for _ in 0..3 {
        house.ask(&keeper, "DELETE", "/provider-accounts/main", Value::Null);
    }
    house.ask(&keeper, "DELETE", "/provider-accounts/other", Value::Null);
    house.ask(&keeper, "DELETE", "/tokens/one", Value::Null);
    house.ask(&keeper, "DELETE", "/tokens/two", Value::Null);
    house.ask(&keeper, "DELETE", &format!("/tokens/{text}"), Value::Null);
    house.ask(&keeper, "PUT", "/provider-accounts/main/credential", json!({"api_key": "bad\nsecret"}));
    house.refused(409, "POST", "/provider-accounts", json!({"manifest": super::account("main")}));
    // These are none: reading, breaking the form, not saying who.
    house.ask(&keeper, "GET", "/provider-accounts/other", Value::Null);
    house.ask(&keeper, "POST", "/grants", json!({"wrong": 1}));
    house.call(None, "DELETE", "/provider-accounts/main", b"");
    let found: BTreeSet<String> = audit(&house, "refused=true")
        .iter()
        .map(|entry| {
            let part = |name: &str| entry[name].as_str().unwrap_or("-").to_owned();
            assert_eq!((&entry["before"], &entry["after"]), (&Value::Null, &Value::Null));
            assert_eq!(entry["tokenId"], if entry["source"] == "api" { json!(id) } else { Value::Null });
            let words: Vec<_> = ["actor", "action", "resource", "refused"].into_iter().map(part).collect();
            format!("{} x{}", words.join(" "), entry["count"])
        })
        .collect();
    let want = [
        "local:uid:0 POST /provider-accounts provider-accounts conflict x1",
        "user:keeper@x.io DELETE /provider-accounts/{id} provider-accounts/main forbidden x3",
        "user:keeper@x.io DELETE /provider-accounts/{id} provider-accounts/other not-found x1",
        "user:keeper@x.io DELETE /tokens/{id} tokens/{id} not-found x3",
        "user:keeper@x.io PUT /provider-accounts/{id}/credential provider-accounts/main/credential unprocessable x1",
    ];
    assert_eq!(found, want.into_iter().map(str::to_owned).collect());
    let kept = json!(audit(&house, "")).to_string();
    assert!(!kept.contains(&text) && !kept.contains("secret"), "{kept}");
    // Reading has written them; nothing is written twice.
    assert_eq!(audit(&house, "refused=true").len(), want.len());
    assert_eq!(house.done("GET", "/audit/verify", Value::Null)["ok"], true);
}

#[test]
fn a_flood_of_refusals_stays_small() {
    let house = House::furnished();
    let (_, _, plain) = house.token("plain@x.io", "key");
    for number in 0..1_200 {
        let attempt = crate::manage::Attempt {
            action: &format!("DELETE /thing/{number}"),
            kind: "thing/{id}",
            resource: &"x".repeat(1_000),
        };
        house.manage.attempt_refused(&plain, attempt, &crate::failure::Failure::Forbidden("no".into()));
    }
    // A minute that goes on is not written.
    let before = house.manage.store.snapshot().revision();
    house.manage.record_refused(Some(UnixMillis::now()));
    let other = audit(&house, "action=other");
    let total: u64 = audit(&house, "refused=true").iter().map(|entry| entry["count"].as_u64().unwrap()).sum();
    assert_eq!(total, 1_200);
    // A minute may have ended in between, which makes room for more.
    assert!(other.len() <= 2 && (other.is_empty() || other[0]["count"].as_u64().unwrap() <= 200));
    assert!(house.manage.store.snapshot().revision() <= before + 20);
    assert!(
        audit(&house, "action=DELETE").iter().all(|entry| entry["resource"].as_str().unwrap().len() == 128)
    );
}

#[test]
fn a_noted_head_is_found_again() {
    let house = House::furnished();
    let verify = |head: &str| house.done("GET", &format!("/audit/verify?head={head}"), Value::Null);
    let first = verify("");
    assert_eq!((&first["ok"], &first["brokenAt"]), (&json!(true), &Value::Null));
    let head = first["head"].as_str().unwrap();
    house.done("POST", "/users/register", json!({"email": "new@x.io"}));
    let later = verify(head);
    assert_eq!(later["ok"], true);
    assert_ne!(later["head"], first["head"]);
    assert_eq!(later["records"].as_u64().unwrap(), first["records"].as_u64().unwrap() + 1);
    assert_eq!(verify(&"1".repeat(64))["ok"], false);
    house.refused(422, "GET", "/audit/verify?head=abc", Value::Null);
}

fn entry(at: UnixMillis) -> AuditEntry {
    AuditEntry {
        at,
        actor: "local:uid:0".to_owned(),
        token_id: None,
        source: AuditSource::Socket,
        refused: None,
        count: 1,
        action: "old.thing".to_owned(),
        resource: "old/thing".to_owned(),
        before: Value::Null,
        after: Value::Null,
    }
}

#[test]
fn old_entries_go_and_the_rest_is_still_a_chain() {
    let house = House::empty();
    let store = &house.manage.store;
    let now = UnixMillis::now();
    let old = UnixMillis(now.0 - 40 * 86_400_000);
    for at in [old; 12] {
        store.commit(Change { writes: Vec::new(), audit: vec![entry(at)] }).unwrap();
    }
    house.done("POST", "/users/register", json!({"email": "new@x.io"}));
    let head = house.done("GET", "/audit/verify", Value::Null)["head"].as_str().unwrap().to_owned();
    // For ever is the default.
    assert!(!house.manage.prune_audit(now));
    assert_eq!(audit(&house, "").len(), 13);
    let settings = Settings { audit_retention_days: Some(30), ..Settings::default() };
    let writes = vec![Write::Put(Object::Settings(settings), Expect::Absent)];
    store.commit(Change { writes, audit: Vec::new() }).unwrap();
    assert!(house.manage.prune_audit(now));
    assert!(!house.manage.prune_audit(now));
    let left = audit(&house, "");
    let actions: Vec<_> = left.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["audit.prune", "user.create"]);
    assert_eq!((&left[0]["actor"], &left[0]["source"]), (&json!("gateway"), &json!("gateway")));
    assert_eq!(left[0]["before"]["upTo"], 12);
    let verdict = house.done("GET", &format!("/audit/verify?head={head}"), Value::Null);
    assert_eq!(
        (&verdict["ok"], &verdict["pruned"], &verdict["records"]),
        (&json!(true), &json!(12), &json!(14))
    );
    assert_eq!(house.ask(&LOCAL, "GET", "/audit", Value::Null).0, 200);
}

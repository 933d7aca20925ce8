//! Requests that mean no good, and secrets that must not come out.

use serde_json::{Value, json};

use super::super::{ROUTES, Request, handle};
use super::{House, LOCAL, PROVIDER_KEY, account, model};

/// Every route with the names of things that are there.
fn paths() -> Vec<(&'static str, String)> {
    let fill = |path: &str| {
        let path = path.trim_start_matches(super::PREFIX);
        let id = match path.split('/').nth(1) {
            Some("users") => "plain@x.io",
            Some("teams") => "search",
            Some("virtual-accounts") => "app",
            Some("provider-accounts") => "main",
            _ => "x",
        };
        path.replace("{id}", id).replace("{email}", "access@x.io").replace("{name}", "gpt")
    };
    ROUTES.iter().map(|(method, path)| (*method, fill(path))).collect()
}

#[test]
fn bad_bodies_are_400_and_change_nothing() {
    let house = House::furnished();
    let revision = house.manage.store.snapshot().revision();
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_field = format!("{{\"manifest\":{deep}}}");
    let huge_number = format!("{{\"email\":1{}}}", "0".repeat(100_000));
    let bodies: Vec<&[u8]> = vec![
        b"",
        b"   \r\n",
        b"null",
        b"[]",
        b"1",
        b"\"x\"",
        b"{",
        b"{}",
        b"{}{}",
        b"{\"a\":1}",
        b"{\"manifest\":1}",
        b"{\"manifest\":[]}",
        b"{\"email\":1}",
        b"{\"email\":[\"a\"]}",
        b"{\"email\":{\"a\":1}}",
        b"\xff\xfe",
        b"{\"email\":\"\xff\"}",
        b"{\"email\":\"\\ud800\"}",
        b"\xef\xbb\xbf{}",
        b"{'a':1}",
        b"{\"a\":NaN}",
        deep.as_bytes(),
        deep_field.as_bytes(),
        huge_number.as_bytes(),
    ];
    for (method, path) in paths() {
        if method == "GET" || method == "DELETE" {
            continue;
        }
        for body in &bodies {
            let status = house.call(Some(&LOCAL), method, &path, body).status;
            let empty_patch = method == "PATCH"
                && ["/provider-accounts/main", "/settings"].contains(&path.as_str())
                && *body == b"{}";
            let no_token = path == "/tokens/x/rotate";
            if !empty_patch {
                assert!(status == 400 || no_token && status == 404, "{method} {path} {body:?}: {status}");
            }
        }
    }
    assert_eq!(house.manage.store.snapshot().revision(), revision);
}

#[test]
fn unknown_fields_are_named() {
    let house = House::furnished();
    for (status, method, path, body, name) in [
        (400, "POST", "/users/register", json!({"email": "n@x.io", "admin": true}), "'admin'"),
        (400, "PATCH", "/provider-accounts/main", json!({"name": "x"}), "'name'"),
        (
            400,
            "POST",
            "/grants",
            json!({"subject": "a", "role": "b", "target": "c", "source": "d"}),
            "'source'",
        ),
        (400, "POST", "/tokens", json!({"user": "plain@x.io", "name": "abc", "id": "x"}), "'id'"),
        (400, "PUT", "/teams", json!({"manifest": {}, "force": true}), "'force'"),
        (
            422,
            "PUT",
            "/teams",
            json!({"manifest": {"type": "team", "name": "abc", "members": [], "x": 1}}),
            "'manifest.x'",
        ),
        (
            422,
            "PUT",
            "/teams",
            json!({"manifest": {"type": "team", "name": "abc", "members": [1]}}),
            "'manifest.members'",
        ),
        (
            422,
            "PUT",
            "/teams",
            json!({"manifest": {"type": "role", "name": "abc", "members": []}}),
            "'manifest.type'",
        ),
        (
            422,
            "PUT",
            "/virtual-accounts",
            json!({"manifest": {"type": "virtual-account"}}),
            "'manifest.name'",
        ),
        (
            422,
            "PUT",
            "/virtual-accounts",
            json!({"manifest": {"type": "virtual-account", "name": "abc", "permissions": [{"x": 1}]}}),
            "'manifest.permissions[0].resource_fqn'",
        ),
    ] {
        let message = house.refused(status, method, path, body);
        assert!(message.contains(name), "{message}");
    }
    let mut manifest = account("new");
    manifest["integrations"][1]["cost"] =
        json!({"metric": "per_1000_tokens", "value": {"input": 1, "output": 1, "x": 1}});
    let message = house.refused(422, "POST", "/provider-accounts", json!({"manifest": manifest}));
    assert!(message.contains("'manifest.integrations[1].cost.value.x'"), "{message}");
}

#[test]
fn odd_paths_are_not_found() {
    let house = House::furnished();
    for path in [
        "",
        "/",
        "/users/",
        "//users",
        "/users//",
        "/users/../session",
        "/./users",
        "/Users",
        "/%75sers",
        "/users/plain@x.io/",
        "/users/plain@x.io/x",
        "/teams//members",
        "/teams/search/members/",
        "/session/",
        "/users/%2e%2e",
        "/users/..",
        "/users/plain%2540x.io",
        "/users/plain@x.io%00",
        "/users/PLAIN@x.io",
        "/users/%20plain@x.io",
        "/teams/search%2Fmembers",
        "/teams/user/main",
        "/provider-accounts/main%7C",
        "/provider-accounts/..%2Fmain",
        "/tokens/%",
        "/tokens/%zz",
        "/tokens/%ff",
        "/tokens/..",
        "/tokens/%E4%BD%A0",
    ] {
        let status = house.ask(&LOCAL, "GET", path, Value::Null).0;
        assert!(matches!(status, 404 | 400), "{path}: {status}");
    }
    for (path, query) in
        [("/api/svc/v1x/users", ""), ("/api/svc/v10", ""), ("", ""), ("/api/svc", ""), ("*", "")]
    {
        let request = Request { method: "GET", path, query, body: b"" };
        assert_eq!(handle(&house.manage, Some(&LOCAL), &request).status, 404, "{path}");
    }
    let long = format!("/users/{}", "a".repeat(100_000));
    assert_eq!(house.ask(&LOCAL, "GET", &long, Value::Null).0, 404);
    assert_eq!(house.ask(&LOCAL, "GET", "/users/%70lain%40x.io", Value::Null).0, 200);
    assert_eq!(house.ask(&LOCAL, "GET", "/tenant-id?hostName=%22%3E%3Cscript", Value::Null).0, 200);
    house.never_said(&["<script"]);
}

#[test]
fn huge_values_are_refused() {
    let house = House::furnished();
    let big = "x".repeat(5000);
    let many: Vec<String> = (0..10_001).map(|n| format!("u{n}@x.io")).collect();
    let tags: Value =
        (0..65).map(|n| (format!("t{n}"), Value::from("v"))).collect::<serde_json::Map<_, _>>().into();
    for (method, path, body) in [
        ("POST", "/users/register", json!({"email": "n@x.io", "displayName": big})),
        ("POST", "/users/register", json!({"email": "n@x.io", "displayName": "a\u{0}b"})),
        (
            "PUT",
            "/teams",
            json!({"manifest": {"type": "team", "name": "abc", "members": [], "description": big}}),
        ),
        ("PUT", "/teams", json!({"manifest": {"type": "team", "name": "abc", "members": many}})),
        (
            "PUT",
            "/virtual-accounts",
            json!({"manifest": {"type": "virtual-account", "name": "abc", "tags": tags}}),
        ),
        ("PATCH", "/provider-accounts/main", json!({"headers": {"x-a": big}})),
        ("PATCH", "/provider-accounts/main", json!({"api_key": "k".repeat(16_385)})),
        ("PATCH", "/provider-accounts/main", json!({"ca_certificates": "c".repeat(70_000)})),
        ("PATCH", "/provider-accounts/main", json!({"headers": {"authorization": "Bearer x"}})),
        ("PATCH", "/provider-accounts/main", json!({"headers": {"x-a": "b\r\nhost: c"}})),
    ] {
        house.refused(422, method, path, body);
    }
    let models: Vec<Value> = (0..2001).map(|n| model(&format!("m{n}"))).collect();
    let mut manifest = account("big");
    manifest["integrations"] = models.into();
    house.refused(422, "POST", "/provider-accounts", json!({"manifest": manifest}));
}

#[test]
fn wrong_values_are_never_repeated() {
    let house = House::furnished();
    for (method, path, body) in [
        ("PATCH", "/provider-accounts/main", json!({"headers": "sk-leak"})),
        ("PATCH", "/provider-accounts/main", json!({"api_key": ["sk-leak"]})),
        ("PATCH", "/provider-accounts/main", json!({"api_key": "sk-leak with space"})),
        ("PUT", "/provider-accounts/main/credential", json!({"api_key": {"sk-leak": 1}})),
        (
            "POST",
            "/provider-accounts",
            json!({"manifest": {"type": "provider-account/openai", "name": "n", "auth_data": "sk-leak"}}),
        ),
        ("PATCH", "/provider-accounts/main", json!({"base_url": "https://user:sk-leak@h/"})),
        ("PATCH", "/provider-accounts/main", json!({"headers": {"x-api-key": "sk-leak"}})),
        (
            "PATCH",
            "/provider-accounts/main",
            json!({"ca_certificates": "-----BEGIN PRIVATE KEY-----\nsk-leak"}),
        ),
    ] {
        let status = house.ask(&LOCAL, method, path, body).0;
        assert!(matches!(status, 400 | 422), "{path}: {status}");
    }
    house.never_said(&["sk-leak"]);
}

#[test]
fn secrets_stay_in() {
    let house = House::furnished();
    let (token, id, principal) = house.token("plain@x.io", "key");
    let hash = house.manage.store.snapshot().token(&id).unwrap().secret_hash.clone();
    let sealed = house.manage.store.snapshot().account("main").unwrap().spec.sealed_api_key.clone().unwrap();
    let secret = token.rsplit('_').next().unwrap();
    // The one answer that may hold the text was the first.
    house.said.lock().unwrap().clear();
    for who in [&LOCAL, &principal] {
        for (method, path) in paths() {
            if method == "GET" || method == "PATCH" {
                house.ask(who, method, &path, json!({"email": "plain@x.io", "headers": {}}));
            }
        }
        house.ask(who, "GET", &format!("/tokens/{id}"), Value::Null);
        house.ask(who, "GET", "/tokens", Value::Null);
        house.ask(who, "PATCH", "/provider-accounts/main", json!({"headers": {"x-a": "b"}}));
    }
    house.never_said(&[PROVIDER_KEY, &token, secret, &hash, &sealed, "sealed", "secret_hash"]);
}

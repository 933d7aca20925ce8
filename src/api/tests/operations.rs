//! What the operations do.

use serde_json::{Value, json};

use super::{House, LOCAL, PROVIDER_KEY, account, model, permission};
use crate::clock::UnixMillis;

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer} in {value}"))
}

#[test]
fn the_last_active_admin_stays() {
    let house = House::empty();
    for name in ["a", "b"] {
        house.done("POST", "/users/register", json!({"email": format!("{name}@x.io"), "role": "admin"}));
    }
    house.done("PATCH", "/users/deactivate", json!({"email": "b@x.io"}));
    house.refused(409, "PATCH", "/users/deactivate", json!({"email": "a@x.io"}));
    house.refused(409, "PATCH", "/users/roles", json!({"email": "a@x.io", "roles": ["tenant-member"]}));
    house.refused(409, "DELETE", "/users/a@x.io?forceDelete=true", Value::Null);
    house.done("DELETE", "/users/b@x.io", Value::Null);
    house.done("POST", "/users/register", json!({"email": "c@x.io", "role": "tenant-admin"}));
    house.done("PATCH", "/users/roles", json!({"email": "a@x.io", "roles": ["tenant-member"]}));
    house.done("DELETE", "/users/a@x.io", Value::Null);
    house.refused(409, "DELETE", "/users/c@x.io", Value::Null);
}

#[test]
fn users_are_registered_once() {
    let house = House::empty();
    let ada = json!({"email": "ada@x.io", "displayName": "Ada", "sendInviteEmail": false});
    house.done("POST", "/users/register", json!({"email": "ada@x.io", "dryRun": true}));
    house.refused(404, "GET", "/users/ada@x.io", Value::Null);
    house.done("POST", "/users/register", ada.clone());
    house.refused(409, "POST", "/users/register", ada);
    house.done(
        "POST",
        "/users/register",
        json!({"email": "ada@x.io", "skipIfUserExists": true, "role": "admin"}),
    );
    let user = house.done("GET", "/users/ada%40x.io", Value::Null);
    assert_eq!(
        (text(&user, "/data/metadata/displayName"), text(&user, "/data/roles/0")),
        ("Ada", "tenant-member")
    );
    house.refused(422, "POST", "/users/register", json!({"email": "Ada@x.io"}));
    house.refused(422, "POST", "/users/register", json!({"email": "b@x.io", "role": "root"}));
    house.refused(422, "PATCH", "/users/roles", json!({"email": "ada@x.io", "roles": []}));
    house.refused(404, "PATCH", "/users/roles", json!({"email": "no@x.io", "roles": ["admin"]}));
}

#[test]
fn deactivation_ends_tokens_for_good() {
    let house = House::furnished();
    let (token, id, principal) = house.token("plain@x.io", "laptop");
    house.done("PATCH", "/users/deactivate", json!({"email": "plain@x.io"}));
    assert!(house.login(&token).is_none());
    // A call that was let in before hears it at its next look.
    assert_eq!(house.ask(&principal, "GET", "/session", Value::Null).0, 401);
    assert_eq!(house.ask(&principal, "GET", "/users", Value::Null).0, 401);
    let kept = house.done("GET", &format!("/tokens/{id}"), Value::Null);
    assert_eq!(kept["data"]["state"], "revoked");
    house.refused(422, "POST", "/tokens", json!({"user": "plain@x.io", "name": "laptop"}));
    assert_eq!(house.done("GET", "/users?query=plain", Value::Null)["pagination"]["total"], 0);
    assert_eq!(
        house.done("GET", "/users?query=plain&showInvalidUsers=true", Value::Null)["pagination"]["total"],
        1
    );
    house.done("PATCH", "/users/activate", json!({"email": "plain@x.io", "tenantName": "acme"}));
    assert!(house.login(&token).is_none());
    house.token("plain@x.io", "laptop");
}

#[test]
fn deleting_a_user_leaves_nothing_behind() {
    let house = House::furnished();
    let (token, ..) = house.token("lead@x.io", "laptop");
    house.done(
        "POST",
        "/grants",
        json!({"subject": "user:lead@x.io", "role": "access", "target": "main/gpt"}),
    );
    house.refused(409, "DELETE", "/users/lead@x.io", Value::Null);
    house.done("DELETE", "/users/lead@x.io?forceDelete=true", Value::Null);
    assert!(house.login(&token).is_none());
    assert_eq!(house.done("GET", "/grants?subject=user:lead@x.io", Value::Null)["data"], json!([]));
    assert_eq!(house.done("GET", "/teams/search", Value::Null)["data"]["manifest"]["managers"], json!([]));
    // The same person again starts with nothing.
    house.done("POST", "/users/register", json!({"email": "lead@x.io"}));
    let (_, _, principal) = house.token("lead@x.io", "laptop");
    let (_, models) = house.ask(&principal, "GET", "/provider-integrations", Value::Null);
    assert_eq!(models["pagination"]["total"], 0);
}

#[test]
fn tokens_are_made_rotated_and_revoked() {
    let house = House::furnished();
    let body = json!({"user": "plain@x.io", "name": "laptop", "expirationDate": "2999-01-31"});
    let response = house.call(Some(&LOCAL), "POST", "/tokens", body.to_string().as_bytes());
    assert!(response.no_store);
    let made: Value = serde_json::from_str(&response.body).unwrap();
    let (old, id) = (text(&made, "/token"), text(&made, "/data/id"));
    assert_eq!(text(&made, "/data/expiresAt"), "2999-01-31T23:59:59.999Z");
    assert_eq!(text(&made, "/data/owner"), "user:plain@x.io");
    house.refused(409, "POST", "/tokens", body);

    let path = format!("/tokens/{id}/rotate");
    let rotated = house.done("POST", &path, json!({"gracePeriodInMinutes": 5}));
    let (new, new_id) = (text(&rotated, "/token"), text(&rotated, "/data/id"));
    assert_eq!(text(&rotated, "/data/replaces"), id);
    assert_eq!(text(&rotated, "/data/expiresAt"), "2999-01-31T23:59:59.999Z");
    assert!(house.login(old).is_some() && house.login(new).is_some());
    let kept = house.done("GET", &format!("/tokens/{id}"), Value::Null);
    let end = UnixMillis::parse(text(&kept, "/data/expiresAt")).unwrap();
    assert!(end.0 <= UnixMillis::now().0 + 300_000 && end.0 > UnixMillis::now().0 + 200_000);
    assert!(house.refused(409, "POST", &path, json!({"gracePeriodInMinutes": 5})).contains(new_id));

    let again = house.done("POST", &format!("/tokens/{new_id}/rotate"), json!({"gracePeriodInMinutes": 0}));
    assert!(house.login(new).is_none() && house.login(text(&again, "/token")).is_some());
    house.done("DELETE", &format!("/tokens/{id}"), Value::Null);
    assert!(house.login(old).is_none());
    house.refused(404, "DELETE", &format!("/tokens/{id}"), Value::Null);

    for (status, body) in [
        (400, json!({"name": "abc"})),
        (400, json!({"user": "plain@x.io", "virtualAccount": "app", "name": "abc"})),
        (400, json!({"user": "plain@x.io", "name": "abc", "validDays": 1, "expirationDate": "2999-01-01"})),
        (400, json!({"user": "plain@x.io", "name": "abc", "validDays": -1})),
        (422, json!({"user": "plain@x.io", "name": "abc", "validDays": 0})),
        (422, json!({"user": "plain@x.io", "name": "abc", "validDays": 40_000})),
        (422, json!({"user": "plain@x.io", "name": "abc", "expirationDate": "2001-01-01"})),
        (422, json!({"user": "plain@x.io", "name": "abc", "expirationDate": "soon"})),
        (422, json!({"user": "plain@x.io", "name": "A b"})),
        (422, json!({"user": "no@x.io", "name": "abc"})),
        (422, json!({"virtualAccount": "none", "name": "abc"})),
    ] {
        house.refused(status, "POST", "/tokens", body);
    }
}

#[test]
fn an_owner_has_a_hundred_tokens_and_no_more() {
    let house = House::furnished();
    for number in 0..100 {
        house.done("POST", "/tokens", json!({"user": "plain@x.io", "name": format!("token-{number}")}));
    }
    house.refused(422, "POST", "/tokens", json!({"user": "plain@x.io", "name": "more"}));
    house.done("POST", "/tokens", json!({"user": "access@x.io", "name": "more"}));
}

#[test]
fn a_key_goes_nowhere_else_unless_it_is_sent_again() {
    let house = House::furnished();
    let path = "/provider-accounts/main";
    for change in [
        json!({"base_url": "https://evil.example.com/v1"}),
        json!({"base_url": "http://llm.example.com/v1"}),
        json!({"base_url": "https://llm.example.com:8443/v1"}),
        json!({"base_url": "https://llm.example.com:443/v1"}),
        json!({"base_url": "https://evil.example.com/v1", "headers": {"x-a": "b"}}),
    ] {
        assert!(house.refused(422, "PATCH", path, change).contains("api_key"));
    }
    let changed =
        house.done("PATCH", path, json!({"base_url": "https://llm.example.com/v2", "headers": {"X-A": "b"}}));
    assert_eq!(text(&changed, "/data/manifest/base_url"), "https://llm.example.com/v2");
    assert_eq!(text(&changed, "/data/manifest/headers/x-a"), "b");
    assert_eq!(changed["data"]["hasApiKey"], true);
    // Another place with the key, or without any.
    house.done("PATCH", path, json!({"base_url": "https://b.example.com", "api_key": "sk-b"}));
    let bare = house.done("PATCH", path, json!({"base_url": "https://c.example.com", "api_key": null}));
    assert_eq!(bare["data"]["hasApiKey"], false);
    house.done("PATCH", path, json!({"base_url": "https://d.example.com"}));
    house.done("PUT", &format!("{path}/credential"), json!({"api_key": "sk-d"}));
    house.refused(422, "PATCH", path, json!({"base_url": "https://e.example.com"}));
    house.done("PUT", &format!("{path}/credential"), json!({"api_key": null}));
    house.refused(400, "PUT", &format!("{path}/credential"), json!({}));
    for key in ["", "a b", "a\r\nb", "ä", "tfy-secret://acme:g:k"] {
        house.refused(422, "PUT", &format!("{path}/credential"), json!({"api_key": key}));
    }
    house.refused(422, "PATCH", path, json!({"ca_certificates": "none"}));
    house.never_said(&[PROVIDER_KEY, "sk-b", "sk-d"]);
}

#[test]
fn a_manager_points_no_account_at_this_host() {
    let house = House::furnished();
    let (_, _, keeper) = house.token("keeper@x.io", "key");
    let path = "/provider-accounts/main";
    for host in ["localhost", "127.0.0.1:8080", "[::1]", "169.254.169.254", "0.0.0.0", "[::ffff:7f00:1]"] {
        let body = json!({"base_url": format!("http://{host}/v1"), "api_key": "sk-x"});
        assert_eq!(house.ask(&keeper, "PATCH", path, body.clone()).0, 403, "{host}");
        house.done("PATCH", path, body.clone());
        // What an admin chose stays usable for the manager.
        assert_eq!(house.ask(&keeper, "PATCH", path, body).0, 200, "{host}");
        house.done("PATCH", path, json!({"base_url": "https://llm.example.com", "api_key": "sk-x"}));
    }
}

#[test]
fn who_only_uses_an_account_sees_no_settings() {
    let house = House::furnished();
    house.done(
        "POST",
        "/grants",
        json!({"subject": "user:plain@x.io", "role": "access", "target": "main/gpt"}),
    );
    let (_, _, plain) = house.token("plain@x.io", "key");
    let (status, account) = house.ask(&plain, "GET", "/provider-accounts/main", Value::Null);
    assert_eq!(status, 200);
    assert_eq!(account["data"]["manifest"]["base_url"], Value::Null);
    assert_eq!(account["data"]["hasApiKey"], Value::Null);
    assert_eq!(account["data"]["integrations"].as_array().unwrap().len(), 1);
    let (_, models) = house.ask(&plain, "GET", "/provider-integrations?type=model", Value::Null);
    assert_eq!(
        (models["data"].as_array().unwrap().len(), text(&models, "/data/0/modelName")),
        (1, "main/gpt")
    );
    assert_eq!(house.ask(&plain, "DELETE", "/provider-accounts/main/models/org%2Fsmall", Value::Null).0, 404);
    assert_eq!(house.ask(&plain, "DELETE", "/provider-accounts/main/models/gpt", Value::Null).0, 403);
}

#[test]
fn models_come_and_go_with_their_grants() {
    let house = House::furnished();
    let path = "/provider-accounts/main/models";
    house.refused(409, "POST", path, json!({"manifest": model("gpt")}));
    let mut priced = model("priced");
    priced["cost"] = json!({"metric": "per_1000_tokens", "value": {"input": 0.00015, "output": 0.0006}});
    let made = house.done("POST", path, json!({"manifest": priced}));
    assert_eq!(text(&made, "/data/manifest/input_price"), "0.15");
    assert_eq!(text(&made, "/data/manifest/output_price"), "0.6");
    assert_eq!(made["data"]["manifest"]["cost"], priced["cost"]);
    // What comes out can go in again.
    let mut again = made["data"]["manifest"].clone();
    again["name"] = "again".into();
    house.done("POST", path, json!({"manifest": again}));
    again["name"] = "other".into();
    again["input_price"] = "9".into();
    house.refused(422, "POST", path, json!({"manifest": again}));

    let grant = json!({"subject": "team:everyone", "role": "access", "target": "main/org/small"});
    house.done("POST", "/grants", grant.clone());
    house.done("DELETE", &format!("{path}/org%2Fsmall"), Value::Null);
    assert_eq!(house.done("GET", "/grants?subject=team:everyone", Value::Null)["pagination"]["total"], 0);
    house.refused(422, "POST", "/grants", grant);
    house.refused(404, "DELETE", &format!("{path}/org%2Fsmall"), Value::Null);

    for (field, value) in [
        ("model_types", json!([])),
        ("model_types", json!(["chat", "dance"])),
        ("model_id", json!("")),
        ("model_id", json!("a\"b")),
        ("name", json!("a b")),
        ("type", json!("integration/model/azure")),
        ("input_price", json!("-1")),
        ("cost", json!({"metric": "per_page", "value": 1})),
        ("authorized_subjects", json!(["user:plain@x.io"])),
        ("unknown", json!(1)),
    ] {
        let mut manifest = model("bad");
        manifest[field] = value;
        let message = house.refused(422, "POST", path, json!({"manifest": manifest}));
        assert!(!message.is_empty(), "{field}");
    }
}

#[test]
fn an_account_is_deleted_with_its_grants() {
    let house = House::furnished();
    house.refused(409, "POST", "/provider-accounts", json!({"manifest": account("main")}));
    house.done("DELETE", "/provider-accounts/main", Value::Null);
    assert_eq!(house.done("GET", "/grants?target=main", Value::Null)["pagination"]["total"], 0);
    house.done("POST", "/provider-accounts", json!({"manifest": account("main")}));
    let (_, _, access) = house.token("access@x.io", "key");
    assert_eq!(house.ask(&access, "GET", "/provider-accounts/main", Value::Null).0, 404);
}

#[test]
fn demo_accounts_are_for_demos() {
    let mut house = House::empty();
    let demo = json!({"manifest": {"type": "provider-account/demo", "name": "demo", "integrations": [model("echo")]}});
    house.refused(422, "POST", "/provider-accounts", demo.clone());
    house.manage.demo = true;
    let made = house.done("POST", "/provider-accounts", demo);
    assert_eq!(
        (text(&made, "/data/fqn"), text(&made, "/data/integrations/0/modelName")),
        ("acme:demo:demo", "demo/echo")
    );
    house.refused(422, "PATCH", "/provider-accounts/demo", json!({"base_url": "http://x.io"}));
}

#[test]
fn grants_are_given_once_and_taken_away() {
    let house = House::furnished();
    let grant =
        json!({"subject": "user:plain@x.io", "role": "provider-account-access", "target": "main/gpt"});
    let first = house.done("POST", "/grants", grant.clone());
    assert_eq!(text(&first, "/data/source"), "direct");
    assert_eq!(house.done("POST", "/grants", grant), first);
    let query = "/grants?subject=user%3Aplain%40x.io&role=access&target=main/gpt";
    house.done("DELETE", query, Value::Null);
    house.refused(404, "DELETE", query, Value::Null);
    let manifest = house.refused(
        409,
        "DELETE",
        "/grants?subject=virtualaccount:app&role=access&target=main",
        Value::Null,
    );
    assert!(manifest.contains("virtual-account/app"));
    for (subject, role, target) in [
        ("user:no@x.io", "access", "main"),
        ("team:none", "access", "main"),
        ("virtualaccount:none", "access", "main"),
        ("user:plain@x.io", "access", "none"),
        ("user:plain@x.io", "access", "main/none"),
        ("user:plain@x.io", "owner", "main"),
        ("user:plain@x.io", "manager", "main/gpt"),
        ("virtualaccount:app", "manager", "main"),
        ("plain@x.io", "access", "main"),
        ("role:tenant-admin", "access", "main"),
        ("user:plain@x.io|", "access", "main"),
        ("user:plain@x.io", "access", "main|x"),
    ] {
        house.refused(422, "POST", "/grants", json!({"subject": subject, "role": role, "target": target}));
    }
}

#[test]
fn a_manager_sees_the_grants_of_its_accounts_only() {
    let house = House::furnished();
    let (_, _, keeper) = house.token("keeper@x.io", "key");
    let (_, grants) = house.ask(&keeper, "GET", "/grants", Value::Null);
    let targets: Vec<&str> = grants["data"].as_array().unwrap().iter().map(|g| text(g, "/target")).collect();
    assert_eq!(targets, ["main", "main", "main"]);
    let give = |target: &str| json!({"subject": "user:plain@x.io", "role": "manager", "target": target});
    assert_eq!(house.ask(&keeper, "POST", "/grants", give("main")).0, 200);
    let hidden = house.ask(&keeper, "POST", "/grants", give("other"));
    let absent = house.ask(&keeper, "POST", "/grants", give("no-such"));
    assert_eq!((hidden.0, absent.0), (404, 404));
    assert_eq!(
        hidden.1["message"].as_str().unwrap().replace("other", "X"),
        absent.1["message"].as_str().unwrap().replace("no-such", "X")
    );
}

#[test]
fn teams_are_replaced_and_managed() {
    let house = House::furnished();
    let manifest = |members: Value| json!({"manifest": {"type": "team", "name": "new", "members": members, "tags": {"a": "b"}, "displayName": "New"}});
    house.refused(422, "PUT", "/teams", manifest(json!(["no@x.io"])));
    let mut dry = manifest(json!(["plain@x.io"]));
    dry["dryRun"] = true.into();
    house.done("PUT", "/teams", dry);
    house.refused(404, "GET", "/teams/new", Value::Null);
    house.done("PUT", "/teams", manifest(json!(["plain@x.io", "access@x.io"])));
    let team = house.done("PUT", "/teams", manifest(json!(["plain@x.io"])));
    assert_eq!(team["data"]["members"], json!(["plain@x.io"]));
    for name in ["everyone", "user", "Bad Name", ""] {
        house.refused(
            422,
            "PUT",
            "/teams",
            json!({"manifest": {"type": "team", "name": name, "members": []}}),
        );
    }
    let (_, _, lead) = house.token("lead@x.io", "key");
    assert_eq!(house.ask(&lead, "POST", "/teams/search/members", json!({"email": "plain@x.io"})).0, 200);
    assert_eq!(house.ask(&lead, "POST", "/teams/search/members", json!({"email": "no@x.io"})).0, 422);
    assert_eq!(house.ask(&lead, "DELETE", "/teams/search/members/access%40x.io", Value::Null).0, 200);
    assert_eq!(house.ask(&lead, "DELETE", "/teams/search/members/access@x.io", Value::Null).0, 404);
    // Out of the team, out of its accounts.
    let (_, _, access) = house.token("access@x.io", "key");
    assert_eq!(house.ask(&access, "GET", "/provider-accounts", Value::Null).1["pagination"]["total"], 0);
    house.done("DELETE", "/teams/search", Value::Null);
    assert_eq!(house.done("GET", "/grants?subject=team:search", Value::Null)["pagination"]["total"], 0);
}

#[test]
fn virtual_accounts_follow_their_manifest() {
    let house = House::furnished();
    let put = |permissions: Value| {
        let mut manifest = json!({"type": "virtual-account", "name": "app", "tags": {"env": "prod"},
            "expiration_date": "2999-12-31", "auto_rotate": {"auto_rotate_interval": 30}});
        if !permissions.is_null() {
            manifest["permissions"] = permissions;
        }
        json!({"manifest": manifest})
    };
    let model = json!({"resource_fqn": "acme:openai:main:model:org/small",
        "resource_type": "provider-integration", "role_id": "provider-integration-access"});
    let (token, ..) = house.token("app", "prod");
    house.done(
        "POST",
        "/grants",
        json!({"subject": "virtualaccount:app", "role": "access", "target": "other"}),
    );
    // Left out: unchanged. Named: the manifest's own are replaced, the direct one stays.
    let same = house.done("PUT", "/virtual-accounts", put(Value::Null));
    assert_eq!(same["data"]["manifest"]["permissions"].as_array().unwrap().len(), 2);
    assert_eq!(text(&same, "/data/manifest/expiration_date"), "2999-12-31");
    let mut dry = put(json!([model]));
    dry["dryRun"] = true.into();
    let preview = house.done("PUT", "/virtual-accounts", dry);
    assert_eq!(
        house.done("GET", "/virtual-accounts/app", Value::Null)["data"]["manifest"],
        same["data"]["manifest"]
    );
    let changed = house.done("PUT", "/virtual-accounts", put(json!([model])));
    assert_eq!(changed["data"]["manifest"], preview["data"]["manifest"]);
    let grants = house.done("GET", "/grants?subject=virtualaccount:app", Value::Null);
    let mut found: Vec<(&str, &str)> =
        grants["data"].as_array().unwrap().iter().map(|g| (text(g, "/target"), text(g, "/source"))).collect();
    found.sort_unstable();
    assert_eq!(found, [("main/org/small", "virtual-account/app"), ("other", "direct")]);
    assert!(house.login(&token).is_some());
    for bad in [
        json!([]),
        json!([{"resource_fqn": "acme:openai:none", "resource_type": "provider-account", "role_id": "provider-account-access"}]),
        json!([{"resource_fqn": "other:openai:main", "resource_type": "provider-account", "role_id": "provider-account-access"}]),
        json!([{"resource_fqn": "acme:azure:main", "resource_type": "provider-account", "role_id": "provider-account-access"}]),
        json!([{"resource_fqn": "acme:openai:main", "resource_type": "provider-account", "role_id": "provider-account-manager"}]),
        json!([{"resource_fqn": "acme:openai:main", "resource_type": "provider-integration", "role_id": "provider-account-access"}]),
        json!([{"resource_fqn": "acme:openai:main:model:none", "resource_type": "provider-integration", "role_id": "provider-integration-access"}]),
        json!([{"resource_fqn": "acme", "resource_type": "provider-account", "role_id": "provider-account-access"}]),
        json!([{"resource_fqn": "acme:openai:main", "resource_type": "provider-account"}]),
    ] {
        house.refused(422, "PUT", "/virtual-accounts", put(bad));
    }
    house.done("DELETE", "/virtual-accounts/app", Value::Null);
    assert!(house.login(&token).is_none());
    assert_eq!(
        house.done("GET", "/grants?subject=virtualaccount:app", Value::Null)["pagination"]["total"],
        0
    );
}

#[test]
fn one_wrong_provider_among_right_ones_is_refused() {
    let house = House::furnished();
    let mut wrong = permission("main");
    wrong["resource_fqn"] = "acme:azure:main".into();
    let manifest =
        json!({"type": "virtual-account", "name": "app", "permissions": [permission("main"), wrong]});
    house.refused(422, "PUT", "/virtual-accounts", json!({"manifest": manifest}));
}

#[test]
fn reports_are_cut_to_the_caller() {
    use crate::domain::UsageScope;
    use crate::usage::{Figures, GroupKey, ReportRow};
    let house = House::furnished();
    *house.reports.rows.lock().unwrap() = vec![ReportRow {
        group: vec!["search".into(), "main/gpt".into()],
        figures: Figures { calls: 2, latency_ms: 20, ..Figures::default() },
    }];
    let report = house.done("GET", "/usage/report?by=team,model&from=2027-01-01&to=2027-01-31", Value::Null);
    assert_eq!(
        (text(&report, "/data/0/team"), text(&report, "/data/0/model"), &report["data"][0]["latencyMsAvg"]),
        ("search", "main/gpt", &json!(10))
    );
    let (_, _, plain) = house.token("plain@x.io", "key");
    house.ask(&plain, "GET", "/usage/report?by=day", Value::Null);
    let asked = house.reports.asked.lock().unwrap().clone();
    assert_eq!((&asked[0].subject, &asked[0].scope), (&None, &UsageScope::All));
    assert_eq!(asked[0].group_by, [GroupKey::Team, GroupKey::Model]);
    assert!(asked[0].world.is_some(), "teams are looked up in the present state");
    // Both ends belong to the report.
    assert_eq!(asked[0].to.unwrap().0 - asked[0].from.unwrap().0, 31 * 86_400_000 - 1);
    let own = |subject: &str| UsageScope::Limited {
        subject: subject.into(),
        teams: Default::default(),
        accounts: Default::default(),
    };
    assert_eq!(asked[1].scope, own("user:plain@x.io"));
    for bad in ["by=phase", "by=user,user", "by=", "from=x", "by=user&by=day"] {
        let want = if bad == "by=" { 200 } else { 400 };
        assert_eq!(house.ask(&LOCAL, "GET", &format!("/usage/report?{bad}"), Value::Null).0, want, "{bad}");
    }
}

#[test]
fn lists_come_in_pages() {
    let house = House::furnished();
    let page = house.done("GET", "/users?limit=2&offset=1", Value::Null);
    assert_eq!(page["pagination"], json!({"total": 6, "offset": 1, "limit": 2}));
    assert_eq!(text(&page, "/data/0/id"), "admin@x.io");
    let past = house.done("GET", "/users?offset=100", Value::Null);
    assert_eq!((past["data"].clone(), past["pagination"]["limit"].clone()), (json!([]), json!(100)));
    assert_eq!(
        house.done("GET", "/users?limit=99999999999999999999999", Value::Null)["pagination"]["limit"],
        1000
    );
    for bad in ["limit=0", "limit=-1", "limit=x", "offset=1.5", "limit=1&limit=2", "limit=%zz"] {
        assert_eq!(house.ask(&LOCAL, "GET", &format!("/users?{bad}"), Value::Null).0, 400, "{bad}");
    }
}

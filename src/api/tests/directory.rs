//! Lookups: who holds what, and what names lead to.

use serde_json::{Value, json};

use super::{House, LOCAL, permission};

/// `TYPE ID ROLE via SUBJECT` of every row.
fn rows(answer: &Value) -> Vec<String> {
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or("-").to_owned();
    let row = |row: &Value| {
        assert!(!text(row, "roleName").is_empty() && row["resourceName"] == row["resourceId"], "{row}");
        let [kind, id, role] = ["resourceType", "resourceId", "roleId"].map(|name| text(row, name));
        format!("{kind} {id} {role} via {}:{}", text(row, "subjectType"), text(row, "subjectId"))
    };
    let mut rows: Vec<String> = answer["data"].as_array().unwrap().iter().map(row).collect();
    rows.sort();
    rows
}

#[test]
fn what_reaches_a_user_and_what_was_given_in_person() {
    let house = House::furnished();
    for (subject, role, target) in [
        ("user:access@x.io", "provider-account-access", "other/gpt"),
        ("team:everyone", "provider-account-access", "other"),
    ] {
        house.done("POST", "/grants", json!({"subject": subject, "role": role, "target": target}));
    }
    let permissions = house.done("GET", "/x/users/access@x.io/permissions", Value::Null);
    assert_eq!(
        rows(&permissions),
        [
            "provider-account main provider-account-access via team:search",
            "provider-account other provider-account-access via team:everyone",
            "provider-integration other/gpt provider-integration-access via user:access@x.io",
            "tenant acme tenant-member via user:access@x.io",
        ]
    );
    let all = permissions["data"].as_array().unwrap();
    let model = all.iter().find(|row| row["resourceId"] == "other/gpt").unwrap();
    assert_eq!(model["resourceFqn"], "acme:openai:other:model:gpt");
    let tenant = all.iter().find(|row| row["resourceType"] == "tenant").unwrap();
    assert_eq!(tenant.get("resourceFqn"), None);
    assert_eq!(
        rows(&house.done("GET", "/x/users/access@x.io/resources", Value::Null)),
        [
            "provider-integration other/gpt provider-integration-access via user:access@x.io",
            "team search team-member via user:access@x.io",
            "tenant acme tenant-member via user:access@x.io",
        ]
    );
    // One's own are seen by oneself, and by no other member.
    let (_, _, access) = house.token("access@x.io", "key");
    let own = house.ask(&access, "GET", "/x/users/access@x.io/permissions", Value::Null);
    assert_eq!((own.0, rows(&own.1)), (200, rows(&permissions)));
    // Leaving the team ends it.
    house.done("DELETE", "/teams/search/members/access@x.io", Value::Null);
    let left = house.done("GET", "/x/users/access@x.io/permissions", Value::Null);
    assert!(!rows(&left).iter().any(|row| row.contains("team:search")), "{left}");
}

#[test]
fn teams_of_a_user() {
    let house = House::furnished();
    let teams =
        |name: &str| house.done("GET", &format!("/x/users/{name}@x.io/teams"), Value::Null)["data"].clone();
    assert_eq!(teams("access"), json!([{"teamName": "search", "roles": ["team-member"]}]));
    assert_eq!(teams("lead"), json!([{"teamName": "search", "roles": ["team-manager"]}]));
    assert_eq!(teams("plain"), json!([]));
    house.done("POST", "/teams/search/managers", json!({"email": "access@x.io"}));
    assert_eq!(teams("access"), json!([{"teamName": "search", "roles": ["team-member", "team-manager"]}]));
}

#[test]
fn managers_of_a_team() {
    let house = House::furnished();
    let managers = || {
        let answer = house.done("GET", "/teams/search/managers", Value::Null);
        answer["data"].as_array().unwrap().iter().map(|row| row["subjectId"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(managers(), ["lead@x.io"]);
    let revision = house.manage.store.snapshot().revision();
    house.done("POST", "/teams/search/managers", json!({"email": "lead@x.io"}));
    assert_eq!(house.manage.store.snapshot().revision(), revision, "what is so already changes nothing");
    house.done("POST", "/teams/search/managers", json!({"email": "plain@x.io"}));
    assert_eq!(managers(), ["lead@x.io", "plain@x.io"]);
    house.refused(422, "POST", "/teams/search/managers", json!({"email": "nobody@x.io"}));
    house.refused(400, "POST", "/teams/search/managers", json!({"email": "plain@x.io", "more": 1}));
    let (_, _, plain) = house.token("plain@x.io", "key");
    assert_eq!(house.ask(&plain, "POST", "/teams/search/members", json!({"email": "keeper@x.io"})).0, 200);
    // A manager decides on members, not on managers.
    assert_eq!(house.ask(&plain, "DELETE", "/teams/search/managers/lead@x.io", Value::Null).0, 403);
    house.done("DELETE", "/teams/search/managers/plain@x.io", Value::Null);
    assert_eq!(house.ask(&plain, "POST", "/teams/search/members", json!({"email": "hidden@x.io"})).0, 404);
    house.refused(404, "DELETE", "/teams/search/managers/plain@x.io", Value::Null);
}

#[test]
fn what_a_team_was_given() {
    let house = House::furnished();
    let want = ["provider-account main provider-account-access via team:search"];
    assert_eq!(rows(&house.done("GET", "/teams/search/permissions", Value::Null)), want);
    let ask = |name: &str| {
        let (_, _, who) = house.token(&format!("{name}@x.io"), "key");
        house.ask(&who, "GET", "/teams/search/permissions", Value::Null)
    };
    assert_eq!(rows(&ask("access").1), want);
    // Who manages the team without being in it does not see the accounts of others.
    assert_eq!(ask("lead"), (200, json!({"data": []})));
    assert_eq!(ask("plain").0, 404);
}

#[test]
fn collaborators_are_grants_on_one_thing() {
    let house = House::furnished();
    let path = |kind: &str, id: &str| format!("/collaborators?resourceType={kind}&resourceId={id}");
    let list = |kind: &str, id: &str| rows(&house.done("GET", &path(kind, id), Value::Null));
    let main = [
        "provider-account main provider-account-access via team:search",
        "provider-account main provider-account-access via virtualaccount:app",
        "provider-account main provider-account-manager via user:keeper@x.io",
    ];
    assert_eq!(list("provider-account", "main"), main);
    assert_eq!(list("provider-account", "acme:openai:main"), main);
    let body = |kind: &str, id: &str, role: Option<&str>| {
        let mut body = json!({"resourceType": kind, "resourceId": id, "subject": "user:plain@x.io"});
        if let Some(role) = role {
            body["roleId"] = role.into();
        }
        body
    };
    // One model, by both names of it and of the role.
    for (id, role) in [
        ("main/gpt", "provider-integration-access"),
        ("acme:openai:main:model:gpt", "provider-account-access"),
    ] {
        let made = house.done("POST", "/collaborators", body("provider-integration", id, Some(role)));
        assert_eq!(made["data"]["subject"], "user:plain@x.io");
        assert_eq!(made["data"]["resourceId"], "main/gpt");
    }
    let one = ["provider-integration main/gpt provider-integration-access via user:plain@x.io"];
    assert_eq!(list("provider-integration", "main/gpt"), one);
    assert_eq!(list("provider-integration", "acme:openai:main:model:gpt"), one);
    assert_eq!(list("provider-account", "main"), main, "a model's are its own");
    // Without a role: all that one has there, and not what one has elsewhere.
    for role in ["provider-account-access", "provider-account-manager"] {
        house.done("POST", "/collaborators", body("provider-account", "main", Some(role)));
    }
    assert_eq!(list("provider-account", "main").len(), 5);
    house.done("DELETE", "/collaborators", body("provider-account", "main", Some("provider-account-access")));
    assert_eq!(list("provider-account", "main").len(), 4);
    house.done("POST", "/collaborators", body("provider-account", "main", Some("provider-account-access")));
    house.done("DELETE", "/collaborators", body("provider-account", "main", None));
    assert_eq!(list("provider-account", "main"), main);
    assert_eq!(list("provider-integration", "main/gpt"), one);
    house.refused(404, "DELETE", "/collaborators", body("provider-account", "main", None));
    house.done("DELETE", "/collaborators", body("provider-integration", "main/gpt", None));
    assert_eq!(list("provider-integration", "main/gpt"), Vec::<String>::new());
    let revision = house.manage.store.snapshot().revision();
    for (status, kind, id, role) in [
        (422, "provider-account", "main", "provider-integration-access"),
        (422, "provider-account", "main", "owner"),
        (422, "provider-integration", "main/gpt", "provider-account-manager"),
        (422, "provider-integration", "main", "provider-integration-access"),
        (422, "provider-account", "main/gpt", "provider-account-access"),
        (422, "provider-integration", "main/none", "provider-integration-access"),
        (422, "provider-account", "none", "provider-account-access"),
        (422, "workspace", "main", "provider-account-access"),
        (404, "provider-account", "acme:demo:main", "provider-account-access"),
        (404, "provider-account", "other:openai:main", "provider-account-access"),
        (404, "provider-account", "acme:openai:main:x", "provider-account-access"),
    ] {
        house.refused(status, "POST", "/collaborators", body(kind, id, Some(role)));
    }
    house.refused(400, "POST", "/collaborators", body("provider-account", "main", None));
    house.refused(400, "GET", "/collaborators?resourceType=provider-account", Value::Null);
    assert_eq!(house.manage.store.snapshot().revision(), revision);
}

#[test]
fn ids_by_fqn() {
    let house = House::furnished();
    let id = |kind: &str, fqn: &str| house.done("GET", &format!("/fqn/{kind}?fqn={fqn}"), Value::Null);
    assert_eq!(id("provider-account", "acme:openai:main"), json!({"id": "main"}));
    assert_eq!(id("provider-integration", "acme:openai:main:model:gpt"), json!({"id": "main/gpt"}));
    assert_eq!(id("model", "acme%3Aopenai%3Amain%3Amodel%3Agpt"), json!({"id": "main/gpt"}));
    for (status, kind, fqn) in [
        (404, "provider-account", "acme:openai:none"),
        (404, "provider-account", "acme:demo:main"),
        (404, "provider-account", "acme:openai:main:model:gpt"),
        (404, "provider-integration", "acme:openai:main"),
        (404, "provider-integration", "acme:openai:main:model:none"),
        (404, "provider-account", "else:openai:main"),
        (404, "provider-account", "main"),
        (400, "workspace", "acme:openai:main"),
        (400, "provider-account", ""),
    ] {
        house.refused(status, "GET", &format!("/fqn/{kind}?fqn={fqn}"), Value::Null);
    }
    // A model that one may not use is not there, also on an account of which one may use another.
    house.done("POST", "/provider-accounts/other/models", json!({"manifest": super::model("two")}));
    house.done(
        "POST",
        "/grants",
        json!({"subject": "user:plain@x.io", "role": "provider-account-access", "target": "other/two"}),
    );
    let (_, _, plain) = house.token("plain@x.io", "key");
    for (model, status) in [("two", 200), ("gpt", 404)] {
        let fqn = format!("/fqn/provider-integration?fqn=acme:openai:other:model:{model}");
        assert_eq!(house.ask(&plain, "GET", &fqn, Value::Null).0, status, "{model}");
        let path = format!("/collaborators?resourceType=provider-integration&resourceId=other/{model}");
        assert_eq!(house.ask(&plain, "GET", &path, Value::Null).0, status, "{model}");
    }
}

#[test]
fn virtual_accounts_are_found_by_what_one_knows() {
    let house = House::furnished();
    let manifest = |name: &str, end: &str| json!({"manifest": {"type": "virtual-account", "name": name, "expiration_date": end, "permissions": [permission("main")]}});
    house.done("PUT", "/virtual-accounts", manifest("old-app", "2020-01-31"));
    house.done("PUT", "/virtual-accounts", manifest("new-bot", "2999-01-31"));
    let names = |query: &str| {
        let answer = house.done("GET", &format!("/virtual-accounts?{query}"), Value::Null);
        let rows = answer["data"].as_array().unwrap();
        assert_eq!(answer["pagination"]["total"], rows.len());
        rows.iter().map(|row| row["manifest"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(""), ["app", "new-bot", "old-app"]);
    assert_eq!(names("nameSearchQuery=APP"), ["app", "old-app"]);
    assert_eq!(names("isExpired=true"), ["old-app"]);
    assert_eq!(names("isExpired=false&nameSearchQuery=app"), ["app"]);
    assert_eq!(names("ownedByTeams=search,hidden"), Vec::<String>::new());
    house.refused(400, "GET", "/virtual-accounts?isExpired=perhaps", Value::Null);
    let exists =
        |name: &str| house.done("GET", &format!("/virtual-accounts/exists?name={name}"), Value::Null);
    assert_eq!(exists("app"), json!({"exists": true}));
    assert_eq!(exists("none"), json!({"exists": false}));
    house.refused(400, "GET", "/virtual-accounts/exists", Value::Null);
    house.refused(422, "PUT", "/virtual-accounts", manifest("exists", "2999-01-31"));
}

#[test]
fn who_one_is() {
    let house = House::furnished();
    let who = |name: &str| {
        let (_, _, principal) = house.token(name, "info");
        let (status, answer) = house.ask(&principal, "GET", "/x/users/info", Value::Null);
        assert_eq!(status, 200);
        for name in ["id", "subjectSlug", "subjectType", "roles", "teams", "accounts", "effectiveUserId"] {
            assert!(!answer[name].is_null(), "{name}: {answer}");
        }
        answer
    };
    let access = who("access@x.io");
    assert_eq!((&access["email"], &access["subjectType"]), (&json!("access@x.io"), &json!("user")));
    assert_eq!(access["roles"], json!(["tenant-member"]));
    assert_eq!(access["teams"], json!([{"name": "search", "id": "search"}]));
    assert_eq!(who("admin@x.io")["roles"], json!(["tenant-admin"]));
    let app = who("app");
    assert_eq!(
        (&app["subjectType"], &app["roles"], &app["teams"]),
        (&json!("virtualaccount"), &json!([]), &json!([]))
    );
    assert_eq!(house.ask(&LOCAL, "GET", "/x/users/info", Value::Null).1["roles"], json!(["tenant-admin"]));
}

#[test]
fn roles_are_the_built_in_ones() {
    let house = House::furnished();
    let ids = |path: &str| {
        let answer = house.done("GET", path, Value::Null);
        let id = |role: &Value| {
            for name in ["tenantName", "accountId", "resourceType", "manifest", "createdBySubject"] {
                assert!(!role[name].is_null(), "{name}: {role}");
            }
            assert_eq!((&role["isEditable"], &role["isReserved"]), (&json!(false), &json!(true)));
            role["id"].as_str().unwrap().to_owned()
        };
        answer["data"].as_array().unwrap().iter().map(id).collect::<Vec<_>>()
    };
    let all = ids("/roles");
    assert_eq!(all.len(), 7);
    assert_eq!(
        ids("/roles?resourceType=provider-account"),
        ["provider-account-manager", "provider-account-access"]
    );
    assert_eq!(ids("/roles?resourceType=none"), Vec::<String>::new());
    assert_eq!(ids("/roles?limit=2&offset=6"), all[6..]);
    assert_eq!(ids("/roles?offset=7"), Vec::<String>::new());
    for id in &all {
        assert_eq!(house.done("GET", &format!("/roles/{id}"), Value::Null)["data"]["id"], id.as_str());
    }
    house.refused(404, "GET", "/roles/none", Value::Null);
    let answer =
        house.done("POST", "/users/invite", json!({"email": "a@b.c", "acceptInviteClientUrl": "http://x"}));
    assert!(answer["link"].as_str().unwrap().starts_with("/invitation?email=a%40b.c&code="), "{answer}");
    assert_eq!(house.done("GET", "/users/a@b.c", Value::Null)["data"]["roles"], json!(["tenant-member"]));
    house.refused(422, "POST", "/users/invite", json!({"email": "nobody"}));
}

//! The fields without which public clients fail.

use serde_json::{Value, json};

use super::{House, LOCAL};

fn has(value: &Value, fields: &[&str]) {
    for field in fields {
        assert!(value.get(field).is_some_and(|value| !value.is_null()), "{field} in {value}");
    }
}

#[test]
fn required_fields_are_there() {
    let house = House::furnished();
    let get = |path: &str| house.done("GET", path, Value::Null);
    let version = house.call(None, "GET", "/min-cli-version", b"");
    has(&serde_json::from_str(&version.body).unwrap(), &["minVersion", "truefoundryCliMinVersion"]);
    let tenant = get("/tenant-id?hostName=gw.example.com%3A8080");
    assert_eq!(tenant, json!({"tenantName": "acme", "auth_server_url": "https://gw.example.com:8080"}));
    has(
        &get("/users/plain@x.io")["data"],
        &["id", "email", "tenantName", "metadata", "active", "isEditable", "createdAt", "updatedAt"],
    );
    has(
        &get("/teams/search")["data"],
        &[
            "id",
            "description",
            "tenantName",
            "accountId",
            "createdBySubject",
            "createdAt",
            "updatedAt",
            "manifest",
            "isEditable",
        ],
    );
    has(&get("/teams/search/members")["data"][0], &["subjectId", "subjectSlug", "subjectType"]);
    let account = &get("/provider-accounts/main")["data"];
    has(account, &["fqn", "provider", "manifest", "accountId", "name", "hasApiKey"]);
    assert_eq!(account["fqn"], "acme:openai:main");
    let model = &get("/provider-integrations?type=model&accountName=main")["data"][1];
    has(model, &["id", "name", "fqn", "type", "providerAccountFqn", "tenantName", "createdBySubject"]);
    assert_eq!(model["fqn"], "acme:openai:main:model:org/small");
    let virtual_account = &get("/virtual-accounts/app")["data"];
    has(
        virtual_account,
        &["id", "type", "tenantName", "createdBySubject", "createdAt", "updatedAt", "accountId", "manifest"],
    );
    for object in [account, model, virtual_account] {
        has(&object["createdBySubject"], &["subjectId", "subjectType", "subjectSlug"]);
    }
}

#[test]
fn sessions_name_their_subject() {
    let house = House::furnished();
    let (_, _, plain) = house.token("plain@x.io", "key");
    let (_, _, app) = house.token("app", "key");
    for (who, slug, kind) in
        [(&plain, "plain@x.io", "user"), (&app, "app", "virtualaccount"), (&LOCAL, "uid:0", "local")]
    {
        let (status, session) = house.ask(who, "GET", "/session?includeTenantInfo=true", Value::Null);
        assert_eq!(status, 200);
        has(&session["user"], &["id", "subjectSlug", "subjectType", "tenantName", "subject", "metadata"]);
        assert_eq!(session["user"]["subject"]["subjectSlug"], slug);
        assert_eq!(session["user"]["subjectType"], kind);
        assert_eq!(session["tenantInfo"]["tenantName"], "acme");
        assert_eq!(session["env"]["LLM_GATEWAY_URL"], "/api/llm");
    }
}

//! Provider accounts of every type: what goes in, what comes out, and what never does.

use serde_json::{Value, json};

use super::{House, LOCAL};
use crate::domain::{Credential, ProviderType};

/// Stands in every secret of a credential.
pub const MARK: &str = "MARK-5ecre7";

pub fn key_file(token_uri: &str) -> String {
    json!({
        "type": "service_account", "client_email": "a@p.iam.gserviceaccount.com", "private_key": MARK,
        "private_key_id": "k1", "token_uri": token_uri,
    })
    .to_string()
}

const GOOGLE_TOKENS: &str = "https://oauth2.googleapis.com/token";

/// An account of every type with every kind of credential that it takes.
pub fn accounts() -> Vec<Value> {
    let key = json!({"type": "api-key", "api_key": MARK});
    let bearer = json!({"type": "bearer-auth", "bearer_token": MARK});
    let basic = json!({"type": "basic-auth", "username": "u", "password": MARK});
    let header =
        json!({"type": "header", "headers": {"X-Key": MARK, "authorization": format!("Basic {MARK}")}});
    let entra =
        json!({"type": "client-secret", "tenant_id": "t-1", "client_id": "c-1", "client_secret": MARK});
    let aws = json!({"type": "access-key-based", "access_key_id": "AKIA1", "secret_access_key": MARK});
    let mut session = aws.clone();
    session["session_token"] = MARK.into();
    let role = json!({
        "type": "assumed-role-based", "assumed_role_arn": "arn:aws:iam::123456789012:role/r",
        "external_id": "e-1", "access_key_id": "AKIA1", "secret_access_key": MARK,
    });
    let google = json!({"type": "key-file", "key_file_content": key_file(GOOGLE_TOKENS)});
    let object: Value = serde_json::from_str(&key_file(GOOGLE_TOKENS)).unwrap();
    let google_object = json!({"type": "key-file", "key_file_content": object});
    let mut all = Vec::new();
    let mut add = |provider: &str, fields: Value, auth: &Value| {
        let provider_type = ProviderType::parse(provider).unwrap();
        let mut model = json!({
            "type": format!("integration/model/{}", provider_type.model_kind()), "name": "m", "model_id": "up/1",
            "model_types": ["chat"], "family": "f-1", "max_output_tokens": 100,
        });
        if provider == "self-hosted-model" {
            model["hosted_model_name"] = model.as_object_mut().unwrap().remove("model_id").unwrap();
            model["url"] = "https://vllm.example.com/v1".into();
            model["model_server"] = "vllm-openai".into();
            model["headers"] = json!({"x-org": "7"});
            model["auth_data"] = auth.clone();
        }
        let mut manifest = json!({
            "type": format!("provider-account/{provider}"), "name": format!("a{}", all.len()),
            "integrations": [model],
        });
        for (name, value) in fields.as_object().unwrap() {
            manifest[name] = value.clone();
        }
        if provider != "self-hosted-model" && !auth.is_null() {
            manifest["auth_data"] = auth.clone();
        }
        all.push(manifest);
    };
    let none = json!({});
    for word in [
        "openai",
        "openrouter",
        "groq",
        "mistral-ai",
        "together-ai",
        "xai",
        "cohere",
        "perplexity-ai",
        "deepinfra",
        "cerebras",
        "sambanova",
        "anthropic",
    ] {
        add(word, none.clone(), &key);
    }
    for auth in [&bearer, &basic, &header, &Value::Null] {
        add("openai", json!({"base_url": "http://10.0.0.5:8000/v1", "drop_unsupported": true}), auth);
        add("self-hosted-model", none.clone(), auth);
    }
    let azure = json!({"azure_endpoint": "https://r.openai.azure.com/openai/", "api_version": "2024-10-21"});
    for auth in [&key, &entra, &header] {
        add("azure-openai", azure.clone(), auth);
    }
    for auth in [&aws, &session, &role, &key] {
        add("aws-bedrock", json!({"region": "eu-central-1"}), auth);
    }
    add("google-gemini", none.clone(), &json!({"type": "api-key", "apiKey": MARK}));
    for auth in [&google, &google_object, &header] {
        add("google-vertex", json!({"region": "europe-west4", "project_id": "p-1"}), auth);
    }
    add("ollama", none, &json!({"custom_host": "http://10.0.0.6:11434"}));
    add("ollama", json!({"base_url": "http://10.0.0.6:11434/v1"}), &bearer);
    all
}

fn revision(house: &House) -> u64 {
    house.manage.store.snapshot().revision()
}

#[test]
fn every_type_goes_in_comes_out_and_goes_in_again() {
    let house = House::empty();
    let mut types = std::collections::BTreeSet::new();
    for manifest in accounts() {
        let name = manifest["name"].as_str().unwrap();
        types.insert(manifest["type"].clone().to_string());
        house.done("PUT", "/apply", json!({"manifest": manifest}));
        let after = revision(&house);
        // Applied again, it changes nothing.
        house.done("PUT", "/apply", json!({"manifest": manifest}));
        assert_eq!(revision(&house), after, "{manifest}");
        // Who sent the stored secret is told that it is the same, by the manifest that was there before.
        let told = house.said.lock().unwrap().pop().unwrap();
        assert_eq!(told.contains(MARK), manifest.to_string().contains(MARK), "{told}");

        let shown = house.done("GET", &format!("/provider-accounts/{name}"), Value::Null);
        let shown = shown["data"]["manifest"].clone();
        let exported = house.done("GET", &format!("/manifests/provider-account/{name}"), Value::Null);
        let exported = exported["manifest"].clone();
        for again in [&shown, &exported] {
            assert_eq!(again["type"], manifest["type"]);
            house.done("PUT", "/apply", json!({"manifest": again}));
            let world = house.manage.store.snapshot();
            let account = world.account(name).unwrap();
            let own = account.for_model("m");
            let has_auth = manifest["auth_data"]["type"].is_string()
                || manifest["integrations"][0]["auth_data"].is_object();
            assert_eq!(own.credential.is_some(), has_auth, "{again}");
            if let Some(credential) = &own.credential {
                assert!(credential.to_text().expose().contains(MARK));
            }
            assert!(!format!("{account:?}").contains(MARK));
            let model = &account.spec.models["m"];
            assert_eq!((model.model_id.as_str(), model.settings.max_output_tokens), ("up/1", Some(100)));
        }
        // The masks mean what is stored: only the manifest as it was applied has changed.
        house.done("PUT", "/apply", json!({"manifest": shown}));
        let after = revision(&house);
        house.done("PUT", "/apply", json!({"manifest": shown}));
        assert_eq!(revision(&house), after, "{shown}");
    }
    assert_eq!(types.len(), ProviderType::ALL.len() - 1, "a type has no manifest here: {types:?}");
    house.done("GET", "/audit?limit=1000", Value::Null);
    house.done("GET", "/provider-accounts?limit=100", Value::Null);
    house.done("GET", "/provider-integrations?limit=100", Value::Null);
    house.never_said(&[MARK]);
}

#[test]
fn default_places_and_their_names() {
    let house = House::empty();
    for (manifest, want) in [
        (json!({"type": "provider-account/anthropic"}), "https://api.anthropic.com/v1"),
        (
            json!({"type": "provider-account/google-gemini"}),
            "https://generativelanguage.googleapis.com/v1beta",
        ),
        (json!({"type": "provider-account/ollama"}), "http://127.0.0.1:11434/v1"),
        (
            json!({"type": "provider-account/ollama", "auth_data": {"custom_host": "http://h:1/x/"}}),
            "http://h:1/x",
        ),
        (
            json!({"type": "provider-account/aws-bedrock", "region": "us-east-1"}),
            "https://bedrock-runtime.us-east-1.amazonaws.com",
        ),
        (
            json!({"type": "provider-account/aws-bedrock", "region": "us-east-1", "base_url": "https://vpce.x.io"}),
            "https://vpce.x.io",
        ),
        (
            json!({"type": "provider-account/google-vertex", "region": "global", "project_id": "p"}),
            "https://aiplatform.googleapis.com/v1",
        ),
        (
            json!({"type": "provider-account/azure-openai", "azure_endpoint": "https://r.x.io/openai"}),
            "https://r.x.io",
        ),
        (
            json!({"type": "provider-account/azure-openai", "base_url": "https://r.x.io/p/openai/v1/"}),
            "https://r.x.io/p",
        ),
    ] {
        let mut manifest = manifest;
        manifest["name"] = "one".into();
        let made = house.done("PUT", "/provider-accounts", json!({"manifest": manifest}));
        assert_eq!(made["data"]["baseUrl"], want, "{manifest}");
        house.done("DELETE", "/provider-accounts/one", Value::Null);
    }
}

#[test]
fn a_credential_goes_along_to_the_same_place_only() {
    let house = House::empty();
    for manifest in accounts() {
        let name = manifest["name"].as_str().unwrap();
        let path = format!("/provider-accounts/{name}");
        let auth = &manifest["auth_data"];
        if !auth["type"].is_string() {
            continue;
        }
        house.done("PUT", "/apply", json!({"manifest": manifest}));
        let elsewhere = json!({"base_url": "https://evil.example.com/v1"});
        let message = house.refused(422, "PATCH", &path, elsewhere.clone());
        assert!(message.contains("auth_data"), "{message}");
        let mut moved = manifest.clone();
        let url = if moved["azure_endpoint"].is_string() { "azure_endpoint" } else { "base_url" };
        moved[url] = "https://evil.example.com/v1".into();
        if moved["auth_data"]["custom_host"].is_string() {
            moved["auth_data"].as_object_mut().unwrap().remove("custom_host");
        }
        moved.as_object_mut().unwrap().remove("auth_data");
        house.refused(422, "PUT", "/apply", json!({"manifest": moved}));
        if manifest["region"].is_string() {
            house.refused(422, "PATCH", &path, json!({"region": "us-west-2"}));
            let moved = house.done("PATCH", &path, json!({"region": "us-west-2", "auth_data": auth}));
            assert!(moved["data"]["baseUrl"].as_str().unwrap().contains("us-west-2"), "{moved}");
        }
        let mut sent = elsewhere;
        sent["auth_data"] = auth.clone();
        house.done("PATCH", &path, sent);
        // The removal needs no credential, and then there is none to keep.
        house.done("PUT", &format!("{path}/credential"), json!({"auth_data": null}));
        assert!(house.manage.store.snapshot().account(name).unwrap().credential.is_none());
        let shown = house.done("PATCH", &path, json!({"base_url": "https://third.example.com/v1"}));
        assert_eq!(shown["data"]["hasApiKey"], false);
        house.done("PUT", &format!("{path}/credential"), json!({"auth_data": auth}));
        assert!(house.manage.store.snapshot().account(name).unwrap().credential.is_some());
    }
    house.never_said(&[MARK]);
}

#[test]
fn what_stands_beside_a_masked_secret_is_bound_to_it() {
    let house = House::empty();
    for (kind, field) in [
        ("basic-auth", "username"),
        ("client-secret", "tenant_id"),
        ("access-key-based", "access_key_id"),
        ("assumed-role-based", "external_id"),
        ("header", "headers"),
    ] {
        let manifest = accounts().into_iter().find(|one| one["auth_data"]["type"] == kind).unwrap();
        house.done("PUT", "/apply", json!({"manifest": manifest}));
        let path = format!("/provider-accounts/{}", manifest["name"].as_str().unwrap());
        let mut shown = house.done("GET", &path, Value::Null)["data"]["manifest"].clone();
        shown["auth_data"][field] =
            if field == "headers" { json!({"x-other": "***"}) } else { json!("other") };
        let message = house.refused(422, "PUT", "/apply", json!({"manifest": shown}));
        assert!(message.contains("sent again"), "{message}");
        let body = json!({"auth_data": shown["auth_data"]});
        house.refused(422, "PUT", &format!("{path}/credential"), body);
    }
    // A plain key does not stand for another kind.
    let manifest = accounts().remove(0);
    house.done("PUT", "/apply", json!({"manifest": manifest}));
    let mut other = manifest;
    other["auth_data"] = json!({"type": "bearer-auth", "bearer_token": "***"});
    house.refused(422, "PUT", "/apply", json!({"manifest": other}));
    // Both at once are none.
    let both = json!({"api_key": "k", "auth_data": {"type": "api-key", "api_key": "k"}});
    house.refused(400, "PUT", "/provider-accounts/a0/credential", both);
    house.refused(400, "PUT", "/provider-accounts/a0/credential", json!({}));
}

#[test]
fn models_of_one_account_can_be_elsewhere() {
    let house = House::empty();
    let model = |name: &str, url: Value, auth: Value| {
        json!({
            "type": "integration/model/self-hosted-model", "name": name, "hosted_model_name": "q",
            "model_types": ["chat"], "url": url, "auth_data": auth,
        })
    };
    let key = json!({"type": "bearer-auth", "bearer_token": MARK});
    let mut manifest = json!({
        "type": "provider-account/self-hosted-model", "name": "hosts", "base_url": "http://10.0.0.1/v1",
        "auth_data": {"type": "api-key", "api_key": "of-the-account"},
        "integrations": [
            model("here", Value::Null, Value::Null),
            model("there", json!("http://10.0.0.2/v1"), key.clone()),
            model("open", json!("http://10.0.0.3/v1"), Value::Null),
        ],
    });
    house.done("PUT", "/apply", json!({"manifest": manifest}));
    let place = |name: &str| {
        let world = house.manage.store.snapshot();
        let account = world.account("hosts").unwrap();
        let route = crate::catalog::resolve(&format!("hosts/{name}"), &world).unwrap();
        assert_eq!((route.model_id(), route.resolved_name()), ("q", format!("hosts/{name}")));
        assert_eq!(route.account.revision, account.revision);
        let key = route.account.api_key().map(|key| key.expose().to_owned());
        (route.account.endpoint.host.clone(), key, route.account.pool_key.to_string())
    };
    // The account's credential never goes to a model's own server.
    assert_eq!(place("here"), ("10.0.0.1".into(), Some("of-the-account".into()), "hosts".into()));
    assert_eq!(place("there"), ("10.0.0.2".into(), Some(MARK.into()), "hosts/there".into()));
    assert_eq!(place("open"), ("10.0.0.3".into(), None, "hosts/open".into()));

    // A model's credential stays with its place, as an account's does.
    manifest["integrations"][1]["auth_data"] = json!({"type": "bearer-auth", "bearer_token": "***"});
    house.done("PUT", "/apply", json!({"manifest": manifest}));
    manifest["integrations"][1]["url"] = "http://10.6.6.6/v1".into();
    let message = house.refused(422, "PUT", "/apply", json!({"manifest": manifest}));
    assert!(message.contains("integrations[1].auth_data"), "{message}");
    // Nor does it go to another model.
    manifest["integrations"][1]["name"] = "renamed".into();
    house.refused(422, "PUT", "/apply", json!({"manifest": manifest}));
    manifest["integrations"][1]["auth_data"] = key;
    house.done("PUT", "/apply", json!({"manifest": manifest}));
    assert_eq!(place("renamed").0, "10.6.6.6");

    // Who may only use the models hears nothing of where they are.
    house.done("POST", "/users/register", json!({"email": "u@x.io", "role": "member"}));
    house.done("POST", "/grants", json!({"subject": "user:u@x.io", "role": "access", "target": "hosts"}));
    let (_, _, user) = house.token("u@x.io", "laptop");
    for path in ["/provider-accounts", "/provider-integrations?type=model", "/provider-accounts/hosts"] {
        let (status, seen) = house.ask(&user, "GET", path, Value::Null);
        assert!(status == 200 && !seen.to_string().contains("10.0.0"), "{seen}");
    }
    house.never_said(&[MARK]);
}

#[test]
fn a_model_has_a_region_of_its_own() {
    let house = House::empty();
    let model = |name: &str, region: Value| {
        json!({
            "type": "integration/model/bedrock", "name": name, "model_id": "anthropic.claude-v1:0",
            "model_types": ["chat"], "region": region,
        })
    };
    let mut manifest = json!({
        "type": "provider-account/aws-bedrock", "name": "aws", "region": "eu-central-1",
        "auth_data": {"type": "api-key", "api_key": MARK},
        "integrations": [model("near", Value::Null), model("far", json!("us-east-1"))],
    });
    house.done("PUT", "/apply", json!({"manifest": manifest}));
    let host = |name: &str| {
        let world = house.manage.store.snapshot();
        let account = world.account("aws").unwrap();
        let model = &account.spec.models[name];
        let region = account.spec.region_of(model).unwrap().to_owned();
        (account.for_model(name).endpoint.host.clone(), region)
    };
    assert_eq!(host("near"), ("bedrock-runtime.eu-central-1.amazonaws.com".into(), "eu-central-1".into()));
    assert_eq!(host("far"), ("bedrock-runtime.us-east-1.amazonaws.com".into(), "us-east-1".into()));
    // A private link serves them all.
    manifest["base_url"] = "https://vpce.example.com".into();
    house.done("PUT", "/apply", json!({"manifest": manifest}));
    assert_eq!(host("far"), ("vpce.example.com".into(), "us-east-1".into()));
}

#[test]
fn managers_may_not_choose_what_is_for_administrators() {
    let house = House::furnished();
    let (_, _, keeper) = house.token("keeper@x.io", "laptop");
    let hosts = json!({"type": "provider-account/self-hosted-model", "name": "hosts", "integrations": []});
    house.done("PUT", "/apply", json!({"manifest": hosts}));
    let vertex = json!({
        "type": "provider-account/google-vertex", "name": "vertex", "region": "eu", "project_id": "p",
        "integrations": [],
    });
    house.done("PUT", "/apply", json!({"manifest": vertex}));
    for account in ["hosts", "vertex"] {
        let grant =
            json!({"subject": "user:keeper@x.io", "role": "provider-account-manager", "target": account});
        house.done("POST", "/grants", grant);
    }
    let model = |url: &str| {
        json!({"manifest": {
            "name": "m", "hosted_model_name": "q", "model_types": ["chat"], "url": url,
        }})
    };
    let path = "/provider-accounts/hosts/models";
    for local in ["http://127.0.0.1/v1", "http://localhost:1/v1", "http://169.254.169.254/"] {
        assert_eq!(house.ask(&keeper, "POST", path, model(local)).0, 403, "{local}");
    }
    assert_eq!(house.ask(&keeper, "POST", path, model("http://10.0.0.2/v1")).0, 200);
    let path = "/provider-accounts/vertex/credential";
    for (uri, want) in [
        ("http://127.0.0.1:1/token", 403),
        ("https://tokens.example.com/", 403),
        ("https://googleapis.com.example.com/", 403),
        ("https://oauth2.googleapis.com:444/token", 403),
        (GOOGLE_TOKENS, 200),
    ] {
        let body = json!({"auth_data": {"type": "key-file", "key_file_content": key_file(uri)}});
        assert_eq!(house.ask(&keeper, "PUT", path, body).0, want, "{uri}");
    }
    let body =
        json!({"auth_data": {"type": "key-file", "key_file_content": key_file("http://127.0.0.1:1/token")}});
    assert_eq!(house.ask(&LOCAL, "PUT", path, body).0, 200);
}

#[test]
fn the_machines_own_credentials_are_for_those_who_allow_them() {
    let mut house = House::empty();
    let machine = json!({"type": "machine"});
    let role = json!({"type": "assumed-role-based", "assumed_role_arn": "arn:aws:iam::1:role/r"});
    let account = |auth: &Value| {
        json!({"manifest": {
            "type": "provider-account/aws-bedrock", "name": "aws", "region": "eu-central-1", "auth_data": auth,
        }})
    };
    for auth in [&machine, &role] {
        let message = house.refused(422, "PUT", "/apply", account(auth));
        assert!(message.contains("aws_machine_credentials"), "{message}");
    }
    house.manage.aws_machine_credentials = true;
    for auth in [&machine, &role] {
        house.done("PUT", "/apply", account(auth));
        let world = house.manage.store.snapshot();
        assert!(world.account("aws").unwrap().credential.as_ref().is_some_and(Credential::needs_machine));
    }
}

#[test]
fn settings_are_changed_one_by_one() {
    let house = House::empty();
    let azure = json!({
        "type": "provider-account/azure-openai", "name": "az", "azure_endpoint": "https://r.openai.azure.com",
    });
    house.done("POST", "/provider-accounts", json!({"manifest": azure}));
    let path = "/provider-accounts/az";
    let changed = house.done("PATCH", path, json!({"api_version": "2024-10-21", "drop_unsupported": true}));
    assert_eq!(changed["data"]["manifest"]["api_version"], "2024-10-21");
    assert_eq!(changed["data"]["manifest"]["drop_unsupported"], true);
    let changed = house.done("PATCH", path, json!({"api_version": null, "drop_unsupported": null}));
    assert!(changed["data"]["manifest"].get("api_version").is_none());
    for wrong in [
        json!({"region": "eu"}),
        json!({"project_id": "p"}),
        json!({"api_version": "a b"}),
        json!({"api_version": "?x"}),
        json!({"client_key": "k"}),
        json!({"client_certificate": "c"}),
    ] {
        house.refused(422, "PATCH", path, wrong);
    }
    house.refused(400, "PATCH", path, json!({"auth_data": {"type": "magic"}}));
    house.refused(400, "PATCH", path, json!({"drop_unsupported": "x"}));
}

//! What provider accounts may not be.

use serde_json::{Value, json};

use super::House;
use super::accounts::{MARK, accounts, key_file};

#[test]
fn what_can_not_be_used_is_refused_by_its_path() {
    let house = House::empty();
    let key_file_in = |uri: &str| json!({"type": "key-file", "key_file_content": key_file(uri)});
    let long = "k".repeat(20_000);
    let cases: Vec<(&str, &str, Value, &str)> = vec![
        ("openai", "/region", json!("eu"), "region"),
        ("openai", "/project_id", json!("p"), "project_id"),
        ("openai", "/api_version", json!("v1"), "api_version"),
        ("openai", "/azure_endpoint", json!("https://x.io"), "azure_endpoint"),
        ("openai", "/drop_unsupported", json!("yes"), "drop_unsupported"),
        ("openai", "/auth_data", json!({}), "auth_data.type"),
        ("openai", "/auth_data", json!({"custom_host": "http://x"}), "auth_data.type"),
        ("openai", "/auth_data/api_key", json!(""), "auth_data.api_key"),
        ("openai", "/auth_data/api_key", json!("a b"), "auth_data.api_key"),
        ("openai", "/auth_data/api_key", json!("a\r\nb"), "auth_data.api_key"),
        ("openai", "/auth_data/api_key", json!(long), "auth_data.api_key"),
        ("openai", "/auth_data/api_key", json!(7), "auth_data.api_key"),
        ("openai", "/auth_data/api_key", json!("***"), "auth_data.api_key"),
        ("openai", "/auth_data/bearer_token", json!("x"), "auth_data.bearer_token"),
        ("openai", "/auth_data", json!({"type": "machine"}), "auth_data.type"),
        ("openai", "/auth_data", json!({"type": "basic-auth", "password": "p"}), "auth_data.username"),
        (
            "openai",
            "/auth_data",
            json!({"type": "basic-auth", "username": "a:b", "password": "p"}),
            "auth_data.username",
        ),
        (
            "openai",
            "/auth_data",
            json!({"type": "basic-auth", "username": "a", "password": "p\n"}),
            "auth_data.password",
        ),
        ("openai", "/auth_data", json!({"type": "header", "headers": {}}), "auth_data"),
        ("openai", "/auth_data", json!({"type": "header", "headers": {"host": "x"}}), "auth_data.headers"),
        ("openai", "/auth_data", json!({"type": "header", "headers": {"a b": "x"}}), "auth_data.headers"),
        (
            "openai",
            "/auth_data",
            json!({"type": "header", "headers": {"a": "x\r\ny: z"}}),
            "auth_data.headers",
        ),
        (
            "openai",
            "/auth_data",
            json!({"type": "header", "headers": {"a": "x", "A": "y"}}),
            "auth_data.headers",
        ),
        (
            "openai",
            "/auth_data",
            json!({"type": "header", "headers": {"a": "x", "b": "***"}}),
            "auth_data.type",
        ),
        ("openai", "/auth_data", json!({"type": "header", "headers": ["x"]}), "auth_data.headers"),
        (
            "openai",
            "/tls_settings",
            json!({"reject_unauthorized": false}),
            "tls_settings.reject_unauthorized",
        ),
        ("openai", "/tls_settings", json!({"ca_cert": "none"}), "ca_certificates"),
        ("openai", "/tls_settings", json!({"client_cert": "x"}), "tls_settings"),
        ("openai", "/tls_settings", json!({"client_key": "x"}), "tls_settings.client_cert"),
        ("openai", "/tls_settings", json!({"client_cert": "x", "client_key": "y"}), "tls_settings"),
        ("openai", "/tls_settings", json!({"verify": true}), "tls_settings.verify"),
        ("openai", "/integrations/0/region", json!("eu"), "integrations[0].region"),
        ("openai", "/integrations/0/url", json!("https://x.io"), "integrations[0].url"),
        ("openai", "/integrations/0/hosted_model_name", json!("x"), "integrations[0].hosted_model_name"),
        ("openai", "/integrations/0/family", json!("a b"), "integrations[0].family"),
        ("openai", "/integrations/0/max_output_tokens", json!(0), "integrations[0].max_output_tokens"),
        ("openai", "/integrations/0/max_output_tokens", json!(-1), "integrations[0].max_output_tokens"),
        ("openai", "/integrations/0/type", json!("integration/model/anthropic"), "integrations[0].type"),
        ("openai", "/integrations/0/type", Value::Null, "integrations[0].type"),
        ("azure-openai", "/azure_endpoint", Value::Null, "azure_endpoint"),
        ("azure-openai", "/base_url", json!("https://other.x.io"), "base_url"),
        ("azure-openai", "/api_version", json!("a&b=c"), "api_version"),
        ("azure-openai", "/auth_data", json!({"type": "certificate"}), "not supported"),
        ("azure-openai", "/auth_data", json!({"type": "workload-identity"}), "not supported"),
        (
            "azure-openai",
            "/auth_data",
            json!({"type": "client-secret", "tenant_id": "../x", "client_id": "c", "client_secret": "s"}),
            "auth_data.tenant_id",
        ),
        ("azure-openai", "/integrations/0/deployment_type", json!("big"), "integrations[0].deployment_type"),
        ("anthropic", "/auth_data", json!({"type": "basic-auth"}), "auth_data.type"),
        ("aws-bedrock", "/region", Value::Null, "region"),
        ("aws-bedrock", "/region", json!("x.evil.io/"), "region"),
        ("aws-bedrock", "/region", json!("-"), "region"),
        ("aws-bedrock", "/region", json!("EU"), "region"),
        ("aws-bedrock", "/auth_data", json!({"type": "access-key-based"}), "auth_data.access_key_id"),
        (
            "aws-bedrock",
            "/auth_data",
            json!({"type": "assumed-role-based", "assumed_role_arn": "role/x"}),
            "auth_data.assumed_role_arn",
        ),
        ("aws-bedrock", "/integrations/0/region", json!("a.b"), "integrations[0].region"),
        ("google-vertex", "/project_id", Value::Null, "project_id"),
        ("google-vertex", "/project_id", json!("a/b"), "project_id"),
        ("google-vertex", "/region", Value::Null, "region"),
        ("google-vertex", "/auth_data", json!({"type": "api-key", "api_key": "k"}), "auth_data.type"),
        (
            "google-vertex",
            "/auth_data",
            json!({"type": "workload-identity-federation-file", "key_file_content": "x"}),
            "not supported",
        ),
        ("google-vertex", "/auth_data/key_file_content", json!("no JSON"), "auth_data.key_file_content"),
        ("google-vertex", "/auth_data/key_file_content", json!({}), "auth_data.key_file_content"),
        ("google-vertex", "/auth_data/key_file_content", json!([]), "auth_data.key_file_content"),
        ("google-vertex", "/auth_data", key_file_in("http://far.example.com/"), "auth_data.key_file_content"),
        ("google-vertex", "/auth_data", key_file_in("file:///etc/passwd"), "auth_data.key_file_content"),
        ("google-gemini", "/auth_data", json!({"type": "api-key"}), "auth_data.apiKey"),
        ("ollama", "/base_url", json!("http://10.9.9.9"), "base_url"),
        ("ollama", "/auth_data/custom_host", json!(7), "auth_data.custom_host"),
        ("ollama", "/auth_data/custom_host", json!("ftp://x"), "base_url"),
        ("self-hosted-model", "/integrations/0/url", Value::Null, "integrations[0]."),
        ("self-hosted-model", "/integrations/0/url", json!("x"), "integrations[0].url"),
        ("self-hosted-model", "/integrations/0/model_server", json!("x"), "integrations[0].model_server"),
        ("self-hosted-model", "/integrations/0/model_id", json!("x"), "integrations[0].model_id"),
        (
            "self-hosted-model",
            "/integrations/0/headers",
            json!({"authorization": "x"}),
            "integrations[0].headers",
        ),
        (
            "self-hosted-model",
            "/integrations/0/tls_settings",
            json!({"reject_unauthorized": false}),
            "integrations[0].tls_settings.reject_unauthorized",
        ),
        (
            "self-hosted-model",
            "/integrations/0/tls_settings",
            json!({"client_cert": "x"}),
            "integrations[0].tls_settings.client_cert",
        ),
        (
            "self-hosted-model",
            "/integrations/0/auth_data",
            json!({"type": "api-key", "api_key": "***"}),
            "integrations[0].auth_data.api_key",
        ),
    ];
    let all = accounts();
    for (provider, pointer, value, want) in cases {
        let kind = format!("provider-account/{provider}");
        let mut manifest = all.iter().find(|one| one["type"] == kind.as_str()).unwrap().clone();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        let parent = if parent.is_empty() { &mut manifest } else { manifest.pointer_mut(parent).unwrap() };
        parent[field] = value;
        let message = house.refused(422, "PUT", "/apply", json!({"manifest": manifest}));
        assert!(message.contains(want), "{provider} {pointer}: {message}");
    }
    house.never_said(&[MARK]);
}

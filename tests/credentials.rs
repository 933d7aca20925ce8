//! What the gateway shows to providers, and whom it asks for it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails loudly and may block its own thread"
)]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::issuers::{self, ISSUED_SECRET, Issuers};
use support::{Answer, CHAT_ANSWER, Client, Gateway, Home, Provider, Received, chat};

const HOUR: Duration = Duration::from_secs(3600);
/// A secret of every stored credential here.
const STORED: &str = "STORED-SECRET-4be1";
const CONVERSE_ANSWER: &str = r#"{"output":{"message":{"role":"assistant","content":[{"text":"hello"}]}},"stopReason":"end_turn","usage":{"inputTokens":9,"outputTokens":12,"totalTokens":21}}"#;
const GEMINI_ANSWER: &str = r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"hello"}]},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":12,"totalTokenCount":21}}"#;

/// A gateway with one account of this type and credential, and Ada's token.
struct House {
    gateway: Gateway,
    token: String,
}

impl House {
    fn new(config: &str, issuers: &Issuers<'_>, create: &[&str], model_id: &str, credential: &Value) -> Self {
        let home = Home::new(config);
        let file = home.path("credential.json");
        std::fs::write(&file, credential.to_string()).unwrap();
        let gateway = home.serve_with(&issuers.variables());
        let mut arguments = vec!["provider", "create", "main", "--credential-file", file.to_str().unwrap()];
        arguments.extend_from_slice(create);
        gateway.admin_ok(&arguments);
        gateway.admin_ok(&["model", "add", "main/m", "--model-id", model_id]);
        gateway.admin_ok(&["user", "create", "ada@example.com"]);
        gateway.admin_ok(&["grant", "user:ada@example.com", "provider-account-access", "main"]);
        let token = gateway.user_token("ada@example.com");
        Self { gateway, token }
    }

    fn call(&self) -> support::Response {
        let body = chat("main/m", "");
        Client::connect(self.gateway.addr).post("/v1/chat/completions", &self.token, body.as_bytes())
    }

    fn call_ok(&self) {
        let response = self.call();
        assert_eq!(response.status, 200, "{}", response.text());
        assert_eq!(response.json()["choices"][0]["message"]["content"], "hello");
    }

    /// Nothing secret was said anywhere.
    fn end(self) {
        for arguments in [&["provider", "show", "main"][..], &["audit", "list"]] {
            let shown = self.gateway.admin_ok(arguments);
            assert!(!shown.contains(ISSUED_SECRET) && !shown.contains(STORED), "{shown}");
        }
        let log = self.gateway.stop_and_log();
        assert!(!log.contains(ISSUED_SECRET) && !log.contains(STORED), "{log}");
    }
}

/// A provider that takes what `is_right` does, and refuses the rest with a 401 that echoes it.
fn strict(body: &'static str, is_right: impl Fn(&Received) -> bool + Send + Sync + 'static) -> Provider {
    Provider::start(move |request: &Received, answer: &mut Answer<'_>| {
        if is_right(request) {
            answer.json(200, body);
        } else {
            answer.json(401, &json!({"error": {"message": request.head}}).to_string());
        }
    })
}

fn entra(entra: &Provider, provider: &Provider) -> House {
    let credential = json!({
        "type": "client-secret", "tenant_id": "my-tenant", "client_id": "my-client", "client_secret": STORED,
    });
    let issuers = Issuers { entra: Some(entra), ..Issuers::default() };
    let url = provider.base_url();
    House::new("", &issuers, &["--type", "azure-openai", "--base-url", &url], "my-deployment", &credential)
}

#[test]
fn entra_gives_one_token_for_many_calls() {
    let issuer = issuers::oauth(HOUR);
    let wanted = format!("Bearer {}", issuers::bearer(0));
    let provider = strict(CHAT_ANSWER, move |request| {
        request.header("authorization").as_ref() == Some(&wanted) && request.header("api-key").is_none()
    });
    let house = entra(&issuer, &provider);
    assert_eq!(issuer.connection_count(), 0, "nobody is asked before there is a call");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| house.call_ok());
        }
    });
    let asked = issuer.only_request();
    assert_eq!(asked.path(), "/my-tenant/oauth2/v2.0/token");
    assert_eq!(issuers::field(&asked, "client_id").as_deref(), Some("my-client"));
    assert_eq!(issuers::field(&asked, "client_secret").as_deref(), Some(STORED));
    assert_eq!(provider.request_count(), 8);
    house.end();
}

#[test]
fn a_token_that_is_about_to_end_is_not_shown() {
    let issuer = issuers::oauth(Duration::from_secs(1));
    let provider = strict(CHAT_ANSWER, |_| true);
    let house = entra(&issuer, &provider);
    for number in 0..3 {
        house.call_ok();
        let shown = provider.requests()[number].header("authorization").unwrap();
        assert_eq!(shown, format!("Bearer {}", issuers::bearer(number)));
    }
    assert_eq!(issuer.request_count(), 3);
    house.end();
}

#[test]
fn a_token_that_the_provider_refuses_is_fetched_anew_once() {
    let issuer = issuers::oauth(HOUR);
    let wanted = format!("Bearer {}", issuers::bearer(1));
    let provider =
        strict(CHAT_ANSWER, move |request| request.header("authorization").as_ref() == Some(&wanted));
    let house = entra(&issuer, &provider);
    house.call_ok();
    house.call_ok();
    assert_eq!((issuer.request_count(), provider.request_count()), (2, 3));
    house.end();
}

#[test]
fn a_provider_that_refuses_every_token_is_a_502_and_no_storm() {
    let issuer = issuers::oauth(HOUR);
    let provider = strict(CHAT_ANSWER, |_| false);
    let house = entra(&issuer, &provider);
    for _ in 0..5 {
        let response = house.call();
        response.assert_error(502);
        assert!(response.text().contains("'main'") && !response.text().contains(ISSUED_SECRET));
    }
    assert_eq!((issuer.request_count(), provider.request_count()), (2, 6));
    house.end();
}

#[test]
fn an_issuer_that_refuses_is_a_502_that_says_what_to_check() {
    let issuer = issuers::refusing_oauth();
    let provider = strict(CHAT_ANSWER, |_| true);
    let house = entra(&issuer, &provider);
    for _ in 0..3 {
        let response = house.call();
        response.assert_error(502);
        let text = response.text();
        assert!(text.contains("'main' (status 400, invalid_client); check tenant, client id"), "{text}");
        assert!(!text.contains(ISSUED_SECRET) && !text.contains(STORED), "{text}");
    }
    assert_eq!(provider.connection_count(), 0);
    house.end();
}

#[test]
fn an_issuer_that_is_not_there_is_a_502() {
    let provider = strict(CHAT_ANSWER, |_| true);
    let issuer = Provider::on_connection(|connection| connection.close());
    let house = entra(&issuer, &provider);
    let response = house.call();
    response.assert_error(502);
    assert!(response.text().contains("no connection to Microsoft Entra"), "{}", response.text());
    house.end();
}

#[test]
fn a_caller_who_leaves_ends_the_question() {
    let issuer = Provider::start(|_, answer| answer.hold());
    let provider = strict(CHAT_ANSWER, |_| true);
    let house = entra(&issuer, &provider);
    let mut caller = Client::connect(house.gateway.addr);
    caller.send_post("/v1/chat/completions", &house.token, chat("main/m", "").as_bytes());
    issuer.wait_for_request(0);
    let left = caller.hang_up();
    issuer.assert_closed_within_250_ms(0, left);
    assert_eq!(provider.connection_count(), 0);
    house.end();
}

/// What a signed request to Bedrock has to show.
fn is_signed(request: &Received, id: &str, has_token: bool) -> bool {
    let authorization = request.header("authorization").unwrap_or_default();
    let token = request.header("x-amz-security-token");
    let wanted = has_token.then(|| format!("{ISSUED_SECRET}-session"));
    authorization.starts_with(&format!("AWS4-HMAC-SHA256 Credential={id}/"))
        && authorization.contains("/eu-west-1/bedrock/aws4_request, ")
        && authorization.contains("x-amz-security-token") == has_token
        && token == wanted
}

fn bedrock(config: &str, issuers: &Issuers<'_>, provider: &Provider, credential: &Value) -> House {
    let url = format!("http://{}", provider.addr);
    let create = ["--type", "aws-bedrock", "--region", "eu-west-1", "--base-url", &url];
    House::new(config, issuers, &create, "amazon.nova-lite-v1:0", credential)
}

const MACHINE: &str = "upstream.aws_machine_credentials = true\n";

#[test]
fn stored_aws_keys_sign() {
    let provider = strict(CONVERSE_ANSWER, |request| is_signed(request, "AKIASTORED", false));
    let credential =
        json!({"type": "access-key-based", "access_key_id": "AKIASTORED", "secret_access_key": STORED});
    let house = bedrock("", &Issuers::default(), &provider, &credential);
    house.call_ok();
    assert_eq!(provider.only_request().path(), "/model/amazon.nova-lite-v1%3A0/converse");
    house.end();
}

#[test]
fn a_role_is_assumed_once_and_signs() {
    let sts = issuers::sts(HOUR);
    let provider = strict(CONVERSE_ANSWER, |request| is_signed(request, "ASIASTS0", true));
    let credential = json!({
        "type": "assumed-role-based", "assumed_role_arn": "arn:aws:iam::123456789012:role/r",
        "external_id": "ext-1", "access_key_id": "AKIASTORED", "secret_access_key": STORED,
    });
    let issuers = Issuers { sts: Some(&sts), ..Issuers::default() };
    let house = bedrock("", &issuers, &provider, &credential);
    house.call_ok();
    house.call_ok();
    let asked = sts.only_request();
    assert!(asked.header("authorization").unwrap().contains("Credential=AKIASTORED/"));
    assert_eq!(issuers::field(&asked, "ExternalId").as_deref(), Some("ext-1"));
    house.end();
}

#[test]
fn the_instances_keys_sign_where_the_configuration_allows_it() {
    let (instance, container) = (issuers::instance(HOUR), issuers::container(HOUR));
    let instances = Issuers { instance: Some(&instance), ..Issuers::default() };
    let provider = strict(CONVERSE_ANSWER, |request| is_signed(request, "ASIAINSTANCE", true));
    let house = bedrock(MACHINE, &instances, &provider, &json!({"type": "machine"}));
    house.call_ok();
    house.call_ok();
    assert_eq!(instance.request_count(), 3);
    house.end();
    // A container's are taken before an instance's.
    let containers = Issuers { container: Some(&container), ..instances };
    let provider = strict(CONVERSE_ANSWER, |request| is_signed(request, "ASIACONTAINER", true));
    let house = bedrock(MACHINE, &containers, &provider, &json!({"type": "machine"}));
    house.call_ok();
    assert_eq!((container.request_count(), instance.request_count()), (1, 3));
    house.end();
}

#[test]
fn google_changes_an_assertion_for_a_token() {
    let issuer = issuers::oauth(HOUR);
    let Some(file) = support::vectors::service_account_file(&format!("http://{}/token", issuer.addr)) else {
        return;
    };
    let wanted = format!("Bearer {}", issuers::bearer(0));
    let provider =
        strict(GEMINI_ANSWER, move |request| request.header("authorization").as_ref() == Some(&wanted));
    let url = format!("http://{}/v1", provider.addr);
    let create =
        ["--type", "google-vertex", "--region", "europe-west4", "--project-id", "p", "--base-url", &url];
    let house = House::new("", &Issuers::default(), &create, "gemini-2.5-flash", &file);
    house.call_ok();
    house.call_ok();
    let asked = issuer.only_request();
    assert_eq!(asked.path(), "/token");
    assert_eq!(issuers::field(&asked, "assertion").unwrap().split('.').count(), 3);
    let shown = house.gateway.admin_ok(&["--output", "json", "provider", "show", "main"]);
    assert!(!shown.contains("PRIVATE KEY"), "{shown}");
    house.end();
}

#[test]
fn an_issuer_that_can_not_be_used_ends_the_start_with_the_variables_name() {
    for (name, value) in [
        ("AZURE_AUTHORITY_HOST", "http://login.example.com"),
        ("AZURE_AUTHORITY_HOST", "nonsense"),
        ("AWS_ENDPOINT_URL_STS", "http://169.254.169.254"),
        ("AWS_ENDPOINT_URL_STS", "https://user:the-secret@sts.example.com"),
    ] {
        let Err((_, status, log)) = Home::new("").try_serve_with(&[(name, value.to_owned())]) else {
            panic!("{name}={value} was taken");
        };
        assert!(!status.success());
        assert!(log.contains(&format!("{name} is not an https URL")), "{log}");
        assert!(!log.contains("the-secret"), "{log}");
    }
}

#[test]
fn nobody_is_asked_at_the_start() {
    let entra = issuers::refusing_oauth();
    let issuers = Issuers { entra: Some(&entra), ..Issuers::default() };
    let gateway = Home::new("").serve_with(&issuers.variables());
    assert_eq!(gateway.ops("/readyz").status, 200);
    assert_eq!(entra.connection_count(), 0);
    assert!(gateway.stop_and_log().contains("listening on http"));
}

//! Budgets and rate limits, through the binary.

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

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use support::client::{Client, Response};
use support::gateway::rows;
use support::{CHAT_ANSWER, Fixture, Gateway, Provider, chat};

/// The body of a call, reserved and used with exactly 21 tokens: as many as [`CHAT_ANSWER`] reports.
fn call_of_21() -> String {
    let body = chat("main/m", ",\"max_tokens\":2");
    assert_eq!(body.len() / 4, 19, "{body}");
    body
}

fn apply(gateway: &Gateway, manifest: &Value) {
    let file = gateway.home.path("limits.json");
    std::fs::write(&file, manifest.to_string()).unwrap();
    gateway.admin_ok(&["apply", "-f", file.to_str().unwrap()]);
}

fn budgets(gateway: &Gateway, rules: Value) {
    apply(gateway, &json!({"type": "gateway-budget-config", "name": "budgets", "rules": rules}));
}

fn rates(gateway: &Gateway, rules: Value) {
    apply(gateway, &json!({"type": "gateway-rate-limiting-config", "name": "rates", "rules": rules}));
}

fn call(gateway: &Gateway, token: &str) -> Response {
    Client::connect(gateway.addr).post("/v1/chat/completions", token, call_of_21().as_bytes())
}

fn used(gateway: &Gateway, budget: &str) -> Vec<(String, String)> {
    let shown = gateway.admin_json(&["budget", "show", budget]);
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    rows(&shown).iter().map(|row| (text(&row["entity"]), text(&row["used"]))).collect()
}

/// A virtual account with tags that may use `main`, and its token.
fn app(gateway: &Gateway, name: &str, tag: &str) -> String {
    gateway.admin_ok(&["virtual-account", "create", name, "--tag", tag]);
    gateway.admin_ok(&["grant", &format!("virtualaccount:{name}"), "provider-account-access", "main"]);
    gateway.admin_ok(&["token", "create", "--virtual-account", name, "--name", "key"])
}

#[test]
fn five_hundred_callers_at_once_get_what_a_hundred_may_have() {
    let fixture = Fixture::on(Provider::answering(CHAT_ANSWER), "");
    budgets(
        &fixture.gateway,
        json!([{"id": "all", "when": {}, "limit_to": 2100, "unit": "tokens_per_month"}]),
    );
    let (served, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..500 {
            scope.spawn(|| {
                let response = call(&fixture.gateway, &fixture.token);
                match response.status {
                    200 => served.fetch_add(1, Ordering::Relaxed),
                    429 => refused.fetch_add(1, Ordering::Relaxed),
                    other => panic!("{other}: {}", response.text()),
                };
            });
        }
    });
    assert_eq!((served.into_inner(), refused.into_inner()), (100, 400));
    assert_eq!(fixture.provider.request_count(), 100);
    assert_eq!(used(&fixture.gateway, "all"), [("all".to_owned(), "2100".to_owned())]);
    let metrics = fixture.gateway.metrics();
    assert!(metrics.contains("gateway_budget_refusals_total 400\n"), "{metrics}");
    assert!(metrics.contains("gateway_budget_used_percent{rule=\"all\"} 100\n"), "{metrics}");
}

#[test]
fn a_refusal_says_which_rule_of_whose_and_from_when_on() {
    let fixture = Fixture::on(Provider::answering(CHAT_ANSWER), "");
    let gateway = &fixture.gateway;
    rates(
        gateway,
        json!([{"id": "slow", "when": {}, "limit_to": 1, "unit": "requests_per_minute", "rate_limit_applies_per": ["user"]}]),
    );
    let first = call(gateway, &fixture.token);
    assert_eq!(first.status, 200);
    assert_eq!(first.header("x-ratelimit-limit-requests"), Some("1"));
    assert_eq!(first.header("x-ratelimit-remaining-requests"), Some("0"));
    assert_eq!(first.header("x-ratelimit-reset-requests"), Some("1m1s"));
    let second = call(gateway, &fixture.token);
    assert_eq!(second.status, 429);
    let wait: u64 = second.header("retry-after").unwrap().parse().unwrap();
    assert!((30..=61).contains(&wait), "{wait}");
    assert_eq!(second.header("x-ratelimit-remaining-requests"), Some("0"));
    let error = &second.json()["error"];
    assert_eq!((&error["type"], &error["code"]), (&json!("RateLimitError"), &json!("429")));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("'slow' of user:ada@example.com"), "{message}");
    // In Anthropic's dialect.
    let body = r#"{"model":"main/m","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}"#;
    let third = fixture.post("/v1/messages", body);
    assert_eq!((third.status, &third.json()["error"]["type"]), (429, &json!("rate_limit_error")));
    assert!(third.header("retry-after").is_some());
    // Others have counters of their own.
    let bot = app(gateway, "bot", "env=prod");
    for _ in 0..3 {
        assert_eq!(call(gateway, &bot).status, 200);
    }
    budgets(
        gateway,
        json!([{"id": "spent", "when": {"subjects": ["virtualaccount:bot"]}, "limit_to": 0, "unit": "tokens_per_day"}]),
    );
    let fourth = call(gateway, &bot);
    assert_eq!((fourth.status, &fourth.json()["error"]["type"]), (429, &json!("BudgetExceededError")));
    assert!(fourth.header("retry-after").unwrap().parse::<u64>().unwrap() <= 86_400);
}

#[test]
fn what_a_caller_sends_neither_selects_nor_escapes_a_rule() {
    let fixture = Fixture::on(Provider::answering(CHAT_ANSWER), "");
    let gateway = &fixture.gateway;
    let (prod, dev) = (app(gateway, "prod-bot", "env=prod"), app(gateway, "dev-bot", "env=dev"));
    budgets(
        gateway,
        json!([{"id": "prod", "when": {"metadata": {"env": "prod"}}, "limit_to": 0, "unit": "tokens_per_day"}]),
    );
    let with = |token: &str, metadata: &str| {
        let mut client = Client::connect(gateway.addr);
        let headers = format!("content-type: application/json\r\nx-tfy-metadata: {metadata}\r\n");
        client.send_request("/v1/chat/completions", token, &headers, call_of_21().as_bytes());
        client.read_response().status
    };
    assert_eq!(with(&prod, r#"{"env":"dev"}"#), 429);
    assert_eq!(with(&prod, "{}"), 429);
    assert_eq!(with(&dev, r#"{"env":"prod"}"#), 200);
    assert_eq!(with(&fixture.token, r#"{"env":"prod"}"#), 200);
}

#[test]
fn a_restart_and_a_kill_keep_what_was_spent() {
    let fixture = Fixture::on(Provider::answering(CHAT_ANSWER), "");
    let Fixture { gateway, provider, token } = fixture;
    budgets(
        &gateway,
        json!([
            {"id": "per-user", "when": {}, "limit_to": 84, "unit": "tokens_per_quarter", "budget_applies_per": ["user"],
             "alerts": {"thresholds": [50]}},
            {"id": "watched", "when": {}, "limit_to": 1, "unit": "tokens_per_week", "audit_mode": true},
        ]),
    );
    for _ in 0..2 {
        assert_eq!(call(&gateway, &token).status, 200);
    }
    gateway
        .wait_for_log("budget 'per-user' of user:ada@example.com is past 50%: 42 of 84 tokens_per_quarter");
    gateway.wait_for_usage("user", 2);
    let gateway = gateway.kill().serve();
    assert_eq!(used(&gateway, "per-user"), [("user:ada@example.com".to_owned(), "42".to_owned())]);
    assert_eq!(call(&gateway, &token).status, 200);
    let home = gateway.stop();
    // Nobody serves: the command reads the files itself.
    let shown = home.admin_json(&["budget", "show", "per-user"]);
    assert_eq!(rows(&shown)[0]["used"], json!(63));
    let gateway = home.serve();
    assert_eq!(call(&gateway, &token).status, 200);
    let refused = call(&gateway, &token);
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert!(refused.text().contains("84 of 84"), "{}", refused.text());
    assert_eq!(used(&gateway, "watched"), [("all".to_owned(), "84".to_owned())]);
    assert!(!gateway.log().contains("is past 50%"), "told twice");
    assert_eq!(provider.request_count(), 4);
}

#[test]
fn a_stream_settles_with_what_it_used() {
    let fixture = Fixture::new(|_, answer| {
        answer.sse("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7}}\n\ndata: [DONE]\n\n");
    });
    let gateway = &fixture.gateway;
    budgets(gateway, json!([{"id": "b", "when": {}, "limit_to": 5000, "unit": "tokens_per_day"}]));
    rates(gateway, json!([{"id": "r", "when": {}, "limit_to": 5000, "unit": "tokens_per_minute"}]));
    // Without max_tokens the most that an answer may have is reserved: two of these would not fit at once.
    for left in [5000, 4993] {
        let (mut client, head) = fixture.open_stream("");
        assert_eq!(head.status, 200);
        assert_eq!(head.header("x-ratelimit-limit-tokens"), Some("5000"));
        let remaining: u64 = head.header("x-ratelimit-remaining-tokens").unwrap().parse().unwrap();
        assert!(remaining < left - 4000, "{remaining}");
        client.read_rest();
        let expected = (5000 - left + 7).to_string();
        support::eventually("the settled stream", || {
            (used(gateway, "b") == [("all".to_owned(), expected.clone())]).then_some(())
        });
    }
}

#[test]
fn documents_are_applied_shown_and_refused_by_path() {
    let fixture = Fixture::on(Provider::answering(CHAT_ANSWER), "");
    let gateway = &fixture.gateway;
    let admin = gateway.admin_token();
    let mut client = fixture.connect();
    let mut ask = |method: &str, path: &str, body: &Value| {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let response = client.request(method, &format!("/api/svc/v1{path}"), &admin, &text);
        (response.status, response.json())
    };
    assert_eq!(ask("GET", "/llm-gateway/config/gateway-budget-config", &Value::Null).0, 404);
    assert_eq!(ask("GET", "/llm-gateway/budgets", &Value::Null), (200, json!({"data": []})));
    let manifest = json!({"type": "gateway-budget-config", "name": "b", "rules": [
        {"id": "all", "when": {}, "limit_to": 2.5, "unit": "cost_per_month", "budget_applies_per": ["user"]}]});
    let (status, tried) = ask("PUT", "/llm-gateway/budgets", &json!({"manifest": manifest, "dryRun": true}));
    assert_eq!(status, 200, "{tried}");
    assert_eq!(ask("GET", "/llm-gateway/config/gateway-budget-config", &Value::Null).0, 404);
    let (status, put) = ask("PUT", "/llm-gateway/budgets", &json!({"manifest": manifest}));
    assert_eq!(
        (status, &put["manifest"], &put["type"]),
        (200, &manifest, &json!("gateway-budget-config")),
        "{put}"
    );
    let (_, shown) = ask("GET", "/llm-gateway/config/gateway-budget-config", &Value::Null);
    assert_eq!(shown["manifest"], manifest);
    let (_, again) = ask("PUT", "/apply", &json!({"manifest": manifest}));
    assert_eq!((&again["action"], &again["existingManifest"]), (&json!("UPDATE"), &manifest));
    assert_eq!(fixture.chat("").status, 200);
    let own = fixture.connect().get("/api/svc/v1/llm-gateway/budgets/my-usage", &fixture.token).json();
    let entity = &own["matched"][0]["entities"][0];
    assert_eq!(entity["entity"], "user:ada@example.com");
    assert_eq!(entity["periods"]["cost_per_month"]["limit"], json!(2.5));
    assert_eq!(ask("GET", "/llm-gateway/budgets/all", &Value::Null).1["name"], "all");
    assert_eq!(ask("GET", "/llm-gateway/budgets/none", &Value::Null).0, 404);
    for (change, path) in [
        (json!({"unit": "cost_per_second"}), "rules[0].unit"),
        (json!({"when": {"subjects": ["user:nobody@example.com"]}}), "nobody@example.com"),
        (json!({"when": {"models": ["main/none"]}}), "main/none"),
        (json!({"limit": 3}), "rules[0].limit"),
    ] {
        let mut wrong = manifest.clone();
        for (name, value) in change.as_object().unwrap() {
            wrong["rules"][0][name] = value.clone();
        }
        let (status, said) = ask("PUT", "/apply", &json!({"manifest": wrong}));
        assert_eq!(status, 422, "{said}");
        assert!(said["message"].as_str().unwrap().contains(path), "{said}");
    }
    let exported = gateway.admin_json(&["export", "gateway-budget-config"]);
    assert_eq!(exported, manifest);
    let audit = gateway.admin_ok(&["--output", "json", "audit", "list"]);
    assert!(audit.contains("\"limits.create\""), "{audit}");
    assert_eq!(
        ask("POST", "/delete", &json!({"manifest": {"type": "gateway-budget-config", "name": "b"}})).0,
        200
    );
    assert_eq!(ask("GET", "/llm-gateway/config/gateway-budget-config", &Value::Null).0, 404);
}

#[test]
fn money_is_counted_by_the_models_prices() {
    let fixture = Fixture::on(Provider::answering(CHAT_ANSWER), "");
    let gateway = &fixture.gateway;
    // A dollar for each token of input; the answer has 9 of them.
    gateway.admin_ok(&[
        "model",
        "add",
        "main/p",
        "--model-id",
        "up-model",
        "--input-price",
        "1000000",
        "--output-price",
        "0",
    ]);
    budgets(gateway, json!([{"id": "b", "when": {}, "limit_to": 18, "unit": "cost_per_week"}]));
    for status in [200, 200, 429] {
        let response = fixture.post("/v1/chat/completions", &chat("main/p", ""));
        assert_eq!(response.status, status, "{}", response.text());
    }
    // A model without a price costs nothing that is known, and is refused like others.
    assert_eq!(fixture.chat("").status, 429);
    assert_eq!(used(gateway, "b"), [("all".to_owned(), "18".to_owned())]);
    gateway.wait_for_usage("model", 2);
    let home = fixture.gateway.kill();
    let shown = home.admin_json(&["budget", "show", "b"]);
    assert_eq!(rows(&shown)[0]["used"], json!(18));
}

#[test]
fn budgets_are_simulated_and_deleted_and_rates_shown() {
    let fixture = Fixture::on(Provider::answering(CHAT_ANSWER), "");
    let gateway = &fixture.gateway;
    let bot = app(gateway, "bot", "env=prod");
    rates(
        gateway,
        json!([
            {"id": "bots", "when": {"subjects": ["virtualaccount:bot"]}, "limit_to": 10, "unit": "requests_per_hour"},
            {"id": "people", "when": {}, "limit_to": 100, "unit": "tokens_per_day", "rate_limit_applies_per": ["user"]},
        ]),
    );
    budgets(
        gateway,
        json!([
            {"id": "production", "when": {"metadata": {"env": "prod"}}, "limit_to": 1000, "unit": "tokens_per_day"},
            {"id": "everyone", "when": {}, "limit_to": 5, "unit": "cost_per_month", "audit_mode": true, "budget_applies_per": ["user"]},
            {"id": "model", "when": {"models": ["main/m"]}, "limit_to": 5000, "unit": "tokens_per_week"},
        ]),
    );
    assert_eq!(call(gateway, &bot).status, 200);
    let rules = |shown: &Value| -> Vec<(String, String, String)> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let cells = |row: &Value| (text(&row["rule"]), text(&row["entity"]), text(&row["used"]));
        rows(shown).iter().map(cells).collect()
    };
    let owned =
        |(rule, entity, used): (&str, &str, &str)| (rule.to_owned(), entity.to_owned(), used.to_owned());
    for (line, wanted) in [
        (&["--virtual-account", "bot"][..], vec![("production", "all", "21")]),
        (
            &["--virtual-account", "bot", "--model", "main/m"],
            vec![("production", "all", "21"), ("model", "all", "21")],
        ),
        // With other tags the rule is not about it any more.
        (
            &["--virtual-account", "bot", "--model", "main/m", "--tag", "env=dev"],
            vec![("model", "all", "21")],
        ),
        (&["--user", "ada@example.com"], vec![("everyone", "user:ada@example.com", "0")]),
        // Tags are of virtual accounts only.
        (
            &["--user", "ada@example.com", "--tag", "env=prod"],
            vec![("everyone", "user:ada@example.com", "0")],
        ),
    ] {
        let line: Vec<&str> = ["budget", "simulate"].iter().chain(line).copied().collect();
        let wanted: Vec<_> = wanted.into_iter().map(owned).collect();
        assert_eq!(rules(&gateway.admin_json(&line)), wanted, "{line:?}");
    }
    for line in [
        &[][..],
        &["--user", "nobody@example.com"],
        &["--virtual-account", "none"],
        &["--team", "none"],
        &["--model", "main/none"],
        &["--user", "ada@example.com", "--virtual-account", "bot"],
    ] {
        let line: Vec<&str> = ["budget", "simulate"].iter().chain(line).copied().collect();
        assert!(!gateway.admin(&line).status.success(), "{line:?}");
    }
    // Asking counted nothing, and made no counter.
    let everyone = gateway.admin_json(&["budget", "show", "everyone"]);
    assert!(rows(&everyone).is_empty(), "{everyone}");
    let shown = gateway.admin_json(&["limit", "list"]);
    let shown = rows(&shown);
    let [bots, people] = &shown[..] else { panic!("{shown:?}") };
    assert_eq!((&bots["rule"], &bots["used"], &bots["limit"]), (&json!("bots"), &json!(1), &json!(10)));
    assert_eq!((&people["rule"], &people["entity"]), (&json!("people"), &json!("nobody yet")));
    assert_eq!(rows(&gateway.admin_json(&["limit", "show", "bots"]))[0]["used"], json!(1));
    assert!(!gateway.admin(&["limit", "show", "none"]).status.success());
    // One budget goes, the others keep what is spent.
    gateway.admin_ok(&["budget", "delete", "production"]);
    assert!(!gateway.admin(&["budget", "delete", "production"]).status.success());
    let left = gateway.admin_json(&["budget", "list"]);
    assert_eq!(rules(&left)[1], owned(("model", "all", "21")));
    let manifest = gateway.admin_ok(&["export", "gateway-budget-config"]);
    assert!(!manifest.contains("production") && manifest.contains("everyone"), "{manifest}");
}

#[test]
fn a_reservation_is_for_all_that_a_call_may_get() {
    let fixture = Fixture::on(Provider::answering(CHAT_ANSWER), "");
    rates(
        &fixture.gateway,
        json!([{"id": "day", "when": {}, "limit_to": 10_000_000, "unit": "tokens_per_day"}]),
    );
    let mut used = 0;
    for (calls, (more, output)) in [
        (",\"max_tokens\":2", 2),
        // A small number hides no large one, and each of several answers counts.
        (",\"max_completion_tokens\":1,\"max_tokens\":500", 500),
        (",\"max_tokens\":100,\"n\":7", 700),
        // Nobody keeps a whole limit from the others by asking for it.
        (",\"max_tokens\":9007199254740991", 1_000_000),
    ]
    .into_iter()
    .enumerate()
    {
        let body = chat("main/m", more);
        let answer = fixture.post("/v1/chat/completions", &body);
        let remaining: usize = answer.header("x-ratelimit-remaining-tokens").unwrap().parse().unwrap();
        assert_eq!(10_000_000 - remaining - used, body.len() / 4 + output, "{more}");
        fixture.gateway.wait_for_usage("user", calls as u64 + 1);
        used += 21;
    }
}

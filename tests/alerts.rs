//! Alerts of budgets at webhooks, through the binary.

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

use std::path::PathBuf;

use serde_json::{Value, json};
use support::{CHAT_ANSWER, Fixture, Gateway, Provider, eventually};

/// Uses 21 tokens each time.
fn spend(fixture: &Fixture) {
    assert_eq!(fixture.chat("").status, 200);
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("alerts-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn channel(&self, name: &str, url: &str) {
        std::fs::write(self.0.join(name), format!("{url}\n")).unwrap();
    }

    fn config(&self) -> String {
        format!("egress.webhook_dir = \"{}\"", self.0.display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn budget(gateway: &Gateway, thresholds: &[u32], targets: Value) {
    let manifest = json!({"type": "gateway-budget-config", "name": "budgets", "rules": [{
        "id": "tokens", "when": {}, "limit_to": 42, "unit": "tokens_per_month", "audit_mode": true,
        "budget_applies_per": ["user"],
        "alerts": {"thresholds": thresholds, "notification_target": targets},
    }]});
    let file = gateway.home.path("budgets.json");
    std::fs::write(&file, manifest.to_string()).unwrap();
    gateway.admin_ok(&["apply", "-f", file.to_str().unwrap()]);
}

fn target(form: &str, channel: &str) -> Value {
    json!({"type": form, "notification_channel": channel})
}

fn metric(gateway: &Gateway, name: &str) -> u64 {
    let metrics = gateway.metrics();
    let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
}

#[test]
fn an_alert_is_posted_once_to_each_channel() {
    let hook = Provider::answering("ok");
    let folder = Folder::new("once");
    folder.channel("finance", &format!("http://{}/hooks/SECRET-PATH", hook.host_port()));
    folder.channel("ops.json", &format!("http://{}/facts", hook.host_port()));
    let fixture = Fixture::on(Provider::answering(CHAT_ANSWER), &folder.config());
    let targets = json!([target("slack-webhook", "finance"), target("webhook", "ops.json"), {"type": "email", "notification_channel": "x", "to_emails": ["a@x.io"]}]);
    budget(&fixture.gateway, &[50, 100], targets);
    spend(&fixture);
    let (first, second) = (hook.wait_for_request(0), hook.wait_for_request(1));
    let (slack, facts) = if first.path().starts_with("/hooks") { (first, second) } else { (second, first) };
    assert_eq!((slack.method(), slack.path()), ("POST", "/hooks/SECRET-PATH"));
    let text = slack.json()["text"].as_str().unwrap().to_owned();
    assert!(text.contains("'tokens' of user:ada@example.com is past 50%: 21 of 42"), "{text}");
    assert_eq!((facts.path(), &facts.json()["thresholdPercent"]), ("/facts", &json!(50)));
    spend(&fixture);
    assert_eq!(hook.wait_for_request(3).json().as_object().map(|facts| facts.is_empty()), Some(false));
    spend(&fixture);
    fixture.gateway.wait_for_usage("user", 3);
    eventually("four deliveries", || {
        (metric(&fixture.gateway, "gateway_budget_alerts_sent_total") == 4).then_some(())
    });
    // Neither a restart nor more spending tells it again.
    let Fixture { gateway, provider, token, .. } = fixture;
    gateway.assert_log_lacks("SECRET-PATH");
    let gateway = gateway.kill().serve();
    let body = support::chat("main/m", "");
    let answer = support::Client::connect(gateway.addr).post("/v1/chat/completions", &token, body.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    gateway.wait_for_usage("user", 4);
    assert_eq!(metric(&gateway, "gateway_budget_alerts_total"), 0);
    assert_eq!(hook.request_count(), 4);
    drop(provider);
    // A rule that is new and finds its threshold passed says so.
    budget(&gateway, &[150], json!(target("webhook", "ops.json")));
    let file = gateway.home.path("budgets.json");
    let other = std::fs::read_to_string(&file).unwrap().replace("tokens_per_month", "tokens_per_quarter");
    std::fs::write(&file, other).unwrap();
    gateway.admin_ok(&["apply", "-f", file.to_str().unwrap()]);
    let late = hook.wait_for_request(4).json();
    assert_eq!((&late["unit"], &late["spent"]), (&json!("tokens_per_quarter"), &json!("84")));
}

#[test]
fn what_can_not_be_sent_is_said_and_tried_again_where_that_may_help() {
    let hook = Provider::start(|received, answer| match (received.path(), received.number) {
        ("/flaky", 0) => answer.json(503, "{}"),
        ("/flaky", _) => answer.json(200, "{}"),
        _ => answer.full(302, "location: http://127.0.0.1:1/\r\n", b""),
    });
    let folder = Folder::new("trouble");
    folder.channel("flaky", &format!("http://{}/flaky", hook.host_port()));
    folder.channel("forbidden", "http://[::1]:9/SECRET-PATH");
    folder.channel("nonsense", "file:///etc/passwd");
    let config = format!("{}\negress.allow = [\"127.0.0.1\"]", folder.config());
    let fixture = Fixture::on(Provider::answering(CHAT_ANSWER), &config);
    let targets: Vec<Value> =
        ["flaky", "forbidden", "nonsense", "missing"].map(|channel| target("webhook", channel)).into();
    budget(&fixture.gateway, &[50], targets.into());
    spend(&fixture);
    for line in [
        "to the channel 'flaky' yet: it answered with status 503; trying again in 1 s",
        "to the channel 'forbidden': [egress] allow does not allow its host",
        "to the channel 'nonsense': its file does not hold one http or https URL",
        "to the channel 'missing': its file can not be read",
    ] {
        fixture.gateway.wait_for_log(line);
    }
    hook.wait_for_request(1);
    eventually("the second attempt", || {
        (metric(&fixture.gateway, "gateway_budget_alerts_sent_total") == 1).then_some(())
    });
    assert_eq!(metric(&fixture.gateway, "gateway_budget_alerts_failed_total"), 3);
    fixture.gateway.assert_log_lacks("SECRET-PATH");
}

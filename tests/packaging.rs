//! Alerts and dashboard speak of metrics that there are.

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

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use support::{CHAT_ANSWER, Client, Fixture};

/// Each metric with the names of its labels, from the text of `/metrics`.
fn exposed(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            found.entry(rest.split(' ').next().unwrap().to_owned()).or_default();
            continue;
        }
        let Some((series, _)) = line.rsplit_once(' ').filter(|_| !line.starts_with('#')) else { continue };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels =
            labels.split(',').filter_map(|label| label.split_once("=\"")).map(|(name, _)| name.to_owned());
        found.entry(name.to_owned()).or_default().extend(labels);
    }
    found
}

/// Every `gateway_...` name in an expression, and whatever stands in `by (...)` and in braces as a label.
fn used(expression: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').map(str::to_owned).collect()
    };
    let names = words(expression).into_iter().filter(|word| word.starts_with("gateway_")).collect();
    let mut labels = BTreeSet::new();
    for part in expression.split("by (").skip(1) {
        labels.extend(words(part.split(')').next().unwrap()));
    }
    for part in expression.split('{').skip(1) {
        for matcher in part.split('}').next().unwrap().split(',') {
            labels.insert(matcher.split(['=', '!']).next().unwrap().trim().to_owned());
        }
    }
    labels.retain(|label| !label.is_empty() && !["instance", "job"].contains(&label.as_str()));
    (names, labels)
}

fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::String(text) if name == "expr" => found.push(text.clone()),
                    other => expressions(other, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

fn read(name: &str) -> String {
    std::fs::read_to_string(support::gateway::root().join("packaging").join(name)).unwrap()
}

#[test]
fn alerts_and_dashboard_name_metrics_and_labels_that_there_are() {
    let fixture = Fixture::new(|_, answer| answer.json(200, CHAT_ANSWER));
    let root = fixture.gateway.admin_token();
    let budget = r#"{"manifest":{"type":"gateway-budget-config","name":"b","rules":[
        {"id":"all","when":{},"limit_to":100,"unit":"cost_per_day"}]}}"#;
    let mut client = Client::connect(fixture.gateway.addr);
    let made = client.request("PUT", "/api/svc/v1/llm-gateway/budgets", &root, budget);
    assert_eq!(made.status, 200, "{}", made.text());
    assert_eq!(fixture.chat("").status, 200);
    assert_eq!(Client::connect(fixture.gateway.addr).get("/v1/models", "none").status, 401);
    let metrics = exposed(&fixture.gateway.metrics());

    let alerts: Value = serde_saphyr::from_str(&read("prometheus-alerts.yml")).unwrap();
    let rules = alerts["groups"][0]["rules"].as_array().unwrap();
    for rule in rules {
        for member in ["alert", "expr"] {
            assert!(rule[member].is_string(), "{rule}");
        }
        assert!(
            rule["labels"]["severity"].is_string() && rule["annotations"]["summary"].is_string(),
            "{rule}"
        );
    }
    let dashboard: Value = serde_json::from_str(&read("grafana-dashboard.json")).unwrap();
    for (file, document, least) in [("alerts", &alerts, 10), ("dashboard", &dashboard, 15)] {
        let mut found = Vec::new();
        expressions(document, &mut found);
        assert!(found.len() >= least, "{file}: {found:?}");
        for expression in found {
            let (names, labels) = used(&expression);
            assert!(!names.is_empty() || expression.starts_with("up{"), "{file}: {expression}");
            let mut there = BTreeSet::new();
            for name in names {
                let known = metrics.get(&name);
                there.extend(
                    known.unwrap_or_else(|| panic!("{file}: there is no {name}: {expression}")).clone(),
                );
            }
            for label in labels {
                assert!(there.contains(&label), "{file}: no label {label} in {there:?}: {expression}");
            }
        }
    }
}

#[test]
fn the_unit_does_what_the_binary_relies_on() {
    let unit = read("gateway.service");
    for line in [
        "Type=notify",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "StateDirectory=gateway",
        "NoNewPrivileges=yes",
        "AmbientCapabilities=CAP_NET_BIND_SERVICE",
        "MemoryDenyWriteExecute=yes",
        "LimitCORE=0",
    ] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
    assert!(unit.lines().any(|line| line.starts_with("WatchdogSec=")));
    // A comment at a line's end would be part of the value.
    for line in unit.lines().filter(|line| !line.starts_with('#')) {
        assert!(!line.contains(" #"), "{line}");
    }
}

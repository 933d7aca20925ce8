//! The operators' listener.

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

use std::collections::{BTreeMap, HashSet};

use support::sse::{DONE, FINISH, USAGE, text};
use support::{CHAT_ANSWER, Client, Fixture, Gateway, PROVIDER_KEY, Provider, chat, eventually};

/// One sample of the text format: name, labels, value.
type Sample = (String, BTreeMap<String, String>, f64);

/// Reads the text format as a scraper would; what it could not read fails the test.
fn parse(text: &str) -> Vec<Sample> {
    let mut types: BTreeMap<&str, &str> = BTreeMap::new();
    let mut samples = Vec::new();
    let mut seen = HashSet::new();
    assert!(text.ends_with('\n'));
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (kind, name) = (words.next().unwrap(), words.next().unwrap());
            let rest = words.next().unwrap_or_default();
            match kind {
                "TYPE" => {
                    assert!(["counter", "gauge", "histogram"].contains(&rest), "{line}");
                    assert!(types.insert(name, rest).is_none(), "{name} has two types");
                }
                "HELP" => assert!(!rest.is_empty(), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(seen.insert(series), "{series} stands twice");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        let (name, labels) = match series.split_once('{') {
            None => (series, BTreeMap::new()),
            Some((name, rest)) => {
                let rest = rest.strip_suffix('}').unwrap();
                let labels = rest
                    .split("\",")
                    .map(|pair| {
                        let (key, value) = pair.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
                        (key.to_owned(), value.trim_end_matches('"').to_owned())
                    })
                    .collect();
                (name, labels)
            }
        };
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s)).unwrap_or(name);
        assert!(types.contains_key(name) || types.get(family) == Some(&"histogram"), "{name} has no type");
        if types.get(name) == Some(&"counter") {
            assert!(name.ends_with("_total"), "the counter {name}");
        }
        samples.push((name.to_owned(), labels, value));
    }
    samples
}

fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    samples
        .iter()
        .filter(|(n, l, _)| {
            n == name && labels.iter().all(|(k, v)| l.get(*k).map(String::as_str) == Some(*v))
        })
        .map(|(_, _, value)| value)
        .sum()
}

#[test]
fn health_and_readiness() {
    let gateway = Gateway::start();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(gateway.ops(path).status, 200, "{path}");
    }
    assert_eq!(gateway.ops("/nothing").status, 404);
    // The main listener has the first only.
    assert_eq!(Client::connect(gateway.addr).get("/healthz", "").status, 200);
    for path in ["/readyz", "/metrics"] {
        assert_eq!(Client::connect(gateway.addr).get(path, "").status, 404, "{path}");
    }
}

#[test]
fn readiness_ends_with_the_drain() {
    let fixture = Fixture::new(|_, answer| {
        answer.sse_head();
        answer.chunk(text("first"));
        answer.wait("finish");
        answer.chunk([FINISH, DONE].concat());
        answer.last_chunk();
    });
    let (mut client, _) = fixture.open_stream("");
    client.read_until("first");
    fixture.gateway.signal("TERM");
    eventually("readyz to turn", || (fixture.gateway.ops("/readyz").status == 503).then_some(()));
    assert_eq!(fixture.gateway.ops("/healthz").status, 200, "it still serves");
    fixture.provider.signal("finish");
    assert!(client.read_rest().1);
}

#[test]
fn counters_move_with_the_calls() {
    let fixture = Fixture::new(|request, answer| {
        let body = request.json();
        if body["stream"] == true {
            answer.sse_head();
            answer.chunk(text("first"));
            answer.wait("finish");
            answer.chunk([FINISH, USAGE, DONE].concat());
            answer.last_chunk();
        } else if body["fail"] == true {
            answer.json(429, "{}");
        } else {
            answer.json(200, CHAT_ANSWER);
        }
    });
    let read = || parse(&fixture.gateway.metrics());
    let main = ("account", "main");
    assert_eq!(value(&read(), "gateway_requests_total", &[main]), 0.0);
    for _ in 0..3 {
        assert_eq!(fixture.chat("").status, 200);
    }
    assert_eq!(fixture.chat(",\"fail\":true").status, 429);
    let (mut client, _) = fixture.open_stream("");
    client.read_until("first");
    let samples = read();
    assert_eq!(value(&samples, "gateway_in_flight", &[]), 1.0, "{samples:?}");
    fixture.provider.signal("finish");
    client.read_rest();
    fixture.wait_for_outcome("complete", 4);
    fixture.wait_for_outcome("provider-error", 1);
    let samples = eventually("the call to leave", || {
        let samples = read();
        (value(&samples, "gateway_in_flight", &[]) == 0.0).then_some(samples)
    });
    let model = ("model", "main/m");
    assert_eq!(value(&samples, "gateway_requests_total", &[main, model, ("outcome", "complete")]), 4.0);
    assert_eq!(value(&samples, "gateway_requests_total", &[main, model, ("outcome", "provider-error")]), 1.0);
    let tokens = |kind: &str| value(&samples, "gateway_tokens_total", &[main, model, ("direction", kind)]);
    assert_eq!((tokens("input"), tokens("output")), (3.0 * 9.0 + 7.0, 3.0 * 12.0 + 5.0), "{samples:?}");
    // The histogram is one: buckets that only grow, the last of them the count.
    let name = samples
        .iter()
        .find_map(|(name, _, _)| {
            name.strip_suffix("_bucket").filter(|n| n.contains("duration") || n.contains("latency"))
        })
        .expect("a latency histogram")
        .to_owned();
    let buckets: Vec<f64> = samples
        .iter()
        .filter(|(n, l, _)| {
            *n == format!("{name}_bucket") && l.get("outcome").is_none_or(|o| o == "complete")
        })
        .map(|(_, _, value)| *value)
        .collect();
    assert!(buckets.windows(2).all(|pair| pair[0] <= pair[1]), "{buckets:?}");
    assert!(value(&samples, &format!("{name}_count"), &[]) >= 5.0);
    assert!(samples.iter().any(|(n, l, _)| *n == format!("{name}_bucket") && l["le"] == "+Inf"));
}

#[test]
fn labels_hold_no_secret_and_their_count_is_bounded() {
    let fixture = Fixture::on(Provider::answering(CHAT_ANSWER), "ops.max_label_sets = 5\n");
    let root = fixture.gateway.admin_token();
    for number in 0..20 {
        let body = format!(
            r#"{{"manifest":{{"type":"integration/model/openai","name":"m{number}","model_id":"x","model_types":["chat"]}}}}"#
        );
        let mut client = fixture.connect();
        assert_eq!(
            client.request("POST", "/api/svc/v1/provider-accounts/main/models", &root, &body).status,
            200
        );
    }
    for number in 0..20 {
        assert_eq!(fixture.post("/v1/chat/completions", &chat(&format!("main/m{number}"), "")).status, 200);
        // Names that do not exist must not become labels at all.
        assert_eq!(
            fixture.post("/v1/chat/completions", &chat(&format!("none/evil{number}"), "")).status,
            403
        );
        fixture.connect().get(&format!("/v1/evil{number}"), &fixture.token);
    }
    let samples = eventually("twenty calls", || {
        let samples = parse(&fixture.gateway.metrics());
        (value(&samples, "gateway_requests_total", &[("outcome", "complete")]) == 20.0).then_some(samples)
    });
    let models: HashSet<&str> =
        samples.iter().filter_map(|(_, labels, _)| labels.get("model").map(String::as_str)).collect();
    assert!(models.len() <= 6 && models.contains("other"), "{models:?}");
    let text = fixture.gateway.metrics();
    for secret in [&fixture.token, PROVIDER_KEY, "evil", "ada@example.com", &fixture.provider.host_port()] {
        assert!(!text.contains(secret), "{secret} is in the metrics");
    }
}

#[test]
fn the_listener_must_be_loopback_with_a_fixed_port() {
    for listen in ["0.0.0.0:9464", "127.0.0.1:0"] {
        let home = support::Home::new("");
        let text = std::fs::read_to_string(home.config()).unwrap();
        let text = text.replace(&home.ops.to_string(), listen);
        std::fs::write(home.config(), text).unwrap();
        let Err((_, status, log)) = home.try_serve() else { panic!("{listen} is accepted") };
        assert!(status.code().is_some_and(|code| code == 1 || code == 2), "{status}");
        assert!(
            log.contains("[ops]") && log.contains("127.0.0.1:9464") && !log.contains("panicked"),
            "{listen}: {log}"
        );
    }
}

//! What calls cost: prices by date, public prices, sums, and what is unknown.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails loudly and may block its own thread"
)]
#![allow(dead_code, reason = "a part of the support is used by each test")]

mod support;

use support::sse::{DONE, FINISH, USAGE, text};
use support::{CHAT_ANSWER, Fixture, chat};

/// The value of a metric of one model, all outcomes taken together, as it is written: one sample, or nothing.
fn metric(fixture: &Fixture, name: &str, model: &str) -> Vec<String> {
    let start = format!("{name}{{account=\"main\",model=\"{model}\"");
    let metrics = fixture.gateway.metrics();
    metrics
        .lines()
        .filter(|line| line.starts_with(&start))
        .map(|line| line.rsplit(' ').next().unwrap().to_owned())
        .collect()
}

fn spend(fixture: &Fixture, model: &str) -> Vec<String> {
    metric(fixture, "gateway_spend_usd_total", model)
}

/// The line of the log about a call to a model, after it has ended.
fn line(fixture: &Fixture, model: &str) -> String {
    fixture.gateway.wait_for_log(&format!("chat/completions {model} "))
}

fn add(fixture: &Fixture, model: &str, more: &[&str]) {
    let mut arguments = vec!["model", "add", model, "--model-id", "gpt-4o"];
    arguments.extend_from_slice(more);
    fixture.gateway.admin_ok(&arguments);
}

#[test]
fn prices_hold_by_date_and_what_is_unknown_is_not_nothing() {
    // 9 tokens in, 12 out.
    let fixture = Fixture::new(|_, answer| answer.json(200, CHAT_ANSWER));
    add(&fixture, "main/own", &["--input-price", "2.50", "--output-price", "10"]);
    add(&fixture, "main/past", &["--input-price", "1", "--output-price", "1", "--price-from", "2020-01-01"]);
    add(
        &fixture,
        "main/future",
        &["--input-price", "1", "--output-price", "1", "--price-from", "2999-01-01"],
    );
    let both = ["--input-price", "1", "--output-price", "1", "--price-from", "2999-01-01", "--public-cost"];
    add(&fixture, "main/both", &both);
    add(&fixture, "main/half", &["--input-price", "1"]);
    add(&fixture, "main/free", &["--input-price", "0", "--output-price", "0"]);
    for (model, cost) in [
        ("main/own", "0.0001425"),
        ("main/past", "0.000021"),
        ("main/future", "unknown"),
        ("main/both", "0.0001425"),
        ("main/half", "unknown"),
        ("main/free", "0"),
        ("main/m", "unknown"),
    ] {
        assert_eq!(fixture.post("/v1/chat/completions", &chat(model, "")).status, 200);
        let line = line(&fixture, model);
        assert!(line.contains(&format!(" cost={cost}")), "{model}: {line}");
        let unknown = cost == "unknown";
        assert_eq!(spend(&fixture, model), [if unknown { "0" } else { cost }], "{model}");
        let unpriced = metric(&fixture, "gateway_unpriced_calls_total", model);
        assert_eq!(unpriced, [if unknown { "1" } else { "0" }], "{model}");
    }
}

#[test]
fn an_imported_catalogue_holds_at_once_and_after_a_restart() {
    let fixture = Fixture::new(|_, answer| answer.json(200, CHAT_ANSWER));
    add(&fixture, "main/a", &["--public-cost"]);
    assert_eq!(fixture.post("/v1/chat/completions", &chat("main/a", "")).status, 200);
    assert!(line(&fixture, "main/a").contains(" cost=0.0001425"));
    let file = std::env::temp_dir().join(format!("gateway-prices-{}.json", std::process::id()));
    let import = |text: &str| {
        std::fs::write(&file, text).unwrap();
        fixture.gateway.admin(&["catalog", "import", file.to_str().unwrap()])
    };
    for wrong in ["", "[]", "{}", r#"{"date":"2026-01-31","models":{"openai":{"m":{"input":"-1"}}}}"#] {
        assert!(!import(wrong).status.success(), "{wrong}");
    }
    let prices =
        r#"{"date":"2026-01-31","source":"test","models":{"openai":{"gpt-4o":{"input":"1","output":"2"}}}}"#;
    assert!(import(prices).status.success());
    add(&fixture, "main/b", &["--public-cost"]);
    assert_eq!(fixture.post("/v1/chat/completions", &chat("main/b", "")).status, 200);
    assert!(line(&fixture, "main/b").contains(" cost=0.000033"));
    // What is shown can be imported again.
    let shown = fixture.gateway.admin_json(&["catalog", "show"]);
    assert_eq!(shown["source"], "test");
    assert!(import(&shown.to_string()).status.success());
    std::fs::remove_file(&file).unwrap();
    let home = fixture.gateway.stop();
    assert_eq!(home.admin_json(&["catalog", "show"])["models"]["openai"]["gpt-4o"]["input"], "1");
    home.admin_ok(&["catalog", "reset"]);
    assert_eq!(home.admin_json(&["catalog", "show"])["models"]["openai"]["gpt-4o"]["input"], "2.5");
    let audit = home.admin_ok(&["audit", "list"]);
    assert!(audit.contains("catalogue.import") && audit.contains("catalogue.reset"), "{audit}");
}

#[test]
fn thousands_of_calls_add_up_to_the_last_digit() {
    let fixture = Fixture::new(|_, answer| answer.json(200, CHAT_ANSWER));
    add(&fixture, "main/p", &["--input-price", "0.150000000001", "--output-price", "0.1"]);
    let (threads, calls) = (4, 500);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut client = fixture.connect();
                for _ in 0..calls {
                    let answer =
                        client.post("/v1/chat/completions", &fixture.token, chat("main/p", "").as_bytes());
                    assert_eq!(answer.status, 200);
                }
            });
        }
    });
    fixture.wait_for_outcome("complete", threads * calls);
    // 2000 * (9 * 0.150000000001 + 12 * 0.1) / 1,000,000
    assert_eq!(spend(&fixture, "main/p"), ["0.005100000000018"]);
}

#[test]
fn a_stream_that_breaks_off_costs_what_it_is_estimated_at() {
    const PIECE: &str = "The committee met on Tuesday to talk about the budget for next year.";
    let fixture = Fixture::new(|request, answer| {
        answer.sse_head();
        answer.chunk(text(PIECE));
        answer.chunk(text(PIECE));
        if request.number > 0 {
            answer.chunk(FINISH);
            answer.chunk(USAGE);
            answer.chunk(DONE);
            answer.last_chunk();
        } else {
            answer.close();
        }
    });
    add(&fixture, "main/broken", &["--input-price", "0", "--output-price", "1000000"]);
    add(&fixture, "main/whole", &["--input-price", "0", "--output-price", "1000000"]);
    for model in ["main/broken", "main/whole"] {
        let answer = fixture.post("/v1/chat/completions", &chat(model, ",\"stream\":true"));
        assert_eq!(answer.status, 200);
    }
    // A dollar a token. 14 tokens a sentence by o200k_base.
    let line_of = line(&fixture, "main/broken");
    let cost = line_of.split(" cost=").nth(1).unwrap().split(' ').next().unwrap();
    assert!((24..=33).contains(&cost.parse::<u64>().unwrap()), "{line_of}");
    assert!(line_of.contains("origin=Estimated") && line_of.contains("error_kind=broken_off"), "{line_of}");
    let line_of = line(&fixture, "main/whole");
    assert!(line_of.contains(" cost=5") && !line_of.contains("error_kind"), "{line_of}");
}

#[test]
fn an_error_of_the_provider_costs_nothing_and_has_a_word() {
    let fixture = Fixture::new(|_, answer| answer.json(429, r#"{"error":{"message":"slow down"}}"#));
    add(&fixture, "main/own", &["--input-price", "1", "--output-price", "1"]);
    for (model, cost) in [("main/own", "0"), ("main/m", "unknown")] {
        assert_eq!(fixture.post("/v1/chat/completions", &chat(model, "")).status, 429);
        let line = line(&fixture, model);
        assert!(line.contains(&format!(" cost={cost} error_kind=rate_limit")), "{line}");
    }
}

#[test]
fn what_a_provider_knew_at_the_beginning_is_not_the_output_of_a_broken_stream() {
    const PIECE: &str = "The committee met on Tuesday to talk about the budget for next year.";
    let fixture = Fixture::new(|_, answer| {
        answer.sse_head();
        answer.chunk("event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude\",\"content\":[],\"stop_reason\":null,\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n");
        answer.chunk("event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n");
        answer.chunk(format!("event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{PIECE}\"}}}}\n\n"));
        answer.close();
    });
    let base_url = fixture.provider.base_url();
    let key = ["--api-key-env", "GATEWAY_TEST_PROVIDER_KEY"];
    let create = ["provider", "create", "claude", "--type", "anthropic", "--base-url", &base_url];
    fixture.gateway.admin_ok(&[&create[..], &key].concat());
    let prices = ["--input-price", "1000000", "--output-price", "1000000"];
    let model = ["model", "add", "claude/c", "--model-id", "claude-sonnet-4-5"];
    fixture.gateway.admin_ok(&[&model[..], &prices].concat());
    fixture.gateway.admin_ok(&["grant", "user:ada@example.com", "provider-account-access", "claude"]);
    for path in ["chat/completions", "messages"] {
        let body = chat("claude/c", ",\"stream\":true,\"max_tokens\":99");
        assert_eq!(fixture.post(&format!("/v1/{path}"), &body).status, 200);
        let line = fixture.gateway.wait_for_log(&format!(" {path} claude/c "));
        assert!(line.contains("input_tokens=25") && line.contains("origin=Estimated"), "{line}");
        let cost = line.split(" cost=").nth(1).unwrap().split(' ').next().unwrap();
        assert!((25 + 12..=25 + 18).contains(&cost.parse::<u64>().unwrap()), "{line}");
    }
}

#[test]
fn the_part_of_a_plain_answer_that_a_caller_took_is_not_free() {
    let text = "The committee met on Tuesday to talk about the budget for next year. ".repeat(20);
    let fixture = Fixture::new(move |_, answer| {
        answer.send("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n");
        answer.send(format!(
            "{{\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{text}"
        ));
        answer.hold();
    });
    add(&fixture, "main/plain", &["--input-price", "0", "--output-price", "1000000"]);
    let mut client = fixture.connect();
    client.send_post("/v1/chat/completions", &fixture.token, chat("main/plain", "").as_bytes());
    assert_eq!(client.read_head().status, 200);
    client.read_until("next year.");
    client.hang_up();
    // The provider's own counts would have come at its end. A dollar a token; 20 sentences of 14.
    let line = line(&fixture, "main/plain");
    assert!(line.contains("origin=Estimated") && line.contains("error_kind=caller_gone"), "{line}");
    let cost: u64 = line.split(" cost=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((200..=360).contains(&cost), "{line}");
}

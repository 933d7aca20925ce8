//! Many calls at once, most of which go wrong somewhere: nothing hangs, nothing leaks, nothing is counted twice.

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

use std::collections::HashSet;
use std::time::Duration;

use support::sse::{DONE, FINISH, USAGE, text};
use support::{
    Answer, CHAT_ANSWER, Client, Fixture, Gateway, Lcg, Provider, Received, announce, chat, eventually,
};

const SEED: u64 = 20_261_124;
const CALLERS: u64 = 12;
const CALLS: u64 = 120;

/// What the provider does, by the number in the request.
fn misbehave(request: &Received, answer: &mut Answer<'_>) {
    let body = request.json();
    match body["how"].as_u64().unwrap() {
        0 | 1 => answer.json(200, CHAT_ANSWER),
        2 | 3 => {
            answer.sse_head();
            for word in ["one", "two", "three"] {
                answer.chunk(text(word));
            }
            answer.chunk([FINISH, USAGE, DONE].concat());
            answer.last_chunk();
        }
        4 => answer.json(500, "{\"error\":{\"message\":\"no\"}}"),
        5 => answer.close(),
        6 => {
            answer.sse_head();
            answer.chunk(text("cut"));
            answer.close();
        }
        7 => {
            answer.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{cut");
            answer.close();
        }
        8 => answer.hold(),
        9 => {
            answer.sse_head();
            answer.chunk(text("held"));
            answer.hold();
        }
        _ => {
            answer.send("nonsense\r\n\r\n");
            answer.close();
        }
    }
}

/// One caller's life: calls on kept and fresh connections, some of which it leaves.
fn caller(gateway: &Gateway, token: &str, seed: u64) -> (u64, u64) {
    let mut random = Lcg(seed);
    let mut client = Client::connect(gateway.addr);
    let (mut answered, mut left) = (0, 0);
    for call in 0..CALLS {
        let how = random.below(11);
        let stream = matches!(how, 2 | 3 | 6 | 9);
        let body = chat("main/m", &format!(",\"stream\":{stream},\"how\":{how},\"call\":\"{seed}-{call}\""));
        client.send_post("/v1/chat/completions", token, body.as_bytes());
        // Held answers are always left; others now and then, at once or a little later.
        if matches!(how, 8 | 9) || random.below(4) == 0 {
            if random.below(2) == 0 {
                client.poll(Duration::from_millis(random.below(20)));
            }
            client.hang_up();
            left += 1;
            client = Client::connect(gateway.addr);
            continue;
        }
        let response = client.read_response();
        match how {
            0 | 1 => assert_eq!(response.text(), CHAT_ANSWER, "{seed}-{call}"),
            2 | 3 => assert!(response.complete && response.body.ends_with(DONE.as_bytes()), "{seed}-{call}"),
            4 => assert_eq!(response.status, 500, "{seed}-{call}"),
            6 => assert!([200, 502].contains(&response.status), "{seed}-{call}"),
            7 => assert!(!response.complete, "{seed}-{call}"),
            _ => assert_eq!(response.status, 502, "{seed}-{call}"),
        }
        answered += 1;
        if !response.complete || response.header("connection") == Some("close") {
            client = Client::connect(gateway.addr);
        }
    }
    (answered, left)
}

#[test]
fn a_storm_of_failing_calls_leaves_nothing_behind() {
    let fixture = Fixture::new(misbehave);
    let (gateway, token) = (&fixture.gateway, &*fixture.token);
    let totals: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..CALLERS).map(|number| scope.spawn(move || caller(gateway, token, SEED + number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let answered: u64 = totals.iter().map(|(answered, _)| answered).sum();
    let left: u64 = totals.iter().map(|(_, left)| left).sum();
    assert_eq!(answered + left, CALLERS * CALLS);
    // Everything is given back.
    for gauge in ["gateway_in_flight", "gateway_connections", "gateway_buffered_bytes", "gateway_usage_queue"]
    {
        eventually(&format!("{gauge} to be 0"), || {
            let value = gateway.metric_sum(|line| line.starts_with(&format!("{gauge} ")));
            (value == 0.0).then_some(())
        });
    }
    assert_eq!(gateway.metric_sum(|line| line.starts_with("gateway_panics_total ")), 0.0);
    // One record for each call that reached the provider, and none for another.
    let reached: HashSet<String> =
        fixture.provider.requests().iter().map(|r| r.json()["call"].to_string()).collect();
    let counted = gateway.metric_sum(|line| line.starts_with("gateway_requests_total{"));
    let rows = gateway.wait_for_usage("user", reached.len() as u64);
    let recorded = rows[0]["calls"].as_u64().unwrap();
    announce(&format!(
        "storm: {answered} answered, {left} left, {} reached the provider, {recorded} recorded, seed {SEED}",
        reached.len()
    ));
    // Calls that did not get as far as the provider are counted too, and are no usage.
    assert!(counted as u64 >= recorded && counted as u64 <= CALLERS * CALLS, "{counted}");
    // A caller that left may have been noticed after the head went out and before the provider read it.
    assert!(recorded >= reached.len() as u64 && recorded <= reached.len() as u64 + left, "{recorded}");
    assert_eq!(fixture.post("/v1/chat/completions", &chat("main/m", ",\"how\":0")).status, 200);
}

#[test]
fn too_many_buffered_bytes_are_503_and_given_back() {
    let fixture = Fixture::with_config(
        "server.max_buffered_bytes = 2000000\nserver.max_body_bytes = 1500000\n",
        |_, answer| {
            answer.say("reached");
            answer.wait("go");
            answer.json(200, CHAT_ANSWER);
        },
    );
    let large = chat("main/m", &format!(",\"x\":\"{}\"", "a".repeat(1_200_000)));
    let mut first = fixture.connect();
    // A body that is still on its way takes only what came of it.
    first.send(
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n",
            fixture.token,
            large.len()
        )
        .as_bytes(),
    );
    first.send(&large.as_bytes()[..large.len() - 10]);
    eventually("the first body", || {
        let used = fixture.gateway.metric_sum(|line| line.starts_with("gateway_buffered_bytes "));
        (used > 1_190_000.0).then_some(())
    });
    let mut second = fixture.connect();
    second.try_send(
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n{large}",
            fixture.token,
            large.len()
        )
        .as_bytes(),
    );
    let refused = second.read_response();
    refused.assert_error(503);
    assert!(refused.header("retry-after").is_some());
    first.send(&large.as_bytes()[large.len() - 10..]);
    fixture.provider.wait_for("reached");
    fixture.provider.signal("go");
    assert_eq!(first.read_response().status, 200);
    fixture.provider.signal("go");
    assert_eq!(fixture.post("/v1/chat/completions", &large).status, 200);
}

#[test]
fn a_call_that_can_not_be_accounted_for_is_503() {
    let provider = Provider::start(|_, answer| {
        answer.say("reached");
        answer.wait("go");
        answer.json(200, CHAT_ANSWER);
    });
    let fixture = Fixture::on(provider, "usage.max_queued_records = 1\n");
    let mut first = fixture.connect();
    first.send_post("/v1/chat/completions", &fixture.token, chat("main/m", "").as_bytes());
    fixture.provider.wait_for("reached");
    fixture.chat("").assert_error(503);
    assert_eq!(fixture.connect().get("/v1/models", &fixture.token).status, 200, "what costs nothing goes on");
    fixture.provider.signal("go");
    assert_eq!(first.read_response().status, 200);
    fixture.gateway.wait_for_usage("user", 1);
    fixture.provider.signal("go");
    eventually("room for the next", || (fixture.chat("").status == 200).then_some(()));
    assert_eq!(fixture.provider.request_count(), 2);
}

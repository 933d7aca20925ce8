//! Streams that never pause: others still have their turn, and access that is taken away still ends them.

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

use std::time::{Duration, Instant};

use support::sse::{DONE, text};
use support::{Client, Fixture, chat};

#[test]
fn a_flood_gives_way_and_can_be_cut() {
    let event = text(&"flood ".repeat(200)).repeat(50);
    let fixture = Fixture::new(move |_, answer| {
        answer.sse_head();
        while answer.chunk(&event) {}
    });
    let floods: Vec<_> = (0..4)
        .map(|_| {
            let mut client = fixture.connect();
            let body = chat("main/m", ",\"stream\":true");
            client.send_post("/v1/chat/completions", &fixture.token, body.as_bytes());
            assert_eq!(client.read_head().status, 200);
            std::thread::spawn(move || {
                let (bytes, complete) = client.read_rest();
                let tail = bytes.len().saturating_sub(2_000);
                (String::from_utf8_lossy(&bytes[tail..]).into_owned(), complete)
            })
        })
        .collect();
    // Each worker has two floods, and still answers others at once.
    for _ in 0..20 {
        let began = Instant::now();
        let response = Client::connect(fixture.gateway.addr).get("/healthz", "");
        assert_eq!(response.status, 200);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
    fixture.gateway.admin_ok(&["user", "deactivate", "ada@example.com"]);
    for flood in floods {
        let (tail, complete) = flood.join().unwrap();
        assert!(complete && tail.ends_with(DONE) && tail.contains("taken away"), "{tail}");
    }
    fixture.wait_for_outcome("cut", 4);
}

//! The harness of the black-box tests: it starts the real binary, a scripted provider beside it, and a plain
//! HTTP client whose every byte a test decides. Nothing here sleeps: a wait is always for an event, with a limit.

#![allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]

pub mod browser;
pub mod client;
pub mod gateway;
pub mod issuers;
pub mod ledger;
pub mod provider;
pub mod sse;
pub mod vectors;

use std::time::{Duration, Instant};

pub use browser::{Browser, form_token};
pub use client::{Client, Head, Response};
pub use gateway::{Gateway, Home};
pub use provider::{Answer, Provider, Received};

/// How long anything may take before a test gives up. Generous: the machine may be busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The key of the provider account `main`. It must never be seen on any surface of the gateway.
pub const PROVIDER_KEY: &str = "sk-provider-SECRET-7f3a91c2";

/// Asks until the answer is there; for states that give no event (metrics, reports, process tables).
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < deadline, "gave up waiting for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Says something even when the test passes: written past the capture of the test runner.
pub fn announce(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// A small linear congruential generator (Knuth's MMIX constants), so that a failure can be run again.
pub struct Lcg(pub u64);

impl Lcg {
    /// The next number, below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// A chat request to a model, with more members of the object after it.
pub fn chat(model: &str, more: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]{more}}}"#)
}

/// A plain chat answer with usage 9 + 12.
pub const CHAT_ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"up-model","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}}"#;

/// A gateway with model `main/m` in front of a provider, and Ada's token.
pub struct Fixture {
    /// The gateway.
    pub gateway: Gateway,
    /// What stands behind it.
    pub provider: Provider,
    /// Ada's token; she may use the account `main`.
    pub token: String,
}

impl Fixture {
    /// Starts both with a script for the provider.
    pub fn new(script: impl Fn(&Received, &mut Answer<'_>) + Send + Sync + 'static) -> Self {
        Self::with_config("", script)
    }

    /// The same with lines of configuration (dotted keys: `relay.idle_timeout_ms = 300`).
    pub fn with_config(
        config: &str,
        script: impl Fn(&Received, &mut Answer<'_>) + Send + Sync + 'static,
    ) -> Self {
        Self::on(Provider::start(script), config)
    }

    /// The same with a provider that exists.
    pub fn on(provider: Provider, config: &str) -> Self {
        let gateway = Gateway::with_config(config);
        let token = gateway.with_model(&provider.base_url());
        Self { gateway, provider, token }
    }

    /// A connection to the gateway.
    pub fn connect(&self) -> Client {
        Client::connect(self.gateway.addr)
    }

    /// One JSON request under Ada's token on a connection of its own.
    pub fn post(&self, path: &str, body: &str) -> Response {
        self.connect().post(path, &self.token, body.as_bytes())
    }

    /// One chat request.
    pub fn chat(&self, more: &str) -> Response {
        self.post("/v1/chat/completions", &chat("main/m", more))
    }

    /// Sends a streamed chat request and reads the head of the answer.
    pub fn open_stream(&self, more: &str) -> (Client, Head) {
        let mut client = self.connect();
        client.send_post(
            "/v1/chat/completions",
            &self.token,
            chat("main/m", &format!(",\"stream\":true{more}")).as_bytes(),
        );
        let head = client.read_head();
        (client, head)
    }

    /// Waits until `/metrics` counts `count` calls with an outcome.
    pub fn wait_for_outcome(&self, outcome: &str, count: u64) {
        self.gateway.wait_for_outcome(outcome, count);
    }
}

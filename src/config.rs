//! The configuration file: TOML in, a checked `Config` out. What an organisation decides while the gateway
//! runs lives in the store; what belongs to this host lives here.

mod check;
mod load;
mod network;
#[cfg(test)]
mod tests;

pub use network::{EgressRule, Network};

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

/// Everything that the file can say. Every key is optional.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The main listener.
    pub server: Server,
    /// The operators' listener.
    pub ops: Ops,
    /// Where state is kept.
    pub store: Store,
    /// What the gateway may dial.
    pub egress: Egress,
    /// Limits of calls to providers.
    pub relay: Relay,
    /// What the gateway may show to providers.
    pub upstream: Upstream,
    /// The organisation.
    pub tenant: Tenant,
    /// Accounting.
    pub usage: Usage,
    /// Bodies of calls.
    pub request_log: RequestLog,
    /// The web console.
    pub console: Console,
    /// Logging.
    pub log: Log,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// PEM file with the certificate chain. TLS is on when this and the key are given.
    pub tls_cert_file: Option<PathBuf>,
    /// PEM file with the private key.
    pub tls_key_file: Option<PathBuf>,
    /// Worker threads; 0 is one a core.
    pub workers: usize,
    /// Open connections; one more is answered 503.
    pub max_connections: usize,
    /// Bytes of a request's head.
    pub max_head_bytes: usize,
    /// Header lines of a request.
    pub max_headers: usize,
    /// Bytes of a request's body.
    pub max_body_bytes: usize,
    /// Bytes of all buffered request bodies together; past it a request is answered 503.
    pub max_buffered_bytes: usize,
    /// Networks (CIDR) whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<String>,
    /// From a request's first byte to the end of its head.
    pub header_timeout_ms: u64,
    /// From the end of the head to the end of the body.
    pub body_timeout_ms: u64,
    /// Between requests of one connection, and for a caller that does not take its answer.
    pub idle_timeout_ms: u64,
    /// How long calls in flight may go on after SIGTERM.
    pub drain_timeout_ms: u64,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            tls_cert_file: None,
            tls_key_file: None,
            workers: 0,
            max_connections: 4096,
            max_head_bytes: 64 * 1024,
            max_headers: 128,
            max_body_bytes: 32 * 1024 * 1024,
            max_buffered_bytes: 512 * 1024 * 1024,
            trusted_proxies: Vec::new(),
            header_timeout_ms: 10_000,
            body_timeout_ms: 60_000,
            idle_timeout_ms: 75_000,
            drain_timeout_ms: 30_000,
        }
    }
}

/// `[ops]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ops {
    /// Loopback address and fixed port of `/healthz`, `/readyz` and `/metrics`.
    pub listen: SocketAddr,
    /// Distinct (account, model, outcome) label sets kept in `/metrics`; more are counted as `other`.
    pub max_label_sets: usize,
}

impl Default for Ops {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9464)), max_label_sets: 1000 }
    }
}

/// `[store]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// Folder of mode 0700 that holds the databases, the admin socket and, unless it comes from elsewhere,
    /// the master key.
    pub data_dir: PathBuf,
    /// File with the master key; else the systemd credential `gateway-master-key`, else a file in `data_dir`.
    pub master_key_file: Option<PathBuf>,
}

impl Default for Store {
    fn default() -> Self {
        Self { data_dir: PathBuf::from("/var/lib/gateway"), master_key_file: None }
    }
}

/// `[egress]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Egress {
    /// Host names (`api.openai.com`, `*.example.com`) and networks (CIDR) that the gateway may dial. Absent:
    /// whatever provider accounts name. An empty list: nothing.
    pub allow: Option<Vec<String>>,
    /// Folder with a file for each notification channel that alerts may be posted to: its name is the channel's, its
    /// text the URL.
    pub webhook_dir: Option<PathBuf>,
}

/// `[upstream]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Upstream {
    /// Provider accounts may use the AWS credentials of the machine or container that the gateway runs on. Off, since
    /// whoever manages an account would use what the operator of the machine was given.
    pub aws_machine_credentials: bool,
}

/// `[relay]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Relay {
    /// To resolve a name, connect and finish the TLS handshake.
    pub connect_timeout_ms: u64,
    /// From the request's last byte to the answer's first body byte or event.
    pub first_byte_timeout_ms: u64,
    /// Between two reads from a provider in the middle of an answer.
    pub idle_timeout_ms: u64,
    /// For the whole call.
    pub total_timeout_ms: u64,
    /// Idle connections kept for one provider account by one worker.
    pub max_idle_connections: usize,
    /// How long an idle connection to a provider is kept.
    pub keep_alive_ms: u64,
    /// Bytes of one unfinished server-sent event that are held back; a larger event is passed on in pieces.
    pub max_event_bytes: usize,
    /// The largest whole answer of a provider that is translated for its caller.
    pub max_answer_bytes: usize,
}

impl Default for Relay {
    fn default() -> Self {
        Self {
            connect_timeout_ms: 10_000,
            first_byte_timeout_ms: 300_000,
            idle_timeout_ms: 300_000,
            total_timeout_ms: 1_800_000,
            max_idle_connections: 64,
            keep_alive_ms: 30_000,
            max_event_bytes: 256 * 1024,
            max_answer_bytes: 32 * 1024 * 1024,
        }
    }
}

/// `[tenant]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tenant {
    /// The organisation's name, as it appears in FQNs.
    pub name: String,
}

impl Default for Tenant {
    fn default() -> Self {
        Self { name: "default".to_owned() }
    }
}

/// `[usage]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Usage {
    /// Usage records waiting for the disk; with no room left new calls are answered 503.
    pub max_queued_records: usize,
    /// The longest time that a record waits before it is on disk: what a crash can lose.
    pub flush_interval_ms: u64,
    /// Days that records are kept.
    pub retention_days: u64,
    /// Days that hourly sums of them are kept, at least as long as the records.
    pub aggregate_retention_days: u64,
}

impl Default for Usage {
    fn default() -> Self {
        Self {
            max_queued_records: 50_000,
            flush_interval_ms: 500,
            retention_days: 90,
            aggregate_retention_days: 800,
        }
    }
}

/// `[request_log]`: bounds of what is kept of bodies. Whether any are kept is decided while the gateway runs, in the
/// settings of the tenant and of provider accounts.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RequestLog {
    /// Bytes that are kept of one body; of a longer one its beginning.
    pub max_body_bytes: usize,
    /// Bytes of memory for the bodies of all calls in flight and of those that wait for the disk; past it they are not
    /// kept.
    pub max_held_bytes: usize,
    /// Days that bodies are kept.
    pub retention_days: u64,
    /// About the most bytes that they take on disk; past it the oldest go.
    pub max_total_bytes: u64,
}

impl Default for RequestLog {
    fn default() -> Self {
        Self {
            max_body_bytes: 1024 * 1024,
            max_held_bytes: 64 * 1024 * 1024,
            retention_days: 30,
            max_total_bytes: 10 * 1024 * 1024 * 1024,
        }
    }
}

/// `[console]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Console {
    /// Minutes after which a browser's session that nobody uses ends.
    pub session_idle_minutes: u64,
    /// Hours after which every session of a browser ends, however much it is used.
    pub session_max_hours: u64,
}

impl Default for Console {
    fn default() -> Self {
        Self { session_idle_minutes: 480, session_max_hours: 168 }
    }
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: LogLevel,
    /// Log lines waiting for standard error; more are dropped and counted.
    pub max_queued_lines: usize,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: LogLevel::Info, max_queued_lines: 4096 }
    }
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the words say it")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

//! What the types of `Config` can not say: bounds, pairs, and texts that have a form.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::Path;

use super::{Config, EgressRule, Network, Ops, Server};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// A day. Longer waits are a slip of the keyboard.
const MAX_TIMEOUT_MS: u64 = 86_400_000;

/// A value that can not be, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) section: &'static str,
    pub(super) key: &'static str,
    pub(super) text: String,
}

/// Everything that is wrong with a configuration.
pub(super) fn faults(config: &Config) -> Vec<Fault> {
    let mut faults = Faults(Vec::new());
    server(config, &mut faults);
    ops(config, &mut faults);
    store(config, &mut faults);
    egress(config, &mut faults);
    relay(config, &mut faults);
    tenant(config, &mut faults);
    usage_and_log(config, &mut faults);
    request_log(config, &mut faults);
    console(config, &mut faults);
    faults.0
}

struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, section: &'static str, key: &'static str, text: impl Into<String>) {
        self.0.push(Fault { section, key, text: text.into() });
    }

    fn number(
        &mut self,
        section: &'static str,
        key: &'static str,
        value: usize,
        sane: RangeInclusive<usize>,
    ) {
        if !sane.contains(&value) {
            let text = format!("{value} is out of bounds; write {} to {}", sane.start(), sane.end());
            self.add(section, key, text);
        }
    }

    fn span(&mut self, section: &'static str, key: &'static str, value: u64, sane: RangeInclusive<u64>) {
        if !sane.contains(&value) {
            let text = format!("{value} is out of bounds; write {} to {}", sane.start(), sane.end());
            self.add(section, key, text);
        }
    }

    fn timeouts<const N: usize>(&mut self, section: &'static str, values: [(&'static str, u64); N]) {
        for (key, value) in values {
            if !(1..=MAX_TIMEOUT_MS).contains(&value) {
                let text = format!("{value} is no time to wait; write 1 to {MAX_TIMEOUT_MS} (milliseconds)");
                self.add(section, key, text);
            }
        }
    }

    fn absolute(&mut self, section: &'static str, key: &'static str, path: &Path) {
        if !path.is_absolute() {
            let text = format!("'{}' is not an absolute path; write one that starts with /", path.display());
            self.add(section, key, text);
        }
    }
}

fn server(config: &Config, faults: &mut Faults) {
    let server = &config.server;
    match (&server.tls_cert_file, &server.tls_key_file) {
        (Some(_), None) => {
            faults.add("server", "tls_cert_file", "TLS needs 'tls_key_file' as well; write both or none");
        }
        (None, Some(_)) => {
            faults.add("server", "tls_key_file", "TLS needs 'tls_cert_file' as well; write both or none");
        }
        _ => {}
    }
    if let Some(file) = &server.tls_cert_file {
        faults.absolute("server", "tls_cert_file", file);
    }
    if let Some(file) = &server.tls_key_file {
        faults.absolute("server", "tls_key_file", file);
    }
    faults.number("server", "workers", server.workers, 0..=256);
    faults.number("server", "max_connections", server.max_connections, 1..=20_000);
    faults.number("server", "max_head_bytes", server.max_head_bytes, KIB..=MIB);
    faults.number("server", "max_headers", server.max_headers, 16..=1000);
    faults.number("server", "max_body_bytes", server.max_body_bytes, KIB..=1024 * MIB);
    faults.number("server", "max_buffered_bytes", server.max_buffered_bytes, KIB..=64 * 1024 * MIB);
    if server.max_body_bytes > server.max_buffered_bytes && server.max_buffered_bytes >= KIB {
        // The line to blame is the one that somebody wrote.
        let untouched = server.max_body_bytes == Server::default().max_body_bytes;
        let text = format!(
            "'max_body_bytes' ({}) is more than 'max_buffered_bytes' ({}), so the largest body could never be \
             taken; lower the first or raise the second",
            server.max_body_bytes, server.max_buffered_bytes
        );
        faults.add("server", if untouched { "max_buffered_bytes" } else { "max_body_bytes" }, text);
    }
    for network in &server.trusted_proxies {
        if let Err(text) = Network::parse(network) {
            faults.add("server", "trusted_proxies", text);
        }
    }
    faults.timeouts(
        "server",
        [
            ("header_timeout_ms", server.header_timeout_ms),
            ("body_timeout_ms", server.body_timeout_ms),
            ("idle_timeout_ms", server.idle_timeout_ms),
            ("drain_timeout_ms", server.drain_timeout_ms),
        ],
    );
}

fn ops(config: &Config, faults: &mut Faults) {
    let listen = config.ops.listen;
    if !listen.ip().is_loopback() {
        let text = format!(
            "{listen} can be reached from outside, and this listener asks for no token; write a loopback \
             address, such as \"127.0.0.1:9464\""
        );
        faults.add("ops", "listen", text);
    }
    if listen.port() == 0 {
        faults.add(
            "ops",
            "listen",
            "this listener needs a fixed port; write one, such as \"127.0.0.1:9464\"",
        );
    }
    let main = config.server.listen;
    let overlap = main.ip() == listen.ip()
        || main.ip() == IpAddr::from([0, 0, 0, 0]) && listen.is_ipv4()
        || main.ip() == IpAddr::from([0u16; 8]);
    if listen.port() != 0 && listen.port() == main.port() && overlap {
        let section = if listen == Ops::default().listen { "server" } else { "ops" };
        faults.add(section, "listen", "both listeners would take the same port; write another one");
    }
    faults.number("ops", "max_label_sets", config.ops.max_label_sets, 1..=100_000);
}

fn store(config: &Config, faults: &mut Faults) {
    faults.absolute("store", "data_dir", &config.store.data_dir);
    if let Some(file) = &config.store.master_key_file {
        faults.absolute("store", "master_key_file", file);
    }
}

fn egress(config: &Config, faults: &mut Faults) {
    if let Some(folder) = &config.egress.webhook_dir {
        faults.absolute("egress", "webhook_dir", folder);
    }
    for rule in config.egress.allow.iter().flatten() {
        if let Err(text) = EgressRule::parse(rule) {
            faults.add("egress", "allow", text);
        }
    }
}

fn relay(config: &Config, faults: &mut Faults) {
    let relay = &config.relay;
    faults.timeouts(
        "relay",
        [
            ("connect_timeout_ms", relay.connect_timeout_ms),
            ("first_byte_timeout_ms", relay.first_byte_timeout_ms),
            ("idle_timeout_ms", relay.idle_timeout_ms),
            ("total_timeout_ms", relay.total_timeout_ms),
            ("keep_alive_ms", relay.keep_alive_ms),
        ],
    );
    faults.number("relay", "max_idle_connections", relay.max_idle_connections, 0..=10_000);
    faults.number("relay", "max_event_bytes", relay.max_event_bytes, KIB..=16 * MIB);
    faults.number("relay", "max_answer_bytes", relay.max_answer_bytes, KIB..=1024 * MIB);
}

fn tenant(config: &Config, faults: &mut Faults) {
    let name = &config.tenant.name;
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > 63 || name.starts_with('-') || !name.bytes().all(allowed) {
        let text = format!(
            "'{}' is not a tenant name; write 1 to 63 of a-z, 0-9 and '-', not beginning with '-'",
            name.escape_debug()
        );
        faults.add("tenant", "name", text);
    }
}

fn request_log(config: &Config, faults: &mut Faults) {
    const SECTION: &str = "request_log";
    let log = &config.request_log;
    let mib = |mib: u64| mib.saturating_mul(1024 * 1024);
    faults.number(SECTION, "max_body_bytes", log.max_body_bytes, KIB..=8 * MIB);
    faults.number(SECTION, "max_held_bytes", log.max_held_bytes, 16 * KIB..=16 * 1024 * MIB);
    faults.span(SECTION, "retention_days", log.retention_days, 1..=36_500);
    faults.span(SECTION, "max_total_bytes", log.max_total_bytes, mib(1)..=mib(16 * 1024 * 1024));
}

fn console(config: &Config, faults: &mut Faults) {
    let console = &config.console;
    faults.span("console", "session_idle_minutes", console.session_idle_minutes, 1..=525_600);
    faults.span("console", "session_max_hours", console.session_max_hours, 1..=8_760);
}

fn usage_and_log(config: &Config, faults: &mut Faults) {
    let usage = &config.usage;
    faults.number("usage", "max_queued_records", usage.max_queued_records, 1..=1_000_000);
    faults.span("usage", "flush_interval_ms", usage.flush_interval_ms, 1..=60_000);
    faults.span("usage", "retention_days", usage.retention_days, 1..=36_500);
    faults.span("usage", "aggregate_retention_days", usage.aggregate_retention_days, 1..=36_500);
    faults.number("log", "max_queued_lines", config.log.max_queued_lines, 1..=1_000_000);
}

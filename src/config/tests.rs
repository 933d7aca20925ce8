use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::load::{fields_of, sections};
use super::{Config, EgressRule, LogLevel, Network};

const EXAMPLE: &str = include_str!("../../config.example.toml");

/// Keys that have no default: the example shows a value, the default is "not set".
const WITHOUT_DEFAULT: [&str; 5] = [
    "server.tls_cert_file",
    "server.tls_key_file",
    "store.master_key_file",
    "egress.allow",
    "egress.webhook_dir",
];

/// `section.key` of every key that the example shows, in its order.
fn keys_of_example() -> Vec<String> {
    let mut section = "";
    let mut keys = Vec::new();
    for line in EXAMPLE.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let Some(key) = key_of(line) {
            keys.push(format!("{section}.{key}"));
        }
    }
    keys
}

/// The key of a commented default: a `#` with no space behind it.
fn key_of(line: &str) -> Option<&str> {
    let key = line.strip_prefix('#')?.split_once(" = ")?.0;
    key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_').then_some(key)
}

fn keys_of_structs() -> BTreeSet<String> {
    sections()
        .iter()
        .flat_map(|(section, keys)| keys.iter().map(move |key| format!("{section}.{key}")))
        .collect()
}

fn uncommented_example() -> String {
    EXAMPLE
        .lines()
        .map(|line| if key_of(line).is_some() { &line[1..] } else { line })
        .collect::<Vec<_>>()
        .join("\n")
}

fn read(text: &str) -> Result<Config, String> {
    Config::from_bytes(text.as_bytes()).map_err(|problems| {
        let lines: Vec<_> = problems
            .iter()
            .map(|p| format!("{}: {}", p.line.map_or("-".to_owned(), |l| l.to_string()), p.text))
            .collect();
        lines.join("\n")
    })
}

#[test]
fn the_example_as_it_stands_is_the_defaults() {
    assert_eq!(read(EXAMPLE).unwrap(), Config::default());
    assert_eq!(read("").unwrap(), Config::default());
}

#[test]
fn the_example_with_its_comments_stripped_is_the_defaults() {
    let mut config = read(&uncommented_example()).unwrap();
    // Shown with a value because "not set" can not be written in TOML.
    assert!(config.server.tls_cert_file.take().is_some());
    assert!(config.server.tls_key_file.take().is_some());
    assert!(config.store.master_key_file.take().is_some());
    assert!(config.egress.allow.take().is_some());
    assert!(config.egress.webhook_dir.take().is_some());
    assert_eq!(config, Config::default());
}

#[test]
fn every_key_stands_in_the_example_once() {
    let shown = keys_of_example();
    let unique: BTreeSet<_> = shown.iter().cloned().collect();
    assert_eq!(shown.len(), unique.len());
    assert_eq!(unique, keys_of_structs());
    for key in WITHOUT_DEFAULT {
        assert!(unique.contains(key), "{key}");
    }
}

#[test]
fn the_sections_are_those_of_the_struct() {
    let names: Vec<_> = sections().iter().map(|(section, _)| *section).collect();
    assert_eq!(names, fields_of::<Config>());
    assert!(sections().iter().all(|(_, keys)| !keys.is_empty()));
}

/// Where each key's effect is shown: file and test. A new key fails here until a test shows that it does something.
const EFFECTS: [(&str, &str, &str); 42] = [
    ("server.listen", "tests/support/gateway.rs", "fn try_serve"),
    ("server.tls_cert_file", "tests/sdk/test_tls.py", "def test_"),
    ("server.tls_key_file", "tests/sdk/test_tls.py", "def test_"),
    ("server.workers", "tests/effects.rs", "fn workers_are_threads"),
    ("server.max_connections", "tests/http_front.rs", "fn a_connection_too_many_is_503_until_one_ends"),
    (
        "server.max_head_bytes",
        "tests/http_front.rs",
        "fn what_breaks_the_grammar_or_a_limit_is_refused_and_closed",
    ),
    (
        "server.max_headers",
        "tests/http_front.rs",
        "fn what_breaks_the_grammar_or_a_limit_is_refused_and_closed",
    ),
    (
        "server.max_body_bytes",
        "tests/http_front.rs",
        "fn what_breaks_the_grammar_or_a_limit_is_refused_and_closed",
    ),
    ("server.max_buffered_bytes", "tests/storm.rs", "fn too_many_buffered_bytes_are_503_and_given_back"),
    ("server.trusted_proxies", "tests/effects.rs", "fn a_trusted_proxy_is_believed_about_the_caller"),
    (
        "server.header_timeout_ms",
        "tests/http_front.rs",
        "fn slow_heads_and_bodies_are_408_and_idle_connections_end_quietly",
    ),
    (
        "server.body_timeout_ms",
        "tests/http_front.rs",
        "fn slow_heads_and_bodies_are_408_and_idle_connections_end_quietly",
    ),
    (
        "server.idle_timeout_ms",
        "tests/http_front.rs",
        "fn slow_heads_and_bodies_are_408_and_idle_connections_end_quietly",
    ),
    ("server.drain_timeout_ms", "tests/lifecycle.rs", "fn the_drain_has_a_limit"),
    ("ops.listen", "tests/ops.rs", "fn health_and_readiness"),
    ("ops.max_label_sets", "tests/ops.rs", "fn labels_hold_no_secret_and_their_count_is_bounded"),
    ("store.data_dir", "tests/support/gateway.rs", "fn data_dir"),
    ("store.master_key_file", "tests/effects.rs", "fn the_master_key_can_live_elsewhere"),
    ("egress.allow", "tests/effects.rs", "fn what_egress_does_not_allow_is_not_dialled"),
    ("egress.webhook_dir", "tests/alerts.rs", "fn an_alert_is_posted_once_to_each_channel"),
    ("relay.connect_timeout_ms", "tests/effects.rs", "fn a_provider_that_does_not_accept_is_504"),
    (
        "relay.first_byte_timeout_ms",
        "tests/answers.rs",
        "fn an_unreachable_provider_is_502_and_a_slow_one_504",
    ),
    ("relay.idle_timeout_ms", "tests/streams.rs", "fn a_silent_stream_is_ended_by_its_limits"),
    ("relay.total_timeout_ms", "tests/streams.rs", "fn a_silent_stream_is_ended_by_its_limits"),
    ("relay.max_idle_connections", "tests/effects.rs", "fn no_connection_is_kept_where_none_may_be"),
    ("relay.keep_alive_ms", "tests/effects.rs", "fn a_kept_connection_is_closed_after_a_while"),
    ("relay.max_event_bytes", "tests/streams.rs", "fn a_giant_event_passes"),
    ("relay.max_answer_bytes", "tests/translate.rs", "fn an_answer_too_large_to_translate_is_502"),
    (
        "upstream.aws_machine_credentials",
        "src/api/tests/accounts.rs",
        "fn the_machines_own_credentials_are_for_those_who_allow_them",
    ),
    ("tenant.name", "tests/effects.rs", "fn the_tenant_has_its_name"),
    ("usage.max_queued_records", "tests/storm.rs", "fn a_call_that_can_not_be_accounted_for_is_503"),
    ("usage.flush_interval_ms", "tests/crash.rs", "fn a_kill_loses_at_most_the_last_interval_of_usage"),
    ("usage.retention_days", "src/usage/tests.rs", "fn records_past_retention_are_removed"),
    (
        "usage.aggregate_retention_days",
        "src/usage/aggregate_tests.rs",
        "fn hourly_sums_stay_longer_than_records",
    ),
    ("request_log.max_body_bytes", "tests/bodies.rs", "fn a_long_body_is_kept_in_part_and_says_so"),
    ("request_log.max_held_bytes", "tests/bodies.rs", "fn what_finds_no_room_is_counted_and_hinders_nobody"),
    ("request_log.retention_days", "src/request_log/tests.rs", "fn bodies_past_retention_are_removed"),
    ("request_log.max_total_bytes", "src/request_log/tests.rs", "fn the_oldest_go_when_there_is_too_much"),
    ("console.session_idle_minutes", "src/console/tests/entrance.rs", "fn sessions_end_idle_or_not"),
    ("console.session_max_hours", "src/console/tests/entrance.rs", "fn sessions_end_idle_or_not"),
    ("log.level", "tests/lifecycle.rs", "fn the_log_level_is_obeyed_and_a_line_can_not_be_forged"),
    ("log.max_queued_lines", "src/logging.rs", "max_queued_lines"),
];

#[test]
fn every_key_has_an_effect() {
    let listed: BTreeSet<_> = EFFECTS.iter().map(|(key, ..)| (*key).to_owned()).collect();
    assert_eq!(listed, keys_of_structs());
    for (key, file, test) in EFFECTS {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        assert!(text.contains(test), "{key}: no '{test}' in {file}");
    }
}

#[test]
fn every_key_reaches_its_field() {
    let config = read(
        r#"
        [server]
        listen = "0.0.0.0:80"
        tls_cert_file = "/c"
        tls_key_file = "/k"
        workers = 3
        max_connections = 5
        max_head_bytes = 2048
        max_headers = 17
        max_body_bytes = 4096
        max_buffered_bytes = 8192
        trusted_proxies = ["10.0.0.0/8", "::1"]
        header_timeout_ms = 1
        body_timeout_ms = 2
        idle_timeout_ms = 3
        drain_timeout_ms = 4
        [ops]
        listen = "[::1]:1"
        max_label_sets = 6
        [store]
        data_dir = "/d"
        master_key_file = "/m"
        [egress]
        allow = []
        [relay]
        connect_timeout_ms = 7
        first_byte_timeout_ms = 8
        idle_timeout_ms = 9
        total_timeout_ms = 10
        max_idle_connections = 0
        keep_alive_ms = 11
        max_event_bytes = 1024
        max_answer_bytes = 2048
        [upstream]
        aws_machine_credentials = true
        [tenant]
        name = "acme-1"
        [usage]
        max_queued_records = 12
        flush_interval_ms = 13
        retention_days = 14
        [request_log]
        max_body_bytes = 2048
        max_held_bytes = 16384
        retention_days = 16
        max_total_bytes = 1048577
        [console]
        session_idle_minutes = 16
        session_max_hours = 17
        [log]
        level = "trace"
        max_queued_lines = 15
        "#,
    )
    .unwrap();
    assert_eq!(config.server.listen, "0.0.0.0:80".parse().unwrap());
    assert_eq!(config.server.tls_key_file, Some(PathBuf::from("/k")));
    assert_eq!(config.server.trusted_proxies, ["10.0.0.0/8", "::1"]);
    assert_eq!((config.server.workers, config.server.max_headers), (3, 17));
    assert_eq!(config.ops.listen, "[::1]:1".parse().unwrap());
    assert_eq!(config.store.data_dir, PathBuf::from("/d"));
    assert_eq!(config.egress.allow, Some(Vec::new()));
    assert_eq!((config.relay.keep_alive_ms, config.relay.max_event_bytes), (11, 1024));
    assert_eq!(config.tenant.name, "acme-1");
    assert_eq!((config.usage.flush_interval_ms, config.usage.retention_days), (13, 14));
    let bodies = &config.request_log;
    assert_eq!((bodies.max_body_bytes, bodies.max_held_bytes), (2048, 16_384));
    assert_eq!((bodies.retention_days, bodies.max_total_bytes), (16, 1_048_577));
    assert_eq!((config.console.session_idle_minutes, config.console.session_max_hours), (16, 17));
    assert_eq!((config.log.level, config.log.max_queued_lines), (LogLevel::Trace, 15));
}

#[test]
fn unknown_names_are_refused_with_line_and_nearest_name() {
    let cases = [
        (
            "[server]\n\nmax_conections = 5",
            "3: unknown key 'max_conections' in [server]; did you mean 'max_connections'?",
        ),
        (
            "[server]\nmax-headers = 5",
            "2: unknown key 'max-headers' in [server]; did you mean 'max_headers'?",
        ),
        (
            "[server]\nMAX_HEADERS = 5",
            "2: unknown key 'MAX_HEADERS' in [server]; did you mean 'max_headers'?",
        ),
        ("server.listn = \"\"", "1: unknown key 'listn' in [server]; did you mean 'listen'?"),
        ("\n[sever]\nlisten = \"\"", "2: unknown section [sever]; did you mean [server]?"),
        ("listen = \"\"", "1: 'listen' stands outside of its section; write it under [server] or [ops]"),
        ("[log]\ndata_dir = \"/x\"", "2: unknown key 'data_dir' in [log]; it belongs under [store]"),
        ("[tenant]\ncolour = 1", "2: unknown key 'colour' in [tenant]; its keys are name"),
        (
            "[zebra]",
            "1: unknown section [zebra]; there are [server], [ops], [store], [egress], [relay], [upstream], [tenant], [usage], [request_log], [console], [log]",
        ),
        ("server = 5", "1: 'server' is a section; write [server] and its keys below"),
        ("[[server]]", "1: 'server' is a section; write [server] and its keys below"),
        (
            "[log]\nlevle = 1\n[ops]\nlisten_ = 2",
            "2: unknown key 'levle' in [log]; did you mean 'level'?\n\
             4: unknown key 'listen_' in [ops]; did you mean 'listen'?",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(read(text).unwrap_err(), expected, "{text}");
    }
}

#[test]
fn wrong_types_are_refused_with_line_and_key() {
    let cases = [
        ("[server]\nworkers = \"4\"", "2: 'workers' in [server]: ", "a whole number, 0 or more"),
        ("[server]\nworkers = -1", "2: 'workers' in [server]: ", "a whole number, 0 or more"),
        ("[server]\nworkers = 1.5", "2: 'workers' in [server]: ", "a whole number"),
        ("[relay]\n\nidle_timeout_ms = \"5s\"", "3: 'idle_timeout_ms' in [relay]: ", "a whole number"),
        ("[server]\nlisten = \"localhost:80\"", "2: 'listen' in [server]: ", "such as \"127.0.0.1:8080\""),
        ("[server]\nlisten = 8080", "2: 'listen' in [server]: ", "such as \"127.0.0.1:8080\""),
        (
            "[server]\ntrusted_proxies = \"::1\"",
            "2: 'trusted_proxies' in [server]: ",
            "such as [\"a\", \"b\"]",
        ),
        ("[egress]\nallow = [\n 1,\n]", "2: 'allow' in [egress]: ", "text in quotes"),
        ("[store]\ndata_dir = 1", "2: 'data_dir' in [store]: ", "a path in quotes"),
        ("[tenant]\nname = true", "2: 'name' in [tenant]: ", "text in quotes"),
        ("[log]\nlevel = \"loud\"", "2: 'level' in [log]: ", "`error`, `warn`, `info`, `debug`, `trace`"),
        ("[server\n", "1: not TOML: ", ""),
        ("[server]\nworkers = 1\nworkers = 2", "3: not TOML: duplicate key", ""),
        ("[server]\n[server]", "2: not TOML: duplicate key", ""),
    ];
    for (text, start, part) in cases {
        let error = read(text).unwrap_err();
        assert!(error.starts_with(start) && error.contains(part), "{text}\n{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    assert_eq!(Config::from_bytes(b"[log]\n# \xff").unwrap_err()[0].line, Some(2));
}

#[test]
fn values_out_of_bounds_are_refused_with_line_and_key() {
    let cases = [
        ("server", "tls_cert_file = \"/c\"", "'tls_key_file' as well"),
        ("server", "tls_key_file = \"/k\"", "'tls_cert_file' as well"),
        ("server", "max_connections = 0", "write 1 to 20000"),
        ("server", "max_connections = 20001", "write 1 to 20000"),
        ("server", "max_head_bytes = 1023", "write 1024 to 1048576"),
        ("server", "max_head_bytes = 1048577", "write 1024 to 1048576"),
        ("server", "max_headers = 15", "write 16 to 1000"),
        ("server", "max_headers = 1001", "write 16 to 1000"),
        ("server", "workers = 257", "write 0 to 256"),
        ("server", "max_body_bytes = 0", "write 1024 to"),
        ("server", "max_body_bytes = 536870913", "lower the first or raise the second"),
        ("server", "max_buffered_bytes = 0", "write 1024 to"),
        ("request_log", "max_body_bytes = 1023", "write 1024 to 8388608"),
        ("request_log", "max_body_bytes = 8388609", "write 1024 to 8388608"),
        ("request_log", "max_held_bytes = 0", "write 16384 to"),
        ("request_log", "retention_days = 0", "write 1 to 36500"),
        ("request_log", "max_total_bytes = 1024", "write 1048576 to"),
        ("server", "trusted_proxies = [\"10.0.0.0/33\"]", "is not a network"),
        ("server", "trusted_proxies = [\"proxy.example\"]", "is not a network"),
        ("server", "trusted_proxies = [\"10.0.0.1/8\"]", "write 10.0.0.0/8"),
        ("server", "header_timeout_ms = 0", "write 1 to 86400000"),
        ("server", "body_timeout_ms = 86400001", "write 1 to 86400000"),
        ("server", "idle_timeout_ms = 0", "write 1 to 86400000"),
        ("server", "drain_timeout_ms = 0", "write 1 to 86400000"),
        ("ops", "listen = \"0.0.0.0:9464\"", "write a loopback address"),
        ("ops", "listen = \"192.0.2.1:9464\"", "write a loopback address"),
        ("ops", "listen = \"127.0.0.1:0\"", "needs a fixed port"),
        ("ops", "listen = \"127.0.0.1:8080\"", "write another one"),
        ("ops", "max_label_sets = 0", "write 1 to"),
        ("store", "data_dir = \"var/lib\"", "write one that starts with /"),
        ("store", "data_dir = \"\"", "write one that starts with /"),
        ("store", "master_key_file = \"key\"", "write one that starts with /"),
        ("egress", "allow = [\"https://api.openai.com\"]", "without scheme and port"),
        ("egress", "allow = [\"api.openai.com:443\"]", "without scheme and port"),
        ("egress", "allow = [\"*\"]", "is not a destination"),
        ("egress", "allow = [\"\"]", "is not a destination"),
        ("egress", "allow = [\"10.0.0.0/8\", \"10.1/16\"]", "is not a destination"),
        ("relay", "connect_timeout_ms = 0", "write 1 to 86400000"),
        ("relay", "first_byte_timeout_ms = 0", "write 1 to 86400000"),
        ("relay", "idle_timeout_ms = 0", "write 1 to 86400000"),
        ("relay", "total_timeout_ms = 0", "write 1 to 86400000"),
        ("relay", "keep_alive_ms = 0", "write 1 to 86400000"),
        ("relay", "max_idle_connections = 10001", "write 0 to 10000"),
        ("relay", "max_event_bytes = 1", "write 1024 to"),
        ("relay", "max_answer_bytes = 1", "write 1024 to"),
        ("tenant", "name = \"\"", "write 1 to 63 of"),
        ("tenant", "name = \"Acme\"", "write 1 to 63 of"),
        ("tenant", "name = \"-acme\"", "write 1 to 63 of"),
        ("tenant", "name = \"a\\nb\"", "'a\\nb' is not a tenant name"),
        ("usage", "max_queued_records = 0", "write 1 to 1000000"),
        ("usage", "flush_interval_ms = 0", "write 1 to 60000"),
        ("usage", "retention_days = 0", "write 1 to 36500"),
        ("usage", "aggregate_retention_days = 0", "write 1 to 36500"),
        ("console", "session_idle_minutes = 0", "write 1 to 525600"),
        ("console", "session_max_hours = 0", "write 1 to 8760"),
        ("console", "session_max_hours = 8761", "write 1 to 8760"),
        ("log", "max_queued_lines = 0", "write 1 to 1000000"),
    ];
    for (section, assignment, part) in cases {
        let key = assignment.split_once(" = ").unwrap().0;
        let error = read(&format!("# a comment\n[{section}]\n{assignment}")).unwrap_err();
        assert!(error.starts_with(&format!("3: '{key}' in [{section}]: ")), "{assignment}\n{error}");
        assert!(error.contains(part) && error.lines().count() == 1, "{assignment}\n{error}");
    }
}

#[test]
fn every_wrong_value_is_reported_at_once() {
    let error = read("[server]\nmax_headers = 1\n[tenant]\nname = \"A\"").unwrap_err();
    assert_eq!(error.lines().map(|l| &l[..2]).collect::<Vec<_>>(), ["2:", "4:"], "{error}");
}

#[test]
fn of_two_that_do_not_fit_the_written_one_is_blamed() {
    let error = read("[server]\nmax_buffered_bytes = 2048").unwrap_err();
    assert!(error.starts_with("2: 'max_buffered_bytes' in [server]: "), "{error}");
    let error = read("[server]\nlisten = \"0.0.0.0:9464\"").unwrap_err();
    assert!(error.starts_with("2: 'listen' in [server]: "), "{error}");
    assert!(read("[server]\nlisten = \"192.0.2.1:9464\"").is_ok());
}

#[test]
fn a_file_is_named_in_the_error() {
    let missing = Path::new("/nonexistent/gateway.toml");
    let error = Config::from_file(missing).unwrap_err().to_string();
    assert!(error.starts_with("/nonexistent/gateway.toml: "), "{error}");
    let huge = Config::from_file(Path::new("/dev/zero")).unwrap_err().to_string();
    assert!(huge.contains("larger than 1 MiB"), "{huge}");
    assert_eq!(Config::source(Some(missing)), Some(missing.to_owned()));
}

#[test]
fn networks() {
    let holds = |network: &str, address: &str| {
        Network::parse(network).unwrap().contains(address.parse::<IpAddr>().unwrap())
    };
    assert!(holds("10.0.0.0/8", "10.255.0.1") && !holds("10.0.0.0/8", "11.0.0.0"));
    assert!(holds("0.0.0.0/0", "203.0.113.9") && !holds("0.0.0.0/0", "::1"));
    assert!(holds("::/0", "::1") && !holds("::/0", "203.0.113.9"));
    assert!(holds("192.0.2.1", "::ffff:192.0.2.1") && !holds("192.0.2.1", "192.0.2.2"));
    assert!(holds("2001:db8::/32", "2001:db8:1::5") && !holds("2001:db8::/32", "2001:db9::"));
    for wrong in
        ["", "/8", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/08", "10.0.0.0/33", "::/129", "::ffff:10.0.0.0/104"]
    {
        assert!(Network::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn egress_rules() {
    let rule = |text: &str| EgressRule::parse(text).unwrap();
    assert!(rule("api.example.com").names("API.example.com."));
    assert!(!rule("api.example.com").names("xapi.example.com"));
    assert!(rule("*.example.com").names("a.b.example.com"));
    for other in ["example.com", ".example.com", "badexample.com", "example.com.evil.org"] {
        assert!(!rule("*.example.com").names(other), "{other}");
    }
    assert!(rule("localhost").names("localhost"));
    assert!(rule("10.0.0.0/8").contains("10.1.2.3".parse().unwrap()));
    assert!(!rule("10.0.0.0/8").names("10.1.2.3"));
    for wrong in ["*.", "*.*.com", "a..b", "-a.com", "a b", "1.2.3", "0x7f.1", "a/b", "é.example", "[::1]"] {
        assert!(EgressRule::parse(wrong).is_err(), "{wrong}");
    }
}

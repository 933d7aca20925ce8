//! Start, signals, the end, and what the log says.

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

use std::process::Stdio;
use std::time::{Duration, Instant};

use support::client::Client;
use support::sse::{DONE, FINISH, assert_ends_with_error, text};
use support::{CHAT_ANSWER, Fixture, Gateway, Home, PROVIDER_KEY, Provider, chat, eventually};

fn endless(config: &str) -> Fixture {
    Fixture::with_config(config, |_, answer| {
        answer.sse_head();
        answer.chunk(text("first"));
        if answer.wait("finish") {
            answer.chunk(FINISH);
            answer.chunk(DONE);
            answer.last_chunk();
        }
    })
}

#[test]
fn a_signal_stops_accepting_and_lets_calls_finish() {
    for signal in ["TERM", "INT"] {
        let mut fixture = endless("");
        let mut idle = fixture.connect();
        assert_eq!(idle.get("/healthz", "").status, 200);
        let (mut client, _) = fixture.open_stream("");
        client.read_until("first");
        fixture.gateway.signal(signal);
        // No new connection, no new call on an old one; idle ones end.
        eventually("the end of accepting", || {
            std::net::TcpStream::connect(fixture.gateway.addr).is_err().then_some(())
        });
        assert!(idle.read_to_end().is_empty(), "an idle connection ends quietly");
        assert!(fixture.gateway.running(), "a call is still in flight");
        fixture.provider.signal("finish");
        let (body, complete) = client.read_rest();
        assert!(complete && body.ends_with(DONE.as_bytes()), "{signal}: the stream was cut");
        let since = Instant::now();
        let status = fixture.gateway.wait();
        assert!(status.success(), "{signal}: {status}");
        assert!(since.elapsed() < Duration::from_secs(2), "{signal}: it lingered {:?}", since.elapsed());
        // The call's usage was flushed.
        let rows = support::gateway::rows(&fixture.gateway.admin_json(&["usage", "report", "--by", "user"]));
        assert_eq!(rows[0]["calls"], 1, "{rows:?}");
    }
}

#[test]
fn the_drain_has_a_limit() {
    let mut fixture = endless("server.drain_timeout_ms = 500\n");
    let (mut client, _) = fixture.open_stream("");
    client.read_until("first");
    let since = Instant::now();
    fixture.gateway.signal("TERM");
    let (body, complete) = client.read_rest();
    assert!(complete, "cut without an end");
    assert_ends_with_error(&body);
    let status = fixture.gateway.wait();
    assert!(status.success(), "{status}");
    let took = since.elapsed();
    assert!(took >= Duration::from_millis(450) && took < Duration::from_secs(3), "{took:?}");
    let rows = support::gateway::rows(&fixture.gateway.admin_json(&["usage", "report", "--by", "user"]));
    assert_eq!(rows[0]["calls"], 1, "a cut call is accounted for: {rows:?}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut fixture = endless("server.drain_timeout_ms = 60000\n");
    let (mut client, _) = fixture.open_stream("");
    client.read_until("first");
    fixture.gateway.signal("TERM");
    eventually("the end of accepting", || {
        std::net::TcpStream::connect(fixture.gateway.addr).is_err().then_some(())
    });
    assert!(fixture.gateway.running());
    let since = Instant::now();
    fixture.gateway.signal("TERM");
    let status = fixture.gateway.wait();
    assert!(!status.success(), "it did not finish what it had promised to: {status}");
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
}

#[test]
fn sighup_and_a_closed_standard_error_do_not_end_it() {
    let mut fixture = Fixture::on(Provider::answering(CHAT_ANSWER), "");
    for _ in 0..5 {
        fixture.gateway.signal("HUP");
    }
    assert_eq!(fixture.chat("").status, 200);
    assert!(fixture.gateway.running());

    // A supervisor that went away must not take the gateway with it.
    let home = Home::new("server.listen = \"127.0.0.1:0\"\n");
    let mut child = home.serve_command().stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening on") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut stderr, &mut line).unwrap() > 0);
    }
    drop(stderr);
    let addr = line.trim().rsplit('/').next().unwrap().parse().unwrap();
    for _ in 0..50 {
        assert_eq!(Client::connect(addr).get("/v1/models", "wrong").status, 401);
    }
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_second_server_on_the_same_folder_is_refused_in_words() {
    let gateway = Gateway::start();
    let since = Instant::now();
    let output = gateway.home.serve_command().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(gateway.home.data_dir().to_str().unwrap()), "it names the folder: {said}");
    assert!(!said.contains("panicked") && !said.contains("listening on"), "{said}");
    assert!(since.elapsed() < Duration::from_secs(5));
    assert_eq!(Client::connect(gateway.addr).get("/healthz", "").status, 200, "the first goes on");
    // And the first is still the one that the command line talks to.
    gateway.admin_ok(&["user", "create", "ada@example.com"]);
    let token = gateway.user_token("ada@example.com");
    assert_eq!(Client::connect(gateway.addr).get("/v1/models", &token).status, 200);
}

#[test]
fn what_is_wrong_at_the_start_is_said_in_words() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    for (name, config, wanted) in [
        ("port in use", format!("server.listen = \"{taken}\"\n"), taken.to_string()),
        ("unknown key", "server.max_boddy_bytes = 1\n".to_owned(), "max_body_bytes".to_owned()),
        ("wrong type", "server.max_body_bytes = \"many\"\n".to_owned(), "max_body_bytes".to_owned()),
        (
            "no such certificate",
            "server.tls_cert_file = \"/nonexistent/c.pem\"\nserver.tls_key_file = \"/nonexistent/k.pem\"\n"
                .to_owned(),
            "/nonexistent/".to_owned(),
        ),
    ] {
        let _held = (name == "port in use").then(|| std::net::TcpListener::bind(taken).ok());
        match Home::new(&config).try_serve() {
            Ok(gateway) if name != "port in use" => panic!("{name}: it listens on {}", gateway.addr),
            Ok(_) => {}
            Err((_, status, log)) => {
                assert!(status.code().is_some_and(|code| code == 1 || code == 2), "{name}: {status}");
                assert!(log.contains(&wanted), "{name}: {log}");
                assert!(!log.contains("panicked"), "{name}: {log}");
            }
        }
    }
}

#[test]
fn the_log_has_one_line_a_request_and_no_secret() {
    let fixture = Fixture::new(|request, answer| {
        if request.text().contains("\"stream\":true") {
            answer.sse([text("ANSWER-TEXT").as_str(), FINISH, DONE].concat());
        } else if request.text().contains("\"fail\"") {
            answer.json(401, &format!("{{\"error\":{{\"message\":\"{PROVIDER_KEY} is wrong\"}}}}"));
        } else {
            answer.json(200, &CHAT_ANSWER.replace("hello", "ANSWER-TEXT"));
        }
    });
    let ask = |id: &str, path: &str, token: &str, body: &str| {
        let mut client = fixture.connect();
        let headers = format!(
            "x-request-id: {id}\r\nx-tfy-metadata: {{\"k\":\"META-TEXT\"}}\r\ncookie: COOKIE-TEXT\r\ncontent-type: application/json\r\n"
        );
        client.send_request(path, token, &headers, body.as_bytes());
        client.read_response();
    };
    let prompt = chat("main/m", ",\"x\":\"PROMPT-TEXT\"");
    let chat_path = "/v1/chat/completions?q=QUERY-TEXT";
    ask("log-plain", chat_path, &fixture.token, &prompt);
    ask("log-stream", chat_path, &fixture.token, &prompt.replacen('{', "{\"stream\":true,", 1));
    ask("log-fail", chat_path, &fixture.token, &prompt.replacen('{', "{\"fail\":1,", 1));
    ask("log-401", chat_path, "tfy_pat_WRONGTOKENTEXT", &prompt);
    ask("log-403", chat_path, &fixture.token, &prompt.replace("main/m", "none/m"));
    ask("log-400", chat_path, &fixture.token, "{\"PROMPT-TEXT\"");
    ask("log-404", "/v1/nothing", &fixture.token, &prompt);
    for (id, status) in [
        ("log-plain", "200"),
        ("log-stream", "200"),
        ("log-fail", "502"),
        ("log-401", "401"),
        ("log-403", "403"),
        ("log-400", "400"),
        ("log-404", "404"),
    ] {
        let line = fixture.gateway.wait_for_log(id);
        assert!(line.contains("INFO") && line.contains(status), "{id}: {line}");
        let count =
            fixture.gateway.log().lines().filter(|line| line.contains(id) && line.contains("INFO")).count();
        assert_eq!(count, 1, "{id}: {}", fixture.gateway.log());
    }
    let line = fixture.gateway.wait_for_log("log-plain");
    assert!(line.contains("main/m") && line.contains("ada@example.com"), "{line}");
    let secret = fixture.token.rsplit('_').next().unwrap().to_owned();
    for text in [
        &*secret,
        PROVIDER_KEY,
        "PROMPT-TEXT",
        "ANSWER-TEXT",
        "QUERY-TEXT",
        "COOKIE-TEXT",
        "META-TEXT",
        "WRONGTOKENTEXT",
    ] {
        fixture.gateway.assert_log_lacks(text);
    }
    fixture.gateway.assert_log_lacks(&fixture.provider.host_port());
}

#[test]
fn the_log_level_is_obeyed_and_a_line_can_not_be_forged() {
    for (level, lines) in [("error", 0), ("warn", 0), ("info", 1), ("debug", 1)] {
        let fixture = Fixture::on(Provider::answering(CHAT_ANSWER), &format!("log.level = \"{level}\"\n"));
        let mut client = fixture.connect();
        client.send_request(
            "/v1/x%0aFORGED?%0a\u{1b}",
            "bad",
            "x-request-id: id-1\r\nuser-agent: \u{1b}[31mFORGED\r\n",
            b"",
        );
        client.read_response();
        let body = chat("main/\\u000aFORGED\\u001b", "");
        assert_eq!(fixture.post("/v1/chat/completions", &body).status, 403);
        assert_eq!(fixture.chat("").status, 200);
        let gateway = fixture.gateway.stop_and_log();
        assert!(gateway.matches("chat/completions").count() >= lines, "{level}: {gateway}");
        if lines == 0 {
            assert!(!gateway.contains("chat/completions"), "{level}: {gateway}");
        }
        assert!(!gateway.contains('\u{1b}'), "{gateway}");
        assert!(gateway.lines().all(|line| !line.starts_with("FORGED")), "{gateway}");
        for secret in [PROVIDER_KEY, &fixture.token] {
            assert!(!gateway.contains(secret), "{level}: {secret} is in the log");
        }
    }
}

//! Against scripted servers on a TCP port and on a Unix socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use serde_json::{Value, json};

use super::{Folder, KEY, code, err, gateway, out, run};

/// Reads one request and gives that answer; what was asked: the request line, the headers, the body.
pub fn answer(stream: impl Read + Write, status: u16, body: &str) -> (String, String, String) {
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    stream.read_line(&mut first).unwrap();
    let (mut headers, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        if line == "\r\n" {
            break;
        }
        let line = line.to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        headers.push_str(&line);
    }
    let mut sent = vec![0; length];
    stream.read_exact(&mut sent).unwrap();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.get_mut().write_all(head.as_bytes()).unwrap();
    stream.get_mut().write_all(body.as_bytes()).unwrap();
    (first.trim_end().to_owned(), headers, String::from_utf8(sent).unwrap())
}

#[test]
fn over_http_with_a_token() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/base/", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let users: Vec<Value> =
            (0..1500).map(|n| json!({"email": format!("u{n}@x.io"), "active": true})).collect();
        let page = |range: std::ops::Range<usize>| {
            json!({"data": users[range.clone()], "pagination": {"total": 1500, "offset": range.start, "limit": 1000}}).to_string()
        };
        let first = answer(listener.accept().unwrap().0, 200, &page(0..1000));
        let second = answer(listener.accept().unwrap().0, 200, &page(1000..1500));
        (first, second)
    });
    let output = gateway(&["admin", "user", "list", "--search", "x&y", "--output", "json"])
        .env("GATEWAY_URL", &url)
        .env("GATEWAY_TOKEN", "tfy_pat_test")
        // Proxies of the environment are not asked.
        .env("http_proxy", "http://127.0.0.1:1")
        .env("ALL_PROXY", "http://127.0.0.1:1")
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{}", err(&output));
    let rows: Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 1500);
    let (first, second) = server.join().unwrap();
    assert_eq!(
        first.0,
        "GET /base/api/svc/v1/users?query=x%26y&showInvalidUsers=true&limit=1000&offset=0 HTTP/1.1"
    );
    assert_eq!(
        second.0,
        "GET /base/api/svc/v1/users?query=x%26y&showInvalidUsers=true&limit=1000&offset=1000 HTTP/1.1"
    );
    assert!(first.1.contains("authorization: bearer tfy_pat_test\r\n"), "{}", first.1);
}

#[test]
fn over_http_refusals_and_strangers() {
    for (status, body, wanted_status, says) in [
        (
            403,
            r#"{"statusCode":403,"message":"Only administrators may do this"}"#,
            403,
            "Only administrators",
        ),
        (301, "{}", 301, "301"),
        (502, "<html>bad gateway</html>", 502, "is it a gateway"),
        (200, "<html>hello</html>", 200, "is it a gateway"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || answer(listener.accept().unwrap().0, status, body));
        let output = gateway(&["admin", "team", "list", "--output", "json", "--url", &url])
            .env("GATEWAY_TOKEN", "tfy_pat_test")
            .output()
            .unwrap();
        server.join().unwrap();
        assert_eq!((code(&output), out(&output).as_str()), (1, ""));
        let error: Value = serde_json::from_str(&err(&output)).unwrap();
        assert_eq!(error["error"]["status"], json!(wanted_status), "{error}");
        assert!(error["error"]["message"].as_str().unwrap().contains(says), "{error}");
        assert!(!err(&output).contains("tfy_pat_test"));
    }
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let output = gateway(&["admin", "team", "list", "--url", &nobody])
        .env("GATEWAY_TOKEN", "tfy_pat_test")
        .output()
        .unwrap();
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains(&nobody), "{}", err(&output));
    for url in [
        "gateway.example.com",
        "https://user:pw@gateway.example.com",
        "https://gateway.example.com?x=1",
        "https://",
    ] {
        let output = gateway(&["admin", "team", "list", "--url", url])
            .env("GATEWAY_TOKEN", "tfy_pat_test")
            .output()
            .unwrap();
        assert_eq!(code(&output), 1, "{url}");
        assert!(!err(&output).contains("pw"), "{}", err(&output));
    }
    let output = run(&["admin", "team", "list", "--url", "https://gateway.example.com"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("GATEWAY_TOKEN"), "{}", err(&output));
}

#[test]
fn over_the_socket_without_a_token() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("data")).unwrap();
    let listener = UnixListener::bind(folder.path("data/admin.sock")).unwrap();
    let server = std::thread::spawn(move || {
        let first = answer(listener.accept().unwrap().0, 200, "{}");
        let second =
            answer(listener.accept().unwrap().0, 409, r#"{"statusCode":409,"message":"in use\u001b[2J"}"#);
        (first, second)
    });
    // --data-dir says this host, whatever the environment says.
    let mut command = folder.command(&["model", "remove", "main/meta/Llama:8b"]);
    let output = command
        .env("GATEWAY_URL", "http://127.0.0.1:1")
        .env("GATEWAY_TOKEN", "tfy_pat_test")
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{}", err(&output));
    let output = folder.admin(&["user", "delete", "a+b@x.io"]);
    assert_eq!(code(&output), 1);
    // What steers a terminal is shown, not done.
    assert_eq!(err(&output), "gateway: in use\\u{1b}[2J\n");
    let (first, second) = server.join().unwrap();
    assert_eq!(first.0, "DELETE /api/svc/v1/provider-accounts/main/models/meta%2FLlama%3A8b HTTP/1.1");
    assert!(first.1.contains("host: gateway\r\n") && !first.1.contains("authorization"), "{}", first.1);
    assert_eq!(second.0, "DELETE /api/svc/v1/users/a%2Bb%40x.io HTTP/1.1");
}

#[test]
fn a_key_never_stands_on_the_command_line() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("data")).unwrap();
    let listener = UnixListener::bind(folder.path("data/admin.sock")).unwrap();
    let arguments = [
        "provider",
        "create",
        "main",
        "--base-url",
        "https://x.io/v1",
        "--header",
        "X-Org: 7",
        "--api-key-file",
        "-",
    ];
    let mut child = folder
        .command(&arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(format!("{KEY}\n").as_bytes()).unwrap();
    let stream = listener.accept().unwrap().0;
    // It waits for the answer now.
    let seen = std::fs::read(format!("/proc/{}/cmdline", child.id())).unwrap();
    assert!(!String::from_utf8_lossy(&seen).contains("CANARY"));
    let (first, _, body) = answer(stream, 200, r#"{"data":{"name":"main","hasApiKey":true}}"#);
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(!out(&output).contains("CANARY") && !err(&output).contains("CANARY"));
    assert_eq!(first, "POST /api/svc/v1/provider-accounts HTTP/1.1");
    let manifest = json!({
        "type": "provider-account/openai", "name": "main", "base_url": "https://x.io/v1",
        "auth_data": {"type": "api-key", "api_key": KEY}, "headers": {"x-org": "7"},
    });
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), json!({"manifest": manifest}));
}

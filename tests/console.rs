//! The web console, from outside: over sockets, with cookies and forms.

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

use serde_json::json;

use support::sse::{DONE, FINISH, text};
use support::{Browser, CHAT_ANSWER, Client, Fixture, Gateway, Provider, form_token};

fn ask_lines(form_token: &str) -> String {
    format!("content-type: application/json\r\nx-form-token: {form_token}\r\nsec-fetch-site: same-origin\r\n")
}

#[test]
fn a_session_outlives_a_restart_and_leaves_no_secret_in_the_log() {
    let gateway = Gateway::start();
    gateway.admin_ok(&["user", "create", "ada@example.com"]);
    let token = gateway.user_token("ada@example.com");
    let mut browser = Browser::signed_in(gateway.addr, &token);
    let page = browser.get("/");
    assert_eq!(page.status, 200);
    assert!(page.text().contains(&format!("http://{}/v1", gateway.addr)), "{}", page.text());
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    let cookies = browser.cookies.clone();
    gateway.assert_log_lacks(&token);
    for (_, value) in &cookies {
        gateway.assert_log_lacks(value);
    }
    let gateway = gateway.stop().serve();
    browser.addr = gateway.addr;
    assert_eq!(browser.get("/").status, 200);
    assert_eq!(browser.submit("/", "/sign-out", &[]).status, 303);
    browser.cookies = cookies;
    let answer = browser.get("/tokens?page=2");
    assert_eq!((answer.status, answer.header("location")), (303, Some("/sign-in?next=%2Ftokens%3Fpage%3D2")));
}

#[test]
fn programs_get_errors_and_browsers_get_pages() {
    let gateway = Gateway::start();
    gateway.admin_ok(&["user", "create", "ada@example.com"]);
    Client::connect(gateway.addr).get("/nowhere", "").assert_error(404);
    let mut browser = Browser::new(gateway.addr);
    assert_eq!(browser.get("/nowhere").status, 303);
    let mut browser = Browser::signed_in(gateway.addr, &gateway.user_token("ada@example.com"));
    let page = browser.get("/nowhere");
    assert_eq!(page.status, 404);
    assert!(page.text().contains("There is no such page"), "{}", page.text());
    // A cookie is nothing to the APIs.
    let cookie =
        browser.cookies.iter().map(|(name, value)| format!("cookie: {name}={value}\r\n")).collect::<String>();
    for path in ["/api/svc/v1/tokens", "/v1/models"] {
        assert_eq!(browser.exchange("GET", path, &cookie, "").status, 401, "{path}");
    }
    let answer = browser.exchange("PUT", "/tokens", "", "");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD, POST")));
    // A body of a stranger is not held, and one that is too large not at all.
    let mut stranger = Browser::new(gateway.addr);
    assert_eq!(stranger.send("/tokens", &[("name", &"x".repeat(10_000))]).status, 303);
    assert_eq!(browser.send("/sign-out", &[("name", &"x".repeat(300_000))]).status, 413);
}

#[test]
fn an_invitation_from_the_command_line_signs_its_owner_in() {
    let gateway = Gateway::start();
    let link = gateway.admin_ok(&["user", "invite", "ada@example.com"]);
    let path = link.strip_prefix("http://127.0.0.1:0").unwrap_or_else(|| panic!("{link}"));
    let mut browser = Browser::new(gateway.addr);
    let page = browser.get(path);
    assert_eq!(page.status, 200, "{}", page.text());
    let code = path.rsplit('=').next().unwrap();
    let password = "correct horse battery";
    let fields = [
        ("form-token", form_token(&page)),
        ("email", "ada@example.com".to_owned()),
        ("code", code.to_owned()),
        ("password", password.to_owned()),
        ("password-again", password.to_owned()),
    ];
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = browser.send("/invitation", &fields);
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert!(browser.get("/sessions").text().contains("with an invitation"));
    gateway.assert_log_lacks(code);
    gateway.assert_log_lacks(password);
    let gateway = gateway.stop().serve();
    let mut browser = Browser::new(gateway.addr);
    let form_token = form_token(&browser.get("/sign-in"));
    let fields = [("form-token", form_token.as_str()), ("email", "ada@example.com"), ("password", password)];
    assert_eq!(browser.send("/sign-in", &fields).status, 303);
    let entries = gateway.admin_ok(&["--output", "json", "audit", "list"]);
    for action in ["user.invite", "user.accept-invitation", "session.create"] {
        assert!(entries.contains(action), "{action} is not in {entries}");
    }
    assert!(!entries.contains(code));
}

#[test]
fn the_playground_asks_as_the_one_who_is_signed_in() {
    let fixture = Fixture::on(Provider::answering(CHAT_ANSWER), "");
    let mut browser = Browser::signed_in(fixture.gateway.addr, &fixture.token);
    let page = browser.get("/playground?model=main/m");
    assert!(page.text().contains("value=\"main/m\""), "{}", page.text());
    let token = form_token(&page);
    let body = json!({"model": "main/m", "messages": [{"role": "user", "content": "hi"}]}).to_string();
    let answer = browser.exchange("POST", "/playground/ask", &ask_lines(&token), &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "hello");
    // Without script the form itself asks.
    let fields = [("model", "main/m"), ("system", "Be brief"), ("message", "hi <b> & \"you\"")];
    let answer = browser.submit("/playground", "/playground/ask", &fields);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("hello"));
    let asked = fixture.provider.requests().last().unwrap().json();
    assert_eq!(
        asked["messages"],
        json!([{"role": "system", "content": "Be brief"}, {"role": "user", "content": "hi <b> & \"you\""}])
    );
    let rows = fixture.gateway.wait_for_usage("user", 2);
    assert_eq!(rows[0]["user"], "ada@example.com", "{rows:?}");
    // What she may not use, she may not use here either; and no other site asks for her.
    let other = json!({"model": "main/other", "messages": []}).to_string();
    assert_eq!(browser.exchange("POST", "/playground/ask", &ask_lines(&token), &other).status, 403);
    let before = fixture.provider.request_count();
    for lines in [ask_lines(""), ask_lines("x"), ask_lines(&token).replace("same-origin", "cross-site")] {
        assert_eq!(browser.exchange("POST", "/playground/ask", &lines, &body).status, 403, "{lines}");
    }
    let mut stranger = Browser::new(fixture.gateway.addr);
    assert_eq!(stranger.exchange("POST", "/playground/ask", &ask_lines(&token), &body).status, 401);
    assert_eq!(stranger.send("/playground/ask", &[("model", "main/m")]).status, 401);
    assert_eq!(fixture.provider.request_count(), before);
}

#[test]
fn a_session_that_ends_takes_its_streams_with_it() {
    let fixture = Fixture::new(|_, answer| {
        answer.sse_head();
        answer.chunk(text("first."));
        if answer.wait("never") {
            answer.chunk(FINISH);
            answer.chunk(DONE);
            answer.last_chunk();
        }
    });
    let mut browser = Browser::signed_in(fixture.gateway.addr, &fixture.token);
    let token = form_token(&browser.get("/playground"));
    let cookie =
        browser.cookies.iter().map(|(name, value)| format!("cookie: {name}={value}\r\n")).collect::<String>();
    let body = r#"{"model":"main/m","messages":[{"role":"user","content":"hi"}],"stream":true}"#;
    let mut client = fixture.connect();
    client.send(
        format!(
            "POST /playground/ask HTTP/1.1\r\nhost: {}\r\n{cookie}{}content-length: {}\r\n\r\n{body}",
            fixture.gateway.addr,
            ask_lines(&token),
            body.len()
        )
        .as_bytes(),
    );
    assert_eq!(client.read_head().status, 200);
    client.read_until("first.");
    assert_eq!(browser.submit("/", "/sign-out", &[]).status, 303);
    let (rest, _) = client.read_rest();
    assert!(
        String::from_utf8_lossy(&rest).contains("AuthorizationError"),
        "{}",
        String::from_utf8_lossy(&rest)
    );
}

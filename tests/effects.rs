//! Keys of the configuration whose effect no other suite shows.

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

use std::os::unix::fs::PermissionsExt;

use support::{CHAT_ANSWER, Client, Fixture, Gateway, Home, Provider, eventually};

/// Threads without a name of their own: the main one, the runtime's timer and the workers.
fn nameless_threads(gateway: &Gateway) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", gateway.pid()))
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.trim() == "gateway")
        .count()
}

#[test]
fn workers_are_threads() {
    let one = Gateway::with_config("server.workers = 1");
    let four = Gateway::with_config("server.workers = 4");
    // A thread has its name a moment after its start.
    eventually("three threads more", || {
        (nameless_threads(&four) == nameless_threads(&one) + 3).then_some(())
    });
}

#[test]
fn a_trusted_proxy_is_believed_about_the_caller() {
    for (trusted, caller) in [("[\"127.0.0.0/8\"]", "203.0.113.7"), ("[]", "127.0.0.1")] {
        let gateway = Gateway::with_config(&format!("server.trusted_proxies = {trusted}"));
        let mut client = Client::connect(gateway.addr);
        client.send(
            b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 198.51.100.1, 203.0.113.7\r\n\r\n",
        );
        assert_eq!(client.read_response().status, 401);
        gateway.wait_for_log(&format!("from={caller} "));
    }
}

#[test]
fn the_master_key_can_live_elsewhere() {
    let folder = Home::new("");
    let key = |name: &str, digit: &str| {
        let path = folder.path(name);
        std::fs::write(&path, digit.repeat(64)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        format!("store.master_key_file = \"{}\"", path.display())
    };
    let (one, other) = (key("one.key", "1"), key("other.key", "2"));
    let gateway = Home::new(&one).serve();
    gateway.add_account("main", "http://127.0.0.1:9/v1");
    let home = gateway.stop();
    assert!(!home.data_dir().join("master.key").exists());
    let text = std::fs::read_to_string(home.config()).unwrap();
    std::fs::write(home.config(), text.replace(&one, &other)).unwrap();
    let Err((_, status, log)) = home.try_serve() else { panic!("another key opens the store") };
    assert!(!status.success() && log.contains("store.master_key_file"), "{log}");
}

#[test]
fn what_egress_does_not_allow_is_not_dialled() {
    for (allow, status) in [("[\"10.0.0.0/8\", \"example.com\"]", 502), ("[]", 502), ("[\"127.0.0.1\"]", 200)]
    {
        let fixture = Fixture::on(Provider::answering(CHAT_ANSWER), &format!("egress.allow = {allow}"));
        assert_eq!(fixture.chat("").status, status, "{allow}");
        assert_eq!(fixture.provider.connection_count(), usize::from(status == 200), "{allow}");
    }
}

#[test]
fn no_connection_is_kept_where_none_may_be() {
    let fixture = Fixture::on(Provider::answering(CHAT_ANSWER), "relay.max_idle_connections = 0");
    for calls in 1..=3 {
        assert_eq!(fixture.chat("").status, 200);
        assert_eq!(fixture.provider.connection_count(), calls);
    }
}

#[test]
fn a_kept_connection_is_closed_after_a_while() {
    let fixture = Fixture::on(Provider::answering(CHAT_ANSWER), "relay.keep_alive_ms = 50");
    assert_eq!(fixture.chat("").status, 200);
    fixture.provider.wait_closed(0);
}

#[test]
fn the_tenant_has_its_name() {
    let gateway = Gateway::with_config("tenant.name = \"acme\"");
    let answer = Client::connect(gateway.addr).get("/api/svc/v1/tenant-id?hostName=x", "");
    assert_eq!((answer.status, answer.json()["tenantName"].as_str()), (200, Some("acme")));
}

#[test]
fn a_provider_that_does_not_accept_is_504() {
    // A listener whose backlog is full leaves further callers without an answer.
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let address = std::net::TcpListener::from(socket.try_clone().unwrap()).local_addr().unwrap();
    let limit = std::time::Duration::from_millis(200);
    let mut held = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, limit) {
        held.push(stream);
    }
    let gateway = Gateway::with_config("relay.connect_timeout_ms = 300");
    let token = gateway.with_model(&format!("http://{address}/v1"));
    let body = support::chat("main/m", "");
    let response = Client::connect(gateway.addr).post("/v1/chat/completions", &token, body.as_bytes());
    response.assert_error(504);
}

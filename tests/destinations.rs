//! Where a provider's key may go: to the place that it was given for, and nowhere that a manager could choose
//! without knowing it.

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

use std::net::ToSocketAddrs as _;

use serde_json::{Value, json};

use support::{CHAT_ANSWER, Client, Gateway, PROVIDER_KEY, Provider, Response, announce, chat};

/// Of a certificate that nobody serves: only that an account trusts it matters.
const OTHER_KEY: &str = "sk-another-SECRET-51d0";

/// A gateway with the account `main`, its manager Mia, and Ada who may use it.
struct Stage {
    gateway: Gateway,
    provider: Provider,
    ada: String,
    mia: String,
    root: String,
}

impl Stage {
    fn new(config: &str) -> Self {
        let provider = Provider::answering(CHAT_ANSWER);
        let gateway = Gateway::with_config(config);
        let ada = gateway.with_model(&provider.base_url());
        gateway.admin_ok(&["user", "create", "mia@example.com"]);
        gateway.admin_ok(&["grant", "user:mia@example.com", "provider-account-manager", "main"]);
        let mia = gateway.user_token("mia@example.com");
        let root = gateway.admin_token();
        Self { gateway, provider, ada, mia, root }
    }

    fn ask(&self, token: &str, method: &str, path: &str, body: &Value) -> Response {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let path = format!("/api/svc/v1{path}");
        let response = Client::connect(self.gateway.addr).request(method, &path, token, &body);
        let all = format!("{:?} {}", response.head, response.text());
        for secret in [PROVIDER_KEY, OTHER_KEY] {
            assert!(!all.contains(secret), "{method} {path} shows a key: {all}");
        }
        response
    }

    fn change(&self, token: &str, body: &Value) -> Response {
        self.ask(token, "PATCH", "/provider-accounts/main", body)
    }

    fn base_url(&self) -> String {
        let shown = self.ask(&self.root, "GET", "/provider-accounts/main", &Value::Null);
        assert_eq!(shown.status, 200);
        shown.json()["data"]["manifest"]["base_url"].as_str().unwrap().to_owned()
    }

    fn chat(&self) -> Response {
        Client::connect(self.gateway.addr).post(
            "/v1/chat/completions",
            &self.ada,
            chat("main/m", "").as_bytes(),
        )
    }
}

/// A certificate made for this test.
fn certificate() -> String {
    let folder = std::env::temp_dir().join(format!("gateway-destinations-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (key, pem) = (folder.join("key.pem"), folder.join("cert.pem"));
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=mia.example", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&pem)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let text = std::fs::read_to_string(&pem).unwrap();
    let _ = std::fs::remove_dir_all(folder);
    text
}

#[test]
fn a_stored_key_stays_at_the_place_it_was_given_for() {
    let stage = Stage::new("");
    let url = stage.base_url();
    let port = stage.provider.addr.port();
    let pem = certificate();
    // Another host, scheme, port, and other certificates: each is another place. Admins are bound as well.
    for token in [&stage.mia, &stage.root] {
        for (what, body) in [
            ("host", json!({"base_url": format!("http://mia.example:{port}/v1")})),
            ("scheme", json!({"base_url": format!("https://mia.example:{port}/v1")})),
            ("address", json!({"base_url": format!("http://203.0.113.9:{port}/v1")})),
            ("certificates", json!({"ca_certificates": pem})),
            ("both", json!({"base_url": "https://mia.example/v1", "ca_certificates": pem})),
            ("with headers", json!({"base_url": "https://mia.example/v1", "headers": {"x-team": "mine"}})),
        ] {
            let response = stage.change(token, &body);
            assert_eq!(response.status, 422, "{what}: {}", response.text());
            assert!(response.text().contains("send api_key again"), "{what}: {}", response.text());
            assert_eq!(stage.base_url(), url, "{what}: a refused change changed something");
        }
    }
    let scheme = stage.change(&stage.root, &json!({"base_url": format!("https://127.0.0.1:{port}/v1")}));
    assert_eq!(scheme.status, 422, "{}", scheme.text());
    let other_port = stage.change(&stage.root, &json!({"base_url": "http://127.0.0.1:9/v1"}));
    assert_eq!(other_port.status, 422, "{}", other_port.text());
    // Headers that say where a request goes, or carry a key of their own.
    for name in ["host", "Host", "connection", "proxy-authorization", "proxy-connection", "authorization"] {
        let response = stage.change(&stage.mia, &json!({"headers": {name: "mia.example"}}));
        assert_eq!(response.status, 422, "{name}: {}", response.text());
    }
    // It still goes where it went, with its key.
    assert_eq!(stage.chat().status, 200);
    let request = stage.provider.only_request();
    assert_eq!(request.header("authorization"), Some(format!("Bearer {PROVIDER_KEY}")));
    assert_eq!(request.header("host"), Some(stage.provider.host_port()));
    // Another path on the same host is the same place.
    let moved = stage.change(&stage.root, &json!({"base_url": format!("{url}/sub")}));
    assert_eq!(moved.status, 200, "{}", moved.text());
    assert_eq!(stage.chat().status, 200);
    assert!(stage.provider.wait_for_request(1).path().starts_with("/v1/sub/"));
    // A key that is given again goes along, and the old one is gone.
    let elsewhere = json!({"base_url": "https://mia.example/v1", "api_key": OTHER_KEY});
    assert_eq!(stage.change(&stage.mia, &elsewhere).status, 200);
    let back = json!({"base_url": url});
    assert_eq!(stage.change(&stage.root, &back).status, 422, "the new key is bound to the new place");
    let back = json!({"base_url": url, "api_key": OTHER_KEY});
    assert_eq!(stage.change(&stage.root, &back).status, 200);
    assert_eq!(stage.chat().status, 200);
    let request = stage.provider.wait_for_request(2);
    assert_eq!(request.header("authorization"), Some(format!("Bearer {OTHER_KEY}")));
    // Removing the key frees the account from its place: there is nothing to divert.
    let freed = json!({"base_url": "https://mia.example/v1", "api_key": null});
    assert_eq!(stage.change(&stage.mia, &freed).status, 200);
    for key in [PROVIDER_KEY, OTHER_KEY] {
        stage.gateway.assert_log_lacks(key);
    }
}

#[test]
fn a_manager_points_at_no_local_address() {
    let stage = Stage::new("");
    let url = stage.base_url();
    for local in [
        "http://127.0.0.1:9/v1",
        "http://127.8.7.6/v1",
        "http://localhost:9/v1",
        "http://LOCALHOST./v1",
        "http://deep.localhost/v1",
        "http://0.0.0.0:9/v1",
        "http://169.254.169.254/latest",
        "http://[::1]:9/v1",
        "http://[::]:9/v1",
        "http://[fe80::1]/v1",
        "http://[::ffff:127.0.0.1]:9/v1",
        "http://[::ffff:169.254.169.254]/v1",
    ] {
        // With and without the key: the words must not depend on it.
        for body in [json!({"base_url": local, "api_key": OTHER_KEY}), json!({"base_url": local})] {
            let response = stage.change(&stage.mia, &body);
            assert_eq!(response.status, 403, "{local}: {}", response.text());
        }
        assert_eq!(stage.base_url(), url, "{local}");
    }
    for odd in ["http://127.1/v1", "http://0x7f000001/v1", "http://2130706433/v1", "http://0177.0.0.1/v1"] {
        let response = stage.change(&stage.mia, &json!({"base_url": odd, "api_key": OTHER_KEY}));
        assert_eq!(response.status, 422, "{odd}: {}", response.text());
    }
    // Admins may.
    let body = json!({"base_url": url, "api_key": PROVIDER_KEY});
    let text = stage.change(&stage.root, &body);
    assert_eq!(text.status, 200);
    assert_eq!(stage.chat().status, 200);
}

/// A name of this host that its text does not give away.
fn name_of_loopback() -> Option<String> {
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let words = hosts.lines().flat_map(|line| line.split('#').next().unwrap_or("").split_whitespace());
    words.chain([own.trim()]).map(str::to_ascii_lowercase).find(|name| {
        let plain = !name.contains("localhost")
            && !name.contains("loopback")
            && name.parse::<std::net::IpAddr>().is_err();
        let local = |found: std::vec::IntoIter<std::net::SocketAddr>| {
            let addresses: Vec<_> = found.collect();
            !addresses.is_empty() && addresses.iter().all(|address| address.ip().is_loopback())
        };
        plain && (name.as_str(), 80).to_socket_addrs().is_ok_and(local)
    })
}

#[test]
fn a_name_that_resolves_to_a_local_address_is_not_dialled_for_a_manager() {
    let Some(name) = name_of_loopback() else {
        announce("no name but localhost resolves to loopback on this host: not tried");
        return;
    };
    let stage = Stage::new("");
    let url = format!("http://{name}:{}/v1", stage.provider.addr.port());
    let body = json!({"base_url": url, "api_key": OTHER_KEY});
    let taken = stage.change(&stage.mia, &body);
    assert_eq!(taken.status, 200, "a name says nothing until it is resolved: {}", taken.text());
    let refused = stage.chat();
    refused.assert_error(502);
    assert!(refused.text().contains("'main'"), "{}", refused.text());
    assert_eq!(stage.provider.connection_count(), 0);
    // The log says why.
    stage.gateway.wait_for_log("its address is not allowed");
    // When an admin says the same, it is.
    assert_eq!(stage.change(&stage.root, &body).status, 200);
    assert_eq!(stage.chat().status, 200);
    assert_eq!(stage.provider.only_request().header("authorization"), Some(format!("Bearer {OTHER_KEY}")),);
    // A manager who changes the place again takes the admin's word away with it.
    let moved = json!({"base_url": format!("http://{name}:9/v1"), "api_key": OTHER_KEY});
    assert_eq!(stage.change(&stage.mia, &moved).status, 200);
    assert_eq!(stage.change(&stage.mia, &body).status, 200);
    stage.chat().assert_error(502);
    assert_eq!(stage.provider.request_count(), 1);
}

#[test]
fn egress_binds_admins_too() {
    for (allow, status) in
        [("[]", 502), ("[\"192.0.2.0/24\"]", 502), ("[\"api.openai.com\"]", 502), ("[\"127.0.0.0/8\"]", 200)]
    {
        let stage = Stage::new(&format!("egress.allow = {allow}"));
        let response = stage.chat();
        assert_eq!(response.status, status, "{allow}: {}", response.text());
        if status == 502 {
            response.assert_error(502);
            assert!(response.text().contains("'main'"), "{allow}: {}", response.text());
            assert!(!response.text().contains(&stage.provider.host_port()), "{}", response.text());
            stage.gateway.wait_for_log("[egress] allow");
        }
        assert_eq!(stage.provider.connection_count(), usize::from(status == 200), "{allow}");
        // Pointing the account anew does not help.
        let body = json!({"base_url": stage.base_url(), "api_key": PROVIDER_KEY});
        assert_eq!(stage.change(&stage.root, &body).status, 200);
        assert_eq!(stage.chat().status, status, "{allow}");
    }
}

#[test]
fn no_redirect_takes_a_call_elsewhere() {
    let elsewhere = Provider::answering(CHAT_ANSWER);
    let to = elsewhere.base_url();
    let fixture = support::Fixture::new(move |request, answer| {
        let status = u16::try_from(request.json()["status"].as_u64().unwrap()).unwrap();
        answer.full(status, &format!("location: {to}/chat/completions\r\n"), b"");
    });
    for status in [301, 302, 303, 307, 308] {
        for stream in ["", ",\"stream\":true"] {
            let response = fixture.chat(&format!(",\"status\":{status}{stream}"));
            response.assert_error(502);
            assert_eq!(response.header("location"), None);
        }
    }
    assert_eq!(fixture.provider.request_count(), 10);
    assert_eq!(elsewhere.connection_count(), 0);
}

#[test]
fn a_models_credential_stays_under_the_trust_that_it_was_given_for() {
    let stage = Stage::new("");
    let manifest = json!({"type": "provider-account/self-hosted-model", "name": "hosts", "base_url": "https://models.example/v1",
        "integrations": [{"type": "integration/model/self-hosted-model", "name": "m", "model_id": "m", "model_types": ["chat"],
            "url": "https://own.example/v1", "auth_data": {"type": "bearer-auth", "bearer_token": OTHER_KEY}}]});
    let path = stage.gateway.home.path("hosts.json");
    std::fs::write(&path, manifest.to_string()).unwrap();
    stage.gateway.admin_ok(&["apply", "-f", path.to_str().unwrap()]);
    let change = |body: &Value| stage.ask(&stage.root, "PATCH", "/provider-accounts/hosts", body);
    let refused = change(&json!({"ca_certificates": certificate()}));
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains("auth_data"), "{}", refused.text());
    assert_eq!(change(&json!({"headers": {"x-team": "a"}})).status, 200);
}

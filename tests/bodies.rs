//! Bodies of calls through the real binary: whose are kept, what of them, who may read them, and what is on the disk.

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

use std::path::Path;

use serde_json::{Value, json};

use support::gateway::{Gateway, token_id};
use support::sse::{DONE, FINISH, USAGE, text};
use support::{CHAT_ANSWER, Client, Fixture, PROVIDER_KEY, Provider, chat, eventually};

const ASK: &str = "x-tfy-logging-config: {\"enabled\":true}\r\n";
const PROMPT: &str = "the-secret-prompt";

/// One chat call with that request id and more header lines; the status.
fn call(addr: std::net::SocketAddr, token: &str, id: &str, headers: &str, body: &str) -> support::Response {
    let mut client = Client::connect(addr);
    let headers = format!("content-type: application/json\r\nx-request-id: {id}\r\n{headers}");
    client.send_request("/v1/chat/completions", token, &headers, body.as_bytes());
    client.read_response()
}

fn secret_chat(model: &str) -> String {
    json!({"model": model, "messages": [{"role": "user", "content": PROMPT}]}).to_string()
}

fn get(addr: std::net::SocketAddr, token: &str, path: &str) -> support::Response {
    Client::connect(addr).get(&format!("/api/svc/v1{path}"), token)
}

/// The call as an admin sees it, once it is settled.
fn shown(gateway: &Gateway, admin: &str, id: &str) -> Value {
    eventually("the call to be settled", || {
        let response = get(gateway.addr, admin, &format!("/logs/{id}"));
        (response.status == 200).then(|| response.json()["data"].clone())
    })
}

/// Files of a folder that hold a text.
fn holding(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        if support::client::find(&bytes, text.as_bytes()).is_some() {
            found.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    found
}

#[test]
fn settings_and_headers_decide_in_their_order() {
    let fixture = Fixture::new(|_, answer| answer.json(200, CHAT_ANSWER));
    let admin = fixture.gateway.admin_token();
    // Without a word, the header's yes, its no, the metadata's yes, the metadata's yes and the header's no.
    let headers = [
        "",
        ASK,
        "x-tfy-logging-config: {\"enabled\":false}\r\n",
        "x-tfy-metadata: {\"tfy_log_request\":\"true\"}\r\n",
        "x-tfy-metadata: {\"tfy_log_request\":\"true\"}\r\nx-tfy-logging-config: {\"enabled\":false}\r\n",
    ];
    let (none, all, caller, unless_no) = ("-----", "yyyyy", "-y-y-", "yy-y-");
    let (off, on) = ("header_controlled", "header_controlled=true");
    let mut wanted = Vec::new();
    for (tenant, accounts) in [
        ("", [("none", caller)].as_slice()),
        ("never", &[("none", none), ("never", none), ("always", none), (off, none), (on, none)]),
        ("always", &[("none", all), ("never", none), ("always", all), (off, caller), (on, unless_no)]),
        (off, &[("none", caller), ("never", none), ("always", all), (off, caller), (on, unless_no)]),
        (on, &[("none", unless_no), ("never", none), ("always", all), (off, caller), (on, unless_no)]),
    ] {
        if !tenant.is_empty() {
            fixture.gateway.admin_ok(&["settings", "set", "logging_settings", tenant]);
        }
        for (account, keeps) in accounts {
            fixture.gateway.admin_ok(&["provider", "update", "main", "--log-bodies", account]);
            for (number, keep) in keeps.chars().enumerate() {
                let id = format!("t-{tenant}-{account}-{number}").replace('=', ".");
                let response =
                    call(fixture.gateway.addr, &fixture.token, &id, headers[number], &secret_chat("main/m"));
                assert_eq!(response.status, 200, "{}", response.text());
                wanted.push((id, keep == 'y'));
            }
        }
    }
    let listed = eventually("all calls", || {
        let data = get(fixture.gateway.addr, &admin, "/logs?limit=1000").json()["data"].clone();
        let listed = data.as_array().unwrap().clone();
        (listed.len() == wanted.len()).then_some(listed)
    });
    let keeps = |id: &String| {
        let row = listed.iter().find(|row| row["requestId"] == **id).unwrap_or_else(|| panic!("no {id}"));
        row["logged"].as_bool().unwrap()
    };
    let wrong: Vec<_> = wanted.iter().filter(|(id, keep)| keeps(id) != *keep).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let written = wanted.iter().filter(|(_, keep)| *keep).count();
    assert!(
        fixture.gateway.metrics().contains(&format!("gateway_request_log_written_total {written}\n")),
        "{}",
        fixture.gateway.metrics()
    );
}

#[test]
fn never_leaves_nothing_on_the_disk_and_a_broken_header_counts_only_where_headers_do() {
    let fixture = Fixture::new(|_, answer| answer.json(200, CHAT_ANSWER));
    let admin = fixture.gateway.admin_token();
    let broken = "x-tfy-logging-config: {\"enabled\":\"yes\"}\r\n";
    let ask = |id: &str, headers: &str| {
        call(fixture.gateway.addr, &fixture.token, id, headers, &secret_chat("main/m"))
    };
    let refused = ask("broken", broken);
    refused.assert_error(400);
    assert!(refused.text().contains("X-TFY-LOGGING-CONFIG"), "{}", refused.text());
    assert_eq!(fixture.provider.request_count(), 0);
    // Without anybody asking nothing is kept either.
    assert_eq!(ask("quiet", "").status, 200);
    fixture.gateway.admin_ok(&["settings", "set", "logging_settings", "never"]);
    for (number, headers) in
        [ASK, broken, "x-tfy-metadata: {\"tfy_log_request\":\"true\"}\r\n"].iter().enumerate()
    {
        assert_eq!(ask(&format!("never-{number}"), headers).status, 200);
        assert_eq!(shown(&fixture.gateway, &admin, &format!("never-{number}"))["logged"], false);
    }
    let home = fixture.gateway.stop();
    assert!(!home.data_dir().join("requests.redb").exists());
    assert_eq!(holding(&home.data_dir(), PROMPT), Vec::<String>::new());
    assert_eq!(holding(&home.data_dir(), "\"hello\""), Vec::<String>::new());
}

#[test]
fn bodies_are_kept_as_the_caller_sent_and_got_them_and_sealed() {
    let events = text("one-secret") + &text("two") + FINISH + USAGE + DONE;
    let sent = events.clone();
    let fixture = Fixture::new(move |request, answer| {
        let asked = request.text();
        if asked.contains("fail-there") {
            answer.json(429, "{\"error\":{\"message\":\"slow-down\",\"type\":\"rate_limit\"}}");
        } else if asked.contains("break-there") {
            answer.close();
        } else if asked.contains("\"stream\":true") {
            answer.sse(&sent);
        } else {
            answer.json(200, CHAT_ANSWER);
        }
    });
    let admin = fixture.gateway.admin_token();
    let ask = |id: &str, body: &str| {
        let response = call(fixture.gateway.addr, &fixture.token, id, ASK, body);
        (response, shown(&fixture.gateway, &admin, id))
    };
    let body =
        format!("{{ \"model\":\"main/m\" ,\"messages\":[{{\"role\":\"user\",\"content\":\"{PROMPT}\"}}]}}");
    let (response, call) = ask("plain", &body);
    assert_eq!(response.status, 200);
    // As the caller wrote it, not as the provider got it.
    assert_eq!(call["requestBody"]["text"], body);
    assert_eq!(call["answerBody"]["text"], CHAT_ANSWER);
    assert_eq!(
        (&call["requestBody"]["truncated"], &call["requestBody"]["bytes"]),
        (&json!(false), &json!(body.len()))
    );
    assert_eq!(
        (&call["logged"], &call["status"], &call["bodiesWithheld"]),
        (&json!(true), &json!(200), &Value::Null)
    );

    // The usage that only the gateway asked for is not in the caller's answer, nor in what is kept of it.
    let (response, call) = ask("stream", &chat("main/m", ",\"stream\":true"));
    assert_eq!(call["answerBody"]["text"], response.text().to_string());
    assert!(response.text().contains("one-secret") && !response.text().contains("prompt_tokens"));

    let (response, call) = ask("failed", &chat("main/m", ",\"user\":\"fail-there\""));
    assert_eq!(
        (response.status, &call["status"], &call["errorKind"]),
        (429, &json!(429), &json!("rate_limit"))
    );
    assert!(call["answerBody"]["text"].as_str().unwrap().contains("slow-down"));
    // What the gateway says in place of the provider.
    let (response, call) = ask("broken", &chat("main/m", ",\"user\":\"break-there\""));
    assert_eq!((response.status, &call["status"]), (502, &json!(502)));
    assert_eq!(call["answerBody"]["text"], response.text().to_string());

    // Bytes that are no text.
    let form = b"--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nmain/m\r\n--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n\xff\xfe\r\n--b--\r\n";
    let mut client = fixture.connect();
    let headers = format!("content-type: multipart/form-data; boundary=b\r\nx-request-id: form\r\n{ASK}");
    client.send_request("/v1/audio/transcriptions", &fixture.token, &headers, form);
    assert_eq!(client.read_response().status, 200);
    let call = shown(&fixture.gateway, &admin, "form");
    assert_eq!(call["requestBody"]["text"], Value::Null);
    assert!(call["requestBody"]["base64"].as_str().unwrap().starts_with("LS1iDQ"));

    // A request that is refused before any provider has no record, so nothing is kept of it.
    let refused = self::call(fixture.gateway.addr, &fixture.token, "none", ASK, &secret_chat("main/nothing"));
    assert_eq!(refused.status, 403);
    assert_eq!(get(fixture.gateway.addr, &admin, "/logs/none").status, 404);

    let log = fixture.gateway.log();
    assert!(!log.contains(PROMPT) && !log.contains("one-secret"), "{log}");
    let token = fixture.token.clone();
    let home = fixture.gateway.stop();
    for secret in [PROMPT, "one-secret", "slow-down", &token, PROVIDER_KEY] {
        assert_eq!(holding(&home.data_dir(), secret), Vec::<String>::new(), "{secret}");
    }
    assert_eq!(std::fs::metadata(home.data_dir().join("requests.redb")).unwrap().len() % 4096, 0);
    // A gateway that is not running is read from its files.
    let direct = home.admin_json(&["logs", "show", "plain"]);
    assert_eq!(direct["requestBody"]["text"], body);
    for part in ["requestBody", "answerBody"] {
        assert!(!direct[part].to_string().contains(&token), "{part}");
    }
    let listed = home.admin_ok(&["logs", "list", "--output", "json", "--status", "4xx"]);
    assert_eq!(listed.lines().count(), 1, "{listed}");
    assert!(listed.contains("\"requestId\":\"failed\"") && listed.contains("\"logged\":true"));
}

#[test]
fn a_caller_who_hangs_up_leaves_what_was_said_until_then() {
    let fixture = Fixture::new(|_, answer| {
        answer.sse_head();
        answer.chunk(text("first-words"));
        answer.hold();
    });
    let admin = fixture.gateway.admin_token();
    let mut client = fixture.connect();
    let headers = format!("content-type: application/json\r\nx-request-id: gone\r\n{ASK}");
    let body = chat("main/m", ",\"stream\":true");
    client.send_request("/v1/chat/completions", &fixture.token, &headers, body.as_bytes());
    assert_eq!(client.read_head().status, 200);
    client.read_until("first-words");
    client.hang_up();
    let call = shown(&fixture.gateway, &admin, "gone");
    assert_eq!((&call["outcome"], &call["requestBody"]["text"]), (&json!("caller-gone"), &json!(body)));
    assert!(call["answerBody"]["text"].as_str().unwrap().contains("first-words"), "{call}");
}

#[test]
fn translated_calls_are_kept_in_the_callers_dialect() {
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x",
        "content": [{"type": "text", "text": "bonjour"}], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {"input_tokens": 5, "output_tokens": 9}})
    .to_string();
    let provider = Provider::start(move |request, answer| {
        if request.text().contains("fail-there") {
            answer.json(
                400,
                "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"no-way\"}}",
            );
        } else {
            answer.json(200, &message);
        }
    });
    let gateway = Gateway::with_config("");
    let manifest = json!({"type": "provider-account/anthropic", "name": "claude", "base_url": provider.base_url(),
        "auth_data": {"type": "api-key", "api_key": "sk-ant-SECRET"},
        "logging_settings": {"type": "always"},
        "integrations": [{"type": "integration/model/anthropic", "name": "m", "model_id": "claude-sonnet-4-5",
            "model_types": ["chat"]}]});
    let path = gateway.home.path("claude.json");
    std::fs::write(&path, manifest.to_string()).unwrap();
    gateway.admin_ok(&["apply", "-f", path.to_str().unwrap()]);
    let exported = gateway.admin_ok(&["export", "provider-account/claude", "--output", "json"]);
    assert!(exported.contains("logging_settings") && exported.contains("always"), "{exported}");
    gateway.admin_ok(&["user", "create", "ada@example.com"]);
    gateway.admin_ok(&["grant", "user:ada@example.com", "provider-account-access", "claude"]);
    let (token, admin) = (gateway.user_token("ada@example.com"), gateway.admin_token());
    let body = json!({"model": "claude/m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    let response = call(gateway.addr, &token, "whole", "", &body.to_string());
    assert_eq!(response.status, 200, "{}", response.text());
    let shown_call = shown(&gateway, &admin, "whole");
    assert_eq!(shown_call["requestBody"]["text"], body.to_string());
    assert_eq!(shown_call["answerBody"]["text"], response.text().to_string());
    assert!(response.text().contains("bonjour") && response.text().contains("chat.completion"));
    let body = json!({"model": "claude/m", "max_tokens": 9, "messages": [{"role": "user", "content": "fail-there"}]});
    let response = call(gateway.addr, &token, "failed", "", &body.to_string());
    assert_eq!(response.status, 400);
    assert_eq!(shown(&gateway, &admin, "failed")["answerBody"]["text"], response.text().to_string());
}

#[test]
fn a_long_body_is_kept_in_part_and_says_so() {
    let long = format!("{{\"choices\":[{{\"message\":{{\"content\":\"{}\"}}}}]}}", "y".repeat(20_000));
    let answer_text = long.clone();
    let fixture = Fixture::with_config("request_log.max_body_bytes = 1024", move |_, answer| {
        answer.json(200, &long);
    });
    let admin = fixture.gateway.admin_token();
    // The cut is in the midst of a character of two bytes.
    let body = json!({"model": "main/m", "messages": [{"role": "user", "content": "\u{e9}".repeat(30_000)}]})
        .to_string();
    assert_eq!(call(fixture.gateway.addr, &fixture.token, "long", ASK, &body).status, 200);
    let call = shown(&fixture.gateway, &admin, "long");
    for (part, whole) in [("requestBody", &body), ("answerBody", &answer_text)] {
        let kept = call[part]["text"].as_str().unwrap();
        assert!(whole.starts_with(kept) && (1023..=1024).contains(&kept.len()), "{part}: {}", kept.len());
        assert_eq!((&call[part]["truncated"], &call[part]["bytes"]), (&json!(true), &json!(whole.len())));
    }
    let table = fixture.gateway.admin_ok(&["logs", "show", "long"]);
    assert!(
        table.contains(&format!("REQUEST ({} bytes, only the beginning was kept)", body.len())),
        "{table}"
    );
}

#[test]
fn what_finds_no_room_is_counted_and_hinders_nobody() {
    let fixture = Fixture::with_config("request_log.max_held_bytes = 16384", |_, answer| {
        answer.json(200, CHAT_ANSWER);
    });
    let admin = fixture.gateway.admin_token();
    let body =
        json!({"model": "main/m", "messages": [{"role": "user", "content": "x".repeat(30_000)}]}).to_string();
    assert_eq!(call(fixture.gateway.addr, &fixture.token, "large", ASK, &body).status, 200);
    assert_eq!(shown(&fixture.gateway, &admin, "large")["logged"], false);
    assert!(fixture.gateway.metrics().contains("gateway_request_log_dropped_total 1\n"));
    fixture.gateway.wait_for_log("request log: the bodies of calls are not kept");
    assert_eq!(call(fixture.gateway.addr, &fixture.token, "small", ASK, &secret_chat("main/m")).status, 200);
    assert_eq!(shown(&fixture.gateway, &admin, "small")["logged"], true);
    eventually("the room to be given back", || {
        fixture.gateway.metrics().contains("gateway_request_log_held_bytes 0\n").then_some(())
    });
}

#[test]
fn a_kill_loses_nothing_that_was_written() {
    let fixture = Fixture::new(|_, answer| answer.json(200, CHAT_ANSWER));
    let admin = fixture.gateway.admin_token();
    let token = fixture.token.clone();
    for number in 0..20 {
        let id = format!("before-{number}");
        assert_eq!(call(fixture.gateway.addr, &token, &id, ASK, &secret_chat("main/m")).status, 200);
    }
    // An admin's look writes what waits.
    assert_eq!(shown(&fixture.gateway, &admin, "before-19")["logged"], true);
    for number in 0..20 {
        call(fixture.gateway.addr, &token, &format!("late-{number}"), ASK, &secret_chat("main/m"));
    }
    let gateway = fixture.gateway.kill().serve();
    for number in 0..20 {
        let call = shown(&gateway, &admin, &format!("before-{number}"));
        assert_eq!(call["requestBody"]["text"], secret_chat("main/m"), "{number}");
    }
    assert_eq!(call(gateway.addr, &token, "after", ASK, &secret_chat("main/m")).status, 200);
    assert_eq!(shown(&gateway, &admin, "after")["logged"], true);
}

/// The bodies of a call as somebody gets them: `body`, `withheld`, `none` for a call without, or the status of a refusal.
fn reads(gateway: &Gateway, token: &str, id: &str) -> String {
    let response = get(gateway.addr, token, &format!("/logs/{id}"));
    if response.status != 200 {
        assert!(!response.text().contains(PROMPT), "{}", response.text());
        return response.status.to_string();
    }
    let call = response.json()["data"].clone();
    match (&call["requestBody"]["text"], call["bodiesWithheld"].is_string()) {
        (Value::String(text), false) if text.contains(PROMPT) => "body".to_owned(),
        (Value::Null, true) => "withheld".to_owned(),
        (Value::Null, false) => "none".to_owned(),
        _ => panic!("{call}"),
    }
}

#[test]
fn who_may_read_what_and_each_reading_is_audited() {
    let fixture = Fixture::new(|_, answer| answer.json(200, CHAT_ANSWER));
    let (gateway, ada) = (&fixture.gateway, &fixture.token);
    let admin = gateway.admin_token();
    gateway.admin_ok(&["settings", "set", "logging_settings", "always"]);
    for who in ["bob", "lead", "keeper", "gone"] {
        gateway.admin_ok(&["user", "create", &format!("{who}@example.com")]);
    }
    let team = json!({"manifest": {"type": "team", "name": "search", "members": ["ada@example.com", "gone@example.com"],
        "managers": ["lead@example.com"]}});
    let made = Client::connect(gateway.addr).request("PUT", "/api/svc/v1/teams", &admin, &team.to_string());
    assert_eq!(made.status, 200, "{}", made.text());
    gateway.admin_ok(&["grant", "user:keeper@example.com", "provider-account-manager", "main"]);
    gateway.admin_ok(&["grant", "user:gone@example.com", "provider-account-access", "main"]);
    gateway.admin_ok(&["virtual-account", "create", "app"]);
    gateway.admin_ok(&["grant", "virtualaccount:app", "provider-account-access", "main"]);
    let app = gateway.admin_ok(&["token", "create", "--virtual-account", "app", "--name", "app"]);
    let [bob, lead, keeper, gone] =
        ["bob", "lead", "keeper", "gone"].map(|who| gateway.user_token(&format!("{who}@example.com")));
    for (id, token) in [("of-ada", ada), ("of-app", &app), ("of-gone", &gone)] {
        assert_eq!(call(gateway.addr, token, id, "", &secret_chat("main/m")).status, 200, "{id}");
        assert_eq!(shown(gateway, &admin, id)["logged"], true, "{id}");
    }
    gateway.admin_ok(&["user", "deactivate", "gone@example.com"]);

    let people: [(&str, &str); 7] = [
        ("ada", ada),
        ("bob", &bob),
        ("lead", &lead),
        ("keeper", &keeper),
        ("admin", &admin),
        ("app", &app),
        ("gone", &gone),
    ];
    let mut table = String::new();
    for id in ["of-ada", "of-app", "of-gone"] {
        table.push_str(id);
        for (name, token) in people {
            table.push_str(&format!(" {name}:{}", reads(gateway, token, id)));
        }
        table.push('\n');
    }
    assert_eq!(
        table,
        "of-ada ada:body bob:404 lead:withheld keeper:withheld admin:body app:403 gone:401\n\
         of-app ada:404 bob:404 lead:404 keeper:withheld admin:body app:403 gone:401\n\
         of-gone ada:404 bob:404 lead:withheld keeper:withheld admin:body app:403 gone:401\n"
    );
    // The list is cut as reports are.
    let listed = |token: &str| {
        let data = get(gateway.addr, token, "/logs").json()["data"].clone();
        let mut ids: Vec<String> = data
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["requestId"].as_str().unwrap().to_owned())
            .collect();
        ids.sort();
        ids.join(",")
    };
    for (token, wanted) in [
        // First an admin, whose look writes what waits.
        (&admin, "of-ada,of-app,of-gone"),
        (ada, "of-ada"),
        (&bob, ""),
        (&lead, "of-ada,of-gone"),
        (&keeper, "of-ada,of-app,of-gone"),
    ] {
        assert_eq!(listed(token), wanted);
    }
    assert_eq!(get(gateway.addr, &app, "/logs").status, 403);
    assert_eq!(get(gateway.addr, "", "/logs").status, 401);

    // Who came to have the address of another does not come to have their prompts.
    gateway.admin_ok(&["user", "activate", "gone@example.com"]);
    gateway.admin_ok(&["user", "deactivate", "gone@example.com"]);
    gateway.admin_ok(&["user", "delete", "gone@example.com", "--force"]);
    gateway.admin_ok(&["user", "create", "gone@example.com"]);
    let heir = gateway.user_token("gone@example.com");
    assert_eq!(reads(gateway, &heir, "of-gone"), "withheld");

    // Each reading has its entry, and what was withheld or refused has none.
    gateway.admin_ok(&["logs", "show", "of-ada"]);
    let entries = gateway.admin_ok(&["audit", "list", "--action", "request-log.", "--output", "json"]);
    let entries: Vec<Value> = entries.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut count = std::collections::BTreeMap::new();
    for entry in &entries {
        assert_eq!((&entry["action"], &entry["before"]), (&json!("request-log.read"), &Value::Null));
        assert_eq!(entry["after"]["model"], "main/m");
        assert!(!entry.to_string().contains(PROMPT));
        let actor = entry["actor"].as_str().unwrap();
        let actor = if actor.starts_with("local:") { "local" } else { actor };
        let line = format!(
            "{actor} {} {}",
            entry["resource"].as_str().unwrap(),
            entry["after"]["subject"].as_str().unwrap()
        );
        *count.entry(line).or_insert(0) += 1;
    }
    let lines: Vec<String> = count.iter().map(|(line, count)| format!("{line} {count}")).collect();
    assert_eq!(
        lines,
        [
            "local request-log/of-ada user:ada@example.com 1",
            "user:ada@example.com request-log/of-ada user:ada@example.com 1",
            "user:root@example.com request-log/of-ada user:ada@example.com 2",
            "user:root@example.com request-log/of-app virtualaccount:app 2",
            "user:root@example.com request-log/of-gone user:gone@example.com 2",
        ]
    );
    let ada_entry = entries.iter().find(|entry| entry["actor"] == "user:ada@example.com").unwrap();
    assert_eq!(ada_entry["tokenId"], token_id(ada));
}

#[test]
fn lists_filter_page_and_show() {
    let fixture = Fixture::new(|request, answer| {
        if request.text().contains("fail-there") {
            answer.json(503, "{\"error\":{\"message\":\"down\"}}");
        } else {
            answer.json(200, CHAT_ANSWER);
        }
    });
    let (gateway, token) = (&fixture.gateway, &fixture.token);
    let admin = gateway.admin_token();
    for number in 0..30 {
        let more = if number % 10 == 0 { ",\"user\":\"fail-there\"" } else { "" };
        let headers = format!("x-tfy-metadata: {{\"half\":\"{}\"}}\r\n", number % 2);
        call(gateway.addr, token, &format!("r{number:02}"), &headers, &chat("main/m", more));
    }
    eventually("all calls", || {
        let rows = get(gateway.addr, &admin, "/logs").json();
        (rows["data"].as_array().unwrap().len() == 30).then_some(())
    });
    let list = |query: &str| {
        let (mut ids, mut before): (Vec<String>, String) = (Vec::new(), String::new());
        loop {
            let response = get(gateway.addr, &admin, &format!("/logs?{query}{before}"));
            assert_eq!(response.status, 200, "{}", response.text());
            let page = response.json();
            let rows = page["data"].as_array().unwrap();
            ids.extend(rows.iter().map(|row| row["requestId"].as_str().unwrap().to_owned()));
            match page["pagination"]["before"].as_str() {
                Some(next) => before = format!("&before={next}"),
                None => return ids,
            }
        }
    };
    let all: Vec<String> = (0..30).rev().map(|number| format!("r{number:02}")).collect();
    for query in ["limit=7", "limit=30"] {
        let mut found = list(query);
        for (place, id) in found.iter().enumerate() {
            let number: usize = id.trim_start_matches('r').parse().unwrap();
            // Calls of one millisecond may stand in either order.
            assert!(number.abs_diff(29 - place) <= 2, "{found:?}");
        }
        found.sort_by(|a, b| b.cmp(a));
        assert_eq!(found, all);
    }
    assert_eq!(list("status=503"), ["r20", "r10", "r00"]);
    assert_eq!(list("status=5xx&limit=1"), ["r20", "r10", "r00"]);
    assert_eq!(list("metadata.half=1&limit=4").len(), 15);
    assert_eq!(list("subject=user:bob@example.com").len(), 0);
    assert_eq!(list("model=main/m&account=main&subject=user:ada@example.com").len(), 30);
    assert_eq!(list("to=2020-01-01").len(), 0);
    for wrong in [
        "status=5",
        "status=6xx",
        "status=abc",
        "status=xx",
        "status=%2b42",
        "before=x",
        "limit=0",
        "from=x",
        "before=1&before=2",
    ] {
        let refused = get(gateway.addr, &admin, &format!("/logs?{wrong}"));
        assert_eq!(refused.status, 400, "{wrong}: {}", refused.text());
    }
    for missing in ["none", "%00", "%22", &"x".repeat(2000)] {
        assert_eq!(get(gateway.addr, &admin, &format!("/logs/{missing}")).status, 404, "{missing}");
    }
    let table = gateway.admin_ok(&["logs", "list", "--limit", "3"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert!(lines[0].starts_with("TIME") && lines[1].contains("r29") && lines[1].ends_with("no"), "{table}");
    let shown = gateway.admin_ok(&["logs", "show", "r29"]);
    assert!(
        shown.contains("user:ada@example.com") && shown.contains("half=1") && !shown.contains("REQUEST ("),
        "{shown}"
    );
    let failed = gateway.admin(&["logs", "show", "nothing"]);
    assert_eq!(failed.status.code(), Some(1));
    let csv = gateway.admin_ok(&["logs", "list", "--limit", "2", "--output", "csv"]);
    assert_eq!(csv.lines().count(), 3, "{csv}");
}

//! The command line, black box: the real binary on a folder of its own, without a server, and against scripted
//! servers on a TCP port and on a Unix socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

static NEXT: AtomicU32 = AtomicU32::new(0);
const KEY: &str = "sk-live-CANARY-0123456789";

/// A folder for one test; removed on drop.
struct Folder {
    dir: PathBuf,
}

impl Folder {
    fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("gateway-cli-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// `gateway admin ... --data-dir DIR`, not started.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = gateway(&["admin", "--data-dir"]);
        command.arg(self.path("data")).args(arguments);
        command
    }

    fn admin(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The command must succeed; its standard output.
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.admin(arguments);
        assert_eq!(code(&output), 0, "{arguments:?}: {}{}", out(&output), err(&output));
        out(&output)
    }

    /// The same as JSON.
    fn json(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.extend(["--output", "json"]);
        let text = self.ok(&all);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }

    /// The command must be refused with that HTTP status, and print nothing; the message.
    fn refused(&self, arguments: &[&str], status: u16) -> String {
        let mut all = arguments.to_vec();
        all.extend(["--output", "json"]);
        let output = self.admin(&all);
        assert_eq!((code(&output), out(&output).as_str()), (1, ""), "{arguments:?}: {}", err(&output));
        let error: Value = serde_json::from_str(&err(&output)).unwrap();
        assert_eq!(error["error"]["status"], json!(status), "{arguments:?}: {error}");
        error["error"]["message"].as_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The binary, with nothing of the tester's environment that it would listen to.
fn gateway(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    for name in ["GATEWAY_URL", "GATEWAY_TOKEN", "GATEWAY_CONFIG", "GATEWAY_CA_FILE", "CREDENTIALS_DIRECTORY"]
    {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    gateway(arguments).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn column(rows: &Value, pointer: &str) -> Vec<String> {
    rows.as_array()
        .unwrap()
        .iter()
        .map(|row| row.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned())
        .collect()
}

// ---- without a store ----

#[test]
fn every_level_has_help() {
    for (path, words) in [
        ("", "serve check-config admin Examples: Notes:"),
        ("serve", "--config --demo --data-dir Examples:"),
        ("check-config", "--config Examples:"),
        (
            "admin",
            "user team provider model grant revoke grants token virtual-account usage --config --data-dir --url --output Examples: Notes: GATEWAY_TOKEN",
        ),
        ("admin user", "create list show deactivate activate set-role delete Examples:"),
        ("admin user create", "<email> --name --role Examples:"),
        ("admin user list", "--search Examples:"),
        ("admin user show", "<email> Examples:"),
        ("admin user deactivate", "<email> Examples: Notes:"),
        ("admin user activate", "<email> Examples:"),
        ("admin user set-role", "<email> <role> Examples:"),
        ("admin user delete", "<email> --force Examples: Notes:"),
        ("admin team", "create list show delete add-member remove-member Examples: everyone"),
        ("admin team create", "<name> --description Examples:"),
        ("admin team list", "Examples:"),
        ("admin team show", "<name> Examples:"),
        ("admin team delete", "<name> Examples:"),
        ("admin team add-member", "<team> <email> Examples:"),
        ("admin team remove-member", "<team> <email> Examples:"),
        ("admin provider", "create list show update set-key delete Examples: Notes:"),
        (
            "admin provider create",
            "<name> --type --base-url --api-key-file --api-key-env --header --ca-file Examples:",
        ),
        ("admin provider list", "Examples:"),
        ("admin provider show", "<name> Examples:"),
        (
            "admin provider update",
            "<name> --base-url --api-key-file --api-key-env --header --ca-file Examples: Notes:",
        ),
        ("admin provider set-key", "<name> --api-key-file --api-key-env --remove Examples:"),
        ("admin provider delete", "<name> Examples:"),
        ("admin model", "add list remove Examples: Notes:"),
        ("admin model add", "<model> --model-id --type --input-price --output-price Examples: embedding"),
        ("admin model list", "--account Examples:"),
        ("admin model remove", "<model> Examples:"),
        ("admin grant", "<subject> <role> <target> Examples: Notes: provider-account-manager"),
        ("admin revoke", "<subject> <role> <target> Examples: Notes:"),
        ("admin grants", "--subject --target Examples:"),
        ("admin token", "create list show revoke rotate Examples: Notes:"),
        ("admin token create", "--user --virtual-account --name --expires --valid-days Examples: Notes:"),
        ("admin token list", "--user --virtual-account Examples:"),
        ("admin token show", "<id> Examples:"),
        ("admin token revoke", "<id> Examples:"),
        ("admin token rotate", "<id> --grace Examples: Notes:"),
        ("admin virtual-account", "create list show delete Examples: Notes:"),
        ("admin virtual-account create", "<name> --expires --tag Examples:"),
        ("admin virtual-account list", "Examples:"),
        ("admin virtual-account show", "<name> Examples:"),
        ("admin virtual-account delete", "<name> Examples:"),
        ("admin usage", "report Examples:"),
        ("admin usage report", "--by --from --to Examples: Notes:"),
    ] {
        for flag in ["--help", "-h"] {
            let mut arguments: Vec<&str> = path.split_whitespace().collect();
            arguments.push(flag);
            let output = run(&arguments);
            let help = out(&output);
            assert_eq!((code(&output), err(&output).as_str()), (0, ""), "{path}");
            assert!(help.starts_with(format!("Usage: gateway {path}").trim_end()), "{path}: {help}");
            for word in words.split_whitespace() {
                assert!(
                    help.split(|c: char| c.is_whitespace() || "[]=,'".contains(c)).any(|found| found == word),
                    "{path}: no {word}: {help}"
                );
            }
            assert!(!help.contains("{command_name}") && !help.contains('\t'), "{path}: {help}");
        }
    }
    // The other ways to ask.
    assert_eq!(out(&run(&["help"])), out(&run(&["--help"])));
    for asked in [
        ["admin", "--help", "user", "create"],
        ["help", "admin", "user", "create"],
        ["admin", "help", "user", "create"],
    ] {
        assert_eq!(out(&run(&asked)), out(&run(&["admin", "user", "create", "--help"])), "{asked:?}");
    }
}

#[test]
fn the_version() {
    let output = run(&["--version"]);
    assert_eq!((code(&output), out(&output)), (0, format!("gateway {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_wrong_command_line_is_exit_2() {
    for line in [
        "",
        "frobnicate",
        "--frobnicate",
        "serve --frobnicate",
        "serve extra",
        "admin",
        "admin frobnicate",
        "admin user",
        "admin user frobnicate",
        "admin user create",
        "admin user create a@b.c extra",
        "admin user create a@b.c --role boss",
        "admin user set-role a@b.c boss",
        "admin user list --output yaml",
        "admin user list --output",
        "admin user list --output table --output table",
        "admin user list --url https://x --data-dir y",
        "admin user list --url https://x --config y",
        "admin provider create x --api-key sk-1",
        "admin provider create x --api-key=sk-1",
        "admin provider create x --api-key-file /dev/null --api-key-env HOME",
        "admin provider create x --header nocolon",
        "admin provider update x",
        "admin provider update x --no-headers --header A:b",
        "admin provider set-key x",
        "admin provider set-key x --remove --api-key-env HOME",
        "admin model add gpt-4o --model-id x",
        "admin model add main/gpt-4o",
        "admin model remove main/",
        "admin grant user:a@b.c boss main",
        "admin grant user:a@b.c access",
        "admin token create --name laptop",
        "admin token create --name laptop --user a@b.c --virtual-account bot",
        "admin token create --user a@b.c",
        "admin token create --user a@b.c --name laptop --valid-days 3 --expires 2031-01-01",
        "admin token create --user a@b.c --name laptop --valid-days -3",
        "admin token create --user a@b.c --name laptop --expires tomorrow",
        "admin token list --user a@b.c --virtual-account bot",
        "admin token rotate x --grace 1w",
        "admin virtual-account create bot --tag nothing",
        "admin usage report --by moon",
    ] {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        let output = run(&arguments);
        assert_eq!((code(&output), out(&output).as_str()), (2, ""), "{line}: {}", err(&output));
        assert!(err(&output).starts_with("gateway: "), "{line}: {}", err(&output));
        assert!(!err(&output).contains("sk-1"), "{line}: {}", err(&output));
        assert!(err(&output).contains("--help"), "{line}: {}", err(&output));
    }
    // An empty name would name the whole list.
    for arguments in [
        &["user", "delete", ""][..],
        &["team", "show", ""],
        &["provider", "delete", ".."],
        &["token", "revoke", ""],
    ] {
        let output = Folder::new().admin(arguments);
        assert_eq!((code(&output), out(&output).as_str()), (2, ""), "{arguments:?}: {}", err(&output));
    }
}

#[test]
fn usage_errors_are_json_when_json_is_asked_for() {
    for line in [
        "admin user create --output json",
        "admin --output json token create --name laptop",
        "admin --output=json frobnicate",
    ] {
        let output = run(&line.split_whitespace().collect::<Vec<_>>());
        assert_eq!((code(&output), out(&output).as_str()), (2, ""), "{line}");
        let error: Value = serde_json::from_str(&err(&output)).unwrap();
        assert_eq!(error["error"]["status"], Value::Null);
        assert!(error["error"]["message"].is_string());
    }
}

#[test]
fn a_usage_error_names_the_help_that_helps() {
    let output = run(&["admin", "user", "create"]);
    assert!(err(&output).contains("Run 'gateway admin user create --help'"), "{}", err(&output));
    let output = run(&["admin", "user", "frobnicate"]);
    assert!(err(&output).contains("Run 'gateway admin user --help'"), "{}", err(&output));
}

/// Runs a command whose standard output nobody reads.
fn run_with_closed_pipe(mut command: Command) -> Output {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap()
}

#[test]
fn a_closed_pipe_ends_quietly() {
    for arguments in [&["--help"][..], &["--version"], &["admin", "user", "--help"]] {
        let output = run_with_closed_pipe(gateway(arguments));
        assert_eq!((code(&output), err(&output).as_str()), (0, ""), "{arguments:?}");
    }
}

#[test]
fn a_full_disk_under_standard_output_is_told() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output =
        gateway(&["--help"]).stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("standard output"), "{}", err(&output));
}

#[test]
fn check_config_says_what_is_wrong() {
    let folder = Folder::new();
    let good = folder.write("good.toml", "[store]\ndata_dir = \"/srv/gateway\"\n");
    let output = run(&["check-config", "--config", &good]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).starts_with(&format!("{good} is fine.\n")), "{}", out(&output));
    assert!(out(&output).contains("/srv/gateway"), "{}", out(&output));
    let output = gateway(&["check-config"]).env("GATEWAY_CONFIG", &good).output().unwrap();
    assert!(out(&output).starts_with(&good), "{}", out(&output));
    let bad = folder.write("bad.toml", "[store]\ndata_dri = \"x\"\n");
    for arguments in [&["check-config", "--config", &bad][..], &["admin", "user", "list", "--config", &bad]] {
        let output = run(arguments);
        assert_eq!((code(&output), out(&output).as_str()), (1, ""), "{}", err(&output));
        assert!(err(&output).contains("bad.toml") && err(&output).contains("data_dri"), "{}", err(&output));
    }
    let missing = run(&["check-config", "--config", "/nonexistent.toml"]);
    assert_eq!(code(&missing), 1);
    assert!(err(&missing).contains("/nonexistent.toml"), "{}", err(&missing));
}

#[test]
fn a_socket_path_that_is_too_long_is_refused() {
    let folder = Folder::new();
    let long = folder.path(&"x".repeat(120));
    let output = gateway(&["admin", "user", "list", "--data-dir"]).arg(&long).output().unwrap();
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("too long"), "{}", err(&output));
    assert!(!long.exists());
}

#[test]
fn keys_come_from_where_they_should_or_not_at_all() {
    let folder = Folder::new();
    let two_lines = folder.write("two", &format!("{KEY}\nmore\n"));
    let empty = folder.write("empty", "\n");
    for (file, says) in
        [(two_lines.as_str(), "one line"), (&empty, "is empty"), ("/nonexistent", "can not be read")]
    {
        let output = folder.admin(&["provider", "create", "main", "--api-key-file", file]);
        assert_eq!(code(&output), 1, "{}", err(&output));
        assert!(err(&output).contains(says), "{}", err(&output));
        assert!(!err(&output).contains("CANARY"), "{}", err(&output));
    }
    let output = folder.admin(&["provider", "create", "main", "--api-key-env", "GATEWAY_TEST_UNSET"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("GATEWAY_TEST_UNSET"), "{}", err(&output));
}

// ---- against scripted servers ----

/// Reads one request and gives that answer; what was asked: the request line, the headers, the body.
fn answer(stream: impl Read + Write, status: u16, body: &str) -> (String, String, String) {
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

// ---- directly on the store ----

#[test]
fn a_new_folder_is_private_and_empty() {
    let folder = Folder::new();
    assert_eq!(folder.json(&["user", "list"]), json!([]));
    assert_eq!(std::fs::metadata(folder.path("data")).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(folder.ok(&["user", "list"]), "EMAIL  NAME  ROLE  ACTIVE  CREATED\n");
    for list in [
        &["team", "list"][..],
        &["provider", "list"],
        &["model", "list"],
        &["grants"],
        &["token", "list"],
        &["virtual-account", "list"],
        &["usage", "report"],
    ] {
        assert_eq!(folder.json(list), json!([]), "{list:?}");
        assert_eq!(folder.ok(list).lines().count(), 1, "{list:?}");
    }
}

#[test]
fn life_of_a_user() {
    let folder = Folder::new();
    folder.ok(&["user", "create", "root@x.io", "--role", "admin"]);
    folder.ok(&["user", "create", "a+b@x.io", "--name", "Ada L."]);
    let message = folder.refused(&["user", "create", "a+b@x.io"], 409);
    assert!(message.contains("a+b@x.io"), "{message}");
    folder.refused(&["user", "create", "no-at-sign"], 422);
    let rows = folder.json(&["user", "list"]);
    assert_eq!(column(&rows, "/email"), ["a+b@x.io", "root@x.io"]);
    let table = folder.ok(&["user", "list"]);
    let line = table.lines().find(|line| line.starts_with("a+b@x.io")).unwrap();
    assert!(line.contains("Ada L.") && line.contains("member") && line.contains("yes"), "{table}");
    assert_eq!(column(&folder.json(&["user", "list", "--search", "a+b"]), "/email"), ["a+b@x.io"]);

    let user = folder.json(&["user", "show", "a+b@x.io"]);
    assert_eq!((&user["email"], &user["active"]), (&json!("a+b@x.io"), &json!(true)));
    folder.refused(&["user", "show", "nobody@x.io"], 404);

    folder.ok(&["user", "set-role", "a+b@x.io", "admin"]);
    assert!(folder.ok(&["user", "show", "a+b@x.io"]).contains("admin"));
    folder.ok(&["user", "set-role", "a+b@x.io", "member"]);
    folder.refused(&["user", "set-role", "root@x.io", "member"], 409);

    let token = folder.ok(&["token", "create", "--user", "a+b@x.io", "--name", "laptop"]);
    assert!(token.starts_with("tfy_pat_"));
    folder.ok(&["user", "deactivate", "a+b@x.io"]);
    assert_eq!(folder.json(&["token", "list", "--user", "a+b@x.io"]), json!([]));
    assert_eq!(folder.json(&["user", "show", "a+b@x.io"])["active"], json!(false));
    assert_eq!(column(&folder.json(&["user", "list"]), "/email").len(), 2);
    folder.ok(&["user", "activate", "a+b@x.io"]);
    folder.refused(&["user", "deactivate", "root@x.io"], 409);

    folder.ok(&["team", "create", "crew"]);
    folder.ok(&["team", "add-member", "crew", "a+b@x.io"]);
    folder.refused(&["user", "delete", "a+b@x.io"], 409);
    folder.ok(&["user", "delete", "a+b@x.io", "--force"]);
    folder.refused(&["user", "show", "a+b@x.io"], 404);
    folder.refused(&["user", "delete", "root@x.io", "--force"], 409);
}

#[test]
fn life_of_a_team() {
    let folder = Folder::new();
    folder.ok(&["user", "create", "ada@x.io"]);
    folder.ok(&["team", "create", "crew", "--description", "the crew"]);
    folder.ok(&["team", "add-member", "crew", "ada@x.io"]);
    // A second create does not empty the team.
    folder.refused(&["team", "create", "crew"], 409);
    let team = folder.json(&["team", "show", "crew"]);
    assert_eq!(team["manifest"]["members"], json!(["ada@x.io"]));
    assert_eq!(team["description"], json!("the crew"));
    assert!(folder.ok(&["team", "show", "crew"]).contains("ada@x.io"));
    assert_eq!(column(&folder.json(&["team", "list"]), "/manifest/name"), ["crew"]);
    let status = folder.admin(&["team", "add-member", "crew", "nobody@x.io"]);
    assert_eq!(code(&status), 1);
    folder.ok(&["team", "remove-member", "crew", "ada@x.io"]);
    assert_eq!(folder.json(&["team", "show", "crew"])["manifest"]["members"], json!([]));
    assert_eq!(code(&folder.admin(&["team", "create", "everyone"])), 1);
    // A team may be called help.
    folder.ok(&["team", "create", "help"]);
    assert!(folder.ok(&["team", "show", "help"]).contains("help"));
    folder.ok(&["team", "delete", "help"]);
    folder.ok(&["team", "delete", "crew"]);
    folder.refused(&["team", "delete", "crew"], 404);
}

#[test]
fn life_of_a_provider_account_and_its_models() {
    let folder = Folder::new();
    let key = folder.write("key", &format!("{KEY}\n"));
    folder.ok(&[
        "provider",
        "create",
        "main",
        "--type",
        "openai",
        "--base-url",
        "https://api.example.com/v1",
        "--api-key-file",
        &key,
        "--header",
        "X-Org: 7",
    ]);
    folder.refused(&["provider", "create", "main", "--base-url", "https://x.io/v1"], 409);
    let created = folder
        .command(&["provider", "create", "env", "--base-url", "https://x.io/v1", "--api-key-env", "TEST_KEY"])
        .env("TEST_KEY", KEY)
        .output()
        .unwrap();
    assert_eq!(code(&created), 0, "{}", err(&created));
    folder.ok(&["provider", "create", "open", "--base-url", "https://x.io/v1"]);

    let account = folder.json(&["provider", "show", "main"]);
    assert_eq!((&account["name"], &account["hasApiKey"]), (&json!("main"), &json!(true)));
    assert_eq!(account["manifest"]["base_url"], json!("https://api.example.com/v1"));
    assert_eq!(folder.json(&["provider", "show", "open"])["hasApiKey"], json!(false));
    assert_eq!(column(&folder.json(&["provider", "list"]), "/name"), ["env", "main", "open"]);
    for arguments in [&["provider", "list"][..], &["provider", "show", "main"]] {
        let both = folder.ok(arguments) + &folder.json(arguments).to_string();
        assert!(!both.contains("CANARY"), "{both}");
    }

    // A key belongs to its server.
    folder.refused(&["provider", "update", "main", "--base-url", "https://evil.example.com/v1"], 422);
    folder.ok(&["provider", "update", "main", "--base-url", "https://api.example.com/v2"]);
    folder.ok(&[
        "provider",
        "update",
        "main",
        "--base-url",
        "https://b.example.com/v1",
        "--api-key-file",
        &key,
    ]);
    folder.ok(&["provider", "update", "main", "--no-headers"]);
    folder.ok(&["provider", "set-key", "main", "--remove"]);
    assert_eq!(folder.json(&["provider", "show", "main"])["hasApiKey"], json!(false));
    folder.ok(&["provider", "set-key", "main", "--api-key-file", &key]);
    assert_eq!(folder.json(&["provider", "show", "main"])["hasApiKey"], json!(true));

    folder.ok(&[
        "model",
        "add",
        "main/meta/Llama-3:8b",
        "--model-id",
        "llama",
        "--input-price",
        "2.50",
        "--output-price",
        "10",
    ]);
    folder.ok(&["model", "add", "main/embed", "--model-id", "text-embed", "--type", "embedding"]);
    folder.ok(&["model", "add", "open/say", "--model-id", "tts-1", "--type", "text-to-speech,chat"]);
    folder.refused(&["model", "add", "main/embed", "--model-id", "x"], 409);
    folder.refused(&["model", "add", "nowhere/x", "--model-id", "x"], 404);
    assert_eq!(code(&folder.admin(&["model", "add", "main/x", "--model-id", "x", "--type", "telepathy"])), 1);
    assert_eq!(
        code(&folder.admin(&["model", "add", "main/x", "--model-id", "x", "--input-price", "cheap"])),
        1
    );
    let models = folder.json(&["model", "list", "--account", "main"]);
    assert_eq!(column(&models, "/modelName"), ["main/embed", "main/meta/Llama-3:8b"]);
    let table = folder.ok(&["model", "list"]);
    let line = table.lines().find(|line| line.starts_with("main/meta/Llama-3:8b")).unwrap();
    assert!(line.contains("2.5") && line.contains("10") && line.contains("chat"), "{table}");
    folder.ok(&["model", "remove", "main/meta/Llama-3:8b"]);
    folder.refused(&["model", "remove", "main/meta/Llama-3:8b"], 404);

    folder.ok(&["provider", "delete", "main"]);
    folder.refused(&["provider", "show", "main"], 404);
    // The key stands nowhere on disk as it is.
    for entry in std::fs::read_dir(folder.path("data")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes()), "{}", path.display());
        }
    }
}

#[test]
fn life_of_a_grant() {
    let folder = Folder::new();
    folder.ok(&["user", "create", "ada@x.io"]);
    folder.ok(&["team", "create", "crew"]);
    folder.ok(&["virtual-account", "create", "bot"]);
    folder.ok(&["provider", "create", "main", "--base-url", "https://x.io/v1"]);
    folder.ok(&["model", "add", "main/m/1", "--model-id", "m"]);
    folder.ok(&["grant", "user:ada@x.io", "provider-account-manager", "main"]);
    folder.ok(&["grant", "team:crew", "access", "main/m/1"]);
    folder.ok(&["grant", "virtualaccount:bot", "provider-account-access", "main"]);
    // Again is as before.
    folder.ok(&["grant", "virtualaccount:bot", "access", "main"]);
    let rows = folder.json(&["grants"]);
    assert_eq!(rows.as_array().unwrap().len(), 3, "{rows}");
    let rows = folder.json(&["grants", "--subject", "team:crew"]);
    assert_eq!(
        (column(&rows, "/target"), column(&rows, "/role")),
        (vec!["main/m/1".to_owned()], vec!["provider-account-access".to_owned()])
    );
    assert_eq!(column(&folder.json(&["grants", "--target", "main/m/1"]), "/subject"), ["team:crew"]);
    for (subject, role, target) in [
        ("user:nobody@x.io", "access", "main"),
        ("user:ada@x.io", "access", "nowhere"),
        ("user:ada@x.io", "access", "main/nothing"),
        ("user:ada@x.io", "manager", "main/m/1"),
        ("virtualaccount:bot", "manager", "main"),
    ] {
        folder.refused(&["grant", subject, role, target], 422);
    }
    folder.ok(&["revoke", "team:crew", "access", "main/m/1"]);
    folder.refused(&["revoke", "team:crew", "access", "main/m/1"], 404);
    folder.ok(&["provider", "delete", "main"]);
    assert_eq!(folder.json(&["grants"]), json!([]));
}

#[test]
fn life_of_a_token() {
    let folder = Folder::new();
    folder.ok(&["user", "create", "ada@x.io"]);
    let output =
        folder.admin(&["token", "create", "--user", "ada@x.io", "--name", "laptop", "--valid-days", "30"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    // The token alone, in one line; what there is to know elsewhere.
    let token = out(&output);
    assert!(token.starts_with("tfy_pat_") && token.ends_with('\n') && token.lines().count() == 1, "{token}");
    assert!(token.trim_end().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{token}");
    let id = token.split('_').nth(2).unwrap();
    assert!(
        err(&output).contains(id) && err(&output).contains("user:ada@x.io") && err(&output).contains("once"),
        "{}",
        err(&output)
    );
    assert!(!err(&output).contains(token.trim_end()));

    let shown = folder.json(&["token", "show", id]);
    assert_eq!(
        (&shown["id"], &shown["name"], &shown["owner"]),
        (&json!(id), &json!("laptop"), &json!("user:ada@x.io"))
    );
    assert!(shown["expiresAt"].is_string());
    let secret = token.trim_end().rsplit('_').next().unwrap();
    for arguments in [&["token", "show", id][..], &["token", "list"]] {
        let both = folder.ok(arguments) + &folder.json(arguments).to_string();
        assert!(!both.contains(secret), "{both}");
    }

    let made = folder.admin(&[
        "token",
        "create",
        "--user",
        "ada@x.io",
        "--name",
        "phone",
        "--expires",
        "2099-12-31",
        "--output",
        "json",
    ]);
    let made: Value = serde_json::from_str(&out(&made)).unwrap();
    assert!(made["token"].as_str().unwrap().starts_with("tfy_pat_"));
    assert_eq!(made["data"]["expiresAt"], json!("2099-12-31T23:59:59.999Z"));

    let rotated = folder.json(&["token", "rotate", id, "--grace", "30m"]);
    assert_eq!(rotated["data"]["replaces"], json!(id));
    assert_ne!(rotated["data"]["id"], json!(id));
    assert_eq!(folder.json(&["token", "list", "--user", "ada@x.io"]).as_array().unwrap().len(), 3);
    let newer = rotated["data"]["id"].as_str().unwrap();
    assert!(folder.ok(&["token", "rotate", newer, "--grace", "0"]).starts_with("tfy_pat_"));
    folder.refused(&["token", "show", newer], 404);

    folder.ok(&["token", "revoke", id]);
    folder.refused(&["token", "revoke", id], 404);
    folder.refused(&["token", "show", "nonsense"], 404);
    folder.refused(&["token", "create", "--user", "nobody@x.io", "--name", "laptop"], 422);
}

#[test]
fn life_of_a_virtual_account() {
    let folder = Folder::new();
    folder.ok(&[
        "virtual-account",
        "create",
        "search-bot",
        "--expires",
        "2099-12-31",
        "--tag",
        "team=search",
        "--tag",
        "note=a=b",
    ]);
    folder.refused(&["virtual-account", "create", "search-bot"], 409);
    let account = folder.json(&["virtual-account", "show", "search-bot"]);
    assert_eq!(account["manifest"]["tags"], json!({"team": "search", "note": "a=b"}));
    assert!(folder.ok(&["virtual-account", "show", "search-bot"]).contains("2099-12-31"));
    assert_eq!(column(&folder.json(&["virtual-account", "list"]), "/manifest/name"), ["search-bot"]);
    let token = folder.ok(&["token", "create", "--virtual-account", "search-bot", "--name", "production"]);
    assert!(token.starts_with("tfy_va_"), "{token}");
    assert_eq!(
        folder.json(&["token", "list", "--virtual-account", "search-bot"]).as_array().unwrap().len(),
        1
    );
    folder.ok(&["virtual-account", "delete", "search-bot"]);
    assert_eq!(folder.json(&["token", "list"]), json!([]));
    folder.refused(&["virtual-account", "show", "search-bot"], 404);
}

#[test]
fn an_empty_usage_report() {
    let folder = Folder::new();
    let table = folder.ok(&["usage", "report", "--by", "team,day", "--from", "2020-01-01"]);
    assert!(table.starts_with("TEAM  DAY  CALLS"), "{table}");
    assert_eq!(table.lines().count(), 1, "{table}");
}

#[test]
fn lists_longer_than_a_page_and_a_closed_pipe() {
    let folder = Folder::new();
    for number in 0..12 {
        folder.ok(&["user", "create", &format!("u{number}@x.io")]);
    }
    assert_eq!(folder.json(&["user", "list"]).as_array().unwrap().len(), 12);
    for arguments in
        [&["user", "list"][..], &["user", "list", "--output", "json"], &["user", "show", "u1@x.io"]]
    {
        let output = run_with_closed_pipe(folder.command(arguments));
        assert_eq!((code(&output), err(&output).as_str()), (0, ""), "{arguments:?}");
    }
}

#[test]
fn commands_at_the_same_time_wait_for_one_another() {
    let folder = Folder::new();
    folder.ok(&["user", "list"]);
    let children: Vec<_> = (0..6)
        .map(|number| {
            let email = format!("u{number}@x.io");
            folder
                .command(&["user", "create", &email])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert_eq!(code(&output), 0, "{}", err(&output));
    }
    assert_eq!(folder.json(&["user", "list"]).as_array().unwrap().len(), 6);
}

#[test]
fn a_folder_that_others_may_read_is_refused() {
    let folder = Folder::new();
    folder.ok(&["user", "list"]);
    std::fs::set_permissions(folder.path("data"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = folder.admin(&["user", "list"]);
    assert_eq!((code(&output), out(&output).as_str()), (1, ""));
    assert!(err(&output).contains("0755"), "{}", err(&output));
}

//! The binary under test: a folder of its own, a free port, and what it writes on standard error.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{Client, Response};
use super::{PATIENCE, PROVIDER_KEY, eventually};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Settings that tests want unless they say otherwise: nothing waits long, usage is on disk at once.
const DEFAULTS: &[(&str, &str)] = &[
    ("server.listen", "\"127.0.0.1:0\""),
    ("server.workers", "2"),
    ("server.drain_timeout_ms", "5000"),
    ("relay.connect_timeout_ms", "2000"),
    ("usage.flush_interval_ms", "20"),
];

/// A data folder and a configuration file; removed on drop.
pub struct Home {
    dir: PathBuf,
    /// The operators' listener.
    pub ops: SocketAddr,
}

impl Home {
    /// A new folder. `config` holds lines with dotted keys and overrides the defaults above.
    pub fn new(config: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("gateway-test-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let ops = free_port();
        let home = Self { dir, ops };
        let mut text =
            format!("ops.listen = \"{ops}\"\nstore.data_dir = \"{}\"\n", home.data_dir().display());
        for (key, value) in DEFAULTS {
            if !config.contains(key) {
                text.push_str(&format!("{key} = {value}\n"));
            }
        }
        text.push_str(config);
        std::fs::write(home.config(), text).unwrap();
        home
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.join("config.toml")
    }

    /// Where the state is.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// A folder for files of a test.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The gateway, or the one that `GATEWAY_TEST_BINARY` names; in a folder with a file `clock` the one whose clock is
    /// moved by the milliseconds in it.
    fn command(&self) -> Command {
        let clock = self.path("clock");
        match std::env::var_os("GATEWAY_TEST_CLOCK_BINARY") {
            Some(binary) if clock.exists() => {
                let mut command = Command::new(binary);
                command.env("GATEWAY_TEST_CLOCK", clock);
                command
            }
            _ => match std::env::var_os("GATEWAY_TEST_BINARY") {
                Some(binary) => Command::new(binary),
                None => Command::new(env!("CARGO_BIN_EXE_gateway")),
            },
        }
    }

    /// `gateway serve`, not yet started.
    pub fn serve_command(&self) -> Command {
        let mut command = self.command();
        command.arg("serve").arg("--config").arg(self.config()).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// `gateway admin ...`, over the socket when a server runs here, else directly on the store.
    pub fn admin(&self, arguments: &[&str]) -> Output {
        self.admin_command(arguments).output().unwrap()
    }

    /// `gateway admin ...`, not yet started.
    pub fn admin_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command();
        command
            .arg("admin")
            .arg("--config")
            .arg(self.config())
            .args(arguments)
            .env("GATEWAY_TEST_PROVIDER_KEY", PROVIDER_KEY)
            .env_remove("GATEWAY_URL")
            .env_remove("GATEWAY_TOKEN")
            .stdin(Stdio::null());
        command
    }

    /// The same, and it must succeed; gives standard output without the last line end.
    pub fn admin_ok(&self, arguments: &[&str]) -> String {
        let output = self.admin(arguments);
        assert!(
            output.status.success(),
            "admin {arguments:?} failed: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// The same with `--output json`.
    pub fn admin_json(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["--output", "json"];
        all.extend_from_slice(arguments);
        let text = self.admin_ok(&all);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("admin {arguments:?}: {error} in {text}"))
    }

    /// Starts the server and waits for its ready line.
    pub fn serve(self) -> Gateway {
        match self.try_serve() {
            Ok(gateway) => gateway,
            Err((_, status, log)) => panic!("gateway serve ended with {status} before it was ready:\n{log}"),
        }
    }

    /// The same with more variables of the environment, such as those of `support::issuers`.
    pub fn serve_with(self, variables: &[(&str, String)]) -> Gateway {
        match self.try_serve_with(variables) {
            Ok(gateway) => gateway,
            Err((_, status, log)) => panic!("gateway serve ended with {status} before it was ready:\n{log}"),
        }
    }

    /// Starts the server; when it ends before it is ready, its status and what it said.
    pub fn try_serve(self) -> Result<Gateway, (Self, ExitStatus, String)> {
        self.try_serve_with(&[])
    }

    /// The same with more variables of the environment.
    pub fn try_serve_with(self, variables: &[(&str, String)]) -> Result<Gateway, (Self, ExitStatus, String)> {
        let mut command = self.serve_command();
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Log::default());
        let stderr = child.stderr.take().unwrap();
        let sink = Arc::clone(&log);
        std::thread::spawn(move || sink.fill(stderr));
        match log.wait_for_line("listening on http") {
            Some(line) => {
                let addr = line.rsplit("://").next().unwrap().trim();
                let addr = addr.parse().unwrap_or_else(|_| panic!("no address in {line:?}"));
                Ok(Gateway { home: self, child, addr, log })
            }
            None => {
                let _ = child.kill();
                let status = child.wait().unwrap();
                Err((self, status, log.text()))
            }
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A free loopback port below the range that the system gives to outgoing connections.
fn free_port() -> SocketAddr {
    static PORT: AtomicU32 = AtomicU32::new(0);
    let base = std::process::id().wrapping_mul(97);
    loop {
        let offset = base.wrapping_add(PORT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let addr = SocketAddr::from(([127, 0, 0, 1], u16::try_from(20_000 + offset).unwrap()));
        if TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
}

/// What the server wrote on standard error so far.
#[derive(Default)]
struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Default)]
struct LogState {
    text: String,
    ended: bool,
}

impl Log {
    fn fill(&self, stderr: impl std::io::Read) {
        let mut reader = BufReader::new(stderr);
        let mut line = Vec::new();
        loop {
            line.clear();
            let count = reader.read_until(b'\n', &mut line).unwrap_or(0);
            let mut state = self.state.lock().unwrap();
            state.text.push_str(&String::from_utf8_lossy(&line));
            state.ended = count == 0;
            self.changed.notify_all();
            if count == 0 {
                return;
            }
        }
    }

    fn text(&self) -> String {
        self.state.lock().unwrap().text.clone()
    }

    /// The first whole line that holds `needle`; `None` when the process ended without one.
    fn wait_for_line(&self, needle: &str) -> Option<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state.lock().unwrap();
        loop {
            if let Some(line) =
                state.text.split_inclusive('\n').find(|l| l.contains(needle) && l.ends_with('\n'))
            {
                return Some(line.trim_end().to_owned());
            }
            if state.ended {
                return None;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no line with {needle:?} in the log:\n{}", state.text);
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }
}

/// A running server; killed on drop.
pub struct Gateway {
    /// Its folder.
    pub home: Home,
    /// Where it listens.
    pub addr: SocketAddr,
    child: Child,
    log: Arc<Log>,
}

impl Gateway {
    /// With the defaults of the harness.
    pub fn start() -> Self {
        Self::with_config("")
    }

    /// With lines of configuration (dotted keys).
    pub fn with_config(config: &str) -> Self {
        Home::new(config).serve()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// See [`Home::admin`].
    pub fn admin(&self, arguments: &[&str]) -> Output {
        self.home.admin(arguments)
    }

    /// See [`Home::admin_command`].
    pub fn admin_command(&self, arguments: &[&str]) -> Command {
        self.home.admin_command(arguments)
    }

    /// See [`Home::admin_ok`].
    pub fn admin_ok(&self, arguments: &[&str]) -> String {
        self.home.admin_ok(arguments)
    }

    /// See [`Home::admin_json`].
    pub fn admin_json(&self, arguments: &[&str]) -> Value {
        self.home.admin_json(arguments)
    }

    /// Provider account `main` at an URL with model `main/m` (`up-model` there), the user ada@example.com who may
    /// use it, and her token.
    pub fn with_model(&self, base_url: &str) -> String {
        self.add_account("main", base_url);
        self.admin_ok(&["user", "create", "ada@example.com"]);
        self.admin_ok(&["grant", "user:ada@example.com", "provider-account-access", "main"]);
        self.user_token("ada@example.com")
    }

    /// A provider account with the one model `m`.
    pub fn add_account(&self, name: &str, base_url: &str) {
        self.admin_ok(&[
            "provider",
            "create",
            name,
            "--type",
            "openai",
            "--base-url",
            base_url,
            "--api-key-env",
            "GATEWAY_TEST_PROVIDER_KEY",
        ]);
        self.admin_ok(&["model", "add", &format!("{name}/m"), "--model-id", "up-model"]);
    }

    /// A new token of a user.
    pub fn user_token(&self, email: &str) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.admin_ok(&["token", "create", "--user", email, "--name", &name])
    }

    /// An admin of the tenant and their token.
    pub fn admin_token(&self) -> String {
        self.admin_ok(&["user", "create", "root@example.com", "--role", "admin"]);
        self.user_token("root@example.com")
    }

    /// Everything logged so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits for a line of the log.
    pub fn wait_for_log(&self, needle: &str) -> String {
        self.log.wait_for_line(needle).unwrap_or_else(|| panic!("ended without {needle:?}:\n{}", self.log()))
    }

    /// `GET` on the operators' listener.
    pub fn ops(&self, path: &str) -> Response {
        let mut client = Client::connect(self.home.ops);
        client.send(format!("GET {path} HTTP/1.1\r\nhost: ops\r\n\r\n").as_bytes());
        client.read_response()
    }

    /// The text of `/metrics`.
    pub fn metrics(&self) -> String {
        let response = self.ops("/metrics");
        assert_eq!(response.status, 200);
        String::from_utf8(response.body).unwrap()
    }

    /// The sum of all samples of `/metrics` whose line passes a test.
    pub fn metric_sum(&self, test: impl Fn(&str) -> bool) -> f64 {
        self.metrics()
            .lines()
            .filter(|line| !line.starts_with('#') && test(line))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Calls that ended with an outcome, by `/metrics`.
    pub fn outcome_count(&self, outcome: &str) -> u64 {
        let label = format!("outcome=\"{outcome}\"");
        let sum = self.metric_sum(|line| line.contains(&label) && line.starts_with("gateway_requests_total"));
        sum as u64
    }

    /// Waits until `/metrics` counts `count` calls with an outcome.
    pub fn wait_for_outcome(&self, outcome: &str, count: u64) {
        eventually(&format!("{count} calls with outcome {outcome}"), || {
            (self.outcome_count(outcome) >= count).then_some(())
        });
    }

    /// Rows of `usage report`, once they count `calls` calls together.
    pub fn wait_for_usage(&self, by: &str, calls: u64) -> Vec<Value> {
        eventually("the usage report", || {
            let report = self.admin_json(&["usage", "report", "--by", by]);
            let rows = rows(&report);
            let sum: u64 = rows.iter().filter_map(|row| row["calls"].as_u64()).sum();
            (sum >= calls).then_some(rows)
        })
    }

    /// Sends a signal by name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(status.success(), "kill -{name}");
    }

    /// Whether it still runs.
    pub fn running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        eventually("the end of the server", || self.child.try_wait().unwrap())
    }

    /// SIGKILL, then the folder, to start again on.
    pub fn kill(mut self) -> Home {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.take_home()
    }

    /// SIGTERM, a clean end, then the folder.
    pub fn stop(mut self) -> Home {
        self.signal("TERM");
        let status = self.wait();
        assert!(status.success(), "SIGTERM ended it with {status}:\n{}", self.log());
        self.take_home()
    }

    /// SIGTERM, a clean end, then everything that was logged.
    pub fn stop_and_log(&self) -> String {
        self.signal("TERM");
        eventually("the end of the log", || self.log.state.lock().unwrap().ended.then_some(()));
        self.log()
    }

    fn take_home(&mut self) -> Home {
        let empty = Home { dir: PathBuf::from("/nonexistent/gateway-test"), ops: self.home.ops };
        std::mem::replace(&mut self.home, empty)
    }

    /// A field of `/proc/PID/status` in KiB.
    pub fn status_kib(&self, field: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("{field}:"))).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Fails when the log holds a text.
    pub fn assert_log_lacks(&self, secret: &str) {
        let log = self.log();
        assert!(!log.contains(secret), "the log holds {secret:?}:\n{log}");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the gateway ---\n{}", self.log());
        }
    }
}

/// The rows of a list, with or without its envelope.
pub fn rows(value: &Value) -> Vec<Value> {
    value.as_array().or_else(|| value["data"].as_array()).cloned().unwrap_or_default()
}

/// The public id in a token's text.
pub fn token_id(token: &str) -> &str {
    token.split('_').nth(2).unwrap()
}

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Longer than any limit that a test sets, shorter than the patience.
pub const SOON: Duration = Duration::from_secs(5);

//! The two proxies under measurement, each a process that ends with its handle.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use signal_hook::consts::signal::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::load::Target;

/// The processes that must not outlive this one.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Ends the proxies, removes the folder and exits when a signal ends the run: no handle is dropped then.
pub fn end_on_signal(dir: &Path) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let dir = dir.to_owned();
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            RUNNING.lock().unwrap().iter().copied().for_each(terminate);
            let _ = fs::remove_dir_all(&dir);
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

fn terminate(pid: u32) {
    // Not SIGKILL: nginx's workers would outlive their master.
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::TERM);
    }
}

const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A proxy that runs.
pub struct Proxy {
    child: Child,
    /// What its clients need.
    pub target: Target,
    lines: Option<Receiver<String>>,
}

impl Proxy {
    /// Its process; nginx's workers are the children of it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard error since it was asked last.
    pub fn complaints(&self) -> Vec<String> {
        self.lines.iter().flat_map(Receiver::try_iter).collect()
    }

    /// The gateway with a provider account, a model, a user, a grant and a token.
    pub fn gateway(
        dir: &Path,
        provider: SocketAddr,
        workers: usize,
        log_level: &str,
    ) -> Result<Self, String> {
        fs::create_dir_all(dir).map_err(text)?;
        let config = dir.join("config.toml");
        let data = dir.join("data");
        let ops = free_port().map_err(text)?;
        let toml = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = {workers}\n[ops]\nlisten = \"{ops}\"\n[store]\ndata_dir = {data:?}\n[log]\nlevel = \"{log_level}\"\n"
        );
        fs::write(&config, toml).map_err(text)?;
        let mut child = gateway(&["serve", "--config"])
            .arg(&config)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(text)?;
        RUNNING.lock().unwrap().push(child.id());
        let stderr = child.stderr.take().ok_or("no standard error")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // With log lines for every request nobody looks at them.
                if line.contains(" INFO ") || sender.send(line).is_err() {
                    continue;
                }
            }
        });
        let address = loop {
            let line = lines.recv_timeout(START_TIMEOUT).map_err(|_| "the gateway does not listen")?;
            match line.strip_prefix("listening on http://") {
                Some(address) => break address.parse().map_err(|_| line.clone())?,
                None => eprintln!("gateway: {line}"),
            }
        };
        let target = Target {
            name: "gateway",
            plain: address,
            streams: address,
            token: String::new(),
            model: "bench/bench-1",
        };
        let mut proxy = Self { child, target, lines: Some(lines) };
        let admin = |arguments: &[&str]| admin(&config, arguments);
        let url = format!("http://{provider}/v1");
        admin(&["provider", "create", "bench", "--type", "openai", "--base-url", &url])?;
        admin(&["model", "add", "bench/bench-1", "--model-id", "bench-1", "--type", "chat"])?;
        let manifests = dir.join("accounts.json");
        fs::write(&manifests, translated_accounts(provider)).map_err(text)?;
        admin(&["apply", "-f", &manifests.to_string_lossy()])?;
        admin(&["user", "create", "bench@example.com"])?;
        for account in ["bench", "anthropic", "gemini", "converse"] {
            admin(&["grant", "user:bench@example.com", "provider-account-access", account])?;
        }
        let made = admin(&["token", "create", "--user", "bench@example.com", "--name", "bench"])?;
        proxy.target.token = made.trim().to_owned();
        Ok(proxy)
    }

    /// nginx as a plain reverse proxy; `None` when it is not installed.
    pub fn nginx(dir: &Path, provider: SocketAddr, workers: usize) -> Result<Option<Self>, String> {
        if let Err(error) = Command::new("nginx").arg("-v").stderr(Stdio::null()).status()
            && error.kind() == io::ErrorKind::NotFound
        {
            return Ok(None);
        }
        fs::create_dir_all(dir).map_err(text)?;
        let (plain, streams) = (free_port().map_err(text)?, free_port().map_err(text)?);
        let user = if geteuid().is_root() { "user root;" } else { "" };
        let config = dir.join("nginx.conf");
        let conf = format!(
            "daemon off;
{user}
worker_processes {workers};
worker_rlimit_nofile 8192;
pid nginx.pid;
error_log error.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    keepalive_requests 1000000000;
    upstream provider {{ server {provider}; keepalive 128; keepalive_requests 1000000000; }}
    proxy_http_version 1.1;
    proxy_set_header Connection \"\";
    server {{ listen {plain}; location / {{ proxy_pass http://provider; }} }}
    server {{ listen {streams}; location / {{ proxy_pass http://provider; proxy_buffering off; }} }}
}}
"
        );
        fs::write(&config, conf).map_err(text)?;
        let child = Command::new("nginx")
            .arg("-p")
            .arg(dir)
            .arg("-e")
            .arg(dir.join("error.log"))
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .spawn()
            .map_err(text)?;
        RUNNING.lock().unwrap().push(child.id());
        let target =
            Target { name: "nginx", plain, streams, token: "none".to_owned(), model: "bench/bench-1" };
        let mut proxy = Self { child, target, lines: None };
        let until = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(plain).and_then(|_| TcpStream::connect(streams)).is_err() {
            let ended = proxy.child.try_wait().map_err(text)?.is_some();
            if ended || Instant::now() > until {
                let log = fs::read_to_string(dir.join("error.log")).unwrap_or_default();
                return Err(format!("nginx does not listen: {log}"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(proxy))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let pid = self.pid();
        terminate(pid);
        let _ = self.child.wait();
        RUNNING.lock().unwrap().retain(|running| *running != pid);
    }
}

fn admin(config: &Path, arguments: &[&str]) -> Result<String, String> {
    let output: Output =
        gateway(&["admin", "--config"]).arg(config).args(arguments).output().map_err(text)?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("gateway admin {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)))
    }
}

/// Accounts of the same provider that it answers in its other protocols.
fn translated_accounts(provider: SocketAddr) -> String {
    let account = |kind: &str, name: &str, fields: &str, model_kind: &str, model_id: &str| {
        format!(
            r#"{{"type":"provider-account/{kind}","name":"{name}",{fields},"integrations":[{{"type":"integration/model/{model_kind}","name":"m","model_id":"{model_id}","model_types":["chat"]}}]}}"#
        )
    };
    let key = |word: &str| format!(r#""auth_data":{{"type":"api-key","{word}":"bench-key"}}"#);
    let [anthropic, gemini, converse] = [
        account(
            "anthropic",
            "anthropic",
            &format!(r#""base_url":"http://{provider}/v1",{}"#, key("api_key")),
            "anthropic",
            "claude-sonnet-4-5",
        ),
        account(
            "google-gemini",
            "gemini",
            &format!(r#""base_url":"http://{provider}/v1beta",{}"#, key("apiKey")),
            "gemini",
            "gemini-2.5-flash",
        ),
        account(
            "aws-bedrock",
            "converse",
            &format!(
                r#""base_url":"http://{provider}","region":"eu-central-1","auth_data":{{"type":"access-key-based","access_key_id":"AKIABENCH","secret_access_key":"bench-secret"}}"#
            ),
            "bedrock",
            "amazon.nova-pro-v1:0",
        ),
    ];
    format!("[{anthropic},{gemini},{converse}]")
}

/// The gateway's binary, with nothing of the environment that it would listen to.
fn gateway(arguments: &[&str]) -> Command {
    let binary = std::env::var_os("BENCH_GATEWAY").unwrap_or_else(|| env!("CARGO_BIN_EXE_gateway").into());
    let mut command = Command::new(binary);
    for name in ["GATEWAY_URL", "GATEWAY_TOKEN", "GATEWAY_CONFIG", "GATEWAY_CA_FILE", "CREDENTIALS_DIRECTORY"]
    {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A port that was free a moment ago.
fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

//! The command line, black box: the real binary on a folder of its own, without a server, and against scripted
//! servers on a TCP port and on a Unix socket.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends at the first surprise"
)]

mod access;
mod audit;
mod lines;
mod manifests;
mod providers;
mod servers;
mod store;

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

/// Runs a command whose standard output nobody reads.
fn run_with_closed_pipe(mut command: Command) -> Output {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap()
}

//! The configuration file through the real binary. What each wrong value is answered with stands in the unit
//! tests of `src/config/`.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic like the test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn gateway(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    command.args(arguments).env_remove("GATEWAY_CONFIG");
    command
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A file of its own for each test, which is removed at its end.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn the_example_is_taken() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.toml");
    let (code, stdout, stderr) = run(&mut gateway(&["check-config", "--config", example.to_str().unwrap()]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert!(stdout.contains("127.0.0.1:8080"), "{stdout}");
}

#[test]
fn an_unknown_key_is_refused_with_file_line_and_nearest_name() {
    let file = File::new("config_unknown_key.toml", "# text\n[server]\nmax_conections = 5\n");
    let wanted = format!(
        "{}:3: unknown key 'max_conections' in [server]; did you mean 'max_connections'?",
        file.path()
    );
    let from_variable = gateway(&["check-config"]).env("GATEWAY_CONFIG", file.path()).output().unwrap();
    assert_eq!(from_variable.status.code(), Some(1));
    for command in ["check-config", "serve"] {
        let (code, stdout, stderr) = run(&mut gateway(&[command, "--config", file.path()]));
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{command}");
        assert!(stderr.contains(&wanted), "{command}: {stderr}");
        assert!(!stderr.contains("listening on"), "{command}: {stderr}");
    }
}

#[test]
fn a_named_file_that_is_not_there_is_an_error_not_the_defaults() {
    let missing = "/nonexistent/gateway.toml";
    for command in ["check-config", "serve"] {
        let (code, _, stderr) = run(&mut gateway(&[command, "--config", missing]));
        assert_eq!(code, Some(1), "{command}");
        assert!(stderr.contains(missing), "{command}: {stderr}");
    }
    let (code, _, stderr) = run(gateway(&["check-config"]).env("GATEWAY_CONFIG", missing));
    assert_eq!(code, Some(1));
    assert!(stderr.contains(missing), "{stderr}");
}

#[test]
fn the_file_that_is_named_wins_over_the_variable() {
    let named = File::new("config_named.toml", "[server]\nlisten = \"127.0.0.1:4711\"\n");
    let (code, stdout, _) = run(gateway(&["check-config", "--config", named.path()])
        .env("GATEWAY_CONFIG", "/nonexistent/gateway.toml"));
    assert_eq!(code, Some(0));
    assert!(stdout.contains("127.0.0.1:4711"), "{stdout}");
    let (code, stdout, _) = run(gateway(&["check-config"]).env("GATEWAY_CONFIG", named.path()));
    assert_eq!(code, Some(0));
    assert!(stdout.contains("127.0.0.1:4711"), "{stdout}");
}

#[test]
fn every_problem_is_told_at_once() {
    let file = File::new("config_many.toml", "[server]\nmax_headers = 1\n[ops]\nlisten = \"0.0.0.0:9464\"\n");
    let (code, _, stderr) = run(&mut gateway(&["check-config", "--config", file.path()]));
    assert_eq!(code, Some(1));
    assert!(
        stderr.contains(":2: 'max_headers' in [server]") && stderr.contains(":4: 'listen' in [ops]"),
        "{stderr}"
    );
}

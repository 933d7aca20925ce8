//! The real binary on such a store.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::{Timings, fsync};

struct Served {
    child: Child,
    addr: SocketAddr,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts `gateway serve` and waits for the line that says where it listens.
fn start(config: &Path) -> Served {
    let binary = std::env::var("SCALE_GATEWAY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_gateway").to_owned());
    let mut child = Command::new(binary)
        .arg("serve")
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = String::new();
    let line = loop {
        let Some(Ok(line)) = lines.next() else { panic!("it ended early: {said}") };
        if line.contains("listening on http") {
            break line;
        }
        said.push_str(&line);
        said.push('\n');
    };
    let addr = line.rsplit("://").next().unwrap().trim().parse().unwrap();
    std::thread::spawn(move || lines.for_each(drop));
    Served { child, addr }
}

fn mib(pid: u32, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// A request on a kept connection; gives the status line.
fn ask(stream: &mut TcpStream, method: &str, path: &str, token: &str) -> String {
    let text = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: 0\r\n\r\n"
    );
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        let count = stream.read(&mut piece).unwrap();
        assert!(count > 0, "the connection ended");
        answer.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_ascii_lowercase();
        let length = length.split("content-length:").nth(1).and_then(|rest| rest.lines().next());
        if body.len() >= length.map_or(0, |text| text.trim().parse().unwrap()) {
            return head.lines().next().unwrap_or_default().to_owned();
        }
    }
}

/// Start-up, memory, and revocations over HTTP.
pub fn measure(folder: &Path, root: &str, ids: &[String]) {
    let config = folder.with_extension("toml");
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[ops]\nlisten = \"127.0.0.1:19473\"\n[store]\ndata_dir = \"{}\"\n",
        folder.display()
    );
    std::fs::write(&config, text).unwrap();
    for turn in 0..3 {
        let since = Instant::now();
        let served = start(&config);
        let took = since.elapsed().as_secs_f64();
        let pid = served.child.id();
        println!(
            "start-up {took:.2} s, resident {} MiB, peak {} MiB",
            mib(pid, "VmRSS:"),
            mib(pid, "VmHWM:")
        );
        if turn < 2 {
            continue;
        }
        let mut stream = TcpStream::connect(served.addr).unwrap();
        stream.set_nodelay(true).unwrap();
        let (mut all, mut sync) = (Timings::default(), Timings::default());
        for id in ids {
            let since = Instant::now();
            fsync(folder);
            sync.add(since);
            let since = Instant::now();
            let status = ask(&mut stream, "DELETE", &format!("/api/svc/v1/tokens/{id}"), root);
            all.add(since);
            assert!(status.contains(" 200"), "{status}");
        }
        all.show("revocation over HTTP, request to answer");
        sync.show("  an fsync beside each");
        println!("resident after that {} MiB", mib(pid, "VmRSS:"));
    }
    let _ = std::fs::remove_file(config);
}

//! The runtime's behaviour that the rest is built on, tried.
#![allow(clippy::disallowed_methods, reason = "these threads are no workers")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use super::{Cut, Interruption, Listener, Registration, Socket, Stream, Watcher};

const WORKERS: usize = 2;
const PATIENCE: Duration = Duration::from_secs(20);

fn runtime() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        may::config()
            .set_workers(WORKERS)
            .set_stack_size(16 * 1024)
            .set_pool_capacity(4)
            .set_worker_pin(false);
    });
}

/// Runs a closure in a coroutine and hands its result over.
fn coroutine<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    runtime();
    let (sender, receiver) = channel();
    let _ = may::go!(move || {
        let _ = sender.send(body());
    });
    receiver
}

/// A caller's end, and the gateway's end under a watch.
fn pair(watcher: &Arc<Watcher>) -> (TcpStream, Socket, Registration) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let caller = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    let registration = watcher.register(&ours).unwrap();
    let socket = Socket::from_caller(Stream::Tcp(ours), Arc::clone(registration.watch())).unwrap();
    (caller, socket, registration)
}

#[test]
fn a_provider_socket_belongs_to_the_worker_that_was_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let watcher = Watcher::start().unwrap();
    let (_caller, _ours, registration) = pair(&watcher);
    let watch = Arc::clone(registration.watch());
    let workers = coroutine(move || {
        let connect = |worker| Socket::connect(address, &watch, worker, WORKERS).unwrap();
        let sockets: Vec<_> = (0..8).map(|n| connect(n % WORKERS)).collect();
        sockets.iter().map(|socket| socket.worker(WORKERS)).collect::<Vec<_>>()
    });
    assert_eq!(workers.recv_timeout(PATIENCE).unwrap(), [0, 1, 0, 1, 0, 1, 0, 1]);
}

#[test]
fn a_wait_ends_at_its_deadline() {
    let watcher = Watcher::start().unwrap();
    let (_caller, mut socket, registration) = pair(&watcher);
    let ended = coroutine(move || {
        registration.watch().arm(300);
        let began = Instant::now();
        let error = socket.read(&mut [0; 8]).unwrap_err();
        (error.kind(), began.elapsed())
    });
    let (kind, took) = ended.recv_timeout(PATIENCE).unwrap();
    assert_eq!(kind, std::io::ErrorKind::TimedOut);
    assert!(took >= Duration::from_millis(300), "{took:?}");
}

#[test]
fn a_wait_for_a_provider_ends_when_the_caller_goes_or_is_cut() {
    let provider = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = provider.local_addr().unwrap();
    for cut in [false, true] {
        let watcher = Watcher::start().unwrap();
        let (caller, _ours, registration) = pair(&watcher);
        let watch = Arc::clone(registration.watch());
        let (waiting, is_waiting) = channel();
        let on_coroutine = Arc::clone(&watch);
        let ended = coroutine(move || {
            let mut socket = Socket::connect(address, &on_coroutine, 0, WORKERS).unwrap();
            let _ = waiting.send(());
            let error = socket.read(&mut [0; 8]).unwrap_err();
            (error.kind(), on_coroutine.interruption())
        });
        is_waiting.recv_timeout(PATIENCE).unwrap();
        // The caller's bytes wake nobody; only its end does.
        (&caller).write_all(b"pipelined").unwrap();
        let expected = if cut {
            watch.cut(Cut::AccessRevoked);
            Interruption::Cut(Cut::AccessRevoked)
        } else {
            drop(caller);
            Interruption::CallerGone
        };
        let (kind, why) = ended.recv_timeout(PATIENCE).unwrap();
        assert_eq!((kind, why), (std::io::ErrorKind::ConnectionAborted, Some(expected)));
    }
}

#[test]
fn a_connect_that_gets_no_answer_ends_at_its_deadline() {
    // A listener whose backlog is full leaves further callers waiting for an answer.
    let full =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&full, &std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    rustix::net::listen(&full, 0).unwrap();
    let full = TcpListener::from(full);
    let address = full.local_addr().unwrap();
    let _first = TcpStream::connect(address).unwrap();
    let watcher = Watcher::start().unwrap();
    let (_caller, _ours, registration) = pair(&watcher);
    let watch = Arc::clone(registration.watch());
    let ended = coroutine(move || {
        watch.arm(200);
        // One more may still be let in; some connect is then left without an answer.
        let mut kept = Vec::new();
        loop {
            match Socket::connect(address, &watch, 0, WORKERS) {
                Ok(socket) if kept.len() < 8 => kept.push(socket),
                Ok(_) => return None,
                Err(error) => return Some(error.kind()),
            }
        }
    });
    assert_eq!(ended.recv_timeout(PATIENCE).unwrap(), Some(std::io::ErrorKind::TimedOut));
}

#[test]
fn descriptors_that_are_used_again_lose_no_event() {
    let watcher = Watcher::start().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = Listener::tcp(listener).unwrap();
    let echo = coroutine(move || {
        for _ in 0..2_000 {
            let Ok(Some((stream, _))) = accepting.accept_unless(|| false) else { return false };
            let registration = watcher.register(&stream).unwrap();
            let watch = Arc::clone(registration.watch());
            watch.arm(10_000);
            let _ = may::go!(move || {
                let mut socket = Socket::from_caller(stream, watch).unwrap();
                let mut byte = [0];
                while matches!(socket.read(&mut byte), Ok(1)) {
                    if socket.write(&byte).is_err() {
                        break;
                    }
                }
                drop(registration);
            });
        }
        true
    });
    let callers: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                for _ in 0..500 {
                    let mut caller = TcpStream::connect(address).unwrap();
                    caller.set_read_timeout(Some(PATIENCE)).unwrap();
                    caller.write_all(b"x").unwrap();
                    caller.read_exact(&mut [0]).unwrap();
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().unwrap();
    }
    assert!(echo.recv_timeout(PATIENCE).unwrap());
}

/// Set in the process that is to die.
const OVERFLOWS: &str = "GATEWAY_TEST_OVERFLOWS";

#[test]
fn a_stack_overflow_in_a_coroutine_ends_the_process() {
    if std::env::var_os(OVERFLOWS).is_some() {
        overflow();
        return;
    }
    let name = "net::tests::a_stack_overflow_in_a_coroutine_ends_the_process";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(OVERFLOWS, "1")
        .output()
        .unwrap();
    assert_eq!(output.status.signal(), Some(6), "{output:?}");
}

#[inline(never)]
fn deeper(depth: u64) -> u64 {
    let page = std::hint::black_box([depth; 512]);
    if depth == u64::MAX { 0 } else { deeper(depth + 1) + page.iter().sum::<u64>() }
}

fn overflow() {
    runtime();
    let watcher = Watcher::start().unwrap();
    let (caller, _ours, registration) = pair(&watcher);
    let watch = Arc::clone(registration.watch());
    let handle = may::go!(may::coroutine::Builder::new(), move || {
        // Held, as a connection holds it: the overflow skips its destructor.
        let _registration = registration;
        std::hint::black_box(deeper(0));
    })
    .unwrap();
    Watcher::adopt(&watch, handle);
    // The watcher ends the process; were it not to, the test would find another end.
    let (_never, wait) = channel::<()>();
    let _ = wait.recv_timeout(PATIENCE);
    drop(caller);
}

#[test]
fn a_worker_that_is_stuck_gives_no_sign_of_life() {
    use super::pulse;
    runtime();
    let _watcher = Watcher::start().unwrap();
    let all_answer = || {
        let deadline = Instant::now() + PATIENCE;
        let round = pulse::ask();
        while pulse::silent(round) > 0 {
            assert!(Instant::now() < deadline, "{} workers are silent", pulse::silent(round));
            std::thread::yield_now();
        }
    };
    all_answer();
    let (begun, began) = channel::<()>();
    let (release, gate) = channel::<()>();
    let _ = may::go!(move || {
        begun.send(()).unwrap();
        // This blocks the worker, which is what must never be.
        let _ = gate.recv();
    });
    began.recv().unwrap();
    let round = pulse::ask();
    let deadline = Instant::now() + PATIENCE;
    while pulse::silent(round) != 1 {
        assert!(Instant::now() < deadline, "{} workers are silent", pulse::silent(round));
        std::thread::yield_now();
    }
    drop(release);
    all_answer();
}

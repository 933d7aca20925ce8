//! The gateway next to nginx, both in front of the same provider on this machine. [`ABOUT`] says what is
//! measured and how; the rest is in `provider`, `load`, `proxies` and `process`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a tool at a terminal, with threads of its own; what fails here ends the run"
)]

mod load;
mod process;
mod provider;
mod proxies;

use std::env;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use load::{Kind, Load, Seen};
use process::{Cpu, cpu, resident_kib};
use provider::{CHUNKS_PER_STREAM, Provider};
use proxies::Proxy;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const ABOUT: &str = "\
The gateway next to nginx as a plain reverse proxy, in front of the same provider: what each costs.
This is no timed test: nothing passes or fails here, and only numbers of one run on one machine compare.
- CPU is the run time of all threads of a proxy (/proc/PID/task/*/schedstat), for the gateway with its accounting on
  disk, divided by the answers or chunks that clients saw. User and system split it by the coarser /proc/PID/stat.
- Clients and the provider share the machine's cores with the proxy, so requests/s and latency show the whole
  circle; 'direct' is that circle without a proxy. CPU is what compares.
- Both run in turns, with the same number of workers, without a line of log for a request. The gateway authenticates,
  authorizes, rewrites the model's name and accounts for tokens; nginx passes bytes on.
- A plain call has a body of 1 KiB and the SDK's 18 header lines; its answer has 0.6 KiB of JSON.
- A stream has 400 chunks of 180 bytes in lock-step: each is written when the client has seen the one before, so
  each comes to the proxy alone. Its delay is from the provider's write to the client's read.
- Translated streams are the same 400 words from a provider that speaks Anthropic's, Gemini's or Bedrock's protocol, to
  the same callers of OpenAI's chat; Bedrock's requests are signed. They are compared with streams that pass as they are.
Environment: BENCH_SECONDS (3) of each turn, BENCH_ROUNDS (5), BENCH_CONNECTIONS (1,32,128), BENCH_STREAMS (1000)
to hold open, BENCH_WORKERS (one a core), BENCH_ONLY (plain, streams, translated or memory), BENCH_TARGETS (nginx,gateway),
BENCH_LOG (warn), BENCH_GATEWAY (another binary).
";

/// The writer of usage records may wait half a second; its work belongs to the turn that caused it.
const SETTLE: Duration = Duration::from_millis(700);

struct Options {
    seconds: Duration,
    rounds: usize,
    connections: Vec<usize>,
    held_streams: usize,
    workers: usize,
    only: String,
    targets: String,
    log_level: String,
}

impl Options {
    fn from_env() -> Self {
        let text = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
        let number =
            |name: &str, default: usize| env::var(name).map_or(default, |text| text.parse().unwrap());
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let connections = text("BENCH_CONNECTIONS", "1,32,128");
        Self {
            seconds: Duration::from_secs_f64(text("BENCH_SECONDS", "3").parse().unwrap()),
            rounds: number("BENCH_ROUNDS", 5).max(1),
            connections: connections.split(',').map(|text| text.trim().parse().unwrap()).collect(),
            held_streams: number("BENCH_STREAMS", 1000),
            workers: number("BENCH_WORKERS", cores),
            only: text("BENCH_ONLY", ""),
            targets: text("BENCH_TARGETS", "nginx,gateway"),
            log_level: text("BENCH_LOG", "warn"),
        }
    }

    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only == part
    }
}

fn main() -> ExitCode {
    // `cargo test --all-targets` starts this too, without that argument.
    if !env::args().any(|argument| argument == "--bench") {
        println!("not run: a benchmark; start it with benches/run");
        return ExitCode::SUCCESS;
    }
    let dir = env::temp_dir().join(format!("gateway-bench-{}", std::process::id()));
    let result = run(&dir, &Options::from_env());
    let _ = std::fs::remove_dir_all(&dir);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(dir: &Path, options: &Options) -> Result<(), String> {
    print!("{ABOUT}");
    raise_descriptor_limit();
    proxies::end_on_signal(dir).map_err(|error| error.to_string())?;
    let most = options.connections.iter().copied().max().unwrap_or(1);
    let provider = Provider::start(most).map_err(|error| error.to_string())?;
    let mut proxies = Vec::new();
    if options.targets.contains("nginx") {
        match Proxy::nginx(&dir.join("nginx"), provider.address, options.workers)? {
            Some(nginx) => proxies.push(nginx),
            None => println!("\nnot run: nginx is not installed; only the gateway is measured"),
        }
    }
    if options.targets.contains("gateway") {
        let dir = dir.join("gateway");
        proxies.push(Proxy::gateway(&dir, provider.address, options.workers, &options.log_level)?);
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    println!(
        "\n{cores} cores, {} workers each, {} rounds of {:?}; log level {}; {}",
        options.workers,
        options.rounds,
        options.seconds,
        options.log_level,
        proxies
            .iter()
            .map(|p| format!("{} is pid {}", p.target.name, p.pid()))
            .collect::<Vec<_>>()
            .join(", ")
    );
    if options.wants("memory") {
        memory(&proxies, options);
    }
    let views: Vec<View> =
        proxies.iter().map(|proxy| View { target: proxy.target.clone(), pid: proxy.pid() }).collect();
    if options.wants("plain") {
        table("Plain calls", &views, &provider, Kind::Plain, options);
    }
    if options.wants("streams") {
        table(&format!("Streams of {CHUNKS_PER_STREAM} chunks"), &views, &provider, Kind::Streams, options);
    }
    if let Some(gateway) = views.iter().find(|view| view.target.name == "gateway")
        && options.wants("translated")
    {
        let models = [
            ("relayed", "bench/bench-1"),
            ("anthropic", "anthropic/m"),
            ("gemini", "gemini/m"),
            ("converse", "converse/m"),
        ];
        let views: Vec<View> = models
            .into_iter()
            .map(|(name, model)| View {
                target: load::Target { name, model, ..gateway.target.clone() },
                pid: gateway.pid,
            })
            .collect();
        table("Translated streams", &views, &provider, Kind::Streams, options);
    }
    for proxy in &proxies {
        let lines = proxy.complaints();
        println!(
            "{} after all that: {:.1} MiB resident, {} lines of log",
            proxy.target.name,
            mib(proxy),
            lines.len()
        );
        lines.iter().take(5).for_each(|line| println!("  {line}"));
    }
    Ok(())
}

fn memory(proxies: &[Proxy], options: &Options) {
    println!("\nMemory (VmRSS)");
    for proxy in proxies {
        // What starting took apart settles first.
        thread::sleep(SETTLE);
        println!("  {:<8} idle                   {:7.1} MiB", proxy.target.name, mib(proxy));
    }
    let Some(gateway) = proxies.iter().find(|proxy| proxy.target.name == "gateway") else { return };
    match load::hold(&gateway.target, options.held_streams) {
        Ok(held) => {
            println!("  gateway  {:5} open streams     {:7.1} MiB", held.len(), mib(gateway));
            drop(held);
            thread::sleep(SETTLE);
            println!("  gateway  after they closed      {:7.1} MiB", mib(gateway));
        }
        Err(error) => println!("  gateway  not measured with streams open: {error}"),
    }
}

fn mib(proxy: &Proxy) -> f64 {
    float(resident_kib(proxy.pid())) / 1024.0
}

/// One target's turns at one number of connections.
#[derive(Default)]
struct Total {
    seen: Seen,
    time: Duration,
    cpu: Cpu,
    /// Of each round, in microseconds a unit.
    rounds: Vec<f64>,
}

impl Total {
    fn per_unit(&self, nanoseconds: u64) -> f64 {
        float(nanoseconds) / 1000.0 / float(self.seen.units.max(1))
    }
}

/// What is measured: a process, and what is asked of it.
struct View {
    target: load::Target,
    pid: u32,
}

/// Measures all of them in turns; the first is what the others are compared with.
fn table(title: &str, views: &[View], provider: &Provider, kind: Kind, options: &Options) {
    let (unit, latency) = match kind {
        Kind::Plain => ("request", "latency"),
        Kind::Streams => ("chunk", "delay"),
    };
    println!("\n{title}");
    println!(
        "{:>11} {:<9} {:>11} {:>15} {:>7} {:>7} {:>14} {:>14} {:>9}",
        "connections",
        "target",
        format!("{unit}s/s"),
        format!("CPU µs/{unit}"),
        "user",
        "system",
        format!("p50 {latency} µs"),
        format!("p99 {latency} µs"),
        "failures"
    );
    for connections in options.connections.iter().copied() {
        let prepare = |target: &load::Target| {
            Load::prepare(target, kind, connections, &provider.gates, options.seconds)
        };
        if let Some(view) = views.first() {
            let mut direct = view.target.clone();
            (direct.plain, direct.streams) = (provider.address, provider.address);
            let (seen, time) = prepare(&direct).run();
            row(connections, "direct", &mut Total { seen, time, ..Total::default() });
        }
        let mut totals: Vec<Total> = views.iter().map(|_| Total::default()).collect();
        for round in 0..options.rounds {
            for turn in 0..views.len() {
                // Who begins changes with the round.
                let index = (round + turn) % views.len();
                let (view, total) = (&views[index], &mut totals[index]);
                let load = prepare(&view.target);
                let before = cpu(view.pid);
                let (seen, time) = load.run();
                thread::sleep(SETTLE);
                let spent = cpu(view.pid) - before;
                total.rounds.push(float(spent.total_ns) / 1000.0 / float(seen.units.max(1)));
                total.seen.add(seen);
                total.time += time;
                total.cpu.add(spent);
            }
        }
        for (view, total) in views.iter().zip(&mut totals) {
            row(connections, view.target.name, total);
        }
        let mut measured = views.iter().zip(&totals);
        let Some((first_view, first)) = measured.next() else { continue };
        for (view, total) in measured {
            let mut ratios: Vec<f64> = total.rounds.iter().zip(&first.rounds).map(|(g, n)| g / n).collect();
            ratios.sort_by(f64::total_cmp);
            let all = total.per_unit(total.cpu.total_ns) / first.per_unit(first.cpu.total_ns);
            let (name, base) = (view.target.name, first_view.target.name);
            println!(
                "{connections:>11} {name}/{base}: {all:.2} times the CPU a {unit}; median round {:.2} ({:.2} to {:.2})",
                ratios[ratios.len() / 2],
                ratios[0],
                ratios[ratios.len() - 1]
            );
        }
    }
}

fn row(connections: usize, name: &str, total: &mut Total) {
    total.seen.latencies_ns.sort_unstable();
    let quantile = |percent: usize| {
        let sorted = &total.seen.latencies_ns;
        let index = sorted.len().saturating_sub(1) * percent / 100;
        sorted.get(index).map_or(0.0, |ns| f64::from(*ns) / 1000.0)
    };
    println!(
        "{connections:>11} {name:<9} {:>11.0} {:>15.2} {:>7.2} {:>7.2} {:>14.0} {:>14.0} {:>9}",
        float(total.seen.units) / total.time.as_secs_f64(),
        total.per_unit(total.cpu.total_ns),
        total.per_unit(total.cpu.user_ns),
        total.per_unit(total.cpu.system_ns),
        quantile(50),
        quantile(99),
        total.seen.failures
    );
    if let Some(failure) = &total.seen.first_failure {
        // Of an answer, the line and the message are enough.
        let body = failure.split("\r\n\r\n").last().unwrap_or_default();
        let line = failure.lines().next().unwrap_or_default();
        println!("            the first failure: {line}: {}", &body.chars().take(160).collect::<String>());
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn float(number: u64) -> f64 {
    number as f64
}

/// Two descriptors in this process for each stream, its client's and its provider's.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Where that is not allowed, opening many streams says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

//! Listeners and lifecycle.

mod alerts;
mod demo;
mod front;
mod host_limits;
mod limits;
mod listen;
mod notify;
mod reload;
mod tls;
mod watchdog;

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use arc_swap::ArcSwap;
use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};

use crate::clock::{UnixMillis, monotonic_ms};
use crate::config::{Config, Network};
use crate::console::{Console, SessionLimits};
use crate::http::{BodyBudget, Limits};
use crate::limits::Limits as CallLimits;
use crate::logging;
use crate::manage::{AuditDesk, BackupDesk, Manage};
use crate::metrics::Metrics;
use crate::net::{Cut, Watcher};
use crate::ops;
use crate::recovery;
use crate::relay::{Calls, Relay};
use crate::request_log::{RequestLog, RequestLogReader};
use crate::store::{self, Demo, Store, StoreError, data_dir};
use crate::upstream::{EgressPolicy, Issuers, Upstreams};
use crate::usage::{Usage, UsageReader};
use notify::ServiceManager;
use watchdog::Watchdog;

/// Bytes of a coroutine's stack: a TLS handshake needs more than 32 KiB.
const STACK_BYTES: usize = 128 * 1024;
/// Stacks kept for reuse; more would idle in memory.
const POOLED_STACKS: usize = 16;
/// How often calls in flight are looked at for expiry, in milliseconds.
const REVIEW_INTERVAL_MS: u64 = 250;
const SWEEP_INTERVAL_MS: u64 = 5_000;
/// How often refused attempts are looked for.
const AUDIT_INTERVAL: Duration = Duration::from_secs(1);
/// How often virtual accounts whose token is due for rotation are looked for, in milliseconds.
const ROTATE_INTERVAL_MS: u64 = 60_000;

/// How often audit records that are too old are looked for, in milliseconds.
const PRUNE_INTERVAL_MS: u64 = 3_600_000;
/// What a cut call may take for its last words, in milliseconds.
const LAST_WORDS_MS: u64 = 1_500;

/// Why the gateway did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The host allows less than the configuration asks for.
    HostLimit(String),
    /// The store.
    Store(StoreError),
    /// An address or a socket could not be listened on.
    Listen {
        /// The configuration's key.
        what: &'static str,
        /// Address or path.
        place: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// The TLS files can not be used.
    Tls(String),
    /// A variable of the environment that says where tokens are issued can not be used.
    Issuers(String),
    /// A demo that would be reachable from elsewhere.
    DemoNotLoopback,
    /// The demo could not be filled.
    Demo(String),
    /// The system gave no thread or descriptor.
    System(std::io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostLimit(text) | Self::Tls(text) | Self::Issuers(text) => f.write_str(text),
            Self::Store(error) => write!(f, "{error}"),
            Self::Listen { what, place, error } => {
                write!(
                    f,
                    "can not listen on {place} ({what}): {error}; choose another one, or stop what uses it"
                )
            }
            Self::DemoNotLoopback => {
                f.write_str("a demo listens on loopback only; set server.listen to 127.0.0.1:8080")
            }
            Self::Demo(text) => write!(f, "the demo could not be set up: {text}"),
            Self::System(error) => write!(f, "the system refused: {error}"),
        }
    }
}

impl From<std::io::Error> for StartError {
    fn from(error: std::io::Error) -> Self {
        Self::System(error)
    }
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Everything that a connection's coroutine reaches.
pub struct Gateway {
    relay: Relay,
    manage: Manage,
    console: Console,
    watcher: Arc<Watcher>,
    tls: Option<ArcSwap<rustls::ServerConfig>>,
    trusted_proxies: Vec<Network>,
    max_connections: usize,
    draining: AtomicBool,
}

/// Runs the gateway until a signal ends it. `reread` reads the configuration once more.
pub fn run(config: Config, demo: bool, reread: reload::Reread<'_>) -> ExitCode {
    let log = logging::start(&config.log);
    let code = match start(&config, demo).and_then(|running| running.until_signal(&config, reread)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    };
    log.flush(Duration::from_secs(2));
    code
}

struct Running {
    gateway: Arc<Gateway>,
    store: Arc<Store>,
    usage: Arc<Usage>,
    signals: Receiver<i32>,
    listeners: Vec<may::io::WaitIoWaker>,
    socket_path: std::path::PathBuf,
    manager: Arc<ServiceManager>,
    /// What the service manager and people are told once it runs.
    status: String,
    /// None where no service manager waits for signs of life.
    _watchdog: Option<Watchdog>,
}

fn start(config: &Config, demo: bool) -> Result<Running, StartError> {
    host_limits::check(config.server.max_connections).map_err(StartError::HostLimit)?;
    // Before anything that takes time: a signal that comes early must not be lost.
    let signals = signals()?;
    if demo && !config.server.listen.ip().is_loopback() {
        return Err(StartError::DemoNotLoopback);
    }
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        log::error!("panicked at {place}; please report this");
    }));
    let data = &config.store.data_dir;
    data_dir::prepare(data)?;
    let master_key = data_dir::load_master_key(data, config.store.master_key_file.as_deref())?;
    let options = store::Options { demo: if demo { Demo::Yes } else { Demo::No } };
    let store = Arc::new(Store::open(data, master_key, options)?);
    recovery::record_restore(&store, data);
    let usage = Arc::new(Usage::start(data, &config.usage));
    let request_log = Arc::new(RequestLog::start(data, &config.request_log, Arc::clone(&store)));
    let tls = tls::load(&config.server)?.map(ArcSwap::from);

    let workers = match config.server.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    may::config()
        .set_workers(workers)
        .set_stack_size(STACK_BYTES / size_of::<usize>())
        .set_pool_capacity(POOLED_STACKS)
        .set_worker_pin(false);

    let watcher = Watcher::start()?;
    let metrics = Arc::new(Metrics::new(config.ops.max_label_sets));
    let limits = Limits {
        max_head_bytes: config.server.max_head_bytes,
        max_headers: config.server.max_headers,
        max_body_bytes: u64::try_from(config.server.max_body_bytes).unwrap_or(u64::MAX),
        header_timeout_ms: config.server.header_timeout_ms,
        body_timeout_ms: config.server.body_timeout_ms,
        idle_timeout_ms: config.server.idle_timeout_ms,
    };
    let egress = EgressPolicy::new(config.egress.allow.as_deref());
    let issuers =
        Issuers::from_environment(config.upstream.aws_machine_credentials).map_err(StartError::Issuers)?;
    let call_limits = Arc::new(CallLimits::default());
    let relay = Relay {
        store: Arc::clone(&store),
        upstreams: Upstreams::new(workers, config.relay.clone(), egress)?.with_issuers(issuers),
        usage: Arc::clone(&usage),
        request_log: Arc::clone(&request_log),
        call_limits: Arc::clone(&call_limits),
        budget: BodyBudget::new(config.server.max_buffered_bytes),
        limits,
        metrics: Arc::clone(&metrics),
        calls: Calls::default(),
        workers,
    };
    let manage = Manage {
        store: Arc::clone(&store),
        tenant: config.tenant.name.clone(),
        demo,
        aws_machine_credentials: config.upstream.aws_machine_credentials,
        usage: Arc::clone(&usage) as Arc<dyn UsageReader>,
        request_log: Arc::clone(&request_log) as Arc<dyn RequestLogReader>,
        limits: Arc::clone(&call_limits),
        audit: AuditDesk::default(),
        backups: BackupDesk::default(),
        trial: None,
    };
    let gateway = Arc::new(Gateway {
        relay,
        manage,
        console: Console::new(SessionLimits {
            idle_ms: config.console.session_idle_minutes.saturating_mul(60_000),
            longest_ms: config.console.session_max_hours.saturating_mul(3_600_000),
        }),
        watcher,
        tls,
        trusted_proxies: config
            .server
            .trusted_proxies
            .iter()
            .filter_map(|text| Network::parse(text).ok())
            .collect(),
        max_connections: config.server.max_connections,
        draining: AtomicBool::new(false),
    });

    let (main, address) = listen::bind_main(config.server.listen, demo)?;
    let socket_path = data.join("admin.sock");
    let admin = listen::bind_admin(&socket_path)?;
    match ops::start(config.ops.listen, ops_view(&gateway, &usage)) {
        Ok(()) => {}
        Err(error) if demo => log::warn!("no operators' listener in this demo: {error}"),
        Err(error) => {
            let place = config.ops.listen.to_string();
            return Err(StartError::Listen { what: "ops.listen", place, error });
        }
    }
    let post = alerts::Post::start(&config.egress, &config.tenant.name, &call_limits)?;
    limits::keep(&gateway, &usage, post)?;
    housekeeping(&gateway)?;
    verify_audit(&store)?;
    keep_audit(&gateway, &usage)?;
    let listeners = vec![
        listen::accept_on(&gateway, main, front::Surface::Main),
        listen::accept_on(&gateway, admin, front::Surface::AdminSocket),
    ];
    let scheme = if gateway.tls.is_some() { "https" } else { "http" };
    let mut err = std::io::stderr();
    // Nothing can be done when standard error is gone; the gateway serves all the same.
    let _ = writeln!(err, "listening on {scheme}://{address}");
    if demo {
        demo::greet(&gateway.manage, &format!("{scheme}://{address}")).map_err(StartError::Demo)?;
    }
    let manager = Arc::new(ServiceManager::from_environment());
    let watchdog = notify::watchdog_timeout()
        .map(|timeout| watchdog::start(Arc::clone(&manager), Arc::clone(&store), timeout));
    let status = format!("listening on {scheme}://{address}");
    manager.ready(&status);
    Ok(Running {
        gateway,
        store,
        usage,
        signals,
        listeners,
        socket_path,
        manager,
        status,
        _watchdog: watchdog.transpose()?,
    })
}

fn ops_view(gateway: &Arc<Gateway>, usage: &Arc<Usage>) -> ops::View {
    let ready = Arc::clone(gateway);
    let text = Arc::clone(gateway);
    let usage = Arc::clone(usage);
    ops::View {
        ready: Arc::new(move || !ready.draining.load(Ordering::Acquire)),
        metrics: Arc::new(move || {
            let count = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
            let store = text.relay.store.snapshot();
            let limits = text.relay.call_limits.metrics_text(&store, UnixMillis::now());
            let bodies = text.relay.request_log.counts();
            let metrics = text.relay.metrics.render(&[
                ("gateway_connections", "Open connections.", count(text.watcher.open_connections())),
                (
                    "gateway_buffered_bytes",
                    "Bytes of buffered request bodies.",
                    count(text.relay.budget.used_bytes()),
                ),
                (
                    "gateway_usage_queue",
                    "Usage records of calls in flight or not on disk yet.",
                    count(usage.taken()),
                ),
                (
                    "gateway_last_uses_unrecorded_total",
                    "Uses of tokens whose time was not kept, because those of too many tokens are.",
                    usage.unrecorded_uses(),
                ),
                (
                    "gateway_usage_failing",
                    "1 while usage records can not be written to the disk.",
                    u64::from(usage.is_failing()),
                ),
                (
                    "gateway_usage_unaccounted_calls_total",
                    "Calls served without a record, because usage could not be written and that is allowed.",
                    usage.unaccounted_calls(),
                ),
                (
                    "gateway_usage_unsorted_calls_total",
                    "Calls that found no row of their own in the hourly sums.",
                    usage.unsorted_calls(),
                ),
                (
                    "gateway_request_log_written_total",
                    "Calls whose bodies were written to the request log.",
                    bodies.written,
                ),
                (
                    "gateway_request_log_dropped_total",
                    "Calls whose bodies were to be kept and found no room.",
                    bodies.dropped,
                ),
                (
                    "gateway_request_log_held_bytes",
                    "Bytes of memory that bodies for the request log hold.",
                    bodies.held_bytes,
                ),
                (
                    "gateway_request_log_disk_bytes",
                    "About the bytes of bodies in the request log.",
                    bodies.disk_bytes,
                ),
                ("gateway_store_revision", "Revision of the published state.", store.revision()),
                (
                    "gateway_log_lines_dropped_total",
                    "Log lines dropped because standard error was slow.",
                    logging::dropped_lines(),
                ),
            ]);
            metrics + &limits
        }),
    }
}

/// Walks the audit log once, so that a log which was changed outside the gateway does not go unnoticed.
fn verify_audit(store: &Arc<Store>) -> std::io::Result<()> {
    let store = Arc::clone(store);
    std::thread::Builder::new().name("audit-check".to_owned()).spawn(move || {
        match store.verify_audit_chain() {
            Ok(head) => {
                log::info!("the audit log is whole: {} records, head {}", head.records, head.to_hex())
            }
            Err(error) => log::error!("the audit log is not whole: {error}"),
        }
    })?;
    Ok(())
}

/// Writes refused attempts into the audit log when their minute is over, rotates the tokens that
/// are due, and each hour removes old records and forgets the last uses of tokens that are no more. On a thread of its
/// own, since it waits for the disk.
fn keep_audit(gateway: &Arc<Gateway>, usage: &Arc<Usage>) -> std::io::Result<()> {
    let (gateway, usage) = (Arc::clone(gateway), Arc::clone(usage));
    std::thread::Builder::new().name("audit-keeper".to_owned()).spawn(move || {
        let (mut prune_at_ms, mut rotate_at_ms) = (0, 0);
        loop {
            gateway.manage.record_refused(Some(UnixMillis::now()));
            if monotonic_ms() >= rotate_at_ms {
                gateway.manage.rotate_due(UnixMillis::now());
                rotate_at_ms = monotonic_ms().saturating_add(ROTATE_INTERVAL_MS);
            }
            if monotonic_ms() >= prune_at_ms && !gateway.manage.prune_audit(UnixMillis::now()) {
                gateway.manage.prune_sessions(UnixMillis::now());
                prune_at_ms = monotonic_ms().saturating_add(PRUNE_INTERVAL_MS);
                usage.forget_tokens(|| {
                    let world = gateway.relay.store.snapshot();
                    move |id| world.token_of_id(id).is_some() || world.session(id).is_some()
                });
            }
            // No revision is past this one: it waits, and is not in the way of anything.
            gateway.relay.store.wait_for_revision(u64::MAX, AUDIT_INTERVAL);
        }
    })?;
    Ok(())
}

/// Ends calls that a change or an expiry denies, and drops connections to providers that idled too long.
fn housekeeping(gateway: &Arc<Gateway>) -> std::io::Result<()> {
    let gateway = Arc::clone(gateway);
    std::thread::Builder::new().name("housekeeping".to_owned()).spawn(move || {
        let relay = &gateway.relay;
        let mut seen = relay.store.snapshot().revision();
        let mut swept_ms = monotonic_ms();
        loop {
            let interval = Duration::from_millis(REVIEW_INTERVAL_MS);
            let revision = relay.store.wait_for_revision(seen, interval);
            let cut = if revision == seen {
                relay.calls.expire(UnixMillis::now())
            } else {
                relay.calls.review(&relay.store.snapshot(), UnixMillis::now())
            };
            seen = revision;
            relay.metrics.calls_cut.fetch_add(u64::try_from(cut).unwrap_or(0), Ordering::Relaxed);
            let now = monotonic_ms();
            if now >= swept_ms + SWEEP_INTERVAL_MS {
                swept_ms = now;
                relay.upstreams.sweep();
            }
        }
    })?;
    Ok(())
}

fn signals() -> std::io::Result<Receiver<i32>> {
    let (sender, receiver) = channel();
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    // A file that may not grow further (ulimit -f) is then an error of the write, as on a full disk, and not the end.
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut ending = false;
        for signal in signals.forever() {
            if signal != SIGHUP {
                if ending {
                    // The second one: at once, whatever is still open.
                    std::process::exit(1);
                }
                ending = true;
            }
            if sender.send(signal).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

impl Running {
    fn until_signal(self, config: &Config, reread: reload::Reread<'_>) -> Result<(), StartError> {
        while let Ok(SIGHUP) = self.signals.recv() {
            self.manager.reloading();
            reload::reload(self.gateway.tls.as_ref(), config, reread);
            self.manager.ready(&self.status);
        }
        self.manager.stopping(Duration::from_millis(config.server.drain_timeout_ms));
        log::info!(
            "stopping: new connections are refused, calls in flight may take {} ms",
            config.server.drain_timeout_ms
        );
        self.drain(config.server.drain_timeout_ms);
        if let Err(error) = self.usage.flush(Duration::from_secs(10)) {
            log::error!("usage records may be lost: {error}");
        }
        self.usage.close();
        self.gateway.relay.request_log.close();
        let _ = std::fs::remove_file(&self.socket_path);
        self.gateway.manage.record_refused(None);
        self.store.close();
        log::info!("stopped");
        Ok(())
    }

    fn drain(&self, drain_timeout_ms: u64) {
        self.gateway.draining.store(true, Ordering::Release);
        for listener in &self.listeners {
            listener.wakeup();
        }
        let idle = |gateway: &Gateway| {
            gateway.watcher.for_each(|watch| {
                if watch.is_idle() {
                    watch.cut(Cut::Shutdown);
                }
            });
        };
        if self.wait_until_closed(drain_timeout_ms, idle) {
            return;
        }
        log::warn!("{} calls did not end in time and are cut", self.gateway.relay.calls.count());
        self.wait_until_closed(LAST_WORDS_MS, |gateway| gateway.relay.calls.cut_all());
    }

    /// Waits until no connection is open; true when that came in time.
    fn wait_until_closed(&self, timeout_ms: u64, each_time: impl Fn(&Gateway)) -> bool {
        let end = monotonic_ms().saturating_add(timeout_ms);
        loop {
            each_time(&self.gateway);
            if self.gateway.watcher.open_connections() == 0 {
                return true;
            }
            let left = end.saturating_sub(monotonic_ms()).min(20);
            if left == 0 {
                return false;
            }
            match self.signals.recv_timeout(Duration::from_millis(left)) {
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }
}

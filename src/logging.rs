//! Logging: a front that never waits, a bounded queue, and one thread that writes to standard error.
//!
//! A full pipe would block the worker that logs, and with it every connection of that worker. So whoever logs
//! only puts a finished line in the queue; with no room left the line is dropped and counted.

mod journal;

use std::fmt::{self, Write};
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};
use simple_logger::SimpleLogger;

use crate::clock::UnixMillis;
use crate::config::{self, LogLevel};

/// Bytes of one line; the rest is cut off.
const MAX_LINE_BYTES: usize = 4096;
/// How long a line may have waited before its own time is written beside the time of writing, how often drops
/// are reported at most, and how long a broken standard error is left alone.
const PATIENCE: Duration = Duration::from_secs(1);
/// Libraries that say more than an operator wants: the runtime names every descriptor at info.
const QUIET_TARGETS: [&str; 3] = ["may", "rustls", "ureq"];

static SHARED: OnceLock<Arc<Shared>> = OnceLock::new();

/// Lines that found no room since the process started.
pub fn dropped_lines() -> u64 {
    SHARED.get().map_or(0, |shared| shared.dropped.load(Ordering::Relaxed))
}

/// Starts the writer thread and makes `log`'s macros write to it.
pub fn start(config: &config::Log) -> LogHandle {
    let to_journal = journal::is_standard_error();
    let (front, handle) = start_with(config, move |level, target, text| {
        if to_journal {
            // Nothing can be done when the journal is gone.
            let _ = std::io::stderr().lock().write_all(journal::line(level, target, text).as_bytes());
            return;
        }
        static LOGGER: OnceLock<SimpleLogger> = OnceLock::new();
        let logger = LOGGER.get_or_init(|| SimpleLogger::new().with_utc_timestamps());
        logger.log(&Record::builder().level(level).target(target).args(format_args!("{text}")).build());
    });
    let level = filter(config.level);
    // Of two loggers in one process the first stays.
    if log::set_boxed_logger(Box::new(front)).is_ok() {
        log::set_max_level(level);
        drop(SHARED.set(Arc::clone(&handle.shared)));
    }
    handle
}

/// Logs more or less from now on.
pub fn set_level(level: LogLevel) {
    if let Some(shared) = SHARED.get() {
        shared.set_level(filter(level));
        log::set_max_level(filter(level));
    }
}

fn start_with(
    config: &config::Log,
    print: impl Fn(Level, &str, &str) + Send + 'static,
) -> (Front, LogHandle) {
    let (sender, receiver) = sync_channel(config.max_queued_lines);
    let shared = Arc::new(Shared::default());
    shared.set_level(filter(config.level));
    let writer = Writer { receiver, shared: Arc::clone(&shared), print, reported: 0, quiet_until: None };
    let spawned = std::thread::Builder::new().name("log".to_owned()).spawn(move || writer.run());
    // Without the thread the queue has no reader: every line is dropped and counted.
    drop(spawned);
    (Front { sender, shared: Arc::clone(&shared) }, LogHandle { shared })
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    }
}

/// To wait for the writer at the end of the process.
#[derive(Debug)]
pub struct LogHandle {
    shared: Arc<Shared>,
}

impl LogHandle {
    /// Waits until what was logged before this call is written, or the time is over; says which. Blocks the
    /// thread: not for a worker.
    pub fn flush(&self, timeout: Duration) -> bool {
        let queued = self.shared.queued.load(Ordering::Acquire);
        let written = self.shared.written.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.shared.progress.wait_timeout_while(written, timeout, |written| *written < queued);
        let (written, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *written >= queued
    }
}

#[derive(Debug, Default)]
struct Shared {
    queued: AtomicU64,
    dropped: AtomicU64,
    written: Mutex<u64>,
    progress: Condvar,
    /// A `LevelFilter` as a number.
    level: AtomicUsize,
}

impl Shared {
    fn set_level(&self, level: LevelFilter) {
        self.level.store(level as usize, Ordering::Relaxed);
    }

    fn level(&self) -> LevelFilter {
        let number = self.level.load(Ordering::Relaxed);
        LevelFilter::iter().find(|level| *level as usize == number).unwrap_or(LevelFilter::Info)
    }
}

struct Line {
    at: UnixMillis,
    level: Level,
    target: Box<str>,
    text: String,
}

/// What `log`'s macros call.
struct Front {
    // Boxed, for the queue's slots are allocated up front.
    sender: SyncSender<Box<Line>>,
    shared: Arc<Shared>,
}

impl Log for Front {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let quiet = QUIET_TARGETS.iter().any(|name| is_of(metadata.target(), name));
        let level = self.shared.level();
        let limit = if quiet { level.min(LevelFilter::Warn) } else { level };
        metadata.level() <= limit
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut text = OneLine(String::new());
        // An error means that the line is full; what fits is logged.
        let _ = write!(text, "{}", record.args());
        let line = Line {
            at: UnixMillis::now(),
            level: record.level(),
            target: record.target().into(),
            // Whatever a caller put into a path or a name.
            text: crate::secret::mask_tokens(&text.0).into_owned(),
        };
        let counter = match self.sender.try_send(Box::new(line)) {
            Ok(()) => &self.shared.queued,
            Err(_) => &self.shared.dropped,
        };
        counter.fetch_add(1, Ordering::Release);
    }

    fn flush(&self) {}
}

/// Whether a target is a crate, a part of it, or one of its family (`may`, `may::io`, `may_minihttp`).
fn is_of(target: &str, name: &str) -> bool {
    target.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '_']))
}

/// Text as one line of bounded length: what could begin a second line, or move a terminal's cursor, is escaped.
struct OneLine(String);

impl Write for OneLine {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        for char in part.chars() {
            if self.0.len() >= MAX_LINE_BYTES {
                self.0.push('…');
                return Err(fmt::Error);
            }
            if is_plain(char) {
                self.0.push(char);
            } else {
                self.0.extend(char.escape_default());
            }
        }
        Ok(())
    }
}

/// Neither a control character, nor a line separator, nor one that turns the direction of writing.
fn is_plain(char: char) -> bool {
    !char.is_control() && !matches!(char, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

struct Writer<P> {
    receiver: Receiver<Box<Line>>,
    shared: Arc<Shared>,
    print: P,
    reported: u64,
    quiet_until: Option<Instant>,
}

impl<P: Fn(Level, &str, &str)> Writer<P> {
    fn run(mut self) {
        let mut last_report = Instant::now();
        loop {
            let (line, idle) = match self.receiver.try_recv() {
                Ok(line) => (Some(line), false),
                Err(TryRecvError::Empty) => (None, true),
                Err(TryRecvError::Disconnected) => return,
            };
            if idle || last_report.elapsed() >= PATIENCE {
                self.report_drops();
                last_report = Instant::now();
            }
            let line = match line {
                Some(line) => line,
                None => match self.receiver.recv() {
                    Ok(line) => line,
                    Err(_) => return,
                },
            };
            self.print_line(&line);
            *self.shared.written.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            self.shared.progress.notify_all();
        }
    }

    fn print_line(&mut self, line: &Line) {
        let waited_ms = UnixMillis::now().0.saturating_sub(line.at.0);
        if u128::from(waited_ms) < PATIENCE.as_millis() {
            self.print(line.level, &line.target, &line.text);
        } else {
            self.print(line.level, &line.target, &format!("{} (logged at {})", line.text, line.at.to_iso()));
        }
    }

    fn report_drops(&mut self) {
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        let news = dropped.saturating_sub(self.reported);
        if news > 0 {
            let text = format!("{news} log lines were dropped: standard error was too slow for them");
            self.print(Level::Warn, module_path!(), &text);
            self.reported = dropped;
        }
    }

    fn print(&mut self, level: Level, target: &str, text: &str) {
        if self.quiet_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        // Printing panics when standard error is gone. A hook may log that panic, and with it keep this thread
        // busy for ever; hence the pause.
        let printed = catch_unwind(AssertUnwindSafe(|| (self.print)(level, target, text)));
        self.quiet_until = if printed.is_ok() { None } else { Some(Instant::now() + PATIENCE) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const WAIT: Duration = Duration::from_secs(20);

    /// A logger whose writer passes lines to a channel, each after it was allowed to.
    fn gated(config: &config::Log) -> (Front, LogHandle, Sender<()>, Receiver<String>) {
        let (allow, gate) = channel::<()>();
        let (lines, printed) = channel();
        let (front, handle) = start_with(config, move |level, target, text| {
            let _ = gate.recv();
            drop(lines.send(format!("{level} {target} {text}")));
        });
        (front, handle, allow, printed)
    }

    fn open(config: &config::Log) -> (Front, LogHandle, Receiver<String>) {
        let (front, handle, allow, printed) = gated(config);
        // A gate without a keeper stands open.
        drop(allow);
        (front, handle, printed)
    }

    fn log(front: &Front, level: Level, target: &str, text: &str) {
        front.log(&Record::builder().level(level).target(target).args(format_args!("{text}")).build());
    }

    #[test]
    fn levels_and_quiet_targets() {
        let at = |level, target: &str, config_level| {
            let (front, ..) = open(&config::Log { level: config_level, ..Default::default() });
            front.enabled(&Metadata::builder().level(level).target(target).build())
        };
        assert!(at(Level::Info, "gateway::relay", LogLevel::Info));
        assert!(!at(Level::Debug, "gateway::relay", LogLevel::Info));
        for quiet in ["may", "may::io::sys", "may_minihttp::server", "rustls::client", "ureq", "ureq_proto"] {
            assert!(!at(Level::Info, quiet, LogLevel::Trace), "{quiet}");
            assert!(at(Level::Warn, quiet, LogLevel::Info), "{quiet}");
            assert!(!at(Level::Warn, quiet, LogLevel::Error), "{quiet}");
        }
        assert!(at(Level::Info, "mayor", LogLevel::Info));
    }

    #[test]
    fn the_level_can_change_while_it_runs() {
        let (front, ..) = open(&config::Log::default());
        let shows = |level| front.enabled(&Metadata::builder().level(level).target("gateway").build());
        assert!(shows(Level::Info) && !shows(Level::Debug));
        for level in LevelFilter::iter() {
            front.shared.set_level(level);
            assert_eq!(front.shared.level(), level);
        }
        assert!(shows(Level::Trace));
        front.shared.set_level(LevelFilter::Error);
        assert!(!shows(Level::Warn));
    }

    #[test]
    fn a_message_stays_one_line_of_bounded_length() {
        let (front, handle, printed) = open(&config::Log::default());
        log(&front, Level::Warn, "gateway", "a\r\nERROR [gateway] forged\t\x1b[2J \u{2028}é\u{202e}");
        log(&front, Level::Warn, "gateway", &"é".repeat(MAX_LINE_BYTES));
        assert!(handle.flush(WAIT));
        let line = printed.recv().unwrap();
        assert_eq!(line, "WARN gateway a\\r\\nERROR [gateway] forged\\t\\u{1b}[2J \\u{2028}é\\u{202e}");
        let long = printed.recv().unwrap();
        assert!(long.len() < MAX_LINE_BYTES + 32 && long.ends_with('…'));
    }

    #[test]
    fn with_no_room_lines_are_dropped_counted_and_reported_once() {
        let (front, handle, allow, printed) =
            gated(&config::Log { max_queued_lines: 2, ..Default::default() });
        // At most one line is in the writer's hands and two in the queue.
        for number in 0..10 {
            log(&front, Level::Info, "gateway", &number.to_string());
        }
        let dropped = front.shared.dropped.load(Ordering::Relaxed);
        assert!((7..=8).contains(&dropped), "{dropped}");
        assert!(!handle.flush(Duration::ZERO));
        drop(allow);
        assert!(handle.flush(WAIT));
        let mut lines = Vec::new();
        while lines.iter().all(|line: &String| !line.contains("dropped")) {
            lines.push(printed.recv_timeout(WAIT).unwrap());
        }
        assert_eq!(lines.len() as u64, 10 - dropped + 1);
        assert!(lines.last().unwrap().contains(&format!("{dropped} log lines were dropped")));
        log(&front, Level::Info, "gateway", "after");
        assert!(printed.recv_timeout(WAIT).unwrap().ends_with("after"));
    }

    #[test]
    fn a_standard_error_that_is_gone_stops_nobody() {
        let (front, handle) = start_with(&config::Log::default(), |_, _, _| panic!("gone"));
        for _ in 0..3 {
            log(&front, Level::Error, "gateway", "nobody reads this");
        }
        assert!(handle.flush(WAIT));
        log(&front, Level::Error, "gateway", "nor this");
        assert!(handle.flush(WAIT));
    }

    #[test]
    fn a_line_that_waited_says_when_it_was_logged() {
        let (lines, printed) = channel();
        let (_sender, receiver) = sync_channel(1);
        let print = move |_: Level, _: &str, text: &str| drop(lines.send(text.to_owned()));
        let mut writer = Writer { receiver, shared: Arc::default(), print, reported: 0, quiet_until: None };
        let line =
            Line { at: UnixMillis(0), level: Level::Info, target: "t".into(), text: "late".to_owned() };
        writer.print_line(&line);
        assert_eq!(printed.recv().unwrap(), "late (logged at 1970-01-01T00:00:00.000Z)");
    }
}

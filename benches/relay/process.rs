//! What a process and its children cost, from /proc.

use std::fs;
use std::ops::Sub;

/// The kernel's clock ticks in /proc/PID/stat: 100 a second on every Linux that this runs on.
const NS_PER_TICK: u64 = 10_000_000;

/// CPU time of all threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// All of it, in nanoseconds.
    pub total_ns: u64,
    /// Outside the kernel, by the coarser clock of /proc/PID/stat.
    pub user_ns: u64,
    /// In the kernel, by that clock.
    pub system_ns: u64,
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            total_ns: self.total_ns.saturating_sub(before.total_ns),
            user_ns: self.user_ns.saturating_sub(before.user_ns),
            system_ns: self.system_ns.saturating_sub(before.system_ns),
        }
    }
}

impl Cpu {
    /// Adds another measurement.
    pub fn add(&mut self, other: Self) {
        self.total_ns += other.total_ns;
        self.user_ns += other.user_ns;
        self.system_ns += other.system_ns;
    }
}

/// The CPU time of a process and of its children up to now. Threads that ended meanwhile count only where the
/// kernel keeps no nanoseconds.
pub fn cpu(pid: u32) -> Cpu {
    let mut cpu = Cpu::default();
    for pid in tree(pid) {
        let fields = stat(pid);
        let field = |index: usize| fields.get(index).and_then(|text| text.parse().ok()).unwrap_or(0);
        let (user, system): (u64, u64) = (field(11) * NS_PER_TICK, field(12) * NS_PER_TICK);
        let fine: u64 = fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
            .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
            .sum();
        cpu.add(Cpu {
            total_ns: if fine > 0 { fine } else { user + system },
            user_ns: user,
            system_ns: system,
        });
    }
    cpu
}

/// Resident memory of a process and of its children, in KiB.
pub fn resident_kib(pid: u32) -> u64 {
    let of = |pid: u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    tree(pid).into_iter().filter_map(of).sum()
}

/// A process and its children.
fn tree(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    found.extend(pids.filter(|pid| stat(*pid).get(1).is_some_and(|parent| *parent == root.to_string())));
    found
}

/// The fields of /proc/PID/stat after the command's name, which may hold anything: state, parent, ...
fn stat(pid: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = text.rsplit_once(") ").map_or("", |(_, fields)| fields);
    fields.split_whitespace().map(ToOwned::to_owned).collect()
}

//! Lines for systemd's journal, which keeps time and host by itself and takes a line's priority from `<N>` before it,
//! as sd-daemon(3) describes.

use log::Level;

/// Whether standard error leads into the journal: `JOURNAL_STREAM` names its device and inode. The variable alone says
/// little, for a child inherits it whose standard error was redirected.
pub(super) fn is_standard_error() -> bool {
    let Some(named) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    let Ok(stat) = rustix::fs::fstat(std::io::stderr()) else { return false };
    is_stream(&named, stat.st_dev, stat.st_ino)
}

fn is_stream(named: &str, device: u64, inode: u64) -> bool {
    let Some((named_device, named_inode)) = named.split_once(':') else { return false };
    named_device.parse() == Ok(device) && named_inode.parse() == Ok(inode)
}

/// One line with its priority, without the time.
pub(super) fn line(level: Level, target: &str, text: &str) -> String {
    let priority = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    format!("<{priority}>[{target}] {text}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_same_stream_counts() {
        assert!(is_stream("8:17", 8, 17));
        for wrong in ["8:18", "9:17", "8", ":", "", "8:17:1", "x:17", "-8:17", "99999999999999999999:17"] {
            assert!(!is_stream(wrong, 8, 17), "{wrong}");
        }
    }

    #[test]
    fn priorities_are_those_of_syslog() {
        for (level, wanted) in [
            (Level::Error, "<3>[gateway] text\n"),
            (Level::Warn, "<4>[gateway] text\n"),
            (Level::Info, "<6>[gateway] text\n"),
            (Level::Debug, "<7>[gateway] text\n"),
            (Level::Trace, "<7>[gateway] text\n"),
        ] {
            assert_eq!(line(level, "gateway", "text"), wanted);
        }
    }
}

//! What SIGHUP reads again: the TLS files and `log.level`. Everything else of the configuration takes a restart.

use arc_swap::ArcSwap;
use rustls::ServerConfig;

use super::tls;
use crate::config::Config;
use crate::logging;

/// Reads the configuration once more, or says what is wrong with it.
pub type Reread<'a> = &'a dyn Fn() -> Result<Config, String>;

/// Reads the files again. What can not be used leaves what it would have replaced as it was, and the log says so.
pub(super) fn reload(current: Option<&ArcSwap<ServerConfig>>, started: &Config, reread: Reread<'_>) {
    let (fresh, level) = match reread() {
        Ok(fresh) => {
            logging::set_level(fresh.log.level);
            if needs_restart(started, &fresh) {
                log::warn!(
                    "SIGHUP: the configuration has other changes than log.level and the TLS files; they take a restart"
                );
            }
            (fresh, " and log.level")
        }
        Err(error) => {
            log::error!("SIGHUP: the configuration stays as it was: {error}");
            (started.clone(), "")
        }
    };
    let Some(current) = current else {
        if !level.is_empty() {
            log::info!("SIGHUP: log.level was read again; TLS is not configured");
        }
        return;
    };
    match tls::load(&fresh.server) {
        Ok(Some(files)) => {
            current.store(files);
            log::info!("SIGHUP: the TLS files{level} were read again");
        }
        Ok(None) => log::error!("SIGHUP: TLS stays as it was: switching it off takes a restart"),
        Err(error) => log::error!("SIGHUP: the TLS files stay as they were: {error}"),
    }
}

/// Whether there is a difference that is not read again.
fn needs_restart(started: &Config, fresh: &Config) -> bool {
    let mut same = fresh.clone();
    same.log.level = started.log.level;
    if started.server.tls_cert_file.is_some() && fresh.server.tls_cert_file.is_some() {
        same.server.tls_cert_file.clone_from(&started.server.tls_cert_file);
        same.server.tls_key_file.clone_from(&started.server.tls_key_file);
    }
    same != *started
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogLevel;

    #[test]
    fn only_what_is_not_read_again_needs_a_restart() {
        let started = Config::default();
        let mut fresh = started.clone();
        fresh.log.level = LogLevel::Debug;
        assert!(!needs_restart(&started, &fresh));
        // TLS off to on is no change of files.
        fresh.server.tls_cert_file = Some("cert.pem".into());
        assert!(needs_restart(&started, &fresh));
        let mut tls = started.clone();
        tls.server.tls_cert_file = Some("old.pem".into());
        assert!(!needs_restart(&tls, &fresh));
        fresh.server.max_connections += 1;
        assert!(needs_restart(&tls, &fresh));
    }
}

//! Listeners and lifecycle.

/// Runs the gateway until a signal ends it.
pub fn run(_config: crate::config::Config, _demo: bool) -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}

//! What the host must allow for the configured number of connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors a connection may need: the caller's socket, the provider's, and one for a name look-up.
const DESCRIPTORS_PER_CONNECTION: u64 = 3;
const SPARE_DESCRIPTORS: u64 = 128;
/// Memory mappings of a coroutine's stack and its guard page.
const MAPPINGS_PER_CONNECTION: u64 = 2;
const SPARE_MAPPINGS: u64 = 1024;

/// Raises the limit on descriptors as far as needed and allowed.
///
/// # Errors
/// A sentence that says which limit is too low for `max_connections` and what to do.
pub fn check(max_connections: usize) -> Result<(), String> {
    let connections = u64::try_from(max_connections).unwrap_or(u64::MAX);
    let needed = connections.saturating_mul(DESCRIPTORS_PER_CONNECTION).saturating_add(SPARE_DESCRIPTORS);
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        let raised = Rlimit { current: Some(limit.maximum.map_or(needed, |max| max.min(needed))), ..limit };
        let allowed = setrlimit(Resource::Nofile, raised).map_or(limit.current, |()| raised.current);
        if allowed.is_some_and(|allowed| allowed < needed) {
            return Err(format!(
                "server.max_connections = {max_connections} needs {needed} file descriptors and this process may have {}; lower it, or raise LimitNOFILE (systemd) or ulimit -n",
                allowed.unwrap_or(0)
            ));
        }
    }
    let mappings = std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok());
    let needed = connections.saturating_mul(MAPPINGS_PER_CONNECTION).saturating_add(SPARE_MAPPINGS);
    if mappings.is_some_and(|allowed| allowed < needed) {
        return Err(format!(
            "server.max_connections = {max_connections} needs {needed} memory mappings and this host allows {}; lower it, or raise the sysctl vm.max_map_count",
            mappings.unwrap_or(0)
        ));
    }
    Ok(())
}

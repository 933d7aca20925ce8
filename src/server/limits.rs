//! What limits need besides calls: new counters are filled from the records, and alerts are told of.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use super::Gateway;
use super::alerts::Post;
use crate::clock::UnixMillis;
use crate::usage::Usage;

/// How often alerts are looked for. New rules are seen at once.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long the start waits for what was spent to be read. Then calls under a budget are refused until it is.
const START_WAIT: Duration = Duration::from_secs(10);

/// Starts the thread, and waits for the counters of the rules that there are.
pub(super) fn keep(gateway: &Arc<Gateway>, usage: &Arc<Usage>, post: Post) -> std::io::Result<()> {
    let (sender, ready) = sync_channel(1);
    let (gateway, usage) = (Arc::clone(gateway), Arc::clone(usage));
    std::thread::Builder::new().name("limits-keeper".to_owned()).spawn(move || {
        let limits = &gateway.relay.call_limits;
        let mut seen = 0;
        loop {
            let world = gateway.relay.store.snapshot();
            let now = UnixMillis::now();
            if limits.needs_load(&world, now) {
                match limits.load(&world, now, |since, sink| usage.scan(since, sink)) {
                    Ok(()) => log::info!("the counters of budgets and rate limits are filled from the records"),
                    Err(error) => log::error!(
                        "what was spent can not be read, so that calls under a budget are refused: {error}; trying again"
                    ),
                }
            }
            // Nobody waits any more after the start.
            let _ = sender.try_send(());
            for alert in limits.take_alerts() {
                let of = if alert.entity.is_empty() { String::new() } else { format!(" of {}", alert.entity) };
                log::warn!(
                    "budget '{}'{of} is past {}%: {} of {} {}",
                    alert.rule,
                    alert.percent,
                    alert.spent,
                    alert.limit,
                    alert.unit
                );
                post.send(&alert);
            }
            seen = gateway.relay.store.wait_for_revision(seen.max(world.revision()), INTERVAL);
        }
    })?;
    if ready.recv_timeout(START_WAIT).is_err() {
        log::warn!("what was spent is still being read; calls under a budget are refused until it is");
    }
    Ok(())
}

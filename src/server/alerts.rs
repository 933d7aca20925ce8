//! Alerts of budgets are posted to notification channels, by a thread of its own: nobody waits for it.
//!
//! A channel is a file of the host's: what the gateway may post to is decided by who runs it, as with `[egress] allow`,
//! and not by who may write a budget. Its URL is a secret and is never repeated.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::Agent;
use ureq::config::{AutoHeaderValue, Config};
use ureq::http::{Request, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use crate::clock::UnixMillis;
use crate::config::Egress;
use crate::domain::{AlertForm, AlertTarget};
use crate::limits::{Alert, Limits};
use crate::secret::Secret;
use crate::upstream::EgressPolicy;

/// Deliveries that wait to be made for the first time.
const MAX_QUEUED: usize = 256;
/// Deliveries that wait to be tried again.
const MAX_RETRIED: usize = 256;
/// How long one attempt may take in all.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);
/// How long to wait before another attempt; there are no more than these and the first.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(60)];
const MAX_URL_BYTES: u64 = 4096;

/// The way to the thread.
pub(super) struct Post {
    sender: SyncSender<Delivery>,
    limits: Arc<Limits>,
    tenant: String,
}

/// One alert for one channel.
struct Delivery {
    rule: String,
    channel: String,
    body: String,
    /// How often it was tried.
    attempts: usize,
}

/// Why an attempt came to nothing, in words that hold nothing of the URL.
#[derive(Debug)]
enum Trouble {
    NoFolder,
    NoFile,
    NoUrl,
    NotAllowed,
    Unreachable,
    Status(u16),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoFolder => "egress.webhook_dir is not set",
            Self::NoFile => "its file can not be read",
            Self::NoUrl => "its file does not hold one http or https URL",
            Self::NotAllowed => "[egress] allow does not allow its host",
            Self::Unreachable => "it can not be reached in time",
            Self::Status(status) => return write!(f, "it answered with status {status}"),
        })
    }
}

impl Trouble {
    /// Whether another attempt may end otherwise.
    fn may_pass(&self) -> bool {
        match self {
            Self::NoFolder | Self::NoFile | Self::NoUrl | Self::NotAllowed => false,
            Self::Unreachable => true,
            Self::Status(status) => matches!(status, 408 | 425 | 429 | 500..=599),
        }
    }
}

impl Post {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives none.
    pub(super) fn start(egress: &Egress, tenant: &str, limits: &Arc<Limits>) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(MAX_QUEUED);
        let poster = Poster {
            folder: egress.webhook_dir.clone(),
            agent: agent(EgressPolicy::new(egress.allow.as_deref())),
            limits: Arc::clone(limits),
        };
        std::thread::Builder::new().name("alert-post".to_owned()).spawn(move || poster.run(&receiver))?;
        Ok(Self { sender, limits: Arc::clone(limits), tenant: tenant.to_owned() })
    }

    /// Has an alert posted to its targets. Does not wait.
    pub(super) fn send(&self, alert: &Alert) {
        for target in &alert.targets {
            let delivery = Delivery {
                rule: alert.rule.clone(),
                channel: target.channel.clone(),
                body: body(alert, target.form, &self.tenant, UnixMillis::now()),
                attempts: 0,
            };
            match self.sender.try_send(delivery) {
                Ok(()) => {}
                Err(TrySendError::Full(delivery) | TrySendError::Disconnected(delivery)) => {
                    self.limits.count_delivery(false);
                    log::error!(
                        "an alert of the budget '{}' is not sent to the channel '{}': too many wait",
                        delivery.rule,
                        delivery.channel
                    );
                }
            }
        }
    }
}

/// What is posted.
fn body(alert: &Alert, form: AlertForm, tenant: &str, now: UnixMillis) -> String {
    let of = if alert.entity.is_empty() { String::new() } else { format!(" of {}", alert.entity) };
    let Alert { rule, percent, spent, limit, unit, .. } = alert;
    let text = format!("Budget '{rule}'{of} is past {percent}%: {spent} of {limit} {unit} ({tenant})");
    let value: Value = match form {
        // Slack reads these three as markup.
        AlertForm::Slack => {
            json!({"text": text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")})
        }
        AlertForm::Teams => json!({ "text": text }),
        AlertForm::Json => json!({
            "type": "budget-alert", "tenantName": tenant, "budget": rule,
            "entity": Some(&alert.entity).filter(|entity| !entity.is_empty()),
            "thresholdPercent": percent, "spent": spent.trim_start_matches('$'),
            "limit": limit.trim_start_matches('$'), "unit": unit,
            "periodStart": alert.period_start.to_iso(), "at": now.to_iso(), "text": text,
        }),
    };
    value.to_string()
}

struct Poster {
    folder: Option<PathBuf>,
    agent: Agent,
    limits: Arc<Limits>,
}

impl Poster {
    fn run(&self, receiver: &Receiver<Delivery>) {
        let mut later: VecDeque<(Instant, Delivery)> = VecDeque::new();
        loop {
            let now = Instant::now();
            let due = later.iter().position(|(at, _)| *at <= now).and_then(|place| later.remove(place));
            let delivery = match due {
                Some((_, delivery)) => delivery,
                None => {
                    let wait = later.iter().map(|(at, _)| at.saturating_duration_since(now)).min();
                    let received = match wait {
                        Some(wait) => receiver.recv_timeout(wait),
                        None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
                    };
                    match received {
                        Ok(delivery) => delivery,
                        Err(RecvTimeoutError::Timeout) => continue,
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
            };
            if let Some(again) = self.attempt(delivery) {
                if later.len() >= MAX_RETRIED {
                    later.pop_front();
                    self.limits.count_delivery(false);
                    log::error!("an alert is not sent: too many wait to be tried again");
                }
                later.push_back(again);
            }
        }
    }

    /// Tries once; gives when to try again, if it is worth it.
    fn attempt(&self, mut delivery: Delivery) -> Option<(Instant, Delivery)> {
        let trouble = match self.post(&delivery) {
            Ok(()) => {
                self.limits.count_delivery(true);
                return None;
            }
            Err(trouble) => trouble,
        };
        let Delivery { rule, channel, .. } = &delivery;
        let pause = PAUSES.get(delivery.attempts).filter(|_| trouble.may_pass());
        let Some(pause) = pause else {
            self.limits.count_delivery(false);
            log::error!("an alert of the budget '{rule}' is not sent to the channel '{channel}': {trouble}");
            return None;
        };
        log::warn!(
            "an alert of the budget '{rule}' is not sent to the channel '{channel}' yet: {trouble}; trying again in {} s",
            pause.as_secs()
        );
        delivery.attempts += 1;
        Some((Instant::now() + *pause, delivery))
    }

    fn post(&self, delivery: &Delivery) -> Result<(), Trouble> {
        let url = url_of(self.folder.as_deref().ok_or(Trouble::NoFolder)?, &delivery.channel)?;
        let request = Request::builder().method("POST").uri(url.expose());
        let request = request.header("content-type", "application/json").body(delivery.body.as_str());
        let answer = self.agent.run(request.map_err(|_| Trouble::NoUrl)?).map_err(|error| match error {
            ureq::Error::Other(inner) if inner.is::<NotAllowed>() => Trouble::NotAllowed,
            _ => Trouble::Unreachable,
        })?;
        match answer.status().as_u16() {
            200..=299 => Ok(()),
            status => Err(Trouble::Status(status)),
        }
    }
}

/// The URL of a channel, as its file says now.
fn url_of(folder: &Path, channel: &str) -> Result<Secret, Trouble> {
    use std::io::Read as _;
    if !AlertTarget::is_channel(channel) {
        return Err(Trouble::NoFile);
    }
    let file = std::fs::File::open(folder.join(channel)).map_err(|_| Trouble::NoFile)?;
    let mut text = zeroize::Zeroizing::new(String::new());
    file.take(MAX_URL_BYTES + 1).read_to_string(&mut text).map_err(|_| Trouble::NoFile)?;
    let url = text.trim();
    let is_url = (url.starts_with("https://") || url.starts_with("http://"))
        && url.len() < 4096
        && url.bytes().all(|byte| byte.is_ascii_graphic());
    if is_url { Ok(Secret::new(url.to_owned())) } else { Err(Trouble::NoUrl) }
}

/// Asks nothing of the environment and follows nothing.
fn agent(egress: EgressPolicy) -> Agent {
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::WebPki)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    let config = Config::builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent(AutoHeaderValue::Provided(Arc::new("gateway".to_owned())))
        .accept_encoding(AutoHeaderValue::None)
        .max_idle_connections(0)
        .timeout_global(Some(ATTEMPT_LIMIT))
        .build();
    Agent::with_parts(
        config,
        DefaultConnector::default(),
        Checked { egress, inner: DefaultResolver::default() },
    )
}

/// The host's addresses, those only that may be dialled.
#[derive(Debug)]
struct Checked {
    egress: EgressPolicy,
    inner: DefaultResolver,
}

#[derive(Debug)]
struct NotAllowed;

impl std::fmt::Display for NotAllowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not allowed")
    }
}

impl std::error::Error for NotAllowed {}

impl Resolver for Checked {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let found = self.inner.resolve(uri, config, timeout)?;
        let mut allowed = self.empty();
        // Who runs the host wrote the URL, so that it may be local.
        for address in
            found.iter().filter(|address: &&SocketAddr| self.egress.allows(&host, address.ip(), true))
        {
            allowed.push(*address);
        }
        if allowed.is_empty() { Err(ureq::Error::Other(Box::new(NotAllowed))) } else { Ok(allowed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert() -> Alert {
        Alert {
            rule: "a<b>&\"c".to_owned(),
            entity: "user:ada@x.io".to_owned(),
            percent: 90,
            spent: "$9.5".to_owned(),
            limit: "$10".to_owned(),
            unit: "cost_per_month".to_owned(),
            period_start: UnixMillis(0),
            targets: Vec::new(),
        }
    }

    #[test]
    fn each_form_is_json_of_its_kind() {
        let of = |form| serde_json::from_str::<Value>(&body(&alert(), form, "acme", UnixMillis(0))).unwrap();
        let words = "of user:ada@x.io is past 90%: $9.5 of $10 cost_per_month (acme)";
        assert_eq!(of(AlertForm::Slack)["text"], format!("Budget 'a&lt;b&gt;&amp;\"c' {words}"));
        assert_eq!(of(AlertForm::Teams)["text"], format!("Budget 'a<b>&\"c' {words}"));
        let facts = of(AlertForm::Json);
        assert_eq!(
            (&facts["spent"], &facts["thresholdPercent"], &facts["periodStart"]),
            (&json!("9.5"), &json!(90), &json!("1970-01-01T00:00:00.000Z"))
        );
    }

    #[test]
    fn only_a_file_with_one_url_in_the_folder_is_a_channel() {
        let folder = crate::store::tests::Folder::new();
        let write = |name: &str, text: &str| std::fs::write(folder.0.join(name), text).unwrap();
        write("good", " https://hooks.example.com/T/B/x\n");
        write("two", "https://a\nhttps://b");
        write("ftp", "ftp://a");
        write("huge", &format!("https://{}", "x".repeat(5000)));
        write(".hidden", "https://a");
        assert_eq!(url_of(&folder.0, "good").unwrap().expose(), "https://hooks.example.com/T/B/x");
        for wrong in ["two", "ftp", "huge", ".hidden", "none", "../good", "", "/etc/passwd", "good/"] {
            let trouble = url_of(&folder.0, wrong).unwrap_err();
            assert!(!trouble.to_string().contains("://"), "{trouble}");
        }
    }

    #[test]
    fn what_is_worth_another_attempt() {
        for (trouble, worth) in [
            (Trouble::Status(500), true),
            (Trouble::Status(429), true),
            (Trouble::Status(404), false),
            (Trouble::Status(302), false),
            (Trouble::Unreachable, true),
            (Trouble::NotAllowed, false),
        ] {
            assert_eq!(trouble.may_pass(), worth, "{trouble}");
        }
    }
}

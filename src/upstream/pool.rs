//! Kept connections: newest first, one pool per worker and account.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::credentials::{Credentials, Issuers};
use super::egress::EgressPolicy;
use super::exchange::Exchange;
use super::resolver::Resolver;
use super::tls::ClientIdentity;
use super::{UpstreamError, tls};
use crate::clock::monotonic_ms;
use crate::config;
use crate::domain::Endpoint;
use crate::net::{Interruption, Socket, Transport, Watch};
use crate::store::Account;

/// An account at one revision: a change of its settings never meets an old connection.
type Key = (Arc<str>, u64);

#[derive(Debug)]
struct Idle {
    transport: Transport,
    since_ms: u64,
}

#[derive(Debug, Default)]
struct Pool {
    idle: HashMap<Key, Vec<Idle>>,
}

/// Where a connection goes for an account: to the account's own endpoint, or to who issues its tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    /// For whom, and whose trust it has.
    pub account: &'a Arc<Account>,
    /// Where to.
    pub endpoint: &'a Endpoint,
    /// An admin chose this destination, so it may be a local address.
    pub local_allowed: bool,
    /// It is the account's own endpoint, which alone sees the account's client certificate.
    pub is_provider: bool,
}

impl<'a> Target<'a> {
    fn provider(account: &'a Arc<Account>) -> Self {
        Self {
            account,
            endpoint: &account.endpoint,
            local_allowed: account.spec.destination_by_admin,
            is_provider: true,
        }
    }
}

/// All connections to providers.
#[derive(Debug)]
pub struct Upstreams {
    pools: Vec<Mutex<Pool>>,
    resolver: Resolver,
    egress: EgressPolicy,
    limits: config::Relay,
    /// The flag is whether the client certificate is in it.
    tls: Mutex<HashMap<(Key, bool), Arc<ClientConfig>>>,
    pub(super) credentials: Credentials,
}

impl Upstreams {
    /// Pools for this many workers.
    ///
    /// # Errors
    /// When the system gives no thread for the resolver.
    pub fn new(workers: usize, limits: config::Relay, egress: EgressPolicy) -> std::io::Result<Self> {
        Ok(Self {
            pools: (0..workers.max(1)).map(|_| Mutex::default()).collect(),
            resolver: Resolver::start()?,
            egress,
            limits,
            tls: Mutex::default(),
            credentials: Credentials::default(),
        })
    }

    /// The same, with these issuers of tokens.
    #[must_use]
    pub fn with_issuers(mut self, issuers: Issuers) -> Self {
        self.credentials = Credentials::new(issuers);
        self
    }

    /// The configured limits.
    pub fn limits(&self) -> &config::Relay {
        &self.limits
    }

    /// Sends a request and reads the head of its answer. `worker` is where the caller's socket lives.
    ///
    /// A kept connection that turns out to be closed, before any byte of an answer, is replaced once by a
    /// fresh one. `reached` is set as soon as the request may have reached the provider.
    ///
    /// # Errors
    /// Why there is no answer. The caller's watch holds the deadline.
    pub fn exchange(
        &self,
        account: &Arc<Account>,
        watch: &Arc<Watch>,
        worker: usize,
        request: &[&[u8]],
        call_deadline_ms: u64,
        reached: &mut bool,
    ) -> Result<Exchange, UpstreamError> {
        let key: Key = (Arc::clone(&account.pool_key), account.revision);
        let first_byte_at =
            || monotonic_ms().saturating_add(self.limits.first_byte_timeout_ms).min(call_deadline_ms);
        if let Some(transport) = self.take(&key, worker, watch) {
            watch.arm_at(first_byte_at());
            *reached = true;
            match Exchange::start(transport, request, key.clone(), worker) {
                Err(UpstreamError::Unreachable) if watch.interruption().is_none() => {}
                Err(error) => return Err(interrupted(watch).unwrap_or(error)),
                Ok(exchange) => return Ok(exchange),
            }
        }
        watch.arm_at(monotonic_ms().saturating_add(self.limits.connect_timeout_ms).min(call_deadline_ms));
        let transport = self.connect(&Target::provider(account), watch, worker)?;
        watch.arm_at(first_byte_at());
        *reached = true;
        Exchange::start(transport, request, key, worker).map_err(|error| interrupted(watch).unwrap_or(error))
    }

    pub(super) fn connect(
        &self,
        target: &Target<'_>,
        watch: &Arc<Watch>,
        worker: usize,
    ) -> Result<Transport, UpstreamError> {
        let Target { account, endpoint, local_allowed, .. } = *target;
        let addresses = self.resolver.resolve(&endpoint.host, endpoint.port, watch)?;
        let mut last = UpstreamError::Forbidden;
        for address in addresses {
            if !self.egress.allows(&endpoint.host, address.ip(), local_allowed) {
                log::warn!(
                    "provider account '{}': the address of {} is not allowed ([egress] allow, or a local address that no admin chose)",
                    account.spec.name,
                    endpoint.host
                );
                continue;
            }
            match Socket::connect(address, watch, worker, self.pools.len()) {
                Ok(socket) if !endpoint.https => return Ok(Transport::Plain(socket)),
                Ok(socket) => {
                    let config = self.tls_config(target)?;
                    let name = ServerName::try_from(endpoint.host.clone())
                        .map_err(|_| UpstreamError::Unreachable)?;
                    return Transport::client(socket, &config, name).map_err(|error| {
                        interrupted(watch).unwrap_or_else(|| {
                            log::warn!("provider account '{}': TLS failed: {error}", account.spec.name);
                            UpstreamError::Unreachable
                        })
                    });
                }
                Err(error) => {
                    watch_ended(watch)?;
                    log::debug!("provider account '{}': connecting failed: {error}", account.spec.name);
                    last = UpstreamError::Unreachable;
                }
            }
        }
        Err(last)
    }

    fn tls_config(&self, target: &Target<'_>) -> Result<Arc<ClientConfig>, UpstreamError> {
        let account = target.account;
        let own_roots = account.spec.ca_certificates.as_deref();
        let identity = match (&account.spec.settings.client_certificate, &account.client_key) {
            (Some(certificates), Some(private_key)) if target.is_provider => {
                Some(ClientIdentity { certificates, private_key })
            }
            _ => None,
        };
        // Accounts without roots of their own share one configuration, and so its session tickets.
        let key: Key = if own_roots.is_some() || identity.is_some() {
            (Arc::clone(&account.pool_key), account.revision)
        } else {
            ("".into(), 0)
        };
        let key = (key, identity.is_some());
        let mut configs = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = configs.get(&key) {
            return Ok(Arc::clone(config));
        }
        let config = tls::client_config(own_roots, identity)?;
        // Those of the account's earlier revisions.
        let (name, revision) = &key.0;
        configs.retain(|((other, at), _), _| other != name || at == revision);
        configs.insert(key, Arc::clone(&config));
        Ok(config)
    }

    fn take(&self, key: &Key, worker: usize, watch: &Arc<Watch>) -> Option<Transport> {
        let oldest = monotonic_ms().saturating_sub(self.limits.keep_alive_ms);
        loop {
            // The guard is gone before anything is done with the connection.
            let idle = self.pool(worker)?.idle.get_mut(key)?.pop()?;
            if idle.since_ms < oldest {
                continue;
            }
            let mut transport = idle.transport;
            if transport.is_idle_and_open() {
                transport.socket_mut().adopt(watch);
                return Some(transport);
            }
        }
    }

    /// Takes a connection back whose exchange is complete.
    pub fn keep(&self, exchange: Exchange) {
        let Some((transport, key, worker)) = exchange.into_reusable() else { return };
        transport.socket().release();
        let Some(mut pool) = self.pool(worker) else { return };
        let list = pool.idle.entry(key).or_default();
        if list.len() < self.limits.max_idle_connections {
            list.push(Idle { transport, since_ms: monotonic_ms() });
        }
    }

    /// Drops kept connections that are too old; called from time to time.
    pub fn sweep(&self) {
        let oldest = monotonic_ms().saturating_sub(self.limits.keep_alive_ms);
        for worker in 0..self.pools.len() {
            let Some(mut pool) = self.pool(worker) else { continue };
            let mut dropped = Vec::new();
            pool.idle.retain(|_, list| {
                let keep = list.partition_point(|idle| idle.since_ms < oldest);
                dropped.extend(list.drain(..keep));
                !list.is_empty()
            });
            drop(pool);
        }
    }

    fn pool(&self, worker: usize) -> Option<MutexGuard<'_, Pool>> {
        self.pools.get(worker).map(|pool| pool.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) fn interrupted(watch: &Watch) -> Option<UpstreamError> {
    watch.interruption().map(UpstreamError::Interrupted)
}

fn watch_ended(watch: &Watch) -> Result<(), UpstreamError> {
    match watch.interruption() {
        // A connect that ran into its deadline is an address that can not be reached.
        Some(Interruption::Deadline) => Err(UpstreamError::Interrupted(Interruption::Deadline)),
        Some(other) => Err(UpstreamError::Interrupted(other)),
        None => Ok(()),
    }
}

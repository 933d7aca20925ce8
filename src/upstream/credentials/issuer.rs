//! Who issues tokens, how they are asked, and what goes wrong with it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::Wait;
use crate::clock::{UnixMillis, monotonic_ms};
use crate::domain::Endpoint;
use crate::failure::Failure;
use crate::http::Headers;
use crate::net::Interruption;
use crate::secret::Secret;
use crate::store::Account;
use crate::upstream::exchange::Exchange;
use crate::upstream::pool::{Target, interrupted};
use crate::upstream::{UpstreamError, Upstreams};

/// The longest answer of an issuer, in bytes. Tokens of directories with many groups have some ten thousand.
const MAX_REPLY_BYTES: usize = 64 * 1024;
/// How long a call waits for another one's fetch.
pub(super) const WAIT_LIMIT_MS: u64 = 15_000;

/// Who issues tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "their names")]
pub enum Issuer {
    Entra,
    Google,
    Sts,
    InstanceMetadata,
    Container,
}

impl Issuer {
    fn name(self) -> &'static str {
        match self {
            Self::Entra => "Microsoft Entra",
            Self::Google => "Google's token endpoint",
            Self::Sts => "AWS STS",
            Self::InstanceMetadata => "the AWS instance metadata service",
            Self::Container => "the AWS container credentials endpoint",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Entra => "check tenant, client id and client secret, and that the secret has not expired",
            Self::Google => "check that the service account and its key exist, and the clock of this host",
            Self::Sts => {
                "check the role's trust policy, its external id, the source keys and the clock of this host"
            }
            Self::InstanceMetadata => "check that the instance has a role and that IMDSv2 can be reached",
            Self::Container => "check that the task or pod has a role",
        }
    }
}

/// Why a request has no credential. Holds nothing that an issuer sent but a known word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CredentialError {
    /// The call was ended while it waited: its caller left, it was cut, or its time was up.
    Interrupted(UpstreamError),
    /// The issuer could not be asked.
    Exchange(Issuer, UpstreamError),
    /// The issuer said no.
    Refused {
        /// Who.
        issuer: Issuer,
        /// HTTP status.
        status: u16,
        /// Its word for why, where it is one that is known.
        code: Option<&'static str>,
    },
    /// The issuer's answer was not understood.
    Unreadable(Issuer),
    /// What is stored can not be used: the end of a sentence that starts with "the credential can not be used:".
    Unusable(&'static str),
    /// `upstream.aws_machine_credentials` is off.
    MachineNotAllowed,
    /// AWS needs a region.
    NoRegion,
    /// Too much at once.
    Busy,
}

impl CredentialError {
    /// What ended the call, where it was not the credential's fault.
    pub fn interruption(&self) -> Option<UpstreamError> {
        match self {
            Self::Interrupted(error) => Some(*error),
            _ => None,
        }
    }

    /// What is wrong, and what to check.
    pub fn message(&self, account: &str) -> String {
        let of = format!("the credential of account '{account}'");
        match self {
            Self::Interrupted(_) => format!("The wait for {of} was ended"),
            Self::Exchange(issuer, UpstreamError::Forbidden) => format!(
                "The address of {}, which issues {of}, is not one that the gateway may use; check [egress] allow",
                issuer.name()
            ),
            Self::Exchange(issuer, UpstreamError::Interrupted(_)) => {
                format!("There was no answer in time from {}, which issues {of}", issuer.name())
            }
            Self::Exchange(issuer, UpstreamError::Unreachable) => format!(
                "There is no connection to {}, which issues {of}; check network, names and certificates",
                issuer.name()
            ),
            Self::Exchange(issuer, UpstreamError::Invalid | UpstreamError::Broken) => {
                format!("The answer of {}, which issues {of}, was not whole", issuer.name())
            }
            Self::Refused { issuer, status, code } => {
                let code = code.map(|code| format!(", {code}")).unwrap_or_default();
                format!(
                    "No token from {} for {of} (status {status}{code}); {}",
                    issuer.name(),
                    issuer.advice()
                )
            }
            Self::Unreadable(issuer) => {
                format!("The answer of {} for {of} can not be understood; {}", issuer.name(), issuer.advice())
            }
            Self::Unusable(why) => format!("Not usable: {of}: {why}"),
            Self::MachineNotAllowed => format!(
                "Not allowed: {of} is the machine's own; the operator allows that with aws_machine_credentials in [upstream]"
            ),
            Self::NoRegion => format!("Account '{account}' has no AWS region"),
            Self::Busy => format!("Too many calls want tokens at once; {of} has to wait"),
        }
    }

    /// What the caller is told; `None` when [`CredentialError::interruption`] says it.
    pub fn failure(&self, account: &str) -> Option<Failure> {
        match self {
            Self::Interrupted(_) => None,
            Self::Busy => Some(Failure::Unavailable(self.message(account).into())),
            _ => Some(Failure::UpstreamCredential(self.message(account))),
        }
    }
}

/// Where issuers are, as the host's administrator has it. All that is not said is the public cloud's.
#[derive(Debug)]
pub struct Issuers {
    pub(super) entra: Endpoint,
    /// `None`: that of the region.
    pub(super) sts: Option<Endpoint>,
    /// `None`: not allowed.
    pub(super) machine: Option<Machine>,
}

/// Where the machine's own AWS keys come from.
#[derive(Debug)]
pub(super) enum Machine {
    /// ECS, EKS pod identity and the like.
    Container {
        endpoint: Endpoint,
        /// With its query.
        path: String,
        token: Option<Secret>,
        /// It is read for each fetch, since it is rotated.
        token_file: Option<PathBuf>,
    },
    /// IMDSv2.
    Instance(Endpoint),
    /// Allowed, but switched off by `AWS_EC2_METADATA_DISABLED`.
    Nothing,
}

impl Default for Issuers {
    fn default() -> Self {
        Self { entra: public("login.microsoftonline.com", true), sts: None, machine: None }
    }
}

fn public(host: &str, https: bool) -> Endpoint {
    let port = if https { 443 } else { 80 };
    Endpoint { https, host: host.to_owned(), port, authority: host.to_owned(), path: String::new() }
}

/// Where ECS serves the credentials of a task.
const CONTAINER_HOST: &str = "169.254.170.2";
/// Hosts that may be asked for container credentials without TLS, besides loopback: ECS and EKS.
const CONTAINER_HOSTS: [&str; 3] = [CONTAINER_HOST, "169.254.170.23", "fd00:ec2::23"];
const INSTANCE_HOST: &str = "169.254.169.254";

impl Issuers {
    /// Reads the environment under the names that the clouds' own SDKs use: `AZURE_AUTHORITY_HOST`,
    /// `AWS_ENDPOINT_URL_STS`, and, where the machine's keys are allowed, `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`,
    /// `AWS_CONTAINER_CREDENTIALS_FULL_URI`, `AWS_CONTAINER_AUTHORIZATION_TOKEN`, `..._TOKEN_FILE`,
    /// `AWS_EC2_METADATA_SERVICE_ENDPOINT` and `AWS_EC2_METADATA_DISABLED`.
    ///
    /// # Errors
    /// A sentence about the variable that can not be used.
    pub fn from_environment(machine_allowed: bool) -> Result<Self, String> {
        Self::from_variables(machine_allowed, |name| std::env::var(name).ok())
    }

    pub(super) fn from_variables(
        machine_allowed: bool,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let endpoint = |name: &str| match set(name) {
            None => Ok(None),
            Some(url) => Endpoint::parse(&url)
                .ok()
                .filter(|endpoint| endpoint.https || is_loopback(&endpoint.host))
                .map(Some)
                .ok_or_else(|| format!("{name} is not an https URL")),
        };
        let machine = if machine_allowed { Some(machine(set)?) } else { None };
        Ok(Self {
            entra: endpoint("AZURE_AUTHORITY_HOST")?.unwrap_or_else(|| Self::default().entra),
            sts: endpoint("AWS_ENDPOINT_URL_STS")?,
            machine,
        })
    }
}

fn machine(set: impl Fn(&str) -> Option<String>) -> Result<Machine, String> {
    let token = set("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Secret::new);
    let token_file = set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(PathBuf::from);
    let is_path =
        |path: &str| path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if let Some(path) = set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        if !is_path(&path) {
            return Err("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is not a path".to_owned());
        }
        return Ok(Machine::Container { endpoint: public(CONTAINER_HOST, false), path, token, token_file });
    }
    if let Some(url) = set("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
        let wrong = || {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI is not an https URL, nor one of loopback, ECS or EKS"
                .to_owned()
        };
        let host_at = url.find("://").map_or(0, |at| at + 3);
        let after = url.get(host_at..).unwrap_or_default();
        let path_at = after.find(['/', '?']).map_or(url.len(), |at| host_at + at);
        let (origin, path) = url.split_at(path_at);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let endpoint = Endpoint::parse(origin).map_err(|_| wrong())?;
        let host = endpoint.host.as_str();
        let allowed = endpoint.https || is_loopback(host) || CONTAINER_HOSTS.contains(&host);
        if !allowed || !is_path(&path) {
            return Err(wrong());
        }
        return Ok(Machine::Container { endpoint, path, token, token_file });
    }
    if set("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(Machine::Nothing);
    }
    let endpoint = match set("AWS_EC2_METADATA_SERVICE_ENDPOINT") {
        None => public(INSTANCE_HOST, false),
        Some(url) => {
            Endpoint::parse(&url).map_err(|_| "AWS_EC2_METADATA_SERVICE_ENDPOINT is not a URL".to_owned())?
        }
    };
    Ok(Machine::Instance(endpoint))
}

/// By name only; the address is checked when it is dialled.
pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What an issuer is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub issuer: Issuer,
    pub endpoint: &'a Endpoint,
    /// The host's administrator, or an admin, chose the endpoint.
    pub local_allowed: bool,
    pub method: &'a str,
    /// Behind the endpoint's own path; with its query.
    pub path: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a str,
}

/// What it answers.
#[derive(Debug)]
pub(super) struct Reply {
    pub status: u16,
    pub body: Zeroizing<Vec<u8>>,
    /// The issuer's clock.
    pub date: Option<UnixMillis>,
}

impl Reply {
    /// The body as text.
    pub fn text(&self, issuer: Issuer) -> Result<&str, CredentialError> {
        std::str::from_utf8(&self.body).map_err(|_| CredentialError::Unreadable(issuer))
    }

    /// How long something is good that ends then.
    pub fn lifetime_ms(&self, ends: UnixMillis) -> u64 {
        ends.0.saturating_sub(self.date.unwrap_or_else(UnixMillis::now).0)
    }
}

/// Where one call asks issuers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Desk<'a> {
    pub upstreams: &'a Upstreams,
    pub account: &'a Arc<Account>,
    pub wait: &'a Wait<'a>,
    /// How long each question may take.
    pub limit_ms: u64,
}

impl Desk<'_> {
    /// Gives an issuer its time.
    pub fn arm(&self) {
        let at_ms = monotonic_ms().saturating_add(self.limit_ms).min(self.wait.deadline_ms);
        self.wait.watch.arm_at(at_ms);
    }

    /// Asks, on a connection of its own: it happens once an hour.
    pub fn ask(&self, question: &Question<'_>) -> Result<Reply, CredentialError> {
        self.arm();
        self.exchange(question).map_err(|error| match error {
            // An issuer that is late is a failure like others, unless the call's own time is up.
            UpstreamError::Interrupted(Interruption::Deadline) if monotonic_ms() < self.wait.deadline_ms => {
                CredentialError::Exchange(question.issuer, error)
            }
            UpstreamError::Interrupted(_) => CredentialError::Interrupted(error),
            _ => CredentialError::Exchange(question.issuer, error),
        })
    }

    fn exchange(&self, question: &Question<'_>) -> Result<Reply, UpstreamError> {
        let Wait { watch, worker, .. } = *self.wait;
        let target = Target {
            account: self.account,
            endpoint: question.endpoint,
            local_allowed: question.local_allowed,
            is_provider: false,
        };
        let head = Zeroizing::new(request_head(question));
        let request = [head.as_bytes(), question.body.as_bytes()];
        let transport = self.upstreams.connect(&target, watch, worker)?;
        let key = (Arc::clone(&self.account.pool_key), self.account.revision);
        let ended = |error| interrupted(watch).unwrap_or(error);
        let mut exchange = Exchange::start(transport, &request, key, worker).map_err(ended)?;
        let mut body = Zeroizing::new(Vec::new());
        let result = loop {
            match exchange.next() {
                Ok(Some(range)) if body.len() + range.len() <= MAX_REPLY_BYTES => {
                    body.extend_from_slice(exchange.bytes(&range));
                }
                Ok(Some(_)) => break Err(UpstreamError::Invalid),
                Ok(None) => break Ok(()),
                Err(error) => break Err(ended(error)),
            }
        };
        let (status, date) = (exchange.head().status, date(&exchange.head().headers));
        exchange.abandon();
        // Takes the connection from under the watch; it is closed.
        drop(exchange.into_reusable());
        result.map(|()| Reply { status, body, date })
    }
}

fn request_head(question: &Question<'_>) -> String {
    let Question { endpoint, method, path, headers, body, .. } = *question;
    let mut head = format!(
        "{method} {}{path} HTTP/1.1\r\nhost: {}\r\nuser-agent: gateway\r\naccept-encoding: identity\r\nconnection: close\r\n",
        endpoint.path, endpoint.authority
    );
    for (name, value) in headers {
        head.extend([*name, ": ", *value, "\r\n"]);
    }
    if !body.is_empty() || method == "POST" || method == "PUT" {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    head
}

/// The `date` header, where it is one.
pub(super) fn date(headers: &Headers) -> Option<UnixMillis> {
    let text = std::str::from_utf8(headers.one("date")?).ok()?;
    let time = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    u64::try_from(time.as_millisecond()).ok().map(UnixMillis)
}

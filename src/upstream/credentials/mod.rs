//! What an account shows to its provider: a stored credential becomes header lines of one request.
//!
//! Keys go into a header as they are and AWS keys sign the request. Where the provider wants a token, it is fetched
//! from who issues it, over the same sockets and under the same egress rules as calls, and kept until shortly before
//! its end. Nothing here blocks a worker, and no lock is held while an issuer is asked.

mod base64;
mod cache;
mod google;
mod issuer;
mod machine;
mod oauth;
mod sigv4;
mod sts;

#[cfg(test)]
mod fetch_tests;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::clock::UnixMillis;
use crate::domain::{AwsAccessKey, Credential, ProviderType};
use crate::http::ResponseHead;
use crate::net::Watch;
use crate::secret::Secret;
use crate::store::Account;
use crate::upstream::Upstreams;
pub use base64::standard as to_base64;
use cache::{Fetched, Token, TokenKey, Tokens};
use issuer::Desk;
pub use issuer::{CredentialError, Issuers};

/// One header line of a request; the name in lower case.
pub type AuthHeader = (Cow<'static, str>, Secret);

/// The longest value of a header line that is made here, in bytes.
const MAX_HEADER_VALUE_BYTES: usize = 16 * 1024;

/// Header lines that are the gateway's own in every request.
const FRAMING: [&str; 9] = [
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A host's clock that is further from a provider's than this makes AWS refuse signatures.
const TOLERATED_SKEW_MS: u64 = 5 * 60 * 1000;

/// Where an API key goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyHeader {
    /// `authorization: Bearer KEY`.
    Bearer,
    /// Azure OpenAI's `api-key`.
    ApiKey,
    /// Anthropic's `x-api-key`.
    XApiKey,
    /// `x-goog-api-key` of Gemini, and of Vertex in express mode.
    XGoogApiKey,
}

impl KeyHeader {
    /// Where providers of this type want it.
    pub fn of(provider: ProviderType) -> Self {
        match provider {
            ProviderType::AzureOpenai => Self::ApiKey,
            ProviderType::Anthropic => Self::XApiKey,
            ProviderType::GoogleGemini | ProviderType::GoogleVertex => Self::XGoogApiKey,
            ProviderType::Openai
            | ProviderType::Demo
            | ProviderType::Ollama
            | ProviderType::SelfHostedModel
            | ProviderType::AwsBedrock
            | ProviderType::Openrouter
            | ProviderType::Groq
            | ProviderType::MistralAi
            | ProviderType::TogetherAi
            | ProviderType::Xai
            | ProviderType::Cohere
            | ProviderType::PerplexityAi
            | ProviderType::Deepinfra
            | ProviderType::Cerebras
            | ProviderType::Sambanova => Self::Bearer,
        }
    }

    fn line(self, key: &Secret) -> AuthHeader {
        let name = match self {
            Self::Bearer => return bearer(key),
            Self::ApiKey => "api-key",
            Self::XApiKey => "x-api-key",
            Self::XGoogApiKey => "x-goog-api-key",
        };
        (name.into(), key.clone())
    }
}

/// A request as far as its credential depends on it. It must be sent exactly as it stands here, since it may be
/// signed.
#[derive(Clone, Copy, Debug)]
pub struct Signable<'a> {
    /// Such as `POST`.
    pub method: &'a str,
    /// As it is sent, percent-encoded.
    pub path: &'a str,
    /// As it is sent, without the question mark; may be empty.
    pub query: &'a str,
    /// The `host` header's value.
    pub authority: &'a str,
    /// The `content-type` header's value.
    pub content_type: Option<&'a str>,
    /// The body in pieces.
    pub body: &'a [&'a [u8]],
    /// The AWS region of the host that is called: the model's own; `None` is the account's.
    pub region: Option<&'a str>,
}

/// Under which a call waits for an issuer of tokens.
#[derive(Clone, Copy, Debug)]
pub struct Wait<'a> {
    /// The caller's watch; its deadline is moved.
    pub watch: &'a Arc<Watch>,
    /// Where the caller's socket lives.
    pub worker: usize,
    /// When the call ends, on the monotonic clock.
    pub deadline_ms: u64,
}

/// The tokens and what is known of who issues them.
#[derive(Debug, Default)]
pub struct Credentials {
    issuers: Issuers,
    tokens: Tokens,
    skew_was_logged: AtomicBool,
}

impl Credentials {
    /// With these issuers and no token yet.
    pub fn new(issuers: Issuers) -> Self {
        Self { issuers, ..Self::default() }
    }
}

impl Upstreams {
    /// The header lines that carry the account's credential in this request; none for an account without one.
    ///
    /// # Errors
    /// Why there are none: the credential can not be used, or who issues its tokens gave none.
    pub fn authorize(
        &self,
        account: &Arc<Account>,
        request: &Signable<'_>,
        wait: &Wait<'_>,
    ) -> Result<Vec<AuthHeader>, CredentialError> {
        let Some(credential) = &account.credential else { return Ok(Vec::new()) };
        let region = request.region.or(account.spec.settings.region.as_deref());
        let request = &Signable { region, ..*request };
        let desk = Desk { upstreams: self, account, wait, limit_ms: issuer::WAIT_LIMIT_MS };
        let lines = match credential {
            Credential::ApiKey(key) => vec![KeyHeader::of(account.spec.provider).line(key)],
            Credential::Basic { username, password } => vec![basic(username, password)?],
            Credential::Headers(headers) => {
                headers.iter().map(|(name, value)| (name.clone().into(), value.clone())).collect()
            }
            Credential::EntraClientSecret { tenant_id, client_id, client_secret } => {
                let authority = &self.credentials.issuers.entra;
                let token = self.token(&desk, "entra", |desk| {
                    oauth::entra_token(desk, authority, tenant_id, client_id, client_secret)
                })?;
                vec![token.bearer()?]
            }
            Credential::GoogleServiceAccount { key_file } => {
                let token = self.token(&desk, "google", |desk| google::token(desk, key_file))?;
                vec![token.bearer()?]
            }
            Credential::AwsAccessKey(key) => signed(key, request)?,
            Credential::AwsAssumedRole { role_arn, external_id, source } => {
                let region = request.region.ok_or(CredentialError::NoRegion)?;
                let role = sts::Role { arn: role_arn, external_id: external_id.as_deref(), region };
                let token = self.token(&desk, "role", |desk| match source {
                    Some(source) => sts::assume(desk, &role, source),
                    None => sts::assume(desk, &role, self.machine(desk)?.aws()?),
                })?;
                signed(token.aws()?, request)?
            }
            Credential::AwsMachine => signed(self.machine(&desk)?.aws()?, request)?,
        };
        if lines.iter().all(|(name, value)| is_header(name, value)) {
            Ok(lines)
        } else {
            Err(CredentialError::Unusable("it makes a header line that can not be sent"))
        }
    }

    /// The provider refused (401, or AWS's 403 for an expired token) what [`Upstreams::authorize`] gave: its cached
    /// token is dropped. True when there was one, so that the request may be tried once more; a token that was
    /// fetched since the last refusal is kept for a minute, or a wrong credential would be fetched anew for each call.
    pub fn forget(&self, account: &Account) -> bool {
        self.credentials.tokens.forget(&account.pool_key)
    }

    /// Looks at the time in a provider's answer and warns, once, when the two clocks are too far apart for signatures.
    pub fn check_clock(&self, account: &Account, head: &ResponseHead) {
        let (Some(theirs), ours) = (issuer::date(&head.headers), UnixMillis::now()) else { return };
        let skew_ms = theirs.0.abs_diff(ours.0);
        if skew_ms > TOLERATED_SKEW_MS && !self.credentials.skew_was_logged.swap(true, Ordering::Relaxed) {
            log::warn!(
                "the clock of this host is {} seconds {} that of the provider of account '{}'; signed requests are refused beyond 300: set the clock",
                skew_ms / 1000,
                if theirs > ours { "behind" } else { "ahead of" },
                account.spec.name
            );
        }
    }

    fn token(
        &self,
        desk: &Desk<'_>,
        kind: &'static str,
        fetch: impl FnOnce(&Desk<'_>) -> Result<Fetched, CredentialError>,
    ) -> Result<Arc<Token>, CredentialError> {
        let Desk { account, wait, .. } = *desk;
        let key = TokenKey { account: Arc::clone(&account.pool_key), revision: account.revision, kind };
        desk.arm();
        let tokens = &self.credentials.tokens;
        tokens.obtain(&key, wait.watch, |limit_ms| fetch(&Desk { limit_ms, ..*desk }))
    }

    /// The machine's own AWS keys.
    fn machine(&self, desk: &Desk<'_>) -> Result<Arc<Token>, CredentialError> {
        let machine = self.credentials.issuers.machine.as_ref().ok_or(CredentialError::MachineNotAllowed)?;
        self.token(desk, "machine", |desk| machine::keys(desk, machine))
    }
}

fn bearer(token: &Secret) -> AuthHeader {
    ("authorization".into(), Secret::new(format!("Bearer {}", token.expose())))
}

/// RFC 7617, in UTF-8.
fn basic(username: &str, password: &Secret) -> Result<AuthHeader, CredentialError> {
    if username.contains(':') {
        return Err(CredentialError::Unusable("its user name holds a colon"));
    }
    let pair = Secret::new(format!("{username}:{}", password.expose()));
    let value = format!("Basic {}", base64::standard(pair.expose().as_bytes()));
    Ok(("authorization".into(), Secret::new(value)))
}

/// The SigV4 lines of a request to Bedrock.
fn signed(key: &AwsAccessKey, request: &Signable<'_>) -> Result<Vec<AuthHeader>, CredentialError> {
    let region = request.region.ok_or(CredentialError::NoRegion)?;
    let mut headers = vec![("host", request.authority)];
    headers.extend(request.content_type.map(|content_type| ("content-type", content_type)));
    let is_mantle = request.authority.split('.').any(|label| label.starts_with("bedrock-mantle"));
    let signer = sigv4::Signer {
        key,
        region,
        service: if is_mantle { "bedrock-mantle" } else { "bedrock" },
        time: UnixMillis::now(),
    };
    let Signable { method, path, query, body, .. } = *request;
    let added = sigv4::sign(&signer, &sigv4::Request { method, path, query, headers: &headers, body });
    Ok(added.into_iter().map(|(name, value)| (name.into(), value)).collect())
}

/// Whether a line can be sent as it is: nothing in it may end the line or begin another.
fn is_header(name: &str, value: &Secret) -> bool {
    let value = value.expose().as_bytes();
    !name.is_empty()
        && !FRAMING.contains(&name)
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
        && value.len() <= MAX_HEADER_VALUE_BYTES
        && value.iter().all(|b| *b == b'\t' || (*b >= b' ' && *b != 0x7f))
}

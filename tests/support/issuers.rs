//! Scripted issuers of tokens: Microsoft Entra, Google's token endpoint, AWS STS, the instance metadata service and a
//! container's credentials endpoint. Each is a [`Provider`], so that a test reads every byte of what it was asked.
//! The gateway finds them by the environment ([`Issuers::variables`]), Google's by the key file.
//!
//! Every token names its issuer and counts from 0, so that a test sees which of them a provider was shown.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use super::provider::{Answer, Provider, Received};

/// Secrets of issuers. They must never be seen on any surface of the gateway.
pub const ISSUED_SECRET: &str = "ISSUED-SECRET-90aa17";

/// Which issuers a gateway is sent to; the rest is the public cloud's, which no test may reach.
#[derive(Default)]
pub struct Issuers<'a> {
    /// Entra.
    pub entra: Option<&'a Provider>,
    /// STS.
    pub sts: Option<&'a Provider>,
    /// IMDSv2.
    pub instance: Option<&'a Provider>,
    /// A container's endpoint.
    pub container: Option<&'a Provider>,
}

impl Issuers<'_> {
    /// The environment of `gateway serve`.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let url = |provider: &Provider| format!("http://{}", provider.addr);
        [
            ("AZURE_AUTHORITY_HOST", self.entra.map(url)),
            ("AWS_ENDPOINT_URL_STS", self.sts.map(url)),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", self.instance.map(url)),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", self.container.map(|it| url(it) + "/v1/credentials")),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}

/// The bearer token of this number that an OAuth issuer gives.
pub fn bearer(number: usize) -> String {
    format!("{ISSUED_SECRET}-bearer-{number}")
}

/// An OAuth 2.0 token endpoint (Entra, Google) whose tokens live this long. It refuses what is no form with a
/// `grant_type`, as the real ones do.
pub fn oauth(lifetime: Duration) -> Provider {
    let count = AtomicUsize::new(0);
    Provider::start(move |request, answer| {
        if request.method() != "POST" || field(request, "grant_type").is_none() {
            return refuse(answer, "invalid_request");
        }
        let token = bearer(count.fetch_add(1, Ordering::Relaxed));
        let seconds = lifetime.as_secs();
        answer.json(
            200,
            &format!(r#"{{"token_type":"Bearer","expires_in":{seconds},"access_token":"{token}"}}"#),
        );
    })
}

/// One that refuses, and echoes a secret as it does so.
pub fn refusing_oauth() -> Provider {
    Provider::start(|_, answer| refuse(answer, "invalid_client"))
}

fn refuse(answer: &mut Answer<'_>, word: &str) {
    answer.json(400, &format!(r#"{{"error":"{word}","error_description":"{ISSUED_SECRET} is wrong"}}"#));
}

/// STS: its keys have the id `ASIASTS0`, `ASIASTS1` and so on.
pub fn sts(lifetime: Duration) -> Provider {
    let count = AtomicUsize::new(0);
    Provider::start(move |request, answer| {
        let is_right = field(request, "Action").as_deref() == Some("AssumeRole")
            && field(request, "Version").as_deref() == Some("2011-06-15")
            && request.header("authorization").is_some_and(|value| value.contains("/sts/aws4_request"));
        if !is_right {
            let body = format!(
                "<ErrorResponse><Error><Code>AccessDenied</Code><Message>{ISSUED_SECRET}</Message></Error></ErrorResponse>"
            );
            return answer.full(403, "content-type: text/xml\r\n", body.as_bytes());
        }
        let number = count.fetch_add(1, Ordering::Relaxed);
        let ends = iso(SystemTime::now() + lifetime);
        let body = format!(
            "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
             <AccessKeyId>ASIASTS{number}</AccessKeyId><SecretAccessKey>{ISSUED_SECRET}</SecretAccessKey>\
             <SessionToken>{ISSUED_SECRET}-session</SessionToken><Expiration>{ends}</Expiration>\
             </Credentials></AssumeRoleResult></AssumeRoleResponse>"
        );
        answer.full(200, "content-type: text/xml\r\n", body.as_bytes());
    })
}

/// IMDSv2 with the role `test-role`; its keys have the id `ASIAINSTANCE`.
pub fn instance(lifetime: Duration) -> Provider {
    const FOLDER: &str = "/latest/meta-data/iam/security-credentials/";
    Provider::start(move |request, answer| {
        let has_session = request.header("x-aws-ec2-metadata-token").as_deref() == Some("session-1");
        match (request.method(), request.path()) {
            ("PUT", "/latest/api/token")
                if request.header("x-aws-ec2-metadata-token-ttl-seconds").is_some() =>
            {
                answer.full(200, "content-type: text/plain\r\n", b"session-1");
            }
            ("GET", _) if !has_session => answer.full(401, "", b""),
            ("GET", FOLDER) => answer.full(200, "content-type: text/plain\r\n", b"test-role"),
            ("GET", path) if path.strip_prefix(FOLDER) == Some("test-role") => {
                answer.json(200, &keys("ASIAINSTANCE", lifetime));
            }
            _ => answer.full(404, "", b""),
        }
    })
}

/// A container's endpoint; its keys have the id `ASIACONTAINER`.
pub fn container(lifetime: Duration) -> Provider {
    Provider::start(move |request, answer| {
        if request.method() == "GET" && request.path() == "/v1/credentials" {
            answer.json(200, &keys("ASIACONTAINER", lifetime));
        } else {
            answer.full(404, "", b"");
        }
    })
}

fn keys(id: &str, lifetime: Duration) -> String {
    let ends = iso(SystemTime::now() + lifetime);
    format!(
        r#"{{"Code":"Success","AccessKeyId":"{id}","SecretAccessKey":"{ISSUED_SECRET}","Token":"{ISSUED_SECRET}-session","Expiration":"{ends}"}}"#
    )
}

/// A field of a form, as it stands there (percent-encoded).
pub fn field(request: &Received, name: &str) -> Option<String> {
    let text = request.text();
    let found = text.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    found.map(str::to_owned)
}

/// ISO 8601 in UTC, to the second. Days to a date as in Howard Hinnant's "chrono-compatible low-level date algorithms".
fn iso(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let (day, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}Z")
}

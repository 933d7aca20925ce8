//! The machine's own AWS keys: from the instance's metadata service (IMDSv2) or from the container's endpoint.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;

use super::cache::{Fetched, Token};
use super::issuer::{CredentialError, Desk, Issuer, Machine, Question, Reply};
use crate::clock::UnixMillis;
use crate::domain::{AwsAccessKey, Endpoint};
use crate::net::{Socket, Watch};
use crate::secret::Secret;
use crate::upstream::pool::interrupted;

/// Bytes of a token that the container's endpoint wants to see.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
const SESSION_SECONDS: (&str, &str) = ("x-aws-ec2-metadata-token-ttl-seconds", "300");

/// The keys of the instance's or the container's role.
pub(super) fn keys(desk: &Desk<'_>, machine: &Machine) -> Result<Fetched, CredentialError> {
    match machine {
        Machine::Nothing => Err(CredentialError::Unusable(
            "the machine's metadata is switched off by AWS_EC2_METADATA_DISABLED",
        )),
        Machine::Instance(endpoint) => instance(desk, endpoint),
        Machine::Container { endpoint, path, token, token_file } => {
            let read;
            let token = match token_file {
                Some(file) => {
                    read = file_text(file.clone(), desk.wait.watch)?;
                    Some(&read)
                }
                None => token.as_ref(),
            };
            if token.is_some_and(|token| !is_token(token.expose())) {
                return Err(CredentialError::Unusable("the container's authorization token is not one"));
            }
            let headers: Vec<_> = token.map(|token| ("authorization", token.expose())).into_iter().collect();
            let reply = ask(desk, Issuer::Container, endpoint, "GET", path, &headers)?;
            read_keys(Issuer::Container, &reply)
        }
    }
}

fn instance(desk: &Desk<'_>, endpoint: &Endpoint) -> Result<Fetched, CredentialError> {
    let issuer = Issuer::InstanceMetadata;
    let session = ask(desk, issuer, endpoint, "PUT", "/latest/api/token", &[SESSION_SECONDS])?;
    let session = session.text(issuer)?.trim_ascii();
    if !is_token(session) {
        return Err(CredentialError::Unreadable(issuer));
    }
    let headers = [("x-aws-ec2-metadata-token", session)];
    let folder = "/latest/meta-data/iam/security-credentials/";
    let roles = ask(desk, issuer, endpoint, "GET", folder, &headers)?;
    let role = roles.text(issuer)?.lines().next().unwrap_or_default().trim_ascii();
    if !is_role(role) {
        return Err(CredentialError::Unreadable(issuer));
    }
    let reply = ask(desk, issuer, endpoint, "GET", &format!("{folder}{role}"), &headers)?;
    read_keys(issuer, &reply)
}

fn ask(
    desk: &Desk<'_>,
    issuer: Issuer,
    endpoint: &Endpoint,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Reply, CredentialError> {
    // The host's administrator allowed it.
    let question = Question { issuer, endpoint, local_allowed: true, method, path, headers, body: "" };
    let reply = desk.ask(&question)?;
    if reply.status == 200 {
        Ok(reply)
    } else {
        Err(CredentialError::Refused { issuer, status: reply.status, code: None })
    }
}

fn is_token(text: &str) -> bool {
    (1..=MAX_TOKEN_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
}

/// The characters of a role's name.
fn is_role(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
        && name != "."
        && name != ".."
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    /// The instance's only.
    code: Option<String>,
    access_key_id: String,
    secret_access_key: Secret,
    token: Secret,
    expiration: String,
}

fn read_keys(issuer: Issuer, reply: &Reply) -> Result<Fetched, CredentialError> {
    let unreadable = CredentialError::Unreadable(issuer);
    let answer: Answer = serde_json::from_slice(&reply.body).map_err(|_| unreadable)?;
    let parts = [&answer.access_key_id, answer.secret_access_key.expose(), answer.token.expose()];
    let is_whole = parts.iter().all(|part| {
        (1..=MAX_TOKEN_BYTES).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_graphic())
    });
    let ends = UnixMillis::parse(&answer.expiration).map_err(|_| unreadable)?;
    let lifetime_ms = reply.lifetime_ms(ends);
    if !is_whole || lifetime_ms == 0 || answer.code.is_some_and(|code| code != "Success") {
        return Err(unreadable);
    }
    let key = AwsAccessKey {
        access_key_id: answer.access_key_id,
        secret_access_key: answer.secret_access_key,
        session_token: Some(answer.token),
    };
    Ok(Fetched { token: Token::Aws(key), lifetime_ms })
}

/// A file's text, read by a thread that may block.
fn file_text(file: PathBuf, watch: &Arc<Watch>) -> Result<Secret, CredentialError> {
    let unreadable = CredentialError::Unusable("the container's authorization token file can not be read");
    let (mut signal, done) = Socket::signal(watch).map_err(|_| CredentialError::Busy)?;
    let answer = Arc::<Mutex<Option<Secret>>>::default();
    let sink = Arc::clone(&answer);
    let started = std::thread::Builder::new().name("token-file".to_owned()).spawn(move || {
        let limit = u64::try_from(MAX_TOKEN_BYTES).unwrap_or(u64::MAX);
        let mut text = String::new();
        let read = std::fs::File::open(file).and_then(|file| file.take(limit).read_to_string(&mut text));
        let text = Secret::new(text);
        if read.is_ok() {
            let trimmed = Secret::new(text.expose().trim_ascii().to_owned());
            *sink.lock().unwrap_or_else(PoisonError::into_inner) = Some(trimmed);
        }
        // The answer is in place before the coroutine is woken.
        drop(done);
    });
    let waited = if started.is_ok() { signal.read(&mut [0]).is_ok() } else { false };
    signal.release();
    match (waited, interrupted(watch)) {
        (false, Some(error)) => Err(CredentialError::Interrupted(error)),
        (false, None) => Err(CredentialError::Busy),
        (true, _) => answer.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or(unreadable),
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn read(body: &str) -> Result<Fetched, CredentialError> {
        let date = UnixMillis::parse("2026-11-24T12:00:00Z").ok();
        let reply = Reply { status: 200, body: Zeroizing::new(body.as_bytes().to_vec()), date };
        read_keys(Issuer::InstanceMetadata, &reply)
    }

    const GOOD: &str = r#"{"Code":"Success","LastUpdated":"2026-11-24T11:00:00Z","Type":"AWS-HMAC","AccessKeyId":"ASIA1","SecretAccessKey":"sec","Token":"tok","Expiration":"2026-11-24T13:00:00Z"}"#;

    #[test]
    fn answers() {
        let fetched = read(GOOD).unwrap();
        assert_eq!(fetched.lifetime_ms, 3_600_000);
        let Token::Aws(key) = fetched.token else { panic!("keys") };
        assert_eq!(key.access_key_id, "ASIA1");
        assert_eq!(key.session_token.unwrap().expose(), "tok");
        assert!(read(&GOOD.replace(r#""Code":"Success","#, "")).is_ok(), "containers have no code");
        for (from, to) in [
            ("Success", "Failed"),
            ("ASIA1", ""),
            ("\"sec\"", "null"),
            ("tok", "t\\r\\nk"),
            ("T13:00:00Z", "T12:00:00Z"),
            ("T13:00:00Z", "T11:00:00Z"),
            ("2026-11-24T13:00:00Z", "never"),
            ("AccessKeyId", "accessKeyId"),
            ("}", ""),
        ] {
            assert!(read(&GOOD.replace(from, to)).is_err(), "{from} {to}");
        }
        for body in ["", "[]", "<html>", r#"{"Code":"AssumeRoleUnauthorizedAccess","Message":"x"}"#] {
            assert!(read(body).is_err());
        }
    }

    #[test]
    fn roles() {
        assert!(is_role("my-role_1+=,.@"));
        for bad in ["", "..", ".", "a/b", "a b", "a?b", "a\r", &"a".repeat(65)] {
            assert!(!is_role(bad), "{bad}");
        }
    }
}

//! OAuth 2.0 token endpoints (RFC 6749): form out, JSON back. And Microsoft Entra's client credentials.

use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::cache::{Fetched, Token};
use super::issuer::{CredentialError, Desk, Issuer, Question, Reply};
use super::sigv4::percent_encode;
use crate::domain::Endpoint;
use crate::secret::Secret;

/// What Azure OpenAI and AI Foundry take.
const ENTRA_SCOPE: &str = "https://cognitiveservices.azure.com/.default";

/// What a token without a stated life is good for.
const DEFAULT_LIFETIME_SECONDS: u64 = 300;
/// Bytes.
const MAX_TOKEN_BYTES: usize = 15 * 1024;

/// Words that RFC 6749, RFC 7521 and Entra have for a refusal. Others are not repeated: an answer may echo a secret.
const CODES: [&str; 12] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "invalid_scope",
    "invalid_resource",
    "invalid_target",
    "unauthorized_client",
    "unsupported_grant_type",
    "access_denied",
    "interaction_required",
    "server_error",
    "temporarily_unavailable",
];

/// A body of `application/x-www-form-urlencoded`.
pub fn form(fields: &[(&str, &str)]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(1024));
    for (name, value) in fields {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        percent_encode(value.as_bytes(), false, &mut text);
    }
    text
}

/// Entra's token for an application.
pub(super) fn entra_token(
    desk: &Desk<'_>,
    authority: &Endpoint,
    tenant_id: &str,
    client_id: &str,
    client_secret: &Secret,
) -> Result<Fetched, CredentialError> {
    let path = entra_path(tenant_id)?;
    let body = form(&[
        ("grant_type", "client_credentials"),
        ("client_id", client_id),
        ("client_secret", client_secret.expose()),
        ("scope", ENTRA_SCOPE),
    ]);
    // The host's administrator chose the authority.
    fetch(desk, Issuer::Entra, authority, true, &path, &body)
}

/// A tenant is a GUID or a domain.
fn entra_path(tenant_id: &str) -> Result<String, CredentialError> {
    let is_tenant = (1..=253).contains(&tenant_id.len())
        && tenant_id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
        && !tenant_id.contains("..")
        && tenant_id != ".";
    if is_tenant {
        Ok(format!("/{tenant_id}/oauth2/v2.0/token"))
    } else {
        Err(CredentialError::Unusable("its tenant id is neither a GUID nor a domain name"))
    }
}

/// Sends a form to a token endpoint and reads the token.
pub(super) fn fetch(
    desk: &Desk<'_>,
    issuer: Issuer,
    endpoint: &Endpoint,
    local_allowed: bool,
    path: &str,
    body: &str,
) -> Result<Fetched, CredentialError> {
    let reply = desk.ask(&Question {
        issuer,
        endpoint,
        local_allowed,
        method: "POST",
        path,
        headers: &[("content-type", "application/x-www-form-urlencoded"), ("accept", "application/json")],
        body,
    })?;
    read(issuer, &reply)
}

#[derive(Deserialize)]
struct Answer {
    access_token: Secret,
    token_type: Option<String>,
    expires_in: Option<Seconds>,
}

/// Some endpoints write the number as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

fn read(issuer: Issuer, reply: &Reply) -> Result<Fetched, CredentialError> {
    if reply.status != 200 {
        return Err(CredentialError::Refused { issuer, status: reply.status, code: code(&reply.body) });
    }
    let unreadable = CredentialError::Unreadable(issuer);
    let answer: Answer = serde_json::from_slice(&reply.body).map_err(|_| unreadable)?;
    let token = answer.access_token.expose();
    let is_token =
        (1..=MAX_TOKEN_BYTES).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
    let is_bearer = answer.token_type.is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
    let seconds = match answer.expires_in {
        None => DEFAULT_LIFETIME_SECONDS,
        Some(Seconds::Text(text)) => text.parse().map_err(|_| unreadable)?,
        // Saturates; a negative number is 0.
        Some(Seconds::Number(number)) => number as u64,
    };
    if !is_token || !is_bearer || seconds == 0 {
        return Err(unreadable);
    }
    Ok(Fetched { token: Token::Bearer(answer.access_token), lifetime_ms: seconds.saturating_mul(1000) })
}

fn code(body: &[u8]) -> Option<&'static str> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let word = value.get("error")?.as_str()?;
    CODES.into_iter().find(|known| *known == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply { status, body: Zeroizing::new(body.as_bytes().to_vec()), date: None }
    }

    #[test]
    fn forms() {
        assert_eq!(form(&[]).as_str(), "");
        assert_eq!(
            form(&[("a", "x y&=+/%"), ("b", ""), ("c", "ä")]).as_str(),
            "a=x%20y%26%3D%2B%2F%25&b=&c=%C3%A4"
        );
    }

    #[test]
    fn tenants() {
        for good in ["8ac1c1bf-0000-0000-0000-000000000000", "contoso.onmicrosoft.com", "common"] {
            assert!(entra_path(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a?b", "a\r\nb", "ä", "a..b", &"a".repeat(254)] {
            assert!(entra_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn answers() {
        for (body, lifetime_ms) in [
            (r#"{"access_token":"t0ken","expires_in":3599,"token_type":"Bearer","x":[{}]}"#, 3_599_000),
            (r#"{"access_token":"t0ken","expires_in":"3599","token_type":"bearer"}"#, 3_599_000),
            (r#"{"access_token":"t0ken","expires_in":59.9}"#, 59_000),
            (r#"{"access_token":"t0ken"}"#, 300_000),
            (r#"{"access_token":"t0ken","expires_in":1e300}"#, u64::MAX),
        ] {
            let fetched = read(Issuer::Entra, &reply(200, body)).unwrap();
            assert_eq!(fetched.lifetime_ms, lifetime_ms, "{body}");
            assert!(matches!(fetched.token, Token::Bearer(token) if token.expose() == "t0ken"));
        }
        let huge = format!(r#"{{"access_token":"{}"}}"#, "a".repeat(MAX_TOKEN_BYTES + 1));
        let deep = format!(r#"{{"access_token":"t","x":{}"#, "[".repeat(60_000));
        for body in [
            "",
            "null",
            "[]",
            "<html>",
            "{}",
            &huge,
            &deep,
            r#"{"access_token":null}"#,
            r#"{"access_token":""}"#,
            r#"{"access_token":"a b"}"#,
            r#"{"access_token":"a\r\nx-evil: 1"}"#,
            r#"{"access_token":"a","access_token":"b"}"#,
            r#"{"access_token":"a","expires_in":0}"#,
            r#"{"access_token":"a","expires_in":-5}"#,
            r#"{"access_token":"a","expires_in":"soon"}"#,
            r#"{"access_token":"a","expires_in":[]}"#,
            r#"{"access_token":"a","token_type":"mac"}"#,
        ] {
            let error = read(Issuer::Entra, &reply(200, body)).unwrap_err();
            assert_eq!(error, CredentialError::Unreadable(Issuer::Entra), "{body:.80}");
        }
    }

    #[test]
    fn refusals_repeat_known_words_only() {
        for (body, wanted) in [
            (
                r#"{"error":"invalid_client","error_description":"AADSTS7000215: the-secret"}"#,
                Some("invalid_client"),
            ),
            (r#"{"error":"the-secret"}"#, None),
            (r#"{"error":{"code":401}}"#, None),
            ("the-secret", None),
            ("", None),
        ] {
            let error = read(Issuer::Google, &reply(401, body)).unwrap_err();
            assert_eq!(error, CredentialError::Refused { issuer: Issuer::Google, status: 401, code: wanted });
            let told = format!("{error:?} {}", error.message("main"));
            assert!(!told.contains("the-secret") && told.contains("'main'"), "{told}");
        }
        assert!(read(Issuer::Google, &reply(302, r#"{"access_token":"t"}"#)).is_err());
        assert!(read(Issuer::Google, &reply(204, "")).is_err());
    }
}

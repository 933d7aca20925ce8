//! AWS STS: a role is assumed through the query API; its answer is XML, of which four elements are read.

use zeroize::Zeroizing;

use super::cache::{Fetched, Token};
use super::issuer::{CredentialError, Desk, Issuer, Question};
use super::oauth::form;
use super::sigv4::{self, Signer};
use crate::clock::UnixMillis;
use crate::domain::{AwsAccessKey, Endpoint};
use crate::secret::Secret;

const CONTENT_TYPE: &str = "application/x-www-form-urlencoded";
/// What every role allows.
const DURATION_SECONDS: &str = "3600";
/// Bytes of one element.
const MAX_ELEMENT_BYTES: usize = 16 * 1024;

/// Words of STS and of AWS's common errors. Others are not repeated.
const CODES: [&str; 14] = [
    "AccessDenied",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "MalformedPolicyDocument",
    "MissingAuthenticationToken",
    "OptInRequired",
    "PackedPolicyTooLarge",
    "RegionDisabledException",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "Throttling",
    "ValidationError",
];

/// What is assumed.
#[derive(Clone, Copy, Debug)]
pub struct Role<'a> {
    /// Its ARN.
    pub arn: &'a str,
    /// What its trust policy asks for.
    pub external_id: Option<&'a str>,
    /// The STS endpoint that is asked is that of this region.
    pub region: &'a str,
}

/// The role's temporary keys.
pub(super) fn assume(
    desk: &Desk<'_>,
    role: &Role<'_>,
    source: &AwsAccessKey,
) -> Result<Fetched, CredentialError> {
    let configured = desk.upstreams.credentials.issuers.sts.as_ref();
    let endpoint = match configured {
        Some(endpoint) => endpoint.clone(),
        None => regional(role.region)?,
    };
    let session = session_name(desk.account.spec.name.as_str());
    let mut fields = vec![
        ("Action", "AssumeRole"),
        ("Version", "2011-06-15"),
        ("RoleArn", role.arn),
        ("RoleSessionName", &session),
        ("DurationSeconds", DURATION_SECONDS),
    ];
    fields.extend(role.external_id.map(|id| ("ExternalId", id)));
    let body = form(&fields);
    let signer = Signer { key: source, region: role.region, service: "sts", time: UnixMillis::now() };
    let path = if endpoint.path.is_empty() { "/" } else { "" };
    let signed_path = format!("{}{path}", endpoint.path);
    let added = sigv4::sign(
        &signer,
        &sigv4::Request {
            method: "POST",
            path: &signed_path,
            query: "",
            headers: &[("host", &endpoint.authority), ("content-type", CONTENT_TYPE)],
            body: &[body.as_bytes()],
        },
    );
    let mut headers = vec![("content-type", CONTENT_TYPE)];
    headers.extend(added.iter().map(|(name, value)| (*name, value.expose())));
    let question = Question {
        issuer: Issuer::Sts,
        endpoint: &endpoint,
        local_allowed: configured.is_some(),
        method: "POST",
        path,
        headers: &headers,
        body: &body,
    };
    let reply = desk.ask(&question)?;
    let text = reply.text(Issuer::Sts)?;
    if reply.status != 200 {
        return Err(CredentialError::Refused { issuer: Issuer::Sts, status: reply.status, code: code(text) });
    }
    let (key, ends) = keys(text).ok_or(CredentialError::Unreadable(Issuer::Sts))?;
    let lifetime_ms = reply.lifetime_ms(ends);
    if lifetime_ms == 0 {
        return Err(CredentialError::Unreadable(Issuer::Sts));
    }
    Ok(Fetched { token: Token::Aws(key), lifetime_ms })
}

/// The endpoint of a region. Regions of China have a domain of their own.
fn regional(region: &str) -> Result<Endpoint, CredentialError> {
    let is_region = (1..=32).contains(&region.len())
        && region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !is_region {
        return Err(CredentialError::Unusable("the account's region is not one"));
    }
    let end = if region.starts_with("cn-") { ".cn" } else { "" };
    Endpoint::parse(&format!("https://sts.{region}.amazonaws.com{end}"))
        .map_err(|_| CredentialError::Unusable("the account's region is not one"))
}

/// It stands in CloudTrail: 2 to 64 of `A-Z a-z 0-9 _ = , . @ -`.
fn session_name(account: &str) -> String {
    let is_taken = |c: &char| c.is_ascii_alphanumeric() || "_=,.@-".contains(*c);
    "gateway-".chars().chain(account.chars().filter(is_taken)).take(64).collect()
}

fn keys(xml: &str) -> Option<(AwsAccessKey, UnixMillis)> {
    let credentials = inner(xml, "Credentials")?;
    let graphic = |name: &str| {
        element(credentials, name).filter(|text| {
            !text.is_empty() && text.len() <= MAX_ELEMENT_BYTES && text.bytes().all(|b| b.is_ascii_graphic())
        })
    };
    let key = AwsAccessKey {
        access_key_id: graphic("AccessKeyId")?.to_string(),
        secret_access_key: Secret::new(graphic("SecretAccessKey")?.to_string()),
        session_token: Some(Secret::new(graphic("SessionToken")?.to_string())),
    };
    Some((key, UnixMillis::parse(graphic("Expiration")?.as_str()).ok()?))
}

fn code(xml: &str) -> Option<&'static str> {
    let word = element(inner(xml, "Error")?, "Code")?;
    CODES.into_iter().find(|known| *known == word.as_str())
}

/// What stands between the only start and the only end of an element. STS writes no attributes on these; one that
/// stands twice, or inside itself, is none.
fn inner<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = xml.split_once(&format!("<{name}>"))?;
    let end = format!("</{name}>");
    let (text, rest) = after.split_once(&end)?;
    let is_only = !text.contains(&format!("<{name}>")) && !rest.contains(&format!("<{name}>"));
    is_only.then_some(text)
}

/// An element's text, its entities resolved.
fn element(xml: &str, name: &str) -> Option<Zeroizing<String>> {
    let raw = inner(xml, name)?.trim_ascii();
    if raw.contains('<') {
        return None;
    }
    let mut text = Zeroizing::new(String::with_capacity(raw.len()));
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once('&') {
        text.push_str(before);
        let (entity, after) = after.split_once(';')?;
        text.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => return None,
        });
        rest = after;
    }
    text.push_str(rest);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub const ANSWER: &str = r#"<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleResult>
    <AssumedRoleUser><AssumedRoleId>AROA:gateway-a</AssumedRoleId><Arn>arn:aws:sts::1:assumed-role/r/s</Arn></AssumedRoleUser>
    <Credentials>
      <AccessKeyId>ASIAEXAMPLE</AccessKeyId>
      <SecretAccessKey>sec/ret+&amp;key</SecretAccessKey>
      <SessionToken>token==</SessionToken>
      <Expiration>2026-11-24T14:00:00Z</Expiration>
    </Credentials>
  </AssumeRoleResult>
</AssumeRoleResponse>"#;

    #[test]
    fn an_answer() {
        let (key, ends) = keys(ANSWER).unwrap();
        assert_eq!(key.access_key_id, "ASIAEXAMPLE");
        assert_eq!(key.secret_access_key.expose(), "sec/ret+&key");
        assert_eq!(key.session_token.unwrap().expose(), "token==");
        assert_eq!(ends.to_iso(), "2026-11-24T14:00:00.000Z");
    }

    #[test]
    fn answers_that_are_none() {
        for (from, to) in [
            ("<Credentials>", "<Credential>"),
            ("</Credentials>", ""),
            ("ASIAEXAMPLE", ""),
            ("ASIAEXAMPLE", "<x>A</x>"),
            ("ASIAEXAMPLE", "A\r\nB"),
            ("ASIAEXAMPLE", "A</AccessKeyId><AccessKeyId>B"),
            ("ASIAEXAMPLE", "<AccessKeyId>"),
            ("&amp;", "&evil;"),
            ("&amp;", "&"),
            ("&amp;", "\u{e9}"),
            ("SessionToken", "Session"),
            ("2026-11-24T14:00:00Z", "soon"),
            ("2026-11-24T14:00:00Z", "2026-11-24T14:00:00"),
        ] {
            let changed = ANSWER.replace(from, to);
            assert_ne!(changed, ANSWER);
            assert!(keys(&changed).is_none(), "{from} {to}");
        }
        for text in ["", "<", "<Credentials>", &"<Credentials>".repeat(1000), "{}"] {
            assert!(keys(text).is_none());
        }
        for end in 0..ANSWER.find("</Credentials>").unwrap() {
            assert!(keys(&ANSWER[..end]).is_none(), "{end}");
        }
    }

    #[test]
    fn refusals() {
        let refusal = |code: &str| {
            format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>the-secret</Message></Error></ErrorResponse>"
            )
        };
        assert_eq!(code(&refusal("AccessDenied")), Some("AccessDenied"));
        assert_eq!(code(&refusal("the-secret")), None);
        assert_eq!(code(""), None);
        assert_eq!(code("<Code>AccessDenied</Code>"), None);
    }

    #[test]
    fn regions_and_sessions() {
        assert_eq!(regional("eu-west-1").unwrap().host, "sts.eu-west-1.amazonaws.com");
        assert_eq!(regional("cn-north-1").unwrap().host, "sts.cn-north-1.amazonaws.com.cn");
        for bad in ["", "evil.com/", "EU", "a b", "a\r\n", "a@b", &"a".repeat(33)] {
            assert!(regional(bad).is_err(), "{bad}");
        }
        assert_eq!(session_name("main"), "gateway-main");
        assert_eq!(session_name(&"a".repeat(100)).len(), 64);
        assert_eq!(session_name("a/b c"), "gateway-abc");
    }
}

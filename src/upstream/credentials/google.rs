//! Google service accounts: a JWT signed with the key of the key file (RFC 7523), changed for an access token.

use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::Value;

use super::base64;
use super::cache::Fetched;
use super::issuer::{CredentialError, Desk, Issuer, is_loopback};
use super::oauth::{fetch, form};
use crate::clock::UnixMillis;
use crate::domain::Endpoint;
use crate::secret::Secret;

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Google takes an hour at most.
const JWT_LIFETIME_SECONDS: u64 = 3600;
/// Bytes; real ones have about 2400.
const MAX_KEY_FILE_BYTES: usize = 32 * 1024;
const MAX_FIELD_BYTES: usize = 2048;

/// The fields of a key file that matter. Others are not looked at.
#[derive(Debug, Deserialize)]
pub struct KeyFile {
    #[serde(rename = "type")]
    kind: Option<String>,
    client_email: String,
    private_key: Secret,
    private_key_id: Option<String>,
    #[serde(default = "public_token_uri")]
    token_uri: String,
}

fn public_token_uri() -> String {
    "https://oauth2.googleapis.com/token".to_owned()
}

impl KeyFile {
    /// Reads the file's text.
    ///
    /// # Errors
    /// What is wrong with it, without a word of it.
    pub fn parse(text: &Secret) -> Result<Self, CredentialError> {
        if text.expose().len() > MAX_KEY_FILE_BYTES {
            return Err(CredentialError::Unusable("the key file is too long"));
        }
        let file: Self = serde_json::from_str(text.expose()).map_err(|_| {
            CredentialError::Unusable("the key file is not JSON with client_email, private_key and token_uri")
        })?;
        if file.kind.as_deref().is_some_and(|kind| kind != "service_account") {
            return Err(CredentialError::Unusable("the key file is not one of a service account"));
        }
        let fields = [&file.client_email, &file.token_uri];
        if fields.iter().any(|field| field.is_empty() || field.len() > MAX_FIELD_BYTES) {
            return Err(CredentialError::Unusable("the key file has an empty or an overlong field"));
        }
        Ok(file)
    }

    /// Where the token comes from: https, or loopback where an admin chose the account's destination.
    fn endpoint(&self, local_allowed: bool) -> Result<Endpoint, CredentialError> {
        Endpoint::parse(&self.token_uri)
            .ok()
            .filter(|endpoint| endpoint.https || (local_allowed && is_loopback(&endpoint.host)))
            .ok_or(CredentialError::Unusable("token_uri in the key file is not an https URL"))
    }

    fn jwt(&self, now: UnixMillis) -> Result<Secret, CredentialError> {
        let text = |text: &str| Value::from(text).to_string();
        let key_id = self.private_key_id.as_deref().map(|id| format!(r#","kid":{}"#, text(id)));
        let header = format!(r#"{{"alg":"RS256","typ":"JWT"{}}}"#, key_id.unwrap_or_default());
        let issued = now.0 / 1000;
        let claims = format!(
            r#"{{"iss":{},"scope":{},"aud":{},"iat":{issued},"exp":{}}}"#,
            text(&self.client_email),
            text(SCOPE),
            text(&self.token_uri),
            issued.saturating_add(JWT_LIFETIME_SECONDS)
        );
        signed_jwt(&header, &claims, &self.private_key)
    }
}

/// RS256 over header and claims as they are.
fn signed_jwt(header: &str, claims: &str, private_key: &Secret) -> Result<Secret, CredentialError> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(private_key.expose().as_bytes())
        .map_err(|_| CredentialError::Unusable("private_key in the key file is not a PKCS #8 key in PEM"))?;
    let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| {
        CredentialError::Unusable("private_key in the key file is not an RSA key of 2048 to 4096 bits")
    })?;
    let text = format!("{}.{}", base64::url(header.as_bytes()), base64::url(claims.as_bytes()));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
        .map_err(|_| CredentialError::Unusable("private_key in the key file does not sign"))?;
    Ok(Secret::new(format!("{text}.{}", base64::url(&signature))))
}

/// An access token for the service account.
pub(super) fn token(desk: &Desk<'_>, key_file: &Secret) -> Result<Fetched, CredentialError> {
    let file = KeyFile::parse(key_file)?;
    let local_allowed = desk.account.spec.destination_by_admin;
    let endpoint = file.endpoint(local_allowed)?;
    let jwt = file.jwt(UnixMillis::now())?;
    let body = form(&[("grant_type", GRANT_TYPE), ("assertion", jwt.expose())]);
    fetch(desk, Issuer::Google, &endpoint, local_allowed, "", &body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::credentials::tests::{service_account_file, vectors};

    fn key_file(change: impl FnOnce(&mut Value)) -> Option<Result<KeyFile, CredentialError>> {
        let mut file: Value =
            serde_json::from_str(&service_account_file("https://oauth2.googleapis.com/token")?).unwrap();
        change(&mut file);
        Some(KeyFile::parse(&Secret::new(file.to_string())))
    }

    #[test]
    fn the_jwt_and_the_form_are_exactly_these() {
        let Some(vector) = vectors("oauth/service_account_jwt.json") else { return };
        let file = key_file(|_| {}).unwrap().unwrap();
        let cases = vector["cases"].as_array().unwrap();
        assert!(cases.len() > 1);
        for case in cases {
            let text = |field: &str| case[field].as_str().unwrap();
            let jwt = signed_jwt(text("header_json"), text("claims_json"), &file.private_key).unwrap();
            assert_eq!(jwt.expose(), text("jwt"));
        }
        // The first is what the gateway itself sends.
        let claims: Value = serde_json::from_str(cases[0]["claims_json"].as_str().unwrap()).unwrap();
        let now = UnixMillis(claims["iat"].as_u64().unwrap() * 1000 + 999);
        let jwt = file.jwt(now).unwrap();
        assert_eq!(jwt.expose(), cases[0]["jwt"].as_str().unwrap());
        let body = form(&[("grant_type", GRANT_TYPE), ("assertion", jwt.expose())]);
        assert_eq!(body.as_str(), cases[0]["token_request"]["body"].as_str().unwrap());
        let printed = format!("{file:?}");
        assert!(!printed.contains("PRIVATE") && printed.contains("***"), "{printed}");
    }

    #[test]
    fn key_files_that_can_not_be_used() {
        for text in ["", "{}", "[]", "null", "{\"client_email\":1}", &"[".repeat(30_000), &" ".repeat(40_000)]
        {
            assert!(KeyFile::parse(&Secret::new(text.to_owned())).is_err(), "{text:.40}");
        }
        let Some(good) = key_file(|_| {}) else { return };
        assert!(good.unwrap().jwt(UnixMillis(0)).is_ok());
        for (field, value) in [
            ("type", "authorized_user".into()),
            ("client_email", "".into()),
            ("client_email", "x".repeat(3000).into()),
            ("client_email", Value::Null),
            ("private_key", 7.into()),
            ("token_uri", "".into()),
        ] {
            assert!(key_file(|file| file[field] = value.clone()).unwrap().is_err(), "{field} {value:.40}");
        }
        let pem =
            |label: &str, base64: &str| format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n");
        for key in [
            String::new(),
            "MIIE".to_owned(),
            pem("PRIVATE KEY", ""),
            pem("PRIVATE KEY", "AAAA"),
            pem("PRIVATE KEY", "!!!!"),
            pem("CERTIFICATE", "AAAA"),
            // PKCS #8 of an Ed25519 key (RFC 8410).
            pem("PRIVATE KEY", "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC"),
        ] {
            let file = key_file(|file| file["private_key"] = key.clone().into()).unwrap().unwrap();
            assert!(file.jwt(UnixMillis(0)).is_err(), "{key}");
        }
    }

    #[test]
    fn token_uris() {
        for (uri, by_admin, allowed) in [
            ("https://oauth2.googleapis.com/token", false, true),
            ("http://127.0.0.1:9/token", true, true),
            ("http://[::1]:9/token", true, true),
            ("http://127.0.0.1:9/token", false, false),
            ("http://oauth2.googleapis.com/token", true, false),
            ("http://169.254.169.254/token", true, false),
            ("file:///etc/passwd", true, false),
            ("https://u:p@h/", true, false),
            ("https://h/?x\r\ny", true, false),
        ] {
            let Some(file) = key_file(|file| file["token_uri"] = uri.into()) else { return };
            assert_eq!(file.unwrap().endpoint(by_admin).is_ok(), allowed, "{uri} {by_admin}");
        }
    }
}

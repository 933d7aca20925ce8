//! What a provider says of itself. OpenID Connect Discovery 1.0, sections 3 and 4.

use serde::Deserialize;

use super::OidcError;
use crate::domain::Endpoint;

/// The longest URL that is taken, in bytes.
const MAX_URL_BYTES: usize = 2048;

/// A provider whose metadata was read and fits the configured issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// As configured, and as every token must say it.
    pub issuer: String,
    /// Where people are sent; may have a query.
    pub authorization_url: String,
    /// Where codes are exchanged, and the query there.
    pub token: (Endpoint, String),
    /// Where its keys are, likewise.
    pub keys: (Endpoint, String),
    /// Where people are sent to end their session there too.
    pub end_session_url: Option<String>,
    /// How the gateway shows its secret.
    pub client_authentication: ClientAuthentication,
    /// It says who answers in every answer, so an answer without is refused. RFC 9207.
    pub names_itself: bool,
}

/// How a client shows its secret at the token endpoint. RFC 6749, section 2.3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuthentication {
    /// In the `authorization` header.
    Basic,
    /// In the form.
    Post,
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    end_session_endpoint: Option<String>,
    response_types_supported: Option<Vec<String>>,
    code_challenge_methods_supported: Option<Vec<String>>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl Provider {
    /// The path of the document behind the issuer's own path.
    pub const DOCUMENT: &str = "/.well-known/openid-configuration";

    /// Reads the document that was found at the issuer's address.
    ///
    /// # Errors
    /// When it is of another issuer, or can not do what is needed: the code flow, PKCE with S256 where it says what it
    /// can do, and TLS everywhere where the issuer has it.
    pub fn parse(document: &[u8], issuer: &str) -> Result<Self, OidcError> {
        let metadata: Metadata = serde_json::from_slice(document)
            .map_err(|_| OidcError::Metadata("are not those of an OpenID provider"))?;
        // Exactly: it is compared with what tokens say, and a mix-up of two tenants must show.
        if metadata.issuer != issuer {
            return Err(OidcError::Metadata("name another issuer than the configured one"));
        }
        let lacks = |list: &Option<Vec<String>>, value: &str| {
            list.as_ref().is_some_and(|list| !list.iter().any(|entry| entry == value))
        };
        if lacks(&metadata.response_types_supported, "code") {
            return Err(OidcError::Metadata("do not offer the code flow"));
        }
        if lacks(&metadata.code_challenge_methods_supported, "S256") {
            return Err(OidcError::Metadata("do not offer PKCE with S256"));
        }
        let methods = &metadata.token_endpoint_auth_methods_supported;
        let client_authentication = if lacks(methods, "client_secret_basic") {
            if lacks(methods, "client_secret_post") && lacks(methods, "none") {
                return Err(OidcError::Metadata("offer neither client_secret_basic nor client_secret_post"));
            }
            ClientAuthentication::Post
        } else {
            ClientAuthentication::Basic
        };
        let needs_tls = issuer.starts_with("https://");
        Ok(Self {
            issuer: metadata.issuer,
            authorization_url: browsed(metadata.authorization_endpoint, needs_tls)?,
            token: dialled(&metadata.token_endpoint, needs_tls)?,
            keys: dialled(&metadata.jwks_uri, needs_tls)?,
            end_session_url: metadata.end_session_endpoint.map(|url| browsed(url, needs_tls)).transpose()?,
            client_authentication,
            names_itself: metadata.authorization_response_iss_parameter_supported,
        })
    }
}

/// A URL that a browser is sent to.
fn browsed(url: String, needs_tls: bool) -> Result<String, OidcError> {
    let is_web = url.starts_with("https://") || (!needs_tls && url.starts_with("http://"));
    let is_plain =
        url.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\'));
    if is_web && is_plain && url.len() <= MAX_URL_BYTES && !url.contains('#') {
        Ok(url)
    } else {
        Err(OidcError::Metadata("hold a URL that can not be used"))
    }
}

/// A URL that the gateway itself dials.
fn dialled(url: &str, needs_tls: bool) -> Result<(Endpoint, String), OidcError> {
    let unusable = OidcError::Metadata("hold a URL that can not be used");
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let endpoint = Endpoint::parse(address).map_err(|_| unusable)?;
    let is_query =
        query.len() <= MAX_URL_BYTES && query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if (needs_tls && !endpoint.https) || !is_query {
        return Err(unusable);
    }
    Ok((endpoint, query.to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn document() -> Value {
        json!({
            "issuer": "https://sso.example/realms/main",
            "authorization_endpoint": "https://sso.example/realms/main/auth?kc=1",
            "token_endpoint": "https://sso.example/realms/main/token?p=policy",
            "jwks_uri": "https://sso.example/realms/main/certs",
            "end_session_endpoint": "https://sso.example/realms/main/logout",
            "response_types_supported": ["code", "id_token"],
            "code_challenge_methods_supported": ["plain", "S256"],
            "unknown": {"a": 1},
        })
    }

    fn parse(document: &Value) -> Result<Provider, OidcError> {
        Provider::parse(document.to_string().as_bytes(), "https://sso.example/realms/main")
    }

    #[test]
    fn what_a_provider_says_of_itself() {
        let provider = parse(&document()).unwrap();
        assert_eq!(provider.authorization_url, "https://sso.example/realms/main/auth?kc=1");
        assert_eq!(provider.token.0.path, "/realms/main/token");
        assert_eq!(provider.token.1, "p=policy");
        assert_eq!(provider.client_authentication, ClientAuthentication::Basic);
        assert!(!provider.names_itself);
        let mut posts = document();
        posts["token_endpoint_auth_methods_supported"] = json!(["private_key_jwt", "client_secret_post"]);
        assert_eq!(parse(&posts).unwrap().client_authentication, ClientAuthentication::Post);
    }

    #[test]
    fn what_is_refused() {
        for (field, value) in [
            ("issuer", json!("https://sso.example/realms/other")),
            ("issuer", json!("https://sso.example/realms/main/")),
            ("issuer", json!(null)),
            ("authorization_endpoint", json!("http://sso.example/auth")),
            ("authorization_endpoint", json!("javascript:alert(1)")),
            ("authorization_endpoint", json!("https://sso.example/\" onclick=\"x")),
            ("authorization_endpoint", json!("https://sso.example/a\r\nset-cookie: x=1")),
            ("authorization_endpoint", json!("https://sso.example/auth#fragment")),
            ("authorization_endpoint", json!(format!("https://sso.example/{}", "a".repeat(3000)))),
            ("token_endpoint", json!("http://sso.example/token")),
            ("token_endpoint", json!("https://user:password@sso.example/token")),
            ("token_endpoint", json!("file:///etc/passwd")),
            ("jwks_uri", json!("http://169.254.169.254/latest")),
            ("jwks_uri", json!(7)),
            ("end_session_endpoint", json!("data:text/html,x")),
            ("response_types_supported", json!(["id_token"])),
            ("code_challenge_methods_supported", json!(["plain"])),
            ("code_challenge_methods_supported", json!([])),
            ("token_endpoint_auth_methods_supported", json!(["tls_client_auth"])),
        ] {
            let mut document = document();
            document[field] = value.clone();
            assert!(matches!(parse(&document), Err(OidcError::Metadata(_))), "{field} {value}");
        }
        for document in ["", "[]", "{}", "null", "<html>", "{\"issuer\":"] {
            assert!(Provider::parse(document.as_bytes(), "https://sso.example").is_err(), "{document}");
        }
    }

    #[test]
    fn a_provider_without_tls_on_this_network_is_possible() {
        let text = document().to_string().replace("https://", "http://");
        assert!(Provider::parse(text.as_bytes(), "http://sso.example/realms/main").is_ok());
    }
}

//! The way of one person to the provider and back. RFC 6749 section 4.1 with RFC 7636, and OpenID Connect Core 3.1.2.

use ring::digest;
use serde::Deserialize;
use subtle::ConstantTimeEq;

use super::{ClientAuthentication, OidcError, Provider};
use crate::secret::Secret;

/// The longest code that is taken, in bytes.
const MAX_CODE_BYTES: usize = 4096;

/// What the gateway remembers while the person is away. It belongs to one browser and works once.
#[derive(Clone, Debug)]
pub struct SignIn {
    state: Secret,
    nonce: Secret,
    verifier: Secret,
}

/// What is sent to the token endpoint.
#[derive(Debug)]
pub struct TokenRequest {
    /// The form.
    pub body: Secret,
    /// The value of the `authorization` header, where the provider wants it there.
    pub authorization: Option<Secret>,
}

impl SignIn {
    /// A new one, of three times 256 random bits.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn begin() -> Result<Self, getrandom::Error> {
        let random = || {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes)?;
            Ok(Secret::new(base64_url(&bytes)))
        };
        Ok(Self { state: random()?, nonce: random()?, verifier: random()? })
    }

    /// What the browser has to bring back, and the token has to hold.
    pub fn nonce(&self) -> &Secret {
        &self.nonce
    }

    /// Where the person is sent.
    pub fn url(&self, provider: &Provider, client_id: &str, redirect_uri: &str, scopes: &str) -> String {
        let challenge =
            base64_url(digest::digest(&digest::SHA256, self.verifier.expose().as_bytes()).as_ref());
        let mut url = provider.authorization_url.clone();
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(&form(&[
            ("response_type", "code"),
            ("client_id", client_id),
            ("redirect_uri", redirect_uri),
            ("scope", scopes),
            ("state", self.state.expose()),
            ("nonce", self.nonce.expose()),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]));
        url
    }

    /// Whether an answer is to this question, and of this provider: `state` and `iss` as they came.
    pub fn is_answered_by(&self, provider: &Provider, state: &str, issuer: Option<&str>) -> bool {
        let is_issuer = match issuer {
            Some(issuer) => issuer == provider.issuer,
            None => !provider.names_itself,
        };
        is_issuer && bool::from(self.state.expose().as_bytes().ct_eq(state.as_bytes()))
    }

    /// The exchange of a code.
    ///
    /// # Errors
    /// When the code is none.
    pub fn token_request(
        &self,
        provider: &Provider,
        client_id: &str,
        client_secret: Option<&Secret>,
        redirect_uri: &str,
        code: &str,
    ) -> Result<TokenRequest, OidcError> {
        if code.is_empty() || code.len() > MAX_CODE_BYTES {
            return Err(OidcError::NoToken);
        }
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", self.verifier.expose()),
        ];
        let authorization = match (client_secret, provider.client_authentication) {
            (Some(secret), ClientAuthentication::Basic) => {
                // RFC 6749, section 2.3.1: both are form-encoded before they are joined.
                let pair = Secret::new(format!("{}:{}", escaped(client_id), escaped(secret.expose())));
                Some(Secret::new(format!("Basic {}", base64_standard(pair.expose().as_bytes()))))
            }
            (Some(secret), ClientAuthentication::Post) => {
                fields.push(("client_id", client_id));
                fields.push(("client_secret", secret.expose()));
                None
            }
            (None, _) => {
                fields.push(("client_id", client_id));
                None
            }
        };
        Ok(TokenRequest { body: Secret::new(form(&fields)), authorization })
    }
}

/// The identity token in an answer of the token endpoint. Its access token is not wanted.
///
/// # Errors
/// When there is none.
pub fn id_token_of(answer: &[u8]) -> Result<Secret, OidcError> {
    #[derive(Deserialize)]
    struct Answer {
        id_token: Secret,
    }
    serde_json::from_slice::<Answer>(answer).map(|answer| answer.id_token).map_err(|_| OidcError::NoToken)
}

fn base64_url(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

fn base64_standard(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn form(fields: &[(&str, &str)]) -> String {
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    fields.join("&")
}

/// Everything but the unreserved characters of RFC 3986.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider() -> Provider {
        let document = r#"{"issuer": "https://sso.example", "authorization_endpoint": "https://sso.example/auth?kc=1",
            "token_endpoint": "https://sso.example/token", "jwks_uri": "https://sso.example/certs"}"#;
        Provider::parse(document.as_bytes(), "https://sso.example").unwrap()
    }

    #[test]
    fn the_way_there() {
        let sign_in = SignIn::begin().unwrap();
        let url = sign_in.url(&provider(), "gate way&x=1", "https://gw.example/sign-in/oidc", "openid email");
        assert!(url.starts_with("https://sso.example/auth?kc=1&response_type=code&client_id=gate%20way%26x%3D1&redirect_uri=https%3A%2F%2Fgw.example%2Fsign-in%2Foidc&scope=openid%20email&state="), "{url}");
        assert!(url.ends_with("&code_challenge_method=S256"));
        assert!(!url.contains(sign_in.verifier.expose()), "the verifier stays here");
        let other = SignIn::begin().unwrap();
        assert_ne!(sign_in.state.expose(), other.state.expose());
        assert_eq!(sign_in.nonce().expose().len(), 43);
        assert!(!format!("{sign_in:?}").contains(sign_in.state.expose()));
    }

    #[test]
    fn the_challenge_is_that_of_rfc_7636() {
        let secret = |text: &str| Secret::new(text.to_owned());
        let verifier = secret("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        let sign_in = SignIn { state: secret("s"), nonce: secret("n"), verifier };
        let url = sign_in.url(&provider(), "c", "r", "openid");
        assert!(url.contains("code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&"), "{url}");
    }

    #[test]
    fn an_answer_belongs_to_its_question() {
        let sign_in = SignIn::begin().unwrap();
        let state = sign_in.state.expose().to_owned();
        assert!(sign_in.is_answered_by(&provider(), &state, None));
        assert!(sign_in.is_answered_by(&provider(), &state, Some("https://sso.example")));
        assert!(!sign_in.is_answered_by(&provider(), &state, Some("https://other.example")));
        for wrong in ["", "x", &state[1..], &format!("{state}x")] {
            assert!(!sign_in.is_answered_by(&provider(), wrong, None), "{wrong}");
        }
        let names_itself = Provider { names_itself: true, ..provider() };
        assert!(!sign_in.is_answered_by(&names_itself, &state, None));
    }

    #[test]
    fn the_exchange_of_a_code() {
        let sign_in = SignIn::begin().unwrap();
        let secret = Secret::new("s:e+c ret".to_owned());
        let basic = sign_in.token_request(&provider(), "id", Some(&secret), "https://gw/x", "a&b=c").unwrap();
        // base64 of "id:s%3Ae%2Bc%20ret"
        assert_eq!(basic.authorization.unwrap().expose(), "Basic aWQ6cyUzQWUlMkJjJTIwcmV0");
        let body = basic.body.expose();
        assert!(body.starts_with(
            "grant_type=authorization_code&code=a%26b%3Dc&redirect_uri=https%3A%2F%2Fgw%2Fx&code_verifier="
        ));
        assert!(!body.contains("client_secret"));
        let posts = Provider { client_authentication: ClientAuthentication::Post, ..provider() };
        let post = sign_in.token_request(&posts, "id", Some(&secret), "r", "c").unwrap();
        assert!(
            post.authorization.is_none() && post.body.expose().contains("&client_secret=s%3Ae%2Bc%20ret")
        );
        let public = sign_in.token_request(&provider(), "id", None, "r", "c").unwrap();
        assert!(public.authorization.is_none() && public.body.expose().ends_with("&client_id=id"));
        for code in ["", &"x".repeat(5000)] {
            assert!(sign_in.token_request(&provider(), "id", None, "r", code).is_err());
        }
    }

    #[test]
    fn the_token_in_an_answer() {
        let answer = br#"{"access_token": "a", "token_type": "Bearer", "id_token": "x.y.z"}"#;
        assert_eq!(id_token_of(answer).unwrap().expose(), "x.y.z");
        for wrong in ["", "{}", "[]", r#"{"id_token": null}"#, r#"{"error": "invalid_grant"}"#] {
            assert_eq!(id_token_of(wrong.as_bytes()).unwrap_err(), OidcError::NoToken);
        }
    }
}

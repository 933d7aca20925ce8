//! OpenID Connect, as one relying party with one provider: what is asked, and what is believed of the answers.
//!
//! Nothing here dials. `discovery` reads what the provider says of itself, `sign_in` makes the way of one person there
//! and back (authorization code with PKCE), and `id_token` decides whether an answer is what it claims to be.
//!
//! Sources: OpenID Connect Core 1.0 (3.1), Discovery 1.0 (4), RFC 6749, RFC 7636, RFC 9207, RFC 8725.

mod discovery;
mod id_token;
mod sign_in;

pub use discovery::{ClientAuthentication, Provider};
pub use id_token::{Expected, Identity, Keys};
pub use sign_in::{SignIn, TokenRequest, id_token_of};

/// Why somebody was not signed in. Holds nothing that a provider or a caller sent but for names of algorithms and claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OidcError {
    /// The discovery document is unusable: the end of a sentence that starts with "the provider's metadata".
    Metadata(&'static str),
    /// The set of keys can not be read, or holds none that is understood.
    Keys,
    /// The token names a key that is not in the set; it may be a new one.
    UnknownKey,
    /// The answer of the token endpoint holds no identity token.
    NoToken,
    /// The identity token is not one.
    Malformed,
    /// Its algorithm is none that is accepted.
    Algorithm,
    /// Its signature is not the provider's.
    Signature,
    /// A claim is missing or is not what it must be.
    Claim(&'static str),
    /// The provider says that the address of the person is not verified.
    EmailNotVerified,
}

impl OidcError {
    /// What is wrong and what to check, for the log and the administrator.
    pub fn message(self) -> String {
        match self {
            Self::Metadata(what) => {
                format!("the provider's metadata {what}; check [oidc] issuer")
            }
            Self::Keys => "the provider's keys (jwks_uri) can not be read; RSA of 2048 bits and more, P-256 and Ed25519 are understood".to_owned(),
            Self::UnknownKey => "the identity token is signed with a key that the provider does not publish".to_owned(),
            Self::NoToken => "the provider's token endpoint gave no identity token; check that the scope 'openid' is allowed".to_owned(),
            Self::Malformed => "the identity token can not be read".to_owned(),
            Self::Algorithm => "the identity token is not signed with RS256, PS256, ES256 or EdDSA; set one of them for this client at the provider".to_owned(),
            Self::Signature => "the signature of the identity token is wrong".to_owned(),
            Self::Claim(name) => format!(
                "the claim '{name}' of the identity token is missing or not what it must be; check [oidc], the client at the provider and the clocks of both hosts"
            ),
            Self::EmailNotVerified => "the provider says that the person's address is not verified".to_owned(),
        }
    }
}

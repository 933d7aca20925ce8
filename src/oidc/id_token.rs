//! Whether an identity token is what it claims to be. OpenID Connect Core 1.0 section 3.1.3.7, RFC 7515, 7517, 8725.
//!
//! On `ring`, which TLS brings anyway. `jsonwebtoken` was looked at: since version 10 it brings another implementation
//! of RSA and of the curves.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::Value;
use subtle::ConstantTimeEq;

use super::OidcError;
use crate::clock::UnixMillis;
use crate::secret::Secret;

/// The longest token, in bytes. Those of people in hundreds of groups have some ten thousand.
const MAX_TOKEN_BYTES: usize = 64 * 1024;
/// Keys of one provider; the rest of a longer list is not looked at.
const MAX_KEYS: usize = 64;
/// Groups of one person; somebody with more is refused, since which ones would be lost is not known.
const MAX_GROUPS: usize = 1000;
/// The longest name of a group or of a person, in bytes.
const MAX_NAME_BYTES: usize = 256;
/// How far the two clocks may be apart.
const LEEWAY_SECONDS: u64 = 60;
/// The oldest token that is taken: it was made for this sign-in, moments ago.
const MAX_AGE_SECONDS: u64 = 600;

/// The public keys of a provider.
#[derive(Debug, Default)]
pub struct Keys(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// When the set says it.
    algorithm: Option<String>,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// Uncompressed point.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Deserialize)]
struct JsonKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// What a token has to say.
#[derive(Debug)]
pub struct Expected<'a> {
    /// Who made it.
    pub issuer: &'a str,
    /// For whom it was made.
    pub client_id: &'a str,
    /// What the sign-in sent along.
    pub nonce: &'a Secret,
    /// The time.
    pub now: UnixMillis,
    /// The claim that holds the person's address, such as `email`.
    pub email_claim: &'a str,
    /// The claim that holds their groups, such as `groups`.
    pub groups_claim: &'a str,
}

/// Who somebody is, as the provider says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The address, as the provider writes it.
    pub email: String,
    /// The name, where it tells one.
    pub name: Option<String>,
    /// The groups; `None` when it says nothing of them.
    pub groups: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood: none is.
    crit: Option<Value>,
}

impl Keys {
    /// Reads a set. Keys that are not for signatures, or of kinds that are not understood, are passed over.
    ///
    /// # Errors
    /// When it is none, or nothing in it can be used.
    pub fn parse(document: &[u8]) -> Result<Self, OidcError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(document).map_err(|_| OidcError::Keys)?;
        let keys: Vec<_> = set
            .keys
            .into_iter()
            .take(MAX_KEYS)
            .filter_map(|key| Key::of(serde_json::from_value(key).ok()?))
            .collect();
        if keys.is_empty() { Err(OidcError::Keys) } else { Ok(Self(keys)) }
    }

    /// Checks a token of the answer to a sign-in, and says who it is about.
    ///
    /// # Errors
    /// What is wrong with it; [`OidcError::UnknownKey`] when a newer set of keys may help.
    pub fn verify(&self, token: &Secret, expected: &Expected<'_>) -> Result<Identity, OidcError> {
        let token = token.expose();
        if token.len() > MAX_TOKEN_BYTES {
            return Err(OidcError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(OidcError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(OidcError::Malformed)?;
        let header: Header = decoded_json(header)?;
        if header.crit.is_some() {
            return Err(OidcError::Malformed);
        }
        let signature = decoded(signature)?;
        self.check(&header, signed.as_bytes(), &signature)?;
        let claims: Value = decoded_json(claims)?;
        Claims { claims: &claims, expected }.identity()
    }

    fn check(&self, header: &Header, signed: &[u8], signature: &[u8]) -> Result<(), OidcError> {
        if !matches!(header.alg.as_str(), "RS256" | "PS256" | "ES256" | "EdDSA") {
            return Err(OidcError::Algorithm);
        }
        let mut found = false;
        for key in &self.0 {
            // The key decides what it is for, never the token alone: RFC 8725, section 3.1.
            let fits = key.algorithm.as_ref().is_none_or(|algorithm| *algorithm == header.alg)
                && key.material.fits(&header.alg)
                && (header.kid.is_none() || header.kid == key.id);
            if fits {
                found = true;
                if key.material.has_signed(&header.alg, signed, signature) {
                    return Ok(());
                }
            }
        }
        Err(if found { OidcError::Signature } else { OidcError::UnknownKey })
    }
}

impl Key {
    fn of(key: JsonKey) -> Option<Self> {
        if key.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let part = |text: &Option<String>| decoded(text.as_deref()?).ok();
        let material = match (key.kty.as_str(), key.crv.as_deref()) {
            ("RSA", _) => Material::Rsa { modulus: part(&key.n)?, exponent: part(&key.e)? },
            ("EC", Some("P-256")) => {
                let (x, y) = (part(&key.x)?, part(&key.y)?);
                if x.len() != 32 || y.len() != 32 {
                    return None;
                }
                Material::P256([&[4], x.as_slice(), &y].concat())
            }
            ("OKP", Some("Ed25519")) => Material::Ed25519(part(&key.x).filter(|x| x.len() == 32)?),
            _ => return None,
        };
        Some(Self { id: key.kid, algorithm: key.alg, material })
    }
}

impl Material {
    fn fits(&self, algorithm: &str) -> bool {
        match self {
            Self::Rsa { .. } => matches!(algorithm, "RS256" | "PS256"),
            Self::P256(_) => algorithm == "ES256",
            Self::Ed25519(_) => algorithm == "EdDSA",
        }
    }

    fn has_signed(&self, algorithm: &str, message: &[u8], by: &[u8]) -> bool {
        match self {
            Self::Rsa { modulus, exponent } => {
                let scheme = if algorithm == "PS256" {
                    &signature::RSA_PSS_2048_8192_SHA256
                } else {
                    &signature::RSA_PKCS1_2048_8192_SHA256
                };
                // `ring` wants the numbers without leading zeros, which some providers write.
                let (n, e) = (without_zeros(modulus), without_zeros(exponent));
                RsaPublicKeyComponents { n, e }.verify(scheme, message, by).is_ok()
            }
            Self::P256(point) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point).verify(message, by).is_ok()
            }
            Self::Ed25519(key) => {
                UnparsedPublicKey::new(&signature::ED25519, key).verify(message, by).is_ok()
            }
        }
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

fn decoded(text: &str) -> Result<Vec<u8>, OidcError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| OidcError::Malformed)
}

fn decoded_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, OidcError> {
    serde_json::from_slice(&decoded(text)?).map_err(|_| OidcError::Malformed)
}

struct Claims<'a> {
    claims: &'a Value,
    expected: &'a Expected<'a>,
}

impl Claims<'_> {
    fn text(&self, name: &'static str) -> Result<&str, OidcError> {
        self.claims.get(name).and_then(Value::as_str).ok_or(OidcError::Claim(name))
    }

    /// Whole seconds; some providers write a fraction.
    fn seconds(&self, name: &'static str) -> Result<u64, OidcError> {
        let value = self.claims.get(name).ok_or(OidcError::Claim(name))?;
        let fraction = || value.as_f64().filter(|time| (0.0..1e12).contains(time));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was looked at")]
        value.as_u64().or_else(|| fraction().map(|time| time as u64)).ok_or(OidcError::Claim(name))
    }

    fn identity(&self) -> Result<Identity, OidcError> {
        let expected = self.expected;
        if self.text("iss")? != expected.issuer {
            return Err(OidcError::Claim("iss"));
        }
        self.audience()?;
        self.time()?;
        if !bool::from(self.text("nonce")?.as_bytes().ct_eq(expected.nonce.expose().as_bytes())) {
            return Err(OidcError::Claim("nonce"));
        }
        let email = self.claims.get(expected.email_claim).and_then(Value::as_str);
        let email = email.filter(|email| (1..=MAX_NAME_BYTES).contains(&email.len()));
        let email = email.ok_or(OidcError::Claim("email"))?.to_owned();
        // Some providers write it as text.
        let is_verified = match self.claims.get("email_verified") {
            // Where people choose their address themselves, it is anybody's.
            None => false,
            Some(Value::Bool(verified)) => *verified,
            Some(Value::String(verified)) => verified == "true",
            Some(_) => false,
        };
        if !is_verified {
            return Err(OidcError::EmailNotVerified);
        }
        let name = self.claims.get("name").and_then(Value::as_str);
        let name = name.filter(|name| (1..=MAX_NAME_BYTES).contains(&name.len())).map(str::to_owned);
        Ok(Identity { email, name, groups: self.groups()? })
    }

    /// The token is for this client, and for it alone or authorized by name.
    fn audience(&self) -> Result<(), OidcError> {
        let own = |value: &Value| value.as_str() == Some(self.expected.client_id);
        let alone = match self.claims.get("aud") {
            Some(Value::Array(all)) => {
                if !all.iter().any(own) {
                    return Err(OidcError::Claim("aud"));
                }
                all.len() == 1
            }
            Some(one) if own(one) => true,
            _ => return Err(OidcError::Claim("aud")),
        };
        match self.claims.get("azp") {
            Some(party) if own(party) => Ok(()),
            None if alone => Ok(()),
            _ => Err(OidcError::Claim("azp")),
        }
    }

    fn time(&self) -> Result<(), OidcError> {
        let now = self.expected.now.0 / 1000;
        if self.seconds("exp")?.saturating_add(LEEWAY_SECONDS) <= now {
            return Err(OidcError::Claim("exp"));
        }
        let made = self.seconds("iat")?;
        let is_present = made <= now.saturating_add(LEEWAY_SECONDS)
            && made.saturating_add(MAX_AGE_SECONDS + LEEWAY_SECONDS) > now;
        if !is_present {
            return Err(OidcError::Claim("iat"));
        }
        match self.claims.get("nbf") {
            Some(_) if self.seconds("nbf")? > now.saturating_add(LEEWAY_SECONDS) => {
                Err(OidcError::Claim("nbf"))
            }
            _ => Ok(()),
        }
    }

    fn groups(&self) -> Result<Option<Vec<String>>, OidcError> {
        let wrong = OidcError::Claim("groups");
        let group = |value: &Value| match value.as_str() {
            Some(group) if (1..=MAX_NAME_BYTES).contains(&group.len()) => Ok(group.to_owned()),
            _ => Err(wrong),
        };
        match self.claims.get(self.expected.groups_claim) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(all)) if all.len() <= MAX_GROUPS => {
                all.iter().map(group).collect::<Result<_, _>>().map(Some)
            }
            Some(Value::Array(_)) => Err(wrong),
            Some(one) => Ok(Some(vec![group(one)?])),
        }
    }
}

#[cfg(test)]
mod tests;

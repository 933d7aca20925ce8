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
            None => true,
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
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    struct Signer {
        curve: EcdsaKeyPair,
        edwards: Ed25519KeyPair,
    }

    fn encoded(bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    impl Signer {
        fn new() -> Self {
            let random = SystemRandom::new();
            let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
            let curve = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            let edwards = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
            Self {
                curve: EcdsaKeyPair::from_pkcs8(algorithm, curve.as_ref(), &random).unwrap(),
                edwards: Ed25519KeyPair::from_pkcs8(edwards.as_ref()).unwrap(),
            }
        }

        fn document(&self) -> Value {
            let point = self.curve.public_key().as_ref();
            json!({"keys": [
                {"kty": "EC", "crv": "P-256", "kid": "curve", "use": "sig", "x": encoded(&point[1..33]), "y": encoded(&point[33..])},
                {"kty": "OKP", "crv": "Ed25519", "kid": "edwards", "x": encoded(self.edwards.public_key().as_ref())},
                {"kty": "EC", "crv": "P-521", "kid": "large", "x": "AA", "y": "AA"},
                {"kty": "oct", "kid": "shared", "k": "AAAA"},
                {"kty": "RSA", "kid": "for encryption", "use": "enc", "n": "AQAB", "e": "AQAB"},
                "nonsense",
            ]})
        }

        fn keys(&self) -> Keys {
            Keys::parse(self.document().to_string().as_bytes()).unwrap()
        }

        fn token(&self, header: &Value, claims: &Value) -> Secret {
            let signed = format!(
                "{}.{}",
                encoded(header.to_string().as_bytes()),
                encoded(claims.to_string().as_bytes())
            );
            let signature = match header["alg"].as_str() {
                Some("EdDSA") => self.edwards.sign(signed.as_bytes()).as_ref().to_vec(),
                _ => self.curve.sign(&SystemRandom::new(), signed.as_bytes()).unwrap().as_ref().to_vec(),
            };
            Secret::new(format!("{signed}.{}", encoded(&signature)))
        }
    }

    fn claims() -> Value {
        json!({
            "iss": "https://sso.example", "aud": "gateway", "sub": "42", "exp": NOW + 300, "iat": NOW - 5,
            "nonce": "the nonce", "email": "ada@example.com", "email_verified": true, "name": "Ada",
            "groups": ["research", "everybody"],
        })
    }

    fn verify(keys: &Keys, token: &Secret) -> Result<Identity, OidcError> {
        let nonce = Secret::new("the nonce".to_owned());
        keys.verify(
            token,
            &Expected {
                issuer: "https://sso.example",
                client_id: "gateway",
                nonce: &nonce,
                now: UnixMillis(NOW * 1000),
                email_claim: "email",
                groups_claim: "groups",
            },
        )
    }

    #[test]
    fn a_good_token_says_who_it_is() {
        let signer = Signer::new();
        for header in
            [json!({"alg": "ES256", "kid": "curve"}), json!({"alg": "EdDSA"}), json!({"alg": "ES256"})]
        {
            let identity = verify(&signer.keys(), &signer.token(&header, &claims())).unwrap();
            assert_eq!(identity.email, "ada@example.com");
            assert_eq!(identity.name.as_deref(), Some("Ada"));
            assert_eq!(identity.groups.unwrap(), ["research", "everybody"]);
        }
    }

    #[test]
    fn claims_that_are_taken_in_other_forms() {
        let signer = Signer::new();
        for (name, value) in [
            ("aud", json!(["gateway"])),
            ("azp", json!("gateway")),
            ("exp", json!(NOW - 30)),
            ("exp", json!(NOW as f64 + 0.5)),
            ("iat", json!(NOW + 30)),
            ("nbf", json!(NOW)),
            ("email_verified", json!("true")),
            ("groups", json!("research")),
            ("groups", json!([])),
            ("groups", json!(null)),
            ("name", json!(7)),
        ] {
            let mut claims = claims();
            claims[name] = value.clone();
            let token = signer.token(&json!({"alg": "ES256"}), &claims);
            assert!(verify(&signer.keys(), &token).is_ok(), "{name} {value}");
        }
    }

    #[test]
    fn claims_that_are_refused() {
        let signer = Signer::new();
        let many: Vec<_> = (0..=MAX_GROUPS).map(|number| number.to_string()).collect();
        for (name, value) in [
            ("iss", json!("https://sso.example/")),
            ("iss", json!(null)),
            ("aud", json!("other")),
            ("aud", json!([])),
            ("aud", json!(["gateway", "other"])),
            ("azp", json!("other")),
            ("exp", json!(NOW - 61)),
            ("exp", json!("tomorrow")),
            ("exp", json!(null)),
            ("exp", json!(-5)),
            ("iat", json!(NOW + 61)),
            ("iat", json!(NOW - 3600)),
            ("iat", json!(null)),
            ("nbf", json!(NOW + 600)),
            ("nonce", json!("another")),
            ("nonce", json!("")),
            ("nonce", json!(null)),
            ("email", json!("")),
            ("email", json!(["ada@example.com"])),
            ("email", json!("a".repeat(300))),
            ("email_verified", json!(false)),
            ("email_verified", json!("false")),
            ("email_verified", json!(1)),
            ("groups", json!(many)),
            ("groups", json!([7])),
            ("groups", json!({"a": 1})),
        ] {
            let mut claims = claims();
            claims[name] = value.clone();
            let token = signer.token(&json!({"alg": "ES256"}), &claims);
            assert!(verify(&signer.keys(), &token).is_err(), "{name} {value}");
        }
    }

    #[test]
    fn signatures_that_are_none() {
        let (signer, other) = (Signer::new(), Signer::new());
        let good = signer.token(&json!({"alg": "ES256", "kid": "curve"}), &claims());
        assert!(verify(&signer.keys(), &good).is_ok());
        assert_eq!(verify(&other.keys(), &good), Err(OidcError::Signature));
        for algorithm in ["none", "None", "HS256", "RS384", "ES384", "RS256 ", ""] {
            let token = signer.token(&json!({"alg": algorithm}), &claims());
            assert_eq!(verify(&signer.keys(), &token), Err(OidcError::Algorithm), "{algorithm}");
        }
        for (header, error) in [
            // The key's kind and the algorithm do not fit.
            (json!({"alg": "RS256", "kid": "curve"}), OidcError::UnknownKey),
            (json!({"alg": "EdDSA", "kid": "curve"}), OidcError::UnknownKey),
            (json!({"alg": "ES256", "kid": "gone"}), OidcError::UnknownKey),
            (json!({"alg": "ES256", "kid": "shared"}), OidcError::UnknownKey),
            (json!({"alg": "ES256", "crit": ["b64"], "b64": false}), OidcError::Malformed),
            // A key that the token brings along is not looked at.
            (json!({"alg": "ES256", "kid": "mine", "jwk": {"kty": "EC"}}), OidcError::UnknownKey),
        ] {
            assert_eq!(verify(&signer.keys(), &signer.token(&header, &claims())), Err(error), "{header}");
        }
        let text = good.expose();
        let (signed, signature) = text.rsplit_once('.').unwrap();
        let stripped = format!("{signed}.");
        let no_signature = signed.to_owned();
        let longer = format!("{text}A");
        let twice = format!("{text}.{signature}");
        let padded = format!("{text}=");
        let huge = format!("{}.{signature}", "a".repeat(MAX_TOKEN_BYTES));
        for wrong in
            ["", ".", "..", "a.b.c", "....", &stripped, &no_signature, &longer, &twice, &padded, &huge]
        {
            assert!(verify(&signer.keys(), &Secret::new(wrong.to_owned())).is_err(), "{wrong:.60}");
        }
        // Every byte of the signed part counts.
        for at in (0..signed.len()).step_by(7) {
            let mut changed = text.as_bytes().to_vec();
            changed[at] ^= 1;
            let changed = Secret::new(String::from_utf8_lossy(&changed).into_owned());
            assert!(verify(&signer.keys(), &changed).is_err(), "{at}");
        }
    }

    #[test]
    fn a_key_is_for_the_algorithm_that_its_set_says() {
        let signer = Signer::new();
        let mut document = signer.document();
        document["keys"][0]["alg"] = json!("ES384");
        let keys = Keys::parse(document.to_string().as_bytes()).unwrap();
        let token = signer.token(&json!({"alg": "ES256", "kid": "curve"}), &claims());
        assert_eq!(verify(&keys, &token), Err(OidcError::UnknownKey));
    }

    #[test]
    fn sets_of_keys_that_are_none() {
        for document in
            ["", "{}", "[]", r#"{"keys": []}"#, r#"{"keys": {}}"#, r#"{"keys": [{"kty": "oct", "k": "AA"}]}"#]
        {
            assert!(matches!(Keys::parse(document.as_bytes()), Err(OidcError::Keys)), "{document}");
        }
    }

    #[test]
    fn rsa_tokens_of_openssl_are_read() {
        // Made with: openssl genrsa 2048; the numbers by openssl rsa -modulus; signed with openssl dgst.
        let Some((modulus, sign)) = openssl::rsa() else {
            println!("not run: RSA tokens (openssl is not installed)");
            return;
        };
        // With a leading zero, as some providers write it.
        let document = json!({"keys": [{"kty": "RSA", "kid": "r", "n": encoded(&[&[0], modulus.as_slice()].concat()), "e": "AQAB"}]});
        let keys = Keys::parse(document.to_string().as_bytes()).unwrap();
        for algorithm in ["RS256", "PS256"] {
            let header = json!({"alg": algorithm, "kid": "r"}).to_string();
            let signed =
                format!("{}.{}", encoded(header.as_bytes()), encoded(claims().to_string().as_bytes()));
            let token = |signature: &[u8]| Secret::new(format!("{signed}.{}", encoded(signature)));
            assert!(verify(&keys, &token(&sign(algorithm, &signed))).is_ok(), "{algorithm}");
            assert_eq!(verify(&keys, &token(&sign(algorithm, "other"))), Err(OidcError::Signature));
        }
    }

    mod openssl {
        use std::io::Write as _;
        use std::process::{Command, Stdio};

        type Sign = Box<dyn Fn(&str, &str) -> Vec<u8>>;

        fn run(arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
            let mut child = Command::new("openssl")
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .ok()?;
            child.stdin.take().unwrap().write_all(input).unwrap();
            let output = child.wait_with_output().unwrap();
            output.status.success().then_some(output.stdout)
        }

        /// The modulus of a new key, and what signs with it.
        pub fn rsa() -> Option<(Vec<u8>, Sign)> {
            let key = run(&["genrsa", "2048"], b"")?;
            let text = String::from_utf8(run(&["rsa", "-noout", "-modulus"], &key)?).unwrap();
            let digits = text.trim().strip_prefix("Modulus=").unwrap().to_owned();
            let modulus = (0..digits.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
                .collect();
            let folder = std::env::temp_dir().join(format!("gateway-oidc-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            let file = folder.join("key.pem");
            std::fs::write(&file, &key).unwrap();
            let file = file.to_str().unwrap().to_owned();
            let sign = move |algorithm: &str, message: &str| {
                let mut arguments = vec!["dgst", "-sha256", "-sign", &file];
                if algorithm == "PS256" {
                    arguments.extend(["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"]);
                }
                run(&arguments, message.as_bytes()).unwrap()
            };
            Some((modulus, Box::new(sign)))
        }
    }
}

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
        let signed =
            format!("{}.{}", encoded(header.to_string().as_bytes()), encoded(claims.to_string().as_bytes()));
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
    for header in [json!({"alg": "ES256", "kid": "curve"}), json!({"alg": "EdDSA"}), json!({"alg": "ES256"})]
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
        ("email_verified", Value::Null),
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
    for wrong in ["", ".", "..", "a.b.c", "....", &stripped, &no_signature, &longer, &twice, &padded, &huge] {
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
        let signed = format!("{}.{}", encoded(header.as_bytes()), encoded(claims().to_string().as_bytes()));
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

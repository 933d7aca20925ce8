//! `auth_data` and `tls_settings`: what an account or a model shows to its provider, in the contract's words.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::MASK;
use super::fields::Fields;
use crate::domain::{AwsAccessKey, Credential, ProviderType};
use crate::failure::Failure;
use crate::secret::Secret;

type Result<T> = std::result::Result<T, Failure>;

/// A key, a password, a token.
const MAX_SECRET_BYTES: usize = 16 * 1024;
/// Names and identifiers beside a secret; an ARN of a role has at most 2048.
const MAX_IDENTIFIER_BYTES: usize = 2048;

/// Fields of `auth_data` that may be shown; every other is masked.
const SHOWN_FIELDS: [&str; 9] = [
    "type",
    "custom_host",
    "username",
    "tenant_id",
    "client_id",
    "certificate_thumbprint",
    "access_key_id",
    "assumed_role_arn",
    "external_id",
];

/// A credential as a document gives it.
#[derive(Debug)]
pub struct AuthSpec {
    /// The credential; `None` means the stored one: its secrets are masked or left out.
    pub credential: Option<Credential>,
    /// `auth_data` with a mask in place of each secret.
    pub shape: Value,
    /// `auth_data` as it was sent, JSON.
    pub sent: Secret,
}

impl AuthSpec {
    /// A plain key.
    pub fn of_key(key: Secret, provider: ProviderType) -> Self {
        let sent = Secret::new(json!({"type": "api-key", "api_key": key.expose()}).to_string());
        Self { credential: Some(Credential::ApiKey(key)), shape: key_shape(provider), sent }
    }
}

/// TLS towards a provider, as a document gives it.
#[derive(Debug, Default)]
pub struct TlsSpec {
    /// PEM.
    pub ca_certificates: Option<String>,
    /// PEM.
    pub client_certificate: Option<String>,
    /// PEM; `None` means the stored one.
    pub client_key: Option<Secret>,
}

/// A mask in place of each secret of an `auth_data` object.
pub fn mask(auth_data: &mut Value) {
    let Value::Object(auth) = auth_data else {
        return;
    };
    for (name, value) in auth.iter_mut() {
        // A reference to a secret store is no secret.
        let reference = value.as_str().is_some_and(|text| text.starts_with("tfy-secret://"));
        let shown = SHOWN_FIELDS.contains(&name.as_str()) && value.is_string();
        match value {
            Value::Null => {}
            _ if reference || shown => {}
            // Names of headers are enough to know which are there.
            Value::Object(headers) if name == "headers" => {
                headers.values_mut().for_each(|value| *value = MASK.into());
            }
            value => *value = MASK.into(),
        }
    }
}

/// How a plain key is written for a provider type.
pub fn key_shape(provider: ProviderType) -> Value {
    if provider == ProviderType::GoogleGemini {
        json!({"type": "api-key", "apiKey": MASK})
    } else {
        json!({"type": "api-key", "api_key": MASK})
    }
}

/// The words that `auth_data.type` may be for a provider type.
fn kinds(provider: ProviderType) -> &'static [&'static str] {
    match provider {
        ProviderType::AzureOpenai => &["api-key", "client-secret", "header"],
        ProviderType::Anthropic | ProviderType::GoogleGemini => &["api-key", "header"],
        ProviderType::AwsBedrock => &["access-key-based", "assumed-role-based", "api-key", "machine"],
        ProviderType::GoogleVertex => &["key-file", "header"],
        ProviderType::Demo => &[],
        _ => &["api-key", "bearer-auth", "basic-auth", "header"],
    }
}

/// Whether a provider type takes a plain key.
pub fn takes_key(provider: ProviderType) -> bool {
    kinds(provider).contains(&"api-key")
}

/// Words of the contract that have no implementation here, and why not.
const NOT_BUILT: [(&str, &str); 4] = [
    ("certificate", "is not supported: Entra certificates are not built; use client-secret or api-key"),
    (
        "workload-identity",
        "is not supported: there is no workload identity here; use client-secret or api-key",
    ),
    ("workload-identity-federation-file", "is not supported: federation is not built; use key-file"),
    ("service-principal", "is not supported here"),
];

/// One `auth_data` object while it is read.
struct Reader {
    fields: Fields,
    shape: Map<String, Value>,
    /// A secret is there.
    given: bool,
    /// A secret is masked or left out.
    kept: bool,
}

impl Reader {
    fn shown(&mut self, name: &str, text: Option<&String>) {
        if let Some(text) = text {
            self.shape.insert(name.to_owned(), text.as_str().into());
        }
    }

    /// An identifier: printable ASCII without spaces, of these bytes besides letters and digits.
    fn identifier(&mut self, name: &str, others: &str) -> Result<Option<String>> {
        let text = self.fields.text(name)?;
        if let Some(text) = &text {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || others.as_bytes().contains(&byte);
            if text.is_empty() || text.len() > MAX_IDENTIFIER_BYTES || !text.bytes().all(allowed) {
                let want = format!(
                    "must have 1 to {MAX_IDENTIFIER_BYTES} characters: ASCII letters, digits and any of {others}"
                );
                return Err(self.fields.refusal(name, &want));
            }
        }
        self.shown(name, text.as_ref());
        Ok(text)
    }

    fn required_identifier(&mut self, name: &str, others: &str) -> Result<String> {
        let text = self.identifier(name, others)?;
        text.ok_or_else(|| self.fields.refusal(name, "is missing"))
    }

    fn take(&mut self, name: &str, secret: Option<Secret>) -> Secret {
        self.shape.insert(name.to_owned(), MASK.into());
        match secret {
            Some(secret) if secret.expose() != MASK => {
                self.given = true;
                secret
            }
            _ => {
                self.kept = true;
                Secret::new(String::new())
            }
        }
    }

    /// A secret; masked or left out it means the stored one.
    fn secret(&mut self, name: &str, allowed: fn(char) -> bool) -> Result<Secret> {
        let secret = self.fields.secret(name)?;
        let secret = self.take(name, secret);
        if self.given {
            check(&self.fields, name, &secret, allowed)?;
        }
        Ok(secret)
    }

    /// A secret that may be missing.
    fn optional_secret(&mut self, name: &str) -> Result<Option<Secret>> {
        match self.fields.secret(name)? {
            None => Ok(None),
            Some(secret) => {
                let secret = self.take(name, Some(secret));
                if !secret.expose().is_empty() {
                    check(&self.fields, name, &secret, graphic)?;
                }
                Ok(Some(secret))
            }
        }
    }

    fn access_key(&mut self) -> Result<AwsAccessKey> {
        Ok(AwsAccessKey {
            access_key_id: self.required_identifier("access_key_id", "_")?,
            secret_access_key: self.secret("secret_access_key", graphic)?,
            session_token: self.optional_secret("session_token")?,
        })
    }

    fn headers(&mut self) -> Result<BTreeMap<String, Secret>> {
        let headers = self.fields.map("headers")?;
        let mut secrets = BTreeMap::new();
        let mut names = Map::new();
        for (name, value) in headers.unwrap_or_default() {
            names.insert(name.to_ascii_lowercase(), MASK.into());
            if value == MASK {
                self.kept = true;
                continue;
            }
            let value = Secret::new(value);
            check(&self.fields, "headers", &value, |c| c == ' ' || c.is_ascii_graphic())?;
            self.given = true;
            if secrets.insert(name.to_ascii_lowercase(), value).is_some() {
                return Err(self.fields.refusal("headers", "names a header twice"));
            }
        }
        self.kept |= secrets.is_empty();
        self.shape.insert("headers".into(), names.into());
        Ok(secrets)
    }

    fn read(&mut self, kind: &str) -> Result<Credential> {
        Ok(match kind {
            "api-key" => {
                let name = if self.fields.has("apiKey") { "apiKey" } else { "api_key" };
                let key = self.secret(name, graphic)?;
                Credential::ApiKey(key)
            }
            "bearer-auth" => Credential::ApiKey(self.secret("bearer_token", graphic)?),
            "basic-auth" => Credential::Basic {
                username: self.required_identifier("username", " !#$%&'()*+,-./;<=>?@[]^_{|}~")?,
                password: self.secret("password", |c| !c.is_control())?,
            },
            "header" => Credential::Headers(self.headers()?),
            "client-secret" => Credential::EntraClientSecret {
                tenant_id: self.required_identifier("tenant_id", ".-")?,
                client_id: self.required_identifier("client_id", ".-")?,
                client_secret: self.secret("client_secret", |c| !c.is_control())?,
            },
            "access-key-based" => Credential::AwsAccessKey(self.access_key()?),
            "assumed-role-based" => {
                let role_arn = self.required_identifier("assumed_role_arn", ":/+=,.@_-")?;
                if !role_arn.starts_with("arn:") {
                    return Err(self.fields.refusal("assumed_role_arn", "must start with 'arn:'"));
                }
                let external_id = self.identifier("external_id", ":/+=,.@_-")?;
                let source = if self.fields.has("access_key_id") || self.fields.has("secret_access_key") {
                    Some(self.access_key()?)
                } else {
                    self.given = true;
                    None
                };
                Credential::AwsAssumedRole { role_arn, external_id, source }
            }
            "machine" => {
                self.given = true;
                Credential::AwsMachine
            }
            _ => Credential::GoogleServiceAccount { key_file: self.key_file()? },
        })
    }

    fn key_file(&mut self) -> Result<Secret> {
        let name = "key_file_content";
        let text = self.fields.json_text(name)?;
        let text = self.take(name, text);
        if !self.given {
            return Ok(text);
        }
        let file: Value = serde_json::from_str(text.expose()).unwrap_or_default();
        let has = |field: &str| file.get(field).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        if text.expose().len() > MAX_SECRET_BYTES || !has("client_email") || !has("private_key") {
            return Err(self.fields.refusal(
                name,
                "must be a service account's key file: JSON with client_email, private_key and token_uri",
            ));
        }
        Ok(text)
    }
}

fn graphic(c: char) -> bool {
    c.is_ascii_graphic()
}

fn check(fields: &Fields, name: &str, secret: &Secret, allowed: fn(char) -> bool) -> Result<()> {
    let text = secret.expose();
    if text.starts_with("tfy-secret://") {
        let why = "is a reference to a secret store, which is not supported; give the secret itself";
        return Err(fields.refusal(name, why));
    }
    if text.is_empty() || text.len() > MAX_SECRET_BYTES || !text.chars().all(allowed) {
        let want = format!(
            "must have 1 to {MAX_SECRET_BYTES} bytes without control characters, and where it stands in a header printable ASCII without spaces"
        );
        return Err(fields.refusal(name, &want));
    }
    Ok(())
}

/// Reads an `auth_data` object.
///
/// # Errors
/// When it is of no kind that this provider type takes, or a field of it can not be used.
pub fn auth(mut fields: Fields, provider: ProviderType) -> Result<AuthSpec> {
    let sent = Secret::new(fields.value().to_string());
    let kind = fields.required_text("type")?;
    let kinds = kinds(provider);
    if !kinds.contains(&kind.as_str()) {
        if let Some((_, why)) = NOT_BUILT.iter().find(|(word, _)| *word == kind) {
            return Err(fields.refusal("type", why));
        }
        return Err(fields.refusal("type", &format!("must be one of: {}", kinds.join(", "))));
    }
    let shape = Map::from_iter([("type".to_owned(), Value::from(kind.as_str()))]);
    let mut reader = Reader { fields, shape, given: false, kept: false };
    let credential = reader.read(&kind)?;
    let Reader { fields, shape, given, kept } = reader;
    if given && kept {
        return Err(fields.refusal("type", "holds some secrets and leaves others out; give all or none"));
    }
    fields.finish()?;
    let mut shape = Value::Object(shape);
    if kind == "api-key" {
        // Both spellings of its field are one.
        shape = key_shape(provider);
    }
    Ok(AuthSpec { credential: (!kept).then_some(credential), shape, sent })
}

/// Reads a `tls_settings` object; a model's own has no client certificate.
///
/// # Errors
/// When it asks for connections without verification, or a field can not be used.
pub fn tls(mut fields: Fields, of_model: bool) -> Result<TlsSpec> {
    if fields.has("reject_unauthorized") && !fields.flag_or("reject_unauthorized", true)? {
        return Err(fields.refusal(
            "reject_unauthorized",
            "can not be false: whoever stands between would receive the credential; give the server's CA as ca_cert",
        ));
    }
    let mut spec = TlsSpec { ca_certificates: fields.text("ca_cert")?, ..TlsSpec::default() };
    if !of_model {
        spec.client_certificate = fields.text("client_cert")?;
        spec.client_key = fields.secret("client_key")?.filter(|key| key.expose() != MASK);
        if spec.client_key.is_some() && spec.client_certificate.is_none() {
            return Err(fields.refusal("client_cert", "is missing beside client_key"));
        }
    }
    fields.finish()?;
    Ok(spec)
}

//! What a provider account shows to its provider. Sealed at rest; never shown.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::secret::Secret;

/// A credential, opened.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "kebab-case")]
pub enum Credential {
    /// A key: a bearer token, or what stands in the provider's own header (`api-key`, `x-api-key`, `x-goog-api-key`).
    ApiKey(Secret),
    /// RFC 7617.
    Basic {
        /// Without a colon.
        username: String,
        /// The password.
        password: Secret,
    },
    /// Headers of the operator's own choice; names in lower case.
    Headers(BTreeMap<String, Secret>),
    /// Microsoft Entra client credentials.
    EntraClientSecret {
        /// The directory.
        tenant_id: String,
        /// The application.
        client_id: String,
        /// Its secret.
        client_secret: Secret,
    },
    /// AWS access keys, signed with by SigV4.
    AwsAccessKey(AwsAccessKey),
    /// An AWS role, assumed through STS.
    AwsAssumedRole {
        /// The role.
        role_arn: String,
        /// What its trust policy asks for.
        external_id: Option<String>,
        /// Who assumes it; `None`: the machine's own credentials, where the configuration allows them.
        source: Option<AwsAccessKey>,
    },
    /// The machine's own AWS credentials (instance or container), where the configuration allows them.
    AwsMachine,
    /// A Google service account's key file: JSON with `client_email`, `private_key`, `private_key_id`, `token_uri`.
    GoogleServiceAccount {
        /// The file's text.
        key_file: Secret,
    },
}

/// AWS access keys.
#[derive(Clone, Debug, Deserialize)]
pub struct AwsAccessKey {
    /// `AKIA...`
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: Secret,
    /// For temporary credentials.
    pub session_token: Option<Secret>,
}

impl Credential {
    /// The written form that is sealed. The same credential has the same written form.
    pub fn to_text(&self) -> Secret {
        let value = match self {
            Self::ApiKey(key) => json!(key.expose()),
            Self::Basic { username, password } => {
                json!({"username": username, "password": password.expose()})
            }
            Self::Headers(headers) => {
                headers.iter().map(|(name, value)| (name.clone(), Value::from(value.expose()))).collect()
            }
            Self::EntraClientSecret { tenant_id, client_id, client_secret } => json!({
                "tenant_id": tenant_id, "client_id": client_id, "client_secret": client_secret.expose(),
            }),
            Self::AwsAccessKey(key) => key.to_value(),
            Self::AwsAssumedRole { role_arn, external_id, source } => json!({
                "role_arn": role_arn, "external_id": external_id,
                "source": source.as_ref().map(AwsAccessKey::to_value),
            }),
            Self::AwsMachine => Value::Null,
            Self::GoogleServiceAccount { key_file } => json!({"key_file": key_file.expose()}),
        };
        Secret::new(json!({"type": self.word(), "value": value}).to_string())
    }

    /// Reads the written form; `None` when it is not one.
    pub fn parse(text: &Secret) -> Option<Self> {
        serde_json::from_str(text.expose()).ok()
    }

    /// Whether the machine's own AWS credentials are used, which the configuration has to allow.
    pub fn needs_machine(&self) -> bool {
        matches!(self, Self::AwsMachine | Self::AwsAssumedRole { source: None, .. })
    }

    fn word(&self) -> &'static str {
        match self {
            Self::ApiKey(_) => "api-key",
            Self::Basic { .. } => "basic",
            Self::Headers(_) => "headers",
            Self::EntraClientSecret { .. } => "entra-client-secret",
            Self::AwsAccessKey(_) => "aws-access-key",
            Self::AwsAssumedRole { .. } => "aws-assumed-role",
            Self::AwsMachine => "aws-machine",
            Self::GoogleServiceAccount { .. } => "google-service-account",
        }
    }
}

impl AwsAccessKey {
    fn to_value(&self) -> Value {
        json!({
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key.expose(),
            "session_token": self.session_token.as_ref().map(Secret::expose),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_back_and_none_is_printed() {
        let secret = || Secret::new("MARK\"er\n".into());
        let key = || AwsAccessKey {
            access_key_id: "AKIA1".into(),
            secret_access_key: secret(),
            session_token: Some(secret()),
        };
        let role = |source| Credential::AwsAssumedRole {
            role_arn: "arn:aws:iam::1:role/r".into(),
            external_id: None,
            source,
        };
        for credential in [
            Credential::ApiKey(secret()),
            Credential::Basic { username: "u".into(), password: secret() },
            Credential::Headers([("x-key".into(), secret())].into()),
            Credential::EntraClientSecret {
                tenant_id: "t".into(),
                client_id: "c".into(),
                client_secret: secret(),
            },
            Credential::AwsAccessKey(key()),
            Credential::AwsAccessKey(AwsAccessKey { session_token: None, ..key() }),
            role(Some(key())),
            role(None),
            Credential::AwsMachine,
            Credential::GoogleServiceAccount { key_file: secret() },
        ] {
            let text = credential.to_text();
            let back = Credential::parse(&text).unwrap_or_else(|| panic!("{}", text.expose()));
            assert_eq!(back.to_text().expose(), text.expose());
            assert!(!format!("{credential:?} {back:?}").contains("MARK"));
        }
        for wrong in ["", "{}", "[]", r#"{"type":"api-key"}"#, r#"{"type":"other","value":"x"}"#] {
            assert!(Credential::parse(&Secret::new(wrong.into())).is_none(), "{wrong}");
        }
    }
}

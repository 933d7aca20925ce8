//! Provider accounts and the models offered through them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::price::ModelPrices;
use super::provider::ProviderType;
use super::{BodyLogging, Money};
use crate::clock::UnixMillis;
use crate::id::{AccountName, ModelName};

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the words are the contract's own")]
pub enum ModelType {
    Chat,
    Completion,
    Embedding,
    Realtime,
    Rerank,
    AudioTranscription,
    AudioTranslation,
    TextToSpeech,
    Moderation,
    Image,
    Responses,
    Ocr,
}

/// A model as callers name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredModel")]
pub struct Model {
    /// The part after the slash in `account/name`.
    pub name: ModelName,
    /// The provider's own id.
    pub model_id: String,
    /// What it is for.
    pub types: BTreeSet<ModelType>,
    /// What it costs.
    pub prices: ModelPrices,
    /// What only some providers know.
    #[serde(default)]
    pub settings: ModelSettings,
    /// When it was added.
    pub created_at: UnixMillis,
}

/// A model as it is stored, or was before prices had dates.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredModel {
    name: ModelName,
    model_id: String,
    types: BTreeSet<ModelType>,
    #[serde(default)]
    prices: ModelPrices,
    /// US dollars for a million tokens, as decimal text.
    #[serde(default)]
    input_price: Option<Money>,
    #[serde(default)]
    output_price: Option<Money>,
    #[serde(default)]
    settings: ModelSettings,
    created_at: UnixMillis,
}

impl From<StoredModel> for Model {
    fn from(stored: StoredModel) -> Self {
        let old = ModelPrices::simple(stored.input_price, stored.output_price);
        Self {
            name: stored.name,
            model_id: stored.model_id,
            types: stored.types,
            prices: if stored.prices.is_unknown() { old } else { stored.prices },
            settings: stored.settings,
            created_at: stored.created_at,
        }
    }
}

/// What a model of some providers has besides. `None` is the account's, or the provider's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSettings {
    /// Where it runs, when not in the account's region (Bedrock, Vertex).
    pub region: Option<String>,
    /// Azure's `api-version`; `v1` is the path without versions.
    pub api_version: Option<String>,
    /// The row of the table of capabilities to take, whatever the model's id says.
    pub family: Option<String>,
    /// The longest answer in tokens, in place of what the table says.
    pub max_output_tokens: Option<u64>,
    /// Azure: the model behind a deployment, such as `gpt-4o`.
    pub foundation_model: Option<String>,
    /// Azure: `standard`, `datazone_us`, `datazone_eu` or `global`; shown and otherwise without effect.
    pub deployment_type: Option<String>,
    /// Self-hosted: the server's make, in the contract's words; shown and otherwise without effect.
    pub model_server: Option<String>,
    /// Self-hosted: a server of its own.
    pub server: Option<ModelServer>,
}

/// A server that one self-hosted model runs on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelServer {
    /// Where it is, with the version path.
    pub base_url: String,
    /// An admin chose this destination, so it may be a loopback or link-local address.
    #[serde(default)]
    pub destination_by_admin: bool,
    /// Headers added to every call; names in lower case.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// PEM certificates that it may have; `None`: the account's.
    #[serde(default)]
    pub ca_certificates: Option<String>,
    /// Its own credential, sealed; the account's never goes there.
    #[serde(default)]
    pub sealed_credential: Option<String>,
    /// The credential as it may be shown.
    #[serde(default)]
    pub auth_shape: Option<serde_json::Value>,
}

/// What an account of some providers has besides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccountSettings {
    /// AWS region, or Vertex location.
    pub region: Option<String>,
    /// Google Cloud project (Vertex).
    pub project_id: Option<String>,
    /// Azure's `api-version` for models that name none; `v1` is the path without versions.
    pub api_version: Option<String>,
    /// What the provider can not do is dropped, and the answer says so, in place of a refusal.
    pub drop_unsupported: bool,
    /// Whose request and answer bodies are kept; `None`: as the tenant says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logging_settings: Option<BodyLogging>,
    /// Percent off the public prices; `None`: nothing. From 0 to 100, with at most 4 digits behind the point.
    pub discount_percent: Option<Money>,
    /// PEM certificates, the own one first, shown to the provider's server.
    pub client_certificate: Option<String>,
    /// The private key of the client certificate, sealed; never shown.
    pub sealed_client_key: Option<String>,
    /// A credential that is more than a key, sealed; never shown. A plain key is in
    /// [`ProviderAccount::sealed_api_key`].
    pub sealed_credential: Option<String>,
    /// The credential as it may be shown: `auth_data` with a mask in place of each secret. `None` with a sealed key:
    /// a plain key.
    pub auth_shape: Option<serde_json::Value>,
}

/// Credentials and settings for one provider, and its models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderAccount {
    /// The part before the slash in `account/name`.
    pub name: AccountName,
    /// The protocol.
    pub provider: ProviderType,
    /// Where it is, with the version path, such as `https://api.openai.com/v1`.
    pub base_url: String,
    /// An admin chose this destination, so it may be a loopback or link-local address.
    #[serde(default)]
    pub destination_by_admin: bool,
    /// The key, sealed; never shown.
    pub sealed_api_key: Option<String>,
    /// Headers added to every call; names in lower case.
    pub headers: BTreeMap<String, String>,
    /// PEM certificates that this account trusts besides the public roots.
    pub ca_certificates: Option<String>,
    /// The models, by name.
    pub models: BTreeMap<ModelName, Model>,
    /// What only some providers know.
    #[serde(default)]
    pub settings: AccountSettings,
    /// The manifest as it was last applied, secrets masked, so that it can be shown again as it was written.
    #[serde(default)]
    pub manifest: Option<serde_json::Value>,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When this object last changed.
    pub updated_at: UnixMillis,
    /// The subject that made it.
    pub created_by: String,
}

impl ProviderAccount {
    /// Whether any credential is stored.
    pub fn has_credential(&self) -> bool {
        self.sealed_api_key.is_some() || self.settings.sealed_credential.is_some()
    }

    /// The same with one of its models and without the others.
    pub fn with_one_model(&self, model: &Model) -> Self {
        Self {
            name: self.name.clone(),
            provider: self.provider,
            base_url: self.base_url.clone(),
            destination_by_admin: self.destination_by_admin,
            sealed_api_key: self.sealed_api_key.clone(),
            headers: self.headers.clone(),
            ca_certificates: self.ca_certificates.clone(),
            settings: self.settings.clone(),
            models: BTreeMap::from([(model.name.clone(), model.clone())]),
            manifest: None,
            created_at: self.created_at,
            updated_at: self.updated_at,
            created_by: self.created_by.clone(),
        }
    }

    /// The region of one model: its own, else the account's.
    pub fn region_of<'a>(&'a self, model: &'a Model) -> Option<&'a str> {
        model.settings.region.as_deref().or(self.settings.region.as_deref())
    }

    /// Azure's `api-version` of one model: its own, else the account's.
    pub fn api_version_of<'a>(&'a self, model: &'a Model) -> Option<&'a str> {
        model.settings.api_version.as_deref().or(self.settings.api_version.as_deref())
    }
}

/// Where a base URL points, taken apart once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// TLS or not.
    pub https: bool,
    /// Host name or address, without brackets, in lower case.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The `Host` header's value.
    pub authority: String,
    /// Path prefix without a slash at its end; may be empty.
    pub path: String,
}

/// Why a base URL was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointError(pub &'static str);

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the base URL {}; write it like https://api.openai.com/v1", self.0)
    }
}

impl Endpoint {
    /// Takes a base URL apart. User info, query and fragment are refused: they would leak or be lost.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence that starts with "the base URL".
    pub fn parse(url: &str) -> Result<Self, EndpointError> {
        let (https, rest) = if let Some(rest) = url.strip_prefix("https://") {
            (true, rest)
        } else if let Some(rest) = url.strip_prefix("http://") {
            (false, rest)
        } else {
            return Err(EndpointError("must start with http:// or https://"));
        };
        if url.len() > 2048 {
            return Err(EndpointError("is longer than 2048 bytes"));
        }
        if !url.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(EndpointError("may hold printable ASCII only"));
        }
        if rest.contains(['?', '#']) {
            return Err(EndpointError("may not have a query or a fragment"));
        }
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err(EndpointError("may not hold a user name or password; give the key separately"));
        }
        let (host, port_text) = if let Some(inner) = authority.strip_prefix('[') {
            let (host, after) = inner.split_once(']').ok_or(EndpointError("has '[' without ']'"))?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(EndpointError("has no IPv6 address between the brackets"));
            }
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(EndpointError("has something after ']' that is no port")),
            }
        } else {
            match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            }
        };
        let host_allowed = |b: u8| b.is_ascii_alphanumeric() || b".-_:".contains(&b);
        if host.is_empty() || host.len() > 253 || !host.bytes().all(host_allowed) {
            return Err(EndpointError("has no host name"));
        }
        let port = match port_text {
            None => {
                if https {
                    443
                } else {
                    80
                }
            }
            Some(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
                match text.parse::<u16>() {
                    Ok(port) if port != 0 => port,
                    _ => return Err(EndpointError("has a port that is not between 1 and 65535")),
                }
            }
            Some(_) => return Err(EndpointError("has a port that is not a number")),
        };
        Ok(Self {
            https,
            host: host.to_ascii_lowercase(),
            port,
            authority: authority.to_ascii_lowercase(),
            path: path.trim_end_matches('/').to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls() {
        let e = Endpoint::parse("https://API.openai.com/v1/").unwrap();
        assert_eq!((e.https, e.host.as_str(), e.port, e.path.as_str()), (true, "api.openai.com", 443, "/v1"));
        let e = Endpoint::parse("http://[::1]:8902").unwrap();
        assert_eq!(
            (e.host.as_str(), e.port, e.authority.as_str(), e.path.as_str()),
            ("::1", 8902, "[::1]:8902", "")
        );
        for bad in [
            "",
            "api.openai.com",
            "ftp://x",
            "https://",
            "https:///v1",
            "http://u:p@h/",
            "http://h:0",
            "http://h:x",
            "http://h:99999",
            "http://h/?a=b",
            "http://h/#f",
            "http://h/a b",
            "http://[::1",
            "http://[x]/",
            "http://h:",
            "http://h\r\nX: y/",
        ] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }
}

//! Provider accounts made ready for calls.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::world::WorldError;
use crate::domain::{Credential, Endpoint, Model, ProviderAccount};
use crate::id::ModelName;
use crate::seal::MasterKey;
use crate::secret::Secret;

/// A provider account made ready for calls: its URL taken apart and its credential opened.
#[derive(Debug)]
pub struct Account {
    /// The stored object; of an overlay, with that one model only.
    pub spec: ProviderAccount,
    /// The revision of the commit that last wrote it.
    pub revision: u64,
    /// Where calls go.
    pub endpoint: Endpoint,
    /// What the provider is shown.
    pub credential: Option<Credential>,
    /// The private key of `spec.settings.client_certificate`, PEM.
    pub client_key: Option<Secret>,
    /// The account's name, and an overlay's model, for those who keep something by it and should not copy it for
    /// each call.
    pub pool_key: Arc<str>,
    /// The account as it is for models that are elsewhere, or show another credential. An overlay has none.
    pub overlays: BTreeMap<ModelName, Arc<Account>>,
}

/// The field that an account's credential is sealed for.
pub const CREDENTIAL_FIELD: &str = "credential";
/// The field that an account's client key is sealed for.
pub const CLIENT_KEY_FIELD: &str = "client_key";

/// The field that the credential of one model's own server is sealed for.
pub fn model_credential_field(model: &ModelName) -> String {
    format!("credential/{model}")
}

impl Account {
    /// The plain key, where the credential is one.
    #[cfg(test)]
    pub fn api_key(&self) -> Option<&Secret> {
        match &self.credential {
            Some(Credential::ApiKey(key)) => Some(key),
            _ => None,
        }
    }

    /// The account as it is for one of its models.
    pub fn for_model<'a>(self: &'a Arc<Self>, model: &str) -> &'a Arc<Self> {
        self.overlays.get(model).unwrap_or(self)
    }

    /// Opens a stored account.
    ///
    /// # Errors
    /// When its URL or what is sealed in it can not be used.
    pub(super) fn open(
        spec: ProviderAccount,
        revision: u64,
        master_key: &MasterKey,
    ) -> Result<Self, WorldError> {
        let opener = Opener { name: spec.name.to_string(), master_key };
        let credential = match (&spec.sealed_api_key, &spec.settings.sealed_credential) {
            (Some(sealed), _) => Some(Credential::ApiKey(opener.open("api_key", sealed)?)),
            (None, Some(sealed)) => Some(opener.credential(CREDENTIAL_FIELD, sealed)?),
            (None, None) => None,
        };
        let client_key = spec.settings.sealed_client_key.as_ref();
        let client_key = client_key.map(|sealed| opener.open(CLIENT_KEY_FIELD, sealed)).transpose()?;
        let mut account = Self {
            endpoint: opener.endpoint(&spec.base_url)?,
            pool_key: spec.name.as_str().into(),
            spec,
            revision,
            credential,
            client_key,
            overlays: BTreeMap::new(),
        };
        let mut overlays = BTreeMap::new();
        for model in account.spec.models.values() {
            if let Some(overlay) = account.overlay(model, &opener)? {
                overlays.insert(model.name.clone(), Arc::new(overlay));
            }
        }
        account.overlays = overlays;
        Ok(account)
    }

    /// The account for a model that is not where the account is.
    fn overlay(&self, model: &Model, opener: &Opener<'_>) -> Result<Option<Self>, WorldError> {
        let provider = self.spec.provider;
        let own_place = match (&model.settings.server, &model.settings.region) {
            (Some(server), _) => Some(server.base_url.clone()),
            (None, Some(region))
                if provider.is_default_base_url(&self.spec.base_url, &self.spec.settings) =>
            {
                provider.default_base_url(Some(region))
            }
            _ => None,
        };
        let Some(base_url) = own_place else { return Ok(None) };
        let mut overlay = Self {
            spec: self.spec.with_one_model(model),
            revision: self.revision,
            endpoint: opener.endpoint(&base_url)?,
            credential: self.credential.clone(),
            client_key: self.client_key.clone(),
            pool_key: format!("{}/{}", self.spec.name, model.name).into(),
            overlays: BTreeMap::new(),
        };
        overlay.spec.base_url = base_url;
        if let Some(server) = &model.settings.server {
            overlay.spec.destination_by_admin = server.destination_by_admin;
            overlay.spec.headers.extend(server.headers.clone());
            if server.ca_certificates.is_some() {
                overlay.spec.ca_certificates.clone_from(&server.ca_certificates);
            }
            overlay.spec.sealed_api_key = None;
            overlay.spec.settings.sealed_credential.clone_from(&server.sealed_credential);
            overlay.credential = match &server.sealed_credential {
                None => None,
                Some(sealed) => Some(opener.credential(&model_credential_field(&model.name), sealed)?),
            };
        }
        Ok(Some(overlay))
    }
}

/// Opens what belongs to one account.
struct Opener<'a> {
    name: String,
    master_key: &'a MasterKey,
}

impl Opener<'_> {
    fn open(&self, field: &str, sealed: &str) -> Result<Secret, WorldError> {
        self.master_key.open("account", &self.name, field, sealed).map_err(WorldError::Seal)
    }

    fn credential(&self, field: &str, sealed: &str) -> Result<Credential, WorldError> {
        let text = self.open(field, sealed)?;
        Credential::parse(&text).ok_or_else(|| WorldError::Credential(self.name.clone()))
    }

    fn endpoint(&self, base_url: &str) -> Result<Endpoint, WorldError> {
        Endpoint::parse(base_url).map_err(|_| WorldError::Endpoint(self.name.clone()))
    }
}

//! What an account and its models show to their providers, and what is bound to that.

use serde_json::Value;
use subtle::ConstantTimeEq as _;

use super::account::AccountChange;
use super::{Manage, View, destination, in_field, invalid, refused};
use crate::authz;
use crate::clock::UnixMillis;
use crate::domain::{Credential, Endpoint, Model, ModelServer, NO_PLACE, ProviderAccount, ProviderType};
use crate::failure::Failure;
use crate::id::ModelName;
use crate::manifest::{self, AccountSpec, AuthSpec, MASK, ModelServerSpec, ModelSpec};
use crate::secret::Secret;
use crate::store::{Account, CLIENT_KEY_FIELD, CREDENTIAL_FIELD, model_credential_field};

/// Models of one account.
const MAX_MODELS: usize = 2000;
const MAX_MODEL_ID_BYTES: usize = 2048;
/// Where Google's keys of service accounts are exchanged for tokens. Another place is an administrator's choice.
const GOOGLE_DOMAIN: &str = ".googleapis.com";

impl Manage {
    /// Puts a credential into an account that still has the stored one. True when it was sent again.
    pub(super) fn set_credential(
        &self,
        view: &View,
        account: &mut ProviderAccount,
        old: Option<&Account>,
        auth: &AuthSpec,
    ) -> Result<bool, Failure> {
        let Some(credential) = &auth.credential else {
            let stored = account.has_credential().then(|| shape_of(account));
            return kept(stored.as_ref(), auth);
        };
        self.check_credential(view, account.provider, credential)?;
        if !old.and_then(|old| old.credential.as_ref()).is_some_and(|known| same(known, credential)) {
            remove_credential(account);
            let name = account.name.as_str();
            if let Credential::ApiKey(key) = credential {
                destination::api_key(key).map_err(|failure| in_field(&place_of(&auth.shape), failure))?;
                account.sealed_api_key = Some(self.seal(name, "api_key", key)?);
            } else {
                let sealed = self.seal(name, CREDENTIAL_FIELD, &credential.to_text())?;
                account.settings.sealed_credential = Some(sealed);
            }
        }
        // A plain key needs no description.
        let plain = auth.shape == manifest::key_shape(account.provider);
        account.settings.auth_shape = (!plain).then(|| auth.shape.clone());
        Ok(true)
    }

    /// Puts a client certificate into an account that still has the stored one's key.
    pub(super) fn set_client_certificate(
        &self,
        account: &mut ProviderAccount,
        old: Option<&Account>,
        certificate: Option<&String>,
        key: Option<&Secret>,
    ) -> Result<(), Failure> {
        let Some(pem) = certificate else {
            if key.is_some() {
                return Err(refused("There is a client key and no client certificate"));
            }
            account.settings.client_certificate = None;
            account.settings.sealed_client_key = None;
            return Ok(());
        };
        let known = old.and_then(|old| old.client_key.as_ref());
        match key {
            None => {
                if old.and_then(|old| old.spec.settings.client_certificate.as_ref()) != Some(pem) {
                    return Err(refused("The client key is missing; send it with the client certificate"));
                }
            }
            Some(key) => {
                destination::client_certificate(pem, key)?;
                if !known.is_some_and(|known| same_secret(known, key)) {
                    let sealed = self.seal(account.name.as_str(), CLIENT_KEY_FIELD, key)?;
                    account.settings.sealed_client_key = Some(sealed);
                }
            }
        }
        account.settings.client_certificate = Some(pem.clone());
        Ok(())
    }

    fn check_credential(
        &self,
        view: &View,
        provider: ProviderType,
        credential: &Credential,
    ) -> Result<(), Failure> {
        match credential {
            Credential::ApiKey(_) if !manifest::takes_key(provider) => {
                let text =
                    format!("An account of type {} takes no API key; send auth_data", provider.as_str());
                Err(refused(text))
            }
            Credential::Headers(headers) => destination::credential_headers(headers.keys())
                .map_err(|failure| in_field("auth_data.headers", failure)),
            Credential::GoogleServiceAccount { key_file } => check_key_file(view, key_file)
                .map_err(|failure| in_field("auth_data.key_file_content", failure)),
            other if other.needs_machine() && !self.aws_machine_credentials => Err(in_field(
                "auth_data.type",
                refused(
                    "would use the AWS credentials of this machine, which upstream.aws_machine_credentials in the configuration does not allow; send access keys",
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Adds a model to an account.
    pub(super) fn insert_model(
        &self,
        view: &View,
        account: &mut ProviderAccount,
        old: Option<&Account>,
        spec: &ModelSpec,
        now: UnixMillis,
    ) -> Result<Model, Failure> {
        let name = ModelName::parse(&spec.name).map_err(invalid)?;
        let id_allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        if spec.model_id.is_empty()
            || spec.model_id.len() > MAX_MODEL_ID_BYTES
            || !spec.model_id.bytes().all(id_allowed)
        {
            return Err(refused(format!(
                "model_id must have 1 to {MAX_MODEL_ID_BYTES} printable ASCII characters without spaces, quotes and backslashes"
            )));
        }
        if spec.types.is_empty() {
            return Err(refused("model_types must name at least one type, such as chat"));
        }
        if account.models.len() >= MAX_MODELS {
            return Err(refused(format!("An account has at most {MAX_MODELS} models")));
        }
        if account.models.contains_key(&name) {
            let text = format!("There is a model '{}/{name}' already", account.name);
            return Err(Failure::Conflict(text.into()));
        }
        if spec.provider != account.provider {
            return Err(Failure::Conflict("The account is of another type than the model".into()));
        }
        let mut settings = spec.settings.clone();
        settings.server = match &spec.server {
            Some(server) => Some(self.model_server(view, account, old, &name, server)?),
            None if account.base_url == NO_PLACE && account.provider == ProviderType::SelfHostedModel => {
                return Err(refused("url is missing: neither the model nor its account says where it runs"));
            }
            None => None,
        };
        let model = Model {
            name: name.clone(),
            model_id: spec.model_id.clone(),
            types: spec.types.clone(),
            prices: spec.prices.clone(),
            settings,
            created_at: now,
        };
        account.models.insert(name, model.clone());
        Ok(model)
    }

    /// The own server of a self-hosted model. Its credential stays with it under the rule that accounts have.
    fn model_server(
        &self,
        view: &View,
        account: &ProviderAccount,
        old: Option<&Account>,
        model: &ModelName,
        spec: &ModelServerSpec,
    ) -> Result<ModelServer, Failure> {
        let endpoint = destination::endpoint(&spec.base_url).map_err(|failure| in_field("url", failure))?;
        let old_server = old.and_then(|old| old.spec.models.get(model)?.settings.server.as_ref());
        let same_place = old_server.is_some_and(|old| {
            Endpoint::parse(&old.base_url).is_ok_and(|old_endpoint| old_endpoint == endpoint)
        });
        let admin = authz::is_admin(&view.principal);
        if !same_place && !admin && destination::is_local(&endpoint) {
            return Err(only_administrators());
        }
        if let Some(pem) = &spec.ca_certificates
            && old_server.and_then(|old| old.ca_certificates.as_ref()) != Some(pem)
        {
            destination::ca_certificates(pem).map_err(|failure| in_field("tls_settings.ca_cert", failure))?;
        }
        let mut server = ModelServer {
            base_url: spec.base_url.clone(),
            destination_by_admin: admin
                || (same_place && old_server.is_some_and(|old| old.destination_by_admin)),
            headers: destination::headers(&spec.headers).map_err(|failure| in_field("headers", failure))?,
            ca_certificates: spec.ca_certificates.clone(),
            sealed_credential: old_server.and_then(|old| old.sealed_credential.clone()),
            auth_shape: old_server.and_then(|old| old.auth_shape.clone()),
        };
        let mut resent = false;
        if let Some(auth) = &spec.auth {
            match &auth.credential {
                None => {
                    kept(server.sealed_credential.as_ref().and(server.auth_shape.as_ref()), auth)?;
                }
                Some(credential) => {
                    self.check_credential(view, account.provider, credential)?;
                    let known = old.and_then(|old| old.overlays.get(model)?.credential.as_ref());
                    if !known.is_some_and(|known| same(known, credential)) {
                        let field = model_credential_field(model);
                        let sealed = self.seal(account.name.as_str(), &field, &credential.to_text())?;
                        server.sealed_credential = Some(sealed);
                    }
                    server.auth_shape = Some(auth.shape.clone());
                    resent = true;
                }
            }
        }
        if let (Some(old_server), Some(old)) = (old_server, old)
            && server.sealed_credential.is_some()
            && !resent
        {
            let trust = |server: &ModelServer, account: &ProviderAccount| {
                server.ca_certificates.clone().or_else(|| account.ca_certificates.clone())
            };
            if !destination::same_place(&old_server.base_url, &server.base_url)
                || trust(old_server, &old.spec) != trust(&server, account)
            {
                return Err(in_field(
                    "auth_data",
                    refused(
                        "must be sent again: the stored credential belongs to the model's present scheme, host, port and certificates",
                    ),
                ));
            }
        }
        Ok(server)
    }

    fn seal(&self, account: &str, field: &str, secret: &Secret) -> Result<String, Failure> {
        let sealed = self.store.master_key().seal("account", account, field, secret);
        sealed.map_err(|_| Failure::Internal)
    }
}

pub(super) fn only_administrators() -> Failure {
    Failure::Forbidden("Only administrators may point an account at this host or its own link".into())
}

/// A key file names the place where it is exchanged; that place sees a signature that opens what the key opens.
fn check_key_file(view: &View, key_file: &Secret) -> Result<(), Failure> {
    let file: Value = serde_json::from_str(key_file.expose()).unwrap_or_default();
    let Some(url) = file.get("token_uri").and_then(Value::as_str) else {
        return Err(refused("has no token_uri"));
    };
    let endpoint = destination::endpoint(url).map_err(|_| refused("has a token_uri that is no URL"))?;
    let local = destination::is_local(&endpoint);
    if !endpoint.https && !local {
        return Err(refused("has a token_uri without https"));
    }
    let google = endpoint.https && endpoint.host.ends_with(GOOGLE_DOMAIN) && endpoint.port == 443;
    if !google && !authz::is_admin(&view.principal) {
        return Err(Failure::Forbidden(
            "Only administrators may give a key file whose token_uri is not Google's".into(),
        ));
    }
    Ok(())
}

/// A credential that was masked or left out is the stored one, when it says the same of it.
fn kept(stored: Option<&Value>, auth: &AuthSpec) -> Result<bool, Failure> {
    match stored {
        Some(stored) if *stored == auth.shape => Ok(false),
        Some(_) => Err(in_field(
            &place_of(&auth.shape),
            refused("must be sent again: what stands beside it is not what is stored"),
        )),
        None => Err(in_field(
            &place_of(&auth.shape),
            refused("is missing: a mask or nothing means the stored one, and none is stored"),
        )),
    }
}

/// The path of the first secret of an `auth_data`.
fn place_of(shape: &Value) -> String {
    let masked = |(_, value): &(&String, &Value)| **value == MASK;
    let field = shape.as_object().into_iter().flatten().find(masked).map(|(name, _)| name.as_str());
    field.map_or_else(|| "auth_data".to_owned(), |field| format!("auth_data.{field}"))
}

/// The credential of an account that has one, as it may be shown.
fn shape_of(account: &ProviderAccount) -> Value {
    account.settings.auth_shape.clone().unwrap_or_else(|| manifest::key_shape(account.provider))
}

fn same(one: &Credential, other: &Credential) -> bool {
    same_secret(&one.to_text(), &other.to_text())
}

fn same_secret(one: &Secret, other: &Secret) -> bool {
    one.expose().as_bytes().ct_eq(other.expose().as_bytes()).into()
}

pub(super) fn remove_credential(account: &mut ProviderAccount) {
    account.sealed_api_key = None;
    account.settings.sealed_credential = None;
    account.settings.auth_shape = None;
}

/// A stored credential goes along to the same place only.
pub(super) fn check_kept(
    old: &ProviderAccount,
    new: &ProviderAccount,
    resent: bool,
    key_resent: bool,
) -> Result<(), Failure> {
    if destination::same_destination(old, new) {
        return Ok(());
    }
    if new.has_credential() && !resent {
        return Err(refused(
            "The stored credential belongs to the present scheme, host, port, certificates and region; send api_key again, or auth_data, to change them",
        ));
    }
    if new.settings.sealed_client_key.is_some() && !key_resent {
        return Err(refused(
            "The stored client key belongs to the present scheme, host, port, certificates and region; send client_key again to change them",
        ));
    }
    Ok(())
}

/// Servers of models that have a credential and no certificates of their own trust those of their account: another
/// trust needs their credentials again, which a change of the account can not bring.
pub(super) fn check_servers_kept(old: &ProviderAccount, new: &ProviderAccount) -> Result<(), Failure> {
    let borrows_trust =
        |server: &ModelServer| server.sealed_credential.is_some() && server.ca_certificates.is_none();
    let is_bound = new.models.values().any(|model| model.settings.server.as_ref().is_some_and(borrows_trust));
    if old.ca_certificates != new.ca_certificates && is_bound {
        return Err(refused(
            "A model's stored credential belongs to the account's present certificates; apply the account with the model's auth_data again to change them",
        ));
    }
    Ok(())
}

/// The base URL as it is stored.
pub(super) fn base_url(provider: ProviderType, url: &str) -> String {
    match provider {
        ProviderType::AzureOpenai => manifest::azure_endpoint(url),
        ProviderType::Ollama => manifest::ollama_host(url),
        _ => url.to_owned(),
    }
}

/// A base URL that follows from the region goes on following from it.
pub(super) fn follow_region(old: &ProviderAccount, new: &mut ProviderAccount) {
    if new.provider.is_default_base_url(&old.base_url, &old.settings)
        && let Some(url) = new.provider.default_base_url(new.settings.region.as_deref())
    {
        new.base_url = url;
    }
}

/// What an account of its type can not do without.
pub(super) fn require(account: &ProviderAccount) -> Result<(), Failure> {
    let settings = &account.settings;
    if account.provider.has_region() && settings.region.is_none() {
        return Err(in_field("region", refused("is missing")));
    }
    if account.provider == ProviderType::GoogleVertex && settings.project_id.is_none() {
        return Err(in_field("project_id", refused("is missing")));
    }
    Ok(())
}

/// Changes the settings that need nothing but a look at their text.
pub(super) fn change(account: &mut ProviderAccount, change: &AccountChange) -> Result<(), Failure> {
    let provider = account.provider;
    let settings = &mut account.settings;
    let has_none = |name: &str| refused(format!("An account of type {} has no {name}", provider.as_str()));
    if let Some(region) = &change.region {
        if !provider.has_region() {
            return Err(has_none("region"));
        }
        if !manifest::is_region(region) {
            return Err(refused(format!("The region {}", manifest::WRONG_REGION)));
        }
        settings.region = Some(region.clone());
    }
    if let Some(project) = &change.project_id {
        if provider != ProviderType::GoogleVertex {
            return Err(has_none("project_id"));
        }
        if !manifest::is_path_word(project) {
            return Err(refused("The project_id must have 1 to 128 letters, digits and any of :.-"));
        }
        settings.project_id = Some(project.clone());
    }
    if let Some(version) = &change.api_version {
        if provider != ProviderType::AzureOpenai {
            return Err(has_none("api_version"));
        }
        if !version.as_deref().is_none_or(manifest::is_path_word) {
            return Err(refused("The api_version must have 1 to 128 letters, digits and any of :.-"));
        }
        settings.api_version.clone_from(version);
    }
    if let Some(drop) = change.drop_unsupported {
        settings.drop_unsupported = drop;
    }
    if let Some(logging) = change.logging_settings {
        settings.logging_settings = logging;
    }
    Ok(())
}

/// Takes out of an account what is sealed in it; nobody is shown that.
pub(super) fn unseal_nothing(account: &mut ProviderAccount) {
    account.sealed_api_key = None;
    account.settings.sealed_client_key = None;
    if account.settings.sealed_credential.is_some() {
        account.settings.sealed_credential = None;
    }
    for model in account.models.values_mut() {
        if let Some(server) = &mut model.settings.server {
            server.sealed_credential = None;
        }
    }
}

/// A model without what is sealed in it.
pub(super) fn without_seal(mut model: Model) -> Model {
    if let Some(server) = &mut model.settings.server {
        server.sealed_credential = None;
    }
    model
}

/// Puts the secrets that were sent into a manifest where they are the stored ones.
pub(super) fn show_what_is_known(account: &Account, spec: &AccountSpec, existing: &mut Value) {
    let known = |auth: &AuthSpec, stored: Option<&Credential>| -> Option<Value> {
        let (sent, stored) = (auth.credential.as_ref()?, stored?);
        if same(sent, stored) { serde_json::from_str(auth.sent.expose()).ok() } else { None }
    };
    if let Some(auth) = &spec.auth
        && let Some(Value::Object(sent)) = known(auth, account.credential.as_ref())
        && let Some(Value::Object(place)) = existing.get_mut("auth_data")
    {
        place.extend(sent);
    }
    let Some(Value::Array(models)) = existing.get_mut("integrations") else { return };
    for model in spec.models.iter().flatten() {
        let auth = model.server.as_ref().and_then(|server| server.auth.as_ref());
        let stored = account.overlays.get(model.name.as_str()).and_then(|one| one.credential.as_ref());
        if let Some(sent) = auth.and_then(|auth| known(auth, stored))
            && let Some(place) =
                models.iter_mut().find(|one| one.get("name").is_some_and(|name| *name == *model.name))
            && let Some(place) = place.get_mut("auth_data")
        {
            *place = sent;
        }
    }
}

//! Provider accounts and the models offered through them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::draft::{Audited, Draft};
use super::{Listing, Manage, Page, View, destination, invalid, not_found, refused};
use crate::authz::{self, Action, Resource};
use crate::clock::UnixMillis;
use crate::domain::{Grant, Model, Principal, ProviderAccount, ProviderType};
use crate::failure::Failure;
use crate::id::{AccountName, ModelName};
use crate::manifest::{AccountAccess, ModelSpec, Price};
use crate::secret::Secret;
use crate::store::{Account, Key, Object};

/// Models of one account.
const MAX_MODELS: usize = 2000;
const MAX_MODEL_ID_BYTES: usize = 256;

/// What changes of a provider account. The outer `None` leaves a thing as it is, the inner one removes it.
#[derive(Debug, Default)]
pub struct AccountChange {
    /// Where it is.
    pub base_url: Option<String>,
    /// All of its headers.
    pub headers: Option<BTreeMap<String, String>>,
    /// PEM.
    pub ca_certificates: Option<Option<String>>,
    /// The provider's key.
    pub api_key: Option<Option<Secret>>,
}

/// A provider account as the caller may see it.
#[derive(Debug)]
pub struct AccountView {
    /// Only what the caller may see: the key never, the models it may use; settings for managers only.
    pub spec: ProviderAccount,
    /// Whether a key is stored; `None` when that is not the caller's to know.
    pub has_api_key: Option<bool>,
    /// Whether the caller manages it.
    pub managed: bool,
    /// Who has access to it, for managers.
    pub access: AccountAccess,
}

/// A model as it is offered.
#[derive(Debug)]
pub struct OfferedModel {
    /// Its account.
    pub account: AccountName,
    /// The account's protocol.
    pub provider: ProviderType,
    /// Who made the account.
    pub created_by: String,
    /// The model.
    pub model: Model,
}

impl Manage {
    /// The provider accounts that the caller may see.
    ///
    /// # Errors
    /// When the principal manages nothing.
    pub fn accounts(&self, principal: &Principal, page: Page) -> Result<Listing<AccountView>, Failure> {
        let view = self.view(principal)?;
        let seen = view.world.accounts().filter(|account| sees(&view, account));
        let Listing { items, total } = page.cut(seen);
        let names = items.iter().map(|account| &account.spec.name).collect();
        let mut access = access_to(&view, &names);
        let shown = |account: &Arc<Account>| {
            let access = access.remove(&account.spec.name);
            shown_with(&view, &account.spec, access.unwrap_or_default())
        };
        Ok(Listing { items: items.into_iter().map(shown).collect(), total })
    }

    /// One provider account.
    ///
    /// # Errors
    /// When there is none that the caller may see.
    pub fn account(&self, principal: &Principal, name: &str) -> Result<AccountView, Failure> {
        let view = self.view(principal)?;
        visible(&view, name).map(|account| shown(&view, &account.spec))
    }

    /// The models that the caller may use or manages, of one account or of all.
    ///
    /// # Errors
    /// When the principal manages nothing.
    pub fn models(
        &self,
        principal: &Principal,
        account: Option<&str>,
        page: Page,
    ) -> Result<Listing<OfferedModel>, Failure> {
        let view = self.view(principal)?;
        let wanted =
            view.world.accounts().filter(|one| account.is_none_or(|name| one.spec.name.as_str() == name));
        let models =
            wanted.flat_map(|account| account.spec.models.values().map(move |model| (account, model)));
        let Listing { items, total } = page.cut(models.filter(|(account, model)| {
            authz::may_see_model(
                &view.principal,
                account.spec.name.as_str(),
                model.name.as_str(),
                &view.world,
            )
        }));
        let items = items.into_iter().map(|(account, model)| offered(&account.spec, model)).collect();
        Ok(Listing { items, total })
    }

    /// Changes the settings of a provider account. A stored key goes along to the same place only: to send calls
    /// elsewhere, or to trust other certificates, the key has to be given again. Otherwise a manager could point
    /// the account at a host of their own and receive a key that they were never shown.
    ///
    /// # Errors
    /// When the caller may not, or the change can not be used.
    pub fn update_account(
        &self,
        principal: &Principal,
        name: &str,
        change: &AccountChange,
    ) -> Result<AccountView, Failure> {
        self.change(principal, |view| {
            let old = managed(view, name)?;
            let mut new = old.spec.clone();
            if new.provider == ProviderType::Demo {
                return Err(refused("A demo account has no settings"));
            }
            if let Some(url) = &change.base_url {
                let endpoint = destination::endpoint(url)?;
                if endpoint != old.endpoint
                    && destination::is_local(&endpoint)
                    && !authz::is_admin(&view.principal)
                {
                    return Err(Failure::Forbidden(
                        "Only administrators may point an account at this host or its own link".into(),
                    ));
                }
                // An admin who sends the URL again vouches for it.
                new.destination_by_admin = authz::is_admin(&view.principal)
                    || (endpoint == old.endpoint && old.spec.destination_by_admin);
                new.base_url.clone_from(url);
            }
            if let Some(headers) = &change.headers {
                new.headers = destination::headers(headers)?;
            }
            if let Some(pem) = &change.ca_certificates {
                if let Some(pem) = pem {
                    destination::ca_certificates(pem)?;
                }
                new.ca_certificates.clone_from(pem);
            }
            match &change.api_key {
                Some(key) => {
                    new.sealed_api_key = key.as_ref().map(|key| self.seal(&new.name, key)).transpose()?;
                }
                None if new.sealed_api_key.is_some() && !destination::same_destination(&old.spec, &new) => {
                    return Err(refused(
                        "The stored key belongs to the present scheme, host, port and certificates; send api_key again to change them",
                    ));
                }
                None => {}
            }
            let mut draft = Draft::default();
            if new != old.spec {
                new.updated_at = view.now;
                let key = Key::account(name);
                draft.audit(view, "account.update", &key, old.spec.audited(), new.audited());
                draft.replace(Object::Account(new.clone()), old.revision);
            }
            Ok((draft, shown(view, &new)))
        })
    }

    /// Deletes a provider account with its models and every grant on them.
    ///
    /// # Errors
    /// When the caller may not, or there is none that it may see.
    pub fn delete_account(&self, principal: &Principal, name: &str) -> Result<(), Failure> {
        self.change(principal, |view| {
            let account = visible(view, name)?;
            view.require_admin()?;
            let mut draft = Draft::default();
            let grants =
                delete_grants_on(&mut draft, view, |grant| grant.target.account == account.spec.name);
            let key = Key::account(name);
            let before = json!({"account": account.spec.audited(), "grants": grants});
            draft.audit(view, "account.delete", &key, before, Value::Null);
            draft.delete(key, account.revision);
            Ok((draft, ()))
        })
    }

    /// Offers one more model.
    ///
    /// # Errors
    /// When the caller may not, the model can not be used, or its name is taken.
    pub fn add_model(
        &self,
        principal: &Principal,
        account: &str,
        spec: &ModelSpec,
    ) -> Result<OfferedModel, Failure> {
        self.change(principal, |view| {
            let old = managed(view, account)?;
            let mut new = old.spec.clone();
            let model = insert_model(&mut new, spec, view.now)?;
            new.updated_at = view.now;
            let mut draft = Draft::default();
            let answer = offered(&new, &model);
            let key = Key::account(account);
            draft.audit(
                view,
                "model.create",
                &key,
                Value::Null,
                json!({"name": model.name, "modelId": model.model_id}),
            );
            draft.replace(Object::Account(new), old.revision);
            Ok((draft, answer))
        })
    }

    /// Offers a model no longer, and deletes every grant on it.
    ///
    /// # Errors
    /// When the caller may not, or there is no such model.
    pub fn remove_model(&self, principal: &Principal, account: &str, name: &str) -> Result<(), Failure> {
        self.change(principal, |view| {
            let old = visible(view, account)?;
            if !authz::may_see_model(&view.principal, account, name, &view.world) {
                return Err(not_found("model", name));
            }
            let mut new = old.spec.clone();
            let Some(model) = new.models.remove(name) else { return Err(not_found("model", name)) };
            managed(view, account)?;
            new.updated_at = view.now;
            let mut draft = Draft::default();
            let grants = delete_grants_on(&mut draft, view, |grant| {
                grant.target.account == new.name && grant.target.model.as_ref() == Some(&model.name)
            });
            let key = Key::account(account);
            let before = json!({"name": model.name, "modelId": model.model_id, "grants": grants});
            draft.audit(view, "model.delete", &key, before, Value::Null);
            draft.replace(Object::Account(new), old.revision);
            Ok((draft, ()))
        })
    }

    pub(super) fn provider(&self, word: &str) -> Result<ProviderType, Failure> {
        match word {
            "openai" => Ok(ProviderType::Openai),
            "demo" if self.demo => Ok(ProviderType::Demo),
            _ => Err(refused(format!(
                "There is no provider type '{word}' here; use provider-account/openai, which any OpenAI-compatible server is"
            ))),
        }
    }

    pub(super) fn seal(&self, name: &AccountName, key: &Secret) -> Result<String, Failure> {
        destination::api_key(key)?;
        let sealed = self.store.master_key().seal("account", name.as_str(), "api_key", key);
        sealed.map_err(|_| Failure::Internal)
    }
}

fn sees(view: &View, account: &Account) -> bool {
    authz::may_see_account(&view.principal, account.spec.name.as_str(), &view.world)
}

pub(super) fn visible<'v>(view: &'v View, name: &str) -> Result<&'v Arc<Account>, Failure> {
    let account = view.world.account(name).filter(|account| sees(view, account));
    account.ok_or_else(|| not_found("provider account", name))
}

pub(super) fn managed<'v>(view: &'v View, name: &str) -> Result<&'v Arc<Account>, Failure> {
    let account = visible(view, name)?;
    if view.may(Action::ManageAccess, Resource::Account(name)) {
        Ok(account)
    } else {
        Err(Failure::Forbidden("Only managers of the account and administrators may do this".into()))
    }
}

/// What the caller may see of an account.
pub(super) fn shown(view: &View, spec: &ProviderAccount) -> AccountView {
    let access = access_to(view, &BTreeSet::from([&spec.name])).remove(&spec.name);
    shown_with(view, spec, access.unwrap_or_default())
}

fn shown_with(view: &View, spec: &ProviderAccount, access: AccountAccess) -> AccountView {
    let name = spec.name.as_str();
    let managed = authz::may_manage_account(&view.principal, name, &view.world);
    let has_api_key = managed.then_some(spec.sealed_api_key.is_some());
    let mut spec = ProviderAccount { sealed_api_key: None, ..spec.clone() };
    if !managed {
        spec.base_url.clear();
        spec.headers.clear();
        spec.ca_certificates = None;
        spec.manifest = None;
        let usable = |model: &str| authz::may_use(&view.principal, spec.name.as_str(), model, &view.world);
        spec.models.retain(|model, _| usable(model.as_str()));
    }
    let access = if managed { access } else { AccountAccess::default() };
    AccountView { spec, has_api_key, managed, access }
}

/// Who has access to accounts, in one pass over the grants.
fn access_to(view: &View, accounts: &BTreeSet<&AccountName>) -> BTreeMap<AccountName, AccountAccess> {
    let mut all: BTreeMap<AccountName, AccountAccess> = BTreeMap::new();
    for grant in view.world.grants().filter(|grant| accounts.contains(&grant.target.account)) {
        let access = all.entry(grant.target.account.clone()).or_default();
        match &grant.target.model {
            None => access.collaborators.push((grant.subject.clone(), grant.role)),
            Some(model) => access.authorized.entry(model.clone()).or_default().push(grant.subject.clone()),
        }
    }
    all
}

fn offered(account: &ProviderAccount, model: &Model) -> OfferedModel {
    OfferedModel {
        account: account.name.clone(),
        provider: account.provider,
        created_by: account.created_by.clone(),
        model: model.clone(),
    }
}

pub(super) fn insert_model(
    account: &mut ProviderAccount,
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
    let model = Model {
        name: name.clone(),
        model_id: spec.model_id.clone(),
        types: spec.types.clone(),
        input_price: spec.input_price.as_ref().map(Price::per_million).transpose()?,
        output_price: spec.output_price.as_ref().map(Price::per_million).transpose()?,
        settings: crate::domain::ModelSettings::default(),
        created_at: now,
    };
    account.models.insert(name, model.clone());
    Ok(model)
}

pub(super) fn delete_grants_on(draft: &mut Draft, view: &View, on: impl Fn(&Grant) -> bool) -> Vec<Value> {
    let mut deleted = Vec::new();
    for grant in view.world.grants().filter(|grant| on(grant)) {
        draft.delete(Key::grant(grant), grant.revision);
        deleted.push(grant.audited());
    }
    deleted
}

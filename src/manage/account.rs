//! Provider accounts and the models offered through them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::account_settings as settings;
use super::draft::{Audited, Draft};
use super::{Listing, Manage, Page, View, destination, not_found, refused};
use crate::authz::{self, Action, Resource};
use crate::domain::{AccountSettings, BodyLogging, Grant, Model, Principal, ProviderAccount, ProviderType};
use crate::failure::Failure;
use crate::id::AccountName;
use crate::manifest::{AccountAccess, AuthSpec, ModelSpec};
use crate::secret::Secret;
use crate::store::{Account, Key, Object};

/// What changes of a provider account. The outer `None` leaves a thing as it is, the inner one removes it.
#[derive(Debug, Default)]
pub struct AccountChange {
    /// Where it is.
    pub base_url: Option<String>,
    /// All of its headers.
    pub headers: Option<BTreeMap<String, String>>,
    /// PEM.
    pub ca_certificates: Option<Option<String>>,
    /// What it shows to its provider.
    pub auth: Option<Option<AuthSpec>>,
    /// AWS region, or Vertex location.
    pub region: Option<String>,
    /// Google Cloud project (Vertex).
    pub project_id: Option<String>,
    /// Azure's `api-version`.
    pub api_version: Option<Option<String>>,
    /// What the provider can not do is dropped.
    pub drop_unsupported: Option<bool>,
    /// Whose bodies are kept; `Some(None)`: as the tenant says.
    pub logging_settings: Option<Option<BodyLogging>>,
    /// PEM; removed with its key.
    pub client_certificate: Option<Option<String>>,
    /// PEM.
    pub client_key: Option<Secret>,
}

/// A provider account as the caller may see it.
#[derive(Debug)]
pub struct AccountView {
    /// Only what the caller may see: the key never, the models it may use; settings for managers only.
    pub spec: ProviderAccount,
    /// Whether a credential is stored; `None` when that is not the caller's to know.
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
        let names =
            items.iter().map(|account| &account.spec.name).filter(|name| manages(&view, name)).collect();
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
        let offer = |account: &Account, model: &Model| {
            let mut offer = offered(&account.spec, model);
            if !authz::may_manage_account(&view.principal, account.spec.name.as_str(), &view.world) {
                offer.model.settings.server = None;
            }
            offer
        };
        let items = items.into_iter().map(|(account, model)| offer(account, model)).collect();
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
                let endpoint = destination::endpoint(&settings::base_url(new.provider, url))?;
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
                new.base_url = settings::base_url(new.provider, url);
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
            settings::change(&mut new, change)?;
            if change.region.is_some() && change.base_url.is_none() {
                settings::follow_region(&old.spec, &mut new);
            }
            let mut resent = false;
            match &change.auth {
                Some(Some(auth)) => resent = self.set_credential(view, &mut new, Some(old), auth)?,
                Some(None) => settings::remove_credential(&mut new),
                None => {}
            }
            let certificate = match &change.client_certificate {
                Some(certificate) => certificate.as_ref(),
                None => old.spec.settings.client_certificate.as_ref(),
            };
            self.set_client_certificate(&mut new, Some(old), certificate, change.client_key.as_ref())?;
            settings::require(&new)?;
            settings::check_kept(&old.spec, &new, resent, change.client_key.is_some())?;
            settings::check_servers_kept(&old.spec, &new)?;
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
            let model = self.insert_model(view, &mut new, Some(old), spec, view.now)?;
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
}

fn manages(view: &View, name: &AccountName) -> bool {
    authz::may_manage_account(&view.principal, name.as_str(), &view.world)
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
    // For others it is not shown, and finding it takes a walk through all grants.
    let access = manages(view, &spec.name)
        .then(|| access_to(view, &BTreeSet::from([&spec.name])).remove(&spec.name))
        .flatten();
    shown_with(view, spec, access.unwrap_or_default())
}

fn shown_with(view: &View, spec: &ProviderAccount, access: AccountAccess) -> AccountView {
    let name = spec.name.as_str();
    let managed = authz::may_manage_account(&view.principal, name, &view.world);
    let has_api_key = managed.then_some(spec.has_credential());
    let mut spec = spec.clone();
    settings::unseal_nothing(&mut spec);
    if !managed {
        spec.settings = AccountSettings::default();
        spec.models.values_mut().for_each(|model| model.settings.server = None);
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
    if accounts.is_empty() {
        return all;
    }
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
        model: settings::without_seal(model.clone()),
    }
}

pub(super) fn delete_grants_on(draft: &mut Draft, view: &View, on: impl Fn(&Grant) -> bool) -> Vec<Value> {
    let mut deleted = Vec::new();
    for grant in view.world.grants().filter(|grant| on(grant)) {
        draft.delete(Key::grant(grant), grant.revision);
        deleted.push(grant.audited());
    }
    deleted
}

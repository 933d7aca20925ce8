//! What the manifest of a provider account changes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::account::delete_grants_on;
use super::draft::{Audited, Draft};
use super::{Manage, View, account_settings as settings, destination, in_field, invalid, refused};
use crate::authz;
use crate::domain::{AccountSettings, ProviderAccount, ProviderType};
use crate::failure::Failure;
use crate::id::AccountName;
use crate::manifest::AccountSpec;
use crate::store::{Account, Key, Object};

impl Manage {
    pub(super) fn build_account(
        &self,
        draft: &mut Draft,
        view: &View,
        spec: &AccountSpec,
        manifest: &Value,
    ) -> Result<(), Failure> {
        let name = AccountName::parse(&spec.name).map_err(|error| in_field("name", invalid(error)))?;
        let provider = spec.provider;
        if provider == ProviderType::Demo && !self.demo {
            return Err(in_field("type", refused("names no provider that is known here")));
        }
        let old = view.world.account(name.as_str());
        if old.is_some_and(|old| old.spec.provider != provider) {
            return Err(in_field(
                "type",
                refused("The type of an account stays what it is; delete it first"),
            ));
        }
        if provider == ProviderType::Demo
            && (spec.base_url.is_some()
                || spec.auth.is_some()
                || spec.ca_certificates.is_some()
                || spec.client_certificate.is_some()
                || !spec.headers.is_empty())
        {
            return Err(refused("A demo account has no base URL, no key and no other settings"));
        }
        let mut account = self.account_without_secrets(view, old.map(|old| &**old), name, spec, manifest)?;
        let mut resent = false;
        if let Some(auth) = &spec.auth {
            resent = self.set_credential(view, &mut account, old.map(|old| &**old), auth)?;
        }
        let certificate = spec.client_certificate.as_ref();
        let old_account = old.map(|old| &**old);
        self.set_client_certificate(&mut account, old_account, certificate, spec.client_key.as_ref())
            .map_err(|failure| in_field("tls_settings", failure))?;
        if let Some(old) = old {
            settings::check_kept(&old.spec, &account, resent, spec.client_key.is_some())?;
        }
        match (&spec.models, old) {
            (None, Some(old)) => account.models.clone_from(&old.spec.models),
            (None, None) => {}
            (Some(models), old) => {
                for (at, model) in models.iter().enumerate() {
                    let since = old.and_then(|old| old.spec.models.get(model.name.as_str()));
                    let since = since.map_or(view.now, |model| model.created_at);
                    let twice = |failure| match failure {
                        Failure::Conflict(text) => refused(text),
                        other => other,
                    };
                    self.insert_model(view, &mut account, old_account, model, since)
                        .map_err(|failure| in_field(&format!("integrations[{at}]"), twice(failure)))?;
                }
            }
        }
        let key = Key::account(account.name.as_str());
        let Some(old) = old else {
            draft.audit(view, "account.create", &key, Value::Null, account.audited());
            draft.create(Object::Account(account));
            return Ok(());
        };
        if account == old.spec {
            return Ok(());
        }
        account.updated_at = view.now;
        let gone: BTreeSet<_> =
            old.spec.models.keys().filter(|name| !account.models.contains_key(*name)).collect();
        let grants = if gone.is_empty() {
            Vec::new()
        } else {
            delete_grants_on(draft, view, |grant| {
                grant.target.account == account.name
                    && grant.target.model.as_ref().is_some_and(|model| gone.contains(model))
            })
        };
        let before = json!({"account": old.spec.audited(), "grants": grants});
        let after = json!({"account": account.audited(), "grants": []});
        draft.audit(view, "account.update", &key, before, after);
        draft.replace(Object::Account(account), old.revision);
        Ok(())
    }

    /// The account as its manifest says, with the credentials that are stored and without models.
    fn account_without_secrets(
        &self,
        view: &View,
        old: Option<&Account>,
        name: AccountName,
        spec: &AccountSpec,
        manifest: &Value,
    ) -> Result<ProviderAccount, Failure> {
        let base_url = match &spec.base_url {
            Some(url) => url.clone(),
            // The region is missing; that is said further down.
            None => spec.provider.default_base_url(spec.region.as_deref()).unwrap_or_default(),
        };
        let kept = old.map(|old| old.spec.settings.clone()).unwrap_or_default();
        let mut account = ProviderAccount {
            sealed_api_key: old.and_then(|old| old.spec.sealed_api_key.clone()),
            provider: spec.provider,
            base_url,
            destination_by_admin: false,
            headers: destination::headers(&spec.headers).map_err(|failure| in_field("headers", failure))?,
            ca_certificates: spec.ca_certificates.clone(),
            settings: AccountSettings {
                region: spec.region.clone(),
                project_id: spec.project_id.clone(),
                api_version: spec.api_version.clone(),
                drop_unsupported: spec.drop_unsupported,
                logging_settings: spec.logging_settings,
                discount_percent: spec.discount_percent,
                ..kept
            },
            models: BTreeMap::new(),
            manifest: Some(manifest.clone()),
            created_at: old.map_or(view.now, |old| old.spec.created_at),
            updated_at: old.map_or(view.now, |old| old.spec.updated_at),
            created_by: old.map_or_else(|| view.principal.subject_text(), |old| old.spec.created_by.clone()),
            name,
        };
        settings::require(&account)?;
        let endpoint =
            destination::endpoint(&account.base_url).map_err(|failure| in_field("base_url", failure))?;
        if let Some(pem) = &spec.ca_certificates
            && old.and_then(|old| old.spec.ca_certificates.as_ref()) != Some(pem)
        {
            destination::ca_certificates(pem).map_err(|failure| in_field("ca_certificates", failure))?;
        }
        let admin = authz::is_admin(&view.principal);
        let same_place = old.is_some_and(|old| old.endpoint == endpoint);
        if !same_place && !admin && destination::is_local(&endpoint) {
            return Err(settings::only_administrators());
        }
        // An admin who sends the URL again vouches for it.
        account.destination_by_admin =
            admin || (same_place && old.is_some_and(|old| old.spec.destination_by_admin));
        Ok(account)
    }
}

//! Provider accounts and models as JSON. A key goes in and never comes out.

use serde_json::{Value, json};

use super::{Call, Result, apply, data, done, list, subject};
use crate::domain::{Principal, ProviderType};
use crate::failure::Failure;
use crate::manage::{AccountChange, AccountView, OfferedModel};
use crate::manifest::{self, model_manifest};

fn account_fqn(call: &Call, provider: ProviderType, account: &str) -> String {
    format!("{}:{}:{account}", call.manage.tenant, provider.as_str())
}

fn model_shape(call: &Call, offered: &OfferedModel) -> Value {
    let OfferedModel { account, provider, created_by, model } = offered;
    let account_fqn = account_fqn(call, *provider, account.as_str());
    json!({
        "id": format!("{account}/{}", model.name),
        "name": model.name,
        "modelName": format!("{account}/{}", model.name),
        "fqn": format!("{account_fqn}:model:{}", model.name),
        "type": "model",
        "providerAccountFqn": account_fqn,
        "tenantName": call.manage.tenant,
        "createdBySubject": subject::shape(created_by),
        "manifest": model_manifest(*provider, model),
        "createdAt": model.created_at.to_iso(),
        "updatedAt": model.created_at.to_iso(),
    })
}

pub fn shape(call: &Call, view: &AccountView) -> Value {
    let spec = &view.spec;
    let manifest = if view.managed {
        manifest::account(spec, &view.access, view.has_api_key == Some(true))
    } else {
        let models = spec.models.values().map(|model| model_manifest(spec.provider, model));
        json!({
            "type": format!("provider-account/{}", spec.provider.as_str()),
            "name": spec.name,
            "integrations": models.collect::<Vec<_>>(),
        })
    };
    let integrations: Vec<Value> = spec
        .models
        .values()
        .map(|model| {
            let offered = OfferedModel {
                account: spec.name.clone(),
                provider: spec.provider,
                created_by: spec.created_by.clone(),
                model: model.clone(),
            };
            model_shape(call, &offered)
        })
        .collect();
    let mut account = json!({
        "id": spec.name,
        "name": spec.name,
        "fqn": account_fqn(call, spec.provider, spec.name.as_str()),
        "provider": spec.provider.as_str(),
        "accountId": call.manage.tenant,
        "tenantName": call.manage.tenant,
        "manifest": manifest,
        "integrations": integrations,
        "createdBySubject": subject::shape(&spec.created_by),
        "createdBy": spec.created_by,
        "createdAt": spec.created_at.to_iso(),
        "updatedAt": spec.updated_at.to_iso(),
    });
    if let (Value::Object(fields), Some(has_api_key)) = (&mut account, view.has_api_key) {
        fields.insert("hasApiKey".into(), has_api_key.into());
    }
    account
}

pub fn list_all(call: &Call, principal: &Principal) -> Result {
    let page = call.query.page()?;
    let accounts = call.manage.accounts(principal, page)?;
    list(&accounts, page, |account| shape(call, account))
}

pub fn show(call: &Call, principal: &Principal) -> Result {
    data(shape(call, &call.manage.account(principal, call.id())?))
}

/// Makes an account; one that is there already is a conflict.
pub fn create(call: &Call, principal: &Principal) -> Result {
    apply::put(call, principal, "provider-account/", true)
}

/// Makes an account, or makes it what the manifest says.
pub fn put(call: &Call, principal: &Principal) -> Result {
    apply::put(call, principal, "provider-account/", false)
}

pub fn update(call: &Call, principal: &Principal) -> Result {
    // Whoever may not even see the account hears nothing about the body.
    call.manage.require_manager(principal, call.id())?;
    let mut fields = call.fields()?;
    let mut change = AccountChange::default();
    if fields.has("base_url") {
        change.base_url = Some(fields.required_text("base_url")?);
    }
    if fields.has("headers") {
        change.headers = Some(fields.map("headers")?.unwrap_or_default());
    }
    if fields.has("ca_certificates") {
        change.ca_certificates = Some(fields.text("ca_certificates")?);
    }
    if fields.has("api_key") {
        change.api_key = Some(fields.secret("api_key")?);
    }
    fields.finish()?;
    data(shape(call, &call.manage.update_account(principal, call.id(), &change)?))
}

pub fn set_credential(call: &Call, principal: &Principal) -> Result {
    call.manage.require_manager(principal, call.id())?;
    let mut fields = call.fields()?;
    if !fields.has("api_key") {
        return Err(fields.refusal("api_key", "is missing; null removes the key"));
    }
    let change = AccountChange { api_key: Some(fields.secret("api_key")?), ..AccountChange::default() };
    fields.finish()?;
    call.manage.update_account(principal, call.id(), &change)?;
    done()
}

pub fn delete(call: &Call, principal: &Principal) -> Result {
    call.manage.delete_account(principal, call.id())?;
    done()
}

pub fn add_model(call: &Call, principal: &Principal) -> Result {
    call.manage.require_manager(principal, call.id())?;
    let mut fields = call.fields()?;
    let manifest = fields.manifest()?;
    fields.finish()?;
    let spec = manifest::model(manifest)?;
    if spec.authorized_subjects.as_ref().is_some_and(|list| !list.is_empty()) {
        let text = "The field 'manifest.authorized_subjects' is not read here; apply the account's manifest or POST /grants";
        return Err(Failure::Unprocessable(text.into()));
    }
    data(model_shape(call, &call.manage.add_model(principal, call.id(), &spec)?))
}

pub fn remove_model(call: &Call, principal: &Principal) -> Result {
    call.manage.remove_model(principal, call.id(), call.second_id())?;
    done()
}

pub fn list_models(call: &Call, principal: &Principal) -> Result {
    let mut page = call.query.page()?;
    if call.query.get("type")?.is_some_and(|kind| kind != "model") {
        // Models are the only integrations there are.
        page.limit = 0;
    }
    let models = call.manage.models(principal, call.query.get("accountName")?, page)?;
    list(&models, page, |model| model_shape(call, model))
}

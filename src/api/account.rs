//! Provider accounts and models as JSON. A key goes in and never comes out.

use serde_json::{Value, json};

use super::apply::attempt;
use super::{Call, Result, apply, data, done, list, subject};
use crate::domain::{Principal, ProviderType};
use crate::failure::Failure;
use crate::manage::{AccountChange, AccountView, Manage, OfferedModel};
use crate::manifest::fields::Fields;
use crate::manifest::{self, AuthSpec, model_manifest};

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
        fields.insert("baseUrl".into(), spec.base_url.as_str().into());
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
    if fields.has("region") {
        change.region = Some(fields.required_text("region")?);
    }
    if fields.has("project_id") {
        change.project_id = Some(fields.required_text("project_id")?);
    }
    if fields.has("api_version") {
        change.api_version = Some(fields.text("api_version")?);
    }
    if fields.has("drop_unsupported") {
        change.drop_unsupported = Some(fields.flag("drop_unsupported")?);
    }
    if fields.has("logging_settings") {
        change.logging_settings = Some(crate::manifest::logging_settings(&mut fields)?);
    }
    if fields.has("client_certificate") {
        change.client_certificate = Some(fields.text("client_certificate")?);
    }
    change.client_key = fields.secret("client_key")?;
    if fields.has("api_key") || fields.has("auth_data") {
        change.auth = Some(auth(call, principal, &mut fields)?);
    }
    fields.finish()?;
    data(shape(call, &call.manage.update_account(principal, call.id(), &change)?))
}

/// A credential, as a plain key or as `auth_data`; null removes it.
fn auth(
    call: &Call,
    principal: &Principal,
    fields: &mut Fields,
) -> std::result::Result<Option<AuthSpec>, Failure> {
    let provider = call.manage.account(principal, call.id())?.spec.provider;
    if fields.has("api_key") {
        if fields.has("auth_data") {
            return Err(fields.refusal("auth_data", "and 'api_key' are both there; send one of them"));
        }
        let key = fields.secret("api_key")?;
        return Ok(key.map(|key| AuthSpec::of_key(key, provider)));
    }
    fields.object("auth_data")?.map(|auth_data| manifest::auth(auth_data, provider)).transpose()
}

pub fn set_credential(call: &Call, principal: &Principal) -> Result {
    call.manage.require_manager(principal, call.id())?;
    let mut fields = call.fields()?;
    if !fields.has("api_key") && !fields.has("auth_data") {
        return Err(
            fields.refusal("api_key", "is missing, and so is 'auth_data'; null removes the credential")
        );
    }
    let auth = auth(call, principal, &mut fields)?;
    let change = AccountChange { auth: Some(auth), ..AccountChange::default() };
    fields.finish()?;
    call.manage.update_account(principal, call.id(), &change)?;
    done()
}

pub fn delete(call: &Call, principal: &Principal) -> Result {
    let delete = |manage: &Manage| manage.delete_account(principal, call.id());
    attempt(call, call.query.flag("dryRun")?, delete, |()| json!({}))
}

pub fn add_model(call: &Call, principal: &Principal) -> Result {
    call.manage.require_manager(principal, call.id())?;
    let mut fields = call.fields()?;
    let manifest = fields.manifest()?;
    let dry_run = fields.flag("dryRun")?;
    fields.finish()?;
    let provider = call.manage.account(principal, call.id())?.spec.provider;
    let spec = manifest::model(manifest, provider, false)?;
    if spec.authorized_subjects.as_ref().is_some_and(|list| !list.is_empty()) {
        let text = "The field 'manifest.authorized_subjects' is not read here; apply the account's manifest or POST /grants";
        return Err(Failure::Unprocessable(text.into()));
    }
    let add = |manage: &Manage| manage.add_model(principal, call.id(), &spec);
    attempt(call, dry_run, add, |model| json!({"data": model_shape(call, &model)}))
}

pub fn remove_model(call: &Call, principal: &Principal) -> Result {
    let remove = |manage: &Manage| manage.remove_model(principal, call.id(), call.second_id());
    attempt(call, call.query.flag("dryRun")?, remove, |()| json!({}))
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

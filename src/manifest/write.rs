//! Objects as documents, in the contract's words and without secrets. What a document said that has no effect here
//! is taken over from the document that was last applied.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::auth::key_shape;
use super::{MASK, Permission, price};
use crate::clock::UnixMillis;
use crate::domain::{
    Model, ModelSettings, ProviderAccount, ProviderType, Role, Settings, Subject, Team, User, VirtualAccount,
};
use crate::id::ModelName;

/// Who has what on a provider account.
#[derive(Debug, Default)]
pub struct AccountAccess {
    /// On the account as a whole.
    pub collaborators: Vec<(Subject, Role)>,
    /// On one model of it.
    pub authorized: BTreeMap<ModelName, Vec<Subject>>,
}

/// Takes fields without effect over from the manifest as it was last applied.
fn keep(document: &mut Map<String, Value>, applied: Option<&Value>, names: &[&str]) {
    for name in names {
        if let Some(value) = applied.and_then(|applied| applied.get(name)).filter(|value| !value.is_null()) {
            document.insert((*name).to_owned(), value.clone());
        }
    }
}

fn head(kind: &str, name: &str) -> Map<String, Value> {
    let mut document = Map::new();
    document.insert("type".into(), kind.into());
    document.insert("name".into(), name.into());
    document
}

/// A user.
pub fn user(user: &User) -> Value {
    json!({"type": "user", "name": user.email, "displayName": user.display_name, "role": user.role})
}

/// A team.
pub fn team(team: &Team) -> Value {
    let mut document = head("team", team.name.as_str());
    document.insert("description".into(), team.description.as_str().into());
    document.insert("members".into(), json!(team.members));
    document.insert("managers".into(), json!(team.managers));
    let names = ["displayName", "ownedBy", "tags", "identity_provider_mapping"];
    keep(&mut document, team.manifest.as_ref(), &names);
    document.into()
}

/// The settings.
pub fn settings(settings: &Settings) -> Value {
    json!({
        "type": "settings",
        "pat_max_validity_days": settings.pat_max_validity_days,
        "pat_may_mint": settings.pat_may_mint,
        "audit_retention_days": settings.audit_retention_days,
        "limits_when_accounting_fails": settings.limits_when_accounting_fails,
        "logging_settings": settings.logging_settings,
    })
}

/// A model of a provider account.
pub fn model_manifest(provider: ProviderType, model: &Model) -> Value {
    let mut manifest = json!({
        "type": format!("integration/model/{}", provider.model_kind()),
        "name": model.name,
        "model_types": model.types,
    });
    if let Value::Object(fields) = &mut manifest {
        let id = if provider == ProviderType::SelfHostedModel { "hosted_model_name" } else { "model_id" };
        fields.insert(id.into(), model.model_id.as_str().into());
        model_settings(fields, &model.settings);
        price::write(&model.prices, fields);
    }
    manifest
}

fn model_settings(fields: &mut Map<String, Value>, settings: &ModelSettings) {
    for (name, value) in [
        ("region", &settings.region),
        ("api_version", &settings.api_version),
        ("family", &settings.family),
        ("foundation_model", &settings.foundation_model),
        ("deployment_type", &settings.deployment_type),
        ("model_server", &settings.model_server),
    ] {
        insert(fields, name, value.as_deref());
    }
    if let Some(most) = settings.max_output_tokens {
        fields.insert("max_output_tokens".into(), most.into());
    }
    if let Some(server) = &settings.server {
        insert(fields, "url", Some(&server.base_url));
        if !server.headers.is_empty() {
            fields.insert("headers".into(), json!(server.headers));
        }
        if let Some(pem) = &server.ca_certificates {
            fields.insert("tls_settings".into(), json!({"ca_cert": pem}));
        }
        if let Some(shape) = &server.auth_shape {
            fields.insert("auth_data".into(), shape.clone());
        }
    }
}

fn insert(fields: &mut Map<String, Value>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        fields.insert(name.into(), value.into());
    }
}

/// A provider account, as its managers may see it; with a mask in place of its key, if one is to be shown.
pub fn account(account: &ProviderAccount, access: &AccountAccess, masked_key: bool) -> Value {
    let mut document =
        head(&format!("provider-account/{}", account.provider.as_str()), account.name.as_str());
    if account.provider != ProviderType::Demo {
        account_settings(&mut document, account, masked_key);
    }
    let models = account.models.values().map(|model| {
        let mut manifest = model_manifest(account.provider, model);
        if let (Value::Object(fields), false) = (&mut manifest, masked_key) {
            fields.remove("auth_data");
        }
        if let (Value::Object(fields), Some(subjects)) = (&mut manifest, access.authorized.get(&model.name)) {
            fields.insert("authorized_subjects".into(), json!(subjects));
        }
        manifest
    });
    document.insert("integrations".into(), models.collect::<Vec<_>>().into());
    if !access.collaborators.is_empty() {
        let pairs = access.collaborators.iter();
        let list: Vec<Value> =
            pairs.map(|(subject, role)| json!({"subject": subject, "role_id": role.as_str()})).collect();
        document.insert("collaborators".into(), list.into());
    }
    keep(&mut document, account.manifest.as_ref(), &["ownedBy"]);
    if let Some(percent) = account.settings.discount_percent {
        // As it was written, mostly a number, where that says the same.
        document.insert("discount_percent".into(), percent.to_string().into());
        keep(&mut document, account.manifest.as_ref(), &["discount_percent"]);
    }
    document.into()
}

fn account_settings(document: &mut Map<String, Value>, account: &ProviderAccount, masked_key: bool) {
    let settings = &account.settings;
    let mut auth_data = Map::new();
    if masked_key {
        let shape = settings.auth_shape.clone().unwrap_or_else(|| key_shape(account.provider));
        if let Value::Object(shape) = shape {
            auth_data = shape;
        }
    }
    match account.provider {
        ProviderType::AzureOpenai => insert(document, "azure_endpoint", Some(&account.base_url)),
        ProviderType::Ollama => insert(&mut auth_data, "custom_host", Some(&account.base_url)),
        ProviderType::Openai => insert(document, "base_url", Some(&account.base_url)),
        // What follows from the other settings is not said, so that it goes on following from them.
        provider if provider.is_default_base_url(&account.base_url, settings) => {}
        _ => insert(document, "base_url", Some(&account.base_url)),
    }
    insert(document, "region", settings.region.as_deref());
    insert(document, "project_id", settings.project_id.as_deref());
    insert(document, "api_version", settings.api_version.as_deref());
    if settings.drop_unsupported {
        document.insert("drop_unsupported".into(), true.into());
    }
    if let Some(logging) = settings.logging_settings {
        document.insert("logging_settings".into(), json!(logging));
    }
    if !account.headers.is_empty() {
        document.insert("headers".into(), json!(account.headers));
    }
    insert(document, "ca_certificates", account.ca_certificates.as_deref());
    if let Some(pem) = &settings.client_certificate {
        document.insert("tls_settings".into(), json!({"client_cert": pem, "client_key": MASK}));
    }
    if !auth_data.is_empty() {
        document.insert("auth_data".into(), auth_data.into());
    }
}

/// A date when the time is the end of that day, as the contract writes it; else the time.
fn expiration(end: UnixMillis) -> String {
    let time = end.to_iso();
    match time.split_once('T') {
        Some((date, "23:59:59.999Z")) => date.to_owned(),
        _ => time,
    }
}

/// A virtual account.
pub fn virtual_account(account: &VirtualAccount, permissions: &[Permission]) -> Value {
    let mut document = head("virtual-account", account.name.as_str());
    let applied = account.manifest.as_ref();
    if let Some(end) = account.expires_at {
        document.insert("expiration_date".into(), expiration(end).into());
    }
    if !account.tags.is_empty() {
        document.insert("tags".into(), json!(account.tags));
    }
    if let Some(team) = &account.owned_by {
        let mut owner = Map::new();
        owner.insert("team".into(), team.as_str().into());
        keep(&mut owner, applied.and_then(|applied| applied.get("ownedBy")), &["account"]);
        document.insert("ownedBy".into(), owner.into());
    }
    if let Some(rotate) = &account.auto_rotate {
        let rotate = json!({"auto_rotate_interval": rotate.interval_days, "grace_period": rotate.grace_days});
        document.insert("auto_rotate".into(), rotate);
    }
    if !permissions.is_empty() {
        document.insert("permissions".into(), permissions.iter().map(permission).collect::<Vec<_>>().into());
    }
    let names = ["token_type", "identity_provider_mapping", "notification_target", "secret_store_config"];
    keep(&mut document, applied, &names);
    document.into()
}

fn permission(one: &Permission) -> Value {
    json!({"resource_fqn": one.resource_fqn, "resource_type": one.resource_type, "role_id": one.role_id})
}

/// A role binding, from what it gives and to whom.
pub fn role_binding(name: &str, subjects: &[Subject], permissions: &[Permission]) -> Value {
    let subjects: Vec<Value> = subjects
        .iter()
        .map(|subject| {
            let (kind, name) = match subject {
                Subject::User(email) => ("user", email.as_str()),
                Subject::Team(name) => ("team", name.as_str()),
                Subject::VirtualAccount(name) => ("virtualaccount", name.as_str()),
            };
            json!({"type": kind, "name": name})
        })
        .collect();
    let permissions: Vec<Value> = permissions
        .iter()
        .map(|one| {
            json!({"resourceFqn": one.resource_fqn, "resourceType": one.resource_type, "role": one.role_id})
        })
        .collect();
    json!({"type": "role-binding", "name": name, "subjects": subjects, "permissions": permissions})
}

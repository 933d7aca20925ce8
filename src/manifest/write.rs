//! Objects as documents, in the contract's words and without secrets. What a document said that has no effect here
//! is taken over from the document that was last applied.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value, json};

use super::{MASK, Permission, Price, per_thousand};
use crate::clock::UnixMillis;
use crate::domain::{
    Model, ProviderAccount, ProviderType, Role, Settings, Subject, Team, User, VirtualAccount,
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
    })
}

/// A model of a provider account.
pub fn model_manifest(provider: ProviderType, model: &Model) -> Value {
    let mut manifest = json!({
        "type": format!("integration/model/{}", provider.as_str()),
        "name": model.name,
        "model_id": model.model_id,
        "model_types": model.types,
    });
    if let Value::Object(fields) = &mut manifest {
        // The contract's prices are numbers for a thousand tokens; ours are exact text for a million. A price
        // that no such number says exactly is said in our way only.
        let number = |price: &Option<String>| -> Option<Number> {
            let number = Number::from_f64(per_thousand(price.as_deref()?)?.parse().ok()?)?;
            let back = Price::PerThousand(number.to_string()).per_million().ok()?;
            (Some(&back) == price.as_ref()).then_some(number)
        };
        if let (Some(input), Some(output)) = (number(&model.input_price), number(&model.output_price)) {
            let cost = json!({"metric": "per_1000_tokens", "value": {"input": input, "output": output}});
            fields.insert("cost".into(), cost);
        }
        for (name, price) in [("input_price", &model.input_price), ("output_price", &model.output_price)] {
            if let Some(price) = price {
                fields.insert(name.into(), price.as_str().into());
            }
        }
    }
    manifest
}

/// A provider account, as its managers may see it; with a mask in place of its key, if one is to be shown.
pub fn account(account: &ProviderAccount, access: &AccountAccess, masked_key: bool) -> Value {
    let mut document =
        head(&format!("provider-account/{}", account.provider.as_str()), account.name.as_str());
    if account.provider != ProviderType::Demo {
        document.insert("base_url".into(), account.base_url.as_str().into());
        if !account.headers.is_empty() {
            document.insert("headers".into(), json!(account.headers));
        }
        if let Some(pem) = &account.ca_certificates {
            document.insert("ca_certificates".into(), pem.as_str().into());
        }
        if masked_key {
            document.insert("auth_data".into(), json!({"type": "api-key", "api_key": MASK}));
        }
    }
    let models = account.models.values().map(|model| {
        let mut manifest = model_manifest(account.provider, model);
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
    keep(&mut document, account.manifest.as_ref(), &["ownedBy", "discount_percent"]);
    document.into()
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

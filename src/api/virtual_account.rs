//! Virtual accounts as JSON.

use serde_json::{Map, Value, json};

use super::{Call, Result, data, done, list, subject};
use crate::clock::UnixMillis;
use crate::domain::Principal;
use crate::manage::{Permission, VirtualAccountFilter, VirtualAccountSpec, VirtualAccountView};

/// A date when the time is the end of that day, as the contract writes it; else the time.
fn expiration(end: UnixMillis) -> String {
    let time = end.to_iso();
    match time.split_once('T') {
        Some((date, "23:59:59.999Z")) => date.to_owned(),
        _ => time,
    }
}

fn shape(call: &Call, view: &VirtualAccountView) -> Value {
    let account = &view.account;
    let mut manifest = Map::new();
    manifest.insert("type".into(), "virtual-account".into());
    manifest.insert("name".into(), account.name.as_str().into());
    if let Some(end) = account.expires_at {
        manifest.insert("expiration_date".into(), expiration(end).into());
    }
    if !account.tags.is_empty() {
        manifest.insert("tags".into(), json!(account.tags));
    }
    if !view.permissions.is_empty() {
        let permissions: Vec<Value> = view
            .permissions
            .iter()
            .map(|one| {
                json!({
                    "resource_fqn": one.resource_fqn,
                    "resource_type": one.resource_type,
                    "role_id": one.role_id,
                })
            })
            .collect();
        manifest.insert("permissions".into(), permissions.into());
    }
    json!({
        "id": account.name,
        "type": "virtual-account",
        "tenantName": call.manage.tenant,
        "accountId": call.manage.tenant,
        "createdBySubject": subject::shape(&account.created_by),
        "createdBy": account.created_by,
        "createdAt": account.created_at.to_iso(),
        "updatedAt": account.updated_at.to_iso(),
        "manifest": manifest,
        "isExpired": view.expired,
    })
}

pub fn list_all(call: &Call, principal: &Principal) -> Result {
    let page = call.query.page()?;
    let expired = call.query.get("isExpired")?.is_some();
    let filter = VirtualAccountFilter {
        name: call.query.get("nameSearchQuery")?.unwrap_or_default().to_owned(),
        owned_by: call.query.get("ownedByTeams")?.map(|teams| teams.split(',').map(str::to_owned).collect()),
        expired: if expired { Some(call.query.flag("isExpired")?) } else { None },
    };
    let accounts = call.manage.virtual_accounts_like(principal, &filter, page)?;
    list(&accounts, page, |account| shape(call, account))
}

pub fn show(call: &Call, principal: &Principal) -> Result {
    data(shape(call, &call.manage.virtual_account(principal, call.id())?))
}

pub fn put(call: &Call, principal: &Principal) -> Result {
    call.manage.require_admin(principal)?;
    let mut fields = call.fields()?;
    let mut manifest = fields.manifest()?;
    let dry_run = fields.flag("dryRun")?;
    fields.finish()?;
    if manifest.required_text("type")? != "virtual-account" {
        return Err(manifest.refusal("type", "must be 'virtual-account'"));
    }
    let expires_at = match manifest.text("expiration_date")? {
        None => None,
        Some(text) => {
            let wrong = |_| manifest.refusal("expiration_date", "must be a date such as 2027-01-31");
            Some(UnixMillis::parse(&text).map_err(wrong)?)
        }
    };
    let mut permissions = None;
    if let Some(objects) = manifest.objects("permissions")? {
        let mut list = Vec::new();
        for mut one in objects {
            list.push(Permission {
                resource_fqn: one.required_text("resource_fqn")?,
                resource_type: one.required_text("resource_type")?,
                role_id: one.required_text("role_id")?,
            });
            one.finish()?;
        }
        permissions = Some(list);
    }
    let spec = VirtualAccountSpec {
        name: manifest.required_text("name")?,
        expires_at,
        tags: manifest.map("tags")?.unwrap_or_default(),
        permissions,
    };
    manifest.ignore(&[
        "auto_rotate",
        "ownedBy",
        "token_type",
        "identity_provider_mapping",
        "notification_target",
        "secret_store_config",
    ]);
    manifest.finish()?;
    data(shape(call, &call.manage.put_virtual_account(principal, &spec, dry_run)?))
}

pub fn delete(call: &Call, principal: &Principal) -> Result {
    call.manage.delete_virtual_account(principal, call.id())?;
    done()
}

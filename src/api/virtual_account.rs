//! Virtual accounts as JSON.

use serde_json::{Value, json};

use super::apply::attempt;
use super::{Call, Result, apply, data, list, subject};
use crate::domain::Principal;
use crate::manage::{Manage, VirtualAccountFilter, VirtualAccountView};
use crate::manifest;

pub fn shape(call: &Call, view: &VirtualAccountView) -> Value {
    let account = &view.account;
    json!({
        "id": account.name,
        "type": "virtual-account",
        "tenantName": call.manage.tenant,
        "accountId": call.manage.tenant,
        "createdBySubject": subject::shape(&account.created_by),
        "createdBy": account.created_by,
        "createdAt": account.created_at.to_iso(),
        "updatedAt": account.updated_at.to_iso(),
        "manifest": manifest::virtual_account(account, &view.permissions),
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
    apply::put(call, principal, "virtual-account", false)
}

pub fn delete(call: &Call, principal: &Principal) -> Result {
    let delete = |manage: &Manage| manage.delete_virtual_account(principal, call.id());
    attempt(call, call.query.flag("dryRun")?, delete, |()| json!({}))
}

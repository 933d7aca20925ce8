//! Virtual accounts as JSON.

use serde_json::{Value, json};

use super::apply::attempt;
use super::{Call, Result, apply, data, list, subject};
use crate::clock::UnixMillis;
use crate::domain::Principal;
use crate::failure::Failure;
use crate::manage::{Manage, TokenView, VirtualAccountFilter, VirtualAccountView};
use crate::manifest;

/// The `expiry` of what does not expire.
const NO_END: &str = "9999-12-31T23:59:59.999Z";

pub fn shape(call: &Call, view: &VirtualAccountView) -> Value {
    let account = &view.account;
    let mut shape = json!({
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
    });
    let jwts: Vec<Value> = view.tokens.iter().map(|token| jwt(view, token)).collect();
    let current = view.current.as_ref().map(|id| json!(id));
    for (name, value) in [
        ("jwtId", current),
        ("jwts", (!jwts.is_empty()).then(|| jwts.into())),
        ("lastAccessedAt", view.last_used.map(|time| time.to_iso().into())),
        ("nextScheduledRotation", view.next_rotation.map(|time| time.to_iso().into())),
    ] {
        if let (Value::Object(fields), Some(value)) = (&mut shape, value) {
            fields.insert(name.into(), value);
        }
    }
    shape
}

/// The contract wants an end in each, so a token without one gets one that is out of sight.
fn jwt(view: &VirtualAccountView, shown: &TokenView) -> Value {
    let token = &shown.token;
    json!({
        "id": token.id,
        "subjectType": "virtualaccount",
        "subjectId": view.account.name,
        "expiry": shown.end.map_or_else(|| NO_END.to_owned(), UnixMillis::to_iso),
        "tokenType": "opaque",
        "createdAt": token.created_at.to_iso(),
        "updatedAt": token.created_at.to_iso(),
    })
}

pub fn list_all(call: &Call, principal: &Principal) -> Result {
    let page = call.query.page()?;
    // Its grammar is not public. A list that was not cut down as somebody asked would be a wrong answer.
    if call.query.get("filter")?.is_some() {
        call.manage.require_admin(principal)?;
        return Err(Failure::Unprocessable(
            "'filter' is not supported; use nameSearchQuery, ownedByTeams and isExpired".into(),
        ));
    }
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

//! Users as JSON.

use serde_json::{Value, json};

use super::apply::attempt;
use super::{Call, Result, data, done, list};
use crate::authz;
use crate::domain::{Principal, TenantRole, User};
use crate::failure::Failure;
use crate::manage::NewUser;

pub fn shape(call: &Call, principal: &Principal, user: &User) -> Value {
    let tenant = &call.manage.tenant;
    json!({
        "id": user.email,
        "email": user.email,
        "tenantName": tenant,
        "metadata": {"displayName": user.display_name},
        "active": user.active,
        "isEditable": authz::is_admin(principal),
        "createdAt": user.created_at.to_iso(),
        "updatedAt": user.updated_at.to_iso(),
        "roles": [user.role.contract_name()],
        "accounts": [{"accountId": tenant, "name": tenant}],
    })
}

pub fn list_all(call: &Call, principal: &Principal) -> Result {
    let page = call.query.page()?;
    let query = call.query.get("query")?.unwrap_or_default();
    let users = call.manage.users(principal, query, call.query.flag("showInvalidUsers")?, page)?;
    list(&users, page, |user| shape(call, principal, user))
}

pub fn show(call: &Call, principal: &Principal) -> Result {
    let user = call.manage.user(principal, call.id())?;
    data(shape(call, principal, &user))
}

fn role(text: &str) -> Result<TenantRole> {
    TenantRole::parse(text).ok_or_else(|| {
        Failure::Unprocessable("A tenant role is 'tenant-admin' (admin) or 'tenant-member' (member)".into())
    })
}

pub fn register(call: &Call, principal: &Principal) -> Result {
    call.manage.require_admin(principal)?;
    let mut fields = call.fields()?;
    let new = NewUser {
        email: fields.required_text("email")?,
        display_name: fields.text("displayName")?.unwrap_or_default(),
        role: fields.text("role")?.map(|text| role(&text)).transpose()?,
        skip_if_exists: fields.flag("skipIfUserExists")?,
        dry_run: fields.flag("dryRun")?,
    };
    // The gateway sends no mail.
    fields.ignore(&["sendInviteEmail", "acceptInviteClientURL"]);
    fields.finish()?;
    call.manage.register_user(principal, &new)?;
    done()
}

pub fn set_roles(call: &Call, principal: &Principal) -> Result {
    let mut fields = call.fields()?;
    let email = fields.required_text("email")?;
    let roles = fields.required_texts("roles")?;
    let dry_run = fields.flag("dryRun")?;
    fields.ignore(&["resourceType"]);
    fields.finish()?;
    let [one] = roles.as_slice() else {
        return Err(Failure::Unprocessable("A user has exactly one tenant role".into()));
    };
    let role = role(one)?;
    attempt(call, dry_run, |manage| manage.set_user_role(principal, &email, role), |()| json!({}))
}

/// The email in a body, and whether it is only a trial.
fn email_of_body(call: &Call) -> Result<(String, bool)> {
    let mut fields = call.fields()?;
    let email = fields.required_text("email")?;
    let dry_run = fields.flag("dryRun")?;
    fields.ignore(&["tenantName"]);
    fields.finish()?;
    Ok((email, dry_run))
}

pub fn deactivate(call: &Call, principal: &Principal) -> Result {
    let (email, dry_run) = email_of_body(call)?;
    attempt(call, dry_run, |manage| manage.deactivate_user(principal, &email), |()| json!({}))
}

pub fn activate(call: &Call, principal: &Principal) -> Result {
    let (email, dry_run) = email_of_body(call)?;
    attempt(call, dry_run, |manage| manage.activate_user(principal, &email), |()| json!({}))
}

pub fn delete(call: &Call, principal: &Principal) -> Result {
    let (force, dry_run) = (call.query.flag("forceDelete")?, call.query.flag("dryRun")?);
    attempt(call, dry_run, |manage| manage.delete_user(principal, call.id(), force), |()| json!({}))
}

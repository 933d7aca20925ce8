//! Teams as JSON.

use serde_json::{Value, json};

use super::apply::attempt;
use super::{Call, Result, apply, data, list, subject};
use crate::authz;
use crate::domain::{Principal, Team};
use crate::failure::Failure;
use crate::manage::Manage;
use crate::manifest;

pub fn shape(call: &Call, principal: &Principal, team: &Team) -> Value {
    let tenant = &call.manage.tenant;
    json!({
        "id": team.name,
        "description": team.description,
        "tenantName": tenant,
        "accountId": tenant,
        "createdBySubject": subject::administrators(),
        "createdAt": team.created_at.to_iso(),
        "updatedAt": team.updated_at.to_iso(),
        "manifest": manifest::team(team),
        "isEditable": authz::may_manage_team(principal, team),
        "members": team.members,
        "totalMemberCount": team.members.len(),
        "totalManagerCount": team.managers.len(),
    })
}

pub fn list_all(call: &Call, principal: &Principal) -> Result {
    let page = call.query.page()?;
    let only_managed = match call.query.get("role")? {
        None => false,
        Some("manager") => true,
        Some(_) => return Err(Failure::BadRequest("'role' must be manager".into())),
    };
    let teams = call.manage.teams(principal, only_managed, page)?;
    list(&teams, page, |team| shape(call, principal, team))
}

pub fn show(call: &Call, principal: &Principal) -> Result {
    let team = call.manage.team(principal, call.id())?;
    data(shape(call, principal, &team))
}

pub fn put(call: &Call, principal: &Principal) -> Result {
    apply::put(call, principal, "team", false)
}

pub fn delete(call: &Call, principal: &Principal) -> Result {
    let delete = |manage: &Manage| manage.delete_team(principal, call.id());
    attempt(call, call.query.flag("dryRun")?, delete, |()| json!({}))
}

pub fn members(call: &Call, principal: &Principal) -> Result {
    let page = call.query.page()?;
    let members = call.manage.team_members(principal, call.id(), page)?;
    list(&members, page, |email| json!({"subjectId": email, "subjectSlug": email, "subjectType": "user"}))
}

pub fn add_member(call: &Call, principal: &Principal) -> Result {
    let mut fields = call.fields()?;
    let email = fields.required_text("email")?;
    let dry_run = fields.flag("dryRun")?;
    fields.finish()?;
    let add = |manage: &Manage| manage.add_member(principal, call.id(), &email);
    attempt(call, dry_run, add, |team| json!({"data": shape(call, principal, &team)}))
}

pub fn remove_member(call: &Call, principal: &Principal) -> Result {
    let remove = |manage: &Manage| manage.remove_member(principal, call.id(), call.second_id());
    let shape = |team| json!({"data": shape(call, principal, &team)});
    attempt(call, call.query.flag("dryRun")?, remove, shape)
}

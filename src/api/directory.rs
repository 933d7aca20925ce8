//! Lookups as JSON: who one is, who holds what, what an FQN names.

use serde_json::{Value, json};

use super::{Answer, Call, Result, answer, data, list};
use crate::authz;
use crate::domain::{Principal, Subject};
use crate::manage::{HeldRole, Membership, TEAM_MANAGER};

use super::role::display_name;

/// A role that somebody holds, as the contract's SubjectPermission.
pub fn permission(role: &HeldRole) -> Value {
    let (kind, id) = match &role.subject {
        Subject::User(email) => ("user", email.as_str()),
        Subject::Team(name) => ("team", name.as_str()),
        Subject::VirtualAccount(name) => ("virtualaccount", name.as_str()),
    };
    let mut shape = json!({
        "resourceType": role.resource_type,
        "resourceId": role.resource_id,
        "resourceName": role.resource_id,
        "roleId": role.role_id,
        "roleName": display_name(role.role_id),
        "subjectId": id,
        "subjectType": kind,
    });
    if let (Value::Object(fields), Some(fqn)) = (&mut shape, &role.resource_fqn) {
        fields.insert("resourceFqn".into(), fqn.as_str().into());
    }
    shape
}

fn permissions(roles: &[HeldRole]) -> Result {
    data(roles.iter().map(permission).collect())
}

pub fn user_resources(call: &Call, principal: &Principal) -> Result {
    permissions(&call.manage.resources_of_user(principal, call.id())?)
}

pub fn user_permissions(call: &Call, principal: &Principal) -> Result {
    permissions(&call.manage.permissions_of_user(principal, call.id())?)
}

pub fn user_teams(call: &Call, principal: &Principal) -> Result {
    let teams = call.manage.teams_of_user(principal, call.id())?;
    data(teams.iter().map(|one| json!({"teamName": one.team, "roles": one.roles})).collect())
}

pub fn team_permissions(call: &Call, principal: &Principal) -> Result {
    permissions(&call.manage.permissions_of_team(principal, call.id())?)
}

pub fn team_managers(call: &Call, principal: &Principal) -> Result {
    let page = call.query.page()?;
    let managers = call.manage.team_managers(principal, call.id(), page)?;
    list(&managers, page, |email| json!({"subjectId": email, "subjectSlug": email, "subjectType": "user"}))
}

pub fn add_team_manager(call: &Call, principal: &Principal) -> Result {
    let mut fields = call.fields()?;
    let email = fields.required_text("email")?;
    fields.finish()?;
    call.manage.add_team_manager(principal, call.id(), &email)?;
    data(json!({"teamName": call.id(), "email": email, "roles": [TEAM_MANAGER]}))
}

pub fn remove_team_manager(call: &Call, principal: &Principal) -> Result {
    call.manage.remove_team_manager(principal, call.id(), call.second_id())?;
    answer(json!({}))
}

pub fn fqn(call: &Call, principal: &Principal) -> Result {
    let id = call.manage.id_of_fqn(principal, call.id(), call.query.required("fqn")?)?;
    answer(json!({"id": id}))
}

pub fn virtual_account_exists(call: &Call, principal: &Principal) -> Result {
    call.manage.require_admin(principal)?;
    let exists = call.manage.virtual_account_exists(principal, call.query.required("name")?)?;
    answer(json!({"exists": exists}))
}

/// Who the caller is, flat; not the object of `/session`.
pub fn who(call: &Call, principal: &Principal) -> Result {
    let session = call.manage.session(principal)?;
    let tenant = &call.manage.tenant;
    let name = session.name();
    let mut shape = json!({
        "id": name,
        "subjectSlug": name,
        "userName": name,
        "effectiveUserId": name,
        "tenantName": tenant,
        "roles": if authz::is_admin(&session) { json!(["tenant-admin"]) } else { json!([]) },
        "teams": [],
        "accounts": [{"name": tenant, "id": tenant}],
        "metadata": {},
    });
    let (kind, created_at) = match &session {
        Principal::User { user, .. } => {
            let teams: Vec<Membership> = call.manage.teams_of_user(&session, user.email.as_str())?;
            let teams: Vec<Value> =
                teams.iter().map(|one| json!({"name": one.team, "id": one.team})).collect();
            if let Value::Object(fields) = &mut shape {
                fields.insert("email".into(), json!(user.email));
                fields.insert("roles".into(), json!([user.role.contract_name()]));
                fields.insert("teams".into(), teams.into());
                fields.insert("metadata".into(), json!({"displayName": user.display_name}));
            }
            ("user", Some(user.created_at))
        }
        Principal::VirtualAccount { account, .. } => ("virtualaccount", Some(account.created_at)),
        Principal::LocalAdministrator { .. } => ("local", None),
    };
    if let Value::Object(fields) = &mut shape {
        fields.insert("subjectType".into(), kind.into());
        if let Some(time) = created_at {
            fields.insert("createdAt".into(), time.to_iso().into());
        }
    }
    answer(shape)
}

/// An invitation is a link to a page of the console where one chooses a password. The gateway sends no mail: whoever
/// invites hands the link over. It is a path; only the caller knows under which address people reach the gateway.
pub fn invite(call: &Call, principal: &Principal) -> Result {
    call.manage.require_admin(principal)?;
    let mut fields = call.fields()?;
    let email = fields.required_text("email")?;
    fields.ignore(&["acceptInviteClientUrl"]);
    fields.finish()?;
    let invited = call.manage.invite(principal, &email)?;
    let body = json!({"link": invited.path.expose(), "expiresAt": invited.expires_at.to_iso()});
    Ok(Answer { body, no_store: true })
}

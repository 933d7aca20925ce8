//! The built-in roles as JSON. There are no others.

use serde_json::{Value, json};

use super::{Call, Result, data, list, subject};
use crate::domain::Principal;
use crate::failure::Failure;
use crate::manage::Listing;

struct BuiltIn {
    id: &'static str,
    resource_type: &'static str,
    display_name: &'static str,
    description: &'static str,
    permissions: &'static [&'static str],
}

const ROLES: [BuiltIn; 7] = [
    BuiltIn {
        id: "tenant-admin",
        resource_type: "tenant",
        display_name: "Tenant Admin",
        description: "Sees and manages everything",
        permissions: &["tenant:Manage"],
    },
    BuiltIn {
        id: "tenant-member",
        resource_type: "tenant",
        display_name: "Tenant Member",
        description: "Has what it was granted, and its own tokens",
        permissions: &["tenant:ManageOwnTokens"],
    },
    BuiltIn {
        id: "provider-account-manager",
        resource_type: "provider-account",
        display_name: "Provider Account Manager",
        description: "Changes settings, credentials and models, manages access, uses every model",
        permissions: &[
            "provider-account:Manage",
            "provider-account:ManageAccess",
            "provider-account:UseModels",
        ],
    },
    BuiltIn {
        id: "provider-account-access",
        resource_type: "provider-account",
        display_name: "Provider Account User",
        description: "Uses every model of the account, and nothing else",
        permissions: &["provider-account:UseModels"],
    },
    BuiltIn {
        id: "provider-integration-access",
        resource_type: "provider-integration",
        display_name: "Model User",
        description: "Uses this model, and nothing else",
        permissions: &["provider-integration:UseModel"],
    },
    BuiltIn {
        id: "team-manager",
        resource_type: "team",
        display_name: "Team Manager",
        description: "Changes who is in the team",
        permissions: &["team:ManageMembers"],
    },
    BuiltIn {
        id: "team-member",
        resource_type: "team",
        display_name: "Team Member",
        description: "Has what the team was granted",
        permissions: &["team:Read"],
    },
];

/// What people call a role; its id when it is not known here.
pub fn display_name(id: &'static str) -> &'static str {
    ROLES.iter().find(|role| role.id == id).map_or(id, |role| role.display_name)
}

fn shape(call: &Call, role: &BuiltIn) -> Value {
    let tenant = &call.manage.tenant;
    json!({
        "id": role.id,
        "name": role.id,
        "displayName": role.display_name,
        "description": role.description,
        "tenantName": tenant,
        "accountId": tenant,
        "resourceType": role.resource_type,
        "manifest": {
            "type": "role",
            "name": role.id,
            "displayName": role.display_name,
            "description": role.description,
            "resourceType": role.resource_type,
            "permissions": role.permissions,
        },
        "createdBySubject": subject::administrators(),
        "isEditable": false,
        "isDefault": true,
        "isReserved": true,
    })
}

pub fn list_all(call: &Call, _principal: &Principal) -> Result {
    let page = call.query.page()?;
    let kind = call.query.get("resourceType")?;
    let all: Vec<&BuiltIn> =
        ROLES.iter().filter(|role| kind.is_none_or(|kind| kind == role.resource_type)).collect();
    let total = all.len();
    let items = all.into_iter().skip(page.offset).take(page.limit).collect();
    list(&Listing { items, total }, page, |role| shape(call, role))
}

pub fn show(call: &Call, _principal: &Principal) -> Result {
    let role = ROLES.iter().find(|role| role.id == call.id());
    data(shape(call, role.ok_or_else(|| Failure::NotFound("There is no such role".into()))?))
}

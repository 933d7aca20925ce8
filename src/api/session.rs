//! What clients ask before anything else, and who they are.

use serde_json::{Value, json};

use super::{Call, Result, answer};
use crate::authz;
use crate::domain::Principal;

pub fn min_cli_version(_call: &Call) -> Result {
    answer(json!({"minVersion": "0.1.0", "truefoundryCliMinVersion": "0.1.0", "useSFYServerAuthAPIs": true}))
}

pub fn tenant_id(call: &Call) -> Result {
    // The client tells the host under which it sees the gateway; the gateway itself does not know it.
    let plain = |host: &&str| {
        host.len() <= 255 && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".:-[]".contains(&b))
    };
    let host = call.query.get("hostName")?.filter(plain).unwrap_or("localhost");
    answer(json!({"tenantName": call.manage.tenant, "auth_server_url": format!("https://{host}")}))
}

pub fn show(call: &Call, principal: &Principal) -> Result {
    let session = call.manage.session(principal)?;
    let tenant = &call.manage.tenant;
    let (kind, email, display_name) = match &session {
        Principal::User { user, .. } => ("user", Some(user.email.as_str()), user.display_name.as_str()),
        Principal::VirtualAccount { .. } => ("virtualaccount", None, ""),
        Principal::LocalAdministrator { .. } => ("local", None, ""),
    };
    let name = session.name();
    let role = match (&session, authz::is_admin(&session)) {
        (_, true) => json!(["tenant-admin"]),
        (Principal::User { .. }, false) => json!(["tenant-member"]),
        _ => json!([]),
    };
    let mut user = json!({
        "id": name,
        "subjectSlug": name,
        "subjectType": kind,
        "tenantName": tenant,
        "roles": role,
        "subject": {
            "subjectId": name, "subjectType": kind, "subjectSlug": name, "subjectDisplayName": display_name,
        },
        "metadata": {"userObject": {"username": name}, "displayName": display_name},
    });
    if let (Value::Object(user), Some(email)) = (&mut user, email) {
        user.insert("email".into(), email.into());
    }
    answer(json!({
        "user": user,
        "tenantInfo": {"tenantName": tenant},
        "env": {"LLM_GATEWAY_URL": "/api/llm", "TENANT_NAME": tenant},
    }))
}

//! Collaborators as JSON.

use serde_json::Value;

use super::directory::permission;
use super::{Call, Result, data, done, list};
use crate::domain::Principal;
use crate::manage::{HeldRole, SharedResource};

fn shape(role: &HeldRole) -> Value {
    let mut shape = permission(role);
    if let Value::Object(fields) = &mut shape {
        fields.insert("subject".into(), role.subject.to_string().into());
    }
    shape
}

pub fn list_all(call: &Call, principal: &Principal) -> Result {
    let page = call.query.page()?;
    let resource = SharedResource {
        kind: call.query.required("resourceType")?.to_owned(),
        id: call.query.required("resourceId")?.to_owned(),
    };
    let roles = call.manage.collaborators(principal, &resource, page)?;
    list(&roles, page, shape)
}

pub fn create(call: &Call, principal: &Principal) -> Result {
    let mut fields = call.fields()?;
    let resource = SharedResource {
        kind: fields.required_text("resourceType")?,
        id: fields.required_text("resourceId")?,
    };
    let (subject, role) = (fields.required_text("subject")?, fields.required_text("roleId")?);
    fields.finish()?;
    data(shape(&call.manage.add_collaborator(principal, &resource, &subject, &role)?))
}

pub fn delete(call: &Call, principal: &Principal) -> Result {
    let mut fields = call.fields()?;
    let resource = SharedResource {
        kind: fields.required_text("resourceType")?,
        id: fields.required_text("resourceId")?,
    };
    let (subject, role) = (fields.required_text("subject")?, fields.text("roleId")?);
    fields.finish()?;
    call.manage.remove_collaborator(principal, &resource, &subject, role.as_deref())?;
    done()
}

//! Grants as JSON.

use serde_json::{Value, json};

use super::apply::attempt;
use super::{Call, Result, list};
use crate::domain::{Grant, GrantSource, Principal, Subject, Target};
use crate::failure::Failure;
use crate::manage::{GrantFilter, Manage};

fn shape(grant: &Grant) -> Value {
    let source = match &grant.source {
        GrantSource::Direct => "direct",
        GrantSource::Manifest(name) => name,
    };
    json!({
        "subject": grant.subject,
        "role": grant.role,
        "target": grant.target,
        "source": source,
        "createdAt": grant.created_at.to_iso(),
        "createdBy": grant.created_by,
    })
}

pub fn list_all(call: &Call, principal: &Principal) -> Result {
    let page = call.query.page()?;
    let wrong = |error: crate::id::InvalidName| Failure::BadRequest(error.0.into());
    let filter = GrantFilter {
        subject: call.query.get("subject")?.map(Subject::parse).transpose().map_err(wrong)?,
        target: call.query.get("target")?.map(Target::parse).transpose().map_err(wrong)?,
    };
    let grants = call.manage.grants(principal, &filter, page)?;
    list(&grants, page, |grant| shape(grant))
}

pub fn create(call: &Call, principal: &Principal) -> Result {
    let mut fields = call.fields()?;
    let subject = fields.required_text("subject")?;
    let role = fields.required_text("role")?;
    let target = fields.required_text("target")?;
    let dry_run = fields.flag("dryRun")?;
    fields.finish()?;
    let grant = |manage: &Manage| manage.grant(principal, &subject, &role, &target);
    attempt(call, dry_run, grant, |grant| json!({"data": shape(&grant)}))
}

pub fn delete(call: &Call, principal: &Principal) -> Result {
    let (subject, role) = (call.query.required("subject")?, call.query.required("role")?);
    let target = call.query.required("target")?;
    let revoke = |manage: &Manage| manage.revoke(principal, subject, role, target);
    attempt(call, call.query.flag("dryRun")?, revoke, |()| json!({}))
}

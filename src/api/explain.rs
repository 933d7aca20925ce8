//! Why someone may use a model, as JSON.

use serde_json::{Value, json};

use super::{Call, Result, data};
use crate::clock::UnixMillis;
use crate::domain::{GrantSource, Principal};
use crate::manage::Missing;

pub fn show(call: &Call, principal: &Principal) -> Result {
    let (subject, model) = (call.query.required("subject")?, call.query.required("model")?);
    let found = call.manage.explain(principal, subject, model, call.query.get("token")?)?;
    let grants: Vec<Value> = found
        .grants
        .iter()
        .map(|grant| {
            json!({
                "subject": grant.subject,
                "role": grant.role,
                "target": grant.target,
                "source": match &grant.source {
                    GrantSource::Direct => "direct".to_owned(),
                    GrantSource::Manifest(name) => format!("manifest {name}"),
                },
            })
        })
        .collect();
    data(json!({
        "subject": found.subject,
        "model": found.target,
        "allowed": found.missing.is_none(),
        "missing": found.missing.map(Missing::as_str),
        "asAdmin": found.as_admin,
        "grants": grants,
        "until": found.until.map(UnixMillis::to_iso),
    }))
}

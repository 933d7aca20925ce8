//! The tenant's settings as JSON.

use serde_json::{Value, json};

use super::fields::Fields;
use super::{Call, Result, answer, data};
use crate::domain::{Principal, Settings};
use crate::manage::SettingsChange;

fn shape(settings: &Settings) -> Value {
    json!({
        "pat_max_validity_days": settings.pat_max_validity_days,
        "pat_may_mint": settings.pat_may_mint,
        "audit_retention_days": settings.audit_retention_days,
        "limits_when_accounting_fails": settings.limits_when_accounting_fails,
        "logging_settings": settings.logging_settings,
    })
}

pub fn show(call: &Call, principal: &Principal) -> Result {
    data(shape(&*call.manage.settings(principal)?))
}

/// A bound: absent leaves it as it is, null takes it away.
fn bound(fields: &mut Fields, name: &str) -> Result<Option<Option<u64>>> {
    if fields.has(name) { fields.count(name).map(Some) } else { Ok(None) }
}

pub fn update(call: &Call, principal: &Principal) -> Result {
    call.manage.require_admin(principal)?;
    let mut fields = call.fields()?;
    let change = SettingsChange {
        pat_max_validity_days: bound(&mut fields, "pat_max_validity_days")?,
        pat_may_mint: if fields.has("pat_may_mint") { Some(fields.flag("pat_may_mint")?) } else { None },
        audit_retention_days: bound(&mut fields, "audit_retention_days")?,
        limits_when_accounting_fails: crate::manifest::accounting_failure(&mut fields)?,
        logging_settings: crate::manifest::logging_settings(&mut fields)?,
        yes: fields.flag("yes")?,
        dry_run: fields.flag("dryRun")?,
    };
    fields.finish()?;
    let changed = call.manage.change_settings(principal, &change)?;
    answer(json!({
        "data": shape(&changed.settings),
        "endedTokens": changed.ended,
        "endedTokensTotal": changed.ended_total,
    }))
}

pub fn reset_clock(call: &Call, principal: &Principal) -> Result {
    let (before, after) = call.manage.reset_clock(principal)?;
    data(json!({"before": before.to_iso(), "after": after.to_iso()}))
}

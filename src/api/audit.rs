//! The audit log as JSON, and what a refused request leaves in it.

use serde_json::{Value, json};

use super::query::percent_decode;
use super::{Call, PREFIX, Request, Result, answer, mints_when_read};
use crate::domain::{AuditEntry, Principal};
use crate::failure::Failure;
use crate::manage::{Attempt, AuditVerdict, Manage};
use crate::store::AuditFilter;

fn shape((number, entry): &(u64, AuditEntry)) -> Value {
    json!({
        "number": number,
        "at": entry.at.to_iso(),
        "actor": entry.actor,
        "tokenId": entry.token_id,
        "source": entry.source,
        "action": entry.action,
        "resource": entry.resource,
        "refused": entry.refused,
        "count": entry.count,
        "before": entry.before,
        "after": entry.after,
    })
}

pub fn list_all(call: &Call, principal: &Principal) -> Result {
    let query = &call.query;
    let text = |name: &str| Ok::<_, Failure>(query.get(name)?.map(str::to_owned));
    let number = |name: &str| match query.get(name)? {
        None => Ok(None),
        Some(text) => text.parse::<u64>().map(Some).map_err(|_| {
            Failure::BadRequest(format!("'{name}' must be a whole number, not negative").into())
        }),
    };
    let filter = AuditFilter {
        actor: text("actor")?,
        action: text("action")?,
        resource: text("resource")?,
        from: query.start("from")?,
        to: query.end("to")?,
        refused: query.get("refused")?.is_some().then(|| query.flag("refused")).transpose()?,
        before: number("before")?,
        limit: query.page()?.limit,
    };
    let limit = filter.limit;
    let page = call.manage.audit_entries(principal, filter)?;
    let entries: Vec<Value> = page.entries.iter().map(shape).collect();
    answer(json!({"data": entries, "pagination": {"limit": limit, "before": page.next}}))
}

pub fn verify(call: &Call, principal: &Principal) -> Result {
    answer(match call.manage.verify_audit(principal, call.query.get("head")?)? {
        AuditVerdict::Whole(chain) => json!({
            "ok": chain.has_noted,
            "records": chain.head.records,
            "pruned": chain.pruned,
            "head": chain.head.to_hex(),
            "hasHead": chain.has_noted,
            "brokenAt": null,
        }),
        AuditVerdict::BrokenAt(number) => json!({"ok": false, "brokenAt": number}),
    })
}

/// Keeps a refused attempt at a change. Of the request only the method and the path are kept, and of the path
/// nothing that could be a token.
pub fn refused(
    manage: &Manage,
    principal: Option<&Principal>,
    request: &Request,
    template: &str,
    why: &Failure,
) {
    // A backup changes nothing, and yet is everything.
    let is_change = request.method != "GET" || mints_when_read(template) || template == "/backup";
    let Some(principal) = principal.filter(|_| is_change) else { return };
    let path = request.path.strip_prefix(PREFIX).unwrap_or_default();
    let named: Vec<&str> = template
        .split('/')
        .zip(path.split('/'))
        .filter(|(want, _)| !want.is_empty())
        .map(|(want, given)| match want {
            "{token}" => "***",
            _ if percent_decode(given).is_none_or(|text| text.contains("tfy")) => "***",
            _ => given,
        })
        .collect();
    let attempt = Attempt {
        action: &format!("{} {template}", request.method),
        kind: template.trim_start_matches('/'),
        resource: &named.join("/"),
    };
    manage.attempt_refused(principal, attempt, why);
}

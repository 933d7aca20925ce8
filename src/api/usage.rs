//! Usage reports as JSON.

use serde_json::{Map, Value, json};

use super::{Call, Result, answer};
use crate::clock::UnixMillis;
use crate::domain::Principal;
use crate::failure::Failure;
use crate::usage::{GroupKey, ReportFilter, ReportRow};

const DEFAULT_BY: &str = "user,virtual-account,model";

/// The name of a group in an answer.
fn json_name(key: GroupKey) -> &'static str {
    if key == GroupKey::VirtualAccount { "virtualAccount" } else { key.as_str() }
}

fn shape(by: &[GroupKey], row: &ReportRow) -> Value {
    let mut json = Map::new();
    for (key, value) in by.iter().zip(&row.group) {
        json.insert(json_name(*key).to_owned(), value.as_str().into());
    }
    for (name, sum) in [
        ("calls", row.calls),
        ("errors", row.errors),
        ("inputTokens", row.input_tokens),
        ("outputTokens", row.output_tokens),
        ("cachedTokens", row.cached_tokens),
        ("reasoningTokens", row.reasoning_tokens),
        ("estimatedCalls", row.estimated_calls),
        ("latencyMsAvg", row.mean_latency_ms()),
    ] {
        json.insert(name.to_owned(), sum.into());
    }
    Value::Object(json)
}

pub fn report(call: &Call, principal: &Principal) -> Result {
    let mut by = Vec::new();
    for word in call.query.get("by")?.unwrap_or(DEFAULT_BY).split(',') {
        let key = GroupKey::parse(word);
        let unknown = || {
            Failure::BadRequest(
                "'by' is a list with commas of user, virtual-account, model, account, team and day".into(),
            )
        };
        let key = key.ok_or_else(unknown)?;
        if by.contains(&key) {
            return Err(Failure::BadRequest(format!("'by' has '{word}' twice").into()));
        }
        by.push(key);
    }
    let filter = ReportFilter {
        from: call.query.start("from")?,
        to: call.query.end("to")?.map(|end| UnixMillis(end.0.saturating_sub(1))),
        group_by: by,
        ..ReportFilter::default()
    };
    let rows = call.manage.usage_report(principal, &filter)?;
    answer(json!({"data": rows.iter().map(|row| shape(&filter.group_by, row)).collect::<Vec<_>>()}))
}

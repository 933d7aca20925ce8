//! Usage reports as JSON.

use serde_json::{Map, Value, json};

use super::{Call, Result, answer};
use crate::domain::Principal;
use crate::failure::Failure;
use crate::manage::{GroupKey, ReportFilter, ReportRow};

const DEFAULT_BY: &str = "user,virtual-account,model";

/// The name of a group in an answer.
fn json_name(word: &str) -> &str {
    if word == GroupKey::VirtualAccount.as_str() { "virtualAccount" } else { word }
}

fn shape(row: &ReportRow) -> Value {
    let mut json = Map::new();
    for (word, value) in &row.group {
        json.insert(json_name(word).to_owned(), value.as_str().into());
    }
    for (name, sum) in [
        ("calls", row.calls),
        ("errors", row.errors),
        ("inputTokens", row.input_tokens),
        ("outputTokens", row.output_tokens),
        ("cachedTokens", row.cached_tokens),
        ("reasoningTokens", row.reasoning_tokens),
        ("estimatedCalls", row.estimated_calls),
        ("latencyMsAvg", row.latency_ms_sum.checked_div(row.calls).unwrap_or(0)),
    ] {
        json.insert(name.to_owned(), sum.into());
    }
    Value::Object(json)
}

pub fn report(call: &Call, principal: &Principal) -> Result {
    let mut by = Vec::new();
    for word in call.query.get("by")?.unwrap_or(DEFAULT_BY).split(',') {
        let key = GroupKey::ALL.into_iter().find(|key| key.as_str() == word);
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
        from_ms: call.query.start("from")?.map(|time| time.0),
        to_ms: call.query.end("to")?.map(|time| time.0),
        by,
        subject: None,
    };
    let rows = call.manage.usage_report(principal, &filter)?;
    answer(json!({"data": rows.iter().map(shape).collect::<Vec<_>>()}))
}

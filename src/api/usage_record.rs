//! A usage record as a line of JSON or of values with commas.

use serde_json::{Value, json};

use crate::domain::{TokenOrigin, UsageRecord};

/// The names of the values, in their order.
pub const CSV_HEADER: &str = "at,requestId,subject,teams,tokenId,account,model,modelAsked,endpoint,status,outcome,\
    errorKind,stream,inputTokens,outputTokens,cachedTokens,cacheWriteTokens,reasoningTokens,tokenOrigin,cost,latencyMs,\
    firstByteMs,requestBytes,answerBytes,metadata\n";

fn origin(origin: TokenOrigin) -> &'static str {
    match origin {
        TokenOrigin::Reported => "reported",
        TokenOrigin::Estimated => "estimated",
        TokenOrigin::None => "none",
    }
}

/// One JSON object and a line end.
pub fn json_line(record: &UsageRecord) -> String {
    let mut line = json_object(record).to_string();
    line.push('\n');
    line
}

/// A record as JSON. A cost that is not known is null.
pub fn json_object(record: &UsageRecord) -> Value {
    let tokens = &record.tokens;
    json!({
        "at": record.at.to_iso(),
        "requestId": record.request_id,
        "subject": record.subject,
        "teams": record.teams,
        "tokenId": record.token_id,
        "account": record.account,
        "model": record.model,
        "modelAsked": record.model_asked,
        "endpoint": record.endpoint,
        "status": record.status,
        "outcome": record.outcome,
        "errorKind": record.error_kind,
        "stream": record.stream,
        "inputTokens": tokens.input,
        "outputTokens": tokens.output,
        "cachedTokens": tokens.cached,
        "cacheWriteTokens": tokens.cache_write,
        "reasoningTokens": tokens.reasoning,
        "tokenOrigin": origin(tokens.origin),
        "cost": record.cost,
        "latencyMs": record.latency_ms,
        "firstByteMs": record.first_byte_ms,
        "requestBytes": record.request_bytes,
        "answerBytes": record.answer_bytes,
        "metadata": record.metadata,
    })
}

/// One line under [`CSV_HEADER`]; what is not known or not there is empty, teams are divided by semicolons.
pub fn csv_line(record: &UsageRecord) -> String {
    let tokens = &record.tokens;
    let number = |value: u64| value.to_string();
    let metadata = if record.metadata.is_empty() {
        String::new()
    } else {
        Value::from_iter(record.metadata.clone()).to_string()
    };
    let mut line = [
        record.at.to_iso(),
        cell(&record.request_id),
        cell(&record.subject),
        cell(&record.teams.join(";")),
        cell(&record.token_id),
        cell(&record.account),
        cell(&record.model),
        cell(record.model_asked.as_deref().unwrap_or_default()),
        cell(&record.endpoint),
        record.status.to_string(),
        record.outcome.as_str().to_owned(),
        cell(record.error_kind.as_deref().unwrap_or_default()),
        record.stream.to_string(),
        number(tokens.input),
        number(tokens.output),
        number(tokens.cached),
        number(tokens.cache_write),
        number(tokens.reasoning),
        origin(tokens.origin).to_owned(),
        record.cost.map_or_else(String::new, |cost| cost.to_string()),
        number(record.latency_ms),
        record.first_byte_ms.map_or_else(String::new, number),
        number(record.request_bytes),
        number(record.answer_bytes),
        cell(&metadata),
    ]
    .join(",");
    line.push('\n');
    line
}

/// A value that somebody else chose: quoted where commas or quotes are in it, and never a formula of a spreadsheet.
pub fn cell(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let text = if is_formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_never_formulas() {
        for (text, wanted) in [
            ("", ""),
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=HYPERLINK(\"http://x\")", "\"'=HYPERLINK(\"\"http://x\"\")\""),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@x", "'@x"),
            ("\n=1", "\"'\n=1\""),
        ] {
            assert_eq!(cell(text), wanted, "{text:?}");
        }
    }
}

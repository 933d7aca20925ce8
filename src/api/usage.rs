//! Usage reports as JSON, and records as they are.

use serde_json::{Map, Value, json};

use super::usage_record::{CSV_HEADER, csv_line, json_line};
use super::{Call, Export, Result, answer};
use crate::clock::UnixMillis;
use crate::domain::Principal;
use crate::failure::Failure;
use crate::manage::Manage;
use crate::usage::{ExportCursor, ExportPage, Figures, GroupKey, MAX_KEYS, ReportFilter, ReportRow};

const DEFAULT_BY: &str = "user,virtual-account,model";
const MAX_METADATA_FILTERS: usize = 8;

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordFormat {
    /// A JSON object a line.
    Ndjson,
    /// Values with commas under a header.
    Csv,
}

/// An export that goes on.
#[derive(Clone, Debug)]
pub struct Rest {
    filter: ReportFilter,
    format: RecordFormat,
    next: Option<ExportCursor>,
}

impl Rest {
    /// The next piece, which may be empty; `None` at the end. What the principal may see is decided anew each time.
    ///
    /// # Errors
    /// When access was taken away meanwhile, or the records can not be read.
    pub fn next(&mut self, manage: &Manage, principal: &Principal) -> Result<Option<String>> {
        if self.next.is_none() {
            return Ok(None);
        }
        let page = manage.usage_export(principal, &self.filter, self.next)?;
        self.next = page.next;
        Ok(Some(lines(&page, self.format)))
    }
}

fn lines(page: &ExportPage, format: RecordFormat) -> String {
    let mut text = String::with_capacity(page.records.len() * 512);
    for record in &page.records {
        match format {
            RecordFormat::Ndjson => text.push_str(&json_line(record)),
            RecordFormat::Csv => text.push_str(&csv_line(record)),
        }
    }
    text
}

/// The name of a group in an answer.
fn json_name(key: &GroupKey) -> String {
    if *key == GroupKey::VirtualAccount { "virtualAccount".to_owned() } else { key.word() }
}

/// What is known of the cost; null when of no call any is.
fn known_cost(sums: &Figures) -> Value {
    if sums.calls > 0 && sums.unpriced_calls >= sums.calls {
        Value::Null
    } else {
        sums.cost.to_string().into()
    }
}

fn shape(by: &[GroupKey], row: &ReportRow) -> Value {
    let mut json = Map::new();
    for (key, value) in by.iter().zip(&row.group) {
        json.insert(json_name(key), value.as_str().into());
    }
    let sums = &row.figures;
    for (name, sum) in [
        ("calls", sums.calls),
        ("errors", sums.errors),
        ("inputTokens", sums.input_tokens),
        ("outputTokens", sums.output_tokens),
        ("cachedTokens", sums.cached_tokens),
        ("cacheWriteTokens", sums.cache_write_tokens),
        ("reasoningTokens", sums.reasoning_tokens),
        ("estimatedCalls", sums.estimated_calls),
        ("unpricedCalls", sums.unpriced_calls),
        ("latencyMsAvg", sums.mean_latency_ms()),
    ] {
        json.insert(name.to_owned(), sum.into());
    }
    for (name, histogram, percent) in [
        ("latencyMsP50", &sums.latencies, 50),
        ("latencyMsP95", &sums.latencies, 95),
        ("firstByteMsP50", &sums.first_bytes, 50),
        ("firstByteMsP95", &sums.first_bytes, 95),
    ] {
        json.insert(name.to_owned(), histogram.percentile_ms(percent).into());
    }
    json.insert("cost".to_owned(), known_cost(sums));
    Value::Object(json)
}

/// Which calls are asked for.
pub fn filter(call: &Call) -> Result<ReportFilter> {
    let text = |name: &str| Ok::<_, Failure>(call.query.get(name)?.map(str::to_owned));
    let metadata = call.query.with_prefix("metadata.");
    if metadata.len() > MAX_METADATA_FILTERS {
        return Err(Failure::BadRequest(
            format!("The query has more than {MAX_METADATA_FILTERS} metadata filters").into(),
        ));
    }
    Ok(ReportFilter {
        from: call.query.start("from")?,
        to: call.query.end("to")?.map(|end| UnixMillis(end.0.saturating_sub(1))),
        subject: text("subject")?,
        team: text("team")?,
        model: text("model")?,
        account: text("account")?,
        metadata,
        ..ReportFilter::default()
    })
}

pub fn report(call: &Call, principal: &Principal) -> Result {
    let mut by = Vec::new();
    for word in call.query.get("by")?.unwrap_or(DEFAULT_BY).split(',') {
        let unknown = || {
            let words = GroupKey::WORDS.map(|(_, word)| word).join(", ");
            Failure::BadRequest(format!("'by' is a list with commas of {words} and metadata.KEY").into())
        };
        let key = GroupKey::parse(word).ok_or_else(unknown)?;
        if by.contains(&key) {
            return Err(Failure::BadRequest(format!("'by' has '{word}' twice").into()));
        }
        by.push(key);
    }
    if by.len() > MAX_KEYS {
        return Err(Failure::BadRequest(format!("'by' has more than {MAX_KEYS} keys").into()));
    }
    let filter = ReportFilter { group_by: by, ..filter(call)? };
    let rows = call.manage.usage_report(principal, &filter)?;
    answer(json!({"data": rows.iter().map(|row| shape(&filter.group_by, row)).collect::<Vec<_>>()}))
}

pub fn export(call: &Call, principal: &Principal) -> Result<Export> {
    let (format, content_type, mut first) = match call.query.get("format")? {
        None | Some("ndjson") => (RecordFormat::Ndjson, "application/x-ndjson", String::new()),
        Some("csv") => (RecordFormat::Csv, "text/csv; charset=utf-8", CSV_HEADER.to_owned()),
        Some(_) => return Err(Failure::BadRequest("'format' must be ndjson or csv".into())),
    };
    let filter = filter(call)?;
    let page = call.manage.usage_export(principal, &filter, None)?;
    first.push_str(&lines(&page, format));
    let rest = Rest { filter, format, next: page.next };
    Ok(Export { content_type, first, rest: super::Rest::Usage(Box::new(rest)) })
}

//! Calls one by one as JSON, and what was kept of their bodies.

use std::ops::RangeInclusive;

use serde_json::{Value, json};

use super::usage::filter;
use super::usage_record::json_object;
use super::{Answer, Call, Result, answer};
use crate::domain::{Principal, UsageRecord};
use crate::failure::Failure;
use crate::manage::BodiesView;
use crate::request_log::LoggedBody;
use crate::upstream::base64;
use crate::usage::{RecentCursor, RecentFilter};

const WITHHELD: &str = "Bodies are shown to the user whose call it was, and to administrators";

/// A status such as 429, or a class of them such as 4xx.
fn status(call: &Call) -> Result<Option<RangeInclusive<u16>>> {
    let Some(text) = call.query.get("status")? else { return Ok(None) };
    let wrong =
        || Failure::BadRequest("'status' must be a status such as 429, or a class such as 4xx".into());
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    match (text.strip_suffix("xx"), is_number) {
        (Some(class @ ("1" | "2" | "3" | "4" | "5")), _) => {
            let first = class.parse::<u16>().map_err(|_| wrong())? * 100;
            Ok(Some(first..=first + 99))
        }
        (None, true) if text.len() == 3 => {
            let status = text.parse::<u16>().map_err(|_| wrong())?;
            Ok(Some(status..=status))
        }
        _ => Err(wrong()),
    }
}

fn with_logged(record: &UsageRecord, is_logged: bool) -> Value {
    let mut value = json_object(record);
    if let Some(object) = value.as_object_mut() {
        object.insert("logged".to_owned(), is_logged.into());
    }
    value
}

pub fn list_all(call: &Call, principal: &Principal) -> Result {
    let before = match call.query.get("before")? {
        None => None,
        Some(text) => Some(
            RecentCursor::parse(text)
                .ok_or(Failure::BadRequest("'before' must be what an earlier list gave".into()))?,
        ),
    };
    let limit = call.query.page()?.limit;
    let filter =
        RecentFilter { calls: filter(call)?, status: status(call)?, request_id: None, limit, before };
    let list = call.manage.request_log_list(principal, &filter)?;
    let rows: Vec<Value> = list.calls.iter().map(|call| with_logged(&call.record, call.is_logged)).collect();
    let next = list.next.map(|next| next.to_string());
    answer(json!({"data": rows, "pagination": {"limit": limit, "before": next}}))
}

/// A body: as text where it is, else in base64. The end of one that was cut may be in the midst of a character.
fn body(body: &LoggedBody) -> Value {
    let text = match std::str::from_utf8(&body.bytes) {
        Ok(text) => Some(text),
        Err(error) if body.is_truncated() && error.error_len().is_none() => {
            body.bytes.get(..error.valid_up_to()).and_then(|bytes| std::str::from_utf8(bytes).ok())
        }
        Err(_) => None,
    };
    json!({
        "text": text,
        "base64": if text.is_none() { Some(base64(&body.bytes)) } else { None },
        "bytes": body.total_bytes,
        "truncated": body.is_truncated(),
    })
}

pub fn show(call: &Call, principal: &Principal) -> Result {
    let found = call.manage.request_log_show(principal, call.id(), &filter(call)?)?;
    let is_logged = !matches!(found.bodies, BodiesView::NotLogged);
    let mut value = with_logged(&found.record, is_logged);
    let (request, reply, withheld) = match &found.bodies {
        BodiesView::NotLogged => (Value::Null, Value::Null, Value::Null),
        BodiesView::Withheld => (Value::Null, Value::Null, WITHHELD.into()),
        BodiesView::Unreadable(why) => (Value::Null, Value::Null, why.as_str().into()),
        BodiesView::Read(bodies) => (body(&bodies.request), body(&bodies.answer), Value::Null),
    };
    if let Some(object) = value.as_object_mut() {
        object.insert("requestBody".to_owned(), request);
        object.insert("answerBody".to_owned(), reply);
        object.insert("bodiesWithheld".to_owned(), withheld);
    }
    // No cache keeps what a prompt says.
    Ok(Answer { body: json!({"data": value}), no_store: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_as_text_or_base64() {
        let logged = |bytes: &[u8], total_bytes| body(&LoggedBody { bytes: bytes.to_vec(), total_bytes });
        assert_eq!(
            logged(b"{\"a\":1}", 7),
            json!({"text": "{\"a\":1}", "base64": null, "bytes": 7, "truncated": false})
        );
        assert_eq!(logged(b"", 0), json!({"text": "", "base64": null, "bytes": 0, "truncated": false}));
        assert_eq!(
            logged("caf\u{e9}".as_bytes().get(..4).unwrap(), 9),
            json!({"text": "caf", "base64": null, "bytes": 9, "truncated": true})
        );
        assert_eq!(
            logged(b"\xff\x00", 2),
            json!({"text": null, "base64": "/wA=", "bytes": 2, "truncated": false})
        );
        assert_eq!(logged(b"ab\xc3", 3)["text"], Value::Null);
    }
}

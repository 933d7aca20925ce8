//! Whether the bodies of a call are kept, as far as its headers decide that.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::headers;
use crate::authz::Permit;
use crate::domain::BodyLogging;
use crate::http::RequestHead;
use crate::store::World;

/// The header that says it. Older clients say it in the metadata.
const HEADER: &str = "x-tfy-logging-config";
/// The key of the metadata that says it.
const METADATA_KEY: &str = "tfy_log_request";

/// What the header holds; what else stands there has another purpose.
#[derive(Deserialize)]
struct LoggingConfig {
    #[serde(default)]
    enabled: Option<bool>,
}

/// Whether the bodies of a permitted call are kept.
///
/// # Errors
/// What is wrong with the header, for the caller, where the header counts.
pub(super) fn are_kept(
    world: &World,
    permit: &Permit,
    head: &RequestHead,
    metadata: &BTreeMap<String, String>,
) -> Result<bool, String> {
    let account = permit.route().account.spec.settings.logging_settings;
    BodyLogging::in_force(world.settings().logging_settings, account).decide(|| asked(head, metadata))
}

/// What a caller's headers say: the logging header before the metadata.
fn asked(head: &RequestHead, metadata: &BTreeMap<String, String>) -> Result<Option<bool>, String> {
    let by_metadata = || match metadata.get(METADATA_KEY).map(String::as_str) {
        Some("true") => Some(true),
        // Whoever writes anything else, such as "no", does not mean yes.
        Some(_) => Some(false),
        None => None,
    };
    let mut values = head.headers.all(HEADER);
    let Some(value) = values.next() else { return Ok(by_metadata()) };
    if values.next().is_some() {
        return Err("X-TFY-LOGGING-CONFIG stands more than once".to_owned());
    }
    match headers::small_json::<LoggingConfig>(value) {
        Some(config) => Ok(config.enabled.or_else(by_metadata)),
        None => Err("X-TFY-LOGGING-CONFIG is not an object such as {\"enabled\":true}".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str, metadata: Option<&str>) -> Result<Option<bool>, String> {
        let head = format!("POST /x HTTP/1.1\r\nhost: x\r\n{lines}\r\n");
        let head = RequestHead::parse(head.as_bytes(), 64).unwrap();
        let metadata = metadata.map(|value| (METADATA_KEY.to_owned(), value.to_owned()));
        asked(&head, &metadata.into_iter().collect())
    }

    #[test]
    fn the_header_comes_before_the_metadata() {
        for (lines, metadata, wanted) in [
            ("", None, None),
            ("", Some("true"), Some(true)),
            ("", Some("false"), Some(false)),
            ("", Some("yes"), Some(false)),
            ("x-tfy-logging-config: {\"enabled\": true}\r\n", Some("false"), Some(true)),
            ("X-TFY-LOGGING-CONFIG: {\"enabled\":false}\r\n", Some("true"), Some(false)),
            (
                "x-tfy-logging-config: {\"tracing_project_fqn\":\"a:b\",\"enabled\":true}\r\n",
                None,
                Some(true),
            ),
            ("x-tfy-logging-config: {}\r\n", Some("true"), Some(true)),
            ("x-tfy-logging-config: {\"project\":\"x\"}\r\n", None, None),
            ("x-tfy-logging-config: {\"enabled\":null}\r\n", None, None),
        ] {
            assert_eq!(read(lines, metadata), Ok(wanted), "{lines} {metadata:?}");
        }
    }

    #[test]
    fn what_can_not_be_read_is_refused() {
        for value in [
            "",
            "true",
            "[]",
            "{",
            "{\"enabled\":\"true\"}",
            "{\"enabled\":1}",
            "{\"enabled\":true} x",
            "\u{ff}",
        ] {
            assert!(read(&format!("x-tfy-logging-config: {value}\r\n"), None).is_err(), "{value}");
        }
        let line = "x-tfy-logging-config: {\"enabled\":true}\r\n";
        assert!(read(&format!("{line}{line}"), None).unwrap_err().contains("more than once"));
        let deep = format!("x-tfy-logging-config: {{\"a\":{}1{}}}\r\n", "[".repeat(5_000), "]".repeat(5_000));
        assert!(read(&deep, None).is_err());
    }
}

//! The blocks of a message as they go out.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::translate::conversation::{CacheMark, Source};
use crate::translate::{Invalid, Target, Unsupported};

/// The picture formats that are taken.
const IMAGE_TYPES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];

/// One block.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Block<'a> {
    Text {
        text: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<Mark>,
    },
    Image {
        source: BlockSource<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<Mark>,
    },
    Document {
        source: BlockSource<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<Mark>,
    },
    ToolUse {
        id: Cow<'a, str>,
        name: Cow<'a, str>,
        input: &'a RawValue,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<Mark>,
    },
    ToolResult {
        tool_use_id: Cow<'a, str>,
        content: ResultContent<'a>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<Mark>,
    },
    Thinking {
        thinking: &'a str,
        signature: &'a str,
    },
    RedactedThinking {
        data: &'a str,
    },
}

/// What a tool gave.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum ResultContent<'a> {
    Text(&'a str),
    Blocks(Vec<Block<'a>>),
}

/// Where a picture or document is.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum BlockSource<'a> {
    Base64 { media_type: &'a str, data: &'a str },
    Text { media_type: &'static str, data: &'a str },
    Url { url: &'a str },
    File { file_id: &'a str },
}

/// A cache mark.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Mark {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'static str>,
}

/// A cache mark, where the model takes them.
pub(super) fn mark(
    cache: Option<CacheMark>,
    target: &Target<'_>,
    unsupported: &mut Unsupported<'_>,
) -> Result<Option<Mark>, Invalid> {
    let Some(cache) = cache else { return Ok(None) };
    if !target.capability.cache_marks {
        unsupported.field("cache_control")?;
        return Ok(None);
    }
    let ttl = match cache {
        CacheMark::Default => None,
        CacheMark::FiveMinutes => Some("5m"),
        CacheMark::OneHour => Some("1h"),
    };
    Ok(Some(Mark { kind: "ephemeral", ttl }))
}

/// The source of a picture.
pub(super) fn image<'a>(source: &'a Source, place: &str) -> Result<BlockSource<'a>, Invalid> {
    match source {
        Source::Base64 { media_type, data } if IMAGE_TYPES.contains(&media_type.as_str()) => {
            Ok(BlockSource::Base64 { media_type, data })
        }
        Source::Base64 { .. } => {
            Err(Invalid::new(place, format!("anthropic takes these pictures: {}", IMAGE_TYPES.join(", "))))
        }
        Source::Text(_) => Err(Invalid::new(place, "a picture can not be text")),
        Source::Url(url) => Ok(BlockSource::Url { url }),
        Source::FileId(file_id) => Ok(BlockSource::File { file_id }),
    }
}

/// The source of a document.
pub(super) fn document<'a>(source: &'a Source, place: &str) -> Result<BlockSource<'a>, Invalid> {
    match source {
        Source::Base64 { media_type, data } if media_type == "application/pdf" => {
            Ok(BlockSource::Base64 { media_type, data })
        }
        Source::Base64 { .. } => {
            Err(Invalid::new(place, "anthropic takes documents as application/pdf or as plain text"))
        }
        Source::Text(data) => Ok(BlockSource::Text { media_type: "text/plain", data }),
        Source::Url(url) => Ok(BlockSource::Url { url }),
        Source::FileId(file_id) => Ok(BlockSource::File { file_id }),
    }
}

//! Where on a provider a request goes: the target of its request line. Pure functions of the account and the model.

use crate::domain::{Model, ProviderType};
use crate::store::Account;
use crate::translate::back::converse;
use crate::translate::back::gemini::path::{Method, Product, path};
use crate::translate::{Back, Invalid};

/// Anthropic's models on Vertex: their ids begin with this, and their protocol is Anthropic's.
const ANTHROPIC_ON_VERTEX: &str = "anthropic/";

/// The target of a request that passes as it came. `path` is the endpoint's, such as `chat/completions`; `query` is
/// the caller's, where it may pass.
pub fn relayed(account: &Account, model: Option<&Model>, path: &str, query: &str) -> String {
    let base = account.endpoint.path.as_str();
    if account.spec.provider == ProviderType::AzureOpenai {
        let version = match model {
            Some(model) => account.spec.api_version_of(model),
            None => account.spec.settings.api_version.as_deref(),
        };
        return azure(base, model.map_or("", |model| &model.model_id), version, path);
    }
    let mark = if query.is_empty() { "" } else { "?" };
    [base, "/", path, mark, query].concat()
}

/// Azure OpenAI has two forms: `/openai/v1`, which is OpenAI's own, and deployments with a version for each call
/// ("Azure OpenAI REST API reference" and "v1 API" of Microsoft's documentation).
fn azure(base: &str, deployment: &str, version: Option<&str>, path: &str) -> String {
    // The only version that the new form knows is the preview.
    let preview = if version == Some("preview") { "?api-version=preview" } else { "" };
    if base.ends_with("/openai/v1") {
        return format!("{base}/{path}{preview}");
    }
    match version {
        None | Some("v1" | "preview" | "latest") => format!("{base}/openai/v1/{path}{preview}"),
        Some(version) if path == "responses" => {
            format!("{base}/openai/responses?api-version={}", segment(version))
        }
        Some(version) => format!(
            "{base}/openai/deployments/{}/{path}?api-version={}",
            segment(deployment),
            segment(version)
        ),
    }
}

/// Whether a model of an account is Anthropic's on Vertex.
pub fn is_anthropic_on_vertex(account: &Account, model_id: &str) -> bool {
    account.spec.provider == ProviderType::GoogleVertex
        && model_id.trim_start_matches("publishers/").starts_with(ANTHROPIC_ON_VERTEX)
}

/// The target of a translated conversation.
///
/// # Errors
/// When the model's id has no form that its provider knows.
pub fn conversation(
    account: &Account,
    model: Option<&Model>,
    back: Back,
    is_stream: bool,
) -> Result<String, Invalid> {
    let base = account.endpoint.path.as_str();
    let model_id = model.map_or("", |model| &model.model_id);
    match back {
        Back::OpenAi => Ok(relayed(account, model, "chat/completions", "")),
        Back::Anthropic if account.spec.provider == ProviderType::GoogleVertex => {
            google(account, model, if is_stream { Method::StreamRawPredict } else { Method::RawPredict })
        }
        Back::Anthropic => Ok(format!("{base}/messages")),
        Back::Converse => {
            use converse::Operation::{Converse, ConverseStream};
            let operation = if is_stream { ConverseStream } else { Converse };
            Ok(format!("{base}{}", converse::path(model_id, operation)))
        }
        Back::Gemini => google(
            account,
            model,
            if is_stream { Method::StreamGenerateContent } else { Method::GenerateContent },
        ),
    }
}

/// The target of one of Google's methods.
///
/// # Errors
/// When the model's id, the project or the location has no form that Google knows.
pub fn google(account: &Account, model: Option<&Model>, method: Method) -> Result<String, Invalid> {
    let product = match account.spec.provider {
        ProviderType::GoogleVertex => Product::Vertex {
            project: account.spec.settings.project_id.as_deref().unwrap_or_default(),
            location: model.and_then(|model| account.spec.region_of(model)).unwrap_or_default(),
        },
        _ => Product::GeminiApi,
    };
    let model_id = model.map_or("", |model| &model.model_id);
    Ok(format!("{}{}", account.endpoint.path, path(product, model_id, method)?))
}

/// A path segment or a query's value, percent-encoded but for RFC 3986's unreserved characters.
fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn azures_two_forms() {
        for (base, version, path, target) in [
            ("", None, "chat/completions", "/openai/v1/chat/completions"),
            ("", Some("v1"), "responses", "/openai/v1/responses"),
            ("", Some("preview"), "responses", "/openai/v1/responses?api-version=preview"),
            ("/openai/v1", Some("2024-10-21"), "embeddings", "/openai/v1/embeddings"),
            (
                "/apim",
                Some("2024-10-21"),
                "embeddings",
                "/apim/openai/deployments/my%2Fgpt/embeddings?api-version=2024-10-21",
            ),
            ("", Some("2025-04-01-preview"), "responses", "/openai/responses?api-version=2025-04-01-preview"),
            (
                "",
                Some("a&b=c"),
                "images/edits",
                "/openai/deployments/my%2Fgpt/images/edits?api-version=a%26b%3Dc",
            ),
        ] {
            assert_eq!(azure(base, "my/gpt", version, path), target);
        }
    }
}

//! Where on a provider a request goes: the target of its request line. Pure functions of the account and the model.

use crate::domain::{Model, Protocol, ProviderType};
use crate::store::Account;
use crate::translate::Back;
use crate::translate::back::{converse, gemini};

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
    format!("{base}/{path}{mark}{query}")
}

/// Azure has two forms: `/openai/v1`, which is OpenAI's own, and deployments with a version for each call (openai.md
/// of the provider's documentation: "Azure OpenAI REST API reference").
fn azure(base: &str, deployment: &str, version: Option<&str>, path: &str) -> String {
    if base.ends_with("/openai/v1") {
        return match version {
            // The only version that the new form knows is the preview.
            Some("preview") => format!("{base}/{path}?api-version=preview"),
            _ => format!("{base}/{path}"),
        };
    }
    match version {
        None | Some("v1" | "preview" | "latest") => {
            let query = if version == Some("preview") { "?api-version=preview" } else { "" };
            format!("{base}/openai/v1/{path}{query}")
        }
        Some(version) if path == "responses" => format!("{base}/openai/responses?api-version={}", segment(version)),
        Some(version) => format!(
            "{base}/openai/deployments/{}/{path}?api-version={}",
            segment(deployment),
            segment(version)
        ),
    }
}

/// The target of a translated conversation.
pub fn conversation(account: &Account, model: Option<&Model>, back: Back, is_stream: bool) -> String {
    let base = account.endpoint.path.as_str();
    let model_id = model.map_or("", |model| &model.model_id);
    match back {
        Back::OpenAi => relayed(account, model, "chat/completions", ""),
        Back::Anthropic => format!("{base}/messages"),
        Back::Converse => {
            let operation = if is_stream { "converse-stream" } else { "converse" };
            format!("{base}{}", converse::path(model_id, operation))
        }
        Back::Gemini => {
            let method = if is_stream { "streamGenerateContent" } else { "generateContent" };
            format!("{base}{}", gemini_path(account, model, method))
        }
    }
}

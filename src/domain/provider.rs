//! The types of provider accounts: which protocol each speaks and where it is unless somebody says otherwise.

use serde::{Deserialize, Serialize};

use super::account::AccountSettings;

/// What a provider understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// OpenAI's own, or a server that speaks like it.
    OpenAi,
    /// Anthropic Messages.
    Anthropic,
    /// Bedrock Converse; `InvokeModel` for embeddings.
    Converse,
    /// `generateContent`, of the Gemini API or of Vertex.
    Gemini,
    /// Answers by itself.
    Demo,
}

/// The base URL of an account that has none: a name that never resolves (RFC 6761).
pub const NO_PLACE: &str = "http://unset.invalid";

/// Which provider stands behind an account. The written form is the word after `provider-account/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the words are the contract's own")]
pub enum ProviderType {
    /// OpenAI, and any server that speaks like it.
    Openai,
    /// Answers by itself; exists in a demo store only.
    Demo,
    Ollama,
    /// vLLM, llama.cpp, TGI and others; its models may stand on servers of their own.
    SelfHostedModel,
    AzureOpenai,
    Anthropic,
    AwsBedrock,
    GoogleGemini,
    GoogleVertex,
    Openrouter,
    Groq,
    MistralAi,
    TogetherAi,
    Xai,
    Cohere,
    PerplexityAi,
    Deepinfra,
    Cerebras,
    Sambanova,
}

impl ProviderType {
    /// Every type, the ones to name first in front.
    pub const ALL: [Self; 19] = [
        Self::Openai,
        Self::AzureOpenai,
        Self::Anthropic,
        Self::AwsBedrock,
        Self::GoogleGemini,
        Self::GoogleVertex,
        Self::Ollama,
        Self::SelfHostedModel,
        Self::Openrouter,
        Self::Groq,
        Self::MistralAi,
        Self::TogetherAi,
        Self::Xai,
        Self::Cohere,
        Self::PerplexityAi,
        Self::Deepinfra,
        Self::Cerebras,
        Self::Sambanova,
        Self::Demo,
    ];

    /// The word after `provider-account/` in a manifest's type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Demo => "demo",
            Self::Ollama => "ollama",
            Self::SelfHostedModel => "self-hosted-model",
            Self::AzureOpenai => "azure-openai",
            Self::Anthropic => "anthropic",
            Self::AwsBedrock => "aws-bedrock",
            Self::GoogleGemini => "google-gemini",
            Self::GoogleVertex => "google-vertex",
            Self::Openrouter => "openrouter",
            Self::Groq => "groq",
            Self::MistralAi => "mistral-ai",
            Self::TogetherAi => "together-ai",
            Self::Xai => "xai",
            Self::Cohere => "cohere",
            Self::PerplexityAi => "perplexity-ai",
            Self::Deepinfra => "deepinfra",
            Self::Cerebras => "cerebras",
            Self::Sambanova => "sambanova",
        }
    }

    /// The type of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.as_str() == word)
    }

    /// The word after `integration/model/` in a manifest's models; mostly the type's own (contract, 6.6).
    pub fn model_kind(self) -> &'static str {
        match self {
            Self::AwsBedrock => "bedrock",
            Self::GoogleGemini => "gemini",
            Self::GoogleVertex => "vertex",
            other => other.as_str(),
        }
    }

    /// What it understands.
    pub fn protocol(self) -> Protocol {
        match self {
            Self::Anthropic => Protocol::Anthropic,
            Self::AwsBedrock => Protocol::Converse,
            Self::GoogleGemini | Self::GoogleVertex => Protocol::Gemini,
            Self::Demo => Protocol::Demo,
            Self::Openai
            | Self::Ollama
            | Self::SelfHostedModel
            | Self::AzureOpenai
            | Self::Openrouter
            | Self::Groq
            | Self::MistralAi
            | Self::TogetherAi
            | Self::Xai
            | Self::Cohere
            | Self::PerplexityAi
            | Self::Deepinfra
            | Self::Cerebras
            | Self::Sambanova => Protocol::OpenAi,
        }
    }

    /// Whether its place and its credentials are of a region.
    pub fn has_region(self) -> bool {
        matches!(self, Self::AwsBedrock | Self::GoogleVertex)
    }

    /// Where it is when nobody says otherwise, with the version path; `None` where there is no such place: an
    /// Azure resource is the operator's own, and a region may be missing.
    pub fn default_base_url(self, region: Option<&str>) -> Option<String> {
        let fixed = match self {
            Self::Openai => "https://api.openai.com/v1",
            // Never dialled: the demo's provider answers by itself.
            Self::Demo => "http://demo.invalid",
            Self::Ollama => "http://127.0.0.1:11434/v1",
            Self::Anthropic => "https://api.anthropic.com/v1",
            Self::GoogleGemini => "https://generativelanguage.googleapis.com/v1beta",
            Self::Openrouter => "https://openrouter.ai/api/v1",
            Self::Groq => "https://api.groq.com/openai/v1",
            Self::MistralAi => "https://api.mistral.ai/v1",
            Self::TogetherAi => "https://api.together.xyz/v1",
            Self::Xai => "https://api.x.ai/v1",
            Self::Cohere => "https://api.cohere.ai/compatibility/v1",
            Self::PerplexityAi => "https://api.perplexity.ai",
            Self::Deepinfra => "https://api.deepinfra.com/v1/openai",
            Self::Cerebras => "https://api.cerebras.ai/v1",
            Self::Sambanova => "https://api.sambanova.ai/v1",
            // Its models say where they are, or the account does.
            Self::SelfHostedModel => NO_PLACE,
            Self::AzureOpenai => return None,
            Self::AwsBedrock => {
                let region = region?;
                let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
                return Some(format!("https://bedrock-runtime.{region}.{domain}"));
            }
            Self::GoogleVertex => {
                return Some(match region? {
                    "global" => "https://aiplatform.googleapis.com/v1".to_owned(),
                    region @ ("us" | "eu") => format!("https://aiplatform.{region}.rep.googleapis.com/v1"),
                    region => format!("https://{region}-aiplatform.googleapis.com/v1"),
                });
            }
        };
        Some(fixed.to_owned())
    }

    /// Whether an account's base URL is the one that follows from its settings, so that a model of another region
    /// has a base URL of its own.
    pub fn is_default_base_url(self, base_url: &str, settings: &AccountSettings) -> bool {
        self.default_base_url(settings.region.as_deref()).is_some_and(|default| default == base_url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_same_everywhere() {
        for provider in ProviderType::ALL {
            let word = serde_json::to_value(provider).unwrap();
            assert_eq!(word, provider.as_str());
            assert_eq!(ProviderType::parse(provider.as_str()), Some(provider));
            assert_eq!(serde_json::from_value::<ProviderType>(word).unwrap(), provider);
        }
        for wrong in ["", "OpenAI", "azure", "bedrock", "openai "] {
            assert_eq!(ProviderType::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn default_places() {
        let at = |provider: ProviderType, region: &str| provider.default_base_url(Some(region)).unwrap();
        let bedrock = ProviderType::AwsBedrock;
        assert_eq!(at(bedrock, "eu-central-1"), "https://bedrock-runtime.eu-central-1.amazonaws.com");
        assert_eq!(at(bedrock, "cn-north-1"), "https://bedrock-runtime.cn-north-1.amazonaws.com.cn");
        let vertex = ProviderType::GoogleVertex;
        assert_eq!(at(vertex, "europe-west4"), "https://europe-west4-aiplatform.googleapis.com/v1");
        assert_eq!(at(vertex, "global"), "https://aiplatform.googleapis.com/v1");
        assert_eq!(at(vertex, "eu"), "https://aiplatform.eu.rep.googleapis.com/v1");
        for provider in ProviderType::ALL {
            match provider.default_base_url(None) {
                Some(url) => assert!(crate::domain::Endpoint::parse(&url).is_ok(), "{url}"),
                None => assert!(provider.has_region() || provider == ProviderType::AzureOpenai),
            }
        }
    }
}

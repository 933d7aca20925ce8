//! Provider accounts and their models: JSON to typed specs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::auth::{self, TlsSpec};
use super::fields::Fields;
use super::price;
use super::read::bounded;
use super::{AccountSpec, ModelServerSpec, ModelSpec};
use crate::domain::{ModelSettings, ModelType, ProviderType};
use crate::failure::Failure;

type Result<T> = std::result::Result<T, Failure>;

/// Servers that a self-hosted model may run on, in the contract's words.
const MODEL_SERVERS: [&str; 6] =
    ["openai-compatible", "cohere-rerank-v2", "nemo-retriever", "infinity", "tei", "vllm-openai"];
const DEPLOYMENT_TYPES: [&str; 4] = ["standard", "datazone_us", "datazone_eu", "global"];
/// More tokens than any model writes in one answer.
const MAX_OUTPUT_TOKENS: u64 = 100_000_000;

/// Provider types of the contract that have no implementation here (yet).
const OTHER_PROVIDERS: [&str; 20] = [
    "ai21",
    "aws-bedrock-mantle",
    "aws-claude-platform",
    "aws-sagemaker",
    "azure-foundry",
    "baseten",
    "cartesia",
    "cloudera",
    "custom",
    "custom-endpoint",
    "databricks",
    "deepgram",
    "elevenlabs",
    "microsoft-foundry",
    "nomic",
    "palm",
    "smallest-ai",
    "snowflake-cortex",
    "virtual-model",
    "wafer",
];

/// Names that stand in older texts, and what they are called.
const WRONG_NAMES: [(&str, &str); 8] = [
    ("azure", "provider-account/azure-openai"),
    ("google", "provider-account/google-gemini or provider-account/google-vertex"),
    ("gemini", "provider-account/google-gemini"),
    ("vertex", "provider-account/google-vertex"),
    ("mistral", "provider-account/mistral-ai"),
    ("bedrock", "provider-account/aws-bedrock"),
    ("together", "provider-account/together-ai"),
    ("open-ai", "provider-account/openai"),
];

/// The document with a mask in place of each secret.
pub(super) fn masked(mut document: Value) -> Value {
    mask_in(&mut document);
    if let Some(Value::Array(models)) = document.get_mut("integrations") {
        models.iter_mut().for_each(mask_in);
    }
    document
}

fn mask_in(part: &mut Value) {
    if let Some(auth_data) = part.get_mut("auth_data") {
        auth::mask(auth_data);
    }
    if let Some(key) = part.pointer_mut("/tls_settings/client_key")
        && !key.is_null()
    {
        *key = super::MASK.into();
    }
}

/// Reads a provider account.
pub(super) fn account(fields: &mut Fields, word: &str) -> Result<AccountSpec> {
    let Some(provider) = ProviderType::parse(word) else {
        return Err(fields.refusal("type", &wrong_provider(word)));
    };
    let mut custom_host = None;
    let mut auth = None;
    if let Some(mut auth_data) = fields.object("auth_data")? {
        if provider == ProviderType::Ollama {
            custom_host = auth_data.text("custom_host")?;
        }
        // Ollama's server has an address there and mostly nothing else.
        if custom_host.is_none() || !auth_data.is_empty() {
            auth = Some(auth::auth(auth_data, provider)?);
        }
    }
    let base_url = base_url(fields, provider, custom_host)?;
    let tls = match fields.object("tls_settings")? {
        None => TlsSpec::default(),
        Some(settings) => auth::tls(settings, false)?,
    };
    let models = match fields.objects("integrations")? {
        None => None,
        Some(list) => {
            bounded(fields, "integrations", &list)?;
            Some(list.into_iter().map(|one| model(one, provider, true)).collect::<Result<_>>()?)
        }
    };
    let collaborators = match fields.objects("collaborators")? {
        None => None,
        Some(list) => {
            bounded(fields, "collaborators", &list)?;
            let pair = |mut one: Fields| {
                let pair = (one.required_text("subject")?, one.required_text("role_id")?);
                one.finish()?;
                Ok(pair)
            };
            Some(list.into_iter().map(pair).collect::<Result<_>>()?)
        }
    };
    let ca_certificates = same(fields, "ca_certificates", tls.ca_certificates, "tls_settings.ca_cert")?;
    let spec = AccountSpec {
        name: fields.required_text("name")?,
        provider,
        base_url,
        auth,
        region: region(fields, provider)?,
        project_id: if provider == ProviderType::GoogleVertex {
            word_of(fields, "project_id", ":.-")?
        } else {
            None
        },
        api_version: api_version(fields, provider)?,
        drop_unsupported: fields.flag("drop_unsupported")?,
        logging_settings: super::logging_settings(fields)?,
        discount_percent: price::discount(fields)?,
        client_certificate: tls.client_certificate,
        client_key: tls.client_key,
        headers: fields.map("headers")?.unwrap_or_default(),
        ca_certificates,
        models,
        collaborators,
    };
    fields.ignore(&["ownedBy"]);
    Ok(spec)
}

/// The base URL, under the names that it has: `azure_endpoint` of Azure, `auth_data.custom_host` of Ollama.
fn base_url(
    fields: &mut Fields,
    provider: ProviderType,
    custom_host: Option<String>,
) -> Result<Option<String>> {
    match provider {
        ProviderType::AzureOpenai => {
            let endpoint = fields.text("azure_endpoint")?.map(|url| azure_endpoint(&url));
            let url = fields.text("base_url")?.map(|url| azure_endpoint(&url));
            if endpoint.is_some() && url.is_some() && endpoint != url {
                return Err(fields.refusal("base_url", "says something else than azure_endpoint"));
            }
            endpoint.or(url).map(Some).ok_or_else(|| {
                fields.refusal("azure_endpoint", "is missing; it is https://RESOURCE.openai.azure.com")
            })
        }
        ProviderType::Ollama => {
            let custom_host = custom_host.map(|host| ollama_host(&host));
            same(fields, "base_url", custom_host, "auth_data.custom_host")
        }
        _ => fields.text("base_url"),
    }
}

/// An Azure resource's endpoint without what follows from the protocol: a trailing `/openai` (contract, 6.6) or
/// `/openai/v1`.
pub fn azure_endpoint(url: &str) -> String {
    let url = url.trim_end_matches('/');
    let url = url.strip_suffix("/openai/v1").or_else(|| url.strip_suffix("/openai")).unwrap_or(url);
    url.trim_end_matches('/').to_owned()
}

/// Ollama's own address has no path; what speaks OpenAI's protocol there is below `/v1`.
pub fn ollama_host(url: &str) -> String {
    let url = url.trim_end_matches('/');
    let has_path = url.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
    if has_path { url.to_owned() } else { format!("{url}/v1") }
}

/// A field with two names, which may both be there when they say the same.
fn same(fields: &mut Fields, name: &str, other: Option<String>, other_name: &str) -> Result<Option<String>> {
    match (fields.text(name)?, other) {
        (Some(one), Some(other)) if one != other => {
            Err(fields.refusal(name, &format!("says something else than {other_name}")))
        }
        (one, other) => Ok(one.or(other)),
    }
}

/// A short word of letters, digits and these bytes.
pub(super) fn word_of(fields: &mut Fields, name: &str, others: &str) -> Result<Option<String>> {
    let text = fields.text(name)?;
    if let Some(text) = &text
        && !is_word(text, others)
    {
        let want = format!("must have 1 to 128 characters: ASCII letters, digits and any of {others}");
        return Err(fields.refusal(name, &want));
    }
    Ok(text)
}

fn is_word(text: &str, others: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || others.as_bytes().contains(&byte);
    (1..=128).contains(&text.len()) && text.bytes().all(allowed)
}

/// A region, which stands in a host's name.
fn region(fields: &mut Fields, provider: ProviderType) -> Result<Option<String>> {
    if !provider.has_region() {
        return Ok(None);
    }
    let region = fields.text("region")?;
    if region.as_ref().is_some_and(|region| !is_region(region)) {
        return Err(fields.refusal("region", WRONG_REGION));
    }
    Ok(region)
}

/// What a region must be, as the end of a sentence.
pub const WRONG_REGION: &str = "must have 1 to 40 lower-case letters, digits and hyphens, like eu-central-1";

/// Whether a text can be a region: it becomes a part of a host's name.
pub fn is_region(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=40).contains(&text.len())
        && text.bytes().all(allowed)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether a text can be a project or an API version: it stands in a path or a query.
pub fn is_path_word(text: &str) -> bool {
    is_word(text, ":.-") && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn api_version(fields: &mut Fields, provider: ProviderType) -> Result<Option<String>> {
    if provider == ProviderType::AzureOpenai { word_of(fields, "api_version", ".-") } else { Ok(None) }
}

fn wrong_provider(provider: &str) -> String {
    if let Some((_, right)) = WRONG_NAMES.iter().find(|(wrong, _)| *wrong == provider) {
        return format!("is called {right}");
    }
    let others = "use provider-account/openai where the server speaks OpenAI's protocol";
    if OTHER_PROVIDERS.contains(&provider) {
        format!("names a provider that is not supported here yet; {others}")
    } else {
        format!("names no provider that is known here; {others}")
    }
}

/// Reads a model of a provider account of this type. Its `type` may be left out only where the account is known.
///
/// # Errors
/// What it can not say, with the path of the field.
pub fn model(mut manifest: Fields, provider: ProviderType, typed: bool) -> Result<ModelSpec> {
    if typed || manifest.has("type") {
        let kind = manifest.required_text("type")?;
        let want = provider.model_kind();
        let word = kind.strip_prefix("integration/model/").unwrap_or_default();
        // A demo's models are written like those of the provider that it stands for.
        let same = word == want || (provider == ProviderType::Demo && word == "openai");
        if !same {
            let called = if word == "aws-bedrock" { "is called integration/model/bedrock, and " } else { "" };
            let text = format!(
                "{called}must be 'integration/model/{want}' in a provider-account/{}",
                provider.as_str()
            );
            return Err(manifest.refusal("type", &text));
        }
    }
    let self_hosted = provider == ProviderType::SelfHostedModel;
    let name = manifest.required_text("name")?;
    let model_id = if self_hosted {
        let hosted = manifest.text("hosted_model_name")?;
        let id = same(&mut manifest, "model_id", hosted, "hosted_model_name")?;
        id.ok_or_else(|| manifest.refusal("hosted_model_name", "is missing"))?
    } else {
        manifest.required_text("model_id")?
    };
    let mut types = BTreeSet::new();
    for word in manifest.required_texts("model_types")? {
        let known: std::result::Result<ModelType, _> = serde_json::from_value(Value::String(word));
        let unknown = |_| {
            manifest.refusal(
                "model_types",
                "may hold chat, completion, embedding, realtime, rerank, audio_transcription, audio_translation, text_to_speech, moderation, image, responses and ocr",
            )
        };
        types.insert(known.map_err(unknown)?);
    }
    let prices = price::prices(&mut manifest)?;
    let authorized_subjects = manifest.texts("authorized_subjects")?;
    bounded(&manifest, "authorized_subjects", authorized_subjects.as_deref().unwrap_or_default())?;
    let settings = model_settings(&mut manifest, provider)?;
    let server = if self_hosted { server(&mut manifest)? } else { None };
    manifest.finish()?;
    Ok(ModelSpec { name, provider, model_id, types, prices, authorized_subjects, settings, server })
}

fn one_of(fields: &mut Fields, name: &str, words: &[&str]) -> Result<Option<String>> {
    let text = fields.text(name)?;
    match &text {
        Some(text) if !words.contains(&text.as_str()) => {
            Err(fields.refusal(name, &format!("must be one of: {}", words.join(", "))))
        }
        _ => Ok(text),
    }
}

fn model_settings(fields: &mut Fields, provider: ProviderType) -> Result<ModelSettings> {
    let mut settings = ModelSettings {
        region: region(fields, provider)?,
        api_version: api_version(fields, provider)?,
        family: word_of(fields, "family", "._:/-")?,
        max_output_tokens: fields.count("max_output_tokens")?,
        ..ModelSettings::default()
    };
    if settings.max_output_tokens.is_some_and(|most| !(1..=MAX_OUTPUT_TOKENS).contains(&most)) {
        return Err(fields.refusal("max_output_tokens", &format!("must be 1 to {MAX_OUTPUT_TOKENS}")));
    }
    match provider {
        ProviderType::AzureOpenai => {
            settings.foundation_model = word_of(fields, "foundation_model", "._:/-")?;
            settings.deployment_type = one_of(fields, "deployment_type", &DEPLOYMENT_TYPES)?;
        }
        ProviderType::SelfHostedModel => {
            settings.model_server = one_of(fields, "model_server", &MODEL_SERVERS)?;
            fields.ignore(&["tfy_application_id"]);
        }
        _ => {}
    }
    Ok(settings)
}

/// The server of a self-hosted model. What is about a server needs one.
fn server(fields: &mut Fields) -> Result<Option<ModelServerSpec>> {
    let Some(base_url) = fields.text("url")? else {
        let of_server = ["auth_data", "headers", "tls_settings"];
        for name in of_server {
            if fields.is_set(name) {
                return Err(fields.refusal(name, "is about the model's own server, and 'url' is missing"));
            }
        }
        fields.ignore(&of_server);
        return Ok(None);
    };
    let auth = match fields.object("auth_data")? {
        None => None,
        Some(auth_data) => Some(auth::auth(auth_data, ProviderType::SelfHostedModel)?),
    };
    let tls = match fields.object("tls_settings")? {
        None => TlsSpec::default(),
        Some(settings) => auth::tls(settings, true)?,
    };
    let headers: BTreeMap<String, String> = fields.map("headers")?.unwrap_or_default();
    Ok(Some(ModelServerSpec { base_url, auth, headers, ca_certificates: tls.ca_certificates }))
}

//! JSON to typed specs. Every field of the public contract is known; one that nobody knows is refused by its path.

use std::collections::BTreeSet;

use serde_json::Value;

use super::fields::Fields;
use super::price::Price;
use super::{
    AccountSpec, Document, MASK, ModelSpec, Permission, RoleBindingSpec, SettingsSpec, Spec, TeamSpec,
    UserSpec, VirtualAccountSpec,
};
use crate::clock::UnixMillis;
use crate::domain::{AutoRotate, ModelType, TenantRole};
use crate::failure::Failure;

type Result<T> = std::result::Result<T, Failure>;

/// Entries of any one list in a manifest.
const MAX_LIST: usize = 10_000;

/// The longest time that is given in days.
const MAX_DAYS: u64 = 36_500;

/// Provider types of the contract that have no implementation here (yet).
const OTHER_PROVIDERS: [&str; 37] = [
    "ai21",
    "anthropic",
    "aws-bedrock",
    "aws-bedrock-mantle",
    "aws-claude-platform",
    "aws-sagemaker",
    "azure-foundry",
    "azure-openai",
    "baseten",
    "cartesia",
    "cerebras",
    "cloudera",
    "cohere",
    "custom",
    "custom-endpoint",
    "databricks",
    "deepgram",
    "deepinfra",
    "elevenlabs",
    "google-gemini",
    "google-vertex",
    "groq",
    "microsoft-foundry",
    "mistral-ai",
    "nomic",
    "ollama",
    "openrouter",
    "palm",
    "perplexity-ai",
    "sambanova",
    "self-hosted-model",
    "smallest-ai",
    "snowflake-cortex",
    "together-ai",
    "virtual-model",
    "wafer",
    "xai",
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

/// Reads one document.
///
/// # Errors
/// What it can not say, with the path of the field.
pub fn read(mut fields: Fields) -> Result<Document> {
    let masked = masked(fields.value());
    let kind = fields.required_text("type")?;
    let spec = match kind.as_str() {
        "user" => Spec::User(user(&mut fields)?),
        "team" => Spec::Team(team(&mut fields)?),
        "virtual-account" => Spec::VirtualAccount(virtual_account(&mut fields)?),
        "role-binding" => Spec::RoleBinding(role_binding(&mut fields)?),
        "settings" => Spec::Settings(settings(&mut fields)?),
        _ => match kind.strip_prefix("provider-account/") {
            Some(provider) => Spec::Account(account(&mut fields, provider)?),
            None => return Err(unknown_kind(&fields)),
        },
    };
    fields.finish()?;
    Ok(Document { spec, masked })
}

/// The type and name of a document, whatever else it holds: enough to find what it is about.
///
/// # Errors
/// When one of them is missing.
pub fn kind_of(fields: &mut Fields) -> Result<(String, String)> {
    let kind = fields.required_text("type")?;
    let name = match kind.as_str() {
        "user" if !fields.has("name") => fields.required_text("email")?,
        "settings" => "settings".to_owned(),
        "team" | "virtual-account" | "role-binding" | "user" => fields.required_text("name")?,
        _ if kind.starts_with("provider-account/") => fields.required_text("name")?,
        _ => return Err(unknown_kind(fields)),
    };
    Ok((kind, name))
}

fn unknown_kind(fields: &Fields) -> Failure {
    fields.refusal(
        "type",
        "must be user, team, provider-account/PROVIDER, virtual-account, role-binding or settings",
    )
}

/// The document with a mask in place of each secret.
fn masked(mut document: Value) -> Value {
    if let Some(Value::Object(auth)) = document.get_mut("auth_data") {
        for (name, value) in auth.iter_mut() {
            // A reference to a secret store is no secret.
            let reference = value.as_str().is_some_and(|text| text.starts_with("tfy-secret://"));
            if name != "type" && !value.is_null() && !reference {
                *value = MASK.into();
            }
        }
    }
    document
}

fn bounded<T>(fields: &Fields, name: &str, list: &[T]) -> Result<()> {
    if list.len() > MAX_LIST {
        return Err(fields.refusal(name, &format!("holds more than {MAX_LIST} entries")));
    }
    Ok(())
}

fn user(fields: &mut Fields) -> Result<UserSpec> {
    let email = match (fields.text("name")?, fields.text("email")?) {
        (Some(name), Some(email)) if name != email => {
            return Err(fields.refusal("email", "says another address than 'name'"));
        }
        (Some(email), _) | (None, Some(email)) => email,
        (None, None) => return Err(fields.refusal("name", "is missing; it is the user's email")),
    };
    let role = match fields.text("role")? {
        None => None,
        Some(word) => match TenantRole::parse(&word) {
            Some(role) => Some(role),
            None => return Err(fields.refusal("role", "must be 'admin' or 'member'")),
        },
    };
    Ok(UserSpec { email, display_name: fields.text("displayName")?, role })
}

fn team(fields: &mut Fields) -> Result<TeamSpec> {
    let spec = TeamSpec {
        name: fields.required_text("name")?,
        description: fields.text("description")?.unwrap_or_default(),
        members: fields.required_texts("members")?,
        managers: fields.texts("managers")?.unwrap_or_default(),
    };
    fields.ignore(&["displayName", "ownedBy", "tags", "identity_provider_mapping"]);
    Ok(spec)
}

fn account(fields: &mut Fields, provider: &str) -> Result<AccountSpec> {
    if !["openai", "demo"].contains(&provider) {
        return Err(fields.refusal("type", &wrong_provider(provider)));
    }
    let (mut api_key, mut masked_key) = (None, false);
    if let Some(mut auth) = fields.object("auth_data")? {
        if auth.required_text("type")? != "api-key" {
            return Err(auth.refusal("type", "must be 'api-key'"));
        }
        match auth.secret("api_key")? {
            // Left out or masked: the stored one.
            Some(key) if key.expose() != MASK => api_key = Some(key),
            _ => masked_key = true,
        }
        auth.finish()?;
    }
    let models = match fields.objects("integrations")? {
        None => None,
        Some(list) => {
            bounded(fields, "integrations", &list)?;
            Some(list.into_iter().map(model).collect::<Result<_>>()?)
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
    let spec = AccountSpec {
        name: fields.required_text("name")?,
        provider: provider.to_owned(),
        base_url: fields.text("base_url")?,
        api_key,
        masked_key,
        headers: fields.map("headers")?.unwrap_or_default(),
        ca_certificates: fields.text("ca_certificates")?,
        models,
        collaborators,
    };
    fields.ignore(&["ownedBy", "discount_percent"]);
    Ok(spec)
}

fn wrong_provider(provider: &str) -> String {
    let use_openai = "use provider-account/openai, which any OpenAI-compatible server is";
    if let Some((_, right)) = WRONG_NAMES.iter().find(|(wrong, _)| *wrong == provider) {
        format!("is called {right}; it is not supported here yet: {use_openai}")
    } else if OTHER_PROVIDERS.contains(&provider) {
        format!("names a provider that is not supported here yet; {use_openai}")
    } else {
        format!("names no provider that is known here; {use_openai}")
    }
}

/// Reads a model of a provider account.
///
/// # Errors
/// What it can not say, with the path of the field.
pub fn model(mut manifest: Fields) -> Result<ModelSpec> {
    let kind = manifest.required_text("type")?;
    match kind.as_str() {
        "integration/model/openai" | "integration/model/demo" => {}
        "integration/model/aws-bedrock" => {
            return Err(manifest.refusal(
                "type",
                "is called integration/model/bedrock, and must be 'integration/model/openai' here",
            ));
        }
        _ => return Err(manifest.refusal("type", "must be 'integration/model/openai'")),
    }
    let name = manifest.required_text("name")?;
    let model_id = manifest.required_text("model_id")?;
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
    let (cost_input, cost_output) = match manifest.object("cost")? {
        None => (None, None),
        Some(cost) => prices(cost)?,
    };
    let input_price = manifest.decimal("input_price")?.map(Price::PerMillion);
    let output_price = manifest.decimal("output_price")?.map(Price::PerMillion);
    for (name, own, cost) in
        [("input_price", &input_price, &cost_input), ("output_price", &output_price, &cost_output)]
    {
        if let (Some(own), Some(cost)) = (own, cost)
            && own.per_million()? != cost.per_million()?
        {
            return Err(manifest.refusal(name, "says another price than 'cost'"));
        }
    }
    let authorized_subjects = manifest.texts("authorized_subjects")?;
    bounded(&manifest, "authorized_subjects", authorized_subjects.as_deref().unwrap_or_default())?;
    manifest.finish()?;
    Ok(ModelSpec {
        name,
        model_id,
        types,
        input_price: input_price.or(cost_input),
        output_price: output_price.or(cost_output),
        authorized_subjects,
    })
}

fn prices(mut cost: Fields) -> Result<(Option<Price>, Option<Price>)> {
    let metric = cost.required_text("metric")?;
    let prices = match metric.as_str() {
        // There is no public price list here: the price is unknown.
        "public_cost" => {
            cost.ignore(&["value"]);
            (None, None)
        }
        "per_1000_tokens" => {
            let Some(mut value) = cost.object("value")? else {
                return Err(cost.refusal("value", "is missing"));
            };
            let (input, output) = (value.decimal("input")?, value.decimal("output")?);
            let (Some(input), Some(output)) = (input, output) else {
                return Err(value.refusal("input", "and 'output' must both be there"));
            };
            value.ignore(&[
                "cache_read",
                "cache_write",
                "input_tiers",
                "output_tiers",
                "cache_read_tiers",
                "cache_write_tiers",
            ]);
            value.finish()?;
            (Some(Price::PerThousand(input)), Some(Price::PerThousand(output)))
        }
        "per_1000_embedding_tokens" => (cost.decimal("value")?.map(Price::PerThousand), None),
        // Kept and shown; calls of these kinds are not priced.
        "per_million_characters" | "per_minute_of_audio" | "per_1000_pages" => {
            cost.ignore(&["value"]);
            (None, None)
        }
        _ => {
            return Err(cost.refusal(
                "metric",
                "must be 'per_1000_tokens', 'per_1000_embedding_tokens', 'per_million_characters', 'per_minute_of_audio', 'per_1000_pages' or 'public_cost'",
            ));
        }
    };
    cost.finish()?;
    Ok(prices)
}

fn days(fields: &mut Fields, name: &str, least: u64) -> Result<Option<u32>> {
    match fields.count(name)? {
        None => Ok(None),
        Some(days) if (least..=MAX_DAYS).contains(&days) => Ok(u32::try_from(days).ok()),
        Some(_) => Err(fields.refusal(name, &format!("must be {least} to {MAX_DAYS} days"))),
    }
}

fn virtual_account(fields: &mut Fields) -> Result<VirtualAccountSpec> {
    let expires_at = match fields.text("expiration_date")? {
        None => None,
        Some(text) => {
            let wrong = |_| fields.refusal("expiration_date", "must be a date such as 2027-01-31");
            Some(UnixMillis::parse(&text).map_err(wrong)?)
        }
    };
    let permissions = match fields.objects("permissions")? {
        None => None,
        Some(list) if list.is_empty() => {
            return Err(fields.refusal("permissions", "is empty; leave it out to keep access as it is"));
        }
        Some(list) => {
            bounded(fields, "permissions", &list)?;
            Some(permissions(list, ["resource_fqn", "resource_type", "role_id"])?)
        }
    };
    let owned_by = match fields.object("ownedBy")? {
        None => None,
        Some(mut owner) => {
            let team = owner.required_text("team")?;
            owner.ignore(&["account"]);
            owner.finish()?;
            Some(team)
        }
    };
    let auto_rotate = match fields.object("auto_rotate")? {
        None => None,
        Some(mut rotate) => {
            let rotation = AutoRotate {
                interval_days: days(&mut rotate, "auto_rotate_interval", 30)?.unwrap_or(360),
                grace_days: days(&mut rotate, "grace_period", 1)?.unwrap_or(30),
            };
            rotate.finish()?;
            Some(rotation)
        }
    };
    if let Some(word) = fields.text("token_type")?
        && word != "jwt"
        && word != "opaque"
    {
        return Err(fields.refusal("token_type", "must be 'jwt' or 'opaque'; tokens are opaque here"));
    }
    let spec = VirtualAccountSpec {
        name: fields.required_text("name")?,
        expires_at,
        tags: fields.map("tags")?.unwrap_or_default(),
        owned_by,
        auto_rotate,
        permissions,
    };
    fields.ignore(&["identity_provider_mapping", "notification_target", "secret_store_config"]);
    Ok(spec)
}

fn permissions(list: Vec<Fields>, [fqn, kind, role]: [&str; 3]) -> Result<Vec<Permission>> {
    let one = |mut one: Fields| {
        let permission = Permission {
            resource_fqn: one.required_text(fqn)?,
            resource_type: one.required_text(kind)?,
            role_id: one.required_text(role)?,
        };
        one.finish()?;
        Ok(permission)
    };
    list.into_iter().map(one).collect()
}

fn role_binding(fields: &mut Fields) -> Result<RoleBindingSpec> {
    let name = fields.required_text("name")?;
    let inner = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let ends = name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.ends_with('-');
    if !(3..=66).contains(&name.len()) || !inner || !ends {
        return Err(fields.refusal(
            "name",
            "must have 3 to 66 lower-case letters, digits and hyphens, start with a letter and not end with a hyphen",
        ));
    }
    let mut subjects = Vec::new();
    for mut subject in fields.objects("subjects")?.unwrap_or_default() {
        let kind = subject.required_text("type")?;
        if !["user", "team", "virtualaccount"].contains(&kind.as_str()) {
            return Err(subject.refusal("type", "must be 'user', 'team' or 'virtualaccount'"));
        }
        subjects.push(format!("{kind}:{}", subject.required_text("name")?));
        subject.finish()?;
    }
    let list = fields.objects("permissions")?.unwrap_or_default();
    if subjects.is_empty() || list.is_empty() {
        return Err(fields.refusal("subjects", "and 'permissions' must each hold at least one entry"));
    }
    if subjects.len().saturating_mul(list.len()) > MAX_LIST {
        return Err(
            fields.refusal("subjects", &format!("times 'permissions' makes more than {MAX_LIST} grants"))
        );
    }
    let permissions = permissions(list, ["resourceFqn", "resourceType", "role"])?;
    Ok(RoleBindingSpec { name, subjects, permissions })
}

fn settings(fields: &mut Fields) -> Result<SettingsSpec> {
    let mut spec = SettingsSpec::default();
    fields.ignore(&["name"]);
    if fields.has("pat_max_validity_days") {
        spec.pat_max_validity_days = Some(days(fields, "pat_max_validity_days", 1)?);
    }
    if fields.has("pat_may_mint") {
        spec.pat_may_mint = Some(fields.flag("pat_may_mint")?);
    }
    if fields.has("audit_retention_days") {
        spec.audit_retention_days = Some(days(fields, "audit_retention_days", 1)?);
    }
    Ok(spec)
}

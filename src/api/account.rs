//! Provider accounts and models as JSON. A key goes in and never comes out.

use std::collections::BTreeSet;

use serde_json::{Map, Number, Value, json};

use super::fields::Fields;
use super::{Call, Result, data, done, list, subject};
use crate::domain::{Model, ModelType, Principal, ProviderType};
use crate::manage::{AccountChange, AccountSpec, AccountView, ModelSpec, OfferedModel, Price, per_thousand};

fn account_fqn(call: &Call, provider: ProviderType, account: &str) -> String {
    format!("{}:{}:{account}", call.manage.tenant, provider.as_str())
}

fn model_manifest(provider: ProviderType, model: &Model) -> Value {
    let mut manifest = json!({
        "type": format!("integration/model/{}", provider.as_str()),
        "name": model.name,
        "model_id": model.model_id,
        "model_types": model.types,
    });
    if let Value::Object(fields) = &mut manifest {
        // The contract's prices are numbers for a thousand tokens; ours are exact text for a million.
        let number = |price: &Option<String>| -> Option<Number> {
            per_thousand(price.as_deref()?)?.parse::<f64>().ok().and_then(Number::from_f64)
        };
        if let (Some(input), Some(output)) = (number(&model.input_price), number(&model.output_price)) {
            let cost = json!({"metric": "per_1000_tokens", "value": {"input": input, "output": output}});
            fields.insert("cost".into(), cost);
        }
        for (name, price) in [("input_price", &model.input_price), ("output_price", &model.output_price)] {
            if let Some(price) = price {
                fields.insert(name.into(), price.as_str().into());
            }
        }
    }
    manifest
}

fn model_shape(call: &Call, offered: &OfferedModel) -> Value {
    let OfferedModel { account, provider, created_by, model } = offered;
    let account_fqn = account_fqn(call, *provider, account.as_str());
    json!({
        "id": format!("{account}/{}", model.name),
        "name": model.name,
        "modelName": format!("{account}/{}", model.name),
        "fqn": format!("{account_fqn}:model:{}", model.name),
        "type": "model",
        "providerAccountFqn": account_fqn,
        "tenantName": call.manage.tenant,
        "createdBySubject": subject::shape(created_by),
        "manifest": model_manifest(*provider, model),
        "createdAt": model.created_at.to_iso(),
        "updatedAt": model.created_at.to_iso(),
    })
}

fn shape(call: &Call, view: &AccountView) -> Value {
    let spec = &view.spec;
    let models: Vec<Value> = spec.models.values().map(|model| model_manifest(spec.provider, model)).collect();
    let mut manifest = Map::new();
    manifest.insert("type".into(), format!("provider-account/{}", spec.provider.as_str()).into());
    manifest.insert("name".into(), spec.name.as_str().into());
    manifest.insert("integrations".into(), models.into());
    if view.managed && spec.provider != ProviderType::Demo {
        manifest.insert("base_url".into(), spec.base_url.as_str().into());
        if !spec.headers.is_empty() {
            manifest.insert("headers".into(), json!(spec.headers));
        }
        if let Some(pem) = &spec.ca_certificates {
            manifest.insert("ca_certificates".into(), pem.as_str().into());
        }
    }
    let integrations: Vec<Value> = spec
        .models
        .values()
        .map(|model| {
            let offered = OfferedModel {
                account: spec.name.clone(),
                provider: spec.provider,
                created_by: spec.created_by.clone(),
                model: model.clone(),
            };
            model_shape(call, &offered)
        })
        .collect();
    let mut account = json!({
        "id": spec.name,
        "name": spec.name,
        "fqn": account_fqn(call, spec.provider, spec.name.as_str()),
        "provider": spec.provider.as_str(),
        "accountId": call.manage.tenant,
        "tenantName": call.manage.tenant,
        "manifest": manifest,
        "integrations": integrations,
        "createdBySubject": subject::shape(&spec.created_by),
        "createdBy": spec.created_by,
        "createdAt": spec.created_at.to_iso(),
        "updatedAt": spec.updated_at.to_iso(),
    });
    if let (Value::Object(fields), Some(has_api_key)) = (&mut account, view.has_api_key) {
        fields.insert("hasApiKey".into(), has_api_key.into());
    }
    account
}

pub fn list_all(call: &Call, principal: &Principal) -> Result {
    let page = call.query.page()?;
    let accounts = call.manage.accounts(principal, page)?;
    list(&accounts, page, |account| shape(call, account))
}

pub fn show(call: &Call, principal: &Principal) -> Result {
    data(shape(call, &call.manage.account(principal, call.id())?))
}

pub fn create(call: &Call, principal: &Principal) -> Result {
    call.manage.require_admin(principal)?;
    let mut fields = call.fields()?;
    let mut manifest = fields.manifest()?;
    fields.finish()?;
    let kind = manifest.required_text("type")?;
    let Some(provider) = kind.strip_prefix("provider-account/") else {
        return Err(manifest.refusal("type", "must be 'provider-account/PROVIDER'"));
    };
    let api_key = match manifest.object("auth_data")? {
        None => None,
        Some(mut auth) => {
            if auth.required_text("type")? != "api-key" {
                return Err(auth.refusal("type", "must be 'api-key'"));
            }
            let key = auth.secret("api_key")?;
            if key.is_none() {
                return Err(auth.refusal("api_key", "is missing"));
            }
            auth.finish()?;
            key
        }
    };
    let mut models = Vec::new();
    for integration in manifest.objects("integrations")?.unwrap_or_default() {
        models.push(model_spec(integration)?);
    }
    let spec = AccountSpec {
        name: manifest.required_text("name")?,
        provider: provider.to_owned(),
        base_url: manifest.text("base_url")?,
        api_key,
        headers: manifest.map("headers")?.unwrap_or_default(),
        ca_certificates: manifest.text("ca_certificates")?,
        models,
    };
    if manifest.objects("collaborators")?.is_some_and(|list| !list.is_empty()) {
        return Err(manifest.refusal("collaborators", "is not read here; give access with POST /grants"));
    }
    manifest.ignore(&["ownedBy", "discount_percent"]);
    manifest.finish()?;
    data(shape(call, &call.manage.create_account(principal, &spec)?))
}

pub fn update(call: &Call, principal: &Principal) -> Result {
    // Whoever may not even see the account hears nothing about the body.
    call.manage.require_manager(principal, call.id())?;
    let mut fields = call.fields()?;
    let mut change = AccountChange::default();
    if fields.has("base_url") {
        change.base_url = Some(fields.required_text("base_url")?);
    }
    if fields.has("headers") {
        change.headers = Some(fields.map("headers")?.unwrap_or_default());
    }
    if fields.has("ca_certificates") {
        change.ca_certificates = Some(fields.text("ca_certificates")?);
    }
    if fields.has("api_key") {
        change.api_key = Some(fields.secret("api_key")?);
    }
    fields.finish()?;
    data(shape(call, &call.manage.update_account(principal, call.id(), &change)?))
}

pub fn set_credential(call: &Call, principal: &Principal) -> Result {
    call.manage.require_manager(principal, call.id())?;
    let mut fields = call.fields()?;
    if !fields.has("api_key") {
        return Err(fields.refusal("api_key", "is missing; null removes the key"));
    }
    let change = AccountChange { api_key: Some(fields.secret("api_key")?), ..AccountChange::default() };
    fields.finish()?;
    call.manage.update_account(principal, call.id(), &change)?;
    done()
}

pub fn delete(call: &Call, principal: &Principal) -> Result {
    call.manage.delete_account(principal, call.id())?;
    done()
}

pub fn add_model(call: &Call, principal: &Principal) -> Result {
    call.manage.require_manager(principal, call.id())?;
    let mut fields = call.fields()?;
    let manifest = fields.manifest()?;
    fields.finish()?;
    let spec = model_spec(manifest)?;
    data(model_shape(call, &call.manage.add_model(principal, call.id(), &spec)?))
}

pub fn remove_model(call: &Call, principal: &Principal) -> Result {
    call.manage.remove_model(principal, call.id(), call.second_id())?;
    done()
}

pub fn list_models(call: &Call, principal: &Principal) -> Result {
    let mut page = call.query.page()?;
    if call.query.get("type")?.is_some_and(|kind| kind != "model") {
        // Models are the only integrations there are.
        page.limit = 0;
    }
    let models = call.manage.models(principal, call.query.get("accountName")?, page)?;
    list(&models, page, |model| model_shape(call, model))
}

fn model_spec(mut manifest: Fields) -> Result<ModelSpec> {
    let kind = manifest.required_text("type")?;
    if !["integration/model/openai", "integration/model/demo"].contains(&kind.as_str()) {
        return Err(manifest.refusal("type", "must be 'integration/model/openai'"));
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
    if manifest.texts("authorized_subjects")?.is_some_and(|list| !list.is_empty()) {
        return Err(
            manifest.refusal("authorized_subjects", "is not read here; give access with POST /grants")
        );
    }
    manifest.finish()?;
    Ok(ModelSpec {
        name,
        model_id,
        types,
        input_price: input_price.or(cost_input),
        output_price: output_price.or(cost_output),
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
        _ => {
            return Err(cost.refusal(
                "metric",
                "must be 'per_1000_tokens', 'per_1000_embedding_tokens' or 'public_cost'",
            ));
        }
    };
    cost.finish()?;
    Ok(prices)
}

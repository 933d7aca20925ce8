//! Budgets and rate limits as JSON, in the shapes of the public contract.

use serde_json::{Map, Value, json};

use super::{Call, Result, answer, apply, data, done, subject};
use crate::domain::{LimitConfig, LimitKind, Principal};
use crate::failure::Failure;
use crate::limits::Level;
use crate::manage::SupposedCall;

/// A document and who made it.
pub fn shape(call: &Call, config: &LimitConfig) -> Value {
    json!({
        "id": config.kind.as_str(),
        "tenantName": call.manage.tenant,
        "type": config.kind.as_str(),
        "name": config.name,
        "manifest": config.manifest,
        "createdBySubject": subject::shape(&config.created_by),
        "createdAt": config.created_at.to_iso(),
        "updatedAt": config.updated_at.to_iso(),
    })
}

/// `GET /llm-gateway/config/{type}`
pub fn config(call: &Call, principal: &Principal) -> Result {
    call.manage.require_admin(principal)?;
    let kind = LimitKind::parse(call.id())
        .ok_or_else(|| Failure::NotFound(format!("There is no config '{}'", call.id()).into()))?;
    answer(shape(call, &*call.manage.limit_config(principal, kind)?))
}

/// One budget: a rule of the document.
fn budget(call: &Call, config: &LimitConfig, id: &str) -> Option<Value> {
    let rules = config.manifest.get("rules").and_then(Value::as_array)?;
    let rule = rules.iter().find(|rule| rule.get("id").and_then(Value::as_str) == Some(id))?;
    let Value::Object(mut fields) = shape(call, config) else { return None };
    fields.insert("id".into(), id.into());
    fields.insert("name".into(), id.into());
    fields.insert("manifest".into(), rule.clone());
    Some(fields.into())
}

fn named<'l>(config: &LimitConfig, id: &str, levels: &'l [Level]) -> Vec<&'l Level> {
    let is_there = config.rules.iter().any(|rule| rule.id == id);
    levels.iter().filter(|level| is_there && level.rule.id == id).collect()
}

/// Every rule of a kind with its usage.
fn rules(call: &Call, principal: &Principal, kind: LimitKind) -> std::result::Result<Vec<Value>, Failure> {
    let Some(config) = call.manage.limit_config_if_any(principal, kind)? else { return Ok(Vec::new()) };
    let levels = call.manage.limit_levels(principal, kind)?;
    let shown = config.rules.iter().filter_map(|rule| {
        let mut shown = budget(call, &config, &rule.id)?;
        if let Value::Object(fields) = &mut shown {
            let usage = usage(&named(&config, &rule.id, &levels)).into_iter().next();
            fields.insert("usage".into(), usage.unwrap_or_default());
        }
        Some(shown)
    });
    Ok(shown.collect())
}

/// One rule of a kind with its usage, the fullest counters first.
fn rule(call: &Call, principal: &Principal, kind: LimitKind, noun: &str) -> Result {
    let unknown = || Failure::NotFound(format!("There is no {noun} '{}'", call.id()).into());
    let config = call.manage.limit_config_if_any(principal, kind)?.ok_or_else(unknown)?;
    let Some(Value::Object(mut shown)) = budget(call, &config, call.id()) else { return Err(unknown()) };
    let levels = call.manage.limit_levels(principal, kind)?;
    let mut own = named(&config, call.id(), &levels);
    own.sort_by_key(|level| std::cmp::Reverse(level.percent));
    let usage = usage(&own).into_iter().next();
    shown.insert("usage".into(), usage.unwrap_or_default());
    answer(shown.into())
}

/// `GET /llm-gateway/budgets`
pub fn list_all(call: &Call, principal: &Principal) -> Result {
    data(rules(call, principal, LimitKind::Budget)?.into())
}

/// `GET /llm-gateway/budgets/{id}`
pub fn show(call: &Call, principal: &Principal) -> Result {
    rule(call, principal, LimitKind::Budget, "budget")
}

/// `DELETE /llm-gateway/budgets/{id}`
pub fn delete(call: &Call, principal: &Principal) -> Result {
    call.manage.delete_budget(principal, call.id())?;
    done()
}

/// `GET /llm-gateway/rate-limits`; ours, the contract has none.
pub fn list_rates(call: &Call, principal: &Principal) -> Result {
    data(rules(call, principal, LimitKind::Rate)?.into())
}

/// `GET /llm-gateway/rate-limits/{id}`
pub fn show_rate(call: &Call, principal: &Principal) -> Result {
    rule(call, principal, LimitKind::Rate, "rate limit")
}

/// `GET /llm-gateway/config/budget/usage`: how far all budgets are used.
pub fn budget_usage(call: &Call, principal: &Principal) -> Result {
    let levels = call.manage.limit_levels(principal, LimitKind::Budget)?;
    answer(json!({"matched": usage(&levels.iter().collect::<Vec<_>>())}))
}

/// `POST /llm-gateway/budgets/simulate`
pub fn simulate(call: &Call, principal: &Principal) -> Result {
    call.manage.require_admin(principal)?;
    let mut fields = call.fields()?;
    if fields.is_empty() {
        return Err(Failure::BadRequest("Say at least one thing about the call, such as its 'user'".into()));
    }
    let (team, teams) = (fields.text("team")?, fields.texts("teams")?);
    let supposed = SupposedCall {
        user: fields.text("user")?,
        virtual_account: fields.text("virtual_account")?,
        teams: match (team, teams) {
            (None, teams) => teams,
            (Some(team), teams) => Some(teams.unwrap_or_default().into_iter().chain([team]).collect()),
        },
        model: fields.text("model")?,
        tags: fields.map("metadata")?,
    };
    fields.finish()?;
    let levels = call.manage.simulate_budgets(principal, &supposed)?;
    answer(json!({"matched": usage(&levels.iter().collect::<Vec<_>>())}))
}

/// `GET /llm-gateway/budgets/{id}/leaderboard`
pub fn leaderboard(call: &Call, principal: &Principal) -> Result {
    let unknown = || Failure::NotFound(format!("There is no budget '{}'", call.id()).into());
    let config = call.manage.limit_config_if_any(principal, LimitKind::Budget)?.ok_or_else(unknown)?;
    if !config.rules.iter().any(|rule| rule.id == call.id()) {
        return Err(unknown());
    }
    let levels = call.manage.limit_levels(principal, LimitKind::Budget)?;
    let mut own = named(&config, call.id(), &levels);
    own.sort_by_key(|level| std::cmp::Reverse(level.percent));
    own.truncate(500);
    answer(json!({"matched": usage(&own)}))
}

/// `GET /llm-gateway/budgets/my-usage`
pub fn my_usage(call: &Call, principal: &Principal) -> Result {
    let levels = call.manage.own_budget_levels(principal)?;
    answer(json!({"matched": usage(&levels.iter().collect::<Vec<_>>())}))
}

/// `PUT /llm-gateway/budgets`
pub fn put(call: &Call, principal: &Principal) -> Result {
    let mut put = apply::put(call, principal, LimitKind::Budget.as_str(), false)?;
    // The contract wants it flat.
    if let Some(flat) = put.body.get_mut("data").map(Value::take) {
        put.body = flat;
    }
    Ok(put)
}

/// Entries of the contract: one a rule, with what it counts apart. Amounts are numbers there.
fn usage(levels: &[&Level]) -> Vec<Value> {
    let mut entries: Vec<(String, Map<String, Value>)> = Vec::new();
    for level in levels {
        let rule = &level.rule;
        let number = |text: &str| serde_json::from_str::<serde_json::Number>(text).ok();
        let period = json!({
            "limit": number(&rule.limit), "used": number(&level.used), "percentage": level.percent,
            "start": level.start.to_iso(), "end": level.end.to_iso(),
        });
        let mut periods = Map::new();
        periods.insert(rule.unit.to_string(), period);
        let mut entity = json!({"periods": periods});
        if let (false, Value::Object(fields)) = (level.entity.is_empty(), &mut entity) {
            fields.insert("entity".into(), level.entity.as_str().into());
        }
        let at = entries.iter().position(|(id, _)| *id == rule.id);
        match at.and_then(|at| entries.get_mut(at)) {
            Some((_, fields)) => {
                if let Some(list) = fields.get_mut("entities").and_then(Value::as_array_mut) {
                    list.push(entity);
                }
            }
            None => {
                let per: Vec<String> = rule.per.iter().map(ToString::to_string).collect();
                let mut fields = Map::new();
                fields.insert("name".into(), rule.id.as_str().into());
                fields.insert("type".into(), level.kind.as_str().into());
                let applies = if per.is_empty() { "aggregate".to_owned() } else { per.join(",") };
                fields.insert("applies_to".into(), applies.into());
                fields.insert("mode".into(), if rule.audit_mode { "audit" } else { "enforce" }.into());
                fields.insert("entities".into(), json!([entity]));
                entries.push((rule.id.clone(), fields));
            }
        }
    }
    entries.into_iter().map(|(_, fields)| Value::Object(fields)).collect()
}

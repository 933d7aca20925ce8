//! Manifests of budgets and rate limits.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use super::LimitsSpec;
use super::fields::Fields;
use crate::domain::{
    AlertForm, AlertTarget, CountedPer, LimitKind, LimitRule, LimitUnit, LimitWhen, Measure, Money, Subject,
};
use crate::failure::Failure;

type Result<T> = std::result::Result<T, Failure>;

/// Rules of one document: each call may be compared with all of them.
const MAX_RULES: usize = 200;
/// Subjects, models or tags of one rule.
const MAX_WHEN: usize = 500;
/// Bytes of a rule's id.
const MAX_ID_BYTES: usize = 128;
/// The largest number of requests or tokens.
const MAX_COUNT: u64 = 1_000_000_000_000_000;
/// What is told of when alerts are asked for without saying when: the contract's defaults.
const ALERT_PERCENTS: [u32; 4] = [75, 90, 95, 100];
const MAX_ALERTS: usize = 20;
/// Targets of one rule.
const MAX_TARGETS: usize = 10;
/// Kinds of targets of the contract that are taken and reach nobody: their alerts are in the log.
const SILENT_TARGETS: [&str; 3] = ["email", "slack-bot", "pagerduty"];

/// Reads the fields of one document but its type.
pub(super) fn limits(fields: &mut Fields, kind: LimitKind) -> Result<LimitsSpec> {
    let name = fields.text("name")?.unwrap_or_else(|| kind.as_str().to_owned());
    if name.is_empty() || name.len() > MAX_ID_BYTES {
        return Err(fields.refusal("name", &format!("must have 1 to {MAX_ID_BYTES} bytes")));
    }
    let (offset_minutes, zone) = match fields.text("time_zone")? {
        None => (0, None),
        Some(text) => match (offset_minutes(&text), zone(&text)) {
            (Some(minutes), _) => (minutes, None),
            (None, Some(zone)) => (0, Some(zone)),
            (None, None) => {
                return Err(fields.refusal(
                    "time_zone",
                    "must be UTC, a fixed offset such as +02:00, or a place in the IANA database such as Europe/Berlin",
                ));
            }
        },
    };
    let rules = fields.objects("rules")?.ok_or_else(|| fields.refusal("rules", "is missing"))?;
    if rules.len() > MAX_RULES {
        return Err(fields.refusal("rules", &format!("holds more than {MAX_RULES} rules")));
    }
    let mut seen = BTreeSet::new();
    let mut read = Vec::with_capacity(rules.len());
    for mut rule in rules {
        let one = rule_of(&mut rule, kind)?;
        if !seen.insert(one.id.clone()) {
            return Err(rule.refusal("id", "is that of another rule"));
        }
        rule.finish()?;
        read.push(one);
    }
    Ok(LimitsSpec { kind, name, offset_minutes, zone, rules: read })
}

/// A place in the IANA database, written as there.
fn zone(text: &str) -> Option<String> {
    let zone = TimeZone::get(text).ok()?;
    zone.iana_name().map(str::to_owned)
}

/// `UTC`, or a fixed offset; within a day.
fn offset_minutes(text: &str) -> Option<i32> {
    if matches!(text, "UTC" | "Etc/UTC" | "Z") {
        return Some(0);
    }
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let number = |text: &str| {
        let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<i32>().ok().filter(|_| is_number)
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours <= 14 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

fn rule_of(rule: &mut Fields, kind: LimitKind) -> Result<LimitRule> {
    let id = rule.required_text("id")?;
    if id.is_empty() || id.len() > MAX_ID_BYTES || id.chars().any(char::is_control) {
        return Err(
            rule.refusal("id", &format!("must have 1 to {MAX_ID_BYTES} bytes without control characters"))
        );
    }
    let when = match rule.object("when")? {
        None => LimitWhen::default(),
        Some(mut when) => {
            let read = when_of(&mut when)?;
            when.finish()?;
            read
        }
    };
    let unit_text = rule.required_text("unit")?;
    let Some(unit) = LimitUnit::parse(kind, &unit_text) else {
        return Err(rule.refusal(
            "unit",
            match kind {
                LimitKind::Rate => "must be requests_per_ or tokens_per_, then minute, hour or day",
                LimitKind::Budget => "must be cost_per_ or tokens_per_, then day, week, month or quarter",
            },
        ));
    };
    let limit = rule.decimal("limit_to")?.ok_or_else(|| rule.refusal("limit_to", "is missing"))?;
    let limit = checked_limit(unit, &limit).ok_or_else(|| {
        rule.refusal(
            "limit_to",
            match unit.measure {
                Measure::Cost => "must be an amount of US dollars, not negative",
                Measure::Requests | Measure::Tokens => "must be a whole number, not negative, at most 10^15",
            },
        )
    })?;
    let per_name = match kind {
        LimitKind::Rate => "rate_limit_applies_per",
        LimitKind::Budget => "budget_applies_per",
    };
    let per_words = rule.texts(per_name)?.unwrap_or_default();
    let per: Option<Vec<CountedPer>> = per_words.iter().map(|word| CountedPer::parse(word)).collect();
    let per = per.ok_or_else(|| {
        rule.refusal(per_name, "must hold user, virtualaccount, team, model or metadata.KEY")
    })?;
    if per.len() > 2 {
        return Err(rule.refusal(per_name, "holds more than two words"));
    }
    let (alert_percents, alert_targets) = match rule.object("alerts")? {
        None => (Vec::new(), Vec::new()),
        Some(mut alerts) => {
            let read = alerts_of(&mut alerts)?;
            alerts.finish()?;
            read
        }
    };
    Ok(LimitRule {
        id,
        when,
        limit,
        unit,
        per,
        audit_mode: rule.flag("audit_mode")?,
        alert_percents,
        alert_targets,
    })
}

fn when_of(when: &mut Fields) -> Result<LimitWhen> {
    let mut subjects = Vec::new();
    for text in when.texts("subjects")?.unwrap_or_default() {
        let subject = Subject::parse(&text);
        subjects.push(subject.map_err(|_| {
            when.refusal("subjects", "must hold user:EMAIL, team:NAME or virtualaccount:NAME")
        })?);
    }
    let models = when.texts("models")?.unwrap_or_default();
    if models.iter().any(|model| model.split_once('/').is_none_or(|(a, b)| a.is_empty() || b.is_empty())) {
        return Err(when.refusal("models", "must hold models as ACCOUNT/NAME"));
    }
    let tags = when.map("metadata")?.unwrap_or_default();
    for (name, length) in [("subjects", subjects.len()), ("models", models.len()), ("metadata", tags.len())] {
        if length > MAX_WHEN {
            return Err(when.refusal(name, &format!("holds more than {MAX_WHEN} entries")));
        }
    }
    Ok(LimitWhen { subjects, models, tags })
}

fn checked_limit(unit: LimitUnit, text: &str) -> Option<String> {
    match unit.measure {
        Measure::Cost => {
            Money::parse(text).filter(|limit| *limit >= Money::ZERO).map(|limit| limit.to_string())
        }
        Measure::Requests | Measure::Tokens => {
            let whole = text.strip_suffix(".0").unwrap_or(text);
            whole.parse::<u64>().ok().filter(|count| *count <= MAX_COUNT).map(|count| count.to_string())
        }
    }
}

fn alerts_of(alerts: &mut Fields) -> Result<(Vec<u32>, Vec<AlertTarget>)> {
    let mut percents = match alerts.counts("thresholds")? {
        None => ALERT_PERCENTS.to_vec(),
        Some(list) => {
            let percents: Option<Vec<u32>> =
                list.iter().map(|n| u32::try_from(*n).ok().filter(|n| (1..=1000).contains(n))).collect();
            percents
                .filter(|list| list.len() <= MAX_ALERTS)
                .ok_or_else(|| alerts.refusal("thresholds", "must hold at most 20 percents from 1 to 1000"))?
        }
    };
    percents.sort_unstable();
    percents.dedup();
    let targets = match alerts.clone().object("notification_target") {
        Ok(one) => {
            alerts.ignore(&["notification_target"]);
            one.into_iter().collect()
        }
        Err(_) => alerts.objects("notification_target")?.unwrap_or_default(),
    };
    let mut read = Vec::new();
    for mut target in targets {
        let kind = target.required_text("type")?;
        let form = match kind.as_str() {
            "slack-webhook" => Some(AlertForm::Slack),
            "ms-teams-webhook" => Some(AlertForm::Teams),
            "webhook" => Some(AlertForm::Json),
            _ if SILENT_TARGETS.contains(&kind.as_str()) => None,
            _ => return Err(target.refusal("type", "must be slack-webhook, ms-teams-webhook or webhook, or one that is taken without effect: email, slack-bot, pagerduty")),
        };
        match form {
            None => target.ignore(&["notification_channel", "to_emails", "channels"]),
            Some(form) => {
                let channel = target.required_text("notification_channel")?;
                if !AlertTarget::is_channel(&channel) {
                    return Err(target.refusal(
                        "notification_channel",
                        "must be the name of a file in egress.webhook_dir: letters, digits, '-', '_' and '.', at most 128, with a letter or digit first",
                    ));
                }
                read.push(AlertTarget { form, channel });
            }
        }
        target.finish()?;
    }
    if read.len() > MAX_TARGETS {
        return Err(alerts.refusal("notification_target", &format!("holds more than {MAX_TARGETS} webhooks")));
    }
    Ok((percents, read))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: serde_json::Value) -> std::result::Result<LimitsSpec, String> {
        let serde_json::Value::Object(map) = value else { panic!("not an object") };
        let document = super::super::read(Fields::of_manifest(map)).map_err(|e| e.message().into_owned())?;
        match document.spec {
            super::super::Spec::Limits(spec) => Ok(spec),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_contracts_examples_are_read() {
        let spec = read(json!({
            "type": "gateway-budget-config", "name": "budgets", "time_zone": "-05:30",
            "rules": [{
                "id": "team", "when": {"subjects": ["team:search"], "models": ["main/gpt"], "metadata": {"env": "prod"}},
                "limit_to": 12.5, "unit": "cost_per_month", "budget_applies_per": ["user", "metadata.app"],
                "alerts": {"thresholds": [90, 50, 90], "notification_target": [{"type": "email", "notification_channel": "c", "to_emails": ["a@x.io"]}]},
                "audit_mode": true,
            }],
        }))
        .unwrap();
        let rule = &spec.rules[0];
        assert_eq!((spec.offset_minutes, rule.limit.as_str(), rule.audit_mode), (-330, "12.5", true));
        assert_eq!(rule.per, [CountedPer::User, CountedPer::Tag("app".into())]);
        assert_eq!(rule.alert_percents, [50, 90]);
        let spec = read(json!({"type": "gateway-rate-limiting-config", "name": "r", "rules": [
            {"id": "a", "when": {}, "limit_to": 100, "unit": "requests_per_minute"}]}))
        .unwrap();
        assert_eq!((spec.kind, spec.rules[0].limit.as_str()), (LimitKind::Rate, "100"));
        assert!(read(json!({"type": "budget-config", "name": "old", "rules": []})).is_ok());
    }

    #[test]
    fn what_can_not_be_is_refused_by_its_path() {
        let budget =
            |rule: serde_json::Value| json!({"type": "gateway-budget-config", "name": "b", "rules": [rule]});
        let good = json!({"id": "a", "when": {}, "limit_to": 1, "unit": "cost_per_day"});
        let with = |name: &str, value: serde_json::Value| {
            let mut rule = good.clone();
            rule[name] = value;
            budget(rule)
        };
        assert!(read(budget(good.clone())).is_ok());
        for (name, value, path) in [
            ("unit", json!("requests_per_minute"), "rules[0].unit"),
            ("unit", json!("cost_per_year"), "rules[0].unit"),
            ("limit_to", json!(-1), "rules[0].limit_to"),
            ("limit_to", json!("much"), "rules[0].limit_to"),
            ("limit_to", json!(null), "rules[0].limit_to"),
            ("id", json!(""), "rules[0].id"),
            ("id", json!("a\nb"), "rules[0].id"),
            ("when", json!({"subject": ["user:a@x.io"]}), "rules[0].when.subject"),
            ("when", json!({"subjects": ["ada"]}), "rules[0].when.subjects"),
            ("when", json!({"models": ["gpt"]}), "rules[0].when.models"),
            ("when", json!([]), "rules[0].when"),
            ("budget_applies_per", json!(["user", "team", "model"]), "rules[0].budget_applies_per"),
            ("budget_applies_per", json!(["metadata."]), "rules[0].budget_applies_per"),
            ("rate_limit_applies_per", json!(["user"]), "rules[0].rate_limit_applies_per"),
            ("alerts", json!({"thresholds": [0]}), "rules[0].alerts.thresholds"),
            ("alerts", json!({"notification_target": {"type": "pigeon"}}), "notification_target.type"),
            (
                "alerts",
                json!({"notification_target": {"type": "webhook", "notification_channel": "a", "url": "https://x"}}),
                "notification_target.url",
            ),
            (
                "alerts",
                json!({"notification_target": {"type": "webhook"}}),
                "notification_target.notification_channel",
            ),
            (
                "alerts",
                json!({"notification_target": [{"type": "slack-webhook", "notification_channel": "../key"}]}),
                "notification_channel",
            ),
            (
                "alerts",
                json!({"notification_target": vec![json!({"type": "webhook", "notification_channel": "a"}); 11]}),
                "notification_target",
            ),
            ("sometimes", json!(true), "rules[0].sometimes"),
        ] {
            let text = read(with(name, value.clone())).unwrap_err();
            assert!(text.contains(path), "{name} {value}: {text}");
        }
        let text = read(json!({"type": "gateway-budget-config", "rules": [good, good]})).unwrap_err();
        assert!(text.contains("rules[1].id"), "{text}");
        let zone =
            |zone: &str| read(json!({"type": "gateway-budget-config", "time_zone": zone, "rules": []}));
        for wrong in [
            "",
            "+2",
            "+24:00",
            "+02:60",
            "Europe/Atlantis",
            "CET-1CEST",
            "/etc/passwd",
            "../UTC",
            "+aa:00",
            "é",
        ] {
            assert!(zone(wrong).unwrap_err().contains("time_zone"), "{wrong}");
        }
        assert_eq!(zone("+02:00").unwrap().offset_minutes, 120);
        for written in ["Europe/Berlin", "europe/berlin"] {
            let spec = zone(written).unwrap();
            assert_eq!((spec.zone.as_deref(), spec.offset_minutes), (Some("Europe/Berlin"), 0));
        }
        assert_eq!(zone("UTC").unwrap().zone, None);
        let many: Vec<_> =
            (0..201).map(|n| json!({"id": n.to_string(), "limit_to": 1, "unit": "cost_per_day"})).collect();
        assert!(read(json!({"type": "gateway-budget-config", "rules": many})).unwrap_err().contains("rules"));
    }
}

//! Prices as exact decimal numbers: no price goes through binary fractions.

use serde_json::{Map, Number, Value, json};

use super::fields::Fields;
use crate::clock::UnixMillis;
use crate::domain::{ModelPrices, Money, PriceEntry, Rates, Tier, Unit};
use crate::failure::Failure;

type Result<T> = std::result::Result<T, Failure>;

/// What a wrong price is told.
const PRICE_FORM: &str = "must be a decimal number, not negative, with at most 9 digits before the point and, in US dollars for a million, 12 after it";

/// The words of `per_million_tokens`.
const TOKEN_UNITS: [(&str, Unit); 5] = [
    ("input", Unit::Input),
    ("output", Unit::Output),
    ("cached", Unit::Cached),
    ("cache_write", Unit::CacheWrite),
    ("reasoning", Unit::Reasoning),
];

/// The contract's words of `per_1000_tokens`, and those of its tiers.
const CONTRACT_UNITS: [(&str, &str, Unit); 4] = [
    ("input", "input_tiers", Unit::Input),
    ("output", "output_tiers", Unit::Output),
    ("cache_read", "cache_read_tiers", Unit::Cached),
    ("cache_write", "cache_write_tiers", Unit::CacheWrite),
];

/// Metrics of what is not counted in tokens, with the word and the unit of each price.
const OTHER_METRICS: [(&str, &[(&str, Unit)]); 5] = [
    ("per_million_characters", &[("input", Unit::MillionCharacters)]),
    ("per_minute_of_audio", &[("input", Unit::MinuteOfAudio)]),
    ("per_1000_pages", &[("pages", Unit::ThousandPages), ("annotated_pages", Unit::ThousandAnnotatedPages)]),
    ("per_image", &[("price", Unit::Image)]),
    ("per_second", &[("price", Unit::Second)]),
];

/// Reads what a model costs: `cost`, one or a list, and `input_price` and `output_price` for a million tokens.
///
/// # Errors
/// When something in it is no price, or `cost` and the others say different things.
pub(super) fn prices(manifest: &mut Fields) -> Result<ModelPrices> {
    let mut prices = ModelPrices::default();
    let costs = manifest.one_or_more("cost")?;
    if costs.len() > ModelPrices::MAX_ENTRIES {
        let text = format!("has more than {} entries", ModelPrices::MAX_ENTRIES);
        return Err(manifest.refusal("cost", &text));
    }
    for cost in costs {
        match entry(cost)? {
            None if prices.public => return Err(manifest.refusal("cost", "says public_cost twice")),
            None => prices.public = true,
            Some(entry) => prices.entries.push(entry),
        }
    }
    prices.entries.sort_by_key(|entry| entry.from);
    if prices.entries.windows(2).any(|pair| matches!(pair, [one, other] if one.from == other.from)) {
        return Err(manifest.refusal("cost", "has two entries from the same day"));
    }
    for (name, unit) in [("input_price", Unit::Input), ("output_price", Unit::Output)] {
        let Some(own) = price_of(manifest, name, 0)? else { continue };
        if prices.entries.is_empty() {
            prices.entries.push(PriceEntry { from: UnixMillis(0), rates: Rates::default() });
        }
        let only = match prices.entries.as_mut_slice() {
            [only] => only,
            _ => return Err(manifest.refusal(name, "can not be said beside several prices in 'cost'")),
        };
        match only.rates.price(unit) {
            Some(cost) if cost != own => return Err(manifest.refusal(name, "says another price than 'cost'")),
            _ => only.rates.prices.insert(unit, own),
        };
    }
    Ok(prices)
}

/// One `cost`; `None` is `public_cost`.
fn entry(mut cost: Fields) -> Result<Option<PriceEntry>> {
    let metric = cost.required_text("metric")?;
    let mut rates = Rates::default();
    let from = match cost.text("from")? {
        None => UnixMillis(0),
        Some(date) => midnight(&date).ok_or_else(|| {
            cost.refusal("from", "must be a date such as 2026-01-31; it begins at midnight in UTC")
        })?,
    };
    match metric.as_str() {
        "public_cost" => {
            cost.ignore(&["value"]);
            cost.finish()?;
            return Ok(None);
        }
        "per_1000_embedding_tokens" => {
            if let Some(price) = price_of(&mut cost, "value", 3)? {
                rates.prices.insert(Unit::Input, price);
            }
        }
        "per_million_tokens" => {
            let mut value = required_object(&mut cost)?;
            for (name, unit) in TOKEN_UNITS {
                if let Some(price) = price_of(&mut value, name, 0)? {
                    rates.prices.insert(unit, price);
                }
            }
            tiers(&mut value, &mut rates, 0, "price")?;
            value.finish()?;
        }
        "per_1000_tokens" => {
            let mut value = required_object(&mut cost)?;
            for (name, _, unit) in CONTRACT_UNITS {
                match price_of(&mut value, name, 3)? {
                    Some(price) => {
                        rates.prices.insert(unit, price);
                    }
                    None if matches!(unit, Unit::Input | Unit::Output) => {
                        return Err(value.refusal("input", "and 'output' must both be there"));
                    }
                    None => {}
                }
            }
            tiers(&mut value, &mut rates, 6, "cost_per_token")?;
            value.finish()?;
        }
        other => {
            let Some((_, words)) = OTHER_METRICS.iter().find(|(metric, _)| *metric == other) else {
                return Err(cost.refusal(
                    "metric",
                    "must be 'per_million_tokens', 'per_1000_tokens', 'per_1000_embedding_tokens', 'per_million_characters', 'per_minute_of_audio', 'per_1000_pages', 'per_image', 'per_second' or 'public_cost'",
                ));
            };
            let mut value = required_object(&mut cost)?;
            for (name, unit) in *words {
                if let Some(price) = price_of(&mut value, name, 0)? {
                    rates.prices.insert(*unit, price);
                }
            }
            value.finish()?;
        }
    }
    if rates.prices.is_empty() {
        return Err(cost.refusal("value", "has no price"));
    }
    cost.finish()?;
    Ok(Some(PriceEntry { from, rates }))
}

fn required_object(cost: &mut Fields) -> Result<Fields> {
    cost.object("value")?.ok_or_else(|| cost.refusal("value", "is missing"))
}

/// The tiers that a value has. `shift` makes their prices those of a million tokens.
fn tiers(value: &mut Fields, rates: &mut Rates, shift: i32, word: &str) -> Result<()> {
    for (_, name, unit) in CONTRACT_UNITS {
        let Some(list) = value.objects(name)? else { continue };
        if list.is_empty() {
            continue;
        }
        if list.len() > Rates::MAX_TIERS || !rates.prices.contains_key(&unit) {
            let text =
                format!("needs the price below its first tier, and may have {} tiers", Rates::MAX_TIERS);
            return Err(value.refusal(name, &text));
        }
        let mut read: Vec<Tier> = Vec::new();
        for mut one in list {
            let from = one.required_count("from")?;
            let price = price_of(&mut one, word, shift)?.ok_or_else(|| one.refusal(word, "is missing"))?;
            if read.last().is_some_and(|before| before.from >= from) {
                return Err(one.refusal("from", "must be larger than that of the tier before it"));
            }
            one.finish()?;
            read.push(Tier { from, price });
        }
        rates.tiers.insert(unit, read);
    }
    Ok(())
}

/// A price in a field, times ten to the power of `shift`.
fn price_of(fields: &mut Fields, name: &str, shift: i32) -> Result<Option<Money>> {
    match fields.decimal(name)? {
        None => Ok(None),
        Some(text) => {
            let price = decimal(&text, shift).and_then(|text| Money::parse(&text));
            price.map(Some).ok_or_else(|| fields.refusal(name, PRICE_FORM))
        }
    }
}

/// The beginning of a day in UTC.
fn midnight(date: &str) -> Option<UnixMillis> {
    let end = (date.len() == "2026-01-31".len()).then(|| UnixMillis::parse(date).ok())??;
    // A date means its last millisecond there.
    Some(UnixMillis((end.0 + 1).checked_sub(86_400_000)?))
}

/// Percent off the public prices.
///
/// # Errors
/// When it is no number from 0 to 100 with at most 4 digits behind the point.
pub(super) fn discount(fields: &mut Fields) -> Result<Option<Money>> {
    let Some(text) = fields.decimal("discount_percent")? else { return Ok(None) };
    let percent =
        decimal(&text, 0).filter(|text| text.split_once('.').is_none_or(|(_, digits)| digits.len() <= 4));
    let percent =
        percent.and_then(|text| Money::parse(&text)).filter(|percent| *percent <= Money::whole(100));
    percent.map(Some).ok_or_else(|| {
        fields.refusal("discount_percent", "must be from 0 to 100, with at most 4 digits after the point")
    })
}

/// What a model costs, in the contract's words where they say it exactly, else in ours; and `input_price` and
/// `output_price` where there is one price of tokens only.
pub(super) fn write(prices: &ModelPrices, document: &mut Map<String, Value>) {
    let mut costs: Vec<Value> = prices.entries.iter().map(write_entry).collect();
    if let [only] = prices.entries.as_slice()
        && only.from.0 == 0
    {
        for (name, unit) in [("input_price", Unit::Input), ("output_price", Unit::Output)] {
            if let Some(price) = only.rates.price(unit) {
                document.insert(name.into(), price.to_string().into());
            }
        }
    }
    if prices.public {
        costs.push(json!({"metric": "public_cost"}));
    }
    let only = if costs.len() == 1 { costs.pop() } else { None };
    match only {
        Some(cost) => {
            document.insert("cost".into(), cost);
        }
        None if costs.is_empty() => {}
        None => {
            document.insert("cost".into(), costs.into());
        }
    }
}

fn write_entry(entry: &PriceEntry) -> Value {
    let rates = &entry.rates;
    let other =
        OTHER_METRICS.iter().find(|(_, words)| words.iter().any(|(_, unit)| rates.price(*unit).is_some()));
    let (metric, value) = match other {
        Some((metric, words)) => (*metric, texts(rates, words)),
        None => match per_thousand(rates) {
            Some(value) => ("per_1000_tokens", value),
            None => ("per_million_tokens", texts_with_tiers(rates)),
        },
    };
    let mut cost = json!({"metric": metric, "value": value});
    if let (Value::Object(cost), true) = (&mut cost, entry.from.0 > 0) {
        let date: String = entry.from.to_iso().chars().take("2026-01-31".len()).collect();
        cost.insert("from".into(), date.into());
    }
    cost
}

fn texts(rates: &Rates, words: &[(&str, Unit)]) -> Map<String, Value> {
    let pair =
        |(name, unit): &(&str, Unit)| Some(((*name).to_owned(), rates.price(*unit)?.to_string().into()));
    words.iter().filter_map(pair).collect()
}

fn texts_with_tiers(rates: &Rates) -> Map<String, Value> {
    let mut value = texts(rates, &TOKEN_UNITS);
    for (_, name, unit) in CONTRACT_UNITS {
        if let Some(tiers) = rates.tiers.get(&unit) {
            let tiers = tiers.iter().map(|tier| json!({"from": tier.from, "price": tier.price}));
            value.insert(name.into(), tiers.collect::<Vec<_>>().into());
        }
    }
    value
}

/// The contract's numbers for a thousand tokens, where they say exactly the same.
fn per_thousand(rates: &Rates) -> Option<Map<String, Value>> {
    if !rates.tiers.is_empty() || rates.price(Unit::Reasoning).is_some() {
        return None;
    }
    let mut value = Map::new();
    for (name, _, unit) in CONTRACT_UNITS {
        let Some(price) = rates.price(unit) else {
            if matches!(unit, Unit::Input | Unit::Output) {
                return None;
            }
            continue;
        };
        let number = Number::from_f64(decimal_of(&price.to_string(), -3, 18)?.parse().ok()?)?;
        let back = Money::parse(&decimal(&number.to_string(), 3)?)?;
        if back != price {
            return None;
        }
        value.insert(name.into(), number.into());
    }
    Some(value)
}

/// Digits before and after the point that a price may have.
const MAX_WHOLE_DIGITS: usize = 9;
const MAX_FRACTION_DIGITS: usize = 12;

/// Reads a decimal number that is not negative, with or without an exponent, times ten to the power of `shift`,
/// as plain text without needless zeros. `None` when it is no such number or has too many digits.
fn decimal(text: &str, shift: i32) -> Option<String> {
    decimal_of(text, shift, MAX_FRACTION_DIGITS)
}

/// The same with a bound of one's own for the digits behind the point.
fn decimal_of(text: &str, shift: i32, max_fraction_digits: usize) -> Option<String> {
    if text.len() > 64 {
        return None;
    }
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || digits.len() > 3 || !all_digits(digits) {
                return None;
            }
            (mantissa, exponent.parse::<i32>().ok()?)
        }
        None => (text, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return None,
        None => (mantissa, ""),
    };
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let mut digits = format!("{whole}{fraction}");
    // The value is 0.DIGITS times ten to the power of `point`.
    let point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?.checked_add(shift)?;
    let (whole, fraction) = if point <= 0 {
        let zeros = usize::try_from(point.checked_neg()?).ok()?;
        (String::new(), format!("{}{digits}", "0".repeat(zeros)))
    } else {
        let point = usize::try_from(point).ok()?;
        while digits.len() < point {
            digits.push('0');
        }
        let fraction = digits.split_off(point);
        (digits, fraction)
    };
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    if whole.len() > MAX_WHOLE_DIGITS || fraction.len() > max_fraction_digits {
        return None;
    }
    let whole = if whole.is_empty() { "0" } else { whole };
    Some(if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") })
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::{Fields, decimal, prices, write};
    use crate::domain::{ModelPrices, Money, TokenCounts, Unit};
    use crate::failure::Failure;

    fn read(manifest: &Value) -> Result<ModelPrices, Failure> {
        let Value::Object(map) = manifest else { panic!("{manifest}") };
        let mut fields = Fields::of_manifest(map.clone());
        let prices = prices(&mut fields)?;
        fields.finish()?;
        Ok(prices)
    }

    #[test]
    fn every_form_of_a_cost_comes_out_as_it_went_in() {
        for cost in [
            json!({"metric": "public_cost"}),
            json!({"metric": "per_1000_tokens", "value": {"input": 0.0025, "output": 0.01, "cache_read": 0.001, "cache_write": 0.003}}),
            json!({"metric": "per_million_tokens", "value": {"input": "0.15"}}),
            json!({"metric": "per_million_tokens", "value": {"input": "0.150000000001", "output": "0.6", "cached": "0.075", "reasoning": "0.7"}}),
            json!({"metric": "per_million_tokens", "value": {"input": "1", "output": "2", "input_tiers": [{"from": 200000, "price": "2"}]}}),
            json!({"metric": "per_million_characters", "value": {"input": "15"}}),
            json!({"metric": "per_minute_of_audio", "value": {"input": "0.006"}}),
            json!({"metric": "per_1000_pages", "value": {"pages": "1", "annotated_pages": "3"}}),
            json!({"metric": "per_image", "value": {"price": "0.04"}}),
            json!({"metric": "per_second", "value": {"price": "0.0001"}}),
            json!([
                {"metric": "per_1000_tokens", "value": {"input": 0.0025, "output": 0.01}},
                {"metric": "per_million_tokens", "value": {"output": "9"}, "from": "2026-01-01"},
                {"metric": "public_cost"},
            ]),
        ] {
            let first = read(&json!({"cost": cost})).unwrap_or_else(|failure| panic!("{cost}: {failure:?}"));
            let mut shown = Map::new();
            write(&first, &mut shown);
            assert_eq!(shown.get("cost"), Some(&cost));
            assert_eq!(read(&shown.into()).unwrap(), first, "{cost}");
        }
        assert_eq!(read(&json!({})).unwrap(), ModelPrices::default());
    }

    #[test]
    fn the_contract_s_tiers_are_prices_of_one_token() {
        let prices = read(&json!({"cost": {"metric": "per_1000_tokens", "value": {
            "input": 0.001, "output": 0.002, "input_tiers": [{"from": 10, "cost_per_token": 0.000002}],
        }}}));
        let prices = prices.unwrap();
        let tokens = TokenCounts { input: 15, ..TokenCounts::default() };
        let rates = &prices.entries[0].rates;
        assert_eq!(rates.price(Unit::Input), Money::parse("1"));
        assert_eq!(rates.cost(&tokens), Money::parse("0.00002"));
    }

    #[test]
    fn what_is_no_cost() {
        let good = json!({"input": 1, "output": 2});
        for wrong in [
            json!({"cost": "free"}),
            json!({"cost": [1]}),
            json!({"cost": {}}),
            json!({"cost": {"metric": "per_page", "value": 1}}),
            json!({"cost": {"metric": "per_1000_tokens"}}),
            json!({"cost": {"metric": "per_1000_tokens", "value": {"input": 1}}}),
            json!({"cost": {"metric": "per_million_tokens", "value": {}}}),
            json!({"cost": {"metric": "per_million_tokens", "value": {"inputs": 1}}}),
            json!({"cost": {"metric": "per_million_tokens", "value": {"input": "-1"}}}),
            json!({"cost": {"metric": "per_million_tokens", "value": {"input": "0.0000000000001"}}}),
            json!({"cost": {"metric": "per_million_tokens", "value": {"input": "1e99"}}}),
            json!({"cost": {"metric": "per_million_tokens", "value": good, "from": "soon"}}),
            json!({"cost": {"metric": "per_million_tokens", "value": good, "from": "2026-01-01T00:00:00Z"}}),
            json!({"cost": {"metric": "per_million_tokens", "value": good, "from": "2026-02-30"}}),
            json!({"cost": {"metric": "per_million_tokens", "value": good, "until": "2026-02-01"}}),
            json!({"cost": [{"metric": "public_cost"}, {"metric": "public_cost"}]}),
            json!({"cost": [{"metric": "per_million_tokens", "value": good}, {"metric": "per_million_tokens", "value": good}]}),
            json!({"cost": vec![json!({"metric": "per_million_tokens", "value": good}); 65]}),
            json!({"cost": {"metric": "per_million_tokens", "value": {"output": 1, "input_tiers": [{"from": 1, "price": 1}]}}}),
            json!({"cost": {"metric": "per_million_tokens", "value": {"input": 1, "input_tiers": [{"from": 2, "price": 1}, {"from": 2, "price": 1}]}}}),
            json!({"cost": {"metric": "per_million_tokens", "value": {"input": 1, "input_tiers": vec![json!({"from": 2, "price": 1}); 9]}}}),
            json!({"cost": {"metric": "per_million_tokens", "value": good}, "input_price": "3"}),
            json!({"input_price": "cheap"}),
        ] {
            assert!(read(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn decimals_are_exact() {
        for (text, shift, want) in [
            ("2.50", 0, "2.5"),
            ("0.00015", 3, "0.15"),
            ("0.0025", 3, "2.5"),
            ("1.5e-7", 3, "0.00015"),
            ("15E-8", 3, "0.00015"),
            ("1e3", 0, "1000"),
            ("000.000", 0, "0"),
            ("0", 3, "0"),
            ("007", 0, "7"),
            ("0.000000000001", 0, "0.000000000001"),
            ("2.5", -3, "0.0025"),
            ("999999999", 0, "999999999"),
        ] {
            assert_eq!(decimal(text, shift).as_deref(), Some(want), "{text} {shift}");
        }
        for wrong in [
            "",
            "-1",
            "+1",
            "1.",
            ".5",
            "1,5",
            "NaN",
            "inf",
            "1e",
            "1e9999",
            "0x1",
            " 1",
            "1e99",
            "1e-99",
            "1_0",
            "0.0000000000001",
        ] {
            assert_eq!(decimal(wrong, 0), None, "{wrong}");
        }
        assert_eq!(decimal("1e-99", 0), None);
        assert_eq!(decimal("1000000000", 0), None);
    }
}

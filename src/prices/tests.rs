use std::collections::BTreeSet;

use super::*;
use crate::domain::{AccountSettings, ModelPrices, ModelSettings, PriceEntry, TokenOrigin};
use crate::id::{AccountName, ModelName};

fn money(text: &str) -> Money {
    Money::parse(text).unwrap()
}

fn model(id: &str, prices: ModelPrices) -> Model {
    Model {
        name: ModelName::parse("m").unwrap(),
        model_id: id.to_owned(),
        types: BTreeSet::new(),
        prices,
        settings: ModelSettings::default(),
        created_at: UnixMillis(1),
    }
}

fn public(id: &str) -> Model {
    model(id, ModelPrices { public: true, entries: Vec::new() })
}

fn account(provider: ProviderType, discount: Option<&str>) -> ProviderAccount {
    ProviderAccount {
        name: AccountName::parse("main").unwrap(),
        provider,
        base_url: "https://llm.example.com/v1".to_owned(),
        destination_by_admin: false,
        sealed_api_key: None,
        headers: BTreeMap::new(),
        ca_certificates: None,
        models: BTreeMap::new(),
        settings: AccountSettings { discount_percent: discount.map(money), ..AccountSettings::default() },
        manifest: None,
        created_at: UnixMillis(1),
        updated_at: UnixMillis(1),
        created_by: "local:uid:0".to_owned(),
    }
}

fn tokens(input: u64, output: u64) -> TokenCounts {
    TokenCounts { input, output, origin: TokenOrigin::Reported, ..TokenCounts::default() }
}

#[test]
fn the_built_in_catalogue_is_one() {
    let catalogue = Catalogue::parse(include_bytes!("catalogue.json")).unwrap();
    assert!((60..=150).contains(&catalogue.len()), "{}", catalogue.len());
    assert_eq!(*Catalogue::built_in(), catalogue);
    for (provider, models) in &catalogue.models {
        for (id, prices) in models {
            assert!(prices.contains_key(&Unit::Input), "{provider} {id}");
            let (input, output) = (prices.get(&Unit::Input), prices.get(&Unit::Output));
            assert!(output.is_none_or(|output| Some(output) >= input), "{provider} {id}");
            assert!(prices.get(&Unit::Cached) <= input, "{provider} {id}");
        }
    }
}

#[test]
fn models_are_found_under_the_names_that_clouds_give_them() {
    let catalogue = Catalogue::built_in();
    for (provider, id, input) in [
        (ProviderType::Openai, "gpt-4o", Some("2.5")),
        (ProviderType::Openai, "gpt-4o-2024-08-06", Some("2.5")),
        (ProviderType::Openai, "gpt-4o-2024-05-13", Some("5")),
        (ProviderType::Anthropic, "claude-sonnet-4-5-20250929", Some("3")),
        (ProviderType::Anthropic, "claude-3-5-haiku-latest", Some("0.8")),
        (ProviderType::AwsBedrock, "us.anthropic.claude-sonnet-4-5-20250929-v1:0", Some("3")),
        (ProviderType::AwsBedrock, "eu.amazon.nova-pro-v1:0", Some("0.8")),
        (
            ProviderType::AwsBedrock,
            "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-haiku-4-5-20251001-v1:0",
            Some("1"),
        ),
        (ProviderType::GoogleVertex, "anthropic/claude-opus-4-1@20250805", Some("15")),
        (ProviderType::GoogleVertex, "gemini-2.0-flash-001", Some("0.1")),
        (ProviderType::AzureOpenai, "gpt-4.1", Some("2")),
        // Nothing is found by a resemblance.
        (ProviderType::Openai, "gpt-4o-audio", None),
        (ProviderType::Openai, "my-gpt-4o", None),
        (ProviderType::Openai, "claude-3-opus", None),
        (ProviderType::SelfHostedModel, "gpt-4o", None),
        (ProviderType::Openai, "", None),
        (ProviderType::Openai, "-", None),
        (ProviderType::Openai, "é-2024-08-06é", None),
        (ProviderType::AwsBedrock, "anthropic.", None),
        (ProviderType::GoogleVertex, "/", None),
    ] {
        let found =
            catalogue.find(provider, &public(id)).and_then(|prices| prices.get(&Unit::Input).copied());
        assert_eq!(found, input.map(money), "{provider:?} {id}");
    }
    let mut deployment = public("our-deployment");
    assert!(catalogue.find(ProviderType::AzureOpenai, &deployment).is_none());
    deployment.settings.foundation_model = Some("gpt-4o".to_owned());
    assert!(catalogue.find(ProviderType::AzureOpenai, &deployment).is_some());
}

#[test]
fn what_decides_a_cost() {
    let catalogue = Catalogue::built_in();
    let own = |from, price| PriceEntry {
        from: UnixMillis(from),
        rates: Rates { prices: BTreeMap::from([(Unit::Input, money(price))]), tiers: BTreeMap::new() },
    };
    let both = ModelPrices { public: true, entries: vec![own(100, "7")] };
    let million = tokens(1_000_000, 0);
    for (id, prices, discount, at, want) in [
        ("gpt-4o", ModelPrices::default(), None, 1, None),
        ("gpt-4o", ModelPrices { public: true, entries: Vec::new() }, None, 1, Some("2.5")),
        ("gpt-4o", ModelPrices { public: true, entries: Vec::new() }, Some("12.5"), 1, Some("2.1875")),
        ("gpt-4o", ModelPrices { public: true, entries: Vec::new() }, Some("100"), 1, Some("0")),
        ("nobody-knows", ModelPrices { public: true, entries: Vec::new() }, None, 1, None),
        // Own prices stand before public ones from their day on, and no discount is on them.
        ("gpt-4o", both.clone(), Some("50"), 99, Some("1.25")),
        ("gpt-4o", both, Some("50"), 100, Some("7")),
        ("gpt-4o", ModelPrices { public: false, entries: vec![own(100, "7")] }, None, 99, None),
    ] {
        let account = account(ProviderType::Openai, discount);
        let got = cost(&account, &model(id, prices.clone()), &catalogue, UnixMillis(at), &million);
        assert_eq!(got, want.map(money), "{id} {prices:?} {discount:?} {at}");
    }
}

#[test]
fn what_is_no_catalogue() {
    let good = r#"{"date":"2026-01-31","models":{"openai":{"m":{"input":"1"}}}}"#;
    assert_eq!(Catalogue::parse(good.as_bytes()).unwrap().len(), 1);
    for wrong in [
        "",
        "[]",
        "{}",
        r#"{"date":"2026-01-31"}"#,
        r#"{"date":"2026-02-31","models":{}}"#,
        r#"{"date":"today","models":{}}"#,
        r#"{"date":"2026-01-31","models":{},"more":1}"#,
        r#"{"date":"2026-01-31","source":"a\nb","models":{}}"#,
        r#"{"date":"2026-01-31","models":{"nobody":{"m":{"input":"1"}}}}"#,
        r#"{"date":"2026-01-31","models":{"openai":{"":{"input":"1"}}}}"#,
        r#"{"date":"2026-01-31","models":{"openai":{"a b":{"input":"1"}}}}"#,
        r#"{"date":"2026-01-31","models":{"openai":{"m":{}}}}"#,
        r#"{"date":"2026-01-31","models":{"openai":{"m":{"input":"-1"}}}}"#,
        r#"{"date":"2026-01-31","models":{"openai":{"m":{"input":1.5}}}}"#,
        r#"{"date":"2026-01-31","models":{"openai":{"m":{"input":"0.0000000000001"}}}}"#,
        r#"{"date":"2026-01-31","models":{"openai":{"m":{"input":"1000001"}}}}"#,
        r#"{"date":"2026-01-31","models":{"openai":{"m":{"inputs":"1"}}}}"#,
    ] {
        assert!(Catalogue::parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
    let mut large = Catalogue::parse(good.as_bytes()).unwrap();
    let models = large.models.get_mut("openai").unwrap();
    for number in 0..MAX_MODELS {
        models.insert(format!("m{number}"), BTreeMap::from([(Unit::Input, Money::whole(1))]));
    }
    assert!(large.check().is_err());
}

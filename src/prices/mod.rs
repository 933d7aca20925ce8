//! The catalogue of public prices: what providers ask by their lists. One is built in; an admin may put another in
//! its place. Nothing is ever fetched.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;
use crate::domain::{Model, Money, ProviderAccount, ProviderType, Rates, TokenCounts, Unit};

/// Models that a catalogue may have.
pub const MAX_MODELS: usize = 5_000;
const MAX_NAME_BYTES: usize = 256;
const MAX_NOTE_BYTES: usize = 512;
/// A price for a million of something that is no mistake.
const MAX_DOLLARS: u32 = 1_000_000;

/// Public prices by provider and model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// The day that it is of, such as `2026-01-31`.
    pub date: String,
    /// Where the prices are from.
    #[serde(default)]
    pub source: String,
    /// The provider's word (that of `provider-account/...`) -> its own id of a model -> US dollars for a unit.
    pub models: BTreeMap<String, BTreeMap<String, BTreeMap<Unit, Money>>>,
}

/// What is wrong with a catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogueError(String);

impl fmt::Display for CatalogueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CatalogueError {}

static BUILT_IN: LazyLock<Arc<Catalogue>> = LazyLock::new(|| {
    // A test reads it; without it prices are unknown, which is no reason to stop.
    let built_in = Catalogue::parse(include_bytes!("catalogue.json"));
    Arc::new(built_in.unwrap_or_else(|error| {
        log::error!("the built-in catalogue of prices can not be read: {error}");
        Catalogue::default()
    }))
});

impl Catalogue {
    /// The one that the gateway comes with.
    pub fn built_in() -> Arc<Self> {
        Arc::clone(&BUILT_IN)
    }

    /// Reads a catalogue and checks its bounds.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(json: &[u8]) -> Result<Self, CatalogueError> {
        let catalogue: Self = serde_json::from_slice(json)
            .map_err(|error| CatalogueError(format!("it is no catalogue of prices: {error}")))?;
        catalogue.check()?;
        Ok(catalogue)
    }

    /// Checks the bounds.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), CatalogueError> {
        let wrong = |text: String| Err(CatalogueError(text));
        if self.date.len() != "2026-01-31".len() || UnixMillis::parse(&self.date).is_err() {
            return wrong("its date must be a day such as 2026-01-31".to_owned());
        }
        if self.source.len() > MAX_NOTE_BYTES || self.source.chars().any(char::is_control) {
            return wrong(format!("its source must be one line of at most {MAX_NOTE_BYTES} bytes"));
        }
        if self.len() > MAX_MODELS {
            return wrong(format!("it has more than {MAX_MODELS} models"));
        }
        for (provider, models) in &self.models {
            if ProviderType::parse(provider).is_none() {
                return wrong(format!(
                    "it has a provider that is not known, the {}th",
                    self.place_of(provider)
                ));
            }
            for (number, (id, prices)) in models.iter().enumerate() {
                if id.is_empty()
                    || id.len() > MAX_NAME_BYTES
                    || !id.bytes().all(|byte| byte.is_ascii_graphic())
                {
                    return wrong(format!("model {number} of {provider} has no possible id"));
                }
                let is_price = |price: &Money| {
                    *price >= Money::ZERO
                        && *price <= Money::whole(MAX_DOLLARS)
                        && price.is_exact_for_one_of_a_million()
                };
                if prices.is_empty() || !prices.values().all(is_price) {
                    return wrong(format!(
                        "{id} of {provider} needs prices from 0 to {MAX_DOLLARS}, with at most 12 digits after the point"
                    ));
                }
            }
        }
        Ok(())
    }

    fn place_of(&self, provider: &str) -> usize {
        self.models.keys().take_while(|other| *other != provider).count() + 1
    }

    /// How many models it has.
    pub fn len(&self) -> usize {
        self.models.values().map(BTreeMap::len).sum()
    }

    /// The public prices of a model of an account.
    pub fn find(&self, provider: ProviderType, model: &Model) -> Option<&BTreeMap<Unit, Money>> {
        let own = self.models.get(provider.as_str());
        if let Some(prices) = own.and_then(|models| models.get(&model.model_id)) {
            return Some(prices);
        }
        let (provider, id) = maker(provider, model);
        let models = self.models.get(provider)?;
        candidates(id).find_map(|id| models.get(id))
    }
}

/// Whose model it is, and that one's own id of it: clouds offer the models of others under names of their own.
fn maker(provider: ProviderType, model: &Model) -> (&'static str, &str) {
    let id = model.model_id.as_str();
    match provider {
        ProviderType::AzureOpenai => ("openai", model.settings.foundation_model.as_deref().unwrap_or(id)),
        ProviderType::AwsBedrock => {
            // us.anthropic.claude-sonnet-4-5-20250929-v1:0
            let id = id.rsplit_once('/').map_or(id, |(_, id)| id);
            let id = ["us.", "us-gov.", "eu.", "apac.", "ap.", "jp.", "au.", "ca.", "global."]
                .iter()
                .find_map(|place| id.strip_prefix(place))
                .unwrap_or(id);
            match id.strip_prefix("anthropic.") {
                Some(id) => ("anthropic", id.split_once("-v").map_or(id, |(id, _)| id)),
                None => (provider.as_str(), id),
            }
        }
        ProviderType::GoogleVertex => match id.split_once('/') {
            Some(("anthropic", id)) => ("anthropic", id.split_once('@').map_or(id, |(id, _)| id)),
            Some(("google", id)) => ("google-gemini", id),
            _ if id.starts_with("claude-") => ("anthropic", id.split_once('@').map_or(id, |(id, _)| id)),
            _ => ("google-gemini", id),
        },
        _ => (provider.as_str(), id),
    }
}

/// An id, and what is left of it without a date or a number of a version at its end.
fn candidates(id: &str) -> impl Iterator<Item = &str> {
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    let without_word = id.rsplit_once('-').and_then(|(rest, word)| {
        (digits(word, 8) || digits(word, 3) || word == "latest" || word == "preview").then_some(rest)
    });
    // gpt-4o-2024-08-06
    let without_date = id.len().checked_sub("-2024-08-06".len()).and_then(|at| {
        let (rest, date) = (id.get(..at)?, id.get(at..)?);
        let shape = date.bytes().enumerate().all(|(place, byte)| match place {
            0 | 5 | 8 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
        shape.then_some(rest)
    });
    [Some(id), without_word, without_date].into_iter().flatten()
}

/// What a call costs: by the model's own prices of that time, else by the public ones less the account's discount.
/// `None`: no price is known.
pub fn cost(
    account: &ProviderAccount,
    model: &Model,
    catalogue: &Catalogue,
    at: UnixMillis,
    tokens: &TokenCounts,
) -> Option<Money> {
    if let Some(rates) = model.prices.at(at) {
        return rates.cost(tokens);
    }
    let public = model.prices.public.then(|| catalogue.find(account.provider, model))??;
    let cost = Rates { prices: public.clone(), tiers: BTreeMap::new() }.cost(tokens)?;
    Some(match account.settings.discount_percent {
        Some(percent) => cost.less_percent(percent),
        None => cost,
    })
}

/// The price of one unit of a model, as [`cost`] has it. `None`: not known.
pub fn of_unit(
    account: &ProviderAccount,
    model: &Model,
    catalogue: &Catalogue,
    at: UnixMillis,
    unit: Unit,
) -> Option<Money> {
    if let Some(rates) = model.prices.at(at) {
        return rates.price(unit);
    }
    let public = model.prices.public.then(|| catalogue.find(account.provider, model))??;
    let price = *public.get(&unit)?;
    Some(account.settings.discount_percent.map_or(price, |percent| price.less_percent(percent)))
}

#[cfg(test)]
mod tests;

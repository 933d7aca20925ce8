//! Prices of models, and what a call costs by them. Exact throughout: see [`Money`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Money;
use super::usage::TokenCounts;
use crate::clock::UnixMillis;

/// What is counted and priced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A million input tokens that no cache had.
    Input,
    /// A million output tokens.
    Output,
    /// A million input tokens read from a cache.
    Cached,
    /// A million input tokens written to a cache.
    CacheWrite,
    /// A million output tokens of reasoning.
    Reasoning,
    /// One image.
    Image,
    /// One second.
    Second,
    /// A million characters.
    MillionCharacters,
    /// One minute of audio.
    MinuteOfAudio,
    /// A thousand pages.
    ThousandPages,
    /// A thousand annotated pages.
    ThousandAnnotatedPages,
}

/// From so many tokens of one call on, each further one has this price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// Tokens that the tiers before this one price.
    pub from: u64,
    /// US dollars for a million tokens.
    pub price: Money,
}

/// What each thing costs. What is missing has no price that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// US dollars for one unit.
    pub prices: BTreeMap<Unit, Money>,
    /// Prices of large calls, with `from` ascending; those of `prices` hold below the first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tiers: BTreeMap<Unit, Vec<Tier>>,
}

impl Rates {
    /// The most tiers of one unit.
    pub const MAX_TIERS: usize = 8;

    /// The price of one unit.
    pub fn price(&self, unit: Unit) -> Option<Money> {
        self.prices.get(&unit).copied()
    }

    /// What the tokens of one call cost; `None` when some of them have no price. The counters are made disjoint
    /// first: cached input, input written to a cache, and reasoning have prices of their own, or else those of the
    /// input and of the output that they are parts of.
    pub fn cost(&self, tokens: &TokenCounts) -> Option<Money> {
        let has = |unit| self.prices.contains_key(&unit);
        let cached = tokens.cached.min(tokens.input);
        let written = tokens.cache_write.min(tokens.input.saturating_sub(cached));
        let reasoning = tokens.reasoning.min(tokens.output);
        let (mut fresh, mut said) = (tokens.input, tokens.output);
        let own = |unit, count: u64, whole: &mut u64| {
            let count = if has(unit) { count } else { 0 };
            *whole = whole.saturating_sub(count);
            (unit, count)
        };
        let parts = [
            own(Unit::Cached, cached, &mut fresh),
            own(Unit::CacheWrite, written, &mut fresh),
            own(Unit::Reasoning, reasoning, &mut said),
            (Unit::Input, fresh),
            (Unit::Output, said),
        ];
        parts.iter().filter(|(_, count)| *count > 0).map(|(unit, count)| self.tiered(*unit, *count)).sum()
    }

    fn tiered(&self, unit: Unit, count: u64) -> Option<Money> {
        let mut price = self.price(unit)?;
        let (mut sum, mut priced) = (Money::ZERO, 0);
        for tier in self.tiers.get(&unit).into_iter().flatten() {
            let end = tier.from.clamp(priced, count);
            sum = sum.plus(price.for_count(end.saturating_sub(priced)));
            (priced, price) = (end, tier.price);
        }
        Some(sum.plus(price.for_count(count.saturating_sub(priced))))
    }
}

/// Prices that hold from some day on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceEntry {
    /// Midnight in UTC; zero: they always did.
    pub from: UnixMillis,
    /// The prices.
    pub rates: Rates,
}

/// What a model costs and did cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelPrices {
    /// Where no entry holds, the catalogue of public prices says.
    pub public: bool,
    /// Own prices, `from` ascending and no two alike.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<PriceEntry>,
}

impl ModelPrices {
    /// The most entries.
    pub const MAX_ENTRIES: usize = 64;

    /// No price is known.
    pub fn is_unknown(&self) -> bool {
        !self.public && self.entries.is_empty()
    }

    /// The prices that hold at a time.
    pub fn at(&self, at: UnixMillis) -> Option<&Rates> {
        self.entries.iter().rev().find(|entry| entry.from <= at).map(|entry| &entry.rates)
    }

    /// A price of input and one of output that always held, as models had them before prices had dates.
    pub fn simple(input: Option<Money>, output: Option<Money>) -> Self {
        let prices: BTreeMap<_, _> = [(Unit::Input, input), (Unit::Output, output)]
            .into_iter()
            .filter_map(|(unit, price)| Some((unit, price?)))
            .collect();
        if prices.is_empty() {
            return Self::default();
        }
        let rates = Rates { prices, tiers: BTreeMap::new() };
        Self { public: false, entries: vec![PriceEntry { from: UnixMillis(0), rates }] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::TokenOrigin;

    fn money(text: &str) -> Money {
        Money::parse(text).unwrap()
    }

    fn rates(prices: &[(Unit, &str)]) -> Rates {
        let prices = prices.iter().map(|(unit, price)| (*unit, money(price))).collect();
        Rates { prices, tiers: BTreeMap::new() }
    }

    fn tokens(input: u64, output: u64, cached: u64, cache_write: u64, reasoning: u64) -> TokenCounts {
        TokenCounts { input, output, cached, cache_write, reasoning, origin: TokenOrigin::Reported }
    }

    #[test]
    fn what_a_call_costs() {
        use Unit::{CacheWrite, Cached, Input, Output, Reasoning};
        let plain = [(Input, "3"), (Output, "15")];
        let all = [(Input, "3"), (Output, "15"), (Cached, "0.3"), (CacheWrite, "3.75"), (Reasoning, "20")];
        for (prices, counts, want) in [
            (&plain[..], tokens(1_000_000, 1_000_000, 0, 0, 0), Some("18")),
            (&plain, tokens(1, 1, 0, 0, 0), Some("0.000018")),
            // Parts without a price of their own cost what the whole does.
            (&plain, tokens(1_000_000, 1_000_000, 400_000, 100_000, 500_000), Some("18")),
            // 0.5 * 3 + 0.4 * 0.3 + 0.1 * 3.75 + 0.5 * 15 + 0.5 * 20
            (&all, tokens(1_000_000, 1_000_000, 400_000, 100_000, 500_000), Some("19.495")),
            (&all, tokens(0, 0, 0, 0, 0), Some("0")),
            // Servers were seen that report larger parts than wholes.
            (&all, tokens(10, 10, 99, 99, 99), Some("0.000203")),
            // What has no price is unknown, and what was not used needs none.
            (&plain[..1], tokens(5, 0, 0, 0, 0), Some("0.000015")),
            (&plain[..1], tokens(5, 1, 0, 0, 0), None),
            (&[(Output, "15")], tokens(1, 1, 0, 0, 0), None),
            (&[], tokens(1, 1, 0, 0, 0), None),
            // All of the input was cached, so that fresh input needs no price.
            (&[(Cached, "0.3"), (Output, "15")], tokens(10, 1, 10, 0, 0), Some("0.000018")),
            (
                &[(Input, "0.000000000001"), (Output, "0")],
                tokens(1, 7, 0, 0, 0),
                Some("0.000000000000000001"),
            ),
            (&all, tokens(u64::MAX, u64::MAX, 0, 0, 0), Some("332041393326771.9284")),
        ] {
            let want = want.map(money);
            let got = rates(prices).cost(&counts);
            if counts.input < u64::MAX {
                assert_eq!(got, want, "{prices:?} {counts:?}");
            } else {
                assert!(got > want, "the largest counts do not wrap: {got:?}");
            }
        }
    }

    #[test]
    fn tiers_price_what_is_above_them() {
        let mut rates = rates(&[(Unit::Input, "1"), (Unit::Output, "0")]);
        let tiers = vec![Tier { from: 200, price: money("2") }, Tier { from: 500, price: money("4") }];
        rates.tiers.insert(Unit::Input, tiers);
        for (input, want) in [(0, "0"), (200, "0.0002"), (201, "0.000202"), (500, "0.0008"), (600, "0.0012")]
        {
            assert_eq!(rates.cost(&tokens(input, 9, 0, 0, 0)), Some(money(want)), "{input}");
        }
    }

    #[test]
    fn prices_hold_from_their_day_on() {
        let entry =
            |from, price| PriceEntry { from: UnixMillis(from), rates: rates(&[(Unit::Input, price)]) };
        let prices = ModelPrices { public: false, entries: vec![entry(100, "1"), entry(200, "2")] };
        for (at, want) in [
            (0, None),
            (99, None),
            (100, Some("1")),
            (199, Some("1")),
            (200, Some("2")),
            (u64::MAX, Some("2")),
        ] {
            let found = prices.at(UnixMillis(at)).and_then(|rates| rates.price(Unit::Input));
            assert_eq!(found, want.map(money), "{at}");
        }
    }

    #[test]
    fn costs_add_up_whatever_the_parts() {
        // For any counts: the cost of two calls is the cost of both counts in one, as there are no tiers.
        let rates = rates(&[
            (Unit::Input, "0.150000000001"),
            (Unit::Output, "0.6"),
            (Unit::Cached, "0.075000000003"),
            (Unit::Reasoning, "0.7"),
        ]);
        let mut state = 88_172_645_463_325_252_u64;
        let mut next = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let (mut sum, mut whole) = (Money::ZERO, TokenCounts::default());
        for _ in 0..5_000 {
            let (input, output) = (1 + next(200_000), 1 + next(50_000));
            let one = tokens(input, output, next(input), 0, next(output));
            sum = sum.plus(rates.cost(&one).unwrap());
            whole.input += one.input;
            whole.output += one.output;
            whole.cached += one.cached;
            whole.reasoning += one.reasoning;
        }
        assert_eq!(Some(sum), rates.cost(&whole));
    }
}

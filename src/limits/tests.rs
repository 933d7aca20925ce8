use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::domain::{LimitRule, Principal, Subject, VirtualAccount};
use crate::id::{SlugName, TokenId};
use crate::manifest::{self, fields::Fields};
use crate::store::{Change, Expect, Object, Store, Write};

const NOW: UnixMillis = UnixMillis(1_795_500_000_000);
const READY: Accounting = Accounting { fails: false, is_needed: true };

struct House {
    store: Store,
    limits: Limits,
}

fn rules(kind: LimitKind, rules: Value) -> Vec<LimitRule> {
    let document = json!({"type": kind.as_str(), "name": "x", "rules": rules});
    let Value::Object(map) = document else { panic!() };
    match manifest::read(Fields::of_manifest(map)).unwrap().spec {
        manifest::Spec::Limits(spec) => spec.rules,
        _ => panic!(),
    }
}

impl House {
    fn new() -> Self {
        Self { store: Store::in_memory(crate::seal::MasterKey::new(&[7; 32])), limits: Limits::default() }
    }

    fn set(&self, kind: LimitKind, list: Value) -> &Self {
        let expect =
            self.store.snapshot().limits(kind).map_or(Expect::Absent, |old| Expect::Revision(old.revision));
        let config = LimitConfig {
            kind,
            name: "x".into(),
            offset_minutes: 0,
            zone: None,
            rules: rules(kind, list),
            manifest: Value::Null,
            created_at: NOW,
            updated_at: NOW,
            created_by: "user:a@x.io".into(),
        };
        let write = Write::Put(Object::Limits(config), expect);
        self.store.commit(Change { writes: vec![write], audit: vec![] }).unwrap();
        self
    }

    fn load(&self, records: &[UsageRecord], now: UnixMillis) {
        let load = self.limits.load(&self.store.snapshot(), now, |since, sink| {
            records.iter().filter(|record| record.at >= since.from).for_each(sink);
            Ok::<(), ()>(())
        });
        load.unwrap();
    }

    fn call(
        &self,
        who: &Principal,
        model: &str,
        tokens: u64,
        now: UnixMillis,
    ) -> Result<Reservation, LimitRefusal> {
        let world = self.store.snapshot();
        let facts = || {
            let facts = Facts::of_call(who, model.to_owned(), &world)?;
            Some((facts, Estimate { input: tokens, output: 0 }))
        };
        self.limits.reserve(&world, facts, |_| None, READY, now)
    }

    fn spend(&self, who: &Principal, tokens: u64, now: UnixMillis) -> Result<(), LimitRefusal> {
        self.call(who, "main/m", tokens, now).map(|reservation| {
            reservation.settle(TokenCounts { input: tokens, ..TokenCounts::default() }, None, now);
        })
    }
}

fn app(name: &str, tags: &[(&str, &str)], team: Option<&str>) -> Principal {
    let account = VirtualAccount {
        name: SlugName::parse(name).unwrap(),
        expires_at: None,
        tags: tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        owned_by: team.map(|name| crate::id::TeamName::parse(name).unwrap()),
        auto_rotate: None,
        had_token: false,
        manifest: None,
        created_at: NOW,
        updated_at: NOW,
        created_by: "user:a@x.io".into(),
    };
    Principal::VirtualAccount {
        account: Arc::new(account),
        token_id: TokenId::parse("0123456789ab").unwrap(),
    }
}

fn person(email: &str) -> Principal {
    let user = crate::domain::User {
        email: crate::id::Email::parse(email).unwrap(),
        display_name: String::new(),
        role: crate::domain::TenantRole::Member,
        active: true,
        created_at: NOW,
        updated_at: NOW,
    };
    Principal::User { user: Arc::new(user), token_id: TokenId::parse("0123456789ab").unwrap() }
}

fn record(subject: &str, tokens: u64, at: UnixMillis) -> UsageRecord {
    UsageRecord {
        at,
        request_id: String::new(),
        subject: subject.into(),
        token_id: String::new(),
        account: "main".into(),
        model: "main/m".into(),
        endpoint: "chat/completions".into(),
        tokens: TokenCounts { input: tokens, ..TokenCounts::default() },
        status: 200,
        outcome: crate::domain::Outcome::Complete,
        stream: false,
        latency_ms: 1,
        first_byte_ms: None,
        metadata: BTreeMap::new(),
        teams: Vec::new(),
        model_asked: None,
        cost: None,
        error_kind: None,
        request_bytes: 0,
        answer_bytes: 0,
    }
}

#[test]
fn a_rule_fits_who_and_what_it_says() {
    let bob = person("bob@x.io");
    let tagged = app("bot", &[("env", "prod"), ("app", "search")], Some("search"));
    let plain = app("cron", &[], None);
    for (when, per, fits) in [
        (json!({}), json!([]), [Some(""), Some(""), Some("")]),
        (json!({"subjects": ["user:bob@x.io"]}), json!([]), [Some(""), None, None]),
        (json!({"subjects": ["team:everyone"]}), json!([]), [Some(""), None, None]),
        (json!({"subjects": ["team:search"]}), json!([]), [None, Some(""), None]),
        (json!({"subjects": ["user:x@x.io", "virtualaccount:cron"]}), json!([]), [None, None, Some("")]),
        (json!({"models": ["main/m"]}), json!([]), [Some(""), Some(""), Some("")]),
        (json!({"models": ["main/other"]}), json!([]), [None, None, None]),
        (json!({"metadata": {"env": "prod"}}), json!([]), [None, Some(""), None]),
        (json!({"metadata": {"env": "dev"}}), json!([]), [None, None, None]),
        (json!({"metadata": {"env": "prod", "x": "y"}}), json!([]), [None, None, None]),
        (json!({}), json!(["user"]), [Some("user:bob@x.io"), None, None]),
        (
            json!({}),
            json!(["virtualaccount"]),
            [None, Some("virtualaccount:bot"), Some("virtualaccount:cron")],
        ),
        (
            json!({}),
            json!(["user", "virtualaccount"]),
            [Some("user:bob@x.io"), Some("virtualaccount:bot"), Some("virtualaccount:cron")],
        ),
        (json!({}), json!(["team"]), [None, Some("team:search"), None]),
        (json!({}), json!(["user", "model"]), [Some("user:bob@x.io model:main/m"), None, None]),
        (json!({}), json!(["metadata.app"]), [None, Some("metadata.app:search"), None]),
    ] {
        let list = json!([{"id": "r", "when": when, "limit_to": 1, "unit": "tokens_per_day", "budget_applies_per": per}]);
        let spec = rules(LimitKind::Budget, list).remove(0);
        let table = Table::new(LimitKind::Budget, spec.unit.period, jiff::tz::TimeZone::UTC, NOW, false);
        let rule = Rule::new(&spec, Arc::new(table));
        let world = World::default();
        for (who, wanted) in [&bob, &tagged, &plain].into_iter().zip(fits) {
            let facts = Facts::of_call(who, "main/m".into(), &world).unwrap();
            let found = rule.entities(&facts);
            assert_eq!(found.first().map(String::as_str), wanted, "{when} {per} {}", who.name());
        }
    }
    assert!(
        Facts::of_call(&Principal::LocalAdministrator { uid: 0 }, "a/b".into(), &World::default()).is_none()
    );
}

#[test]
fn the_first_rate_decides_and_no_other_counts() {
    let house = House::new();
    house.set(
        LimitKind::Rate,
        json!([
            {"id": "bot", "when": {"subjects": ["virtualaccount:bot"]}, "limit_to": 3, "unit": "requests_per_minute"},
            {"id": "all", "when": {}, "limit_to": 1, "unit": "requests_per_minute", "rate_limit_applies_per": ["virtualaccount"]},
        ]),
    );
    let (bot, cron) = (app("bot", &[], None), app("cron", &[], None));
    for left in [2, 1, 0] {
        let mut reservation = house.call(&bot, "main/m", 1, NOW).unwrap();
        let lines: Vec<_> =
            reservation.take_lines().iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(lines[0], "x-ratelimit-limit-requests: 3");
        assert_eq!(lines[1], format!("x-ratelimit-remaining-requests: {left}"));
        assert!(lines[2].starts_with("x-ratelimit-reset-requests: 1m"), "{lines:?}");
        reservation.settle(TokenCounts::default(), None, NOW);
    }
    let refusal = house.call(&bot, "main/m", 1, NOW).unwrap_err();
    assert!(!refusal.is_budget && refusal.message.contains("'bot'"), "{refusal:?}");
    assert_eq!(refusal.retry_after_seconds, 60);
    assert_eq!(refusal.lines[1], ("x-ratelimit-remaining-requests", "0".to_owned()));
    assert!(house.spend(&cron, 1, NOW).is_ok());
    let refusal = house.spend(&cron, 1, NOW).unwrap_err();
    assert!(refusal.message.contains("'all' of virtualaccount:cron"), "{refusal:?}");
    let later = UnixMillis(NOW.0 + refusal.retry_after_seconds * 1000 + 300);
    assert!(house.spend(&cron, 1, later).is_ok());
    // People are in none of the two.
    for _ in 0..5 {
        house.spend(&person("bob@x.io"), 1, NOW).unwrap();
    }
}

#[test]
fn every_budget_counts_and_the_first_one_refuses() {
    let house = House::new();
    house.set(
        LimitKind::Budget,
        json!([
            {"id": "mine", "when": {"subjects": ["virtualaccount:bot"]}, "limit_to": 100, "unit": "tokens_per_day"},
            {"id": "all", "when": {}, "limit_to": 50, "unit": "tokens_per_month"},
        ]),
    );
    house.load(&[], NOW);
    let (bot, cron) = (app("bot", &[], None), app("cron", &[], None));
    for _ in 0..10 {
        house.spend(&bot, 10, NOW).unwrap();
    }
    let refusal = house.spend(&bot, 10, NOW).unwrap_err();
    assert!(refusal.is_budget && refusal.message.contains("'mine' is used up: 100 of 100"), "{refusal:?}");
    let refusal = house.spend(&cron, 1, NOW).unwrap_err();
    assert!(refusal.message.contains("'all' is used up: 100 of 50"), "{refusal:?}");
    // The next day.
    let tomorrow = UnixMillis(NOW.0 + 86_400_000);
    assert!(house.spend(&bot, 10, tomorrow).is_ok());
    let levels = house.limits.levels(&house.store.snapshot(), LimitKind::Budget, tomorrow, 10);
    let shown: Vec<_> =
        levels.iter().map(|level| (level.rule.id.as_str(), level.used.as_str(), level.percent)).collect();
    assert_eq!(shown, [("mine", "10", 10), ("all", "110", 220)]);
    let text = house.limits.metrics_text(&house.store.snapshot(), tomorrow);
    assert!(text.contains("gateway_budget_refusals_total 2\n"), "{text}");
    assert!(text.contains("gateway_budget_used_percent{rule=\"all\"} 220"), "{text}");
}

#[test]
fn audit_mode_counts_and_never_refuses() {
    let house = House::new();
    house
        .set(
            LimitKind::Budget,
            json!([{"id": "a", "limit_to": 10, "unit": "tokens_per_day", "audit_mode": true}]),
        )
        .set(
            LimitKind::Rate,
            json!([{"id": "r", "limit_to": 1, "unit": "requests_per_minute", "audit_mode": true}]),
        );
    for _ in 0..5 {
        house.spend(&person("bob@x.io"), 10, NOW).unwrap();
    }
    assert_eq!(house.limits.levels(&house.store.snapshot(), LimitKind::Budget, NOW, 10)[0].used, "50");
}

#[test]
fn reservations_hold_until_they_settle_or_are_dropped() {
    let house = House::new();
    house.set(LimitKind::Budget, json!([{"id": "b", "limit_to": 100, "unit": "tokens_per_day"}]));
    house.load(&[], NOW);
    let bob = person("bob@x.io");
    let first = house.call(&bob, "main/m", 60, NOW).unwrap();
    let refusal = house.call(&bob, "main/m", 60, NOW).unwrap_err();
    assert!(refusal.message.contains("no room for this call: 40 of 100"), "{refusal:?}");
    assert_eq!(refusal.retry_after_seconds, 1);
    first.settle(TokenCounts { input: 5, output: 5, ..TokenCounts::default() }, None, NOW);
    let second = house.call(&bob, "main/m", 60, NOW).unwrap();
    drop(second);
    assert_eq!(house.limits.levels(&house.store.snapshot(), LimitKind::Budget, NOW, 10)[0].used, "10");
    // The last bit is of use to one call at a time.
    let large = house.call(&bob, "main/m", 1_000, NOW).unwrap();
    assert!(house.call(&bob, "main/m", 1, NOW).is_err());
    drop(large);
    // A call that ends in the next period was the last one's.
    let late = house.call(&bob, "main/m", 50, NOW).unwrap();
    let tomorrow = UnixMillis(NOW.0 + 86_400_000);
    house.spend(&bob, 7, tomorrow).unwrap();
    late.settle(TokenCounts { input: 50, ..TokenCounts::default() }, None, tomorrow);
    assert_eq!(house.limits.levels(&house.store.snapshot(), LimitKind::Budget, tomorrow, 10)[0].used, "7");
}

#[test]
fn many_at_once_stay_within_one_reservation() {
    let house = House::new();
    house.set(LimitKind::Budget, json!([{"id": "b", "limit_to": 1000, "unit": "tokens_per_day"}]));
    house.load(&[], NOW);
    let passed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| (0..500).filter(|_| house.spend(&person("bob@x.io"), 10, NOW).is_ok()).count())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(passed, 100);
}

#[test]
fn a_restart_neither_forgives_nor_invents() {
    let house = House::new();
    house.set(
        LimitKind::Budget,
        json!([{"id": "b", "limit_to": 100, "unit": "tokens_per_day", "budget_applies_per": ["user"]}]),
    );
    let bob = person("bob@x.io");
    // Nobody knows yet what was spent.
    let refusal = house.spend(&bob, 1, NOW).unwrap_err();
    assert!(refusal.message.contains("being read"), "{refusal:?}");
    let yesterday = UnixMillis(NOW.0 - 86_400_000);
    let records = [
        record("user:bob@x.io", 60, UnixMillis(NOW.0 - 1000)),
        record("user:bob@x.io", 1000, yesterday),
        record("user:ada@x.io", 100, UnixMillis(NOW.0 - 1)),
        record("virtualaccount:bot", 100, UnixMillis(NOW.0 - 1)),
        record("nonsense", 100, UnixMillis(NOW.0 - 1)),
        // Counted when it was made, not again.
        record("user:bob@x.io", 40, NOW),
    ];
    house.load(&records, NOW);
    house.load(&records, NOW);
    let used = |of: &str| {
        let levels = house.limits.levels(&house.store.snapshot(), LimitKind::Budget, NOW, 10);
        levels.into_iter().find(|level| level.entity == of).map(|level| level.used)
    };
    assert_eq!((used("user:bob@x.io"), used("user:ada@x.io")), (Some("60".into()), Some("100".into())));
    house.spend(&bob, 40, NOW).unwrap();
    assert!(house.spend(&bob, 1, NOW).unwrap_err().message.contains("100 of 100"));
    assert!(house.spend(&person("ada@x.io"), 1, NOW).is_err());
    // Another limit keeps what is spent; another rule begins with what the records say.
    house.set(
        LimitKind::Budget,
        json!([{"id": "b", "limit_to": 120, "unit": "tokens_per_day", "budget_applies_per": ["user"]}]),
    );
    assert!(house.spend(&bob, 20, NOW).is_ok());
    house.set(LimitKind::Budget, json!([{"id": "c", "limit_to": 100, "unit": "tokens_per_day"}]));
    house.spend(&bob, 0, NOW).unwrap();
    let later = UnixMillis(NOW.0 + 1);
    house.load(&records, later);
    assert_eq!(house.limits.levels(&house.store.snapshot(), LimitKind::Budget, later, 10)[0].used, "260");
    // A scan that breaks off leaves nothing behind.
    house.set(LimitKind::Budget, json!([{"id": "d", "limit_to": 100, "unit": "tokens_per_day"}]));
    let broken = house.limits.load(&house.store.snapshot(), later, |_, sink| {
        sink(&records[0]);
        Err("broken")
    });
    assert_eq!(broken, Err("broken"));
    assert!(house.limits.needs_load(&house.store.snapshot(), later));
    house.load(&records[..1], later);
    assert_eq!(house.limits.levels(&house.store.snapshot(), LimitKind::Budget, later, 10)[0].used, "60");
}

#[test]
fn windows_of_hours_survive_a_restart() {
    let house = House::new();
    house.set(LimitKind::Rate, json!([{"id": "h", "limit_to": 3, "unit": "requests_per_hour"}]));
    let records: Vec<_> = [10, 70, 20]
        .map(|minutes| record("user:bob@x.io", 1, UnixMillis(NOW.0 - minutes * 60_000)))
        .into_iter()
        .collect();
    house.load(&records, NOW);
    assert!(house.spend(&person("bob@x.io"), 1, NOW).is_ok());
    let refusal = house.spend(&person("bob@x.io"), 1, NOW).unwrap_err();
    assert!((2400..=2420).contains(&refusal.retry_after_seconds), "{refusal:?}");
}

#[test]
fn accounting_that_fails_stops_budgets_unless_they_may_go_on() {
    let house = House::new();
    house.set(LimitKind::Budget, json!([{"id": "b", "limit_to": 100, "unit": "tokens_per_day"}]));
    let world = house.store.snapshot();
    let bob = person("bob@x.io");
    let call = |accounting| {
        let facts = || Some((Facts::of_call(&bob, "main/m".into(), &world)?, Estimate::default()));
        house.limits.reserve(&world, facts, |_| None, accounting, NOW)
    };
    assert!(call(Accounting { fails: false, is_needed: false }).is_ok(), "not read yet");
    house.load(&[], NOW);
    assert!(call(READY).is_ok());
    assert!(call(Accounting { fails: true, is_needed: true }).unwrap_err().message.contains("disk"));
    assert!(call(Accounting { fails: true, is_needed: false }).is_ok());
}

#[test]
fn alerts_are_told_once_a_period() {
    let house = House::new();
    house.set(
        LimitKind::Budget,
        json!([{"id": "b", "limit_to": 100, "unit": "tokens_per_day", "alerts": {"thresholds": [50, 90, 100]}}]),
    );
    house.load(&[record("user:bob@x.io", 55, UnixMillis(NOW.0 - 1))], NOW);
    let bob = person("bob@x.io");
    let told = || house.limits.take_alerts().iter().map(|alert| alert.percent).collect::<Vec<_>>();
    house.spend(&bob, 1, NOW).unwrap();
    assert_eq!(told(), [0_u32; 0], "50% was told before the restart");
    house.spend(&bob, 40, NOW).unwrap();
    house.spend(&bob, 1, NOW).unwrap();
    assert_eq!(told(), [90]);
    house.spend(&bob, 3, NOW).unwrap();
    assert_eq!(told(), [100]);
    // Other thresholds, and another limit.
    let set = |limit: u64, thresholds: Value| {
        house.set(
            LimitKind::Budget,
            json!([{"id": "b", "limit_to": limit, "unit": "tokens_per_day", "alerts": {"thresholds": thresholds}, "audit_mode": true}]),
        );
    };
    set(100, json!([80]));
    house.spend(&bob, 1, NOW).unwrap();
    assert_eq!(told(), [0_u32; 0], "100% was told already");
    set(100, json!([80, 110]));
    house.spend(&bob, 10, NOW).unwrap();
    assert_eq!(told(), [110]);
    set(300, json!([50]));
    house.spend(&bob, 20, NOW).unwrap();
    assert_eq!(told(), [0_u32; 0]);
    house.spend(&bob, 30, NOW).unwrap();
    assert_eq!(told(), [50], "half of more than before");
    let tomorrow = UnixMillis(NOW.0 + 86_400_000);
    house.spend(&bob, 200, tomorrow).unwrap();
    assert_eq!(told(), [50]);
    // A rule that is new tells what it finds.
    house.set(
        LimitKind::Budget,
        json!([{"id": "new", "limit_to": 100, "unit": "tokens_per_day", "alerts": {"thresholds": [50]}}]),
    );
    house.spend(&bob, 0, tomorrow).unwrap();
    house.load(&[record("user:bob@x.io", 55, tomorrow)], UnixMillis(tomorrow.0 + 1));
    assert_eq!(told(), [0_u32; 0], "the call came after the rule");
    let later = UnixMillis(tomorrow.0 + 5);
    house.set(
        LimitKind::Budget,
        json!([{"id": "newer", "limit_to": 100, "unit": "tokens_per_day", "alerts": {"thresholds": [50]}}]),
    );
    house.spend(&bob, 0, later).unwrap();
    house.load(&[record("user:bob@x.io", 55, tomorrow)], later);
    assert_eq!(told(), [50]);
}

#[test]
fn money_is_counted_exactly_and_an_unknown_price_is_said() {
    let house = House::new();
    house.set(LimitKind::Budget, json!([{"id": "b", "limit_to": 0.3, "unit": "cost_per_day"}]));
    house.load(&[], NOW);
    let cost = Money::parse("0.1").unwrap();
    for _ in 0..3 {
        let reservation = house.call(&person("bob@x.io"), "main/m", 5, NOW).unwrap();
        reservation.settle(TokenCounts::default(), Some(cost), NOW);
    }
    let refusal = house.call(&person("bob@x.io"), "main/m", 5, NOW).unwrap_err();
    assert!(refusal.message.contains("$0.3 of $0.3"), "{refusal:?}");
    assert!(
        house.limits.metrics_text(&house.store.snapshot(), NOW).contains("gateway_budget_unpriced_total 4")
    );
}

#[test]
fn durations_are_written_as_openai_does() {
    for (ms, text) in
        [(0, "0ms"), (20, "20ms"), (1000, "1s"), (59_001, "1m0s"), (360_000, "6m0s"), (3_723_000, "1h2m3s")]
    {
        assert_eq!(show::go_duration(ms), text);
    }
    assert_eq!(Subject::parse("user:a@x.io").unwrap().to_string(), "user:a@x.io");
}

/// A small generator, so that a test is the same each time.
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

#[test]
fn at_five_thousand_calls_a_second_every_minute_gets_its_limit_within_a_percent() {
    let house = House::new();
    house.set(
        LimitKind::Rate,
        json!([
            {"id": "calls", "when": {"models": ["main/m"]}, "limit_to": 60_000, "unit": "requests_per_minute"},
            {"id": "tokens", "when": {"models": ["main/t"]}, "limit_to": 1_000_000, "unit": "tokens_per_minute"},
        ]),
    );
    let (world, ada) = (house.store.snapshot(), person("ada@x.io"));
    // Tokens are thought to be 25 and turn out to be 20 a second later: 50,000 calls of a minute.
    for (model, used, limit) in [("main/m", 1, 60_000_u64), ("main/t", 20, 1_000_000)] {
        let mut seconds = vec![0_u64; 130];
        let mut under_way = VecDeque::new();
        for number in 0..5_000 * 130_u64 {
            let now = UnixMillis(NOW.0 + number / 5);
            while let Some((ended, _)) = under_way.front()
                && *ended <= now
            {
                let (_, reservation): (UnixMillis, Reservation) = under_way.pop_front().unwrap();
                reservation.settle(TokenCounts { input: 20, ..TokenCounts::default() }, None, now);
            }
            let facts = || {
                let facts = Facts::of_call(&ada, model.to_owned(), &world)?;
                Some((facts, Estimate { input: 15, output: 10 }))
            };
            if let Ok(reservation) = house.limits.reserve(&world, facts, |_| None, READY, now) {
                seconds[usize::try_from(number / 5_000).unwrap()] += used;
                under_way.push_back((UnixMillis(now.0 + 1_000), reservation));
            }
        }
        for (second, minute) in seconds.windows(60).enumerate() {
            let sum: u64 = minute.iter().sum();
            assert!(sum <= limit, "{model}: {sum} in the minute from second {second}");
        }
        // And not less: the first minute, and the next.
        for minute in seconds.chunks_exact(60) {
            let sum: u64 = minute.iter().sum();
            assert!((limit - sum) * 100 <= limit, "{model}: only {sum} of {limit}");
        }
    }
}

#[test]
fn a_budget_is_passed_by_one_reservation_at_most_whatever_runs_at_once() {
    const LARGEST: u64 = 500;
    for start in 1..40_u64 {
        let mut seed = start * 7_919;
        let house = House::new();
        let limit = 1 + next(&mut seed) % 20_000;
        let rule = json!([{"id": "b", "when": {}, "limit_to": limit, "unit": "tokens_per_month"}]);
        house.set(LimitKind::Budget, rule).load(&[], NOW);
        let (ada, mut under_way, mut spent) = (person("ada@x.io"), Vec::new(), 0);
        for number in 0..3_000 {
            let now = UnixMillis(NOW.0 + number);
            if next(&mut seed).is_multiple_of(3) || under_way.len() > 64 {
                if !under_way.is_empty() {
                    let place = usize::try_from(next(&mut seed)).unwrap() % under_way.len();
                    let (reservation, most): (Reservation, u64) = under_way.swap_remove(place);
                    let input = next(&mut seed) % (most + 1);
                    spent += input;
                    reservation.settle(TokenCounts { input, ..TokenCounts::default() }, None, now);
                }
                continue;
            }
            let most = next(&mut seed) % (LARGEST + 1);
            if let Ok(reservation) = house.call(&ada, "main/m", most, now) {
                under_way.push((reservation, most));
            }
            let held: u64 = under_way.iter().map(|(_, most)| most).sum();
            assert!(spent + held <= limit + LARGEST, "{spent} and {held} of {limit}");
        }
        under_way.clear();
        assert!(spent <= limit + LARGEST);
        let world = house.store.snapshot();
        assert_eq!(house.limits.levels(&world, LimitKind::Budget, NOW, 9)[0].used, spent.to_string());
    }
}

#[test]
fn what_a_clock_that_ran_ahead_recorded_is_not_forgiven() {
    let house = House::new();
    house.set(
        LimitKind::Budget,
        json!([{"id": "b", "when": {}, "limit_to": 100, "unit": "tokens_per_quarter"}]),
    );
    let day = 86_400_000;
    house.load(
        &[
            record("user:ada@x.io", 5, UnixMillis(NOW.0 - day)),
            record("user:ada@x.io", 7, UnixMillis(NOW.0 + day)),
            // Counted as they come, and of another quarter.
            record("user:ada@x.io", 11, UnixMillis(NOW.0 + 5)),
            record("user:ada@x.io", 13, UnixMillis(NOW.0 + 200 * day)),
        ],
        NOW,
    );
    let world = house.store.snapshot();
    assert_eq!(house.limits.levels(&world, LimitKind::Budget, NOW, 9)[0].used, "12");
}

//! Two changes at once, each of which takes away what the other relies on.

use std::sync::Barrier;

use serde_json::{Value, json};

use super::{House, LOCAL, account};
use crate::domain::{Owner, TenantRole};
use crate::id::Email;

const ROUNDS: usize = 40;

/// Runs both at the same moment.
fn together(one: impl FnOnce() -> u16 + Send, other: impl FnOnce() -> u16 + Send) -> (u16, u16) {
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            barrier.wait();
            one()
        });
        let second = scope.spawn(|| {
            barrier.wait();
            other()
        });
        (first.join().unwrap(), second.join().unwrap())
    })
}

#[test]
fn two_admins_can_not_demote_each_other() {
    for _ in 0..ROUNDS {
        let house = House::empty();
        for name in ["a", "b"] {
            house.done("POST", "/users/register", json!({"email": format!("{name}@x.io"), "role": "admin"}));
        }
        let demote = |email: &str| {
            house.ask(&LOCAL, "PATCH", "/users/roles", json!({"email": email, "roles": ["tenant-member"]})).0
        };
        let (one, other) = together(|| demote("a@x.io"), || demote("b@x.io"));
        assert!(matches!((one, other), (200, 409) | (409, 200)), "{one} {other}");
        let world = house.manage.store.snapshot();
        assert_eq!(world.users().filter(|user| user.active && user.role == TenantRole::Admin).count(), 1);
    }
}

#[test]
fn no_token_outlives_a_deactivation() {
    for _ in 0..ROUNDS {
        let house = House::furnished();
        let (one, other) = together(
            || house.ask(&LOCAL, "POST", "/tokens", json!({"user": "plain@x.io", "name": "key"})).0,
            || house.ask(&LOCAL, "PATCH", "/users/deactivate", json!({"email": "plain@x.io"})).0,
        );
        assert!(matches!((one, other), (200 | 422, 200)), "{one} {other}");
        let owner = Owner::User(Email::parse("plain@x.io").unwrap());
        let world = house.manage.store.snapshot();
        assert_eq!(world.tokens_of(&owner).filter(|token| token.revoked_at.is_none()).count(), 0);
    }
}

#[test]
fn no_grant_outlives_its_account_or_subject() {
    for _ in 0..ROUNDS {
        let house = House::furnished();
        let grant = |subject: &str, target: &str| {
            house
                .ask(
                    &LOCAL,
                    "POST",
                    "/grants",
                    json!({"subject": subject, "role": "access", "target": target}),
                )
                .0
        };
        let delete = |path: &str| house.ask(&LOCAL, "DELETE", path, Value::Null).0;
        together(|| grant("user:plain@x.io", "main"), || delete("/provider-accounts/main"));
        together(|| grant("user:plain@x.io", "other/gpt"), || delete("/provider-accounts/other/models/gpt"));
        together(|| grant("user:lead@x.io", "other"), || delete("/users/lead@x.io?forceDelete=true"));
        together(|| grant("team:search", "other"), || delete("/teams/search"));
        together(|| grant("virtualaccount:app", "other"), || delete("/virtual-accounts/app"));
        let grants = house.done("GET", "/grants", Value::Null);
        let targets: Vec<(&str, &str)> = grants["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|g| (g["subject"].as_str().unwrap(), g["target"].as_str().unwrap()))
            .collect();
        assert_eq!(targets, [("user:hidden@x.io", "other")]);
    }
}

#[test]
fn nobody_is_in_a_team_after_deletion() {
    for _ in 0..ROUNDS {
        let house = House::furnished();
        let manifest =
            json!({"type": "team", "name": "new", "members": ["plain@x.io"], "managers": ["lead@x.io"]});
        together(
            || house.ask(&LOCAL, "PUT", "/teams", json!({"manifest": manifest})).0,
            || house.ask(&LOCAL, "DELETE", "/users/plain@x.io?forceDelete=true", Value::Null).0,
        );
        together(
            || house.ask(&LOCAL, "POST", "/teams/hidden/members", json!({"email": "lead@x.io"})).0,
            || house.ask(&LOCAL, "DELETE", "/users/lead@x.io?forceDelete=true", Value::Null).0,
        );
        let world = house.manage.store.snapshot();
        for gone in ["plain@x.io", "lead@x.io"] {
            assert!(world.user(gone).is_none());
            assert!(world.teams().all(|team| !team.members.contains(gone) && !team.managers.contains(gone)));
        }
    }
}

#[test]
fn a_rotation_races_itself_once() {
    for _ in 0..ROUNDS {
        let house = House::furnished();
        let (_, id, _) = house.token("plain@x.io", "key");
        let path = format!("/tokens/{id}/rotate");
        let rotate = || house.ask(&LOCAL, "POST", &path, json!({"gracePeriodInMinutes": 5})).0;
        let (one, other) = together(rotate, rotate);
        assert!(matches!((one, other), (200, 409) | (409, 200)), "{one} {other}");
    }
}

#[test]
fn an_account_is_made_once() {
    for _ in 0..ROUNDS {
        let house = House::empty();
        let body = json!({"manifest": account("main")});
        let make = || house.ask(&LOCAL, "POST", "/provider-accounts", body.clone()).0;
        let (one, other) = together(make, make);
        assert!(matches!((one, other), (200, 409) | (409, 200)), "{one} {other}");
    }
}

#[test]
fn nothing_is_done_by_one_who_manages_no_longer() {
    for round in 0..ROUNDS {
        let house = House::furnished();
        let by_team = round % 2 == 1;
        let (who, end) = if by_team {
            house.done(
                "POST",
                "/grants",
                json!({"subject": "team:search", "role": "provider-account-manager", "target": "main"}),
            );
            ("access@x.io", "/teams/search/members/access@x.io")
        } else {
            ("keeper@x.io", "/grants?subject=user:keeper@x.io&role=provider-account-manager&target=main")
        };
        let (_, _, manager) = house.token(who, "key");
        let grant = json!({"subject": "user:plain@x.io", "role": "access", "target": "main/gpt"});
        let path = "/grants?subject=user:plain@x.io&role=provider-account-access&target=main/gpt";
        together(
            || {
                // Until it is over, and it has to be.
                loop {
                    let (made, _) = house.ask(&manager, "POST", "/grants", grant.clone());
                    let (taken, _) = house.ask(&manager, "DELETE", path, Value::Null);
                    if matches!(made, 403 | 404) && matches!(taken, 403 | 404) {
                        break 200;
                    }
                }
            },
            || house.ask(&LOCAL, "DELETE", end, Value::Null).0,
        );
        let log = house.done("GET", "/audit?refused=false&limit=1000", Value::Null);
        let log = log["data"].as_array().unwrap();
        let ended = log.iter().position(|entry| entry["source"] == "socket").unwrap();
        let later = log.iter().take(ended).filter(|entry| entry["actor"] == format!("user:{who}")).count();
        assert_eq!(later, 0, "changes by {who} after they managed no longer, in round {round}");
    }
}

#[test]
fn nothing_is_done_with_a_token_after_its_revocation() {
    for round in 0..ROUNDS {
        let house = House::furnished();
        let (_, id, admin) = house.token("admin@x.io", "key");
        together(
            || {
                (0..)
                    .map(|number| json!({"email": format!("new-{number}@x.io")}))
                    .map(|body| house.ask(&admin, "POST", "/users/register", body).0)
                    .find(|status| *status == 401)
                    .unwrap()
            },
            || house.ask(&LOCAL, "DELETE", &format!("/tokens/{id}"), Value::Null).0,
        );
        let log = house.done("GET", "/audit?limit=1000", Value::Null);
        let log = log["data"].as_array().unwrap();
        assert_eq!(log[0]["action"], "token.revoke", "the last thing, in round {round}: {:?}", log[0]);
    }
}

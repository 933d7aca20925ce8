//! `GET /explain`.

use serde_json::{Value, json};

use super::{House, LOCAL};
use crate::clock::UnixMillis;
use crate::domain::Settings;
use crate::store::{Change, Expect, Object, Write};

fn explain(house: &House, subject: &str, model: &str) -> Value {
    house.done("GET", &format!("/explain?subject={subject}&model={model}"), Value::Null)["data"].clone()
}

#[test]
fn it_says_by_which_grant_or_what_is_missing() {
    let house = House::furnished();
    let by_team = explain(&house, "user:access@x.io", "main/gpt");
    assert_eq!(by_team["allowed"], true);
    assert_eq!(by_team["missing"], Value::Null);
    assert_eq!(by_team["until"], Value::Null);
    let by = json!([{"subject": "team:search", "role": "provider-account-access", "target": "main", "source": "direct"}]);
    assert_eq!(by_team["grants"], by);
    // Every grant on the way is named, and those on other accounts and models are not.
    for target in ["main/gpt", "main/org/small", "other"] {
        let grant = json!({"subject": "team:everyone", "role": "provider-account-access", "target": target});
        house.done("POST", "/grants", grant);
    }
    let both = explain(&house, "user:access@x.io", "main/gpt");
    let subjects: Vec<_> = both["grants"].as_array().unwrap().iter().map(|grant| &grant["subject"]).collect();
    assert_eq!(subjects, ["team:search", "team:everyone"]);
    assert_eq!(explain(&house, "user:admin@x.io", "other/gpt")["asAdmin"], true);
    assert_eq!(
        explain(&house, "virtualaccount:app", "main/gpt")["grants"][0]["source"],
        "manifest virtual-account/app"
    );
    assert_eq!(explain(&house, "team:search", "main/gpt")["allowed"], true);

    for (subject, model, missing) in [
        ("user:nobody@x.io", "main/gpt", "no such subject"),
        ("team:nobody", "main/gpt", "no such subject"),
        ("virtualaccount:nobody", "main/gpt", "no such subject"),
        ("user:access@x.io", "main/none", "no such model"),
        ("user:access@x.io", "none/gpt", "no such model"),
        ("user:admin@x.io", "main/none", "no such model"),
        ("virtualaccount:app", "other/gpt", "no grant covers the model"),
        ("team:hidden", "main/org/small", "no grant covers the model"),
    ] {
        let found = explain(&house, subject, model);
        assert_eq!(
            (&found["allowed"], &found["missing"]),
            (&json!(false), &json!(missing)),
            "{subject} {model}"
        );
    }
    house.done("PATCH", "/users/deactivate", json!({"email": "keeper@x.io"}));
    let former = explain(&house, "user:keeper@x.io", "main/gpt");
    assert_eq!((&former["allowed"], &former["missing"]), (&json!(false), &json!("the user is deactivated")));

    house.refused(422, "GET", "/explain?subject=keeper&model=main/gpt", Value::Null);
    house.refused(422, "GET", "/explain?subject=user:keeper@x.io&model=main", Value::Null);
    house.refused(400, "GET", "/explain?model=main/gpt", Value::Null);
}

#[test]
fn the_answer_is_what_happens_to_a_call() {
    use crate::authz;
    let house = House::furnished();
    let world = house.manage.store.snapshot();
    for (name, subject) in [
        ("plain@x.io", "user:plain@x.io"),
        ("access@x.io", "user:access@x.io"),
        ("keeper@x.io", "user:keeper@x.io"),
        ("hidden@x.io", "user:hidden@x.io"),
        ("admin@x.io", "user:admin@x.io"),
        ("app", "virtualaccount:app"),
    ] {
        let (_, _, principal) = house.token(name, "key");
        for account in ["main", "other"] {
            for model in ["gpt", "org/small"] {
                let found = explain(&house, subject, &format!("{account}/{model}"));
                assert_eq!(
                    found["allowed"],
                    authz::may_use(&principal, account, model, &world),
                    "{subject} {account}/{model}"
                );
            }
        }
    }
}

#[test]
fn it_ends_with_the_first_that_ends() {
    let house = House::furnished();
    let day = |days: u64| UnixMillis(UnixMillis::now().0 + days * 86_400_000).to_iso();
    let (account_end, token_end) = (day(10), day(5));
    let manifest = json!({
        "type": "virtual-account", "name": "app", "expiration_date": account_end,
        "permissions": [super::permission("main")],
    });
    house.done("PUT", "/virtual-accounts", json!({"manifest": manifest}));
    assert_eq!(explain(&house, "virtualaccount:app", "main/gpt")["until"], account_end.as_str());
    let body = json!({"virtualAccount": "app", "name": "short", "expirationDate": token_end});
    let token = house.done("POST", "/tokens", body);
    let id = token["data"]["id"].as_str().unwrap();
    let path = format!("/explain?subject=virtualaccount:app&model=main/gpt&token={id}");
    assert_eq!(house.done("GET", &path, Value::Null)["data"]["until"], token_end.as_str());
    // It must be a token of the subject's.
    let other = format!("/explain?subject=user:access@x.io&model=main/gpt&token={id}");
    house.refused(404, "GET", &other, Value::Null);

    // The tenant's bound on personal tokens counts.
    let (_, id, _) = house.token("access@x.io", "key");
    let path = format!("/explain?subject=user:access@x.io&model=main/gpt&token={id}");
    assert_eq!(house.done("GET", &path, Value::Null)["data"]["until"], Value::Null);
    let settings = Settings { pat_max_validity_days: Some(3), ..Settings::default() };
    let writes = vec![Write::Put(Object::Settings(settings), Expect::Absent)];
    house.manage.store.commit(Change { writes, audit: Vec::new() }).unwrap();
    let until = house.done("GET", &path, Value::Null)["data"]["until"].as_str().unwrap().to_owned();
    assert!(day(2) < until && until <= day(3), "{until}");
}

#[test]
fn it_is_for_those_whom_it_concerns() {
    let house = House::furnished();
    let people = ["keeper", "access", "plain"].map(|who| house.token(&format!("{who}@x.io"), "key").2);
    let ask = |who: &str, subject: &str, model: &str| {
        let person = people.iter().find(|person| person.name().starts_with(who)).unwrap();
        house.ask(person, "GET", &format!("/explain?subject={subject}&model={model}"), Value::Null)
    };
    assert_eq!(ask("keeper", "user:plain@x.io", "main/gpt").1["data"]["allowed"], false);
    assert_eq!(ask("access", "user:access@x.io", "main/gpt").1["data"]["allowed"], true);
    assert_eq!(ask("access", "user:keeper@x.io", "main/gpt").0, 403);
    // A model that is not to be seen, and one that is not there, in the same words.
    let (status, hidden) = ask("plain", "user:plain@x.io", "main/gpt");
    let (_, absent) = ask("plain", "user:plain@x.io", "none/gpt");
    assert_eq!(status, 404);
    let words = |answer: &Value, model: &str| answer["message"].as_str().unwrap().replace(model, "MODEL");
    assert_eq!(words(&hidden, "main/gpt"), words(&absent, "none/gpt"));
    assert_eq!(
        house.ask(&LOCAL, "GET", "/explain?subject=user:plain@x.io&model=main/gpt", Value::Null).0,
        200
    );
}

//! The ways in: invitations, passwords, sessions and their ends.

use serde_json::{Value, json};

use super::{House, LOCAL, Shown, Visitor};
use crate::clock::UnixMillis;
use crate::console::{Console, SessionLimits};
use crate::store::AuditFilter;

const PASSWORD: &str = "correct horse battery";

fn invite(house: &House, email: &str) -> String {
    house.done("POST", "/users/invite", json!({"email": email}))["link"].as_str().unwrap().to_owned()
}

fn fields_of(link: &str) -> (String, String) {
    let (_, query) = link.split_once('?').unwrap();
    let fields = crate::console::form::Fields::parse(query).unwrap();
    (fields.text("email").to_owned(), fields.text("code").to_owned())
}

fn accept(visitor: &mut Visitor, link: &str, password: &str, again: &str) -> Shown {
    let page = visitor.get(link);
    if page.status != 200 {
        return page;
    }
    let (email, code) = fields_of(link);
    let fields = [
        ("form-token", page.form_token()),
        ("email", email),
        ("code", code),
        ("password", password.to_owned()),
        ("password-again", again.to_owned()),
    ];
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    visitor.send("POST", "/invitation", &fields)
}

fn sign_in(visitor: &mut Visitor, email: &str, password: &str) -> Shown {
    let form_token = visitor.get("/sign-in").form_token();
    visitor.send("POST", "/sign-in", &[("form-token", &form_token), ("email", email), ("password", password)])
}

fn actions(house: &House) -> Vec<String> {
    let page =
        house.manage.audit_entries(&LOCAL, AuditFilter { limit: 100, ..AuditFilter::default() }).unwrap();
    page.entries.iter().map(|(_, entry)| entry.action.clone()).collect()
}

#[test]
fn an_invitation_works_once_and_gives_a_password() {
    let (house, console) = (House::furnished(), Console::default());
    let first = invite(&house, "plain@x.io");
    let link = invite(&house, "plain@x.io");
    let mut visitor = Visitor::new(&house, &console);
    assert_eq!(accept(&mut visitor, &first, PASSWORD, PASSWORD).status, 410, "a later one ends it");
    assert_eq!(accept(&mut visitor, &link.replace("plain", "access"), PASSWORD, PASSWORD).status, 410);
    assert_eq!(accept(&mut visitor, &link[..link.len() - 1], PASSWORD, PASSWORD).status, 410);
    for (password, again, why) in [
        ("short", "short", "at least 12 characters"),
        ("aaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaa", "harder to guess"),
        (PASSWORD, "correct horse batterx", "not the same"),
    ] {
        let shown = accept(&mut visitor, &link, password, again);
        assert_eq!(shown.status, 422, "{password}");
        assert!(shown.text.contains(why), "{}", shown.text);
        assert!(!shown.text.contains(password), "a password is sent back");
    }
    let shown = accept(&mut visitor, &link, PASSWORD, PASSWORD);
    assert_eq!((shown.status, shown.line("location")), (303, Some("/")));
    assert!(visitor.get("/").text.contains("plain@x.io"));
    assert_eq!(accept(&mut Visitor::new(&house, &console), &link, PASSWORD, PASSWORD).status, 410);
    let mut other = Visitor::new(&house, &console);
    assert_eq!(sign_in(&mut other, " PLAIN@x.io ", PASSWORD).status, 303);
    assert_eq!(other.get("/").status, 200);
    let kept = actions(&house);
    for action in ["user.invite", "user.accept-invitation", "session.create"] {
        assert!(kept.iter().any(|one| one == action), "{action} is not in {kept:?}");
    }
}

#[test]
fn an_unknown_person_is_told_what_a_wrong_password_is() {
    let (house, console) = (House::furnished(), Console::default());
    let mut visitor = Visitor::new(&house, &console);
    accept(&mut visitor, &invite(&house, "plain@x.io"), PASSWORD, PASSWORD);
    let mut stranger = Visitor::new(&house, &console);
    let texts: Vec<(u16, String)> = ["plain@x.io", "nobody@x.io", "access@x.io"]
        .iter()
        .map(|email| {
            let shown = sign_in(&mut stranger, email, "wrong password here");
            (shown.status, shown.text.replace(email, "EMAIL"))
        })
        .collect();
    assert_eq!(texts[0].0, 422);
    assert_eq!(texts[0], texts[1]);
    assert_eq!(texts[0], texts[2], "one without a password");
    assert_eq!(sign_in(&mut stranger, "<script>alert(1)</script>", "x").status, 422);
}

#[test]
fn guessing_takes_longer_and_locks_no_owner_out() {
    let (house, console) = (House::furnished(), Console::default());
    let mut owner = Visitor::new(&house, &console);
    accept(&mut owner, &invite(&house, "plain@x.io"), PASSWORD, PASSWORD);
    let mut stranger = Visitor::new(&house, &console);
    for _ in 0..5 {
        assert_eq!(sign_in(&mut stranger, "plain@x.io", "wrong password here").status, 422);
    }
    let shown = sign_in(&mut stranger, "plain@x.io", PASSWORD);
    assert_eq!(shown.status, 429, "even the right one waits");
    assert_eq!(shown.line("retry-after"), Some("1"));
    // The owner's browser is known.
    owner.cookies.retain(|(name, _)| name == "gateway-device");
    assert_eq!(owner.cookies.len(), 1);
    assert_eq!(sign_in(&mut owner, "plain@x.io", PASSWORD).status, 303);
    // A forged cookie of one is not.
    let forged = format!("{}.{}", "0".repeat(64), "0".repeat(64));
    stranger.cookies.push(("gateway-device".into(), forged));
    assert_eq!(sign_in(&mut stranger, "plain@x.io", PASSWORD).status, 429);
}

#[test]
fn deactivation_ends_sessions_invitation_and_password() {
    let (house, console) = (House::furnished(), Console::default());
    let mut visitor = Visitor::new(&house, &console);
    accept(&mut visitor, &invite(&house, "plain@x.io"), PASSWORD, PASSWORD);
    let link = invite(&house, "plain@x.io");
    assert_eq!(visitor.get("/").status, 200);
    house.done("PATCH", "/users/deactivate", json!({"email": "plain@x.io"}));
    assert_eq!(visitor.get("/").status, 303);
    house.refused(409, "POST", "/users/invite", json!({"email": "plain@x.io"}));
    house.done("PATCH", "/users/activate", json!({"email": "plain@x.io"}));
    assert_eq!(visitor.get("/").status, 303, "what was ended stays ended");
    assert_eq!(sign_in(&mut Visitor::new(&house, &console), "plain@x.io", PASSWORD).status, 422);
    assert_eq!(accept(&mut Visitor::new(&house, &console), &link, PASSWORD, PASSWORD).status, 410);
}

#[test]
fn who_has_a_password_makes_tokens_and_who_has_a_token_does_not() {
    let (house, console) = (House::furnished(), Console::default());
    let mut visitor = Visitor::new(&house, &console);
    accept(&mut visitor, &invite(&house, "plain@x.io"), PASSWORD, PASSWORD);
    let principal = |visitor: &Visitor| {
        let (_, cookie) = visitor.cookies.iter().find(|(name, _)| name == "gateway-session").unwrap();
        let world = house.manage.store.snapshot();
        crate::authn::authenticate_session(cookie, &world, UnixMillis::now()).unwrap()
    };
    let body = json!({"user": "plain@x.io", "name": "mine"});
    assert_eq!(house.ask(&principal(&visitor), "POST", "/tokens", body.clone()).0, 200);
    let of_token = Visitor::signed_in(&house, &console, "plain@x.io");
    let body = json!({"user": "plain@x.io", "name": "another"});
    assert_eq!(house.ask(&principal(&of_token), "POST", "/tokens", body).0, 403);
}

#[test]
fn sessions_are_listed_and_ended() {
    let (house, console) = (House::furnished(), Console::default());
    let mut first = Visitor::new(&house, &console);
    accept(&mut first, &invite(&house, "plain@x.io"), PASSWORD, PASSWORD);
    let mut second =
        Visitor { agent: "<b>Evil</b>\r\n\u{202e}".repeat(40), ..Visitor::new(&house, &console) };
    assert_eq!(sign_in(&mut second, "plain@x.io", PASSWORD).status, 303);
    let list = first.get("/sessions");
    assert_eq!(list.text.matches("/end\">End<").count(), 2, "{}", list.text);
    assert!(list.text.contains("&lt;b&gt;Evil") && !list.text.contains("<b>"), "{}", list.text);
    let stranger_sees = Visitor::signed_in(&house, &console, "access@x.io").get("/sessions");
    assert!(!stranger_sees.text.contains("Evil"));
    let id = |page: &Shown, at: usize| {
        page.text
            .split("/sessions/")
            .filter_map(|rest| rest.split_once("/end\""))
            .map(|(id, _)| id.to_owned())
            .filter(|id| id.len() == 12)
            .nth(at)
            .unwrap()
    };
    let ids = [id(&list, 0), id(&list, 1)];
    let mut stranger = Visitor::signed_in(&house, &console, "access@x.io");
    for id in &ids {
        assert_eq!(stranger.get(&format!("/sessions/{id}/end")).status, 404);
        assert_eq!(stranger.post(&format!("/sessions/{id}/end"), &[]).status, 404);
    }
    assert_eq!(first.get("/sessions/others/end").status, 200);
    let shown = first.post("/sessions/others/end", &[]);
    assert_eq!(shown.line("location"), Some("/sessions"), "{}", shown.text);
    assert!(first.get("/sessions").text.contains("1 sessions were ended"));
    assert!(!first.get("/sessions").text.contains("were ended"), "a message is said once");
    assert_eq!(second.get("/").status, 303);
    assert_eq!(first.post("/sessions/aaaaaaaaaaaa/end", &[]).status, 404);
    assert_eq!(first.get("/sessions/%00/end").status, 404);
}

#[test]
fn a_password_is_changed_by_who_knows_it() {
    let (house, console) = (House::furnished(), Console::default());
    let mut visitor = Visitor::new(&house, &console);
    accept(&mut visitor, &invite(&house, "plain@x.io"), PASSWORD, PASSWORD);
    let mut other = Visitor::new(&house, &console);
    sign_in(&mut other, "plain@x.io", PASSWORD);
    let change = |visitor: &mut Visitor, old: &str, new: &str| {
        visitor.post("/password", &[("old-password", old), ("password", new), ("password-again", new)])
    };
    let next = "another horse battery";
    assert_eq!(change(&mut visitor, "wrong password here", next).status, 422);
    assert_eq!(change(&mut visitor, PASSWORD, "short").status, 422);
    assert_eq!(change(&mut visitor, PASSWORD, next).status, 303);
    assert_eq!(visitor.get("/").status, 200);
    assert_eq!(other.get("/").status, 303, "the other sessions end");
    assert_eq!(sign_in(&mut other, "plain@x.io", PASSWORD).status, 422);
    assert_eq!(sign_in(&mut other, "plain@x.io", next).status, 303);
    let mut of_token = Visitor::signed_in(&house, &console, "plain@x.io");
    assert_eq!(change(&mut of_token, next, PASSWORD).status, 403);
    assert!(of_token.get("/password").text.contains("began with a token"));
}

#[test]
fn sessions_end_idle_or_not() {
    let house = House::furnished();
    let limits = SessionLimits::default();
    let idle = Console::new(SessionLimits { idle_ms: 0, ..limits });
    let mut visitor = Visitor::signed_in(&house, &idle, "plain@x.io");
    let long = Console::new(SessionLimits { longest_ms: 0, ..limits });
    let mut other = Visitor::signed_in(&house, &long, "plain@x.io");
    let now = UnixMillis::now();
    while UnixMillis::now() <= now {
        std::hint::spin_loop();
    }
    assert_eq!(visitor.get("/").status, 303, "it idled");
    assert_eq!(other.get("/").status, 303, "its time is over");
    house.manage.prune_sessions(UnixMillis::now());
    assert_eq!(house.manage.store.snapshot().sessions().count(), 1);
    let patient = Console::default();
    let mut visitor = Visitor { console: &patient, ..visitor };
    assert_eq!(visitor.get("/").status, 200);
}

#[test]
fn one_user_has_so_many_sessions_and_the_oldest_gives_way() {
    let (house, console) = (House::furnished(), Console::default());
    let (token, _, _) = house.token("plain@x.io", "laptop");
    let mut visitors: Vec<Visitor> = (0..22).map(|_| Visitor::new(&house, &console)).collect();
    for visitor in &mut visitors {
        assert_eq!(visitor.sign_in(&token).status, 303);
    }
    assert_eq!(house.manage.store.snapshot().sessions().count(), 20);
    assert_eq!(visitors[21].get("/").status, 200);
    house.done("DELETE", "/users/plain@x.io", Value::Null);
    assert_eq!(house.manage.store.snapshot().sessions().count(), 0);
    assert_eq!(visitors[21].get("/").status, 303);
}

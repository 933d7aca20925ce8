//! What keeps strangers and other sites out.

use super::{House, Shown, Visitor};
use crate::console::{Console, security};

fn guarded(shown: &Shown) {
    let policy = shown.line("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    for wanted in ["script-src 'self'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'"] {
        assert!(policy.contains(wanted), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    for (name, value) in security::LINES {
        assert_eq!(shown.line(name), Some(value));
    }
}

#[test]
fn who_is_signed_out_gets_the_way_in_and_nothing_else() {
    let (house, console) = (House::furnished(), Console::default());
    let mut visitor = Visitor::new(&house, &console);
    for (path, next) in [("/", "%2F"), ("/tokens?page=2", "%2Ftokens%3Fpage%3D2"), ("/nothing", "%2Fnothing")]
    {
        let shown = visitor.get(path);
        guarded(&shown);
        assert_eq!(
            (shown.status, shown.line("location")),
            (303, Some(format!("/sign-in?next={next}").as_str()))
        );
    }
    let shown = visitor.send("POST", "/tokens", &[("form-token", "x")]);
    assert_eq!((shown.status, shown.line("location")), (303, Some("/sign-in?next=%2F")));
    let shown = visitor.get("/sign-in?next=//evil.example");
    guarded(&shown);
    assert_eq!(shown.line("cache-control"), Some("no-store"));
    assert!(!shown.text.contains("evil"), "{}", shown.text);
}

#[test]
fn one_signs_in_with_a_token_and_out_again() {
    let (house, console) = (House::furnished(), Console::default());
    let (token, id, _) = house.token("plain@x.io", "laptop");
    let mut visitor = Visitor::new(&house, &console);
    for wrong in ["", "tfy_pat_x", &token[..token.len() - 1], &house.token("app", "vat").0] {
        let shown = visitor.sign_in(wrong);
        guarded(&shown);
        assert_eq!(shown.status, 422, "{wrong}");
        assert!(!shown.text.contains("tfy_pat_x") && !shown.text.contains(&token));
    }
    let planted = "0".repeat(64);
    visitor.cookies.push(("gateway-session".into(), planted.clone()));
    let shown = visitor.sign_in(&token);
    assert_eq!((shown.status, shown.line("location")), (303, Some("/")));
    let cookie = shown.line("set-cookie").unwrap();
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict"), "{cookie}");
    assert!(!cookie.contains(&planted), "a planted session was taken over");
    let page = visitor.get("/");
    guarded(&page);
    assert!(page.text.contains("plain@x.io"));
    let kept = visitor.cookies.clone();
    assert_eq!(visitor.post("/sign-out", &[]).status, 303);
    assert!(visitor.cookies.iter().all(|(name, _)| name != "gateway-session"));
    visitor.cookies = kept;
    assert_eq!(visitor.get("/").status, 303, "a signed-out session goes on");
    // A session dies with the token that it was made with.
    visitor.cookies.clear();
    visitor.sign_in(&token);
    assert_eq!(visitor.get("/").status, 200);
    house.done("DELETE", &format!("/tokens/{id}"), serde_json::Value::Null);
    assert_eq!(visitor.get("/").status, 303);
}

#[test]
fn under_tls_cookies_are_for_tls_and_this_host_alone() {
    let (house, console) = (House::furnished(), Console::default());
    let (token, _, _) = house.token("plain@x.io", "laptop");
    let mut visitor = Visitor { is_secure: true, ..Visitor::new(&house, &console) };
    let cookie = visitor.sign_in(&token).line("set-cookie").unwrap().to_owned();
    assert!(cookie.starts_with("__Host-gateway-session="), "{cookie}");
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict; Secure"), "{cookie}");
    assert!(visitor.get("/").text.contains("https://gateway.test/v1"));
}

#[test]
fn a_form_of_elsewhere_is_refused() {
    let (house, console) = (House::furnished(), Console::default());
    let mut visitor = Visitor::signed_in(&house, &console, "plain@x.io");
    let right = visitor.get("/").form_token();
    for wrong in ["", "0", &right[1..], &security::form_token("another")] {
        let shown = visitor.send("POST", "/sign-out", &[("form-token", wrong)]);
        guarded(&shown);
        assert_eq!(shown.status, 403, "{wrong}");
    }
    assert_eq!(visitor.send("POST", "/sign-out", &[]).status, 403);
    for (origin, site) in [
        (Some("https://evil.example"), None),
        (Some("null"), None),
        (Some("http://gateway.test.evil.example"), None),
        (Some("http://gateway.test"), Some("cross-site")),
        (None, Some("same-site")),
        (None, Some("none")),
    ] {
        visitor.origin = origin.map(str::to_owned);
        visitor.fetch_site = site.map(str::to_owned);
        let shown = visitor.send("POST", "/sign-out", &[("form-token", &right)]);
        assert_eq!(shown.status, 403, "{origin:?} {site:?}");
    }
    visitor.origin = Some("http://gateway.test".into());
    visitor.fetch_site = Some("same-origin".into());
    assert_eq!(visitor.send("POST", "/sign-out", &[("form-token", &right)]).status, 303);
}

#[test]
fn other_methods_and_paths_are_refused_in_a_page() {
    let (house, console) = (House::furnished(), Console::default());
    let mut visitor = Visitor::signed_in(&house, &console, "plain@x.io");
    let shown = visitor.get("/nothing");
    guarded(&shown);
    assert_eq!(shown.status, 404);
    for (method, path, allow) in [
        ("PUT", "/", "GET, HEAD, POST"),
        ("DELETE", "/tokens", "GET, HEAD, POST"),
        ("GET", "/sign-out", "POST"),
    ] {
        let shown = visitor.send(method, path, &[]);
        assert_eq!((shown.status, shown.line("allow")), (405, Some(allow)), "{method} {path}");
    }
    assert_eq!(visitor.post("/", &[]).status, 405);
    assert_eq!(visitor.get("/?q=%ff").status, 400);
}

#[test]
fn page_and_assets_are_small_and_assets_are_kept() {
    let (house, console) = (House::furnished(), Console::default());
    let mut visitor = Visitor::signed_in(&house, &console, "admin@x.io");
    let page = visitor.get("/");
    let mut total = page.text.len();
    for (before, path) in page.text.match_indices("/assets/").map(|(at, _)| page.text.split_at(at)) {
        let path = path.split('"').next().unwrap();
        if before.contains(path) {
            continue;
        }
        let asset = visitor.get(path);
        guarded(&asset);
        assert_eq!(asset.status, 200, "{path}");
        assert_eq!(asset.line("cache-control"), Some("public, max-age=31536000, immutable"));
        total += asset.text.len();
    }
    assert!((10_000..60 * 1024).contains(&total), "{total} bytes");
    assert_eq!(visitor.get("/assets/style-000000000000.css").status, 404);
}

//! Pages, asked for in memory as the server does.

mod entrance;
mod guards;
mod models;
mod people;

use std::net::IpAddr;

use serde_json::json;

use super::{Console, Request, Response, device_cookie, guest_cookie, session_cookie};
use crate::api::tests::{House, LOCAL};

/// A browser without a network: it keeps cookies and sends forms.
pub struct Visitor<'a> {
    pub house: &'a House,
    pub console: &'a Console,
    pub cookies: Vec<(String, String)>,
    pub is_secure: bool,
    /// What the browser says of where a form comes from.
    pub origin: Option<String>,
    pub fetch_site: Option<String>,
    pub agent: String,
    pub address: Option<IpAddr>,
}

/// An answer, read.
#[derive(Debug)]
pub struct Shown {
    pub status: u16,
    pub lines: Vec<(&'static str, String)>,
    pub text: String,
}

impl Shown {
    pub fn line(&self, name: &str) -> Option<&str> {
        self.lines.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }

    /// The token that the first form of the page carries.
    pub fn form_token(&self) -> String {
        let (_, rest) = self.text.split_once("name=\"form-token\" value=\"").expect("a form");
        rest.split('"').next().unwrap().to_owned()
    }
}

impl<'a> Visitor<'a> {
    pub fn new(house: &'a House, console: &'a Console) -> Self {
        Self {
            house,
            console,
            cookies: Vec::new(),
            is_secure: false,
            origin: None,
            fetch_site: None,
            agent: "Browser/1".into(),
            address: None,
        }
    }

    /// One who has signed in with a new token of a user of [`House::furnished`], such as `admin@x.io`.
    pub fn signed_in(house: &'a House, console: &'a Console, email: &str) -> Self {
        let mut visitor = Self::new(house, console);
        let name = format!("console-{}", house.manage.store.snapshot().revision());
        let (token, _, _) = house.token(email, &name);
        let shown = visitor.sign_in(&token);
        assert_eq!(shown.status, 303, "{}", shown.text);
        visitor
    }

    pub fn sign_in(&mut self, token: &str) -> Shown {
        let form_token = self.get("/sign-in").form_token();
        self.send("POST", "/sign-in", &[("form-token", &form_token), ("token", token)])
    }

    pub fn get(&mut self, path: &str) -> Shown {
        self.send("GET", path, &[])
    }

    /// Sends a form with the right token.
    pub fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Shown {
        let form_token = self.get("/").form_token();
        let mut all = vec![("form-token", form_token.as_str())];
        all.extend_from_slice(fields);
        self.send("POST", path, &all)
    }

    /// Sends just that.
    pub fn send(&mut self, method: &str, target: &str, fields: &[(&str, &str)]) -> Shown {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let body = super::Fields::of(fields).query_with(&[]);
        let cookie =
            |name: &str| self.cookies.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let device = cookie(device_cookie(self.is_secure));
        let (session, guest) = (cookie(session_cookie(self.is_secure)), cookie(guest_cookie(self.is_secure)));
        let response = self.console.handle(
            &self.house.manage,
            &Request {
                method,
                path,
                query,
                body: body.trim_start_matches('?').as_bytes(),
                host: "gateway.test",
                is_secure: self.is_secure,
                origin: self.origin.as_deref(),
                fetch_site: self.fetch_site.as_deref(),
                session: session.as_deref(),
                guest: guest.as_deref(),
                device: device.as_deref(),
                agent: &self.agent,
                address: self.address,
            },
        );
        self.keep_cookies(&response);
        let text = String::from_utf8(response.body).unwrap();
        assert!(!text.contains("style=\"") && !text.contains(" onclick"), "inline code in {target}: {text}");
        Shown { status: response.status, lines: response.lines, text }
    }

    fn keep_cookies(&mut self, response: &Response) {
        for (_, line) in response.lines.iter().filter(|(name, _)| *name == "set-cookie") {
            let (name, rest) = line.split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            self.cookies.retain(|(key, _)| key != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
    }
}

#[test]
fn every_page_of_the_navigation_is_there() {
    let (house, console) = (House::furnished(), Console::default());
    let mut admin = Visitor::signed_in(&house, &console, "admin@x.io");
    let home = admin.get("/");
    assert_eq!(home.status, 200);
    let (_, navigation) = home.text.split_once("<nav class=\"wide\"").unwrap();
    let navigation = navigation.split("</nav>").next().unwrap();
    let paths: Vec<String> =
        navigation.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect();
    assert_eq!(paths.len(), 7, "{paths:?}");
    for path in paths {
        let page = admin.get(&path);
        assert_eq!(page.status, 200, "{path}: {}", page.text);
        assert!(page.text.contains("aria-current=\"page\""), "{path}");
    }
}

#[test]
fn home_shows_ones_own_models_and_what_is_missing() {
    let (house, console) = (House::furnished(), Console::default());
    let page = Visitor::signed_in(&house, &console, "access@x.io").get("/");
    assert!(page.text.contains("http://gateway.test/v1"), "{}", page.text);
    assert!(page.text.contains("&quot;main/gpt&quot;"), "{}", page.text);
    assert!(!page.text.contains("other/"), "{}", page.text);
    assert!(!page.text.contains("/people"), "a member sees what is for administrators");
    let page = Visitor::signed_in(&house, &console, "plain@x.io").get("/");
    assert!(page.text.contains("Ask an administrator for access"), "{}", page.text);
}

#[test]
fn tokens_are_searched_sorted_and_paged() {
    let (house, console) = (House::furnished(), Console::default());
    let mut visitor = Visitor::signed_in(&house, &console, "plain@x.io");
    for number in 0..60 {
        house.done("POST", "/tokens", json!({"user": "plain@x.io", "name": format!("laptop-{number:02}")}));
    }
    let first = visitor.get("/tokens?sort=name&q=LAPTOP");
    assert!(first.text.contains("1\u{2013}50 of 60"), "{}", first.text);
    assert!(first.text.contains("laptop-00") && !first.text.contains("laptop-50"));
    assert!(first.text.contains("aria-sort=\"ascending\""));
    let second = visitor.get("/tokens?sort=-name&q=laptop&page=2");
    assert!(second.text.contains("laptop-09") && !second.text.contains("laptop-10"), "{}", second.text);
    let beyond = visitor.get("/tokens?page=999999999999999999999&sort=nothing");
    assert_eq!(beyond.status, 200);
    let none = visitor.get("/tokens?q=%3Cscript%3Ealert(1)%3C/script%3E");
    assert!(none.text.contains("&lt;script&gt;") && !none.text.contains("<script>alert"), "{}", none.text);
}

//! A browser as far as the console goes: it keeps cookies, follows nothing by itself, and sends forms.

use std::net::SocketAddr;

use super::client::{Client, Response};

/// One browser.
pub struct Browser {
    /// The gateway.
    pub addr: SocketAddr,
    /// What it keeps, name and value.
    pub cookies: Vec<(String, String)>,
}

impl Browser {
    /// A fresh one.
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr, cookies: Vec::new() }
    }

    /// One that signed in with a personal access token.
    pub fn signed_in(addr: SocketAddr, token: &str) -> Self {
        let mut browser = Self::new(addr);
        let form_token = form_token(&browser.get("/sign-in"));
        let answer = browser.send("/sign-in", &[("form-token", &form_token), ("token", token)]);
        assert_eq!(answer.status, 303, "{}", answer.text());
        browser
    }

    /// Asks for a page.
    pub fn get(&mut self, path: &str) -> Response {
        self.exchange("GET", path, "", "")
    }

    /// Sends a form to a path, with the token of the form that the page at `from` shows.
    pub fn submit(&mut self, from: &str, path: &str, fields: &[(&str, &str)]) -> Response {
        let form_token = form_token(&self.get(from));
        let mut all = vec![("form-token", form_token.as_str())];
        all.extend_from_slice(fields);
        self.send(path, &all)
    }

    /// Sends just these fields.
    pub fn send(&mut self, path: &str, fields: &[(&str, &str)]) -> Response {
        let pairs: Vec<String> =
            fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        let form = "content-type: application/x-www-form-urlencoded\r\n";
        self.exchange("POST", path, form, &pairs.join("&"))
    }

    /// Sends a request with more header lines (each with its line end) and keeps the cookies of the answer.
    pub fn exchange(&mut self, method: &str, path: &str, lines: &str, body: &str) -> Response {
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookies = match cookies.as_slice() {
            [] => String::new(),
            some => format!("cookie: {}\r\n", some.join("; ")),
        };
        let length =
            if method == "GET" { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        let mut client = Client::connect(self.addr);
        client.send(
            format!(
                "{method} {path} HTTP/1.1\r\nhost: {}\r\naccept: text/html\r\n{cookies}{lines}{length}\r\n{body}",
                self.addr
            )
            .as_bytes(),
        );
        let answer = client.read_response();
        for (name, line) in &answer.head.headers {
            if name == "set-cookie" {
                let (name, rest) = line.split_once('=').unwrap();
                let value = rest.split(';').next().unwrap();
                self.cookies.retain(|(kept, _)| kept != name);
                if !value.is_empty() {
                    self.cookies.push((name.to_owned(), value.to_owned()));
                }
            }
        }
        answer
    }
}

/// The token that the first form of a page carries.
pub fn form_token(page: &Response) -> String {
    let text = page.text();
    let (_, rest) =
        text.split_once("name=\"form-token\" value=\"").unwrap_or_else(|| panic!("no form in {text}"));
    rest.split('"').next().unwrap().to_owned()
}

fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

//! The web console: pages around `manage`, which decides everything. It can do nothing that the API can not.
//!
//! **To add a page**: write `fn show(visit: &Visit) -> Answer` in a file of `pages/`; add a row to that file's
//! `ROUTES` (`Route::new("/things/{id}", &[("GET", show), ("POST", change)])`); a new file is named in `pages/mod.rs`, and
//! what belongs into the navigation in `layout.rs`. A `GET` ends in `Page::new("Title", html! { ... }).into()`, with the
//! parts of `parts.rs` and `table.rs`. A `POST` calls one function of `visit.manage` and ends in
//! `visit.go("/things", "The thing was made")`; a failure that the one who filled the form can mend shows the form again:
//! `Err(failure) => form_page(visit, Some(mendable(failure)?))`, every other one goes up with `?` and gets a page of its
//! own with the status that the API gives. The token of the form, the audit entry of a refusal and all headers are
//! the dispatcher's work. Paths are made with `form::encode`. Tests: `tests::Visitor` asks for pages in memory,
//! `tests/support/browser.rs` from a running gateway.

mod assets;
mod attempts;
mod entrance;
mod form;
mod layout;
mod pages;
mod parts;
mod security;
mod session;
mod table;
mod visit;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use maud::html;

use crate::api::{Rest, match_path};
use crate::clock::UnixMillis;
use crate::domain::Principal;
use crate::failure::Failure;
use crate::manage::{Attempt, Manage};
use crate::usage::offload::Offload;

use attempts::Attempts;
use session::{Flashes, Session};
use visit::{Page, Reply, Rights, Visit};

pub use entrance::{device_cookie, guest_cookie, session_cookie};
pub use form::{Fields, MAX_FORM_BYTES, cookie};
pub use pages::models::{ASK, question};
pub use session::SessionLimits;

/// What a handler answers.
type Answer = Result<Reply, Failure>;

/// The handler of a page.
type Handler = fn(&Visit) -> Answer;

/// A path and what answers there, by method: `GET` or `POST`.
struct Route {
    path: &'static str,
    methods: &'static [(&'static str, Handler)],
}

impl Route {
    const fn new(path: &'static str, methods: &'static [(&'static str, Handler)]) -> Self {
        Self { path, methods }
    }
}

/// A request, its body in full.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// `GET`, `HEAD` or `POST`.
    pub method: &'a str,
    /// The full path, percent-encoded, without the query.
    pub path: &'a str,
    /// What stands after the question mark.
    pub query: &'a str,
    /// A form, or empty.
    pub body: &'a [u8],
    /// The `Host` header.
    pub host: &'a str,
    /// The caller came over TLS, here or at a trusted proxy.
    pub is_secure: bool,
    /// The `Origin` header.
    pub origin: Option<&'a str>,
    /// The `Sec-Fetch-Site` header.
    pub fetch_site: Option<&'a str>,
    /// The session's cookie, see [`session_cookie`].
    pub session: Option<&'a str>,
    /// The cookie of the sign-in form, see [`guest_cookie`].
    pub guest: Option<&'a str>,
    /// The cookie of a browser in which somebody signed in before, see [`device_cookie`].
    pub device: Option<&'a str>,
    /// The `User-Agent` header.
    pub agent: &'a str,
    /// Where the caller is.
    pub address: Option<IpAddr>,
}

/// An answer.
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Header lines, without those of the framing.
    pub lines: Vec<(&'static str, String)>,
    /// The body, or its beginning.
    pub body: Vec<u8>,
    /// More of the body, and who gets it.
    pub rest: Option<(Rest, Principal)>,
    /// Who asked, for the log.
    pub subject: Option<String>,
}

/// The console's own state.
#[derive(Debug, Default)]
pub struct Console {
    limits: SessionLimits,
    flashes: Flashes,
    attempts: Attempts,
    /// Passwords are hashed one after the other: 19 MiB at a time, and the other cores stay with the callers.
    hashing: Offload,
}

/// Whether a path belongs to the console: one that does not is for the error of the model API, unless a browser asks.
pub fn knows(path: &str) -> bool {
    path.starts_with("/assets/")
        || matches!(path, "/sign-out" | ASK)
        || entrance::PUBLIC.contains(&path)
        || route_of(path).is_some()
}

fn route_of(path: &str) -> Option<(&'static Route, Vec<&str>)> {
    let routes = pages::ALL.iter().flat_map(|routes| routes.iter());
    routes.into_iter().find_map(|route| Some((route, match_path(route.path, path)?)))
}

/// Whether whoever is not signed in may send a form there.
pub fn is_public(path: &str) -> bool {
    entrance::PUBLIC.contains(&path)
}

impl Console {
    /// A console whose sessions last so long.
    pub fn new(limits: SessionLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Whether a request may send a body: nobody unknown gets one buffered but the forms of the way in.
    pub fn takes_body(&self, manage: &Manage, request: &Request) -> bool {
        (is_public(request.path) && request.method == "POST" && request.guest.is_some())
            || self.visitor(manage, request).is_some()
    }

    fn visitor(&self, manage: &Manage, request: &Request) -> Option<Session> {
        session::find(manage, request.session?, self.limits, UnixMillis::now())
    }

    /// Who asks a model in the playground. The form token stands in a form, or in the header `x-form-token` of a request
    /// that the script sends.
    ///
    /// # Errors
    /// When nobody is signed in, or the request comes from elsewhere.
    pub fn player(&self, manage: &Manage, request: &Request, form_token: &str) -> Result<Principal, Failure> {
        security::check_origin(request)?;
        let session = self.visitor(manage, request).ok_or(Failure::Unauthenticated)?;
        security::check_form_token(form_token, &security::form_token(request.session.unwrap_or_default()))?;
        Ok(session.principal)
    }

    /// Answers one request.
    pub fn handle(&self, manage: &Manage, request: &Request) -> Response {
        if let Some(asset) = assets::find(request.path) {
            return asset_response(asset, request);
        }
        let session = self.visitor(manage, request);
        let principal = session.as_ref().map(|session| session.principal.clone());
        let mut response = match self.dispatch(manage, session.as_ref(), request) {
            Ok(response) => response,
            Err(failure) => failed(manage, principal.as_ref(), &failure),
        };
        response.subject = principal.map(|principal| principal.subject_text());
        response
    }

    fn dispatch(
        &self,
        manage: &Manage,
        session: Option<&Session>,
        request: &Request,
    ) -> Result<Response, Failure> {
        let is_post = request.method == "POST";
        if !matches!(request.method, "GET" | "HEAD" | "POST") {
            return Err(Failure::MethodNotAllowed { allow: "GET, HEAD, POST" });
        }
        if is_post {
            security::check_origin(request)?;
        }
        let query = Fields::parse(request.query)?;
        let body = std::str::from_utf8(request.body)
            .map_err(|_| Failure::BadRequest("The form is not UTF-8".into()))?;
        let form = Fields::parse(body)?;
        match request.path {
            path if entrance::PUBLIC.contains(&path) => {
                return self.entrance(manage, session, request, &query, &form);
            }
            "/sign-out" if !is_post => return Err(Failure::MethodNotAllowed { allow: "POST" }),
            "/sign-out" if session.is_none() => return Ok(see("/sign-in")),
            _ => {}
        }
        let (Some(session), Some(secret)) = (session, request.session) else {
            let next = if is_post { "/".to_owned() } else { with_query(request) };
            return Ok(see(&format!("/sign-in?next={}", form::encode(&next))));
        };
        let form_token = security::form_token(secret);
        if is_post {
            security::check_form_token(form.raw("form-token"), &form_token)?;
        }
        if request.path == "/sign-out" {
            return self.sign_out(manage, session, request);
        }
        let unknown = || Failure::NotFound("There is no such page".into());
        let (route, raw_parameters) = route_of(request.path).ok_or_else(unknown)?;
        let wanted = if is_post { "POST" } else { "GET" };
        let handler = route.methods.iter().find(|(method, _)| *method == wanted);
        let (_, handler) =
            handler.ok_or(Failure::MethodNotAllowed { allow: if is_post { "GET, HEAD" } else { "POST" } })?;
        let parameters: Option<_> = raw_parameters.iter().map(|raw| form::decode(raw, false)).collect();
        let base_url = base_url(request);
        let visit = Visit {
            manage,
            console: self,
            principal: &session.principal,
            session,
            form_token: &form_token,
            path: request.path,
            parameters: parameters.ok_or_else(unknown)?,
            query: &query,
            form: &form,
            base_url: &base_url,
            now: UnixMillis::now(),
            rights: Rights::of(manage, &session.principal),
        };
        let refused = |failure: &Failure| attempt_refused(&visit, route, is_post, failure);
        match handler(&visit).inspect_err(refused) {
            Err(failure) => {
                let page = failure_page(&failure);
                Ok(whole(&visit, &page, &failure))
            }
            Ok(Reply::Page(page)) => {
                page.failure.as_ref().inspect(|failure| refused(failure));
                let flash = self.flashes.take(&session.id);
                let status = page.failure.as_ref().map_or(200, Failure::status);
                Ok(html_response(status, layout::page(&visit, &page, flash.as_ref())))
            }
            Ok(Reply::Go { to, flash }) => {
                flash.into_iter().for_each(|flash| self.flashes.leave(&session.id, flash));
                Ok(see(&to))
            }
            Ok(Reply::File(file)) => {
                let mut response = html_response(200, file.first);
                response.lines.retain(|(name, _)| *name != "content-type");
                response.lines.push(("content-type", file.content_type.to_owned()));
                let name: String =
                    file.name.chars().filter(|c| c.is_ascii_alphanumeric() || "-._".contains(*c)).collect();
                response.lines.push(("content-disposition", format!("attachment; filename=\"{name}\"")));
                response.rest = file.rest.map(|rest| (rest, session.principal.clone()));
                Ok(response)
            }
        }
    }
}

/// The page of a failure, in the layout of the one who is signed in.
fn whole(visit: &Visit, page: &Page, failure: &Failure) -> Response {
    if matches!(failure, Failure::Unauthenticated) {
        // The session, or the token behind it, ended while it was used.
        return see("/sign-in");
    }
    let mut response = html_response(failure.status(), layout::page(visit, page, None));
    add_failure_lines(&mut response, failure);
    response
}

fn with_query(request: &Request) -> String {
    match request.query {
        "" => request.path.to_owned(),
        query => format!("{}?{query}", request.path),
    }
}

/// Where callers reach the gateway, as the browser does.
fn base_url(request: &Request) -> String {
    let is_plain = |host: &str| {
        !host.is_empty()
            && host.len() <= 255
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".:-[]_".contains(&b))
    };
    let scheme = if request.is_secure { "https" } else { "http" };
    let host = if is_plain(request.host) { request.host } else { "localhost" };
    format!("{scheme}://{host}")
}

fn security_lines() -> Vec<(&'static str, String)> {
    security::LINES.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

fn html_response(status: u16, body: String) -> Response {
    let mut lines = security_lines();
    lines.push(("content-type", "text/html; charset=utf-8".to_owned()));
    lines.push(("cache-control", "no-store".to_owned()));
    Response { status, lines, body: body.into_bytes(), rest: None, subject: None }
}

/// `303 See Other`.
fn see(path: &str) -> Response {
    let mut response = html_response(303, String::new());
    response.lines.push(("location", path.to_owned()));
    response
}

fn asset_response(asset: &assets::Asset, request: &Request) -> Response {
    if !matches!(request.method, "GET" | "HEAD") {
        let mut response = html_response(405, String::new());
        response.lines.push(("allow", "GET, HEAD".to_owned()));
        return response;
    }
    let mut lines = security_lines();
    lines.push(("content-type", asset.content_type.to_owned()));
    lines.push(("cache-control", "public, max-age=31536000, immutable".to_owned()));
    Response { status: 200, lines, body: asset.bytes.to_vec(), rest: None, subject: None }
}

fn failure_page(failure: &Failure) -> Page {
    let title = match failure.status() {
        403 => "Not allowed",
        404 => "Not found",
        405 => "That does not work here",
        409 => "Changed meanwhile",
        410 => "No longer there",
        429 => "Too many attempts",
        400 | 422 => "Refused",
        503 => "Busy",
        _ => "Something went wrong",
    };
    Page::new(
        title,
        html! {
            div.message.error role="alert" { (failure.message()) }
            p { a href="/" { "Home" } }
        },
    )
}

/// A failure where no page of somebody who is signed in can be shown.
fn failed(manage: &Manage, principal: Option<&Principal>, failure: &Failure) -> Response {
    let page = failure_page(failure);
    let body = html! {
        (page.body)
        @if principal.is_none() { p { a href="/sign-in" { "Sign in" } } }
    };
    let mut response = html_response(failure.status(), layout::bare(&manage.tenant, &page.title, &body));
    add_failure_lines(&mut response, failure);
    response
}

fn add_failure_lines(response: &mut Response, failure: &Failure) {
    match failure {
        Failure::MethodNotAllowed { allow } => response.lines.push(("allow", (*allow).to_owned())),
        Failure::Unavailable(_) => response.lines.push(("retry-after", "1".to_owned())),
        Failure::LimitReached(refusal) => {
            response.lines.push(("retry-after", refusal.retry_after_seconds.to_string()));
        }
        _ => {}
    }
}

/// Keeps a refused attempt at a change, as the API does.
fn attempt_refused(visit: &Visit, route: &Route, is_post: bool, failure: &Failure) {
    if !is_post {
        return;
    }
    let named: Vec<&str> = route
        .path
        .split('/')
        .zip(visit.path.split('/'))
        .filter(|(want, _)| !want.is_empty())
        // Somebody will put a token where only its id belongs.
        .map(|(_, given)| if given.contains("tfy") || given.contains('%') { "***" } else { given })
        .collect();
    let attempt = Attempt {
        action: &format!("POST {}", route.path),
        kind: route.path.trim_start_matches('/'),
        resource: &named.join("/"),
    };
    visit.manage.attempt_refused(visit.principal, attempt, failure);
}

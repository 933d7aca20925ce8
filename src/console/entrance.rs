//! The ways in and out: a token, a password, an invitation. What is slow runs on a thread of its own.

use maud::Markup;

use super::attempts::Counted;
use super::form::{Fields, encode};
use super::session::{Session, random_secret};
use super::{Console, Request, Response, add_failure_lines, html_response, layout, pages, security, see};
use crate::clock::monotonic_ms;
use crate::domain::{Login, PasswordHash};
use crate::failure::Failure;
use crate::manage::{Manage, NewSession};
use crate::password;
use crate::secret::Secret;
use crate::usage::offload::OffloadError;

/// How long a browser is known as one in which somebody signed in.
const DEVICE_SECONDS: u64 = 400 * 86_400;

/// The name of the session's cookie. With the prefix `__Host-` browsers take it over TLS and from this very host only.
pub fn session_cookie(is_secure: bool) -> &'static str {
    if is_secure { "__Host-gateway-session" } else { "gateway-session" }
}

/// The name of the cookie that the sign-in form is bound to, where there is no session yet.
pub fn guest_cookie(is_secure: bool) -> &'static str {
    if is_secure { "__Host-gateway-guest" } else { "gateway-guest" }
}

/// The name of the cookie of a browser in which somebody signed in with a password: their failures are counted apart.
pub fn device_cookie(is_secure: bool) -> &'static str {
    if is_secure { "__Host-gateway-device" } else { "gateway-device" }
}

/// A cookie that script can not read and that no other site's requests carry; an empty value removes it. It ends
/// with the browser; how long the session itself lives is decided here.
pub fn set_cookie(name: &str, value: &str, request: &Request) -> String {
    let secure = if request.is_secure { "; Secure" } else { "" };
    let age = if value.is_empty() { "; Max-Age=0" } else { "" };
    format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{age}")
}

/// Paths that answer without a session.
pub const PUBLIC: &[&str] = &["/sign-in", "/invitation"];

impl Console {
    /// What a session that begins now is like.
    pub(super) fn new_session(&self, request: &Request) -> NewSession {
        NewSession { agent: request.agent.to_owned(), longest_ms: self.limits.longest_ms }
    }

    /// Hashes a new password, off the workers.
    ///
    /// # Errors
    /// When too many wait already.
    pub(super) fn hash(&self, password: &Secret) -> Result<PasswordHash, Failure> {
        let password = password.clone();
        self.hashing.run(move || password::hash(&password)).map_err(crowded)?.ok_or(Failure::Internal)
    }

    /// Whether a password is the one of a login; without a login it takes as long.
    ///
    /// # Errors
    /// When too many wait already.
    pub(super) fn proves(&self, password: &Secret, login: Option<&Login>) -> Result<bool, Failure> {
        let (password, wanted) = (password.clone(), login.and_then(|login| login.password.clone()));
        self.hashing.run(move || password::matches(&password, wanted.as_ref())).map_err(crowded)
    }

    /// A browser that has just signed in: whatever session it had ends, nobody's is carried on as somebody else's.
    pub(super) fn welcome(
        &self,
        manage: &Manage,
        request: &Request,
        cookie: &Secret,
        next: &str,
    ) -> Response {
        self.leave(manage, request);
        let mut response = see(next);
        let session = set_cookie(session_cookie(request.is_secure), cookie.expose(), request);
        response.lines.push(("set-cookie", session));
        response.lines.push(("set-cookie", set_cookie(guest_cookie(request.is_secure), "", request)));
        response
    }

    /// Ends the session of a browser, when it has one.
    fn leave(&self, manage: &Manage, request: &Request) {
        let Some(session) = self.visitor(manage, request) else { return };
        if let Err(failure) = manage.end_session(&session.principal, session.id.as_str()) {
            log::debug!("a session was not ended: {}", failure.message());
        }
    }

    /// Signs out.
    ///
    /// # Errors
    /// When the end of the session can not be written: then it goes on, and the browser keeps its cookie.
    pub(super) fn sign_out(
        &self,
        manage: &Manage,
        session: &Session,
        request: &Request,
    ) -> Result<Response, Failure> {
        manage.end_session(&session.principal, session.id.as_str())?;
        let mut response = see("/sign-in");
        response.lines.push(("set-cookie", set_cookie(session_cookie(request.is_secure), "", request)));
        Ok(response)
    }

    /// The paths of [`PUBLIC`].
    pub(super) fn entrance(
        &self,
        manage: &Manage,
        session: Option<&Session>,
        request: &Request,
        query: &Fields,
        form: &Fields,
    ) -> Result<Response, Failure> {
        let is_post = request.method == "POST";
        if is_post {
            let Some(guest) = request.guest else {
                return Err(Failure::Forbidden(
                    "Your browser sent no cookie; allow cookies for this site, and open the page again"
                        .into(),
                ));
            };
            security::check_form_token(form.raw("form-token"), &security::form_token(guest))?;
        }
        match (request.path, is_post) {
            ("/invitation", false) => self.invitation(manage, request, query, None),
            ("/invitation", true) => self.accept(manage, request, form),
            (_, false) if session.is_some() => Ok(see(next_of(query))),
            (_, false) => self.sign_in_page(manage, request, query, form, None),
            (_, true) => match self.sign_in(manage, request, query, form) {
                Err(failure) if matches!(failure.status(), 422 | 429 | 503) => {
                    self.sign_in_page(manage, request, query, form, Some(&failure))
                }
                other => other,
            },
        }
    }

    fn sign_in(
        &self,
        manage: &Manage,
        request: &Request,
        query: &Fields,
        form: &Fields,
    ) -> Result<Response, Failure> {
        let new = self.new_session(request);
        let address = request.address.map(Counted::address);
        if let Some(token) = form.filled("token") {
            let counted: Vec<Counted> = address.into_iter().collect();
            self.attempts.begin(&counted, monotonic_ms())?;
            let cookie = manage.sign_in_with_token(token, &new).map_err(|failure| match failure {
                Failure::Unauthenticated => Failure::Unprocessable(
                    "This token does not work: it is unknown, revoked, expired, or no personal access token"
                        .into(),
                ),
                other => self.unseen(&counted, other),
            })?;
            self.attempts.succeeded(&counted);
            return Ok(self.welcome(manage, request, &cookie, next_of(query)));
        }
        let email = form.text("email").to_lowercase();
        let device = known_device(manage, request, &email);
        // Behind a proxy or a NAT many share an address: whoever guesses there must not lock a known browser out.
        let address = address.filter(|_| device.is_none());
        let counted: Vec<Counted> = [Counted::account(&email, device)].into_iter().chain(address).collect();
        self.attempts.begin(&counted, monotonic_ms())?;
        let wrong = || Failure::Unprocessable("The email or the password is wrong".into());
        let login = manage.password_of(&email);
        let password = Secret::new(form.raw("password").to_owned());
        let proven = self.proves(&password, login.as_deref());
        let is_right = proven.map_err(|failure| self.unseen(&counted, failure))?;
        let login = login.filter(|_| is_right).ok_or_else(wrong)?;
        let cookie = manage.sign_in_with_password(&login, &new).map_err(|failure| match failure {
            Failure::Unauthenticated => wrong(),
            other => self.unseen(&counted, other),
        })?;
        self.attempts.succeeded(&counted);
        let mut response = self.welcome(manage, request, &cookie, next_of(query));
        remember_device(manage, request, &email, &mut response)?;
        Ok(response)
    }

    /// Takes an attempt back that was not looked at, and says why it was not.
    pub(super) fn unseen(&self, counted: &[Counted], failure: Failure) -> Failure {
        if failure.status() == 503 {
            self.attempts.withdrawn(counted);
        }
        failure
    }

    fn sign_in_page(
        &self,
        manage: &Manage,
        request: &Request,
        query: &Fields,
        form: &Fields,
        failure: Option<&Failure>,
    ) -> Result<Response, Failure> {
        let show =
            |form_token: &str| pages::sign_in::form(form_token, next_of(query), form.text("email"), failure);
        self.guest_page(manage, request, "Sign in", failure, show)
    }

    /// A page with a form for somebody who is not signed in.
    pub(super) fn guest_page(
        &self,
        manage: &Manage,
        request: &Request,
        title: &str,
        failure: Option<&Failure>,
        show: impl Fn(&str) -> Markup,
    ) -> Result<Response, Failure> {
        let guest = match request.guest {
            Some(guest) if guest.len() == 64 => Secret::new(guest.to_owned()),
            _ => random_secret()?,
        };
        let body = show(&security::form_token(guest.expose()));
        let status = failure.map_or(200, Failure::status);
        let mut response = html_response(status, layout::bare(&manage.tenant, title, &body));
        let cookie = set_cookie(guest_cookie(request.is_secure), guest.expose(), request);
        response.lines.push(("set-cookie", cookie));
        failure.inspect(|failure| add_failure_lines(&mut response, failure));
        Ok(response)
    }

    fn invitation(
        &self,
        manage: &Manage,
        request: &Request,
        fields: &Fields,
        failure: Option<&Failure>,
    ) -> Result<Response, Failure> {
        let (email, code) = (fields.text("email"), fields.text("code"));
        if !manage.is_invited(email, code) {
            return Err(Failure::Gone(
                "This invitation was used already, or is over; ask an administrator for another one".into(),
            ));
        }
        let show = |form_token: &str| pages::sign_in::choose(form_token, email, code, failure);
        self.guest_page(manage, request, "Choose a password", failure, show)
    }

    fn accept(&self, manage: &Manage, request: &Request, form: &Fields) -> Result<Response, Failure> {
        let (email, code) = (form.text("email"), form.text("code"));
        if !manage.is_invited(email, code) {
            return self.invitation(manage, request, form, None);
        }
        let password = match new_password(form, email) {
            Ok(password) => password,
            Err(failure) => return self.invitation(manage, request, form, Some(&failure)),
        };
        let hash = self.hash(&password)?;
        let cookie = manage.accept_invitation(email, code, &hash, &self.new_session(request))?;
        let mut response = self.welcome(manage, request, &cookie, "/");
        remember_device(manage, request, email, &mut response)?;
        Ok(response)
    }
}

/// The new password of a form, which stands there twice.
///
/// # Errors
/// What is wrong with it.
pub fn new_password(form: &Fields, email: &str) -> Result<Secret, Failure> {
    let password = Secret::new(form.raw("password").to_owned());
    password::check_new(password.expose(), email).map_err(|text| Failure::Unprocessable(text.into()))?;
    if form.raw("password-again") != password.expose() {
        return Err(Failure::Unprocessable("The two passwords are not the same".into()));
    }
    Ok(password)
}

fn crowded(error: OffloadError) -> Failure {
    match error {
        OffloadError::Busy => Failure::Unavailable("Too many people sign in at once; try again".into()),
        OffloadError::Failed => Failure::Internal,
    }
}

fn next_of(query: &Fields) -> &str {
    security::local_path(query.text("next")).unwrap_or("/")
}

/// What proves that a browser's cookie was given by this gateway, for an account.
fn device_proof(manage: &Manage, email: &str, device: &str) -> blake3::Hash {
    let key = blake3::derive_key("gateway 2026 console device v1", manage.store.master_key().audit_key());
    blake3::keyed_hash(&key, format!("{}\0{device}", encode(email)).as_bytes())
}

/// The id of a browser in which this account signed in before.
fn known_device<'r>(manage: &Manage, request: &Request<'r>, email: &str) -> Option<&'r str> {
    let (device, proof) = request.device?.split_once('.')?;
    let proof = blake3::Hash::from_hex(proof).ok()?;
    // `blake3::Hash` compares in constant time.
    (device.len() == 64 && proof == device_proof(manage, email, device)).then_some(device)
}

fn remember_device(
    manage: &Manage,
    request: &Request,
    email: &str,
    response: &mut Response,
) -> Result<(), Failure> {
    let device = random_secret()?;
    let proof = device_proof(manage, email, device.expose()).to_hex();
    let cookie =
        set_cookie(device_cookie(request.is_secure), &format!("{}.{proof}", device.expose()), request);
    response.lines.push(("set-cookie", format!("{cookie}; Max-Age={DEVICE_SECONDS}")));
    Ok(())
}

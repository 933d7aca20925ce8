//! What a page is asked with, and what it answers.

use maud::Markup;

use super::Console;
use super::form::Fields;
use super::session::{Flash, Session};
use crate::api::Rest;
use crate::authz;
use crate::clock::UnixMillis;
use crate::domain::{Principal, Role};
use crate::failure::Failure;
use crate::manage::Manage;

/// A request for a page by someone who is signed in.
pub struct Visit<'a> {
    /// The operations; the only way to anything.
    pub manage: &'a Manage,
    /// The console itself, for what is its own: sessions and passwords.
    pub console: &'a Console,
    /// Who is signed in, as the present state has them.
    pub principal: &'a Principal,
    /// Their session.
    pub session: &'a Session,
    /// What every form carries; [`super::parts::form`] puts it there.
    pub form_token: &'a str,
    /// The path, without the query.
    pub path: &'a str,
    /// The decoded parameters of the path.
    pub parameters: Vec<String>,
    /// What stands after the question mark.
    pub query: &'a Fields,
    /// The form, for `POST`; its token is checked already.
    pub form: &'a Fields,
    /// Where callers reach this gateway, such as `https://llm.example.com`, without a slash at its end.
    pub base_url: &'a str,
    /// The present time.
    pub now: UnixMillis,
    /// What to show of the navigation.
    pub rights: Rights,
}

/// What somebody may do, coarsely: enough for the navigation. The operations decide, not this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Everything.
    pub is_admin: bool,
    /// Manages at least one provider account.
    pub manages_accounts: bool,
    /// Manages at least one team.
    pub manages_teams: bool,
}

impl Rights {
    /// Of a principal in the present state.
    pub fn of(manage: &Manage, principal: &Principal) -> Self {
        if authz::is_admin(principal) {
            return Self { is_admin: true, manages_accounts: true, manages_teams: true };
        }
        let Principal::User { user, .. } = principal else { return Self::default() };
        let world = manage.store.snapshot();
        let manages = |subject| world.grants_of(&subject).iter().any(|grant| grant.role == Role::Manager);
        Self {
            is_admin: false,
            manages_accounts: authz::subjects_of(&user.email, &world).any(manages),
            manages_teams: world.teams().any(|team| authz::may_manage_team(principal, team)),
        }
    }
}

impl Visit<'_> {
    /// The path's first parameter.
    pub fn id(&self) -> &str {
        self.parameters.first().map_or("", String::as_str)
    }

    /// The path's second parameter.
    pub fn second_id(&self) -> &str {
        self.parameters.get(1).map_or("", String::as_str)
    }

    /// The email of the one who is signed in.
    pub fn email(&self) -> &str {
        match self.principal {
            Principal::User { user, .. } => user.email.as_str(),
            _ => "",
        }
    }

    /// Goes on to another page after a change, which then says what was done.
    pub fn go(&self, to: impl Into<String>, said: impl Into<String>) -> Result<Reply, Failure> {
        let flash = Flash { text: said.into(), is_error: false };
        Ok(Reply::Go { to: to.into(), flash: Some(flash) })
    }
}

/// An answer.
pub enum Reply {
    /// A page.
    Page(Page),
    /// See there (303).
    Go {
        /// A path of this console.
        to: String,
        /// What the next page says on top.
        flash: Option<Flash>,
    },
    /// A file to keep.
    File(Download),
}

/// A file to keep, such as an export.
pub struct Download {
    /// For `Content-Type`.
    pub content_type: &'static str,
    /// What browsers call it; plain letters, digits, dots and hyphens.
    pub name: String,
    /// All of it, or its beginning.
    pub first: String,
    /// How it goes on.
    pub rest: Option<Rest>,
}

/// What a page shows.
pub struct Page {
    /// In the heading and in the browser's tab.
    pub title: String,
    /// Below the heading.
    pub body: Markup,
    /// Buttons beside the heading.
    pub actions: Option<Markup>,
    /// The way here: path and title of each page above.
    pub crumbs: Vec<(String, String)>,
    /// Why the form of this page was refused: shown on top, and the status of the answer.
    pub failure: Option<Failure>,
}

impl Page {
    /// A page.
    pub fn new(title: impl Into<String>, body: Markup) -> Self {
        Self { title: title.into(), body, actions: None, crumbs: Vec::new(), failure: None }
    }

    /// With a page above it.
    #[must_use]
    pub fn below(mut self, path: impl Into<String>, title: impl Into<String>) -> Self {
        self.crumbs.push((path.into(), title.into()));
        self
    }

    /// With buttons beside the heading.
    #[must_use]
    pub fn actions(mut self, actions: Markup) -> Self {
        self.actions = Some(actions);
        self
    }

    /// With the reason why its form was refused, when it was.
    #[must_use]
    pub fn refused(mut self, failure: Option<Failure>) -> Self {
        self.failure = failure;
        self
    }
}

impl From<Page> for Reply {
    fn from(page: Page) -> Self {
        Self::Page(page)
    }
}

/// A page as the answer of a handler.
impl From<Page> for Result<Reply, Failure> {
    fn from(page: Page) -> Self {
        Ok(Reply::Page(page))
    }
}

/// Sorts failures: those that the one who filled a form can mend there are given back, to be shown above the form
/// (`Page::refused`); the others are errors, and get a page of their own.
///
/// # Errors
/// When a form shows nothing that would help.
pub fn mendable(failure: Failure) -> Result<Failure, Failure> {
    match failure.status() {
        400 | 409 | 422 => Ok(failure),
        _ => Err(failure),
    }
}

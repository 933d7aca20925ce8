//! Administrative operations, each authorized, audited and committed in one place, whoever calls.
//!
//! Every operation has the same shape: look at one state, authorize against that state, check, build one
//! [`draft::Draft`] (writes, guards, audit entry), commit. When another change got in between, the whole
//! operation is run again on the new state, authorization included, so nothing is decided on stale grounds.

mod access_diff;
mod account;
mod account_settings;
mod apply;
mod audit;
mod backup;
mod build;
mod build_account;
mod catalogue;
mod clock;
mod collaborator;
mod destination;
mod directory;
mod draft;
mod explain;
mod grant;
mod limits;
mod password;
mod personal_token;
mod request_log;
mod rotation;
mod session;
mod settings;
mod team;
mod token;
mod usage;
mod user;
mod virtual_account;
mod virtual_token;

pub use access_diff::{AccessDiff, AccessLine};
pub use account::{AccountChange, AccountView, OfferedModel};
pub use apply::{Applied, Effect, MAX_DOCUMENTS, Manner, Outcome, Shown};
pub use audit::{Attempt, AuditDesk, AuditVerdict};
pub use backup::{Backup, BackupDesk};
pub use catalogue::CatalogueView;
pub use collaborator::SharedResource;
pub use directory::{HeldRole, Membership, TEAM_MANAGER, VirtualAccountFilter};
pub use explain::Missing;
pub use grant::GrantFilter;
pub use limits::SupposedCall;
pub use request_log::BodiesView;
pub use session::NewSession;
pub use settings::SettingsChange;
pub use token::{Minted, NewToken, TokenOwner, TokenView, Validity};
pub use user::NewUser;
pub use virtual_account::VirtualAccountView;

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use crate::authn;
use crate::authz::{self, Action, Decision, Resource};
use crate::clock::UnixMillis;
use crate::domain::Principal;
use crate::failure::Failure;
use crate::id::InvalidName;
use crate::limits::Limits;
use crate::request_log::RequestLogReader;
use crate::store::{Change, CommitError, Key, Store, World};
use crate::usage::UsageReader;

use draft::Draft;

/// How often an operation is run when others change the same objects meanwhile.
const ATTEMPTS: usize = 4;

/// Free text, in bytes.
const MAX_TEXT_BYTES: usize = 4096;

/// Tags of one object.
const MAX_TAGS: usize = 64;

/// The administrative operations on one store.
pub struct Manage {
    /// The state.
    pub store: Arc<Store>,
    /// The tenant's name, as it stands in FQNs.
    pub tenant: String,
    /// Whether this is a demo: only then are there `demo` accounts.
    pub demo: bool,
    /// Whether accounts may use the AWS credentials of this machine.
    pub aws_machine_credentials: bool,
    /// Sums of what was used.
    pub usage: Arc<dyn UsageReader>,
    /// Bodies of calls.
    pub request_log: Arc<dyn RequestLogReader>,
    /// How far budgets are used.
    pub limits: Arc<Limits>,
    /// Refused attempts on their way to the audit log.
    pub audit: AuditDesk,
    /// Backups under way.
    pub backups: BackupDesk,
    /// Changes are only tried: what they would do to access is kept here, and nothing is done.
    pub trial: Option<Mutex<AccessDiff>>,
}

/// A part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// At most so many items.
    pub limit: usize,
    /// Items left out before them.
    pub offset: usize,
}

/// The items of one page, and how many there are in all.
#[derive(Debug)]
pub struct Listing<T> {
    /// The page's items.
    pub items: Vec<T>,
    /// All that the caller may see.
    pub total: usize,
}

impl Page {
    /// Cuts the page out of all items. Only the page's own are kept.
    fn cut<T>(self, all: impl Iterator<Item = T>) -> Listing<T> {
        let mut items = Vec::new();
        let mut total = 0;
        for item in all {
            if total >= self.offset && items.len() < self.limit {
                items.push(item);
            }
            total += 1;
        }
        Listing { items, total }
    }
}

/// One look at the state: what an operation decides on.
struct View {
    world: Arc<World>,
    principal: Principal,
    now: UnixMillis,
}

impl View {
    /// Whether the caller may do that, in this state.
    fn may(&self, action: Action, resource: Resource<'_>) -> bool {
        authz::decide(&self.principal, action, resource, &self.world) == Decision::Allow
    }

    fn require_admin(&self) -> Result<(), Failure> {
        if authz::is_admin(&self.principal) {
            Ok(())
        } else {
            Err(Failure::Forbidden("Only administrators may do this".into()))
        }
    }
}

impl Manage {
    /// Looks at the present state as a principal. Virtual accounts use models and manage nothing.
    fn view(&self, principal: &Principal) -> Result<View, Failure> {
        let world = self.store.snapshot();
        let now = UnixMillis::now();
        let principal = match principal {
            Principal::LocalAdministrator { .. } => principal.clone(),
            Principal::VirtualAccount { .. } => {
                return Err(Failure::Forbidden("Virtual accounts use models; they manage nothing".into()));
            }
            Principal::User { .. } => {
                authn::still_valid(principal, &world, now).ok_or(Failure::Unauthenticated)?
            }
        };
        Ok(View { world, principal, now })
    }

    /// Who the caller is in the present state. The one thing that a virtual account may ask.
    ///
    /// # Errors
    /// When the token has ended meanwhile.
    pub fn session(&self, principal: &Principal) -> Result<Principal, Failure> {
        match principal {
            Principal::LocalAdministrator { .. } => Ok(principal.clone()),
            _ => authn::still_valid(principal, &self.store.snapshot(), UnixMillis::now())
                .ok_or(Failure::Unauthenticated),
        }
    }

    /// Refuses virtual accounts, before anything of the request is looked at. The operations check again.
    ///
    /// # Errors
    /// When the caller is one, or its token has ended meanwhile.
    pub fn require_person(&self, principal: &Principal) -> Result<(), Failure> {
        self.view(principal).map(|_| ())
    }

    /// Refuses everyone but administrators, before a body is looked at. The operations check again.
    ///
    /// # Errors
    /// When the caller is none.
    pub fn require_admin(&self, principal: &Principal) -> Result<(), Failure> {
        self.view(principal)?.require_admin()
    }

    /// Refuses everyone but managers of a provider account, likewise.
    ///
    /// # Errors
    /// When the caller is none, or may not even see the account.
    pub fn require_manager(&self, principal: &Principal, account: &str) -> Result<(), Failure> {
        let view = self.view(principal)?;
        account::managed(&view, account).map(|_| ())
    }

    /// Tries an operation: checks all that it checks, does nothing, and says what it would do to access.
    ///
    /// # Errors
    /// Whatever the operation refuses.
    pub fn dry_run<T>(
        &self,
        operation: impl FnOnce(&Self) -> Result<T, Failure>,
    ) -> Result<(T, AccessDiff), Failure> {
        let trial = Self {
            store: Arc::clone(&self.store),
            tenant: self.tenant.clone(),
            demo: self.demo,
            aws_machine_credentials: self.aws_machine_credentials,
            usage: Arc::clone(&self.usage),
            request_log: Arc::clone(&self.request_log),
            limits: Arc::clone(&self.limits),
            audit: AuditDesk::default(),
            backups: BackupDesk::default(),
            trial: Some(Mutex::default()),
        };
        let answer = operation(&trial)?;
        let diff = trial.trial.unwrap_or_default().into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok((answer, diff))
    }

    /// What a change would do to access.
    fn would_do(&self, view: &View, change: &Change) -> Result<AccessDiff, Failure> {
        let after = self.store.preview(&view.world, change).map_err(|error| {
            log::error!("a change that is tried holds an object that can not be used: {error}");
            Failure::Internal
        })?;
        let diff = access_diff::diff(&view.world, &after, change, view.now);
        Ok(diff.seen_by(&view.principal, &view.world, &after))
    }

    /// Runs one operation to its end: `build` decides on a state, and what it drafts is committed. When the
    /// state changed under it, it is run again.
    fn change<T>(
        &self,
        principal: &Principal,
        build: impl Fn(&View) -> Result<(Draft, T), Failure>,
    ) -> Result<T, Failure> {
        self.change_as(|| self.view(principal), build)
    }

    /// The same for those who are only about to become somebody: `look` says in each state who acts.
    fn change_as<T>(
        &self,
        look: impl Fn() -> Result<View, Failure>,
        build: impl Fn(&View) -> Result<(Draft, T), Failure>,
    ) -> Result<T, Failure> {
        for _ in 0..ATTEMPTS {
            let view = look()?;
            let (draft, answer) = build(&view)?;
            let mut draft = draft;
            if let Principal::User { user, .. } = &view.principal
                && let Some(actor) = view.world.user(user.email.as_str())
            {
                draft.check_actor(actor);
                // Nor is anything done with a token after it was revoked.
                let session = view.principal.token_id().and_then(|id| view.world.session(id));
                if let Some(session) = session {
                    draft.check(Key::session(session.id.as_str()), session.revision);
                }
                let id = session.and_then(|session| session.token.as_ref()).or(view.principal.token_id());
                if let Some(token) = id.and_then(|id| view.world.token_of_id(id)) {
                    draft.check(Key::token(token.id.as_str()), token.revision);
                }
                if !authz::is_admin(&view.principal) {
                    draft.check_manager(&view);
                }
            }
            let Some(change) = draft.into_change() else { return Ok(answer) };
            if let Some(trial) = &self.trial {
                let diff = self.would_do(&view, &change)?;
                *trial.lock().unwrap_or_else(PoisonError::into_inner) = diff;
                return Ok(answer);
            }
            match self.store.commit(change) {
                Ok(_) => return Ok(answer),
                Err(CommitError::Conflict(key)) => {
                    log::debug!("{} changed meanwhile; looking again", key.as_str())
                }
                Err(CommitError::Busy) => {
                    return Err(Failure::Unavailable("Too many changes wait for the disk; try again".into()));
                }
                Err(CommitError::Disk) => {
                    return Err(Failure::Unavailable(
                        "The disk refused the change; nothing was changed".into(),
                    ));
                }
                Err(CommitError::Invalid(error)) => {
                    log::error!("a change was refused by the store: {error}");
                    return Err(Failure::Internal);
                }
            }
        }
        Err(Failure::Conflict("Others changed the same objects meanwhile; try again".into()))
    }
}

fn refused(text: impl Into<Cow<'static, str>>) -> Failure {
    Failure::Unprocessable(text.into())
}

fn invalid(error: InvalidName) -> Failure {
    Failure::Unprocessable(error.0.into())
}

/// Says of which field of a manifest a refusal speaks.
fn in_field(field: &str, failure: Failure) -> Failure {
    match failure {
        Failure::Unprocessable(text) => refused(match text.strip_prefix("The field '") {
            // It names a field of this field.
            Some(inner) => format!("The field '{field}.{inner}"),
            None => format!("The field '{field}': {text}"),
        }),
        other => other,
    }
}

/// The same words whether it is not there or not to be seen.
fn not_found(noun: &str, name: &str) -> Failure {
    Failure::NotFound(format!("There is no {noun} '{name}' that you may see").into())
}

/// Checks free text: bounded, no control characters but line breaks and tabs.
fn check_text(field: &str, text: &str) -> Result<(), Failure> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(refused(format!("{field} is longer than {MAX_TEXT_BYTES} bytes")));
    }
    if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(refused(format!("{field} holds a control character")));
    }
    Ok(())
}

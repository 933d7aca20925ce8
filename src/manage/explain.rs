//! Why someone may use a model, or why not.

use std::sync::Arc;

use super::{Manage, View, invalid, not_found, refused};
use crate::authz::{self, Action, Resource};
use crate::clock::UnixMillis;
use crate::domain::{Grant, Principal, Subject, Target, Team, TenantRole, Token};
use crate::failure::Failure;

/// What stands between a subject and a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// There is no such user, team or virtual account.
    NoSubject,
    /// The account does not offer such a model, or there is no such account.
    NoModel,
    /// The user is deactivated.
    Deactivated,
    /// The virtual account is past its end.
    Expired,
    /// The token is past its end, or revoked.
    TokenEnded,
    /// Nothing that reaches the subject covers the model.
    NoGrant,
}

impl Missing {
    /// The word in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSubject => "no such subject",
            Self::NoModel => "no such model",
            Self::Deactivated => "the user is deactivated",
            Self::Expired => "the virtual account has expired",
            Self::TokenEnded => "the token has expired or was revoked",
            Self::NoGrant => "no grant covers the model",
        }
    }
}

/// The answer to "may they use it?".
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Who.
    pub subject: Subject,
    /// What.
    pub target: Target,
    /// Why not; `None` is allowed.
    pub missing: Option<Missing>,
    /// An admin may use everything, with or without grants.
    pub as_admin: bool,
    /// Every grant that reaches the subject and covers the model, whether it is of use or not.
    pub grants: Vec<Arc<Grant>>,
    /// When it ends at the earliest, as things are now; `None` is when somebody changes something.
    pub until: Option<UnixMillis>,
}

impl Manage {
    /// Whether a subject may use a model, why, and until when; with a token's id, whether that token may.
    ///
    /// # Errors
    /// When it is none of the caller's business: administrators ask about everyone, managers of an account about
    /// anyone on it, users about themselves.
    pub fn explain(
        &self,
        principal: &Principal,
        subject: &str,
        model: &str,
        token: Option<&str>,
    ) -> Result<Explanation, Failure> {
        let view = self.view(principal)?;
        let subject = Subject::parse(subject).map_err(invalid)?;
        let target = Target::parse(model).map_err(invalid)?;
        let Some(name) = &target.model else {
            return Err(refused(format!("'{model}' is no model; write ACCOUNT/MODEL")));
        };
        let (account, name) = (target.account.as_str(), name.as_str());
        if !authz::may_manage_account(&view.principal, account, &view.world) {
            if !view.may(Action::See, Resource::Model(account, name)) {
                return Err(not_found("model", model));
            }
            if !matches!((&view.principal, &subject), (Principal::User { user, .. }, Subject::User(email))
                if user.email == *email)
            {
                return Err(Failure::Forbidden(
                    "About others only managers of the account and administrators may ask".into(),
                ));
            }
        }
        let token = token.map(|id| token_of(&view, &subject, id)).transpose()?;
        Ok(explain(&view, subject, &target, token))
    }
}

fn token_of<'v>(view: &'v View, subject: &Subject, id: &str) -> Result<&'v Token, Failure> {
    let token = view.world.token(id).filter(|_| view.may(Action::See, Resource::Token(id)));
    let token = token.filter(|token| token.owner.subject() == *subject);
    token.map(|token| &*token.value).ok_or_else(|| not_found("token", id))
}

fn explain(view: &View, subject: Subject, target: &Target, token: Option<&Token>) -> Explanation {
    let world = &view.world;
    let (account, model) =
        (target.account.as_str(), target.model.as_ref().map_or("", |model| model.as_str()));
    let mut as_admin = false;
    let mut until = None;
    let mut reaching = vec![subject.clone()];
    let mut missing = match &subject {
        Subject::User(email) => match world.user(email.as_str()) {
            None => Some(Missing::NoSubject),
            Some(user) => {
                as_admin = user.active && user.role == TenantRole::Admin;
                reaching = authz::subjects_of(email, world).collect();
                (!user.active).then_some(Missing::Deactivated)
            }
        },
        Subject::Team(team) => {
            let there = team.as_str() == Team::EVERYONE || world.team(team.as_str()).is_some();
            (!there).then_some(Missing::NoSubject)
        }
        Subject::VirtualAccount(name) => match world.virtual_account(name.as_str()) {
            None => Some(Missing::NoSubject),
            Some(account) => {
                until = account.expires_at;
                until.is_some_and(|end| end <= view.now).then_some(Missing::Expired)
            }
        },
    };
    if let Some(token) = token {
        let end = token.end(view.world.settings());
        if end.is_some_and(|end| end <= view.now) || token.revoked_at.is_some() {
            missing = missing.or(Some(Missing::TokenEnded));
        }
        until = until.into_iter().chain(end).min();
    }
    let grants: Vec<Arc<Grant>> = reaching
        .iter()
        .flat_map(|subject| world.grants_on(subject, account))
        .filter(|grant| authz::covers(grant, model))
        .map(|grant| Arc::clone(&grant.value))
        .collect();
    let offered = world.account(account).is_some_and(|account| account.spec.models.contains_key(model));
    let missing = missing.or_else(|| (!offered).then_some(Missing::NoModel));
    let missing = missing.or_else(|| (grants.is_empty() && !as_admin).then_some(Missing::NoGrant));
    let until = until.filter(|_| missing.is_none());
    Explanation { subject, target: target.clone(), missing, as_admin, grants, until }
}

//! Virtual accounts: the identities of applications.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::draft::{Audited, Draft, delete_grants_of};
use super::{MAX_TAGS, Manage, TokenView, View, check_text, invalid, not_found, refused, rotation, user};
use crate::authz::{Action, Resource};
use crate::clock::UnixMillis;
use crate::domain::{Owner, Principal, Role, Subject, Target, VirtualAccount};
use crate::failure::Failure;
use crate::id::TokenId;
use crate::manifest::Permission;
use crate::store::{Key, Versioned};

/// A path of the API.
pub(super) const RESERVED: &str = "exists";

const MAX_TAG_KEY_BYTES: usize = 128;
const MAX_TAG_VALUE_CHARS: usize = 128;

/// A virtual account with all that it may use.
#[derive(Debug)]
pub struct VirtualAccountView {
    /// The account.
    pub account: Arc<VirtualAccount>,
    /// Whatever their source; those on accounts and models that are there.
    pub permissions: Vec<Permission>,
    /// Whether its time is over.
    pub expired: bool,
    /// The newest of its tokens that work and have no successor.
    pub current: Option<TokenId>,
    /// Its tokens that work.
    pub tokens: Vec<TokenView>,
    /// When one of its tokens was last used, also one that works no more.
    pub last_used: Option<UnixMillis>,
    /// When its current token is replaced by itself.
    pub next_rotation: Option<UnixMillis>,
}

impl Manage {
    /// One virtual account.
    ///
    /// # Errors
    /// When there is none that the caller may see.
    pub fn virtual_account(&self, principal: &Principal, name: &str) -> Result<VirtualAccountView, Failure> {
        let view = self.view(principal)?;
        visible(&view, name).map(|account| self.shown_virtual_account(&view, &account.value))
    }

    /// Deletes a virtual account with its tokens and grants.
    ///
    /// # Errors
    /// When the caller may not, or there is no such account.
    pub fn delete_virtual_account(&self, principal: &Principal, name: &str) -> Result<(), Failure> {
        self.change(principal, |view| {
            let account = visible(view, name)?;
            view.require_admin()?;
            let mut draft = Draft::default();
            let grants = delete_grants_of(&mut draft, view, &Subject::VirtualAccount(account.name.clone()));
            let owner = Owner::VirtualAccount(account.name.clone());
            let tokens = user::delete_tokens_of(&mut draft, view, &owner);
            let key = Key::virtual_account(name);
            let before = json!({"account": account.audited(), "grants": grants, "tokens": tokens});
            draft.audit(view, "virtual-account.delete", &key, before, Value::Null);
            draft.delete(key, account.revision);
            Ok((draft, ()))
        })
    }

    /// What a permission gives. It must name what is there, as it is.
    pub(super) fn given(&self, view: &View, permission: &Permission) -> Result<(Role, Target), Failure> {
        let fqn = &permission.resource_fqn;
        let form = || {
            refused(format!(
                "'{fqn}' is not the FQN of a provider account or model here; write {0}:openai:ACCOUNT or {0}:openai:ACCOUNT:model:NAME",
                self.tenant
            ))
        };
        let rest = fqn.strip_prefix(&self.tenant).and_then(|rest| rest.strip_prefix(':')).ok_or_else(form)?;
        let mut parts = rest.splitn(4, ':');
        let (_provider, account) = (parts.next(), parts.next().ok_or_else(form)?);
        let (text, kind) = match (parts.next(), parts.next()) {
            (None, None) => (account.to_owned(), "provider-account"),
            (Some("model"), Some(model)) => (format!("{account}/{model}"), "provider-integration"),
            _ => return Err(form()),
        };
        if permission.resource_type != kind {
            return Err(refused(format!("The resource type of '{fqn}' is {kind}")));
        }
        let role = match (kind, permission.role_id.as_str()) {
            ("provider-account", "provider-account-manager") => Role::Manager,
            ("provider-account", "provider-account-access")
            | ("provider-integration", "provider-integration-access") => Role::Access,
            _ => {
                return Err(refused(format!(
                    "The role on '{fqn}' can be {kind}-access and nothing else, or provider-account-manager for people on an account"
                )));
            }
        };
        let target = Target::parse(&text).map_err(invalid)?;
        // The FQN must name the protocol that the account really has.
        match self.permission(view, &target, Role::Access) {
            Some(right) if right.resource_fqn == *fqn => Ok((role, target)),
            Some(right) => Err(refused(format!("'{target}' has the FQN '{}'", right.resource_fqn))),
            None => Err(refused(format!("There is no provider account '{account}'"))),
        }
    }

    pub(super) fn permission(&self, view: &View, target: &Target, role: Role) -> Option<Permission> {
        let provider = view.world.account(target.account.as_str())?.spec.provider;
        let account = format!("{}:{}:{}", self.tenant, provider.as_str(), target.account);
        let (resource_fqn, kind, role) = match &target.model {
            None => (account, "provider-account", role.as_str()),
            Some(model) => {
                (format!("{account}:model:{model}"), "provider-integration", "provider-integration-access")
            }
        };
        Some(Permission { resource_fqn, resource_type: kind.to_owned(), role_id: role.to_owned() })
    }

    pub(super) fn shown_virtual_account(
        &self,
        view: &View,
        account: &Arc<VirtualAccount>,
    ) -> VirtualAccountView {
        let grants = view.world.grants_of(&Subject::VirtualAccount(account.name.clone())).iter();
        let all: BTreeSet<&Target> = grants.map(|grant| &grant.value.target).collect();
        let owner = Owner::VirtualAccount(account.name.clone());
        let all_tokens = || view.world.tokens_of(&owner);
        let current = rotation::current(all_tokens(), view.world.settings(), view.now);
        let rotate = account.auto_rotate.filter(|_| account.had_token);
        let tokens = all_tokens().map(|token| self.shown_token(view, &token.value));
        VirtualAccountView {
            current: current.map(|token| token.id.clone()),
            tokens: tokens.filter(|token| !token.state.is_over()).collect(),
            last_used: all_tokens().filter_map(|token| self.usage.last_used(&token.id)).max(),
            next_rotation: current.zip(rotate).map(|(token, rotate)| rotation::next(rotate, token)),
            account: Arc::clone(account),
            permissions: all
                .into_iter()
                .filter_map(|target| self.permission(view, target, Role::Access))
                .collect(),
            expired: account.expires_at.is_some_and(|end| end <= view.now),
        }
    }
}

pub(super) fn visible<'v>(view: &'v View, name: &str) -> Result<&'v Versioned<VirtualAccount>, Failure> {
    let account =
        view.world.virtual_account(name).filter(|_| view.may(Action::See, Resource::VirtualAccount(name)));
    account.ok_or_else(|| not_found("virtual account", name))
}

pub(super) fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), Failure> {
    if tags.len() > MAX_TAGS {
        return Err(refused(format!("There can be at most {MAX_TAGS} tags")));
    }
    for (key, value) in tags {
        if key.is_empty() || key.len() > MAX_TAG_KEY_BYTES || value.chars().count() > MAX_TAG_VALUE_CHARS {
            return Err(refused(format!(
                "A tag has a name of 1 to {MAX_TAG_KEY_BYTES} bytes and a value of at most {MAX_TAG_VALUE_CHARS} characters"
            )));
        }
        check_text("tags", key)?;
        check_text("tags", value)?;
    }
    Ok(())
}

//! Virtual accounts: the identities of applications.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::draft::{Audited, Draft, delete_grants_of};
use super::{MAX_TAGS, Manage, View, check_text, grant, invalid, not_found, refused, user};
use crate::authz;
use crate::clock::UnixMillis;
use crate::domain::{Grant, GrantSource, Owner, Principal, Role, Subject, Target, VirtualAccount};
use crate::failure::Failure;
use crate::id::SlugName;
use crate::store::{Key, Object, Versioned};

/// A path of the API.
const RESERVED: &str = "exists";

const MAX_TAG_KEY_BYTES: usize = 128;
const MAX_TAG_VALUE_CHARS: usize = 128;

/// A virtual account as it is to be.
#[derive(Debug)]
pub struct VirtualAccountSpec {
    /// Its name.
    pub name: String,
    /// Past this time none of its tokens work.
    pub expires_at: Option<UnixMillis>,
    /// What usage is tagged with.
    pub tags: BTreeMap<String, String>,
    /// What it may use; `None` leaves that as it is.
    pub permissions: Option<Vec<Permission>>,
}

/// One permission of a virtual account, in the words of the public contract.
#[derive(Debug)]
pub struct Permission {
    /// `TENANT:PROVIDER:ACCOUNT`, and `:model:NAME` for one model.
    pub resource_fqn: String,
    /// `provider-account` or `provider-integration`.
    pub resource_type: String,
    /// `provider-account-access` or `provider-integration-access`.
    pub role_id: String,
}

/// A virtual account with all that it may use.
#[derive(Debug)]
pub struct VirtualAccountView {
    /// The account.
    pub account: Arc<VirtualAccount>,
    /// Whatever their source; those on accounts and models that are there.
    pub permissions: Vec<Permission>,
    /// Whether its time is over.
    pub expired: bool,
}

impl Manage {
    /// One virtual account.
    ///
    /// # Errors
    /// When there is none that the caller may see.
    pub fn virtual_account(&self, principal: &Principal, name: &str) -> Result<VirtualAccountView, Failure> {
        let view = self.view(principal)?;
        visible(&view, name).map(|account| self.shown(&view, &account.value, None))
    }

    /// Makes a virtual account, or makes it what the spec says. Its permissions become grants of the manifest;
    /// those that it has from elsewhere stay.
    ///
    /// # Errors
    /// When the caller may not, or the spec can not be used.
    pub fn put_virtual_account(
        &self,
        principal: &Principal,
        spec: &VirtualAccountSpec,
        dry_run: bool,
    ) -> Result<VirtualAccountView, Failure> {
        self.change(principal, |view| {
            view.require_admin()?;
            let name = SlugName::parse(&spec.name).map_err(invalid)?;
            if name.as_str() == RESERVED {
                return Err(refused(format!("'{name}' is not free as a virtual account's name")));
            }
            check_tags(&spec.tags)?;
            let old = view.world.virtual_account(name.as_str());
            let account = VirtualAccount {
                expires_at: spec.expires_at,
                tags: spec.tags.clone(),
                owned_by: old.and_then(|old| old.owned_by.clone()),
                auto_rotate: old.and_then(|old| old.auto_rotate),
                had_token: old.is_some_and(|old| old.had_token),
                manifest: old.and_then(|old| old.manifest.clone()),
                created_at: old.map_or(view.now, |old| old.created_at),
                updated_at: view.now,
                created_by: old.map_or_else(|| view.principal.subject_text(), |old| old.created_by.clone()),
                name,
            };
            let mut draft = Draft::default();
            let subject = Subject::VirtualAccount(account.name.clone());
            let mut before = vec![];
            let mut after = vec![];
            let targets = spec.permissions.as_ref().map(|wanted| self.targets(view, wanted)).transpose()?;
            if let Some(targets) = &targets {
                let source = GrantSource::Manifest(format!("virtual-account/{}", account.name));
                for grant in view.world.grants_of(&subject).iter().filter(|grant| grant.source == source) {
                    before.push(grant.audited());
                    if targets.contains(&grant.target) {
                        after.push(grant.audited());
                    } else {
                        draft.delete(Key::grant(grant), grant.revision);
                    }
                }
                for target in targets {
                    grant::guard_target(&mut draft, view, target)?;
                    if grant::find(view, &subject, Role::Access, target).is_some() {
                        continue;
                    }
                    let grant = Grant {
                        subject: subject.clone(),
                        role: Role::Access,
                        target: target.clone(),
                        source: source.clone(),
                        created_at: view.now,
                        created_by: view.principal.subject_text(),
                    };
                    after.push(grant.audited());
                    draft.create(Object::Grant(grant));
                }
            }
            let account = Arc::new(account);
            let answer = self.shown(view, &account, targets.as_ref());
            if dry_run {
                return Ok((Draft::default(), answer));
            }
            let key = Key::virtual_account(account.name.as_str());
            let after = json!({"account": account.audited(), "grants": after});
            match old {
                None => {
                    draft.audit(view, "virtual-account.create", &key, Value::Null, after);
                    draft.create(Object::VirtualAccount(VirtualAccount::clone(&account)));
                }
                Some(old) => {
                    let before = json!({"account": old.audited(), "grants": before});
                    draft.audit(view, "virtual-account.update", &key, before, after);
                    draft.replace(Object::VirtualAccount(VirtualAccount::clone(&account)), old.revision);
                }
            }
            Ok((draft, answer))
        })
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

    /// What the permissions are on. Each must name what is there, as it is.
    fn targets(&self, view: &View, permissions: &[Permission]) -> Result<BTreeSet<Target>, Failure> {
        if permissions.is_empty() {
            return Err(refused("permissions is empty; leave it out to keep access as it is"));
        }
        if permissions.len() > grant::MAX_GRANTS {
            return Err(refused(format!("A virtual account has at most {} permissions", grant::MAX_GRANTS)));
        }
        permissions.iter().map(|permission| self.target(view, permission)).collect()
    }

    fn target(&self, view: &View, permission: &Permission) -> Result<Target, Failure> {
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
        let (text, kind, role) = match (parts.next(), parts.next()) {
            (None, None) => (account.to_owned(), "provider-account", "provider-account-access"),
            (Some("model"), Some(model)) => {
                (format!("{account}/{model}"), "provider-integration", "provider-integration-access")
            }
            _ => return Err(form()),
        };
        if permission.resource_type != kind {
            return Err(refused(format!("The resource_type of '{fqn}' is {kind}")));
        }
        if permission.role_id != role {
            return Err(refused(format!("A virtual account can have {role} on '{fqn}' and nothing else")));
        }
        let target = Target::parse(&text).map_err(invalid)?;
        // The FQN must name the protocol that the account really has.
        match self.permission(view, &target) {
            Some(right) if right.resource_fqn == *fqn => Ok(target),
            Some(right) => Err(refused(format!("'{target}' has the FQN '{}'", right.resource_fqn))),
            None => Err(refused(format!("There is no provider account '{account}'"))),
        }
    }

    fn permission(&self, view: &View, target: &Target) -> Option<Permission> {
        let provider = view.world.account(target.account.as_str())?.spec.provider;
        let account = format!("{}:{}:{}", self.tenant, provider.as_str(), target.account);
        let (resource_fqn, kind, role) = match &target.model {
            None => (account, "provider-account", "provider-account-access"),
            Some(model) => {
                (format!("{account}:model:{model}"), "provider-integration", "provider-integration-access")
            }
        };
        Some(Permission { resource_fqn, resource_type: kind.to_owned(), role_id: role.to_owned() })
    }

    /// The account as it is, or as it will be with these targets in place of the manifest's grants.
    pub(super) fn shown(
        &self,
        view: &View,
        account: &Arc<VirtualAccount>,
        targets: Option<&BTreeSet<Target>>,
    ) -> VirtualAccountView {
        let own = GrantSource::Manifest(format!("virtual-account/{}", account.name));
        let grants = view.world.grants_of(&Subject::VirtualAccount(account.name.clone())).iter();
        let mut all: BTreeSet<&Target> = grants
            .filter(|grant| targets.is_none() || grant.source != own)
            .map(|grant| &grant.value.target)
            .collect();
        all.extend(targets.into_iter().flatten());
        VirtualAccountView {
            account: Arc::clone(account),
            permissions: all.into_iter().filter_map(|target| self.permission(view, target)).collect(),
            expired: account.expires_at.is_some_and(|end| end <= view.now),
        }
    }
}

fn visible<'v>(view: &'v View, name: &str) -> Result<&'v Versioned<VirtualAccount>, Failure> {
    let account = view.world.virtual_account(name).filter(|_| authz::is_admin(&view.principal));
    account.ok_or_else(|| not_found("virtual account", name))
}

fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), Failure> {
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

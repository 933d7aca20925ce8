//! What an operation is about to commit.
//!
//! **Guards.** A commit checks the revisions of the objects that it writes, and only of those. An operation often
//! relies on objects that it leaves as they are: a token may only be made while its user is active, a grant only
//! while its account exists, an admin may only be demoted while another one remains. Such an object is *guarded*:
//! written again, unchanged, with the revision that was read. A change that takes away what was relied on writes
//! the same object, so of two such changes that race, the second to commit finds another revision, is refused
//! whole, and is decided anew. Two admins who demote each other can not both succeed, and no token outlives the
//! deactivation of its user. No lock is held while a commit waits for the disk.
//!
//! The user who acts is only *checked*: nobody's change lands after they were demoted, and nothing is hung onto
//! them that their own end would have to find. The same holds of the grant by which they manage an account, and of the
//! team that has it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::View;
use crate::authz;
use crate::clock::UnixMillis;
use crate::domain::ModelSettings;
use crate::domain::{
    AuditEntry, AuditSource, Grant, Principal, ProviderAccount, Subject, Target, Team, Token, User,
    VirtualAccount,
};
use crate::id::AccountName;
use crate::store::{Account, Change, Expect, Key, Object, Versioned, Write};

/// Writes, guards and the audit entry of one operation. Empty when there is nothing to do.
#[derive(Default)]
pub(super) struct Draft {
    change: Change,
    written: BTreeSet<Key>,
    guards: BTreeMap<Key, (Object, u64)>,
    actor: Option<(Key, u64)>,
    checks: Vec<(Key, u64)>,
}

impl Draft {
    /// Stores a new object.
    pub(super) fn create(&mut self, object: Object) {
        self.put(object, Expect::Absent);
    }

    /// Replaces the object of that revision.
    pub(super) fn replace(&mut self, object: Object, revision: u64) {
        self.put(object, Expect::Revision(revision));
    }

    fn put(&mut self, object: Object, expect: Expect) {
        if self.written.insert(object.key()) {
            self.change.writes.push(Write::Put(object, expect));
        }
    }

    /// Whether something was drafted of the object at a key already.
    pub(super) fn writes(&self, key: &Key) -> bool {
        self.written.contains(key)
    }

    /// Removes the object of that revision.
    pub(super) fn delete(&mut self, key: Key, revision: u64) {
        if self.written.insert(key.clone()) {
            self.change.writes.push(Write::Delete(key, revision));
        }
    }

    /// Relies on the one who acts staying as they are.
    pub(super) fn check_actor(&mut self, user: &Versioned<User>) {
        self.actor = Some((Key::user(user.email.as_str()), user.revision));
    }

    /// Relies on what makes the one who acts a manager of the accounts that this is about: the grant, and the team
    /// through which it reaches them.
    pub(super) fn check_manager(&mut self, view: &View) {
        let Principal::User { user, .. } = &view.principal else { return };
        for account in self.accounts() {
            let Some((grant, team)) = authz::managed_by(user, account.as_str(), &view.world) else {
                continue;
            };
            self.checks.push((Key::grant(grant), grant.revision));
            self.checks.extend(team.map(|team| (Key::team(team.name.as_str()), team.revision)));
        }
    }

    /// The provider accounts that are written, and those that written grants are on.
    fn accounts(&self) -> BTreeSet<AccountName> {
        let of_key = |key: &Key| {
            let (kind, name) = key.as_str().split_once('/')?;
            match kind {
                "account" => AccountName::parse(name).ok(),
                "grant" => Target::parse(name.rsplit('|').next()?).ok().map(|target| target.account),
                _ => None,
            }
        };
        let of_write = |write: &Write| match write {
            Write::Put(object, _) => of_key(&object.key()),
            Write::Delete(key, _) => of_key(key),
            Write::Check(..) | Write::PruneAudit(_) => None,
        };
        self.change.writes.iter().filter_map(of_write).collect()
    }

    /// Relies on an object staying as it is, when nothing is hung onto it that its end would have to find.
    pub(super) fn check(&mut self, key: Key, revision: u64) {
        self.checks.push((key, revision));
    }

    /// Relies on a user staying as it is.
    pub(super) fn guard_user(&mut self, user: &Versioned<User>) {
        let guard = || (Object::User(User::clone(user)), user.revision);
        self.guards.entry(Key::user(user.email.as_str())).or_insert_with(guard);
    }

    /// Relies on a team staying as it is.
    pub(super) fn guard_team(&mut self, team: &Versioned<Team>) {
        let guard = || (Object::Team(Team::clone(team)), team.revision);
        self.guards.entry(Key::team(team.name.as_str())).or_insert_with(guard);
    }

    /// Relies on a virtual account staying as it is.
    pub(super) fn guard_virtual_account(&mut self, account: &Versioned<VirtualAccount>) {
        let guard = || (Object::VirtualAccount(VirtualAccount::clone(account)), account.revision);
        self.guards.entry(Key::virtual_account(account.name.as_str())).or_insert_with(guard);
    }

    /// Relies on a provider account staying as it is.
    pub(super) fn guard_account(&mut self, account: &Account) {
        let guard = || (Object::Account(account.spec.clone()), account.revision);
        self.guards.entry(Key::account(account.spec.name.as_str())).or_insert_with(guard);
    }

    /// What was put together elsewhere, guards and all.
    pub(super) fn of_change(change: Change) -> Self {
        let written = change.writes.iter().filter_map(|write| match write {
            Write::Put(object, _) => Some(object.key()),
            Write::Delete(key, _) | Write::Check(key, _) => Some(key.clone()),
            Write::PruneAudit(_) => None,
        });
        Self { written: written.collect(), change, ..Self::default() }
    }

    /// Whether nothing would be written.
    pub(super) fn is_empty(&self) -> bool {
        self.change.writes.is_empty()
    }

    /// Records what is done.
    pub(super) fn audit(&mut self, view: &View, action: &str, key: &Key, before: Value, after: Value) {
        self.change.audit.push(AuditEntry { before, after, ..audit_entry(view, action, key.as_str()) });
    }

    /// Records what the gateway does by itself.
    pub(super) fn audit_by_gateway(
        &mut self,
        now: UnixMillis,
        action: &str,
        key: &Key,
        before: Value,
        after: Value,
    ) {
        self.change.audit.push(AuditEntry {
            at: now,
            actor: "gateway".to_owned(),
            token_id: None,
            source: AuditSource::Gateway,
            refused: None,
            count: 1,
            action: action.to_owned(),
            resource: key.as_str().to_owned(),
            before,
            after,
        });
    }

    /// The change to commit; `None` when nothing is written. An object that is written needs no guard.
    pub(super) fn into_change(mut self) -> Option<Change> {
        if self.change.writes.is_empty() {
            return None;
        }
        for (object, revision) in std::mem::take(&mut self.guards).into_values() {
            self.replace(object, revision);
        }
        for (key, revision) in std::mem::take(&mut self.checks).into_iter().chain(self.actor.take()) {
            if self.written.insert(key.clone()) {
                self.change.writes.push(Write::Check(key, revision));
            }
        }
        Some(self.change)
    }
}

/// What the audit log keeps of an object: all of it but secrets.
pub(super) trait Audited {
    /// The object as JSON, without secrets.
    fn audited(&self) -> Value;
}

impl Audited for User {
    fn audited(&self) -> Value {
        json!({"email": self.email, "displayName": self.display_name, "role": self.role, "active": self.active})
    }
}

impl Audited for Team {
    fn audited(&self) -> Value {
        json!({
            "name": self.name, "description": self.description,
            "members": self.members, "managers": self.managers,
        })
    }
}

impl Audited for VirtualAccount {
    fn audited(&self) -> Value {
        json!({
            "name": self.name, "tags": self.tags, "createdBy": self.created_by,
            "ownedBy": self.owned_by, "autoRotate": self.auto_rotate,
            "expiresAt": self.expires_at.map(crate::clock::UnixMillis::to_iso),
        })
    }
}

impl Audited for Token {
    fn audited(&self) -> Value {
        json!({
            "id": self.id, "owner": self.owner.subject(), "name": self.name, "replaces": self.replaces,
            "replacedBy": self.replaced_by,
            "expiresAt": self.expires_at.map(crate::clock::UnixMillis::to_iso),
            "revokedAt": self.revoked_at.map(crate::clock::UnixMillis::to_iso),
        })
    }
}

impl Audited for crate::domain::Session {
    fn audited(&self) -> Value {
        json!({
            "id": self.id, "user": self.user, "way": self.way, "token": self.token, "agent": self.agent,
            "expiresAt": self.expires_at.to_iso(),
        })
    }
}

impl Audited for crate::domain::Login {
    fn audited(&self) -> Value {
        json!({
            "user": self.user, "hasPassword": self.password.is_some(),
            "invitationExpiresAt": self.invitation.as_ref().map(|invitation| invitation.expires_at.to_iso()),
        })
    }
}

impl Audited for crate::domain::Settings {
    fn audited(&self) -> Value {
        json!({
            "pat_max_validity_days": self.pat_max_validity_days, "pat_may_mint": self.pat_may_mint,
            "audit_retention_days": self.audit_retention_days,
            "limits_when_accounting_fails": self.limits_when_accounting_fails,
            "logging_settings": self.logging_settings,
        })
    }
}

impl Audited for Grant {
    fn audited(&self) -> Value {
        json!({"subject": self.subject, "role": self.role, "target": self.target, "source": self.source})
    }
}

impl Audited for ProviderAccount {
    fn audited(&self) -> Value {
        let settings = &self.settings;
        let models: Vec<Value> = self
            .models
            .values()
            .map(|model| {
                json!({
                    "name": model.name, "modelId": model.model_id, "types": model.types,
                    "prices": model.prices,
                    "settings": audited_model_settings(&model.settings),
                })
            })
            .collect();
        json!({
            "name": self.name, "provider": self.provider, "baseUrl": self.base_url,
            "destinationByAdmin": self.destination_by_admin,
            "hasApiKey": self.has_credential(), "headers": self.headers,
            "caCertificates": self.ca_certificates, "models": models,
            "settings": {
                "region": settings.region, "projectId": settings.project_id, "apiVersion": settings.api_version,
                "dropUnsupported": settings.drop_unsupported, "loggingSettings": settings.logging_settings,
                "discountPercent": settings.discount_percent, "clientCertificate": settings.client_certificate,
                "auth": settings.auth_shape,
            },
        })
    }
}

/// An entry of the audit log on something that the caller does now.
pub(super) fn audit_entry(view: &View, action: &str, resource: &str) -> AuditEntry {
    AuditEntry {
        at: view.now,
        actor: view.principal.subject_text(),
        token_id: view.principal.token_id().map(ToString::to_string),
        source: match view.principal {
            Principal::LocalAdministrator { .. } => AuditSource::Socket,
            _ => AuditSource::Api,
        },
        refused: None,
        count: 1,
        action: action.to_owned(),
        resource: resource.to_owned(),
        before: Value::Null,
        after: Value::Null,
    }
}

fn audited_model_settings(settings: &ModelSettings) -> Value {
    let server = settings.server.as_ref().map(|server| {
        json!({
            "baseUrl": server.base_url, "destinationByAdmin": server.destination_by_admin,
            "headers": server.headers, "caCertificates": server.ca_certificates, "auth": server.auth_shape,
            "hasCredential": server.sealed_credential.is_some(),
        })
    });
    json!({
        "region": settings.region, "apiVersion": settings.api_version, "family": settings.family,
        "maxOutputTokens": settings.max_output_tokens, "foundationModel": settings.foundation_model,
        "deploymentType": settings.deployment_type, "modelServer": settings.model_server, "server": server,
    })
}

/// Takes every grant of a subject away, and says what they were.
pub(super) fn delete_grants_of(draft: &mut Draft, view: &View, subject: &Subject) -> Vec<Value> {
    let grants = view.world.grants_of(subject);
    for grant in grants {
        draft.delete(Key::grant(grant), grant.revision);
    }
    grants.iter().map(|grant| grant.audited()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Owner, ProviderType};
    use crate::id::{AccountName, Email, SlugName, TokenId};

    #[test]
    fn the_audit_log_gets_no_secrets() {
        let token = Token {
            id: TokenId::parse("0123456789ab").unwrap(),
            owner: Owner::User(Email::parse("ada@x.io").unwrap()),
            name: SlugName::parse("laptop").unwrap(),
            secret_hash: crate::secret::SecretHash::of("SECRET-HASH"),
            expires_at: None,
            created_at: UnixMillis(1),
            created_by: "local:uid:0".into(),
            replaces: None,
            replaced_by: None,
            revoked_at: None,
        };
        let account = ProviderAccount {
            name: AccountName::parse("main").unwrap(),
            provider: ProviderType::Openai,
            base_url: "https://x.io".into(),
            destination_by_admin: false,
            sealed_api_key: Some("SEALED-KEY".into()),
            headers: [].into(),
            ca_certificates: None,
            settings: crate::domain::AccountSettings::default(),
            models: [].into(),
            manifest: None,
            created_at: UnixMillis(1),
            updated_at: UnixMillis(1),
            created_by: "local:uid:0".into(),
        };
        let kept = format!("{}{}", token.audited(), account.audited());
        assert!(
            !kept.contains(&crate::secret::SecretHash::of("SECRET-HASH").to_hex())
                && !kept.contains("SEALED-KEY"),
            "{kept}"
        );
        assert!(kept.contains("\"hasApiKey\":true"));
    }
}

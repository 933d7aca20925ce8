//! The whole state in memory, as one immutable value. A commit makes the next one by changing a few paths of
//! persistent trees, so that it costs the same with ten tokens and with a million.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::account::Account;
use super::object::{Key, Object};
use crate::domain::{Grant, Owner, Settings, Subject, Team, Token, User, VirtualAccount};
use crate::id::{AccountName, Email, SlugName, TeamName, TokenId};
use crate::seal::{MasterKey, SealError};

/// A value and the revision of the commit that last wrote it.
#[derive(Debug)]
pub struct Versioned<T> {
    /// For `Expect::Revision` and `Write::Delete`.
    pub revision: u64,
    /// The object.
    pub value: Arc<T>,
}

impl<T> Clone for Versioned<T> {
    fn clone(&self) -> Self {
        Self { revision: self.revision, value: Arc::clone(&self.value) }
    }
}

impl<T> std::ops::Deref for Versioned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Why a stored object can not be part of a world.
#[derive(Debug)]
#[non_exhaustive]
pub enum WorldError {
    /// A sealed key does not open: wrong master key, or the object was tampered with.
    Seal(SealError),
    /// A stored base URL is not one.
    Endpoint(String),
    /// A stored credential is none.
    Credential(String),
}

impl std::fmt::Display for WorldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Seal(error) => write!(f, "{error}"),
            Self::Endpoint(account) => {
                write!(f, "the stored base URL of provider account '{account}' is not one")
            }
            Self::Credential(account) => {
                write!(
                    f,
                    "the stored credential of provider account '{account}' is of no kind that is known here"
                )
            }
        }
    }
}

/// One state of everything. One of these decides a whole call.
#[derive(Clone, Debug, Default)]
pub struct World {
    revision: u64,
    users: OrdMap<Email, Versioned<User>>,
    teams: OrdMap<TeamName, Versioned<Team>>,
    teams_by_user: OrdMap<Email, OrdSet<TeamName>>,
    accounts: OrdMap<AccountName, Arc<Account>>,
    virtual_accounts: OrdMap<SlugName, Versioned<VirtualAccount>>,
    tokens: OrdMap<TokenId, Versioned<Token>>,
    tokens_by_owner: OrdMap<Owner, OrdSet<TokenId>>,
    grants: OrdMap<Subject, Arc<Vec<Versioned<Grant>>>>,
    settings: Versioned<Settings>,
}

impl<T: Default> Default for Versioned<T> {
    fn default() -> Self {
        Self { revision: 0, value: Arc::new(T::default()) }
    }
}

impl World {
    /// The revision of the commit that made this state.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// A user by email.
    pub fn user(&self, email: &str) -> Option<&Versioned<User>> {
        self.users.get(email)
    }

    /// All users, by email.
    pub fn users(&self) -> impl Iterator<Item = &Versioned<User>> {
        self.users.values()
    }

    /// A team by name. The built-in team `everyone` is not an object.
    pub fn team(&self, name: &str) -> Option<&Versioned<Team>> {
        self.teams.get(name)
    }

    /// All teams, by name.
    pub fn teams(&self) -> impl Iterator<Item = &Versioned<Team>> {
        self.teams.values()
    }

    /// The teams that a user is in, `everyone` not among them.
    pub fn teams_of(&self, email: &str) -> impl Iterator<Item = &TeamName> {
        self.teams_by_user.get(email).into_iter().flatten()
    }

    /// A provider account by name.
    pub fn account(&self, name: &str) -> Option<&Arc<Account>> {
        self.accounts.get(name)
    }

    /// All provider accounts, by name.
    pub fn accounts(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.accounts.values()
    }

    /// A virtual account by name.
    pub fn virtual_account(&self, name: &str) -> Option<&Versioned<VirtualAccount>> {
        self.virtual_accounts.get(name)
    }

    /// All virtual accounts, by name.
    pub fn virtual_accounts(&self) -> impl Iterator<Item = &Versioned<VirtualAccount>> {
        self.virtual_accounts.values()
    }

    /// A token by its public id.
    pub fn token(&self, id: &str) -> Option<&Versioned<Token>> {
        self.tokens.get(&TokenId::parse(id).ok()?)
    }

    /// All tokens, by id.
    pub fn tokens(&self) -> impl Iterator<Item = &Versioned<Token>> {
        self.tokens.values()
    }

    /// The tokens of one owner.
    pub fn tokens_of(&self, owner: &Owner) -> impl Iterator<Item = &Versioned<Token>> {
        self.tokens_by_owner.get(owner).into_iter().flatten().filter_map(|id| self.tokens.get(id))
    }

    /// The grants of exactly this subject; those of a user's teams are the teams' grants.
    pub fn grants_of(&self, subject: &Subject) -> &[Versioned<Grant>] {
        self.grants.get(subject).map_or(&[], |grants| grants.as_slice())
    }

    /// The grants of exactly this subject on one account or on models of it; the others are not walked.
    pub fn grants_on(&self, subject: &Subject, account: &str) -> &[Versioned<Grant>] {
        let grants = self.grants_of(subject);
        let start = grants.partition_point(|grant| grant.target.account.as_str() < account);
        let rest = grants.get(start..).unwrap_or_default();
        let end = rest.partition_point(|grant| grant.target.account.as_str() == account);
        rest.get(..end).unwrap_or_default()
    }

    /// All grants, by subject.
    pub fn grants(&self) -> impl Iterator<Item = &Versioned<Grant>> {
        self.grants.values().flat_map(|grants| grants.iter())
    }

    /// What the organisation decided; the defaults, of revision 0, when nothing was ever set.
    pub fn settings(&self) -> &Versioned<Settings> {
        &self.settings
    }

    /// The revision of the object at a key; `None` when there is none.
    pub fn revision_of(&self, key: &Key) -> Option<u64> {
        let (kind, name) = key.0.split_once('/')?;
        match kind {
            "user" => self.users.get(name).map(|v| v.revision),
            "team" => self.teams.get(name).map(|v| v.revision),
            "account" => self.accounts.get(name).map(|a| a.revision),
            "virtual-account" => self.virtual_accounts.get(name).map(|v| v.revision),
            "token" => self.token(name).map(|v| v.revision),
            "grant" => {
                let subject = Subject::parse(name.split('|').next()?).ok()?;
                self.grants_of(&subject).iter().find(|g| Key::grant(g) == *key).map(|g| g.revision)
            }
            "settings" => Some(self.settings.revision).filter(|revision| *revision > 0),
            _ => None,
        }
    }

    /// Moves to a later revision: one that changed no object, or deleted some.
    pub(super) fn advance(&mut self, revision: u64) {
        self.revision = self.revision.max(revision);
    }

    /// Puts an object in, replacing the one at its key.
    ///
    /// # Errors
    /// When a provider account's URL or sealed key can not be used; the world is then unchanged.
    pub(super) fn put(
        &mut self,
        object: Object,
        revision: u64,
        master_key: &MasterKey,
    ) -> Result<(), WorldError> {
        match object {
            Object::User(user) => {
                let email = user.email.clone();
                self.users.insert(email, Versioned { revision, value: Arc::new(user) });
            }
            Object::Team(team) => {
                self.forget_members(team.name.as_str());
                for email in &team.members {
                    self.teams_by_user.entry(email.clone()).or_default().insert(team.name.clone());
                }
                self.teams.insert(team.name.clone(), Versioned { revision, value: Arc::new(team) });
            }
            Object::Account(spec) => {
                let name = spec.name.clone();
                self.accounts.insert(name, Arc::new(Account::open(spec, revision, master_key)?));
            }
            Object::VirtualAccount(account) => {
                let name = account.name.clone();
                self.virtual_accounts.insert(name, Versioned { revision, value: Arc::new(account) });
            }
            Object::Token(mut token) => {
                // One text for all the tokens of an owner: most of what a token takes would be its owner's name.
                if let Some((owner, _)) = self.tokens_by_owner.get_key_value(&token.owner) {
                    token.owner = owner.clone();
                }
                self.tokens_by_owner.entry(token.owner.clone()).or_default().insert(token.id.clone());
                self.tokens.insert(token.id.clone(), Versioned { revision, value: Arc::new(token) });
            }
            Object::Settings(settings) => {
                self.settings = Versioned { revision, value: Arc::new(settings) };
            }
            Object::Grant(grant) => {
                let mut list: Vec<_> = self
                    .grants_of(&grant.subject)
                    .iter()
                    .filter(|other| (other.role, &other.target) != (grant.role, &grant.target))
                    .cloned()
                    .collect();
                let subject = grant.subject.clone();
                // Sorted by target, which `grants_on` relies on.
                let place = list.partition_point(|other| other.target <= grant.target);
                list.insert(place, Versioned { revision, value: Arc::new(grant) });
                self.grants.insert(subject, Arc::new(list));
            }
        }
        self.advance(revision);
        Ok(())
    }

    /// Takes the object at a key out.
    pub(super) fn remove(&mut self, key: &Key, revision: u64) {
        self.advance(revision);
        let Some((kind, name)) = key.0.split_once('/') else { return };
        match kind {
            "user" => {
                self.users.remove(name);
            }
            "team" => {
                self.forget_members(name);
                self.teams.remove(name);
            }
            "account" => {
                self.accounts.remove(name);
            }
            "virtual-account" => {
                self.virtual_accounts.remove(name);
            }
            "token" => {
                if let Ok(id) = TokenId::parse(name)
                    && let Some(token) = self.tokens.remove(&id)
                    && let Some(ids) = self.tokens_by_owner.get_mut(&token.owner)
                {
                    ids.remove(&id);
                    if ids.is_empty() {
                        self.tokens_by_owner.remove(&token.owner);
                    }
                }
            }
            "settings" => self.settings = Versioned::default(),
            "grant" => {
                let Some(Ok(subject)) = name.split('|').next().map(Subject::parse) else { return };
                let list: Vec<_> =
                    self.grants_of(&subject).iter().filter(|g| Key::grant(g) != *key).cloned().collect();
                if list.is_empty() {
                    self.grants.remove(&subject);
                } else {
                    self.grants.insert(subject, Arc::new(list));
                }
            }
            _ => {}
        }
    }

    fn forget_members(&mut self, team: &str) {
        let Some(members) = self.teams.get(team).map(|t| t.members.clone()) else { return };
        for email in members {
            if let Some(teams) = self.teams_by_user.get_mut(&email) {
                teams.remove(team);
                if teams.is_empty() {
                    self.teams_by_user.remove(&email);
                }
            }
        }
    }
}

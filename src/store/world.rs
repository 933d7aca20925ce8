//! The whole state in memory, as one immutable value. A commit makes the next one by changing a few paths of
//! persistent trees, so that it costs the same with ten tokens and with a million.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;

use super::account::Account;
use super::grants::{GrantsOf, Mark};
use super::named::Named;
use super::object::{Key, Object};
use super::tokens::Tokens;
use crate::domain::{
    Grant, GrantSource, LimitConfig, LimitKind, Login, Owner, Role, Session, Settings, Subject, Target, Team,
    Token, User, VirtualAccount,
};
use crate::id::{AccountName, Email, SlugName, TeamName, TokenId};
use crate::prices::Catalogue;
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

/// What makes a grant this one and no other.
type Given = (Subject, Role, Target);

/// One state of everything. One of these decides a whole call.
#[derive(Clone, Debug, Default)]
pub struct World {
    revision: u64,
    users: Named<Email, Versioned<User>>,
    teams: OrdMap<TeamName, Versioned<Team>>,
    /// As the subjects of grants, by name.
    teams_by_user: Named<Email, Arc<Vec<Subject>>>,
    accounts: Named<AccountName, Arc<Account>>,
    virtual_accounts: Named<SlugName, Versioned<VirtualAccount>>,
    tokens: Tokens,
    /// By id.
    tokens_by_owner: Named<Owner, Arc<Vec<TokenId>>>,
    grants: Named<Subject, Arc<GrantsOf>>,
    /// Those that a manifest gave, by its `type/name`: many are applied together, and each asks for its own.
    grants_by_manifest: Named<String, Arc<BTreeSet<Given>>>,
    settings: Versioned<Settings>,
    limits: OrdMap<LimitKind, Versioned<LimitConfig>>,
    /// None: the one that is built in.
    catalogue: Option<Versioned<Catalogue>>,
    logins: Named<Email, Versioned<Login>>,
    sessions: Named<TokenId, Versioned<Session>>,
    built_in: BuiltIn,
}

/// The catalogue of prices that the gateway comes with.
#[derive(Clone, Debug)]
struct BuiltIn(Arc<Catalogue>);

impl Default for BuiltIn {
    fn default() -> Self {
        Self(Catalogue::built_in())
    }
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

    /// The catalogue of public prices.
    pub fn catalogue(&self) -> &Arc<Catalogue> {
        self.catalogue.as_ref().map_or(&self.built_in.0, |imported| &imported.value)
    }

    /// The imported catalogue, if there is one.
    pub fn imported_catalogue(&self) -> Option<&Versioned<Catalogue>> {
        self.catalogue.as_ref()
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
        self.team_subjects_of(email).iter().filter_map(|subject| match subject {
            Subject::Team(name) => Some(name),
            _ => None,
        })
    }

    /// The same teams, as the subjects of grants.
    pub fn team_subjects_of(&self, email: &str) -> &[Subject] {
        self.teams_by_user.get(email).map_or(&[], |teams| teams.as_slice())
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
        self.token_of_id(&TokenId::parse(id).ok()?)
    }

    /// The same, for an id that was read already.
    pub fn token_of_id(&self, id: &TokenId) -> Option<&Versioned<Token>> {
        self.tokens.get(id)
    }

    /// All tokens, by id.
    pub fn tokens(&self) -> impl Iterator<Item = &Versioned<Token>> {
        self.tokens.values()
    }

    /// The tokens of one owner.
    pub fn tokens_of(&self, owner: &Owner) -> impl Iterator<Item = &Versioned<Token>> {
        let ids = self.tokens_by_owner.get(owner).map_or(&[][..], |ids| ids.as_slice());
        ids.iter().filter_map(|id| self.tokens.get(id))
    }

    /// The grants of exactly this subject; those of a user's teams are the teams' grants.
    pub fn grants_of(&self, subject: &Subject) -> &[Versioned<Grant>] {
        self.grants.get(subject).map_or(&[], |grants| grants.all())
    }

    /// The grants of exactly this subject on one account or on models of it; the others are not walked.
    pub fn grants_on(&self, subject: &Subject, account: &str) -> &[Versioned<Grant>] {
        self.grants.get(subject).map_or(&[], |grants| grants.on(account, Mark::of(account)))
    }

    /// Whether any grant of these subjects on one account, or on a model of it, passes a test.
    pub fn any_grant_on<'a>(
        &self,
        subjects: impl IntoIterator<Item = &'a Subject>,
        account: &str,
        test: impl Fn(&Versioned<Grant>) -> bool,
    ) -> bool {
        let mark = Mark::of(account);
        subjects
            .into_iter()
            .filter_map(|subject| self.grants.get(subject))
            .any(|grants| grants.on(account, mark).iter().any(&test))
    }

    /// The grant of one subject, role and target.
    pub fn grant(&self, subject: &Subject, role: Role, target: &Target) -> Option<&Versioned<Grant>> {
        self.grants.get(subject)?.get(role, target)
    }

    /// The grants that came from a source: for those of a manifest no others are walked.
    pub fn grants_from(&self, source: &GrantSource) -> Vec<&Versioned<Grant>> {
        match source {
            GrantSource::Direct => self.grants().filter(|grant| grant.source == *source).collect(),
            GrantSource::Manifest(name) => {
                let given = self.grants_by_manifest.get(name).into_iter().flat_map(|given| given.iter());
                given.filter_map(|(subject, role, target)| self.grant(subject, *role, target)).collect()
            }
        }
    }

    /// All grants, by subject.
    pub fn grants(&self) -> impl Iterator<Item = &Versioned<Grant>> {
        self.grants.values().flat_map(|grants| grants.all())
    }

    /// What the organisation decided; the defaults, of revision 0, when nothing was ever set.
    pub fn settings(&self) -> &Versioned<Settings> {
        &self.settings
    }

    /// The rate limits or the budgets, when any were ever set.
    pub fn limits(&self, kind: LimitKind) -> Option<&Versioned<LimitConfig>> {
        self.limits.get(&kind)
    }

    /// What a user signs in with, by email.
    pub fn login(&self, email: &str) -> Option<&Versioned<Login>> {
        self.logins.get(email)
    }

    /// One session.
    pub fn session(&self, id: &TokenId) -> Option<&Versioned<Session>> {
        self.sessions.get(id)
    }

    /// All sessions, by id.
    pub fn sessions(&self) -> impl Iterator<Item = &Versioned<Session>> {
        self.sessions.values()
    }

    /// The sessions of a user. Looks at all of them.
    pub fn sessions_of(&self, email: &Email) -> impl Iterator<Item = &Versioned<Session>> {
        self.sessions.values().filter(move |session| session.user == *email)
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
            "limits" => self.limits.get(&LimitKind::parse(name)?).map(|config| config.revision),
            "catalogue" => self.catalogue.as_ref().map(|catalogue| catalogue.revision),
            "login" => self.logins.get(name).map(|v| v.revision),
            "session" => self.sessions.get(&TokenId::parse(name).ok()?).map(|v| v.revision),
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
                let subject = Subject::Team(team.name.clone());
                for email in &team.members {
                    if let Some(teams) = self.teams_by_user.or_default(email)
                        && let Err(place) = teams.binary_search(&subject)
                    {
                        Arc::make_mut(teams).insert(place, subject.clone());
                    }
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
                match self.tokens_by_owner.get_mut(&token.owner) {
                    Some((owner, ids)) => {
                        token.owner = owner.clone();
                        if let Err(place) = ids.binary_search(&token.id) {
                            Arc::make_mut(ids).insert(place, token.id.clone());
                        }
                    }
                    None => {
                        self.tokens_by_owner.insert(token.owner.clone(), Arc::new(vec![token.id.clone()]));
                    }
                }
                self.tokens.insert(Versioned { revision, value: Arc::new(token) });
            }
            Object::Settings(settings) => {
                self.settings = Versioned { revision, value: Arc::new(settings) };
            }
            Object::Limits(config) => {
                self.limits.insert(config.kind, Versioned { revision, value: Arc::new(config) });
            }
            Object::Catalogue(catalogue) => {
                self.catalogue = Some(Versioned { revision, value: Arc::new(catalogue) });
            }
            Object::Login(login) => {
                self.logins.insert(login.user.clone(), Versioned { revision, value: Arc::new(login) });
            }
            Object::Session(session) => {
                self.sessions.insert(session.id.clone(), Versioned { revision, value: Arc::new(session) });
            }
            Object::Grant(mut grant) => {
                self.share_names(&mut grant);
                let subject = grant.subject.clone();
                let grant = Versioned { revision, value: Arc::new(grant) };
                if let Some(grants) = self.grants.or_default(&subject)
                    && let Some(old) = Arc::make_mut(grants).put(grant.clone())
                {
                    self.forget_source(&old);
                }
                if let GrantSource::Manifest(name) = &grant.source
                    && let Some(given) = self.grants_by_manifest.or_default(name)
                {
                    Arc::make_mut(given).insert((subject, grant.role, grant.target.clone()));
                }
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
                    && let Some((_, ids)) = self.tokens_by_owner.get_mut(&token.owner)
                {
                    let ids = Arc::make_mut(ids);
                    ids.retain(|other| *other != id);
                    if ids.is_empty() {
                        self.tokens_by_owner.remove(&token.owner);
                    }
                }
            }
            "settings" => self.settings = Versioned::default(),
            "limits" => {
                if let Some(kind) = LimitKind::parse(name) {
                    self.limits.remove(&kind);
                }
            }
            "catalogue" => self.catalogue = None,
            "login" => {
                self.logins.remove(name);
            }
            "session" => {
                if let Ok(id) = TokenId::parse(name) {
                    self.sessions.remove(&id);
                }
            }
            "grant" => {
                let Some(Ok(subject)) = name.split('|').next().map(Subject::parse) else { return };
                if self.grants.get(&subject).is_none() {
                    return;
                }
                if let Some(grants) = self.grants.or_default(&subject) {
                    let grants = Arc::make_mut(grants);
                    let old = grants.remove(key);
                    let is_empty = grants.all().is_empty();
                    if is_empty {
                        self.grants.remove(&subject);
                    }
                    if let Some(old) = old {
                        self.forget_source(&old);
                    }
                }
            }
            _ => {}
        }
    }

    /// One text for a name in all the grants that have it. A call compares such names, and finds them in the processor's
    /// cache when there is one of each.
    fn share_names(&self, grant: &mut Grant) {
        if let Some(account) = self.accounts.get(grant.target.account.as_str()) {
            grant.target.account = account.spec.name.clone();
            if let Some(model) = &mut grant.target.model
                && let Some((name, _)) = account.spec.models.get_key_value(model)
            {
                *model = name.clone();
            }
        }
        if let Some(other) = self.grants_of(&grant.subject).first() {
            grant.subject = other.subject.clone();
        }
    }

    fn forget_source(&mut self, grant: &Grant) {
        let GrantSource::Manifest(name) = &grant.source else { return };
        if let Some((_, given)) = self.grants_by_manifest.get_mut(name) {
            let given = Arc::make_mut(given);
            given.remove(&(grant.subject.clone(), grant.role, grant.target.clone()));
            if given.is_empty() {
                self.grants_by_manifest.remove(name);
            }
        }
    }

    fn forget_members(&mut self, team: &str) {
        let Some(members) = self.teams.get(team).map(|t| t.members.clone()) else { return };
        for email in members {
            if let Some((_, teams)) = self.teams_by_user.get_mut(&email) {
                let teams = Arc::make_mut(teams);
                teams.retain(|other| !matches!(other, Subject::Team(name) if name.as_str() == team));
                if teams.is_empty() {
                    self.teams_by_user.remove(&email);
                }
            }
        }
    }
}

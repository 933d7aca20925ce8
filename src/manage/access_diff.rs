//! Who gains and who loses what between two states. Asks the policy about both and compares; decides nothing itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::authz;
use crate::clock::UnixMillis;
use crate::domain::{Grant, Principal, Role, Subject, Team, TenantRole};
use crate::id::{AccountName, Email, TokenId};
use crate::store::{Change, Key, Object, World, Write};

/// Lines that are told of one change.
const MAX_LINES: usize = 1000;

/// Questions whether somebody may use a model that are asked about one change. Each takes the better part of a
/// microsecond of the worker that serves other connections too.
const MAX_QUESTIONS: usize = 300_000;

/// Somebody may do something with a model, or with an account as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AccessLine {
    /// `user:EMAIL` or `virtualaccount:NAME`; never a team, but those in it.
    pub subject: Subject,
    /// `account/model`; the account alone for its managers.
    pub model: String,
    /// What they may do.
    pub role: Role,
}

/// What a change does to access.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessDiff {
    /// What is new.
    pub gains: Vec<AccessLine>,
    /// What is gone.
    pub loses: Vec<AccessLine>,
    /// There is more than is told.
    pub truncated: bool,
}

/// Compares the access of everyone whom a change can concern.
pub(super) fn diff(before: &World, after: &World, change: &Change, now: UnixMillis) -> AccessDiff {
    let affected = affected(before, after, change);
    let mut diff = AccessDiff::default();
    let mut questions = 0_usize;
    for subject in &affected.subjects {
        let (old, new) = (principal(before, subject, now), principal(after, subject, now));
        for account in &affected.accounts {
            let models =
                |world: &World| world.account(account.as_str()).map_or(0, |one| one.spec.models.len());
            questions = questions.saturating_add(models(before) + models(after) + 2);
            if questions > MAX_QUESTIONS || diff.gains.len() + diff.loses.len() > MAX_LINES {
                return cut(diff);
            }
            let had = access(before, old.as_ref(), account);
            let has = access(after, new.as_ref(), account);
            let line = |(model, role): &(String, Role)| AccessLine {
                subject: subject.clone(),
                model: model.clone(),
                role: *role,
            };
            diff.gains.extend(has.difference(&had).map(line));
            diff.loses.extend(had.difference(&has).map(line));
        }
    }
    if diff.gains.len() + diff.loses.len() > MAX_LINES { cut(diff) } else { diff }
}

impl AccessDiff {
    /// Leaves out what is none of the caller's business, and says that there is more. Administrators see all. Others
    /// see lines about accounts that they see, before or after the change, and of those the lines about themselves,
    /// about members of teams that they see, and, managing the account, about those who have a grant of their own on
    /// it; not about those who have one through a team that they do not see, since that would list its members.
    pub(super) fn seen_by(mut self, principal: &Principal, before: &World, after: &World) -> Self {
        if authz::is_admin(principal) {
            return self;
        }
        let sees = |line: &AccessLine| {
            let account = line.model.split('/').next().unwrap_or_default();
            [before, after].into_iter().any(|world| {
                authz::may_see_account(principal, account, world)
                    && (sees_user(principal, &line.subject, world)
                        || (authz::may_manage_account(principal, account, world)
                            && !world.grants_on(&line.subject, account).is_empty()))
            })
        };
        let lines = self.gains.len() + self.loses.len();
        self.gains.retain(sees);
        self.loses.retain(sees);
        self.truncated |= self.gains.len() + self.loses.len() < lines;
        self
    }
}

fn sees_user(principal: &Principal, subject: &Subject, world: &World) -> bool {
    let Subject::User(email) = subject else { return false };
    matches!(principal, Principal::User { user, .. } if user.email == *email)
        || world
            .teams_of(email.as_str())
            .filter_map(|team| world.team(team.as_str()))
            .any(|team| authz::may_see_team(principal, team))
}

fn cut(mut diff: AccessDiff) -> AccessDiff {
    diff.truncated = true;
    diff.loses.truncate(MAX_LINES);
    diff.gains.truncate(MAX_LINES.saturating_sub(diff.loses.len()));
    diff
}

/// The subject as the one who would call; `None` when nobody can act as it.
fn principal(world: &World, subject: &Subject, now: UnixMillis) -> Option<Principal> {
    // The policy does not look at the token.
    let token_id = TokenId::parse("000000000000").ok()?;
    match subject {
        Subject::User(email) => {
            let user = world.user(email.as_str()).filter(|user| user.active)?;
            Some(Principal::User { user: Arc::clone(&user.value), token_id })
        }
        Subject::VirtualAccount(name) => {
            let account = world.virtual_account(name.as_str())?;
            let lives = account.expires_at.is_none_or(|end| now < end);
            lives.then(|| Principal::VirtualAccount { account: Arc::clone(&account.value), token_id })
        }
        Subject::Team(_) => None,
    }
}

fn access(world: &World, principal: Option<&Principal>, name: &AccountName) -> BTreeSet<(String, Role)> {
    let mut access = BTreeSet::new();
    let (Some(principal), Some(account)) = (principal, world.account(name.as_str())) else { return access };
    if !authz::may_see_account(principal, name.as_str(), world) {
        return access;
    }
    for model in account.spec.models.keys() {
        if authz::may_use(principal, name.as_str(), model.as_str(), world) {
            access.insert((format!("{name}/{model}"), Role::Access));
        }
    }
    if authz::may_manage_account(principal, name.as_str(), world) {
        access.insert((name.to_string(), Role::Manager));
    }
    access
}

#[derive(Default)]
struct Affected {
    subjects: BTreeSet<Subject>,
    accounts: BTreeSet<AccountName>,
}

impl Affected {
    /// A subject, or everyone in it.
    fn reach(&mut self, world: &World, subject: &Subject) {
        match subject {
            Subject::Team(name) if name.as_str() == Team::EVERYONE => {
                self.subjects.extend(world.users().map(|user| Subject::User(user.email.clone())));
            }
            Subject::Team(name) => {
                let members = world.team(name.as_str()).into_iter().flat_map(|team| team.members.iter());
                self.subjects.extend(members.cloned().map(Subject::User));
            }
            other => {
                self.subjects.insert(other.clone());
            }
        }
    }

    fn accounts_of(&mut self, world: &World, subject: &Subject) {
        self.accounts.extend(world.grants_of(subject).iter().map(|grant| grant.target.account.clone()));
    }

    fn user(&mut self, world: &World, email: &Email) {
        let subject = Subject::User(email.clone());
        self.accounts_of(world, &subject);
        for team in world.teams_of(email.as_str()) {
            self.accounts_of(world, &Subject::Team(team.clone()));
        }
        if let Ok(everyone) = Subject::parse("team:everyone") {
            self.accounts_of(world, &everyone);
        }
        if world.user(email.as_str()).is_some_and(|user| user.role == TenantRole::Admin) {
            self.accounts.extend(world.accounts().map(|account| account.spec.name.clone()));
        }
        self.subjects.insert(subject);
    }

    fn account(&mut self, world: &World, name: &AccountName) {
        for grant in world.grants().filter(|grant| grant.target.account == *name) {
            self.reach(world, &grant.subject);
        }
        let admins = world.users().filter(|user| user.role == TenantRole::Admin);
        self.subjects.extend(admins.map(|user| Subject::User(user.email.clone())));
        self.accounts.insert(name.clone());
    }

    fn grant(&mut self, world: &World, grant: &Grant) {
        self.reach(world, &grant.subject);
        self.accounts.insert(grant.target.account.clone());
    }
}

/// Whose access on which accounts can be another one after the change.
fn affected(before: &World, after: &World, change: &Change) -> Affected {
    let mut found = Affected::default();
    for write in &change.writes {
        let key = match write {
            Write::Put(object, _) => object.key(),
            Write::Delete(key, _) => key.clone(),
            Write::Check(..) | Write::PruneAudit(_) => continue,
        };
        for world in [before, after] {
            match object(world, &key, write) {
                Some(Object::Grant(grant)) => found.grant(world, &grant),
                Some(Object::User(user)) => {
                    let known =
                        |world: &World| world.user(user.email.as_str()).map(|user| user.value.clone());
                    if known(before) != known(after) {
                        found.user(world, &user.email);
                    }
                }
                Some(Object::Team(team)) => {
                    let subject = Subject::Team(team.name.clone());
                    let members =
                        |world: &World| world.team(team.name.as_str()).map(|team| team.members.clone());
                    if members(before) != members(after) {
                        found.reach(world, &subject);
                        found.accounts_of(world, &subject);
                    }
                }
                Some(Object::VirtualAccount(account)) => {
                    let subject = Subject::VirtualAccount(account.name.clone());
                    found.accounts_of(world, &subject);
                    found.subjects.insert(subject);
                }
                Some(Object::Account(account)) => {
                    let models = |world: &World| {
                        let account = world.account(account.name.as_str())?;
                        Some(account.spec.models.keys().cloned().collect::<Vec<_>>())
                    };
                    if models(before) != models(after) {
                        found.account(world, &account.name);
                    }
                }
                Some(
                    Object::Token(_)
                    | Object::Settings(_)
                    | Object::Limits(_)
                    | Object::Catalogue(_)
                    | Object::Login(_)
                    | Object::Session(_),
                )
                | None => {}
            }
        }
    }
    found
}

/// The object that a write is about, as it is in a state or as it is written.
fn object(world: &World, key: &Key, write: &Write) -> Option<Object> {
    if let Write::Put(object, _) = write {
        return Some(object.clone());
    }
    let (kind, name) = key.as_str().split_once('/')?;
    match kind {
        "user" => world.user(name).map(|user| Object::User(user.value.as_ref().clone())),
        "team" => world.team(name).map(|team| Object::Team(team.value.as_ref().clone())),
        "account" => world.account(name).map(|account| Object::Account(account.spec.clone())),
        "virtual-account" => {
            world.virtual_account(name).map(|account| Object::VirtualAccount(account.value.as_ref().clone()))
        }
        "grant" => {
            let subject = Subject::parse(name.split('|').next()?).ok()?;
            let grant = world.grants_of(&subject).iter().find(|grant| Key::grant(grant) == *key)?;
            Some(Object::Grant(grant.value.as_ref().clone()))
        }
        _ => None,
    }
}

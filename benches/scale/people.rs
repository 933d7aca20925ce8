//! Everyone and everything that such a store holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::clock::UnixMillis;
use crate::domain::{
    Grant, GrantSource, Model, ModelType, Owner, ProviderAccount, ProviderType, Role, Subject, Target, Team,
    TenantRole, Token, User, VirtualAccount,
};
use crate::id::{AccountName, Email, ModelName, SlugName, TeamName};
use crate::store::{Change, Expect, Object, Store, Write};
use crate::token::{TokenKind, mint};

/// Objects in one commit while the store is made.
const IN_ONE_COMMIT: usize = 20_000;
const TEAMS_OF_A_USER: usize = 3;

/// How much of everything.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the nouns of `domain`")]
pub struct Size {
    pub users: usize,
    pub teams: usize,
    pub accounts: usize,
    pub models: usize,
    pub grants: usize,
    pub tokens: usize,
}

/// A small linear congruential generator (Knuth's MMIX constants).
pub struct Random(pub u64);

impl Random {
    /// The next number, below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// A token's text, kept, and what its owner may and may not use.
pub struct Known {
    pub text: String,
    pub own_model: String,
    pub team_model: String,
    pub denied_model: String,
}

/// What was made.
pub struct People {
    /// Tokens whose text is known.
    pub known: Vec<Known>,
    /// Ids of tokens that may be revoked.
    pub ids: Vec<String>,
    /// The token of an admin.
    pub root: String,
}

struct Writer<'a> {
    store: &'a Store,
    writes: Vec<Write>,
}

impl Writer<'_> {
    fn put(&mut self, object: Object) {
        self.writes.push(Write::Put(object, Expect::Absent));
        if self.writes.len() >= IN_ONE_COMMIT {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let writes = std::mem::take(&mut self.writes);
        self.store.commit(Change { writes, audit: Vec::new() }).unwrap();
    }
}

fn email(number: usize) -> Email {
    Email::parse(&format!("person-{number:05}@example.com")).unwrap()
}

fn team_name(number: usize) -> TeamName {
    TeamName::parse(&format!("team-{number:03}")).unwrap()
}

fn virtual_name(number: usize) -> SlugName {
    SlugName::parse(&format!("application-{number:04}")).unwrap()
}

impl Size {
    fn virtual_accounts(self) -> usize {
        (self.users / 5).max(1)
    }

    fn models_of_an_account(self) -> usize {
        (self.models / self.accounts).max(1)
    }

    /// The account and model of the grant `number` of someone; different ones for different numbers.
    fn target(self, who: usize, number: usize) -> (usize, usize) {
        let place = who.wrapping_mul(7).wrapping_add(number) % (self.accounts * self.models_of_an_account());
        (place % self.accounts, place / self.accounts)
    }

    fn team_of(self, user: usize, number: usize) -> usize {
        (user + number * (self.teams / TEAMS_OF_A_USER).max(1)) % self.teams
    }
}

fn model_text((account, model): (usize, usize)) -> String {
    format!("account-{account:03}/model-{model:02}")
}

impl People {
    /// Writes what a later run on the same store needs.
    pub fn keep(&self, folder: &Path) {
        let mut text = format!("root {}\n", self.root);
        self.ids.iter().for_each(|id| text.push_str(&format!("id {id}\n")));
        for one in &self.known {
            let Known { text: token, own_model, team_model, denied_model } = one;
            text.push_str(&format!("known {token} {own_model} {team_model} {denied_model}\n"));
        }
        std::fs::write(folder.join("people"), text).unwrap();
    }

    /// What an earlier run left.
    pub fn kept(folder: &Path) -> Option<(PathBuf, Self)> {
        let text = std::fs::read_to_string(folder.join("people")).ok()?;
        let mut people = Self { known: Vec::new(), ids: Vec::new(), root: String::new() };
        for line in text.lines() {
            let words: Vec<String> = line.split(' ').map(ToOwned::to_owned).collect();
            match words.as_slice() {
                [kind, root] if kind == "root" => people.root.clone_from(root),
                [_, id] => people.ids.push(id.clone()),
                [_, token, own, team, denied] => people.known.push(Known {
                    text: token.clone(),
                    own_model: own.clone(),
                    team_model: team.clone(),
                    denied_model: denied.clone(),
                }),
                _ => panic!("{line}"),
            }
        }
        Some((folder.to_owned(), people))
    }

    /// Fills a store. `known` texts of tokens are kept.
    pub fn make(store: &Store, size: Size, known: usize) -> Self {
        let at = UnixMillis::now();
        let mut writer = Writer { store, writes: Vec::new() };
        for number in 0..size.accounts {
            let models: BTreeMap<ModelName, Model> = (0..size.models_of_an_account())
                .map(|model| {
                    let name = ModelName::parse(&format!("model-{model:02}")).unwrap();
                    let model = Model {
                        name: name.clone(),
                        model_id: format!("provider-model-{model:02}"),
                        types: BTreeSet::from([ModelType::Chat]),
                        prices: crate::domain::ModelPrices::simple(
                            crate::domain::Money::parse("2.5"),
                            crate::domain::Money::parse("10"),
                        ),
                        settings: crate::domain::ModelSettings::default(),
                        created_at: at,
                    };
                    (name, model)
                })
                .collect();
            let name = format!("account-{number:03}");
            let sealed = store
                .master_key()
                .seal("account", &name, "api_key", &crate::secret::Secret::new("sk-0123456789".into()))
                .unwrap();
            writer.put(Object::Account(ProviderAccount {
                name: AccountName::parse(&name).unwrap(),
                provider: ProviderType::Openai,
                base_url: "https://provider.example/v1".into(),
                destination_by_admin: true,
                sealed_api_key: Some(sealed),
                headers: BTreeMap::new(),
                ca_certificates: None,
                settings: crate::domain::AccountSettings::default(),
                models,
                manifest: None,
                created_at: at,
                updated_at: at,
                created_by: "user:root@example.com".into(),
            }));
        }
        let user = |email: Email, role: TenantRole| User {
            email,
            display_name: "A Person of Some Name".into(),
            role,
            active: true,
            created_at: at,
            updated_at: at,
        };
        for number in 0..size.users {
            writer.put(Object::User(user(email(number), TenantRole::Member)));
        }
        writer.put(Object::User(user(Email::parse("root@example.com").unwrap(), TenantRole::Admin)));
        let mut members = vec![BTreeSet::new(); size.teams];
        for number in 0..size.users {
            for which in 0..TEAMS_OF_A_USER {
                members[size.team_of(number, which)].insert(email(number));
            }
        }
        for (number, members) in members.into_iter().enumerate() {
            writer.put(Object::Team(Team {
                name: team_name(number),
                description: String::new(),
                managers: members.iter().take(1).cloned().collect(),
                members,
                manifest: None,
                created_at: at,
                updated_at: at,
            }));
        }
        for number in 0..size.virtual_accounts() {
            writer.put(Object::VirtualAccount(VirtualAccount {
                name: virtual_name(number),
                expires_at: None,
                tags: BTreeMap::from([("cost-centre".to_owned(), "4711".to_owned())]),
                owned_by: None,
                auto_rotate: None,
                had_token: true,
                manifest: None,
                created_at: at,
                updated_at: at,
                created_by: "user:root@example.com".into(),
            }));
        }
        let grants_of_a_team = grants(&mut writer, size, at);
        let people = tokens(&mut writer, size, at, known, grants_of_a_team);
        writer.flush();
        people
    }
}

/// Half of the grants to users, a third to teams, the rest to virtual accounts; how many each team got.
fn grants(writer: &mut Writer<'_>, size: Size, at: UnixMillis) -> usize {
    let mut give = |subject: Subject, place: (usize, usize)| {
        let (account, model) = place;
        writer.put(Object::Grant(Grant {
            subject,
            role: Role::Access,
            target: Target {
                account: AccountName::parse(&format!("account-{account:03}")).unwrap(),
                model: Some(ModelName::parse(&format!("model-{model:02}")).unwrap()),
            },
            source: GrantSource::Direct,
            created_at: at,
            created_by: "user:root@example.com".into(),
        }));
    };
    let all = size.accounts * size.models_of_an_account();
    let each = |share: usize, among: usize| (size.grants * share / 10 / among).clamp(1, all / 4);
    let of_user = each(5, size.users);
    let of_team = each(3, size.teams);
    let of_virtual = each(2, size.virtual_accounts());
    for number in 0..size.users {
        (0..of_user).for_each(|which| give(Subject::User(email(number)), size.target(number, which)));
    }
    for number in 0..size.teams {
        (0..of_team)
            .for_each(|which| give(Subject::Team(team_name(number)), size.target(number + 31, which)));
    }
    for number in 0..size.virtual_accounts() {
        (0..of_virtual).for_each(|which| {
            give(Subject::VirtualAccount(virtual_name(number)), size.target(number, which))
        });
    }
    of_team
}

/// Four fifths personal, the rest of virtual accounts.
fn tokens(writer: &mut Writer<'_>, size: Size, at: UnixMillis, known: usize, of_team: usize) -> People {
    let mut people = People { known: Vec::new(), ids: Vec::new(), root: String::new() };
    let all = size.accounts * size.models_of_an_account();
    let each_known = (size.tokens / known.min(size.tokens)).max(1);
    for number in 0..=size.tokens {
        let root = number == size.tokens;
        let personal = root || number % 5 != 0;
        let kind = if personal { TokenKind::Personal } else { TokenKind::Virtual };
        let (id, text, secret_hash) = mint(kind).unwrap();
        let who = (number / 5 * 4 + number % 5) % size.users;
        let owner = if root {
            Owner::User(Email::parse("root@example.com").unwrap())
        } else if personal {
            Owner::User(email(who))
        } else {
            Owner::VirtualAccount(virtual_name(number / 5 % size.virtual_accounts()))
        };
        if root {
            people.root = text.expose().to_owned();
        } else if personal && number % each_known == 1 % each_known {
            let team = size.team_of(who, TEAMS_OF_A_USER - 1);
            people.known.push(Known {
                text: text.expose().to_owned(),
                own_model: model_text(size.target(who, 0)),
                team_model: model_text(size.target(team + 31, of_team - 1)),
                denied_model: model_text(size.target(who, all / 2)),
            });
        } else if people.ids.len() < 10_000 {
            people.ids.push(id.to_string());
        }
        writer.put(Object::Token(Token {
            id,
            name: SlugName::parse(&format!("laptop-{}", number % 100)).unwrap(),
            secret_hash,
            expires_at: Some(UnixMillis(at.0 + 86_400_000)),
            created_at: at,
            created_by: owner.subject().to_string(),
            owner,
            replaces: None,
            replaced_by: None,
            revoked_at: None,
        }));
    }
    people
}

//! The whole policy as a table that people have read, and against a second, naive policy on random worlds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use super::*;
use crate::clock::UnixMillis;
use crate::domain::{GrantSource, Model, ProviderAccount, ProviderType, Target, VirtualAccount};
use crate::id::{AccountName, ModelName, SlugName, TokenId};
use crate::seal::MasterKey;
use crate::store::{Change, Expect, Object, Store, Write as StoreWrite};

const NOW: UnixMillis = UnixMillis(1);

fn email(name: &str) -> Email {
    Email::parse(&format!("{name}@x.io")).unwrap()
}

fn user(name: &str, role: TenantRole, active: bool) -> User {
    User { email: email(name), display_name: String::new(), role, active, created_at: NOW, updated_at: NOW }
}

fn team(name: &str, members: &[&str], managers: &[&str]) -> Team {
    Team {
        name: TeamName::parse(name).unwrap(),
        description: String::new(),
        members: members.iter().map(|name| email(name)).collect(),
        managers: managers.iter().map(|name| email(name)).collect(),
        manifest: None,
        created_at: NOW,
        updated_at: NOW,
    }
}

fn account(name: &str, models: &[&str]) -> ProviderAccount {
    let model = |name: &str| Model {
        name: ModelName::parse(name).unwrap(),
        model_id: name.into(),
        types: [crate::domain::ModelType::Chat].into(),
        prices: crate::domain::ModelPrices::default(),
        settings: crate::domain::ModelSettings::default(),
        created_at: NOW,
    };
    ProviderAccount {
        name: AccountName::parse(name).unwrap(),
        provider: ProviderType::Openai,
        base_url: "https://x.io/v1".into(),
        destination_by_admin: false,
        sealed_api_key: None,
        headers: BTreeMap::new(),
        ca_certificates: None,
        settings: crate::domain::AccountSettings::default(),
        models: models.iter().map(|name| (ModelName::parse(name).unwrap(), model(name))).collect(),
        manifest: None,
        created_at: NOW,
        updated_at: NOW,
        created_by: String::new(),
    }
}

fn application(name: &str) -> VirtualAccount {
    VirtualAccount {
        name: SlugName::parse(name).unwrap(),
        expires_at: None,
        tags: BTreeMap::new(),
        owned_by: None,
        auto_rotate: None,
        had_token: false,
        manifest: None,
        created_at: NOW,
        updated_at: NOW,
        created_by: String::new(),
    }
}

fn token_id(owner: &str) -> String {
    format!("{:0>12}", owner.replace('-', ""))
}

fn token(owner: Owner) -> Token {
    let name = match &owner {
        Owner::User(email) => email.as_str().split('@').next().unwrap().to_owned(),
        Owner::VirtualAccount(name) => name.to_string(),
    };
    Token {
        id: TokenId::parse(&token_id(&name)).unwrap(),
        owner,
        name: SlugName::parse("key").unwrap(),
        secret_hash: crate::secret::SecretHash::of(""),
        expires_at: None,
        created_at: NOW,
        created_by: String::new(),
        replaces: None,
        replaced_by: None,
        revoked_at: None,
    }
}

fn grant(subject: &str, role: Role, target: &str) -> Grant {
    Grant {
        subject: Subject::parse(subject).unwrap(),
        role,
        target: Target::parse(target).unwrap(),
        source: GrantSource::Direct,
        created_at: NOW,
        created_by: String::new(),
    }
}

fn world(objects: Vec<Object>) -> Arc<World> {
    let store = Store::in_memory(MasterKey::new(&[7; 32]));
    let writes = objects.into_iter().map(|object| StoreWrite::Put(object, Expect::Absent)).collect();
    store.commit(Change { writes, audit: Vec::new() }).unwrap();
    store.snapshot()
}

const COLUMNS: [(&str, &str); 10] = [
    ("none", "a member without any grant"),
    ("direct", "a member with access to the account main"),
    ("viateam", "a member with access to main through the team search"),
    ("onemodel", "a member with access to the model main/gpt only"),
    ("keeper", "a member who manages main"),
    ("lead", "a member who manages the team search without being in it"),
    ("admin", "an admin"),
    ("former", "a deactivated admin, who also has access to main"),
    ("app", "a virtual account with access to main"),
    ("local", "the admin socket; it uses no models: there is nobody to put them down to"),
];

fn furnished() -> Arc<World> {
    let mut objects = Vec::new();
    for (name, _) in COLUMNS {
        if name != "app" && name != "local" {
            let role =
                if name == "admin" || name == "former" { TenantRole::Admin } else { TenantRole::Member };
            objects.push(Object::User(user(name, role, name != "former")));
            objects.push(Object::Token(token(Owner::User(email(name)))));
        }
    }
    objects.push(Object::User(user("other", TenantRole::Member, true)));
    objects.push(Object::Token(token(Owner::User(email("other")))));
    objects.push(Object::Team(team("search", &["viateam"], &["lead"])));
    objects.push(Object::Team(team("hidden", &["other"], &[])));
    objects.push(Object::Account(account("main", &["gpt", "small"])));
    objects.push(Object::Account(account("other", &["gpt"])));
    for name in ["app", "other"] {
        let owner = SlugName::parse(if name == "app" { "app" } else { "other-app" }).unwrap();
        objects.push(Object::VirtualAccount(application(owner.as_str())));
        objects.push(Object::Token(token(Owner::VirtualAccount(owner))));
    }
    for (subject, role, target) in GRANTS {
        objects.push(Object::Grant(grant(subject, role, target)));
    }
    world(objects)
}

const GRANTS: [(&str, Role, &str); 7] = [
    ("user:direct@x.io", Role::Access, "main"),
    ("team:search", Role::Access, "main"),
    ("user:onemodel@x.io", Role::Access, "main/gpt"),
    ("user:keeper@x.io", Role::Manager, "main"),
    ("user:former@x.io", Role::Access, "main"),
    ("virtualaccount:app", Role::Access, "main"),
    ("user:other@x.io", Role::Access, "other"),
];

fn principal(name: &str, world: &World) -> Principal {
    match name {
        "local" => Principal::LocalAdministrator { uid: 0 },
        "app" => Principal::VirtualAccount {
            account: Arc::clone(&world.virtual_account("app").unwrap().value),
            token_id: TokenId::parse(&token_id("app")).unwrap(),
        },
        _ => Principal::User {
            user: Arc::clone(&world.user(email(name).as_str()).unwrap().value),
            token_id: TokenId::parse(&token_id(name)).unwrap(),
        },
    }
}

/// What a resource is called in the table; the `own` of someone is another resource in each column.
const RESOURCES: [(&str, &str); 27] = [
    ("user", "own"),
    ("user", "other"),
    ("user", "absent"),
    ("team", "search"),
    ("team", "hidden"),
    ("team", "absent"),
    ("account", "main"),
    ("account", "other"),
    ("account", "absent"),
    ("model", "main/gpt"),
    ("model", "main/small"),
    ("model", "main/absent"),
    ("model", "other/gpt"),
    ("model", "absent/gpt"),
    ("virtual account", "app"),
    ("virtual account", "other-app"),
    ("virtual account", "absent"),
    ("grant", "of team:search on main"),
    ("grant", "of user:direct on main"),
    ("grant", "of user:other on other"),
    ("grant", "absent, on main"),
    ("token", "own"),
    ("token", "other"),
    ("token", "absent"),
    ("token of", "themself"),
    ("audit log", "the"),
    ("settings", "the"),
];

/// Asks `decide` about the resource that the table names, as the one of that column.
fn asked(column: &str, action: Action, resource: (&str, &str), world: &World) -> (Decision, usize) {
    let principal = principal(column, world);
    let own = email(column);
    let grants = [
        grant("team:search", Role::Access, "main"),
        grant("user:direct@x.io", Role::Access, "main"),
        grant("user:other@x.io", Role::Access, "other"),
        grant("user:none@x.io", Role::Access, "main"),
    ];
    let own_token = token_id(column);
    let other_token = token_id("other");
    let owner = match column {
        "app" => Owner::VirtualAccount(SlugName::parse("app").unwrap()),
        _ => Owner::User(own.clone()),
    };
    let resource = match resource {
        ("user", "own") => Resource::User(own.as_str()),
        ("user", "other") => Resource::User("other@x.io"),
        ("user", _) => Resource::User("absent@x.io"),
        ("team", name) => Resource::Team(name),
        ("account", name) => Resource::Account(name),
        ("model", name) => {
            let (account, model) = name.split_once('/').unwrap();
            Resource::Model(account, model)
        }
        ("virtual account", name) => Resource::VirtualAccount(name),
        ("grant", "of team:search on main") => Resource::Grant(&grants[0]),
        ("grant", "of user:direct on main") => Resource::Grant(&grants[1]),
        ("grant", "of user:other on other") => Resource::Grant(&grants[2]),
        ("grant", _) => Resource::Grant(&grants[3]),
        ("token", "own") => Resource::Token(&own_token),
        ("token", "other") => Resource::Token(&other_token),
        ("token", _) => Resource::Token("absent"),
        ("token of", _) => Resource::TokenOf(&owner),
        ("audit log", _) => Resource::AuditLog,
        ("settings", _) => Resource::Settings,
        other => panic!("{other:?}"),
    };
    (decide(&principal, action, resource, world), kind(&resource))
}

/// A new kind of resource does not compile until it has a number here, and fails until it is in the table.
const KINDS: usize = 10;

fn kind(resource: &Resource) -> usize {
    match resource {
        Resource::User(_) => 0,
        Resource::Team(_) => 1,
        Resource::Account(_) => 2,
        Resource::Model(..) => 3,
        Resource::VirtualAccount(_) => 4,
        Resource::Grant(_) => 5,
        Resource::Token(_) => 6,
        Resource::TokenOf(_) => 7,
        Resource::AuditLog => 8,
        Resource::Settings => 9,
    }
}

/// The place of an action in `Action::ALL`; a new one does not compile until it has one.
fn place(action: Action) -> usize {
    match action {
        Action::See => 0,
        Action::Use => 1,
        Action::Create => 2,
        Action::Delete => 3,
        Action::ChangeSettings => 4,
        Action::ChangeDestination => 5,
        Action::ChangeModels => 6,
        Action::ManageAccess => 7,
        Action::ChangeMembers => 8,
        Action::ChangeManagers => 9,
        Action::SetRole => 10,
        Action::Deactivate => 11,
        Action::Rotate => 12,
    }
}

#[test]
fn every_action_and_resource_is_in_the_table() {
    for (number, action) in Action::ALL.into_iter().enumerate() {
        assert_eq!(place(action), number, "{action:?}");
    }
    let world = furnished();
    let kinds: BTreeSet<usize> =
        RESOURCES.into_iter().map(|resource| asked("admin", Action::See, resource, &world).1).collect();
    assert_eq!(kinds, (0..KINDS).collect());
    // Each action is allowed to someone on something, so that none is there for nothing.
    for action in Action::ALL {
        assert!(
            RESOURCES.into_iter().any(|resource| COLUMNS
                .iter()
                .any(|(column, _)| asked(column, action, resource, &world).0 == Decision::Allow)),
            "{action:?}"
        );
    }
}

fn table() -> String {
    let world = furnished();
    let mut text = String::new();
    let line = |text: &mut String, first: &str, cells: &[&str]| {
        let mut line = format!("{first:<22}");
        for cell in cells {
            write!(line, " {cell:<9}").unwrap();
        }
        writeln!(text, "{}", line.trim_end()).unwrap();
    };
    for resource in RESOURCES {
        let (kind, name) = resource;
        let title = match name {
            "own" => format!("their own {kind}"),
            "other" if kind != "account" => format!("another's {kind}"),
            "absent" if kind == "account" => "an account that is not there".to_owned(),
            "absent" => format!("a {kind} that is not there"),
            "themself" => "a new token for themself".to_owned(),
            "the" => format!("the {kind}"),
            _ if kind == "grant" => format!("the grant {name}"),
            _ => format!("the {kind} {name}"),
        };
        writeln!(text, "\n{title}").unwrap();
        let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
        line(&mut text, "", &names);
        // Rows that say the same are one row.
        let mut rows: Vec<(Vec<&str>, Vec<String>)> = Vec::new();
        for action in Action::ALL {
            let cells: Vec<&str> = COLUMNS
                .iter()
                .map(|(column, _)| match asked(column, action, resource, &world).0 {
                    Decision::Allow => "yes",
                    Decision::Forbidden => "no",
                    Decision::Hidden => "-",
                })
                .collect();
            let denied = cells.iter().all(|cell| *cell != "yes");
            match rows.iter_mut().find(|(other, _)| denied && *other == cells) {
                Some((_, actions)) => actions.push(format!("{action:?}")),
                None => rows.push((cells, vec![format!("{action:?}")])),
            }
        }
        rows.sort_by_key(|(_, actions)| actions.len() > 1);
        for (cells, actions) in rows {
            let shown = if actions.len() > 1 { "  all else" } else { "" };
            let first = if shown.is_empty() { format!("  {}", actions[0]) } else { shown.to_owned() };
            line(&mut text, &first, &cells);
            if actions.len() > 1 {
                writeln!(text, "    ({})", actions.join(", ")).unwrap();
            }
        }
    }
    text
}

/// `BLESS=1 cargo test authz` writes the table; then read the difference.
#[test]
fn who_may_do_what() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/policy-decisions.txt");
    let mut found = String::from(
        "# The whole policy: who may do what to what. yes: allowed; no: refused and told so (403); -: as if it were not there\n\
         # (404). The account main has the models gpt and small; the account other, the team hidden and the user other are\n\
         # nobody's concern here but admins'. Every tenant setting is at its default. The columns:\n",
    );
    for (name, who) in COLUMNS {
        writeln!(found, "#   {name:<9} {who}").unwrap();
    }
    found.push_str(&table());
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &found).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap_or_default();
    for (number, (want, is)) in golden.lines().zip(found.lines()).enumerate() {
        assert_eq!(want, is, "line {} of tests/golden/policy-decisions.txt", number + 1);
    }
    assert_eq!(golden.lines().count(), found.lines().count());
}

/// Splitmix64: the same numbers for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((word ^ (word >> 31)) % u64::try_from(bound).unwrap()).unwrap()
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn some<'a>(&mut self, of: &[&'a str]) -> Vec<&'a str> {
        of.iter().filter(|_| self.one_in(3)).copied().collect()
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

const USERS: [&str; 4] = ["ann", "bob", "cid", "dee"];
const TEAMS: [&str; 3] = ["red", "green", "blue"];
const ACCOUNTS: [&str; 3] = ["aa", "ab", "b"];
const MODELS: [&str; 3] = ["m", "mm", "n"];

/// A world as plain lists, which the naive policy reads.
#[derive(Default)]
struct Plain {
    users: Vec<User>,
    teams: Vec<Team>,
    accounts: Vec<ProviderAccount>,
    grants: Vec<Grant>,
}

impl Plain {
    fn random(random: &mut Random) -> Self {
        let mut plain = Self::default();
        for name in USERS {
            let role = if random.one_in(5) { TenantRole::Admin } else { TenantRole::Member };
            plain.users.push(user(name, role, !random.one_in(5)));
        }
        for name in random.some(&TEAMS) {
            plain.teams.push(team(name, &random.some(&USERS), &random.some(&USERS)));
        }
        for name in ACCOUNTS {
            plain.accounts.push(account(name, &random.some(&MODELS)));
        }
        for _ in 0..random.below(12) {
            let (user, team) = (random.pick(&USERS), random.pick(&TEAMS));
            let subject = match random.below(6) {
                0..=1 => format!("user:{user}@x.io"),
                2..=3 => format!("team:{team}"),
                4 => "team:everyone".to_owned(),
                _ => "virtualaccount:app".to_owned(),
            };
            let account = random.pick(&ACCOUNTS);
            let given = if random.one_in(3) && !subject.starts_with("virtual") {
                grant(&subject, Role::Manager, account)
            } else if random.one_in(2) {
                grant(&subject, Role::Access, account)
            } else {
                grant(&subject, Role::Access, &format!("{account}/{}", random.pick(&MODELS)))
            };
            if !plain.grants.contains(&given) {
                plain.grants.push(given);
            }
        }
        plain
    }

    fn world(&self) -> Arc<World> {
        let mut objects = vec![Object::VirtualAccount(application("app"))];
        objects.extend(self.users.iter().cloned().map(Object::User));
        objects.extend(self.teams.iter().cloned().map(Object::Team));
        objects.extend(self.accounts.iter().cloned().map(Object::Account));
        objects.extend(self.grants.iter().cloned().map(Object::Grant));
        world(objects)
    }

    /// The grants that reach a subject, by looking at all of them.
    fn reaching(&self, name: &str) -> Vec<&Grant> {
        let reaches = |grant: &&Grant| match grant.subject.to_string().split_once(':').unwrap() {
            ("virtualaccount", app) => app == name,
            ("user", mail) => mail == format!("{name}@x.io"),
            (_, "everyone") => name != "app",
            (_, team) => self.teams.iter().any(|own| {
                own.name.as_str() == team
                    && own.members.iter().any(|mail| mail.as_str() == format!("{name}@x.io"))
            }),
        };
        self.grants.iter().filter(reaches).collect()
    }

    /// The second policy: sentences of the contract, on lists.
    fn decides(&self, name: &str, action: Action, account: &str, model: Option<&str>) -> Decision {
        let user = self.users.iter().find(|user| user.email.as_str() == format!("{name}@x.io"));
        let admin = user.is_some_and(|user| user.active && user.role == TenantRole::Admin);
        let grants: Vec<&Grant> = match user {
            Some(user) if !user.active => Vec::new(),
            _ => self.reaching(name),
        };
        let on: Vec<_> = grants.iter().filter(|grant| grant.target.account.as_str() == account).collect();
        let manager = admin || on.iter().any(|grant| grant.role == Role::Manager);
        let yes_if = |yes: bool| if yes { Decision::Allow } else { Decision::Forbidden };
        let Some(model) = model else {
            return match action {
                _ if name == "app" => Decision::Forbidden,
                Action::Create => yes_if(admin),
                _ if on.is_empty() && !admin => Decision::Hidden,
                Action::See => Decision::Allow,
                Action::ChangeSettings | Action::ChangeModels | Action::ManageAccess => yes_if(manager),
                Action::Delete | Action::ChangeDestination => yes_if(admin),
                _ => Decision::Forbidden,
            };
        };
        if action == Action::Create {
            return if on.is_empty() && !admin { Decision::Hidden } else { yes_if(manager) };
        }
        let offered = self.accounts.iter().any(|offering| {
            offering.name.as_str() == account && offering.models.keys().any(|name| name.as_str() == model)
        });
        let usable = admin
            || on.iter().any(|grant| match &grant.target.model {
                None => true,
                Some(granted) => granted.as_str() == model,
            });
        match action {
            _ if !offered || !(usable || manager) => Decision::Hidden,
            Action::See => Decision::Allow,
            Action::Use => yes_if(usable),
            Action::Delete | Action::ManageAccess => yes_if(manager),
            _ => Decision::Forbidden,
        }
    }
}

#[test]
fn a_naive_policy_decides_the_same_on_random_worlds() {
    for seed in 0..300 {
        let plain = Plain::random(&mut Random(seed));
        let world = plain.world();
        for name in USERS.into_iter().chain(["app"]) {
            let principal = principal(name, &world);
            for account in ACCOUNTS {
                for model in MODELS.map(Some).into_iter().chain([None]) {
                    let resource = match model {
                        Some(model) => Resource::Model(account, model),
                        None => Resource::Account(account),
                    };
                    for action in Action::ALL {
                        let (naive, is) = (
                            plain.decides(name, action, account, model),
                            decide(&principal, action, resource, &world),
                        );
                        assert_eq!(naive, is, "seed {seed}: {name} {action:?} {resource:?}");
                        // What decides a call says the same.
                        if let (Some(model), Action::Use, true) = (model, action, is != Decision::Hidden) {
                            assert_eq!(
                                may_use(&principal, account, model, &world),
                                is == Decision::Allow,
                                "seed {seed}"
                            );
                        }
                    }
                }
            }
        }
    }
}

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::*;
use crate::clock::UnixMillis;
use crate::domain::*;
use crate::id::*;
use crate::secret::Secret;

/// A folder of its own, removed at the end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("gateway-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        data_dir::prepare(&path).unwrap();
        Self(path)
    }

    pub(super) fn open(&self) -> Result<Store, StoreError> {
        Store::open(&self.0, key(), Options::default())
    }

    pub(super) fn state(&self) -> PathBuf {
        self.0.join("state.redb")
    }

    /// Changes the file behind the gateway's back.
    pub(super) fn tamper(&self, change: impl FnOnce(&redb::WriteTransaction)) {
        let database = redb::Database::open(self.state()).unwrap();
        let transaction = database.begin_write().unwrap();
        change(&transaction);
        transaction.commit().unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) fn key() -> MasterKey {
    MasterKey::new(&[7; 32])
}

pub(super) fn user(email: &str) -> Object {
    Object::User(User {
        email: Email::parse(email).unwrap(),
        display_name: String::new(),
        role: TenantRole::Member,
        active: true,
        created_at: UnixMillis(1),
        updated_at: UnixMillis(1),
    })
}

fn token(number: u32, owner: &str) -> Object {
    Object::Token(Token {
        id: TokenId::parse(&format!("{number:012}")).unwrap(),
        owner: Owner::User(Email::parse(owner).unwrap()),
        name: SlugName::parse("laptop").unwrap(),
        secret_hash: crate::secret::SecretHash::from_hex(&"0".repeat(64)).unwrap(),
        expires_at: None,
        created_at: UnixMillis(1),
        created_by: "local:uid:0".to_owned(),
        replaces: None,
        replaced_by: None,
        revoked_at: None,
    })
}

pub(super) fn entry(resource: &str) -> AuditEntry {
    AuditEntry {
        token_id: None,
        source: crate::domain::AuditSource::Socket,
        refused: None,
        count: 1,
        at: UnixMillis(1),
        actor: "local:uid:0".to_owned(),
        action: "user.create".to_owned(),
        resource: resource.to_owned(),
        before: serde_json::Value::Null,
        after: serde_json::json!({"b": 1, "a": [1.50, "x"]}),
    }
}

pub(super) fn put(object: Object) -> Change {
    let audit = vec![entry(object.key().as_str())];
    Change { writes: vec![Write::Put(object, Expect::Absent)], audit }
}

fn everything() -> Vec<Object> {
    let email = |text| Email::parse(text).unwrap();
    let account = AccountName::parse("main").unwrap();
    let sealed = key().seal("account", "main", "api_key", &Secret::new("sk-plain-text".into())).unwrap();
    vec![
        user("ada@example.com"),
        Object::Team(Team {
            manifest: None,
            name: TeamName::parse("red").unwrap(),
            description: "die Rötliche".to_owned(),
            members: BTreeSet::from([email("ada@example.com")]),
            managers: BTreeSet::new(),
            created_at: UnixMillis(1),
            updated_at: UnixMillis(2),
        }),
        Object::Account(ProviderAccount {
            manifest: None,
            name: account.clone(),
            provider: ProviderType::Openai,
            base_url: "https://api.example.com/v1".to_owned(),
            destination_by_admin: false,
            sealed_api_key: Some(sealed),
            headers: BTreeMap::from([("x-a".to_owned(), "b".to_owned())]),
            ca_certificates: None,
            settings: crate::domain::AccountSettings::default(),
            models: BTreeMap::from([(
                ModelName::parse("m/1").unwrap(),
                Model {
                    name: ModelName::parse("m/1").unwrap(),
                    model_id: "m".to_owned(),
                    types: BTreeSet::from([ModelType::Chat]),
                    prices: crate::domain::ModelPrices::simple(crate::domain::Money::parse("0.15"), None),
                    settings: crate::domain::ModelSettings::default(),
                    created_at: UnixMillis(1),
                },
            )]),
            created_at: UnixMillis(1),
            updated_at: UnixMillis(1),
            created_by: "local:uid:0".to_owned(),
        }),
        Object::VirtualAccount(VirtualAccount {
            owned_by: None,
            auto_rotate: None,
            had_token: false,
            manifest: None,
            name: SlugName::parse("ci-bot").unwrap(),
            expires_at: Some(UnixMillis(9)),
            tags: BTreeMap::new(),
            created_at: UnixMillis(1),
            updated_at: UnixMillis(1),
            created_by: "user:ada@example.com".to_owned(),
        }),
        token(1, "ada@example.com"),
        Object::Grant(Grant {
            subject: Subject::parse("team:red").unwrap(),
            role: Role::Access,
            target: Target { account, model: Some(ModelName::parse("m/1").unwrap()) },
            source: GrantSource::Manifest("virtual-account/x".to_owned()),
            created_at: UnixMillis(1),
            created_by: "local:uid:0".to_owned(),
        }),
    ]
}

#[test]
fn an_account_of_an_older_store_is_read() {
    // As it was written before accounts had settings.
    let text = r#"{"kind":"account","value":{"name":"main","provider":"openai","base_url":"https://api.example.com/v1",
        "destination_by_admin":true,"sealed_api_key":"SEALED","headers":{"x-a":"b"},"ca_certificates":null,
        "models":{"m":{"name":"m","model_id":"up","types":["chat"],"input_price":"0.15","output_price":null,"created_at":1}},
        "manifest":null,"created_at":1,"updated_at":1,"created_by":"local:uid:0"}}"#;
    let folder = Folder::new();
    let store = folder.open().unwrap();
    let sealed = store.master_key().seal("account", "main", "api_key", &Secret::new("sk-1".into())).unwrap();
    let object: Object = serde_json::from_str(&text.replace("SEALED", &sealed)).unwrap();
    let Object::Account(account) = &object else { panic!("{object:?}") };
    assert_eq!(account.settings, AccountSettings::default());
    store.commit(put(object)).unwrap();
    store.close();
    let world = folder.open().unwrap().snapshot();
    let account = world.account("main").unwrap();
    assert_eq!(account.api_key().unwrap().expose(), "sk-1");
    assert!(account.overlays.is_empty() && account.client_key.is_none());
    let prices = crate::domain::ModelPrices::simple(crate::domain::Money::parse("0.15"), None);
    assert_eq!(account.spec.models.values().next().unwrap().prices, prices);
}

#[test]
fn what_is_sealed_opens_for_its_own_field_only() {
    let folder = Folder::new();
    let store = folder.open().unwrap();
    let credential = Credential::Basic { username: "u".into(), password: Secret::new("p".into()) };
    let seal = |name: &str, field: &str, text: &Secret| store.master_key().seal("account", name, field, text);
    let Some(Object::Account(account)) =
        everything().into_iter().find(|one| matches!(one, Object::Account(_)))
    else {
        panic!("no account")
    };
    let account = ProviderAccount { sealed_api_key: None, ..account };
    let mut good = account.clone();
    good.settings.sealed_credential = Some(seal("main", "credential", &credential.to_text()).unwrap());
    store.commit(put(Object::Account(good))).unwrap();
    for (name, field, text) in [
        ("other", "credential", credential.to_text()),
        ("main", "client_key", credential.to_text()),
        ("main", "credential/m", credential.to_text()),
        ("main", "credential", Secret::new("{}".into())),
    ] {
        let mut bad = account.clone();
        bad.settings.sealed_credential = Some(seal(name, field, &text).unwrap());
        let revision = store.snapshot().account("main").unwrap().revision;
        let write = Write::Put(Object::Account(bad), Expect::Revision(revision));
        let result = store.commit(Change { writes: vec![write], audit: vec![] });
        assert!(matches!(result, Err(CommitError::Invalid(_))), "{name} {field}: {result:?}");
    }
    let world = store.snapshot();
    assert!(matches!(world.account("main").unwrap().credential, Some(Credential::Basic { .. })));
}

#[test]
fn a_store_opened_again_is_the_same() {
    let folder = Folder::new();
    let store = folder.open().unwrap();
    for object in everything() {
        store.commit(put(object)).unwrap();
    }
    let revision = store.commit(put(user("gone@example.com"))).unwrap();
    let last = Change { writes: vec![Write::Delete(Key::user("gone@example.com"), revision)], audit: vec![] };
    store.commit(last).unwrap();
    let before = format!("{:#?}", store.snapshot());
    let head = store.verify_audit_chain().unwrap();
    assert_eq!((store.snapshot().revision(), head.records), (8, 7));
    store.close();
    assert!(matches!(store.commit(put(user("x@example.com"))), Err(CommitError::Busy)));
    let store = folder.open().unwrap();
    assert_eq!(format!("{:#?}", store.snapshot()), before);
    assert_eq!(store.snapshot().account("main").unwrap().api_key().unwrap().expose(), "sk-plain-text");
    assert_eq!(store.snapshot().teams_of("ada@example.com").count(), 1);
    // The chain goes on where it stood.
    store.commit(put(user("new@example.com"))).unwrap();
    assert_eq!(store.verify_audit_chain().unwrap().records, 8);
}

#[test]
fn what_a_crash_leaves_is_opened() {
    let (folder, crashed) = (Folder::new(), Folder::new());
    let store = folder.open().unwrap();
    store.commit(put(user("ada@example.com"))).unwrap();
    // The file as it is at this moment, never closed; and a first start that was cut off.
    std::fs::copy(folder.state(), crashed.state()).unwrap();
    std::fs::write(crashed.0.join("state.redb.new"), "half").unwrap();
    assert!(crashed.open().unwrap().snapshot().user("ada@example.com").is_some());
    let fresh = Folder::new();
    std::fs::write(fresh.0.join("state.redb.new"), "half").unwrap();
    assert_eq!(fresh.open().unwrap().snapshot().revision(), 0);
}

#[test]
fn no_secret_lies_in_the_file() {
    let folder = Folder::new();
    let store = folder.open().unwrap();
    for object in everything() {
        store.commit(put(object)).unwrap();
    }
    store.close();
    let bytes = std::fs::read(folder.state()).unwrap();
    assert!(memchr::memmem::find(&bytes, b"ada@example.com").is_some(), "the search itself works");
    assert!(memchr::memmem::find(&bytes, b"sk-plain-text").is_none());
    assert_eq!(std::fs::metadata(folder.state()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_conflict_changes_nothing() {
    let folder = Folder::new();
    let store = folder.open().unwrap();
    let first = store.commit(put(user("ada@example.com"))).unwrap();
    let wrong = [
        Write::Put(user("ada@example.com"), Expect::Absent),
        Write::Put(user("ada@example.com"), Expect::Revision(first + 1)),
        Write::Put(user("eve@example.com"), Expect::Revision(first)),
        Write::Delete(Key::user("ada@example.com"), first + 1),
        Write::Delete(Key::user("eve@example.com"), first),
    ];
    for wrong in wrong {
        let writes = vec![Write::Put(user("bob@example.com"), Expect::Absent), wrong];
        let change = Change { writes, audit: vec![entry("x")] };
        assert!(matches!(store.commit(change), Err(CommitError::Conflict(_))));
        assert!(store.snapshot().user("bob@example.com").is_none());
    }
    assert_eq!(store.verify_audit_chain().unwrap().records, 1);
    drop(store);
    let store = folder.open().unwrap();
    assert!(store.snapshot().user("bob@example.com").is_none());
    assert_eq!(store.snapshot().revision(), first);
    let change =
        Change { writes: vec![Write::Put(user("ada@example.com"), Expect::Revision(first))], audit: vec![] };
    assert!(store.commit(change).unwrap() > first);
}

#[test]
fn threads_commit_together() {
    let folder = Folder::new();
    let store = folder.open().unwrap();
    let mut revisions: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..10)
            .map(|thread| {
                let store = &store;
                scope.spawn(move || {
                    (0..100)
                        .map(|number| {
                            let email = format!("u{thread}-{number}@example.com");
                            let revision = store.commit(put(user(&email))).unwrap();
                            // Done means published.
                            assert_eq!(store.snapshot().user(&email).unwrap().revision, revision);
                            revision
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=1000).collect::<Vec<_>>());
    assert_eq!(store.verify_audit_chain().unwrap().records, 1000);
    drop(store);
    assert_eq!(folder.open().unwrap().snapshot().users().count(), 1000);
}

#[test]
fn of_many_that_expect_the_same_one_wins() {
    let store = Store::in_memory(key());
    let wins: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| usize::from(store.commit(put(user("ada@example.com"))).is_ok())))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((wins, store.snapshot().revision()), (1, 1));
}

#[test]
fn coroutines_commit() {
    may::config().set_workers(2);
    let store = Arc::new(Store::in_memory(key()));
    let coroutines: Vec<_> = (0..50)
        .map(|number| {
            let store = Arc::clone(&store);
            let commit = move || store.commit(put(user(&format!("u{number}@example.com")))).unwrap();
            // Sound: nothing here uses thread-local state or a deep stack.
            may::go!(commit)
        })
        .collect();
    for coroutine in coroutines {
        coroutine.join().unwrap();
    }
    assert_eq!(store.snapshot().users().count(), 50);
}

#[test]
fn a_second_process_is_refused() {
    let folder = Folder::new();
    let store = folder.open().unwrap();
    let error = folder.open().unwrap_err();
    assert!(matches!(error, StoreError::Locked(_)));
    assert!(error.to_string().contains("another gateway process holds this data folder"));
    drop(store);
    folder.open().unwrap();
}

#[test]
fn another_master_key_is_refused() {
    let folder = Folder::new();
    folder.open().unwrap();
    let error = Store::open(&folder.0, MasterKey::new(&[8; 32]), Options::default()).unwrap_err();
    assert!(matches!(error, StoreError::OtherMasterKey { .. }));
}

#[test]
fn a_demo_and_a_store_are_kept_apart() {
    let (folder, demo) = (Folder::new(), Folder::new());
    folder.open().unwrap();
    let options = Options { demo: Demo::Yes };
    assert!(matches!(Store::open(&folder.0, key(), options).unwrap_err(), StoreError::NotDemo(_)));
    Store::open(&demo.0, key(), options).unwrap();
    assert!(matches!(demo.open().unwrap_err(), StoreError::IsDemo(_)));
    Store::open(&demo.0, key(), options).unwrap();
}

#[test]
fn a_newer_schema_is_refused_and_an_older_one_migrated() {
    let folder = Folder::new();
    folder.open().unwrap().commit(put(user("ada@example.com"))).unwrap();
    let step: disk::Migration = |transaction| {
        let mut objects = transaction.open_table(disk::OBJECTS)?;
        objects.remove("user/ada@example.com")?;
        Ok(())
    };
    let store = Store::open_with(&folder.0, key(), Options::default(), &[step]).unwrap();
    assert!(store.snapshot().user("ada@example.com").is_none());
    drop(store);
    let error = folder.open().unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { found: 2, known: 1 }), "{error}");
    // The backup is the store of before.
    std::fs::rename(folder.0.join("state.redb.v1.backup"), folder.state()).unwrap();
    assert!(folder.open().unwrap().snapshot().user("ada@example.com").is_some());
}

#[test]
fn an_unreadable_record_is_never_skipped() {
    let good = serde_json::to_value(user("ada@example.com")).unwrap();
    let record = |v: u32, object: &serde_json::Value| {
        serde_json::json!({"v": v, "revision": 1, "object": object}).to_string()
    };
    let mut unknown_field = good.clone();
    unknown_field["value"]["superuser"] = true.into();
    let mut unknown_kind = good.clone();
    unknown_kind["kind"] = "wizard".into();
    for (key, bytes, fine) in [
        ("user/ada@example.com", record(1, &good), true),
        ("user/bob@example.com", record(1, &good), false),
        ("user/ada@example.com", record(2, &good), false),
        ("user/ada@example.com", record(1, &unknown_field), false),
        ("user/ada@example.com", record(1, &unknown_kind), false),
        ("user/ada@example.com", String::new(), false),
        ("user/ada@example.com", "\0".to_owned(), false),
    ] {
        let folder = Folder::new();
        folder.open().unwrap();
        folder.tamper(|transaction| {
            transaction.open_table(disk::OBJECTS).unwrap().insert(key, bytes.as_bytes()).unwrap();
            transaction.open_table(disk::META).unwrap().insert(disk::REVISION, "1").unwrap();
        });
        match folder.open() {
            Ok(_) => assert!(fine, "{bytes}"),
            Err(error) => assert!(!fine && matches!(error, StoreError::Damaged { .. }), "{error}"),
        }
    }
}

#[test]
fn a_large_store_is_read_whole() {
    const COUNT: u32 = 12_000;
    let starts: Vec<char> = ('0'..='9').chain('A'..='Z').chain('a'..='z').collect();
    let id = |number: u32| format!("{}{number:011}", starts[number as usize % starts.len()]);
    let folder = Folder::new();
    let store = folder.open().unwrap();
    let mut writes: Vec<Write> =
        everything().into_iter().map(|object| Write::Put(object, Expect::Absent)).collect();
    for number in 0..COUNT {
        let Object::Token(mut one) = token(number, "ada@example.com") else { unreachable!() };
        one.id = TokenId::parse(&id(number)).unwrap();
        writes.push(Write::Put(Object::Token(one), Expect::Absent));
    }
    store.commit(Change { writes, audit: Vec::new() }).unwrap();
    let before = store.snapshot();
    drop(store);
    let store = folder.open().unwrap();
    let after = store.snapshot();
    assert!(after.tokens().count() >= COUNT as usize);
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
    drop(store);
    // One that can not be read, wherever it is.
    for at in [0, COUNT / 2, COUNT - 1] {
        let name = format!("token/{}", id(at));
        let mut kept = Vec::new();
        folder.tamper(|transaction| {
            let mut objects = transaction.open_table(disk::OBJECTS).unwrap();
            kept = objects.insert(name.as_str(), b"{".as_slice()).unwrap().unwrap().value().to_vec();
        });
        let error = folder.open().unwrap_err();
        assert!(error.to_string().contains(&name), "{error}");
        folder.tamper(|transaction| {
            let mut objects = transaction.open_table(disk::OBJECTS).unwrap();
            objects.insert(name.as_str(), kept.as_slice()).unwrap();
        });
    }
    folder.open().unwrap();
}

#[test]
fn a_damaged_file_is_refused_or_whole() {
    let folder = Folder::new();
    let store = folder.open().unwrap();
    for object in everything() {
        store.commit(put(object)).unwrap();
    }
    let before = format!("{:?}", store.snapshot());
    drop(store);
    let bytes = std::fs::read(folder.state()).unwrap();
    let record = memchr::memmem::find(&bytes, b"die R").unwrap();
    let mut refused = 0;
    for at in [0, 64, 130, record].into_iter().chain((0..bytes.len()).step_by(bytes.len() / 40)) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x55;
        std::fs::write(folder.state(), changed).unwrap();
        match folder.open() {
            Ok(store) => assert_eq!(format!("{:?}", store.snapshot()), before, "byte {at}"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 1);
    std::fs::write(folder.state(), "not a store").unwrap();
    assert!(matches!(folder.open().unwrap_err(), StoreError::Damaged { .. }));
}

#[test]
fn a_waiter_hears_of_a_commit() {
    let store = Store::in_memory(key());
    assert_eq!(store.wait_for_revision(0, Duration::from_millis(1)), 0);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| store.wait_for_revision(0, Duration::from_secs(60)));
        store.commit(put(user("ada@example.com"))).unwrap();
        assert_eq!(waiter.join().unwrap(), 1);
    });
}

#[test]
fn a_change_costs_the_same_with_many_tokens() {
    // Ids as evenly spread as those that are minted, and no owner with more tokens than one may have.
    let spread = |number: u32| {
        let Object::Token(mut token) = token(0, &format!("person-{}@example.com", number / 100)) else {
            unreachable!()
        };
        let digits: Vec<_> = (b'0'..=b'z').filter(u8::is_ascii_alphanumeric).collect();
        let mut rest = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut next = || {
            let digit = digits[usize::try_from(rest >> 58).unwrap() % 62];
            rest = rest.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(u64::from(number));
            char::from(digit)
        };
        token.id = TokenId::parse(&(0..12).map(|_| next()).collect::<String>()).unwrap();
        Object::Token(token)
    };
    let world_of = |tokens: u32| {
        let mut world = World::default();
        for number in 0..tokens {
            world.put(spread(number), 1, &key()).unwrap();
        }
        world
    };
    let cost = |world: &World| {
        // The best of some runs: what else the machine does is not meant.
        (0..20)
            .map(|run| {
                let start = Instant::now();
                for number in 0..50 {
                    let mut next = world.clone();
                    next.put(spread(500_000 + run * 50 + number), 2, &key()).unwrap();
                }
                start.elapsed()
            })
            .min()
            .unwrap()
    };
    let (few, many) = (cost(&world_of(10)), cost(&world_of(100_000)));
    // Copying everything would be thousands of times as much.
    assert!(many < few * 20, "{few:?} with 10, {many:?} with 100,000");
}

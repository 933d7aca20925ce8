//! Manifests: what they make, that they make nothing twice, and what they refuse.

use serde_json::{Value, json};

use super::{House, LOCAL, PROVIDER_KEY, model, permission};

impl House {
    fn apply(&self, manifest: &Value) -> Value {
        self.done("PUT", "/apply", json!({"manifest": manifest, "dryRun": false}))
    }

    fn dry(&self, manifest: &Value) -> Value {
        self.done("PUT", "/apply", json!({"manifest": manifest, "dryRun": true}))
    }

    fn revision(&self) -> u64 {
        self.manage.store.snapshot().revision()
    }

    fn grants(&self, target: &str) -> Vec<(String, String, String)> {
        let all = self.done("GET", &format!("/grants?target={target}"), Value::Null);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let triple = |grant: &Value| (text(&grant["subject"]), text(&grant["role"]), text(&grant["source"]));
        all["data"].as_array().unwrap().iter().map(triple).collect()
    }
}

fn full_account(name: &str) -> Value {
    let mut gpt = model("gpt");
    gpt["authorized_subjects"] = json!(["user:plain@x.io", "virtualaccount:app"]);
    gpt["cost"] =
        json!({"metric": "per_1000_tokens", "value": {"input": 0.0025, "output": 0.01, "cache_read": 0.001}});
    json!({
        "type": "provider-account/openai",
        "name": name,
        "base_url": "https://llm.example.com/v1",
        "auth_data": {"type": "api-key", "api_key": PROVIDER_KEY},
        "ownedBy": {"account": "acme"},
        "discount_percent": 2.5,
        "collaborators": [
            {"subject": "user:keeper@x.io", "role_id": "provider-account-manager"},
            {"subject": "team:everyone", "role_id": "provider-account-access"},
        ],
        "integrations": [gpt, model("org/small")],
    })
}

fn full_virtual_account(name: &str) -> Value {
    json!({
        "type": "virtual-account",
        "name": name,
        "permissions": [permission("main")],
        "expiration_date": "2099-12-31",
        "auto_rotate": {"auto_rotate_interval": 30, "grace_period": 1},
        "ownedBy": {"team": "search", "account": "acme"},
        "tags": {"cost": "a"},
        "token_type": "opaque",
        "notification_target": {"type": "email", "to_emails": ["a@x.io"]},
    })
}

fn full_team(name: &str) -> Value {
    json!({
        "type": "team", "name": name, "members": ["plain@x.io", "access@x.io"], "managers": ["lead@x.io"],
        "displayName": "New", "tags": {"a": "b"}, "ownedBy": {"account": "acme"},
    })
}

/// What was sent comes back as it was sent, and sent again changes nothing.
#[test]
fn applying_twice_changes_nothing() {
    let house = House::furnished();
    let binding = json!({
        "type": "role-binding", "name": "bound",
        "subjects": [{"type": "team", "name": "search"}, {"type": "user", "name": "plain@x.io"}],
        "permissions": [
            {"resourceFqn": "acme:openai:other", "resourceType": "provider-account", "role": "provider-account-manager"},
            {"resourceFqn": "acme:openai:other:model:gpt", "resourceType": "provider-integration", "role": "provider-integration-access"},
        ],
    });
    for manifest in [
        json!({"type": "user", "name": "fresh@x.io", "role": "admin", "displayName": "Fresh"}),
        full_team("new"),
        full_account("new"),
        full_virtual_account("new"),
        binding,
    ] {
        let before = house.revision();
        let dry = house.dry(&manifest);
        assert_eq!(house.revision(), before, "a dry run of {manifest}");
        assert_eq!((&dry["action"], dry.get("existingManifest")), (&json!("CREATE"), None), "{manifest}");
        let first = house.apply(&manifest);
        assert_eq!((&first["action"], first.get("existingManifest")), (&json!("CREATE"), None), "{manifest}");
        assert!(first["data"].is_object());
        let made = house.revision();
        assert!(made > before);
        for answer in [house.apply(&manifest), house.dry(&manifest)] {
            assert_eq!(answer["action"], "UPDATE");
            assert_eq!(answer["existingManifest"], manifest);
        }
        let all = house.done("POST", "/manifests", json!({"manifests": [manifest]}));
        assert_eq!(all["data"][0]["action"], "UNCHANGED");
        assert_eq!(house.revision(), made, "applying {manifest} again");
    }
    let records = house.manage.store.verify_audit_chain().unwrap().records;
    house.apply(&full_account("new"));
    assert_eq!(house.manage.store.verify_audit_chain().unwrap().records, records);
}

#[test]
fn the_key_is_masked_for_all_but_those_who_know_it() {
    let house = House::furnished();
    let mut manifest = full_account("new");
    house.apply(&manifest);
    let key = |manifest: &Value| house.dry(manifest)["existingManifest"]["auth_data"]["api_key"].clone();
    assert_eq!(key(&manifest), PROVIDER_KEY);
    // From here on nobody sends it, or it is the wrong one.
    house.said.lock().unwrap().clear();
    for sent in [json!("***"), json!("sk-other"), Value::Null] {
        manifest["auth_data"]["api_key"] = sent;
        assert_eq!(key(&manifest), "***");
    }
    let stored = || house.manage.store.snapshot().account("new").unwrap().api_key().cloned().unwrap();
    manifest["auth_data"]["api_key"] = json!("***");
    manifest["discount_percent"] = json!(3);
    house.apply(&manifest);
    assert_eq!(stored().expose(), PROVIDER_KEY);
    manifest.as_object_mut().unwrap().remove("auth_data");
    house.apply(&manifest);
    assert_eq!(stored().expose(), PROVIDER_KEY);
    // A kept key stays bound to its place.
    manifest["base_url"] = json!("https://elsewhere.example.com");
    assert!(house.refused(422, "PUT", "/apply", json!({"manifest": manifest})).contains("api_key"));
    manifest["auth_data"] = json!({"type": "api-key", "api_key": "sk-other"});
    house.apply(&manifest);
    assert_eq!(stored().expose(), "sk-other");
    let mut fresh = full_account("fresh");
    fresh["auth_data"]["api_key"] = json!("***");
    assert!(house.refused(422, "PUT", "/apply", json!({"manifest": fresh})).contains("auth_data.api_key"));
    house.done("GET", "/provider-accounts/new", Value::Null);
    house.done("GET", "/manifests/provider-account/new", Value::Null);
    house.never_said(&[PROVIDER_KEY]);
}

/// When somebody changed the object in another way, its manifest says what it is now.
#[test]
fn a_manifest_that_holds_no_longer_is_not_shown() {
    let house = House::furnished();
    house.apply(&full_team("new"));
    house.done("POST", "/teams/new/members", json!({"email": "keeper@x.io"}));
    let existing = house.dry(&full_team("new"))["existingManifest"].clone();
    assert_eq!(existing["members"], json!(["access@x.io", "keeper@x.io", "plain@x.io"]));
    assert_eq!(existing["displayName"], "New");
    house.apply(&full_team("new"));
    let existing = house.dry(&full_team("new"))["existingManifest"].clone();
    assert_eq!(existing, full_team("new"));
    house.apply(&full_account("new"));
    house.done("PATCH", "/provider-accounts/new", json!({"headers": {"x-team": "a"}}));
    let existing = house.dry(&full_account("new"))["existingManifest"].clone();
    assert_eq!(existing["headers"], json!({"x-team": "a"}));
}

#[test]
fn grants_belong_to_the_manifest_that_made_them() {
    let house = House::furnished();
    let direct = |subject: &str, role: &str| (subject.to_owned(), role.to_owned(), "direct".to_owned());
    let own =
        |subject: &str, role: &str| (subject.to_owned(), role.to_owned(), "provider-account/main".to_owned());
    let (manager, access) = ("provider-account-manager", "provider-account-access");
    let start = house.grants("main");
    let mut manifest = full_account("main");
    house.apply(&manifest);
    let with = house.grants("main");
    for grant in &start {
        assert!(with.contains(grant), "{grant:?} stays");
    }
    // The keeper's grant was there before, from elsewhere: it counts, and stays what it was.
    assert!(with.contains(&direct("user:keeper@x.io", manager)));
    assert!(with.contains(&own("team:everyone", access)));
    assert!(with.contains(&own("user:plain@x.io", access)));
    let gone = house.refused(
        409,
        "DELETE",
        &format!("/grants?subject=team:everyone&role={access}&target=main"),
        Value::Null,
    );
    assert!(gone.contains("provider-account/main"));
    // Left out: unchanged.
    let object = manifest.as_object_mut().unwrap();
    object.remove("collaborators");
    object["integrations"][0].as_object_mut().unwrap().remove("authorized_subjects");
    house.apply(&manifest);
    assert_eq!(house.grants("main"), with);
    // Present: replaced, but for those from elsewhere.
    manifest["collaborators"] = json!([]);
    house.apply(&manifest);
    let left = house.grants("main");
    assert!(!left.contains(&own("team:everyone", access)));
    assert!(left.contains(&own("user:plain@x.io", access)));
    manifest["integrations"][0]["authorized_subjects"] = json!([]);
    house.apply(&manifest);
    assert_eq!(house.grants("main"), start);
    // A model that goes takes its grants along.
    house.apply(&full_account("main"));
    manifest["integrations"] = json!([model("org/small")]);
    house.apply(&manifest);
    assert_eq!(house.grants("main/gpt"), []);
}

#[test]
fn an_export_makes_the_same_state_again() {
    let house = House::furnished();
    house.apply(&full_account("new"));
    house.apply(&full_virtual_account("new"));
    for (kind, name) in [
        ("user", "plain@x.io"),
        ("team", "search"),
        ("provider-account", "new"),
        ("provider-account", "main"),
        ("virtual-account", "new"),
        ("virtual-account", "app"),
        ("settings", "settings"),
    ] {
        let path = format!("/manifests/{kind}/{name}");
        let manifest = house.done("GET", &path, Value::Null)["manifest"].clone();
        let grants = house.done("GET", "/grants", Value::Null);
        house.apply(&manifest);
        assert_eq!(house.done("GET", &path, Value::Null)["manifest"], manifest);
        assert_eq!(house.done("GET", "/grants", Value::Null), grants, "{path}");
        let made = house.revision();
        house.apply(&manifest);
        assert_eq!(house.revision(), made, "{path}");
    }
    let key = house.manage.store.snapshot().account("new").unwrap().api_key().cloned().unwrap();
    assert_eq!(key.expose(), PROVIDER_KEY);
    // The documented rotation: export, rename, apply.
    let mut clone = house.done("GET", "/manifests/virtual-account/new", Value::Null)["manifest"].clone();
    clone["name"] = json!("clone");
    house.apply(&clone);
    let shown = |name: &str| house.done("GET", &format!("/virtual-accounts/{name}"), Value::Null);
    assert_eq!(
        shown("clone")["data"]["manifest"]["permissions"],
        shown("new")["data"]["manifest"]["permissions"]
    );
    house.refused(404, "GET", "/manifests/role-binding/none", Value::Null);
    house.refused(404, "GET", "/manifests/pat/none", Value::Null);
}

#[test]
fn many_are_applied_all_or_none() {
    let house = House::empty();
    let start = house.revision();
    let all = json!([
        // In no useful order: each names something that a later one makes.
        {"type": "settings", "pat_may_mint": true, "pat_max_validity_days": 30},
        {"type": "role-binding", "name": "bound", "subjects": [{"type": "team", "name": "core"}],
         "permissions": [{"resourceFqn": "acme:openai:main", "resourceType": "provider-account", "role": "provider-account-access"}]},
        {"type": "virtual-account", "name": "app", "permissions": [permission("main")], "ownedBy": {"team": "core"}},
        {"type": "provider-account/openai", "name": "main", "integrations": [model("gpt")],
         "collaborators": [{"subject": "virtualaccount:app", "role_id": "provider-account-access"},
                           {"subject": "user:ada@x.io", "role_id": "provider-account-manager"}]},
        {"type": "team", "name": "core", "members": ["ada@x.io"]},
        {"type": "user", "name": "ada@x.io", "role": "admin"},
    ]);
    let ask = |manifests: &Value, dry_run: bool| {
        house.ask(&LOCAL, "POST", "/manifests", json!({"manifests": manifests, "dryRun": dry_run}))
    };
    for (at, name, wrong) in [
        (2, "app", json!({"type": "virtual-account", "name": "app", "permissions": [permission("none")]})),
        (4, "core", json!({"type": "team", "name": "core", "members": ["none@x.io"]})),
        (
            3,
            "main",
            json!({"type": "provider-account/openai", "name": "main", "collaborators": [{"subject": "team:none", "role_id": "provider-account-access"}]}),
        ),
    ] {
        let mut manifests = all.clone();
        manifests[at] = wrong;
        let (status, answer) = ask(&manifests, false);
        assert_eq!(status, 422, "{answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(&format!("manifests[{at}]")) && message.contains(name), "{message}");
        assert!(message.contains("[0]'"), "no field in {message}");
        assert_eq!(house.revision(), start, "nothing happened");
    }
    let (status, dry) = ask(&all, true);
    assert_eq!(status, 200, "{dry}");
    assert_eq!(house.revision(), start);
    let line = |subject: &str, model: &str, role: &str| json!({"subject": subject, "model": model, "role": format!("provider-account-{role}")});
    assert_eq!(
        dry["access"],
        json!({
            "gains": [
                line("user:ada@x.io", "main", "manager"),
                line("user:ada@x.io", "main/gpt", "access"),
                line("virtualaccount:app", "main/gpt", "access"),
            ],
            "loses": [],
            "truncated": false,
        })
    );
    let (status, done) = ask(&all, false);
    assert_eq!((status, house.revision()), (200, start + 1), "one commit: {done}");
    let actions = |answer: &Value| -> Vec<String> {
        answer["data"].as_array().unwrap().iter().map(|one| one["action"].as_str().unwrap().into()).collect()
    };
    // Settings are always there.
    assert_eq!(actions(&done), ["UPDATE", "CREATE", "CREATE", "CREATE", "CREATE", "CREATE"]);
    assert_eq!(
        done["data"][3],
        json!({"type": "provider-account/openai", "name": "main", "action": "CREATE"})
    );
    let (_, again) = ask(&all, false);
    assert_eq!((actions(&again), house.revision()), (vec!["UNCHANGED".to_owned(); 6], start + 1));
    let world = house.manage.store.snapshot();
    assert!(world.settings().pat_may_mint);
    assert_eq!(world.settings().pat_max_validity_days, Some(30));
    house.refused(422, "POST", "/manifests", json!({"manifests": [all[4], all[4]]}));
    house.manage.store.verify_audit_chain().unwrap();
}

/// The last admin may hand over in one apply, and not only give up.
#[test]
fn the_last_admin_hands_over() {
    let house = House::empty();
    let user = |name: &str, role: &str| json!({"type": "user", "name": format!("{name}@x.io"), "role": role});
    house.done("POST", "/manifests", json!({"manifests": [user("a", "admin")]}));
    house.refused(409, "POST", "/manifests", json!({"manifests": [user("a", "member")]}));
    house.done("POST", "/manifests", json!({"manifests": [user("a", "member"), user("b", "admin")]}));
    assert_eq!(house.done("GET", "/users/b@x.io", Value::Null)["data"]["roles"], json!(["tenant-admin"]));
}

#[test]
fn a_manager_applies_the_account_and_nothing_else() {
    let house = House::furnished();
    let (_, _, keeper) = house.token("keeper@x.io", "key");
    let ask = |manifest: &Value| house.ask(&keeper, "PUT", "/apply", json!({"manifest": manifest}));
    let mut manifest = full_account("main");
    assert_eq!(ask(&manifest).0, 200);
    manifest["base_url"] = json!("http://127.0.0.1:9/v1");
    assert_eq!(ask(&manifest).0, 403, "this host is for admins");
    manifest["base_url"] = json!("https://evil.example.com/v1");
    manifest["auth_data"]["api_key"] = json!("***");
    assert_eq!(ask(&manifest).0, 422, "the key stays where it is");
    for other in
        [full_account("other"), full_account("none"), full_team("search"), full_virtual_account("app")]
    {
        let (status, answer) = ask(&other);
        assert_eq!(status, 403, "{answer}");
    }
    let (status, _) =
        house.ask(&keeper, "PUT", "/apply", json!({"manifest": {"type": "team", "name": "x", "bad": 1}}));
    assert_eq!(status, 403, "whoever may not hears nothing about the manifest");
}

#[test]
fn objects_are_deleted_by_type_and_name() {
    let house = House::furnished();
    house.apply(&full_virtual_account("new"));
    let owned = house.refused(
        409,
        "POST",
        "/delete",
        json!({"manifest": {"type": "team", "name": "search", "members": []}}),
    );
    assert!(owned.contains("'new'"));
    for (kind, name) in [
        ("virtual-account", "new"),
        ("team", "search"),
        ("provider-account/openai", "main"),
        ("user", "plain@x.io"),
    ] {
        let body = json!({"manifest": {"type": kind, "name": name, "whatever": [1]}});
        assert_eq!(house.done("POST", "/delete", body.clone()), json!({}));
        house.refused(404, "POST", "/delete", body);
    }
    house.refused(422, "POST", "/delete", json!({"manifest": {"type": "settings"}}));
    house.refused(422, "POST", "/delete", json!({"manifest": {"type": "mcp-server", "name": "x"}}));
    house.refused(422, "POST", "/delete", json!({"manifest": {"type": "team"}}));
    house.refused(400, "POST", "/delete", json!({}));
}

#[test]
fn every_manifest_is_in_the_dependency_tree() {
    let house = House::furnished();
    let body = json!({"manifests": [full_account("a"), full_team("b"), {"type": "gateway-otel-config"}, {"type": "x", "name": "y", "z": [[[]]]}]});
    let tree = house.done("POST", "/dependency-tree", body);
    let line =
        |kind: &str, name: &str| json!({"resourceType": kind, "resourceName": name, "dependencies": []});
    assert_eq!(
        tree["data"],
        json!([
            line("provider-account/openai", "a"),
            line("team", "b"),
            line("gateway-otel-config", "gateway-otel-config"),
            line("x", "y"),
        ])
    );
}

/// Each says what is wrong by the path of the field.
#[test]
fn wrong_manifests_are_refused_by_path() {
    let house = House::furnished();
    let before = house.revision();
    let cases = [
        ("account", "/unknown", json!(1), "unknown"),
        ("account", "/integrations/1/auth", json!({}), "integrations[1].auth"),
        ("account", "/integrations/0/model_types", json!("chat"), "integrations[0].model_types"),
        ("account", "/integrations/0/cost/value/z", json!(1), "integrations[0].cost.value.z"),
        (
            "account",
            "/integrations/0/authorized_subjects",
            json!(["user:no@x.io"]),
            "integrations[0].authorized_subjects[0]",
        ),
        ("account", "/integrations", json!({}), "integrations"),
        ("account", "/integrations", json!([1]), "integrations"),
        ("account", "/integrations/1/name", json!("gpt"), "gpt"),
        ("account", "/collaborators/0/subject", json!("team:no"), "collaborators[0]"),
        ("account", "/collaborators/0/subject", json!("role:tenant-admin"), "collaborators[0].subject"),
        ("account", "/collaborators/1/role_id", json!("owner"), "collaborators[1].role_id"),
        (
            "account",
            "/collaborators/0",
            json!({"subject": "virtualaccount:app", "role_id": "provider-account-manager"}),
            "collaborators[0]",
        ),
        ("account", "/collaborators/0/x", json!(1), "collaborators[0].x"),
        ("account", "/auth_data/type", json!("client-secret"), "auth_data.type"),
        ("account", "/auth_data/type", json!("certificate"), "auth_data.type"),
        ("account", "/auth_data/type", json!("bearer-auth"), "auth_data.api_key"),
        ("account", "/auth_data/api_key", json!("tfy-secret://a:b:c"), "auth_data.api_key"),
        ("account", "/auth_data/extra", json!("x"), "auth_data.extra"),
        ("account", "/base_url", json!("ftp://x"), "base_url"),
        ("account", "/headers", json!({"authorization": "x"}), "headers"),
        ("account", "/name", json!("A b"), "name"),
        ("account", "/name", Value::Null, "name"),
        ("account", "/type", json!("provider-account/azure"), "azure-openai"),
        ("account", "/type", json!("provider-account/google"), "google-gemini"),
        ("account", "/type", json!("provider-account/mistral"), "mistral-ai"),
        ("account", "/type", json!("provider-account/databricks"), "not supported"),
        ("account", "/type", json!("provider-account/anthropic"), "integrations[0].type"),
        ("account", "/type", json!("provider-account/none"), "no provider"),
        ("account", "/type", json!("provider-account/demo"), "type"),
        (
            "account",
            "/integrations/0/type",
            json!("integration/model/aws-bedrock"),
            "integration/model/bedrock",
        ),
        ("account", "/type", json!("gateway"), "type"),
        ("virtual", "/permissions", json!([]), "permissions"),
        ("virtual", "/permissions/0/role_id", json!("provider-account-manager"), "permissions[0]"),
        ("virtual", "/permissions/0/x", json!(1), "permissions[0].x"),
        ("virtual", "/ownedBy/team", json!("none"), "ownedBy.team"),
        ("virtual", "/auto_rotate/auto_rotate_interval", json!(29), "auto_rotate.auto_rotate_interval"),
        ("virtual", "/auto_rotate/grace_period", json!(0), "auto_rotate.grace_period"),
        ("virtual", "/auto_rotate/x", json!(0), "auto_rotate.x"),
        ("virtual", "/token_type", json!("magic"), "token_type"),
        ("virtual", "/expiration_date", json!("soon"), "expiration_date"),
        ("team", "/members", Value::Null, "members"),
        ("team", "/members/1", json!("none@x.io"), "members[1]"),
        ("team", "/managers", json!([1]), "managers"),
        ("team", "/name", json!("everyone"), "everyone"),
        ("team", "/admins", json!([]), "admins"),
    ];
    for (kind, pointer, value, want) in cases {
        let mut manifest = match kind {
            "account" => full_account("new"),
            "virtual" => full_virtual_account("new"),
            _ => full_team("new"),
        };
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = if parent.is_empty() { &mut manifest } else { manifest.pointer_mut(parent).unwrap() };
        match (parent, name.parse::<usize>()) {
            (Value::Array(list), Ok(at)) => list[at] = value,
            (parent, _) => parent[name] = value,
        }
        let message = house.refused(422, "PUT", "/apply", json!({"manifest": manifest}));
        assert!(message.contains(want), "{pointer}: {message}");
    }
    assert_eq!(house.revision(), before);
    house.never_said(&[PROVIDER_KEY]);
}

#[test]
fn hostile_manifests() {
    let house = House::furnished();
    let before = house.revision();
    let deep = format!("{{\"manifest\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    for path in ["/apply", "/manifests", "/delete", "/dependency-tree"] {
        let method = if path == "/apply" { "PUT" } else { "POST" };
        assert_eq!(house.call(Some(&LOCAL), method, path, deep.as_bytes()).status, 400);
        for body in [
            "",
            "[]",
            "1",
            "{",
            "{}",
            "{\"manifest\":1,\"manifests\":1}",
            "{\"manifest\":[],\"manifests\":{}}",
        ] {
            assert_eq!(house.call(Some(&LOCAL), method, path, body.as_bytes()).status, 400, "{path} {body}");
        }
    }
    let many: Vec<Value> =
        (0..1001).map(|n| json!({"type": "team", "name": format!("t{n}"), "members": []})).collect();
    house.refused(422, "POST", "/manifests", json!({"manifests": many}));
    let mut wide = full_account("new");
    wide["collaborators"] = (0..10_001).map(|_| wide["collaborators"][0].clone()).collect();
    house.refused(422, "PUT", "/apply", json!({"manifest": wide}));
    for manifest in [
        json!({"type": 1}),
        json!({"type": null, "name": "x"}),
        json!({"type": "team", "name": ["x"], "members": []}),
        json!({"type": "user", "name": "a@x.io", "email": "b@x.io"}),
        json!({"type": "user", "name": "a@x.io", "role": "owner"}),
        json!({"type": "settings", "pat_may_mint": "yes"}),
        json!({"type": "settings", "pat_max_validity_days": 0}),
        json!({"type": "settings", "audit_retention_days": -1}),
        json!({"type": "settings", "pat_max_validity_days": 1e300}),
        json!({"type": "role-binding", "name": "B", "subjects": [], "permissions": []}),
        json!({"type": "role-binding", "name": "bound", "subjects": [], "permissions": []}),
        json!({"type": "role-binding", "name": "bound", "subjects": [{"type": "agent", "name": "x"}], "permissions": []}),
    ] {
        house.refused(422, "PUT", "/apply", json!({"manifest": manifest}));
    }
    assert_eq!(house.revision(), before);
}

/// Each of these says who would gain and lose what, and does nothing.
#[test]
fn changes_can_be_tried_first() {
    let house = House::furnished();
    let before = house.revision();
    let main = |subject: &str| {
        ["gpt", "org/small"].map(|model| {
            json!({"subject": subject, "model": format!("main/{model}"), "role": "provider-account-access"})
        })
    };
    let none: [Value; 0] = [];
    let grant = json!({"subject": "user:plain@x.io", "role": "access", "target": "main", "dryRun": true});
    let member = json!({"email": "plain@x.io", "dryRun": true});
    for (method, path, body) in [("POST", "/grants", grant), ("POST", "/teams/search/members", member)] {
        let access = house.done(method, path, body)["access"].clone();
        assert_eq!(access, json!({"gains": main("user:plain@x.io"), "loses": none, "truncated": false}));
    }
    let revoke = "/grants?subject=team:search&role=provider-account-access&target=main&dryRun=true";
    let deactivate = json!({"email": "access@x.io", "dryRun": true});
    for (method, path, body, who) in [
        ("DELETE", revoke, Value::Null, "user:access@x.io"),
        ("DELETE", "/teams/search/members/access@x.io?dryRun=true", Value::Null, "user:access@x.io"),
        ("DELETE", "/teams/search?dryRun=true", Value::Null, "user:access@x.io"),
        ("PATCH", "/users/deactivate", deactivate, "user:access@x.io"),
        ("DELETE", "/users/access@x.io?forceDelete=true&dryRun=true", Value::Null, "user:access@x.io"),
        ("DELETE", "/virtual-accounts/app?dryRun=true", Value::Null, "virtualaccount:app"),
    ] {
        let access = house.done(method, path, body)["access"].clone();
        assert_eq!(access, json!({"gains": none, "loses": main(who), "truncated": false}), "{path}");
    }
    for path in ["/provider-accounts/main?dryRun=true", "/provider-accounts/main/models/gpt?dryRun=true"] {
        let access = house.done("DELETE", path, Value::Null)["access"].clone();
        assert!(access["loses"].as_array().unwrap().contains(&main("user:access@x.io")[0]), "{path}");
    }
    house.refused(404, "DELETE", "/virtual-accounts/none?dryRun=true", Value::Null);
    assert_eq!(house.revision(), before);
}

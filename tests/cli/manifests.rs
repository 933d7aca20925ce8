//! `apply` and `export`, on a store without a server.

use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use super::{Folder, KEY, code, column, err, out};

const PEOPLE: &str = "\
# Everyone who works with models.
type: user
name: ada@x.io
displayName: Ada
---
type: user
name: root@x.io
role: admin
---
type: team
name: research
members: &people [ada@x.io]
managers: *people
---
";

fn account(key: &str) -> String {
    format!(
        "type = 'provider-account/openai'\nname = 'main'\nbase_url = 'http://127.0.0.1:9/v1'\n\
         [auth_data]\ntype = 'api-key'\napi_key = {key}\n\
         [[integrations]]\ntype = 'integration/model/openai'\nname = 'm'\nmodel_id = 'up'\nmodel_types = ['chat']\n\
         [[integrations]]\ntype = 'integration/model/openai'\nname = 'n'\nmodel_id = 'un'\nmodel_types = ['chat']\n\
         authorized_subjects = ['user:root@x.io']\n\
         [[collaborators]]\nsubject = 'team:research'\nrole_id = 'provider-account-access'\n"
    )
}

const APPLICATION: &str = r#"[{
    "type": "virtual-account", "name": "bot", "expiration_date": "2999-01-31", "tags": {"app": "1"},
    "permissions": [{
        "resource_fqn": "TENANT:openai:main:model:m",
        "resource_type": "provider-integration",
        "role_id": "provider-integration-access"
    }]
}, {"type": "settings", "pat_max_validity_days": 90}]"#;

/// Files in all three languages, and the options that apply them all.
fn files(folder: &Folder) -> Vec<String> {
    let key = folder.write("key.txt", &format!("{KEY}\n"));
    let people = folder.write("people.yaml", PEOPLE);
    let account = folder.write("account.toml", &account(&format!("{{from_file = '{key}'}}")));
    let application = folder.write("application.json", &APPLICATION.replace("TENANT", "default"));
    // The application first: what it needs comes after it.
    ["apply", "-f", &application, "-f", &people, "-f", &account].map(str::to_owned).to_vec()
}

fn borrowed(line: &[String]) -> Vec<&str> {
    line.iter().map(String::as_str).collect()
}

/// All that there is, for comparing.
fn everything(folder: &Folder) -> Value {
    let nouns = [
        &["user", "list"][..],
        &["team", "list"],
        &["provider", "list"],
        &["virtual-account", "list"],
        &["grants"],
    ];
    nouns.iter().map(|noun| folder.json(noun)).collect()
}

/// The same without the times of the last change.
fn timeless(mut value: Value) -> Value {
    match &mut value {
        Value::Array(items) => items.iter_mut().for_each(|item| *item = timeless(item.take())),
        Value::Object(fields) => {
            fields.remove("updatedAt");
            fields.values_mut().for_each(|field| *field = timeless(field.take()));
        }
        _ => {}
    }
    value
}

fn fed(folder: &Folder, arguments: &[&str], text: &str) -> Output {
    let mut command = folder.command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that refuses before it reads closes its end.
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn several_files_in_three_languages_are_one_change() {
    let folder = Folder::new();
    let apply = files(&folder);
    let mut apply = borrowed(&apply);
    let said = folder.ok(&apply);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        [
            "virtual-account bot created",
            "settings updated",
            "user ada@x.io created",
            "user root@x.io created",
            "team research created",
            "provider-account/openai main created",
        ]
    );
    assert_eq!(column(&folder.json(&["team", "list"]), "/manifest/name"), ["research"]);
    assert_eq!(folder.json(&["team", "show", "research"])["manifest"]["managers"], json!(["ada@x.io"]));
    let grants = folder.json(&["grants"]);
    let mut subjects = column(&grants, "/subject");
    subjects.sort();
    assert_eq!(subjects, ["team:research", "user:root@x.io", "virtualaccount:bot"]);

    // Again: nothing changes, not even a time.
    let before = everything(&folder);
    let again = folder.ok(&apply);
    assert!(again.lines().count() == 6 && again.lines().all(|line| line.ends_with(" unchanged")), "{again}");
    assert_eq!(everything(&folder), before);
    apply.extend(["--output", "json"]);
    let answer: Value = serde_json::from_str(&folder.ok(&apply)).unwrap();
    assert_eq!(column(&answer["data"], "/action"), ["UNCHANGED"; 6]);
}

#[test]
fn one_bad_document_and_nothing_is_applied() {
    let folder = Folder::new();
    let apply = files(&folder);
    for (bad, word) in [
        ("type: team\nname: other\nmembers: [nobody@x.io]\n", "nobody@x.io"),
        ("type: team\nname: other\nmembers: []\ncolour: red\n", "colour"),
        ("type: spaceship\nname: other\n", "type"),
        ("type: virtual-account\nname: other\npermissions: []\n", "permissions"),
    ] {
        let bad = folder.write("bad.yaml", bad);
        let mut line = borrowed(&apply);
        line.extend(["-f", &bad]);
        let message = folder.refused(&line, 422);
        assert!(message.contains(word), "{message}");
        assert_eq!(everything(&folder), json!([[], [], [], [], []]), "{message}");
    }
    folder.ok(&borrowed(&apply));
}

#[test]
fn a_dry_run_says_who_gains_and_loses_and_changes_nothing() {
    let folder = Folder::new();
    let apply = files(&folder);
    let mut dry = borrowed(&apply);
    dry.push("--dry-run");
    let said = folder.ok(&dry);
    for line in
        ["team research would be created", "user:ada@x.io would gain provider-account-access on main/m"]
    {
        assert!(said.lines().any(|said| said == line), "{line}: {said}");
    }
    assert_eq!(everything(&folder), json!([[], [], [], [], []]));
    folder.ok(&borrowed(&apply));
    let before = everything(&folder);
    let team = folder.write("team.yaml", "{type: team, name: research, members: [root@x.io]}");
    let said = folder.ok(&["apply", "-f", &team, "--dry-run"]);
    assert!(said.starts_with("team research would be updated\n"), "{said}");
    assert!(said.contains("user:ada@x.io would lose provider-account-access on main/m"), "{said}");
    assert_eq!(everything(&folder), before);
}

#[test]
fn what_is_exported_applies_to_the_same() {
    let folder = Folder::new();
    let apply = files(&folder);
    folder.ok(&borrowed(&apply));
    let before = everything(&folder);
    let mut documents = String::new();
    for object in [
        "user/ada@x.io",
        "user/root@x.io",
        "team/research",
        "provider-account/main",
        "virtual-account/bot",
        "settings",
    ] {
        let yaml = folder.ok(&["export", object]);
        assert!(!yaml.contains("CANARY"), "{yaml}");
        // The text may be new, what it says is not: after the first time nothing changes.
        let first = fed(&folder, &["apply", "-f", "-"], &yaml);
        assert_eq!((code(&first), err(&first).as_str()), (0, ""), "{yaml}");
        assert_eq!(folder.ok(&["export", object]), yaml);
        let again = fed(&folder, &["apply", "-f", "-"], &yaml);
        assert!(out(&again).ends_with(" unchanged\n") && out(&again).lines().count() == 1, "{}", out(&again));
        // The same as JSON.
        let json = folder.ok(&["export", object, "--output", "json"]);
        serde_json::from_str::<Value>(&json).unwrap();
        assert!(out(&fed(&folder, &["apply", "-f", "-"], &json)).ends_with(" unchanged\n"), "{json}");
        documents.push_str(&format!("---\n{yaml}"));
    }
    assert_eq!(timeless(everything(&folder)), timeless(before));
    let account = folder.json(&["provider", "show", "main"]);
    // Elsewhere it makes the same; the key is what was left out.
    let elsewhere = Folder::new();
    let copied = fed(&elsewhere, &["apply", "-f", "-"], &documents);
    assert_eq!(code(&copied), 0, "{documents}{}", err(&copied));
    assert_eq!(column(&elsewhere.json(&["grants"]), "/target"), column(&folder.json(&["grants"]), "/target"));
    assert_eq!(
        elsewhere.json(&["provider", "show", "main"])["integrations"].as_array().map(Vec::len),
        account["integrations"].as_array().map(Vec::len)
    );
    for object in ["user/ada@x.io", "team/research", "virtual-account/bot", "settings"] {
        assert_eq!(elsewhere.ok(&["export", object]), folder.ok(&["export", object]));
    }
    // The documented clone: the same under another name.
    let clone = folder.ok(&["export", "virtual-account/bot"]).replace("name: bot", "name: bot-2");
    assert_eq!(out(&fed(&folder, &["apply", "-f", "-"], &clone)), "virtual-account bot-2 created\n");
    folder.refused(&["export", "team/none"], 404);
    for kind in ["teams/research", "token/x", "virtual-accounts/bot"] {
        let refused = folder.admin(&["export", kind]);
        assert_eq!((code(&refused), out(&refused).as_str()), (1, ""), "{kind}");
    }
}

#[test]
fn files_that_would_cost_too_much_are_refused() {
    let folder = Folder::new();
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..12 {
        let uses = vec![format!("*a{}", level - 1); 10].join(",");
        bomb.push_str(&format!("a{level}: &a{level} [{uses}]\n"));
    }
    let (open, close) = ("[".repeat(200_000), "]".repeat(200_000));
    let large = format!("type: team\nname: a\ndescription: {}\n", "x".repeat(4 << 20));
    let many = "--- {type: team, name: a, members: []}\n".repeat(1001);
    for (name, text) in [
        ("bomb.yaml", bomb.as_str()),
        ("deep.yaml", &format!("type: team\nmembers: {open}{close}\n")),
        ("deep.json", &format!("{{\"members\": {open}{close}}}")),
        ("deep.toml", &format!("members = {open}{close}\n")),
        ("level.yaml", &format!("members: {}{}\n", "[".repeat(40), "]".repeat(40))),
        ("large.yaml", &large),
        ("many.yaml", &many),
        ("empty.yaml", ""),
        ("blank.yaml", "---\n---\n# nothing\n"),
        ("text.yaml", "just words"),
        ("list.yaml", "- 1\n"),
        ("twice.yaml", "type: team\ntype: user\n"),
        ("cut.json", "{\"type\": \"team\""),
    ] {
        let file = folder.write(name, text);
        let began = std::time::Instant::now();
        let refused = folder.admin(&["apply", "-f", &file]);
        assert_eq!((code(&refused), out(&refused).as_str()), (1, ""), "{name}");
        let message = err(&refused);
        assert!(message.contains(name) && message.len() < 1000, "{name}: {message}");
        assert!(began.elapsed().as_secs() < 20, "{name} took {:?}", began.elapsed());
    }
    let gone = folder.admin(&["apply", "-f", "/nowhere/x.yaml"]);
    assert!(code(&gone) == 1 && err(&gone).contains("/nowhere/x.yaml"));
    assert_eq!(folder.json(&["team", "list"]), json!([]));
}

#[test]
fn secrets_are_read_here_and_never_shown() {
    let folder = Folder::new();
    let from_variable = folder.write("account.toml", &account("{from_env = 'MAIN_KEY'}"));
    folder.ok(&["user", "create", "root@x.io"]);
    folder.ok(&["team", "create", "research"]);
    let missing = folder.admin(&["apply", "-f", &from_variable]);
    assert!(code(&missing) == 1 && err(&missing).contains("MAIN_KEY"), "{}", err(&missing));
    let applied = folder.command(&["apply", "-f", &from_variable]).env("MAIN_KEY", KEY).output().unwrap();
    assert_eq!(code(&applied), 0, "{}", err(&applied));
    assert!(!out(&applied).contains("CANARY"));
    // What else stands there is refused, and a key in the file itself is not repeated.
    for key in ["{from_env = 'A', from_file = 'b'}", "{from_url = 'x'}", "{from_env = 1}", "['sk-CANARY']"] {
        let file = folder.write("bad.toml", &account(key));
        let refused = folder.admin(&["apply", "-f", &file]);
        assert_eq!(code(&refused), 1, "{key}");
        assert!(!err(&refused).contains("CANARY"), "{}", err(&refused));
    }
    // Left out: the stored key stays.
    let plain = account("''").replace("[auth_data]\ntype = 'api-key'\napi_key = ''\n", "");
    let plain = folder.write("plain.toml", &plain);
    folder.ok(&["apply", "-f", &plain]);
    assert_eq!(folder.ok(&["apply", "-f", &plain]), "provider-account/openai main unchanged\n");
    assert!(
        folder.json(&["provider", "show", "main"])["manifest"]["auth_data"].is_object(),
        "the key is gone"
    );
}

#[test]
fn access_goes_from_one_manifest_to_another_in_one_apply() {
    let folder = Folder::new();
    for line in [
        "team create research",
        "provider create main --type openai --base-url http://127.0.0.1:9/v1",
        "model add main/m --model-id m",
    ] {
        folder.ok(&line.split(' ').collect::<Vec<_>>());
    }
    let binding = |resource: &str| {
        format!(
            "type: role-binding\nname: bind\nsubjects: [{{type: team, name: research}}]\npermissions: [{resource}]\n"
        )
    };
    let whole =
        "{resourceFqn: 'default:openai:main', resourceType: provider-account, role: provider-account-access}";
    let one = "{resourceFqn: 'default:openai:main:model:m', resourceType: provider-integration, role: provider-integration-access}";
    let binding_file = folder.write("binding.yaml", &binding(whole));
    folder.ok(&["apply", "-f", &binding_file]);
    // The account is looked at before the binding lets go.
    folder.write("binding.yaml", &binding(one));
    let account = "type: provider-account/openai\nname: main\n\
                   collaborators: [{subject: 'team:research', role_id: provider-account-access}]\n";
    let account_file = folder.write("account.yaml", account);
    let both = ["apply", "-f", &account_file, "-f", &binding_file];
    folder.ok(&both);
    let grants = folder.json(&["grants"]);
    assert_eq!(column(&grants, "/target"), ["main", "main/m"]);
    for source in ["provider-account/main", "role-binding/bind"] {
        assert!(grants.to_string().contains(source), "{grants}");
    }
    let said = folder.ok(&both);
    assert!(said.lines().all(|line| line.ends_with(" unchanged")), "{said}");
}

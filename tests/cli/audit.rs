//! `audit` and `explain`, directly on the store.

use redb::ReadableTable;
use serde_json::{Value, json};

use super::{Folder, KEY, code, err, out};

const AUDIT: redb::TableDefinition<u64, &[u8]> = redb::TableDefinition::new("audit");

impl Folder {
    /// Changes the audit log behind the gateway's back.
    fn tamper(&self, change: impl FnOnce(&mut redb::Table<u64, &[u8]>)) {
        let database = redb::Database::open(self.path("data").join("state.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        change(&mut transaction.open_table(AUDIT).unwrap());
        transaction.commit().unwrap();
    }

    /// The command must say no: exit code 1, the answer on standard output, no error.
    fn says_no(&self, arguments: &[&str]) -> String {
        let output = self.admin(arguments);
        assert_eq!((code(&output), err(&output).as_str()), (1, ""), "{arguments:?}: {}", out(&output));
        out(&output)
    }

    fn entries(&self, arguments: &[&str]) -> Vec<Value> {
        let mut all = vec!["audit", "list", "--output", "json"];
        all.extend(arguments);
        self.ok(&all).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn furnished() -> Folder {
    let folder = Folder::new();
    let key = folder.write("key", KEY);
    folder.ok(&["user", "create", "ada@x.io"]);
    folder.ok(&["user", "create", "bob@x.io"]);
    folder.ok(&["team", "create", "search"]);
    folder.ok(&["team", "add-member", "search", "ada@x.io"]);
    let url = "https://llm.example.com/v1";
    folder.ok(&["provider", "create", "main", "--type", "openai", "--base-url", url, "--api-key-file", &key]);
    folder.ok(&["model", "add", "main/gpt", "--model-id", "gpt-4o"]);
    folder.ok(&["grant", "team:search", "provider-account-access", "main"]);
    folder
}

#[test]
fn changes_and_refused_attempts_are_listed() {
    let folder = furnished();
    folder.refused(&["user", "create", "ada@x.io"], 409);
    folder.refused(&["grant", "user:nobody@x.io", "provider-account-access", "main"], 422);
    let entries = folder.entries(&[]);
    let actions: Vec<_> = entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(
        actions,
        [
            "POST /grants",
            "POST /users/register",
            "grant.create",
            "model.create",
            "account.create",
            "team.add-member",
            "team.create",
            "user.create",
            "user.create"
        ]
    );
    assert_eq!(entries[0]["refused"], "unprocessable");
    assert_eq!(folder.entries(&["--refused"]).len(), 2);
    assert_eq!(folder.entries(&["--limit", "3"]).len(), 3);
    assert_eq!(folder.entries(&["--action", "user."]).len(), 2);
    let one = &folder.entries(&["--resource", "user/bob"])[0];
    assert_eq!((&one["before"], &one["after"]["email"]), (&Value::Null, &json!("bob@x.io")));
    assert!(folder.entries(&["--to", "2020-01-31"]).is_empty());
    let table = folder.ok(&["audit", "list", "--refused"]);
    let title = table.lines().next().unwrap();
    assert_eq!(
        title.split_whitespace().collect::<Vec<_>>().join(" "),
        "TIME ACTOR SOURCE ACTION OBJECT REFUSED COUNT"
    );
    assert!(table.contains("conflict") && table.contains("local:uid:"), "{table}");
    assert!(!json!(entries).to_string().contains(KEY));
    folder.ok(&["audit", "verify"]);
}

#[test]
fn verify_says_where_the_log_is_broken() {
    let folder = furnished();
    let whole = folder.json(&["audit", "verify"]);
    let head = whole["head"].as_str().unwrap().to_owned();
    assert_eq!((&whole["ok"], &whole["records"]), (&json!(true), &json!(7)));
    assert!(folder.ok(&["audit", "verify"]).contains(&head));
    folder.ok(&["user", "create", "cid@x.io"]);
    folder.ok(&["audit", "verify", "--head", &head]);
    folder.refused(&["audit", "verify", "--head", "12"], 422);

    // The tail cut off: only the noted head shows it.
    folder.tamper(|table| {
        table.remove(8).unwrap();
        table.remove(7).unwrap();
    });
    folder.ok(&["audit", "verify"]);
    assert!(folder.says_no(&["audit", "verify", "--head", &head]).contains("cut off"));

    // An entry edited, and one removed.
    folder.tamper(|table| {
        let record = String::from_utf8(table.get(5).unwrap().unwrap().value().to_vec()).unwrap();
        table.insert(5, record.replace("main", "mine").as_bytes()).unwrap();
    });
    assert!(folder.says_no(&["audit", "verify"]).contains("entry 5 "));
    folder.tamper(|table| drop(table.remove(3).unwrap()));
    assert!(folder.says_no(&["audit", "verify"]).contains("entry 3 "));
    let output = folder.admin(&["audit", "verify", "--output", "json"]);
    let answer: Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!((code(&output), answer), (1, json!({"ok": false, "brokenAt": 3})));
}

#[test]
fn explain_answers_with_its_exit_code() {
    let folder = furnished();
    let said = folder.ok(&["explain", "user:ada@x.io", "main/gpt"]);
    assert_eq!(
        said,
        "allowed: user:ada@x.io may use main/gpt\n\
         by: provider-account-access on main through team:search (direct)\n\
         until: someone changes it\n"
    );
    let said = folder.says_no(&["explain", "user:bob@x.io", "main/gpt"]);
    assert_eq!(said, "not allowed: user:bob@x.io may not use main/gpt: no grant covers the model\n");
    assert!(folder.says_no(&["explain", "user:ada@x.io", "main/none"]).contains("no such model"));
    assert!(folder.says_no(&["explain", "user:zoe@x.io", "main/gpt"]).contains("no such subject"));
    let output = folder.admin(&["explain", "user:bob@x.io", "main/gpt", "--output", "json"]);
    let answer: Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!((code(&output), &answer["allowed"]), (1, &json!(false)));
    folder.refused(&["explain", "bob", "main/gpt"], 422);
    assert_eq!(code(&folder.admin(&["explain", "user:bob@x.io"])), 2);
}

//! Directly on the store, while no server runs: the life of every noun.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::{Value, json};

use super::{Folder, KEY, code, column, err, out, run_with_closed_pipe};

#[test]
fn a_new_folder_is_private_and_empty() {
    let folder = Folder::new();
    assert_eq!(folder.json(&["user", "list"]), json!([]));
    assert_eq!(std::fs::metadata(folder.path("data")).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(folder.ok(&["user", "list"]), "EMAIL  NAME  ROLE  ACTIVE  CREATED\n");
    for list in [
        &["team", "list"][..],
        &["provider", "list"],
        &["model", "list"],
        &["grants"],
        &["token", "list"],
        &["virtual-account", "list"],
        &["usage", "report"],
    ] {
        assert_eq!(folder.json(list), json!([]), "{list:?}");
        assert_eq!(folder.ok(list).lines().count(), 1, "{list:?}");
    }
}

#[test]
fn life_of_a_user() {
    let folder = Folder::new();
    folder.ok(&["user", "create", "root@x.io", "--role", "admin"]);
    folder.ok(&["user", "create", "a+b@x.io", "--name", "Ada L."]);
    let message = folder.refused(&["user", "create", "a+b@x.io"], 409);
    assert!(message.contains("a+b@x.io"), "{message}");
    folder.refused(&["user", "create", "no-at-sign"], 422);
    let rows = folder.json(&["user", "list"]);
    assert_eq!(column(&rows, "/email"), ["a+b@x.io", "root@x.io"]);
    let table = folder.ok(&["user", "list"]);
    let line = table.lines().find(|line| line.starts_with("a+b@x.io")).unwrap();
    assert!(line.contains("Ada L.") && line.contains("member") && line.contains("yes"), "{table}");
    assert_eq!(column(&folder.json(&["user", "list", "--search", "a+b"]), "/email"), ["a+b@x.io"]);

    let user = folder.json(&["user", "show", "a+b@x.io"]);
    assert_eq!((&user["email"], &user["active"]), (&json!("a+b@x.io"), &json!(true)));
    folder.refused(&["user", "show", "nobody@x.io"], 404);

    folder.ok(&["user", "set-role", "a+b@x.io", "admin"]);
    assert!(folder.ok(&["user", "show", "a+b@x.io"]).contains("admin"));
    folder.ok(&["user", "set-role", "a+b@x.io", "member"]);
    folder.refused(&["user", "set-role", "root@x.io", "member"], 409);

    let token = folder.ok(&["token", "create", "--user", "a+b@x.io", "--name", "laptop"]);
    assert!(token.starts_with("tfy_pat_"));
    folder.ok(&["user", "deactivate", "a+b@x.io"]);
    assert_eq!(column(&folder.json(&["token", "list", "--user", "a+b@x.io"]), "/state"), ["revoked"]);
    assert_eq!(folder.json(&["user", "show", "a+b@x.io"])["active"], json!(false));
    assert_eq!(column(&folder.json(&["user", "list"]), "/email").len(), 2);
    folder.ok(&["user", "activate", "a+b@x.io"]);
    folder.refused(&["user", "deactivate", "root@x.io"], 409);

    folder.ok(&["team", "create", "crew"]);
    folder.ok(&["team", "add-member", "crew", "a+b@x.io"]);
    folder.refused(&["user", "delete", "a+b@x.io"], 409);
    folder.ok(&["user", "delete", "a+b@x.io", "--force"]);
    folder.refused(&["user", "show", "a+b@x.io"], 404);
    folder.refused(&["user", "delete", "root@x.io", "--force"], 409);
}

#[test]
fn life_of_a_team() {
    let folder = Folder::new();
    folder.ok(&["user", "create", "ada@x.io"]);
    folder.ok(&["team", "create", "crew", "--description", "the crew"]);
    folder.ok(&["team", "add-member", "crew", "ada@x.io"]);
    // A second create does not empty the team.
    folder.refused(&["team", "create", "crew"], 409);
    let team = folder.json(&["team", "show", "crew"]);
    assert_eq!(team["manifest"]["members"], json!(["ada@x.io"]));
    assert_eq!(team["description"], json!("the crew"));
    assert!(folder.ok(&["team", "show", "crew"]).contains("ada@x.io"));
    assert_eq!(column(&folder.json(&["team", "list"]), "/manifest/name"), ["crew"]);
    let status = folder.admin(&["team", "add-member", "crew", "nobody@x.io"]);
    assert_eq!(code(&status), 1);
    folder.ok(&["team", "remove-member", "crew", "ada@x.io"]);
    assert_eq!(folder.json(&["team", "show", "crew"])["manifest"]["members"], json!([]));
    assert_eq!(code(&folder.admin(&["team", "create", "everyone"])), 1);
    // A team may be called help.
    folder.ok(&["team", "create", "help"]);
    assert!(folder.ok(&["team", "show", "help"]).contains("help"));
    folder.ok(&["team", "delete", "help"]);
    folder.ok(&["team", "delete", "crew"]);
    folder.refused(&["team", "delete", "crew"], 404);
}

#[test]
fn life_of_a_provider_account_and_its_models() {
    let folder = Folder::new();
    let key = folder.write("key", &format!("{KEY}\n"));
    folder.ok(&[
        "provider",
        "create",
        "main",
        "--type",
        "openai",
        "--base-url",
        "https://api.example.com/v1",
        "--api-key-file",
        &key,
        "--header",
        "X-Org: 7",
    ]);
    folder.refused(&["provider", "create", "main", "--base-url", "https://x.io/v1"], 409);
    let created = folder
        .command(&["provider", "create", "env", "--base-url", "https://x.io/v1", "--api-key-env", "TEST_KEY"])
        .env("TEST_KEY", KEY)
        .output()
        .unwrap();
    assert_eq!(code(&created), 0, "{}", err(&created));
    folder.ok(&["provider", "create", "open", "--base-url", "https://x.io/v1"]);

    let account = folder.json(&["provider", "show", "main"]);
    assert_eq!((&account["name"], &account["hasApiKey"]), (&json!("main"), &json!(true)));
    assert_eq!(account["manifest"]["base_url"], json!("https://api.example.com/v1"));
    assert_eq!(folder.json(&["provider", "show", "open"])["hasApiKey"], json!(false));
    assert_eq!(column(&folder.json(&["provider", "list"]), "/name"), ["env", "main", "open"]);
    for arguments in [&["provider", "list"][..], &["provider", "show", "main"]] {
        let both = folder.ok(arguments) + &folder.json(arguments).to_string();
        assert!(!both.contains("CANARY"), "{both}");
    }

    // A key belongs to its server.
    folder.refused(&["provider", "update", "main", "--base-url", "https://evil.example.com/v1"], 422);
    folder.ok(&["provider", "update", "main", "--base-url", "https://api.example.com/v2"]);
    folder.ok(&[
        "provider",
        "update",
        "main",
        "--base-url",
        "https://b.example.com/v1",
        "--api-key-file",
        &key,
    ]);
    folder.ok(&["provider", "update", "main", "--no-headers"]);
    folder.ok(&["provider", "set-key", "main", "--remove"]);
    assert_eq!(folder.json(&["provider", "show", "main"])["hasApiKey"], json!(false));
    folder.ok(&["provider", "set-key", "main", "--api-key-file", &key]);
    assert_eq!(folder.json(&["provider", "show", "main"])["hasApiKey"], json!(true));

    folder.ok(&[
        "model",
        "add",
        "main/meta/Llama-3:8b",
        "--model-id",
        "llama",
        "--input-price",
        "2.50",
        "--output-price",
        "10",
    ]);
    folder.ok(&["model", "add", "main/embed", "--model-id", "text-embed", "--type", "embedding"]);
    folder.ok(&["model", "add", "open/say", "--model-id", "tts-1", "--type", "text-to-speech,chat"]);
    folder.refused(&["model", "add", "main/embed", "--model-id", "x"], 409);
    folder.refused(&["model", "add", "nowhere/x", "--model-id", "x"], 404);
    assert_eq!(code(&folder.admin(&["model", "add", "main/x", "--model-id", "x", "--type", "telepathy"])), 1);
    assert_eq!(
        code(&folder.admin(&["model", "add", "main/x", "--model-id", "x", "--input-price", "cheap"])),
        1
    );
    let models = folder.json(&["model", "list", "--account", "main"]);
    assert_eq!(column(&models, "/modelName"), ["main/embed", "main/meta/Llama-3:8b"]);
    let table = folder.ok(&["model", "list"]);
    let line = table.lines().find(|line| line.starts_with("main/meta/Llama-3:8b")).unwrap();
    assert!(line.contains("2.5") && line.contains("10") && line.contains("chat"), "{table}");
    folder.ok(&["model", "remove", "main/meta/Llama-3:8b"]);
    folder.refused(&["model", "remove", "main/meta/Llama-3:8b"], 404);

    folder.ok(&["provider", "delete", "main"]);
    folder.refused(&["provider", "show", "main"], 404);
    // The key stands nowhere on disk as it is.
    for entry in std::fs::read_dir(folder.path("data")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes()), "{}", path.display());
        }
    }
}

#[test]
fn life_of_a_grant() {
    let folder = Folder::new();
    folder.ok(&["user", "create", "ada@x.io"]);
    folder.ok(&["team", "create", "crew"]);
    folder.ok(&["virtual-account", "create", "bot"]);
    folder.ok(&["provider", "create", "main", "--base-url", "https://x.io/v1"]);
    folder.ok(&["model", "add", "main/m/1", "--model-id", "m"]);
    folder.ok(&["grant", "user:ada@x.io", "provider-account-manager", "main"]);
    folder.ok(&["grant", "team:crew", "access", "main/m/1"]);
    folder.ok(&["grant", "virtualaccount:bot", "provider-account-access", "main"]);
    // Again is as before.
    folder.ok(&["grant", "virtualaccount:bot", "access", "main"]);
    let rows = folder.json(&["grants"]);
    assert_eq!(rows.as_array().unwrap().len(), 3, "{rows}");
    let rows = folder.json(&["grants", "--subject", "team:crew"]);
    assert_eq!(
        (column(&rows, "/target"), column(&rows, "/role")),
        (vec!["main/m/1".to_owned()], vec!["provider-account-access".to_owned()])
    );
    assert_eq!(column(&folder.json(&["grants", "--target", "main/m/1"]), "/subject"), ["team:crew"]);
    for (subject, role, target) in [
        ("user:nobody@x.io", "access", "main"),
        ("user:ada@x.io", "access", "nowhere"),
        ("user:ada@x.io", "access", "main/nothing"),
        ("user:ada@x.io", "manager", "main/m/1"),
        ("virtualaccount:bot", "manager", "main"),
    ] {
        folder.refused(&["grant", subject, role, target], 422);
    }
    folder.ok(&["revoke", "team:crew", "access", "main/m/1"]);
    folder.refused(&["revoke", "team:crew", "access", "main/m/1"], 404);
    folder.ok(&["provider", "delete", "main"]);
    assert_eq!(folder.json(&["grants"]), json!([]));
}

#[test]
fn life_of_a_token() {
    let folder = Folder::new();
    folder.ok(&["user", "create", "ada@x.io"]);
    let output =
        folder.admin(&["token", "create", "--user", "ada@x.io", "--name", "laptop", "--valid-days", "30"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    // The token alone, in one line; what there is to know elsewhere.
    let token = out(&output);
    assert!(token.starts_with("tfy_pat_") && token.ends_with('\n') && token.lines().count() == 1, "{token}");
    assert!(token.trim_end().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{token}");
    let id = token.split('_').nth(2).unwrap();
    assert!(
        err(&output).contains(id) && err(&output).contains("user:ada@x.io") && err(&output).contains("once"),
        "{}",
        err(&output)
    );
    assert!(!err(&output).contains(token.trim_end()));

    let shown = folder.json(&["token", "show", id]);
    assert_eq!(
        (&shown["id"], &shown["name"], &shown["owner"]),
        (&json!(id), &json!("laptop"), &json!("user:ada@x.io"))
    );
    assert!(shown["expiresAt"].is_string());
    let secret = token.trim_end().rsplit('_').next().unwrap();
    for arguments in [&["token", "show", id][..], &["token", "list"]] {
        let both = folder.ok(arguments) + &folder.json(arguments).to_string();
        assert!(!both.contains(secret), "{both}");
    }

    let made = folder.admin(&[
        "token",
        "create",
        "--user",
        "ada@x.io",
        "--name",
        "phone",
        "--expires",
        "2099-12-31",
        "--output",
        "json",
    ]);
    let made: Value = serde_json::from_str(&out(&made)).unwrap();
    assert!(made["token"].as_str().unwrap().starts_with("tfy_pat_"));
    assert_eq!(made["data"]["expiresAt"], json!("2099-12-31T23:59:59.999Z"));

    let rotated = folder.json(&["token", "rotate", id, "--grace", "30m"]);
    assert_eq!(rotated["data"]["replaces"], json!(id));
    assert_ne!(rotated["data"]["id"], json!(id));
    assert_eq!(folder.json(&["token", "list", "--user", "ada@x.io"]).as_array().unwrap().len(), 3);
    let newer = rotated["data"]["id"].as_str().unwrap();
    assert!(folder.ok(&["token", "rotate", newer, "--grace", "0"]).starts_with("tfy_pat_"));
    let ended = folder.json(&["token", "show", newer]);
    assert_eq!(ended["state"], json!("revoked"));
    assert!(ended["revokedAt"].is_string());
    let old = folder.json(&["token", "show", id]);
    assert_eq!((&old["state"], &old["replacedBy"]), (&json!("in grace"), &json!(newer)));
    let newest = ended["replacedBy"].as_str().unwrap();
    folder.ok(&["token", "rename", newest, "desktop"]);
    assert_eq!(folder.json(&["token", "show", newest])["name"], json!("desktop"));
    folder.refused(&["token", "rename", newest, "phone"], 409);
    for word in ["STATE", "LAST USED", "in grace", "revoked"] {
        assert!(folder.ok(&["token", "list"]).contains(word), "{word}");
    }

    folder.ok(&["token", "revoke", id]);
    folder.refused(&["token", "revoke", id], 404);
    folder.refused(&["token", "show", "nonsense"], 404);
    folder.refused(&["token", "create", "--user", "nobody@x.io", "--name", "laptop"], 422);
}

#[test]
fn settings_and_clock() {
    let folder = Folder::new();
    let defaults = json!({"pat_max_validity_days": null, "pat_may_mint": false, "audit_retention_days": null, "limits_when_accounting_fails": "refuse",
        "logging_settings": {"type": "header_controlled", "log_body_by_default": false}});
    assert_eq!(folder.json(&["settings", "get"]), defaults);
    let tried = folder.json(&["settings", "set", "pat_max_validity_days", "90", "--dry-run"]);
    assert_eq!(tried["data"]["pat_max_validity_days"], json!(90));
    assert_eq!(folder.json(&["settings", "get"]), defaults);
    folder.ok(&["settings", "set", "pat_max_validity_days", "90"]);
    folder.ok(&["settings", "set", "pat_may_mint", "true"]);
    assert!(folder.ok(&["settings", "get"]).contains("90"));
    folder.ok(&["settings", "set", "pat_max_validity_days", "none"]);
    assert_eq!(folder.json(&["settings", "get"])["pat_max_validity_days"], json!(null));
    folder.refused(&["settings", "set", "pat_max_days", "1"], 400);
    folder.refused(&["settings", "set", "pat_max_validity_days", "0"], 422);
    assert!(folder.ok(&["clock", "reset"]).starts_with("The clock went from"));
}

#[test]
fn life_of_a_virtual_account() {
    let folder = Folder::new();
    folder.ok(&[
        "virtual-account",
        "create",
        "search-bot",
        "--expires",
        "2099-12-31",
        "--tag",
        "team=search",
        "--tag",
        "note=a=b",
    ]);
    folder.refused(&["virtual-account", "create", "search-bot"], 409);
    let account = folder.json(&["virtual-account", "show", "search-bot"]);
    assert_eq!(account["manifest"]["tags"], json!({"team": "search", "note": "a=b"}));
    assert!(folder.ok(&["virtual-account", "show", "search-bot"]).contains("2099-12-31"));
    assert_eq!(column(&folder.json(&["virtual-account", "list"]), "/manifest/name"), ["search-bot"]);
    let token = folder.ok(&["token", "create", "--virtual-account", "search-bot", "--name", "production"]);
    assert!(token.starts_with("tfy_va_"), "{token}");
    assert_eq!(
        folder.json(&["token", "list", "--virtual-account", "search-bot"]).as_array().unwrap().len(),
        1
    );
    folder.ok(&["virtual-account", "delete", "search-bot"]);
    assert_eq!(folder.json(&["token", "list"]), json!([]));
    folder.refused(&["virtual-account", "show", "search-bot"], 404);
}

#[test]
fn an_empty_usage_report() {
    let folder = Folder::new();
    let table = folder.ok(&["usage", "report", "--by", "team,day", "--from", "2020-01-01"]);
    assert!(table.starts_with("TEAM  DAY  CALLS"), "{table}");
    assert_eq!(table.lines().count(), 1, "{table}");
}

#[test]
fn lists_longer_than_a_page_and_a_closed_pipe() {
    let folder = Folder::new();
    for number in 0..12 {
        folder.ok(&["user", "create", &format!("u{number}@x.io")]);
    }
    assert_eq!(folder.json(&["user", "list"]).as_array().unwrap().len(), 12);
    for arguments in
        [&["user", "list"][..], &["user", "list", "--output", "json"], &["user", "show", "u1@x.io"]]
    {
        let output = run_with_closed_pipe(folder.command(arguments));
        assert_eq!((code(&output), err(&output).as_str()), (0, ""), "{arguments:?}");
    }
}

#[test]
fn commands_at_the_same_time_wait_for_one_another() {
    let folder = Folder::new();
    folder.ok(&["user", "list"]);
    let children: Vec<_> = (0..6)
        .map(|number| {
            let email = format!("u{number}@x.io");
            folder
                .command(&["user", "create", &email])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert_eq!(code(&output), 0, "{}", err(&output));
    }
    assert_eq!(folder.json(&["user", "list"]).as_array().unwrap().len(), 6);
}

#[test]
fn a_folder_that_others_may_read_is_refused() {
    let folder = Folder::new();
    folder.ok(&["user", "list"]);
    std::fs::set_permissions(folder.path("data"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = folder.admin(&["user", "list"]);
    assert_eq!((code(&output), out(&output).as_str()), (1, ""));
    assert!(err(&output).contains("0755"), "{}", err(&output));
}

/// Holds the store as another process would.
fn hold(folder: &Folder) -> std::fs::File {
    folder.ok(&["user", "list"]);
    let file = std::fs::File::options().write(true).open(folder.path("data/lock")).unwrap();
    file.try_lock().unwrap();
    file
}

#[test]
fn a_store_that_stays_locked_is_told_and_a_lock_that_goes_is_waited_for() {
    let folder = Folder::new();
    let lock = hold(&folder);
    let output = folder.admin(&["user", "list", "--output", "json"]);
    assert_eq!((code(&output), out(&output).as_str()), (1, ""));
    assert!(err(&output).contains("another process holds the store"), "{}", err(&output));
    let child = folder.command(&["user", "list"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(lock);
    assert_eq!(code(&child.wait_with_output().unwrap()), 0);
}

#[test]
fn a_server_that_is_starting_is_waited_for() {
    let folder = Folder::new();
    let _lock = hold(&folder);
    let child = folder.command(&["user", "list", "--output", "json"]).stdout(Stdio::piped()).spawn().unwrap();
    // The socket comes after the lock.
    let listener = std::os::unix::net::UnixListener::bind(folder.path("data/admin.sock")).unwrap();
    let answer = r#"{"data":[{"email":"from@server"}]}"#;
    super::servers::answer(listener.accept().unwrap().0, 200, answer);
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 0);
    assert!(out(&output).contains("from@server"), "{}", out(&output));
}

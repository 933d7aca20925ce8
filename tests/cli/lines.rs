//! What is said and done before any gateway is asked.

use std::process::Stdio;

use serde_json::Value;

use super::{Folder, KEY, code, err, gateway, out, run, run_with_closed_pipe};

#[test]
fn every_level_has_help() {
    for (path, words) in [
        ("", "serve check-config admin Examples: Notes:"),
        ("serve", "--config --demo --data-dir Examples:"),
        ("check-config", "--config Examples:"),
        (
            "admin",
            "user team provider model grant revoke grants token virtual-account usage logs apply export --config --data-dir --url --output Examples: Notes: GATEWAY_TOKEN",
        ),
        ("admin user", "create invite list show deactivate activate set-role delete Examples:"),
        ("admin user create", "<email> --name --role Examples:"),
        ("admin user invite", "<email> Examples: Notes:"),
        ("admin user list", "--search Examples:"),
        ("admin user show", "<email> Examples:"),
        ("admin user deactivate", "<email> --dry-run Examples: Notes:"),
        ("admin user activate", "<email> Examples:"),
        ("admin user set-role", "<email> <role> Examples:"),
        ("admin user delete", "<email> --force --dry-run Examples: Notes:"),
        ("admin team", "create list show delete add-member remove-member Examples: everyone"),
        ("admin team create", "<name> --description Examples:"),
        ("admin team list", "Examples:"),
        ("admin team show", "<name> Examples:"),
        ("admin team delete", "<name> --dry-run Examples:"),
        ("admin team add-member", "<team> <email> --dry-run Examples:"),
        ("admin team remove-member", "<team> <email> --dry-run Examples:"),
        ("admin provider", "create list show update set-key delete Examples: Notes:"),
        (
            "admin provider create",
            "<name> --type --base-url --api-key-file --api-key-env --credential-file --region --project-id --api-version --drop-unsupported --log-bodies --client-cert-file --client-key-file --header --ca-file Examples:",
        ),
        ("admin provider list", "Examples:"),
        ("admin provider show", "<name> Examples:"),
        (
            "admin provider update",
            "<name> --base-url --api-key-file --api-key-env --credential-file --region --project-id --api-version --drop-unsupported --log-bodies --client-cert-file --client-key-file --header --ca-file Examples: Notes:",
        ),
        (
            "admin provider set-key",
            "<name> --api-key-file --api-key-env --credential-file --remove Examples:",
        ),
        ("admin provider delete", "<name> --dry-run Examples:"),
        ("admin model", "add list remove Examples: Notes:"),
        (
            "admin model add",
            "<model> --model-id --type --input-price --output-price --cached-price --cache-write-price --reasoning-price --price-from --public-cost --family --max-output-tokens --region --api-version --server-url Examples: embedding",
        ),
        ("admin model list", "--account Examples:"),
        ("admin model remove", "<model> --dry-run Examples:"),
        ("admin grant", "<subject> <role> <target> --dry-run Examples: Notes: provider-account-manager"),
        ("admin revoke", "<subject> <role> <target> --dry-run Examples: Notes:"),
        ("admin grants", "--subject --target Examples:"),
        ("admin token", "create list show rename revoke rotate Examples: Notes:"),
        ("admin token create", "--user --virtual-account --name --expires --valid-days Examples: Notes:"),
        ("admin token list", "--user --virtual-account Examples:"),
        ("admin token show", "<id> Examples:"),
        ("admin token rename", "<id> <name> Examples:"),
        ("admin token revoke", "<id> Examples:"),
        ("admin token rotate", "<id> --grace Examples: Notes:"),
        ("admin virtual-account", "create list show delete Examples: Notes:"),
        ("admin virtual-account create", "<name> --expires --tag Examples:"),
        ("admin virtual-account list", "Examples:"),
        ("admin virtual-account show", "<name> Examples:"),
        ("admin virtual-account delete", "<name> --dry-run Examples:"),
        ("admin catalog", "show import reset Examples: Notes:"),
        ("admin catalog show", "Examples:"),
        ("admin catalog import", "<file> Examples:"),
        ("admin catalog reset", "Examples:"),
        ("admin settings", "get set Examples: Notes: pat_max_validity_days"),
        ("admin settings get", "Examples:"),
        ("admin settings set", "<key> <value> --yes --dry-run Examples: Notes:"),
        ("admin backup", "<file> --with-master-key --force Examples: Notes:"),
        ("admin restore", "<file> --force --check Examples: Notes:"),
        ("admin clock", "reset Examples: Notes:"),
        ("admin clock reset", "Examples: Notes:"),
        ("admin apply", "-f --file --dry-run Examples: Notes:"),
        ("admin export", "<object> Examples: Notes:"),
        ("admin usage", "report export plot Examples:"),
        (
            "admin usage report",
            "--by --from --to --subject --team --model --account --metadata Examples: Notes:",
        ),
        ("admin usage export", "--from --to --subject --team --model --account --metadata Examples: Notes:"),
        ("admin usage plot", "--what --by --from --to --team --account --file Examples: Notes:"),
        ("admin logs", "list show Examples:"),
        (
            "admin logs list",
            "--from --to --subject --team --model --account --status --metadata --limit Examples: Notes:",
        ),
        ("admin logs show", "<request_id> --from --to Examples: Notes:"),
        ("admin limit", "list show Examples: Notes:"),
        ("admin limit list", "Examples:"),
        ("admin limit show", "<id> Examples:"),
        ("admin budget simulate", "--user --virtual-account --team --model --tag Examples: Notes:"),
        ("admin budget delete", "<id> Examples: Notes:"),
        ("admin budget", "list show simulate delete Examples: Notes:"),
        ("admin budget list", "Examples:"),
        ("admin budget show", "<id> Examples:"),
    ] {
        for flag in ["--help", "-h"] {
            let mut arguments: Vec<&str> = path.split_whitespace().collect();
            arguments.push(flag);
            let output = run(&arguments);
            let help = out(&output);
            assert_eq!((code(&output), err(&output).as_str()), (0, ""), "{path}");
            assert!(help.starts_with(format!("Usage: gateway {path}").trim_end()), "{path}: {help}");
            for word in words.split_whitespace() {
                assert!(
                    help.split(|c: char| c.is_whitespace() || "[]=,'".contains(c)).any(|found| found == word),
                    "{path}: no {word}: {help}"
                );
            }
            assert!(!help.contains("{command_name}") && !help.contains('\t'), "{path}: {help}");
        }
    }
    // The other ways to ask.
    assert_eq!(out(&run(&["help"])), out(&run(&["--help"])));
    for asked in [
        ["admin", "--help", "user", "create"],
        ["help", "admin", "user", "create"],
        ["admin", "help", "user", "create"],
    ] {
        assert_eq!(out(&run(&asked)), out(&run(&["admin", "user", "create", "--help"])), "{asked:?}");
    }
}

#[test]
fn the_version() {
    let output = run(&["--version"]);
    assert_eq!((code(&output), out(&output)), (0, format!("gateway {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_wrong_command_line_is_exit_2() {
    for line in [
        "",
        "frobnicate",
        "--frobnicate",
        "serve --frobnicate",
        "serve extra",
        "admin",
        "admin frobnicate",
        "admin user",
        "admin user frobnicate",
        "admin user create",
        "admin user create a@b.c extra",
        "admin user create a@b.c --role boss",
        "admin user set-role a@b.c boss",
        "admin user list --output yaml",
        "admin apply",
        "admin apply -f",
        "admin apply file.yaml",
        "admin apply -f - -f -",
        "admin export",
        "admin export team",
        "admin export team/",
        "admin export /x",
        "admin export team/..",
        "admin user list --output",
        "admin user list --output table --output table",
        "admin user list --url https://x --data-dir y",
        "admin user list --url https://x --config y",
        "admin provider create x --api-key sk-1",
        "admin provider create x --api-key=sk-1",
        "admin provider create x --api-key-file /dev/null --api-key-env HOME",
        "admin provider create x --header nocolon",
        "admin provider create x --credential-file /dev/null --api-key-env HOME",
        "admin provider create x --client-cert-file /dev/null",
        "admin provider create x --drop-unsupported maybe",
        "admin provider update x --client-key-file /dev/null",
        "admin provider set-key x --remove --credential-file /dev/null --api-key-env HOME",
        "admin model add main/gpt-4o --model-id x --max-output-tokens many",
        "admin provider update x",
        "admin provider update x --no-headers --header A:b",
        "admin provider set-key x",
        "admin provider set-key x --remove --api-key-env HOME",
        "admin model add gpt-4o --model-id x",
        "admin model add main/gpt-4o",
        "admin model remove main/",
        "admin grant user:a@b.c boss main",
        "admin grant user:a@b.c access",
        "admin settings set pat_may_mint",
        "admin settings set pat_may_mint perhaps",
        "admin settings set yes true",
        "admin token create --name laptop",
        "admin token create --name laptop --user a@b.c --virtual-account bot",
        "admin token create --user a@b.c",
        "admin token create --user a@b.c --name laptop --valid-days 3 --expires 2031-01-01",
        "admin token create --user a@b.c --name laptop --valid-days -3",
        "admin token create --user a@b.c --name laptop --expires tomorrow",
        "admin token list --user a@b.c --virtual-account bot",
        "admin token rotate x --grace 1w",
        "admin virtual-account create bot --tag nothing",
        "admin usage report --by moon",
        "admin logs list --metadata nothing",
        "admin provider update x --log-bodies maybe",
    ] {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        let output = run(&arguments);
        assert_eq!((code(&output), out(&output).as_str()), (2, ""), "{line}: {}", err(&output));
        assert!(err(&output).starts_with("gateway: "), "{line}: {}", err(&output));
        assert!(!err(&output).contains("sk-1"), "{line}: {}", err(&output));
        assert!(err(&output).contains("--help"), "{line}: {}", err(&output));
    }
    // An empty name would name the whole list.
    for arguments in [
        &["user", "delete", ""][..],
        &["team", "show", ""],
        &["provider", "delete", ".."],
        &["token", "revoke", ""],
    ] {
        let output = Folder::new().admin(arguments);
        assert_eq!((code(&output), out(&output).as_str()), (2, ""), "{arguments:?}: {}", err(&output));
    }
}

#[test]
fn usage_errors_are_json_when_json_is_asked_for() {
    for line in [
        "admin user create --output json",
        "admin --output json token create --name laptop",
        "admin --output=json frobnicate",
    ] {
        let output = run(&line.split_whitespace().collect::<Vec<_>>());
        assert_eq!((code(&output), out(&output).as_str()), (2, ""), "{line}");
        let error: Value = serde_json::from_str(&err(&output)).unwrap();
        assert_eq!(error["error"]["status"], Value::Null);
        assert!(error["error"]["message"].is_string());
    }
}

#[test]
fn a_usage_error_names_the_help_that_helps() {
    let output = run(&["admin", "user", "create"]);
    assert!(err(&output).contains("Run 'gateway admin user create --help'"), "{}", err(&output));
    let output = run(&["admin", "user", "frobnicate"]);
    assert!(err(&output).contains("Run 'gateway admin user --help'"), "{}", err(&output));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    for arguments in [&["--help"][..], &["--version"], &["admin", "user", "--help"]] {
        let output = run_with_closed_pipe(gateway(arguments));
        assert_eq!((code(&output), err(&output).as_str()), (0, ""), "{arguments:?}");
    }
}

#[test]
fn a_full_disk_under_standard_output_is_told() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output =
        gateway(&["--help"]).stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("standard output"), "{}", err(&output));
}

#[test]
fn check_config_says_what_is_wrong() {
    let folder = Folder::new();
    let good = folder.write("good.toml", "[store]\ndata_dir = \"/srv/gateway\"\n");
    let output = run(&["check-config", "--config", &good]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).starts_with(&format!("{good} is fine.\n")), "{}", out(&output));
    assert!(out(&output).contains("/srv/gateway"), "{}", out(&output));
    let output = gateway(&["check-config"]).env("GATEWAY_CONFIG", &good).output().unwrap();
    assert!(out(&output).starts_with(&good), "{}", out(&output));
    let bad = folder.write("bad.toml", "[store]\ndata_dri = \"x\"\n");
    for arguments in [&["check-config", "--config", &bad][..], &["admin", "user", "list", "--config", &bad]] {
        let output = run(arguments);
        assert_eq!((code(&output), out(&output).as_str()), (1, ""), "{}", err(&output));
        assert!(err(&output).contains("bad.toml") && err(&output).contains("data_dri"), "{}", err(&output));
    }
    let missing = run(&["check-config", "--config", "/nonexistent.toml"]);
    assert_eq!(code(&missing), 1);
    assert!(err(&missing).contains("/nonexistent.toml"), "{}", err(&missing));
}

#[test]
fn a_socket_path_that_is_too_long_is_refused() {
    let folder = Folder::new();
    let long = folder.path(&"x".repeat(120));
    let output = gateway(&["admin", "user", "list", "--data-dir"]).arg(&long).output().unwrap();
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("too long"), "{}", err(&output));
    assert!(!long.exists());
}

#[test]
fn keys_come_from_where_they_should_or_not_at_all() {
    let folder = Folder::new();
    let two_lines = folder.write("two", &format!("{KEY}\nmore\n"));
    let empty = folder.write("empty", "\n");
    for (file, says) in
        [(two_lines.as_str(), "one line"), (&empty, "is empty"), ("/nonexistent", "can not be read")]
    {
        let output = folder.admin(&["provider", "create", "main", "--api-key-file", file]);
        assert_eq!(code(&output), 1, "{}", err(&output));
        assert!(err(&output).contains(says), "{}", err(&output));
        assert!(!err(&output).contains("CANARY"), "{}", err(&output));
    }
    let output = folder.admin(&["provider", "create", "main", "--api-key-env", "GATEWAY_TEST_UNSET"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("GATEWAY_TEST_UNSET"), "{}", err(&output));
}

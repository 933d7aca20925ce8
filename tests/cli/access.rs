//! `--dry-run` of single changes: who would gain and who would lose what, and nothing is changed.

use serde_json::{Value, json};

use super::{Folder, column};

/// All that a change could show in.
fn everything(folder: &Folder) -> Value {
    [
        &["user", "list"][..],
        &["team", "list"],
        &["provider", "list"],
        &["model", "list"],
        &["virtual-account", "list"],
        &["token", "list"],
        &["grants"],
    ]
    .iter()
    .map(|list| folder.json(list))
    .collect()
}

/// Ada in research, which may use main/m; the application may use main/m by itself.
fn organisation() -> Folder {
    let folder = Folder::new();
    for line in [
        "user create root@x.io --role admin",
        "user create ada@x.io",
        "user create eve@x.io",
        "team create research",
        "team add-member research ada@x.io",
        "provider create main --type openai --base-url http://127.0.0.1:9/v1",
        "model add main/m --model-id m",
        "virtual-account create bot",
        "grant team:research access main/m",
        "grant virtualaccount:bot access main/m",
        "token create --user ada@x.io --name laptop",
    ] {
        folder.ok(&line.split(' ').collect::<Vec<_>>());
    }
    folder
}

#[test]
fn every_change_of_access_can_be_tried() {
    let folder = organisation();
    let before = everything(&folder);
    let (gains, loses) =
        ("would gain provider-account-access on main/m", "would lose provider-account-access on main/m");
    for (line, subject, verb) in [
        ("grant user:eve@x.io access main/m", "user:eve@x.io", gains),
        ("revoke virtualaccount:bot access main/m", "virtualaccount:bot", loses),
        ("team add-member research eve@x.io", "user:eve@x.io", gains),
        ("team remove-member research ada@x.io", "user:ada@x.io", loses),
        ("team delete research", "user:ada@x.io", loses),
        ("user deactivate ada@x.io", "user:ada@x.io", loses),
        ("user delete ada@x.io --force", "user:ada@x.io", loses),
        ("virtual-account delete bot", "virtualaccount:bot", loses),
        ("provider delete main", "user:ada@x.io", loses),
        ("model remove main/m", "user:ada@x.io", loses),
    ] {
        let mut words: Vec<&str> = line.split(' ').collect();
        words.push("--dry-run");
        let said = folder.ok(&words);
        let wanted = format!("{subject} {verb}");
        assert!(said.lines().any(|said| said == wanted), "{line}: {said}");
        assert!(!said.contains(if verb == gains { " lose " } else { " gain " }), "{line}: {said}");
        let answer = folder.json(&words);
        let side = if verb == gains { "/access/gains" } else { "/access/loses" };
        assert!(
            column(answer.pointer(side).unwrap(), "/subject").contains(&subject.to_owned()),
            "{line}: {answer}"
        );
        assert_eq!(everything(&folder), before, "{line}");
    }
}

#[test]
fn a_trial_says_what_is_refused_and_what_makes_no_difference() {
    let folder = organisation();
    let before = everything(&folder);
    let nothing = "Nobody would gain or lose access.\n";
    folder.ok(&["grant", "user:ada@x.io", "access", "main/m"]);
    assert_eq!(folder.ok(&["revoke", "user:ada@x.io", "access", "main/m", "--dry-run"]), nothing);
    assert_eq!(folder.ok(&["user", "deactivate", "eve@x.io", "--dry-run"]), nothing);
    assert_eq!(folder.json(&["user", "deactivate", "eve@x.io", "--dry-run"])["access"]["loses"], json!([]));
    folder.refused(&["user", "deactivate", "root@x.io", "--dry-run"], 409);
    folder.refused(&["user", "delete", "ada@x.io", "--dry-run"], 409);
    folder.refused(&["grant", "user:nobody@x.io", "access", "main/m", "--dry-run"], 422);
    folder.ok(&["revoke", "user:ada@x.io", "access", "main/m"]);
    assert_eq!(everything(&folder), before);
}

//! Who may do what: every route, asked by everyone, against a table that people have read.
//! `GATEWAY_UPDATE_GOLDEN=1` writes it anew; read the difference before you commit it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::super::{PREFIX, ROUTES, TABLE, match_path};
use super::{House, LOCAL, account, model};
use crate::domain::Principal;

const COLUMNS: [&str; 8] = ["nobody", "plain", "access", "keeper", "lead", "admin", "app", "local"];

/// What is asked; `{plain}` and the like stand for the id of that one's token.
fn requests() -> Vec<(&'static str, &'static str, Value)> {
    let email = |name: &str| json!({"email": format!("{name}@x.io")});
    let roles = |name: &str| json!({"email": format!("{name}@x.io"), "roles": ["tenant-admin"]});
    let team = |name: &str| json!({"manifest": {"type": "team", "name": name, "members": []}});
    let grant =
        |role: &str, target: &str| json!({"subject": "user:plain@x.io", "role": role, "target": target});
    let collaborator = |account: &str, subject: &str, role: &str| json!({"resourceType": "provider-account", "resourceId": account, "subject": subject, "roleId": role});
    vec![
        ("GET", "/openapi.json", Value::Null),
        ("GET", "/min-cli-version", Value::Null),
        ("GET", "/tenant-id", Value::Null),
        ("GET", "/session", Value::Null),
        ("GET", "/users", Value::Null),
        ("POST", "/users/register", email("new")),
        ("PATCH", "/users/roles", roles("plain")),
        ("PATCH", "/users/roles", roles("hidden")),
        ("PATCH", "/users/deactivate", email("plain")),
        ("PATCH", "/users/deactivate", email("hidden")),
        ("PATCH", "/users/activate", email("plain")),
        ("PATCH", "/users/activate", email("nobody")),
        ("GET", "/users/plain@x.io", Value::Null),
        ("GET", "/users/hidden@x.io", Value::Null),
        ("GET", "/users/nobody@x.io", Value::Null),
        ("DELETE", "/users/plain@x.io", Value::Null),
        ("DELETE", "/users/hidden@x.io", Value::Null),
        ("DELETE", "/users/hidden@x.io?forceDelete=true", Value::Null),
        ("POST", "/users/invite", json!({"email": "new@x.io", "acceptInviteClientUrl": "http://x"})),
        ("GET", "/x/users/info", Value::Null),
        ("GET", "/x/users/plain@x.io/resources", Value::Null),
        ("GET", "/x/users/hidden@x.io/resources", Value::Null),
        ("GET", "/x/users/plain@x.io/permissions", Value::Null),
        ("GET", "/x/users/hidden@x.io/permissions", Value::Null),
        ("GET", "/x/users/plain@x.io/teams", Value::Null),
        ("GET", "/x/users/hidden@x.io/teams", Value::Null),
        ("GET", "/teams", Value::Null),
        ("GET", "/teams/user", Value::Null),
        ("PUT", "/teams", team("new")),
        ("POST", "/teams", team("new")),
        ("PUT", "/teams", team("search")),
        ("GET", "/teams/search", Value::Null),
        ("GET", "/teams/hidden", Value::Null),
        ("DELETE", "/teams/search", Value::Null),
        ("DELETE", "/teams/hidden", Value::Null),
        ("GET", "/teams/search/members", Value::Null),
        ("GET", "/teams/hidden/members", Value::Null),
        ("POST", "/teams/search/members", email("plain")),
        ("POST", "/teams/hidden/members", email("plain")),
        ("DELETE", "/teams/search/members/access@x.io", Value::Null),
        ("DELETE", "/teams/hidden/members/hidden@x.io", Value::Null),
        ("GET", "/teams/search/managers", Value::Null),
        ("GET", "/teams/hidden/managers", Value::Null),
        ("POST", "/teams/search/managers", email("plain")),
        ("POST", "/teams/hidden/managers", email("plain")),
        ("DELETE", "/teams/search/managers/lead@x.io", Value::Null),
        ("DELETE", "/teams/hidden/managers/hidden@x.io", Value::Null),
        ("GET", "/teams/search/permissions", Value::Null),
        ("GET", "/teams/hidden/permissions", Value::Null),
        ("GET", "/provider-accounts", Value::Null),
        ("POST", "/provider-accounts", json!({"manifest": account("new")})),
        ("PUT", "/provider-accounts", json!({"manifest": account("new")})),
        ("PUT", "/provider-accounts", json!({"manifest": account("main")})),
        ("PUT", "/provider-accounts", json!({"manifest": account("other")})),
        ("GET", "/provider-accounts/main", Value::Null),
        ("GET", "/provider-accounts/other", Value::Null),
        ("PATCH", "/provider-accounts/main", json!({"headers": {"x-team": "a"}})),
        ("PATCH", "/provider-accounts/main", json!({"base_url": "http://127.0.0.1:1", "api_key": "k"})),
        ("PATCH", "/provider-accounts/other", json!({"headers": {"x-team": "a"}})),
        ("DELETE", "/provider-accounts/main", Value::Null),
        ("DELETE", "/provider-accounts/other", Value::Null),
        ("PUT", "/provider-accounts/main/credential", json!({"api_key": "sk-new"})),
        ("PUT", "/provider-accounts/other/credential", json!({"api_key": "sk-new"})),
        ("POST", "/provider-accounts/main/models", json!({"manifest": model("new")})),
        ("POST", "/provider-accounts/other/models", json!({"manifest": model("new")})),
        ("DELETE", "/provider-accounts/main/models/gpt", Value::Null),
        ("DELETE", "/provider-accounts/main/models/none", Value::Null),
        ("DELETE", "/provider-accounts/other/models/gpt", Value::Null),
        ("GET", "/provider-integrations", Value::Null),
        ("GET", "/grants", Value::Null),
        ("POST", "/grants", grant("provider-account-access", "main")),
        ("POST", "/grants", grant("provider-account-manager", "main")),
        ("POST", "/grants", grant("provider-account-access", "other/gpt")),
        ("POST", "/grants", grant("provider-account-access", "none")),
        ("DELETE", "/grants?subject=team:search&role=provider-account-access&target=main", Value::Null),
        ("DELETE", "/grants?subject=user:plain@x.io&role=provider-account-access&target=main", Value::Null),
        ("DELETE", "/grants?subject=user:hidden@x.io&role=provider-account-access&target=other", Value::Null),
        (
            "DELETE",
            "/grants?subject=virtualaccount:app&role=provider-account-access&target=main",
            Value::Null,
        ),
        ("GET", "/collaborators?resourceType=provider-account&resourceId=main", Value::Null),
        ("GET", "/collaborators?resourceType=provider-account&resourceId=other", Value::Null),
        ("GET", "/collaborators?resourceType=provider-integration&resourceId=main/gpt", Value::Null),
        ("GET", "/collaborators?resourceType=provider-integration&resourceId=other/gpt", Value::Null),
        ("POST", "/collaborators", collaborator("main", "user:plain@x.io", "provider-account-access")),
        ("POST", "/collaborators", collaborator("main", "user:plain@x.io", "provider-account-manager")),
        ("POST", "/collaborators", collaborator("other", "user:plain@x.io", "provider-account-access")),
        ("DELETE", "/collaborators", collaborator("main", "team:search", "provider-account-access")),
        ("DELETE", "/collaborators", collaborator("main", "virtualaccount:app", "provider-account-access")),
        ("DELETE", "/collaborators", collaborator("other", "user:hidden@x.io", "provider-account-access")),
        ("GET", "/roles", Value::Null),
        ("GET", "/roles/tenant-admin", Value::Null),
        ("GET", "/roles/none", Value::Null),
        ("GET", "/fqn/provider-account?fqn=acme:openai:main", Value::Null),
        ("GET", "/fqn/provider-account?fqn=acme:openai:other", Value::Null),
        ("GET", "/tokens", Value::Null),
        ("GET", "/tokens?user=plain@x.io", Value::Null),
        ("GET", "/tokens?virtualAccount=app", Value::Null),
        ("POST", "/tokens", json!({"user": "plain@x.io", "name": "new"})),
        ("POST", "/tokens", json!({"virtualAccount": "app", "name": "new"})),
        ("GET", "/tokens/{plain}", Value::Null),
        ("GET", "/tokens/{app}", Value::Null),
        ("DELETE", "/tokens/{plain}", Value::Null),
        ("DELETE", "/tokens/{app}", Value::Null),
        ("POST", "/tokens/{plain}/rotate", json!({"gracePeriodInMinutes": 5})),
        ("POST", "/tokens/{app}/rotate", json!({"gracePeriodInMinutes": 0})),
        ("GET", "/virtual-accounts", Value::Null),
        ("PUT", "/virtual-accounts", json!({"manifest": {"type": "virtual-account", "name": "new"}})),
        ("GET", "/virtual-accounts?nameSearchQuery=ap&isExpired=false", Value::Null),
        ("GET", "/virtual-accounts/exists?name=app", Value::Null),
        ("POST", "/virtual-accounts", json!({"manifest": {"type": "virtual-account", "name": "new"}})),
        ("GET", "/virtual-accounts/app", Value::Null),
        ("DELETE", "/virtual-accounts/app", Value::Null),
        ("PATCH", "/tokens/{plain}", json!({"name": "renamed"})),
        ("PATCH", "/tokens/{app}", json!({"name": "renamed"})),
        ("GET", "/virtual-accounts/app/token", Value::Null),
        ("GET", "/virtual-accounts/none/token", Value::Null),
        ("POST", "/virtual-accounts/app/regenerate-token", json!({"gracePeriodInMinutes": 0})),
        ("DELETE", "/virtual-accounts/app/jwt/{app}", Value::Null),
        ("DELETE", "/virtual-accounts/app/jwt/{plain}", Value::Null),
        ("GET", "/personal-access-tokens", Value::Null),
        ("POST", "/personal-access-tokens", json!({"name": "new"})),
        ("POST", "/personal-access-tokens/for-user", json!({"name": "new", "userEmail": "plain@x.io"})),
        ("POST", "/personal-access-tokens/for-user", json!({"name": "new", "userEmail": "nobody@x.io"})),
        ("DELETE", "/personal-access-tokens/revoke/all", email("plain")),
        ("DELETE", "/personal-access-tokens/revoke/all", email("nobody")),
        ("DELETE", "/personal-access-tokens/{plain}", Value::Null),
        ("DELETE", "/personal-access-tokens/{app}", Value::Null),
        ("GET", "/settings", Value::Null),
        ("PATCH", "/settings", json!({"pat_may_mint": true})),
        ("GET", "/catalog", Value::Null),
        (
            "PUT",
            "/catalog",
            json!({"catalogue": {"date": "2026-01-31", "models": {"openai": {"m": {"input": "1"}}}}}),
        ),
        ("DELETE", "/catalog", Value::Null),
        ("POST", "/clock/reset", Value::Null),
        ("GET", "/usage/report", Value::Null),
        ("GET", "/usage/export", Value::Null),
        ("GET", "/logs", Value::Null),
        ("GET", "/logs/none", Value::Null),
        ("GET", "/backup", Value::Null),
        ("GET", "/backup?withMasterKey=true", Value::Null),
        ("GET", "/backup?withMasterKey=perhaps", Value::Null),
        ("GET", "/llm-gateway/config/gateway-budget-config", Value::Null),
        ("GET", "/llm-gateway/config/nonsense", Value::Null),
        ("GET", "/llm-gateway/budgets", Value::Null),
        (
            "PUT",
            "/llm-gateway/budgets",
            json!({"manifest": {"type": "gateway-budget-config", "name": "b", "rules": []}}),
        ),
        ("GET", "/llm-gateway/budgets/my-usage", Value::Null),
        ("GET", "/llm-gateway/config/budget/usage", Value::Null),
        ("GET", "/llm-gateway/rate-limits", Value::Null),
        ("GET", "/llm-gateway/rate-limits/none", Value::Null),
        ("POST", "/llm-gateway/budgets/simulate", json!({"user": "plain@x.io"})),
        ("POST", "/llm-gateway/budgets/simulate", json!({"user": "nobody@x.io"})),
        ("DELETE", "/llm-gateway/budgets/none", Value::Null),
        ("GET", "/llm-gateway/budgets/none", Value::Null),
        ("GET", "/llm-gateway/budgets/none/leaderboard", Value::Null),
        (
            "PUT",
            "/apply",
            json!({"manifest": {"type": "gateway-rate-limiting-config", "name": "r", "rules": []}}),
        ),
        ("GET", "/explain?subject=user:plain@x.io&model=main/gpt", Value::Null),
        ("GET", "/explain?subject=user:access@x.io&model=main/gpt", Value::Null),
        ("GET", "/explain?subject=user:access@x.io&model=other/gpt", Value::Null),
        ("GET", "/explain?subject=user:access@x.io&model=main/none", Value::Null),
        ("GET", "/audit", Value::Null),
        ("GET", "/audit/verify", Value::Null),
        ("PUT", "/apply", json!({"manifest": account("main")})),
        ("PUT", "/apply", json!({"manifest": account("other")})),
        ("PUT", "/apply", json!({"manifest": account("none")})),
        ("PUT", "/apply", team("search")),
        (
            "PUT",
            "/apply",
            json!({"manifest": {"type": "settings", "name": "settings", "pat_may_mint": true}}),
        ),
        ("POST", "/manifests", json!({"manifests": [account("main")]})),
        ("POST", "/manifests", json!({"manifests": [account("main"), account("other")]})),
        ("POST", "/manifests", json!({"manifests": []})),
        ("POST", "/delete", json!({"manifest": {"type": "provider-account/openai", "name": "main"}})),
        ("POST", "/delete", json!({"manifest": {"type": "provider-account/openai", "name": "other"}})),
        ("POST", "/delete", json!({"manifest": {"type": "team", "name": "search"}})),
        ("POST", "/delete", json!({"manifest": {"type": "team", "name": "hidden"}})),
        ("POST", "/delete", json!({"manifest": {"type": "role-binding", "name": "none"}})),
        ("POST", "/dependency-tree", json!({"manifests": []})),
        ("GET", "/manifests/user/plain@x.io", Value::Null),
        ("GET", "/manifests/user/hidden@x.io", Value::Null),
        ("GET", "/manifests/team/search", Value::Null),
        ("GET", "/manifests/team/hidden", Value::Null),
        ("GET", "/manifests/provider-account/main", Value::Null),
        ("GET", "/manifests/provider-account/other", Value::Null),
        ("GET", "/manifests/virtual-account/app", Value::Null),
        ("GET", "/manifests/settings/settings", Value::Null),
    ]
}

struct People {
    house: House,
    principals: Vec<Option<Principal>>,
    plain: String,
    app: String,
}

fn people() -> People {
    let house = House::furnished();
    let mut principals = Vec::new();
    let (mut plain, mut app) = (String::new(), String::new());
    for name in COLUMNS {
        principals.push(match name {
            "nobody" => None,
            "local" => Some(LOCAL),
            "app" => {
                let (_, id, principal) = house.token("app", "key");
                app = id;
                Some(principal)
            }
            _ => {
                let (_, id, principal) = house.token(&format!("{name}@x.io"), "key");
                if name == "plain" {
                    plain = id;
                }
                Some(principal)
            }
        });
    }
    People { house, principals, plain, app }
}

fn table() -> String {
    let mut text = String::new();
    let mut header = format!("{:<100}", "request");
    for column in COLUMNS {
        write!(header, " {column:<7}").unwrap();
    }
    writeln!(text, "{}", header.trim_end()).unwrap();
    for (method, path, body) in requests() {
        let shown = match body.pointer("/manifest/name") {
            Some(name) => format!(" manifest {name}"),
            None if body["manifests"].is_array() => {
                let names = body["manifests"].as_array().unwrap().iter().map(|one| one["name"].to_string());
                format!(" manifests {}", names.collect::<Vec<_>>().join(", "))
            }
            None if body.is_null() => String::new(),
            None => format!(" {body}"),
        };
        let mut line = format!("{:<100}", format!("{method} {path}{shown}"));
        for at in 0..COLUMNS.len() {
            let People { house, principals, plain, app } = people();
            let path = path.replace("{plain}", &plain).replace("{app}", &app);
            let body = if body.is_null() { String::new() } else { body.to_string() };
            let response = house.call(principals[at].as_ref(), method, &path, body.as_bytes());
            let json: Value = serde_json::from_str(&response.body).unwrap();
            let cell = match json["pagination"]["total"].as_u64() {
                Some(total) => format!("{}/{total}", response.status),
                None => response.status.to_string(),
            };
            write!(line, " {cell:<7}").unwrap();
        }
        writeln!(text, "{}", line.trim_end()).unwrap();
    }
    text
}

#[test]
fn who_may_do_what() {
    let golden = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/management-policy.txt"));
    let golden: Vec<&str> = golden.lines().filter(|line| !line.starts_with('#')).collect();
    let table = table();
    if std::env::var_os("GATEWAY_UPDATE_GOLDEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/management-policy.txt");
        let old = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/management-policy.txt"));
        let head = old
            .lines()
            .filter(|line| line.starts_with('#'))
            .fold(String::new(), |head, line| head + line + "\n");
        std::fs::write(path, head + &table).unwrap();
        return;
    }
    let found: Vec<&str> = table.lines().collect();
    let mut difference = String::new();
    for line in golden.iter().filter(|line| !found.contains(line)) {
        writeln!(difference, "- {line}").unwrap();
    }
    for line in found.iter().filter(|line| !golden.contains(line)) {
        writeln!(difference, "+ {line}").unwrap();
    }
    assert!(
        golden == found,
        "tests/golden/management-policy.txt says something else (-) than the gateway does (+):\n{difference}"
    );
}

#[test]
fn every_route_is_in_the_table() {
    let asked: BTreeSet<(String, &str)> = requests()
        .into_iter()
        .map(|(method, path, _)| {
            let path = path.split('?').next().unwrap();
            let template = TABLE.iter().find(|route| match_path(route.path, path).is_some()).unwrap().path;
            (method.to_owned(), template)
        })
        .collect();
    for (method, path) in ROUTES {
        let template = path.strip_prefix(PREFIX).unwrap();
        assert!(
            asked.contains(&((*method).to_owned(), template)),
            "{method} {path} is not in the policy table"
        );
    }
    assert_eq!(asked.len(), ROUTES.len());
}

#[test]
fn other_methods_are_told_the_right_ones() {
    let house = House::furnished();
    for route in TABLE {
        let methods: Vec<&str> = route.methods.iter().map(|(method, _)| *method).collect();
        assert_eq!(route.allow, methods.join(", "), "{}", route.path);
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "get", ""] {
            if !methods.contains(&method) {
                let response = house.call(Some(&LOCAL), method, route.path, b"{}");
                assert_eq!((response.status, response.header), (405, Some(("allow", route.allow))));
            }
        }
    }
}

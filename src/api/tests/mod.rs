//! The management API, called as the server and the command line call it.

mod accounts;
mod attacks;
mod audit;
mod directory;
mod explain;
mod hostile;
mod manifests;
mod operations;
mod policy;
mod races;
mod rotation;
mod shapes;
mod tokens;
mod wrong_accounts;

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{PREFIX, Request, Response, handle};
use crate::authn;
use crate::clock::UnixMillis;
use crate::domain::Principal;
use crate::id::TokenId;
use crate::manage::{AuditDesk, BackupDesk, Manage};
use crate::request_log::{Found, LogKey, LoggedBodies, RequestLogError, RequestLogReader};
use crate::seal::MasterKey;
use crate::store::Store;
use crate::usage::{
    ExportCursor, ExportPage, RecentFilter, RecentPage, ReportFilter, ReportRow, UsageError, UsageReader,
};

pub const LOCAL: Principal = Principal::LocalAdministrator { uid: 0 };
pub const PROVIDER_KEY: &str = "sk-provider-key-0123456789";

/// Answers a fixed report and keeps what it was asked.
#[derive(Debug, Default)]
pub struct Reports {
    pub rows: Mutex<Vec<ReportRow>>,
    pub asked: Mutex<Vec<ReportFilter>>,
    /// Tokens that were used, and when.
    pub used: Mutex<Vec<(String, UnixMillis)>>,
}

impl UsageReader for Reports {
    fn report(&self, filter: &ReportFilter) -> Result<Vec<ReportRow>, UsageError> {
        self.asked.lock().unwrap().push(filter.clone());
        Ok(self.rows.lock().unwrap().clone())
    }

    fn export(&self, filter: &ReportFilter, _: Option<ExportCursor>) -> Result<ExportPage, UsageError> {
        self.asked.lock().unwrap().push(filter.clone());
        Ok(ExportPage::default())
    }

    fn recent(&self, filter: &RecentFilter) -> Result<RecentPage, UsageError> {
        self.asked.lock().unwrap().push(filter.calls.clone());
        Ok(RecentPage::default())
    }

    fn last_used(&self, token: &TokenId) -> Option<UnixMillis> {
        let used = self.used.lock().unwrap();
        used.iter().find(|(id, _)| id == token.as_str()).map(|(_, time)| *time)
    }
}

/// A request log in which nothing is.
#[derive(Debug)]
struct NoLog;

impl RequestLogReader for NoLog {
    fn find(&self, _: &str, _: &ReportFilter) -> Result<Option<Found>, RequestLogError> {
        Ok(None)
    }

    fn are_logged(&self, calls: Vec<(UnixMillis, String)>, _: bool) -> Result<Vec<bool>, RequestLogError> {
        Ok(vec![false; calls.len()])
    }

    fn bodies(&self, _: LogKey) -> Result<Option<LoggedBodies>, RequestLogError> {
        Ok(None)
    }
}

/// A gateway's management side on a store in memory.
pub struct House {
    pub manage: Manage,
    pub reports: Arc<Reports>,
    /// Every body that was ever answered.
    pub said: Mutex<Vec<String>>,
}

impl House {
    pub fn empty() -> Self {
        let reports = Arc::new(Reports::default());
        let manage = Manage {
            store: Arc::new(Store::in_memory(MasterKey::new(&[7; 32]))),
            tenant: "acme".into(),
            demo: false,
            aws_machine_credentials: false,
            usage: Arc::clone(&reports) as Arc<dyn UsageReader>,
            request_log: Arc::new(NoLog),
            limits: Arc::default(),
            audit: AuditDesk::default(),
            backups: BackupDesk::default(),
            trial: None,
        };
        Self { manage, reports, said: Mutex::default() }
    }

    /// The people of the policy table: `admin`; `plain` without grants; `access` who may use account `main`
    /// through the team `search`; `keeper` who manages account `main`; `lead` who manages the team. The
    /// application `app` may use `main`. Nobody but admins sees the account `other` and the user `hidden`.
    pub fn furnished() -> Self {
        let house = Self::empty();
        for (name, role) in [
            ("admin", "admin"),
            ("plain", "member"),
            ("access", "member"),
            ("keeper", "member"),
            ("lead", "member"),
            ("hidden", "member"),
        ] {
            let email = format!("{name}@x.io");
            house.done("POST", "/users/register", json!({"email": email, "role": role}));
        }
        for (team, members) in [("search", json!(["access@x.io"])), ("hidden", json!(["hidden@x.io"]))] {
            let managers = if team == "search" { json!(["lead@x.io"]) } else { json!([]) };
            let manifest = json!({"type": "team", "name": team, "members": members, "managers": managers});
            house.done("PUT", "/teams", json!({"manifest": manifest}));
        }
        for name in ["main", "other"] {
            house.done("POST", "/provider-accounts", json!({"manifest": account(name)}));
        }
        house.done(
            "PUT",
            "/virtual-accounts",
            json!({"manifest": {"type": "virtual-account", "name": "app", "permissions": [permission("main")]}}),
        );
        for (subject, role, target) in [
            ("team:search", "provider-account-access", "main"),
            ("user:keeper@x.io", "provider-account-manager", "main"),
            ("user:hidden@x.io", "provider-account-access", "other"),
        ] {
            house.done("POST", "/grants", json!({"subject": subject, "role": role, "target": target}));
        }
        house
    }

    pub fn call(&self, who: Option<&Principal>, method: &str, path: &str, body: &[u8]) -> Response {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let path = format!("{PREFIX}{path}");
        let mut response = handle(&self.manage, who, &Request { method, path: &path, query, body });
        if response.rest.is_some() {
            // An export is lines, and here there are none; a backup begins with its own.
            assert!(["", crate::archive::MAGIC].contains(&response.body.as_str()), "{}", response.body);
            response.body = "null".to_owned();
        }
        let json: Value = serde_json::from_str(&response.body).expect("every body is JSON");
        if response.status >= 400 {
            assert_eq!(json["statusCode"], response.status, "{}", response.body);
            assert!(json["message"].as_str().is_some_and(|text| !text.is_empty()), "{}", response.body);
        }
        self.said.lock().unwrap().push(response.body.clone());
        response
    }

    pub fn ask(&self, who: &Principal, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let response = self.call(Some(who), method, path, body.as_bytes());
        (response.status, serde_json::from_str(&response.body).unwrap())
    }

    /// Asks as the local administrator what has to be well.
    pub fn done(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(&LOCAL, method, path, body);
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }

    /// Asks as the local administrator what has to be refused; the message.
    pub fn refused(&self, want: u16, method: &str, path: &str, body: Value) -> String {
        let (status, answer) = self.ask(&LOCAL, method, path, body);
        assert_eq!(status, want, "{method} {path}: {answer}");
        answer["message"].as_str().unwrap().to_owned()
    }

    /// A new token's text, its id and who it makes one.
    pub fn token(&self, owner: &str, name: &str) -> (String, String, Principal) {
        let key = if owner.contains('@') { "user" } else { "virtualAccount" };
        let answer = self.done("POST", "/tokens", json!({key: owner, "name": name}));
        let text = answer["token"].as_str().unwrap().to_owned();
        let principal = self.login(&text).expect("a new token works");
        (text, answer["data"]["id"].as_str().unwrap().to_owned(), principal)
    }

    pub fn login(&self, token: &str) -> Option<Principal> {
        authn::authenticate(token, &self.manage.store.snapshot(), UnixMillis::now()).ok()
    }

    /// Nothing that was answered holds one of these.
    pub fn never_said(&self, secrets: &[&str]) {
        for body in self.said.lock().unwrap().iter() {
            for secret in secrets {
                assert!(!body.contains(secret), "{secret} is in {body}");
            }
        }
    }
}

pub fn account(name: &str) -> Value {
    json!({
        "type": "provider-account/openai",
        "name": name,
        "base_url": "https://llm.example.com/v1",
        "auth_data": {"type": "api-key", "api_key": PROVIDER_KEY},
        "integrations": [model("gpt"), model("org/small")],
    })
}

pub fn model(name: &str) -> Value {
    json!({"type": "integration/model/openai", "name": name, "model_id": "gpt-4o", "model_types": ["chat"]})
}

pub fn permission(account: &str) -> Value {
    json!({
        "resource_fqn": format!("acme:openai:{account}"),
        "resource_type": "provider-account",
        "role_id": "provider-account-access",
    })
}

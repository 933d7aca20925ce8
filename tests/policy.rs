//! Who may do what: every principal against every endpoint there is, as a table that a person can review.
//!
//! The table is `golden/policy.txt`. `GATEWAY_UPDATE_GOLDEN=1` writes it anew; read the difference before
//! committing it. An endpoint that stands in the source and not here fails the test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails loudly and may block its own thread"
)]

mod support;

use std::cell::Cell;
use std::collections::BTreeSet;

use serde_json::{Value, json};

use support::gateway::{root, token_id};
use support::{CHAT_ANSWER, Client, Gateway, Provider, chat, eventually};

const API: &str = "/api/svc/v1";

/// The columns: who asks.
const WHO: &[&str] = &[
    "nobody", "bad", "expired", "revoked", "outsider", "member", "model", "manager", "team", "lead",
    "former", "admin", "app",
];

/// The rows: an endpoint, and what is asked of it where that matters. `Own` things are the caller's.
const ROWS: &[&str] = &[
    "GET /min-cli-version",
    "GET /tenant-id",
    "GET /session",
    "GET /users",
    "POST /users/register",
    "GET /users/{id} | oneself",
    "GET /users/{id} | another",
    "DELETE /users/{id} | another",
    "PATCH /users/roles | another",
    "PATCH /users/roles | oneself to admin",
    "PATCH /users/deactivate | another",
    "PATCH /users/activate | another",
    "GET /teams/user",
    "GET /teams",
    "PUT /teams | new",
    "PUT /teams | own",
    "GET /teams/{id} | own",
    "GET /teams/{id} | another",
    "DELETE /teams/{id} | own",
    "GET /teams/{id}/members | own",
    "GET /teams/{id}/members | another",
    "POST /teams/{id}/members | own",
    "POST /teams/{id}/members | another",
    "DELETE /teams/{id}/members/{email} | own",
    "DELETE /teams/{id}/members/{email} | another",
    "GET /provider-accounts",
    "POST /provider-accounts",
    "GET /provider-accounts/{id} | main",
    "GET /provider-accounts/{id} | other",
    "PATCH /provider-accounts/{id} | main",
    "PATCH /provider-accounts/{id} | main to loopback",
    "PATCH /provider-accounts/{id} | other",
    "PUT /provider-accounts/{id}/credential | main",
    "PUT /provider-accounts/{id}/credential | other",
    "DELETE /provider-accounts/{id} | like main",
    "POST /provider-accounts/{id}/models | main",
    "POST /provider-accounts/{id}/models | other",
    "DELETE /provider-accounts/{id}/models/{name} | main",
    "DELETE /provider-accounts/{id}/models/{name} | other",
    "GET /provider-integrations",
    "GET /grants",
    "POST /grants | access to main",
    "POST /grants | manager of main",
    "POST /grants | manager of main to oneself",
    "POST /grants | access to other",
    "DELETE /grants | on main",
    "DELETE /grants | on other",
    "GET /tokens",
    "POST /tokens | for oneself",
    "POST /tokens | for another",
    "POST /tokens | for a virtual account",
    "GET /tokens/{id} | own",
    "GET /tokens/{id} | another's",
    "DELETE /tokens/{id} | own",
    "DELETE /tokens/{id} | another's",
    "POST /tokens/{id}/rotate | own",
    "POST /tokens/{id}/rotate | another's",
    "GET /virtual-accounts",
    "PUT /virtual-accounts",
    "GET /virtual-accounts/{id}",
    "DELETE /virtual-accounts/{id}",
    "PATCH /tokens/{id} | own",
    "PATCH /tokens/{id} | another's",
    "GET /virtual-accounts/{id}/token",
    "POST /virtual-accounts/{id}/regenerate-token",
    "DELETE /virtual-accounts/{id}/jwt/{token}",
    "GET /personal-access-tokens",
    "POST /personal-access-tokens",
    "POST /personal-access-tokens/for-user",
    "DELETE /personal-access-tokens/revoke/all",
    "DELETE /personal-access-tokens/{id} | own",
    "DELETE /personal-access-tokens/{id} | another's",
    "GET /settings",
    "PATCH /settings",
    "GET /catalog",
    "PUT /catalog",
    "DELETE /catalog",
    "POST /clock/reset",
    "GET /usage/report",
    "GET /usage/export",
    "GET /logs",
    "GET /logs/{request_id} | own",
    "GET /logs/{request_id} | another's",
    "GET /llm-gateway/config/{type}",
    "GET /llm-gateway/budgets",
    "PUT /llm-gateway/budgets",
    "GET /llm-gateway/config/budget/usage",
    "GET /llm-gateway/rate-limits",
    "GET /llm-gateway/rate-limits/{id}",
    "GET /llm-gateway/budgets/my-usage",
    "POST /llm-gateway/budgets/simulate",
    "DELETE /llm-gateway/budgets/{id}",
    "GET /llm-gateway/budgets/{id}",
    "GET /llm-gateway/budgets/{id}/leaderboard",
    "GET /openapi.json",
    "POST /users/invite",
    "GET /x/users/info",
    "GET /x/users/{id}/resources | oneself",
    "GET /x/users/{id}/resources | another",
    "GET /x/users/{id}/permissions | oneself",
    "GET /x/users/{id}/permissions | another",
    "GET /x/users/{id}/teams | oneself",
    "GET /x/users/{id}/teams | another",
    "POST /teams",
    "GET /teams/{id}/managers | own",
    "GET /teams/{id}/managers | another",
    "POST /teams/{id}/managers | own",
    "POST /teams/{id}/managers | another",
    "DELETE /teams/{id}/managers/{email} | own",
    "DELETE /teams/{id}/managers/{email} | another",
    "GET /teams/{id}/permissions | own",
    "GET /teams/{id}/permissions | another",
    "PUT /provider-accounts | new",
    "PUT /provider-accounts | like main",
    "GET /collaborators | main",
    "GET /collaborators | other",
    "POST /collaborators | main",
    "POST /collaborators | other",
    "DELETE /collaborators | main",
    "DELETE /collaborators | other",
    "GET /roles",
    "GET /roles/{id}",
    "GET /fqn/{type} | main",
    "GET /fqn/{type} | other",
    "GET /virtual-accounts/exists",
    "POST /virtual-accounts",
    "PUT /apply | a new account",
    "PUT /apply | like main",
    "PUT /apply | a user",
    "POST /manifests | a new account",
    "POST /manifests | like main",
    "POST /delete | an account like main",
    "POST /delete | a virtual account",
    "POST /dependency-tree",
    "GET /manifests/{kind}/{name} | main",
    "GET /manifests/{kind}/{name} | other",
    "GET /explain | oneself",
    "GET /explain | another on main",
    "GET /explain | another on other",
    "GET /audit",
    "GET /audit/verify",
    "GET /backup",
    "POST chat/completions | main/m",
    "POST chat/completions | main/n",
    "POST chat/completions | other/m",
    "POST chat/completions | none/m",
    "POST completions",
    "POST embeddings",
    "POST responses",
    "POST moderations",
    "POST rerank",
    "POST images/generations",
    "POST images/edits",
    "POST images/variations",
    "POST audio/speech",
    "POST audio/transcriptions",
    "POST audio/translations",
    "POST messages",
    "POST messages/count_tokens",
    "GET models",
    "GET models/{id} | main/m",
    "GET models/{id} | main/n",
    "GET models/{id} | other/m",
];

/// A gateway with all the principals.
struct Stage {
    gateway: Gateway,
    root: String,
    tokens: Vec<(&'static str, String)>,
    number: Cell<u32>,
}

impl Stage {
    fn new(provider: &Provider) -> Self {
        let gateway = Gateway::start();
        let root = gateway.admin_token();
        let stage = Self { gateway, root, tokens: Vec::new(), number: Cell::new(0) };
        for account in ["main", "other"] {
            stage.gateway.add_account(account, &provider.base_url());
            stage.gateway.admin_ok(&["model", "add", &format!("{account}/n"), "--model-id", "n"]);
        }
        let mut tokens = vec![("nobody", String::new()), ("bad", "tfy_pat_nonsense".to_owned())];
        for who in WHO.iter().skip(2).filter(|who| **who != "app") {
            stage.ok("POST", "/users/register", &json!({"email": email(who)}));
        }
        stage.ok("PATCH", "/users/roles", &json!({"email": email("admin"), "roles": ["tenant-admin"]}));
        for who in ["expired", "revoked", "member"] {
            stage.grant(&email(who), "provider-account-access", "main");
        }
        stage.grant(&email("model"), "provider-account-access", "main/m");
        stage.grant(&email("manager"), "provider-account-manager", "main");
        // A team with access: one member, one who also leads it, one who left.
        let mut manifest = team("search");
        manifest["manifest"]["members"].as_array_mut().unwrap().push(json!(email("former")));
        stage.ok("PUT", "/teams", &manifest);
        stage.grant_to("team:search", "provider-account-access", "main");
        stage.ok("DELETE", &format!("/teams/search/members/{}", email("former")), &Value::Null);
        // Someone who is no column, with one of everything.
        stage.ok("POST", "/users/register", &json!({"email": email("bystander")}));
        stage.grant(&email("bystander"), "provider-account-access", "other");
        stage.ok(
            "PUT",
            "/teams",
            &json!({"manifest": {"type": "team", "name": "bystanders", "members": [email("bystander")]}}),
        );
        let bystander = stage.token(&json!({"user": email("bystander"), "name": "bystander-token"}));
        let body = chat("other/m", "");
        let mut client = Client::connect(stage.gateway.addr);
        assert_eq!(client.post("/v1/chat/completions", &bystander, body.as_bytes()).status, 200);
        stage.ok("PUT", "/virtual-accounts", &virtual_account("bystander-app"));
        stage.ok("PUT", "/virtual-accounts", &virtual_account("app"));
        stage.grant_to("virtualaccount:app", "provider-account-access", "main");
        for who in WHO.iter().skip(2) {
            let owner = stage.owner(who);
            let mut body = json!({"name": "column"});
            body[owner.0] = json!(owner.1);
            if *who == "expired" {
                body["expirationDate"] = json!(date_in(2));
            }
            tokens.push((who, stage.token(&body)));
        }
        let stage = Self { tokens, ..stage };
        let id = token_id(stage.token_of("revoked")).to_owned();
        stage.ok("DELETE", &format!("/tokens/{id}"), &Value::Null);
        // Those who may, call once, so that the usage report has something to show.
        let callers = ["member", "model", "manager", "team", "lead", "admin", "app"];
        for who in callers {
            let mut client = Client::connect(stage.gateway.addr);
            client.send_request(
                "/v1/chat/completions",
                stage.token_of(who),
                &format!("content-type: application/json\r\nx-request-id: call-{who}\r\n"),
                chat("main/m", "").as_bytes(),
            );
            assert_eq!(client.read_response().status, 200, "{who}");
        }
        stage.gateway.wait_for_usage("user", 1 + callers.len() as u64);
        eventually("the token to expire", || {
            let mut client = Client::connect(stage.gateway.addr);
            (client.get(&format!("{API}/session"), stage.token_of("expired")).status == 401).then_some(())
        });
        stage
    }

    fn token_of(&self, who: &str) -> &str {
        &self.tokens.iter().find(|(name, _)| *name == who).unwrap().1
    }

    fn owner(&self, who: &str) -> (&'static str, String) {
        if who == "app" { ("virtualAccount", "app".to_owned()) } else { ("user", email(who)) }
    }

    /// A change by an admin that must work.
    fn ok(&self, method: &str, path: &str, body: &Value) -> Value {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let mut client = Client::connect(self.gateway.addr);
        let response = client.request(method, &format!("{API}{path}"), &self.root, &text);
        assert_eq!(response.status, 200, "{method} {path} {body}: {}", response.text());
        response.json()
    }

    fn token(&self, body: &Value) -> String {
        let Some(user) = body["user"].as_str() else {
            return self.ok("POST", "/tokens", body)["token"].as_str().unwrap().to_owned();
        };
        // A personal token makes none of its kind.
        let mut arguments = vec!["token", "create", "--user", user, "--name", body["name"].as_str().unwrap()];
        if let Some(end) = body["expirationDate"].as_str() {
            arguments.extend(["--expires", end]);
        }
        self.gateway.admin_ok(&arguments)
    }

    fn grant(&self, email: &str, role: &str, target: &str) {
        self.grant_to(&format!("user:{email}"), role, target);
    }

    fn grant_to(&self, subject: &str, role: &str, target: &str) {
        self.ok("POST", "/grants", &json!({"subject": subject, "role": role, "target": target}));
    }

    /// A name that was not used before.
    fn fresh(&self) -> String {
        self.number.set(self.number.get() + 1);
        format!("fresh-{}", self.number.get())
    }

    fn fresh_user(&self) -> String {
        let address = email(&self.fresh());
        self.ok("POST", "/users/register", &json!({"email": address}));
        address
    }

    fn fresh_team(&self, own: bool) -> String {
        let name = self.fresh();
        let mut manifest = team(&name);
        if !own {
            manifest["manifest"]["members"] = json!([email("bystander")]);
            manifest["manifest"]["managers"] = json!([]);
        }
        self.ok("PUT", "/teams", &manifest);
        name
    }

    fn fresh_token(&self, who: &str, own: bool) -> String {
        let owner = if own && !["nobody", "bad"].contains(&who) {
            self.owner(who)
        } else {
            ("user", email("bystander"))
        };
        let mut body = json!({"name": self.fresh()});
        body[owner.0] = json!(owner.1);
        token_id(&self.token(&body)).to_owned()
    }

    fn fresh_model(&self, account: &str) -> String {
        let name = self.fresh();
        self.ok("POST", &format!("/provider-accounts/{account}/models"), &model(&name));
        name
    }

    /// An account on which the columns hold what they hold on `main`.
    fn fresh_account(&self) -> String {
        let name = self.fresh();
        self.ok("POST", "/provider-accounts", &account(&name));
        self.grant(&email("member"), "provider-account-access", &name);
        self.grant(&email("manager"), "provider-account-manager", &name);
        self.grant_to("team:search", "provider-account-access", &name);
        self.grant_to("virtualaccount:app", "provider-account-access", &name);
        name
    }

    /// Prepares what a row needs and gives the path and the body to send.
    fn prepare(&self, row: &str, who: &str) -> (String, Value) {
        let (endpoint, variant) = row.split_once(" | ").unwrap_or((row, ""));
        let (method, template) = endpoint.split_once(' ').unwrap();
        let own = variant == "own" || variant == "oneself" || variant == "for oneself";
        let account_name = variant.split(' ').next().unwrap();
        let oneself = if who == "app" { "app".to_owned() } else { email(who) };
        match (method, template) {
            ("POST", "/users/register") => (template.into(), json!({"email": email(&self.fresh())})),
            ("GET", "/users/{id}") => {
                let target = if own { oneself } else { email("bystander") };
                (format!("/users/{target}"), Value::Null)
            }
            ("DELETE", "/users/{id}") => (format!("/users/{}", self.fresh_user()), Value::Null),
            ("PATCH", "/users/roles") => {
                let target = if variant == "another" { self.fresh_user() } else { oneself };
                (template.into(), json!({"email": target, "roles": ["tenant-admin"]}))
            }
            ("PATCH", "/users/deactivate") => (template.into(), json!({"email": self.fresh_user()})),
            ("PATCH", "/users/activate") => {
                let target = self.fresh_user();
                self.ok("PATCH", "/users/deactivate", &json!({"email": target}));
                (template.into(), json!({"email": target}))
            }
            ("PUT", "/teams") => {
                let name = if own { self.fresh_team(true) } else { self.fresh() };
                (template.into(), team(&name))
            }
            ("GET" | "DELETE", "/teams/{id}") => (format!("/teams/{}", self.fresh_team(own)), Value::Null),
            ("GET", "/teams/{id}/members") => {
                (format!("/teams/{}/members", self.fresh_team(own)), Value::Null)
            }
            ("POST", "/teams/{id}/members") => {
                (format!("/teams/{}/members", self.fresh_team(own)), json!({"email": self.fresh_user()}))
            }
            ("DELETE", "/teams/{id}/members/{email}") => {
                let (name, user) = (self.fresh_team(own), self.fresh_user());
                self.ok("POST", &format!("/teams/{name}/members"), &json!({"email": user}));
                (format!("/teams/{name}/members/{user}"), Value::Null)
            }
            ("POST", "/provider-accounts") => (template.into(), account(&self.fresh())),
            ("GET", "/provider-accounts/{id}") => (format!("/provider-accounts/{variant}"), Value::Null),
            ("PATCH", "/provider-accounts/{id}") => {
                let body = if variant.ends_with("loopback") {
                    json!({"base_url": "http://127.0.0.1:9/v1", "api_key": "k"})
                } else {
                    json!({"headers": {}})
                };
                // Its own account, so that `main` keeps its address.
                let target = if variant.ends_with("loopback") {
                    self.fresh_account()
                } else {
                    account_name.to_owned()
                };
                (format!("/provider-accounts/{target}"), body)
            }
            ("PUT", "/provider-accounts/{id}/credential") => {
                (format!("/provider-accounts/{account_name}/credential"), json!({"api_key": "k"}))
            }
            ("DELETE", "/provider-accounts/{id}") => {
                (format!("/provider-accounts/{}", self.fresh_account()), Value::Null)
            }
            ("POST", "/provider-accounts/{id}/models") => {
                (format!("/provider-accounts/{account_name}/models"), model(&self.fresh()))
            }
            ("DELETE", "/provider-accounts/{id}/models/{name}") => (
                format!("/provider-accounts/{account_name}/models/{}", self.fresh_model(account_name)),
                Value::Null,
            ),
            ("POST", "/grants") => {
                let (role, target) = match variant {
                    "access to main" => ("provider-account-access", "main"),
                    "access to other" => ("provider-account-access", "other"),
                    _ => ("provider-account-manager", "main"),
                };
                let subject = match variant {
                    "manager of main to oneself" if who == "app" => "virtualaccount:app".to_owned(),
                    "manager of main to oneself" if WHO[4..].contains(&who) && who != "manager" => {
                        format!("user:{oneself}")
                    }
                    _ => format!("user:{}", self.fresh_user()),
                };
                (template.into(), json!({"subject": subject, "role": role, "target": target}))
            }
            ("DELETE", "/grants") => {
                let (user, target) = (self.fresh_user(), &variant[3..]);
                self.grant(&user, "provider-account-access", target);
                (
                    format!("/grants?subject=user:{user}&role=provider-account-access&target={target}"),
                    Value::Null,
                )
            }
            ("POST", "/tokens") => {
                let owner = match variant {
                    "for oneself" => self.owner(who),
                    "for another" => ("user", email("bystander")),
                    _ => ("virtualAccount", "bystander-app".to_owned()),
                };
                let mut body = json!({"name": self.fresh()});
                body[owner.0] = json!(owner.1);
                (template.into(), body)
            }
            ("GET" | "DELETE", "/tokens/{id}") => {
                (format!("/tokens/{}", self.fresh_token(who, own)), Value::Null)
            }
            ("POST", "/tokens/{id}/rotate") => {
                (format!("/tokens/{}/rotate", self.fresh_token(who, own)), json!({"gracePeriodInMinutes": 0}))
            }
            ("PATCH", "/tokens/{id}") => {
                (format!("/tokens/{}", self.fresh_token(who, own)), json!({"name": self.fresh()}))
            }
            ("GET", "/virtual-accounts/{id}/token") => {
                let name = self.fresh();
                self.ok("PUT", "/virtual-accounts", &virtual_account(&name));
                (format!("/virtual-accounts/{name}/token"), Value::Null)
            }
            ("POST", "/virtual-accounts/{id}/regenerate-token") => {
                let path = "/virtual-accounts/bystander-app/regenerate-token";
                (path.into(), json!({"gracePeriodInMinutes": 5}))
            }
            ("DELETE", "/virtual-accounts/{id}/jwt/{token}") => {
                let token = self.token(&json!({"virtualAccount": "bystander-app", "name": self.fresh()}));
                (format!("/virtual-accounts/bystander-app/jwt/{}", token_id(&token)), Value::Null)
            }
            ("POST", "/personal-access-tokens") => (template.into(), json!({"name": self.fresh()})),
            ("POST", "/personal-access-tokens/for-user") => {
                (template.into(), json!({"name": self.fresh(), "userEmail": email("bystander")}))
            }
            ("DELETE", "/personal-access-tokens/revoke/all") => {
                (template.into(), json!({"email": self.fresh_user()}))
            }
            ("DELETE", "/personal-access-tokens/{id}") => {
                // An application has none.
                let id = self.fresh_token(if who == "app" { "nobody" } else { who }, own);
                (format!("/personal-access-tokens/{id}"), Value::Null)
            }
            ("PUT", "/catalog") => (
                template.into(),
                json!({"catalogue": {"date": "2026-01-31", "models": {"openai": {"m": {"input": "1"}}}}}),
            ),
            ("PATCH", "/settings") => (template.into(), json!({"audit_retention_days": 365})),
            ("PUT", "/virtual-accounts") => (template.into(), virtual_account(&self.fresh())),
            ("GET", "/virtual-accounts/{id}") => ("/virtual-accounts/bystander-app".into(), Value::Null),
            ("DELETE", "/virtual-accounts/{id}") => {
                let name = self.fresh();
                self.ok("PUT", "/virtual-accounts", &virtual_account(&name));
                (format!("/virtual-accounts/{name}"), Value::Null)
            }
            ("POST", "/users/invite") => {
                (template.into(), json!({"email": email(&self.fresh()), "acceptInviteClientUrl": "http://x"}))
            }
            ("GET", "/x/users/{id}/resources" | "/x/users/{id}/permissions" | "/x/users/{id}/teams") => {
                let target = if own { oneself } else { email("bystander") };
                (template.replace("{id}", &target), Value::Null)
            }
            ("POST", "/teams") => (template.into(), team(&self.fresh())),
            ("GET", "/teams/{id}/managers" | "/teams/{id}/permissions") => {
                (template.replace("{id}", &self.fresh_team(own)), Value::Null)
            }
            ("POST", "/teams/{id}/managers") => {
                (template.replace("{id}", &self.fresh_team(own)), json!({"email": self.fresh_user()}))
            }
            ("DELETE", "/teams/{id}/managers/{email}") => {
                let (name, user) = (self.fresh_team(own), self.fresh_user());
                self.ok("POST", &format!("/teams/{name}/managers"), &json!({"email": user}));
                (format!("/teams/{name}/managers/{user}"), Value::Null)
            }
            ("PUT", "/provider-accounts" | "/apply") | ("POST", "/manifests") if variant != "a user" => {
                let name = if variant == "like main" { self.fresh_account() } else { self.fresh() };
                let mut body = account(&name);
                if template == "/manifests" {
                    body = json!({"manifests": [body["manifest"]]});
                }
                (template.into(), body)
            }
            ("PUT", "/apply") => {
                let manifest = json!({"type": "user", "name": oneself, "role": "admin"});
                (template.into(), json!({"manifest": manifest, "dryRun": true}))
            }
            ("GET", "/collaborators") => {
                (format!("/collaborators?resourceType=provider-account&resourceId={variant}"), Value::Null)
            }
            ("POST" | "DELETE", "/collaborators") => {
                let user = self.fresh_user();
                if method == "DELETE" {
                    self.grant(&user, "provider-account-access", variant);
                }
                let body = json!({
                    "resourceType": "provider-account", "resourceId": variant,
                    "subject": format!("user:{user}"), "roleId": "provider-account-access",
                });
                (template.into(), body)
            }
            ("GET", "/roles/{id}") => ("/roles/tenant-admin".into(), Value::Null),
            ("GET", "/fqn/{type}") => {
                let fqn = format!("default:openai:{variant}");
                (format!("/fqn/provider-account?fqn={fqn}"), Value::Null)
            }
            ("GET", "/virtual-accounts/exists") => (format!("{template}?name=app"), Value::Null),
            ("POST", "/virtual-accounts") => (template.into(), virtual_account(&self.fresh())),
            ("POST", "/delete") if variant == "a virtual account" => {
                let name = self.fresh();
                self.ok("PUT", "/virtual-accounts", &virtual_account(&name));
                (template.into(), json!({"manifest": {"type": "virtual-account", "name": name}}))
            }
            ("POST", "/delete") => {
                let manifest = json!({"type": "provider-account/openai", "name": self.fresh_account()});
                (template.into(), json!({"manifest": manifest}))
            }
            ("POST", "/dependency-tree") => (template.into(), json!({"manifests": []})),
            ("GET", "/manifests/{kind}/{name}") => {
                (format!("/manifests/provider-account/{variant}"), Value::Null)
            }
            ("GET", "/explain") => {
                let (subject, account) = match variant {
                    "oneself" if who == "app" => ("virtualaccount:app".to_owned(), "main"),
                    "oneself" => (format!("user:{oneself}"), "main"),
                    "another on main" => (format!("user:{}", email("bystander")), "main"),
                    _ => (format!("user:{}", email("bystander")), "other"),
                };
                (format!("/explain?subject={subject}&model={account}/m"), Value::Null)
            }
            ("GET", "/usage/report") => ("/usage/report?by=user,model".into(), Value::Null),
            ("GET", "/logs/{request_id}") => {
                let caller = match (variant, who) {
                    ("own", who) => who,
                    (_, "admin") => "member",
                    _ => "admin",
                };
                (format!("/logs/call-{caller}"), Value::Null)
            }
            ("GET", "/llm-gateway/config/{type}") => {
                ("/llm-gateway/config/gateway-budget-config".into(), Value::Null)
            }
            ("PUT", "/llm-gateway/budgets") => (
                "/llm-gateway/budgets".into(),
                json!({"manifest": {"type": "gateway-budget-config", "name": "b", "rules": []}}),
            ),
            ("POST", "/llm-gateway/budgets/simulate") => {
                ("/llm-gateway/budgets/simulate".into(), json!({"model": "main/m"}))
            }
            ("GET", "/llm-gateway/rate-limits/{id}") => ("/llm-gateway/rate-limits/none".into(), Value::Null),
            ("GET" | "DELETE", "/llm-gateway/budgets/{id}") => {
                ("/llm-gateway/budgets/none".into(), Value::Null)
            }
            ("GET", "/llm-gateway/budgets/{id}/leaderboard") => {
                ("/llm-gateway/budgets/none/leaderboard".into(), Value::Null)
            }
            ("GET", "/provider-integrations") => ("/provider-integrations?type=model".into(), Value::Null),
            _ => (template.to_owned(), Value::Null),
        }
    }

    /// The cell of a row and a column: the status, and for a list whether it shows what is another's.
    fn ask(&self, row: &str, who: &str) -> String {
        let endpoint = row.split(" | ").next().unwrap();
        let (method, template) = endpoint.split_once(' ').unwrap();
        let mut client = Client::connect(self.gateway.addr);
        let token = self.token_of(who);
        if !template.starts_with('/') {
            return self.ask_model(&mut client, row, token);
        }
        let (path, body) = self.prepare(row, who);
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let response = client.request(method, &format!("{API}{path}"), token, &text);
        if response.status >= 400 {
            assert!(response.json()["message"].is_string(), "{row} as {who}: {}", response.text());
        }
        if template == "/backup" && response.status == 200 {
            assert!(response.body.starts_with(b"gateway backup 1\n"), "{row} as {who}");
            return "200".to_owned();
        }
        if template == "/usage/export" && response.status == 200 {
            let text = response.text();
            let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            return format!("200{}", shown(&Value::Array(lines)));
        }
        let is_list = method == "GET" && !path.contains("/fresh-") && response.json()["data"].is_array();
        format!("{}{}", response.status, if is_list { shown(&response.json()["data"]) } else { "" })
    }

    fn ask_model(&self, client: &mut Client, row: &str, token: &str) -> String {
        let (endpoint, model) = row.split_once(" | ").unwrap_or((row, "main/m"));
        let (method, path) = endpoint.split_once(' ').unwrap();
        let auth =
            if token.is_empty() { String::new() } else { format!("authorization: Bearer {token}\r\n") };
        let form = ["images/edits", "images/variations", "audio/transcriptions", "audio/translations"];
        let (content_type, body) = if method == "GET" {
            ("", String::new())
        } else if form.contains(&path) {
            (
                "content-type: multipart/form-data; boundary=b\r\n",
                format!("--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n--b--\r\n"),
            )
        } else {
            ("content-type: application/json\r\n", chat(model, ""))
        };
        let path = path.replace("{id}", model);
        client.send(
            format!(
                "{method} /api/llm/api/inference/openai/{path} HTTP/1.1\r\nhost: x\r\n{auth}{content_type}content-length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        );
        let response = client.read_response();
        let list = if endpoint == "GET models" && response.status == 200 {
            shown(&response.json()["data"])
        } else {
            ""
        };
        format!("{}{list}", response.status)
    }
}

/// Whether a list shows nothing, some, or also what belongs to the one who is no column.
fn shown(data: &Value) -> &'static str {
    let text = data.to_string();
    let anothers = ["bystander", "\"other\"", "\"other/m\""].iter().any(|mark| text.contains(mark));
    match (data.as_array().map_or(0, Vec::len), anothers) {
        (0, _) => " none",
        (_, true) => " all",
        (_, false) => " own",
    }
}

fn email(who: &str) -> String {
    format!("{who}@example.com")
}

fn team(name: &str) -> Value {
    json!({"manifest": {"type": "team", "name": name, "members": [email("team"), email("lead")], "managers": [email("lead")]}})
}

fn account(name: &str) -> Value {
    json!({"manifest": {"type": "provider-account/openai", "name": name, "base_url": "https://example.com/v1", "auth_data": {"type": "api-key", "api_key": "k"}}})
}

fn model(name: &str) -> Value {
    json!({"manifest": {"type": "integration/model/openai", "name": name, "model_id": "x", "model_types": ["chat"]}})
}

fn virtual_account(name: &str) -> Value {
    json!({"manifest": {"type": "virtual-account", "name": name}})
}

fn date_in(seconds: u64) -> String {
    let then =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + seconds;
    let output = std::process::Command::new("date")
        .args(["-u", "-d", &format!("@{then}"), "+%Y-%m-%dT%H:%M:%SZ"])
        .output();
    String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
}

/// The endpoints that the source declares: those of the management API, and those that are relayed.
fn declared() -> BTreeSet<String> {
    let quoted = |line: &str, number: usize| line.split('"').nth(number).map(str::to_owned);
    let mut found = BTreeSet::new();
    let api = std::fs::read_to_string(root().join("src/api/mod.rs")).unwrap();
    let table = api.split("\nroutes! {").nth(1).expect("the table of routes").split("\n}").next().unwrap();
    for line in table.lines().map(str::trim).filter(|line| line.starts_with("\"/")) {
        let (path, allow) = (quoted(line, 1).unwrap(), quoted(line, 3).unwrap());
        found.extend(allow.split(", ").map(|method| format!("{method} {path}")));
    }
    let relay = std::fs::read_to_string(root().join("src/relay/endpoint.rs")).unwrap();
    let relay = relay.split("#[cfg(test)]").next().unwrap();
    for line in relay.lines().map(str::trim) {
        let line = line.find("endpoint(\"").map_or(line, |at| &line[at..]);
        if line.starts_with("path: \"") || line.starts_with("endpoint(\"") {
            found.insert(format!("POST {}", quoted(line, 1).unwrap()));
        }
    }
    assert!(found.len() > 30, "{found:?}");
    found
}

#[test]
fn every_endpoint_is_in_the_table() {
    let named: BTreeSet<String> = ROWS
        .iter()
        .map(|row| row.split(" | ").next().unwrap().to_owned())
        .filter(|row| !["GET models", "GET models/{id}"].contains(&row.as_str()))
        .collect();
    let declared = declared();
    let missing: Vec<_> = declared.difference(&named).collect();
    let gone: Vec<_> = named.difference(&declared).collect();
    assert!(missing.is_empty(), "endpoints without a row: {missing:?}");
    assert!(gone.is_empty(), "rows without an endpoint: {gone:?}");
}

#[test]
fn who_may_do_what_is_as_the_table_says() {
    let provider = Provider::answering(CHAT_ANSWER);
    let stage = Stage::new(&provider);
    let first = ROWS.iter().map(|row| row.len()).max().unwrap() + 2;
    let line = |name: &str, cells: &[String]| {
        let cells: String = cells.iter().map(|cell| format!("{cell:<10}")).collect();
        format!("{name:<first$}{cells}").trim_end().to_owned() + "\n"
    };
    let names: Vec<String> = WHO.iter().map(|who| (*who).to_owned()).collect();
    let mut table = line("", &names);
    for row in ROWS {
        let cells: Vec<String> = WHO.iter().map(|who| stage.ask(row, who)).collect();
        table.push_str(&line(row, &cells));
    }
    println!("{table}");
    let path = root().join("tests/golden/policy.txt");
    if std::env::var_os("GATEWAY_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let changed: Vec<String> = golden
        .lines()
        .chain(std::iter::repeat("(no line)"))
        .zip(table.lines())
        .filter(|(old, new)| old != new)
        .map(|(old, new)| format!("golden {old}\n   now {new}"))
        .collect();
    assert!(changed.is_empty() && golden.lines().count() == table.lines().count(), "{}", changed.join("\n"));
    // Whatever the table says, these hold.
    for row in golden.lines().skip(1) {
        let cells: Vec<&str> = row[first..].split_whitespace().collect();
        let open = ["GET /min-cli-version", "GET /tenant-id", "GET /openapi.json"];
        let open = open.iter().any(|endpoint| row.starts_with(endpoint));
        for (cell, who) in cells.iter().zip(&WHO[..4]) {
            assert_eq!(*cell == "401", !open, "{who}: {row}");
        }
    }
}

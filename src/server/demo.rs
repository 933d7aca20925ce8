//! What `serve --demo` sets up and says.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::api::{self, Request};
use crate::domain::Principal;
use crate::manage::Manage;
use crate::token;

const USER: &str = "demo@example.com";

/// Makes the demo's user, provider account and a token, and prints how to use them.
///
/// # Errors
/// What was refused.
pub(super) fn greet(manage: &Manage, url: &str) -> Result<(), String> {
    let model = json!({"type": "integration/model/demo", "name": "echo", "model_id": "echo", "model_types": ["chat"]});
    let account =
        json!({"manifest": {"type": "provider-account/demo", "name": "demo", "integrations": [model]}});
    call(manage, "/users/register", &json!({"email": USER, "role": "admin", "skipIfUserExists": true}))?;
    if let Err(text) = call(manage, "/provider-accounts", &account)
        && !text.starts_with("409")
    {
        return Err(text);
    }
    let id = token::random_id().map_err(|error| error.to_string())?.to_ascii_lowercase();
    let made = call(manage, "/tokens", &json!({"user": USER, "name": format!("demo-{id}")}))?;
    let token = made.get("token").and_then(Value::as_str).unwrap_or_default();
    let body = json!({"model": "demo/echo", "stream": true, "messages": [{"role": "user", "content": "Hello from the gateway"}]});
    let text = format!(
        "The gateway listens on {url}\nThe token of {USER}, an admin: {token}\n\nStream an answer:\n\ncurl -N {url}/v1/chat/completions -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' -d '{body}'\n\n"
    );
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| error.to_string())
}

fn call(manage: &Manage, path: &str, body: &Value) -> Result<Value, String> {
    let principal = Principal::LocalAdministrator { uid: rustix::process::geteuid().as_raw() };
    let path = format!("{}{path}", api::PREFIX);
    let body = body.to_string();
    let request = Request { method: "POST", path: &path, query: "", body: body.as_bytes() };
    let response = api::handle(manage, Some(&principal), &request);
    if response.status < 300 {
        serde_json::from_str(&response.body).map_err(|error| error.to_string())
    } else {
        Err(format!("{} {}", response.status, response.body))
    }
}

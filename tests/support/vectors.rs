//! Recorded traffic of real providers. The recordings are not part of the repository: the folder is named by
//! `GATEWAY_TEST_VECTORS`, else it is `../shared/wire/vectors`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::announce;
use super::gateway::root;

/// One recorded answer.
pub struct Vector {
    /// Folder and file.
    pub name: String,
    /// The endpoint that it belongs to, such as `chat/completions`.
    pub endpoint: &'static str,
    /// HTTP status.
    pub status: u16,
    /// Content type.
    pub content_type: String,
    /// The exact body.
    pub body: Vec<u8>,
}

/// The folder, when it is there.
fn folder() -> Option<PathBuf> {
    let path = std::env::var_os("GATEWAY_TEST_VECTORS")
        .map_or_else(|| root().join("../shared/wire/vectors"), PathBuf::from);
    path.is_dir().then_some(path)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).map(|dir| dir.map(|e| e.unwrap().path()).collect()).unwrap_or_default();
    files.sort();
    files
}

/// All answers of OpenAI-type servers; none, loudly, when the recordings are not there.
pub fn openai() -> Vec<Vector> {
    let Some(folder) = folder() else {
        announce("not run: no recordings of providers (set GATEWAY_TEST_VECTORS to their folder)");
        return Vec::new();
    };
    let mut vectors = Vec::new();
    for part in ["cassettes/openai", "cassettes/openai_compatible", "llamacpp"] {
        for path in files(&folder.join(part)) {
            let cassette: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            for (number, exchange) in cassette["exchanges"].as_array().into_iter().flatten().enumerate() {
                vectors.extend(from_exchange(&format!("{}#{number}", short(&path)), exchange));
            }
        }
    }
    for part in ["openai", "azure", "groq", "mistral", "deepseek", "xai"] {
        for path in files(&folder.join(format!("sse/vercel_ai_{part}"))) {
            vectors.extend(from_sdk_fixture(&path));
        }
    }
    vectors
}

fn short(path: &Path) -> String {
    let folder = path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    format!("{folder}/{}", path.file_name().unwrap().to_string_lossy())
}

fn endpoint(path: &str) -> Option<&'static str> {
    ["chat/completions", "completions", "embeddings", "responses", "moderations", "rerank"]
        .into_iter()
        .find(|endpoint| path.ends_with(&format!("/{endpoint}")))
}

fn from_exchange(name: &str, exchange: &Value) -> Option<Vector> {
    let response = &exchange["response"];
    let content_type = response["headers"].as_object()?.iter().find_map(|(key, value)| {
        let value = value.as_str().or_else(|| value[0].as_str())?;
        key.eq_ignore_ascii_case("content-type").then(|| value.to_owned())
    })?;
    Some(Vector {
        name: name.to_owned(),
        endpoint: endpoint(exchange["request"]["path"].as_str()?)?,
        status: u16::try_from(response["status"].as_u64()?).ok()?,
        content_type,
        body: response["body_text"].as_str()?.as_bytes().to_vec(),
    })
}

/// `*.chunks.txt` holds the data of one event a line, `*.json` a whole answer.
fn from_sdk_fixture(path: &Path) -> Option<Vector> {
    let text = std::fs::read_to_string(path).unwrap();
    let name = short(path);
    if !name.ends_with(".chunks.txt") {
        let value: Value = serde_json::from_str(&text).ok()?;
        let endpoint = if value["object"] == "response" { "responses" } else { "chat/completions" };
        let status = if value["error"].is_object() { 400 } else { 200 };
        let content_type = "application/json".to_owned();
        return Some(Vector { name, endpoint, status, content_type, body: text.into_bytes() });
    }
    let first: Value = serde_json::from_str(text.lines().next()?).ok()?;
    let responses = first["type"].is_string();
    let mut body = String::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if responses {
            let event: Value = serde_json::from_str(line).ok()?;
            body.push_str(&format!("event: {}\n", event["type"].as_str()?));
        }
        body.push_str(&format!("data: {line}\n\n"));
    }
    if !responses {
        body.push_str("data: [DONE]\n\n");
    }
    Some(Vector {
        name,
        endpoint: if responses { "responses" } else { "chat/completions" },
        status: 200,
        content_type: "text/event-stream".to_owned(),
        body: body.into_bytes(),
    })
}

/// A service account's key file with the throwaway key of the vectors; `None`, loudly, when they are not there.
pub fn service_account_file(token_uri: &str) -> Option<Value> {
    let Some(folder) = folder() else {
        announce("not run: no key of a service account (set GATEWAY_TEST_VECTORS to the vectors' folder)");
        return None;
    };
    let text = std::fs::read_to_string(folder.join("oauth/service_account_jwt.json")).unwrap();
    let vector: Value = serde_json::from_str(&text).unwrap();
    let key = vector["private_key_pkcs8_der_base64"].as_str().unwrap();
    Some(serde_json::json!({
        "type": "service_account",
        "project_id": "example-project",
        "private_key_id": vector["kid"],
        "private_key": format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n"),
        "client_email": "gateway-test@example-project.iam.gserviceaccount.com",
        "token_uri": token_uri,
    }))
}

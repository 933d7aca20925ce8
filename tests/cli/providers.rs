//! Provider accounts of every type, from the command line to the store and back.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use super::{Folder, code, err, out};

/// Stands in every secret.
const MARK: &str = "CANARY-5ecre7";

#[test]
fn every_kind_of_credential_comes_from_a_file_and_is_never_shown() {
    let folder = Folder::new();
    let key = folder.write("key.txt", &format!("{MARK}\n"));
    let aws = folder.write("aws.json",
        &json!({"type": "access-key-based", "access_key_id": "AKIA1", "secret_access_key": MARK, "session_token": MARK})
            .to_string(),
    );
    let entra = folder.write(
        "entra.json",
        &json!({"type": "client-secret", "tenant_id": "t", "client_id": "c", "client_secret": MARK})
            .to_string(),
    );
    // As Google hands it out.
    let google = folder.write(
        "google.json",
        &json!({
            "type": "service_account", "client_email": "a@p.iam.gserviceaccount.com", "private_key": MARK,
            "token_uri": "https://oauth2.googleapis.com/token",
        })
        .to_string(),
    );
    let basic = folder
        .write("basic.json", &json!({"type": "basic-auth", "username": "u", "password": MARK}).to_string());
    let create = |line: &str| {
        let mut words = vec!["provider", "create"];
        words.extend(line.split(' '));
        folder.ok(&words);
    };
    create(&format!("claude --type anthropic --api-key-file {key}"));
    create(&format!("gemini --type google-gemini --api-key-file {key}"));
    create(&format!("aws --type aws-bedrock --region eu-central-1 --credential-file {aws}"));
    create(&format!(
        "az --type azure-openai --base-url https://r.x.io/openai --api-version 2024-10-21 --credential-file {entra}"
    ));
    create(&format!(
        "gcp --type google-vertex --region eu --project-id p-1 --drop-unsupported true --credential-file {google}"
    ));
    create(&format!("lab --type self-hosted-model --base-url http://10.0.0.1/v1 --credential-file {basic}"));
    create("pond --type ollama");
    create(&format!("router --type openrouter --api-key-file {key}"));
    folder.ok(&[
        "model",
        "add",
        "aws/claude",
        "--model-id",
        "us.anthropic.claude-sonnet-4-20250514-v1:0",
        "--region",
        "us-east-1",
        "--family",
        "claude-sonnet-4",
        "--max-output-tokens",
        "64000",
    ]);
    folder.ok(&["model", "add", "az/gpt", "--model-id", "gpt-4o-deployment", "--api-version", "v1"]);
    folder.ok(&["model", "add", "lab/q", "--model-id", "qwen", "--server-url", "http://10.0.0.2/v1"]);

    let shown = folder.json(&["provider", "show", "aws"]);
    assert_eq!(shown["manifest"]["region"], "eu-central-1");
    assert_eq!(shown["manifest"]["auth_data"]["secret_access_key"], "***");
    assert_eq!(shown["baseUrl"], "https://bedrock-runtime.eu-central-1.amazonaws.com");
    let model = &shown["integrations"][0]["manifest"];
    assert_eq!(
        (&model["type"], &model["max_output_tokens"]),
        (&json!("integration/model/bedrock"), &json!(64000))
    );
    let text = folder.ok(&["provider", "show", "gcp"]);
    for word in ["google-vertex", "p-1", "key-file", "https://aiplatform.eu.rep.googleapis.com/v1"] {
        assert!(text.contains(word), "{word}: {text}");
    }

    folder.ok(&["provider", "update", "gcp", "--drop-unsupported", "false"]);
    assert!(folder.refused(&["provider", "update", "aws", "--region", "us-west-2"], 422).contains("region"));
    folder.ok(&["provider", "update", "aws", "--region", "us-west-2", "--credential-file", &aws]);
    folder.refused(&["provider", "update", "claude", "--base-url", "https://evil.x.io/v1"], 422);
    folder.refused(&["provider", "update", "claude", "--region", "eu"], 422);
    folder.refused(&["provider", "set-key", "gcp", "--api-key-file", &key], 422);
    folder.ok(&["provider", "set-key", "az", "--credential-file", &entra]);
    folder.ok(&["provider", "set-key", "az", "--remove"]);
    folder.ok(&["provider", "set-key", "az", "--api-key-file", &key]);

    // What is exported goes in again and keeps what is stored.
    for name in ["claude", "gemini", "aws", "az", "gcp", "lab", "pond", "router"] {
        let exported = folder.ok(&["export", &format!("provider-account/{name}")]);
        assert!(!exported.contains(MARK), "{exported}");
        let manifest = folder.write("exported.yaml", &exported);
        folder.ok(&["apply", "-f", &manifest]);
        let stored = folder.json(&["provider", "show", name]);
        assert_eq!(stored["hasApiKey"], json!(name != "pond"), "{name}");
    }
    for listing in [
        &["provider", "list"] as &[&str],
        &["model", "list"],
        &["audit", "list", "--output", "json"],
        &["provider", "list", "--output", "json"],
        &["export"],
    ] {
        let text = folder.admin(listing);
        assert!(!out(&text).contains(MARK) && !err(&text).contains(MARK), "{listing:?}");
    }
    for entry in fs::read_dir(folder.path("data")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            assert!(!bytes.windows(MARK.len()).any(|part| part == MARK.as_bytes()), "{}", path.display());
        }
    }
}

#[test]
fn a_wrong_credential_file_is_refused_without_its_words() {
    let folder = Folder::new();
    for text in ["", MARK, "{", r#"{"typ":"CANARY"}"#, r#"["CANARY"]"#, r#"{"type":7,"x":"CANARY"}"#] {
        let path = folder.write("wrong.json", text);
        let output =
            folder.admin(&["provider", "create", "x", "--type", "aws-bedrock", "--credential-file", &path]);
        assert_ne!(code(&output), 0, "{text}");
        assert!(!out(&output).contains("CANARY") && !err(&output).contains("CANARY"), "{}", err(&output));
    }
    let magic = folder.write("magic.json", r#"{"type":"magic","x":"CANARY"}"#);
    let message = folder.refused(
        &[
            "provider",
            "create",
            "x",
            "--type",
            "aws-bedrock",
            "--region",
            "eu-west-1",
            "--credential-file",
            &magic,
        ],
        422,
    );
    assert!(message.contains("auth_data.type") && !message.contains("CANARY"), "{message}");
    assert!(folder.refused(&["provider", "create", "x", "--type", "azure"], 422).contains("azure-openai"));

    // Standard input serves as well.
    let mut child = folder
        .command(&[
            "provider",
            "create",
            "x",
            "--type",
            "aws-bedrock",
            "--region",
            "eu-west-1",
            "--credential-file",
            "-",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let auth = json!({"type": "access-key-based", "access_key_id": "A", "secret_access_key": MARK});
    child.stdin.take().unwrap().write_all(auth.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 0, "{}", err(&output));
}

/// A certificate and its key, made for this test.
fn pair(folder: &Folder, name: &str) -> (String, String) {
    let (certificate, key) = (folder.path(&format!("{name}.pem")), folder.path(&format!("{name}.key")));
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=gateway.example", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (certificate.to_str().unwrap().to_owned(), key.to_str().unwrap().to_owned())
}

#[test]
fn a_client_certificate_comes_with_its_key_and_stays_at_its_place() {
    let folder = Folder::new();
    let (certificate, key) = pair(&folder, "one");
    let (other, other_key) = pair(&folder, "two");
    let create = ["provider", "create", "m", "--base-url", "https://m.x.io/v1", "--client-cert-file"];
    let with = |certificate: &str, key: &str| -> Vec<String> {
        let mut words: Vec<String> = create.iter().map(|word| (*word).to_owned()).collect();
        words.extend([certificate.to_owned(), "--client-key-file".to_owned(), key.to_owned()]);
        words
    };
    let words = with(&certificate, &other_key);
    folder.refused(&words.iter().map(String::as_str).collect::<Vec<_>>(), 422);
    let words = with(&certificate, &key);
    folder.ok(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let secret = fs::read_to_string(&key).unwrap();
    let secret = secret.lines().nth(1).unwrap();
    let shown = folder.json(&["provider", "show", "m"]);
    assert_eq!(shown["manifest"]["tls_settings"]["client_key"], "***");
    assert!(folder.ok(&["provider", "show", "m"]).contains("CLIENT-CERT"));
    folder.refused(&["provider", "update", "m", "--base-url", "https://n.x.io/v1"], 422);
    let move_it = [
        "provider",
        "update",
        "m",
        "--base-url",
        "https://n.x.io/v1",
        "--client-cert-file",
        &other,
        "--client-key-file",
        &other_key,
    ];
    folder.ok(&move_it);
    let exported = folder.ok(&["export", "provider-account/m"]);
    let manifest = folder.write("m.yaml", &exported);
    folder.ok(&["apply", "-f", &manifest]);
    // Another certificate needs its own key.
    let mut swapped: Value = shown["manifest"].clone();
    swapped["base_url"] = "https://n.x.io/v1".into();
    let manifest = folder.write("m.json", &swapped.to_string());
    folder.refused(&["apply", "-f", &manifest], 422);
    let audit = folder.ok(&["audit", "list", "--output", "json"]);
    for text in [&exported, &shown.to_string(), &audit] {
        assert!(!text.contains(secret) && !text.contains("PRIVATE KEY"), "{text}");
    }
}

#[test]
fn secrets_of_manifests_are_read_on_the_callers_side() {
    let folder = Folder::new();
    let key = folder.write("key.txt", &format!("{MARK}\n"));
    let google = folder.write(
        "google.json",
        &format!(
            "{{\n\"type\": \"service_account\",\n\"client_email\": \"a@b.iam.gserviceaccount.com\",\n\"private_key\": \"{MARK}\",\n\"token_uri\": \"https://oauth2.googleapis.com/token\"\n}}\n"
        ),
    );
    let (certificate, client_key) = pair(&folder, "client");
    let manifests = folder.write(
        "all.yaml",
        &format!(
            "type: provider-account/google-vertex\nname: vertex\nregion: eu\nproject_id: p\nauth_data:\n  type: key-file\n  key_file_content: {{from_file: {google}}}\nintegrations: []\n---\n\
             type: provider-account/self-hosted-model\nname: lab\n\
             tls_settings: {{client_cert: {{from_file: {certificate}}}, client_key: {{from_file: {client_key}}}}}\n\
             integrations:\n  - type: integration/model/self-hosted-model\n    name: q\n    hosted_model_name: q\n    model_types: [chat]\n    url: https://q.x.io/v1\n\
             \x20   auth_data: {{type: header, headers: {{X-Key: {{from_file: {key}}}}}}}\n"
        ),
    );
    folder.ok(&["apply", "-f", &manifests]);
    let lab = folder.json(&["provider", "show", "lab"]);
    assert_eq!(lab["integrations"][0]["manifest"]["auth_data"]["headers"]["x-key"], "***");
    assert_eq!(lab["manifest"]["tls_settings"]["client_key"], "***");
    assert_eq!(folder.json(&["provider", "show", "vertex"])["hasApiKey"], true);
    let twice = folder.ok(&["apply", "-f", &manifests]);
    assert!(!twice.contains(MARK) && !twice.contains("PRIVATE KEY"), "{twice}");
    for absent in ["key_file_content: {from_env: GATEWAY_TEST_UNSET}", "key_file_content: {from_file: /none}"]
    {
        let text = format!(
            "type: provider-account/google-vertex\nname: v\nregion: eu\nproject_id: p\nauth_data:\n  type: key-file\n  {absent}\n"
        );
        let manifest = folder.write("absent.yaml", &text);
        assert_ne!(code(&folder.admin(&["apply", "-f", &manifest])), 0, "{absent}");
    }
}

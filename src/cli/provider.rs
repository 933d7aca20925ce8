//! `gateway admin provider`

use argh::FromArgs;
use serde_json::{Map, Value, json};

use super::access;
use super::admin::Open;
use super::failure::Failure;
use super::input::{headers, path, read_secret, read_text};
use super::output::{Column, count, text};
use super::settings::{logging_settings, logging_word};
use crate::secret::Secret;

/// Provider accounts: where models run, and the key that the gateway uses there.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "provider",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} create main --type openai --base-url https://api.openai.com/v1 --api-key-file key.txt\n\
    {command_name} create local --type openai --base-url http://10.0.0.5:8000/v1\n{command_name} list",
    note = "Types: openai, azure-openai, anthropic, aws-bedrock, google-gemini, google-vertex, ollama, self-hosted-model,\n  \
    openrouter, groq, mistral-ai, together-ai, xai, cohere, perplexity-ai, deepinfra, cerebras, sambanova.\n  \
    openai stands for every server that speaks OpenAI's protocol: vLLM, llama.cpp and others.",
    note = "A key is sealed in the store and never shown again. Callers never see it: they use the gateway's own tokens.",
    note = "Models are offered one by one: see 'gateway admin model add'."
)]
pub struct Provider {
    #[argh(subcommand)]
    verb: Verb,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    Create(Create),
    List(List),
    Show(Show),
    Update(Update),
    SetKey(SetKey),
    Delete(Delete),
}

/// Add a provider account.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "create",
    help_triggers("-h", "--help"),
    example = "{command_name} main --type openai --base-url https://api.openai.com/v1 --api-key-file key.txt",
    example = "The key from a password manager, by standard input:\n    \
    pass show openai | {command_name} main --type openai --base-url https://api.openai.com/v1 --api-key-file -",
    example = "{command_name} bedrock --type aws-bedrock --region eu-central-1 --credential-file keys.json",
    example = "{command_name} vertex --type google-vertex --region europe-west4 --project-id p --credential-file key.json",
    note = "One newline at the end of the key is left out. A server that wants no key gets none.",
    note = "A credential file is JSON: an auth_data object of a manifest, such as\n  \
    {{\"type\": \"access-key-based\", \"access_key_id\": ..., \"secret_access_key\": ...}}, or for google-vertex the key file\n  \
    that Google gave."
)]
struct Create {
    /// name: the part of a model's name before the slash
    #[argh(positional)]
    name: String,

    /// protocol (default: openai)
    #[argh(option, long = "type", arg_name = "type", default = "\"openai\".to_owned()")]
    provider_type: String,

    /// address with the version path, such as https://api.openai.com/v1
    #[argh(option, arg_name = "url")]
    base_url: Option<String>,

    /// file with the provider's key; - is standard input
    #[argh(option, arg_name = "file")]
    api_key_file: Option<String>,

    /// environment variable with the provider's key
    #[argh(option, arg_name = "variable")]
    api_key_env: Option<String>,

    /// JSON file of a credential that is more than a key; - is standard input
    #[argh(option, arg_name = "file")]
    credential_file: Option<String>,

    /// region (aws-bedrock, google-vertex)
    #[argh(option, arg_name = "region")]
    region: Option<String>,

    /// project of Google Cloud (google-vertex)
    #[argh(option, arg_name = "project")]
    project_id: Option<String>,

    /// version of the API for models that name none (azure-openai)
    #[argh(option, arg_name = "version")]
    api_version: Option<String>,

    /// what the provider can not do is dropped and not refused: true or false
    #[argh(option, arg_name = "bool")]
    drop_unsupported: Option<bool>,

    /// whose request and answer bodies are kept: never, always, header_controlled or header_controlled=true (default: as
    /// the settings say)
    #[argh(option, arg_name = "words")]
    log_bodies: Option<String>,

    /// PEM file of the certificate that the provider's server is shown
    #[argh(option, arg_name = "file")]
    client_cert_file: Option<String>,

    /// PEM file of that certificate's private key; - is standard input
    #[argh(option, arg_name = "file")]
    client_key_file: Option<String>,

    /// header to add to every call, as 'Name: value'; may be given several times
    #[argh(option, arg_name = "line")]
    header: Vec<String>,

    /// PEM file of certificates that this provider's server may have besides public ones
    #[argh(option, arg_name = "file")]
    ca_file: Option<String>,
}

/// List the provider accounts.
#[derive(FromArgs)]
#[argh(subcommand, name = "list", help_triggers("-h", "--help"), example = "{command_name}")]
struct List {}

/// Show one provider account, without its key.
#[derive(FromArgs)]
#[argh(subcommand, name = "show", help_triggers("-h", "--help"), example = "{command_name} main")]
struct Show {
    /// name
    #[argh(positional)]
    name: String,
}

/// Change settings of a provider account; what is not given stays.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "update",
    help_triggers("-h", "--help"),
    example = "{command_name} main --base-url https://eu.example.com/v1 --api-key-file key.txt",
    note = "A key belongs to the server it was given for: who changes the host, the port, http to https or the certificates\n  \
    has to give the key again."
)]
struct Update {
    /// name
    #[argh(positional)]
    name: String,

    /// new address with the version path
    #[argh(option, arg_name = "url")]
    base_url: Option<String>,

    /// file with the provider's key; - is standard input
    #[argh(option, arg_name = "file")]
    api_key_file: Option<String>,

    /// environment variable with the provider's key
    #[argh(option, arg_name = "variable")]
    api_key_env: Option<String>,

    /// JSON file of a credential that is more than a key; - is standard input
    #[argh(option, arg_name = "file")]
    credential_file: Option<String>,

    /// region (aws-bedrock, google-vertex)
    #[argh(option, arg_name = "region")]
    region: Option<String>,

    /// project of Google Cloud (google-vertex)
    #[argh(option, arg_name = "project")]
    project_id: Option<String>,

    /// version of the API for models that name none (azure-openai)
    #[argh(option, arg_name = "version")]
    api_version: Option<String>,

    /// what the provider can not do is dropped and not refused: true or false
    #[argh(option, arg_name = "bool")]
    drop_unsupported: Option<bool>,

    /// whose request and answer bodies are kept: never, always, header_controlled, header_controlled=true, or none for as
    /// the settings say
    #[argh(option, arg_name = "words")]
    log_bodies: Option<String>,

    /// PEM file of the certificate that the provider's server is shown
    #[argh(option, arg_name = "file")]
    client_cert_file: Option<String>,

    /// PEM file of that certificate's private key; - is standard input
    #[argh(option, arg_name = "file")]
    client_key_file: Option<String>,

    /// header to add to every call, as 'Name: value', in place of all there were; may be given several times
    #[argh(option, arg_name = "line")]
    header: Vec<String>,

    /// take away all added headers
    #[argh(switch)]
    no_headers: bool,

    /// PEM file of certificates, in place of those there were
    #[argh(option, arg_name = "file")]
    ca_file: Option<String>,
}

/// Replace the key of a provider account, or take it away.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "set-key",
    help_triggers("-h", "--help"),
    example = "{command_name} main --api-key-file key.txt\n\
    {command_name} main --api-key-env OPENAI_API_KEY\n\
    pass show openai | {command_name} main --api-key-file -\n\
    {command_name} main --remove",
    note = "The next call uses the new key; calls in flight end with the old one."
)]
struct SetKey {
    /// name
    #[argh(positional)]
    name: String,

    /// file with the provider's key; - is standard input
    #[argh(option, arg_name = "file")]
    api_key_file: Option<String>,

    /// environment variable with the provider's key
    #[argh(option, arg_name = "variable")]
    api_key_env: Option<String>,

    /// JSON file of a credential that is more than a key; - is standard input
    #[argh(option, arg_name = "file")]
    credential_file: Option<String>,

    /// take the key away
    #[argh(switch)]
    remove: bool,
}

/// Remove a provider account with its key, its models and all grants on them.
#[derive(FromArgs)]
#[argh(subcommand, name = "delete", help_triggers("-h", "--help"), example = "{command_name} main")]
struct Delete {
    /// name
    #[argh(positional)]
    name: String,

    /// change nothing; show who would gain and lose access
    #[argh(switch)]
    dry_run: bool,
}

/// What was said of bodies, as the API wants it; null for `none`.
fn logging(word: Option<&str>) -> Result<Option<Value>, Failure> {
    match word {
        None => Ok(None),
        Some("none") => Ok(Some(Value::Null)),
        Some(word) => logging_settings(word).map(Some).ok_or_else(|| {
            Failure::Usage(format!(
                "'{word}' says nothing about bodies; write never, always, header_controlled, header_controlled=true or none."
            ))
        }),
    }
}

const NAME: Column = Column { title: "NAME", cell: |account| text(account, &["/name", "/manifest/name"]) };
const TYPE: Column = Column { title: "TYPE", cell: |account| text(account, &["/provider"]) };
const BASE_URL: Column =
    Column { title: "BASE-URL", cell: |account| text(account, &["/baseUrl", "/manifest/base_url"]) };
const REGION: Column = Column { title: "REGION", cell: |account| text(account, &["/manifest/region"]) };
const PROJECT: Column = Column { title: "PROJECT", cell: |account| text(account, &["/manifest/project_id"]) };
const API_VERSION: Column =
    Column { title: "API-VERSION", cell: |account| text(account, &["/manifest/api_version"]) };
const CREDENTIAL: Column =
    Column { title: "CREDENTIAL", cell: |account| text(account, &["/manifest/auth_data/type"]) };
const DROPS: Column = Column {
    title: "DROPS-UNSUPPORTED",
    cell: |account| {
        if text(account, &["/manifest/drop_unsupported"]) == "-" { "no" } else { "yes" }.to_owned()
    },
};
const LOG_BODIES: Column = Column { title: "LOG-BODIES", cell: logging_word };
const CLIENT_CERT: Column = Column {
    title: "CLIENT-CERT",
    cell: |account| {
        if text(account, &["/manifest/tls_settings/client_cert"]) == "-" { "no" } else { "yes" }.to_owned()
    },
};
const KEY: Column = Column { title: "KEY", cell: |account| text(account, &["/hasApiKey"]) };
const SIZE: Column = Column { title: "MODELS", cell: |account| count(account, "/integrations") };
const MODELS: Column = Column {
    title: "MODELS",
    cell: |account| {
        let models = account.pointer("/integrations").and_then(Value::as_array);
        let names: Vec<String> = models.into_iter().flatten().map(|model| text(model, &["/name"])).collect();
        if names.is_empty() { "-".to_owned() } else { names.join(",") }
    },
};
const HEADERS: Column = Column {
    title: "HEADERS",
    // A configured header may hold a secret: names are enough for a person.
    cell: |account| {
        let headers = account.pointer("/manifest/headers").and_then(Value::as_object);
        let names: Vec<&str> = headers.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        if names.is_empty() { "-".to_owned() } else { names.join(",") }
    },
};
const OWN_CA: Column = Column {
    title: "OWN-CA",
    cell: |account| {
        if text(account, &["/manifest/ca_certificates"]) == "-" { "no" } else { "yes" }.to_owned()
    },
};
const CREATED: Column = Column { title: "CREATED", cell: |account| text(account, &["/createdAt"]) };
const UPDATED: Column = Column { title: "UPDATED", cell: |account| text(account, &["/updatedAt"]) };

impl Provider {
    /// Carries the verb out.
    ///
    /// # Errors
    /// Why it was not.
    pub fn run(self, open: Open<'_>) -> Result<(), Failure> {
        match self.verb {
            Verb::Create(verb) => create(verb, open),
            Verb::List(_) => {
                let context = open()?;
                let rows = context.client.list("/provider-accounts", &[])?;
                context.output.list(&[NAME, TYPE, BASE_URL, KEY, SIZE, CREATED], rows)
            }
            Verb::Show(verb) => {
                let path = path(&["provider-accounts", &verb.name])?;
                let context = open()?;
                let account = context.client.object("GET", &path, None)?;
                let fields = [
                    NAME,
                    TYPE,
                    BASE_URL,
                    REGION,
                    PROJECT,
                    API_VERSION,
                    KEY,
                    CREDENTIAL,
                    HEADERS,
                    OWN_CA,
                    CLIENT_CERT,
                    DROPS,
                    LOG_BODIES,
                    MODELS,
                    CREATED,
                    UPDATED,
                ];
                context.output.object(&fields, &account)
            }
            Verb::Update(verb) => update(verb, open),
            Verb::SetKey(verb) => {
                let path = path(&["provider-accounts", &verb.name, "credential"])?;
                let credential = Given {
                    file: verb.api_key_file.as_deref(),
                    variable: verb.api_key_env.as_deref(),
                    credential_file: verb.credential_file.as_deref(),
                };
                let body = match (credential.read()?, verb.remove) {
                    (Some(Read::Key(key)), false) => json!({"api_key": key.expose()}),
                    (Some(Read::AuthData(auth_data)), false) => json!({"auth_data": auth_data}),
                    (None, true) => json!({"api_key": null}),
                    _ => {
                        let message =
                            "Give one of --api-key-file, --api-key-env, --credential-file and --remove.";
                        return Err(Failure::Usage(message.to_owned()));
                    }
                };
                let context = open()?;
                let answer = context.client.call("PUT", &path, Some(&body))?;
                let what = if verb.remove { "is gone" } else { "is set" };
                context.output.done(&format!("The key of {} {what}.", verb.name), &answer)
            }
            Verb::Delete(verb) => {
                let path = path(&["provider-accounts", &verb.name])?;
                let context = open()?;
                if verb.dry_run {
                    return access::trial(&context, "DELETE", &path, None);
                }
                let answer = context.client.call("DELETE", &path, None)?;
                context.output.done(&format!("The provider account {} is deleted.", verb.name), &answer)
            }
        }
    }
}

/// Where a credential is to be read from.
struct Given<'a> {
    file: Option<&'a str>,
    variable: Option<&'a str>,
    credential_file: Option<&'a str>,
}

/// A credential that was read.
enum Read {
    Key(Secret),
    AuthData(Value),
}

impl Given<'_> {
    fn read(&self) -> Result<Option<Read>, Failure> {
        let Some(file) = self.credential_file else {
            return Ok(read_secret(self.file, self.variable)?.map(Read::Key));
        };
        if self.file.is_some() || self.variable.is_some() {
            let message = "Give --credential-file or a key by --api-key-file or --api-key-env, not both.";
            return Err(Failure::Usage(message.to_owned()));
        }
        let text = Secret::new(read_text(file)?);
        // What serde_json says of the text could show a part of it.
        let wrong =
            || Failure::Input("the credential file is not a JSON object with a field 'type'".to_owned());
        let value: Value = serde_json::from_str(text.expose()).map_err(|_| wrong())?;
        match value.get("type").and_then(Value::as_str) {
            // As Google hands it out.
            Some("service_account") => {
                Ok(Some(Read::AuthData(json!({"type": "key-file", "key_file_content": text.expose()}))))
            }
            Some(_) => Ok(Some(Read::AuthData(value))),
            None => Err(wrong()),
        }
    }
}

/// Adds what is given of the plain settings to a manifest or a change.
fn settings(body: &mut Map<String, Value>, given: [(&str, Option<Value>); 5]) {
    for (name, value) in given {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    }
}

/// Reads a client certificate and its key.
fn client_pair(certificate: Option<&str>, key: Option<&str>) -> Result<Option<(String, Secret)>, Failure> {
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some((read_text(certificate)?, Secret::new(read_text(key)?)))),
        _ => Err(Failure::Usage("Give --client-cert-file and --client-key-file together.".to_owned())),
    }
}

fn create(verb: Create, open: Open<'_>) -> Result<(), Failure> {
    let mut manifest = Map::new();
    let headers = headers(&verb.header)?;
    let credential = Given {
        file: verb.api_key_file.as_deref(),
        variable: verb.api_key_env.as_deref(),
        credential_file: verb.credential_file.as_deref(),
    };
    let auth_data = match credential.read()? {
        None => None,
        Some(Read::Key(key)) => Some(json!({"type": "api-key", "api_key": key.expose()})),
        Some(Read::AuthData(auth_data)) => Some(auth_data),
    };
    let client = client_pair(verb.client_cert_file.as_deref(), verb.client_key_file.as_deref())?;
    manifest.insert("type".to_owned(), format!("provider-account/{}", verb.provider_type).into());
    manifest.insert("name".to_owned(), verb.name.as_str().into());
    if let Some(base_url) = verb.base_url {
        manifest.insert("base_url".to_owned(), base_url.into());
    }
    if let Some(auth_data) = auth_data {
        manifest.insert("auth_data".to_owned(), auth_data);
    }
    if let Some((certificate, key)) = client {
        let tls = json!({"client_cert": certificate, "client_key": key.expose()});
        manifest.insert("tls_settings".to_owned(), tls);
    }
    let given = [
        ("region", verb.region.map(Value::from)),
        ("project_id", verb.project_id.map(Value::from)),
        ("api_version", verb.api_version.map(Value::from)),
        ("drop_unsupported", verb.drop_unsupported.map(Value::from)),
        ("logging_settings", logging(verb.log_bodies.as_deref())?),
    ];
    settings(&mut manifest, given);
    if !headers.is_empty() {
        manifest.insert("headers".to_owned(), headers.into());
    }
    if let Some(file) = verb.ca_file {
        manifest.insert("ca_certificates".to_owned(), read_text(&file)?.into());
    }
    let context = open()?;
    let account =
        context.client.object("POST", "/provider-accounts", Some(&json!({"manifest": manifest})))?;
    context.output.done(&format!("The provider account {} is there.", verb.name), &account)
}

fn update(verb: Update, open: Open<'_>) -> Result<(), Failure> {
    let path = path(&["provider-accounts", &verb.name])?;
    let headers = headers(&verb.header)?;
    if verb.no_headers && !headers.is_empty() {
        return Err(Failure::Usage("Give --header or --no-headers, not both.".to_owned()));
    }
    let mut body = Map::new();
    if let Some(base_url) = verb.base_url {
        body.insert("base_url".to_owned(), base_url.into());
    }
    let credential = Given {
        file: verb.api_key_file.as_deref(),
        variable: verb.api_key_env.as_deref(),
        credential_file: verb.credential_file.as_deref(),
    };
    match credential.read()? {
        None => {}
        Some(Read::Key(key)) => {
            body.insert("api_key".to_owned(), key.expose().into());
        }
        Some(Read::AuthData(auth_data)) => {
            body.insert("auth_data".to_owned(), auth_data);
        }
    }
    if let Some((certificate, key)) =
        client_pair(verb.client_cert_file.as_deref(), verb.client_key_file.as_deref())?
    {
        body.insert("client_certificate".to_owned(), certificate.into());
        body.insert("client_key".to_owned(), key.expose().into());
    }
    let given = [
        ("region", verb.region.map(Value::from)),
        ("project_id", verb.project_id.map(Value::from)),
        ("api_version", verb.api_version.map(Value::from)),
        ("drop_unsupported", verb.drop_unsupported.map(Value::from)),
        ("logging_settings", logging(verb.log_bodies.as_deref())?),
    ];
    settings(&mut body, given);
    if verb.no_headers || !headers.is_empty() {
        body.insert("headers".to_owned(), headers.into());
    }
    if let Some(file) = verb.ca_file {
        body.insert("ca_certificates".to_owned(), read_text(&file)?.into());
    }
    if body.is_empty() {
        return Err(Failure::Usage("Nothing to change was given.".to_owned()));
    }
    let context = open()?;
    let account = context.client.object("PATCH", &path, Some(&Value::Object(body)))?;
    context.output.done(&format!("The provider account {} is changed.", verb.name), &account)
}

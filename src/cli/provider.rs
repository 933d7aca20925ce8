//! `gateway admin provider`

use argh::FromArgs;
use serde_json::{Map, Value, json};

use super::access;
use super::admin::Open;
use super::failure::Failure;
use super::input::{headers, path, read_secret, read_text};
use super::output::{Column, count, text};

/// Provider accounts: where models run, and the key that the gateway uses there.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "provider",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} create main --type openai --base-url https://api.openai.com/v1 --api-key-file key.txt\n\
    {command_name} create local --type openai --base-url http://10.0.0.5:8000/v1\n{command_name} list",
    note = "The type openai stands for every server that speaks OpenAI's protocol: vLLM, llama.cpp, Ollama and others.",
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
    note = "One newline at the end of the key is left out. A server that wants no key gets none."
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

const NAME: Column = Column { title: "NAME", cell: |account| text(account, &["/name", "/manifest/name"]) };
const TYPE: Column = Column { title: "TYPE", cell: |account| text(account, &["/provider"]) };
const BASE_URL: Column = Column { title: "BASE-URL", cell: |account| text(account, &["/manifest/base_url"]) };
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
                let fields = [NAME, TYPE, BASE_URL, KEY, HEADERS, OWN_CA, MODELS, CREATED, UPDATED];
                context.output.object(&fields, &account)
            }
            Verb::Update(verb) => update(verb, open),
            Verb::SetKey(verb) => {
                let path = path(&["provider-accounts", &verb.name, "credential"])?;
                let key = read_secret(verb.api_key_file.as_deref(), verb.api_key_env.as_deref())?;
                let body = match (&key, verb.remove) {
                    (Some(key), false) => json!({"api_key": key.expose()}),
                    (None, true) => json!({"api_key": null}),
                    _ => {
                        let message = "Give one of --api-key-file, --api-key-env and --remove.";
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

fn create(verb: Create, open: Open<'_>) -> Result<(), Failure> {
    let mut manifest = Map::new();
    let headers = headers(&verb.header)?;
    let key = read_secret(verb.api_key_file.as_deref(), verb.api_key_env.as_deref())?;
    manifest.insert("type".to_owned(), format!("provider-account/{}", verb.provider_type).into());
    manifest.insert("name".to_owned(), verb.name.as_str().into());
    if let Some(base_url) = verb.base_url {
        manifest.insert("base_url".to_owned(), base_url.into());
    }
    if let Some(key) = key {
        manifest.insert("auth_data".to_owned(), json!({"type": "api-key", "api_key": key.expose()}));
    }
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
    if let Some(key) = read_secret(verb.api_key_file.as_deref(), verb.api_key_env.as_deref())? {
        body.insert("api_key".to_owned(), key.expose().into());
    }
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

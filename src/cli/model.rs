//! `gateway admin model`

use argh::FromArgs;
use serde_json::{Map, Value, json};

use super::access;
use super::admin::Open;
use super::failure::Failure;
use super::input::{account_and_model, path};
use super::output::{Column, text};

/// Models, named ACCOUNT/NAME, as callers write them.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "model",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} add main/gpt-4o --model-id gpt-4o-2024-08-06 --input-price 2.50 --output-price 10\n\
    {command_name} list --account main",
    note = "Only models that were added can be called, and only by those who were granted them: see 'gateway admin grant'."
)]
pub struct Model {
    #[argh(subcommand)]
    verb: Verb,
}

#[derive(FromArgs)]
#[argh(subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one, once")]
enum Verb {
    Add(Add),
    List(List),
    Remove(Remove),
}

/// Offer a model of a provider account.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "add",
    help_triggers("-h", "--help"),
    example = "{command_name} main/gpt-4o --model-id gpt-4o-2024-08-06 --input-price 2.50 --output-price 10\n\
    {command_name} main/embed --model-id text-embedding-3-small --type embedding",
    note = "Types: chat, completion, embedding, rerank, moderation, image, responses, audio_transcription,\n  \
    audio_translation, text_to_speech, realtime, ocr."
)]
struct Add {
    /// name as callers write it: ACCOUNT/NAME
    #[argh(positional)]
    model: String,

    /// the provider's own name for it
    #[argh(option, arg_name = "id")]
    model_id: String,

    /// what it is for, several with commas between (default: chat)
    #[argh(option, long = "type", arg_name = "types", default = "\"chat\".to_owned()")]
    types: String,

    /// US dollars for a million input tokens, such as 2.50
    #[argh(option, arg_name = "price")]
    input_price: Option<String>,

    /// US dollars for a million output tokens
    #[argh(option, arg_name = "price")]
    output_price: Option<String>,

    /// US dollars for a million input tokens read from a cache (default: as input)
    #[argh(option, arg_name = "price")]
    cached_price: Option<String>,

    /// US dollars for a million input tokens written to a cache (default: as input)
    #[argh(option, arg_name = "price")]
    cache_write_price: Option<String>,

    /// US dollars for a million output tokens of reasoning (default: as output)
    #[argh(option, arg_name = "price")]
    reasoning_price: Option<String>,

    /// day from which these prices hold, such as 2026-01-31 (default: always)
    #[argh(option, arg_name = "date")]
    price_from: Option<String>,

    /// take its prices from the catalogue of public prices (see 'gateway admin catalog')
    #[argh(switch)]
    public_cost: bool,

    /// family of models whose abilities it has, such as claude-opus-4.7 (default: by its id)
    #[argh(option, arg_name = "family")]
    family: Option<String>,

    /// longest answer in tokens (default: by its family)
    #[argh(option, arg_name = "tokens")]
    max_output_tokens: Option<u64>,

    /// region, when it is not the account's (aws-bedrock, google-vertex)
    #[argh(option, arg_name = "region")]
    region: Option<String>,

    /// version of the API, when it is not the account's (azure-openai)
    #[argh(option, arg_name = "version")]
    api_version: Option<String>,

    /// address with the version path of its own server (self-hosted-model)
    #[argh(option, arg_name = "url")]
    server_url: Option<String>,
}

/// List the models.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "list",
    help_triggers("-h", "--help"),
    example = "{command_name}\n{command_name} --account main"
)]
struct List {
    /// only those of one provider account
    #[argh(option, arg_name = "name")]
    account: Option<String>,
}

/// Offer a model no longer; grants on it end too.
#[derive(FromArgs)]
#[argh(subcommand, name = "remove", help_triggers("-h", "--help"), example = "{command_name} main/gpt-4o")]
struct Remove {
    /// name as callers write it: ACCOUNT/NAME
    #[argh(positional)]
    model: String,

    /// change nothing; show who would gain and lose access
    #[argh(switch)]
    dry_run: bool,
}

const COLUMNS: [Column; 5] = [
    Column { title: "MODEL", cell: |model| text(model, &["/modelName", "/name"]) },
    Column {
        title: "MODEL-ID",
        cell: |model| text(model, &["/manifest/model_id", "/manifest/hosted_model_name"]),
    },
    Column { title: "TYPES", cell: |model| text(model, &["/manifest/model_types"]) },
    Column { title: "INPUT-PRICE", cell: |model| text(model, &["/manifest/input_price"]) },
    Column { title: "OUTPUT-PRICE", cell: |model| text(model, &["/manifest/output_price"]) },
];

/// What the options say of the model's cost.
fn costs(verb: &Add) -> Result<Vec<Value>, Failure> {
    let prices = [
        ("input", &verb.input_price),
        ("output", &verb.output_price),
        ("cached", &verb.cached_price),
        ("cache_write", &verb.cache_write_price),
        ("reasoning", &verb.reasoning_price),
    ];
    let pair = |(name, price): (&str, &Option<String>)| Some((name.to_owned(), price.clone()?.into()));
    let value: Map<String, Value> = prices.into_iter().filter_map(pair).collect();
    let mut costs = Vec::new();
    if !value.is_empty() {
        let mut cost = json!({"metric": "per_million_tokens", "value": value});
        if let (Value::Object(cost), Some(date)) = (&mut cost, &verb.price_from) {
            cost.insert("from".to_owned(), date.as_str().into());
        }
        costs.push(cost);
    } else if verb.price_from.is_some() {
        return Err(Failure::Usage("--price-from needs a price, such as --input-price.".to_owned()));
    }
    if verb.public_cost {
        costs.push(json!({"metric": "public_cost"}));
    }
    Ok(costs)
}

impl Model {
    /// Carries the verb out.
    ///
    /// # Errors
    /// Why it was not.
    pub fn run(self, open: Open<'_>) -> Result<(), Failure> {
        match self.verb {
            Verb::Add(verb) => {
                let (account, name) = account_and_model(&verb.model)?;
                let path = path(&["provider-accounts", account, "models"])?;
                // The contract's words have underscores; the rest of the command line has hyphens.
                let types: Vec<String> =
                    verb.types.split(',').map(|word| word.trim().replace('-', "_")).collect();
                let mut manifest = Map::new();
                manifest.insert("name".to_owned(), name.into());
                manifest.insert("model_id".to_owned(), verb.model_id.as_str().into());
                manifest.insert("model_types".to_owned(), types.into());
                let costs = costs(&verb)?;
                if !costs.is_empty() {
                    manifest.insert("cost".to_owned(), costs.into());
                }
                let words = [
                    ("family", verb.family),
                    ("region", verb.region),
                    ("api_version", verb.api_version),
                    ("url", verb.server_url),
                ];
                for (key, word) in words {
                    if let Some(word) = word {
                        manifest.insert(key.to_owned(), word.into());
                    }
                }
                if let Some(most) = verb.max_output_tokens {
                    manifest.insert("max_output_tokens".to_owned(), most.into());
                }
                let context = open()?;
                let model = context.client.object("POST", &path, Some(&json!({"manifest": manifest})))?;
                context.output.done(&format!("The model {} is there.", verb.model), &model)
            }
            Verb::List(verb) => {
                let context = open()?;
                let parameters = [("type", Some("model")), ("accountName", verb.account.as_deref())];
                let rows = context.client.list("/provider-integrations", &parameters)?;
                context.output.list(&COLUMNS, rows)
            }
            Verb::Remove(verb) => {
                let (account, name) = account_and_model(&verb.model)?;
                let path = path(&["provider-accounts", account, "models", name])?;
                let context = open()?;
                if verb.dry_run {
                    return access::trial(&context, "DELETE", &path, None);
                }
                let answer = context.client.call("DELETE", &path, None)?;
                context.output.done(&format!("The model {} is removed.", verb.model), &answer)
            }
        }
    }
}

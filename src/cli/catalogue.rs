//! `gateway admin catalog`

use argh::FromArgs;
use serde_json::{Map, Value, json};

use super::admin::Open;
use super::failure::Failure;
use super::input::read_text_up_to;
use super::output::{Column, text};

/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 3 * 1024 * 1024;

/// The catalogue of public prices, for models whose cost is public_cost.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "catalog",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} show\n{command_name} import prices.json",
    note = "One is built in; it is never fetched from anywhere. 'show --output json' gives it in the form that import takes."
)]
pub struct Catalog {
    #[argh(subcommand)]
    verb: Verb,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    Show(Show),
    Import(Import),
    Reset(Reset),
}

/// Show the public prices that hold now, in US dollars for a million tokens.
#[derive(FromArgs)]
#[argh(subcommand, name = "show", help_triggers("-h", "--help"), example = "{command_name}")]
struct Show {}

/// Put a catalogue in the place of the present one; calls are priced by it at once.
#[derive(FromArgs)]
#[argh(subcommand, name = "import", help_triggers("-h", "--help"), example = "{command_name} prices.json")]
struct Import {
    /// JSON file with date, source and models; - is standard input
    #[argh(positional)]
    file: String,
}

/// Go back to the catalogue that is built in.
#[derive(FromArgs)]
#[argh(subcommand, name = "reset", help_triggers("-h", "--help"), example = "{command_name}")]
struct Reset {}

const COLUMNS: [Column; 6] = [
    Column { title: "PROVIDER", cell: |row| text(row, &["/provider"]) },
    Column { title: "MODEL-ID", cell: |row| text(row, &["/modelId"]) },
    Column { title: "INPUT", cell: |row| text(row, &["/prices/input"]) },
    Column { title: "OUTPUT", cell: |row| text(row, &["/prices/output"]) },
    Column { title: "CACHED", cell: |row| text(row, &["/prices/cached"]) },
    Column { title: "CACHE-WRITE", cell: |row| text(row, &["/prices/cache_write"]) },
];

const SUMMARY: [Column; 4] = [
    Column { title: "DATE", cell: |catalogue| text(catalogue, &["/date"]) },
    Column { title: "MODELS", cell: |catalogue| text(catalogue, &["/total"]) },
    Column { title: "IMPORTED", cell: |catalogue| text(catalogue, &["/imported"]) },
    Column { title: "SOURCE", cell: |catalogue| text(catalogue, &["/source"]) },
];

fn rows(catalogue: &Value) -> Vec<Value> {
    let providers = catalogue.pointer("/models").and_then(Value::as_object);
    let models = providers.into_iter().flatten().flat_map(|(provider, models)| {
        let models = models.as_object().into_iter().flatten();
        models.map(move |(id, prices)| json!({"provider": provider, "modelId": id, "prices": prices}))
    });
    models.collect()
}

impl Catalog {
    /// Carries the verb out.
    ///
    /// # Errors
    /// Why it was not.
    pub fn run(self, open: Open<'_>) -> Result<(), Failure> {
        match self.verb {
            Verb::Show(Show {}) => {
                let context = open()?;
                let mut catalogue = context.client.object("GET", "/catalog", None)?;
                if context.output.is_json() {
                    if let Value::Object(fields) = &mut catalogue {
                        fields.remove("total");
                        fields.remove("imported");
                    }
                    return context.output.object(&SUMMARY, &catalogue);
                }
                context.output.list(&COLUMNS, rows(&catalogue))
            }
            Verb::Import(verb) => {
                let file = read_text_up_to(&verb.file, MAX_FILE_BYTES)?;
                let catalogue: Map<String, Value> = serde_json::from_str(&file)
                    .map_err(|error| Failure::Input(format!("{} is no JSON object: {error}", verb.file)))?;
                let context = open()?;
                let body = json!({"catalogue": catalogue});
                let answer = context.client.object("PUT", "/catalog", Some(&body))?;
                let (total, date) = (text(&answer, &["/total"]), text(&answer, &["/date"]));
                context.output.done(&format!("{total} models have public prices, of {date}."), &answer)
            }
            Verb::Reset(Reset {}) => {
                let context = open()?;
                let answer = context.client.object("DELETE", "/catalog", None)?;
                context.output.done("The catalogue that is built in holds again.", &answer)
            }
        }
    }
}

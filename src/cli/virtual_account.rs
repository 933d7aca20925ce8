//! `gateway admin virtual-account`

use argh::FromArgs;
use serde_json::{Map, json};

use super::access;
use super::admin::Open;
use super::failure::Failure;
use super::input::{date, path, tags};
use super::output::{Column, text};

/// Virtual accounts: identities of applications, with no person behind them.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "virtual-account",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} create search-bot --tag team=search\n\
    gateway admin grant virtualaccount:search-bot provider-account-access main/gpt-4o\n\
    gateway admin token create --virtual-account search-bot --name production",
    note = "A virtual account keeps working when the person who made it leaves. It may use what it was granted, nothing else."
)]
pub struct VirtualAccount {
    #[argh(subcommand)]
    verb: Verb,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    Create(Create),
    List(List),
    Show(Show),
    Delete(Delete),
}

/// Make an application's identity.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "create",
    help_triggers("-h", "--help"),
    example = "{command_name} search-bot --tag team=search --tag stage=production --expires 2027-12-31"
)]
struct Create {
    /// name: 3 to 36 lower-case letters, digits and hyphens
    #[argh(positional)]
    name: String,

    /// last day on which its tokens work, such as 2027-12-31 (UTC)
    #[argh(option, arg_name = "date", from_str_fn(date))]
    expires: Option<String>,

    /// key=value that its usage is tagged with; may be given several times
    #[argh(option, arg_name = "key=value")]
    tag: Vec<String>,
}

/// List the virtual accounts.
#[derive(FromArgs)]
#[argh(subcommand, name = "list", help_triggers("-h", "--help"), example = "{command_name}")]
struct List {}

/// Show one virtual account.
#[derive(FromArgs)]
#[argh(subcommand, name = "show", help_triggers("-h", "--help"), example = "{command_name} search-bot")]
struct Show {
    /// name
    #[argh(positional)]
    name: String,
}

/// Remove a virtual account, its tokens and its grants.
#[derive(FromArgs)]
#[argh(subcommand, name = "delete", help_triggers("-h", "--help"), example = "{command_name} search-bot")]
struct Delete {
    /// name
    #[argh(positional)]
    name: String,

    /// change nothing; show who would gain and lose access
    #[argh(switch)]
    dry_run: bool,
}

const NAME: Column = Column { title: "NAME", cell: |account| text(account, &["/manifest/name", "/id"]) };
const EXPIRES: Column =
    Column { title: "EXPIRES", cell: |account| text(account, &["/manifest/expiration_date"]) };
const EXPIRED: Column = Column { title: "EXPIRED", cell: |account| text(account, &["/isExpired"]) };
const TAGS: Column = Column { title: "TAGS", cell: |account| text(account, &["/manifest/tags"]) };
const CREATED: Column = Column { title: "CREATED", cell: |account| text(account, &["/createdAt"]) };
const UPDATED: Column = Column { title: "UPDATED", cell: |account| text(account, &["/updatedAt"]) };

impl VirtualAccount {
    /// Carries the verb out.
    ///
    /// # Errors
    /// Why it was not.
    pub fn run(self, open: Open<'_>) -> Result<(), Failure> {
        match self.verb {
            Verb::Create(verb) => {
                let mut manifest = Map::new();
                manifest.insert("type".to_owned(), "virtual-account".into());
                manifest.insert("name".to_owned(), verb.name.as_str().into());
                let tags = tags(&verb.tag)?;
                if !tags.is_empty() {
                    manifest.insert("tags".to_owned(), tags.into());
                }
                if let Some(expires) = verb.expires {
                    manifest.insert("expiration_date".to_owned(), expires.into());
                }
                let path = path(&["virtual-accounts", &verb.name])?;
                let context = open()?;
                // PUT replaces: without this look, a second create would take tags and expiry away.
                if context.client.exists(&path)? {
                    let message = format!("there is a virtual account '{}' already", verb.name);
                    return Err(Failure::Refused { status: 409, message });
                }
                let account = context.client.object(
                    "PUT",
                    "/virtual-accounts",
                    Some(&json!({"manifest": manifest})),
                )?;
                context.output.done(&format!("The virtual account {} is there.", verb.name), &account)
            }
            Verb::List(_) => {
                let context = open()?;
                let rows = context.client.list("/virtual-accounts", &[])?;
                context.output.list(&[NAME, EXPIRES, EXPIRED, TAGS, CREATED], rows)
            }
            Verb::Show(verb) => {
                let path = path(&["virtual-accounts", &verb.name])?;
                let context = open()?;
                let account = context.client.object("GET", &path, None)?;
                context.output.object(&[NAME, EXPIRES, EXPIRED, TAGS, CREATED, UPDATED], &account)
            }
            Verb::Delete(verb) => {
                let path = path(&["virtual-accounts", &verb.name])?;
                let context = open()?;
                if verb.dry_run {
                    return access::trial(&context, "DELETE", &path, None);
                }
                let answer = context.client.call("DELETE", &path, None)?;
                context.output.done(&format!("The virtual account {} is deleted.", verb.name), &answer)
            }
        }
    }
}

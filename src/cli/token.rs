//! `gateway admin token`

use argh::FromArgs;
use serde_json::{Map, Value, json};

use super::access;
use super::admin::Open;
use super::failure::Failure;
use super::input::{date, minutes, path};
use super::output::{Column, text};

/// Tokens: the gateway's own keys, for people and for applications.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "token",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} create --user ada@example.com --name laptop --valid-days 90\n\
    {command_name} create --virtual-account search-bot --name production\n{command_name} list\n\
    {command_name} revoke 3fG7kP2mQ9xZ",
    note = "A token acts as its user or its virtual account, with what that one was granted.",
    note = "STATE is active, expiring (it ends within 14 days), in grace (it has a successor), expired or revoked.",
    note = "A token is shown once, when it is made; only a hash of it is kept. Its ID is no secret."
)]
pub struct Token {
    #[argh(subcommand)]
    verb: Verb,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    Create(Create),
    List(List),
    Show(Show),
    Rename(Rename),
    Revoke(Revoke),
    Rotate(Rotate),
}

/// Make a token and print it.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "create",
    help_triggers("-h", "--help"),
    example = "{command_name} --user ada@example.com --name laptop --valid-days 90",
    example = "In a script (the token alone goes to standard output):\n    \
    T=$({command_name} --virtual-account search-bot --name production)",
    note = "Without --expires and --valid-days it is valid until it is revoked."
)]
struct Create {
    /// email address of the person that it acts as
    #[argh(option, arg_name = "email")]
    user: Option<String>,

    /// name of the virtual account that it acts as
    #[argh(option, arg_name = "name")]
    virtual_account: Option<String>,

    /// what it is for: 3 to 36 lower-case letters, digits and hyphens
    #[argh(option)]
    name: String,

    /// last day (2027-01-31, UTC) or moment (2027-01-31T08:00:00Z) on which it is valid
    #[argh(option, arg_name = "date", from_str_fn(date))]
    expires: Option<String>,

    /// days from now that it is valid
    #[argh(option, arg_name = "days")]
    valid_days: Option<u32>,
}

/// List the tokens, without their secrets.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "list",
    help_triggers("-h", "--help"),
    example = "{command_name}\n{command_name} --user ada@example.com\n{command_name} --virtual-account search-bot"
)]
struct List {
    /// only those of one person
    #[argh(option, arg_name = "email")]
    user: Option<String>,

    /// only those of one virtual account
    #[argh(option, arg_name = "name")]
    virtual_account: Option<String>,
}

/// Show one token, without its secret.
#[derive(FromArgs)]
#[argh(subcommand, name = "show", help_triggers("-h", "--help"), example = "{command_name} 3fG7kP2mQ9xZ")]
struct Show {
    /// the ID, as list shows it: the 12 characters after tfy_pat_ or tfy_va_
    #[argh(positional)]
    id: String,
}

/// Give a token another name.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "rename",
    help_triggers("-h", "--help"),
    example = "{command_name} 3fG7kP2mQ9xZ old-laptop"
)]
struct Rename {
    /// the ID, as list shows it
    #[argh(positional)]
    id: String,

    /// what it is called from now on
    #[argh(positional)]
    name: String,
}

/// End a token: the next call with it is refused, and its open calls are cut.
#[derive(FromArgs)]
#[argh(subcommand, name = "revoke", help_triggers("-h", "--help"), example = "{command_name} 3fG7kP2mQ9xZ")]
struct Revoke {
    /// the ID, as list shows it
    #[argh(positional)]
    id: String,

    /// change nothing; say whether it could be done
    #[argh(switch)]
    dry_run: bool,
}

/// Make a new token in place of an old one, and print it.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "rotate",
    help_triggers("-h", "--help"),
    example = "{command_name} 3fG7kP2mQ9xZ --grace 7d\n{command_name} 3fG7kP2mQ9xZ --grace 0",
    note = "During the grace period both work, so that an application can move over. For a token that leaked take 0."
)]
struct Rotate {
    /// the ID of the old one, as list shows it
    #[argh(positional)]
    id: String,

    /// how long the old one still works: 30m, 24h (default), 7d, or 0
    #[argh(option, arg_name = "duration", from_str_fn(minutes), default = "24 * 60")]
    grace: u64,
}

const ID: Column = Column { title: "ID", cell: |token| text(token, &["/id"]) };
const NAME: Column = Column { title: "NAME", cell: |token| text(token, &["/name"]) };
const OWNER: Column = Column { title: "OWNER", cell: |token| text(token, &["/owner"]) };
const EXPIRES: Column = Column { title: "EXPIRES", cell: |token| text(token, &["/expiresAt"]) };
const STATE: Column = Column { title: "STATE", cell: |token| text(token, &["/state"]) };
const USED: Column = Column { title: "LAST USED", cell: |token| text(token, &["/lastUsedAt"]) };
const REVOKED: Column = Column { title: "REVOKED", cell: |token| text(token, &["/revokedAt"]) };
const REPLACED_BY: Column = Column { title: "REPLACED BY", cell: |token| text(token, &["/replacedBy"]) };
const CREATED: Column = Column { title: "CREATED", cell: |token| text(token, &["/createdAt"]) };
const BY: Column = Column { title: "BY", cell: |token| text(token, &["/createdBy"]) };
const REPLACES: Column = Column { title: "REPLACES", cell: |token| text(token, &["/replaces"]) };

impl Token {
    /// Carries the verb out.
    ///
    /// # Errors
    /// Why it was not.
    pub fn run(self, open: Open<'_>) -> Result<(), Failure> {
        match self.verb {
            Verb::Create(verb) => {
                let mut body = Map::new();
                match (verb.user, verb.virtual_account) {
                    (Some(user), None) => body.insert("user".to_owned(), user.into()),
                    (None, Some(account)) => body.insert("virtualAccount".to_owned(), account.into()),
                    _ => return Err(Failure::Usage("Give one of --user and --virtual-account.".to_owned())),
                };
                match (verb.expires, verb.valid_days) {
                    (Some(_), Some(_)) => {
                        return Err(Failure::Usage("Give --expires or --valid-days, not both.".to_owned()));
                    }
                    (Some(date), None) => drop(body.insert("expirationDate".to_owned(), date.into())),
                    (None, Some(days)) => drop(body.insert("validDays".to_owned(), days.into())),
                    (None, None) => {}
                }
                body.insert("name".to_owned(), verb.name.into());
                let context = open()?;
                let answer = context.client.call("POST", "/tokens", Some(&Value::Object(body)))?;
                context.output.token(&answer)
            }
            Verb::List(verb) => {
                if verb.user.is_some() && verb.virtual_account.is_some() {
                    return Err(Failure::Usage("Give --user or --virtual-account, not both.".to_owned()));
                }
                let context = open()?;
                let parameters =
                    [("user", verb.user.as_deref()), ("virtualAccount", verb.virtual_account.as_deref())];
                let rows = context.client.list("/tokens", &parameters)?;
                context.output.list(&[ID, NAME, OWNER, STATE, EXPIRES, USED, CREATED], rows)
            }
            Verb::Show(verb) => {
                let path = path(&["tokens", &verb.id])?;
                let context = open()?;
                let token = context.client.object("GET", &path, None)?;
                let columns =
                    [ID, NAME, OWNER, STATE, EXPIRES, USED, REVOKED, REPLACES, REPLACED_BY, CREATED, BY];
                context.output.object(&columns, &token)
            }
            Verb::Rename(verb) => {
                let path = path(&["tokens", &verb.id])?;
                let context = open()?;
                let answer = context.client.call("PATCH", &path, Some(&json!({"name": verb.name})))?;
                context.output.done(&format!("The token {} is called {} now.", verb.id, verb.name), &answer)
            }
            Verb::Revoke(verb) => {
                let path = path(&["tokens", &verb.id])?;
                let context = open()?;
                if verb.dry_run {
                    return access::trial(&context, "DELETE", &path, None);
                }
                let answer = context.client.call("DELETE", &path, None)?;
                context.output.done(&format!("The token {} is revoked.", verb.id), &answer)
            }
            Verb::Rotate(verb) => {
                let path = path(&["tokens", &verb.id, "rotate"])?;
                let context = open()?;
                let answer =
                    context.client.call("POST", &path, Some(&json!({"gracePeriodInMinutes": verb.grace})))?;
                context.output.token(&answer)
            }
        }
    }
}

//! `gateway admin user`

use argh::FromArgs;
use serde_json::{Map, Value, json};

use super::access;
use super::admin::Open;
use super::failure::Failure;
use super::input::{path, with_query};
use super::output::{Column, text};

/// People, each named by their email address.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "user",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} create ada@example.com --name 'Ada Lovelace'\n{command_name} list\n\
    {command_name} deactivate ada@example.com",
    note = "A new user has no access to any model and no token: see 'gateway admin grant' and 'gateway admin token create'.",
    note = "Email addresses are written in lower case."
)]
pub struct User {
    #[argh(subcommand)]
    verb: Verb,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    Create(Create),
    Invite(Invite),
    List(List),
    Show(Show),
    Deactivate(Deactivate),
    Activate(Activate),
    SetRole(SetRole),
    Delete(Delete),
}

/// Add a person.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "create",
    help_triggers("-h", "--help"),
    example = "{command_name} ada@example.com --name 'Ada Lovelace'\n{command_name} grace@example.com --role admin"
)]
struct Create {
    /// email address, in lower case
    #[argh(positional)]
    email: String,

    /// name to show to people
    #[argh(option)]
    name: Option<String>,

    /// member (default: has what it was granted) or admin (sees and manages everything)
    #[argh(option)]
    role: Option<String>,
}

/// Print a link with which a person chooses a password for the web console; who is no user yet becomes one.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "invite",
    help_triggers("-h", "--help"),
    example = "{command_name} ada@example.com",
    note = "The link works once and for a day. Whoever has it can sign in as that person: hand it over with care.",
    note = "Without --url it begins with the address that the gateway listens on here; put the one that people use."
)]
struct Invite {
    /// email address, in lower case
    #[argh(positional)]
    email: String,
}

/// List the people, deactivated ones too.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "list",
    help_triggers("-h", "--help"),
    example = "{command_name}\n{command_name} --search example.com"
)]
struct List {
    /// only those whose email or name has this in it
    #[argh(option, arg_name = "text")]
    search: Option<String>,
}

/// Show one person.
#[derive(FromArgs)]
#[argh(subcommand, name = "show", help_triggers("-h", "--help"), example = "{command_name} ada@example.com")]
struct Show {
    /// email address
    #[argh(positional)]
    email: String,
}

/// Lock a person out at once: their tokens are revoked and their open calls are cut.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "deactivate",
    help_triggers("-h", "--help"),
    example = "{command_name} ada@example.com",
    note = "Teams and grants stay for the day the person is activated again; the tokens do not come back.",
    note = "The last active admin can not be deactivated."
)]
struct Deactivate {
    /// email address
    #[argh(positional)]
    email: String,

    /// change nothing; show who would gain and lose access
    #[argh(switch)]
    dry_run: bool,
}

/// Let a deactivated person in again, with new tokens.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "activate",
    help_triggers("-h", "--help"),
    example = "{command_name} ada@example.com"
)]
struct Activate {
    /// email address
    #[argh(positional)]
    email: String,

    /// change nothing; show who would gain and lose access
    #[argh(switch)]
    dry_run: bool,
}

/// Make a person an admin, or a member again.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "set-role",
    help_triggers("-h", "--help"),
    example = "{command_name} ada@example.com admin"
)]
struct SetRole {
    /// email address
    #[argh(positional)]
    email: String,

    /// admin or member
    #[argh(positional)]
    role: String,

    /// change nothing; show who would gain and lose access
    #[argh(switch)]
    dry_run: bool,
}

/// Remove a person and their tokens.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "delete",
    help_triggers("-h", "--help"),
    example = "{command_name} ada@example.com --force",
    note = "Who is in a team or holds grants is only removed with --force. To lock somebody out, deactivate is enough."
)]
struct Delete {
    /// email address
    #[argh(positional)]
    email: String,

    /// remove the person's team memberships and grants too
    #[argh(switch)]
    force: bool,

    /// change nothing; show who would gain and lose access
    #[argh(switch)]
    dry_run: bool,
}

fn role(text: &str) -> Result<&'static str, Failure> {
    match crate::domain::TenantRole::parse(text) {
        Some(role) => Ok(role.contract_name()),
        None => Err(Failure::Usage(format!("'{text}' is not a role; write admin or member."))),
    }
}

fn shown_role(user: &Value) -> String {
    let roles = text(user, &["/roles"]);
    crate::domain::TenantRole::parse(&roles).map_or(roles, |role| role.as_str().to_owned())
}

const EMAIL: Column = Column { title: "EMAIL", cell: |user| text(user, &["/email"]) };
const NAME: Column = Column { title: "NAME", cell: |user| text(user, &["/metadata/displayName"]) };
const ROLE: Column = Column { title: "ROLE", cell: shown_role };
const ACTIVE: Column = Column { title: "ACTIVE", cell: |user| text(user, &["/active"]) };
const CREATED: Column = Column { title: "CREATED", cell: |user| text(user, &["/createdAt"]) };
const UPDATED: Column = Column { title: "UPDATED", cell: |user| text(user, &["/updatedAt"]) };

impl User {
    /// Carries the verb out.
    ///
    /// # Errors
    /// Why it was not.
    pub fn run(self, open: Open<'_>) -> Result<(), Failure> {
        match self.verb {
            Verb::Create(verb) => {
                let mut body = Map::new();
                if let Some(name) = verb.name {
                    body.insert("displayName".to_owned(), Value::from(name));
                }
                if let Some(given) = verb.role {
                    body.insert("role".to_owned(), Value::from(role(&given)?));
                }
                body.insert("email".to_owned(), Value::from(verb.email.as_str()));
                let context = open()?;
                let answer = context.client.call("POST", "/users/register", Some(&Value::Object(body)))?;
                context.output.done(&format!("{} is a user now.", verb.email), &answer)
            }
            Verb::Invite(verb) => {
                let context = open()?;
                let answer =
                    context.client.call("POST", "/users/invite", Some(&json!({"email": verb.email})))?;
                if context.output.is_json() {
                    return context.output.json(&answer);
                }
                let link = text(&answer, &["/link"]);
                context.output.note(&format!(
                    "{} chooses a password there, once, until {}:",
                    verb.email,
                    text(&answer, &["/expiresAt"])
                ));
                context.output.print(&format!("{}{link}\n", context.base_url))
            }
            Verb::List(verb) => {
                let context = open()?;
                let parameters = [("query", verb.search.as_deref()), ("showInvalidUsers", Some("true"))];
                let rows = context.client.list("/users", &parameters)?;
                context.output.list(&[EMAIL, NAME, ROLE, ACTIVE, CREATED], rows)
            }
            Verb::Show(verb) => {
                let path = path(&["users", &verb.email])?;
                let context = open()?;
                let user = context.client.object("GET", &path, None)?;
                context.output.object(&[EMAIL, NAME, ROLE, ACTIVE, CREATED, UPDATED], &user)
            }
            Verb::Deactivate(verb) => {
                let context = open()?;
                let body = json!({"email": verb.email});
                if verb.dry_run {
                    return access::trial(&context, "PATCH", "/users/deactivate", Some(body));
                }
                let answer = context.client.call("PATCH", "/users/deactivate", Some(&body))?;
                context
                    .output
                    .done(&format!("{} is deactivated; their tokens are revoked.", verb.email), &answer)
            }
            Verb::Activate(verb) => {
                let context = open()?;
                let body = json!({"email": verb.email});
                if verb.dry_run {
                    return access::trial(&context, "PATCH", "/users/activate", Some(body));
                }
                let answer = context.client.call("PATCH", "/users/activate", Some(&body))?;
                context.output.done(&format!("{} is active.", verb.email), &answer)
            }
            Verb::SetRole(verb) => {
                let body = json!({"email": verb.email, "roles": [role(&verb.role)?]});
                let context = open()?;
                if verb.dry_run {
                    return access::trial(&context, "PATCH", "/users/roles", Some(body));
                }
                let answer = context.client.call("PATCH", "/users/roles", Some(&body))?;
                context.output.done(&format!("The role of {} is {}.", verb.email, verb.role), &answer)
            }
            Verb::Delete(verb) => {
                let path = with_query(
                    &path(&["users", &verb.email])?,
                    &[("forceDelete", verb.force.then_some("true"))],
                );
                let context = open()?;
                if verb.dry_run {
                    return access::trial(&context, "DELETE", &path, None);
                }
                let answer = context.client.call("DELETE", &path, None)?;
                context.output.done(&format!("{} is deleted.", verb.email), &answer)
            }
        }
    }
}

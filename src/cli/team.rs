//! `gateway admin team`

use argh::FromArgs;
use serde_json::json;

use super::access;
use super::admin::Open;
use super::failure::Failure;
use super::input::path;
use super::output::{Column, count, text};

/// Named sets of users; what a team is granted, each of its members has.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "team",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} create research --description 'Research and prototypes'\n\
    {command_name} add-member research ada@example.com\n\
    gateway admin grant team:research provider-account-access main",
    note = "The team 'everyone' is built in: it holds every user and no virtual account, and can be granted things."
)]
pub struct Team {
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
    AddMember(AddMember),
    RemoveMember(RemoveMember),
}

/// Make a team with nobody in it.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "create",
    help_triggers("-h", "--help"),
    example = "{command_name} research --description 'Research and prototypes'"
)]
struct Create {
    /// name: lower-case letters, digits, '-', '_', '.'
    #[argh(positional)]
    name: String,

    /// what the team is for
    #[argh(option, arg_name = "text")]
    description: Option<String>,
}

/// List the teams.
#[derive(FromArgs)]
#[argh(subcommand, name = "list", help_triggers("-h", "--help"), example = "{command_name}")]
struct List {}

/// Show one team and who is in it.
#[derive(FromArgs)]
#[argh(subcommand, name = "show", help_triggers("-h", "--help"), example = "{command_name} research")]
struct Show {
    /// name
    #[argh(positional)]
    name: String,
}

/// Remove a team and its grants; its members stay users.
#[derive(FromArgs)]
#[argh(subcommand, name = "delete", help_triggers("-h", "--help"), example = "{command_name} research")]
struct Delete {
    /// name
    #[argh(positional)]
    name: String,

    /// change nothing; show who would gain and lose access
    #[argh(switch)]
    dry_run: bool,
}

/// Put a user into a team.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "add-member",
    help_triggers("-h", "--help"),
    example = "{command_name} research ada@example.com"
)]
struct AddMember {
    /// name of the team
    #[argh(positional)]
    team: String,

    /// email address of the user
    #[argh(positional)]
    email: String,

    /// change nothing; show who would gain and lose access
    #[argh(switch)]
    dry_run: bool,
}

/// Take a user out of a team; what they had through it ends at once.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "remove-member",
    help_triggers("-h", "--help"),
    example = "{command_name} research ada@example.com"
)]
struct RemoveMember {
    /// name of the team
    #[argh(positional)]
    team: String,

    /// email address of the user
    #[argh(positional)]
    email: String,

    /// change nothing; show who would gain and lose access
    #[argh(switch)]
    dry_run: bool,
}

const NAME: Column = Column { title: "NAME", cell: |team| text(team, &["/manifest/name", "/id"]) };
const SIZE: Column = Column { title: "MEMBERS", cell: |team| count(team, "/manifest/members") };
const MEMBERS: Column = Column { title: "MEMBERS", cell: |team| text(team, &["/manifest/members"]) };
const MANAGERS: Column = Column { title: "MANAGERS", cell: |team| text(team, &["/manifest/managers"]) };
const DESCRIPTION: Column = Column { title: "DESCRIPTION", cell: |team| text(team, &["/description"]) };
const CREATED: Column = Column { title: "CREATED", cell: |team| text(team, &["/createdAt"]) };
const UPDATED: Column = Column { title: "UPDATED", cell: |team| text(team, &["/updatedAt"]) };

impl Team {
    /// Carries the verb out.
    ///
    /// # Errors
    /// Why it was not.
    pub fn run(self, open: Open<'_>) -> Result<(), Failure> {
        match self.verb {
            Verb::Create(verb) => {
                let mut manifest = json!({"type": "team", "name": verb.name, "members": []});
                if let (Some(description), Some(manifest)) = (verb.description, manifest.as_object_mut()) {
                    manifest.insert("description".to_owned(), description.into());
                }
                let path = path(&["teams", &verb.name])?;
                let context = open()?;
                // PUT replaces: without this look, a second create would empty the team.
                if context.client.exists(&path)? {
                    let message = format!("there is a team '{}' already", verb.name);
                    return Err(Failure::Refused { status: 409, message });
                }
                let team = context.client.object("PUT", "/teams", Some(&json!({"manifest": manifest})))?;
                context.output.done(&format!("The team {} is there.", verb.name), &team)
            }
            Verb::List(_) => {
                let context = open()?;
                let rows = context.client.list("/teams", &[])?;
                context.output.list(&[NAME, SIZE, DESCRIPTION, CREATED], rows)
            }
            Verb::Show(verb) => {
                let path = path(&["teams", &verb.name])?;
                let context = open()?;
                let team = context.client.object("GET", &path, None)?;
                context.output.object(&[NAME, DESCRIPTION, MEMBERS, MANAGERS, CREATED, UPDATED], &team)
            }
            Verb::Delete(verb) => {
                let path = path(&["teams", &verb.name])?;
                let context = open()?;
                if verb.dry_run {
                    return access::trial(&context, "DELETE", &path, None);
                }
                let answer = context.client.call("DELETE", &path, None)?;
                context.output.done(&format!("The team {} is deleted.", verb.name), &answer)
            }
            Verb::AddMember(verb) => {
                let path = path(&["teams", &verb.team, "members"])?;
                let context = open()?;
                let body = json!({"email": verb.email});
                if verb.dry_run {
                    return access::trial(&context, "POST", &path, Some(body));
                }
                let team = context.client.object("POST", &path, Some(&body))?;
                context.output.done(&format!("{} is in {}.", verb.email, verb.team), &team)
            }
            Verb::RemoveMember(verb) => {
                let path = path(&["teams", &verb.team, "members", &verb.email])?;
                let context = open()?;
                if verb.dry_run {
                    return access::trial(&context, "DELETE", &path, None);
                }
                let team = context.client.object("DELETE", &path, None)?;
                context.output.done(&format!("{} is not in {} any more.", verb.email, verb.team), &team)
            }
        }
    }
}

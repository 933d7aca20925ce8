//! `gateway admin grant`, `revoke` and `grants`

use argh::FromArgs;
use serde_json::json;

use super::access;
use super::admin::Open;
use super::failure::Failure;
use super::input::with_query;
use super::output::{Column, text};
use crate::domain::Role;

/// Give somebody a role on a provider account or on one model.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "grant",
    help_triggers("-h", "--help"),
    example = "{command_name} user:ada@example.com provider-account-access main\n\
    {command_name} team:research access main/gpt-4o\n\
    {command_name} virtualaccount:search-bot access main/embed\n\
    {command_name} user:grace@example.com manager main",
    note = "provider-account-access (or access): use every model of the account, or the one model, and nothing else.",
    note = "provider-account-manager (or manager): also change settings and models and manage access; on accounts only,\n  \
    never for virtual accounts.",
    note = "Grants add up. What nobody was granted nobody may use.",
    note = "A grant that is there already stays as it is."
)]
pub struct Grant {
    /// user:EMAIL, team:NAME or virtualaccount:NAME
    #[argh(positional)]
    subject: String,

    /// provider-account-access or provider-account-manager
    #[argh(positional, from_str_fn(role))]
    role: Role,

    /// ACCOUNT, or ACCOUNT/MODEL
    #[argh(positional)]
    target: String,

    /// change nothing; show who would gain and lose access
    #[argh(switch)]
    dry_run: bool,
}

/// Take a grant away again; open calls that it allowed are cut.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "revoke",
    help_triggers("-h", "--help"),
    example = "{command_name} user:ada@example.com provider-account-access main",
    note = "All three have to be as 'gateway admin grants' shows them.",
    note = "A grant that a manifest made is changed by that manifest."
)]
pub struct Revoke {
    /// user:EMAIL, team:NAME or virtualaccount:NAME
    #[argh(positional)]
    subject: String,

    /// provider-account-access or provider-account-manager
    #[argh(positional, from_str_fn(role))]
    role: Role,

    /// ACCOUNT, or ACCOUNT/MODEL
    #[argh(positional)]
    target: String,

    /// change nothing; show who would gain and lose access
    #[argh(switch)]
    dry_run: bool,
}

/// List who has which role on what.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "grants",
    help_triggers("-h", "--help"),
    example = "{command_name}\n{command_name} --subject team:research\n{command_name} --target main/gpt-4o"
)]
pub struct Grants {
    /// only those of one subject: user:EMAIL, team:NAME or virtualaccount:NAME
    #[argh(option)]
    subject: Option<String>,

    /// only those on one target: ACCOUNT or ACCOUNT/MODEL
    #[argh(option)]
    target: Option<String>,
}

fn role(text: &str) -> Result<Role, String> {
    Role::parse(text).map_err(|error| error.to_string())
}

const COLUMNS: [Column; 6] = [
    Column { title: "SUBJECT", cell: |grant| text(grant, &["/subject"]) },
    Column { title: "ROLE", cell: |grant| text(grant, &["/role"]) },
    Column { title: "TARGET", cell: |grant| text(grant, &["/target"]) },
    Column { title: "SOURCE", cell: |grant| text(grant, &["/source/manifest", "/source"]) },
    Column { title: "CREATED", cell: |grant| text(grant, &["/createdAt"]) },
    Column { title: "BY", cell: |grant| text(grant, &["/createdBy"]) },
];

impl Grant {
    /// Grants.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn run(self, open: Open<'_>) -> Result<(), Failure> {
        let context = open()?;
        let body = json!({"subject": self.subject, "role": self.role.as_str(), "target": self.target});
        if self.dry_run {
            return access::trial(&context, "POST", "/grants", Some(body));
        }
        let grant = context.client.object("POST", "/grants", Some(&body))?;
        context
            .output
            .done(&format!("{} has {} on {}.", self.subject, self.role.as_str(), self.target), &grant)
    }
}

impl Revoke {
    /// Revokes.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn run(self, open: Open<'_>) -> Result<(), Failure> {
        let context = open()?;
        let role = self.role.as_str();
        let parameters = [
            ("subject", Some(self.subject.as_str())),
            ("role", Some(role)),
            ("target", Some(self.target.as_str())),
        ];
        let path = with_query("/grants", &parameters);
        if self.dry_run {
            return access::trial(&context, "DELETE", &path, None);
        }
        let answer = context.client.call("DELETE", &path, None)?;
        context.output.done(&format!("{} has {role} on {} no more.", self.subject, self.target), &answer)
    }
}

impl Grants {
    /// Lists.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn run(self, open: Open<'_>) -> Result<(), Failure> {
        let context = open()?;
        let parameters = [("subject", self.subject.as_deref()), ("target", self.target.as_deref())];
        let rows = context.client.list("/grants", &parameters)?;
        context.output.list(&COLUMNS, rows)
    }
}

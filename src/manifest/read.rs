//! JSON to typed specs. Every field of the public contract is known; one that nobody knows is refused by its path.

use super::account;
use super::fields::Fields;
use super::limits;
use super::{
    Document, Permission, RoleBindingSpec, SettingsSpec, Spec, TeamSpec, UserSpec, VirtualAccountSpec,
};
use crate::clock::UnixMillis;
use crate::domain::{AccountingFailure, AutoRotate, BodyLogging, LimitKind, TenantRole};
use crate::failure::Failure;

type Result<T> = std::result::Result<T, Failure>;

/// Entries of any one list in a manifest.
const MAX_LIST: usize = 10_000;

/// The longest time that is given in days.
const MAX_DAYS: u64 = 36_500;

/// Reads one document.
///
/// # Errors
/// What it can not say, with the path of the field.
pub fn read(mut fields: Fields) -> Result<Document> {
    let masked = account::masked(fields.value());
    let kind = fields.required_text("type")?;
    let spec = match kind.as_str() {
        "user" => Spec::User(user(&mut fields)?),
        "team" => Spec::Team(team(&mut fields)?),
        "virtual-account" => Spec::VirtualAccount(virtual_account(&mut fields)?),
        "role-binding" => Spec::RoleBinding(role_binding(&mut fields)?),
        "settings" => Spec::Settings(settings(&mut fields)?),
        _ => match kind.strip_prefix("provider-account/") {
            Some(provider) => Spec::Account(Box::new(account::account(&mut fields, provider)?)),
            None => match LimitKind::parse(&kind) {
                Some(kind) => Spec::Limits(limits::limits(&mut fields, kind)?),
                None => return Err(unknown_kind(&fields)),
            },
        },
    };
    fields.finish()?;
    Ok(Document { spec, masked })
}

/// The type and name of a document, whatever else it holds: enough to find what it is about.
///
/// # Errors
/// When one of them is missing.
pub fn kind_of(fields: &mut Fields) -> Result<(String, String)> {
    let kind = fields.required_text("type")?;
    let name = match kind.as_str() {
        "user" if !fields.has("name") => fields.required_text("email")?,
        "settings" => "settings".to_owned(),
        "team" | "virtual-account" | "role-binding" | "user" => fields.required_text("name")?,
        _ if kind.starts_with("provider-account/") => fields.required_text("name")?,
        // There is one of each.
        _ if LimitKind::parse(&kind).is_some() => fields.text("name")?.unwrap_or_else(|| kind.clone()),
        _ => return Err(unknown_kind(fields)),
    };
    Ok((kind, name))
}

fn unknown_kind(fields: &Fields) -> Failure {
    fields.refusal(
        "type",
        "must be user, team, provider-account/PROVIDER, virtual-account, role-binding, settings, gateway-budget-config or gateway-rate-limiting-config",
    )
}

pub(super) fn bounded<T>(fields: &Fields, name: &str, list: &[T]) -> Result<()> {
    if list.len() > MAX_LIST {
        return Err(fields.refusal(name, &format!("holds more than {MAX_LIST} entries")));
    }
    Ok(())
}

fn user(fields: &mut Fields) -> Result<UserSpec> {
    let email = match (fields.text("name")?, fields.text("email")?) {
        (Some(name), Some(email)) if name != email => {
            return Err(fields.refusal("email", "says another address than 'name'"));
        }
        (Some(email), _) | (None, Some(email)) => email,
        (None, None) => return Err(fields.refusal("name", "is missing; it is the user's email")),
    };
    let role = match fields.text("role")? {
        None => None,
        Some(word) => match TenantRole::parse(&word) {
            Some(role) => Some(role),
            None => return Err(fields.refusal("role", "must be 'admin' or 'member'")),
        },
    };
    Ok(UserSpec { email, display_name: fields.text("displayName")?, role })
}

fn team(fields: &mut Fields) -> Result<TeamSpec> {
    let spec = TeamSpec {
        name: fields.required_text("name")?,
        description: fields.text("description")?.unwrap_or_default(),
        members: fields.required_texts("members")?,
        managers: fields.texts("managers")?.unwrap_or_default(),
    };
    fields.ignore(&["displayName", "ownedBy", "tags", "identity_provider_mapping"]);
    Ok(spec)
}

fn days(fields: &mut Fields, name: &str, least: u64) -> Result<Option<u32>> {
    match fields.count(name)? {
        None => Ok(None),
        Some(days) if (least..=MAX_DAYS).contains(&days) => Ok(u32::try_from(days).ok()),
        Some(_) => Err(fields.refusal(name, &format!("must be {least} to {MAX_DAYS} days"))),
    }
}

fn virtual_account(fields: &mut Fields) -> Result<VirtualAccountSpec> {
    let expires_at = match fields.text("expiration_date")? {
        None => None,
        Some(text) => {
            let wrong = |_| fields.refusal("expiration_date", "must be a date such as 2027-01-31");
            Some(UnixMillis::parse(&text).map_err(wrong)?)
        }
    };
    let permissions = match fields.objects("permissions")? {
        None => None,
        Some(list) if list.is_empty() => {
            return Err(fields.refusal("permissions", "is empty; leave it out to keep access as it is"));
        }
        Some(list) => {
            bounded(fields, "permissions", &list)?;
            Some(permissions(list, ["resource_fqn", "resource_type", "role_id"])?)
        }
    };
    let owned_by = match fields.object("ownedBy")? {
        None => None,
        Some(mut owner) => {
            let team = owner.required_text("team")?;
            owner.ignore(&["account"]);
            owner.finish()?;
            Some(team)
        }
    };
    let auto_rotate = match fields.object("auto_rotate")? {
        None => None,
        Some(mut rotate) => {
            let rotation = AutoRotate {
                interval_days: days(&mut rotate, "auto_rotate_interval", 30)?.unwrap_or(360),
                grace_days: days(&mut rotate, "grace_period", 1)?.unwrap_or(30),
            };
            rotate.finish()?;
            Some(rotation)
        }
    };
    if let Some(word) = fields.text("token_type")?
        && word != "jwt"
        && word != "opaque"
    {
        return Err(fields.refusal("token_type", "must be 'jwt' or 'opaque'; tokens are opaque here"));
    }
    let spec = VirtualAccountSpec {
        name: fields.required_text("name")?,
        expires_at,
        tags: fields.map("tags")?.unwrap_or_default(),
        owned_by,
        auto_rotate,
        permissions,
    };
    fields.ignore(&["identity_provider_mapping", "notification_target", "secret_store_config"]);
    Ok(spec)
}

fn permissions(list: Vec<Fields>, [fqn, kind, role]: [&str; 3]) -> Result<Vec<Permission>> {
    let one = |mut one: Fields| {
        let permission = Permission {
            resource_fqn: one.required_text(fqn)?,
            resource_type: one.required_text(kind)?,
            role_id: one.required_text(role)?,
        };
        one.finish()?;
        Ok(permission)
    };
    list.into_iter().map(one).collect()
}

fn role_binding(fields: &mut Fields) -> Result<RoleBindingSpec> {
    let name = fields.required_text("name")?;
    let inner = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let ends = name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.ends_with('-');
    if !(3..=66).contains(&name.len()) || !inner || !ends {
        return Err(fields.refusal(
            "name",
            "must have 3 to 66 lower-case letters, digits and hyphens, start with a letter and not end with a hyphen",
        ));
    }
    let mut subjects = Vec::new();
    for mut subject in fields.objects("subjects")?.unwrap_or_default() {
        let kind = subject.required_text("type")?;
        if !["user", "team", "virtualaccount"].contains(&kind.as_str()) {
            return Err(subject.refusal("type", "must be 'user', 'team' or 'virtualaccount'"));
        }
        subjects.push(format!("{kind}:{}", subject.required_text("name")?));
        subject.finish()?;
    }
    let list = fields.objects("permissions")?.unwrap_or_default();
    if subjects.is_empty() || list.is_empty() {
        return Err(fields.refusal("subjects", "and 'permissions' must each hold at least one entry"));
    }
    if subjects.len().saturating_mul(list.len()) > MAX_LIST {
        return Err(
            fields.refusal("subjects", &format!("times 'permissions' makes more than {MAX_LIST} grants"))
        );
    }
    let permissions = permissions(list, ["resourceFqn", "resourceType", "role"])?;
    Ok(RoleBindingSpec { name, subjects, permissions })
}

/// What becomes of calls under a budget while usage can not be written.
///
/// # Errors
/// When it is something else.
pub fn accounting_failure(fields: &mut Fields) -> Result<Option<AccountingFailure>> {
    match fields.text("limits_when_accounting_fails")? {
        None => Ok(None),
        Some(word) => match AccountingFailure::parse(&word) {
            Some(what) => Ok(Some(what)),
            None => Err(fields.refusal("limits_when_accounting_fails", "must be 'refuse' or 'serve'")),
        },
    }
}

/// Whose bodies are kept, as the contract's `logging_settings`.
///
/// # Errors
/// When it is something else.
pub fn logging_settings(fields: &mut Fields) -> Result<Option<BodyLogging>> {
    let Some(mut settings) = fields.object("logging_settings")? else { return Ok(None) };
    let read = match settings.required_text("type")?.as_str() {
        "always" => BodyLogging::Always,
        "never" => BodyLogging::Never,
        "header_controlled" => {
            BodyLogging::HeaderControlled { log_body_by_default: settings.flag("log_body_by_default")? }
        }
        _ => return Err(settings.refusal("type", "must be 'always', 'never' or 'header_controlled'")),
    };
    settings.finish()?;
    Ok(Some(read))
}

fn settings(fields: &mut Fields) -> Result<SettingsSpec> {
    let mut spec = SettingsSpec::default();
    fields.ignore(&["name"]);
    if fields.has("pat_max_validity_days") {
        spec.pat_max_validity_days = Some(days(fields, "pat_max_validity_days", 1)?);
    }
    if fields.has("pat_may_mint") {
        spec.pat_may_mint = Some(fields.flag("pat_may_mint")?);
    }
    if fields.has("audit_retention_days") {
        spec.audit_retention_days = Some(days(fields, "audit_retention_days", 1)?);
    }
    spec.limits_when_accounting_fails = accounting_failure(fields)?;
    spec.logging_settings = logging_settings(fields)?;
    Ok(spec)
}

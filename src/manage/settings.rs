//! What the organisation decides while the gateway runs.

use std::sync::Arc;

use super::draft::{Audited, Draft};
use super::{Manage, View, refused};
use crate::domain::{AccountingFailure, BodyLogging, Owner, Principal, Settings, Token};
use crate::failure::Failure;
use crate::store::{Key, Object, Versioned};

/// The longest that a setting in days can say.
const MAX_DAYS: u32 = 36_500;

/// Tokens that an answer names; there may be more.
const MAX_NAMED_TOKENS: usize = 100;

/// What is to change; what is `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct SettingsChange {
    /// `Some(None)` takes the bound away.
    pub pat_max_validity_days: Option<Option<u64>>,
    /// Whether a personal access token may make others.
    pub pat_may_mint: Option<bool>,
    /// `Some(None)` keeps audit entries for ever.
    pub audit_retention_days: Option<Option<u64>>,
    /// What becomes of calls under a budget while usage can not be written.
    pub limits_when_accounting_fails: Option<AccountingFailure>,
    /// Whose bodies are kept.
    pub logging_settings: Option<BodyLogging>,
    /// Tokens may end by it.
    pub yes: bool,
    /// Check only.
    pub dry_run: bool,
}

/// Settings as they are after a change, or would be.
#[derive(Clone, Debug)]
pub struct SettingsChanged {
    /// The settings.
    pub settings: Settings,
    /// Some of the personal access tokens that end by it, a hundred at most.
    pub ended: Vec<String>,
    /// How many end in all.
    pub ended_total: usize,
}

impl Manage {
    /// The settings as they are.
    ///
    /// # Errors
    /// When the principal manages nothing.
    pub fn settings(&self, principal: &Principal) -> Result<Arc<Settings>, Failure> {
        let view = self.view(principal)?;
        Ok(Arc::clone(&view.world.settings().value))
    }

    /// Changes settings. What would end tokens now is a conflict until the caller says yes.
    ///
    /// # Errors
    /// When the caller may not, a value is out of its range, or tokens would end and nobody said yes.
    pub fn change_settings(
        &self,
        principal: &Principal,
        change: &SettingsChange,
    ) -> Result<SettingsChanged, Failure> {
        self.change(principal, |view| {
            view.require_admin()?;
            let old = view.world.settings();
            let mut settings = Settings::clone(old);
            if let Some(days) = change.pat_max_validity_days {
                settings.pat_max_validity_days = checked_days("pat_max_validity_days", days)?;
            }
            if let Some(may) = change.pat_may_mint {
                settings.pat_may_mint = may;
            }
            if let Some(days) = change.audit_retention_days {
                settings.audit_retention_days = checked_days("audit_retention_days", days)?;
            }
            settings.keep_ended(old, view.now);
            if let Some(what) = change.limits_when_accounting_fails {
                settings.limits_when_accounting_fails = what;
            }
            settings.logging_settings = change.logging_settings.unwrap_or(settings.logging_settings);
            let (ended, ended_total) = ended_by(view, &settings);
            let mut draft = Draft::default();
            if settings != **old && !change.dry_run {
                if ended_total > 0 && !change.yes {
                    return Err(Failure::Conflict(
                        format!(
                            "{ended_total} tokens would end now: {}{}; send \"yes\": true (--yes) to end them",
                            ended.join(", "),
                            if ended_total > ended.len() { " and more" } else { "" }
                        )
                        .into(),
                    ));
                }
                draft.audit(view, "settings.update", &Key::settings(), old.audited(), settings.audited());
                let object = Object::Settings(settings.clone());
                if old.revision == 0 {
                    draft.create(object);
                } else {
                    draft.replace(object, old.revision);
                }
            }
            Ok((draft, SettingsChanged { settings, ended, ended_total }))
        })
    }
}

fn checked_days(name: &str, days: Option<u64>) -> Result<Option<u32>, Failure> {
    let wrong = || refused(format!("{name} must be from 1 to {MAX_DAYS}, or null for no bound"));
    match days {
        None => Ok(None),
        Some(days) => match u32::try_from(days) {
            Ok(days) if (1..=MAX_DAYS).contains(&days) => Ok(Some(days)),
            _ => Err(wrong()),
        },
    }
}

/// The personal access tokens that work now and would not with these settings: some of them, and how many.
pub(super) fn ended_by(view: &View, settings: &Settings) -> (Vec<String>, usize) {
    if settings.pat_max_validity_days == view.world.settings().pat_max_validity_days {
        return (Vec::new(), 0);
    }
    let ends = |token: &&Versioned<Token>| {
        matches!(token.owner, Owner::User(_))
            && !token.is_over(view.world.settings(), view.now)
            && token.is_over(settings, view.now)
    };
    let mut named = Vec::new();
    let mut total = 0;
    for token in view.world.tokens().filter(ends) {
        if named.len() < MAX_NAMED_TOKENS {
            named.push(token.id.to_string());
        }
        total += 1;
    }
    (named, total)
}

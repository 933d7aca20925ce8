//! Whether the bodies of a call are kept: what the tenant, the provider account and the caller say of it, in one function.

use serde::{Deserialize, Serialize};

/// When the bodies of calls are kept, for a tenant or for one provider account. The words are those of the contract's
/// `logging_settings`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum BodyLogging {
    /// Those of every call, whatever its caller says.
    Always,
    /// None, whatever anyone says.
    Never,
    /// As the caller's headers say.
    HeaderControlled {
        /// What holds for a call whose headers say nothing.
        log_body_by_default: bool,
    },
}

impl Default for BodyLogging {
    /// Only where a caller asks for it.
    fn default() -> Self {
        Self::HeaderControlled { log_body_by_default: false }
    }
}

impl BodyLogging {
    /// What holds for calls on an account: `never` of either wins, then the account's own setting, then the tenant's.
    pub fn in_force(tenant: Self, account: Option<Self>) -> Self {
        if tenant == Self::Never || account == Some(Self::Never) {
            Self::Never
        } else {
            account.unwrap_or(tenant)
        }
    }

    /// Whether the bodies of a call are kept. `asked` is what its headers say, and is looked at only where it counts.
    ///
    /// # Errors
    /// Those of `asked`.
    pub fn decide<E>(self, asked: impl FnOnce() -> Result<Option<bool>, E>) -> Result<bool, E> {
        match self {
            Self::Always => Ok(true),
            Self::Never => Ok(false),
            Self::HeaderControlled { log_body_by_default } => Ok(asked()?.unwrap_or(log_body_by_default)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_the_last_word() {
        use BodyLogging::{Always, HeaderControlled, Never};
        let off = HeaderControlled { log_body_by_default: false };
        let on = HeaderControlled { log_body_by_default: true };
        // Kept without a word of the caller, with a yes, with a no.
        let (never, always, caller, unless_no) =
            ([false; 3], [true; 3], [false, true, false], [true, true, false]);
        for (tenant, account, wanted) in [
            (Never, None, never),
            (Never, Some(Never), never),
            (Never, Some(Always), never),
            (Never, Some(off), never),
            (Never, Some(on), never),
            (Always, None, always),
            (Always, Some(Never), never),
            (Always, Some(Always), always),
            (Always, Some(off), caller),
            (Always, Some(on), unless_no),
            (off, None, caller),
            (off, Some(Never), never),
            (off, Some(Always), always),
            (off, Some(off), caller),
            (off, Some(on), unless_no),
            (on, None, unless_no),
            (on, Some(Never), never),
            (on, Some(Always), always),
            (on, Some(off), caller),
            (on, Some(on), unless_no),
        ] {
            let got = [None, Some(true), Some(false)]
                .map(|asked| BodyLogging::in_force(tenant, account).decide(|| Ok::<_, ()>(asked)).unwrap());
            assert_eq!(got, wanted, "{tenant:?} {account:?}");
        }
        assert_eq!(BodyLogging::default(), off);
    }

    #[test]
    fn a_broken_header_counts_only_where_headers_do() {
        let broken = || Err("broken");
        assert_eq!(BodyLogging::Always.decide(broken), Ok(true));
        assert_eq!(BodyLogging::Never.decide(broken), Ok(false));
        assert_eq!(BodyLogging::default().decide(broken), Err("broken"));
    }

    #[test]
    fn stored_as_the_contract_writes_it() {
        for (setting, text) in [
            (BodyLogging::Always, r#"{"type":"always"}"#),
            (BodyLogging::Never, r#"{"type":"never"}"#),
            (BodyLogging::default(), r#"{"type":"header_controlled","log_body_by_default":false}"#),
        ] {
            assert_eq!(serde_json::to_string(&setting).unwrap(), text);
            assert_eq!(serde_json::from_str::<BodyLogging>(text).unwrap(), setting);
        }
        for wrong in [r#"{"type":"maybe"}"#, r#"{"type":"header_controlled"}"#, "{}", "\"always\""] {
            assert!(serde_json::from_str::<BodyLogging>(wrong).is_err(), "{wrong}");
        }
    }
}

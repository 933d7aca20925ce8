//! The tokens of a virtual account, as the public contract asks for them.

use super::{Call, Result, done, token};
use crate::domain::Principal;
use crate::failure::Failure;

/// Whether reading this path makes a token: then a HEAD, whose answer nobody sees, must not count as a read.
pub fn mints_when_read(path: &str) -> bool {
    path.ends_with("/token")
}

pub fn first(call: &Call, principal: &Principal) -> Result {
    token::shown_once(&call.manage.first_virtual_token(principal, call.id())?)
}

pub fn regenerate(call: &Call, principal: &Principal) -> Result {
    call.manage.require_admin(principal)?;
    let mut fields = call.fields()?;
    let minutes = match (fields.count("gracePeriodInMinutes")?, fields.count("gracePeriodInDays")?) {
        (Some(minutes), None) => minutes,
        (None, Some(days)) => days.saturating_mul(24 * 60),
        (None, None) => {
            return Err(Failure::BadRequest("The field 'gracePeriodInMinutes' is missing".into()));
        }
        (Some(_), Some(_)) => {
            return Err(Failure::BadRequest(
                "Give 'gracePeriodInMinutes' or 'gracePeriodInDays', not both".into(),
            ));
        }
    };
    fields.finish()?;
    token::shown_once(&call.manage.regenerate_virtual_token(principal, call.id(), minutes)?)
}

pub fn revoke(call: &Call, principal: &Principal) -> Result {
    call.manage.revoke_virtual_token(principal, call.id(), call.second_id())?;
    done()
}

//! Bearer token to principal. Knows headers and tokens; knows nothing of what is asked for.

use std::sync::Arc;

use crate::clock::UnixMillis;
use crate::domain::{Owner, Principal};
use crate::id::TokenId;
use crate::store::World;
use crate::token::{self, TokenKind};

/// No token, or one that is malformed, unknown, revoked, expired, or whose owner is gone or inactive. Callers
/// hear the same words for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unauthenticated;

/// Finds who stands behind a token text.
///
/// # Errors
/// [`Unauthenticated`], whatever the reason.
pub fn authenticate(token_text: &str, world: &World, now: UnixMillis) -> Result<Principal, Unauthenticated> {
    let presented = token::parse(token_text).ok_or(Unauthenticated)?;
    let token_id = TokenId::parse(presented.id).map_err(|_| Unauthenticated)?;
    let token = world.token_of_id(&token_id).ok_or(Unauthenticated)?;
    if !presented.matches(&token.secret_hash) {
        return Err(Unauthenticated);
    }
    if token.is_over(world.settings(), now) {
        return Err(Unauthenticated);
    }
    match (&token.owner, presented.kind) {
        (Owner::User(email), TokenKind::Personal) => {
            let user = world.user(email.as_str()).filter(|user| user.active).ok_or(Unauthenticated)?;
            Ok(Principal::User { user: Arc::clone(&user.value), token_id })
        }
        (Owner::VirtualAccount(name), TokenKind::Virtual) => {
            let account = world.virtual_account(name.as_str()).ok_or(Unauthenticated)?;
            if account.expires_at.is_some_and(|end| end <= now) {
                return Err(Unauthenticated);
            }
            Ok(Principal::VirtualAccount { account: Arc::clone(&account.value), token_id })
        }
        _ => Err(Unauthenticated),
    }
}

/// The principal of a call in flight as the present state has it; `None` when its token, owner or validity is
/// gone.
pub fn still_valid(principal: &Principal, world: &World, now: UnixMillis) -> Option<Principal> {
    let token = world.token(principal.token_id()?.as_str())?;
    if token.is_over(world.settings(), now) {
        return None;
    }
    let token_id = token.id.clone();
    match &token.owner {
        Owner::User(email) => {
            let user = world.user(email.as_str()).filter(|user| user.active)?;
            Some(Principal::User { user: Arc::clone(&user.value), token_id })
        }
        Owner::VirtualAccount(name) => {
            let account = world.virtual_account(name.as_str())?;
            if account.expires_at.is_some_and(|end| end <= now) {
                return None;
            }
            Some(Principal::VirtualAccount { account: Arc::clone(&account.value), token_id })
        }
    }
}

/// When the token, or the virtual account behind it, ends; `None` for never.
pub fn expiry(principal: &Principal, world: &World) -> Option<UnixMillis> {
    let token = world.token(principal.token_id()?.as_str())?.end(world.settings());
    let owner = match principal {
        Principal::VirtualAccount { account, .. } => account.expires_at,
        _ => None,
    };
    token.into_iter().chain(owner).min()
}

/// The token text of an `Authorization` header: `Bearer TOKEN`, the scheme in any case.
pub fn bearer(header: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(header).ok()?;
    let (scheme, rest) = text.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim())
}

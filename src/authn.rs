//! Bearer token to principal. Knows headers and tokens; knows nothing of what is asked for.

use std::sync::Arc;

use crate::clock::UnixMillis;
use crate::domain::{Owner, Principal, Session};
use crate::id::TokenId;
use crate::secret::SecretHash;
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

/// Finds who stands behind the cookie of a browser's session, `ID.SECRET`. Whether it idled for too long is the
/// console's to say.
///
/// # Errors
/// [`Unauthenticated`], whatever the reason.
pub fn authenticate_session(
    cookie: &str,
    world: &World,
    now: UnixMillis,
) -> Result<Principal, Unauthenticated> {
    let (id, secret) = cookie.split_once('.').ok_or(Unauthenticated)?;
    let id = TokenId::parse(id).map_err(|_| Unauthenticated)?;
    let session = world.session(&id).ok_or(Unauthenticated)?;
    if SecretHash::of(secret) != session.secret_hash {
        return Err(Unauthenticated);
    }
    of_session(session, world, now).ok_or(Unauthenticated)
}

/// Whom a session stands for: an active user, and where it was born of a token only while that lives.
fn of_session(session: &Session, world: &World, now: UnixMillis) -> Option<Principal> {
    let born_of = match &session.token {
        Some(id) => Some(world.token_of_id(id)?),
        None => None,
    };
    let is_over =
        session.expires_at <= now || born_of.is_some_and(|token| token.is_over(world.settings(), now));
    let user = world.user(session.user.as_str()).filter(|user| user.active && !is_over)?;
    Some(Principal::User { user: Arc::clone(&user.value), token_id: session.id.clone() })
}

/// The principal of a call in flight as the present state has it; `None` when its token or session, owner or validity
/// is gone.
pub fn still_valid(principal: &Principal, world: &World, now: UnixMillis) -> Option<Principal> {
    let id = principal.token_id()?;
    let Some(token) = world.token_of_id(id) else {
        return of_session(world.session(id)?, world, now);
    };
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
    let id = principal.token_id()?;
    if let Some(session) = world.session(id) {
        let token = session.token.as_ref().and_then(|id| world.token_of_id(id)?.end(world.settings()));
        return token.into_iter().chain([session.expires_at]).min();
    }
    let token = world.token_of_id(id)?.end(world.settings());
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

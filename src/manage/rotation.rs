//! Rotation by itself: when the current token of a virtual account is as old as the account lets it become.
//!
//! Nobody is there to be shown a new secret, so none is made: the old tokens get an end, and the account's next read of
//! its token mints the new one. Until then the account is *between tokens*.

use std::time::Duration;

use serde_json::json;

use super::draft::{Audited, Draft};
use super::token::{in_grace, is_over};
use super::virtual_token::shorten;
use super::{Manage, View};
use crate::clock::UnixMillis;
use crate::domain::{AutoRotate, Owner, Settings, Token, VirtualAccount};
use crate::id::TokenId;
use crate::store::{CommitError, Key, Object, Versioned, World};

/// Accounts that one run rotates; the next run takes more.
const MAX_ROTATED: usize = 500;

impl Manage {
    /// Rotates the virtual accounts that are due, each in a commit of its own; how many. What could not be written is
    /// tried again by the next run. Waits for the disk: for an OS thread.
    pub fn rotate_due(&self, now: UnixMillis) -> usize {
        let world = self.store.snapshot();
        let due = world.virtual_accounts().filter_map(|account| rotation(&world, account, now));
        let mut rotated = 0;
        for (account, draft, end) in due.take(MAX_ROTATED) {
            let Some(change) = draft.into_change() else { continue };
            match self.store.commit(change) {
                Ok(_) => {
                    rotated += 1;
                    log::warn!(
                        "the virtual account '{account}' is due for a new token: its old one works until {}; read /virtual-accounts/{account}/token for the new one",
                        end.to_iso()
                    );
                }
                Err(CommitError::Conflict(_)) => log::debug!("'{account}' changed meanwhile; looking again"),
                Err(_) => {
                    log::warn!("the tokens of '{account}' could not be rotated; the next run tries again");
                    break;
                }
            }
        }
        rotated
    }
}

/// The rotation of an account that is due, and when its old tokens end at the latest.
fn rotation<'w>(
    world: &'w World,
    account: &'w Versioned<VirtualAccount>,
    now: UnixMillis,
) -> Option<(&'w str, Draft, UnixMillis)> {
    let rotate = account.auto_rotate?;
    let owner = Owner::VirtualAccount(account.name.clone());
    let settings = world.settings();
    let newest = current(world.tokens_of(&owner), settings, now)?;
    let is_rotated = !account.had_token && newest.expires_at.is_some();
    let is_expired = account.expires_at.is_some_and(|end| end <= now);
    if is_rotated || is_expired || next(rotate, newest) > now {
        return None;
    }
    let grace_end = now.plus(days(rotate.grace_days));
    let mut draft = Draft::default();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    // All that work are at least as old as the newest.
    for old in world.tokens_of(&owner).filter(|token| is_current(token, settings, now)) {
        let end = old.expires_at.map_or(grace_end, |end| end.min(grace_end));
        let ending = Token { expires_at: Some(end), ..Token::clone(old) };
        before.push(old.audited());
        after.push(ending.audited());
        draft.replace(Object::Token(ending), old.revision);
    }
    let waiting = VirtualAccount { had_token: false, ..VirtualAccount::clone(account) };
    draft.replace(Object::VirtualAccount(waiting), account.revision);
    let key = Key::virtual_account(account.name.as_str());
    draft.audit_by_gateway(
        now,
        "token.auto-rotate",
        &key,
        json!({"tokens": before}),
        json!({"tokens": after}),
    );
    let end = newest.expires_at.map_or(grace_end, |end| end.min(grace_end));
    Some((account.name.as_str(), draft, end))
}

fn days(count: u32) -> Duration {
    Duration::from_secs(u64::from(count).saturating_mul(86_400))
}

fn is_current(token: &Token, settings: &Settings, now: UnixMillis) -> bool {
    token.replaced_by.is_none() && !token.is_over(settings, now)
}

/// The newest token that works and has no successor.
pub(super) fn current<'w>(
    tokens: impl Iterator<Item = &'w Versioned<Token>>,
    settings: &Settings,
    now: UnixMillis,
) -> Option<&'w Versioned<Token>> {
    tokens.filter(|token| is_current(token, settings, now)).max_by_key(|token| token.created_at)
}

/// When a token is to be rotated.
pub(super) fn next(rotate: AutoRotate, token: &Token) -> UnixMillis {
    token.created_at.plus(days(rotate.interval_days))
}

/// Whether the tokens of an owner were given an end by rotation, and nobody took the new one yet.
pub(super) fn is_between_tokens(view: &View, owner: &Owner) -> bool {
    let Owner::VirtualAccount(name) = owner else { return false };
    view.world
        .virtual_account(name.as_str())
        .is_some_and(|account| account.auto_rotate.is_some() && !account.had_token)
}

/// Of an account between tokens: the old ones have a successor now. With a grace they end by it at the latest.
pub(super) fn settle(
    draft: &mut Draft,
    view: &View,
    owner: &Owner,
    successor: &TokenId,
    grace_minutes: Option<u64>,
) {
    if !is_between_tokens(view, owner) {
        return;
    }
    for old in view.world.tokens_of(owner) {
        if old.replaced_by.is_some() || old.expires_at.is_none() || is_over(view, old) {
            continue;
        }
        let replaced_by = Some(successor.clone());
        let kept = match grace_minutes {
            Some(minutes) => in_grace(view, old, minutes, replaced_by),
            None => Token { replaced_by, ..Token::clone(old) },
        };
        // What the operation has written already it has told of too.
        if draft.writes(&Key::token(old.id.as_str())) {
            continue;
        }
        if (kept.expires_at, kept.revoked_at) == (old.expires_at, old.revoked_at) {
            draft.replace(Object::Token(kept), old.revision);
        } else {
            shorten(draft, view, old, kept);
        }
    }
}

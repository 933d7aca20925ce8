//! Tokens of users and virtual accounts.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::draft::{Audited, Draft};
use super::{Listing, Manage, Page, View, invalid, not_found, refused, user};
use crate::authz::{self, Action, Resource};
use crate::clock::UnixMillis;
use crate::domain::{Owner, Principal, Token};
use crate::failure::Failure;
use crate::id::{Email, SlugName, TokenId};
use crate::secret::Secret;
use crate::store::{Key, Object, Versioned};
use crate::token::{TokenKind, mint};

/// Tokens that one owner may have.
const MAX_TOKENS: usize = 100;

/// The longest validity that can be asked for, and the longest grace.
const MAX_VALID_DAYS: u64 = 36_500;
const MAX_GRACE_MINUTES: u64 = 365 * 24 * 60;

/// Whose token, as a caller names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenOwner {
    /// A user by email.
    User(String),
    /// A virtual account by name.
    VirtualAccount(String),
}

/// How long a token works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Until it is revoked.
    Unlimited,
    /// Until that time.
    Until(UnixMillis),
    /// So many days from now.
    Days(u64),
}

/// A token to be made.
#[derive(Debug)]
pub struct NewToken {
    /// Whose.
    pub owner: TokenOwner,
    /// What its owner calls it.
    pub name: String,
    /// How long.
    pub validity: Validity,
}

/// A new token and its text, which nothing shows again.
#[derive(Debug)]
pub struct Minted {
    /// The text.
    pub text: Secret,
    /// What is kept.
    pub token: Token,
}

impl Manage {
    /// The tokens that the caller may see, of one owner or of all.
    ///
    /// # Errors
    /// When the principal manages nothing.
    pub fn tokens(
        &self,
        principal: &Principal,
        owner: Option<&TokenOwner>,
        page: Page,
    ) -> Result<Listing<Arc<Token>>, Failure> {
        let view = self.view(principal)?;
        let seen = |token: &&Versioned<Token>| authz::may_see_token(&view.principal, token);
        let owner = match owner {
            Some(TokenOwner::User(email)) => Email::parse(email).ok().map(Owner::User).map(Some),
            Some(TokenOwner::VirtualAccount(name)) => {
                SlugName::parse(name).ok().map(Owner::VirtualAccount).map(Some)
            }
            None => Some(None),
        };
        Ok(match owner {
            // Nobody has such a name.
            None => Listing { items: Vec::new(), total: 0 },
            Some(Some(owner)) => {
                page.cut(view.world.tokens_of(&owner).filter(seen).map(|token| Arc::clone(&token.value)))
            }
            Some(None) => page.cut(view.world.tokens().filter(seen).map(|token| Arc::clone(&token.value))),
        })
    }

    /// One token.
    ///
    /// # Errors
    /// When there is none that the caller may see.
    pub fn token(&self, principal: &Principal, id: &str) -> Result<Arc<Token>, Failure> {
        let view = self.view(principal)?;
        visible(&view, id).map(|token| Arc::clone(&token.value))
    }

    /// Makes a token for a user or a virtual account.
    ///
    /// # Errors
    /// When the caller may not, the owner can have none, or the name is taken.
    pub fn create_token(&self, principal: &Principal, new: &NewToken) -> Result<Minted, Failure> {
        self.change(principal, |view| {
            view.require_admin()?;
            let name = SlugName::parse(&new.name).map_err(invalid)?;
            let expires_at = expiry(new.validity, view.now)?;
            let mut draft = Draft::default();
            let owner = match &new.owner {
                TokenOwner::User(email) => Owner::User(Email::parse(email).map_err(invalid)?),
                TokenOwner::VirtualAccount(name) => {
                    Owner::VirtualAccount(SlugName::parse(name).map_err(invalid)?)
                }
            };
            guard_owner(&mut draft, view, &owner)?;
            if view.world.tokens_of(&owner).any(|other| other.name == name && !is_over(other, view.now)) {
                return Err(Failure::Conflict(
                    format!("{} has a token '{name}' already; revoke or rotate that one", owner.subject())
                        .into(),
                ));
            }
            make_room(&mut draft, view, &owner)?;
            let minted = mint_for(view, owner, name, expires_at, None)?;
            let key = Key::token(minted.token.id.as_str());
            draft.audit(view, "token.create", &key, Value::Null, minted.token.audited());
            draft.create(Object::Token(minted.token.clone()));
            Ok((draft, minted))
        })
    }

    /// Ends a token.
    ///
    /// # Errors
    /// When there is none that the caller may see.
    pub fn revoke_token(&self, principal: &Principal, id: &str) -> Result<(), Failure> {
        self.change(principal, |view| {
            // Who sees a token owns it or is an admin, and both may end it.
            let token = visible(view, id)?;
            let mut draft = Draft::default();
            let key = Key::token(id);
            draft.audit(view, "token.revoke", &key, token.audited(), Value::Null);
            draft.delete(key, token.revision);
            Ok((draft, ()))
        })
    }

    /// Makes a successor of a token, with its name and its end. The old one works for the grace period more.
    ///
    /// # Errors
    /// When the caller may not, the token is over or has a successor, or its owner can have none.
    pub fn rotate_token(
        &self,
        principal: &Principal,
        id: &str,
        grace_minutes: u64,
    ) -> Result<Minted, Failure> {
        self.change(principal, |view| {
            let old = visible(view, id)?;
            view.require_admin()?;
            if grace_minutes > MAX_GRACE_MINUTES {
                return Err(refused(format!("gracePeriodInMinutes is more than {MAX_GRACE_MINUTES}")));
            }
            if is_over(old, view.now) {
                return Err(Failure::Conflict("The token has expired; create a new one".into()));
            }
            if let Some(next) =
                view.world.tokens_of(&old.owner).find(|t| t.replaces.as_ref() == Some(&old.id))
            {
                return Err(Failure::Conflict(
                    format!("The token was rotated already; its successor is {}", next.id).into(),
                ));
            }
            let mut draft = Draft::default();
            guard_owner(&mut draft, view, &old.owner)?;
            make_room(&mut draft, view, &old.owner)?;
            let minted =
                mint_for(view, old.owner.clone(), old.name.clone(), old.expires_at, Some(old.id.clone()))?;
            let grace_end = view.now.plus(Duration::from_secs(grace_minutes.saturating_mul(60)));
            let key = Key::token(id);
            let after = if grace_minutes == 0 {
                draft.delete(key.clone(), old.revision);
                Value::Null
            } else {
                let end = old.expires_at.map_or(grace_end, |end| end.min(grace_end));
                let kept = Token { expires_at: Some(end), ..Token::clone(old) };
                let json = kept.audited();
                draft.replace(Object::Token(kept), old.revision);
                json
            };
            let after = json!({"old": after, "new": minted.token.audited()});
            draft.audit(view, "token.rotate", &key, json!({"old": old.audited()}), after);
            draft.create(Object::Token(minted.token.clone()));
            Ok((draft, minted))
        })
    }
}

fn visible<'v>(view: &'v View, id: &str) -> Result<&'v Versioned<Token>, Failure> {
    let token = view.world.token(id).filter(|_| view.may(Action::See, Resource::Token(id)));
    token.ok_or_else(|| not_found("token", id))
}

fn is_over(token: &Token, now: UnixMillis) -> bool {
    token.expires_at.is_some_and(|end| end <= now)
}

fn expiry(validity: Validity, now: UnixMillis) -> Result<Option<UnixMillis>, Failure> {
    match validity {
        Validity::Unlimited => Ok(None),
        Validity::Until(end) if end > now => Ok(Some(end)),
        Validity::Until(_) => Err(refused("expirationDate is in the past")),
        Validity::Days(days) if (1..=MAX_VALID_DAYS).contains(&days) => {
            Ok(Some(now.plus(Duration::from_secs(days.saturating_mul(86_400)))))
        }
        Validity::Days(_) => Err(refused(format!("validDays must be from 1 to {MAX_VALID_DAYS}"))),
    }
}

/// Makes sure that an owner is there and may have tokens, and stays so.
fn guard_owner(draft: &mut Draft, view: &View, owner: &Owner) -> Result<(), Failure> {
    match owner {
        Owner::User(email) => {
            let user = user::named(view, email.as_str())?;
            if !user.active {
                return Err(refused(format!("'{email}' is deactivated and can have no token")));
            }
            draft.guard_user(user);
        }
        Owner::VirtualAccount(name) => {
            let account = view.world.virtual_account(name.as_str());
            let account = account.ok_or_else(|| refused(format!("There is no virtual account '{name}'")))?;
            draft.guard_virtual_account(account);
        }
    }
    Ok(())
}

/// Keeps the number of an owner's tokens bounded: when it is full, those that are over make room.
fn make_room(draft: &mut Draft, view: &View, owner: &Owner) -> Result<(), Failure> {
    let all = view.world.tokens_of(owner).count();
    if all < MAX_TOKENS {
        return Ok(());
    }
    let mut removed = 0;
    for token in view.world.tokens_of(owner).filter(|token| is_over(token, view.now)) {
        draft.delete(Key::token(token.id.as_str()), token.revision);
        removed += 1;
    }
    if all - removed < MAX_TOKENS {
        Ok(())
    } else {
        Err(refused(format!("{} has {MAX_TOKENS} tokens; revoke some first", owner.subject())))
    }
}

fn mint_for(
    view: &View,
    owner: Owner,
    name: SlugName,
    expires_at: Option<UnixMillis>,
    replaces: Option<TokenId>,
) -> Result<Minted, Failure> {
    let kind = match &owner {
        Owner::User(_) => TokenKind::Personal,
        Owner::VirtualAccount(_) => TokenKind::Virtual,
    };
    let (id, text, secret_hash) = mint(kind).map_err(|_| Failure::Internal)?;
    let created_by = view.principal.subject_text();
    let token = Token {
        id,
        owner,
        name,
        secret_hash,
        expires_at,
        created_at: view.now,
        created_by,
        replaces,
        replaced_by: None,
        revoked_at: None,
    };
    Ok(Minted { text, token })
}

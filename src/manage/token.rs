//! Tokens of users and virtual accounts.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::draft::{Audited, Draft};
use super::rotation::{is_between_tokens, settle};
use super::{Listing, Manage, Page, View, invalid, not_found, refused, user};
use crate::authz::{self, Action, Resource};
use crate::clock::UnixMillis;
use crate::domain::{Owner, Principal, Token, TokenState, VirtualAccount};
use crate::failure::Failure;
use crate::id::{Email, SlugName, TokenId};
use crate::secret::Secret;
use crate::store::{Key, Object, Versioned};
use crate::token::{TokenKind, mint};

/// Tokens that one owner may have.
const MAX_TOKENS: usize = 100;

/// The longest validity that can be asked for, and the longest grace.
const MAX_VALID_DAYS: u64 = 36_500;
pub(super) const MAX_GRACE_MINUTES: u64 = 365 * 24 * 60;

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

/// A token and what became of it.
#[derive(Clone, Debug)]
pub struct TokenView {
    /// What is kept.
    pub token: Arc<Token>,
    /// When it really ends: by itself, by the settings, or with its virtual account.
    pub end: Option<UnixMillis>,
    /// What became of it.
    pub state: TokenState,
    /// When it was last used, to the minute.
    pub last_used: Option<UnixMillis>,
}

/// A new token and its text, which nothing shows again.
#[derive(Debug)]
pub struct Minted {
    /// The text.
    pub text: Secret,
    /// What is kept.
    pub token: TokenView,
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
    ) -> Result<Listing<TokenView>, Failure> {
        let view = self.view(principal)?;
        let seen = |token: &&Versioned<Token>| authz::may_see_token(&view.principal, token);
        let owner = match owner {
            Some(TokenOwner::User(email)) => Email::parse(email).ok().map(Owner::User).map(Some),
            Some(TokenOwner::VirtualAccount(name)) => {
                SlugName::parse(name).ok().map(Owner::VirtualAccount).map(Some)
            }
            // One's own, without a look at those of everyone else.
            None => Some(match &view.principal {
                Principal::User { user, .. } if !authz::is_admin(&view.principal) => {
                    Some(Owner::User(user.email.clone()))
                }
                _ => None,
            }),
        };
        let listing = match owner {
            // Nobody has such a name.
            None => Listing { items: Vec::new(), total: 0 },
            Some(Some(owner)) => page.cut(view.world.tokens_of(&owner).filter(seen)),
            Some(None) => page.cut(view.world.tokens().filter(seen)),
        };
        Ok(self.shown_tokens(&view, listing))
    }

    /// Adds to tokens what became of them.
    pub(super) fn shown_tokens(
        &self,
        view: &View,
        listing: Listing<&Versioned<Token>>,
    ) -> Listing<TokenView> {
        let items = listing.items.into_iter().map(|token| self.shown_token(view, &token.value)).collect();
        Listing { items, total: listing.total }
    }

    pub(super) fn shown_token(&self, view: &View, token: &Arc<Token>) -> TokenView {
        let account_end = match &token.owner {
            Owner::VirtualAccount(name) => {
                view.world.virtual_account(name.as_str()).and_then(|account| account.expires_at)
            }
            Owner::User(_) => None,
        };
        let end = token.end(view.world.settings()).into_iter().chain(account_end).min();
        TokenView {
            token: Arc::clone(token),
            end,
            state: token.state(end, view.now),
            last_used: self.usage.last_used(&token.id),
        }
    }

    /// One token.
    ///
    /// # Errors
    /// When there is none that the caller may see.
    pub fn token(&self, principal: &Principal, id: &str) -> Result<TokenView, Failure> {
        let view = self.view(principal)?;
        visible(&view, id).map(|token| self.shown_token(&view, &token.value))
    }

    /// Refuses those who may make no token at all, before a body is looked at. The operations check again.
    ///
    /// # Errors
    /// When the caller is one.
    pub fn require_minting(&self, principal: &Principal) -> Result<(), Failure> {
        let view = self.view(principal)?;
        let session = view.principal.token_id().and_then(|id| view.world.session(id));
        let is_free = session.is_some_and(|session| session.token.is_none());
        if is_free || view.world.settings().pat_may_mint { Ok(()) } else { view.require_admin() }
    }

    /// Makes a token for a user or a virtual account.
    ///
    /// # Errors
    /// When the caller may not, the owner can have none, or the name is taken.
    pub fn create_token(&self, principal: &Principal, new: &NewToken) -> Result<Minted, Failure> {
        self.change(principal, |view| {
            let mut draft = Draft::default();
            let own = is_own(view, &new.owner);
            if !own {
                view.require_admin()?;
            }
            let longest = match &new.owner {
                TokenOwner::User(_) => may_mint_personal(&mut draft, view)?,
                TokenOwner::VirtualAccount(_) => None,
            };
            let name = SlugName::parse(&new.name).map_err(invalid)?;
            let expires_at = within(expiry(new.validity, view.now)?, longest)?;
            let owner = match &new.owner {
                TokenOwner::User(email) => Owner::User(Email::parse(email).map_err(invalid)?),
                TokenOwner::VirtualAccount(name) => {
                    Owner::VirtualAccount(SlugName::parse(name).map_err(invalid)?)
                }
            };
            guard_owner(&mut draft, view, &owner)?;
            check_name(view, &owner, &name)?;
            self.mint_new(draft, view, owner, name, expires_at)
        })
    }

    /// Drafts a token that replaces none.
    pub(super) fn mint_new(
        &self,
        mut draft: Draft,
        view: &View,
        owner: Owner,
        name: SlugName,
        expires_at: Option<UnixMillis>,
    ) -> Result<(Draft, Minted), Failure> {
        make_room(&mut draft, view, &owner)?;
        let (text, token) = mint_for(view, owner, name, expires_at, None)?;
        let key = Key::token(token.id.as_str());
        draft.audit(view, "token.create", &key, Value::Null, token.audited());
        draft.create(Object::Token(token.clone()));
        settle(&mut draft, view, &token.owner, &token.id, None);
        let minted = Minted { text, token: self.shown_token(view, &Arc::new(token)) };
        Ok((draft, minted))
    }

    /// Gives a token another name.
    ///
    /// # Errors
    /// When there is none that the caller may see, it is over, or the name is taken.
    pub fn rename_token(&self, principal: &Principal, id: &str, name: &str) -> Result<TokenView, Failure> {
        self.change(principal, |view| {
            let token = visible(view, id)?;
            let name = SlugName::parse(name).map_err(invalid)?;
            let mut draft = Draft::default();
            if token.name == name {
                return Ok((draft, self.shown_token(view, &token.value)));
            }
            if is_over(view, token) {
                return Err(Failure::Conflict("The token is over; it keeps its name".into()));
            }
            guard_owner(&mut draft, view, &token.owner)?;
            check_name(view, &token.owner, &name)?;
            let after = Token { name, ..Token::clone(token) };
            draft.audit(view, "token.rename", &Key::token(id), token.audited(), after.audited());
            draft.replace(Object::Token(after.clone()), token.revision);
            Ok((draft, self.shown_token(view, &Arc::new(after))))
        })
    }

    /// Ends a token. It is kept for a while, so that lists show what became of it.
    ///
    /// # Errors
    /// When there is none that the caller may see, or it is revoked already.
    pub fn revoke_token(&self, principal: &Principal, id: &str) -> Result<(), Failure> {
        self.change(principal, |view| {
            // Who sees a token owns it or is an admin, and both may end it.
            let token = visible(view, id)?;
            let mut draft = Draft::default();
            revoke(&mut draft, view, token)?;
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
            let mut draft = Draft::default();
            let longest = match &old.owner {
                Owner::User(_) => may_mint_personal(&mut draft, view)?,
                Owner::VirtualAccount(_) => None,
            };
            check_grace(grace_minutes)?;
            if is_over(view, old) {
                return Err(Failure::Conflict("The token is over; create a new one".into()));
            }
            if let Some(next) = &old.replaced_by {
                return Err(Failure::Conflict(
                    format!("The token was rotated already; its successor is {next}").into(),
                ));
            }
            guard_owner(&mut draft, view, &old.owner)?;
            let (mut draft, minted) = self.succeed(draft, view, old, grace_minutes, longest)?;
            settle(&mut draft, view, &old.owner, &minted.token.token.id, None);
            Ok((draft, minted))
        })
    }

    /// Drafts the successor of a token. The new one ends at `longest` at the latest.
    pub(super) fn succeed(
        &self,
        mut draft: Draft,
        view: &View,
        old: &Versioned<Token>,
        grace_minutes: u64,
        longest: Option<UnixMillis>,
    ) -> Result<(Draft, Minted), Failure> {
        make_room(&mut draft, view, &old.owner)?;
        // An end that rotation gave is the old one's alone.
        let own = old.expires_at.filter(|_| !is_between_tokens(view, &old.owner));
        let end = own.into_iter().chain(longest).min();
        let (text, token) = mint_for(view, old.owner.clone(), old.name.clone(), end, Some(old.id.clone()))?;
        let kept = in_grace(view, old, grace_minutes, Some(token.id.clone()));
        let key = Key::token(old.id.as_str());
        let after = json!({"old": kept.audited(), "new": token.audited()});
        draft.audit(view, "token.rotate", &key, json!({"old": old.audited()}), after);
        draft.replace(Object::Token(kept), old.revision);
        draft.create(Object::Token(token.clone()));
        let minted = Minted { text, token: self.shown_token(view, &Arc::new(token)) };
        Ok((draft, minted))
    }
}

/// A token that works for a grace period more; with none it is revoked.
pub(super) fn in_grace(view: &View, old: &Token, grace_minutes: u64, replaced_by: Option<TokenId>) -> Token {
    let grace_end = view.now.plus(Duration::from_secs(grace_minutes.saturating_mul(60)));
    let end = old.expires_at.map_or(grace_end, |end| end.min(grace_end));
    Token {
        expires_at: if grace_minutes == 0 { old.expires_at } else { Some(end) },
        revoked_at: (grace_minutes == 0).then_some(view.now),
        replaced_by,
        ..Token::clone(old)
    }
}

pub(super) fn check_grace(minutes: u64) -> Result<(), Failure> {
    if minutes > MAX_GRACE_MINUTES {
        return Err(refused(format!("The grace period is at most {MAX_GRACE_MINUTES} minutes (365 days)")));
    }
    Ok(())
}

/// Drafts the end of a token.
pub(super) fn revoke(draft: &mut Draft, view: &View, token: &Versioned<Token>) -> Result<(), Failure> {
    if token.revoked_at.is_some() {
        return Err(Failure::NotFound(format!("The token '{}' is revoked already", token.id).into()));
    }
    let after = Token { revoked_at: Some(view.now), ..Token::clone(token) };
    let key = Key::token(token.id.as_str());
    draft.audit(view, "token.revoke", &key, token.audited(), after.audited());
    draft.replace(Object::Token(after), token.revision);
    Ok(())
}

pub(super) fn visible<'v>(view: &'v View, id: &str) -> Result<&'v Versioned<Token>, Failure> {
    let token = view.world.token(id).filter(|_| view.may(Action::See, Resource::Token(id)));
    token.ok_or_else(|| not_found("token", id))
}

pub(super) fn is_over(view: &View, token: &Token) -> bool {
    token.is_over(view.world.settings(), view.now)
}

fn is_own(view: &View, owner: &TokenOwner) -> bool {
    match (&view.principal, owner) {
        (Principal::User { user, .. }, TokenOwner::User(email)) => user.email.as_str() == email,
        _ => false,
    }
}

/// Whether the caller may make personal tokens, and when they end at the latest. One who shows a personal token
/// may when the settings allow it, and then never for longer than that token has.
fn may_mint_personal(draft: &mut Draft, view: &View) -> Result<Option<UnixMillis>, Failure> {
    let Some(id) = view.principal.token_id() else { return Ok(None) };
    let session = view.world.session(id);
    let id = match session.map(|session| &session.token) {
        // Who proved who they are with more than a token makes tokens of their own.
        Some(None) => return Ok(None),
        Some(Some(token)) => token,
        None => id,
    };
    let settings = view.world.settings();
    if !settings.pat_may_mint {
        return Err(Failure::Forbidden(
            "A personal access token makes no others here; an administrator can, on the gateway's host ('gateway admin token create'), or allow it with the setting pat_may_mint".into(),
        ));
    }
    let shown = view.world.token(id.as_str()).ok_or(Failure::Unauthenticated)?;
    draft.check(Key::settings(), settings.revision);
    draft.check(Key::token(id.as_str()), shown.revision);
    Ok(shown.end(settings))
}

/// The end that was asked for, or the longest there can be.
fn within(asked: Option<UnixMillis>, longest: Option<UnixMillis>) -> Result<Option<UnixMillis>, Failure> {
    match (asked, longest) {
        (Some(asked), Some(longest)) if asked > longest => Err(Failure::Forbidden(
            format!(
                "A token made with a personal access token ends no later than that one ({}); an administrator can make a longer one on the gateway's host",
                longest.to_iso()
            )
            .into(),
        )),
        (asked, longest) => Ok(asked.or(longest)),
    }
}

/// A name is one owner's for one token that works; what is over gives its name free.
pub(super) fn check_name(view: &View, owner: &Owner, name: &SlugName) -> Result<(), Failure> {
    // In its grace a token shares the name with its successor.
    if view.world.tokens_of(owner).any(|other| other.name == *name && !is_over(view, other)) {
        return Err(Failure::Conflict(
            format!("{} has a token '{name}' already; revoke or rotate that one", owner.subject()).into(),
        ));
    }
    Ok(())
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
            // From now on no read of its token mints one.
            let after = VirtualAccount { had_token: true, ..VirtualAccount::clone(account) };
            draft.replace(Object::VirtualAccount(after), account.revision);
        }
    }
    Ok(())
}

/// Keeps the number of an owner's tokens bounded: when it is full, those that are over make room, the oldest
/// first.
fn make_room(draft: &mut Draft, view: &View, owner: &Owner) -> Result<(), Failure> {
    let all = view.world.tokens_of(owner).count();
    let Some(excess) = (all + 1).checked_sub(MAX_TOKENS).filter(|excess| *excess > 0) else {
        return Ok(());
    };
    let mut over: Vec<_> = view.world.tokens_of(owner).filter(|token| is_over(view, token)).collect();
    if over.len() < excess {
        return Err(refused(format!("{} has {MAX_TOKENS} tokens; revoke some first", owner.subject())));
    }
    over.sort_by_key(|token| token.revoked_at.or_else(|| token.end(view.world.settings())));
    for token in over.into_iter().take(excess) {
        draft.delete(Key::token(token.id.as_str()), token.revision);
    }
    Ok(())
}

fn mint_for(
    view: &View,
    owner: Owner,
    name: SlugName,
    expires_at: Option<UnixMillis>,
    replaces: Option<TokenId>,
) -> Result<(Secret, Token), Failure> {
    let kind = match &owner {
        Owner::User(_) => TokenKind::Personal,
        Owner::VirtualAccount(_) => TokenKind::Virtual,
    };
    let (id, text, secret_hash) = mint(kind).map_err(|_| Failure::Internal)?;
    let token = Token {
        id,
        owner,
        name,
        secret_hash,
        expires_at,
        created_at: view.now,
        created_by: view.principal.subject_text(),
        replaces,
        replaced_by: None,
        revoked_at: None,
    };
    Ok((text, token))
}

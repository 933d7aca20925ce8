//! The tokens of a virtual account, in the words of the public contract: one current secret, older ones in grace.

use super::draft::{Audited, Draft};
use super::rotation::settle;
use super::token::{Minted, check_grace, in_grace, is_over, revoke};
use super::{Manage, View, not_found};
use crate::authz;
use crate::domain::{Owner, Principal, Token, VirtualAccount};
use crate::failure::Failure;
use crate::store::{Key, Object, Versioned};

impl Manage {
    /// The first read of a virtual account's token mints it and shows it. Nothing shows it again.
    ///
    /// # Errors
    /// When the caller is no administrator, there is no such account, or it had a token already.
    pub fn first_virtual_token(&self, principal: &Principal, name: &str) -> Result<Minted, Failure> {
        self.change(principal, |view| {
            let account = visible(view, name)?;
            view.require_admin()?;
            if account.had_token {
                return Err(Failure::Gone(
                    format!(
                        "The token of '{name}' was shown when it was made, and only a hash of it is kept; POST /virtual-accounts/{name}/regenerate-token makes a new one"
                    )
                    .into(),
                ));
            }
            self.mint_first(Draft::default(), view, account)
        })
    }

    /// Makes a new token in place of the current one, which works for the grace period more; those that are in
    /// their grace already get no longer one.
    ///
    /// # Errors
    /// When the caller is no administrator, there is no such account, or the grace is too long.
    pub fn regenerate_virtual_token(
        &self,
        principal: &Principal,
        name: &str,
        grace_minutes: u64,
    ) -> Result<Minted, Failure> {
        self.change(principal, |view| {
            let account = visible(view, name)?;
            view.require_admin()?;
            check_grace(grace_minutes)?;
            let mut draft = Draft::default();
            let mut current: Option<&Versioned<Token>> = None;
            for token in view.world.tokens_of(&Owner::VirtualAccount(account.name.clone())) {
                if is_over(view, token) {
                    continue;
                }
                if token.replaced_by.is_some() {
                    let kept = in_grace(view, token, grace_minutes, token.replaced_by.clone());
                    shorten(&mut draft, view, token, kept);
                } else if current.is_none_or(|other| other.created_at < token.created_at) {
                    current = Some(token);
                }
            }
            match current {
                Some(current) => {
                    let after = VirtualAccount { had_token: true, ..VirtualAccount::clone(account) };
                    draft.replace(Object::VirtualAccount(after), account.revision);
                    let (mut draft, minted) = self.succeed(draft, view, current, grace_minutes, None)?;
                    settle(&mut draft, view, &current.owner, &minted.token.token.id, Some(grace_minutes));
                    Ok((draft, minted))
                }
                None => self.mint_first(draft, view, account),
            }
        })
    }

    /// Ends one token of a virtual account.
    ///
    /// # Errors
    /// When the caller may not see the account, it has no such token, or that is revoked already.
    pub fn revoke_virtual_token(&self, principal: &Principal, name: &str, id: &str) -> Result<(), Failure> {
        self.change(principal, |view| {
            let account = visible(view, name)?;
            view.require_admin()?;
            let owner = Owner::VirtualAccount(account.name.clone());
            let token = view.world.token(id).filter(|token| token.owner == owner);
            let mut draft = Draft::default();
            revoke(&mut draft, view, token.ok_or_else(|| not_found("token", id))?)?;
            Ok((draft, ()))
        })
    }

    fn mint_first(
        &self,
        mut draft: Draft,
        view: &View,
        account: &Versioned<VirtualAccount>,
    ) -> Result<(Draft, Minted), Failure> {
        // The revision sees to it that of two first reads one mints and one is refused.
        let after = VirtualAccount { had_token: true, ..VirtualAccount::clone(account) };
        draft.replace(Object::VirtualAccount(after), account.revision);
        let owner = Owner::VirtualAccount(account.name.clone());
        self.mint_new(draft, view, owner, account.name.clone(), None)
    }
}

/// Lets a token end earlier than it would have.
pub(super) fn shorten(draft: &mut Draft, view: &View, token: &Versioned<Token>, kept: Token) {
    if kept != **token {
        let key = Key::token(token.id.as_str());
        draft.audit(view, "token.shorten", &key, token.audited(), kept.audited());
        draft.replace(Object::Token(kept), token.revision);
    }
}

fn visible<'v>(view: &'v View, name: &str) -> Result<&'v Versioned<VirtualAccount>, Failure> {
    let account = view.world.virtual_account(name).filter(|_| authz::is_admin(&view.principal));
    account.ok_or_else(|| not_found("virtual account", name))
}

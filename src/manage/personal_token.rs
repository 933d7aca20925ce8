//! Personal access tokens as their owners see them.

use serde_json::json;

use super::draft::{Audited, Draft};
use super::token::{TokenView, revoke, visible};
use super::{Listing, Manage, Page, not_found, user};
use crate::domain::{Owner, Principal, Team, Token};
use crate::failure::Failure;
use crate::store::{Key, Versioned};

impl Manage {
    /// The caller's own personal tokens whose name holds a text; revoked ones are left out.
    ///
    /// # Errors
    /// When the principal manages nothing.
    pub fn own_personal_tokens(
        &self,
        principal: &Principal,
        search: &str,
        page: Page,
    ) -> Result<Listing<TokenView>, Failure> {
        let view = self.view(principal)?;
        let Principal::User { user, .. } = &view.principal else {
            return Ok(Listing { items: Vec::new(), total: 0 });
        };
        let owner = Owner::User(user.email.clone());
        let wanted =
            |token: &&Versioned<Token>| token.revoked_at.is_none() && token.name.as_str().contains(search);
        let listing = page.cut(view.world.tokens_of(&owner).filter(wanted));
        Ok(self.shown_tokens(&view, listing))
    }

    /// Refuses when the owner that a token is to have is not in a team. The same words whether the team is there.
    ///
    /// # Errors
    /// When the owner is not, or the caller manages nothing.
    pub fn require_membership(&self, principal: &Principal, email: &str, team: &str) -> Result<(), Failure> {
        let view = self.view(principal)?;
        let is_in = team == Team::EVERYONE || view.world.teams_of(email).any(|own| own.as_str() == team);
        if is_in {
            Ok(())
        } else {
            Err(Failure::Forbidden(format!("'{email}' is not a member of a team '{team}'").into()))
        }
    }

    /// Ends a personal token.
    ///
    /// # Errors
    /// When there is none that the caller may see, or it is revoked already.
    pub fn revoke_personal_token(&self, principal: &Principal, id: &str) -> Result<(), Failure> {
        self.change(principal, |view| {
            let token = visible(view, id)?;
            if !matches!(token.owner, Owner::User(_)) {
                return Err(not_found("personal access token", id));
            }
            let mut draft = Draft::default();
            revoke(&mut draft, view, token)?;
            Ok((draft, ()))
        })
    }

    /// Ends all personal tokens of a user.
    ///
    /// # Errors
    /// When the caller is no administrator, or there is no such user.
    pub fn revoke_all_personal_tokens(&self, principal: &Principal, email: &str) -> Result<(), Failure> {
        self.change(principal, |view| {
            view.require_admin()?;
            let user = view.world.user(email).ok_or_else(|| not_found("user", email))?;
            let mut draft = Draft::default();
            let revoked = user::revoke_tokens_of(&mut draft, view, &Owner::User(user.email.clone()));
            let key = Key::user(email);
            let before = json!({"user": user.audited(), "tokens": revoked});
            draft.audit(
                view,
                "token.revoke-all",
                &key,
                before,
                json!({"user": user.audited(), "tokens": []}),
            );
            // A token that is being made meanwhile is either among those above or made afterwards.
            draft.guard_user(user);
            Ok((draft, ()))
        })
    }
}

//! Tokens as JSON. Their texts stand in the answers to creation and rotation, and nowhere else.

use serde_json::{Value, json};

use super::apply::attempt;
use super::{Answer, Call, Result, data, list};
use crate::clock::UnixMillis;
use crate::domain::Principal;
use crate::failure::Failure;
use crate::manage::{Manage, Minted, NewToken, TokenOwner, TokenView, Validity};

fn shape(view: &TokenView) -> Value {
    let token = &view.token;
    let mut json = json!({
        "id": token.id,
        "name": token.name,
        "owner": token.owner.subject(),
        "createdAt": token.created_at.to_iso(),
        "createdBy": token.created_by,
        "state": view.state.as_str(),
    });
    if let Value::Object(fields) = &mut json {
        for (name, time) in
            [("expiresAt", view.end), ("lastUsedAt", view.last_used), ("revokedAt", token.revoked_at)]
        {
            if let Some(time) = time {
                fields.insert(name.into(), time.to_iso().into());
            }
        }
        for (name, other) in [("replaces", &token.replaces), ("replacedBy", &token.replaced_by)] {
            if let Some(other) = other {
                fields.insert(name.into(), other.as_str().into());
            }
        }
    }
    json
}

pub fn shown_once(minted: &Minted) -> Result {
    let body = json!({"token": minted.text.expose(), "data": shape(&minted.token)});
    Ok(Answer { body, no_store: true })
}

fn one_owner(user: Option<String>, account: Option<String>) -> Result<Option<TokenOwner>> {
    match (user, account) {
        (None, None) => Ok(None),
        (Some(email), None) => Ok(Some(TokenOwner::User(email))),
        (None, Some(name)) => Ok(Some(TokenOwner::VirtualAccount(name))),
        (Some(_), Some(_)) => Err(Failure::BadRequest("Give 'user' or 'virtualAccount', not both".into())),
    }
}

pub fn list_all(call: &Call, principal: &Principal) -> Result {
    let page = call.query.page()?;
    let (user, account) = (call.query.get("user")?, call.query.get("virtualAccount")?);
    let owner = one_owner(user.map(str::to_owned), account.map(str::to_owned))?;
    let tokens = call.manage.tokens(principal, owner.as_ref(), page)?;
    list(&tokens, page, shape)
}

pub fn show(call: &Call, principal: &Principal) -> Result {
    data(shape(&call.manage.token(principal, call.id())?))
}

/// An `expirationDate` of a body.
pub fn until(date: &str) -> Result<Validity> {
    UnixMillis::parse(date).map(Validity::Until).map_err(|text| Failure::Unprocessable(text.into()))
}

pub fn create(call: &Call, principal: &Principal) -> Result {
    call.manage.require_minting(principal)?;
    let mut fields = call.fields()?;
    let owner = one_owner(fields.text("user")?, fields.text("virtualAccount")?)?;
    let owner = owner.ok_or_else(|| Failure::BadRequest("Give 'user' or 'virtualAccount'".into()))?;
    let name = fields.required_text("name")?;
    let validity = match (fields.text("expirationDate")?, fields.count("validDays")?) {
        (None, None) => Validity::Unlimited,
        (Some(date), None) => until(&date)?,
        (None, Some(days)) => Validity::Days(days),
        (Some(_), Some(_)) => {
            return Err(Failure::BadRequest("Give 'expirationDate' or 'validDays', not both".into()));
        }
    };
    fields.finish()?;
    shown_once(&call.manage.create_token(principal, &NewToken { owner, name, validity })?)
}

pub fn revoke(call: &Call, principal: &Principal) -> Result {
    let revoke = |manage: &Manage| manage.revoke_token(principal, call.id());
    attempt(call, call.query.flag("dryRun")?, revoke, |()| json!({}))
}

pub fn rename(call: &Call, principal: &Principal) -> Result {
    let mut fields = call.fields()?;
    let name = fields.required_text("name")?;
    fields.finish()?;
    data(shape(&call.manage.rename_token(principal, call.id(), &name)?))
}

pub fn rotate(call: &Call, principal: &Principal) -> Result {
    let mut fields = call.fields()?;
    let minutes = fields.required_count("gracePeriodInMinutes")?;
    fields.finish()?;
    shown_once(&call.manage.rotate_token(principal, call.id(), minutes)?)
}

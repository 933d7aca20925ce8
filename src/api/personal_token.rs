//! Personal access tokens as JSON, in the shape that the public contract has for them.

use serde_json::{Value, json};

use super::fields::Fields;
use super::{Call, Result, done, list, subject, token};
use crate::domain::{Owner, Principal};
use crate::failure::Failure;
use crate::manage::{NewToken, TokenOwner, TokenView, Validity};

fn shape(call: &Call, view: &TokenView) -> Value {
    let token = &view.token;
    let created = token.created_at.to_iso();
    // The contract's SDK takes no other type in the manifest of a row; the row's own says what it is.
    let mut manifest = json!({"type": "virtual-account", "name": token.name});
    let mut row = json!({
        "id": token.id,
        "type": "pat",
        "tenantName": call.manage.tenant,
        "accountId": call.manage.tenant,
        "createdBySubject": subject::shape(&token.created_by),
        "createdBy": token.created_by,
        "createdAt": created,
        "updatedAt": created,
        "jwtId": token.id,
        "isExpired": view.state.is_over(),
        "state": view.state.as_str(),
    });
    if let (Some(row), Some(manifest)) = (row.as_object_mut(), manifest.as_object_mut()) {
        if let (Some(end), Owner::User(email)) = (view.end, &token.owner) {
            manifest.insert("expiration_date".into(), end.to_iso().into());
            // The contract requires an expiry here, so one without has no such list.
            let jwt = json!({
                "id": token.id, "subjectType": "user", "subjectId": email, "expiry": end.to_iso(),
                "tokenType": "opaque", "createdAt": created, "updatedAt": created,
            });
            row.insert("jwts".into(), json!([jwt]));
        }
        if let Some(time) = view.last_used {
            row.insert("lastAccessedAt".into(), time.to_iso().into());
        }
    }
    if let Some(row) = row.as_object_mut() {
        row.insert("manifest".into(), manifest);
    }
    row
}

pub fn list_own(call: &Call, principal: &Principal) -> Result {
    let page = call.query.page()?;
    let search = call.query.get("nameSearchQuery")?.unwrap_or_default();
    let tokens = call.manage.own_personal_tokens(principal, search, page)?;
    list(&tokens, page, |token| shape(call, token))
}

/// The fields that both ways of making one have.
fn make(call: &Call, principal: &Principal, mut fields: Fields, email: Option<String>) -> Result {
    let name = fields.required_text("name")?;
    let validity =
        fields.text("expirationDate")?.map_or(Ok(Validity::Unlimited), |date| token::until(&date))?;
    let team = fields.text("teamName")?;
    // Tokens are opaque here, whichever kind is asked for; nobody can tell the difference from outside.
    fields.ignore(&["accountName", "tokenType"]);
    fields.finish()?;
    let email = email.ok_or_else(|| {
        Failure::Forbidden(
            "The administrator of the host is no user; make a token for one with POST /personal-access-tokens/for-user".into(),
        )
    })?;
    if let Some(team) = team {
        call.manage.require_membership(principal, &email, &team)?;
    }
    let owner = TokenOwner::User(email);
    token::shown_once(&call.manage.create_token(principal, &NewToken { owner, name, validity })?)
}

pub fn create(call: &Call, principal: &Principal) -> Result {
    call.manage.require_minting(principal)?;
    let email = match principal {
        Principal::User { user, .. } => Some(user.email.to_string()),
        _ => None,
    };
    make(call, principal, call.fields()?, email)
}

pub fn create_for_user(call: &Call, principal: &Principal) -> Result {
    call.manage.require_admin(principal)?;
    let mut fields = call.fields()?;
    let email = fields.required_text("userEmail")?;
    call.manage.user(principal, &email)?;
    make(call, principal, fields, Some(email))
}

pub fn revoke(call: &Call, principal: &Principal) -> Result {
    call.manage.revoke_personal_token(principal, call.id())?;
    done()
}

pub fn revoke_all(call: &Call, principal: &Principal) -> Result {
    call.manage.require_admin(principal)?;
    let mut fields = call.fields()?;
    let email = fields.required_text("email")?;
    fields.finish()?;
    call.manage.revoke_all_personal_tokens(principal, &email)?;
    done()
}

//! `GET models`: what the caller may use, and nothing else.

use serde_json::json;

use super::answer::{After, Answer};
use super::{Refusal, Relay};
use crate::domain::Principal;
use crate::failure::Failure;
use crate::http::Connection;
use crate::store::{Account, World};
use crate::{authz, catalog};

impl Relay {
    /// Every model that the caller may use.
    ///
    /// # Errors
    /// The refusal that the caller is still to be told.
    pub(super) fn list_models(
        &self,
        connection: &mut Connection,
        answer: &Answer<'_>,
    ) -> Result<After, Refusal> {
        let world = self.store.snapshot();
        let principal = self.authenticate(answer.head, &world).map_err(Refusal::before_body)?;
        let data: Vec<_> = world
            .accounts()
            .flat_map(|account| account.spec.models.values().map(move |model| (account, model)))
            .filter(|(account, model)| {
                authz::may_use(&principal, account.spec.name.as_str(), model.name.as_str(), &world)
            })
            .map(|(account, model)| model_json(account, model))
            .collect();
        Ok(self.write_json(connection, answer, &json!({"object": "list", "data": data})))
    }

    /// One model, if the caller may use it.
    ///
    /// # Errors
    /// The refusal that the caller is still to be told.
    pub(super) fn show_model(
        &self,
        connection: &mut Connection,
        answer: &Answer<'_>,
        encoded: &str,
    ) -> Result<After, Refusal> {
        let world = self.store.snapshot();
        let principal = self.authenticate(answer.head, &world).map_err(Refusal::before_body)?;
        let found = percent_decode(encoded).and_then(|name| find(&principal, &name, &world));
        let Some(body) = found else {
            return Err(Refusal::before_body(Failure::NotFound(
                "This model does not exist or you may not use it; GET /v1/models lists what you may use"
                    .into(),
            )));
        };
        Ok(self.write_json(connection, answer, &body))
    }

    fn write_json(
        &self,
        connection: &mut Connection,
        answer: &Answer<'_>,
        body: &serde_json::Value,
    ) -> After {
        let read = connection.discard_body(answer.head, &self.limits);
        let answer = Answer { keep_alive: answer.keep_alive && read, ..*answer };
        let lines = [("content-type", "application/json")];
        answer.write(connection, 200, &lines, body.to_string().as_bytes(), self.limits.idle_timeout_ms)
    }
}

fn find(principal: &Principal, name: &str, world: &World) -> Option<serde_json::Value> {
    let route = catalog::resolve(name, world)?;
    authz::authorize(principal, &route, world).ok()?;
    route.account.spec.models.get(&route.model).map(|model| model_json(&route.account, model))
}

fn model_json(account: &Account, model: &crate::domain::Model) -> serde_json::Value {
    json!({
        "id": format!("{}/{}", account.spec.name, model.name),
        "object": "model",
        "created": model.created_at.0 / 1000,
        "owned_by": account.spec.name,
    })
}

/// RFC 3986 section 2.1; `None` for a broken escape or what is no UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::percent_decode;

    #[test]
    fn escapes() {
        assert_eq!(percent_decode("a%2Fb%2fc").as_deref(), Some("a/b/c"));
        for bad in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(percent_decode(bad), None, "{bad}");
        }
    }
}

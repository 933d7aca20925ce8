//! The catalogue of public prices as JSON.

use serde_json::json;

use super::{Call, Result, data};
use crate::domain::Principal;
use crate::failure::Failure;
use crate::manage::CatalogueView;
use crate::prices::Catalogue;

fn shown(view: &CatalogueView) -> Result {
    let catalogue = &view.catalogue;
    data(json!({
        "date": catalogue.date,
        "source": catalogue.source,
        "imported": view.imported,
        "total": catalogue.len(),
        "models": catalogue.models,
    }))
}

pub fn show(call: &Call, principal: &Principal) -> Result {
    shown(&call.manage.catalogue(principal)?)
}

pub fn import(call: &Call, principal: &Principal) -> Result {
    call.manage.require_admin(principal)?;
    let mut fields = call.fields()?;
    let given = fields.object("catalogue")?;
    let given = given.ok_or_else(|| Failure::BadRequest("The field 'catalogue' is missing".into()))?;
    fields.finish()?;
    let catalogue = Catalogue::parse(given.value().to_string().as_bytes())
        .map_err(|error| Failure::Unprocessable(format!("The catalogue can not be used: {error}").into()))?;
    shown(&call.manage.set_catalogue(principal, Some(&catalogue))?)
}

pub fn reset(call: &Call, principal: &Principal) -> Result {
    shown(&call.manage.set_catalogue(principal, None)?)
}

//! A backup as a long answer.

use super::{Call, Export, Rest, Result};
use crate::archive::MAGIC;
use crate::domain::Principal;
use crate::failure::Failure;

pub fn create(call: &Call, principal: &Principal) -> Result<Export> {
    let with_master_key = match call.query.get("withMasterKey")? {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Failure::BadRequest("'withMasterKey' must be true or false".into())),
    };
    let backup = call.manage.backup(principal, with_master_key)?;
    Ok(Export {
        content_type: "application/octet-stream",
        first: MAGIC.to_owned(),
        rest: Rest::Backup(Some(Box::new(backup))),
    })
}

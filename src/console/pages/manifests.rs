//! Manifests in forms: what pages that make or copy things send through `apply`.

use serde_json::Value;

use super::super::visit::Visit;
use crate::failure::Failure;
use crate::manage::Manner;
use crate::manifest::{self, fields::Fields};

/// Applies one manifest of something that must not be there yet.
pub(super) fn apply_new(visit: &Visit, manifest: Value) -> Result<(), Failure> {
    apply(visit, manifest, Manner { must_be_new: true, ..Manner::default() })
}

/// Applies one manifest.
pub(super) fn apply(visit: &Visit, manifest: Value, manner: Manner) -> Result<(), Failure> {
    let Value::Object(map) = manifest else {
        return Err(Failure::Unprocessable("A manifest is an object".into()));
    };
    let fields = Fields::of_manifest(map);
    let (kind, name) = manifest::kind_of(&mut fields.clone())?;
    visit.manage.require_applier(visit.principal, &kind, &name)?;
    let document = manifest::read(fields)?;
    visit.manage.apply(visit.principal, &[document], manner).map(|_| ())
}

/// A manifest as YAML, for people to copy.
pub(super) fn yaml(manifest: &Value) -> Result<String, Failure> {
    serde_saphyr::to_string(manifest).map_err(|error| {
        log::error!("a manifest can not be written as YAML: {error}");
        Failure::Internal
    })
}

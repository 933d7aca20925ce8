//! The catalogue of public prices: the one that is built in, or one that an admin has put in its place.

use std::sync::Arc;

use serde_json::{Value, json};

use super::draft::Draft;
use super::{Manage, OfferedModel, refused};
use crate::clock::UnixMillis;
use crate::domain::{Money, Principal, Unit};
use crate::failure::Failure;
use crate::prices::{self, Catalogue};
use crate::store::{Key, Object};

/// A catalogue, and whether it was imported.
#[derive(Clone, Debug)]
pub struct CatalogueView {
    /// The prices.
    pub catalogue: Arc<Catalogue>,
    /// It is not the one that is built in.
    pub imported: bool,
}

impl Manage {
    /// The price of one unit of a model that was shown to somebody, as calls of it are priced at a time. `None`: not
    /// known.
    pub fn price_of(&self, offered: &OfferedModel, unit: Unit, at: UnixMillis) -> Option<Money> {
        let world = self.store.snapshot();
        let account = world.account(offered.account.as_str())?;
        prices::of_unit(&account.spec, &offered.model, world.catalogue(), at, unit)
    }

    /// The catalogue that prices calls now.
    ///
    /// # Errors
    /// When the principal is no admin.
    pub fn catalogue(&self, principal: &Principal) -> Result<CatalogueView, Failure> {
        let view = self.view(principal)?;
        view.require_admin()?;
        let imported = view.world.imported_catalogue().is_some();
        Ok(CatalogueView { catalogue: Arc::clone(view.world.catalogue()), imported })
    }

    /// Puts a catalogue in the place of the present one; `None`: the built-in one again. It prices every call that
    /// begins afterwards; what calls cost before stays as it was.
    ///
    /// # Errors
    /// When the principal is no admin, or the catalogue is none.
    pub fn set_catalogue(
        &self,
        principal: &Principal,
        catalogue: Option<&Catalogue>,
    ) -> Result<CatalogueView, Failure> {
        self.change(principal, |view| {
            view.require_admin()?;
            let old = view.world.imported_catalogue();
            let before = old.map_or(Value::Null, |old| audited(old));
            let mut draft = Draft::default();
            let shown = match (catalogue, old) {
                (Some(new), _) => {
                    new.check()
                        .map_err(|error| refused(format!("The catalogue can not be used: {error}")))?;
                    if old.is_none_or(|old| *old.value != *new) {
                        draft.audit(view, "catalogue.import", &Key::catalogue(), before, audited(new));
                        match old {
                            None => draft.create(Object::Catalogue(new.clone())),
                            Some(old) => draft.replace(Object::Catalogue(new.clone()), old.revision),
                        }
                    }
                    CatalogueView { catalogue: Arc::new(new.clone()), imported: true }
                }
                (None, Some(old)) => {
                    draft.audit(view, "catalogue.reset", &Key::catalogue(), before, Value::Null);
                    draft.delete(Key::catalogue(), old.revision);
                    CatalogueView { catalogue: Catalogue::built_in(), imported: false }
                }
                (None, None) => CatalogueView { catalogue: Catalogue::built_in(), imported: false },
            };
            Ok((draft, shown))
        })
    }
}

/// The log keeps which catalogue it was, not thousands of prices.
fn audited(catalogue: &Catalogue) -> Value {
    json!({"date": catalogue.date, "source": catalogue.source, "models": catalogue.len()})
}

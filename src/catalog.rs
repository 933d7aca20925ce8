//! Model name to route.

use std::sync::Arc;

use crate::authz::Route;
use crate::store::World;

/// Finds `account/name` in a state, the account as it is for that model; `None` when it is not there.
pub fn resolve(model: &str, world: &World) -> Option<Route> {
    let (account, name) = model.split_once('/')?;
    let account = world.account(account)?;
    let (name, _) = account.spec.models.get_key_value(name)?;
    Some(Route { account: Arc::clone(account.for_model(name.as_str())), model: name.clone() })
}

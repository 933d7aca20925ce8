//! Every dialect against every protocol, and what the unit tests of all of them share.

mod attack;
mod fields;
mod golden;
pub mod vectors;

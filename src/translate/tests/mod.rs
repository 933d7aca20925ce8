//! Every dialect against every protocol.

mod golden;

//! `gateway`: one static binary that gives an organisation its own keys to the models of many providers.
//! ARCHITECTURE.md is the map.

mod api;
mod archive;
mod authn;
mod authz;
mod catalog;
mod cli;
mod clock;
mod config;
#[allow(dead_code, reason = "parts for the pages that follow: fields, tabs and bars")]
mod console;
mod domain;
mod failure;
mod http;
mod id;
mod limits;
mod logging;
mod manage;
mod manifest;
mod metrics;
mod net;
#[allow(dead_code, unused_imports, reason = "no page of the console signs in by it yet")]
mod oidc;
mod ops;
mod password;
mod prices;
mod recovery;
mod relay;
mod request_log;
mod seal;
mod secret;
mod server;
mod store;
mod token;
mod translate;
mod upstream;
mod usage;
mod wire;

fn main() -> std::process::ExitCode {
    cli::run()
}

//! The management API in process, on the store itself, while no server holds it.

use std::sync::Arc;

use serde_json::Value;

use super::{API_ROOT, ClientError, Sink, Transport, refusal};
use crate::api::{self, Request};
use crate::cli::failure::Failure;
use crate::clock::UnixMillis;
use crate::config::Config;
use crate::domain::Principal;
use crate::manage::{AuditDesk, BackupDesk, Manage};
use crate::recovery;
use crate::request_log::RequestLogFile;
use crate::store::{Demo, Options, Store, StoreError, data_dir};
use crate::usage::UsageFile;

/// The store of a gateway that does not run. It is this process's until the command ends.
pub struct DirectTransport {
    manage: Manage,
    principal: Principal,
    folder: std::path::PathBuf,
}

/// Opens the store, as the owner of the data folder; a missing folder is made.
///
/// # Errors
/// When another process holds the store, the folder is another user's, or the store can not be opened.
pub fn open_direct(config: &Config) -> Result<Box<dyn Transport>, ClientError> {
    let folder = &config.store.data_dir;
    let open = || {
        data_dir::prepare(folder)?;
        let master_key = data_dir::load_master_key(folder, config.store.master_key_file.as_deref())?;
        Store::open(folder, master_key, Options { demo: Demo::No })
    };
    let store = match open() {
        Ok(store) => Arc::new(store),
        Err(StoreError::Locked(_)) => return Err(ClientError::Locked(folder.clone())),
        Err(error) => return Err(ClientError::Store(error.to_string())),
    };
    recovery::record_restore(&store, folder);
    let usage = Arc::new(UsageFile::new(folder));
    let request_log = Arc::new(RequestLogFile::new(folder, Arc::clone(&store)));
    let manage = Manage {
        store,
        tenant: config.tenant.name.clone(),
        demo: false,
        aws_machine_credentials: config.upstream.aws_machine_credentials,
        usage,
        request_log,
        limits: Arc::default(),
        audit: AuditDesk::default(),
        backups: BackupDesk::default(),
        trial: None,
    };
    let principal = Principal::LocalAdministrator { uid: rustix::process::geteuid().as_raw() };
    Ok(Box::new(DirectTransport { manage, principal, folder: folder.clone() }))
}

impl Drop for DirectTransport {
    fn drop(&mut self) {
        self.manage.record_refused(None);
    }
}

impl Transport for DirectTransport {
    fn call(
        &self,
        method: &str,
        path_and_query: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), ClientError> {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let path = format!("{API_ROOT}{path}");
        let body = body.map(Value::to_string).unwrap_or_default();
        if ["/llm-gateway/budgets", "/llm-gateway/rate-limits"].iter().any(|part| path.contains(part)) {
            // Nobody else fills the counters here.
            let now = UnixMillis::now();
            let file = UsageFile::new(&self.folder);
            let load = self
                .manage
                .limits
                .load(&self.manage.store.snapshot(), now, |since, sink| file.scan(since, sink));
            load.map_err(|error| ClientError::Store(error.to_string()))?;
        }
        let request = Request { method, path: &path, query, body: body.as_bytes() };
        let response = api::handle(&self.manage, Some(&self.principal), &request);
        match serde_json::from_str(&response.body) {
            Ok(value) => Ok((response.status, value)),
            Err(_) => Err(ClientError::NotJson { place: path, status: response.status }),
        }
    }

    fn stream(&self, path_and_query: &str, sink: Sink<'_>) -> Result<(), Failure> {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let path = format!("{API_ROOT}{path}");
        let request = Request { method: "GET", path: &path, query, body: b"" };
        let response = api::handle(&self.manage, Some(&self.principal), &request);
        if response.status != 200 {
            let answer = serde_json::from_str(&response.body).unwrap_or_default();
            return Err(refusal(response.status, &answer));
        }
        sink(response.body.as_bytes())?;
        let Some(mut rest) = response.rest else { return Ok(()) };
        let broken = |failure: crate::failure::Failure| Failure::Refused {
            status: failure.status(),
            message: failure.message().to_string(),
        };
        while let Some(piece) = rest.next(&self.manage, &self.principal).map_err(broken)? {
            sink(&piece)?;
        }
        Ok(())
    }
}

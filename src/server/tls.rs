//! TLS towards callers, from PEM files.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::StartError;
use crate::config;

/// Reads the configured files; `None` when TLS is off.
///
/// # Errors
/// Which file can not be used, and why.
pub fn load(config: &config::Server) -> Result<Option<Arc<ServerConfig>>, StartError> {
    let (Some(certificates), Some(key)) = (&config.tls_cert_file, &config.tls_key_file) else {
        return Ok(None);
    };
    let wrong = |key: &str, path: &std::path::Path, error: &dyn std::fmt::Display| {
        StartError::Tls(format!("{key} = {} can not be used: {error}", path.display()))
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect)
        .map_err(|error| wrong("server.tls_cert_file", certificates, &error))?;
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| wrong("server.tls_key_file", key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|error| wrong("server.tls_cert_file", certificates, &error))?;
    Ok(Some(Arc::new(config)))
}

//! TLS towards providers: the public roots, and an account's own.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::UpstreamError;

/// A client configuration that trusts the public roots and these PEM certificates.
///
/// # Errors
/// `Unreachable` when the certificates can not be used; the log says more.
pub fn client_config(own_roots: Option<&str>) -> Result<Arc<ClientConfig>, UpstreamError> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(pem) = own_roots {
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let added = certificate.ok().and_then(|certificate| roots.add(certificate).ok());
            if added.is_none() {
                log::warn!("a certificate of a provider account can not be used");
                return Err(UpstreamError::Unreachable);
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| UpstreamError::Unreachable)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

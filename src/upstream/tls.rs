//! TLS towards providers: the public roots, and an account's own.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::UpstreamError;
use crate::secret::Secret;

/// How the gateway shows itself to a provider that wants to see a certificate.
#[derive(Clone, Copy, Debug)]
pub struct ClientIdentity<'a> {
    /// PEM: its certificate, and those between it and the root.
    pub certificates: &'a str,
    /// PEM: its private key (PKCS #8, PKCS #1 or SEC 1).
    pub private_key: &'a Secret,
}

/// A client configuration that trusts the public roots and these PEM certificates, and shows this identity where a
/// server asks for one.
///
/// # Errors
/// `Unreachable` when the certificates can not be used; the log says more.
pub fn client_config(
    own_roots: Option<&str>,
    identity: Option<ClientIdentity<'_>>,
) -> Result<Arc<ClientConfig>, UpstreamError> {
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
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| UpstreamError::Unreachable)?
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = CertificateDer::pem_slice_iter(identity.certificates.as_bytes()).collect();
            let key = PrivateKeyDer::from_pem_slice(identity.private_key.expose().as_bytes());
            // What is wrong is not said: the message could hold a part of the key.
            let (Ok(chain), Ok(key)) = (chain, key) else { return Err(unusable_identity()) };
            builder.with_client_auth_cert(chain, key).map_err(|_| unusable_identity())?
        }
    };
    Ok(Arc::new(config))
}

fn unusable_identity() -> UpstreamError {
    log::warn!("the client certificate of a provider account, or its private key, can not be used");
    UpstreamError::Unreachable
}

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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustls::pki_types::ServerName;
    use rustls::server::WebPkiClientVerifier;
    use rustls::{ClientConnection, Connection, ServerConfig, ServerConnection};

    use super::*;

    /// A self-signed certificate and its key, both PEM; `None`, loudly, where there is no openssl.
    fn certificate(name: &str) -> Option<(String, Secret)> {
        let folder = crate::store::tests::Folder::new();
        std::fs::create_dir_all(&folder.0).unwrap();
        let (cert, key) = (folder.0.join("cert.pem"), folder.0.join("key.pem"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-days", "2", "-subj", &format!("/CN={name}"), "-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&cert)
            .output();
        if made.is_err() {
            use std::io::Write as _;
            // Past the capture of the test runner.
            let _ = writeln!(std::io::stderr().lock(), "not run: client certificates (openssl is not there)");
            return None;
        }
        let read = |path| std::fs::read_to_string(path).unwrap();
        Some((read(&cert), Secret::new(read(&key))))
    }

    fn pump(from: &mut Connection, to: &mut Connection) -> Result<(), rustls::Error> {
        let mut bytes = Vec::new();
        while from.wants_write() {
            from.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            to.read_tls(&mut rest).unwrap();
            to.process_new_packets()?;
        }
        Ok(())
    }

    /// Shakes hands with a server that wants to see `wanted`; what the server says, and whose certificate it saw.
    fn handshake(
        client: Arc<ClientConfig>,
        server: &(String, Secret),
        wanted: &str,
    ) -> Result<Option<CertificateDer<'static>>, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(wanted.as_bytes()).unwrap()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(server.0.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(server.1.expose().as_bytes()).unwrap(),
            )
            .unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = Connection::from(ClientConnection::new(client, name).unwrap());
        let mut server = Connection::from(ServerConnection::new(Arc::new(config)).unwrap());
        for _ in 0..8 {
            pump(&mut client, &mut server)?;
            pump(&mut server, &mut client)?;
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        Ok(server.peer_certificates().and_then(|chain| chain.first()).map(|cert| cert.clone().into_owned()))
    }

    #[test]
    fn a_server_that_wants_a_certificate_sees_the_accounts_own() {
        let (Some(server), Some(ours), Some(other)) =
            (certificate("server"), certificate("ours"), certificate("other"))
        else {
            return;
        };
        let config = |identity: Option<&(String, Secret)>| {
            let identity =
                identity.map(|(certificates, private_key)| ClientIdentity { certificates, private_key });
            client_config(Some(&server.0), identity).unwrap()
        };
        let seen = handshake(config(Some(&ours)), &server, &ours.0).unwrap().unwrap();
        assert_eq!(seen, CertificateDer::from_pem_slice(ours.0.as_bytes()).unwrap());
        assert!(handshake(config(Some(&other)), &server, &ours.0).is_err());
        assert!(handshake(config(None), &server, &ours.0).is_err());
    }

    #[test]
    fn identities_that_can_not_be_used() {
        let Some((cert, key)) = certificate("ours") else { return };
        let Some((_, other)) = certificate("other") else { return };
        let empty = Secret::new(String::new());
        let nonsense = Secret::new("-----BEGIN PRIVATE KEY-----\n!!\n-----END PRIVATE KEY-----\n".to_owned());
        for (certificates, private_key) in [
            (cert.as_str(), &other),
            (&cert, &empty),
            (&cert, &nonsense),
            ("", &key),
            (key.expose(), &key),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &key),
        ] {
            let identity = ClientIdentity { certificates, private_key };
            assert!(client_config(None, Some(identity)).is_err(), "{certificates:.40}");
            assert!(!format!("{identity:?}").contains("PRIVATE KEY-----\n!"));
        }
        assert!(client_config(None, Some(ClientIdentity { certificates: &cert, private_key: &key })).is_ok());
    }
}

//! Where a provider account's calls may go, and what goes with them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::refused;
use crate::domain::{Endpoint, ProviderAccount};
use crate::failure::Failure;
use crate::secret::Secret;

const MAX_HEADERS: usize = 32;
const MAX_HEADER_NAME_BYTES: usize = 128;
const MAX_HEADER_VALUE_BYTES: usize = 4096;
const MAX_CA_BYTES: usize = 64 * 1024;
const MAX_API_KEY_BYTES: usize = 16 * 1024;

/// Header names that an account may not set: hop-by-hop, framing, and what the gateway sets itself.
const RESERVED_HEADERS: [&str; 15] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

/// Header names that hold one of these carry credentials, which belong in the account's key: headers are shown.
const CREDENTIAL_WORDS: [&str; 11] = [
    "auth",
    "api-key",
    "api_key",
    "apikey",
    "access-key",
    "cookie",
    "credential",
    "password",
    "secret",
    "token",
    "signature",
];

/// Takes a base URL apart.
pub(super) fn endpoint(url: &str) -> Result<Endpoint, Failure> {
    let endpoint = Endpoint::parse(url).map_err(|error| refused(sentence(&error.to_string())))?;
    // The system's resolver takes forms such as 127.1 and 0x7f000001 for addresses; what reads as a name here
    // and as an address there is refused.
    let last = endpoint.host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let numeric = last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit());
    if numeric && address(&endpoint.host).is_none() {
        return Err(refused(
            "The base URL has a host that is neither a name nor an address in its usual form",
        ));
    }
    Ok(endpoint)
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn address(host: &str) -> Option<IpAddr> {
    host.parse().ok()
}

/// Whether an endpoint is this host or its own link, by its text. What a name resolves to is checked at each
/// connect.
pub(super) fn is_local(endpoint: &Endpoint) -> bool {
    match address(&endpoint.host) {
        Some(IpAddr::V4(v4)) => is_local_v4(v4),
        Some(IpAddr::V6(v6)) => is_local_v6(v6),
        None => {
            let name = endpoint.host.trim_end_matches('.');
            matches!(name, "localhost" | "localhost.localdomain" | "ip6-localhost" | "ip6-loopback")
                || name.ends_with(".localhost")
        }
    }
}

fn is_local_v4(v4: Ipv4Addr) -> bool {
    v4.is_loopback() || v4.is_link_local() || v4.octets().first() == Some(&0)
}

fn is_local_v6(v6: Ipv6Addr) -> bool {
    v6.is_loopback()
        || v6.is_unspecified()
        || v6.is_unicast_link_local()
        || v6.to_ipv4_mapped().is_some_and(is_local_v4)
        || v6.to_ipv4().is_some_and(is_local_v4)
}

/// Whether a stored credential may go along unasked from one form of an account to another: only to the same place.
pub(super) fn same_destination(old: &ProviderAccount, new: &ProviderAccount) -> bool {
    same_place(&old.base_url, &new.base_url)
        && old.ca_certificates == new.ca_certificates
        // A region decides where tokens are fetched and for which place a signature counts.
        && old.settings.region == new.settings.region
}

/// Whether two base URLs are of one server.
pub(super) fn same_place(old: &str, new: &str) -> bool {
    let place = |url: &str| Endpoint::parse(url).ok().map(|e| (e.https, e.host, e.port, e.authority));
    place(old).is_some() && place(old) == place(new)
}

/// Checks the names of headers that carry a credential.
pub(super) fn credential_headers<'n>(names: impl Iterator<Item = &'n String>) -> Result<(), Failure> {
    for (at, name) in names.enumerate() {
        if at >= MAX_HEADERS || !is_header_name(name) {
            return Err(refused(format!("'headers' must have at most {MAX_HEADERS} names of headers")));
        }
        if is_reserved(name) {
            return Err(refused(format!("The header '{name}' is the gateway's own to set")));
        }
    }
    Ok(())
}

fn is_header_name(name: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=MAX_HEADER_NAME_BYTES).contains(&name.len()) && name.bytes().all(token)
}

fn is_reserved(name: &str) -> bool {
    RESERVED_HEADERS.contains(&name) || name.starts_with("x-tfy-") || name.starts_with("proxy-")
}

/// Checks that a client certificate and its private key belong together and can be used.
pub(super) fn client_certificate(certificate: &str, key: &Secret) -> Result<(), Failure> {
    if certificate.len() > MAX_CA_BYTES || key.expose().len() > MAX_CA_BYTES {
        return Err(refused(format!("client_cert and client_key have at most {MAX_CA_BYTES} bytes each")));
    }
    if certificate.contains("PRIVATE KEY") {
        return Err(refused("client_cert holds a private key; give it as client_key"));
    }
    let unusable =
        || refused("client_cert and client_key must be a PEM certificate chain and its private key");
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
    let chain = chain.map_err(|_| unusable())?;
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|_| unusable())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|_| unusable())?.with_root_certificates(RootCertStore::empty());
    builder.with_client_auth_cert(chain, key).map_err(|_| unusable())?;
    Ok(())
}

/// Checks configured headers; names come back in lower case.
pub(super) fn headers(headers: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Failure> {
    if headers.len() > MAX_HEADERS {
        return Err(refused(format!("An account has at most {MAX_HEADERS} headers")));
    }
    let mut checked = BTreeMap::new();
    for (name, value) in headers {
        if !is_header_name(name) {
            return Err(refused("'headers' has a name that is no header name"));
        }
        let name = name.to_ascii_lowercase();
        if is_reserved(&name) {
            return Err(refused(format!("The header '{name}' is the gateway's own to set")));
        }
        if CREDENTIAL_WORDS.iter().any(|word| name.contains(word)) {
            return Err(refused(format!(
                "The header '{name}' carries a credential; give the account's key as its API key"
            )));
        }
        let printable = |byte: u8| (b' '..=b'~').contains(&byte);
        if value.len() > MAX_HEADER_VALUE_BYTES || !value.bytes().all(printable) || value.trim() != value {
            return Err(refused(format!(
                "The header '{name}' needs a value of at most {MAX_HEADER_VALUE_BYTES} printable ASCII characters without space at its ends"
            )));
        }
        if checked.insert(name.clone(), value.clone()).is_some() {
            return Err(refused(format!("The header '{name}' is there twice")));
        }
    }
    Ok(checked)
}

/// Checks that a text holds PEM certificates that can be trusted, and no key.
pub(super) fn ca_certificates(text: &str) -> Result<(), Failure> {
    if text.len() > MAX_CA_BYTES {
        return Err(refused(format!("ca_certificates is longer than {MAX_CA_BYTES} bytes")));
    }
    if text.contains("PRIVATE KEY") {
        return Err(refused("ca_certificates holds a private key; give certificates only"));
    }
    let unusable =
        || refused("ca_certificates must hold certificates in PEM form, and one here can not be used");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        roots.add(certificate.map_err(|_| unusable())?).map_err(|_| unusable())?;
    }
    if roots.is_empty() { Err(unusable()) } else { Ok(()) }
}

/// Checks that a key can stand in a header.
pub(super) fn api_key(key: &Secret) -> Result<(), Failure> {
    let text = key.expose();
    if text.starts_with("tfy-secret://") {
        return Err(refused(
            "The API key is a reference to a secret store, which is not supported; give the key",
        ));
    }
    if text.is_empty() || text.len() > MAX_API_KEY_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(refused(format!(
            "The API key must have 1 to {MAX_API_KEY_BYTES} printable ASCII characters without spaces"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_places() {
        for local in [
            "http://localhost:1",
            "http://LOCALHOST.",
            "http://a.localhost/v1",
            "http://127.0.0.1",
            "http://127.9.9.9",
            "http://0.0.0.0",
            "http://169.254.169.254",
            "http://[::1]",
            "http://[::]",
            "http://[fe80::1]",
            "http://[::ffff:127.0.0.1]",
            "http://[::ffff:169.254.169.254]",
            "http://[::127.0.0.1]",
        ] {
            assert!(is_local(&endpoint(local).unwrap()), "{local}");
        }
        for far in
            ["https://api.openai.com/v1", "http://10.0.0.1", "http://[2001:db8::1]", "http://localhosts.io"]
        {
            assert!(!is_local(&endpoint(far).unwrap()), "{far}");
        }
        for odd in [
            "http://127.1",
            "http://2130706433",
            "http://0x7f.1",
            "http://0x7f000001",
            "http://127.0.0.01",
            "http://127.0.0.1.",
        ] {
            assert!(endpoint(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn headers_that_are_refused() {
        let one = |name: &str, value: &str| headers(&BTreeMap::from([(name.to_owned(), value.to_owned())]));
        assert!(one("OpenAI-Organization", "org-1").unwrap().contains_key("openai-organization"));
        for name in [
            "Host",
            "authorization",
            "X-Api-Key",
            "api-key",
            "Cookie",
            "Proxy-Authorization",
            "proxy-foo",
            "Transfer-Encoding",
            "content-length",
            "x-tfy-metadata",
            "X-Amz-Security-Token",
            "x-goog-api-key",
            "",
            "a b",
            "a:b",
            "a\r\nb",
            "ä",
            "connection",
            "te",
        ] {
            assert!(one(name, "v").is_err(), "{name}");
        }
        for value in ["a\r\nb", "a\nb", "a\0b", " a", "a ", "ä", "\u{7f}", &"v".repeat(4097)] {
            assert!(one("x-a", value).is_err(), "{value:?}");
        }
        assert!(headers(&(0..33).map(|n| (format!("x-{n}"), String::new())).collect()).is_err());
        let twice = BTreeMap::from([("X-A".to_owned(), "1".to_owned()), ("x-a".to_owned(), "2".to_owned())]);
        assert!(headers(&twice).is_err());
    }

    #[test]
    fn certificates() {
        for wrong in [
            "",
            "hello",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\n",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            assert!(ca_certificates(wrong).is_err(), "{wrong}");
        }
    }
}

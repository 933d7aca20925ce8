//! Secrets at rest: XChaCha20-Poly1305 under the master key, bound to the kind, name and field that they
//! belong to, so that a sealed text moved elsewhere in the store does not open.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::secret::Secret;

const NONCE_BYTES: usize = 24;
const FORMAT: &str = "x1";
/// What bytes sealed as bytes begin with, before the key's id.
const BYTES_FORMAT: &[u8] = b"x1b:";

/// Why a secret could not be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SealError {
    /// Sealed under another master key.
    OtherKey,
    /// Not a sealed text, or changed, or moved from elsewhere.
    Damaged,
    /// The system's random source failed.
    NoEntropy,
}

impl std::fmt::Display for SealError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::OtherKey => "a stored credential is sealed under another master key; start with the right store.master_key_file",
            Self::Damaged => "a stored credential does not open; it was changed or moved outside the gateway",
            Self::NoEntropy => "the system's random source failed",
        })
    }
}

/// The key that seals every stored credential.
pub struct MasterKey {
    /// The key itself, for a backup that is to hold it. The two keys made of it open all that it opens.
    bytes: Zeroizing<[u8; 32]>,
    cipher: XChaCha20Poly1305,
    id: String,
    audit_key: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MasterKey({})", self.id)
    }
}

impl MasterKey {
    /// 32 random bytes for a new master key.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Zeroizing<[u8; 32]>, SealError> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut_slice()).map_err(|_| SealError::NoEntropy)?;
        Ok(bytes)
    }

    /// The key made of 32 bytes.
    pub fn new(bytes: &[u8; 32]) -> Self {
        let sealing = Zeroizing::new(blake3::derive_key("gateway 2026 sealing key v1", bytes));
        let check = blake3::derive_key("gateway 2026 master key id v1", bytes);
        Self {
            bytes: Zeroizing::new(*bytes),
            cipher: XChaCha20Poly1305::new(sealing.as_slice().into()),
            id: check.iter().take(8).map(|byte| format!("{byte:02x}")).collect(),
            audit_key: Zeroizing::new(blake3::derive_key("gateway 2026 audit chain v1", bytes)),
        }
    }

    /// 16 hex digits that tell one master key from another and reveal nothing about it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key as 64 hex digits, as its file holds them.
    pub fn to_hex(&self) -> Zeroizing<String> {
        // Room for the line end of a file too: a text that grows leaves a copy behind.
        let mut text = Zeroizing::new(String::with_capacity(2 * self.bytes.len() + 1));
        for byte in self.bytes.iter() {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
            }
        }
        text
    }

    /// The key of the audit chain.
    pub fn audit_key(&self) -> &[u8; 32] {
        &self.audit_key
    }

    /// Seals a secret for one field of one object.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn seal(&self, kind: &str, name: &str, field: &str, secret: &Secret) -> Result<String, SealError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| SealError::NoEntropy)?;
        let payload = Payload { msg: secret.expose().as_bytes(), aad: &binding(kind, name, field) };
        let sealed =
            self.cipher.encrypt(XNonce::from_slice(&nonce), payload).map_err(|_| SealError::Damaged)?;
        Ok(format!("{FORMAT}:{}:{}{}", self.id, hex(&nonce), hex(&sealed)))
    }

    /// Opens what [`MasterKey::seal`] sealed for the same field.
    ///
    /// # Errors
    /// When it was sealed under another key, for another field, or was changed.
    pub fn open(&self, kind: &str, name: &str, field: &str, sealed: &str) -> Result<Secret, SealError> {
        let mut parts = sealed.splitn(3, ':');
        let (format, id, body) = (parts.next(), parts.next(), parts.next());
        if format != Some(FORMAT) {
            return Err(SealError::Damaged);
        }
        if id != Some(self.id.as_str()) {
            return Err(SealError::OtherKey);
        }
        let bytes = body.and_then(unhex).ok_or(SealError::Damaged)?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES).ok_or(SealError::Damaged)?;
        let payload = Payload { msg: sealed, aad: &binding(kind, name, field) };
        let opened =
            self.cipher.decrypt(XNonce::from_slice(nonce), payload).map_err(|_| SealError::Damaged)?;
        String::from_utf8(opened).map(Secret::new).map_err(|_| SealError::Damaged)
    }

    /// Seals bytes, such as a body, for one field of one object: the format, the key's id, the nonce, the sealed bytes.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn seal_bytes(
        &self,
        kind: &str,
        name: &str,
        field: &str,
        bytes: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| SealError::NoEntropy)?;
        let payload = Payload { msg: bytes, aad: &binding(kind, name, field) };
        let sealed =
            self.cipher.encrypt(XNonce::from_slice(&nonce), payload).map_err(|_| SealError::Damaged)?;
        Ok([BYTES_FORMAT, self.id.as_bytes(), &nonce, &sealed].concat())
    }

    /// Opens what [`MasterKey::seal_bytes`] sealed for the same field.
    ///
    /// # Errors
    /// When it was sealed under another key, for another field, or was changed.
    pub fn open_bytes(
        &self,
        kind: &str,
        name: &str,
        field: &str,
        sealed: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let rest = sealed.strip_prefix(BYTES_FORMAT).ok_or(SealError::Damaged)?;
        let (id, rest) = rest.split_at_checked(self.id.len()).ok_or(SealError::Damaged)?;
        if id != self.id.as_bytes() {
            return Err(SealError::OtherKey);
        }
        let (nonce, sealed) = rest.split_at_checked(NONCE_BYTES).ok_or(SealError::Damaged)?;
        let payload = Payload { msg: sealed, aad: &binding(kind, name, field) };
        self.cipher.decrypt(XNonce::from_slice(nonce), payload).map_err(|_| SealError::Damaged)
    }
}

/// Lengths come first, so that no two (kind, name, field) give the same bytes.
fn binding(kind: &str, name: &str, field: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in [kind, name, field] {
        bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(2) {
        return None;
    }
    bytes.chunks_exact(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_where_it_was_sealed() {
        let key = MasterKey::new(&[7; 32]);
        let sealed = key.seal("account", "main", "api_key", &Secret::new("sk-1".into())).unwrap();
        assert!(!sealed.contains("sk-1"));
        assert_eq!(key.open("account", "main", "api_key", &sealed).unwrap().expose(), "sk-1");
        for (kind, name, field) in [
            ("account", "other", "api_key"),
            ("token", "main", "api_key"),
            ("account", "main", "x"),
            ("accountm", "ain", "api_key"),
        ] {
            assert_eq!(key.open(kind, name, field, &sealed).unwrap_err(), SealError::Damaged);
        }
        assert_eq!(
            MasterKey::new(&[8; 32]).open("account", "main", "api_key", &sealed).unwrap_err(),
            SealError::OtherKey
        );
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(key.open("account", "main", "api_key", &changed).is_err(), "byte {at}");
        }
        assert!(key.open("account", "main", "api_key", "").is_err());
    }

    #[test]
    fn bytes_open_only_where_they_were_sealed() {
        let key = MasterKey::new(&[7; 32]);
        let plain = b"\x00a prompt\xff";
        let sealed = key.seal_bytes("request-log", "1", "who", plain).unwrap();
        assert!(memchr::memmem::find(&sealed, b"a prompt").is_none());
        assert_eq!(key.open_bytes("request-log", "1", "who", &sealed).unwrap(), plain);
        for (name, field) in [("2", "who"), ("1", "another")] {
            assert_eq!(key.open_bytes("request-log", name, field, &sealed), Err(SealError::Damaged));
        }
        let other = MasterKey::new(&[8; 32]);
        assert_eq!(other.open_bytes("request-log", "1", "who", &sealed), Err(SealError::OtherKey));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(key.open_bytes("request-log", "1", "who", &changed).is_err(), "byte {at}");
            assert!(key.open_bytes("request-log", "1", "who", &sealed[..at]).is_err(), "{at} bytes");
        }
    }
}

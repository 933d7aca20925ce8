//! Token texts: `tfy_pat_<id>_<secret><checksum>` and `tfy_va_<id>_<secret><checksum>`.
//!
//! The id is public, 12 base62 characters. The secret is 256 random bits as 43 base62 characters. The checksum
//! is 6 more, so that a mistyped or cut token is told apart from an unknown one without a look-up.

use crate::id::TokenId;
use crate::secret::{Secret, SecretHash};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ID_CHARS: usize = 12;
const SECRET_CHARS: usize = 43;
const CHECKSUM_CHARS: usize = 6;

/// Personal or virtual: part of the text, so that people and secret scanners see which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Acts as a user.
    Personal,
    /// Acts as a virtual account.
    Virtual,
}

impl TokenKind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Personal => "tfy_pat_",
            Self::Virtual => "tfy_va_",
        }
    }
}

/// A token text that has the right form; whether it is known is the store's to say.
pub struct PresentedToken<'a> {
    /// Which kind it says it is.
    pub kind: TokenKind,
    /// Its public id.
    pub id: &'a str,
    secret: &'a str,
}

impl std::fmt::Debug for PresentedToken<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PresentedToken({:?} {})", self.kind, self.id)
    }
}

/// The system's random source failed; nothing can be minted.
#[derive(Debug)]
pub struct NoEntropy;

impl std::fmt::Display for NoEntropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the system's random source failed")
    }
}

fn base62(bytes: &[u8; 32], chars: usize) -> String {
    // Repeated division of a 256-bit number in four limbs, the highest first; digits come out lowest first.
    let mut limbs = [0_u64; 4];
    for (limb, part) in limbs.iter_mut().zip(bytes.chunks_exact(8)) {
        *limb = part.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte));
    }
    let mut text = String::with_capacity(chars);
    for _ in 0..chars {
        let mut remainder = 0_u128;
        for limb in &mut limbs {
            let value = (remainder << 64) | u128::from(*limb);
            *limb = u64::try_from(value / 62).unwrap_or(0);
            remainder = value % 62;
        }
        let digit = usize::try_from(remainder).unwrap_or(0);
        text.push(char::from(ALPHABET.get(digit).copied().unwrap_or(b'0')));
    }
    text
}

/// The lowest digits of the hash. Those depend on its remainder by 62^6 only, which is found in small steps: every
/// call pays for this, and dividing all of the 256 bits would take most of the time of finding its token.
fn checksum(body: &str) -> String {
    const MODULUS: u64 = 62_u64.pow(6);
    let hash = blake3::hash(body.as_bytes());
    let step = |rest: u64, part: &[u8]| {
        // Below 2^36, and so below 2^60 with three bytes more.
        part.iter().fold(rest, |number, byte| (number << 8) | u64::from(*byte)) % MODULUS
    };
    let mut rest = hash.as_bytes().chunks(3).fold(0, step);
    let mut text = String::with_capacity(CHECKSUM_CHARS);
    for _ in 0..CHECKSUM_CHARS {
        let digit = usize::try_from(rest % 62).unwrap_or(0);
        text.push(char::from(ALPHABET.get(digit).copied().unwrap_or(b'0')));
        rest /= 62;
    }
    text
}

/// 12 random base62 characters.
///
/// # Errors
/// When the system has no randomness.
pub fn random_id() -> Result<String, NoEntropy> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| NoEntropy)?;
    Ok(base62(&bytes, ID_CHARS))
}

/// Makes a token: its id, its text (to be shown once) and the hash to keep.
///
/// # Errors
/// When the system has no randomness.
pub fn mint(kind: TokenKind) -> Result<(TokenId, Secret, SecretHash), NoEntropy> {
    let id = random_id()?;
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| NoEntropy)?;
    let secret = base62(&bytes, SECRET_CHARS);
    let body = format!("{}{id}_{secret}", kind.prefix());
    let text = Secret::new(format!("{body}{}", checksum(&body)));
    let id = TokenId::parse(&id).map_err(|_| NoEntropy)?;
    Ok((id, text, SecretHash::of(&secret)))
}

/// Takes a token text apart; `None` when the form or the checksum is wrong.
pub fn parse(text: &str) -> Option<PresentedToken<'_>> {
    let kind =
        [TokenKind::Personal, TokenKind::Virtual].into_iter().find(|kind| text.starts_with(kind.prefix()))?;
    let rest = text.strip_prefix(kind.prefix())?;
    let (id, tail) = rest.split_once('_')?;
    let right = id.len() == ID_CHARS
        && tail.len() == SECRET_CHARS + CHECKSUM_CHARS
        && id.bytes().chain(tail.bytes()).all(|b| b.is_ascii_alphanumeric());
    if !right {
        return None;
    }
    let (secret, given) = tail.split_at_checked(SECRET_CHARS)?;
    let body = text.get(..text.len() - CHECKSUM_CHARS)?;
    (checksum(body) == given).then_some(PresentedToken { kind, id, secret })
}

impl PresentedToken<'_> {
    /// Whether this is the secret that was hashed, in constant time.
    pub fn matches(&self, secret_hash: &SecretHash) -> bool {
        SecretHash::of(self.secret) == *secret_hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_every_single_change_is_refused() {
        let (id, text, hash) = mint(TokenKind::Personal).unwrap();
        let text = text.expose();
        let token = parse(text).unwrap();
        assert_eq!((token.kind, token.id), (TokenKind::Personal, id.as_str()));
        assert!(token.matches(&hash));
        assert!(!token.matches(&SecretHash::of("another")));
        for at in 0..text.len() {
            let mut changed = text.as_bytes().to_vec();
            changed[at] = if changed[at] == b'x' { b'y' } else { b'x' };
            assert!(parse(std::str::from_utf8(&changed).unwrap()).is_none(), "byte {at}");
            assert!(parse(&text[..at]).is_none(), "cut at {at}");
        }
        assert!(parse(&format!("{text}a")).is_none());
        let (_, va, _) = mint(TokenKind::Virtual).unwrap();
        assert!(va.expose().starts_with("tfy_va_"));
        assert_ne!(va.expose(), mint(TokenKind::Virtual).unwrap().1.expose());
    }

    #[test]
    fn a_checksum_is_the_hash_in_base_62() {
        for number in 0..1000 {
            let body = format!("tfy_pat_{number}");
            let whole = base62(blake3::hash(body.as_bytes()).as_bytes(), CHECKSUM_CHARS);
            assert_eq!(checksum(&body), whole, "{body}");
        }
    }

    #[test]
    fn base62_uses_all_bits() {
        assert_eq!(base62(&[0; 32], 43), "0".repeat(43));
        assert_ne!(base62(&[255; 32], 43).chars().last(), Some('0'));
    }
}

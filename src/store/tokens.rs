//! All tokens by id, in order: made for one look-up a call among a million.
//!
//! Ids are random and minted here, so their first characters spread them evenly and the next ones say nearly where in
//! its piece an id stands: a look-up reads three or four lines of memory, where a tree of that many reads a dozen.
//! Ids that are not random (a hostile look-up, a test) cost a binary search.

use std::sync::Arc;

use super::world::Versioned;
use crate::domain::Token;
use crate::id::TokenId;

/// Digits of an id, in the order of their bytes.
const DIGITS: usize = 62;

/// Steps from where an id should be, before it is searched for instead.
const MAX_STEPS: usize = 48;

/// The tokens whose ids begin with the same two characters, by id.
#[derive(Clone, Debug, Default)]
struct Piece {
    ids: Vec<TokenId>,
    tokens: Vec<Versioned<Token>>,
}

/// A persistent ordered map: a clone costs nothing, and a change copies one piece and the way to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Tokens {
    /// By the first character, then by the second; empty when there are no tokens.
    pieces: Arc<[Arc<[Arc<Piece>]>]>,
}

fn digit(byte: u8) -> usize {
    usize::from(match byte {
        b'0'..=b'9' => byte - b'0',
        b'A'..=b'Z' => byte - b'A' + 10,
        _ => byte.wrapping_sub(b'a').wrapping_add(36),
    })
    .min(DIGITS - 1)
}

impl Piece {
    /// Where an id is, or where it belongs.
    fn place(&self, id: &TokenId) -> Result<usize, usize> {
        let ids = self.ids.as_slice();
        let wanted = id.number();
        let [_, _, rest @ ..] = id.bytes();
        let share = rest.iter().take(4).fold(0, |share, byte| share * DIGITS + digit(*byte));
        let guess = share * ids.len() / DIGITS.pow(4);
        let (before, from) = ids.split_at_checked(guess).unwrap_or((ids, &[]));
        let later = before.iter().rev().take(MAX_STEPS).take_while(|other| other.number() >= wanted).count();
        let (steps, place) = if later > 0 {
            (later, guess - later)
        } else {
            let earlier = from.iter().take(MAX_STEPS).take_while(|other| other.number() < wanted).count();
            (earlier, guess + earlier)
        };
        if steps == MAX_STEPS {
            return ids.binary_search_by_key(&wanted, TokenId::number);
        }
        match ids.get(place) {
            Some(other) if other == id => Ok(place),
            _ => Err(place),
        }
    }
}

impl Tokens {
    fn piece(&self, id: &TokenId) -> Option<&Piece> {
        let [first, second, ..] = id.bytes();
        self.pieces.get(digit(*first))?.get(digit(*second)).map(Arc::as_ref)
    }

    fn piece_mut(&mut self, id: &TokenId) -> Option<&mut Piece> {
        let [first, second, ..] = id.bytes();
        let row = Arc::make_mut(&mut self.pieces).get_mut(digit(*first))?;
        Arc::make_mut(row).get_mut(digit(*second)).map(Arc::make_mut)
    }

    /// A token by id.
    pub(super) fn get(&self, id: &TokenId) -> Option<&Versioned<Token>> {
        let piece = self.piece(id)?;
        piece.tokens.get(piece.place(id).ok()?)
    }

    /// All of them, by id.
    pub(super) fn values(&self) -> impl Iterator<Item = &Versioned<Token>> {
        self.pieces.iter().flat_map(|row| row.iter()).flat_map(|piece| piece.tokens.iter())
    }

    /// Puts one in, replacing the one of the same id.
    pub(super) fn insert(&mut self, token: Versioned<Token>) {
        if self.pieces.is_empty() {
            // All the same empty piece, until something is put in one.
            let piece = Arc::<Piece>::default();
            let row: Arc<[Arc<Piece>]> = std::iter::repeat_n(piece, DIGITS).collect();
            self.pieces = std::iter::repeat_n(row, DIGITS).collect();
        }
        let id = token.id.clone();
        let Some(piece) = self.piece_mut(&id) else { return };
        match piece.place(&id) {
            Ok(place) => {
                if let Some(old) = piece.tokens.get_mut(place) {
                    *old = token;
                }
            }
            Err(place) => {
                // An eighth more rather than twice as much: with a million tokens the spare room would be 28 MB.
                if piece.ids.len() == piece.ids.capacity() {
                    let more = piece.ids.len() / 8 + 4;
                    piece.ids.reserve_exact(more);
                    piece.tokens.reserve_exact(more);
                }
                piece.ids.insert(place, id);
                piece.tokens.insert(place, token);
            }
        }
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, id: &TokenId) -> Option<Versioned<Token>> {
        // Nothing is copied for one that is not there.
        self.get(id)?;
        let piece = self.piece_mut(id)?;
        let place = piece.place(id).ok()?;
        piece.ids.remove(place);
        Some(piece.tokens.remove(place))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::clock::UnixMillis;
    use crate::domain::Owner;
    use crate::id::{Email, SlugName};
    use crate::secret::SecretHash;

    fn token(id: &str, revision: u64) -> Versioned<Token> {
        let value = Arc::new(Token {
            id: TokenId::parse(id).unwrap(),
            owner: Owner::User(Email::parse("ada@example.com").unwrap()),
            name: SlugName::parse("laptop").unwrap(),
            secret_hash: SecretHash::of(id),
            expires_at: None,
            created_at: UnixMillis(1),
            created_by: String::new(),
            replaces: None,
            replaced_by: None,
            revoked_at: None,
        });
        Versioned { revision, value }
    }

    /// The map beside one of the standard library, under the same changes.
    fn same_as_a_tree(ids: &[String]) {
        let (mut tokens, mut tree) = (Tokens::default(), BTreeMap::new());
        for (number, id) in ids.iter().enumerate() {
            let revision = number as u64;
            tokens.insert(token(id, revision));
            tree.insert(id.clone(), revision);
            if number % 3 == 2 {
                let gone = &ids[number / 2];
                let was = tokens.remove(&TokenId::parse(gone).unwrap()).map(|token| token.revision);
                assert_eq!(was, tree.remove(gone), "{gone}");
            }
        }
        let all: Vec<_> = tokens.values().map(|token| (token.id.to_string(), token.revision)).collect();
        assert!(all.iter().map(|(id, revision)| (id, revision)).eq(tree.iter()), "the same, in order");
        for id in ids {
            let found = tokens.get(&TokenId::parse(id).unwrap());
            assert_eq!(found.map(|token| token.revision), tree.get(id).copied(), "{id}");
            assert!(found.is_none_or(|token| token.id.as_str() == id));
        }
    }

    #[test]
    fn random_ids_and_ids_that_are_anything_but() {
        let random: Vec<_> = (0..3000).map(|_| crate::token::random_id().unwrap()).collect();
        same_as_a_tree(&random);
        let twice: Vec<_> = random.iter().chain(random.iter().rev()).cloned().collect();
        same_as_a_tree(&twice);
        same_as_a_tree(&(0..2000).map(|number| format!("{number:012}")).collect::<Vec<_>>());
        same_as_a_tree(&(0..2000).rev().map(|number| format!("zz{number:010}")).collect::<Vec<_>>());
        same_as_a_tree(
            &(0..2000).map(|number| format!("Aa{:010}z", number % 50)[..12].to_owned()).collect::<Vec<_>>(),
        );
        let ends: Vec<_> = (0..62)
            .flat_map(|n| ["0zzzzzzzzzz", "z0000000000"].map(|end| format!("{}{end}", base62(n))))
            .collect();
        same_as_a_tree(&ends);
        same_as_a_tree(&[]);
    }

    fn base62(digit: usize) -> char {
        (b'0'..=b'z').filter(u8::is_ascii_alphanumeric).map(char::from).nth(digit).unwrap()
    }

    #[test]
    fn digits_are_in_the_order_of_their_bytes() {
        for number in 0..62 {
            assert_eq!(digit(u8::try_from(base62(number)).unwrap()), number);
        }
    }

    #[test]
    fn a_clone_stays_as_it_was() {
        let mut tokens = Tokens::default();
        tokens.insert(token("000000000001", 1));
        let before = tokens.clone();
        tokens.insert(token("000000000001", 2));
        tokens.insert(token("000000000002", 2));
        let one = TokenId::parse("000000000001").unwrap();
        assert_eq!(before.get(&one).map(|token| token.revision), Some(1));
        assert_eq!(before.values().count(), 1);
        assert_eq!(tokens.remove(&one).map(|token| token.revision), Some(2));
        assert!(tokens.remove(&one).is_none());
        assert_eq!(before.values().count(), 1);
        assert_eq!(tokens.values().count(), 1);
    }
}

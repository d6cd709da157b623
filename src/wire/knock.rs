//! A knock: the small datagram by which two members of one party who do not know each other's keys meet.
//!
//! It travels on the tunnel's own socket, beside WireGuard. A *question* carries the sender's sealed and signed record, an
//! *answer* the receiver's. Everything behind the head is sealed with a key from the party's secret: strangers can neither
//! make nor read one, nor see who knocks, and refusing theirs costs one cheap cipher, never a signature.
//!
//! ```text
//!  0 .. 3          4         5       6 7    8 .. 31    32 ...
//!  0xb5 'l' 'r' 'k'  version   what    0 0    nonce      sealed: token (8), envelope (postcard), zeros
//! ```
//!
//! Who knocks with the secret of an earlier epoch is told so, with the owner's rotation where it fits (`Rekeyed`).
//!
//! A question is always `QUESTION` bytes long and an answer at most that, so that nobody can use a member to send more to
//! a third than he sent himself. The token of a question comes back in its answer: only who got the question can
//! give it, so an answer proves that its sender is at its address now.

use crate::model::key::PartyKeys;
use crate::model::record::{Envelope, Rotation};

/// The length of every question in bytes: with UDP and IPv6 it fits the least MTU of IPv6 (RFC 8200, section 5).
pub const QUESTION: usize = 1200;
/// What stands before the sealed part.
const HEAD: usize = 8;
/// A nonce of XChaCha20-Poly1305 and its tag.
const SEAL: usize = 24 + 16;
/// Length of the token.
const TOKEN: usize = 8;
/// The longest envelope that a knock can carry, as postcard.
pub const ENVELOPE: usize = QUESTION - HEAD - SEAL - TOKEN;
/// The only format so far.
const VERSION: u8 = 1;

/// Which way a knock goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// "It is me; who are you?"
    Question,
    /// "I am this one."
    Answer,
}

/// What a knock says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Knock {
    /// Which way.
    pub what: What,
    /// Random in a question, the question's in an answer.
    pub token: [u8; TOKEN],
    /// The sender's record.
    pub envelope: Envelope,
}

/// The answer to a knock with the secret of an earlier epoch, sealed with that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rekeyed {
    /// The question's.
    pub token: [u8; TOKEN],
    /// What led to the present epoch; left out where it is too long (more than a dozen players).
    pub rotation: Option<Rotation>,
}

impl Rekeyed {
    /// Seals it; without the rotation when that is too long.
    #[must_use]
    pub fn seal(&self, keys: &PartyKeys, nonce: [u8; 24]) -> Vec<u8> {
        let body = postcard::to_allocvec(&self.rotation).ok().filter(|b| b.len() <= ENVELOPE);
        let plain = [&self.token[..], &body.unwrap_or_else(|| vec![0])].concat();
        [&REKEYED[..], &keys.seal_knock(&REKEYED, nonce, &plain)].concat()
    }

    /// Opens it; `None` for anything else.
    #[must_use]
    pub fn open(bytes: &[u8], keys: &PartyKeys) -> Option<Self> {
        let (start, sealed) = bytes.split_first_chunk::<HEAD>()?;
        if *start != REKEYED || bytes.len() > QUESTION {
            return None;
        }
        let plain = keys.open_knock(start, sealed)?;
        let (token, rest) = plain.split_first_chunk()?;
        Some(Self { token: *token, rotation: postcard::from_bytes(rest).ok()? })
    }

    /// Whether these bytes claim to be one, before any cipher.
    #[must_use]
    pub fn is(bytes: &[u8]) -> bool {
        bytes.starts_with(&REKEYED)
    }
}

/// Why a datagram is no knock of this party.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KnockError {
    /// Too short, too long, or of a later format.
    #[error("not a knock that this program understands")]
    Form,
    /// Made by somebody who does not know the party's secret of this epoch.
    #[error("not of this party")]
    Seal,
    /// Made by a member, but not readable.
    #[error("the knock is damaged")]
    Damaged,
}

impl Knock {
    /// Seals a knock; `None` when its envelope is longer than `ENVELOPE`.
    #[must_use]
    pub fn seal(&self, keys: &PartyKeys, nonce: [u8; 24]) -> Option<Vec<u8>> {
        let envelope = postcard::to_allocvec(&self.envelope).ok().filter(|e| e.len() <= ENVELOPE)?;
        let mut plain = self.token.to_vec();
        plain.extend_from_slice(&envelope);
        if self.what == What::Question {
            plain.resize(TOKEN + ENVELOPE, 0);
        }
        let head = head(self.what);
        let mut out = head.to_vec();
        out.extend_from_slice(&keys.seal_knock(&head, nonce, &plain));
        Some(out)
    }

    /// Opens a knock. The envelope in it is not checked yet: its signature is dear.
    ///
    /// # Errors
    /// `Form` and `Seal` for what strangers send, `Damaged` for what a member made wrong.
    pub fn open(bytes: &[u8], keys: &PartyKeys) -> Result<Self, KnockError> {
        let (start, sealed) = bytes.split_first_chunk::<HEAD>().ok_or(KnockError::Form)?;
        let what = [What::Question, What::Answer].into_iter().find(|w| head(*w) == *start);
        let what = what.ok_or(KnockError::Form)?;
        let fits = match what {
            What::Question => bytes.len() == QUESTION,
            What::Answer => bytes.len() <= QUESTION,
        };
        if !fits {
            return Err(KnockError::Form);
        }
        let plain = keys.open_knock(start, sealed).ok_or(KnockError::Seal)?;
        let (token, rest) = plain.split_first_chunk().ok_or(KnockError::Damaged)?;
        let (envelope, pad) = postcard::take_from_bytes(rest).map_err(|_| KnockError::Damaged)?;
        if pad.iter().any(|b| *b != 0) {
            return Err(KnockError::Damaged);
        }
        Ok(Self { what, token: *token, envelope })
    }
}

const REKEYED: [u8; HEAD] = [0xb5, b'l', b'r', b'k', VERSION, 3, 0, 0];

const fn head(what: What) -> [u8; HEAD] {
    let word = match what {
        What::Question => 1,
        What::Answer => 2,
    };
    [0xb5, b'l', b'r', b'k', VERSION, word, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::addr::{Candidate, CandidateKind, Seat};
    use crate::model::id::PartyId;
    use crate::model::key::{NodeKeys, NodeSecret, PartySecret};
    use crate::model::record::PeerRecord;
    use crate::wire::kind::Kind;
    use proptest::prelude::*;

    fn party(secret: u8) -> PartyKeys {
        let owner = NodeKeys::new(&NodeSecret([1; 32])).id();
        PartyKeys::new(PartyId::of(owner, 0), 0, &PartySecret([secret; 16]))
    }

    fn envelope(candidates: usize) -> Envelope {
        let keys = NodeKeys::new(&NodeSecret([2; 32]));
        let addr = "[2001:db8::1]:40000".parse().unwrap();
        let record = PeerRecord {
            name: "Ana".into(),
            tunnel: keys.tunnel_key(),
            seat: Seat(7),
            seat_since: 1,
            candidates: vec![Candidate { addr, kind: CandidateKind::Host }; candidates],
            nat: crate::model::nat::NatFacts::default(),
            games: vec!["minecraft-java".into()],
            incarnation: 1,
            friend: false,
        };
        Envelope::seal(&record, &keys, &party(1), 5, [4; 24])
    }

    fn knock(what: What) -> Knock {
        Knock { what, token: [8; TOKEN], envelope: envelope(3) }
    }

    #[test]
    fn both_kinds_read_back_and_no_answer_is_longer_than_its_question() {
        for what in [What::Question, What::Answer] {
            let bytes = knock(what).seal(&party(1), [1; 24]).unwrap();
            assert_eq!(Kind::of(&bytes), Kind::Knock);
            assert_eq!(Knock::open(&bytes, &party(1)), Ok(knock(what)));
            assert!(if what == What::Question { bytes.len() == QUESTION } else { bytes.len() < QUESTION });
        }
        assert_eq!(Knock { envelope: envelope(60), ..knock(What::Answer) }.seal(&party(1), [1; 24]), None);
    }

    #[test]
    fn strangers_and_short_questions_are_refused_before_anything_dear_is_done() {
        let bytes = knock(What::Question).seal(&party(1), [1; 24]).unwrap();
        assert_eq!(Knock::open(&bytes, &party(2)), Err(KnockError::Seal));
        let short = &bytes[..bytes.len() - 1];
        assert_eq!(Knock::open(short, &party(1)), Err(KnockError::Form));
        let mut turned = bytes;
        turned[5] = 2;
        assert_eq!(
            Knock::open(&turned, &party(1)),
            Err(KnockError::Seal),
            "a question is not made an answer"
        );
    }

    #[test]
    fn a_rotation_comes_along_where_it_fits_and_never_makes_an_answer_too_long() {
        let owner = NodeKeys::new(&NodeSecret([1; 32]));
        for (peers, fits) in [(3, true), (12, true), (30, false)] {
            let stay: Vec<_> = (0..peers)
                .map(|n| NodeKeys::new(&NodeSecret([n + 10; 32])))
                .map(|k| (k.id(), k.tunnel_key()))
                .collect();
            let rotation = Rotation::seal(&owner, 0, 1, &PartySecret([9; 16]), &stay, || [1; 24]);
            let said = Rekeyed { token: [7; TOKEN], rotation: Some(rotation.clone()) };
            let bytes = said.seal(&party(1), [2; 24]);
            assert!(bytes.len() <= QUESTION && Rekeyed::is(&bytes));
            let read = Rekeyed::open(&bytes, &party(1)).unwrap();
            assert_eq!(read, Rekeyed { token: [7; TOKEN], rotation: fits.then_some(rotation) });
            assert_eq!(Rekeyed::open(&bytes, &party(2)), None);
            assert_eq!(Knock::open(&bytes, &party(1)), Err(KnockError::Form));
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1300)) {
            let _ = Knock::open(&bytes, &party(1));
            let _ = Rekeyed::open(&[&REKEYED[..], &bytes].concat(), &party(1));
            let sealed = party(1).seal_knock(&REKEYED, [9; 24], &bytes);
            let _ = Rekeyed::open(&[&REKEYED[..], &sealed].concat(), &party(1));
        }

        #[test]
        fn a_member_that_seals_rubbish_is_refused(what in 1u8..4, plain in proptest::collection::vec(any::<u8>(), 0..1152)) {
            let head = [0xb5, b'l', b'r', b'k', 1, what, 0, 0];
            let sealed = party(1).seal_knock(&head, [9; 24], &plain);
            let _ = Knock::open(&[&head[..], &sealed].concat(), &party(1));
        }

        #[test]
        fn a_flipped_bit_is_noticed(at in 0usize..QUESTION, bit in 0u8..8) {
            let mut bytes = knock(What::Question).seal(&party(1), [1; 24]).unwrap();
            bytes[at] ^= 1 << bit;
            prop_assert!(Knock::open(&bytes, &party(1)).is_err());
        }
    }
}

//! What a datagram looks like on the wire, and who may have written it?
//!
//! With a secret, version 1: `1 | epoch (16) | counter (8) | AES-256-GCM ciphertext and tag`, the first three
//! authenticated too. A sender draws its epoch at random when it starts and derives its own key from it and the shared
//! secret (HKDF-SHA256), so that the counter alone makes every nonce unique and no limit on random nonces under one
//! key is ever near. Epoch and counter are also what a replay window will stand on. Without a secret, version 0:
//! `0 | plaintext`. Each side refuses the other's version: a secret is never silently given up.

use std::collections::BTreeMap;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};

use crate::members::DropReason;

const PLAIN: u8 = 0;
const SEALED: u8 = 1;
const EPOCH: usize = 16;
const HEADER: usize = 1 + EPOCH + 8;
const TAG: usize = 16;
/// Bytes that an envelope adds at most.
pub const OVERHEAD: usize = HEADER + TAG;
/// Separates our use of the secret from any other.
const LABEL: &[u8] = b"ferrolb membership datagrams, version 1";
/// Keys of senders that are kept ready. Only proven senders get in; when it is full it starts anew, which costs one
/// derivation per sender.
const MOST_KEYS: usize = 1024;

type Epoch = [u8; EPOCH];

/// Seals what this node sends and opens what it receives.
pub(crate) enum Envelope {
    Plain,
    Sealed(Box<Seal>),
}

pub(crate) struct Seal {
    secret: Prk,
    epoch: Epoch,
    counter: u64,
    own: LessSafeKey,
    others: BTreeMap<Epoch, LessSafeKey>,
}

impl Envelope {
    /// `epoch` must be random: two senders that shared one would share nonces.
    pub(crate) fn new(secret: Option<&[u8]>, epoch: Epoch) -> Self {
        let Some(secret) = secret else {
            return Self::Plain;
        };
        let secret = Salt::new(HKDF_SHA256, LABEL).extract(secret);
        let own = key_of(&secret, &epoch);
        Self::Sealed(Box::new(Seal {
            secret,
            epoch,
            counter: 0,
            own,
            others: BTreeMap::new(),
        }))
    }

    pub(crate) fn seal(&mut self, plaintext: &[u8]) -> Vec<u8> {
        let mut datagram = Vec::with_capacity(plaintext.len() + OVERHEAD);
        let Self::Sealed(seal) = self else {
            datagram.push(PLAIN);
            datagram.extend_from_slice(plaintext);
            return datagram;
        };
        let counter = seal.counter.to_be_bytes();
        seal.counter += 1;
        datagram.push(SEALED);
        datagram.extend_from_slice(&seal.epoch);
        datagram.extend_from_slice(&counter);
        let aad = Aad::from(datagram.clone());
        datagram.extend_from_slice(plaintext);
        let body = datagram.get_mut(HEADER..).unwrap_or_default();
        let tag = seal
            .own
            .seal_in_place_separate_tag(nonce(counter), aad, body)
            .expect("a datagram is far below the limit of AES-GCM");
        datagram.extend_from_slice(tag.as_ref());
        datagram
    }

    pub(crate) fn open(&mut self, datagram: &[u8]) -> Result<Vec<u8>, DropReason> {
        let (&version, rest) = datagram.split_first().ok_or(DropReason::Truncated)?;
        match (version, self) {
            (PLAIN, Self::Plain) => Ok(rest.to_vec()),
            (SEALED, Self::Sealed(seal)) => seal.open(datagram, rest),
            (PLAIN, Self::Sealed(_)) => Err(DropReason::Unencrypted),
            (SEALED, Self::Plain) => Err(DropReason::Encrypted),
            _ => Err(DropReason::Version),
        }
    }
}

impl Seal {
    fn open(&mut self, datagram: &[u8], rest: &[u8]) -> Result<Vec<u8>, DropReason> {
        let (&epoch, rest) = rest
            .split_first_chunk::<EPOCH>()
            .ok_or(DropReason::Truncated)?;
        let (&counter, sealed) = rest.split_first_chunk::<8>().ok_or(DropReason::Truncated)?;
        if sealed.len() < TAG {
            return Err(DropReason::Truncated);
        }
        let aad = Aad::from(datagram.get(..HEADER).unwrap_or_default());
        let mut body = sealed.to_vec();
        let derived;
        let (key, known) = match self.others.get(&epoch) {
            Some(key) => (key, true),
            None => {
                derived = key_of(&self.secret, &epoch);
                (&derived, false)
            }
        };
        let length = key
            .open_in_place(nonce(counter), aad, &mut body)
            .map_err(|_unspecified| DropReason::Authentication)?
            .len();
        body.truncate(length);
        if !known {
            if self.others.len() >= MOST_KEYS {
                self.others.clear();
            }
            self.others.insert(epoch, key_of(&self.secret, &epoch));
        }
        Ok(body)
    }
}

fn key_of(secret: &Prk, epoch: &Epoch) -> LessSafeKey {
    let key = secret.expand(&[epoch], &AES_256_GCM).map(UnboundKey::from);
    LessSafeKey::new(key.expect("HKDF yields 32 bytes for any input"))
}

fn nonce(counter: [u8; 8]) -> Nonce {
    let mut bytes = [0; 12];
    bytes
        .iter_mut()
        .skip(4)
        .zip(counter)
        .for_each(|(to, from)| *to = from);
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealed(secret: &[u8], epoch: u8) -> Envelope {
        Envelope::new(Some(secret), [epoch; EPOCH])
    }

    #[test]
    fn what_one_seals_another_with_the_same_secret_opens() {
        let (mut a, mut b) = (sealed(b"secret", 1), sealed(b"secret", 2));
        for text in [&b"hello"[..], b"", b"again"] {
            let datagram = a.seal(text);
            assert_eq!(datagram.len(), text.len() + OVERHEAD);
            assert_eq!(b.open(&datagram).unwrap(), text);
        }
    }

    #[test]
    fn the_same_text_is_never_sealed_the_same_way_twice() {
        let mut a = sealed(b"secret", 1);
        assert_ne!(a.seal(b"hello"), a.seal(b"hello"));
    }

    #[test]
    fn any_changed_bit_is_noticed() {
        let (mut a, mut b) = (sealed(b"secret", 1), sealed(b"secret", 2));
        let datagram = a.seal(b"hello");
        for bit in 0..datagram.len() * 8 {
            let mut changed = datagram.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(b.open(&changed).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn foreign_datagrams_are_named() {
        let (mut a, mut other, mut plain) = (
            sealed(b"secret", 1),
            sealed(b"other", 2),
            Envelope::new(None, [0; 16]),
        );
        assert_eq!(a.open(&other.seal(b"x")), Err(DropReason::Authentication));
        assert_eq!(a.open(&plain.seal(b"x")), Err(DropReason::Unencrypted));
        assert_eq!(plain.open(&a.seal(b"x")), Err(DropReason::Encrypted));
        assert_eq!(a.open(&[]), Err(DropReason::Truncated));
        assert_eq!(a.open(&[SEALED; 40]), Err(DropReason::Truncated));
        assert_eq!(a.open(&[9, 9]), Err(DropReason::Version));
    }

    #[test]
    fn keys_of_forged_senders_are_not_kept() {
        let mut a = sealed(b"secret", 1);
        for epoch in 0..50 {
            assert!(a.open(&sealed(b"wrong", epoch).seal(b"x")).is_err());
        }
        let Envelope::Sealed(seal) = &a else {
            unreachable!("it has a secret")
        };
        assert!(seal.others.is_empty());
    }

    #[test]
    fn the_number_of_kept_keys_is_bounded() {
        let mut a = sealed(b"secret", 1);
        for sender in 0..MOST_KEYS as u128 + 10 {
            let datagram = Envelope::new(Some(b"secret"), sender.to_be_bytes()).seal(b"x");
            a.open(&datagram).unwrap();
        }
        let Envelope::Sealed(seal) = &a else {
            unreachable!("it has a secret")
        };
        assert!(seal.others.len() <= MOST_KEYS);
    }

    proptest! {
        #[test]
        fn random_datagrams_never_panic(datagram in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = sealed(b"secret", 1).open(&datagram);
            let _ = Envelope::new(None, [0; 16]).open(&datagram);
        }
    }
}

//! What does a datagram look like on the wire, who may have written it, and when?
//!
//! Without a secret, version 0: `0 | content`. Whoever reaches the port is believed, and recorded datagrams too.
//!
//! With a secret, version 1:
//! `1 | sender's epoch (16) | receiver's epoch (16) | counter (8) | newest secret known (4) | AES-256-GCM ciphertext and
//! tag`, all before the ciphertext authenticated too. The key follows from the secret and the sender's epoch
//! (HKDF-SHA256), so that the counter alone makes every nonce unique and no limit on random nonces under one key is ever
//! near. Each side refuses the other's version: a secret is never silently given up.
//!
//! # Why a recorded datagram is worth nothing
//!
//! An [epoch](epoch::Epoch) is one life of a process. A datagram is used only if
//!
//! 1. it names the receiver's own epoch, which nobody knew before this process began,
//! 2. its sender's epoch is the newest of those at its address that ever did that, and
//! 3. its counter was not used before (a window of 1,024, RFC 6479).
//!
//! So nothing that was sealed for an earlier life of the receiver, or for another member, is used; a node that has just
//! started believes nobody but who has heard of it; and traffic of a former life of the sender ends with the first word
//! of its next one. No clock is compared with another, so none has to be right.
//!
//! Members learn each other's epoch by a [`Greeting`], which is itself sealed: whoever wants to speak to a member whose
//! epoch it does not know greets it for [`Epoch::NOBODY`], and is greeted back in its own epoch, which proves the other's.
//! What it wanted to say waits meanwhile. Whoever is spoken to in an epoch that is not his greets the speaker. A greeting is not
//! answered otherwise, so that no two nodes greet each other for ever, and one that does not name the receiver's epoch
//! says nothing: a recorded one causes one short answer and no change.
//!
//! The number that begins an epoch is the time of the start. If a clock was set back, the next life of a node has a lower
//! number than others remember. They tell it so in their greeting, and it goes on in an epoch with a higher one: a node
//! is never locked out for longer than a datagram there and back.
//!
//! Who proved itself is remembered for as long as this node's epoch lasts, [`MOST_SENDERS`] addresses at most. If there
//! were more, this node would begin another epoch, for which nothing recorded is sealed, and learn all anew.

mod epoch;
mod keys;
mod senders;
mod waiting;
mod window;

use std::net::SocketAddr;
use std::time::Instant;

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use serde::{Deserialize, Serialize};

use crate::effects::DropReason;
use epoch::{Epoch, Epochs};
use keys::{Held, Keys, SecretId};
use senders::{Sender, Senders};
use waiting::Waiting;

pub use keys::ACCEPT_FORMER;

const PLAIN: u8 = 0;
const SEALED: u8 = 1;
const HEADER: usize = 1 + 2 * Epoch::LENGTH + 8 + size_of::<SecretId>();
const TAG: usize = 16;
/// Bytes that an envelope adds at most.
pub const OVERHEAD: usize = HEADER + TAG;
/// First byte of a content that is a [`Greeting`]; all other contents are the caller's.
pub(crate) const GREETING: u8 = 0;
/// Addresses whose newest epoch is remembered. Only who has the secret gets in.
const MOST_SENDERS: usize = 8192;

/// How a member makes itself known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Greeting {
    pub(crate) addr: SocketAddr,
    pub(crate) generation: u64,
    /// The highest number of an epoch at the address of whom it greets, if that is not below his present one.
    newest: Option<u64>,
}

/// A datagram on its way out.
pub(crate) type Datagram = (SocketAddr, Vec<u8>);

/// What is known of a datagram besides its content.
pub(crate) struct Seen(Option<Seal>);

struct Seal {
    from: Epoch,
    aim: Epoch,
    counter: u64,
    knows: SecretId,
    sealed_by: SecretId,
    /// Derived on opening, if the sender is not known.
    key: Option<LessSafeKey>,
}

/// Seals what this node sends and opens what it receives.
pub(crate) struct Envelope {
    own: SocketAddr,
    generation: u64,
    sealed: Option<Box<Sealed>>,
}

struct Sealed {
    keys: Keys,
    epochs: Epochs,
    epoch: Epoch,
    counter: u64,
    senders: Senders,
    waiting: Waiting,
}

impl Envelope {
    /// `random` must be drawn for every start of the process: two senders that shared it would share nonces.
    pub(crate) fn new(
        own: SocketAddr,
        generation: u64,
        secret: Option<&[u8]>,
        random: [u8; 16],
    ) -> Self {
        let sealed = secret.map(|secret| {
            let mut epochs = Epochs::new(random);
            let epoch = epochs.draw(generation);
            Box::new(Sealed {
                keys: Keys::new(secret, &epoch),
                epochs,
                epoch,
                counter: 0,
                senders: Senders::default(),
                waiting: Waiting::default(),
            })
        });
        Self {
            own,
            generation,
            sealed,
        }
    }

    /// Puts another secret in force. False if it was in force already, or this node has none at all.
    pub(crate) fn change_secret(&mut self, now: Instant, secret: &[u8]) -> bool {
        self.sealed
            .as_mut()
            .is_some_and(|sealed| sealed.keys.change(now, secret, &sealed.epoch))
    }

    /// This node is in another life, though in the same epoch.
    pub(crate) fn set_generation(&mut self, generation: u64) {
        self.generation = generation;
    }

    /// Others say that `generation` lives at `addr`.
    pub(crate) fn heard_of(&mut self, addr: SocketAddr, generation: u64) {
        if let Some(sealed) = &mut self.sealed
            && let Some(sender) = sealed.senders.at_mut(addr)
            && sender.generation < generation
        {
            sender.outdated = true;
        }
    }

    /// What has to be sent so that `content` reaches `to`, now or after an answer.
    pub(crate) fn send(&mut self, now: Instant, to: SocketAddr, content: &[u8]) -> Vec<Datagram> {
        let own = self.greeting(None);
        let Some(sealed) = &mut self.sealed else {
            let mut datagram = Vec::with_capacity(1 + content.len());
            datagram.push(PLAIN);
            datagram.extend_from_slice(content);
            return vec![(to, datagram)];
        };
        sealed.keys.expire(now);
        if let Some(datagram) = sealed.speak(to, content) {
            return vec![(to, datagram)];
        }
        sealed.waiting.keep(now, to, content);
        // He may know any of the secrets.
        let secrets: Vec<_> = sealed.keys.iter().map(|held| held.id).collect();
        secrets
            .into_iter()
            .map(|secret| (to, sealed.seal(secret, Epoch::NOBODY, &own)))
            .collect()
    }

    /// The content of a datagram. It must not be used before [`Self::admit`] has judged its sender.
    pub(crate) fn open(
        &mut self,
        now: Instant,
        datagram: &[u8],
    ) -> Result<(Vec<u8>, Seen), DropReason> {
        let (&version, rest) = datagram.split_first().ok_or(DropReason::Truncated)?;
        match (version, &mut self.sealed) {
            (PLAIN, None) => Ok((rest.to_vec(), Seen(None))),
            (SEALED, Some(sealed)) => {
                sealed.keys.expire(now);
                let (content, seal) = sealed.open(datagram, rest)?;
                Ok((content, Seen(Some(seal))))
            }
            (PLAIN, Some(_)) => Err(DropReason::Unencrypted),
            (SEALED, None) => Err(DropReason::Encrypted),
            _ => Err(DropReason::Version),
        }
    }

    /// Whether the content of a datagram that says to come from `generation` at `addr` may be used. What follows, used or
    /// not, is put into `send`.
    pub(crate) fn admit(
        &mut self,
        now: Instant,
        seen: Seen,
        (addr, generation): (SocketAddr, u64),
        greeting: Option<&Greeting>,
        send: &mut Vec<Datagram>,
    ) -> Result<(), DropReason> {
        let (Some(sealed), Seen(Some(seal))) = (&mut self.sealed, seen) else {
            // Where nothing is sealed there is nothing to greet for.
            return greeting.map_or(Ok(()), |_| Err(DropReason::Malformed));
        };
        if addr == self.own {
            return Err(DropReason::OwnAddress);
        }
        let newest = sealed.senders.not_older(addr, &seal.from);
        if seal.aim != sealed.epoch || newest.is_some() {
            let first_contact = greeting.is_some() && seal.aim == Epoch::NOBODY;
            if first_contact || greeting.is_none() {
                let own = self.greeting(newest);
                if let Some(sealed) = &mut self.sealed {
                    send.push((addr, sealed.seal(seal.sealed_by, seal.from, &own)));
                }
            }
            return if first_contact {
                Ok(())
            } else {
                Err(DropReason::OldEpoch)
            };
        }
        let known = sealed.senders.at(addr).map(|sender| sender.epoch);
        if known != Some(seal.from) {
            sealed.introduce(addr, &seal)?;
        }
        let sender = sealed.senders.accept(addr, &seal.from, seal.counter)?;
        sender.knows = seal.knows;
        sender.sealed_by = seal.sealed_by;
        if let Some(key) = seal.key {
            sender.key = key;
        }
        sender.generation = generation;
        sender.outdated = false;
        if let Some(newest) = greeting.and_then(|greeting| greeting.newest)
            && newest >= sealed.epoch.number()
        {
            sealed.enter_epoch(newest.saturating_add(1));
            self.greet_all(send);
        }
        self.say_what_waited(now, addr, send);
        Ok(())
    }

    fn greet_all(&mut self, send: &mut Vec<Datagram>) {
        let own = self.greeting(None);
        let Some(sealed) = &mut self.sealed else {
            return;
        };
        let known: Vec<_> = sealed.senders.iter().map(|(addr, _)| addr).collect();
        for addr in known {
            if let Some(datagram) = sealed.speak(addr, &own) {
                send.push((addr, datagram));
            }
        }
    }

    fn say_what_waited(&mut self, now: Instant, to: SocketAddr, send: &mut Vec<Datagram>) {
        let Some(sealed) = &mut self.sealed else {
            return;
        };
        let waited: Vec<_> = sealed.waiting.take(now, to).collect();
        for content in waited {
            if let Some(datagram) = sealed.speak(to, &content) {
                send.push((to, datagram));
            }
        }
    }

    fn greeting(&self, newest: Option<u64>) -> Vec<u8> {
        let greeting = Greeting {
            addr: self.own,
            generation: self.generation,
            newest,
        };
        postcard::to_extend(&greeting, vec![GREETING]).expect("a vector takes any number of bytes")
    }
}

impl Sealed {
    /// A datagram for the epoch that is known to be at `to`.
    fn speak(&mut self, to: SocketAddr, content: &[u8]) -> Option<Vec<u8>> {
        let sender = self.senders.at(to).filter(|sender| !sender.outdated)?;
        let (secret, epoch) = (sender.knows, sender.epoch);
        Some(self.seal(secret, epoch, content))
    }

    fn seal(&mut self, secret: SecretId, aim: Epoch, content: &[u8]) -> Vec<u8> {
        let counter = self.counter.to_be_bytes();
        self.counter += 1;
        let mut datagram = Vec::with_capacity(content.len() + OVERHEAD);
        datagram.push(SEALED);
        datagram.extend_from_slice(self.epoch.as_bytes());
        datagram.extend_from_slice(aim.as_bytes());
        datagram.extend_from_slice(&counter);
        datagram.extend_from_slice(&self.keys.newest().id);
        let aad = Aad::from(datagram.clone());
        datagram.extend_from_slice(content);
        let body = datagram.get_mut(HEADER..).unwrap_or_default();
        let key = &self.keys.called(secret).own;
        let tag = key
            .seal_in_place_separate_tag(nonce(counter), aad, body)
            .expect("a datagram is far below the limit of AES-GCM");
        datagram.extend_from_slice(tag.as_ref());
        datagram
    }

    fn open(&self, datagram: &[u8], rest: &[u8]) -> Result<(Vec<u8>, Seal), DropReason> {
        let truncated = DropReason::Truncated;
        let (&from, rest) = rest.split_first_chunk().ok_or(truncated)?;
        let (&aim, rest) = rest.split_first_chunk().ok_or(truncated)?;
        let (&counter, rest) = rest.split_first_chunk::<8>().ok_or(truncated)?;
        let (&knows, sealed) = rest.split_first_chunk().ok_or(truncated)?;
        if sealed.len() < TAG {
            return Err(truncated);
        }
        let head = datagram.get(..HEADER).unwrap_or_default();
        let seal = |sealed_by, key| Seal {
            from: Epoch::from_bytes(from),
            aim: Epoch::from_bytes(aim),
            counter: u64::from_be_bytes(counter),
            knows,
            sealed_by,
            key,
        };
        let from = Epoch::from_bytes(from);
        let known = self.senders.in_epoch(&from);
        if let Some(sender) = known
            && self.keys.iter().any(|held| held.id == sender.sealed_by)
            && let Some(content) = open_with(&sender.key, counter, head, sealed)
        {
            return Ok((content, seal(sender.sealed_by, None)));
        }
        let open_with_another = |held: &Held| {
            let key = held.key_of(&from);
            let content = open_with(&key, counter, head, sealed)?;
            Some((content, seal(held.id, Some(key))))
        };
        let tried = known.map(|sender| sender.sealed_by);
        self.keys
            .iter()
            .filter(|held| Some(held.id) != tried)
            .find_map(open_with_another)
            .ok_or(DropReason::Authentication)
    }

    /// Remembers a sender that has named our epoch.
    fn introduce(&mut self, addr: SocketAddr, seal: &Seal) -> Result<(), DropReason> {
        if self.senders.in_epoch(&seal.from).is_some() {
            // The epoch of another address.
            return Err(DropReason::Malformed);
        }
        if self.senders.at(addr).is_none() && self.senders.len() >= MOST_SENDERS {
            self.senders = Senders::default();
            self.enter_epoch(self.epoch.number().saturating_add(1));
        }
        let key = self.keys.called(seal.sealed_by).key_of(&seal.from);
        self.senders
            .enter(addr, Sender::new(seal.from, key, seal.sealed_by));
        Ok(())
    }

    fn enter_epoch(&mut self, number: u64) {
        self.epoch = self.epochs.draw(number);
        self.counter = 0;
        self.keys.enter(&self.epoch);
    }
}

fn open_with(key: &LessSafeKey, counter: [u8; 8], head: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let mut content = sealed.to_vec();
    let length = key
        .open_in_place(nonce(counter), Aad::from(head), &mut content)
        .ok()?
        .len();
    content.truncate(length);
    Some(content)
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
mod tests;

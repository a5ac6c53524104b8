//! Which secrets are in force, and which key follows from them?
//!
//! A secret may be exchanged while the cluster runs, and its speakers read the new one minutes apart: the kubelet brings
//! a changed Secret to its node within two minutes or so. Every datagram says which is the newest secret that its sender
//! can open, and a speaker seals with the new one for whoever has said to have it, and with the former one for all others.
//! So nobody is ever spoken to in a key that he has not read, at any order and pace of reading. The former secret is
//! given up [`ACCEPT_FORMER`] after the new one was read.

use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

use super::epoch::Epoch;

/// How long a former secret is still opened, and sealed with for those who know no other. Several times what the slowest
/// kubelet takes; an exchange that answers a leak must have an end.
pub const ACCEPT_FORMER: Duration = Duration::from_secs(10 * 60);
/// Secrets that are in force at most; of more the oldest go first.
const MOST_HELD: usize = 4;
/// Separates our use of the secret from any other.
const LABEL: &[u8] = b"ferrolb membership datagrams, version 1";
const ID_LABEL: &[u8] = b"which secret";

/// Tells secrets apart without telling them.
pub(super) type SecretId = [u8; 4];

/// The secrets in force, newest first, never none.
pub(super) struct Keys {
    held: Vec<Held>,
}

pub(super) struct Held {
    secret: Prk,
    pub(super) id: SecretId,
    /// What this node seals with in its present epoch.
    pub(super) own: LessSafeKey,
    /// The newest one stays.
    until: Option<Instant>,
}

impl Held {
    fn new(secret: &[u8], own: &Epoch) -> Self {
        let secret = Salt::new(HKDF_SHA256, LABEL).extract(secret);
        let mut id = SecretId::default();
        fill(&secret, &[ID_LABEL], &mut id);
        let own = key_of(&secret, own);
        Self {
            secret,
            id,
            own,
            until: None,
        }
    }

    /// The key of a sender.
    pub(super) fn key_of(&self, epoch: &Epoch) -> LessSafeKey {
        key_of(&self.secret, epoch)
    }
}

impl Keys {
    pub(super) fn new(secret: &[u8], own: &Epoch) -> Self {
        Self {
            held: vec![Held::new(secret, own)],
        }
    }

    /// Puts `secret` in force before all others. False if it was that already.
    pub(super) fn change(&mut self, now: Instant, secret: &[u8], own: &Epoch) -> bool {
        let new = Held::new(secret, own);
        if new.id == self.newest().id {
            return false;
        }
        self.held.retain(|held| held.id != new.id);
        for former in &mut self.held {
            former.until.get_or_insert(now + ACCEPT_FORMER);
        }
        self.held.insert(0, new);
        self.held.truncate(MOST_HELD);
        true
    }

    /// Gives up what has had its time.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.held.len() > 1 {
            self.held
                .retain(|held| held.until.is_none_or(|until| now < until));
        }
    }

    /// Follows this node into another epoch.
    pub(super) fn enter(&mut self, own: &Epoch) {
        for held in &mut self.held {
            held.own = key_of(&held.secret, own);
        }
    }

    pub(super) fn newest(&self) -> &Held {
        self.held.first().expect("the newest secret never expires")
    }

    /// The secret of this name, or else the newest one: who names one that we have not read yet still opens that.
    pub(super) fn called(&self, id: SecretId) -> &Held {
        let called = self.held.iter().find(|held| held.id == id);
        called.unwrap_or_else(|| self.newest())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Held> {
        self.held.iter()
    }
}

fn key_of(secret: &Prk, epoch: &Epoch) -> LessSafeKey {
    let info = [epoch.as_bytes()];
    let key = secret.expand(&info, &AES_256_GCM).map(UnboundKey::from);
    LessSafeKey::new(key.expect("HKDF yields 32 bytes for any input"))
}

/// Fills `bytes`, at most 255 times 32, with what follows from `secret` and `info`.
pub(super) fn fill(secret: &Prk, info: &[&[u8]], bytes: &mut [u8]) {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    secret
        .expand(info, Length(bytes.len()))
        .and_then(|derived| derived.fill(bytes))
        .expect("HKDF yields a few bytes for any input");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> (Keys, Instant) {
        #[allow(clippy::disallowed_methods, reason = "an arbitrary origin")]
        let now = Instant::now();
        (Keys::new(b"a", &Epoch::NOBODY), now)
    }

    fn held(keys: &Keys) -> Vec<SecretId> {
        keys.iter().map(|held| held.id).collect()
    }

    #[test]
    fn the_same_secret_again_changes_nothing() {
        let (mut keys, now) = keys();
        assert!(!keys.change(now, b"a", &Epoch::NOBODY));
        assert_eq!(held(&keys).len(), 1);
    }

    #[test]
    fn a_former_secret_is_given_up_after_its_time_and_the_newest_never() {
        let (mut keys, now) = keys();
        let former = keys.newest().id;
        assert!(keys.change(now, b"b", &Epoch::NOBODY));
        let newest = keys.newest().id;
        assert_eq!(held(&keys), [newest, former]);
        keys.expire(now + ACCEPT_FORMER - Duration::from_millis(1));
        assert_eq!(held(&keys), [newest, former]);
        keys.expire(now + ACCEPT_FORMER);
        assert_eq!(held(&keys), [newest]);
        keys.expire(now + ACCEPT_FORMER * 1000);
        assert_eq!(held(&keys), [newest]);
    }

    #[test]
    fn a_change_that_is_taken_back_is_a_change_too() {
        let (mut keys, now) = keys();
        let first = keys.newest().id;
        keys.change(now, b"b", &Epoch::NOBODY);
        let second = keys.newest().id;
        assert!(keys.change(now, b"a", &Epoch::NOBODY));
        assert_eq!(held(&keys), [first, second]);
        keys.expire(now + ACCEPT_FORMER);
        assert_eq!(held(&keys), [first]);
    }

    #[test]
    fn few_secrets_are_held_however_often_they_change() {
        let (mut keys, now) = keys();
        for number in 0..100_u8 {
            keys.change(now, &[number], &Epoch::NOBODY);
        }
        assert_eq!(held(&keys).len(), MOST_HELD);
    }
}

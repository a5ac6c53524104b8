//! What tells the lives of a sender apart.

use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};

use super::keys::fill;

/// One life of a sender: a number that orders the lives at one address, then eight random bytes, so that no two lives
/// anywhere share a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Epoch([u8; Epoch::LENGTH]);

impl Epoch {
    pub(super) const LENGTH: usize = 16;
    /// Whose epoch is not known yet.
    pub(super) const NOBODY: Self = Self([0; Self::LENGTH]);

    pub(super) fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The higher one is the later life.
    pub(super) fn number(&self) -> u64 {
        let number = self.0.first_chunk().expect("an epoch begins with a number");
        u64::from_be_bytes(*number)
    }
}

/// Draws the epochs of one node.
pub(super) struct Epochs {
    random: Prk,
    drawn: u64,
}

impl Epochs {
    /// `random` must be drawn for every start of the process.
    pub(super) fn new(random: [u8; 16]) -> Self {
        Self {
            random: Salt::new(HKDF_SHA256, b"ferrolb membership epochs").extract(&random),
            drawn: 0,
        }
    }

    /// An epoch that was never drawn before.
    pub(super) fn draw(&mut self, number: u64) -> Epoch {
        let mut bytes = [0; Epoch::LENGTH];
        let (ordered, random) = bytes.split_at_mut(8);
        ordered.copy_from_slice(&number.to_be_bytes());
        fill(&self.random, &[&self.drawn.to_be_bytes()], random);
        self.drawn += 1;
        Epoch(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_of_one_number_differ() {
        let mut epochs = Epochs::new([1; 16]);
        let (first, second) = (epochs.draw(7), epochs.draw(7));
        assert_ne!(first, second);
        assert_eq!((first.number(), second.number()), (7, 7));
        assert_ne!(first, Epochs::new([2; 16]).draw(7));
    }
}

//! Which counters of one sender were used already?
//!
//! A bitmap over the newest [`Window::WIDTH`] counters, as a ring of words that is cleared a word at a time when it moves
//! on (RFC 6479). What is older than the window counts as used.

const BLOCK: u64 = 64;
/// One block more than the width needs: the newest one is only partly filled.
const BLOCKS: usize = 17;

/// The counters of one sender.
pub(super) struct Window {
    newest: u64,
    used: [u64; BLOCKS],
}

impl Window {
    /// How far a datagram may fall behind the newest one. The counter runs over all receivers, so the window must hold
    /// what a sender says to everybody while one datagram is overtaken: a farewell to some hundred members.
    pub(super) const WIDTH: u64 = (BLOCKS as u64 - 1) * BLOCK;

    /// Nothing used yet.
    pub(super) fn new() -> Self {
        Self {
            newest: 0,
            used: [0; BLOCKS],
        }
    }

    /// Uses `counter`. False if it is used already, or too old to tell.
    pub(super) fn accept(&mut self, counter: u64) -> bool {
        if counter > self.newest {
            let (from, to) = (self.newest / BLOCK, counter / BLOCK);
            let to_clear = (to - from).min(BLOCKS as u64);
            for block in to + 1 - to_clear..=to {
                *self.block(block) = 0;
            }
            self.newest = counter;
        } else if self.newest - counter >= Self::WIDTH {
            return false;
        }
        let bit = 1 << (counter % BLOCK);
        let block = self.block(counter / BLOCK);
        let unused = *block & bit == 0;
        *block |= bit;
        unused
    }

    fn block(&mut self, number: u64) -> &mut u64 {
        self.used
            .get_mut((number % BLOCKS as u64) as usize)
            .expect("a remainder is below the length")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_counter_is_used_once_and_none_that_is_older_than_the_window(
            steps in proptest::collection::vec(prop_oneof![0_u64..4, 0_u64..1100, 0_u64..5000], 1..400),
            back in proptest::collection::vec(0_u64..1300, 400),
        ) {
            let (mut window, mut used, mut newest) = (Window::new(), BTreeSet::new(), 0);
            for (step, back) in steps.into_iter().zip(back) {
                for counter in [newest + step, (newest + step).saturating_sub(back)] {
                    let expected = counter + Window::WIDTH > newest.max(counter) && used.insert(counter);
                    newest = newest.max(counter);
                    prop_assert_eq!(window.accept(counter), expected, "{} of {}", counter, newest);
                }
            }
        }
    }

    #[test]
    fn a_counter_near_the_end_of_the_numbers_is_taken() {
        let mut window = Window::new();
        assert!(window.accept(u64::MAX));
        assert!(!window.accept(u64::MAX));
        assert!(window.accept(u64::MAX - Window::WIDTH + 1));
        assert!(!window.accept(u64::MAX - Window::WIDTH));
    }
}

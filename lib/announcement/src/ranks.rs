//! Which nodes stand first for an address, remembered.
//!
//! The order of nodes for an address depends on nothing but their names, and working it out takes a SHA-256 for each node.
//! With ten thousand addresses and five hundred nodes that is five million, for every loss of a node anew; so the first few
//! of each address are kept. Who is first among those that may announce is nearly always one of them; where not, all are
//! looked at.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::which_node_announces::digest;

/// Nodes that are kept for an address.
const KEPT: usize = 16;
/// With so few nodes the order is as fast worked out as looked up.
const FEW: usize = 8;
/// Addresses that are kept. Beyond that all are forgotten; what is in use comes back.
const MOST: usize = 65_536;

/// The first nodes of each address that was asked for.
#[derive(Clone, Debug, Default)]
pub struct Ranks {
    /// The names that places stand for, sorted.
    names: Vec<String>,
    /// For each address the places of the nodes that come first, in their order.
    first: BTreeMap<IpAddr, Vec<u16>>,
}

impl Ranks {
    /// Takes in which nodes there are, sorted by name. What is known of the others stays.
    pub(crate) fn set_nodes(&mut self, names: &[&str]) {
        if self
            .names
            .iter()
            .map(String::as_str)
            .eq(names.iter().copied())
        {
            return;
        }
        if names.len() > usize::from(u16::MAX) {
            self.first.clear();
        }
        let place = |name: &str| {
            let at = names.binary_search(&name).ok()?;
            u16::try_from(at).ok()
        };
        let moved: Vec<Option<u16>> = self.names.iter().map(|name| place(name)).collect();
        let known = |name: &&&str| {
            let before = self
                .names
                .binary_search_by(|known| known.as_str().cmp(name));
            before.is_err()
        };
        let added: Vec<u16> = names
            .iter()
            .filter(known)
            .filter_map(|name| place(name))
            .collect();
        let all_before = self.names.len();
        let digest_of = |place: u16, address| {
            names
                .get(usize::from(place))
                .map(|name| digest(name, address))
        };
        for (address, ranked) in &mut self.first {
            let whole = ranked.len() == all_before;
            *ranked = ranked
                .iter()
                .filter_map(|place| *moved.get(usize::from(*place))?)
                .collect();
            // What is kept is the beginning of the whole order; whoever belongs behind its end is not part of it.
            for &new in &added {
                let own = digest_of(new, *address);
                let at = ranked.partition_point(|place| digest_of(*place, *address) < own);
                if at < ranked.len() || whole {
                    ranked.insert(at, new);
                }
            }
            ranked.truncate(KEPT);
            ranked.shrink_to_fit();
        }
        // Where too few are left they are found anew when they are asked for.
        let enough = KEPT.min(names.len()) / 2;
        self.first.retain(|_, ranked| ranked.len() > enough);
        self.names = names.iter().map(|name| (*name).to_owned()).collect();
    }

    /// The places of the nodes that stand first for an address, in their order; of few nodes none.
    pub(crate) fn of(&mut self, address: IpAddr, names: &[&str]) -> Vec<u16> {
        if names.len() <= FEW {
            return Vec::new();
        }
        if let Some(ranked) = self.first.get(&address) {
            return ranked.clone();
        }
        if self.first.len() >= MOST {
            self.first.clear();
        }
        let mut all: Vec<([u8; 32], u16)> = names
            .iter()
            .zip(0u16..=u16::MAX)
            .map(|(name, place)| (digest(name, address), place))
            .collect();
        if all.len() > KEPT {
            all.select_nth_unstable(KEPT);
            all.truncate(KEPT);
        }
        all.sort_unstable();
        let ranked: Vec<u16> = all.into_iter().map(|(_, place)| place).collect();
        self.first.insert(address, ranked.clone());
        ranked
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::order;

    fn whole<'a>(names: &[&'a str], address: IpAddr) -> Vec<&'a str> {
        order(names.iter().map(|name| (*name, 0)), address)
    }

    proptest! {
        /// Nodes come and go; what is kept is always the beginning of the whole order.
        #[test]
        fn what_is_kept_is_the_beginning_of_the_order(
            histories in proptest::collection::vec(proptest::collection::btree_set(0..60u32, 9..60), 1..12),
            addresses in proptest::collection::vec(any::<u32>(), 1..6),
        ) {
            let mut ranks = Ranks::default();
            for (turn, present) in histories.iter().enumerate() {
                let owned: Vec<String> = present.iter().map(|n| format!("node-{n:03}")).collect();
                let names: Vec<&str> = owned.iter().map(String::as_str).collect();
                ranks.set_nodes(&names);
                // Not each is asked for in each turn, so that some are carried over several changes.
                for address in addresses.iter().skip(turn % 2) {
                    let address = IpAddr::V4((*address).into());
                    let kept: Vec<&str> = ranks.of(address, &names).iter().map(|place| names[usize::from(*place)]).collect();
                    let whole = whole(&names, address);
                    prop_assert_eq!(&kept[..], &whole[..kept.len()]);
                    prop_assert!(kept.len() > KEPT.min(names.len()) / 2);
                }
            }
        }
    }
}

//! How a speaker says in a condition which interfaces of its node addresses can be announced on.
//!
//! People read the message and the operator does, so its form is fixed: `bond0 (ARP, NDP), eth1 (ARP)`. No interface has a
//! blank in its name.

use std::collections::BTreeSet;

/// How many are named. A condition holds 32,768 characters.
const NAMED_AT_MOST: usize = 1000;

/// An interface that addresses can be announced on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsableInterface {
    /// Its name.
    pub name: String,
    /// Whether ARP works on it.
    pub arp: bool,
    /// Whether NDP works on it.
    pub ndp: bool,
}

/// The message for these interfaces, in the order of names.
#[must_use]
pub fn to_message(interfaces: &[UsableInterface]) -> String {
    let sorted: BTreeSet<&UsableInterface> = interfaces.iter().collect();
    let mut entries: Vec<String> = sorted
        .iter()
        .take(NAMED_AT_MOST)
        .map(|interface| {
            let how = match (interface.arp, interface.ndp) {
                (true, true) => "ARP, NDP",
                (true, false) => "ARP",
                (false, true) => "NDP",
                (false, false) => "neither",
            };
            format!("{} ({how})", interface.name)
        })
        .collect();
    if sorted.len() > NAMED_AT_MOST {
        entries.push(format!("and {} more", sorted.len() - NAMED_AT_MOST));
    }
    entries.join(", ")
}

/// The names in a message, and whether all interfaces are named there.
#[must_use]
pub fn from_message(message: &str) -> (BTreeSet<String>, bool) {
    let mut names = BTreeSet::new();
    let mut words = message.split_ascii_whitespace();
    while let Some(name) = words.next() {
        // An interface may be called "and", and then how it can be used follows.
        match words.next() {
            Some(how) if how.starts_with('(') => {
                names.insert(name.to_owned());
                let mut last = how;
                while !last.trim_end_matches(',').ends_with(')') {
                    let Some(next) = words.next() else { break };
                    last = next;
                }
            }
            _ => return (names, false),
        }
    }
    (names, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, arp: bool, ndp: bool) -> UsableInterface {
        let name = name.to_owned();
        UsableInterface { name, arp, ndp }
    }

    #[test]
    fn what_is_written_is_sorted_and_read_back() {
        let all = [
            interface("eth1", true, false),
            interface("and", true, false),
            interface("eth0", true, true),
            interface("a,b(c)", false, true),
        ];
        let message = to_message(&all);
        assert_eq!(
            message,
            "a,b(c) (NDP), and (ARP), eth0 (ARP, NDP), eth1 (ARP)"
        );
        let names = all.map(|interface| interface.name).into();
        assert_eq!(from_message(&message), (names, true));
        assert_eq!(from_message(&to_message(&[])), (BTreeSet::new(), true));
    }

    #[test]
    fn very_many_fit_and_it_is_known_that_some_are_not_named() {
        let all: Vec<_> = (0..1500)
            .map(|n| interface(&format!("interface-{n:05}"), true, true))
            .collect();
        let message = to_message(&all);
        assert!(message.len() < 32_768, "{}", message.len());
        let (names, whole) = from_message(&message);
        assert_eq!((names.len(), whole), (1000, false));
        assert!(message.ends_with(", and 500 more"));
    }
}

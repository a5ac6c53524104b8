//! Are the interfaces there that an L2Advertisement names? By what the speakers say in their ConfigurationStates. Pure.
//!
//! A fleet may name its interfaces differently from node to node, so an entry need not be found on each node. It is a mistake if
//! it is found on none of those selected, and a node that is selected and has none of the entries announces nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ferrolb_api::conditions::{INTERFACES, INTERFACES_FOUND, find, status};
use ferrolb_api::speaker_state;
use ferrolb_api::usable_interfaces::from_message;
use ferrolb_api::v1beta1::{ConfigurationState, L2Advertisement};
use ferrolb_rules as rules;
use ferrolb_rules::{InterfaceNames, Labels, Selector, any_matches};
use tokio::time::Instant;

use crate::conditions::{Answer, interfaces_found};

/// For how long the report of a node that is new is waited for before others are judged without it.
const GRACE: Duration = Duration::from_secs(60);
/// How many entries, nodes and interfaces a message names of each.
const NAMED_AT_MOST: usize = 10;

/// What one speaker says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reported {
    names: BTreeSet<String>,
    /// Whether there are no more interfaces than those.
    whole: bool,
}

/// What is known of every node. A report counts for as long as its node is there: a speaker that is made anew takes its report away
/// for a moment.
#[derive(Default)]
pub struct Interfaces {
    nodes: BTreeMap<String, Known>,
    judged_at: Option<Instant>,
}

struct Known {
    labels: Arc<Labels>,
    reported: Option<Arc<Reported>>,
    since: Instant,
}

/// What is found of the interfaces that an advertisement names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// All of them.
    All,
    /// The message says what is not.
    NotAll(String),
    /// Nobody has said what there is.
    Unknown,
}

/// What a ConfigurationState says of interfaces, if it does.
#[must_use]
pub fn reported(state: &ConfigurationState) -> Option<Reported> {
    let conditions = &state.status.as_ref()?.conditions;
    let condition = find(conditions, INTERFACES)?;
    let (names, whole) = match condition.status.as_str() {
        status::TRUE => from_message(&condition.message),
        status::FALSE => (BTreeSet::new(), true),
        _ => return None,
    };
    Some(Reported { names, whole })
}

impl Interfaces {
    /// Takes in the nodes there are and what their speakers say, `report` being asked by the name of the object.
    pub fn update<'a>(
        &mut self,
        nodes: impl IntoIterator<Item = (&'a str, Arc<Labels>)>,
        report: impl Fn(&str) -> Option<Arc<Reported>>,
        now: Instant,
    ) {
        let mut before = std::mem::take(&mut self.nodes);
        // Most nodes have the same interfaces; each set is held once, and compared by that.
        let mut sets: BTreeSet<Arc<Reported>> = BTreeSet::new();
        for (name, labels) in nodes {
            let known = before.remove(name);
            let reported = report(&speaker_state(name))
                .or_else(|| known.as_ref().and_then(|known| known.reported.clone()))
                .map(|reported| match sets.get(&reported) {
                    Some(same) => Arc::clone(same),
                    None => {
                        sets.insert(Arc::clone(&reported));
                        reported
                    }
                });
            let known = Known {
                labels,
                reported,
                since: known.map_or(now, |known| known.since),
            };
            self.nodes.insert(name.to_owned(), known);
        }
        self.judged_at = Some(now);
    }

    /// When a node is not waited for any more, if one is.
    #[must_use]
    pub fn look_again_at(&self) -> Option<Instant> {
        let awaited = self.nodes.values().filter(|known| self.awaits(known));
        awaited.map(|known| known.since + GRACE).min()
    }

    fn awaits(&self, known: &Known) -> bool {
        let judged_at = self.judged_at.unwrap_or(known.since);
        known.reported.is_none() && judged_at < known.since + GRACE
    }

    /// What the status of an advertisement shall say; `None` leaves what it says. `checked` is the same advertisement where it breaks
    /// no rule.
    #[must_use]
    pub fn answer(
        &self,
        object: &L2Advertisement,
        checked: Option<&rules::L2Advertisement>,
    ) -> Option<Answer> {
        if object.spec.interfaces.is_empty() {
            return Some(interfaces_found(None));
        }
        let conditions = object.status.as_ref().map(|status| &status.conditions);
        let existing = conditions.and_then(|all| find(all, INTERFACES_FOUND));
        let existing = existing
            .filter(|existing| existing.observed_generation == object.metadata.generation)
            .map(|existing| existing.status.as_str());
        let found = match checked {
            Some(checked) => self.found(&checked.interfaces, &[], &checked.nodes, existing),
            None => {
                let (names, unusable) = InterfaceNames::of_entries(&object.spec.interfaces);
                let nodes = object.spec.node_selectors.iter().map(Selector::parse);
                let nodes: Vec<Selector> = nodes.collect::<Result<_, _>>().ok()?;
                self.found(&names, &unusable, &nodes, existing)
            }
        };
        found.map(|found| interfaces_found(Some(&found)))
    }

    /// `unusable` are entries that are no patterns, and `existing` is what the status says of this very generation.
    fn found(
        &self,
        wanted: &InterfaceNames,
        unusable: &[&str],
        selectors: &[Selector],
        existing: Option<&str>,
    ) -> Option<Found> {
        let selected = self
            .nodes
            .iter()
            .filter(|(_, known)| any_matches(selectors, known.labels.as_ref()));
        let mut look = Look::of(wanted);
        let (mut awaited, mut silent) = (0, 0);
        for (node, known) in selected {
            match &known.reported {
                Some(reported) => look.at(node, reported),
                None if self.awaits(known) => awaited += 1,
                None => silent += 1,
            }
        }
        if look.nodes == 0 && unusable.is_empty() {
            // They mostly come again, and say what they said before.
            let known = existing.is_some_and(|existing| existing != status::UNKNOWN);
            return (!known && awaited == 0).then_some(Found::Unknown);
        }
        if unusable.is_empty() {
            if look.nowhere.is_empty() && look.barren.is_empty() {
                return Some(Found::All);
            }
            // Who has not reported yet may have what the others have not.
            let one_may_have_it =
                look.barren.is_empty() && silent > 0 && existing == Some(status::TRUE);
            if awaited > 0 || one_may_have_it {
                return None;
            }
        }
        Some(Found::NotAll(look.message(unusable, awaited + silent)))
    }
}

/// What is found on the nodes looked at so far.
struct Look<'a> {
    wanted: &'a InterfaceNames,
    nodes: usize,
    /// The entries that were found on none.
    nowhere: BTreeSet<&'a str>,
    /// The nodes that have none of the entries.
    barren: Vec<&'a str>,
    /// On how many nodes each interface is, and on which first.
    there: BTreeMap<&'a str, (usize, &'a str)>,
    /// What was found of a report: nodes that share one have the same.
    looked: BTreeMap<*const Reported, bool>,
}

impl<'a> Look<'a> {
    fn of(wanted: &'a InterfaceNames) -> Self {
        Look {
            wanted,
            nodes: 0,
            nowhere: wanted.not_among(&BTreeSet::new()).collect(),
            barren: Vec::new(),
            there: BTreeMap::new(),
            looked: BTreeMap::new(),
        }
    }

    fn at(&mut self, node: &'a str, reported: &'a Arc<Reported>) {
        self.nodes += 1;
        for name in &reported.names {
            self.there.entry(name).or_insert((0, node)).0 += 1;
        }
        let key = Arc::as_ptr(reported);
        let some = match self.looked.get(&key) {
            Some(some) => *some,
            None => {
                // Of those that are not named anything may be among the rest.
                let missing: BTreeSet<&str> = match reported.whole {
                    true => self.wanted.not_among(&reported.names).collect(),
                    false => BTreeSet::new(),
                };
                self.nowhere.retain(|entry| missing.contains(entry));
                let some =
                    !reported.whole || reported.names.iter().any(|name| self.wanted.contain(name));
                self.looked.insert(key, some);
                some
            }
        };
        if !some {
            self.barren.push(node);
        }
    }

    fn message(&self, unusable: &[&str], not_reported: usize) -> String {
        let mut sentences = Vec::new();
        if !unusable.is_empty() {
            let list = some_of(unusable.iter().map(ToString::to_string));
            sentences.push(format!(
                "No pattern that can be used: {list}; see Accepted."
            ));
        }
        if self.nodes > 0 && !self.nowhere.is_empty() {
            let list = some_of(self.nowhere.iter().map(ToString::to_string));
            let nodes = match self.nodes {
                1 => "the node that is selected".to_owned(),
                nodes => format!("any of the {nodes} nodes that are selected"),
            };
            sentences.push(format!("Not found on {nodes}: {list}."));
        }
        if !self.barren.is_empty() && self.barren.len() < self.nodes {
            let list = some_of(self.barren.iter().map(ToString::to_string));
            sentences.push(format!(
                "No entry is found on these nodes, and nothing is announced from there: {list}."
            ));
        } else if !self.barren.is_empty() {
            sentences.push("Nothing is announced.".to_owned());
        }
        let mut there: Vec<_> = self.there.iter().collect();
        there.sort_by_key(|(name, (nodes, _))| (usize::MAX - nodes, **name));
        let there = there.into_iter().map(|(name, (nodes, first))| match nodes {
            1 => format!("{name} on {first}"),
            nodes => format!("{name} on {nodes} nodes"),
        });
        if self.nodes == 0 {
            // Nobody has said what there is.
        } else if self.there.is_empty() {
            sentences.push("There is no interface that addresses can be announced on.".to_owned());
        } else {
            sentences.push(format!("There are {}.", some_of(there)));
        }
        if not_reported > 0 {
            sentences.push(format!(
                "Nodes that have not said what they have: {not_reported}."
            ));
        }
        sentences.push("Correct spec.interfaces or spec.nodeSelectors.".to_owned());
        sentences.join(" ")
    }
}

/// `a, b and 12 more`.
pub(crate) fn some_of(all: impl ExactSizeIterator<Item = String>) -> String {
    let more = all.len().saturating_sub(NAMED_AT_MOST);
    let named: Vec<String> = all.take(NAMED_AT_MOST).collect();
    let named = named.join(", ");
    match more {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
#[path = "interfaces_tests.rs"]
mod tests;

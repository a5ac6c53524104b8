//! What does this node know of the other speakers?

use std::collections::BTreeSet;
use std::sync::Arc;

use ferrolb_api::ObjectKey;
use ferrolb_neighbor::MacAddr;
use tokio::sync::watch;
use tracing::warn;

use crate::gate::{Heard, OTHER_KEY};
use crate::inputs::Stores;
use crate::layer2::Interface;
use crate::members::{Joining, Members};
use crate::project::Presence;

/// How the members changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// This node heard nobody and hears others now.
    ThisOneReturned,
    /// Some others are alive that were not.
    SomeReturned,
    /// Some are not alive that were.
    SomeLost,
}

impl News {
    fn of(before: Option<&BTreeSet<String>>, now: &BTreeSet<String>) -> Self {
        match before {
            Some(before) if now.is_subset(before) => News::SomeLost,
            Some(before) if before.len() <= 1 => News::ThisOneReturned,
            _ => News::SomeReturned,
        }
    }
}

/// The other speakers, as the membership and the API tell of them.
pub(super) struct Others {
    node: String,
    /// The membership's socket until this node has joined, unless membership is switched off.
    joining: Option<Joining>,
    joined: Option<Joined>,
    /// Who is alive, this node among them, as it was last taken in.
    names: Option<Arc<BTreeSet<String>>>,
}

struct Joined {
    members: Members,
    names: watch::Receiver<Arc<BTreeSet<String>>>,
    heard_all: watch::Receiver<bool>,
    unheard: watch::Receiver<bool>,
    knows_all_macs: watch::Receiver<bool>,
    other_key: watch::Receiver<bool>,
    macs: watch::Receiver<Arc<BTreeSet<[u8; 6]>>>,
}

impl Others {
    pub(super) fn new(node: &str, joining: Option<Joining>) -> Self {
        Self {
            node: node.to_owned(),
            joining,
            joined: None,
            names: None,
        }
    }

    /// Joins the membership, now that this node can announce what falls to it.
    pub(super) fn join(&mut self, stores: &Stores, interfaces: &[Interface]) {
        let Some(joining) = self.joining.take() else {
            return;
        };
        let (members, names) = joining.join();
        // Before anybody is asked: the others shall know them with the first word.
        members.set_macs(macs_of(interfaces));
        self.names = Some(names.borrow().clone());
        self.joined = Some(Joined {
            heard_all: members.heard_all(),
            unheard: members.unheard(),
            knows_all_macs: members.knows_all_macs(),
            other_key: members.other_key(),
            macs: members.macs(),
            members,
            names,
        });
        self.tell_seeds(stores);
        if stores.seeds.snapshot().is_empty() {
            warn!(
                "no pod carries the labels of --ml-labels, so no other speaker is looked for and this one announces everything"
            );
        }
    }

    /// Who is alive; `None` where membership is switched off.
    pub(super) fn names(&self) -> Option<&BTreeSet<String>> {
        self.names.as_deref()
    }

    /// Waits until something that is known of the others is different; says how, if it is who is alive. Never ends where membership
    /// is switched off.
    pub(super) async fn changed(&mut self) -> Option<News> {
        let Some(joined) = &mut self.joined else {
            return std::future::pending().await;
        };
        tokio::select! {
            Ok(()) = joined.names.changed() => {
                let now = joined.names.borrow_and_update().clone();
                let news = News::of(self.names.as_deref(), &now);
                self.names = Some(now);
                Some(news)
            }
            Ok(()) = joined.heard_all.changed() => None,
            Ok(()) = joined.unheard.changed() => None,
            Ok(()) = joined.knows_all_macs.changed() => None,
            Ok(()) = joined.other_key.changed() => None,
            else => std::future::pending().await,
        }
    }

    /// The names are right before all are heard of, though that may be seen first.
    pub(super) fn take_names(&mut self) {
        if let Some(joined) = &mut self.joined {
            self.names = Some(joined.names.borrow_and_update().clone());
        }
    }

    /// The hardware addresses of the others' interfaces, if they are others than before.
    pub(super) fn take_macs(&mut self) -> Option<BTreeSet<MacAddr>> {
        let macs = &mut self.joined.as_mut()?.macs;
        if !macs.has_changed().is_ok_and(|changed| changed) {
            return None;
        }
        let macs = macs.borrow_and_update();
        Some(macs.iter().copied().map(MacAddr::from).collect())
    }

    /// Has the others know the hardware addresses of this node.
    pub(super) fn set_macs(&self, interfaces: &[Interface]) {
        if let Some(joined) = &self.joined {
            joined.members.set_macs(macs_of(interfaces));
        }
    }

    /// Has the membership know whom the API names.
    pub(super) fn tell_seeds(&self, stores: &Stores) {
        if let Some(joined) = &self.joined {
            let seeds = stores.seeds.snapshot();
            let addresses = seeds.values().map(|seed| seed.address).collect();
            joined.members.set_seeds(addresses);
        }
    }

    /// Says why nothing is announced yet.
    pub(super) fn hold(&self) {
        if let Some(joined) = &self.joined {
            joined.members.held_for_other_key();
        }
        warn!(
            seconds_at_most = OTHER_KEY.as_secs(),
            "other speakers are alive but have another membership key, so nothing is announced by layer 2 yet; a changed key reaches \
             every node within about two minutes, and if this goes on, look whether the Secret memberlist is the same on every node \
             and restart all speakers: kubectl rollout restart daemonset ferrolb-speaker"
        );
    }

    /// What the gate wants to know. `begins` is true until the first decision: counting speakers costs more than most rounds.
    pub(super) fn heard(&self, stores: &Stores, begins: bool) -> Heard {
        let is = |what: fn(&Joined) -> &watch::Receiver<bool>| {
            self.joined.as_ref().is_some_and(|j| *what(j).borrow())
        };
        let members = self.names().map_or(0, BTreeSet::len);
        Heard {
            all: self
                .joined
                .as_ref()
                .map(|joined| *joined.heard_all.borrow()),
            members: if is(|j| &j.knows_all_macs) {
                members
            } else {
                0
            },
            // A speaker that is about to start answers soon, one that has failed does not.
            expected: if begins {
                nodes_of_speakers(stores, |presence| presence != Presence::Failed).len()
            } else {
                0
            },
            others: begins && {
                let seeds = stores.seeds.snapshot();
                seeds.values().any(|seed| *seed.node != *self.node)
            },
            other_key: is(|j| &j.other_key),
        }
    }

    /// No other speaker is heard although there should be some.
    pub(super) fn are_missed(&self, stores: &Stores) -> bool {
        let Some(joined) = &self.joined else {
            return false;
        };
        let me = self.node.as_str();
        let should_be_heard = || {
            let nodes = nodes_of_speakers(stores, |presence| presence == Presence::Serves);
            nodes.iter().any(|node| **node != *me)
        };
        *joined.unheard.borrow()
            || (self.names().is_some_and(|names| names.len() <= 1) && should_be_heard())
    }

    /// The membership, for the farewell, and whether nobody else is in it.
    pub(super) fn part(self) -> Option<(Members, bool)> {
        let joined = self.joined?;
        let alone = joined.names.borrow().len() <= 1;
        Some((joined.members, alone))
    }
}

fn macs_of(interfaces: &[Interface]) -> Vec<[u8; 6]> {
    interfaces
        .iter()
        .map(|interface| interface.mac.octets())
        .collect()
}

/// The nodes that are Ready and have a speaker of such a presence. The pod of a node that is lost stays listed, and nobody will
/// hear of it.
fn nodes_of_speakers(stores: &Stores, such: impl Fn(Presence) -> bool) -> BTreeSet<Box<str>> {
    let nodes = stores.nodes.snapshot();
    let seeds = stores.seeds.snapshot();
    let names = seeds
        .values()
        .filter(|seed| such(seed.presence))
        .map(|seed| &seed.node);
    names
        .filter(|name| {
            nodes
                .get(&ObjectKey::new("", name))
                .is_some_and(|node| node.ready)
        })
        .cloned()
        .collect()
}

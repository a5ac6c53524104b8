//! How patient is the cluster?

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::PeriodicParams;

use crate::LONGEST_CONTENT;

/// How patient the cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Each node probes one member in this time.
    pub probe_period: Duration,
    /// A probe that is not answered within this time is tried through other members.
    pub probe_rtt: Duration,
    /// How long a suspected member may refute.
    pub suspicion: Duration,
    /// How often news are passed on to [`GOSSIP_TO`] members, while there are any.
    pub gossip: Duration,
    /// How long a node that starts waits for answers, see [`crate::Membership::expect_answers`].
    pub settle: Duration,
}

/// Members that hear news at once.
pub const GOSSIP_TO: usize = 3;
/// How often each node passes a piece of news on. Ten rounds of gossip, so that a suspicion is repeated for as long as it
/// lasts; far more than the 4 ln n that 5,000 nodes need to hear of it.
const PASS_ON: u8 = 30;

impl Default for Timing {
    /// Of three nodes both others know of a lost one after 1.4 s (median) and 2.1 s (worst of 1,000), and gossip is frequent
    /// enough that a suspicion is refuted in time while every fifth datagram gets lost; `simulation/detection.rs` measures it.
    fn default() -> Self {
        Self {
            probe_period: Duration::from_millis(300),
            probe_rtt: Duration::from_millis(100),
            suspicion: Duration::from_millis(900),
            gossip: Duration::from_millis(100),
            settle: Duration::from_secs(3),
        }
    }
}

/// Members that are told of a farewell at once; they tell the others.
const FAREWELL_TO: usize = 128;

impl Timing {
    pub(crate) fn protocol(self) -> foca::Config {
        let every = |frequency, members| {
            let num_members = NonZeroUsize::new(members)?;
            Some(PeriodicParams {
                frequency,
                num_members,
            })
        };
        foca::Config {
            probe_period: self.probe_period,
            probe_rtt: self.probe_rtt,
            suspect_to_down_after: self.suspicion,
            num_indirect_probes: const { NonZeroUsize::new(3).expect("3 is not 0") },
            max_transmissions: const { NonZeroU8::new(PASS_ON).expect("it is not 0") },
            // A restarted node is a new life, so this only has to outlast gossip about the old one.
            remove_down_after: Some(Duration::from_secs(30 * 60)),
            max_packet_size: const {
                NonZeroUsize::new(LONGEST_CONTENT - 1).expect("the envelope is small")
            },
            // Who was declared down while it could not be reached has to learn of it, to start a later life.
            notify_down_members: true,
            periodic_announce: every(Duration::from_secs(10), 1),
            periodic_announce_to_down_members: every(Duration::from_secs(5), 2),
            periodic_gossip: every(self.gossip, GOSSIP_TO),
        }
    }

    /// The same for a member that leaves: it speaks to as many as the protocol knows to count.
    pub(crate) fn farewell(self) -> foca::Config {
        foca::Config {
            // It tells as many of its end as it would ask for a probe.
            num_indirect_probes: const { NonZeroUsize::new(FAREWELL_TO).expect("it is not 0") },
            max_transmissions: NonZeroU8::MAX,
            ..self.protocol()
        }
    }
}

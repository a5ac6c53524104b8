//! Whether this speaker can use the configuration, which interfaces its node has, and how its BGP sessions are doing, as a
//! ConfigurationState (reference 1.10).

mod keep;
mod object;

use std::sync::Arc;

use ferrolb_api::usable_interfaces::{UsableInterface, to_message};
use ferrolb_api::v1beta1::BGPSession;
use ferrolb_cluster::Client;
use ferrolb_rules::Refusal;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::status::Reporter;
use keep::Keeper;

/// Problems that are named, and the length of each in characters: a condition holds 32,768.
const PROBLEMS_AT_MOST: usize = 20;
const PROBLEM_AT_MOST: usize = 1000;

/// Tells what this speaker found out. Cheap to clone; telling never waits, and the newest counts.
#[derive(Clone)]
pub struct ConfigurationReport(Arc<watch::Sender<Told>>);

/// What shall be said; nothing of what is not known yet.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    interfaces: Option<String>,
    /// What is wrong with the configuration, one problem on each line.
    problems: Option<String>,
    some_interface: bool,
    /// In the order of peers.
    sessions: Option<Vec<BGPSession>>,
}

impl ConfigurationReport {
    /// Starts to keep the object in a task of its own until `shutdown`.
    #[must_use]
    pub fn start(client: &Client, reporter: Reporter, shutdown: CancellationToken) -> Self {
        let (sender, told) = watch::channel(Told::default());
        let keeper = Keeper::new(client, reporter);
        tokio::spawn(shutdown.run_until_cancelled_owned(keeper.run(told)));
        ConfigurationReport(Arc::new(sender))
    }

    /// These are the interfaces that addresses can be announced on.
    pub fn set_interfaces(&self, interfaces: &[UsableInterface]) {
        let message = to_message(interfaces);
        self.tell(|told| {
            told.some_interface = !interfaces.is_empty();
            told.interfaces = Some(message);
        });
    }

    /// This is wrong with the configuration; nothing is if it is empty.
    pub fn set_configuration(&self, refusals: &[Refusal]) {
        let problems = problems(refusals);
        self.tell(|told| told.problems = Some(problems));
    }

    /// The sessions of this node are doing like this, in the order of peers. What `since` says counts only with what it is since.
    pub fn set_sessions(&self, sessions: Vec<BGPSession>) {
        self.tell(|told| told.sessions = Some(sessions));
    }

    fn tell(&self, change: impl FnOnce(&mut Told)) {
        self.0.send_if_modified(|told| {
            let before = told.clone();
            change(told);
            *told != before
        });
    }
}

fn problems(refusals: &[Refusal]) -> String {
    let mut lines: Vec<String> = refusals
        .iter()
        .take(PROBLEMS_AT_MOST)
        .map(|refusal| refusal.to_string().chars().take(PROBLEM_AT_MOST).collect())
        .collect();
    if refusals.len() > PROBLEMS_AT_MOST {
        let more = refusals.len() - PROBLEMS_AT_MOST;
        lines.push(format!("and {more} more problems"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn very_many_problems_fit() {
        let refusals: Vec<Refusal> = (0..100)
            .map(|n| {
                Refusal::new(
                    "IPAddressPool",
                    "p",
                    format!("spec.addresses[{n}]"),
                    "x".repeat(5000),
                )
            })
            .collect();
        let text = problems(&refusals);
        assert!(text.len() < 32_000 && text.ends_with("and 80 more problems"));
        assert_eq!(problems(&[]), "");
    }
}

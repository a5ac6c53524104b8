//! The ConfigurationState of this node: what is in it, and what is to be done about it. Pure.

use ferrolb_api::ObjectKey;
use ferrolb_api::conditions::configuration_state::{
    CONFIG_RECONCILER_VALID, CONFIGURATION_ERROR, RECONCILED,
};
use ferrolb_api::conditions::{INTERFACES, find, reason, status};
use ferrolb_api::labels::{COMPONENT_TYPE, NODE_NAME, SPEAKER};
use ferrolb_api::v1beta1::{
    BGPSession, ConfigurationResult, ConfigurationState, ConfigurationStateStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::Told;
use crate::status::Reporter;

/// What is there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Seen {
    pub(super) owned: bool,
    pub(super) status: ConfigurationStateStatus,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Create(ConfigurationStateStatus),
    Own,
    Show(ConfigurationStateStatus),
}

/// What is to be done next. Nothing is said before something is known.
pub(super) fn step(told: &Told, seen: Option<&Seen>, now: &Time) -> Option<Step> {
    if *told == Told::default() {
        return None;
    }
    let Some(seen) = seen else {
        let status = wanted(told, &ConfigurationStateStatus::default(), now);
        return Some(Step::Create(status));
    };
    if !seen.owned {
        return Some(Step::Own);
    }
    let status = wanted(told, &seen.status, now);
    (status != seen.status).then_some(Step::Show(status))
}

/// The status that says it. The time of a condition moves only when its answer does; MetalLB's moves with each report.
fn wanted(
    told: &Told,
    existing: &ConfigurationStateStatus,
    now: &Time,
) -> ConfigurationStateStatus {
    let mut conditions = existing.conditions.clone();
    let mut answer = |type_: &str, holds: bool, reason: &str, message: String| {
        let status = if holds { status::TRUE } else { status::FALSE };
        let before = find(&existing.conditions, type_).filter(|before| before.status == status);
        let since = before.map_or(now, |before| &before.last_transition_time);
        conditions.retain(|condition| condition.type_ != type_);
        conditions.push(Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: None,
            last_transition_time: since.clone(),
        });
    };
    let mut result = existing.result.unwrap_or_default();
    let mut error_summary = existing.error_summary.clone();
    if let Some(problems) = &told.problems {
        let valid = problems.is_empty();
        let message = if valid {
            String::new()
        } else {
            format!("configuration error: {problems}")
        };
        result = if valid {
            ConfigurationResult::Valid
        } else {
            ConfigurationResult::Invalid
        };
        error_summary = (!valid).then(|| message.clone());
        let reason = if valid {
            RECONCILED
        } else {
            CONFIGURATION_ERROR
        };
        answer(CONFIG_RECONCILER_VALID, valid, reason, message);
    }
    if let Some(interfaces) = &told.interfaces {
        let reason = if told.some_interface {
            reason::USABLE
        } else {
            reason::NONE_USABLE
        };
        answer(INTERFACES, told.some_interface, reason, interfaces.clone());
    }
    conditions.sort_by(|one, other| one.type_.cmp(&other.type_));
    ConfigurationStateStatus {
        result: Some(result),
        error_summary,
        conditions,
        bgp_sessions: match &told.sessions {
            Some(sessions) => sessions.clone(),
            None => existing.bgp_sessions.clone(),
        },
    }
}

/// The merge patch that leaves this status and nothing of the one before it.
pub(super) fn patch(status: &ConfigurationStateStatus) -> Value {
    json!({"status": {
        "result": status.result,
        "errorSummary": status.error_summary,
        "conditions": status.conditions,
        "bgpSessions": if status.bgp_sessions.is_empty() { Value::Null } else { json!(status.bgp_sessions) },
    }})
}

/// Whether sessions are all that a step would write, they are those that were `written` last, and the object has none. The API server
/// drops them then, as it does while the definition of the kind is from before, and would do so again.
pub(super) fn is_dropped(step: &Step, seen: Option<&Seen>, written: &[BGPSession]) -> bool {
    let (Step::Show(status), Some(seen)) = (step, seen) else {
        return false;
    };
    let without = ConfigurationStateStatus {
        bgp_sessions: Vec::new(),
        ..status.clone()
    };
    !written.is_empty() && status.bgp_sessions == written && seen.status == without
}

/// Whether a status says something else than another apart from figures, which may be late.
pub(super) fn is_news(one: &ConfigurationStateStatus, other: &ConfigurationStateStatus) -> bool {
    let without_figures = |status: &ConfigurationStateStatus| {
        let mut status = status.clone();
        for session in &mut status.bgp_sessions {
            session.prefixes_sent = 0;
            session.prefixes_not_advertised = 0;
            // That there is something that cannot be carried is no figure, and which of it comes first is.
            session.not_advertised_because =
                session.not_advertised_because.take().map(|_| String::new());
        }
        status
    };
    without_figures(one) != without_figures(other)
}

impl Reporter {
    pub(super) fn configuration_state(&self, key: &ObjectKey) -> ConfigurationState {
        let mut object = ConfigurationState::default();
        object.metadata.name = Some(key.name().to_owned());
        let labels = [
            (COMPONENT_TYPE, SPEAKER.to_owned()),
            (NODE_NAME, self.node_label().into_owned()),
        ];
        let labels = labels.map(|(key, value)| (key.to_owned(), value));
        object.metadata.labels = Some(labels.into());
        object.metadata.owner_references = self.owner().map(|owner| vec![owner]);
        object
    }

    pub(super) fn seen(&self, object: &ConfigurationState) -> Seen {
        let label = |key: &str| object.labels().get(key).map(String::as_str);
        Seen {
            owned: self.owns(object.metadata.owner_references.as_deref())
                && label(COMPONENT_TYPE) == Some(SPEAKER)
                && label(NODE_NAME) == Some(&self.node_label()),
            status: object.status.clone().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use ferrolb_api::v1beta1::SessionState;
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    fn told(interfaces: Option<&str>, problems: Option<&str>) -> Told {
        Told {
            interfaces: interfaces.map(str::to_owned),
            problems: problems.map(str::to_owned),
            some_interface: interfaces.is_some_and(|interfaces| !interfaces.is_empty()),
            sessions: None,
        }
    }

    fn shown(told: &Told, before: Option<Seen>, now: &Time) -> Option<Seen> {
        let owned = true;
        match step(told, before.as_ref(), now) {
            Some(Step::Create(status) | Step::Show(status)) => Some(Seen { owned, status }),
            _ => None,
        }
    }

    fn summary(seen: &Seen) -> Vec<String> {
        let of = |condition: &Condition| {
            format!(
                "{}={} {} {:?} {}",
                condition.type_,
                condition.status,
                condition.reason,
                condition.message,
                condition.last_transition_time.0.as_second()
            )
        };
        seen.status.conditions.iter().map(of).collect()
    }

    #[test]
    fn nothing_is_said_before_something_is_known_and_nothing_twice() {
        assert_eq!(step(&Told::default(), None, &at(1)), None);
        let some = told(Some("eth0 (ARP)"), None);
        let first = shown(&some, None, &at(1)).unwrap();
        assert_eq!(first.status.result, Some(ConfigurationResult::Unknown));
        assert_eq!(
            summary(&first),
            ["ferrolb.io/Interfaces=True Usable \"eth0 (ARP)\" 1"]
        );
        assert_eq!(step(&some, Some(&first), &at(2)), None);
    }

    #[test]
    fn a_mistake_is_told_as_metallb_tells_it_and_times_move_only_with_the_answer() {
        let good = told(Some("eth0 (ARP)"), Some(""));
        let first = shown(&good, None, &at(1)).unwrap();
        assert_eq!(first.status.result, Some(ConfigurationResult::Valid));
        assert_eq!(first.status.error_summary, None);
        assert_eq!(
            summary(&first),
            [
                "configReconcilerValid=True Reconciled \"\" 1",
                "ferrolb.io/Interfaces=True Usable \"eth0 (ARP)\" 1"
            ]
        );
        let bad = told(Some(""), Some("IPAddressPool \"a\", spec: wrong"));
        let second = shown(&bad, Some(first), &at(2)).unwrap();
        let message = "configuration error: IPAddressPool \"a\", spec: wrong";
        assert_eq!(second.status.result, Some(ConfigurationResult::Invalid));
        assert_eq!(second.status.error_summary.as_deref(), Some(message));
        assert_eq!(
            summary(&second),
            [
                format!("configReconcilerValid=False ConfigurationError {message:?} 2"),
                "ferrolb.io/Interfaces=False NoneUsable \"\" 2".to_owned()
            ]
        );
        let otherwise = told(Some("eth1 (NDP)"), Some("another"));
        let third = shown(&otherwise, Some(second), &at(3)).unwrap();
        assert_eq!(
            summary(&third),
            [
                "configReconcilerValid=False ConfigurationError \"configuration error: another\" 2",
                "ferrolb.io/Interfaces=True Usable \"eth1 (NDP)\" 3"
            ]
        );
        // After a start it is not known yet what the process before found.
        let new = told(Some("eth1 (NDP)"), None);
        assert_eq!(step(&new, Some(&third), &at(4)), None);
    }

    #[test]
    fn the_patch_takes_away_what_is_said_no_more() {
        let bad = shown(&told(None, Some("wrong")), None, &at(1)).unwrap();
        let mut stored = json!({"status": bad.status});
        let good = shown(&told(None, Some("")), Some(bad), &at(2)).unwrap();
        json_patch::merge(&mut stored, &patch(&good.status));
        assert_eq!(stored, json!({"status": good.status}));
    }

    fn session(state: SessionState, sent: i64, refused: i64, because: Option<&str>) -> BGPSession {
        BGPSession {
            peer: "tor-1".to_owned(),
            state,
            since: Some(at(1)),
            last_error: None,
            prefixes_sent: sent,
            prefixes_not_advertised: refused,
            not_advertised_because: because.map(str::to_owned),
        }
    }

    fn with_sessions(sessions: Option<Vec<BGPSession>>) -> Told {
        Told {
            sessions,
            ..told(None, Some(""))
        }
    }

    #[test]
    fn sessions_stay_until_it_is_known_how_they_are_and_the_last_one_goes() {
        let up = session(SessionState::Established, 5, 0, None);
        let first = shown(&with_sessions(Some(vec![up.clone()])), None, &at(1)).unwrap();
        assert_eq!(first.status.bgp_sessions, [up]);
        // After a start.
        assert_eq!(step(&with_sessions(None), Some(&first), &at(2)), None);
        let mut stored = json!({"status": first.status});
        let none = shown(&with_sessions(Some(Vec::new())), Some(first), &at(2)).unwrap();
        json_patch::merge(&mut stored, &patch(&none.status));
        assert_eq!(stored, json!({"status": none.status}));
        assert_eq!(stored["status"].get("bgpSessions"), None);
    }

    #[test]
    fn sessions_that_the_api_server_drops_are_not_written_again_and_again() {
        let up = vec![session(SessionState::Established, 5, 0, None)];
        let told = with_sessions(Some(up.clone()));
        let mut seen = shown(&told, None, &at(1)).unwrap();
        seen.status.bgp_sessions.clear();
        let step = step(&told, Some(&seen), &at(2)).unwrap();
        assert!(!is_dropped(&step, Some(&seen), &[]));
        assert!(is_dropped(&step, Some(&seen), &up));
        let others = [session(SessionState::Established, 6, 0, None)];
        assert!(!is_dropped(&step, Some(&seen), &others));
        seen.status.error_summary = Some("another".to_owned());
        assert!(!is_dropped(&step, Some(&seen), &up));
    }

    #[test]
    fn figures_alone_are_no_news() {
        let status = |session: BGPSession| ConfigurationStateStatus {
            bgp_sessions: vec![session],
            ..ConfigurationStateStatus::default()
        };
        let up = |sent, refused, because| {
            status(session(SessionState::Established, sent, refused, because))
        };
        for (other, expected) in [
            (up(5, 0, None), false),
            (up(6, 0, None), false),
            (up(5, 1, Some("192.0.2.1/32: no")), true),
            (
                status(session(SessionState::NotEstablished, 5, 0, None)),
                true,
            ),
            (ConfigurationStateStatus::default(), true),
        ] {
            assert_eq!(is_news(&up(5, 0, None), &other), expected, "{other:?}");
        }
        let some = up(5, 1, Some("192.0.2.1/32: no"));
        assert!(!is_news(&some, &up(5, 2, Some("192.0.2.0/32: no"))));
    }
}

//! How the BGP sessions of this node are doing, for its ConfigurationState and as events on BGPPeers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ferrolb_api::ObjectKey;
use ferrolb_api::v1beta1::{BGPSession, SessionState};
use ferrolb_api::v1beta2::BGPPeer;
use ferrolb_cluster::{EventPublisher, EventType, Happening, Store, Subject};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::bgp::{PeerStatus, State};
use crate::status::{ConfigurationReport, Reporter};

/// For so long after a change others are waited for: a session that is established sends its first routes, too.
const TOGETHER: Duration = Duration::from_millis(250);
/// A router that closes each connection does so in one way or another, and each has its words. An error that was told gives way to one that
/// was seen within this time only when it was not seen for as long itself. Attempts are two minutes apart at most.
const RECENT: Duration = Duration::from_secs(5 * 60);
/// How many errors are remembered for that, of each peer.
const ERRORS_AT_MOST: usize = 8;
/// How long an error is at most, in characters. It may quote what a router says.
const ERROR_AT_MOST: usize = 500;

/// Tells how the sessions of this node are doing. Telling it of peers never waits, and the newest counts.
pub struct SessionReport(watch::Sender<Option<Peers>>);

/// The peers of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Peers {
    /// With whom it tries to have a session.
    tried: BTreeSet<String>,
    /// With whom it does not, and why.
    without: BTreeMap<String, String>,
}

impl SessionReport {
    /// Follows `statuses` in a task of its own until `shutdown`. Events are about the objects in `objects`.
    #[must_use]
    pub fn start(
        reporter: &Reporter,
        mut statuses: watch::Receiver<BTreeMap<String, PeerStatus>>,
        configuration: ConfigurationReport,
        events: EventPublisher,
        objects: Store<Arc<BGPPeer>>,
        shutdown: CancellationToken,
    ) -> Self {
        let (sender, mut peers) = watch::channel(None::<Peers>);
        let namespace = reporter.namespace.clone();
        let mut sessions = Sessions::new(&reporter.node);
        let follow = async move {
            loop {
                let of_node = peers.borrow_and_update().clone();
                let now = statuses.borrow_and_update().clone();
                if let Some(of_node) = of_node {
                    for news in sessions.update(&of_node, &now, SystemTime::now()) {
                        let key = ObjectKey::new(&namespace, &news.peer);
                        if let Some(object) = objects.get(&key) {
                            let uid = object.metadata.uid.clone().unwrap_or_default();
                            events.publish(Happening {
                                subject: Subject::of::<BGPPeer>(&key, uid),
                                event_type: news.event_type,
                                reason: news.reason.to_owned(),
                                message: news.message,
                            });
                        }
                    }
                    configuration.set_sessions(sessions.all());
                }
                tokio::select! {
                    Ok(()) = peers.changed() => {}
                    Ok(()) = statuses.changed() => {}
                    else => return,
                }
                tokio::time::sleep(TOGETHER).await;
            }
        };
        tokio::spawn(shutdown.run_until_cancelled_owned(follow));
        SessionReport(sender)
    }

    /// This node tries to have a session with each of these peers from now on, and with the others, for a reason, not.
    pub fn set_peers(&self, tried: BTreeSet<String>, without: BTreeMap<String, String>) {
        let peers = Some(Peers { tried, without });
        self.0.send_if_modified(|known| {
            let is_news = *known != peers;
            *known = peers;
            is_news
        });
    }
}

/// What is known of each session.
struct Sessions {
    node: String,
    known: BTreeMap<String, BGPSession>,
    /// The errors of each peer that has no session, and when each was seen last.
    errors: BTreeMap<String, BTreeMap<String, SystemTime>>,
}

/// Something that those who look after a peer want to hear of.
#[derive(Debug, PartialEq, Eq)]
struct News {
    peer: String,
    event_type: EventType,
    reason: &'static str,
    message: String,
}

impl Sessions {
    fn new(node: &str) -> Self {
        Sessions {
            node: node.to_owned(),
            known: BTreeMap::new(),
            errors: BTreeMap::new(),
        }
    }

    fn all(&self) -> Vec<BGPSession> {
        self.known.values().cloned().collect()
    }

    /// Takes in how it is `now`, and says what is worth an event.
    fn update(
        &mut self,
        peers: &Peers,
        statuses: &BTreeMap<String, PeerStatus>,
        now: SystemTime,
    ) -> Vec<News> {
        let before = std::mem::take(&mut self.known);
        let tried = peers
            .tried
            .iter()
            .map(|peer| session(peer, statuses.get(peer)));
        let without = peers.without.iter().map(|(peer, reason)| BGPSession {
            peer: peer.clone(),
            state: SessionState::NoSession,
            last_error: Some(clipped(reason)),
            ..BGPSession::default()
        });
        let mut news = Vec::new();
        self.errors.retain(|peer, _| peers.tried.contains(peer));
        for mut session in tried.chain(without) {
            let before = before.get(&session.peer);
            if session.since.is_none() {
                let same = before.filter(|before| before.state == session.state);
                session.since = same.map_or_else(|| second(now), |before| before.since.clone());
            }
            if session.state == SessionState::NotEstablished {
                self.choose_error(before, &mut session, now);
            } else {
                self.errors.remove(&session.peer);
            }
            self.tell(before, &session, &mut news);
            self.known.insert(session.peer.clone(), session);
        }
        news
    }

    /// Leaves the error that is told as it is where the one of now is one of several that alternate.
    fn choose_error(
        &mut self,
        before: Option<&BGPSession>,
        session: &mut BGPSession,
        now: SystemTime,
    ) {
        let Some(error) = &session.last_error else {
            return;
        };
        let seen = self.errors.entry(session.peer.clone()).or_default();
        let age = |at: &SystemTime| now.duration_since(*at).unwrap_or_default();
        seen.retain(|_, at| age(at) < RECENT);
        let is_new = !seen.contains_key(error);
        let are_too_many = is_new && seen.len() >= ERRORS_AT_MOST;
        if !are_too_many {
            seen.insert(error.clone(), now);
        }
        let told = before.filter(|before| before.state == session.state);
        let told = told.and_then(|before| before.last_error.as_ref());
        let stays = |told: &&String| are_too_many || (!is_new && seen.contains_key(*told));
        if let Some(told) = told.filter(stays) {
            session.last_error = Some(told.clone());
        }
    }

    fn tell(&self, before: Option<&BGPSession>, now: &BGPSession, news: &mut Vec<News>) {
        let node = &self.node;
        let error = now.last_error.as_deref().unwrap_or_default();
        let was_up = before.is_some_and(|before| before.state == SessionState::Established);
        let is_up = now.state == SessionState::Established;
        let is_other =
            before.is_none_or(|before| before.state != now.state || before.since != now.since);
        let is_said = before
            .is_some_and(|before| before.state == now.state && before.last_error == now.last_error);
        let mut say = |event_type, reason, message| {
            news.push(News {
                peer: now.peer.clone(),
                event_type,
                reason,
                message,
            });
        };
        // Without an error nothing went wrong: the peer was changed.
        if was_up && is_other && !error.is_empty() {
            let message = format!("the BGP session of node {node:?} is down: {error}");
            say(EventType::Warning, "BGPSessionDown", message);
        } else if !is_up && !is_said && !error.is_empty() {
            let message = format!("node {node:?} has no BGP session: {error}");
            say(EventType::Warning, "NoBGPSession", message);
        }
        if is_up && is_other {
            let message = format!("the BGP session of node {node:?} is established");
            say(EventType::Normal, "BGPSessionEstablished", message);
        }
    }
}

/// A session as it is told. Of one that is not established the task of the peer says since when it is in one of several states,
/// which is of no use.
fn session(peer: &str, status: Option<&PeerStatus>) -> BGPSession {
    let mut session = BGPSession {
        peer: peer.to_owned(),
        state: SessionState::NotEstablished,
        ..BGPSession::default()
    };
    let Some(status) = status else {
        return session;
    };
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    if status.state == State::Established {
        session.state = SessionState::Established;
        session.since = second(status.since);
        session.prefixes_sent = count(status.prefixes_sent);
        session.prefixes_not_advertised = count(status.prefixes_not_advertised);
        session.not_advertised_because = status.not_advertised_because.as_deref().map(clipped);
    }
    session.last_error = status.last_error.as_deref().map(clipped);
    session
}

/// In whole seconds, as objects have it.
fn second(time: SystemTime) -> Option<Time> {
    let time = Timestamp::try_from(time).ok()?;
    Timestamp::from_second(time.as_second()).ok().map(Time)
}

fn clipped(text: &str) -> String {
    match text.char_indices().nth(ERROR_AT_MOST) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(1000 * second + 700)
    }

    fn status(state: State, since: u64, error: Option<&str>) -> PeerStatus {
        PeerStatus {
            state,
            since: at(since),
            last_error: error.map(str::to_owned),
            negotiated: None,
            prefixes_sent: 7,
            prefixes_pending: 0,
            prefixes_not_advertised: 0,
            not_advertised_because: None,
        }
    }

    /// Tells of one peer, and gives back the events and the session in short.
    fn tell(sessions: &mut Sessions, status: PeerStatus, now: u64) -> (Vec<String>, String) {
        let peers = Peers {
            tried: BTreeSet::from(["tor".to_owned()]),
            without: BTreeMap::new(),
        };
        let statuses = BTreeMap::from([("tor".to_owned(), status)]);
        let news = sessions.update(&peers, &statuses, at(now));
        let events = news
            .into_iter()
            .map(|news| format!("{} {}", news.reason, news.message));
        (events.collect(), short(sessions, "tor"))
    }

    fn short(sessions: &Sessions, peer: &str) -> String {
        let session = &sessions.known[peer];
        format!(
            "{:?} since {} {:?} {}",
            session.state,
            session.since.as_ref().unwrap().0.as_second(),
            session.last_error,
            session.prefixes_sent
        )
    }

    #[test]
    fn attempts_that_end_alike_are_told_once() {
        let mut sessions = Sessions::new("node-1");
        let told = tell(&mut sessions, status(State::Connect, 1, None), 1);
        assert_eq!(told, (vec![], "NotEstablished since 1 None 0".to_owned()));
        let refused = Some("cannot connect: Connection refused");
        for (state, second) in [
            (State::Active, 2),
            (State::Connect, 7),
            (State::Idle, 8),
            (State::OpenSent, 9),
        ] {
            let (events, now) = tell(&mut sessions, status(state, second, refused), second);
            assert_eq!(now, format!("NotEstablished since 1 {refused:?} 0"));
            let first = "NoBGPSession node \"node-1\" has no BGP session: cannot connect: Connection refused";
            let expected = if second == 2 { &[first][..] } else { &[] };
            assert_eq!(events, expected);
        }
        let (events, now) = tell(&mut sessions, status(State::Established, 20, refused), 20);
        assert_eq!(
            events,
            ["BGPSessionEstablished the BGP session of node \"node-1\" is established"]
        );
        assert_eq!(now, format!("Established since 20 {refused:?} 7"));
        let again = tell(&mut sessions, status(State::Established, 20, refused), 30);
        assert_eq!(again, (vec![], now));
    }

    #[test]
    fn errors_that_alternate_are_told_once_each_and_what_stays_is_told_in_the_end() {
        let mut sessions = Sessions::new("node-1");
        let error_of = |sessions: &Sessions| sessions.known["tor"].last_error.clone().unwrap();
        let mut events = 0;
        for second in 0..600 {
            let error = if second % 2 == 0 { "reset" } else { "closed" };
            let now = status(State::Active, second, Some(error));
            events += tell(&mut sessions, now, second).0.len();
            assert_eq!(
                error_of(&sessions),
                if second == 0 { "reset" } else { "closed" }
            );
        }
        assert_eq!(events, 2);
        // Something else is told at once, and what is seen alone from then on, after a while.
        tell(
            &mut sessions,
            status(State::Active, 600, Some("wrong AS")),
            600,
        );
        assert_eq!(error_of(&sessions), "wrong AS");
        for second in 601..1000 {
            tell(
                &mut sessions,
                status(State::Active, second, Some("reset")),
                second,
            );
            assert_eq!(
                error_of(&sessions),
                if second < 900 { "wrong AS" } else { "reset" }
            );
        }
        for second in 1000..2000 {
            let another = format!("error {second}");
            tell(
                &mut sessions,
                status(State::Active, second, Some(&another)),
                second,
            );
        }
        assert!(sessions.errors["tor"].len() <= ERRORS_AT_MOST);
        tell(&mut sessions, status(State::Established, 2000, None), 2000);
        assert!(sessions.errors.is_empty());
    }

    #[test]
    fn a_session_that_ends_is_told_with_the_reason_and_one_that_was_quick_twice() {
        let mut sessions = Sessions::new("node-1");
        tell(&mut sessions, status(State::Established, 1, None), 1);
        let ceased = Some("the peer ended the session: Cease");
        let down = "BGPSessionDown the BGP session of node \"node-1\" is down: the peer ended the session: Cease";
        let up = "BGPSessionEstablished the BGP session of node \"node-1\" is established";
        let (events, now) = tell(&mut sessions, status(State::Idle, 5, ceased), 5);
        assert_eq!(events, [down]);
        assert_eq!(now, format!("NotEstablished since 5 {ceased:?} 0"));
        tell(&mut sessions, status(State::Established, 6, ceased), 6);
        let (events, _) = tell(&mut sessions, status(State::Established, 8, ceased), 8);
        assert_eq!(events, [down, up]);
        // The BGPPeer changed.
        let (events, now) = tell(&mut sessions, status(State::Idle, 9, None), 9);
        assert_eq!(
            (events, now.as_str()),
            (vec![], "NotEstablished since 9 None 0")
        );
    }

    #[test]
    fn a_peer_without_a_session_says_why_and_is_forgotten_when_it_goes() {
        let mut sessions = Sessions::new("node-1");
        let peers = Peers {
            tried: BTreeSet::new(),
            without: BTreeMap::from([("tor".to_owned(), "no Secret".to_owned())]),
        };
        let events = sessions.update(&peers, &BTreeMap::new(), at(3));
        assert_eq!(
            events,
            [News {
                peer: "tor".to_owned(),
                event_type: EventType::Warning,
                reason: "NoBGPSession",
                message: "node \"node-1\" has no BGP session: no Secret".to_owned(),
            }]
        );
        assert_eq!(
            short(&sessions, "tor"),
            "NoSession since 3 Some(\"no Secret\") 0"
        );
        assert_eq!(sessions.update(&peers, &BTreeMap::new(), at(4)), []);
        assert_eq!(
            short(&sessions, "tor"),
            "NoSession since 3 Some(\"no Secret\") 0"
        );
        // What is left of a session that ended is of nobody.
        let left = BTreeMap::from([("tor".to_owned(), status(State::Established, 1, None))]);
        assert_eq!(sessions.update(&Peers::default(), &left, at(5)), []);
        assert!(sessions.all().is_empty());
    }

    #[test]
    fn a_long_error_is_cut() {
        let long = "é".repeat(600);
        let told = session("tor", Some(&status(State::Idle, 1, Some(&long))));
        let error = told.last_error.unwrap();
        assert!(error.ends_with('…') && error.chars().count() == ERROR_AT_MOST + 1);
    }
}

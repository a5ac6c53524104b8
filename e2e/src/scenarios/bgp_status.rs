//! What is told of BGP: to whom each node announces a Service, and how each session is doing.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Scenario;
use super::l2::handles::{dual_service, only, path, pool, service};
use crate::cluster::{SYSTEM, Site, condition, service_path};
use crate::plan::{CLIENT_L2, Machine, NODES, ROUTER, ROUTER_ASN, SPEAKER_ASN};
use crate::run::Run;
use crate::{host, objects, router};

const GROUP: &str = "bgp";

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        group: GROUP,
        name: "bgp-status-per-node",
        doc: "B13: one ServiceBGPStatus per node lists the peers; it follows peers, families and node selectors, is put back, rests, and goes with the Service",
        run: per_node,
    },
    Scenario {
        group: GROUP,
        name: "peer-status",
        doc: "a BGPPeer says 3/3; one node is refused for its AS, and it says 2/3 with the router's reason, by condition and event; mended, 3/3 again; nothing is written at rest",
        run: peer_status,
    },
    Scenario {
        group: GROUP,
        name: "peer-changed",
        doc: "an edit of ferrolb.io/graceful-shutdown leaves the sessions as they are, one of holdTime begins them anew, once, and status and events say what changed",
        run: peer_changed,
    },
    Scenario {
        group: GROUP,
        name: "peer-without-secret",
        doc: "a BGPPeer whose Secret is missing says so for its node and leaves the other peer alone; with the Secret the node tries",
        run: without_secret,
    },
    Scenario {
        group: GROUP,
        name: "bad-peers",
        doc: "a node's own address, an interface that is not there and a Secret of the wrong type are told on the BGPPeer with what to do, and the other peer's sessions stay",
        run: bad_peers,
    },
    Scenario {
        group: GROUP,
        name: "told-routes-as-json",
        doc: "the speaker's adj-RIB-out in JSON, asked page by page, is what the router says that it received, attributes included",
        run: told_routes,
    },
];

const LIMIT: Duration = Duration::from_secs(30);
/// Prefixes are told after a minute, where nothing else changes.
const PREFIXES: Duration = Duration::from_secs(90);
/// The AS that the router expects of a node that it shall refuse.
const ANOTHER_ASN: u32 = 64599;

/// The objects about a Service, in the order of nodes.
fn statuses(site: &Site, service: &str) -> Result<Vec<Value>> {
    let list = format!(
        "{}?labelSelector=metallb.io/service-name%3D{service},metallb.io/service-namespace%3Ddefault",
        path("servicebgpstatuses", "")
    );
    let list = site.get(&list)?.unwrap_or_default();
    let mut all = list["items"].as_array().cloned().unwrap_or_default();
    all.sort_by_key(|status| status["status"]["node"].as_str().map(str::to_owned));
    Ok(all)
}

/// Waits until exactly these nodes say that they announce the Service to these peers; returns the objects.
fn announced_to(site: &Site, service: &str, nodes: &[&str], peers: &[&str]) -> Result<Vec<Value>> {
    let expected: Vec<Value> = nodes
        .iter()
        .map(|node| {
            json!({"node": node, "serviceName": service, "serviceNamespace": "default", "peers": peers})
        })
        .collect();
    let mut last = Vec::new();
    let what = format!("{nodes:?} announce {service} to {peers:?}");
    let found = site.wait(&what, LIMIT, || {
        let all = statuses(site, service)?;
        last = all.iter().map(|status| status["status"].clone()).collect();
        Ok((last == expected).then_some(all))
    });
    found.with_context(|| format!("there is {last:?}"))
}

fn versions(objects: &[Value]) -> Vec<&Value> {
    let versions = objects.iter();
    versions
        .map(|object| &object["metadata"]["resourceVersion"])
        .collect()
}

fn per_node(site: &Site) -> Result<String> {
    const NAME: &str = "bgp-status";
    const SECOND: &str = "bgp-status-second";
    let all = NODES.map(|node| node.name);
    pool(site, NAME)?;
    site.apply(
        &json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "BGPAdvertisement",
            "metadata": {"name": NAME, "namespace": SYSTEM, "labels": {objects::LABEL: "yes"}},
            "spec": {"ipAddressPools": [NAME]},
        })
        .to_string(),
    )?;
    service(site, NAME, NAME)?;
    let first = announced_to(site, NAME, &all, &["router"])?;
    for (status, node) in first.iter().zip(all) {
        let meta = &status["metadata"];
        let named = meta["name"].as_str().unwrap_or_default();
        ensure!(named.starts_with("bgp-"), "it is called {named}");
        ensure!(meta["labels"]["metallb.io/node"] == node, "labels: {meta}");
        let owner = &meta["ownerReferences"][0]["kind"];
        ensure!(owner == "Pod", "its owner is {owner}");
    }
    // It rests while nothing happens.
    let began = Instant::now();
    host::wait_until("a rest", LIMIT, || {
        let now = statuses(site, NAME)?;
        ensure!(versions(&now) == versions(&first), "written at rest");
        Ok(began.elapsed() > Duration::from_secs(5))
    })?;
    // There is nobody at this address, and it is told all the same: what is told is with whom the node shall have a session.
    let spec = json!({"peerAddress": CLIENT_L2.v6, "dualStackAddressFamily": true});
    peer(site, SECOND, &spec)?;
    announced_to(site, NAME, &all, &[SECOND, "router"])?;
    patch_peer(site, SECOND, &json!({"nodeSelectors": [only("node-2")]}))?;
    site.wait_for("node-2 alone names both", LIMIT, || {
        let all = statuses(site, NAME)?;
        let both = json!([SECOND, "router"]);
        let both = all
            .iter()
            .filter(|status| status["status"]["peers"] == both);
        let nodes: Vec<&Value> = both.map(|status| &status["status"]["node"]).collect();
        Ok(all.len() == NODES.len() && nodes == ["node-2"])
    })?;
    // A session of IPv6 alone carries nothing of an IPv4 Service.
    let v6_only = json!({"dualStackAddressFamily": false, "nodeSelectors": null});
    patch_peer(site, SECOND, &v6_only)?;
    announced_to(site, NAME, &all, &["router"])?;
    site.delete(&peer_path(SECOND))?;
    let two = json!({"spec": {"nodeSelectors": [only(all[0]), only(all[2])]}});
    site.patch(&path("bgpadvertisements", NAME), &two)?;
    announced_to(site, NAME, &[all[0], all[2]], &["router"])?;
    let back = json!({"spec": {"nodeSelectors": null}});
    site.patch(&path("bgpadvertisements", NAME), &back)?;
    let three = announced_to(site, NAME, &all, &["router"])?;
    let named = three[0]["metadata"]["name"].as_str().unwrap_or_default();
    let object = path("servicebgpstatuses", named);
    site.patch(
        &format!("{object}/status"),
        &json!({"status": {"peers": ["nobody"]}}),
    )?;
    announced_to(site, NAME, &all, &["router"])?;
    site.delete(&object)?;
    site.wait_for("it is made again", LIMIT, || {
        let again = site.get(&object)?.unwrap_or_default();
        Ok(again["status"]["peers"] == json!(["router"])
            && again["metadata"]["uid"] != three[0]["metadata"]["uid"])
    })?;
    site.delete(&service_path(NAME))?;
    announced_to(site, NAME, &[], &[])?;
    Ok("3 nodes, 2 peers, 2 nodes, none".into())
}

fn peer_path(name: &str) -> String {
    let base = format!("/apis/metallb.io/v1beta2/namespaces/{SYSTEM}/bgppeers");
    format!("{base}/{name}")
}

/// Makes a BGPPeer with these fields besides.
fn peer(site: &Site, name: &str, spec: &Value) -> Result<()> {
    let mut all = json!({"myASN": SPEAKER_ASN, "peerASN": ROUTER_ASN, "connectTime": "1s"});
    if let (Some(all), Some(spec)) = (all.as_object_mut(), spec.as_object()) {
        all.extend(spec.clone());
    }
    site.apply(
        &json!({
            "apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer",
            "metadata": {"name": name, "namespace": SYSTEM, "labels": {objects::LABEL: "yes"}},
            "spec": all,
        })
        .to_string(),
    )
    .map(drop)
}

fn patch_peer(site: &Site, name: &str, spec: &Value) -> Result<()> {
    site.patch(&peer_path(name), &json!({"spec": spec}))
        .map(drop)
}

/// Waits until a BGPPeer says that it is established on so many nodes, with these words in its condition; returns it.
fn says(site: &Site, name: &str, established: &str, words: &[&str]) -> Result<Value> {
    let mut last = Value::Null;
    let what = format!("BGPPeer {name} says {established}");
    let found = site.wait(&what, LIMIT, || {
        last = site.get(&peer_path(name))?.unwrap_or_default();
        let told = condition(&last, "Programmed").map(ToString::to_string);
        let told = told.unwrap_or_default();
        let is_said = last["status"]["established"] == established
            && words.iter().all(|word| told.contains(word));
        Ok(is_said.then(|| last.clone()))
    });
    found.with_context(|| format!("its status is {}", last["status"]))
}

/// The nodes as neighbours of the router over IPv6, until this is dropped.
struct Neighbours<'a>(&'a Run);

impl<'a> Neighbours<'a> {
    fn configure(run: &'a Run) -> Result<Self> {
        let neighbours = Neighbours(run);
        for node in NODES {
            neighbours.expect(node.v6, SPEAKER_ASN)?;
        }
        Ok(neighbours)
    }

    /// Has the router expect this AS at this address.
    fn expect(&self, address: &str, asn: u32) -> Result<()> {
        self.tell(&[
            &format!("neighbor {address} remote-as {asn}"),
            &format!("neighbor {address} timers connect 5"),
            "address-family ipv6 unicast",
            &format!("neighbor {address} activate"),
        ])
    }

    fn tell(&self, commands: &[&str]) -> Result<()> {
        let bgp = format!("router bgp {ROUTER_ASN}");
        let before = ["configure terminal", bgp.as_str()];
        router::tell(self.0, &[&before, commands].concat())
    }
}

impl Drop for Neighbours<'_> {
    fn drop(&mut self) {
        for node in NODES {
            if let Err(error) = self.tell(&[&format!("no neighbor {}", node.v6)]) {
                println!("the router keeps its neighbour {}: {error:#}", node.v6);
            }
        }
    }
}

/// Since when a session is up is told, and that one prefix was sent.
fn is_counted(session: &Value) -> bool {
    session["prefixesSent"] == 1 && session["since"].is_string()
}

fn peer_status(site: &Site) -> Result<String> {
    const NAME: &str = "status-over-v6";
    let neighbours = Neighbours::configure(&site.run)?;
    peer(site, NAME, &json!({"peerAddress": ROUTER.v6}))?;
    let up = says(site, NAME, "3/3", &["True", "Established on 3 of 3 nodes."])?;
    let sessions = up["status"]["sessions"].as_array().cloned();
    let nodes: Vec<Value> = sessions
        .unwrap_or_default()
        .iter()
        .map(|session| session["node"].clone())
        .collect();
    ensure!(nodes == NODES.map(|node| node.name), "it lists {nodes:?}");
    // How long it has been up, and how much the router was told.
    pool(site, NAME)?;
    site.apply(
        &json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "BGPAdvertisement",
            "metadata": {"name": NAME, "namespace": SYSTEM, "labels": {objects::LABEL: "yes"}},
            "spec": {"ipAddressPools": [NAME], "peers": [NAME]},
        })
        .to_string(),
    )?;
    dual_service(site, NAME, NAME)?;
    let mut last = Value::Null;
    let counted = site.wait_for("each session has its time and its prefix", PREFIXES, || {
        last = site.get(&peer_path(NAME))?.unwrap_or_default();
        let sessions = last["status"]["sessions"].as_array();
        Ok(sessions.is_some_and(|all| all.len() == NODES.len() && all.iter().all(is_counted)))
    });
    counted.with_context(|| format!("its status is {}", last["status"]))?;
    let printed = site.kubectl(&["get", "bgppeers", NAME, "-n", SYSTEM])?;
    ensure!(printed.contains("3/3"), "kubectl prints {printed}");

    let refused = NODES[1];
    let started = Instant::now();
    neighbours.expect(refused.v6, ANOTHER_ASN)?;
    let words = ["PartlyEstablished", "2 of 3", refused.name, "bad peer AS"];
    let down = says(site, NAME, "2/3", &words)?;
    let after = started.elapsed().as_millis();
    let first = &down["status"]["sessions"][0];
    ensure!(
        first["node"] == refused.name && first["state"] == "NotEstablished",
        "the first of its sessions is {first}"
    );
    let state = path("configurationstates", &format!("speaker-{}", refused.name));
    let state = site.get(&state)?.unwrap_or_default();
    let of_node = state["status"]["bgpSessions"].as_array().cloned();
    let of_node = of_node.unwrap_or_default();
    ensure!(
        of_node
            .iter()
            .any(|session| session["peer"] == "router" && session["state"] == "Established"),
        "the node says {of_node:?}"
    );
    // It is tried every second, and ends alike.
    let settled = settles(|| {
        let peer = site.get(&peer_path(NAME))?.unwrap_or_default();
        Ok(peer["metadata"]["resourceVersion"].clone())
    })?;
    neighbours.expect(refused.v6, SPEAKER_ASN)?;
    says(site, NAME, "3/3", &["True", "3 of 3"])?;
    site.wait_for("both are told by events", LIMIT, || {
        let events = site.events(SYSTEM, "BGPPeer", NAME)?;
        let has = |reason: &str, words: &[&str]| {
            events.iter().any(|event| {
                event.starts_with(reason) && words.iter().all(|word| event.contains(word))
            })
        };
        Ok(has("BGPSessionEstablished", &[refused.name])
            && (has("NoBGPSession", &[refused.name, "bad peer AS"])
                || has("BGPSessionDown", &[refused.name, "bad peer AS"])))
    })?;
    says(site, "router", "3/3", &["True"])?;
    Ok(format!("2/3 after {after} ms; {settled}"))
}

/// Waits until `version` stays the same for ten seconds.
fn settles(mut version: impl FnMut() -> Result<Value>) -> Result<String> {
    const REST: Duration = Duration::from_secs(10);
    let (mut last, mut since, mut changes) = (version()?, Instant::now(), 0);
    host::wait_until("a rest of ten seconds", Duration::from_secs(60), || {
        let now = version()?;
        if now != last {
            (last, since, changes) = (now, Instant::now(), changes + 1);
        }
        Ok(since.elapsed() > REST)
    })?;
    Ok(format!("at rest after {changes} more writes"))
}

fn peer_changed(site: &Site) -> Result<String> {
    const NAME: &str = "changed";
    let neighbours = Neighbours::configure(&site.run)?;
    peer(
        site,
        NAME,
        &json!({"peerAddress": ROUTER.v6, "holdTime": "90s"}),
    )?;
    says(site, NAME, "3/3", &["True"])?;
    let established = || -> Result<Vec<u64>> {
        let sessions = router::ask(&site.run, "show bgp neighbors")?;
        let times = |node: &Machine| sessions[node.v6]["connectionsEstablished"].as_u64();
        let times: Option<Vec<u64>> = NODES.iter().map(times).collect();
        times.context("the router does not count its sessions")
    };
    let before = established()?;
    let annotation = json!({"metadata": {"annotations": {"ferrolb.io/graceful-shutdown": "1s"}}});
    site.patch(&peer_path(NAME), &annotation)?;
    patch_peer(site, NAME, &json!({"holdTime": "30s"}))?;
    let why = "ended because the BGPPeer changed: holdTime";
    let told_by = |object: &Value| {
        let sessions = object["status"]["sessions"].as_array();
        let tells =
            |session: &&Value| session["state"] == "Established" && session["lastError"] == why;
        sessions.is_some_and(|all| all.iter().filter(tells).count() == NODES.len())
    };
    let mut last = Value::Null;
    let told = site.wait_for(
        "each node says why its session was begun anew",
        LIMIT,
        || {
            last = site.get(&peer_path(NAME))?.unwrap_or_default();
            Ok(told_by(&last))
        },
    );
    told.with_context(|| format!("its status is {}", last["status"]))?;
    for (node, (before, after)) in NODES.iter().zip(before.iter().zip(established()?)) {
        ensure!(
            after == before + 1,
            "{} had its session begun {} times by two edits of which one concerns it",
            node.name,
            after - before
        );
    }
    site.wait_for("an event says why", LIMIT, || {
        let events = site.events(SYSTEM, "BGPPeer", NAME)?;
        let fits = |event: &String| event.starts_with("BGPSessionDown") && event.contains(why);
        Ok(events.iter().any(fits))
    })?;
    drop(neighbours);
    Ok(why.to_owned())
}

fn without_secret(site: &Site) -> Result<String> {
    const NAME: &str = "status-secret";
    let spec = json!({
        "peerAddress": CLIENT_L2.v6, "passwordSecret": {"name": NAME}, "nodeSelectors": [only("node-1")],
    });
    peer(site, NAME, &spec)?;
    let none = says(site, NAME, "0/1", &["NotEstablished", NAME, "missing"])?;
    let session = &none["status"]["sessions"][0];
    ensure!(session["state"] == "NoSession", "its session is {session}");
    let secrets = format!("/api/v1/namespaces/{SYSTEM}/secrets");
    site.create(
        &secrets,
        &json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth",
            "metadata": {"name": NAME, "namespace": SYSTEM, "labels": {objects::LABEL: "yes"}},
            "stringData": {"username": "", "password": "sesame"},
        }),
    )?;
    let tries = site.wait_for("the node tries", LIMIT, || {
        let peer = site.get(&peer_path(NAME))?.unwrap_or_default();
        let session = &peer["status"]["sessions"][0];
        Ok(session["state"] == "NotEstablished")
    });
    site.delete(&format!("{secrets}/{NAME}"))?;
    tries?;
    // The operator says so of the reference, and the key goes on being in force.
    site.wait_for("the condition says that the Secret is gone", LIMIT, || {
        let peer = site.get(&peer_path(NAME))?.unwrap_or_default();
        let said = condition(&peer, "ResolvedRefs")
            .cloned()
            .unwrap_or_default();
        Ok(said["status"] == "False" && said["message"].to_string().contains(NAME))
    })?;
    says(site, NAME, "0/1", &["authentication"])?;
    says(site, "router", "3/3", &["True"])?;
    Ok("no Secret, with it, and its key without it".into())
}

fn bad_peers(site: &Site) -> Result<String> {
    const OWN: &str = "bad-own-address";
    const INTERFACE: &str = "bad-interface";
    const SECRET: &str = "bad-secret";
    let lives = || -> Result<Vec<(String, u64)>> {
        let sessions = router::sessions(&site.run)?;
        Ok(sessions
            .into_iter()
            .map(|session| (session.peer, session.times_established))
            .collect())
    };
    let before = lives()?;
    let node = NODES[0];
    let here = json!([only(node.name)]);
    let own = json!({"peerAddress": node.v4, "nodeSelectors": here});
    peer(site, OWN, &own)?;
    let interface = json!({"peerAddress": null, "interface": "nothere0", "nodeSelectors": here});
    peer(site, INTERFACE, &interface)?;
    let secrets = format!("/api/v1/namespaces/{SYSTEM}/secrets");
    site.create(
        &secrets,
        &json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": SECRET, "namespace": SYSTEM, "labels": {objects::LABEL: "yes"}},
            "stringData": {"password": "sesame"},
        }),
    )?;
    let secret = json!({"peerAddress": CLIENT_L2.v6, "passwordSecret": {"name": SECRET}, "nodeSelectors": here});
    let made = peer(site, SECRET, &secret).and_then(|()| {
        says(
            site,
            OWN,
            "0/1",
            &[
                node.v4,
                "is an address of this node itself",
                "nodeSelectors",
            ],
        )?;
        says(
            site,
            INTERFACE,
            "0/1",
            &["this node has no interface", "nothere0"],
        )?;
        says(
            site,
            SECRET,
            "0/1",
            &[SECRET, "is not of type kubernetes.io/basic-auth"],
        )
    });
    site.delete(&format!("{secrets}/{SECRET}"))?;
    made?;
    says(site, "router", "3/3", &["True"])?;
    ensure!(
        lives()? == before,
        "a session of the other peer did not stay"
    );
    Ok("each is told, and the sessions with the router stayed".into())
}

/// What a speaker answers beside its metrics.
fn ask(site: &Site, node: &str, question: &str) -> Result<Value> {
    let url = format!("http://127.0.0.1:9120{question}");
    let namespace = site.run.namespace(node);
    let text = host::run_in(&namespace, "curl", &["-sS", "--max-time", "5", &url])?;
    serde_json::from_str(&text).with_context(|| format!("{question} is answered by {text}"))
}

/// All that a speaker says it told the sample's peer, asked two routes at a time.
fn told(site: &Site, node: &str) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let question = format!("/bgp/adj-rib-out?peer=router&limit=2{after}");
        let page = ask(site, node, &question)?;
        let routes = page["routes"].as_array().context("it lists no routes")?;
        all.extend(routes.iter().cloned());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(all),
        }
    }
}

fn told_routes(site: &Site) -> Result<String> {
    const NAME: &str = "told-routes";
    let node = NODES[0];
    pool(site, NAME)?;
    site.apply(
        &json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "BGPAdvertisement",
            "metadata": {"name": NAME, "namespace": SYSTEM, "labels": {objects::LABEL: "yes"}},
            "spec": {"ipAddressPools": [NAME], "communities": ["64512:77"]},
        })
        .to_string(),
    )?;
    let addresses = [1, 2].map(|n| dual_service(site, &format!("{NAME}-{n}"), NAME));
    let mut expected = Vec::new();
    for [v4, v6] in addresses.into_iter().collect::<Result<Vec<_>>>()? {
        expected.push((format!("{v4}/32"), node.v4));
        expected.push((format!("{v6}/128"), node.v6));
    }
    expected.sort();
    let mut last = Vec::new();
    let all = site.wait_for("the speaker tells what it sent", LIMIT, || {
        last = told(site, node.name)?;
        let routes = last.iter().map(|route| {
            let text = |field: &str| route[field].as_str().unwrap_or_default();
            (text("prefix").to_owned(), text("nextHop"))
        });
        let mut routes: Vec<_> = routes.collect();
        routes.sort();
        Ok(routes == expected)
    });
    all.with_context(|| format!("it tells {last:?} and not {expected:?}"))?;
    let own_path = SPEAKER_ASN.to_string();
    for route in &last {
        ensure!(
            route["asPath"] == json!([SPEAKER_ASN])
                && route["communities"] == json!(["64512:77"])
                && route["localPref"].is_null(),
            "it was told as {route}"
        );
        let prefix = route["prefix"].as_str().unwrap_or_default();
        let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
        site.wait_for(&format!("the router has {prefix} so"), LIMIT, || {
            let seen = router::ask(&site.run, &format!("show bgp {family} unicast {prefix}"))?;
            let paths = seen["paths"].as_array().cloned().unwrap_or_default();
            Ok(paths.iter().any(|path| {
                path["peer"]["peerId"] == node.v4
                    && path["aspath"]["string"].as_str() == Some(own_path.as_str())
                    && path["community"]["string"] == "64512:77"
            }))
        })?;
    }
    let sessions = ask(site, node.name, "/bgp/sessions")?;
    let router = &sessions["sessions"][0];
    ensure!(
        router["peer"] == "router"
            && router["state"] == "Established"
            && router["negotiated"]["peerAS"] == ROUTER_ASN
            && router["prefixesSent"] == expected.len(),
        "the session is {router}"
    );
    let nobody = ask(site, node.name, "/bgp/adj-rib-out?peer=nobody")?;
    ensure!(nobody["error"].is_string(), "of nobody it says {nobody}");
    Ok(format!("{} routes", expected.len()))
}

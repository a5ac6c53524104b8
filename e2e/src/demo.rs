//! `lab demo`: one Service from `kubectl apply` to a packet, step by step, with a sentence on each.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::cluster::{SYSTEM, Site, condition};
use crate::plan::{self, CLIENT, CLIENT_L2, NODES};
use crate::scenarios::{bgp, l2};
use crate::{install, objects, prober, router};

/// The two Services that the demo is about.
const LAYER2: &str = "shop";
const BGP: &str = "api";

/// What the summary tells of each step.
struct Row {
    title: &'static str,
    elapsed: Duration,
    outcome: std::result::Result<String, String>,
}

/// The steps that were done so far.
pub struct Demo {
    rows: Vec<Row>,
    began: Instant,
}

impl Demo {
    pub fn new() -> Self {
        Self {
            rows: Vec::new(),
            began: Instant::now(),
        }
    }

    /// Tells what comes, does it, tells what came of it. The text that the work returns stands in the summary.
    pub fn step(
        &mut self,
        title: &'static str,
        sentence: &str,
        work: impl FnOnce() -> Result<String>,
    ) -> Result<()> {
        println!(
            "\n[{}] {title}  (after {:.1} s)\n    {sentence}",
            self.rows.len() + 1,
            self.began.elapsed().as_secs_f64()
        );
        let started = Instant::now();
        let result = work();
        let elapsed = started.elapsed();
        match &result {
            Ok(outcome) => println!("    => {outcome}  [{:.1} s]", elapsed.as_secs_f64()),
            Err(error) => println!("    => FAILED: {error:#}  [{:.1} s]", elapsed.as_secs_f64()),
        }
        let outcome = result
            .as_ref()
            .map(Clone::clone)
            .map_err(|e| format!("{e:#}"));
        self.rows.push(Row {
            title,
            elapsed,
            outcome,
        });
        result.map(drop)
    }

    /// The table at the end.
    pub fn summary(&self) {
        println!("\n{:<4} {:<46} {:>8}  outcome", "step", "what", "seconds");
        for (number, row) in self.rows.iter().enumerate() {
            let outcome = match &row.outcome {
                Ok(text) => format!("ok: {text}"),
                Err(text) => format!("FAILED: {}", text.lines().next().unwrap_or_default()),
            };
            println!(
                "{:<4} {:<46} {:>8.1}  {outcome}",
                number + 1,
                row.title,
                row.elapsed.as_secs_f64()
            );
        }
        let failed = self.rows.iter().filter(|r| r.outcome.is_err()).count();
        println!(
            "{} steps, {failed} failed, {:.1} s in all",
            self.rows.len(),
            self.began.elapsed().as_secs_f64()
        );
    }
}

/// Shows text that a program printed, a little to the right.
fn show(text: &str) {
    for line in text.trim_end().lines() {
        println!("    | {line}");
    }
}

fn show_command(site: &Site, arguments: &[&str]) -> Result<()> {
    println!("    $ kubectl {}", arguments.join(" "));
    show(&site.kubectl(arguments)?);
    Ok(())
}

/// All steps after the site is up.
pub fn run(demo: &mut Demo, site: &Site) -> Result<()> {
    demo.step("install FerroLB", "The image goes to the nodes and `kubectl apply -k config/default` creates what every user creates: two operators, two webhooks, one speaker per node.", || {
        install::ferrolb(site, install::EVERYTHING)?;
        show_command(site, &["-n", SYSTEM, "get", "pods", "-o", "wide"])?;
        Ok("all pods are ready".into())
    })?;
    demo.step("configure the network", "config/samples says which addresses there are, how each is announced, and who the router is.", || {
        show(&install::samples(site)?);
        install::sessions_established(site)?;
        show(&router::vtysh(&site.run, "show bgp ipv4 unicast summary")?);
        Ok("the router has a BGP session with each node".into())
    })?;
    demo.step("a bad pool is refused", "A pool that overlaps another never gets in: the webhook answers before anything is stored, and kubectl prints what is wrong.", || refused(site))?;
    demo.step("echo servers and two Services", "Three servers that say who they are, one on each node, and two Services of type LoadBalancer in front of them: one from the pool layer2, one from the pool bgp.", || services(site))?;
    demo.step("reach one by layer 2", "The client on the same segment asks by ARP who has the address; exactly one node answers, and packets go there.", || reach_by_layer2(site))?;
    demo.step("reach the other by BGP", "All three nodes advertise the address; the router spreads connections over them (ECMP), and a client behind the router is served.", || reach_by_bgp(site))?;
    demo.step("the announcing node loses its link", "The cable of the node that answers ARP is cut while the client asks every 5 ms. The servers stand on the other nodes, so that the outage is that of the announcement alone.", || failover(site))?;
    demo.step(
        "what kubectl shows",
        "Status and events for the people who run the Services and for those who run the network.",
        || views(site),
    )
}

fn refused(site: &Site) -> Result<String> {
    let pool = site
        .get(&format!(
            "/apis/metallb.io/v1beta1/namespaces/{SYSTEM}/ipaddresspools/layer2"
        ))?
        .context("config/samples have no pool layer2")?;
    let addresses = pool["spec"]["addresses"][0]
        .as_str()
        .context("the pool layer2 has no addresses")?;
    match site.apply(&objects::pool("careless", &[addresses]).to_string()) {
        Ok(printed) => bail!("the pool was accepted: {printed}"),
        Err(error) => {
            let message = error.to_string();
            let start = message.find("The IPAddressPool").unwrap_or_default();
            show(message.get(start..).unwrap_or_default());
            ensure!(
                message.contains("overlaps with already defined CIDR"),
                "it was not the webhook that refused"
            );
            Ok("refused with the pool, the range and the reason".into())
        }
    }
}

fn services(site: &Site) -> Result<String> {
    install::echo_servers(site)?;
    let started = Instant::now();
    for (name, pool) in [(LAYER2, "layer2"), (BGP, "bgp")] {
        site.apply(&objects::dual_stack(name, pool).to_string())?;
    }
    for name in [LAYER2, BGP] {
        site.addresses(name, 2)?;
    }
    let elapsed = started.elapsed().as_millis();
    show_command(site, &["get", "services", LAYER2, BGP])?;
    Ok(format!(
        "both have an IPv4 and an IPv6 address {elapsed} ms after the first kubectl apply began"
    ))
}

fn address(site: &Site, service: &str) -> Result<String> {
    site.addresses_now(service)?
        .into_iter()
        .find(|a| !a.contains(':'))
        .with_context(|| format!("{service} has no IPv4 address"))
}

fn reach(site: &Site, place: &str, address: &str) -> Result<String> {
    let answer = site.wait(
        &format!("the client reaches {address}"),
        Duration::from_secs(20),
        || prober::http(&site.run, place, address).map(Some),
    )?;
    println!(
        "    {place} $ curl http://{}/",
        if address.contains(':') {
            format!("[{address}]")
        } else {
            address.to_owned()
        }
    );
    show(&answer);
    Ok(answer)
}

fn reach_by_layer2(site: &Site) -> Result<String> {
    let mut announcers = Vec::new();
    for address in site.addresses_now(LAYER2)? {
        let node = l2::announcer(site, &address)?;
        reach(site, CLIENT_L2.name, &address)?;
        announcers.push(format!("{address} on {node}"));
    }
    Ok(announcers.join(", "))
}

fn reach_by_bgp(site: &Site) -> Result<String> {
    for address in site.addresses_now(BGP)? {
        bgp::spread_over_all(site, &address)?;
        let command = if address.contains(':') {
            format!("show ipv6 route {address}")
        } else {
            format!("show ip route {address}")
        };
        println!("    router# {command}");
        show(&router::vtysh(&site.run, &command)?);
        reach(site, CLIENT, &address)?;
    }
    let through = spread(site, &address(site, BGP)?)?;
    Ok(format!(
        "three next hops per address in the router's table; {through}"
    ))
}

/// Opens some connections and counts through which node each came in.
fn spread(site: &Site, address: &str) -> Result<String> {
    const CONNECTIONS: usize = 24;
    let mut through = BTreeMap::new();
    for _ in 0..CONNECTIONS {
        let answer = prober::http(&site.run, CLIENT, address)?;
        // The servers see the node that let the connection in: its own address, or that of its end of the pod's link.
        let seen = answer
            .trim_end()
            .rsplit(' ')
            .next()
            .unwrap_or_default()
            .to_owned();
        let node = NODES.iter().enumerate().find(|(index, node)| {
            node.v4 == seen
                || plan::pods_v4(*index).trim_end_matches("0/24") == seen.trim_end_matches('1')
        });
        *through
            .entry(node.map_or("?", |(_, node)| node.name))
            .or_insert(0) += 1;
    }
    ensure!(
        through.len() > 1,
        "all connections came in by one node: {through:?}"
    );
    let counts: Vec<_> = through
        .iter()
        .map(|(node, count)| format!("{count} by {node}"))
        .collect();
    Ok(format!(
        "{CONNECTIONS} connections came in {}",
        counts.join(", ")
    ))
}

fn failover(site: &Site) -> Result<String> {
    let address = address(site, LAYER2)?;
    let node = l2::announcer(site, &address)?;
    println!("    {address} is announced by {node}");
    let (seen, successor) = l2::lose_announcer(site, LAYER2, &address, node)?;
    println!(
        "    {successor} answers for {address} now; of {} packets {} got no answer",
        seen.sent, seen.lost
    );
    l2::announcer(site, &address)?;
    Ok(format!(
        "{successor} took over from {node}; outage {} ms",
        seen.outage.as_millis()
    ))
}

fn views(site: &Site) -> Result<String> {
    show_command(
        site,
        &[
            "-n",
            SYSTEM,
            "get",
            "ipaddresspools,l2advertisements,bgpadvertisements,bgppeers",
        ],
    )?;
    show_command(site, &["-n", SYSTEM, "describe", "ipaddresspool", "layer2"])?;
    show_command(site, &["describe", "service", LAYER2])?;
    let pool = format!("/apis/metallb.io/v1beta1/namespaces/{SYSTEM}/ipaddresspools/layer2");
    let pool = site.get(&pool)?.context("the pool is gone")?;
    let accepted = condition(&pool, "Accepted").map(|accepted| accepted["status"] == "True");
    ensure!(accepted == Some(true), "the pool is not Accepted: {pool}");
    let events = site.events("default", "Service", LAYER2)?;
    for reason in ["IPAllocated", "nodeAssigned"] {
        ensure!(
            events.iter().any(|event| event.contains(reason)),
            "the Service has no event {reason}: {events:?}"
        );
    }
    Ok("pools with conditions, Services with addresses and events".into())
}

//! Everything that is tried on a real site: a table of scenarios, and the runner that shares one site among them.

mod allocation;
mod applies;
mod bad_input;
pub mod bgp;
mod bgp_status;
mod certificates;
mod compatibility;
mod faults;
mod in_force;
pub mod l2;
mod traces;
mod validation;
mod webhook;
pub mod workloads;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

use crate::cluster::{SYSTEM, Site};
use crate::host::Process;
use crate::plan::{Machine, NODES};
use crate::{control_plane, install, interrupt, network, objects, site};

/// One scenario.
pub struct Scenario {
    pub group: &'static str,
    pub name: &'static str,
    /// What it shows, as a sentence.
    pub doc: &'static str,
    pub run: fn(&Site) -> Result<String>,
}

impl Scenario {
    /// Whether it is about the webhook, or applies `config/default`, which brings one.
    pub fn needs_webhook(&self) -> bool {
        const GROUPS: [&str; 5] = ["bad-input", "install", "traces", "validation", "webhook"];
        GROUPS.contains(&self.group)
    }
}

/// Whether scenarios with variants go through all of them.
static FULL: OnceLock<bool> = OnceLock::new();

/// Has scenarios with variants go through all of them, which takes hours, or through a few of them.
pub fn set_full(full: bool) {
    // The first word holds; there is one command in a process.
    let _ = FULL.set(full);
}

/// What [`set_full`] was told.
fn is_full() -> bool {
    FULL.get().copied().unwrap_or(false)
}

/// All scenarios, in the order in which they run.
pub fn all() -> Vec<Scenario> {
    let first: [&[Scenario]; 7] = [
        workloads::SCENARIOS,
        compatibility::SCENARIOS,
        bad_input::SCENARIOS,
        in_force::SCENARIOS,
        validation::SCENARIOS,
        certificates::SCENARIOS,
        webhook::SCENARIOS,
    ];
    let last: [&[Scenario]; 3] = [bgp_status::SCENARIOS, traces::SCENARIOS, faults::SCENARIOS];
    first
        .into_iter()
        .chain(allocation::THEMES)
        .chain(l2::THEMES)
        .chain(bgp::THEMES)
        .chain(last)
        .flatten()
        .map(|s| Scenario { ..*s })
        .collect()
}

/// Which scenarios are to run.
#[derive(clap::Args, Default)]
pub struct Choice {
    /// Only the scenarios of this group; given several times, of these.
    #[arg(long)]
    group: Vec<String>,
    /// None of the scenarios of this group; given several times, of none of these.
    #[arg(long)]
    but: Vec<String>,
    /// Only scenarios whose name contains this.
    name: Option<String>,
}

impl Choice {
    /// Those that fit. An error if there are none, or if a group does not exist.
    pub fn select(&self) -> Result<Vec<Scenario>> {
        let all = all();
        for group in self.group.iter().chain(&self.but) {
            if !all.iter().any(|scenario| scenario.group == group) {
                bail!("no scenario is of the group {group:?}; `lab list` names them all");
            }
        }
        let fits = |scenario: &Scenario| {
            let is_of = |groups: &[String]| groups.iter().any(|group| scenario.group == group);
            let name = self.name.as_deref();
            (self.group.is_empty() || is_of(&self.group))
                && !is_of(&self.but)
                && name.is_none_or(|name| scenario.name.contains(name))
        };
        let chosen: Vec<_> = all.into_iter().filter(fits).collect();
        if chosen.is_empty() {
            bail!("no scenario fits; `lab list` names them all");
        }
        Ok(chosen)
    }
}

/// Prints the table.
pub fn list(scenarios: &[Scenario]) {
    for scenario in scenarios {
        println!(
            "{:<14} {:<34} {}",
            scenario.group, scenario.name, scenario.doc
        );
    }
    println!("{} scenarios", scenarios.len());
}

/// Brings FerroLB, its configuration and the echo servers into a site that has none yet.
pub fn set_up(site: &Site, folder: &str) -> Result<()> {
    let started = Instant::now();
    install::ferrolb(site, folder)?;
    install::samples(site)?;
    remove_sample_services(site)?;
    install::echo_servers(site)?;
    install::sessions_established(site)?;
    println!(
        "FerroLB, config/samples and echo servers are in place after {:.1} s",
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// The samples may bring Services of their own; the scenarios count addresses and want none besides theirs.
fn remove_sample_services(site: &Site) -> Result<()> {
    let list = site
        .get("/api/v1/namespaces/default/services")?
        .unwrap_or_default();
    for service in list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|s| s["spec"]["type"] == "LoadBalancer")
    {
        site.delete(&crate::cluster::service_path(
            service["metadata"]["name"].as_str().unwrap_or_default(),
        ))?;
    }
    Ok(())
}

/// How the note of a scenario begins that this machine cannot carry out: it neither passed nor failed.
pub const SKIPPED: &str = "skipped: ";

/// Runs them all; returns how many passed and how many failed.
pub fn run(site: &Site, scenarios: &[Scenario]) -> Result<(usize, usize)> {
    let (mut passed, mut skipped, mut failed) = (0, Vec::new(), Vec::new());
    let mut api_server = site.run.started_daemon(control_plane::API_SERVER)?.process;
    for scenario in scenarios {
        interrupt::check()?;
        let started = Instant::now();
        let result = (scenario.run)(site);
        let seconds = started.elapsed().as_secs_f64();
        interrupt::check()?;
        match result {
            Ok(note) if note.starts_with(SKIPPED) => {
                println!(
                    "skip  {seconds:>6.1} s  {}/{}  {note}",
                    scenario.group, scenario.name
                );
                skipped.push(format!("{}/{}", scenario.group, scenario.name));
            }
            Ok(note) => {
                passed += 1;
                println!(
                    "ok    {seconds:>6.1} s  {}/{}  {note}",
                    scenario.group, scenario.name
                );
            }
            Err(error) => {
                println!(
                    "FAIL  {seconds:>6.1} s  {}/{}  {error:#}",
                    scenario.group, scenario.name
                );
                println!("{}", install::diagnosis(site));
                failed.push(format!("{}/{}", scenario.group, scenario.name));
            }
        }
        if let Err(error) = clean_up(site, &mut api_server) {
            println!(
                "FAIL  cleaning up after {}/{}: {error:#}",
                scenario.group, scenario.name
            );
            failed.push(format!("cleaning up after {}", scenario.name));
        }
    }
    for name in &failed {
        println!("failed: {name}");
    }
    for name in &skipped {
        println!("skipped: {name}");
    }
    // scripts/test.sh counts by this line.
    println!("{passed} passed, {} failed", failed.len());
    Ok((passed, failed.len()))
}

/// What people write, besides Services: versions and plurals of `metallb.io`.
const KINDS: [(&str, &str); 6] = [
    ("v1beta1", "ipaddresspools"),
    ("v1beta1", "l2advertisements"),
    ("v1beta1", "bgpadvertisements"),
    ("v1beta1", "bfdprofiles"),
    ("v1beta1", "communities"),
    ("v1beta2", "bgppeers"),
];

/// Waits until every speaker counts all of them as alive: whose link is back is not heard of at once.
fn speakers_hear_each_other(site: &Site) -> Result<()> {
    site.wait_for(
        "the speakers hear each other",
        Duration::from_secs(30),
        || {
            let hears_all = |node: &Machine| -> Result<bool> {
                let alive =
                    l2::handles::Metrics::of(site, node.name)?.sum("ferrolb_members_alive", &[]);
                let nodes = u32::try_from(NODES.len())?;
                Ok((alive - f64::from(nodes)).abs() < 0.5)
            };
            let heard: Result<Vec<bool>> = NODES.iter().map(hears_all).collect();
            Ok(heard?.into_iter().all(|all| all))
        },
    )
}

/// Puts the site back into the state in which every scenario finds it.
fn clean_up(site: &Site, known: &mut Option<Process>) -> Result<()> {
    network::set_links_up(&site.run, &NODES)?;
    let mut api_server = site.run.started_daemon(control_plane::API_SERVER)?;
    if !api_server.is_running() {
        api_server = site::kill_and_restart(&site.run, control_plane::API_SERVER)?;
        control_plane::wait_ready(&site.run, &api_server)?;
    }
    if *known != api_server.process {
        *known = api_server.process;
        // After an outage they wait for up to half a minute before they watch again, longer each time.
        for name in control_plane::CONTROLLERS {
            site::kill_and_restart(&site.run, name)?;
        }
    }
    bad_input::bring_webhook_back(site)?;
    remove_objects(site)?;
    at_once(vec![
        Box::new(|| install::rolled_out(site)) as Box<dyn FnOnce() -> Result<()> + Send>,
        Box::new(|| install::sessions_established(site)),
        Box::new(|| speakers_hear_each_other(site)),
    ])
}

/// Removes what scenarios make; returns when the Services are gone.
fn remove_objects(site: &Site) -> Result<()> {
    let selector = &format!("labelSelector={}", objects::LABEL);
    let services = format!("/api/v1/namespaces/default/services?{selector}");
    site.delete(&services)?;
    at_once(
        KINDS
            .map(|(version, plural)| {
                let base = format!("/apis/metallb.io/{version}/namespaces/{SYSTEM}/{plural}");
                move || site.delete(&format!("{base}?{selector}"))
            })
            .into(),
    )?;
    site.wait_for("the Services are gone", Duration::from_secs(30), || {
        let left = site.get(&services)?.unwrap_or_default();
        Ok(left["items"].as_array().is_none_or(Vec::is_empty))
    })
}

/// Does all of it side by side: most of the time is waiting for the API server, after each of hundreds of scenarios.
fn at_once<T: FnOnce() -> Result<()> + Send>(work: Vec<T>) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = work.into_iter().map(|part| scope.spawn(part)).collect();
        threads.into_iter().try_for_each(|thread| {
            let done = thread.join();
            done.map_err(|_| anyhow!("a thread that cleans up panicked"))?
        })
    })
}

//! Does the API server judge the longest lists that it allows, within what it grants a request?

use anyhow::{Result, bail, ensure};

use crate::cluster::{SYSTEM, Site};
use crate::objects;

/// As in the schema of IPAddressPool.
const ADDRESSES: usize = 10_000;

pub fn run(site: &Site) -> Result<String> {
    let pools = format!("/apis/metallb.io/v1beta1/namespaces/{SYSTEM}/ipaddresspools?dryRun=All");
    let pool = |entries: &[String]| {
        let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
        site.create(&pools, &objects::pool("long", &entries))
    };
    let ipv4 = |n: usize| {
        format!(
            "11.{}.{}.101 - 11.{}.{}.200",
            n / 256,
            n % 256,
            n / 256,
            n % 256
        )
    };
    let ipv6 = |n: usize| {
        let net = format!("2001:0db8:aaaa:bbbb:cccc:dddd:{n:04x}");
        format!("{net}:1001-{net}:2000")
    };
    let started = std::time::Instant::now();
    for entry in [&ipv4 as &dyn Fn(usize) -> String, &ipv6] {
        let mut entries: Vec<String> = (0..ADDRESSES).map(entry).collect();
        pool(&entries)?;
        entries.push("192.0.2.0/24".to_owned());
        let Err(error) = pool(&entries) else {
            bail!("a longer list than the schema allows was accepted");
        };
        let said = format!("{error:#}");
        ensure!(said.contains("spec.addresses: Too many"), "it says: {said}");
    }
    Ok(format!(
        "four pools in {:.1} s",
        started.elapsed().as_secs_f64()
    ))
}

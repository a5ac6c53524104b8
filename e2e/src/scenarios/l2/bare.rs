//! Speakers that the lab starts itself, in the place of a pod's.

use std::fs;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::bench;
use crate::cluster::{SYSTEM, Site};
use crate::host::{Daemon, Process};
use crate::image::product_binaries;

/// A speaker that no kubelet starts and stops, with the identity of a pod; it ends when this is dropped.
pub struct Bare(pub Daemon);

impl Bare {
    /// Prepares one that is what this process is.
    pub fn like(site: &Site, node: &str, process: Process) -> Result<Self> {
        let secret = site.get(&format!("/api/v1/namespaces/{SYSTEM}/secrets/memberlist"))?;
        let secret = secret.context("there is no key")?;
        let key = secret["data"]["secretkey"].as_str().unwrap_or_default();
        let keys = site.run.directory.join("memberlist");
        fs::create_dir_all(&keys)?;
        fs::write(keys.join("secretkey"), BASE64_STANDARD.decode(key)?)?;
        let config = bench::account_kubeconfig(site, "ferrolb-speaker")?;
        let mut daemon = site.run.daemon(
            &format!("bare-speaker-{node}"),
            node,
            product_binaries().join("ferrolb-speaker"),
            vec![
                format!("--kubeconfig={config}"),
                format!("--ml-secret-key-path={}", keys.display()),
            ],
        );
        let environment = fs::read_to_string(format!("/proc/{}/environ", process.id))?;
        let variables = environment.split('\0').filter_map(|v| v.split_once('='));
        daemon.environment = variables
            .filter(|(name, _)| name.starts_with("METALLB_"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Ok(Self(daemon))
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill() {
            println!("a speaker without a kubelet stays: {error:#}");
        }
    }
}

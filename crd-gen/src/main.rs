//! Writes every generated file of the repository: custom resource definitions, the kustomize trees that install FerroLB, and
//! the OLM bundle.
//!
//! Nothing is decided here. What an object looks like is decided by the types in `ferrolb-api` and by the values of
//! `ferrolb-manifests`; this tool gives them the form that `kubectl` and OLM read. Run it without flags after changing
//! either; `--check` tells which files are out of date, as does a test.

mod bundle;
mod crds;
mod files;
mod normalise;
mod samples;
mod tree;
mod yaml;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Parser;

/// Writes the generated files of FerroLB.
#[derive(Parser)]
#[command(version)]
struct Flags {
    /// Write nothing; fail and name the files when any is out of date.
    #[arg(long)]
    check: bool,

    /// The root of the repository.
    #[arg(long, value_name = "FOLDER", default_value_os_t = repository())]
    root: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let tree = tree::render(&flags.root).context("cannot render the generated files")?;
    if !flags.check {
        let changed =
            files::write(&tree, &flags.root).context("cannot write the generated files")?;
        for difference in changed {
            println!("{difference}");
        }
        return Ok(());
    }
    let differences =
        files::differences(&tree, &flags.root).context("cannot read the generated files")?;
    for difference in &differences {
        eprintln!("{difference}");
    }
    if !differences.is_empty() {
        bail!(
            "{} generated files are out of date; run `{}`",
            differences.len(),
            yaml::COMMAND
        );
    }
    Ok(())
}

/// The repository that this tool was built from.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_generated_file_is_fresh_and_nothing_else_lies_beside_it() {
        let tree = tree::render(&repository()).unwrap();
        let differences: Vec<String> = files::differences(&tree, &repository())
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert!(
            differences.is_empty(),
            "run `{}`: {differences:#?}",
            yaml::COMMAND
        );
    }
}

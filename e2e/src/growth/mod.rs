//! `lab growth`: what one decision and one Service cost as Services become many. Needs no site and no root.

mod chart;
mod measure;
mod population;
mod report;
mod subject;

use std::fs;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::host;
use crate::run::repository;
use measure::Point;

#[derive(Args)]
pub struct Options {
    /// How many Services there are, one figure for each.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 300, 1000, 3000, 10_000, 30_000, 50_000])]
    services: Vec<usize>,
    /// Print the table, and leave docs/ as it is.
    #[arg(long)]
    print: bool,
    /// Measure one number in this process, and print the figures as JSON.
    #[arg(long, hide = true)]
    measure: Option<usize>,
}

pub fn run(options: &Options) -> Result<()> {
    ensure!(
        !cfg!(debug_assertions),
        "a debug build is ten times as slow as what is shipped; use `make growth`"
    );
    if let Some(services) = options.measure {
        println!("{}", serde_json::to_string(&measure::point(services)?)?);
        return Ok(());
    }
    let mut sizes = options.services.clone();
    sizes.sort_unstable();
    let mut points = Vec::new();
    for services in sizes {
        points.push(in_a_fresh_process(services)?);
    }
    let section = report::section(&points);
    println!("{section}");
    if options.print {
        return Ok(());
    }
    let docs = repository().join("docs");
    fs::create_dir_all(docs.join("images"))?;
    for picture in report::pictures(&points) {
        fs::write(docs.join(picture.path), picture.svg)
            .with_context(|| format!("write {}", picture.path))?;
    }
    let path = docs.join("benchmarks.md");
    let document = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let document =
        report::put(&document, &section).with_context(|| format!("change {}", path.display()))?;
    fs::write(&path, document).with_context(|| format!("write {}", path.display()))?;
    println!("written to {} and images beside it", path.display());
    Ok(())
}

/// Memory that another measurement has used and given back would make the next one look small.
fn in_a_fresh_process(services: usize) -> Result<Point> {
    let program = std::env::current_exe().context("find this program")?;
    let arguments = ["growth".to_owned(), format!("--measure={services}")];
    let answer = host::run(&program.display().to_string(), &arguments)?;
    let point: Point = serde_json::from_str(&answer).context("read what was measured")?;
    eprintln!("{services} Services: {point:?}");
    Ok(point)
}

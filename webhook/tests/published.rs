//! What is published as an example passes `ferrolb-webhook lint --strict`.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What is printed of a file, or of `text` where that is `-`, and how many objects of it were looked at.
fn checked(file: &str, text: &str) -> usize {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferrolb-webhook"))
        .args(["lint", "--strict", file])
        .current_dir(repository())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = command.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    let output = command.wait_with_output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{printed}");
    let last = printed.lines().last().unwrap();
    let (objects, _) = last.split_once(" objects checked").unwrap();
    objects.parse().unwrap()
}

/// The blocks of YAML in a page, as one stream.
fn blocks(page: &str) -> String {
    let mut stream = String::new();
    for block in page.split("```yaml\n").skip(1) {
        let (block, _) = block.split_once("```").unwrap();
        stream.push_str("---\n");
        stream.push_str(block);
    }
    stream
}

#[test]
fn the_samples_are_warned_of_nothing() {
    assert_eq!(checked("config/samples", ""), 5);
}

/// A page tells of one site, so what it shows is judged together.
#[test]
fn what_the_pages_show_is_warned_of_nothing() {
    let pages = [".", "docs"].map(|folder| fs::read_dir(repository().join(folder)).unwrap());
    let mut objects = 0;
    for page in pages.into_iter().flatten() {
        let path = page.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let stream = blocks(&fs::read_to_string(path).unwrap());
        if !stream.is_empty() {
            objects += checked("-", &stream);
        }
    }
    assert!(objects > 5, "{objects}");
}

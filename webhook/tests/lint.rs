//! What `ferrolb-webhook lint` prints, and how it ends.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

const GOLDEN: &str = "tests/lint/bad.txt";

fn lint(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ferrolb-webhook"))
        .arg("lint")
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), printed + &errors)
}

/// `BLESS=1 cargo test -p ferrolb-webhook --test lint` writes the golden file.
#[test]
fn every_problem_is_printed_with_its_place() {
    let (code, printed) = lint(&["tests/lint/bad.yaml"]);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&golden, &printed).unwrap();
    }
    assert_eq!(printed, std::fs::read_to_string(golden).unwrap());
    assert_eq!(code, 2, "a document of it is no YAML");
}

#[test]
fn the_samples_are_fine_and_strict_fails_on_their_warnings() {
    let samples = "../config/samples";
    let (code, printed) = lint(&[samples]);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains(" 0 refused, 1 warnings"), "{printed}");
    assert_eq!(lint(&["--strict", samples]).0, 1);
    let (code, printed) = lint(&["--namespace", "elsewhere", samples]);
    assert_eq!(code, 1);
    assert!(
        printed.contains("resource must be created in elsewhere namespace"),
        "{printed}"
    );
}

#[test]
fn what_cannot_be_read_is_named() {
    let (code, printed) = lint(&["tests/lint/absent.yaml"]);
    assert_eq!(code, 2);
    assert!(
        printed.starts_with("tests/lint/absent.yaml: cannot be read: No such file"),
        "{printed}"
    );
    assert_eq!(lint(&[]).0, 2, "no file is a mistake");
}

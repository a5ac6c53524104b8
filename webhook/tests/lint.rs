//! What `ferrolb-webhook lint` prints, and how it ends.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

const GOLDEN: &str = "tests/lint/bad.txt";

/// What is printed of standard input.
fn lint_text(text: &str) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferrolb-webhook"))
        .args(["lint", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = command.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    let output = command.wait_with_output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), printed)
}

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

/// Neither by the order of names nor by its own refusal may a pool that is refused push out one that is not.
#[test]
fn what_is_refused_is_not_there_when_the_others_are_warned() {
    let pool = |name: &str| {
        format!(
            "---\napiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {{name: {name}}}\n\
             spec: {{addresses: [10.0.0.0/24], avoidBuggyIPs: true}}\n"
        )
    };
    let covered =
        "---\napiVersion: metallb.io/v1beta1\nkind: L2Advertisement\nmetadata: {name: all}\n";
    let (code, printed) = lint_text(&(pool("z") + &pool("a") + covered));
    assert_eq!(code, 1, "{printed}");
    assert!(
        printed.starts_with("standard input:7: IPAddressPool \"a\", spec.addresses[0]: "),
        "{printed}"
    );
    assert!(
        printed.contains("3 objects checked, 1 refused, 0 warnings"),
        "{printed}"
    );
}

/// YAML takes a password of digits for a number, and what lint prints ends in the logs of CI.
#[test]
fn a_password_without_quotes_is_refused_and_not_printed() {
    for version in ["v1beta1", "v1beta2"] {
        let (code, printed) = lint_text(&format!(
            "apiVersion: metallb.io/{version}\nkind: BGPPeer\nmetadata: {{name: p}}\n\
             spec: {{myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, password: 123456}}\n"
        ));
        assert_eq!(code, 1, "{printed}");
        assert!(!printed.contains("123456"), "{printed}");
        let reason = "spec.password: must be of type string, is an integer; write it in quotes\n";
        assert!(printed.contains(reason), "{printed}");
    }
}

#[test]
fn a_list_or_a_text_longer_than_the_cluster_takes_is_refused() {
    let lint_pool = |addresses: &[String]| {
        lint_text(&format!(
            "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {{name: p}}\n\
             spec: {{addresses: [{}]}}\n",
            addresses.join(", ")
        ))
    };
    let pool = |entries: usize| -> Vec<String> {
        (0..entries)
            .map(|n| format!("10.{}.{}.1/32", n / 256, n % 256))
            .collect()
    };
    let (code, printed) = lint_pool(&pool(10_000));
    assert_eq!(code, 0, "{printed}");
    let (code, printed) = lint_pool(&pool(10_001));
    assert_eq!(code, 1, "{printed}");
    assert!(
        printed
            .contains("spec.addresses: has 10001 entries, at most 10000 are allowed; remove some"),
        "{printed}"
    );
    let (_, printed) = lint_pool(&[format!("10.0.0.1-{}10.0.0.2", "x".repeat(100))]);
    assert!(
        printed
            .contains("spec.addresses[0]: has 117 characters, at most 100 are allowed; shorten it"),
        "{printed}"
    );
}

#[test]
fn what_is_no_yaml_is_named_with_its_line_in_the_file() {
    let (code, printed) = lint_text("a: 1\n---\n# a comment\n\nb: 1\nc: {d: 1\n---\ne: 1\n");
    assert_eq!(code, 2, "{printed}");
    let expected = "standard input:6: is no YAML: error: line 6 column 4: unclosed bracket";
    assert!(printed.starts_with(expected), "{printed}");
}

/// What an API server would not know goes unchecked nowhere else.
#[test]
fn what_looks_like_ours_and_is_none_is_refused_and_nothing_at_all_is_a_mistake() {
    let folder = std::env::temp_dir().join(format!("ferrolb-lint-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("objects.yaml");
    let file = path.to_str().unwrap();
    for (text, code, part) in [
        (
            "apiVersion: metallb.io/v1beta1\nkind: IPAddresPool\n",
            1,
            "there is no kind \"IPAddresPool\"",
        ),
        (
            "apiVersion: metalb.io/v1beta1\nkind: IPAddressPool\n",
            1,
            "there is no IPAddressPool in metalb.io/v1beta1",
        ),
        (
            "kind: IPAddressPool\n",
            1,
            "IPAddressPool has no apiVersion",
        ),
        ("resources: [a.yaml]\n", 0, "0 objects checked"),
        (
            "apiVersion: apps/v1\nkind: Deployment\n",
            0,
            "0 objects checked",
        ),
        (
            "apiVersion: serving.knative.dev/v1\nkind: Service\n",
            0,
            "0 objects checked",
        ),
        ("# nothing\n", 2, "there is no object"),
    ] {
        std::fs::write(&path, text).unwrap();
        let (ended, printed) = lint(&[file]);
        assert!(printed.contains(part), "{text}: {printed}");
        assert_eq!(ended, code, "{text}: {printed}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

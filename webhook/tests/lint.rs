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

const POOL: &str = "---\napiVersion: metallb.io/v1beta1\nkind: IPAddressPool\n";
const COVERED: &str =
    "---\napiVersion: metallb.io/v1beta1\nkind: L2Advertisement\nmetadata: {name: all}\n";

#[test]
fn strict_fails_on_warnings_and_the_namespace_is_told() {
    let alone = format!("{POOL}metadata: {{name: a}}\nspec: {{addresses: [10.0.0.1/32]}}\n");
    let (code, printed) = lint_text(&alone);
    assert_eq!(code, 0, "{printed}");
    let summary =
        "1 objects checked as in namespace metallb-system: 0 refused, 1 warnings, 0 unreadable\n";
    assert!(printed.ends_with(summary), "{printed}");
    let samples = "../config/samples";
    assert_eq!(lint(&["--strict", samples]).0, 0);
    assert_eq!(lint(&["--strict", "tests/lint/warned.yaml"]).0, 1);
    assert_eq!(lint(&["tests/lint/warned.yaml"]).0, 0);
    let (code, printed) = lint(&["--namespace", "elsewhere", samples]);
    assert_eq!(code, 1);
    assert!(
        printed.contains("resource must be created in elsewhere namespace"),
        "{printed}"
    );
}

/// Which of two files comes first is chance; what the cluster will make of them is not.
#[test]
fn an_advertisement_is_judged_beside_the_pools_wherever_they_stand() {
    let pool = format!("{POOL}metadata: {{name: a}}\nspec: {{addresses: [10.0.0.1/32]}}\n");
    let advertisement = "---\napiVersion: metallb.io/v1beta1\nkind: BGPAdvertisement\nmetadata: {name: wide}\n\
                         spec: {aggregationLength: 24}\n";
    for text in [
        format!("{pool}{advertisement}{COVERED}"),
        format!("{advertisement}{pool}{COVERED}"),
    ] {
        let (code, printed) = lint_text(&text);
        assert_eq!(code, 1, "{printed}");
        let reason =
            "BGPAdvertisement \"wide\", spec.aggregationLength: invalid aggregation length 24";
        assert!(printed.contains(reason), "{printed}");
        assert!(printed.contains(": 1 refused, 0 warnings"), "{printed}");
    }
}

#[test]
fn an_object_that_is_given_twice_is_told() {
    let pool = |name: &str| {
        format!("{POOL}metadata: {{name: {name}}}\nspec: {{addresses: [10.0.0.1/32]}}\n")
    };
    let (code, printed) = lint_text(&(pool("a") + &pool("a") + COVERED));
    assert_eq!(code, 0, "{printed}");
    let warning = "standard input:7: warning: IPAddressPool \"a\", metadata.name: an object of this name stands at standard \
                   input:2 already, and the later one takes its place; remove one of the two\n";
    assert!(printed.starts_with(warning), "{printed}");
}

/// What a parser says of it names no field.
#[test]
fn what_is_of_the_wrong_type_is_told_with_its_field_and_the_remedy() {
    for (text, reason) in [
        (
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, annotations: {ferrolb.io/max-addresses: 3}}\n",
            "Namespace \"a\", metadata.annotations[ferrolb.io/max-addresses]: must be of type string, is an integer; write it in quotes",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {type: LoadBalancer, ipFamilies: IPv4}\n",
            "Service \"a\", spec.ipFamilies: must be of type array, is a string",
        ),
        (
            &format!(
                "{POOL}metadata: {{name: a}}\nspec: {{addresses: [10.0.0.1/32], serviceAllocation: {{priority: 9999999999}}}}\n"
            ),
            "spec.serviceAllocation.priority: must be a number of 32 bits, is 9999999999; write a smaller one",
        ),
        (
            &format!("{POOL}metadata: {{name: Office}}\nspec: {{adresses: [10.0.0.1/32]}}\n"),
            "spec.adresses: there is no such field; did you mean addresses?",
        ),
        (
            &format!("{POOL}metadata: {{name: Office}}\nspec: {{addresses: [10.0.0.1/32]}}\n"),
            "IPAddressPool \"Office\", metadata.name: nothing can be called \"Office\"; write up to 253 of a-z",
        ),
    ] {
        let (code, printed) = lint_text(text);
        assert_eq!(code, 1, "{printed}");
        assert!(printed.contains(reason), "{printed}");
    }
    let others = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {type: LoadBalancer, ports: anything}\n";
    assert_eq!(lint_text(others).0, 0, "what is not read is not judged");
}

#[test]
fn what_a_peer_of_v1beta1_carries_and_cannot_be_read_is_told() {
    let (code, printed) = lint_text(
        "apiVersion: metallb.io/v1beta1\nkind: BGPPeer\n\
         metadata: {name: p, annotations: {ferrolb.io/bgppeer-v1beta2: '{\"spec\":{\"passwordSec'}}\n\
         spec: {myASN: 1, peerASN: 2, peerAddress: 10.0.0.1}\n",
    );
    assert_eq!(code, 0, "{printed}");
    let warning = "metadata.annotations[ferrolb.io/bgppeer-v1beta2]: cannot be read, so what a BGPPeer of v1beta1 carries in it";
    assert!(printed.contains(warning), "{printed}");
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
    assert!(printed.contains(": 1 refused, 0 warnings"), "{printed}");
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

//! Names of nodes where less fits than a name of a node may have.

use std::borrow::Cow;

use crate::in_force::fingerprint;

/// The longest value of a label.
const LABEL: usize = 63;
/// The longest name of an object.
const NAME: usize = 253;

/// The name of a node as the value of a label: itself, or where it is longer than 63 characters its beginning and its
/// fingerprint.
#[must_use]
pub fn node_label(node: &str) -> Cow<'_, str> {
    within(node, LABEL)
}

/// The name of the ConfigurationState that the speaker of a node writes: `speaker-` and the node (reference 1.10).
#[must_use]
pub fn speaker_state(node: &str) -> String {
    const PREFIX: &str = "speaker-";
    format!("{PREFIX}{}", within(node, NAME - PREFIX.len()))
}

fn within(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let fingerprint = fingerprint(text);
    // The name of a node is ASCII.
    let start = text.get(..most.saturating_sub(fingerprint.len() + 1));
    let start = start
        .unwrap_or_default()
        .trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
    Cow::Owned(format!("{start}-{fingerprint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_and_stays_its_own() {
        assert_eq!(node_label("node-1"), "node-1");
        assert_eq!(speaker_state("node-1"), "speaker-node-1");
        // The cut is where a dot is.
        let long = |last: char| format!("{}{last}", "worker.".repeat(36));
        let (one, other) = (long('1'), long('2'));
        assert_eq!(one.len(), 253);
        assert_ne!(node_label(&one), node_label(&other));
        assert!(node_label(&one).len() <= 63);
        let state = speaker_state(&one);
        assert!(state.len() <= 253 && !state.contains(".-"), "{state}");
    }
}

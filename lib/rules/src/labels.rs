//! The labels of an object, kept in as little room as they need.

use std::collections::BTreeMap;

/// Labels by key, sorted, in one piece of memory: thousands of Services are held, and most have a handful of labels.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

/// Whatever a selector can be held against.
pub trait Labelled {
    /// The value under a key.
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labelled for Labels {
    fn label(&self, key: &str) -> Option<&str> {
        let at = self
            .0
            .binary_search_by(|(known, _)| known.as_ref().cmp(key))
            .ok()?;
        self.0.get(at).map(|(_, value)| value.as_ref())
    }
}

impl Labelled for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl From<&BTreeMap<String, String>> for Labels {
    fn from(labels: &BTreeMap<String, String>) -> Self {
        Labels(
            labels
                .iter()
                .map(|(key, value)| (key.as_str().into(), value.as_str().into()))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_is_found_and_no_other() {
        let map: BTreeMap<String, String> = [("b", "2"), ("a", "1"), ("c", "")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        let labels = Labels::from(&map);
        for key in ["", "a", "aa", "b", "c", "d"] {
            assert_eq!(labels.label(key), map.label(key), "{key}");
        }
        assert_eq!(Labels::default().label("a"), None);
    }
}

//! The labels of an object, kept in as little room as they need.

use std::collections::BTreeMap;

/// Labels as one text: thousands of Services are held, and most have a handful of labels.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Labels(Box<str>);

/// Between keys and values; neither can contain it.
const END: char = '\0';

/// Whatever a selector can be held against.
pub trait Labelled {
    /// The value under a key.
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labelled for Labels {
    fn label(&self, key: &str) -> Option<&str> {
        let mut texts = self.0.split_terminator(END);
        while let (Some(known), Some(value)) = (texts.next(), texts.next()) {
            if known == key {
                return Some(value);
            }
        }
        None
    }
}

impl Labelled for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl From<&BTreeMap<String, String>> for Labels {
    fn from(labels: &BTreeMap<String, String>) -> Self {
        let texts = labels.iter().flat_map(|(key, value)| [key, value]);
        let mut all = String::new();
        for text in texts {
            all.extend([text.as_str(), "\0"]);
        }
        Labels(all.into())
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

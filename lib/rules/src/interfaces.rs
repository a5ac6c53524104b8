//! Which interfaces does an advertisement name? By name as in MetalLB, or by pattern.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use crate::warnings::quoted;

/// Patterns of one advertisement. Each is a program that is held in memory; one with `|` in it says as much as several.
const PATTERNS_AT_MOST: usize = 32;
/// What a pattern may take of memory when it is compiled, in bytes.
const COMPILED_AT_MOST: usize = 1 << 18;

/// Interfaces by name and by pattern. Copies share what they name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceNames(Arc<Entries>);

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Entries {
    names: BTreeSet<String>,
    patterns: BTreeSet<InterfacePattern>,
}

/// A regular expression that the whole name of an interface matches. Two are the same if their texts are.
#[derive(Clone, Debug)]
pub struct InterfacePattern {
    /// As it is written, with its slashes.
    text: Arc<str>,
    whole: Regex,
}

impl InterfaceNames {
    /// Reads the entries of `spec.interfaces`. `refuse` is given the place of a pattern that cannot be used, and the reason.
    pub(crate) fn parse(entries: &[String], mut refuse: impl FnMut(usize, String)) -> Self {
        let mut read = Entries::default();
        for (index, entry) in entries.iter().enumerate() {
            let Some(expression) = expression_of(entry) else {
                read.names.insert(entry.clone());
                continue;
            };
            if read.patterns.len() >= PATTERNS_AT_MOST {
                refuse(
                    index,
                    format!(
                        "is one pattern too many, {PATTERNS_AT_MOST} are allowed; join some with |, such as /(eth|bond)[0-9]+/"
                    ),
                );
                break;
            }
            match InterfacePattern::compile(entry, expression) {
                Ok(pattern) => drop(read.patterns.insert(pattern)),
                Err(reason) => refuse(index, reason),
            }
        }
        InterfaceNames(Arc::new(read))
    }

    /// Reads entries of an object that may break a rule. Beside the names it returns those that cannot be used.
    #[must_use]
    pub fn of_entries(entries: &[String]) -> (Self, Vec<&str>) {
        let mut unusable = Vec::new();
        let names = Self::parse(entries, |index, _| unusable.extend(entries.get(index)));
        (names, unusable.into_iter().map(String::as_str).collect())
    }

    /// Whether none is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.names.is_empty() && self.0.patterns.is_empty()
    }

    /// Whether the interface of this name is among them.
    #[must_use]
    pub fn contain(&self, name: &str) -> bool {
        self.0.names.contains(name) || self.0.patterns.iter().any(|pattern| pattern.matches(name))
    }

    /// Whether all that is named here `others` name as well. Of a pattern that is known only where they have the same one.
    #[must_use]
    pub fn is_subset(&self, others: &Self) -> bool {
        self.0.names.iter().all(|name| others.contain(name))
            && self.0.patterns.is_subset(&others.0.patterns)
    }

    /// What either names.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        if other.0.names.is_subset(&self.0.names) && other.0.patterns.is_subset(&self.0.patterns) {
            return self.clone();
        }
        InterfaceNames(Arc::new(Entries {
            names: &self.0.names | &other.0.names,
            patterns: &self.0.patterns | &other.0.patterns,
        }))
    }

    /// The entries that none of `there` is named by, as they are written: names, then patterns.
    pub fn not_among<'a, 'b>(
        &'a self,
        there: &'b BTreeSet<String>,
    ) -> impl Iterator<Item = &'a str> + use<'a, 'b> {
        let names = self.0.names.iter().map(String::as_str);
        let names = names.filter(|name| !there.contains(*name));
        let patterns = self.0.patterns.iter();
        let patterns =
            patterns.filter(|pattern| !there.iter().any(|interface| pattern.matches(interface)));
        names.chain(patterns.map(InterfacePattern::text))
    }
}

/// Interfaces of these names.
impl<const N: usize> From<[String; N]> for InterfaceNames {
    fn from(names: [String; N]) -> Self {
        names.into_iter().collect()
    }
}

/// Interfaces of these names.
impl FromIterator<String> for InterfaceNames {
    fn from_iter<T: IntoIterator<Item = String>>(names: T) -> Self {
        InterfaceNames(Arc::new(Entries {
            names: names.into_iter().collect(),
            patterns: BTreeSet::new(),
        }))
    }
}

impl InterfacePattern {
    fn compile(text: &str, expression: &str) -> Result<Self, String> {
        const REMEDY: &str =
            "write a regular expression for the whole name such as /eth[0-9]+/, or a plain name";
        let compiled = |expression: &str| {
            RegexBuilder::new(expression)
                .size_limit(COMPILED_AT_MOST)
                .dfa_size_limit(COMPILED_AT_MOST)
                .build()
        };
        if expression.is_empty() {
            return Err(format!("{text:?} matches no name; {REMEDY}"));
        }
        // By itself first: between the brackets that anchor it, `a)|(b` would do.
        compiled(expression)
            .and_then(|_| compiled(&format!("^(?:{expression})$")))
            .map(|whole| InterfacePattern {
                text: text.into(),
                whole,
            })
            .map_err(|error| {
                let why = match error {
                    regex::Error::CompiledTooBig(_) => "it is too large".to_owned(),
                    // The place is shown in several lines above.
                    error => {
                        let all = error.to_string();
                        let last = all.lines().next_back().unwrap_or_default();
                        last.strip_prefix("error: ").unwrap_or(last).to_owned()
                    }
                };
                format!("{} is no pattern: {why}; {REMEDY}", quoted(text))
            })
    }

    /// As it is written, with its slashes.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the interface of this name is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.whole.is_match(name)
    }
}

impl PartialEq for InterfacePattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for InterfacePattern {}

impl PartialOrd for InterfacePattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for InterfacePattern {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

/// What stands between the slashes; no interface has one in its name.
fn expression_of(entry: &str) -> Option<&str> {
    entry.strip_prefix('/')?.strip_suffix('/')
}

/// Whether an entry is a pattern.
pub(crate) fn is_pattern(entry: &str) -> bool {
    expression_of(entry).is_some()
}

/// Whether a plain name has in it what seldom stands in one and often in a regular expression.
pub(crate) fn looks_like_a_pattern(name: &str) -> bool {
    name.contains(['*', '+', '?', '[', ']', '(', ')', '|', '^', '$', '\\'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(entries: &[&str]) -> Result<InterfaceNames, Vec<(usize, String)>> {
        let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
        let mut refused = Vec::new();
        let names = InterfaceNames::parse(&entries, |index, reason| refused.push((index, reason)));
        if refused.is_empty() {
            Ok(names)
        } else {
            Err(refused)
        }
    }

    fn named(entries: &[&str]) -> InterfaceNames {
        parse(entries).unwrap()
    }

    #[test]
    fn a_name_is_exact_and_a_pattern_is_for_the_whole_name() {
        let names = named(&["br0", "/eth[0-9]+/", "eth.", "/bond|vlan/"]);
        for inside in ["br0", "eth0", "eth17", "eth.", "bond", "vlan"] {
            assert!(names.contain(inside), "{inside}");
        }
        for outside in ["br01", "br", "eth", "xeth0", "eth0.5", "ethx", "bond0", ""] {
            assert!(!names.contain(outside), "{outside}");
        }
        assert!(named(&["/\\w{3}-[[:alpha:]]\\d/"]).contain("lan-a7"));
        assert!(named(&["/"]).contain("/") && !named(&["/"]).contain("eth0"));
    }

    #[test]
    fn a_pattern_that_cannot_be_used_is_refused_with_its_place() {
        const REMEDY: &str =
            "write a regular expression for the whole name such as /eth[0-9]+/, or a plain name";
        for (entry, why) in [
            ("//", "\"//\" matches no name"),
            ("/eth(/", "\"/eth(/\" is no pattern: unclosed group"),
            ("/a)|(b/", "\"/a)|(b/\" is no pattern: unopened group"),
            (
                "/*/",
                "\"/*/\" is no pattern: repetition operator missing expression",
            ),
            (
                "/(\\w{99}){99}/",
                "\"/(\\\\w{99}){99}/\" is no pattern: it is too large",
            ),
        ] {
            assert_eq!(
                parse(&["eth0", entry]).unwrap_err(),
                [(1, format!("{why}; {REMEDY}"))],
                "{entry}"
            );
        }
    }

    #[test]
    fn what_can_be_used_is_read_beside_what_cannot() {
        let entries = ["eth0", "/eth(/", "/br.*/"].map(str::to_owned);
        let (names, unusable) = InterfaceNames::of_entries(&entries);
        assert_eq!(names, named(&["eth0", "/br.*/"]));
        assert_eq!(unusable, ["/eth(/"]);
    }

    #[test]
    fn there_are_not_endlessly_many_patterns() {
        let entries: Vec<String> = (0..=PATTERNS_AT_MOST).map(|n| format!("/a{n}/")).collect();
        let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
        assert!(parse(&entries[1..]).is_ok());
        let refused = parse(&entries).unwrap_err();
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].0, PATTERNS_AT_MOST);
    }

    #[test]
    fn equality_and_order_are_those_of_the_texts() {
        assert_eq!(named(&["/a/", "b"]), named(&["b", "/a/", "b"]));
        assert_ne!(named(&["/a/"]), named(&["/a{1}/"]));
        assert!(named(&["/a/"]) < named(&["/b/"]));
        assert!(named(&[]).is_empty() && !named(&["/a/"]).is_empty());
        assert_eq!(named(&["a"]), ["a".to_owned()].into());
    }

    #[test]
    fn what_both_name_and_what_one_names_more_is_known() {
        let (one, other) = (named(&["eth0", "/br.*/"]), named(&["eth1", "br7"]));
        let both = one.union(&other);
        assert_eq!(both, named(&["br7", "eth0", "eth1", "/br.*/"]));
        assert!(one.is_subset(&both) && other.is_subset(&both));
        assert!(!both.is_subset(&one));
        assert!(
            named(&["br7"]).is_subset(&one),
            "a name may be meant by a pattern"
        );
        assert!(!one.is_subset(&named(&["eth0", "br7"])));
        assert!(Arc::ptr_eq(&both.union(&one).0, &both.0));
    }

    #[test]
    fn entries_that_nothing_there_is_named_by_are_told() {
        let there = ["eth0".to_owned(), "br7".to_owned()].into();
        let names = named(&["/wlan.*/", "/br.*/", "eth0", "eth1"]);
        let missing: Vec<&str> = names.not_among(&there).collect();
        assert_eq!(missing, ["eth1", "/wlan.*/"]);
    }
}

//! Which interfaces are never used? The file of MetalLB (reference 4.3), read once at start.

use std::path::{Path, PathBuf};

use regex::{Regex, RegexSet};
use serde::Deserialize;

/// The patterns that hold where there is no file: interfaces that lead to containers and never to neighbours. The list
/// is MetalLB's.
const WITHOUT_FILE: [&str; 14] = [
    "^docker.*",
    "^cbr.*",
    "^dummy.*",
    "^virbr.*",
    "^lxcbr.*",
    "^veth.*",
    "^lo$",
    "^cali.*",
    "^tunl.*",
    "^flannel.*",
    "^kube-ipvs.*",
    "^cni.*",
    "^nodelocaldns.*",
    "^lxc.*",
];

/// Where the file is mounted.
pub const DEFAULT_PATH: &str = "/etc/metallb/excludel2.yaml";

#[derive(Deserialize)]
struct File {
    #[serde(rename = "announcedInterfacesToExclude", default)]
    excluded: Option<Vec<String>>,
}

/// Why the list of excluded interfaces cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ExcludedError {
    /// The file is there but cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not YAML of the expected form.
    #[error("parse {}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// An entry is no regular expression.
    #[error("compile the interface pattern {pattern:?}")]
    Pattern {
        /// The entry.
        pattern: String,
        /// Why.
        source: regex::Error,
    },
}

/// Reads the patterns of the interfaces that are never used; each matches anywhere in a name. Without the file it is the
/// built-in list; a file that names none excludes nothing.
///
/// # Errors
/// The file cannot be read or does not contain what it should.
pub fn load_excluded(path: &Path) -> Result<RegexSet, ExcludedError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return compile(WITHOUT_FILE.map(str::to_owned));
        }
        Err(source) => {
            return Err(ExcludedError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    patterns(&text, path)
}

fn patterns(text: &str, path: &Path) -> Result<RegexSet, ExcludedError> {
    if text.trim().is_empty() {
        return Ok(RegexSet::empty());
    }
    let file: File = serde_saphyr::from_str(text).map_err(|error| ExcludedError::Parse {
        path: path.to_owned(),
        message: error.to_string(),
    })?;
    compile(file.excluded.unwrap_or_default())
}

/// As one set, because each expression has memory of its own to match with.
fn compile(patterns: impl IntoIterator<Item = String>) -> Result<RegexSet, ExcludedError> {
    let patterns: Vec<String> = patterns.into_iter().collect();
    RegexSet::new(&patterns).map_err(|source| {
        // The set does not say which of them is wrong; if it is none, all together are too large.
        let wrong = patterns.iter().find(|pattern| Regex::new(pattern).is_err());
        let pattern = wrong.cloned().unwrap_or_else(|| patterns.join(", "));
        ExcludedError::Pattern { pattern, source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<RegexSet, ExcludedError> {
        patterns(text, Path::new("excludel2.yaml"))
    }

    #[test]
    fn without_a_file_what_leads_to_containers_is_excluded() {
        let excluded = load_excluded(Path::new("/nonexistent/excludel2.yaml")).unwrap();
        let matches = |name| excluded.is_match(name);
        assert_eq!(excluded.len(), 14);
        assert!(
            ["lo", "veth12ab", "cali0", "kube-ipvs0"]
                .into_iter()
                .all(matches)
        );
        assert!(!["eth0", "bond0", "lo1"].into_iter().any(matches));
    }

    #[test]
    fn an_empty_file_or_list_excludes_nothing() {
        for text in [
            "",
            "announcedInterfacesToExclude:\n",
            "announcedInterfacesToExclude: []",
            "other: 1",
        ] {
            assert!(read(text).unwrap().is_empty(), "{text:?}");
        }
    }

    #[test]
    fn a_file_is_the_whole_list() {
        let excluded = read("announcedInterfacesToExclude: ['^eth9$']").unwrap();
        assert_eq!(excluded.len(), 1);
        assert!(excluded.is_match("eth9") && !excluded.is_match("veth1"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(matches!(read("- a\n- b"), Err(ExcludedError::Parse { .. })));
        let error = read("announcedInterfacesToExclude: ['eth(']").unwrap_err();
        assert!(error.to_string().contains("eth("));
    }
}

//! The objects in `config/samples`, which people write by hand.

use std::path::Path;
use std::{fs, io};

use ferrolb_api::GROUP;
use serde_json::Value;
use thiserror::Error;

/// Why the samples cannot be read.
#[derive(Debug, Error)]
pub enum SamplesError {
    /// A file or the folder cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which file or folder.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A file is not YAML.
    #[error("{path} is not YAML")]
    Parse {
        /// Which file.
        path: String,
        /// Why.
        source: Box<serde_saphyr::Error>,
    },
}

/// Every object of our own group, in the order of file names.
pub fn read(folder: &Path) -> Result<Vec<Value>, SamplesError> {
    let unreadable = |path: &Path| {
        let path = path.display().to_string();
        move |source| SamplesError::Read { path, source }
    };
    let entries = fs::read_dir(folder).map_err(unreadable(folder))?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable(folder))?;
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "yaml")
    });
    paths.sort();
    let mut objects = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).map_err(unreadable(&path))?;
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&text).map_err(|source| SamplesError::Parse {
                path: path.display().to_string(),
                source: Box::new(source),
            })?;
        objects.extend(documents.into_iter().filter(is_ours));
    }
    Ok(objects)
}

fn is_ours(object: &Value) -> bool {
    let group = object
        .get("apiVersion")
        .and_then(Value::as_str)
        .and_then(|version| version.split_once('/'));
    group.is_some_and(|(group, _)| group == GROUP)
}

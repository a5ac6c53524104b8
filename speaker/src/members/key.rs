//! The shared key, in a file that may change.

use std::io;
use std::path::{Path, PathBuf};

/// The entry of the Secret, and so the file in the directory where the kubelet mounts it.
const ENTRY: &str = "secretkey";

/// No key to start with.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("read the membership key {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is nothing in it: everybody would know it.
    #[error("the membership key {} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// The key as it was last read, and where from.
pub struct KeyFile {
    path: PathBuf,
    key: Vec<u8>,
    /// The last look failed, which was said.
    unreadable: bool,
}

impl KeyFile {
    /// Reads the key that the kubelet has put into `directory`.
    ///
    /// # Errors
    /// There is none, or it is empty.
    pub fn open(directory: &Path) -> Result<Self, KeyError> {
        let path = directory.join(ENTRY);
        let key = read(&path)?;
        Ok(Self {
            path,
            key,
            unreadable: false,
        })
    }

    /// The key as it was last read.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Reads it again; true if it is another one. A file that is gone or empty takes the key from nobody.
    pub(super) fn look_again(&mut self) -> bool {
        match read(&self.path) {
            Ok(key) => {
                self.unreadable = false;
                let changed = key != self.key;
                self.key = key;
                changed
            }
            Err(error) => {
                if !std::mem::replace(&mut self.unreadable, true) {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "going on with the membership key as it was"
                    );
                }
                false
            }
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, KeyError> {
    let path = path.to_owned();
    match std::fs::read(&path) {
        Ok(text) => {
            let key = text.trim_ascii_end();
            if key.is_empty() {
                return Err(KeyError::Empty { path });
            }
            Ok(key.to_vec())
        }
        Err(source) => Err(KeyError::Read { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_changes_is_noticed_and_one_that_goes_is_kept() {
        let directory = std::env::temp_dir().join(format!("ferrolb-key-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join(ENTRY);
        assert!(matches!(
            KeyFile::open(&directory),
            Err(KeyError::Read { .. })
        ));
        std::fs::write(&file, "\n").unwrap();
        assert!(matches!(
            KeyFile::open(&directory),
            Err(KeyError::Empty { .. })
        ));
        std::fs::write(&file, "one\n").unwrap();
        let mut key = KeyFile::open(&directory).unwrap();
        assert!(!key.look_again());
        std::fs::write(&file, "two").unwrap();
        assert!(key.look_again());
        assert!(!key.look_again());
        std::fs::write(&file, "").unwrap();
        assert!(!key.look_again());
        std::fs::remove_file(&file).unwrap();
        assert!(!key.look_again());
        assert_eq!(key.key(), b"two");
        std::fs::remove_dir(&directory).unwrap();
    }
}

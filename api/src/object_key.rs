//! Which object: the key under which the whole project files namespaced objects.

use std::fmt;
use std::str::FromStr;

use kube::ResourceExt;
use serde::{Deserialize, Serialize};

/// Namespace and name of an object; the kind is known from where the key is used.
///
/// The order is by namespace, then by name, so that iteration over a map of these is the same in every process.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectKey {
    /// Empty for an object of a cluster-wide kind.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

impl ObjectKey {
    /// The key with these two parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The key of an object that the API server knows.
    pub fn namespaced(object: &impl ResourceExt) -> Self {
        Self {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            return formatter.write_str(&self.name);
        }
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// Reads what [`Display`](fmt::Display) writes. Names never contain a slash, so nothing can be misread.
impl FromStr for ObjectKey {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once('/') {
            Some((namespace, name)) => Self::new(namespace, name),
            None => Self::new("", text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1beta1::IPAddressPool;

    #[test]
    fn a_key_reads_back_what_it_writes() {
        for key in [ObjectKey::new("shop", "web"), ObjectKey::new("", "node-1")] {
            assert_eq!(key.to_string().parse::<ObjectKey>(), Ok(key));
        }
        assert_eq!(ObjectKey::new("shop", "web").to_string(), "shop/web");
    }

    #[test]
    fn an_object_is_filed_under_its_namespace_and_name() {
        let mut pool = IPAddressPool::default();
        pool.metadata.name = Some("first".to_owned());
        pool.metadata.namespace = Some("metallb-system".to_owned());
        assert_eq!(
            ObjectKey::namespaced(&pool),
            ObjectKey::new("metallb-system", "first")
        );
    }
}

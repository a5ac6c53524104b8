//! Which object: the key under which the whole project files namespaced objects.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use kube::ResourceExt;

/// Namespace and name of an object; the kind is known from where the key is used.
///
/// The order is by namespace, then by name, so that iteration over a map of these is the same in every process. Clones
/// share one piece of memory: a Service is known by its key in many maps of a process, thousands of times over.
#[derive(Clone)]
pub struct ObjectKey {
    /// `namespace/name`, or `/name` for an object of a cluster-wide kind.
    text: Arc<str>,
    /// Where the slash is. Names of Kubernetes have 253 characters at most, but this must not depend on it.
    slash: u32,
}

impl ObjectKey {
    /// The key with these two parts. The namespace is empty for an object of a cluster-wide kind.
    pub fn new(namespace: &str, name: &str) -> Self {
        let slash = u32::try_from(namespace.len()).unwrap_or(u32::MAX);
        debug_assert!(!namespace.contains('/'), "no namespace has a slash");
        Self {
            text: [namespace, "/", name].concat().into(),
            slash,
        }
    }

    /// The key of an object that the API server knows.
    pub fn namespaced(object: &impl ResourceExt) -> Self {
        let meta = object.meta();
        Self::new(
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        )
    }

    /// The namespace; empty for an object of a cluster-wide kind.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.text.get(..self.slash as usize).unwrap_or_default()
    }

    /// The object's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text.get(self.slash as usize + 1..).unwrap_or_default()
    }
}

impl Default for ObjectKey {
    fn default() -> Self {
        Self::new("", "")
    }
}

impl PartialEq for ObjectKey {
    fn eq(&self, other: &Self) -> bool {
        // Clones are the same piece of memory, which is quicker to see than to read.
        Arc::ptr_eq(&self.text, &other.text) || self.text == other.text
    }
}

impl Eq for ObjectKey {}

impl Ord for ObjectKey {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.text, &other.text) {
            return Ordering::Equal;
        }
        // Not the order of the texts: a namespace may have characters that sort before the slash.
        (self.namespace(), self.name()).cmp(&(other.namespace(), other.name()))
    }
}

impl PartialOrd for ObjectKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for ObjectKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.slash {
            0 => self.name(),
            _ => &self.text,
        })
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
            assert_eq!(key.to_string().parse::<ObjectKey>(), Ok(key.clone()));
        }
        let key = ObjectKey::new("shop", "web");
        assert_eq!(
            (key.to_string().as_str(), key.namespace(), key.name()),
            ("shop/web", "shop", "web")
        );
        let cluster_wide = ObjectKey::new("", "node-1");
        assert_eq!(
            (cluster_wide.to_string().as_str(), cluster_wide.namespace()),
            ("node-1", "")
        );
    }

    #[test]
    fn the_order_is_by_namespace_and_then_by_name() {
        // As one text, "a-b/x" would come before "a/x".
        let (short, long) = (ObjectKey::new("a", "x"), ObjectKey::new("a-b", "x"));
        assert!(short < long);
        assert!(ObjectKey::new("a", "x") < ObjectKey::new("a", "y"));
        assert_eq!(short.cmp(&ObjectKey::new("a", "x")), Ordering::Equal);
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

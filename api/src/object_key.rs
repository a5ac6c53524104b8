//! Which object: the key under which the whole project files namespaced objects.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use kube::ResourceExt;
use triomphe::ThinArc;

/// Namespace and name of an object; the kind is known from where the key is used.
///
/// The order is by namespace, then by name, so that iteration over a map of these is the same in every process. Clones
/// share one piece of memory and are one pointer wide: a Service is known by its key in ten maps of a process, thousands of
/// times over.
#[derive(Clone)]
pub struct ObjectKey {
    /// `namespace/name`, or `/name` for an object of a cluster-wide kind, after where the slash is. Names of Kubernetes have 253
    /// characters at most, but this must not depend on it.
    text: ThinArc<u32, u8>,
}

const _: () = assert!(size_of::<Option<ObjectKey>>() == size_of::<usize>());

impl ObjectKey {
    /// The key with these two parts. The namespace is empty for an object of a cluster-wide kind.
    pub fn new(namespace: &str, name: &str) -> Self {
        let slash = u32::try_from(namespace.len()).unwrap_or(u32::MAX);
        debug_assert!(!namespace.contains('/'), "no namespace has a slash");
        let text = [namespace, "/", name].concat();
        Self {
            text: ThinArc::from_header_and_slice(slash, text.as_bytes()),
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
        self.text().get(..self.slash()).unwrap_or_default()
    }

    /// The object's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text().get(self.slash() + 1..).unwrap_or_default()
    }

    fn slash(&self) -> usize {
        self.text.header.header as usize
    }

    fn text(&self) -> &str {
        // It was made of texts.
        str::from_utf8(&self.text.slice).unwrap_or_default()
    }

    /// Namespace and name as octets, whose order is that of the texts.
    fn parts(&self) -> (&[u8], &[u8]) {
        let (namespace, rest) = self
            .text
            .slice
            .split_at_checked(self.slash())
            .unwrap_or_default();
        (namespace, rest.get(1..).unwrap_or_default())
    }

    fn is_same_memory(&self, other: &Self) -> bool {
        self.text.as_ptr() == other.text.as_ptr()
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
        self.is_same_memory(other) || self.parts() == other.parts()
    }
}

impl Eq for ObjectKey {}

impl Ord for ObjectKey {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.is_same_memory(other) {
            return Ordering::Equal;
        }
        // Not the order of the texts: a namespace may have characters that sort before the slash.
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for ObjectKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for ObjectKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.slice.hash(state);
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.slash() {
            0 => self.name(),
            _ => self.text(),
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

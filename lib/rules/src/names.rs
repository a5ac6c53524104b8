//! Which names does Kubernetes, or the kernel of a node, let anything have?

/// The longest label of a domain name (RFC 1123), name of a label's key, and value of a label.
const SHORT: usize = 63;
/// The longest domain name.
const LONG: usize = 253;

/// A text of `inner` bytes that begins and ends with one of `outer`.
fn is_made_of(text: &str, outer: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|first| outer(*first))
        && bytes.last().is_some_and(|last| outer(*last))
        && bytes.iter().all(|byte| outer(*byte) || inner(*byte))
}

fn is_lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_part(text: &str) -> bool {
    is_made_of(text, is_lower, |byte| byte == b'-')
}

fn is_word(text: &str) -> bool {
    let inner = |byte: u8| b"-_.".contains(&byte);
    text.len() <= SHORT && is_made_of(text, |byte| byte.is_ascii_alphanumeric(), inner)
}

/// Whether a Namespace or a Service can have this name.
#[must_use]
pub fn is_dns_label(text: &str) -> bool {
    text.len() <= SHORT && is_part(text)
}

/// Whether an object of most kinds can have this name.
#[must_use]
pub fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= LONG && text.split('.').all(is_part)
}

/// Whether a label can have this key: a name, after a prefix and a slash or alone.
#[must_use]
pub fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_word(name),
        None => is_word(text),
    }
}

/// Whether a label can have this value.
#[must_use]
pub fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_word(text)
}

/// Whether an interface of Linux can have this name (`dev_valid_name` of the kernel).
#[must_use]
pub fn is_interface(text: &str) -> bool {
    (1..16).contains(&text.len())
        && text != "."
        && text != ".."
        && !text.contains(|c: char| c == '/' || c == ':' || c.is_ascii_whitespace() || c == '\u{b}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_kubernetes_takes() {
        let (short, long) = ("a".repeat(63), "a".repeat(64));
        for good in ["a", "0", "a-b", short.as_str()] {
            assert!(is_dns_label(good), "{good}");
        }
        for bad in ["", "A", "-a", "a-", "a.b", "a_b", long.as_str()] {
            assert!(!is_dns_label(bad), "{bad}");
        }
        let domain = "a.".repeat(126) + "a";
        for good in ["a", "a.b-c.0", domain.as_str(), long.as_str()] {
            assert!(is_dns_subdomain(good), "{good}");
        }
        let longer = format!("{domain}a");
        for bad in ["", "a..b", ".a", "a.-b", "Office", "a b", longer.as_str()] {
            assert!(!is_dns_subdomain(bad), "{bad}");
        }
    }

    #[test]
    fn labels_are_those_that_kubernetes_takes() {
        let (short, long) = ("A".repeat(63), "A".repeat(64));
        let prefixed = format!("{}/{short}", "a.".repeat(126) + "a");
        for good in [
            "a",
            "A_b.c-d",
            "kubernetes.io/os",
            short.as_str(),
            prefixed.as_str(),
        ] {
            assert!(is_label_key(good), "{good}");
        }
        for bad in [
            "",
            "/a",
            "a/",
            "a/b/c",
            "A.io/b",
            "-a",
            "a b",
            long.as_str(),
        ] {
            assert!(!is_label_key(bad), "{bad}");
        }
        for good in ["", "A_b.c-d", short.as_str()] {
            assert!(is_label_value(good), "{good}");
        }
        for bad in ["a/b", "a b", "a-", "ä", long.as_str()] {
            assert!(!is_label_value(bad), "{bad}");
        }
    }

    #[test]
    fn interfaces_are_those_that_the_kernel_takes() {
        for good in ["eth0", "bond0.100", "enp0s31f6", "a23456789012345", "ü"] {
            assert!(is_interface(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "eth0/1",
            "eth0:1",
            "eth 0",
            "a234567890123456",
            "eth0\n",
        ] {
            assert!(!is_interface(bad), "{bad}");
        }
    }
}

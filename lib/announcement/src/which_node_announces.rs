//! In which order do nodes stand for one address?

use std::net::IpAddr;

use sha2::{Digest, Sha256};

/// Sorts candidates: the higher preference first, then the lower SHA-256 of `node#address` (reference 4.2, step 7).
///
/// The order is MetalLB's to the byte, so that speakers of both agree during a migration (reference 9, row 2).
#[must_use]
pub fn order<'a>(
    candidates: impl IntoIterator<Item = (&'a str, i64)>,
    address: IpAddr,
) -> Vec<&'a str> {
    let mut ranked: Vec<_> = candidates
        .into_iter()
        .map(|(node, preference)| (-preference, digest(node, address), node))
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, _, node)| node).collect()
}

/// The node that stands first, without sorting the rest.
pub(crate) fn first<'a>(
    candidates: impl IntoIterator<Item = (&'a str, i64)>,
    address: IpAddr,
) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|(node, preference)| (-preference, digest(node, address), node))
        .min()
        .map(|(_, _, node)| node)
}

pub(crate) fn digest(node: &str, address: IpAddr) -> [u8; 32] {
    Sha256::digest(format!("{node}#{address}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_metallbs() {
        // The vectors of reference 4.2.
        let abc = ["node-a", "node-b", "node-c"];
        let edges = ["edge-a", "edge-b", "worker-a", "worker-b"];
        for (nodes, address, scores, expected) in [
            (
                &abc[..],
                "10.0.0.1",
                &[][..],
                &["node-b", "node-a", "node-c"][..],
            ),
            (
                &abc[..],
                "10.0.0.2",
                &[][..],
                &["node-b", "node-c", "node-a"][..],
            ),
            (
                &edges[..],
                "10.20.30.1",
                &[][..],
                &["edge-b", "worker-a", "edge-a", "worker-b"][..],
            ),
            (
                &edges[..],
                "10.20.30.1",
                &[("edge-a", 100)][..],
                &["edge-a", "edge-b", "worker-a", "worker-b"][..],
            ),
            (
                &abc[..2],
                "10.20.30.1",
                &[("node-a", 100), ("node-b", 100)][..],
                &["node-b", "node-a"][..],
            ),
            (
                &edges[..3],
                "10.20.30.1",
                &[("edge-a", 100), ("edge-b", 100)][..],
                &["edge-b", "edge-a", "worker-a"][..],
            ),
            (
                &["iris1", "iris2"][..],
                "10.20.30.1",
                &[][..],
                &["iris2", "iris1"][..],
            ),
            (
                &["iris1", "iris2"][..],
                "10.20.30.2",
                &[][..],
                &["iris1", "iris2"][..],
            ),
        ] {
            let candidates = || {
                nodes.iter().map(|node| {
                    (
                        *node,
                        scores
                            .iter()
                            .find(|(name, _)| name == node)
                            .map_or(0, |(_, score)| *score),
                    )
                })
            };
            let address = address.parse().unwrap();
            assert_eq!(
                order(candidates(), address),
                expected,
                "{nodes:?} {address}"
            );
            assert_eq!(first(candidates(), address), expected.first().copied());
        }
    }

    #[test]
    fn the_digest_is_of_node_hash_address() {
        let digest = digest("node-a", "10.0.0.1".parse().unwrap());
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "dd41591fe8f31f9f38e297fe9892a8eff47892ea017c4167619a62f366fb8149"
        );
    }
}

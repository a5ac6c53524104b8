//! Addresses that are kept back for a time, as the status of their pool records them: what outlives the process.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ferrolb_allocation::Hold;
use ferrolb_api::ObjectKey;
use ferrolb_api::v1beta1::HeldAddresses;
use ferrolb_rules::{AddressRange, Family};
use k8s_openapi::jiff::Timestamp;

/// Entries that a status holds. Beyond that neighbours become one entry, and then those that end first are left out.
const ENTRIES_AT_MOST: usize = 500;
/// Addresses that are read back of one pool: a status is no reason to enumerate a network.
const ADDRESSES_AT_MOST: u128 = 100_000;

/// What the status of a pool says of `holds`, by address.
#[must_use]
pub fn to_status(mut holds: Vec<Hold>) -> Vec<HeldAddresses> {
    holds.sort_by_key(|hold| hold.address);
    let mut entries: Vec<(IpAddr, IpAddr, i64, Option<String>)> = Vec::new();
    let many = holds.len() > ENTRIES_AT_MOST;
    for hold in holds {
        // A second that is begun counts, so that what is read back and written again is the same.
        let until = hold.until.saturating_add(999).div_euclid(1000);
        match entries.last_mut() {
            Some((_, last, latest, former)) if many && next(*last) == Some(hold.address) => {
                *last = hold.address;
                *latest = until.max(*latest);
                *former = None;
            }
            _ => {
                let former = hold.former.map(|key| key.to_string());
                entries.push((hold.address, hold.address, until, former));
            }
        }
    }
    if entries.len() > ENTRIES_AT_MOST {
        let mut ends: Vec<i64> = entries.iter().map(|(_, _, until, _)| *until).collect();
        ends.sort_unstable_by(|one, other| other.cmp(one));
        let least = ends.get(ENTRIES_AT_MOST).copied().unwrap_or_default();
        entries.retain(|(_, _, until, _)| *until > least);
    }
    entries
        .into_iter()
        .map(|(first, last, until, service)| HeldAddresses {
            addresses: if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            },
            until: Timestamp::from_second(until)
                .unwrap_or(Timestamp::MAX)
                .to_string(),
            service,
        })
        .collect()
}

/// What a former process kept back. What cannot be read is left out: somebody else wrote it.
#[must_use]
pub fn from_status(held: &[HeldAddresses]) -> Vec<Hold> {
    let mut holds: BTreeMap<IpAddr, Hold> = BTreeMap::new();
    let mut left = ADDRESSES_AT_MOST;
    for entry in held {
        let range = match entry.addresses.parse::<IpAddr>() {
            Ok(address) => format!("{address}-{address}").parse::<AddressRange>(),
            Err(_) => entry.addresses.parse(),
        };
        let (Ok(range), Ok(until)) = (range, entry.until.parse::<Timestamp>()) else {
            continue;
        };
        let more = range.last() - range.first();
        if more >= left {
            continue;
        }
        left -= more + 1;
        let former = entry
            .service
            .as_deref()
            .and_then(|name| name.parse::<ObjectKey>().ok());
        for number in range.first()..=range.last() {
            let address = range.family().address(number);
            holds.insert(
                address,
                Hold {
                    address,
                    until: until.as_millisecond(),
                    former: former.clone(),
                },
            );
        }
    }
    holds.into_values().collect()
}

fn next(address: IpAddr) -> Option<IpAddr> {
    let (number, most) = match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), u128::from(u32::MAX)),
        IpAddr::V6(v6) => (u128::from(v6), u128::MAX),
    };
    (number < most).then(|| Family::of(address).address(number + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(n: u32, until: i64) -> Hold {
        Hold {
            address: Family::V4.address(u128::from(0x0a00_0000 + n)),
            until,
            former: Some(ObjectKey::new("shop", "web")),
        }
    }

    #[test]
    fn what_is_kept_back_comes_back_no_shorter() {
        let holds = vec![hold(1, 1_700_000_000_001), hold(2, 1_700_000_005_000)];
        let status = to_status(holds.clone());
        assert_eq!(status[0].addresses, "10.0.0.1");
        assert_eq!(status[0].until, "2023-11-14T22:13:21Z");
        assert_eq!(to_status(from_status(&status)), status);
        assert_eq!(status[0].service.as_deref(), Some("shop/web"));
        for (before, after) in holds.iter().zip(from_status(&status)) {
            assert_eq!(
                (before.address, &before.former),
                (after.address, &after.former)
            );
            assert!((before.until..=before.until + 1000).contains(&after.until));
        }
    }

    #[test]
    fn a_thousand_neighbours_are_one_entry_and_a_thousand_others_the_last_to_end() {
        let neighbours: Vec<Hold> = (0..1000).map(|n| hold(n, i64::from(n) * 1000)).collect();
        let status = to_status(neighbours);
        assert_eq!(status.len(), 1);
        assert_eq!(status[0].addresses, "10.0.0.0-10.0.3.231");
        assert_eq!(from_status(&status).len(), 1000);
        let others: Vec<Hold> = (0..1000)
            .map(|n| hold(2 * n, i64::from(n) * 1000))
            .collect();
        let kept = from_status(&to_status(others));
        assert_eq!(kept.len(), ENTRIES_AT_MOST);
        assert!(kept.iter().all(|hold| hold.until >= 500_000));
    }

    #[test]
    fn what_others_wrote_is_no_reason_to_enumerate_a_network() {
        let entry = |addresses: &str, until: &str| HeldAddresses {
            addresses: addresses.to_owned(),
            until: until.to_owned(),
            service: None,
        };
        let now = "2026-01-01T00:00:00Z";
        let held = [
            entry("::/0", now),
            entry("10.0.0.0/8", now),
            entry("nonsense", now),
            entry("10.0.0.1", "tomorrow"),
        ];
        assert!(from_status(&held).is_empty());
    }
}

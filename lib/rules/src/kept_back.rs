//! What do our own annotations on an IPAddressPool keep from Services?

use std::collections::BTreeMap;

use ferrolb_api::annotations::{EXCLUDE, MAX_ADDRESSES_PER_NAMESPACE, REUSE_HOLD};
use ferrolb_api::duration::{self, DurationError};

use crate::addresses::{AddressRange, AddressRangeError, parse_address};

/// The longest time for which a freed address is kept from others, in seconds: 720 hours.
const REUSE_HOLD_AT_MOST: u64 = 720 * 60 * 60;
/// The largest number that a limit of addresses can be.
const ADDRESSES_AT_MOST: u32 = 1_000_000;

/// Reasons that are found in one list.
const REASONS_AT_MOST: usize = 100;

/// What a pool's annotations say, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeptBack {
    pub(crate) exclude: Vec<AddressRange>,
    pub(crate) reuse_hold: u32,
    pub(crate) max_addresses_per_namespace: Option<u32>,
}

/// Reads how many addresses may be held: a whole number from 0 to 1000000, for the annotations
/// `ferrolb.io/max-addresses-per-namespace` of a pool and `ferrolb.io/max-addresses` of a Namespace.
///
/// # Errors
///
/// A sentence that names the text and what to write instead.
pub fn parse_max_addresses(text: &str) -> Result<u32, String> {
    let digits = text.trim();
    Some(digits)
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
        .filter(|number| *number <= ADDRESSES_AT_MOST)
        .ok_or_else(|| {
            format!(
                "{text:?} is not a whole number from 0 to {ADDRESSES_AT_MOST}; \
                 write one such as 10, or remove the annotation for no limit"
            )
        })
}

/// Reads the annotations of a pool of these addresses. `refuse` is given the field and the reason; `ranges` is absent
/// when there are none or one cannot be read.
pub(crate) fn read(
    annotations: &BTreeMap<String, String>,
    ranges: Option<&[AddressRange]>,
    mut refuse: impl FnMut(String, String),
) -> KeptBack {
    let mut read = KeptBack::default();
    let mut refuse = |key: &str, reason| refuse(format!("metadata.annotations[{key}]"), reason);
    if let Some(list) = annotations.get(EXCLUDE) {
        match parse_exclude(list, ranges) {
            Ok(exclude) => read.exclude = exclude,
            Err(reasons) => reasons
                .into_iter()
                .for_each(|reason| refuse(EXCLUDE, reason)),
        }
    }
    if let Some(text) = annotations.get(REUSE_HOLD) {
        match parse_reuse_hold(text) {
            Ok(seconds) => read.reuse_hold = seconds,
            Err(reason) => refuse(REUSE_HOLD, reason),
        }
    }
    if let Some(text) = annotations.get(MAX_ADDRESSES_PER_NAMESPACE) {
        match parse_max_addresses(text) {
            Ok(number) => read.max_addresses_per_namespace = Some(number),
            Err(reason) => refuse(MAX_ADDRESSES_PER_NAMESPACE, reason),
        }
    }
    read
}

fn parse_reuse_hold(text: &str) -> Result<u32, String> {
    const REMEDY: &str = "write a duration from 0 to 720h such as 10m, or remove the annotation";
    let duration = duration::parse(text.trim()).map_err(|error| match error {
        DurationError::Empty => format!("an empty text is not a duration; {REMEDY}"),
        other => format!("{other}; {REMEDY}"),
    })?;
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    u32::try_from(seconds)
        .ok()
        .filter(|_| seconds <= REUSE_HOLD_AT_MOST)
        .ok_or_else(|| format!("{text:?} is longer than 720h; {REMEDY}"))
}

/// The addresses to leave out, as [`Pool::exclude`](crate::Pool::exclude) has them; or what is wrong, entry by entry.
fn parse_exclude(
    list: &str,
    ranges: Option<&[AddressRange]>,
) -> Result<Vec<AddressRange>, Vec<String>> {
    if list.trim().is_empty() {
        return Ok(Vec::new());
    }
    let own = ranges.map(|ranges| united(ranges.to_vec(), AddressRange::overlaps));
    let (mut exclude, mut reasons) = (Vec::new(), Vec::new());
    for entry in list.split(',').map(str::trim) {
        // Who reads this is told of some and that there are more.
        if reasons.len() > REASONS_AT_MOST {
            break;
        }
        match parse_entry(entry) {
            Ok(range) if own.as_ref().is_none_or(|own| meets(own, &range)) => exclude.push(range),
            Ok(_) => reasons.push(format!(
                "{entry:?} has no address in common with spec.addresses; remove it, or write addresses of this pool"
            )),
            Err(reason) => reasons.push(reason),
        }
    }
    let exclude = united(exclude, AddressRange::joins);
    let exclude = common(own.as_deref().unwrap_or_default(), &exclude);
    if own.is_some_and(|own| own == exclude) {
        reasons.push(
            "every address of the pool is excluded; exclude fewer, or delete the pool".to_owned(),
        );
    }
    if reasons.is_empty() {
        Ok(exclude)
    } else {
        Err(reasons)
    }
}

fn parse_entry(entry: &str) -> Result<AddressRange, String> {
    if entry.is_empty() {
        return Err("an entry is empty; remove the comma beside it".to_owned());
    }
    if let Some(address) = parse_address(entry) {
        return Ok(address.into());
    }
    entry
        .parse()
        .map_err(|error: AddressRangeError| match error {
            AddressRangeError::Cidr(text) => format!(
                "{text:?} is neither an address nor a network nor a range; \
                 write one such as 192.0.2.7, 192.0.2.0/28 or 192.0.2.10-192.0.2.20"
            ),
            other => other.to_string(),
        })
}

/// Makes one of each two neighbours, in the order of addresses, that belong together.
fn united(
    mut ranges: Vec<AddressRange>,
    together: impl Fn(&AddressRange, &AddressRange) -> bool,
) -> Vec<AddressRange> {
    ranges.sort();
    let mut united: Vec<AddressRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match united.last_mut() {
            Some(last) if together(last, &range) => *last = last.hull(&range),
            _ => united.push(range),
        }
    }
    united
}

/// Where in `sorted`, which do not overlap, the ranges begin that end at or after the first address of `range`.
fn from<'a>(sorted: &'a [AddressRange], range: &AddressRange) -> &'a [AddressRange] {
    let before =
        |other: &AddressRange| (other.family(), other.last()) < (range.family(), range.first());
    sorted
        .get(sorted.partition_point(before)..)
        .unwrap_or_default()
}

fn meets(sorted: &[AddressRange], range: &AddressRange) -> bool {
    from(sorted, range)
        .first()
        .is_some_and(|first| first.overlaps(range))
}

/// What each of `own` has in common with `others`. Neither list overlaps itself, so the answer is no longer than both.
fn common(own: &[AddressRange], others: &[AddressRange]) -> Vec<AddressRange> {
    own.iter()
        .flat_map(|own| {
            from(others, own)
                .iter()
                .map_while(|other| own.intersection(other))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn ranges(texts: &[&str]) -> Vec<AddressRange> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn kept_back(key: &str, value: &str) -> Result<KeptBack, Vec<String>> {
        let own = ranges(&["192.0.2.0/25", "192.0.2.128-192.0.2.140", "fd00::/112"]);
        let annotations = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let mut refusals = Vec::new();
        let read = read(&annotations, Some(&own), |field, reason| {
            assert_eq!(field, format!("metadata.annotations[{key}]"));
            refusals.push(reason);
        });
        if refusals.is_empty() {
            Ok(read)
        } else {
            assert_eq!(read, KeptBack::default());
            Err(refusals)
        }
    }

    fn excluded(value: &str) -> Vec<String> {
        let exclude = kept_back(EXCLUDE, value).unwrap().exclude;
        exclude.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn excluded_addresses_are_cut_to_the_entries_of_the_pool() {
        assert_eq!(excluded(""), [""; 0]);
        assert_eq!(excluded(" "), [""; 0]);
        assert_eq!(
            excluded(" fd00::7 ,192.0.2.1, 192.0.2.64/28,192.0.2.2 - 192.0.2.5 "),
            ["192.0.2.1-192.0.2.5", "192.0.2.64/28", "fd00::7"]
        );
        // Across two entries, and beyond the last.
        assert_eq!(
            excluded("192.0.2.120-192.0.2.200"),
            ["192.0.2.120/29", "192.0.2.128-192.0.2.140"]
        );
        assert_eq!(
            excluded("0.0.0.0/0"),
            ["192.0.2.0/25", "192.0.2.128-192.0.2.140"],
            "a whole family is nobody's mistake"
        );
    }

    #[test]
    fn each_bad_exclusion_has_its_own_sentence() {
        for (value, reasons) in [
            (
                "192.0.2.1,,192.0.2.3",
                &["an entry is empty; remove the comma beside it"][..],
            ),
            (
                "gateway",
                &[
                    "\"gateway\" is neither an address nor a network nor a range; \
                   write one such as 192.0.2.7, 192.0.2.0/28 or 192.0.2.10-192.0.2.20",
                ],
            ),
            (
                "192.0.2.9-192.0.2.5",
                &[
                    "invalid IP range \"192.0.2.9-192.0.2.5\": the start is after the end; swap them",
                ],
            ),
            (
                "192.0.2.1,198.51.100.1,fd01::/64",
                &[
                    "\"198.51.100.1\" has no address in common with spec.addresses; \
                     remove it, or write addresses of this pool",
                    "\"fd01::/64\" has no address in common with spec.addresses; \
                     remove it, or write addresses of this pool",
                ],
            ),
            (
                "::/0,192.0.2.0/26,192.0.2.64-192.0.2.255",
                &["every address of the pool is excluded; exclude fewer, or delete the pool"],
            ),
        ] {
            assert_eq!(kept_back(EXCLUDE, value).unwrap_err(), reasons, "{value}");
        }
    }

    #[test]
    fn beside_addresses_that_cannot_be_read_only_the_form_of_exclusions_is_judged() {
        let annotations = BTreeMap::from([(EXCLUDE.to_owned(), "10.0.0.1,nonsense".to_owned())]);
        let mut refusals = Vec::new();
        read(&annotations, None, |_, reason| refusals.push(reason));
        assert!(
            refusals.len() == 1 && refusals[0].contains("nonsense"),
            "{refusals:?}"
        );
    }

    #[test]
    fn a_hold_is_in_whole_seconds() {
        for (value, seconds) in [
            ("0", 0),
            ("0s", 0),
            ("1ms", 1),
            ("1.5s", 2),
            (" 10m ", 600),
            ("720h", 2_592_000),
        ] {
            let hold = kept_back(REUSE_HOLD, value).unwrap().reuse_hold;
            assert_eq!(hold, seconds, "{value}");
        }
    }

    #[test]
    fn each_bad_hold_has_its_own_sentence() {
        const REMEDY: &str =
            "; write a duration from 0 to 720h such as 10m, or remove the annotation";
        for (value, reason) in [
            ("", "an empty text is not a duration"),
            (
                "600",
                "\"600\" is not a duration: each number needs one of the units ns, us, ms, s, m, h",
            ),
            ("h", "\"h\" is not a duration: a number is missing"),
            ("-1s", "\"-1s\" is below zero"),
            ("720h1ns", "\"720h1ns\" is longer than 720h"),
            (
                "9999999999999h",
                "\"9999999999999h\" is longer than any timer can be",
            ),
        ] {
            let reasons = kept_back(REUSE_HOLD, value).unwrap_err();
            assert_eq!(reasons, [format!("{reason}{REMEDY}")], "{value}");
        }
    }

    #[test]
    fn a_limit_is_a_whole_number() {
        for (value, number) in [("0", 0), (" 7 ", 7), ("1000000", 1_000_000)] {
            let read = kept_back(MAX_ADDRESSES_PER_NAMESPACE, value).unwrap();
            assert_eq!(read.max_addresses_per_namespace, Some(number));
        }
        for value in [
            "",
            "-1",
            "+1",
            "1.5",
            "ten",
            "1000001",
            "99999999999999999999",
        ] {
            assert_eq!(
                kept_back(MAX_ADDRESSES_PER_NAMESPACE, value).unwrap_err(),
                [format!(
                    "{value:?} is not a whole number from 0 to 1000000; \
                     write one such as 10, or remove the annotation for no limit"
                )]
            );
        }
    }

    fn range_of((first, more): (u8, u8)) -> AddressRange {
        let last = first.saturating_add(more);
        format!("10.0.0.{first}-10.0.0.{last}").parse().unwrap()
    }

    proptest! {
        /// Against looking at each address.
        #[test]
        fn what_is_excluded_is_what_both_lists_name(
            own in prop::collection::vec((any::<u8>(), 0..20u8), 1..12),
            exclude in prop::collection::vec((any::<u8>(), 0..20u8), 1..12),
        ) {
            let mut taken: Vec<AddressRange> = Vec::new();
            for range in own.into_iter().map(range_of) {
                if !taken.iter().any(|other| other.overlaps(&range)) {
                    taken.push(range);
                }
            }
            let exclude: Vec<AddressRange> = exclude.into_iter().map(range_of).collect();
            let list: Vec<String> = exclude.iter().map(ToString::to_string).collect();
            let within = |all: &[AddressRange], address| all.iter().any(|range| range.contains(address));
            let numbers = || (0..=255u8).map(|n| IpAddr::from([10, 0, 0, n]));
            match parse_exclude(&list.join(","), Some(&taken)) {
                Ok(read) => {
                    for address in numbers() {
                        prop_assert_eq!(
                            within(&read, address),
                            within(&taken, address) && within(&exclude, address)
                        );
                    }
                    for (index, range) in read.iter().enumerate() {
                        prop_assert!(taken.iter().any(|own| own.intersection(range) == Some(*range)));
                        prop_assert!(!read[..index].iter().any(|other| other.overlaps(range)));
                    }
                }
                Err(_) => {
                    let stray = exclude.iter().any(|range| !taken.iter().any(|own| own.overlaps(range)));
                    let nothing_left = numbers()
                        .all(|address| !within(&taken, address) || within(&exclude, address));
                    prop_assert!(stray || nothing_left);
                }
            }
        }
    }
}

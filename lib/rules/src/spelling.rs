//! Which known word was another one meant for?

/// The word that is made of `written` by the fewest changes, and by `at_most` so many. Capitals count for nothing.
#[must_use]
pub fn closest<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
    at_most: usize,
) -> Option<&'a str> {
    let written = written.to_lowercase();
    known
        .into_iter()
        .map(|word| (distance(&word.to_lowercase(), &written), word))
        .min_by_key(|(changes, _)| *changes)
        .filter(|(changes, _)| *changes <= at_most)
        .map(|(_, word)| word)
}

/// How many characters have to be put in, taken out or exchanged to make one text of the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, character) in one.chars().enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        for (cell, candidate) in row.iter_mut().skip(1).zip(&other) {
            let above = *cell;
            let exchanged = diagonal + usize::from(character != *candidate);
            left = exchanged.min(above + 1).min(left + 1);
            diagonal = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_is_the_number_of_changes() {
        for (one, other, changes) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("exclude", "exclud", 1),
            ("a", "b", 1),
        ] {
            assert_eq!(distance(one, other), changes, "{one} {other}");
        }
    }

    #[test]
    fn the_closest_word_is_found_if_it_is_close() {
        let known = || ["autoAssign", "avoidBuggyIPs", "addresses"];
        assert_eq!(closest("autoassign", known(), 0), Some("autoAssign"));
        assert_eq!(closest("adresses", known(), 2), Some("addresses"));
        assert_eq!(closest("priority", known(), 2), None);
    }
}

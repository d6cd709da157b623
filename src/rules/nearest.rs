//! The known word that a mistyped one was probably meant to be.

/// The candidate with the smallest edit distance to `word`, when it is near enough to be a likely slip of the finger:
/// a third of the word, at least one letter. A candidate that the word is the start of is nearer still.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().take(LONGEST).flat_map(char::to_lowercase).collect();
    let limit = (word.len() / 3).max(1);
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let letters: Vec<char> = candidate.chars().take(LONGEST).flat_map(char::to_lowercase).collect();
            let away = distance(&word, &letters);
            let starts = word.len() >= 3 && letters.starts_with(&word);
            (away <= limit || starts).then_some(((!starts, away), candidate))
        })
        .min_by_key(|(near, _)| *near)
        .map(|(_, candidate)| candidate)
}

/// Longer words are cut: nobody types them by hand, and the work grows with the square.
const LONGEST: usize = 64;

/// Edits from one word to the other, where two neighbours that changed places are one edit (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let at = |row: &[usize], i: usize| row.get(i).copied().unwrap_or(usize::MAX / 2);
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best =
                (at(&last, j) + usize::from(x != y)).min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    at(&last, b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_finger_find_their_word() {
        let known = ["port", "from_port", "game_port", "title", "minecraft", "minecraft-bedrock"];
        for (typed, meant) in [
            ("prot", Some("port")),
            ("fromport", Some("from_port")),
            ("tittle", Some("title")),
            ("Minecaft", Some("minecraft")),
            ("minecraft-bed", Some("minecraft-bedrock")),
            ("xyzzy", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, known), meant, "{typed}");
        }
    }

    #[test]
    fn distances_are_counted_in_edits() {
        let d = |a: &str, b: &str| distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        assert_eq!((d("ab", "ba"), d("abc", ""), d("", "abc"), d("kitten", "sitting")), (1, 3, 3, 3));
    }
}

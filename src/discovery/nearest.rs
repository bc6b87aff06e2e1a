//! What somebody may have meant: the closest of many names.
//!
//! Pure. Must not know: what the names name.

/// The `count` names closest to `asked`, closest first, none further than half its length.
#[must_use]
pub(super) fn nearest<'a>(
    asked: &str,
    names: impl Iterator<Item = &'a str>,
    count: usize,
) -> Vec<&'a str> {
    let furthest = asked.len() / 2;
    let mut best: Vec<(usize, &str)> = Vec::with_capacity(count + 1);
    for name in names {
        let limit = if best.len() < count { furthest } else { best[count - 1].0 };
        let Some(distance) = distance(asked.as_bytes(), name.as_bytes(), limit) else { continue };
        let at = best.partition_point(|&(d, n)| (d, n) <= (distance, name));
        best.insert(at, (distance, name));
        best.truncate(count);
    }
    best.into_iter().map(|(_, name)| name).collect()
}

/// Insertions, deletions and replacements that make `a` into `b`; `None` when more than `limit`.
fn distance(a: &[u8], b: &[u8], limit: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > limit {
        return None;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        let mut least = row[0];
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
            least = least.min(row[j + 1]);
        }
        if least > limit {
            return None;
        }
    }
    row.last().copied().filter(|d| *d <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_names_come_first() {
        let names = ["bar.ns2.global", "baz.ns2.global", "bar.ns2.globa", "quite.something.else"];
        let found = nearest("bar.ns2.globl", names.into_iter(), 2);
        assert_eq!(found, ["bar.ns2.globa", "bar.ns2.global"]);
        assert_eq!(nearest("zzzz", names.into_iter(), 2), Vec::<&str>::new());
    }

    #[test]
    fn distance_is_levenshtein() {
        let of = |a: &str, b: &str| distance(a.as_bytes(), b.as_bytes(), 10);
        assert_eq!(of("kitten", "sitting"), Some(3));
        assert_eq!(of("", "abc"), Some(3));
        assert_eq!(of("same", "same"), Some(0));
        assert_eq!(distance(b"kitten", b"sitting", 2), None);
    }
}

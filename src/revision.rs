//! Who wins: revisions are counters, never clocks.

/// Revisions stay below this, so that every JSON number can hold them exactly.
pub const BOUND: u64 = 1 << 53;

/// The wire revision of an entry at its first claim: above everything that its lane had seen and ever sent.
///
/// `base` is the highest revision that the lane had seen when the entry was enqueued, `lane` the highest that it has used.
pub fn next(base: u64, lane: u64) -> u64 {
    base.max(lane).saturating_add(1).min(BOUND - 1)
}

/// Whether what a server holds is newer than a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// It is.
    Beaten,
    /// It is not, or nothing shows that it is.
    NotBeaten,
}

/// Compares `(revision, device)`: the higher revision is newer, and of equal ones that of the device whose id is greater. A server
/// that names no device does not beat an equal revision.
pub fn compare(held: (u64, Option<&str>), ours: (u64, &str)) -> Comparison {
    let newer = held.0 > ours.0 || held.0 == ours.0 && held.1.is_some_and(|device| device > ours.1);
    if newer { Comparison::Beaten } else { Comparison::NotBeaten }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_revision_is_above_what_was_seen_and_what_was_sent() {
        assert_eq!(next(0, 0), 1);
        assert_eq!(next(57, 3), 58);
        assert_eq!(next(3, 57), 58);
    }

    #[test]
    fn the_higher_revision_is_newer_and_of_equal_ones_the_greater_device() {
        let table = [
            ((2, Some("a")), (1, "b"), Comparison::Beaten),
            ((1, Some("c")), (1, "b"), Comparison::Beaten),
            ((1, Some("a")), (1, "b"), Comparison::NotBeaten),
            ((1, Some("b")), (1, "b"), Comparison::NotBeaten),
            ((1, None), (1, "b"), Comparison::NotBeaten),
            ((2, None), (1, "b"), Comparison::Beaten),
            ((1, Some("z")), (2, "b"), Comparison::NotBeaten),
        ];
        for (held, ours, expected) in table {
            assert_eq!(compare(held, ours), expected, "{held:?} against {ours:?}");
        }
    }

    #[test]
    fn a_revision_never_leaves_the_range_that_json_numbers_hold() {
        assert_eq!(next(u64::MAX, 0), BOUND - 1);
    }
}

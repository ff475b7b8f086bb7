//! Who wins: revisions are counters, never clocks.

/// Revisions stay below this, so that every JSON number can hold them exactly.
pub const BOUND: u64 = 1 << 53;

/// The wire revision of an entry at its first claim: above everything that its lane had seen and ever sent.
///
/// `base` is the highest revision that the lane had seen when the entry was enqueued, `lane` the highest that it has used.
pub fn next(base: u64, lane: u64) -> u64 {
    base.max(lane).saturating_add(1).min(BOUND - 1)
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
    fn a_revision_never_leaves_the_range_that_json_numbers_hold() {
        assert_eq!(next(u64::MAX, 0), BOUND - 1);
    }
}

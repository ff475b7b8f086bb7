//! Who wins: revisions are counters, never clocks.

use uuid::Uuid;

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

/// Compares `(revision, device)`: the higher revision is newer, and of equal ones that of the device whose id is greater as text, in
/// lower case with hyphens. A server that names no device does not beat an equal revision.
pub fn compare(held: (u64, Option<&str>), ours: (u64, Uuid)) -> Comparison {
    let newer =
        held.0 > ours.0 || held.0 == ours.0 && held.1.is_some_and(|device| canonical(device) > ours.1.to_string());
    if newer { Comparison::Beaten } else { Comparison::NotBeaten }
}

/// Whether a server means that device, however it writes the id.
pub fn is_same_device(held: &str, ours: Uuid) -> bool {
    canonical(held) == ours.to_string()
}

/// Other clients may call themselves anything.
fn canonical(device: &str) -> String {
    Uuid::try_parse(device).map_or_else(|_| device.to_lowercase(), |id| id.to_string())
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
        let ours = Uuid::from_u128(0xb << 124);
        let (lower, higher) = (Uuid::from_u128(0xa << 124).to_string(), Uuid::from_u128(0xc << 124).to_string());
        let same = ours.to_string();
        let table = [
            ((2, Some(lower.as_str())), 1, Comparison::Beaten),
            ((1, Some(higher.as_str())), 1, Comparison::Beaten),
            ((1, Some("web")), 1, Comparison::Beaten),
            ((1, Some(lower.as_str())), 1, Comparison::NotBeaten),
            ((1, Some(same.as_str())), 1, Comparison::NotBeaten),
            ((1, Some("")), 1, Comparison::NotBeaten),
            ((1, None), 1, Comparison::NotBeaten),
            ((2, None), 1, Comparison::Beaten),
            ((1, Some(higher.as_str())), 2, Comparison::NotBeaten),
        ];
        for (held, revision, expected) in table {
            assert_eq!(compare(held, (revision, ours)), expected, "{held:?} against {revision}");
        }
    }

    #[test]
    fn a_device_is_the_same_however_its_id_is_written() {
        let device = Uuid::from_u128(0xabcdef << 100);
        for written in [device.to_string(), device.to_string().to_uppercase(), device.simple().to_string()] {
            assert!(is_same_device(&written, device), "{written}");
            assert_eq!(compare((1, Some(&written)), (1, device)), Comparison::NotBeaten, "{written}");
        }
        assert!(!is_same_device(&Uuid::nil().to_string(), device));
    }

    #[test]
    fn a_revision_never_leaves_the_range_that_json_numbers_hold() {
        assert_eq!(next(u64::MAX, 0), BOUND - 1);
    }
}

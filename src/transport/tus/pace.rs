//! How much of a file goes into one request.

use std::time::Duration;

const KIB: u64 = 1024;

/// What a chunk never falls below, whatever the server or the line does to it.
const FLOOR: u64 = 64 * KIB;
/// What a slow line alone does not make it fall below.
const LEAST: u64 = 256 * KIB;
/// What it begins with.
const FIRST: u64 = 1024 * KIB;
/// What it never exceeds.
const MOST: u64 = 64 * 1024 * KIB;

/// A chunk should take about so long: short enough to lose little, long enough for its own request to cost little.
const AIM: Duration = Duration::from_millis(7_500);

/// The size of chunks for one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    chunk: u64,
    /// More than this the server has refused.
    cap: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { chunk: FIRST, cap: MOST }
    }
}

impl Pace {
    /// The size of the next chunk, in bytes.
    pub(super) fn chunk(self) -> u64 {
        self.chunk.min(self.cap)
    }

    /// A chunk of that size went through in that time. At most doubled twice or halved at a time, since one measurement is little.
    pub(super) fn went_through(&mut self, bytes: u64, took: Duration) {
        let chunk = self.chunk();
        // What is much smaller than a chunk says more of the latency than of the line.
        if bytes < chunk / 2 {
            return;
        }
        let wanted = u128::from(bytes) * AIM.as_millis() / took.as_millis().max(1);
        let wanted = u64::try_from(wanted).unwrap_or(MOST);
        self.chunk = wanted.clamp(chunk / 2, chunk * 4).clamp(LEAST, MOST);
    }

    /// A chunk of that size was refused as too large. Answers whether a smaller one can be tried.
    pub(super) fn too_large(&mut self, bytes: u64) -> bool {
        if bytes <= FLOOR {
            return false;
        }
        self.cap = (bytes / 2).max(FLOOR);
        true
    }

    /// A chunk did not get through. It may have been too much for something on the way that does not say so.
    pub(super) fn broke(&mut self) {
        self.chunk = (self.chunk() / 2).max(FLOOR);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_chunk_grows_on_a_fast_line_and_shrinks_on_a_slow_one_within_its_bounds() {
        let mut pace = Pace::default();
        assert_eq!(pace.chunk(), FIRST);
        for _ in 0..10 {
            pace.went_through(pace.chunk(), Duration::ZERO);
        }
        assert_eq!(pace.chunk(), MOST);
        for _ in 0..10 {
            pace.went_through(pace.chunk(), seconds(3600));
        }
        assert_eq!(pace.chunk(), LEAST);
    }

    #[test]
    fn a_chunk_settles_at_five_to_ten_seconds() {
        for rate in [100 * KIB, 1024 * KIB, 5 * 1024 * KIB] {
            let mut pace = Pace::default();
            for _ in 0..10 {
                pace.went_through(pace.chunk(), Duration::from_millis(pace.chunk() * 1000 / rate));
            }
            let took = pace.chunk() / rate;
            assert!((5..=10).contains(&took), "{took} s at {rate} B/s");
        }
    }

    #[test]
    fn the_short_end_of_a_file_says_nothing_of_the_line() {
        let mut pace = Pace::default();
        pace.went_through(1, seconds(1));
        assert_eq!(pace, Pace::default());
    }

    #[test]
    fn a_chunk_that_is_too_large_is_halved_down_to_a_floor_and_does_not_grow_back() {
        let mut pace = Pace::default();
        let mut halved = Vec::new();
        while pace.too_large(pace.chunk()) {
            halved.push(pace.chunk() / KIB);
        }
        assert_eq!(halved, [512, 256, 128, 64]);
        pace.went_through(pace.chunk(), Duration::ZERO);
        assert_eq!(pace.chunk(), FLOOR);
    }

    #[test]
    fn a_chunk_that_broke_is_halved_and_may_grow_back() {
        let mut pace = Pace::default();
        for _ in 0..10 {
            pace.broke();
        }
        assert_eq!(pace.chunk(), FLOOR);
        pace.went_through(FLOOR, Duration::ZERO);
        assert_eq!(pace.chunk(), LEAST);
    }

    proptest! {
        #[test]
        fn no_history_leads_out_of_the_bounds(history in prop::collection::vec((0u8..3, any::<u64>(), any::<u32>()), 0..50)) {
            let mut pace = Pace::default();
            for (what, bytes, millis) in history {
                match what {
                    0 => pace.went_through(bytes.min(pace.chunk()), Duration::from_millis(millis.into())),
                    1 => drop(pace.too_large(bytes.clamp(1, pace.chunk()))),
                    _ => pace.broke(),
                }
                prop_assert!((FLOOR..=MOST).contains(&pace.chunk()), "{:?}", pace);
            }
        }
    }
}

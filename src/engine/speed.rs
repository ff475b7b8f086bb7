//! How fast an upload is, and how long the rest of it will take.

use std::time::Duration;

/// Bytes are counted for so long before they become a rate: single packets tell nothing.
const SAMPLE: Duration = Duration::from_millis(500);
/// What is older than about this counts for little.
const MEMORY: f64 = 4.0;

/// Measures one attempt.
#[derive(Debug, Default)]
pub(super) struct Speed {
    since: Option<(Duration, u64)>,
    rate: Option<f64>,
}

impl Speed {
    /// So many bytes have been sent by now.
    pub(super) fn sent(&mut self, bytes: u64, now: Duration) {
        let Some((since, before)) = self.since else {
            self.since = Some((now, bytes));
            return;
        };
        if bytes < before {
            // The server has less than was thought.
            self.since = Some((now, bytes));
            return;
        }
        let passed = now.saturating_sub(since);
        if passed < SAMPLE {
            return;
        }
        let passed = passed.as_secs_f64();
        let now_rate = (bytes - before) as f64 / passed;
        let weight = 1.0 - (-passed / MEMORY).exp();
        self.rate = Some(self.rate.map_or(now_rate, |rate| rate + weight * (now_rate - rate)));
        self.since = Some((now, bytes));
    }

    /// Bytes per second; 0 while nothing is known.
    pub(super) fn rate(&self) -> u64 {
        self.rate.unwrap_or(0.0) as u64
    }

    /// How long so many bytes will take, in ms.
    pub(super) fn left(&self, bytes: u64) -> Option<u64> {
        let rate = self.rate.filter(|rate| *rate >= 1.0)?;
        Some((bytes as f64 / rate * 1000.0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_follows_the_line_and_the_time_left_follows_the_rate() {
        let ms = Duration::from_millis;
        let mut speed = Speed::default();
        speed.sent(5000, ms(0));
        assert_eq!((speed.rate(), speed.left(1)), (0, None), "one look tells nothing");
        speed.sent(5100, ms(100));
        assert_eq!(speed.rate(), 0);
        speed.sent(6000, ms(1000));
        assert_eq!((speed.rate(), speed.left(3000)), (1000, Some(3000)), "what an earlier attempt sent does not count");
        for second in 2..40 {
            speed.sent(6000 + (second - 1) * 2000, ms(second * 1000));
        }
        assert!((1950..=2000).contains(&speed.rate()), "{}", speed.rate());
        speed.sent(0, ms(40_000));
        speed.sent(2000, ms(41_000));
        assert!((1950..=2000).contains(&speed.rate()), "falling back is no speed");
    }
}

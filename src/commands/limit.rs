//! How much one window may have written: what a page does in a loop, by mistake or on purpose, must not wear out the disk or fill the queue for
//! the others.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    clock::Clock,
    config::Limits,
    error::{Error, Result},
};

/// What was used up is there again after this time.
const REFILL: Duration = Duration::from_secs(60);
/// Windows that are remembered before those are dropped that have used nothing.
const WINDOWS: usize = 256;

/// One bucket of entries and one of bytes for each window, by its label.
pub(crate) struct WindowLimits {
    entries: f64,
    bytes: f64,
    clock: Arc<dyn Clock>,
    used: Mutex<HashMap<String, Used>>,
}

/// What a window has used, and when that was so.
#[derive(Debug, Clone, Copy)]
struct Used {
    entries: f64,
    bytes: f64,
    at: Duration,
}

impl WindowLimits {
    pub(crate) fn new(limits: Limits, clock: Arc<dyn Clock>) -> Self {
        let (entries, bytes) = (limits.window_entries as f64, limits.window_bytes as f64);
        Self { entries, bytes, clock, used: Mutex::default() }
    }

    /// Takes that much of what the window has, or says when there will be room. A call that is larger than all of it goes when nothing is
    /// used, so that no call is refused for ever.
    pub(super) fn take(&self, window: &str, entries: usize, bytes: usize) -> Result<()> {
        let now = self.clock.now();
        let mut all = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() > WINDOWS {
            all.retain(|_, used| !self.refilled(*used, now).is_empty());
        }
        let used = all.get(window).copied().unwrap_or(Used { entries: 0.0, bytes: 0.0, at: now });
        let used = self.refilled(used, now);
        let later = Self::wait(used.entries, self.entries, entries as f64).max(Self::wait(
            used.bytes,
            self.bytes,
            bytes as f64,
        ));
        if later > 0.0 {
            return Err(Error::RateLimited { seconds: (later.ceil() as u64).max(1) });
        }
        let used = Used { entries: used.entries + entries as f64, bytes: used.bytes + bytes as f64, at: now };
        all.insert(window.to_owned(), used);
        Ok(())
    }

    fn refilled(&self, used: Used, now: Duration) -> Used {
        let share = now.saturating_sub(used.at).as_secs_f64() / REFILL.as_secs_f64();
        let left = |used: f64, all: f64| (used - all * share).max(0.0);
        Used { entries: left(used.entries, self.entries), bytes: left(used.bytes, self.bytes), at: now }
    }

    /// Seconds until so much fits.
    fn wait(used: f64, all: f64, more: f64) -> f64 {
        let too_much = used + more.min(all) - all;
        too_much / all * REFILL.as_secs_f64()
    }
}

impl Used {
    fn is_empty(self) -> bool {
        self.entries <= 0.0 && self.bytes <= 0.0
    }
}

impl fmt::Debug for WindowLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowLimits")
            .field("entries", &self.entries)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use super::*;

    #[derive(Default)]
    struct Told(Mutex<Duration>);

    impl Clock for Told {
        fn now(&self) -> Duration {
            *self.0.lock().unwrap()
        }

        fn wall(&self) -> i64 {
            0
        }

        fn sleep_until(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(std::future::pending())
        }
    }

    fn limits(entries: u64, bytes: u64) -> (WindowLimits, Arc<Told>) {
        let clock = Arc::new(Told::default());
        let limits = Limits { window_entries: entries, window_bytes: bytes, ..Limits::default() };
        (WindowLimits::new(limits, Arc::clone(&clock) as _), clock)
    }

    fn seconds(refused: Result<()>) -> u64 {
        match refused {
            Err(Error::RateLimited { seconds }) => seconds,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_window_has_so_much_at_once_and_hears_when_there_is_more() {
        let (limits, clock) = limits(60, 1_000);
        for _ in 0..60 {
            limits.take("main", 1, 1).unwrap();
        }
        assert_eq!(seconds(limits.take("main", 1, 1)), 1);
        assert_eq!(seconds(limits.take("main", 30, 1)), 30);
        limits.take("other", 60, 940).unwrap();
        assert_eq!(seconds(limits.take("other", 1, 120)), 4, "what is missing most says when");
        *clock.0.lock().unwrap() = Duration::from_secs(30);
        limits.take("main", 30, 1).unwrap();
        assert_eq!(seconds(limits.take("main", 1, 1)), 1);
    }

    #[test]
    fn what_is_larger_than_all_of_it_goes_when_nothing_is_used() {
        let (limits, clock) = limits(10, 100);
        limits.take("main", 1_000, 5).unwrap();
        assert_eq!(seconds(limits.take("main", 1, 1)), 60 * 991 / 10);
        *clock.0.lock().unwrap() = Duration::from_secs(60 * 100);
        limits.take("main", 1, 5_000).unwrap();
    }

    #[test]
    fn windows_that_are_gone_are_forgotten() {
        let (limits, clock) = limits(10, 100);
        for window in 0..=WINDOWS {
            limits.take(&window.to_string(), 1, 1).unwrap();
        }
        *clock.0.lock().unwrap() = Duration::from_secs(60);
        limits.take("main", 1, 1).unwrap();
        assert_eq!(limits.used.lock().unwrap().len(), 1);
    }
}

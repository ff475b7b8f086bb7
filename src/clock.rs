//! Time and randomness, handed in so that a test replaces them through the same door that a user would.

use std::{future::Future, pin::Pin, time::Duration};

/// Two clocks: one that only ever goes forward, and the one on the wall, which is for display and for reading HTTP dates.
pub trait Clock: Send + Sync + 'static {
    /// Monotonic time since some fixed moment of this process.
    fn now(&self) -> Duration;
    /// Milliseconds since the Unix epoch. May jump in either direction at any time.
    fn wall(&self) -> i64;
    /// Resolves once [`Clock::now`] has reached `at`.
    fn sleep_until(&self, at: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// The system's clocks.
#[derive(Debug, Clone)]
pub struct SystemClock {
    start: tokio::time::Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: tokio::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn sleep_until(&self, at: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep_until(self.start + at))
    }
}

/// A source of random numbers for jitter. Keys and ids never come from here.
pub trait Random: Send + Sync + 'static {
    /// The next number, uniform over all of `u64`.
    fn next(&self) -> u64;
}

/// The system's random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn next(&self) -> u64 {
        // Jitter spreads load; without a system source a fixed number only spreads it less.
        getrandom::u64().unwrap_or(u64::MAX / 2)
    }
}

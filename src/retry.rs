//! When to try again: full-jitter exponential backoff, as a pure function of its arguments.
//!
//! Source: Marc Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015), the "full jitter" variant.

use std::time::Duration;

/// A uniformly random delay in `[0, min(cap, base × 2^level)]`.
///
/// `level` is the number of failures in a row before this one; `random` is uniform over all of `u64`.
pub fn backoff(base: Duration, cap: Duration, level: u32, random: u64) -> Duration {
    let ceiling = base.saturating_mul(2_u32.saturating_pow(level.min(31))).min(cap);
    let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX - 1);
    // 128-bit multiply and shift maps the whole range of `random` onto [0, nanos] without a modulo's bias.
    let scaled = (u128::from(random) * (u128::from(nanos) + 1)) >> 64;
    Duration::from_nanos(u64::try_from(scaled).unwrap_or(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BASE: Duration = Duration::from_secs(1);
    const CAP: Duration = Duration::from_secs(600);

    #[test]
    fn the_ceiling_doubles_with_every_failure_until_the_cap() {
        let ceilings: Vec<u64> = (0..12).map(|level| backoff(BASE, CAP, level, u64::MAX).as_secs()).collect();
        assert_eq!(ceilings, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
    }

    #[test]
    fn jitter_reaches_down_to_nothing() {
        assert_eq!(backoff(BASE, CAP, 9, 0), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn no_level_and_no_random_number_exceeds_the_cap(level: u32, random: u64, base in 0_u64..10_000_000, cap in 0_u64..10_000_000) {
            let delay = backoff(Duration::from_millis(base), Duration::from_millis(cap), level, random);
            prop_assert!(delay <= Duration::from_millis(cap));
        }
    }
}

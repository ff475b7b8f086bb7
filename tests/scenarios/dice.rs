//! Chance that a seed repeats, and what the environment says of a run.

use std::{sync::Mutex, time::SystemTime};

use tauri_plugin_storage_sync::testing::clock::Random;
use uuid::Uuid;

/// xorshift64*: enough to choose by.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        let mut dice = Self(seed | 1);
        for _ in 0..8 {
            dice.next();
        }
        dice
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// 0 to `sides` - 1.
    pub fn roll(&mut self, sides: u64) -> u64 {
        (self.next() >> 11) % sides
    }

    /// Once in so many times.
    pub fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    pub fn choose<'t, T>(&mut self, from: &'t [T]) -> Option<&'t T> {
        if from.is_empty() { None } else { from.get(self.roll(from.len() as u64) as usize) }
    }

    pub fn uuid(&mut self) -> Uuid {
        let bytes = (u128::from(self.next()) << 64 | u128::from(self.next())).to_be_bytes();
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }
}

/// Jitter that a seed repeats.
pub struct Jitter(pub Mutex<Dice>);

impl Random for Jitter {
    fn next(&self) -> u64 {
        self.0.lock().expect("no roll panics").next()
    }
}

/// A number from the environment.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// Whether there is to be another kill after so many. When one hits what the run is about is up to the machine: there are more of them, and ten times as
/// many at most, until one did.
pub fn goes_on(done: u64, kills: u64, hit: bool) -> bool {
    done < kills || (!hit && done < kills * 10)
}

/// `STORAGE_SYNC_SEED`, or another one each time.
pub fn seed() -> u64 {
    number("STORAGE_SYNC_SEED", SystemTime::UNIX_EPOCH.elapsed().expect("it is after 1970").as_nanos() as u64 | 1)
}

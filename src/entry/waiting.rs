//! Why an entry waits, and what is known of the key that it may wait for.

use std::{
    fmt,
    time::{Duration, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What holds a pending entry back. Computed when asked, never stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "lowercase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum WaitingFor {
    /// Its last attempt did not get through; the next one is due then.
    Backoff {
        /// Milliseconds since the Unix epoch, for display.
        until: i64,
    },
    /// Its origin cannot be reached, or nothing but silence came back from it in three lanes in a row.
    Offline {
        /// Scheme, host and port.
        origin: String,
    },
    /// The server asked for patience, or answered with a fault (5xx) in five lanes in a row.
    Busy {
        /// Milliseconds since the Unix epoch, for display.
        until: i64,
    },
    /// An older entry of its lane comes first.
    Lane {
        /// That entry.
        behind: Uuid,
    },
    /// An entry that it depends on was not delivered yet.
    Dependency {
        /// That entry.
        on: Uuid,
    },
    /// The server wants credentials that the app has not given yet.
    Auth {
        /// Scheme, host and port.
        origin: String,
    },
    /// The endpoint's answers prove nothing, as a captive portal's do.
    Unproven,
    /// The endpoint refuses everything, as after a bad deploy.
    Refusing,
    /// The keychain is locked, absent, or lacks the key.
    Keychain {
        /// The key's state.
        key: KeyState,
    },
    /// `pause()` was called, for all delivery or for this entry: see [`Entry::paused`](super::Entry::paused).
    Paused,
    /// No endpoint of this kind is in this version of the app, or it has no base URL yet, or its URL asks for other params.
    Endpoint,
    /// The engine has not come to it yet: it is next in line, or another process delivers.
    Turn,
}

/// In words for people, as the rest of a sentence that begins "it waits for".
impl fmt::Display for WaitingFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backoff { until } => write!(f, "its next attempt, due {}", Moment(*until)),
            Self::Offline { origin } => write!(f, "{origin}, which cannot be reached"),
            Self::Busy { until } => write!(f, "the server, which asked for patience until {}", Moment(*until)),
            Self::Lane { behind } => write!(f, "entry {behind}, the older one of its lane"),
            Self::Dependency { on } => write!(f, "entry {on}, on which it depends"),
            Self::Auth { origin } => write!(f, "credentials for {origin}"),
            Self::Unproven => {
                f.write_str("the server: what answers in its place proves nothing, as a captive portal does")
            }
            Self::Refusing => f.write_str("its endpoint, which refuses everything at the moment"),
            Self::Keychain { key } => write!(f, "the master key, which {key}"),
            Self::Paused => f.write_str("`resume()`: it is paused, or all delivery is"),
            Self::Endpoint => f.write_str("its endpoint: this version of the app does not say where it goes"),
            Self::Turn => f.write_str("its turn"),
        }
    }
}

/// Milliseconds since the Unix epoch, as HTTP writes a date.
struct Moment(i64);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What a date cannot hold (a negative clock, the year 10000) is shown as the number it is.
        const LAST: u64 = 253_402_300_799_999;
        match u64::try_from(self.0).ok().filter(|millis| *millis <= LAST) {
            Some(millis) => httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_millis(millis)).fmt(f),
            None => write!(f, "{} ms after 1970", self.0),
        }
    }
}

/// What is known of the master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum KeyState {
    /// Not asked for yet: the keychain is first touched when first needed.
    Unused,
    /// Loaded, and it is the key that the database was written with.
    Ready,
    /// The keychain is there but locked, or its prompt was refused or not answered in time.
    Locked,
    /// There is no keychain to talk to.
    Unavailable,
    /// The keychain answers, but holds no key although the database was written with one.
    Missing,
    /// The keychain holds another key than the one the database was written with.
    Mismatch,
}

/// In words for people, as the rest of a sentence that begins "the key".
impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unused => "was not asked for yet",
            Self::Ready => "is ready",
            Self::Locked => "is in a locked keychain",
            Self::Unavailable => "has no keychain to come from",
            Self::Missing => "the keychain no longer holds",
            Self::Mismatch => "is another one than the queue was written with",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_entry_waits_for_reads_as_the_rest_of_a_sentence() {
        let behind = Uuid::nil();
        let origin = || "https://api.example.com".to_owned();
        for (waiting_for, words) in [
            (WaitingFor::Backoff { until: 784_111_777_000 }, "its next attempt, due Sun, 06 Nov 1994 08:49:37 GMT"),
            (WaitingFor::Busy { until: -1 }, "the server, which asked for patience until -1 ms after 1970"),
            (WaitingFor::Offline { origin: origin() }, "https://api.example.com, which cannot be reached"),
            (WaitingFor::Auth { origin: origin() }, "credentials for https://api.example.com"),
            (WaitingFor::Lane { behind }, "entry 00000000-0000-0000-0000-000000000000, the older one of its lane"),
            (WaitingFor::Keychain { key: KeyState::Locked }, "the master key, which is in a locked keychain"),
        ] {
            assert_eq!(waiting_for.to_string(), words);
        }
    }

    #[test]
    fn a_moment_that_no_date_can_hold_does_not_panic() {
        assert_eq!(Moment(i64::MAX).to_string(), format!("{} ms after 1970", i64::MAX));
        assert_eq!(Moment(253_402_300_799_999).to_string(), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}

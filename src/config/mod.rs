//! What the app's author configures: endpoints, retry, limits. Every default is documented here.
//!
//! [`Config`] is `plugins.storage-sync` of `tauri.conf.json` as written; [`Settings`] is the same, checked. Nothing of
//! it can be changed by the webview.
//!
//! ```json
//! "plugins": { "storage-sync": {
//!   "baseUrl": "https://api.example.com",
//!   "endpoints": {
//!     "form": { "method": "PUT", "url": "/listings/{key}" },
//!     "photo": { "method": "POST", "url": "/listings/{listing}/photos", "body": "raw", "ack": { "id": "/data/id" } }
//!   },
//!   "retry": { "baseMs": 1000, "capMs": 600000, "concurrency": 8, "uploads": 2 },
//!   "limits": { "entries": 100000, "payloadBytes": 1048576, "spoolBytes": 21474836480, "windowEntries": 10000, "windowBytes": 268435456 },
//!   "retention": { "settled": 1000, "settledDays": 7, "lostDays": 30 },
//!   "folders": { "scanMs": 300000, "quietMs": 2000 }
//! } }
//! ```

mod ack;
mod check;
mod endpoint;
mod migrations;
mod retention;
mod route;
mod settings;
mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de::Error as _};

pub use ack::{Ack, CanonicalId};
pub use endpoint::{Body, Endpoint, EndpointConfig, IfUnknown};
pub use migrations::Migrations;
pub use retention::Retention;
pub use route::{OnConflict, Preconditions, Route, RouteConfig};
pub use settings::Settings;
pub use template::Template;

use crate::error::{Error, Result};

/// `plugins.storage-sync` of `tauri.conf.json`, as written. [`Settings::new`] checks it.
///
/// An unknown field or a value of the wrong type is refused while it is read, and the message names the field as a path.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Config {
    /// What URLs that begin with `/` are appended to: scheme, host, port and, if there is one, a path.
    /// Without it such endpoints wait until Rust gives one at run time. Default: none.
    pub base_url: Option<String>,
    /// Where each kind goes, by name: 1 to 64 of `A-Z a-z 0-9 . _ -`. Default: none.
    pub endpoints: BTreeMap<String, EndpointConfig>,
    /// How fast and how many at once. Default: [`Retry::default`].
    pub retry: Retry,
    /// What is refused before anything is written. Default: [`Limits::default`].
    pub limits: Limits,
    /// How long what is settled is kept. Default: [`Retention::default`].
    pub retention: Retention,
    /// How watched folders are looked through. Default: [`Folders::default`].
    pub folders: Folders,
    /// Which files windows may name by their path, as patterns: a folder that Tauri knows (`$PICTURE`, `$HOME`, …) or an absolute path, and
    /// below it names in which `*` stands for anything within a name, `**` for any folders, `?` for one character and `[a-z]` for one of
    /// several. What is hidden (`.name`) has to be named. A `!` in front denies, and denying wins. The folder that a variable stands for and
    /// the fixed beginning of an absolute path may be reached through links; nothing below may. Default: none.
    pub roots: Vec<String>,
}

impl Config {
    /// Reads it from JSON.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`], whose `field` is the path of what is unknown or of the wrong type.
    pub fn from_json(json: serde_json::Value) -> Result<Self> {
        /// Runs the derived reading, which `remote` keeps apart from the trait's.
        struct Derived(Config);
        impl<'de> Deserialize<'de> for Derived {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                Config::deserialize(deserializer).map(Self)
            }
        }
        match serde_path_to_error::deserialize::<_, Derived>(json) {
            Ok(Derived(config)) => Ok(config),
            Err(error) => Err(Error::config(error.path().to_string(), error.inner().to_string())),
        }
    }
}

/// By way of [`Config::from_json`], so that the message names the field whoever reads it.
impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let json = <serde_json::Value as Deserialize>::deserialize(deserializer)?;
        Self::from_json(json).map_err(D::Error::custom)
    }
}

/// How fast to try again, and how many at once.
///
/// After the *n*-th counted attempt of an entry, or the *n*-th failure in a row of an origin or endpoint that is held, a random time
/// between 0 and `min(capMs, baseMs · 2ⁿ⁻¹)` passes (full jitter). There is no limit of attempts or age.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Retry {
    /// The bound of the first backoff, in milliseconds: 1 to `cap_ms`. Default: 1000.
    pub base_ms: u64,
    /// The bound that no backoff exceeds, in milliseconds: at most a day. Default: 600 000 (10 minutes).
    pub cap_ms: u64,
    /// How many lanes are delivered at once, at one origin: 1 to 64. Default: 8.
    pub concurrency: usize,
    /// How many files of more than 64 KiB are uploaded at once, at one origin: 1 to 16. They have places of their own, so that they are
    /// never in the way of small entries. Default: 2.
    pub uploads: usize,
}

impl Default for Retry {
    fn default() -> Self {
        Self { base_ms: 1_000, cap_ms: 600_000, concurrency: 8, uploads: 2 }
    }
}

/// How watched folders are looked through.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Folders {
    /// How often a watched folder is looked through whatever the system tells of it, in milliseconds: 1000 to 86 400 000 (a day). A look reads the
    /// folder, and of its files only those that seem to have changed. Default: 300 000 (5 minutes).
    pub scan_ms: u64,
    /// How long a file must have stayed the same before it counts as written, and how long it must have been away before it counts as deleted,
    /// in milliseconds: 10 to `scan_ms`. A folder in which something happens is looked through no more often. Default: 2000.
    pub quiet_ms: u64,
}

impl Default for Folders {
    fn default() -> Self {
        Self { scan_ms: 300_000, quiet_ms: 2_000 }
    }
}

/// What is refused before anything is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Limits {
    /// Entries of one account that are pending, in flight or failed: 1 to 1 000 000 000. Default: 100 000.
    pub entries: u64,
    /// Size of one payload that is no file, in bytes: 1 to 268 435 456 (256 MiB; it is held in memory while it is sent). Default: 1 048 576 (1 MiB).
    pub payload_bytes: u64,
    /// What waiting files of all accounts may take on the disk, in bytes: 1 to 2^53. Files of 64 KiB or less do not count.
    /// Default: 21 474 836 480 (20 GiB).
    pub spool_bytes: u64,
    /// Entries that one window may enqueue or edit at once, and things of which it may tell what it has read (`observe`): 1 to
    /// 1 000 000 000; as many more come to it within every minute, evenly. A call that would go beyond is answered `rate_limited`. Rust
    /// is not limited. Default: 10 000.
    pub window_entries: u64,
    /// Bytes of payload that one window may enqueue or edit at once, in the same way: 1 to 1 099 511 627 776 (1 TiB). Default: 268 435 456
    /// (256 MiB).
    pub window_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 100_000,
            payload_bytes: 1 << 20,
            spool_bytes: 20 << 30,
            window_entries: 10_000,
            window_bytes: 256 << 20,
        }
    }
}

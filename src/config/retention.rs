//! How long what is settled is kept.

use serde::Deserialize;

use crate::error::{Error, Result};

/// How long what is settled is kept. What the server has not acknowledged is kept until somebody discards it, whatever stands here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Retention {
    /// Acked and superseded entries, the newest: at most 1 000 000. Default: 1000.
    pub settled: u64,
    /// Acked and superseded entries, in days: 0 to 36 500. Default: 7.
    pub settled_days: u32,
    /// Entries that were beaten on the server, with their payloads, in days since somebody has read of it (`conflicts_read`); until then
    /// they stay. Default: 30.
    pub lost_days: u32,
    /// What is known of things without entries (revision, canonical id, whether they exist), since the server last said something of
    /// them, in days: more than the two above. Default: 365.
    pub lanes_days: u32,
    /// Canonical ids of entries that were pruned, for entries that refer to them, in days. Default: 365.
    pub mappings_days: u32,
    /// Ids of entries that were discarded although they may have been applied, in days. Default: 365.
    pub tombstones_days: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            settled: 1_000,
            settled_days: 7,
            lost_days: 30,
            lanes_days: 365,
            mappings_days: 365,
            tombstones_days: 365,
        }
    }
}

impl Retention {
    pub(super) fn check(&self) -> Result<()> {
        const CENTURY: u32 = 36_500;
        if self.settled > 1_000_000 {
            return Err(Error::config("retention.settled", "must be at most 1000000"));
        }
        let days = [
            ("settledDays", self.settled_days),
            ("lostDays", self.lost_days),
            ("lanesDays", self.lanes_days),
            ("mappingsDays", self.mappings_days),
            ("tombstonesDays", self.tombstones_days),
        ];
        if let Some((field, _)) = days.into_iter().find(|(_, days)| *days > CENTURY) {
            return Err(Error::config(format!("retention.{field}"), format!("must be at most {CENTURY} (a century)")));
        }
        if self.lanes_days <= self.settled_days.max(self.lost_days) {
            return Err(Error::config(
                "retention.lanesDays",
                "must be more than `settledDays` and `lostDays`: an entry must not outlive what is known of its thing",
            ));
        }
        Ok(())
    }
}

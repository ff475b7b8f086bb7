//! What a backend is started with.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// What a backend is started with. `Options::default()` is a well-behaved server in memory, on a free port of the loopback interface.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to keep what was received, created if need be. None (the default) keeps it in memory.
    pub folder: Option<PathBuf>,
    /// The port to listen on. None (the default) takes a free one.
    pub port: Option<u16>,
    /// The address to listen on. Default `127.0.0.1`.
    pub host: IpAddr,
    /// A second port with the control routes only, which goes on when the backend is stopped. Default none; 0 takes a free one.
    pub control_port: Option<u16>,
    /// Honour `Idempotency-Key`. Default true; false is a server that dedupes nothing.
    pub idempotency: bool,
    /// What a write's revision is worth. Default [`Revisions::Ignore`].
    pub revisions: Revisions,
    /// Kinds whose things are named by the `Sync-Key` that they were made with, where revisions are compared: a POST with a `Sync-Key` that
    /// is known there is a write to that thing, and not a second one. Default `listings`.
    pub named: BTreeSet<String>,
    /// A write below a thing, such as `POST /listings/42/photos`, is 404 until there is that thing. Below ids that a backend gave it always
    /// is. Default false.
    pub strict: bool,
    /// Bearer tokens that are accepted, each with its user's name. None (the default) accepts everybody.
    pub tokens: Option<BTreeMap<String, String>>,
    /// How long an unfinished tus upload is kept. Default a day.
    pub upload_lifetime: Duration,
    /// How much is remembered of what was received. Default [`Log::Full`].
    pub log: Log,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            folder: None,
            port: None,
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            control_port: None,
            idempotency: true,
            revisions: Revisions::Ignore,
            named: BTreeSet::from(["listings".to_owned()]),
            strict: false,
            tokens: None,
            upload_lifetime: Duration::from_secs(24 * 60 * 60),
            log: Log::Full,
        }
    }
}

/// What a write's `Sync-Revision` and `Sync-Device` are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Revisions {
    /// They are kept and answered; the last write to arrive wins.
    Ignore,
    /// A write whose (revision, device) is not above the stored one gets 409 with what is stored.
    Compare,
    /// They are as unknown as any other header: neither kept nor answered. What is left is what any server with entity tags does.
    Unaware,
}

/// How much is remembered of what was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Log {
    /// The last 200 000 requests, and every mutation.
    Full,
    /// Totals, how often each idempotency key was applied, and the things themselves. For runs with very many requests.
    Counts,
}

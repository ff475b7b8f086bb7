//! What a trial hands in place of a disk that syncs, of chance, and of a process that dies: random histories would take hours with
//! the first, and could not be repeated with the others. Without the feature `testing` nobody can hand in anything.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;
use uuid::Uuid;

use super::{Done, advance::Advance};

/// Where a process ends, as far as its database can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Death {
    /// What was to be committed is lost.
    BeforeTheCommit,
    /// It is committed, and nobody in the process hears of it.
    AfterTheCommit,
}

/// What one commit made of entries that are claimed or were answered, in the order of its statements.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Committed {
    /// The device is another one, and whatever waits may have been sent by a copy of this database.
    Renewed,
    /// Its attempt is over: answered, or given back unsent.
    Settled {
        /// The entry.
        seq: i64,
    },
    /// It is in flight.
    Claimed {
        /// The entry.
        seq: i64,
        /// On the wire.
        revision: u64,
        /// It is claimed only to be settled: nothing of it will be sent.
        doomed: bool,
    },
}

/// How a database is opened on trial; clones share it. The default is no trial at all.
#[derive(Clone, Default)]
pub struct Trial {
    unsynced: bool,
    devices: Option<Arc<dyn Fn() -> Uuid + Send + Sync>>,
    death: Arc<Planned>,
    witness: Option<Arc<dyn Fn(Committed) + Send + Sync>>,
}

struct Planned {
    /// Twice the commits that are left, plus one if the last of them still happens. 0: no death is planned.
    left: AtomicU64,
    dead: watch::Sender<bool>,
}

impl Default for Planned {
    fn default() -> Self {
        Self { left: AtomicU64::new(0), dead: watch::Sender::new(false) }
    }
}

impl fmt::Debug for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trial").field("unsynced", &self.unsynced).finish_non_exhaustive()
    }
}

impl Trial {
    /// Commits without waiting for the disk, and ids of devices that come from here.
    #[cfg(feature = "testing")]
    pub fn new(devices: impl Fn() -> Uuid + Send + Sync + 'static) -> Self {
        Self { unsynced: true, devices: Some(Arc::new(devices)), ..Self::default() }
    }

    /// Tells what each commit of claims and settlements came to, before anybody in the process hears of it.
    #[cfg(feature = "testing")]
    pub fn witnessed(mut self, witness: impl Fn(Committed) + Send + Sync + 'static) -> Self {
        self.witness = Some(Arc::new(witness));
        self
    }

    /// The process ends at that commit of claims or settlements, counted from 1.
    #[cfg(feature = "testing")]
    pub fn die_at(&self, commit: u64, death: Death) {
        self.death.left.store(commit * 2 + u64::from(death == Death::AfterTheCommit), Ordering::SeqCst);
    }

    /// The process ends now: what was not committed never is.
    #[cfg(feature = "testing")]
    pub fn die(&self) {
        self.death.dead.send_replace(true);
    }

    /// Becomes true when the planned death has come.
    #[cfg(feature = "testing")]
    pub fn dead(&self) -> watch::Receiver<bool> {
        self.death.dead.subscribe()
    }

    pub(super) fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    pub(super) fn device(&self) -> Uuid {
        self.devices.as_ref().map_or_else(Uuid::new_v4, |next| next())
    }

    pub(super) fn is_dead(&self) -> bool {
        *self.death.dead.borrow()
    }

    /// It is committed.
    pub(super) fn saw(&self, advance: &Advance, done: &Done) {
        let Some(witness) = &self.witness else { return };
        if advance.restored.is_some() {
            witness(Committed::Renewed);
        }
        for settle in &advance.settles {
            witness(Committed::Settled { seq: settle.seq });
        }
        for claim in advance.claims.iter().filter(|claim| done.claimed.contains(&claim.seq)) {
            let doomed = claim.request.as_ref().is_some_and(|request| request.len() <= 1);
            witness(Committed::Claimed { seq: claim.seq, revision: claim.revision, doomed });
        }
    }

    /// Whether the process ends here. Asked at both sides of a commit of claims or settlements.
    pub(super) fn ends(&self, death: Death) -> bool {
        let left = self.death.left.load(Ordering::SeqCst);
        let ends = match death {
            Death::BeforeTheCommit => left == 2,
            Death::AfterTheCommit => left == 3,
        };
        if ends {
            self.death.dead.send_replace(true);
        } else if left > 3 && death == Death::AfterTheCommit {
            self.death.left.store(left - 2, Ordering::SeqCst);
        }
        ends || self.is_dead()
    }
}

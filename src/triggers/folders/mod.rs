//! Watched folders: their files are enqueued as they come and change.
//!
//! What the system tells of a folder is a hint. The truth is a look at everything in it, beside what is known of its files: at the start, after a
//! hint, and every so often (`folders.scanMs`). So nothing depends on having been told, and what changed while the app was closed is found.
//! Only the process that delivers follows folders, and only those of the current account.

mod file;
mod folder;
mod hints;
mod looks;
mod names;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use tokio::task::JoinHandle;
use uuid::Uuid;

pub use self::hints::{Silent, SystemWatcher, Told, Watcher};
use crate::{
    clock::Clock,
    config::Folders as Timing,
    error::Error,
    outbox::{Outbox, Plan},
    roots::Roots,
};

/// What folders are followed with. Whatever is outside comes from here.
#[derive(Clone)]
pub struct Parts {
    /// Where files are enqueued.
    pub outbox: Outbox,
    /// What may be opened.
    pub roots: Roots,
    /// How often.
    pub timing: Timing,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Who tells of changes.
    pub watcher: Arc<dyn Watcher>,
}

/// Follows folders until it is dropped.
pub struct Folders {
    task: JoinHandle<()>,
}

impl Folders {
    /// Spawns it on the current tokio runtime.
    pub fn start(parts: Parts) -> Self {
        Self { task: tokio::spawn(follow_all(parts)) }
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Folders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Folders").finish_non_exhaustive()
    }
}

/// A folder that is followed, until it is dropped.
struct Followed {
    plan: Plan,
    task: JoinHandle<()>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow_all(parts: Parts) {
    let mut news = parts.outbox.plan_news();
    let mut followed: BTreeMap<Uuid, Followed> = BTreeMap::new();
    loop {
        let plans = if parts.outbox.follows() { parts.outbox.plans().await } else { Ok(Vec::new()) };
        let mut failed = false;
        match plans {
            Ok(plans) => follow(&parts, &mut followed, plans),
            Err(Error::Closed) => return,
            Err(error) => {
                // Without a key not even their names can be read; or the account is not the one that it was.
                tracing::warn!(code = error.code(), %error, "watched folders are not followed for now");
                follow(&parts, &mut followed, Vec::new());
                failed = true;
            }
        }
        let again = parts.clock.now() + Duration::from_millis(parts.timing.scan_ms);
        tokio::select! {
            alive = news.changed() => if !alive { return },
            () = parts.clock.sleep_until(again), if failed => {}
        }
    }
}

/// These and no others.
fn follow(parts: &Parts, followed: &mut BTreeMap<Uuid, Followed>, plans: Vec<Plan>) {
    let ids: BTreeSet<Uuid> = plans.iter().map(|plan| plan.id).collect();
    followed.retain(|id, _| ids.contains(id));
    parts.outbox.keep_watches(&ids);
    for plan in plans {
        if followed.get(&plan.id).is_some_and(|followed| followed.plan.is_same(&plan) && !followed.task.is_finished()) {
            continue;
        }
        // The one before ends first.
        followed.remove(&plan.id);
        let task = tokio::spawn(folder::follow(parts.clone(), plan.clone()));
        followed.insert(plan.id, Followed { plan, task });
    }
}

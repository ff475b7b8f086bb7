//! A server that refuses a write because of the revision it holds, and what that means for the write.

use std::time::Duration;

use uuid::Uuid;

use super::{
    rules::{Attempt, Judgement, Next, Rules},
    verdict::{failed, pending},
};
use crate::{
    config::OnConflict,
    entry::Reason,
    revision::{self, Comparison},
    store::{FormerKey, Taught, Verdict},
    transport::Learned,
};

/// A write above a newer one is sent again this many times.
const REBASES: u32 = 10;
/// A refusal that its own revision does not explain is believed after this many.
const STALE: u32 = 5;

/// What a write is on the wire, as far as a conflict may name it.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    pub id: Uuid,
    pub device: Uuid,
    pub revision: u64,
    pub key_suffix: u32,
    pub generation: u32,
    pub former_keys: Vec<FormerKey>,
    /// The highest revision of this lane that this database knows of having used.
    pub lane_revision: u64,
    /// The lane has learned nothing of what the server holds.
    pub unlearned: bool,
    pub on_conflict: OnConflict,
    /// An ACK has to bring a canonical id, and the lane has none yet.
    pub lacks_id: bool,
}

impl Standing {
    /// Whether the server holds this very write: a key that it used, with the revision that it had.
    fn is_echo(&self, learned: &Learned) -> bool {
        let (Some(key), Some(revision)) = (&learned.idempotency_key, learned.revision) else { return false };
        let Some(suffix) = suffix(self.id, key) else { return false };
        if suffix == self.key_suffix {
            return revision == self.revision;
        }
        let former = |former: &FormerKey| former.suffix == suffix && former.generation == self.generation;
        self.former_keys.iter().any(|key| former(key) && key.revision == revision)
    }

    /// Whether the server holds a write of this device that this database knows nothing of: it is an older copy, or has one.
    fn is_restored(&self, learned: &Learned) -> bool {
        let ours = learned.device.as_deref().is_some_and(|device| device == self.device.to_string());
        ours && learned.revision.is_some_and(|revision| revision > self.lane_revision.max(self.revision))
    }
}

/// n of `"<id>.<n>"`, if the key is one of that entry's.
fn suffix(id: Uuid, key: &str) -> Option<u32> {
    match key.strip_prefix(&id.to_string())? {
        "" => Some(0),
        rest => rest.strip_prefix('.')?.parse().ok().filter(|suffix| *suffix > 0),
    }
}

impl Rules {
    pub(super) fn conflict(&mut self, attempt: &Attempt, status: u16, learned: &Learned, now: Duration) -> Judgement {
        self.understood(attempt, now);
        let standing = &*attempt.standing;
        if learned.revision.is_some_and(|revision| revision >= revision::BOUND) {
            // No JSON number holds it: whatever the server meant, it is not a revision.
            return self.faulty(attempt, status, None, now);
        }
        if standing.is_echo(learned) {
            if standing.lacks_id && learned.canonical_id.is_none() {
                let error =
                    format!("the server answered {status}: it has this very write, but does not say under which id");
                return self.stale(attempt, status, error, learned, now);
            }
            return self.acked(attempt, status, learned, now);
        }
        let compared = match learned.revision {
            // 412 to our own condition: the thing is not as we knew it.
            None => Comparison::Beaten,
            Some(held) => {
                revision::compare((held, learned.device.as_deref()), (standing.revision, &standing.device.to_string()))
            }
        };
        match compared {
            Comparison::Beaten => self.beaten(attempt, status, learned),
            Comparison::NotBeaten => {
                let error =
                    format!("the server answered {status}, but the revision that it holds does not beat this one");
                self.stale(attempt, status, error, learned, now)
            }
        }
    }

    /// The server holds a newer write.
    fn beaten(&mut self, attempt: &Attempt, status: u16, learned: &Learned) -> Judgement {
        let standing = &*attempt.standing;
        let restored = standing.is_restored(learned);
        if restored {
            tracing::error!(
                "this queue is an older copy of one that went on elsewhere, or was restored from a backup: it becomes a device of \
                 its own, and what waits in it may have been sent already"
            );
        }
        // A server that keeps no keys would apply twice what was sent again above a newer revision.
        let doubt = attempt.was_possibly_sent || restored;
        let error = format!("the server answered {status}: it holds a newer revision");
        let taught = taught(learned);
        let first = standing.unlearned && taught.exists;
        let mut judgement = if first && !doubt {
            again(taught, status, error)
        } else {
            match standing.on_conflict {
                OnConflict::Ask => ended(Verdict::Conflict { possibly_sent: doubt, taught }, status, error),
                OnConflict::Overwrite if !doubt && !self.rebased_out(attempt.seq) => again(taught, status, error),
                OnConflict::Overwrite if !doubt => {
                    ended(Verdict::Conflict { possibly_sent: false, taught }, status, error)
                }
                OnConflict::Newest | OnConflict::Overwrite => {
                    ended(Verdict::Lost { possibly_sent: doubt, taught }, status, error)
                }
            }
        };
        judgement.restored = restored;
        judgement
    }

    /// A refusal that makes no sense: believed when it does not change.
    fn stale(&mut self, attempt: &Attempt, status: u16, error: String, learned: &Learned, now: Duration) -> Judgement {
        if self.refused_too_often(attempt.seq, STALE) {
            let possibly_sent = attempt.was_possibly_sent;
            return ended(Verdict::Conflict { possibly_sent, taught: taught(learned) }, status, error);
        }
        let wait = self.wait(attempt, None, now);
        pending(Verdict::Unknown, true, Some(status), error, wait)
    }

    fn rebased_out(&mut self, seq: i64) -> bool {
        self.refused_too_often(seq, REBASES)
    }
}

fn taught(learned: &Learned) -> Taught {
    let Learned { revision, canonical_id, etag, .. } = learned.clone();
    let exists = revision.is_some() || canonical_id.is_some() || etag.is_some();
    Taught { revision, canonical_id, etag, exists }
}

fn again(taught: Taught, status: u16, error: String) -> Judgement {
    pending(Verdict::Rebase { taught }, true, Some(status), error, Next::Queue)
}

fn ended(verdict: Verdict, status: u16, error: String) -> Judgement {
    Judgement { verdict, ..failed(Reason::Conflict, false, Some(status), error) }
}

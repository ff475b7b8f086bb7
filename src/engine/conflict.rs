//! A server that refuses a write because of what it holds, and what that means for the write.

use std::time::Duration;

use uuid::Uuid;

use super::{
    rules::{Attempt, Judgement, Next, Rules},
    verdict::{failed, pending},
};
use crate::{
    config::{IfUnknown, OnConflict},
    entry::Reason,
    revision::{self, Comparison},
    store::{FormerKey, Taught, Verdict},
    transport::Learned,
};

/// A write is put above newer ones this many times.
const REBASES: u32 = 10;
/// A refusal that what the server holds does not explain is believed after this many.
const UNEXPLAINED: u32 = 5;

/// What a write is on the wire, as far as a conflict may name it.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    pub id: Uuid,
    pub device: Uuid,
    /// The device is not this database's any more: that it is an older copy is known already.
    pub renewed: bool,
    pub revision: u64,
    pub key_suffix: u32,
    pub generation: u32,
    pub former_keys: Vec<FormerKey>,
    /// The highest revision of this lane that this database knew of having used when the attempt was prepared.
    pub lane_revision: u64,
    /// The lane has learned no revision of the server's.
    pub unlearned: bool,
    pub on_conflict: OnConflict,
    /// An ACK has to bring a canonical id, and the lane has none yet.
    pub lacks_id: bool,
    pub condition: Option<Condition>,
}

/// What the request itself asked the server to make sure of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// `If-Match`
    Unchanged,
    /// `If-None-Match: *`
    Absent,
}

/// What a refusing server holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// This very write: its ACK was lost.
    Echo,
    /// A newer write.
    Newer,
    /// A write of this device that this database knows nothing of: it is an older copy, or has one.
    Unheard,
    /// Nothing newer, but not what the request made a condition of.
    Otherwise,
    /// Nothing that explains the refusal.
    Unexplained,
}

impl Standing {
    pub(super) fn held(&self, learned: &Learned) -> Held {
        let Some(held) = learned.revision else {
            // 412 to our own condition: the thing is not as we knew it.
            return Held::Newer;
        };
        if self.is_echo(learned, held) {
            return Held::Echo;
        }
        if self.is_unheard(learned, held) {
            return Held::Unheard;
        }
        match revision::compare((held, learned.device.as_deref()), (self.revision, self.device)) {
            Comparison::Beaten => Held::Newer,
            Comparison::NotBeaten if self.condition.is_some() => Held::Otherwise,
            Comparison::NotBeaten => Held::Unexplained,
        }
    }

    /// A key that it used, with the revision and the payload that went with it. A server may repeat our header in whatever it
    /// answers, so a key proves nothing where another device is named.
    fn is_echo(&self, learned: &Learned, held: u64) -> bool {
        if learned.device.as_deref().is_some_and(|device| !self.is_ours(device)) {
            return false;
        }
        let Some(suffix) = self.suffix(learned) else { return false };
        if suffix == self.key_suffix {
            return held == self.revision;
        }
        let same = |key: &&FormerKey| key.suffix == suffix && key.generation == self.generation;
        self.former_keys.iter().find(same).is_some_and(|key| key.revision == held)
    }

    /// A revision above all that were used here, or the one of this write under a key of another, or under one that this one never had:
    /// in this database no two writes of a lane have one revision.
    fn is_unheard(&self, learned: &Learned, held: u64) -> bool {
        let ours = learned.device.as_deref().is_some_and(|device| self.is_ours(device));
        let other = learned.idempotency_key.is_some() && self.suffix(learned).is_none_or(|n| n > self.key_suffix);
        ours && (held > self.lane_revision.max(self.revision) || held == self.revision && other)
    }

    fn is_ours(&self, device: &str) -> bool {
        revision::is_same_device(device, self.device)
    }

    /// n of `"<id>.<n>"`, if the key is one of this entry's.
    fn suffix(&self, learned: &Learned) -> Option<u32> {
        match learned.idempotency_key.as_ref()?.strip_prefix(&self.id.to_string())? {
            "" => Some(0),
            rest => rest.strip_prefix('.')?.parse().ok().filter(|suffix| *suffix > 0),
        }
    }

    fn taught(&self, learned: &Learned) -> Taught {
        let Learned { revision, canonical_id, etag, .. } = learned.clone();
        let known = revision.is_some() || canonical_id.is_some() || etag.is_some();
        Taught { revision, canonical_id, etag, exists: known || self.condition == Some(Condition::Absent) }
    }
}

impl Rules {
    pub(super) fn conflict(&mut self, attempt: &Attempt, status: u16, learned: &Learned, now: Duration) -> Judgement {
        self.understood(attempt, now);
        let standing = &*attempt.standing;
        if learned.revision.is_some_and(|revision| revision >= revision::BOUND) {
            // Whatever the server meant, it is not a revision.
            let error = format!("the server answered {status} with a revision that JSON numbers can't hold");
            return self.unknown(attempt, Some(status), error, None, now);
        }
        match standing.held(learned) {
            Held::Echo if standing.lacks_id && learned.canonical_id.is_none() => {
                let error =
                    format!("the server answered {status}: it has this very write, but does not say under which id");
                self.unexplained(attempt, status, error, learned, now)
            }
            Held::Echo => self.acked(attempt, status, learned, now),
            Held::Newer => self.beaten(attempt, status, learned, false),
            Held::Unheard => {
                let restored = self.found_restored(standing);
                self.beaten(attempt, status, learned, restored)
            }
            Held::Otherwise => self.outdated(attempt, status, learned, now),
            Held::Unexplained => {
                let error =
                    format!("the server answered {status}, but the revision that it holds does not beat this one");
                self.unexplained(attempt, status, error, learned, now)
            }
        }
    }

    /// Says so once for each device that the database has had.
    fn found_restored(&mut self, standing: &Standing) -> bool {
        let news = !standing.renewed && self.given_up.insert(standing.device);
        if news {
            tracing::error!(
                "this queue is an older copy of one that went on elsewhere, as after a restored backup: it becomes a device of its \
                 own, and what waits in it may have been sent already"
            );
        }
        news
    }

    /// The server holds a newer write.
    fn beaten(&mut self, attempt: &Attempt, status: u16, learned: &Learned, restored: bool) -> Judgement {
        let standing = &*attempt.standing;
        // A server that keeps no keys would apply twice what was sent again above a newer revision.
        let doubt = attempt.was_possibly_sent || restored;
        let error = format!("the server answered {status}: it holds a newer write");
        let taught = standing.taught(learned);
        // Whoever named the version that he changed has asked: somebody else was faster, and that is not to be written over.
        let asked = standing.condition == Some(Condition::Unchanged);
        let first = !doubt && standing.unlearned && !asked && taught.exists && self.rebases(attempt.seq) == 0;
        let mut judgement = match standing.on_conflict {
            _ if first => self.again(attempt, status, taught, error),
            OnConflict::Ask => ended(Verdict::Conflict { possibly_sent: doubt, taught }, status, error),
            OnConflict::Overwrite if !doubt && self.rebases(attempt.seq) < REBASES => {
                self.again(attempt, status, taught, error)
            }
            OnConflict::Overwrite if !doubt => ended(Verdict::Conflict { possibly_sent: false, taught }, status, error),
            OnConflict::Newest | OnConflict::Overwrite => {
                ended(Verdict::Lost { possibly_sent: doubt, taught }, status, error)
            }
        };
        judgement.restored = restored;
        judgement
    }

    /// What the server holds is older than this write, but not what the request's condition named: the same request can never
    /// succeed, one made anew can.
    fn outdated(&mut self, attempt: &Attempt, status: u16, learned: &Learned, now: Duration) -> Judgement {
        let error = format!("the server answered {status}: the thing is not as it was last known");
        if attempt.was_possibly_sent || self.rebases(attempt.seq) >= UNEXPLAINED {
            return self.unexplained(attempt, status, error, learned, now);
        }
        self.again(attempt, status, attempt.standing.taught(learned), error)
    }

    /// Sent again at once, above what the server holds.
    fn again(&mut self, attempt: &Attempt, status: u16, taught: Taught, error: String) -> Judgement {
        self.rebased(attempt.seq);
        pending(Verdict::Rebase { taught }, true, Some(status), error, Next::Queue)
    }

    /// A refusal that makes no sense: believed when it does not change.
    fn unexplained(
        &mut self,
        attempt: &Attempt,
        status: u16,
        error: String,
        learned: &Learned,
        now: Duration,
    ) -> Judgement {
        if attempt.if_unknown == IfUnknown::Hold || self.unexplained_too_often(attempt.seq, UNEXPLAINED) {
            let (possibly_sent, taught) = (attempt.was_possibly_sent, attempt.standing.taught(learned));
            return ended(Verdict::Conflict { possibly_sent, taught }, status, error);
        }
        let wait = self.wait(attempt, None, now);
        pending(Verdict::Unknown, true, Some(status), error, wait)
    }
}

fn ended(verdict: Verdict, status: u16, error: String) -> Judgement {
    Judgement { verdict, ..failed(Reason::Conflict, false, Some(status), error) }
}

//! What must be true of a device's entries whenever it is at rest.

use std::collections::{HashMap, HashSet};

use tauri_plugin_storage_sync::{Action, Entry, Queue, Reason, State, WaitingFor};
use uuid::Uuid;

use super::{
    ledger::Ledger,
    promise::{Fate, Promise},
    server::{Mode, Server, TAGGED},
};

pub type Entries = HashMap<Uuid, Entry>;

fn is_live(entry: &Entry) -> bool {
    matches!(entry.state, State::Pending | State::Inflight | State::Failed)
}

pub fn is_contested(entry: &Entry) -> bool {
    entry.lost || entry.state == State::Failed && entry.reason == Some(Reason::Conflict)
}

/// Every rule for one device, from what it was to what it is. Answers the first that is broken.
pub fn broken(before: &Entries, now: &Entries, ledger: &Ledger, server: &Server) -> Option<String> {
    let mut flying = HashSet::new();
    for id in &ledger.order {
        let promise = &ledger.promises[id];
        let (was, is) = (before.get(id), now.get(id));
        let wrong = match (promise.fate, is) {
            (Fate::Kept, None) => Some("it has vanished".to_owned()),
            (Fate::Kept, Some(is)) => {
                let lane = is.key.as_ref().map(|key| format!("{}/{key}", is.kind));
                let twice = is.state == State::Inflight && lane.is_some_and(|lane| !flying.insert(lane));
                twice
                    .then(|| "two entries of its lane are in flight".to_owned())
                    .or_else(|| one(promise, is))
                    .or_else(|| settled(promise, is, ledger, server))
                    .or_else(|| step(promise, was, is, ledger, server))
                    .or_else(|| waits(is, now))
            }
            (_, None) => None,
            (fate, Some(_)) => Some(format!("it is there although it was {fate:?}")),
        };
        if let Some(wrong) = wrong {
            return Some(format!("entry {}: {wrong}\n{promise:?}\n{is:?}", promise.n));
        }
    }
    (now.len() > ledger.order.len()).then(|| "there are entries that nobody enqueued".into())
}

fn one(promise: &Promise, is: &Entry) -> Option<String> {
    let flies = is.state == State::Inflight;
    if flies != promise.is_claimed() {
        return Some(format!("it is {:?}, and claimed: {}", is.state, promise.is_claimed()));
    }
    if (flies || is.state == State::Pending) && promise.paused != is.paused {
        return Some(format!("it is paused: {}, and was said to be: {}", is.paused, promise.paused));
    }
    let may = promise.open || flies;
    if !(is_live(is) || is.lost) || may == is.possibly_sent {
        return None;
    }
    Some(format!("it says {} of whether it may have been sent, and that is {may}", is.possibly_sent))
}

/// What is acknowledged was applied, and as often as somebody meant it.
fn settled(promise: &Promise, is: &Entry, ledger: &Ledger, server: &Server) -> Option<String> {
    let writes = server.writes_of(is.id);
    let meant = (promise.draft.action != Some(Action::Delete)).then_some(promise.content.mark);
    // Nothing had to be sent, or nothing was there to be deleted.
    let vacuous = promise.draft.action == Some(Action::Delete) && matches!(is.status, None | Some(404 | 410));
    if is.state == State::Acked && !vacuous && !writes.iter().any(|write| write.mark == meant) {
        return Some(format!("it is acknowledged and was never applied: {writes:#?}"));
    }
    let protected = match server.mode {
        Mode::Full => true,
        // Without a key a thing has no revision that could be compared, and a tag says nothing of who wrote it.
        Mode::Compares => is.key.is_some() && is.kind != TAGGED,
        Mode::Neither => false,
    };
    let times = writes.iter().filter(|write| write.mark == meant).count();
    (protected && !ledger.restored && times > 1 + promise.again).then(|| format!("it was applied {times} times"))
}

/// What may become of an entry between two looks.
fn step(promise: &Promise, was: Option<&Entry>, is: &Entry, ledger: &Ledger, server: &Server) -> Option<String> {
    let final_before = was.filter(|was| was.state == State::Acked || was.superseded_by.is_some());
    if let Some(was) = final_before
        && (was.state != is.state || was.superseded_by != is.superseded_by || was.canonical_id != is.canonical_id)
    {
        return Some(format!("it was settled, and changed: {was:#?}"));
    }
    let new = |state: State| is.state == state && was.is_none_or(|was| was.state != state);
    if new(State::Superseded)
        && let Some(successor) = is.superseded_by
    {
        return replaced(promise, is, ledger.promises.get(&successor));
    }
    let newly_contested = is_contested(is) && was.is_none_or(|was| !is_contested(was));
    if newly_contested && !is.conflict {
        return Some("it was beaten, and nobody is told".into());
    }
    let held = promise.draft.key.and_then(|key| server.things.get(&format!("{}/{key}", promise.draft.kind)));
    if newly_contested
        && let Some(held) = held
        && (server.names_keys() || is.lost)
        && (server.mode == Mode::Full || is.kind != TAGGED)
        && !ledger.restored
    {
        let meant = (promise.draft.action != Some(Action::Delete)).then_some(promise.content.mark);
        let own = held.idempotency_key.split('.').next() == Some(&is.id.to_string()) && held.mark == meant;
        return own.then(|| "it lost against itself".to_owned());
    }
    None
}

fn replaced(promise: &Promise, is: &Entry, successor: Option<&Promise>) -> Option<String> {
    let Some(successor) = successor else { return Some("it was replaced by what nobody enqueued".into()) };
    let lane = |promise: &Promise| (promise.draft.kind, promise.draft.key);
    if promise.open {
        return Some("it was replaced although it may have been applied".into());
    }
    if lane(promise) != lane(successor) || successor.n < promise.n {
        return Some("what replaced it is not a newer one of its lane".into());
    }
    let deletes = successor.draft.action == Some(Action::Delete);
    (is.queue == Queue::Every && !deletes).then(|| "it was replaced although each one of its lane matters".into())
}

/// What keeps it waiting leads, over however many others, to something that ends by itself or that somebody can decide.
fn waits(entry: &Entry, entries: &Entries) -> Option<String> {
    let mut at = entry;
    for _ in 0..=entries.len() {
        let next = match (at.state, &at.waiting_for) {
            (State::Pending, Some(WaitingFor::Lane { behind })) => *behind,
            (State::Pending, Some(WaitingFor::Dependency { on })) => *on,
            (State::Failed, Some(_)) => return Some("it failed and waits".into()),
            (State::Acked, _) | (State::Superseded, _) if at.id != entry.id && !at.lost => {
                return Some(format!("it waits for what is settled: {at:#?}"));
            }
            _ => return None,
        };
        let Some(blocker) = entries.get(&next) else { return Some(format!("it waits for {next}, which is not there")) };
        let in_lane = matches!(at.waiting_for, Some(WaitingFor::Lane { .. }));
        if in_lane && is_contested(blocker) {
            return Some("it is behind one that left the lane with a conflict".into());
        }
        at = blocker;
    }
    Some("it waits for itself".into())
}

/// Nothing more happens to it unless somebody decides.
pub fn is_at_rest(entry: &Entry) -> bool {
    match (entry.state, &entry.waiting_for) {
        (State::Acked | State::Superseded, _) => true,
        (State::Failed, _) => !matches!(entry.reason, None | Some(Reason::Undecryptable)),
        // Behind something that failed, or that lost.
        (State::Pending, Some(WaitingFor::Lane { .. } | WaitingFor::Dependency { .. })) => true,
        _ => false,
    }
}

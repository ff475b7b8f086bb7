//! Calls into a key source from a thread of their own, given up after a deadline.
//!
//! Not tokio's blocking pool: a call into a locked keychain can wait for ever, and that pool holds up the exit. A plain
//! thread does not.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout_at,
};

use super::SourceError;

/// How many calls may be stuck before no further one is tried. Two: a prompt that nobody answers must not keep us from
/// noticing that the keychain was unlocked in another way, and threads must not pile up behind a source that never
/// answers.
const STUCK: usize = 2;

/// Makes one call at a time.
pub(super) struct Caller {
    turn: Semaphore,
    stuck: Arc<AtomicUsize>,
}

impl Caller {
    pub(super) fn new() -> Self {
        Self { turn: Semaphore::new(1), stuck: Arc::default() }
    }

    /// What `job` answers, run on a thread of its own. After the deadline the thread is left behind and this answers
    /// [`SourceError::Locked`]; while too many are left behind it answers so at once.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        deadline: Instant,
        job: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        self.refuse_if_stuck()?;
        let deadline = deadline.into();
        let late = |_| SourceError::Locked("it did not answer in time".into());
        let gone = |what: &str| SourceError::Unavailable(what.into());
        // Before the waiter, so that it is given back after the waiter has been counted.
        let _turn = timeout_at(deadline, self.turn.acquire())
            .await
            .map_err(late)?
            .map_err(|_| gone("the thread that asks it has ended"))?;
        self.refuse_if_stuck()?;

        let call = Arc::new(Call { side: Mutex::new(Side::Waiting), stuck: self.stuck.clone() });
        let _waiter = Waiter(call.clone());
        let (answer, answered) = oneshot::channel();
        let working = Working(call);
        thread::Builder::new()
            .name("storage-sync-keys".into())
            .spawn(move || {
                let result = job();
                drop(working);
                let _ = answer.send(result);
            })
            .map_err(|error| SourceError::Unavailable(format!("no thread to ask it from: {error}")))?;
        timeout_at(deadline, answered).await.map_err(late)?.map_err(|_| gone("asking it panicked"))?
    }

    fn refuse_if_stuck(&self) -> Result<(), SourceError> {
        if self.stuck.load(Ordering::Acquire) < STUCK {
            return Ok(());
        }
        Err(SourceError::Locked("earlier calls still wait for an answer".into()))
    }
}

struct Call {
    side: Mutex<Side>,
    stuck: Arc<AtomicUsize>,
}

#[derive(PartialEq)]
enum Side {
    Waiting,
    Abandoned,
    Done,
}

impl Call {
    fn turn_to(&self, next: Side) {
        let mut side = self.side.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*side, &next) {
            (Side::Waiting, Side::Abandoned) => self.stuck.fetch_add(1, Ordering::AcqRel),
            (Side::Abandoned, Side::Done) => self.stuck.fetch_sub(1, Ordering::AcqRel),
            (Side::Done, _) => return,
            _ => 0,
        };
        *side = next;
    }
}

/// Dropped when nobody waits any more: answered, timed out, or the caller's future was cancelled.
struct Waiter(Arc<Call>);

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.turn_to(Side::Abandoned);
    }
}

/// Dropped when the thread has done the job, also by a panic, and when there was no thread to do it.
struct Working(Arc<Call>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.turn_to(Side::Done);
    }
}

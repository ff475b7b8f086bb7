//! What nobody needs any more: files in the spool and unfinished uploads whose entries are settled or gone, and what a killed process left.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::{sync::Notify, task::JoinHandle, time::timeout};

use super::{Parts, drain::Drain, freeze::Frozen, upload::ProgressSeal};
use crate::{
    cipher::{Binding, Part},
    error::{Error, Result},
    spool::Spool,
    store::{Leftover, Store},
    transport::Request,
};

/// Files that are looked at together: each is an open file meanwhile.
const SWEPT: usize = 128;
/// Leftovers of one round.
const ROUND: u32 = 64;
/// How long the end of an upload may take, and how many are ended at once. Nothing depends on it.
const COURTESY: Duration = Duration::from_secs(10);
const AT_ONCE: usize = 8;

/// Works beside delivery, as long as it lives.
pub(super) struct Janitor {
    call: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Janitor {
    pub(super) fn new(spool: &Spool, parts: &Parts) -> Self {
        let call = Arc::new(Notify::new());
        let (called, spool, parts) = (Arc::clone(&call), spool.clone(), parts.clone());
        let task = tokio::spawn(async move {
            loop {
                called.notified().await;
                if let Err(error) = tidy(&spool, &parts).await {
                    tracing::warn!(%error, "files that are not needed any more could not be removed this time");
                }
            }
        });
        Self { call, task }
    }

    /// Removes the files of entries that are settled or gone, and ends their uploads.
    pub(super) fn tidy(&self) {
        self.call.notify_one();
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drain {
    /// At take-over: removes files that no row names and nobody is copying, beside delivery.
    pub(super) fn sweep(&self) {
        let (spool, store) = (self.spool.clone(), self.parts.store.clone());
        tokio::spawn(async move {
            match sweep(&spool, &store).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "files that a killed process left in the spool were removed"),
                Err(error) => tracing::warn!(%error, "the spool could not be swept; the next start tries again"),
            }
        });
    }
}

async fn sweep(spool: &Spool, store: &Store) -> Result<usize> {
    // A damaged database that lies aside may still name files, and hold their keys.
    let keep = store.has_salvaged();
    let all = blocking(spool, Spool::list).await?.map_err(|source| Error::io("reading the spool", source))?;
    let mut removed = 0;
    for names in all.chunks(SWEPT) {
        let names = names.to_vec();
        let unlocked = blocking(spool, move |spool| spool.unlocked(&names)).await?;
        let unlocked_names = unlocked.names();
        if unlocked_names.is_empty() {
            continue;
        }
        // After they were locked: whoever held a lock before has committed by now.
        let named = store.named_in_spool(&unlocked_names).await?;
        removed += blocking(spool, move |spool| {
            spool.sweep(unlocked, |name| named.iter().any(|named| named == name) || keep && !Spool::is_part(name))
        })
        .await?;
    }
    Ok(removed)
}

async fn tidy(spool: &Spool, parts: &Parts) -> Result<()> {
    loop {
        let leftovers = parts.store.leftovers(ROUND).await?;
        if leftovers.is_empty() {
            return Ok(());
        }
        let names: Vec<(i64, Option<String>)> =
            leftovers.iter().map(|leftover| (leftover.number, leftover.spool.clone())).collect();
        let (done, failed) = blocking(spool, move |spool| removed(spool, names)).await?;
        stream::iter(&leftovers).for_each_concurrent(AT_ONCE, |leftover| end_upload(parts, leftover)).await;
        parts.store.forget_leftovers(done).await?;
        if let Some(error) = failed {
            // The next call tries again.
            return Err(Error::io("removing a file from the spool", error));
        }
    }
}

/// Which of them are gone, and what kept another one.
fn removed(spool: &Spool, names: Vec<(i64, Option<String>)>) -> (Vec<i64>, Option<std::io::Error>) {
    let (mut done, mut failed) = (Vec::new(), None);
    for (number, name) in names {
        match name.map_or(Ok(()), |name| spool.remove(&name)) {
            Ok(()) => done.push(number),
            Err(error) => failed = Some(error),
        }
    }
    (done, failed)
}

/// Lets the server give the upload's room back. It is asked once, and whatever it answers the upload is not wanted any more.
async fn end_upload(parts: &Parts, leftover: &Leftover) {
    let Some(request) = termination(parts, leftover).await else { return };
    // To ask for credentials may have taken a while, and from a sign-out on nothing more of the account is sent.
    if !parts.board.may_send(&leftover.account) {
        return;
    }
    let answer = timeout(COURTESY, parts.transport.deliver(request)).await;
    tracing::debug!(answered = answer.is_ok(), "an upload that nobody needs any more was ended");
}

async fn termination(parts: &Parts, leftover: &Leftover) -> Option<Request> {
    let Leftover { account, id, kind, key, content_type, generation, key_id, wrapped_key, .. } = leftover;
    let (progress, request) = (leftover.progress.as_ref()?, leftover.request.as_ref()?);
    let binding = Binding { account, id: *id, kind, key: key.as_deref(), content_type, generation: *generation };
    let data = parts.keys.of_id(account, key_id)?.unwrap(wrapped_key, &binding).ok()?;
    let progress = ProgressSeal::open(&data, &binding, progress)?;
    let frozen: Frozen = serde_json::from_slice(&data.open(Part::Request, &binding, request).ok()?).ok()?;
    if progress.url.origin() != frozen.url.origin() {
        return None;
    }
    let origin = frozen.url.origin().ascii_serialization();
    let mut of = Request::new(frozen.method, frozen.url);
    of.headers = frozen.headers;
    of.timeout = COURTESY;
    // Nobody is asked for credentials of an account that has left.
    if !parts.board.may_send(account) {
        return None;
    }
    of.authorize(parts.credentials.get(account, &origin).await.ok()?.headers);
    Some(progress.termination(&of))
}

async fn blocking<T: Send + 'static>(spool: &Spool, work: impl FnOnce(&Spool) -> T + Send + 'static) -> Result<T> {
    let spool = spool.clone();
    // It can only be cancelled, and only with the runtime.
    tokio::task::spawn_blocking(move || work(&spool)).await.map_err(|_| Error::Closed)
}

//! What nobody needs any more: files in the spool whose entries are settled or gone, and what a killed process left there.

use super::drain::Drain;
use crate::{
    error::{Error, Result},
    spool::Spool,
    store::Store,
};

/// Files that are looked at together: each is an open file meanwhile.
const SWEPT: usize = 128;
/// Leftovers of one round.
const ROUND: u32 = 256;

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

    /// Removes the files of entries that are settled or gone, beside delivery.
    pub(super) fn tidy(&mut self) {
        if self.tidying.as_ref().is_some_and(|round| !round.is_finished()) {
            return;
        }
        let (spool, store) = (self.spool.clone(), self.parts.store.clone());
        self.tidying = Some(tokio::spawn(async move {
            if let Err(error) = tidy(&spool, &store).await {
                tracing::warn!(%error, "files that are not needed any more could not be removed this time");
            }
        }));
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
        let named = store.named_in_spool(&unlocked_names).await?;
        removed += blocking(spool, move |spool| {
            spool.sweep(unlocked, |name| named.iter().any(|named| named == name) || keep && !Spool::is_part(name))
        })
        .await?;
    }
    Ok(removed)
}

async fn tidy(spool: &Spool, store: &Store) -> Result<()> {
    loop {
        let leftovers = store.leftovers(ROUND).await?;
        if leftovers.is_empty() {
            return Ok(());
        }
        let names: Vec<(i64, Option<String>)> =
            leftovers.into_iter().map(|leftover| (leftover.number, leftover.spool)).collect();
        let (done, failed) = blocking(spool, move |spool| {
            let mut done = Vec::new();
            let mut failed = None;
            for (number, name) in names {
                match name.map_or(Ok(()), |name| spool.remove(&name)) {
                    Ok(()) => done.push(number),
                    Err(error) => failed = Some(error),
                }
            }
            (done, failed)
        })
        .await?;
        store.forget_leftovers(done).await?;
        if let Some(error) = failed {
            // The next look tries again.
            tracing::warn!(%error, "a file that is not needed any more could not be removed");
            return Ok(());
        }
    }
}

async fn blocking<T: Send + 'static>(spool: &Spool, work: impl FnOnce(&Spool) -> T + Send + 'static) -> Result<T> {
    let spool = spool.clone();
    // It can only be cancelled, and only with the runtime.
    tokio::task::spawn_blocking(move || work(&spool)).await.map_err(|_| Error::Closed)
}

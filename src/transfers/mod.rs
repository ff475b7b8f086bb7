//! Files that a page hands over in pieces: each piece is taken when the one before it was written, so that neither side ever holds more of
//! the file than that.
//!
//! A transfer belongs to the page that began it, and ends with it: [`Transfers::page_gone`]. What was handed over until then is the
//! reader's error, and no file.

mod copies;
mod pieces;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex as Lock, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinHandle,
};
use uuid::Uuid;

pub use copies::Copies;
pub use pieces::Pieces;

use self::pieces::Piece;
use crate::{
    entry::Receipt,
    error::{Error, Result},
};

/// The largest piece that is taken, in bytes.
pub const LARGEST: usize = 8 << 20;

/// How large pieces should be, in bytes.
pub const PIECE: u64 = 1 << 20;

/// How many files one page may hand over at the same time.
const AT_ONCE: usize = 32;

/// The transfers that are under way.
#[derive(Default)]
pub struct Transfers {
    list: Lock<HashMap<Uuid, Arc<Transfer>>>,
}

struct Transfer {
    /// The webview whose page began it.
    owner: String,
    /// How many bytes there will be.
    total: u64,
    state: Mutex<State>,
}

struct State {
    received: u64,
    /// None once no more pieces are taken.
    to: Option<mpsc::Sender<Piece>>,
    /// None once its end was told.
    work: Option<JoinHandle<Result<Receipt>>>,
}

impl Transfers {
    /// Begins a transfer of `total` bytes, which `work` reads and makes an entry of.
    ///
    /// # Errors
    /// `invalid_argument` if the page has too many under way.
    pub fn begin<F>(&self, owner: &str, total: u64, work: impl FnOnce(Pieces) -> F) -> Result<Uuid>
    where
        F: Future<Output = Result<Receipt>> + Send + 'static,
    {
        let mut list = self.lock();
        if list.values().filter(|transfer| transfer.owner == owner).count() >= AT_ONCE {
            return Err(Error::argument(format!(
                "{AT_ONCE} files are being handed over already: wait for one of them"
            )));
        }
        // One piece may wait while another is written.
        let (to, from) = mpsc::channel(1);
        let work = tokio::spawn(work(Pieces::new(from)));
        let state = Mutex::new(State { received: 0, to: Some(to), work: Some(work) });
        let id = Uuid::now_v7();
        list.insert(id, Arc::new(Transfer { owner: owner.to_owned(), total, state }));
        Ok(id)
    }

    /// How many bytes have arrived.
    ///
    /// # Errors
    /// `invalid_argument` if this page has no such transfer.
    pub async fn stands(&self, owner: &str, id: Uuid) -> Result<u64> {
        Ok(self.get(owner, id)?.state.lock().await.received)
    }

    /// Takes the piece that begins at `offset`, and answers how many bytes have arrived. One that has arrived already is passed over.
    ///
    /// # Errors
    /// `invalid_argument` if this page has no such transfer, or the piece does not fit; what the entry is refused for. In either case the
    /// transfer is over.
    pub async fn piece(&self, owner: &str, id: Uuid, offset: u64, bytes: Bytes) -> Result<u64> {
        let transfer = self.get(owner, id)?;
        let mut state = transfer.state.lock().await;
        if offset < state.received {
            return Ok(state.received);
        }
        let end = offset.saturating_add(bytes.len() as u64);
        if offset > state.received || end > transfer.total || bytes.len() > LARGEST {
            self.end(id, &mut state).await;
            return Err(Error::argument(format!(
                "a piece of at most {LARGEST} bytes has to begin where the last one ended, within what was announced: the transfer is given up"
            )));
        }
        let taken = match &state.to {
            Some(to) => to.send(Piece::Bytes(bytes)).await.is_ok(),
            None => false,
        };
        if !taken {
            self.forget(id);
            return Err(refusal(&mut state).await);
        }
        state.received = end;
        Ok(end)
    }

    /// Everything has arrived: answers the entry.
    ///
    /// # Errors
    /// `invalid_argument` if this page has no such transfer, or not everything has arrived; what the entry is refused for. In either case
    /// the transfer is over.
    pub async fn finish(&self, owner: &str, id: Uuid) -> Result<Receipt> {
        let transfer = self.get(owner, id)?;
        let mut state = transfer.state.lock().await;
        if state.received != transfer.total {
            let (received, total) = (state.received, transfer.total);
            self.end(id, &mut state).await;
            return Err(Error::argument(format!("{received} bytes of {total} have arrived: the transfer is given up")));
        }
        self.forget(id);
        if let Some(to) = state.to.take() {
            // If nobody takes it, the work says why.
            let _ = to.send(Piece::End).await;
        }
        told(&mut state).await
    }

    /// Gives a transfer up; nothing of it is kept once this answers. One that is not there is given up already.
    pub async fn abort(&self, owner: &str, id: Uuid) {
        if let Ok(transfer) = self.get(owner, id) {
            let mut state = transfer.state.lock().await;
            self.end(id, &mut state).await;
        }
    }

    /// The page in that webview is gone, and with it whoever could go on. Waits for nothing.
    pub fn page_gone(&self, owner: &str) {
        // The last sender goes with the transfer, which is an error to whoever reads.
        self.lock().retain(|_, transfer| transfer.owner != owner);
    }

    async fn end(&self, id: Uuid, state: &mut State) {
        self.forget(id);
        state.to = None;
        // What it says is known: it was given up.
        let _ = told(state).await;
    }

    fn get(&self, owner: &str, id: Uuid) -> Result<Arc<Transfer>> {
        let found = self.lock().get(&id).filter(|transfer| transfer.owner == owner).cloned();
        found.ok_or_else(|| Error::argument("this page hands over no such file: begin again"))
    }

    fn forget(&self, id: Uuid) {
        self.lock().remove(&id);
    }

    /// The list is in order after every step, so a poisoned lock is taken all the same.
    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Transfer>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why the reader went away before the end.
async fn refusal(state: &mut State) -> Error {
    state.to = None;
    match told(state).await {
        Ok(_) => Error::argument("the file was taken before its end"),
        Err(error) => error,
    }
}

/// What came of it.
async fn told(state: &mut State) -> Result<Receipt> {
    match state.work.take() {
        Some(work) => work.await.unwrap_or(Err(Error::Closed)),
        None => Err(Error::argument("the transfer is over")),
    }
}

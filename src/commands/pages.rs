//! What belongs to the page in a webview, and ends when that is loaded anew or goes away.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tauri::async_runtime::JoinHandle;
use tokio::sync::oneshot;

use crate::{
    error::{Error, Result},
    transfers::{Copies, Transfers},
};

/// To how many channels one page may be told how far uploads are.
const WATCHES: usize = 256;

/// For how many entries one page may wait: as many as it may enqueue at once, if nothing else is said.
const WAITS: usize = 10_000;

/// What pages have under way.
#[derive(Default)]
pub(crate) struct Pages {
    pub(super) transfers: Transfers,
    pub(super) copies: Copies,
    watches: Mutex<Watches>,
    waits: Mutex<Waits>,
}

/// What pages wait for, by webview and number. What is dropped ends.
#[derive(Default)]
struct Waits {
    last: u64,
    running: HashMap<String, HashMap<u64, oneshot::Sender<()>>>,
}

/// What tells pages how far uploads are, by webview and number.
#[derive(Default)]
struct Watches {
    last: u32,
    running: HashMap<(String, u32), JoinHandle<()>>,
}

impl Pages {
    /// Begins to tell a page something; answers its number.
    ///
    /// # Errors
    /// `invalid_argument` if the page is told too much already.
    pub(super) fn watch(&self, page: &str, begin: impl FnOnce() -> JoinHandle<()>) -> Result<u32> {
        let mut watches = self.lock();
        watches.running.retain(|_, task| !task.inner().is_finished());
        if watches.running.keys().filter(|(owner, _)| owner == page).count() >= WATCHES {
            return Err(Error::argument(format!("{WATCHES} channels are told of progress already: stop one of them")));
        }
        watches.last = watches.last.wrapping_add(1);
        let number = watches.last;
        watches.running.insert((page.to_owned(), number), begin());
        Ok(number)
    }

    /// Ends it. One that is not there has ended already.
    pub(super) fn unwatch(&self, page: &str, number: u32) {
        if let Some(task) = self.lock().running.remove(&(page.to_owned(), number)) {
            task.abort();
        }
    }

    /// Waits for something as long as the page is there that wants it.
    ///
    /// # Errors
    /// `invalid_argument` if the page waits for too much already; `closed` when it is gone, which nobody hears.
    pub(super) async fn wait<T>(&self, page: &str, what: impl Future<Output = Result<T>>) -> Result<T> {
        let (number, gone) = self.begin_to_wait(page)?;
        // Also when nobody asks any more.
        let _ends = Ends(|| {
            if let Some(own) = self.waits().running.get_mut(page) {
                own.remove(&number);
            }
        });
        tokio::select! {
            answer = what => answer,
            _ = gone => Err(Error::Closed),
        }
    }

    fn begin_to_wait(&self, page: &str) -> Result<(u64, oneshot::Receiver<()>)> {
        let mut waits = self.waits();
        waits.last += 1;
        let number = waits.last;
        let own = waits.running.entry(page.to_owned()).or_default();
        if own.len() >= WAITS {
            return Err(Error::argument(format!(
                "{WAITS} calls wait for entries already: listen to all of them at once (`onEntry`), or give a timeout"
            )));
        }
        let (ends, gone) = oneshot::channel();
        own.insert(number, ends);
        Ok((number, gone))
    }

    /// How many calls of the page wait.
    #[cfg(test)]
    pub(super) fn waiting(&self, page: &str) -> usize {
        self.waits().running.get(page).map_or(0, HashMap::len)
    }

    /// The page in that webview is gone. Waits for nothing.
    pub(crate) fn gone(&self, page: &str) {
        self.transfers.page_gone(page);
        self.waits().running.remove(page);
        self.lock().running.retain(|(owner, _), task| {
            let stays = owner != page;
            if !stays {
                task.abort();
            }
            stays
        });
    }

    /// The lists are in order after every step, so a poisoned lock is taken all the same.
    fn lock(&self) -> MutexGuard<'_, Watches> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does it when dropped.
struct Ends<F: FnMut()>(F);

impl<F: FnMut()> Drop for Ends<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn a_page_waits_for_so_much_at_once_and_for_nothing_once_it_is_gone() {
        let pages = Pages::default();
        let mut waiting: Vec<_> = (0..WAITS).map(|_| Box::pin(pages.wait("main", pending::<Result<()>>()))).collect();
        for wait in &mut waiting {
            assert!(poll!(wait).is_pending());
        }
        assert_eq!(pages.wait("main", async { Ok(()) }).await.unwrap_err().code(), "invalid_argument");
        pages.wait("other", async { Ok(()) }).await.unwrap();
        drop(waiting.pop());
        pages.wait("main", async { Ok(()) }).await.unwrap();
        assert_eq!((pages.waiting("main"), pages.waiting("other")), (WAITS - 1, 0), "what ended does not count");
        pages.gone("main");
        assert_eq!(pages.waiting("main"), 0);
        for wait in waiting {
            assert_eq!(wait.await.unwrap_err().code(), "closed");
        }
        // The next page in the same webview.
        pages.wait("main", async { Ok(()) }).await.unwrap();
    }
}

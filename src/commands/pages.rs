//! What belongs to the page in a webview, and ends when that is loaded anew or goes away.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tauri::async_runtime::JoinHandle;

use crate::{
    error::{Error, Result},
    transfers::{Copies, Transfers},
};

/// To how many channels one page may be told how far uploads are.
const WATCHES: usize = 256;

/// What pages have under way.
#[derive(Default)]
pub(crate) struct Pages {
    pub(super) transfers: Transfers,
    pub(super) copies: Copies,
    watches: Mutex<Watches>,
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

    /// The page in that webview is gone. Waits for nothing.
    pub(crate) fn gone(&self, page: &str) {
        self.transfers.page_gone(page);
        self.lock().running.retain(|(owner, _), task| {
            let stays = owner != page;
            if !stays {
                task.abort();
            }
            stays
        });
    }

    /// The list is in order after every step, so a poisoned lock is taken all the same.
    fn lock(&self) -> MutexGuard<'_, Watches> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

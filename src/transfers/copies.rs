//! Files that are copied here and that a page may give up: it names each by an id of its own.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::error::{Error, Result};

/// How to give each of them up, by page and id.
type GiveUp = HashMap<(String, Uuid), oneshot::Sender<()>>;

/// The copies that are under way and may be given up. They do not end with their page: the file may be there nowhere else by the next one.
#[derive(Default)]
pub struct Copies {
    running: Mutex<GiveUp>,
}

/// One of them. It is over when this is dropped.
pub struct Copy<'c> {
    copies: &'c Copies,
    name: Option<(String, Uuid)>,
    given_up: Option<oneshot::Receiver<()>>,
}

impl Copies {
    /// Begins a copy, which cannot be given up without an id.
    ///
    /// # Errors
    /// `invalid_argument` if that page has one under way under that id.
    pub fn begin(&self, owner: &str, id: Option<Uuid>) -> Result<Copy<'_>> {
        let Some(id) = id else { return Ok(Copy { copies: self, name: None, given_up: None }) };
        let name = (owner.to_owned(), id);
        let mut running = self.lock();
        if running.contains_key(&name) {
            return Err(Error::argument("`transfer`: a file is copied under that id already: choose another"));
        }
        let (give_up, given_up) = oneshot::channel();
        running.insert(name.clone(), give_up);
        drop(running);
        Ok(Copy { copies: self, name: Some(name), given_up: Some(given_up) })
    }

    /// Gives one up. False if that page has no such copy under way.
    pub fn give_up(&self, owner: &str, id: Uuid) -> bool {
        let found = self.lock().remove(&(owner.to_owned(), id));
        // If nobody listens it is saved by now.
        found.map(|give_up| give_up.send(())).is_some()
    }

    /// The list is in order after every step, so a poisoned lock is taken all the same.
    fn lock(&self) -> MutexGuard<'_, GiveUp> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Copy<'_> {
    /// Ends when it is given up.
    pub fn given_up(&mut self) -> impl Future<Output = ()> + Send + 'static {
        let given_up = self.given_up.take();
        async move {
            let told = match given_up {
                Some(given_up) => given_up.await.is_ok(),
                None => false,
            };
            if !told {
                std::future::pending().await
            }
        }
    }
}

impl Drop for Copy<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            self.copies.lock().remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, task::Poll};

    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn a_copy_is_given_up_by_its_own_page_under_its_id_and_once_only() {
        let (copies, id, other) = (Copies::default(), Uuid::from_u128(1), Uuid::from_u128(2));
        let mut copy = copies.begin("main", Some(id)).unwrap();
        let mut given_up = pin!(copy.given_up());
        assert_eq!(copies.begin("main", Some(id)).err().unwrap().code(), "invalid_argument");
        assert!(!copies.give_up("other", id) && !copies.give_up("main", other));
        assert_eq!(poll!(&mut given_up), Poll::Pending);
        assert!(copies.give_up("main", id));
        assert_eq!(poll!(&mut given_up), Poll::Ready(()));
        assert!(!copies.give_up("main", id));
    }

    #[tokio::test]
    async fn what_is_over_or_has_no_id_is_not_given_up() {
        let (copies, id) = (Copies::default(), Uuid::from_u128(1));
        let mut nameless = copies.begin("main", None).unwrap();
        let mut over = copies.begin("main", Some(id)).unwrap();
        let (mut first, mut second) = (pin!(nameless.given_up()), pin!(over.given_up()));
        drop(over);
        assert!(!copies.give_up("main", id));
        assert_eq!((poll!(&mut first), poll!(&mut second)), (Poll::Pending, Poll::Pending));
        copies.begin("main", Some(id)).unwrap();
    }
}

//! Delivery waits for the master key, and goes on by itself when it is there.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use super::{drain::Drain, rules::SLOW_RETRY};
use crate::{
    cipher::{KeyId, MasterKey},
    entry::KeyState,
    error::{Error, Result},
    keychain::KeyRecord,
    store::{Loaded, Store},
};

type Asking = Pin<Box<dyn Future<Output = Result<Arc<MasterKey>>> + Send>>;

/// Whether the key can be had, and when to ask again.
#[derive(Default)]
pub(super) struct KeyHold {
    asking: Option<Asking>,
    refused: Option<Refused>,
    /// A wake came while the question was open: its answer may be old.
    nudged: bool,
}

struct Refused {
    state: KeyState,
    level: u32,
    due: Duration,
}

impl KeyHold {
    /// Whether delivery has to wait for it now.
    pub(super) fn holds(&self, now: Duration) -> bool {
        self.asking.is_some() || self.refused.as_ref().is_some_and(|refused| refused.due > now)
    }

    pub(super) fn is_asking(&self) -> bool {
        self.asking.is_some()
    }

    pub(super) fn ask(&mut self, asking: Asking) {
        self.asking = Some(asking);
        self.nudged = false;
    }

    /// Never resolves when nothing was asked. Cancel-safe.
    pub(super) async fn answer(&mut self) -> Result<Arc<MasterKey>> {
        match &mut self.asking {
            Some(asking) => {
                let answer = asking.await;
                self.asking = None;
                answer
            }
            None => std::future::pending().await,
        }
    }

    /// How often in a row it was refused.
    pub(super) fn level(&self) -> u32 {
        self.refused.as_ref().map_or(0, |refused| refused.level + 1)
    }

    pub(super) fn granted(&mut self) {
        self.refused = None;
    }

    pub(super) fn refuse(&mut self, error: &Error, now: Duration, due: Duration) {
        let state = match error {
            Error::KeychainLocked | Error::Timeout(_) => KeyState::Locked,
            Error::KeyMissing => KeyState::Missing,
            Error::KeyMismatch => KeyState::Mismatch,
            _ => KeyState::Unavailable,
        };
        let due = if std::mem::take(&mut self.nudged) { now } else { due };
        self.refused = Some(Refused { state, level: self.level(), due });
    }

    /// Something outside changed: ask at the next look.
    pub(super) fn nudge(&mut self) {
        self.nudged = self.asking.is_some();
        if let Some(refused) = &mut self.refused {
            refused.due = Duration::ZERO;
        }
    }

    pub(super) fn state(&self) -> Option<KeyState> {
        self.refused.as_ref().map(|refused| refused.state)
    }

    pub(super) fn due(&self) -> Option<Duration> {
        self.refused.as_ref().filter(|_| self.asking.is_none()).map(|refused| refused.due)
    }
}

impl Drain {
    pub(super) fn ask_for_key(&mut self) {
        let (keys, store) = (self.parts.keys.clone(), self.parts.store.clone());
        let (account, wall) = (self.account.clone(), self.parts.clock.wall());
        self.key.ask(Box::pin(async move {
            let record = || async {
                let recorded = recorded(&store, &account).await?;
                // There was something to send when this was asked, and it is gone by now, with its account: no key is made for nobody. Nor is
                // one missing: whoever waits for this answer in order to enqueue makes the first.
                if recorded == KeyRecord::default() {
                    return Err(Error::SignedOut);
                }
                Ok(KeyRecord { encrypted_rows: true, ..recorded })
            };
            let keep = |id: KeyId| {
                let (store, account) = (store.clone(), account.clone());
                async move { store.keep_key(&account, id.0, wall).await }
            };
            keys.get(&account, record, keep).await
        }));
    }

    /// Whether one is wrapped under a key that is not known here: another process may have made it since, so the source is asked again: as
    /// often as such an entry is looked at again.
    pub(super) fn asks_for_a_key_of(&mut self, rows: &[Loaded]) -> bool {
        let keys = &self.parts.keys;
        if keys.cached(&self.account).is_none() {
            return false;
        }
        let now = self.now();
        let own = rows.iter().filter(|row| row.account == self.account);
        let unknown = own.map(|row| row.payload.key_id).filter(|id| keys.of_id(&self.account, id).is_none());
        let due = |id: &[u8; 16]| self.asked_for.get(id).is_none_or(|asked| *asked + SLOW_RETRY <= now);
        let due: Vec<_> = unknown.filter(due).collect();
        if due.is_empty() {
            return false;
        }
        self.asked_for.extend(due.into_iter().map(|id| (id, now)));
        let (keys, store, account) = (keys.clone(), self.parts.store.clone(), self.account.clone());
        self.key.ask(Box::pin(async move {
            // Without an answer delivery goes on with the key that there is.
            let refreshed = keys.refresh(&account, || recorded(&store, &account)).await;
            match keys.cached(&account) {
                Some(key) => Ok(key),
                None => Err(refreshed.err().unwrap_or(Error::KeychainLocked)),
            }
        }));
        true
    }

    pub(super) fn key_answered(&mut self, answer: Result<Arc<MasterKey>>) {
        match answer {
            Ok(_) => self.key.granted(),
            Err(error) => {
                let now = self.now();
                let due = self.rules.own(self.key.level(), now);
                tracing::warn!(%error, "delivery waits for the key");
                self.key.refuse(&error, now, due);
            }
        }
    }
}

/// What the database says of an account's key.
async fn recorded(store: &Store, account: &str) -> Result<KeyRecord> {
    let (id, encrypted_rows) = store.key_record(account).await?;
    Ok(KeyRecord { id: id.map(KeyId), encrypted_rows })
}

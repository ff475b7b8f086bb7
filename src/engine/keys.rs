//! Delivery waits for the master key, and goes on by itself when it is there.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use crate::{
    cipher::MasterKey,
    entry::KeyState,
    error::{Error, Result},
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

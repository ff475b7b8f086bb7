//! What outbox, triggers and engine share: a signal that something may be deliverable now.

pub(crate) mod file;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, watch};

/// Why the engine should look. A wake is a hint: waking for nothing costs a look, missing one costs a slow retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Wake {
    /// Entries were enqueued: look for new ones, keep every backoff.
    Enqueued,
    /// Rows changed under the engine (`discard`, another account, another base URL): read them anew.
    Changed,
    /// `retry()`: read the rows anew and clear our own backoff.
    Retry,
    /// Another process on the same database wrote: read the rows anew.
    Others,
    /// A window got the focus: clear our own backoff.
    Focus,
    /// The network changed: clear our own backoff.
    Network,
    /// The machine woke from sleep: clear our own backoff.
    Resume,
    /// `flush()`: clear our own backoff.
    Flush,
    /// New credentials came: what waits for `auth` may go.
    Credentials,
    /// The keychain may have been unlocked: ask it again.
    Keychain,
    /// `pause()` or `resume()` was called.
    Paused,
    /// The app is about to exit.
    Exit,
}

impl Wake {
    fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// The sending side and the receiving side in one; clones share it. Any number of wakes between two looks are one look.
#[derive(Debug, Clone, Default)]
pub struct WakeSignal {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<u32>,
    notify: Notify,
    keychain: watch::Sender<u64>,
}

/// The wakes that came since the last look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wakes(u32);

impl Wakes {
    /// This one and no other.
    pub fn of(wake: Wake) -> Self {
        Self(wake.bit())
    }

    /// Whether this one was among them.
    pub fn has(self, wake: Wake) -> bool {
        self.0 & wake.bit() != 0
    }

    /// Whether the world outside may have changed, so that our own backoff is worth nothing.
    pub fn clears_backoff(self) -> bool {
        [Wake::Focus, Wake::Network, Wake::Resume, Wake::Flush, Wake::Retry].into_iter().any(|wake| self.has(wake))
    }
}

impl WakeSignal {
    /// Never blocks, never fails, may be called from anywhere.
    pub fn wake(&self, wake: Wake) {
        if wake == Wake::Keychain {
            self.shared.keychain.send_modify(|times| *times += 1);
        }
        *self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner) |= wake.bit();
        self.shared.notify.notify_one();
    }

    /// Rises with every [`Wake::Keychain`], for whoever waits for the keychain beside the one who takes the wakes.
    pub fn keychain(&self) -> watch::Receiver<u64> {
        self.shared.keychain.subscribe()
    }

    /// Whether nothing has come since the last look.
    pub fn is_quiet(&self) -> bool {
        *self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner) == 0
    }

    /// Takes what has come, without waiting.
    pub fn take(&self) -> Wakes {
        Wakes(std::mem::take(&mut *self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Waits until something has come, and takes it. Cancel-safe.
    pub async fn wait(&self) -> Wakes {
        loop {
            let wakes = self.take();
            if wakes != Wakes::default() {
                return wakes;
            }
            self.shared.notify.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn many_wakes_between_two_looks_are_one_look() {
        let signal = WakeSignal::default();
        signal.wake(Wake::Enqueued);
        signal.clone().wake(Wake::Focus);
        signal.wake(Wake::Enqueued);
        let wakes = signal.wait().await;
        assert!(wakes.has(Wake::Enqueued) && wakes.has(Wake::Focus) && !wakes.has(Wake::Flush));
        assert!(wakes.clears_backoff());
        assert_eq!(signal.take(), Wakes::default());
    }

    #[tokio::test]
    async fn a_wake_before_the_wait_is_not_lost() {
        let signal = WakeSignal::default();
        let waiter = signal.clone();
        let task = tokio::spawn(async move { waiter.wait().await });
        signal.wake(Wake::Network);
        assert!(task.await.unwrap().has(Wake::Network));
    }
}

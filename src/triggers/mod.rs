//! What may make delivery possible now, and tells the engine so.
//!
//! Each trigger only signals: a wake for nothing costs a look, and a missed one costs a slow retry. A machine that lacks the
//! source of one goes without it. Window focus comes from `lib`, which alone knows windows.

pub mod folders;
pub mod keychain;
mod network;
mod power;

use std::{fmt, sync::Mutex};

use tokio::{sync::watch, task::JoinHandle};

use crate::wake::WakeSignal;

/// The triggers that run; dropping it ends them.
pub struct Triggers {
    tasks: Vec<JoinHandle<()>>,
    /// In a mutex only to be shareable between threads on every system; nobody locks it.
    _network: Mutex<Option<network::Watch>>,
}

impl Triggers {
    /// Starts all of them. Never fails: what cannot be watched on this machine is logged and left out.
    ///
    /// `key` changes when the app's own key source may answer. Call it inside a tokio runtime.
    pub fn start(wake: WakeSignal, key: Option<watch::Receiver<u64>>) -> Self {
        let mut tasks = vec![tokio::spawn(power::watch(wake.clone())), keychain::spawn(wake.clone())];
        tasks.extend(key.map(|key| tokio::spawn(keychain::told(wake.clone(), key))));
        Self { tasks, _network: Mutex::new(network::watch(wake)) }
    }
}

impl Drop for Triggers {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl fmt::Debug for Triggers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Triggers").finish_non_exhaustive()
    }
}

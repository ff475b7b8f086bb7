//! The world behind its lock, and a bell that rings when it changes.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::{content::Bodies, world::World};

/// The world behind its lock. The lock is never held across an await.
pub(crate) struct Shared {
    world: Mutex<World>,
    changed: watch::Sender<u64>,
    bodies: Arc<Bodies>,
}

impl Shared {
    pub(crate) fn new(world: World) -> Self {
        Self { bodies: world.bodies.clone(), world: Mutex::new(world), changed: watch::Sender::new(0) }
    }

    /// Where contents are that do not fit in memory.
    pub(crate) fn bodies(&self) -> &Path {
        self.bodies.folder()
    }

    /// A panic in a caller's closure leaves the books in order, so a poisoned lock is taken all the same.
    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn read<T>(&self, look: impl FnOnce(&World) -> T) -> T {
        look(&self.lock())
    }

    /// Changes the world and rings the bell.
    pub(crate) fn write<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.send_modify(|version| *version += 1);
        result
    }

    /// The bell. Subscribe first, look second.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

//! Going back to an older state, as a server does that is restored from a backup.

use std::{collections::HashMap, io};

use crate::{idempotency::Store, things::Collection, world::World};

/// What a server would have in its backup: things, tombstones, and the answers that it keeps for idempotency keys.
pub(crate) struct Snapshot {
    collections: HashMap<String, Collection>,
    keys: Store,
    /// How long the journal was.
    journal: u64,
}

impl World {
    /// Remembers the state as it is now; answers its number, from 1.
    pub(crate) fn take_snapshot(&mut self) -> io::Result<u64> {
        let journal = self.journal.as_ref().map_or(Ok(0), |journal| journal.length())?;
        let snapshot = Snapshot { collections: self.collections.clone(), keys: self.keys.finished(), journal };
        self.snapshots.push(snapshot);
        Ok(self.snapshots.len() as u64)
    }

    /// Goes back to that state, on disk too, and forgets the states after it. What was applied meanwhile stays in the books: it did
    /// happen. Answers whether there is such a state.
    pub(crate) fn roll_back(&mut self, snapshot: u64) -> io::Result<bool> {
        let Some(index) = snapshot.checked_sub(1).and_then(|index| usize::try_from(index).ok()) else {
            return Ok(false);
        };
        let Some(wanted) = self.snapshots.get(index) else { return Ok(false) };
        if let Some(journal) = &mut self.journal {
            journal.cut(wanted.journal)?;
        }
        self.collections = wanted.collections.clone();
        self.keys.restore(wanted.keys.finished());
        self.snapshots.truncate(index + 1);
        Ok(true)
    }
}

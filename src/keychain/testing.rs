//! A key source in memory, for tests.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use zeroize::Zeroizing;

use super::{KeySource, SourceError};

/// Keeps keys in memory and behaves as it is told; clones share.
#[derive(Clone, Default)]
pub struct MemoryKeys {
    shared: Arc<(Mutex<Inner>, Condvar)>,
}

/// How [`MemoryKeys`] answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mood {
    /// Answers.
    #[default]
    Open,
    /// Answers [`SourceError::Locked`].
    Locked,
    /// Answers [`SourceError::Unavailable`].
    Unavailable,
    /// Blocks until the mood changes, as a prompt that nobody answers does.
    Hanging,
    /// Answers loads, and blocks at a store.
    HangingAtStore,
}

#[derive(Default)]
struct Inner {
    mood: Mood,
    keys: HashMap<String, Zeroizing<Vec<u8>>>,
    loads: usize,
    stores: usize,
    forgets: usize,
}

impl MemoryKeys {
    /// Open and empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes how it answers, also those that hang.
    pub fn set(&self, mood: Mood) {
        self.lock().mood = mood;
        self.shared.1.notify_all();
    }

    /// What is kept for the account.
    pub fn key(&self, account: &str) -> Option<Vec<u8>> {
        self.lock().keys.get(account).map(|key| key.to_vec())
    }

    /// Puts something in, or takes it out.
    pub fn put(&self, account: &str, key: Option<Vec<u8>>) {
        let mut inner = self.lock();
        match key {
            Some(key) => inner.keys.insert(account.to_owned(), Zeroizing::new(key)),
            None => inner.keys.remove(account),
        };
    }

    /// How often it was asked to load.
    pub fn loads(&self) -> usize {
        self.lock().loads
    }

    /// How often it was asked to store.
    pub fn stores(&self) -> usize {
        self.lock().stores
    }

    /// How often it was asked to forget.
    pub fn forgets(&self) -> usize {
        self.lock().forgets
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn behave<'a>(&self, inner: MutexGuard<'a, Inner>, hang: &[Mood]) -> Result<MutexGuard<'a, Inner>, SourceError> {
        let inner = self.shared.1.wait_while(inner, |inner| hang.contains(&inner.mood));
        let inner = inner.unwrap_or_else(PoisonError::into_inner);
        match inner.mood {
            Mood::Locked => Err(SourceError::Locked("told to be".into())),
            Mood::Unavailable => Err(SourceError::Unavailable("told to be".into())),
            _ => Ok(inner),
        }
    }
}

impl KeySource for MemoryKeys {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn load(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SourceError> {
        let mut inner = self.lock();
        inner.loads += 1;
        Ok(self.behave(inner, &[Mood::Hanging])?.keys.get(account).cloned())
    }

    fn store(&self, account: &str, key: &[u8]) -> Result<(), SourceError> {
        let mut inner = self.lock();
        inner.stores += 1;
        let mut inner = self.behave(inner, &[Mood::Hanging, Mood::HangingAtStore])?;
        inner.keys.insert(account.to_owned(), Zeroizing::new(key.to_vec()));
        Ok(())
    }

    fn forget(&self, account: &str) -> Result<(), SourceError> {
        let mut inner = self.lock();
        inner.forgets += 1;
        self.behave(inner, &[Mood::Hanging, Mood::HangingAtStore])?.keys.remove(account);
        Ok(())
    }
}

//! "Save this, and get it to the server when you can."

use std::{collections::HashMap, sync::Arc};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    Outbox, Parts,
    payload::{EnqueueOptions, NewItem, Payload},
    relations, seal, validate,
};
use crate::{
    cipher::{Binding, FileRecord, MasterKey},
    config::{Body, Endpoint},
    entry::{Action, Receipt},
    error::{Error, Result},
    keychain::Keys,
    store::{Existing, Inserted, NewEntry, NewFile, Parent},
    wake::Wake,
};

/// How many entries one call may enqueue.
const ITEMS: usize = 1000;

/// An item that was looked at, under the id that it will have.
pub(super) struct Checked<'s> {
    id: Uuid,
    item: NewItem,
    parents: Vec<Parent>,
    endpoint: &'s Endpoint,
}

impl Outbox {
    /// Puts one entry on disk, encrypted, and answers its receipt: from then on it survives a crash and a power cut,
    /// and is delivered as soon as that is possible. Never waits for the network.
    ///
    /// Enqueueing the same under the same [`EnqueueOptions::id`] once more answers the first receipt and writes nothing,
    /// so a caller that does not know whether the first call got through simply repeats it.
    ///
    /// A future that is dropped before it answers may or may not have enqueued the entry.
    ///
    /// # Errors
    ///
    /// Nothing was written when it answers one. `unknown_kind`, `invalid_argument`, `payload_too_large`: what was given
    /// cannot be sent, or what it names as coming before it is not there. `id_conflict`: the id names other content.
    /// `quota_reached`, `disk_full`: there is no room. `keychain_locked`, `keychain_unavailable`, `key_missing`,
    /// `key_mismatch`: there is no key to encrypt it with.
    pub async fn enqueue(&self, kind: &str, payload: Payload, options: EnqueueOptions) -> Result<Receipt> {
        let checked = self.checked(NewItem::new(kind, payload, options))?;
        let account = self.account().await?;
        self.check_references(&account, needed(&checked.parents)).await?;
        self.insert(&account, std::slice::from_ref(&checked)).await?;
        Ok(checked.receipt())
    }

    /// Puts several entries on disk in one commit, in this order: all of them, or none. Answers their receipts in the
    /// same order. An item may refer to one before it by the id that the caller has given that one.
    ///
    /// What has an id and was enqueued before, in whichever call, is not enqueued again, as in [`Outbox::enqueue`].
    ///
    /// # Errors
    ///
    /// As [`Outbox::enqueue`]; what is wrong with one item is said with its place, such as `entries[1]`.
    /// `invalid_argument` also for more than 1000 items, for an id that stands twice, and for an item that refers to a
    /// later one.
    pub async fn enqueue_all(&self, items: Vec<NewItem>) -> Result<Vec<Receipt>> {
        if items.len() > ITEMS {
            return Err(Error::argument(format!(
                "`entries` has {} entries and may have {ITEMS}: call more than once",
                items.len()
            )));
        }
        let at = |place: usize| move |error| placed(place, error);
        let checked = items.into_iter().enumerate();
        let checked = checked.map(|(place, item)| self.checked(item).map_err(at(place)));
        let checked: Vec<Checked<'_>> = checked.collect::<Result<_>>()?;
        if checked.is_empty() {
            return Ok(Vec::new());
        }
        let account = self.account().await?;
        let places = places(&checked)?;
        for (place, item) in checked.iter().enumerate() {
            self.check_parents(&account, item, place, &places, &checked).await.map_err(at(place))?;
        }
        self.insert(&account, &checked).await?;
        Ok(checked.iter().map(Checked::receipt).collect())
    }

    /// Everything that can be known of it without the store.
    pub(super) fn checked(&self, item: NewItem) -> Result<Checked<'_>> {
        let NewItem { kind, payload, options } = &item;
        let id = options.id.unwrap_or_else(Uuid::now_v7);
        let endpoint = validate::entry(&self.parts().settings, kind, id, payload, options)?;
        let parents = relations::parents(id, payload, options)?;
        Ok(Checked { id, parents, endpoint, item })
    }

    /// What comes before an item of a batch stands before it there, or is in the queue.
    async fn check_parents(
        &self,
        account: &str,
        item: &Checked<'_>,
        place: usize,
        places: &HashMap<Uuid, usize>,
        batch: &[Checked<'_>],
    ) -> Result<()> {
        let mut elsewhere = Vec::new();
        for parent in &item.parents {
            match places.get(&parent.id) {
                None => elsewhere.push(*parent),
                Some(before) if *before >= place => {
                    return Err(Error::argument(format!(
                        "it names entry {} as coming before it, which is entries[{before}] of the same call: put that one first",
                        parent.id
                    )));
                }
                Some(before) if parent.needs_id => {
                    let NewItem { kind, options, .. } = &batch[*before].item;
                    self.gives_id(kind, options.action, false, parent.id)?;
                }
                Some(_) => {}
            }
        }
        self.check_references(account, needed(&elsewhere)).await
    }

    /// All of them in one commit, but those that are there already.
    async fn insert(&self, account: &Arc<str>, items: &[Checked<'_>]) -> Result<()> {
        let Parts { store, settings, keys, .. } = self.parts();
        let (mut master, mut again) = (self.master_key(account).await?, false);
        // With one id at hand all are looked for: an entry of this very call may have been taken already, when a commit had to be
        // repeated.
        let chosen = items.iter().any(|checked| checked.item.options.id.is_some());
        let mut left: Vec<&Checked<'_>> = items.iter().collect();
        while !left.is_empty() {
            let entries = left.iter().map(|checked| checked.sealed(&master, account, chosen)).collect();
            let answers = match store.enqueue(entries, settings.limits.entries, self.now()).await {
                // Another process has begun the queue anew, or signed the account out: its key is worth nothing here either.
                Err(Error::SignedOut) if !again => {
                    (again, master) = (true, self.other_master_key(account).await?);
                    continue;
                }
                answers => answers?,
            };
            if answers.iter().all(|answer| matches!(answer, Inserted::New)) {
                self.wake(Wake::Enqueued).await;
                break;
            }
            // Nothing was taken: first those that are there must be the same.
            let mut fresh = Vec::new();
            for (checked, answer) in left.into_iter().zip(answers) {
                match answer {
                    Inserted::New => fresh.push(checked),
                    Inserted::Exists(existing) => {
                        if *existing.account == **account {
                            drop(self.key_of(account, &existing.key_id).await?);
                        }
                        same(keys, &existing, account, checked)?;
                    }
                }
            }
            left = fresh;
        }
        Ok(())
    }
}

impl Checked<'_> {
    fn receipt(&self) -> Receipt {
        let NewItem { kind, options, .. } = &self.item;
        Receipt { id: self.id, kind: kind.clone(), key: options.key.clone() }
    }

    pub(super) fn sealed(&self, master: &MasterKey, account: &str, chosen_id: bool) -> NewEntry {
        let Self { id, parents, endpoint, item: NewItem { kind, payload, options } } = self;
        let binding = Binding {
            account,
            id: *id,
            kind,
            key: options.key.as_deref(),
            content_type: payload.content_type(),
            generation: seal::FIRST_GENERATION,
        };
        let file = self.file();
        let (sealed, described) = match &file {
            Some(record) => seal::seal_file(master, &binding, record, Some(payload.as_bytes()), options),
            None => (seal::seal(master, &binding, payload, options), None),
        };
        NewEntry {
            id: *id,
            account: account.to_owned(),
            kind: kind.clone(),
            key: options.key.clone(),
            queue: options.queue.unwrap_or(endpoint.queue),
            content_type: payload.content_type().to_owned(),
            bytes: payload.as_bytes().len() as u64,
            payload: sealed,
            chosen_id,
            action: options.action,
            payload_version: endpoint.payload_version,
            annihilates: options.action == Some(Action::Delete) && endpoint.creates(),
            parents: parents.clone(),
            file: file.map(|_| NewFile { spool: None, sealed: described }),
            watched: None,
        }
    }

    /// Bytes for an endpoint that takes nothing but files are one without a name.
    fn file(&self) -> Option<FileRecord> {
        let payload = &self.item.payload;
        let takes_files = matches!(self.endpoint.body, Body::Multipart | Body::Tus);
        (takes_files && matches!(payload, Payload::Bytes { .. })).then(|| FileRecord {
            name: None,
            length: payload.as_bytes().len() as u64,
            sha256: Sha256::digest(payload.as_bytes()).into(),
            metadata: Vec::new(),
            spooled: None,
        })
    }
}

fn content<'c>(file: Option<&'c FileRecord>, payload: &'c Payload) -> seal::Content<'c> {
    file.map_or(seal::Content::Payload(payload), seal::Content::File)
}

fn needed(parents: &[Parent]) -> impl Iterator<Item = Uuid> + '_ {
    parents.iter().filter(|parent| parent.needs_id).map(|parent| parent.id)
}

/// Where each id stands.
fn places(batch: &[Checked<'_>]) -> Result<HashMap<Uuid, usize>> {
    let mut places = HashMap::new();
    for (place, checked) in batch.iter().enumerate() {
        if let Some(before) = places.insert(checked.id, place) {
            let message = format!("has the same `id` as entries[{before}]: an id names one entry");
            return Err(placed(place, Error::argument(message)));
        }
    }
    Ok(places)
}

/// What is wrong with one entry of several.
fn placed(place: usize, error: Error) -> Error {
    match error {
        Error::InvalidArgument(message) => Error::InvalidArgument(format!("entries[{place}]: {message}")),
        Error::UnknownKind(message) => Error::UnknownKind(format!("entries[{place}]: {message}")),
        other => other,
    }
}

/// Refuses another mutation under an id that is taken.
fn same(keys: &Keys, existing: &Existing, account: &str, checked: &Checked<'_>) -> Result<()> {
    let NewItem { kind, payload, options } = &checked.item;
    let file = checked.file();
    let named = (account, kind.as_str(), payload.content_type());
    if seal::is_same(keys, existing, named, &content(file.as_ref(), payload), options)? {
        return Ok(());
    }
    Err(Error::IdConflict(checked.id))
}

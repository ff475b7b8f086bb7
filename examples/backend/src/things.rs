//! The things of the collections, as they are now, and what is remembered of those that are gone.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::content::Content;

/// How every id begins that this backend gives.
const PREFIX: &str = "srv-";

/// A new id.
pub(crate) fn new_id() -> String {
    format!("{PREFIX}{}", Uuid::now_v7().simple())
}

/// Whether a name in a path is an id that a backend gave, rather than a key that a client chose. Such an id names one thing for ever:
/// a write never makes it anew.
pub(crate) fn is_given(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// One write that was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Mutation {
    /// Counts mutations from 1, in the order in which they were applied, over restarts too.
    pub number: u64,
    /// The request that it came with; counts from 1 in each process. 0 for one that was [made by hand](crate::Edit).
    pub request: u64,
    /// The method, in capitals.
    pub method: String,
    /// The collection, such as `listings` or `listings/42/notes`.
    pub collection: String,
    /// The canonical id.
    pub id: String,
    /// The key in the path, if there was one.
    pub key: Option<String>,
    /// `Idempotency-Key` without its quotes.
    pub idempotency_key: Option<String>,
    /// `Sync-Key` as sent.
    pub sync_key: Option<String>,
    /// `Sync-Revision`, or one more than the stored one where that was not sent.
    pub revision: u64,
    /// `Sync-Device` as sent.
    pub device: Option<String>,
    /// Who sent it, as in [`Seen::user`](crate::Seen::user).
    pub user: Option<String>,
    /// The media type of the body.
    pub content_type: String,
    /// Size of the body.
    pub bytes: u64,
    /// SHA-256 of the body in hexadecimal.
    pub sha256: String,
    /// What the file is called that came, by a form or by tus. Then media type, size and hash are the file's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What was told beside the file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
}

/// A thing that the backend holds, as it is now.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Resource {
    /// The id that the backend gave it.
    pub id: String,
    /// The key that a client chose, if it did.
    pub key: Option<String>,
    /// How often it was written.
    pub writes: u64,
    /// The strong entity tag, with its quotes.
    pub etag: String,
    /// The content, if it is at most 1 MiB; empty otherwise.
    pub body: Bytes,
    /// Where the content is, if it is larger.
    pub file: Option<PathBuf>,
    pub(crate) content: Content,
    /// The write that made it.
    pub first: Arc<Mutation>,
    /// The write that made it what it is.
    pub last: Arc<Mutation>,
}

/// What is remembered of a thing that was deleted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Tombstone {
    /// The id that it had. It is never given again.
    pub id: String,
    /// The key that a client had chosen, if it did. That one may come back, as another thing.
    pub key: Option<String>,
    /// The write that deleted it.
    pub last: Arc<Mutation>,
}

/// The things of one collection.
#[derive(Default, Clone)]
pub(crate) struct Collection {
    things: BTreeMap<String, Resource>,
    tombstones: BTreeMap<String, Tombstone>,
    /// What is called by a client's key: ids of things and, where there is none, of tombstones.
    by_key: HashMap<String, String>,
    /// The same by the `Sync-Key` that a thing was made with.
    by_sync_key: HashMap<String, String>,
}

impl Collection {
    /// What there is, by id.
    pub(crate) fn things(&self) -> impl Iterator<Item = &Resource> {
        self.things.values()
    }

    /// A thing by its id, or by the key that a client chose.
    pub(crate) fn thing(&self, name: &str) -> Option<&Resource> {
        self.things.get(self.id(name))
    }

    /// The tombstone of what was called so last.
    pub(crate) fn tombstone(&self, name: &str) -> Option<&Tombstone> {
        self.tombstones.get(self.id(name))
    }

    fn id<'a>(&'a self, name: &'a str) -> &'a str {
        self.by_key.get(name).map_or(name, String::as_str)
    }

    /// The id that goes with a `Sync-Key`, of a thing or of a tombstone.
    pub(crate) fn id_of_sync_key(&self, sync_key: &str) -> Option<&str> {
        self.by_sync_key.get(sync_key).map(String::as_str)
    }

    /// The thing that a request with that idempotency key made. Looks at every thing: only asked where no answers are kept.
    pub(crate) fn made_by(&self, idempotency_key: &str) -> Option<&Resource> {
        let made_it = |thing: &&Resource| thing.first.idempotency_key.as_deref() == Some(idempotency_key);
        self.things.values().find(made_it)
    }

    /// Does what a mutation says.
    pub(crate) fn apply(&mut self, mutation: &Mutation, content: Content) {
        let last = Arc::new(mutation.clone());
        let old = self.things.remove(&mutation.id);
        if mutation.method == "DELETE" {
            let key = old.and_then(|old| old.key);
            self.tombstones.insert(mutation.id.clone(), Tombstone { id: mutation.id.clone(), key, last });
            return;
        }
        let chosen = mutation.key.as_ref().filter(|key| **key != mutation.id);
        let key = old.as_ref().and_then(|old| old.key.clone()).or_else(|| chosen.cloned());
        if old.is_none() {
            let names = [(&mut self.by_key, &key), (&mut self.by_sync_key, &mutation.sync_key)];
            for (ids, name) in names {
                name.iter().for_each(|name| drop(ids.insert(name.clone(), mutation.id.clone())));
            }
        }
        let thing = Resource {
            id: mutation.id.clone(),
            key,
            writes: old.as_ref().map_or(1, |old| old.writes + 1),
            etag: format!("\"{}-{}\"", mutation.revision, &mutation.sha256[..16.min(mutation.sha256.len())]),
            body: content.bytes(),
            file: content.file().map(Path::to_owned),
            content,
            first: old.map_or_else(|| last.clone(), |old| old.first),
            last,
        };
        self.things.insert(mutation.id.clone(), thing);
    }
}

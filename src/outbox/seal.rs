//! Where plaintext becomes ciphertext, and back: master keys, records, digests.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{
    Outbox, Parts,
    payload::{EnqueueOptions, Payload},
};
use crate::{
    cipher::{Binding, DataKey, FileRecord, KeyId, MasterKey, Part},
    entry::KeyState,
    error::{Error, Result},
    keychain::{KeyRecord, Keys},
    store::{Existing, SealedPayload},
    wake::Wake,
};

/// The generation of a payload as it was enqueued.
pub(super) const FIRST_GENERATION: u32 = 1;

impl Outbox {
    /// The account's master key: from memory when it is there, else from its source, which may ask the user.
    pub(super) async fn master_key(&self, account: &str) -> Result<Arc<MasterKey>> {
        let Parts { store, keys, .. } = self.parts();
        if let Some(key) = keys.cached(account) {
            if keys.is_to_be_taken_up(account) {
                // The engine had it from the source.
                self.take_up_rotation(account);
            }
            return Ok(key);
        }
        if store.is_leaving(account).await? {
            // Signed out before, and back: nothing may be sealed under a key that is to be destroyed.
            self.finish_leaving(account).await?;
        }
        let before = keys.state(account).state;
        let keep = |id: KeyId| store.keep_key(account, id.0, self.now());
        let key = keys.get(account, || self.key_record(account), keep).await;
        let after = keys.state(account).state;
        if key.is_ok() && keys.is_to_be_taken_up(account) {
            self.take_up_rotation(account);
        }
        if before != after {
            self.status_changed();
            if after == KeyState::Ready && before != KeyState::Unused {
                // The engine waits for just this.
                self.parts().wake.wake(Wake::Keychain);
            }
        }
        key
    }

    /// The master key of that id: the current one, one that a rotation has not done with, or one that another process has made since.
    pub(super) async fn key_of(&self, account: &str, id: &[u8; 16]) -> Result<Arc<MasterKey>> {
        let keys = &self.parts().keys;
        drop(self.master_key(account).await?);
        if let Some(key) = keys.of_id(account, id) {
            return Ok(key);
        }
        keys.refresh(account, || self.key_record(account)).await?;
        keys.of_id(account, id).ok_or(Error::KeyMismatch)
    }

    /// What the database says of the account's key.
    pub(super) async fn key_record(&self, account: &str) -> Result<KeyRecord> {
        let (id, encrypted_rows) = self.parts().store.key_record(account).await?;
        Ok(KeyRecord { id: id.map(KeyId), encrypted_rows })
    }

    /// The key in place of one that is gone, if the account is still the current one.
    pub(super) async fn other_master_key(&self, account: &str) -> Result<Arc<MasterKey>> {
        let Parts { store, keys, .. } = self.parts();
        if store.account().await? != account || *self.account().await? != *account {
            return Err(Error::SignedOut);
        }
        keys.forget_account(account);
        self.master_key(account).await
    }
}

/// Seals everything of a new entry under a data key of its own.
pub(super) fn seal(
    master: &MasterKey,
    binding: &Binding<'_>,
    payload: &Payload,
    options: &EnqueueOptions,
) -> SealedPayload {
    let (data, wrapped_key) = master.new_data_key(binding);
    SealedPayload {
        generation: binding.generation,
        key_id: master.id().0,
        wrapped_key,
        body: data.seal(Part::Payload, binding, payload.as_bytes()),
        params: encode(&options.params).map(|params| data.seal(Part::Params, binding, &params)),
        digest: data.seal(Part::Digest, binding, &digest(binding, &Content::Payload(payload), options)),
    }
}

/// Seals everything of a new file under a data key of its own: what goes into the payload's row, and, of a file that is the body itself, its
/// description.
pub(super) fn seal_file(
    master: &MasterKey,
    binding: &Binding<'_>,
    record: &FileRecord,
    body: Option<&[u8]>,
    options: &EnqueueOptions,
) -> (SealedPayload, Option<Vec<u8>>) {
    let (data, wrapped_key) = master.new_data_key(binding);
    let described = data.seal(Part::File, binding, &record.encode());
    let (body, described) = match body {
        Some(body) => (data.seal(Part::Payload, binding, body), Some(described)),
        None => (described, None),
    };
    let payload = SealedPayload {
        generation: binding.generation,
        key_id: master.id().0,
        wrapped_key,
        body,
        params: encode(&options.params).map(|params| data.seal(Part::Params, binding, &params)),
        digest: data.seal(Part::Digest, binding, &digest(binding, &Content::File(record), options)),
    };
    (payload, described)
}

/// Opens what describes a file.
pub(super) fn open_record(
    master: &MasterKey,
    binding: &Binding<'_>,
    wrapped_key: &[u8],
    sealed: &[u8],
) -> Result<FileRecord> {
    let open = |data: DataKey| data.open(Part::File, binding, sealed);
    let plain = master.unwrap(wrapped_key, binding).and_then(open);
    plain.ok().and_then(|plain| FileRecord::decode(&plain)).ok_or(Error::Undecryptable(binding.id))
}

/// Seals another payload in place of the one that was there, under a data key of its own. The params stay, and the digest stays that
/// of what was enqueued, so that the same under the same id is still known again. `old` and `new` are one entry at two generations.
pub(super) fn reseal(
    (before, master): (&MasterKey, &MasterKey),
    old: &Binding<'_>,
    new: &Binding<'_>,
    sealed: &SealedPayload,
    payload: &Payload,
) -> Result<SealedPayload> {
    let damaged = |_| Error::Undecryptable(old.id);
    let before = before.unwrap(&sealed.wrapped_key, old).map_err(damaged)?;
    let (data, wrapped_key) = master.new_data_key(new);
    let again = |part: Part, sealed: &Vec<u8>| {
        let plain = before.open(part, old, sealed).map_err(damaged)?;
        Ok::<_, Error>(data.seal(part, new, &plain))
    };
    Ok(SealedPayload {
        generation: new.generation,
        key_id: master.id().0,
        wrapped_key,
        body: data.seal(Part::Payload, new, payload.as_bytes()),
        params: sealed.params.as_ref().map(|params| again(Part::Params, params)).transpose()?,
        digest: again(Part::Digest, &sealed.digest)?,
    })
}

/// The params of an entry.
pub(super) fn params(
    master: &MasterKey,
    binding: &Binding<'_>,
    sealed: &SealedPayload,
) -> Result<BTreeMap<String, String>> {
    let Some(params) = &sealed.params else { return Ok(BTreeMap::new()) };
    let open = |data: DataKey| data.open(Part::Params, binding, params);
    let plain = master.unwrap(&sealed.wrapped_key, binding).and_then(open);
    let params = plain.ok().and_then(|plain| serde_json::from_slice(&plain).ok());
    params.ok_or(Error::Undecryptable(binding.id))
}

/// Whether the entry on disk is the one that is enqueued once more.
pub(super) fn is_same(
    keys: &Keys,
    existing: &Existing,
    (account, kind, content_type): (&str, &str, &str),
    content: &Content<'_>,
    options: &EnqueueOptions,
) -> Result<bool> {
    if existing.account != account || existing.kind != kind || existing.key != options.key {
        return Ok(false);
    }
    let binding = Binding {
        account: &existing.account,
        id: existing.id,
        kind: &existing.kind,
        key: existing.key.as_deref(),
        content_type: &existing.content_type,
        generation: existing.generation,
    };
    let damaged = |_| Error::Undecryptable(existing.id);
    let master = keys.of_id(&existing.account, &existing.key_id).ok_or(Error::KeyMismatch)?;
    let data = master.unwrap(&existing.wrapped_key, &binding).map_err(damaged)?;
    let known = data.open(Part::Digest, &binding, &existing.digest).map_err(damaged)?;
    Ok(known.as_slice() == digest(&Binding { content_type, ..binding }, content, options))
}

/// Opens a payload.
pub(super) fn open(master: &MasterKey, binding: &Binding<'_>, sealed: &SealedPayload) -> Result<Zeroizing<Vec<u8>>> {
    let open = |data: DataKey| data.open(Part::Payload, binding, &sealed.body);
    master.unwrap(&sealed.wrapped_key, binding).and_then(open).map_err(|_| Error::Undecryptable(binding.id))
}

/// Params as they are sealed: a JSON object of strings. None when there are none.
fn encode(params: &BTreeMap<String, String>) -> Option<Zeroizing<Vec<u8>>> {
    if params.is_empty() {
        return None;
    }
    let text = serde_json::to_vec(params).expect("a map of strings always is a JSON object");
    Some(Zeroizing::new(text))
}

/// What an entry carries, as far as its digest is concerned.
pub(super) enum Content<'c> {
    Payload(&'c Payload),
    File(&'c FileRecord),
}

/// What makes two enqueues of one id the same: kind, key, content type, queue as the caller said it, params, payload or file; action and
/// `after` where they were said, in whatever order. Every part carries its length, so that no two sequences of parts are the same bytes.
fn digest(binding: &Binding<'_>, content: &Content<'_>, options: &EnqueueOptions) -> [u8; 32] {
    let mut hash = Canonical(Sha256::new());
    hash.part(match content {
        Content::Payload(_) => b"storage-sync entry 1".as_slice(),
        Content::File(_) => b"storage-sync file 1",
    });
    hash.part(binding.kind.as_bytes());
    hash.maybe(binding.key.map(str::as_bytes));
    hash.part(binding.content_type.as_bytes());
    hash.maybe(options.queue.map(|queue| queue.as_str().as_bytes()));
    hash.length(options.params.len());
    for (name, value) in &options.params {
        hash.part(name.as_bytes());
        hash.part(value.as_bytes());
    }
    match content {
        Content::Payload(payload) => hash.part(payload.as_bytes()),
        Content::File(FileRecord { name, length, sha256, metadata, .. }) => {
            hash.maybe(name.as_deref().map(str::as_bytes));
            hash.part(&length.to_be_bytes());
            hash.part(sha256);
            hash.length(metadata.len());
            for (name, value) in metadata {
                hash.part(name.as_bytes());
                hash.part(value.as_bytes());
            }
        }
    }
    if options.action.is_some() || !options.after.is_empty() {
        hash.maybe(options.action.map(|action| action.as_str().as_bytes()));
        let after: BTreeSet<_> = options.after.iter().collect();
        hash.length(after.len());
        after.into_iter().for_each(|id| hash.part(id.as_bytes()));
    }
    hash.0.finalize().into()
}

struct Canonical(Sha256);

impl Canonical {
    fn length(&mut self, length: usize) {
        self.0.update((length as u64).to_be_bytes());
    }

    fn part(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.0.update(bytes);
    }

    fn maybe(&mut self, bytes: Option<&[u8]>) {
        self.length(usize::from(bytes.is_some()));
        self.part(bytes.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    use crate::entry::{Action, Queue};

    /// A digest as of an entry without a key, changed in one thing.
    fn of(kind: &str, key: Option<&str>, body: &str, content_type: &str, options: EnqueueOptions) -> [u8; 32] {
        let binding = Binding { account: "", id: Uuid::nil(), kind, key, content_type, generation: FIRST_GENERATION };
        digest(&binding, &Content::Payload(&Payload::bytes(body, content_type)), &options)
    }

    /// A digest as of a file without a key.
    fn file(name: Option<&str>, length: u64, sha256: [u8; 32]) -> [u8; 32] {
        let binding =
            Binding { account: "", id: Uuid::nil(), kind: "form", key: Some("a"), content_type: "t/t", generation: 1 };
        let metadata = name.filter(|name| *name == "y").map(|_| ("a".to_owned(), "b".to_owned()));
        let record = FileRecord {
            name: name.map(str::to_owned),
            length,
            sha256,
            metadata: metadata.into_iter().collect(),
            spooled: None,
        };
        digest(&binding, &Content::File(&record), &EnqueueOptions::default())
    }

    fn with(change: impl FnOnce(&mut EnqueueOptions)) -> EnqueueOptions {
        let mut options = EnqueueOptions::default();
        change(&mut options);
        options
    }

    fn params(given: &[(&str, &str)]) -> EnqueueOptions {
        let params = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        with(|options| options.params = params)
    }

    #[test]
    fn a_digest_tells_apart_what_only_its_borders_tell_apart() {
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let plain = |options| of("form", Some("a"), "x", "t/t", options);
        let after = |ids: &[Uuid]| plain(with(|options| options.after = ids.to_vec()));
        let queue = |queue| plain(with(|options| options.queue = Some(queue)));
        let action = |action| plain(with(|options| options.action = Some(action)));
        let all = [
            plain(EnqueueOptions::default()),
            of("form", None, "x", "t/t", EnqueueOptions::default()),
            of("form", Some(""), "x", "t/t", EnqueueOptions::default()),
            of("forma", Some(""), "x", "t/t", EnqueueOptions::default()),
            plain(params(&[("p", "q")])),
            plain(params(&[("pq", "")])),
            plain(params(&[("p", ""), ("q", "")])),
            queue(Queue::Latest),
            queue(Queue::Every),
            of("form", Some("a"), "y", "t/t", EnqueueOptions::default()),
            of("form", Some("a"), "x", "t/u", EnqueueOptions::default()),
            action(Action::Update),
            action(Action::Delete),
            after(&[a]),
            after(&[b]),
            after(&[a, b]),
            plain(with(|options| (options.action, options.after) = (Some(Action::Delete), vec![a]))),
            file(None, 1, [1; 32]),
            file(Some(""), 1, [1; 32]),
            file(Some("x"), 1, [1; 32]),
            file(Some("y"), 1, [1; 32]),
            file(None, 2, [1; 32]),
            file(None, 1, [2; 32]),
        ];
        let different: BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(all[0], plain(EnqueueOptions::default()));
        assert_eq!(after(&[a, b]), after(&[b, a, b]), "which ones is what counts, not in which order they were named");
    }
}

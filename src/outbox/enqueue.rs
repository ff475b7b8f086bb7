//! "Save this, and get it to the server when you can."

use uuid::Uuid;

use super::{
    Outbox, Parts,
    payload::{EnqueueOptions, Payload},
    seal, validate,
};
use crate::{
    cipher::Binding,
    entry::{Action, Receipt},
    error::{Error, Result},
    reference,
    store::{Inserted, NewEntry, Parent},
    wake::Wake,
};

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
    /// cannot be sent. `id_conflict`: the id names other content. `quota_reached`, `disk_full`: there is no room.
    /// `keychain_locked`, `keychain_unavailable`, `key_missing`, `key_mismatch`: there is no key to encrypt it with.
    pub async fn enqueue(&self, kind: &str, payload: Payload, options: EnqueueOptions) -> Result<Receipt> {
        let Parts { store, settings, keys, .. } = self.parts();
        let id = options.id.unwrap_or_else(Uuid::now_v7);
        let endpoint = validate::entry(settings, kind, id, &payload, &options)?;
        let account = self.account().await?;
        let master = self.master_key(&account).await?;
        let binding = Binding {
            account: &account,
            id,
            kind,
            key: options.key.as_deref(),
            content_type: payload.content_type(),
            generation: seal::FIRST_GENERATION,
        };
        let entry = NewEntry {
            id,
            account: account.to_string(),
            kind: kind.to_owned(),
            key: options.key.clone(),
            queue: options.queue.unwrap_or(endpoint.queue),
            content_type: payload.content_type().to_owned(),
            bytes: payload.as_bytes().len() as u64,
            payload: seal::seal(&master, &binding, &payload, &options),
            chosen_id: options.id.is_some(),
            action: options.action,
            payload_version: endpoint.payload_version,
            annihilates: options.action == Some(Action::Delete) && endpoint.creates(),
            parents: parents(&payload, &options),
        };
        let inserted = store.enqueue(vec![entry], settings.limits.entries, self.now()).await?;
        match inserted.into_iter().next() {
            Some(Inserted::Exists(existing)) => {
                if !seal::is_same(keys, &existing, &account, kind, &payload, &options)? {
                    return Err(Error::IdConflict(id));
                }
            }
            _ => self.wake(Wake::Enqueued).await,
        }
        Ok(Receipt { id, kind: kind.to_owned(), key: options.key })
    }
}

/// What comes before an entry: what it says itself, and what its payload and its params refer to.
fn parents(payload: &Payload, options: &EnqueueOptions) -> Vec<Parent> {
    let mut parents: Vec<Parent> = options.after.iter().map(|id| Parent { id: *id, needs_id: false }).collect();
    let text = match payload {
        Payload::Json(value) => value.get(),
        Payload::Bytes { .. } => "",
    };
    let texts = options.params.values().map(String::as_str).chain([text]);
    for id in texts.flat_map(reference::named) {
        match parents.iter_mut().find(|parent| parent.id == id) {
            Some(parent) => parent.needs_id = true,
            None => parents.push(Parent { id, needs_id: true }),
        }
    }
    parents
}

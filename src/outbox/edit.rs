//! Another payload for an entry that is there, and what is decided of one that was beaten on the server.

use std::{fmt, sync::Arc};

use uuid::Uuid;

use super::{Outbox, Parts, payload::Payload, relations, seal, validate};
use crate::{
    cipher::{Binding, MasterKey},
    entry::{Action, Entry, Reason, State},
    error::{Error, Result},
    store::{Choice, Edit, Row, SealedPayload},
    wake::Wake,
};

/// How often the entry is looked at anew because another edit, or a migration of its payload, came between.
const ATTEMPTS: u32 = 100;

/// What is decided of an entry that met a newer write on the server: see [`Outbox::resolve`].
#[derive(Clone)]
#[non_exhaustive]
pub enum Resolution {
    /// It is sent above what the server holds.
    Mine,
    /// What the server holds stands.
    Theirs,
    /// This is sent in its place, above what the server holds: such as what merges both.
    Payload(Payload),
}

/// Shows form and size only.
impl fmt::Debug for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mine => f.write_str("Mine"),
            Self::Theirs => f.write_str("Theirs"),
            Self::Payload(payload) => f.debug_tuple("Payload").field(payload).finish(),
        }
    }
}

impl Outbox {
    /// Gives an entry another payload and queues it where it stood: one that waits and was never sent, that failed with a
    /// definitive answer, or that is lost. Kind, key, params and id stay, and so does what it was told to come after; what the
    /// old payload referred to is forgotten. Works in every process on the database.
    ///
    /// Enqueueing what the entry was made of once more under its id still answers its receipt.
    ///
    /// # Errors
    ///
    /// `not_found`; `wrong_state` when the server may have applied it, when it is being sent, settled or a delete (the message
    /// says which); `unknown_kind`, `invalid_argument`, `payload_too_large` as [`Outbox::enqueue`]; `undecryptable` when its
    /// record was changed or damaged; those of the keychain.
    pub async fn edit(&self, id: Uuid, payload: Payload) -> Result<()> {
        self.replace(id, payload, false).await
    }

    /// Decides for an entry that met a newer write on the server: one that failed with [`Reason::Conflict`], or that is lost.
    /// Works in every process on the database.
    ///
    /// # Errors
    ///
    /// `not_found`; `wrong_state` for any other entry; as [`Outbox::edit`] with a payload.
    pub async fn resolve(&self, id: Uuid, resolution: Resolution) -> Result<()> {
        let choice = match resolution {
            Resolution::Mine => Choice::Mine,
            Resolution::Theirs => Choice::Theirs,
            Resolution::Payload(payload) => return self.replace(id, payload, true).await,
        };
        let account = self.account().await?;
        if !self.parts().store.resolve(&account, id, choice, self.now()).await? {
            return Err(not_contested(&self.entry_of(&account, id).await?));
        }
        self.wake(if choice == Choice::Mine { Wake::Retry } else { Wake::Changed }).await;
        Ok(())
    }

    async fn replace(&self, id: Uuid, payload: Payload, resolve: bool) -> Result<()> {
        let account = self.account().await?;
        let mut again = false;
        for _ in 0..ATTEMPTS {
            let Some((Row { entry, .. }, sealed)) = self.parts().store.payload(&account, id).await? else {
                return Err(Error::NotFound(id));
            };
            if !may_change(&entry, resolve) {
                return Err(if resolve { not_contested(&entry) } else { not_edited(&entry) });
            }
            // Held until the row is written: a rotation waits for whoever still writes under the old key.
            let master = self.master_key(&account).await?;
            let edit = self.edited(&account, &master, &entry, &sealed, &payload, resolve).await?;
            match self.parts().store.edit(edit, self.now()).await {
                Ok(false) => {}
                Ok(true) => {
                    self.wake(Wake::Retry).await;
                    return Ok(());
                }
                // Its key went since it was had.
                Err(Error::SignedOut) if !again => {
                    again = true;
                    drop(master);
                    self.other_master_key(&account).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::WrongState(format!("entry {id} keeps changing: try again")))
    }

    /// The entry with the new payload, sealed for the generation after this one.
    async fn edited(
        &self,
        account: &Arc<str>,
        master: &MasterKey,
        entry: &Entry,
        sealed: &SealedPayload,
        payload: &Payload,
        resolve: bool,
    ) -> Result<Edit> {
        let Entry { id, kind, key, .. } = entry;
        let Parts { settings, .. } = self.parts();
        let payload_version = validate::replacement(settings, kind, payload)?;
        // The one that its data key is wrapped under, which a rotation may not have done with.
        let before = self.key_of(account, &sealed.key_id).await?;
        let (content_type, generation) = (entry.content_type.as_str(), sealed.generation);
        let old = Binding { account, id: *id, kind, key: key.as_deref(), content_type, generation };
        let params = seal::params(&before, &old, sealed)?;
        let references = relations::checked_references(*id, payload, &params)?;
        self.check_references(account, references.iter().copied()).await?;
        let new = Binding { generation: generation + 1, content_type: payload.content_type(), ..old };
        Ok(Edit {
            account: account.to_string(),
            id: *id,
            payload: seal::reseal((&before, master), &old, &new, sealed, payload)?,
            content_type: payload.content_type().to_owned(),
            bytes: payload.as_bytes().len() as u64,
            payload_version,
            references,
            resolve,
        })
    }
}

fn is_contested(entry: &Entry) -> bool {
    entry.lost || entry.state == State::Failed && entry.reason == Some(Reason::Conflict)
}

/// As the store sees it in the commit, where it is looked at once more.
fn may_change(entry: &Entry, resolve: bool) -> bool {
    let open = matches!(entry.state, State::Pending | State::Failed) && !entry.possibly_sent;
    !entry.file
        && entry.action != Some(Action::Delete)
        && if resolve { is_contested(entry) } else { open || entry.lost }
}

/// Why an entry keeps its payload.
fn not_edited(entry: &Entry) -> Error {
    let id = entry.id;
    Error::WrongState(match (entry.state, entry.superseded_by) {
        (State::Acked, _) => format!("the server has entry {id}: enqueue what is to change"),
        (State::Inflight, _) => format!("entry {id} is being sent at this moment: wait for its answer"),
        (State::Superseded, Some(newer)) => format!("entry {newer} replaced entry {id}: edit that one"),
        _ if entry.file => format!("entry {id} is a file: `discard` it, and enqueue the file that is meant instead"),
        _ if entry.action == Some(Action::Delete) => {
            format!("entry {id} deletes and has no payload: `discard` it, and enqueue what is meant instead")
        }
        (State::Superseded, None) if !entry.lost => {
            format!("entry {id} was given up for what the server holds: enqueue anew what is meant")
        }
        _ if is_contested(entry) => format!("entry {id} may have been applied before it was beaten: use `resolve`"),
        (State::Pending, _) => {
            format!("entry {id} may have been applied, and what was sent must not change: wait for its answer")
        }
        _ => format!(
            "entry {id} may have been applied, and what was sent must not change: look at the server, then `retry` it with \
             `force`, or `discard` it"
        ),
    })
}

/// Why there is nothing to decide.
fn not_contested(entry: &Entry) -> Error {
    let id = entry.id;
    Error::WrongState(match (is_contested(entry), entry.action) {
        (true, Some(Action::Delete)) => {
            format!("entry {id} deletes and has no payload: resolve it as `mine` or `theirs`")
        }
        (true, _) if entry.file => format!("entry {id} is a file: resolve it as `mine` or `theirs`"),
        // Only between the decision and the look at why it came too late.
        (true, _) => format!("entry {id} changes at this moment: try again"),
        (false, _) => format!(
            "entry {id} is {}, and there is nothing to decide: `resolve` is for those that are lost or failed with `conflict`",
            entry.state.as_str()
        ),
    })
}

//! What an entry has to do with others: which ones it waits for, and whether they can give what is asked of them.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{
    Outbox, Parts,
    payload::{EnqueueOptions, Payload},
};
use crate::{
    entry::{Action, Entry},
    error::{Error, Result},
    reference,
    store::Parent,
};

/// How many entries one may wait for.
const PARENTS: usize = 256;

/// What comes before an entry: what it says itself, and what its payload and its params refer to.
pub(super) fn parents(id: Uuid, payload: &Payload, options: &EnqueueOptions) -> Result<Vec<Parent>> {
    let mut needs_id: BTreeMap<Uuid, bool> = options.after.iter().map(|id| (*id, false)).collect();
    needs_id.extend(references(payload, &options.params).into_iter().map(|id| (id, true)));
    checked(id, needs_id.len(), needs_id.contains_key(&id))?;
    let parent = |(id, needs_id)| Parent { id, needs_id, told: options.after.contains(&id) };
    Ok(needs_id.into_iter().map(parent).collect())
}

/// What a payload and params refer to, each once.
pub(super) fn references(payload: &Payload, params: &BTreeMap<String, String>) -> Vec<Uuid> {
    let of_params = params.values().flat_map(|value| reference::named(value));
    let mut ids: Vec<Uuid> = payload.references().into_iter().chain(of_params).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// What `edit` gives an entry to refer to.
pub(super) fn checked_references(id: Uuid, payload: &Payload, params: &BTreeMap<String, String>) -> Result<Vec<Uuid>> {
    let references = references(payload, params);
    checked(id, references.len(), references.contains(&id))?;
    Ok(references)
}

fn checked(id: Uuid, parents: usize, itself: bool) -> Result<()> {
    if itself {
        return Err(Error::argument(format!("entry {id} names itself as coming before it: leave that out")));
    }
    if parents > PARENTS {
        return Err(Error::argument(format!(
            "it waits for {parents} entries and may wait for {PARENTS}: name fewer in `after` and in references"
        )));
    }
    Ok(())
}

impl Outbox {
    /// Whether what is referred to will have a canonical id, as far as that is known before it is delivered. What is not there is
    /// left to the store, which looks in the same commit.
    pub(super) async fn check_references(
        &self,
        account: &str,
        references: impl IntoIterator<Item = Uuid>,
    ) -> Result<()> {
        for id in references {
            if let Some(entry) = self.last_of(account, id).await? {
                self.gives_id(&entry.kind, entry.action, entry.canonical_id.is_some(), id)?;
            }
        }
        Ok(())
    }

    /// Whether entries of that kind and action leave a thing with a canonical id behind.
    pub(super) fn gives_id(&self, kind: &str, action: Option<Action>, known: bool, id: Uuid) -> Result<()> {
        if action == Some(Action::Delete) {
            return Err(Error::argument(format!(
                "entry {id} deletes its thing, so it gives no id that could be referred to: name it in `after`, or refer to another one"
            )));
        }
        // Of a kind that this version of the app does not have nothing is known.
        let nameless = self.parts().settings.endpoint(kind).is_some_and(|endpoint| !endpoint.gives_id());
        if nameless && !known {
            return Err(Error::argument(format!(
                "entry {id} is of the kind `{kind}`, whose endpoint gives no id that could be referred to: say in its `ack.id` where \
                 answers have it, or name the entry in `after`"
            )));
        }
        Ok(())
    }

    /// The entry of that id, or the one that stands in its place by now.
    async fn last_of(&self, account: &str, mut id: Uuid) -> Result<Option<Entry>> {
        let Parts { store, .. } = self.parts();
        loop {
            let Some(row) = store.row(account, id).await? else { return Ok(None) };
            match row.entry.superseded_by {
                Some(newer) => id = newer,
                None => return Ok(Some(row.entry)),
            }
        }
    }
}

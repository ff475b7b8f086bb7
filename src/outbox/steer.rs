//! What a user decides: again, not at all, not now.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use uuid::Uuid;

use super::{Outbox, Parts, query};
use crate::{
    entry::{Entry, Reason, State},
    error::{Error, Result},
    store::{self, Filter},
    wake::Wake,
};

/// How many ids one filter may name.
const IDS: usize = 1000;
/// How long an upload may take to stop before it is left to itself.
const STOPPING: Duration = Duration::from_secs(10);

/// Which entries [`Outbox::retry`] and [`Outbox::discard`] are about.
///
/// In JSON: an id, a filter object, or `"all"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// This one.
    Id(Uuid),
    /// Those that fit.
    Filter(SelectionFilter),
    /// Every entry of the account. Only `discard` takes it.
    All,
}

/// All of it must hold; what is absent restricts nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SelectionFilter {
    /// One of these, up to 1000. An empty list fits none.
    #[serde(default)]
    pub ids: Option<Vec<Uuid>>,
    /// In one of these states. An empty list fits none.
    #[serde(default, rename = "state", deserialize_with = "query::states")]
    pub states: Option<Vec<State>>,
    /// Of this kind.
    #[serde(default)]
    pub kind: Option<String>,
    /// About this thing.
    #[serde(default)]
    pub key: Option<String>,
}

impl SelectionFilter {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// A list that is there and empty: nothing can fit, and nothing must be taken for everything.
    fn fits_none(&self) -> bool {
        self.ids.as_ref().is_some_and(Vec::is_empty) || self.states.as_ref().is_some_and(Vec::is_empty)
    }

    fn checked(self) -> Result<Filter> {
        let Self { ids, states, kind, key } = self;
        if let Some(given) = ids.as_ref().map(Vec::len).filter(|given| *given > IDS) {
            return Err(Error::argument(format!(
                "`ids` names {given} entries and may name {IDS}: call more than once"
            )));
        }
        Ok(Filter { ids, states, kind, key })
    }
}

impl From<Uuid> for Selection {
    fn from(id: Uuid) -> Self {
        Self::Id(id)
    }
}

impl From<SelectionFilter> for Selection {
    fn from(filter: SelectionFilter) -> Self {
        Self::Filter(filter)
    }
}

impl<'de> Deserialize<'de> for Selection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde_json::Value;
        const EXPECTED: &str = "name the entries by the id of a receipt, by a filter such as { state: 'failed' }, or, to discard, by 'all'";
        match Value::deserialize(deserializer)? {
            Value::String(text) if text == "all" => Ok(Self::All),
            Value::String(text) => Uuid::parse_str(&text).map(Self::Id).map_err(|_| D::Error::custom(EXPECTED)),
            object @ Value::Object(_) => serde_json::from_value(object).map(Self::Filter).map_err(D::Error::custom),
            _ => Err(D::Error::custom(EXPECTED)),
        }
    }
}

/// What [`Outbox::discard`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Discarded {
    /// These are gone, with their payloads.
    pub ids: Vec<Uuid>,
    /// Of these, the ones that may have reached the server: their outcome was unknown.
    pub possibly_applied: Vec<Uuid>,
    /// Being sent at this moment, so not touched: discard them once they have an answer. Uploads of the process that delivers are
    /// not among them.
    pub inflight: Vec<Uuid>,
    /// These depended on one that is gone, and have failed with [`Reason::ParentGone`]. None with `cascade`.
    pub orphaned: Vec<Uuid>,
}

impl Discarded {
    fn add(&mut self, more: Self) {
        self.inflight.retain(|id| !more.ids.contains(id));
        self.ids.extend(more.ids);
        self.possibly_applied.extend(more.possibly_applied);
        self.orphaned.extend(more.orphaned);
    }
}

impl From<store::Discarded> for Discarded {
    fn from(done: store::Discarded) -> Self {
        let store::Discarded { ids, possibly_applied, inflight, orphaned } = done;
        Self { ids, possibly_applied, inflight, orphaned }
    }
}

impl Outbox {
    /// Sends failed entries once more: an id, or a filter, which selects only failed ones unless it names states or ids;
    /// the empty filter means all that failed. Answers the ids of those that are pending now. A pending one that is
    /// selected and waits for its backoff is due at once.
    ///
    /// What may have been applied, at an endpoint with `"ifUnknown": "hold"`, is only sent again with `force`; a filter
    /// leaves it out otherwise. What met a newer write on the server is sent above that one; an entry that is lost only if it
    /// is named by its id. One that failed because what it was to come after is gone goes on without that, unless it needs
    /// its id. Works in every process on the database.
    ///
    /// # Errors
    ///
    /// For an id: `not_found`, and `wrong_state` when it cannot be retried (the message says why). `invalid_argument` for
    /// [`Selection::All`] and for more than 1000 ids.
    pub async fn retry(&self, which: impl Into<Selection>, force: bool) -> Result<Vec<Uuid>> {
        let (filter, only) = match which.into() {
            Selection::All => return Err(Error::argument("`retry` does not take 'all': `{}` means all that failed")),
            Selection::Id(id) => (SelectionFilter { ids: Some(vec![id]), ..SelectionFilter::default() }, Some(id)),
            Selection::Filter(filter) => (filter, None),
        };
        if filter.fits_none() {
            return Ok(Vec::new());
        }
        let mut filter = filter.checked()?;
        if only.is_none() && filter.ids.is_none() {
            filter.states.get_or_insert_with(|| vec![State::Failed]);
        }
        let account = self.account().await?;
        let ids = self.parts().store.retry(&account, &filter, force, self.now()).await?;
        if let (Some(id), true) = (only, ids.is_empty()) {
            return Err(not_retried(&self.entry_of(&account, id).await?));
        }
        if !ids.is_empty() {
            self.wake(Wake::Retry).await;
        }
        Ok(ids)
    }

    /// Deletes entries with their payloads, delivered or not: an id, a filter, or [`Selection::All`]. Entries that are
    /// being sent at this moment are left alone and named, except for files: their uploads are stopped first, in the process that
    /// delivers, and what the server has of them it is asked to remove. Works in every process on the database.
    ///
    /// What depends on one of them, and what depends on that, goes too with `cascade`; without, it fails with
    /// [`Reason::ParentGone`] and is kept.
    ///
    /// # Errors
    ///
    /// For an id: `not_found`. `invalid_argument` for a filter that restricts nothing (say [`Selection::All`], in
    /// JavaScript `'all'`) and for more than 1000 ids.
    pub async fn discard(&self, which: impl Into<Selection>, cascade: bool) -> Result<Discarded> {
        let (filter, only) = match which.into() {
            Selection::All => (SelectionFilter::default(), None),
            Selection::Id(id) => (SelectionFilter { ids: Some(vec![id]), ..SelectionFilter::default() }, Some(id)),
            Selection::Filter(filter) if filter.is_empty() => {
                return Err(Error::argument("an empty filter would discard everything: write 'all' if that is meant"));
            }
            Selection::Filter(filter) => (filter, None),
        };
        if filter.fits_none() {
            return Ok(Discarded::default());
        }
        let filter = filter.checked()?;
        let account = self.account().await?;
        let mut done: Discarded = self.parts().store.discard(&account, &filter, cascade, self.now()).await?.into();
        let stopped = self.stop_uploads(&account, &done.inflight).await?;
        if !stopped.is_empty() {
            let filter = Filter { ids: Some(stopped), ..Filter::default() };
            done.add(self.parts().store.discard(&account, &filter, cascade, self.now()).await?.into());
        }
        if let (Some(id), true) = (only, done == Discarded::default()) {
            return Err(Error::NotFound(id));
        }
        if !done.ids.is_empty() {
            self.wake(Wake::Changed).await;
        }
        Ok(done)
    }

    /// Stops those of these entries that are uploads under way in this process, and answers which. They are asked, and given a moment: the
    /// last bytes of one may have its answer sooner.
    async fn stop_uploads(&self, account: &str, inflight: &[Uuid]) -> Result<Vec<Uuid>> {
        let Parts { board, store, .. } = self.parts();
        let mut changes = self.changes();
        let stopped = board.stop_uploads(inflight);
        if stopped.is_empty() {
            return Ok(stopped);
        }
        self.wake(Wake::Changed).await;
        let mut patience = std::pin::pin!(self.patience(Some(STOPPING)));
        let (ids, states) = (Some(stopped.clone()), Some(vec![State::Inflight]));
        let under_way = Filter { ids, states, ..Filter::default() };
        while !store.list(account, &under_way, None, 1).await?.is_empty() {
            tokio::select! {
                // One that lags, or is over, is looked at all the same.
                _ = changes.recv() => {}
                () = &mut patience => break,
            }
        }
        Ok(stopped)
    }

    /// Stops all delivery until [`Outbox::resume`], also over restarts. What is in flight gets its answer, but uploads stop where they are;
    /// `enqueue` goes on.
    ///
    /// # Errors
    ///
    /// `not_owner` in a process that does not deliver.
    pub async fn pause(&self) -> Result<()> {
        self.set_paused(true).await
    }

    /// Goes on after [`Outbox::pause`].
    ///
    /// # Errors
    ///
    /// `not_owner` in a process that does not deliver.
    pub async fn resume(&self) -> Result<()> {
        self.set_paused(false).await
    }

    /// Lets one entry wait until [`Outbox::resume_entry`], also over restarts; what comes after it in its lane waits with it, all else
    /// goes on. An upload stops where it is; what else is in flight gets its answer. It ends by itself once the entry is settled: a newer
    /// one that replaces it is not paused. Does nothing to one that is paused already. Works in every process on the database.
    ///
    /// # Errors
    ///
    /// `not_found`; `wrong_state` when it is neither pending nor in flight.
    pub async fn pause_entry(&self, id: Uuid) -> Result<()> {
        self.set_entry_paused(id, true).await?;
        // Looks at what is under way: an upload of it stops.
        self.wake(Wake::Changed).await;
        Ok(())
    }

    /// Goes on after [`Outbox::pause_entry`], at once. Does nothing to one that is not paused.
    ///
    /// # Errors
    ///
    /// `not_found`; `wrong_state` when it is neither pending nor in flight.
    pub async fn resume_entry(&self, id: Uuid) -> Result<()> {
        self.set_entry_paused(id, false).await?;
        self.wake(Wake::Retry).await;
        Ok(())
    }

    async fn set_entry_paused(&self, id: Uuid, paused: bool) -> Result<()> {
        let account = self.account().await?;
        if self.parts().store.pause_entry(&account, id, paused).await? {
            // No state has changed, and lists that are shown are to be looked at again.
            self.status_changed();
            return Ok(());
        }
        let entry = self.entry_of(&account, id).await?;
        if matches!(entry.state, State::Pending | State::Inflight) {
            return Ok(());
        }
        let verb = if paused { "paused" } else { "resumed" };
        Err(Error::WrongState(format!(
            "entry {id} is {}: only one that waits or is being sent can be {verb}",
            entry.state.as_str()
        )))
    }

    async fn set_paused(&self, paused: bool) -> Result<()> {
        let Parts { store, board, wake, .. } = self.parts();
        if !board.owner() {
            return Err(Error::NotOwner);
        }
        let pausing = board.pausing().await;
        store.set_paused(paused).await?;
        board.post_paused(paused);
        drop(pausing);
        wake.wake(Wake::Paused);
        self.status_changed();
        Ok(())
    }
}

/// Why `retry` left that one entry alone.
fn not_retried(entry: &Entry) -> Error {
    let id = entry.id;
    Error::WrongState(match (entry.state, entry.superseded_by) {
        (State::Failed, _) if entry.reason == Some(Reason::OutcomeUnknown) => format!(
            "entry {id} may have been applied, and sending it again could apply it twice: look at the server first, then \
             `retry` it with `force`, or `discard` it"
        ),
        (State::Failed, _) if entry.reason == Some(Reason::ParentGone) => format!(
            "entry {id} refers to an entry that was removed before it had an id: `edit` it so that it refers to another one, or \
             `discard` it"
        ),
        (State::Acked, _) => format!("the server has entry {id}: there is nothing to retry"),
        (State::Inflight, _) => format!("entry {id} is being sent at this moment: wait for its answer"),
        (State::Superseded, Some(newer)) => format!("entry {newer} replaced entry {id}: retry that one"),
        (State::Superseded, None) => {
            format!("entry {id} was given up for what the server holds: enqueue anew what is meant")
        }
        (state, _) => format!("entry {id} is {}, so it cannot be retried", state.as_str()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_is_an_id_a_filter_or_all() {
        let parse = |json: &str| serde_json::from_str::<Selection>(json);
        let id = Uuid::now_v7();
        assert_eq!(parse("\"all\"").unwrap(), Selection::All);
        assert_eq!(parse(&format!("\"{id}\"")).unwrap(), Selection::Id(id));
        assert_eq!(parse("{}").unwrap(), Selection::Filter(SelectionFilter::default()));
        let filter =
            parse(&format!(r#"{{ "state": "failed", "kind": "form", "key": "a", "ids": ["{id}"] }}"#)).unwrap();
        let expected = SelectionFilter {
            ids: Some(vec![id]),
            states: Some(vec![State::Failed]),
            kind: Some("form".into()),
            key: Some("a".into()),
        };
        assert_eq!(filter, Selection::Filter(expected));
    }

    #[test]
    fn a_selection_that_is_none_says_what_to_write() {
        for (json, hint) in [
            ("\"everything\"", "id of a receipt"),
            ("null", "id of a receipt"),
            ("[]", "'all'"),
            (r#"{ "status": "failed" }"#, "unknown field `status`"),
            (r#"{ "state": "broken" }"#, "pending, inflight"),
        ] {
            let refused = serde_json::from_str::<Selection>(json).unwrap_err().to_string();
            assert!(refused.contains(hint), "{json}: {refused}");
        }
    }
}

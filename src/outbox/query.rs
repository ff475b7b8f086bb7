//! What is in the outbox.

use serde::{Deserialize, Deserializer};
use uuid::Uuid;

use super::{
    Outbox, Parts,
    payload::{self, Payload},
    seal,
};
use crate::{
    cipher::Binding,
    entry::{Entry, State, WaitingFor},
    error::{Error, Result},
    store::{Filter, Row},
};

const DEFAULT_LIMIT: u32 = 100;
const LARGEST_LIMIT: u32 = 1000;

/// Which entries [`Outbox::list`] answers. All of it must hold; what is absent restricts nothing. In JSON: camelCase,
/// `state` is a name or a list of names.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Query {
    /// In one of these states. Default: in any.
    #[serde(default, rename = "state", deserialize_with = "states")]
    pub states: Option<Vec<State>>,
    /// Of this kind. Default: of any.
    #[serde(default)]
    pub kind: Option<String>,
    /// About this thing. Default: about any or none.
    #[serde(default)]
    pub key: Option<String>,
    /// The page that comes after this entry, the last one of the page before. Default: the first page.
    #[serde(default)]
    pub after: Option<Uuid>,
    /// How many at most, up to 1000. Default: 100.
    #[serde(default)]
    pub limit: Option<u32>,
}

/// Names of states, as `list`, `retry` and `discard` take them.
pub(super) fn states<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<State>>, D::Error> {
    const EXPECTED: &str = "`state` must be pending, inflight, acked, failed or superseded, or a list of such names";
    payload::names(deserializer, State::parse, EXPECTED)
}

impl Outbox {
    /// The entries of the current account that fit, newest first.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for a limit that is not between 1 and 1000; `not_found` when the entry of `after` was
    /// discarded or pruned meanwhile: start over from the first page.
    pub async fn list(&self, query: Query) -> Result<Vec<Entry>> {
        let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=LARGEST_LIMIT).contains(&limit) {
            let message = format!(
                "`limit` is {limit} and must be between 1 and {LARGEST_LIMIT}: ask for the next page with `after`"
            );
            return Err(Error::argument(message));
        }
        let account = self.account().await?;
        let filter = Filter { ids: None, states: query.states, kind: query.kind, key: query.key };
        let rows = self.parts().store.list(&account, &filter, query.after, limit).await?;
        Ok(rows.into_iter().map(|row| self.explained(row)).collect())
    }

    /// One entry of the current account.
    ///
    /// # Errors
    ///
    /// `not_found` when it was discarded or pruned, or never was.
    pub async fn get(&self, id: Uuid) -> Result<Entry> {
        let account = self.account().await?;
        self.entry_of(&account, id).await
    }

    /// What the entry carries. Needs the key; a payload is there until the server has it, or a newer entry replaced it. A file of more
    /// than 64 KiB is not read back: [`Outbox::file`] says what is known of it.
    ///
    /// # Errors
    ///
    /// `not_found`; `wrong_state` when the payload is gone because it is no longer needed, and for such a file; `undecryptable` when the record
    /// was changed or damaged; those of the keychain.
    pub async fn payload(&self, id: Uuid) -> Result<Payload> {
        let account = self.account().await?;
        let found = self.parts().store.file(&account, id).await?;
        let Some((row, sealed, file)) =
            found.filter(|(row, sealed, _)| has_payload(&row.entry) && !sealed.body.is_empty())
        else {
            return Err(gone(&self.entry_of(&account, id).await?));
        };
        if file.is_some_and(|file| file.spool.is_some()) {
            return Err(Error::WrongState(format!(
                "entry {id} is a file of {} bytes, which is kept to be sent and not to be read: ask what is known of it with `file`",
                row.entry.bytes
            )));
        }
        let master = self.key_of(&account, &sealed.key_id).await?;
        let Entry { kind, key, content_type, .. } = &row.entry;
        let binding =
            Binding { account: &account, id, kind, key: key.as_deref(), content_type, generation: sealed.generation };
        let plain = seal::open(&master, &binding, &sealed)?;
        Ok(Payload::of(content_type, &plain))
    }

    /// One entry of that account, and why it waits.
    pub(super) async fn entry_of(&self, account: &str, id: Uuid) -> Result<Entry> {
        let row = self.parts().store.row(account, id).await?;
        row.map(|row| self.explained(row)).ok_or(Error::NotFound(id))
    }

    /// With why it waits.
    pub(super) fn explained(&self, row: Row) -> Entry {
        let Row { seq, mut entry, behind, waits_on, .. } = row;
        let Parts { board, settings, .. } = self.parts();
        entry.waiting_for = (entry.state == State::Pending).then(|| match settings.endpoint(&entry.kind) {
            None => WaitingFor::Endpoint,
            Some(endpoint) if endpoint.url.origin(settings.base_url().as_ref()).is_none() => WaitingFor::Endpoint,
            Some(_) if entry.paused => WaitingFor::Paused,
            Some(_) => board.waiting_for(seq, &entry.kind, behind, waits_on),
        });
        entry
    }
}

fn has_payload(entry: &Entry) -> bool {
    entry.lost || !matches!(entry.state, State::Acked | State::Superseded)
}

pub(super) fn gone(entry: &Entry) -> Error {
    let id = entry.id;
    Error::WrongState(match (entry.state, entry.superseded_by) {
        (State::Acked, _) => format!("the server has entry {id}, so its payload was removed: read it from the server"),
        (_, Some(newer)) => {
            format!("entry {newer} replaced entry {id} before it was sent: ask for the payload of that one")
        }
        _ => format!("the payload of entry {id} is no longer kept"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_takes_one_state_or_several() {
        let states = |json: &str| serde_json::from_str::<Query>(json).map(|query| query.states);
        assert_eq!(states("{}").unwrap(), None);
        assert_eq!(states(r#"{ "state": "failed" }"#).unwrap(), Some(vec![State::Failed]));
        assert_eq!(states(r#"{ "state": ["pending", "acked"] }"#).unwrap(), Some(vec![State::Pending, State::Acked]));
        for refused in [r#"{ "state": "done" }"#, r#"{ "state": 1 }"#, r#"{ "state": ["x"] }"#] {
            assert!(states(refused).unwrap_err().to_string().contains("pending, inflight"));
        }
        assert!(states(r#"{ "states": "failed" }"#).is_err());
    }
}

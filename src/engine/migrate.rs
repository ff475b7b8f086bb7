//! Payloads of an older version of the app, put into the form that this one sends, before they are ever sent.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{drain::Drain, prepare::binding, rules::SLOW_RETRY};
use crate::{
    board::Backoff,
    cipher::{Binding, MasterKey, Part},
    entry::WaitingFor,
    error::Result,
    store::{Loaded, SealedPayload},
};

/// The media type of every JSON payload.
const JSON: &str = "application/json";

impl Drain {
    /// Rewrites what was found outdated; what no migration leads to waits for the version of the app that has one. Answers whether
    /// something can be sent now.
    pub(super) async fn migrate_outdated(&mut self, master: &Arc<MasterKey>) -> Result<bool> {
        let mut rewrites = Vec::new();
        for (kind, head, row) in std::mem::take(&mut self.outdated) {
            match self.migrated(&row, master) {
                Some((payload, bytes, version)) => {
                    let store = self.parts.store.clone();
                    rewrites.push(async move { store.rewrite(row.seq, payload, bytes, version).await });
                    // Found again at once, rewritten or not: what was edited meanwhile is looked at anew.
                    self.feeds.entry(kind).or_default().push(head);
                }
                None => {
                    let now = self.now();
                    self.park(kind, head, now + SLOW_RETRY, now, Backoff::For(WaitingFor::Endpoint));
                }
            }
        }
        let any = !rewrites.is_empty();
        // Together, so that they share a commit.
        join_all(rewrites).await.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(any)
    }

    /// The payload in the endpoint's form, under a data key of its own.
    fn migrated(&self, row: &Loaded, master: &MasterKey) -> Option<(SealedPayload, u64, u32)> {
        let version = self.parts.settings.endpoint(&row.kind)?.payload_version;
        if row.content_type != JSON {
            return None;
        }
        let old = binding(row);
        let before = self.parts.keys.of_id(&row.account, &row.payload.key_id)?;
        let open = before.unwrap(&row.payload.wrapped_key, &old).ok()?;
        let plain = open.open(Part::Payload, &old, &row.payload.body).ok()?;
        let value = serde_json::from_slice(&plain).ok()?;
        let migrations = &self.parts.settings.migrations;
        let value = match migrations.migrate(&row.kind, row.payload_version, version, value)? {
            Ok(value) => value,
            // What it says may quote the payload.
            Err(_) => {
                tracing::warn!(
                    kind = row.kind,
                    from = row.payload_version,
                    to = version,
                    "a migration of an older payload failed: the entry waits for a version of the app whose migration works"
                );
                return None;
            }
        };
        let text = serde_json::to_vec(&value).ok()?;
        let generation = row.payload.generation + 1;
        let new = Binding { generation, ..binding(row) };
        let (key, wrapped_key) = master.new_data_key(&new);
        let again = |part: Part, sealed: &[u8]| Some(key.seal(part, &new, &open.open(part, &old, sealed).ok()?));
        let payload = SealedPayload {
            generation,
            key_id: master.id().0,
            wrapped_key,
            body: key.seal(Part::Payload, &new, &text),
            params: match &row.payload.params {
                Some(params) => Some(again(Part::Params, params)?),
                None => None,
            },
            // Of what was enqueued: the same id with the same bytes is known again.
            digest: again(Part::Digest, &row.payload.digest)?,
        };
        Some((payload, text.len() as u64, version))
    }
}

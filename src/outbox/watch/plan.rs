//! A watch as it is followed: what its box holds, and what names become where they must not be known.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::sync::watch::Receiver;
use uuid::Uuid;

use super::AfterAck;
use crate::{
    cipher::{Binding, DataKey, Part},
    error::{Error, Result},
    outbox::{Outbox, seal},
    store::WatchRow,
};

/// What is sealed of a watch.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sealed {
    pub(crate) dir: String,
    /// Where it really was when it was first watched. Part of the names of its files' lanes.
    pub(super) root: String,
    pub(crate) recursive: bool,
    pub(crate) patterns: Vec<String>,
    pub(crate) after_ack: AfterAck,
    pub(crate) move_to: Option<String>,
    pub(in crate::outbox) params: BTreeMap<String, String>,
    pub(in crate::outbox) content_type: String,
}

/// A watch as it is followed.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) id: Uuid,
    pub(crate) account: Arc<str>,
    pub(crate) kind: String,
    /// What the system called the folder when it was last looked at.
    pub(crate) folder: Option<Vec<u8>>,
    pub(crate) sealed: Arc<Sealed>,
    pub(in crate::outbox) names: Arc<Names>,
    /// Another one was said since, if the row has another one.
    pub(in crate::outbox) stamp: Arc<[u8]>,
}

impl Plan {
    /// What the row says.
    ///
    /// # Errors
    /// `undecryptable`.
    pub(super) fn open(account: &Arc<str>, names: &Arc<Names>, row: WatchRow) -> Result<Self> {
        let binding = Names::binding(account, row.id, &row.kind);
        let plain = names.data.open(Part::Watch, &binding, &row.sealed).ok();
        let sealed = plain.and_then(|plain| serde_json::from_slice(&plain).ok());
        let sealed: Sealed = sealed.ok_or(Error::Undecryptable(row.id))?;
        Ok(Self {
            id: row.id,
            account: Arc::clone(account),
            kind: row.kind,
            folder: row.folder,
            sealed: Arc::new(sealed),
            names: Arc::clone(names),
            stamp: row.sealed.into(),
        })
    }

    /// What the file of that path is called where it must not be known.
    pub(crate) fn tag(&self, path: &str) -> [u8; 32] {
        self.names.data.tag("file", &[self.sealed.root.as_bytes(), path.as_bytes()])
    }

    /// The same of a content.
    pub(crate) fn hash(&self, sha256: &[u8; 32]) -> [u8; 32] {
        self.names.hash(sha256)
    }

    /// Whether it is followed in the same way as that one.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.id == other.id && self.stamp == other.stamp
    }
}

/// What names become where they must not be known.
pub(in crate::outbox) struct Names {
    pub(super) data: DataKey,
}

impl Names {
    pub(in crate::outbox) fn hash(&self, sha256: &[u8; 32]) -> [u8; 32] {
        self.data.tag("content", &[sha256])
    }

    pub(super) fn binding<'b>(account: &'b str, id: Uuid, kind: &'b str) -> Binding<'b> {
        Binding { account, id, kind, key: None, content_type: "", generation: seal::FIRST_GENERATION }
    }
}

/// See [`Outbox::plan_news`].
pub(crate) struct PlanNews {
    pub(super) outbox: Outbox,
    pub(super) list: Receiver<u64>,
    pub(super) others: Receiver<u64>,
    pub(super) granted: Receiver<u64>,
    pub(super) board: Receiver<u64>,
    pub(super) owner: bool,
}

impl PlanNews {
    /// Ends when this process has other watches, is or is not the owner any more, when another process has written, or when a key is there that
    /// was not. Answers false when there will be nothing any more. Cancel-safe.
    pub(crate) async fn changed(&mut self) -> bool {
        let Self { outbox, list, others, granted, board, owner } = self;
        let alive = loop {
            let alive = tokio::select! {
                changed = list.changed() => changed.is_ok(),
                changed = others.changed() => changed.is_ok(),
                changed = granted.changed() => changed.is_ok(),
                changed = board.changed() => match changed {
                    Ok(()) if outbox.follows() == *owner => continue,
                    changed => changed.is_ok(),
                },
            };
            break alive;
        };
        *owner = outbox.follows();
        alive
    }
}

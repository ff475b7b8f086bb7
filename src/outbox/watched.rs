//! Files of watched folders: enqueued together with what is known of them, in one commit.

use std::{fs::File, sync::Arc};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use uuid::Uuid;

use super::{
    Outbox, Parts,
    payload::{EnqueueOptions, NewItem, Payload},
    source::FileOptions,
    watch::{Names, Plan, of_delete, tells_names},
};
use crate::{
    entry::{Action, Mark, Queue},
    error::{Error, Result},
    store::{NewWatched, Watched},
    wake::Wake,
};

/// What a form or an upload calls the path of a file below the watched folder.
const PATH: &str = "path";

/// A file of a watched folder, open.
pub(crate) struct FoundFile {
    /// Below the folder, with `/` between the names.
    pub(crate) path: String,
    pub(crate) tag: [u8; 32],
    /// As the system knew it when it was opened.
    pub(crate) mark: Mark,
    pub(crate) file: File,
}

/// Which file of which watch an entry is.
pub(super) struct OfWatch {
    watch: Uuid,
    said: Arc<[u8]>,
    tag: [u8; 32],
    mark: Mark,
    names: Arc<Names>,
}

impl OfWatch {
    pub(super) fn row(&self, sha256: &[u8; 32]) -> NewWatched {
        NewWatched {
            watch: self.watch,
            said: Arc::clone(&self.said),
            tag: self.tag,
            file: Some((self.mark, self.names.hash(sha256))),
        }
    }
}

/// The key of the lane that a file is in: as much of a name as may be known.
pub(super) fn key(tag: &[u8; 32]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(tag)
}

impl Outbox {
    /// What is known of the files of a watch.
    pub(crate) async fn watched(&self, plan: &Plan) -> Result<Vec<Watched>> {
        self.parts().store.watched(plan.id).await
    }

    /// Enqueues a file as the newest state of its lane, and takes note of it in the same commit. Answers what is known of it now.
    ///
    /// # Errors
    /// As [`Outbox::enqueue_file`]; `signed_out` when the watch's account is not the current one.
    pub(crate) async fn enqueue_watched(&self, plan: &Plan, found: FoundFile) -> Result<Watched> {
        let FoundFile { path, tag, mark, file } = found;
        let account = self.account_of(plan).await?;
        let name = path.rsplit_once('/').map_or(path.as_str(), |(_, name)| name);
        let mut options = FileOptions {
            name: Some(name.to_owned()),
            content_type: Some(plan.sealed.content_type.clone()),
            key: Some(key(&tag)),
            // Whatever the endpoint does with what pages enqueue: of a file only its newest content matters.
            queue: Some(Queue::Latest),
            params: plan.sealed.params.clone(),
            ..FileOptions::default()
        };
        if self.parts().settings.endpoint(&plan.kind).is_some_and(tells_names) {
            options.metadata.insert(PATH.to_owned(), path);
        }
        let mut asked = self.asked(&plan.kind, options)?;
        asked.watched =
            Some(OfWatch { watch: plan.id, said: Arc::clone(&plan.stamp), tag, mark, names: Arc::clone(&plan.names) });
        let (receipt, sha256) = self.enqueue_asked(&account, asked, file.into(), std::future::pending()).await?;
        Ok(Watched { tag, mark, hash: plan.hash(&sha256), entry: Some(receipt.id), acked: false })
    }

    /// These are gone: their lanes are deleted where the endpoint knows how, and they are forgotten, all in one commit or none.
    ///
    /// # Errors
    /// As [`Outbox::enqueue`]; `signed_out` when the watch's account is not the current one.
    pub(crate) async fn delete_watched(&self, plan: &Plan, tags: &[[u8; 32]]) -> Result<()> {
        let Parts { store, settings, .. } = self.parts();
        let account = self.account_of(plan).await?;
        let endpoint = settings.endpoint(&plan.kind).ok_or_else(|| settings.unknown_kind(&plan.kind))?;
        if endpoint.delete.is_none() {
            return store.note_watched(plan.id, Vec::new(), tags.to_vec()).await;
        }
        let params = of_delete(endpoint, &plan.sealed.params);
        let master = self.master_key(&account).await?;
        let mut entries = Vec::with_capacity(tags.len());
        for tag in tags {
            let options = EnqueueOptions {
                key: Some(key(tag)),
                queue: Some(Queue::Latest),
                params: params.clone(),
                action: Some(Action::Delete),
                ..EnqueueOptions::default()
            };
            let item = NewItem::new(plan.kind.as_str(), Payload::json(&())?, options);
            let mut entry = self.checked(item)?.sealed(&master, &account, false);
            entry.watched = Some(NewWatched { watch: plan.id, said: Arc::clone(&plan.stamp), tag: *tag, file: None });
            entries.push(entry);
        }
        store.enqueue(entries, settings.limits.entries, self.now()).await?;
        self.wake(Wake::Enqueued).await;
        Ok(())
    }

    /// Takes note of files that need not be enqueued, and forgets others, in one commit.
    pub(crate) async fn note_watched(
        &self,
        plan: &Plan,
        same: Vec<([u8; 32], Mark)>,
        gone: Vec<[u8; 32]>,
    ) -> Result<()> {
        let fewer = !gone.is_empty();
        self.parts().store.note_watched(plan.id, same, gone).await?;
        if fewer {
            // Whoever counts them looks again.
            self.status_changed();
        }
        Ok(())
    }

    /// Notes what the system calls the folder.
    pub(crate) async fn note_folder(&self, plan: &Plan, folder: Vec<u8>) -> Result<()> {
        self.parts().store.note_folder(plan.id, folder).await
    }

    async fn account_of(&self, plan: &Plan) -> Result<Arc<str>> {
        let account = self.account().await?;
        if account == plan.account { Ok(account) } else { Err(Error::SignedOut) }
    }
}

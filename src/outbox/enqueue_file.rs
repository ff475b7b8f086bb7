//! Files: copied into the spool, then enqueued like anything else.

use std::sync::Arc;

use tokio::runtime::Handle;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    Outbox, Parts,
    copy::{self, Content, Copied, Limit, Order},
    payload::{EnqueueOptions, Payload},
    relations, seal,
    source::{FileInfo, FileOptions, FileSource, Said},
    validate,
    watched::OfWatch,
};
use crate::{
    cipher::{Binding, Chunks, FileRecord, MasterKey},
    config::Endpoint,
    entry::{Entry, Receipt},
    error::{Error, Result},
    spool::{Spooled, Taken},
    store::{Inserted, LoadedFile, NewEntry, NewFile, Parent, SealedPayload},
    wake::Wake,
};

/// A file that is to be enqueued, under the id that it will have.
pub(super) struct Asked<'s> {
    pub(super) id: Uuid,
    pub(super) kind: &'s str,
    pub(super) endpoint: &'s Endpoint,
    pub(super) options: EnqueueOptions,
    pub(super) said: Said,
    pub(super) parents: Vec<Parent>,
    /// It is in a watched folder.
    pub(super) watched: Option<OfWatch>,
}

impl Outbox {
    /// Copies a file, encrypted, and enqueues it: from then on the source may change or vanish. The endpoint's form decides how it is
    /// delivered: `"raw"`, `"multipart"` or `"tus"`. The file is never in memory as a whole, its content and its name are on the disk in
    /// encrypted form only, and copying it holds up no other entry.
    ///
    /// Its copy waits in the folder `spool` of the data folder, unless it has 64 KiB or less: then it is kept in the database like
    /// any other payload. `limits.payloadBytes` does not bound it; `limits.spoolBytes` and the room on the disk do.
    ///
    /// The same file with the same options under the same [`FileOptions::id`] answers the first receipt, as in [`Outbox::enqueue`].
    ///
    /// A future that is dropped before it answers ends the copy, and nothing of it stays; or the entry was enqueued just then.
    ///
    /// # Errors
    ///
    /// Nothing was written when it answers one. `unknown_kind`, `invalid_argument`: what was given cannot be sent, or the source is no
    /// regular file or has another length than was said. `source_changed`: the file was written to again and again while it was copied. `io`:
    /// the source or the disk failed. `quota_reached`, `disk_full`: there is no room; of files the message says how much is missing.
    /// `id_conflict`; those of the keychain.
    pub async fn enqueue_file(
        &self,
        kind: &str,
        source: impl Into<FileSource>,
        options: FileOptions,
    ) -> Result<Receipt> {
        let account = self.account().await?;
        self.enqueue_file_of(&account, kind, source, options).await
    }

    /// The same for an account that was the current one when somebody began to hand the file over.
    ///
    /// # Errors
    ///
    /// As [`Outbox::enqueue_file`].
    pub(crate) async fn enqueue_file_of(
        &self,
        account: &Arc<str>,
        kind: &str,
        source: impl Into<FileSource>,
        options: FileOptions,
    ) -> Result<Receipt> {
        self.enqueue_file_until(account, kind, source, options, std::future::pending()).await
    }

    /// The same, unless somebody gives it up while it is copied. From then on it is saved, whoever gives it up.
    ///
    /// # Errors
    ///
    /// As [`Outbox::enqueue_file`], and `aborted` if it was given up in time.
    pub(crate) async fn enqueue_file_until(
        &self,
        account: &Arc<str>,
        kind: &str,
        source: impl Into<FileSource>,
        options: FileOptions,
        given_up: impl Future<Output = ()> + Send,
    ) -> Result<Receipt> {
        let asked = self.asked(kind, options)?;
        self.enqueue_asked(account, asked, source.into(), given_up).await.map(|(receipt, _)| receipt)
    }

    /// Answers the SHA-256 of the file as well.
    pub(super) async fn enqueue_asked(
        &self,
        account: &Arc<str>,
        asked: Asked<'_>,
        source: FileSource,
        given_up: impl Future<Output = ()> + Send,
    ) -> Result<(Receipt, [u8; 32])> {
        let needed: Vec<Uuid> = asked.parents.iter().filter(|parent| parent.needs_id).map(|parent| parent.id).collect();
        self.check_references(account, needed).await?;
        // Before anything is copied: without a key it would be for nothing. It is not held meanwhile, or a rotation could not end.
        drop(self.master_key(account).await?);
        let turns = self.shared.turns.of(&source);
        let copying = async {
            // Nobody closes them.
            let _turn = turns.acquire().await.ok();
            let order = self.order(account, &asked).await?;
            match source {
                FileSource::File(file) => copy::file(file, order).await,
                FileSource::Reader { reader, length } => copy::reader(reader, length, order).await,
            }
        };
        let copied = tokio::select! {
            biased;
            () = given_up => return Err(Error::Aborted),
            copied = copying => copied?,
        };
        let receipt = Receipt { id: asked.id, kind: asked.kind.to_owned(), key: asked.options.key.clone() };
        let sha256 = copied.sha256;
        self.take_file(account, asked, copied).await?;
        Ok((receipt, sha256))
    }

    /// What a file that waits is called, how large it is, and its digest. Needs the key.
    ///
    /// # Errors
    ///
    /// `not_found`; `wrong_state` for an entry whose payload is no file, or is no longer kept; `undecryptable`; those of the keychain.
    pub async fn file(&self, id: Uuid) -> Result<FileInfo> {
        let account = self.account().await?;
        let Some((row, sealed, file)) = self.parts().store.file(&account, id).await? else {
            return Err(Error::NotFound(id));
        };
        let entry = &row.entry;
        let Some(file) = file else {
            return Err(Error::WrongState(format!("entry {id} is no file: ask for its `payload`")));
        };
        if sealed.body.is_empty() {
            return Err(super::query::gone(entry));
        }
        let master = self.key_of(&account, &sealed.key_id).await?;
        let record = opened(&master, &account, entry, &sealed, &file)?;
        Ok(FileInfo {
            name: record.name,
            content_type: entry.content_type.clone(),
            bytes: record.length,
            sha256: record.sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
            metadata: record.metadata.into_iter().collect(),
        })
    }

    /// Everything that can be known of it before it is read.
    pub(super) fn asked<'s>(&'s self, kind: &'s str, options: FileOptions) -> Result<Asked<'s>> {
        let (options, said) = options.split();
        let id = options.id.unwrap_or_else(Uuid::now_v7);
        let endpoint = validate::file(&self.parts().settings, kind, id, &said, &options)?;
        let parents = relations::parents(id, &Payload::bytes([], &*said.content_type), &options)?;
        Ok(Asked { id, kind, endpoint, options, said, parents, watched: None })
    }

    async fn order(&self, account: &Arc<str>, asked: &Asked<'_>) -> Result<Order> {
        let known = asked.options.id.is_some() && self.parts().store.row(account, asked.id).await?.is_some();
        let room = if known { None } else { Some(self.limit().await?) };
        Ok(Order {
            spool: self.shared.spool.clone(),
            account: Arc::clone(account),
            id: asked.id,
            kind: asked.kind.to_owned(),
            generation: seal::FIRST_GENERATION,
            room,
        })
    }

    /// What waiting files may take and what they take.
    async fn limit(&self) -> Result<Limit> {
        let Parts { store, settings, .. } = self.parts();
        let (store, spool, runtime) = (store.clone(), self.shared.spool.clone(), Handle::current());
        // What is committed between these two is counted twice rather than not at all.
        let taken = Taken { since: spool.committed(), used: store.spool_bytes().await? };
        let ask = Box::new(move || {
            let since = spool.committed();
            runtime.block_on(store.spool_bytes()).ok().map(|used| Taken { used, since })
        });
        Ok(Limit { bytes: settings.limits.spool_bytes, taken, ask })
    }

    /// Puts the row on disk that names the file, or finds that it is there already.
    async fn take_file(&self, account: &Arc<str>, asked: Asked<'_>, copied: Copied) -> Result<()> {
        // The key was there before the copy. Of an account that was signed out meanwhile it is not any more, and no other one is made.
        let master = match self.parts().keys.cached(account) {
            Some(master) => master,
            None => self.other_master_key(account).await?,
        };
        let Copied { content, length, sha256 } = copied;
        let Said { name, metadata, .. } = &asked.said;
        let mut record = FileRecord { name: name.clone(), length, sha256, metadata: metadata.clone(), spooled: None };
        let (body, spooled) = match content {
            Content::Small(bytes) => (Some(bytes), None),
            Content::Spooled(spooled, key) => (None, Some((spooled, key))),
            Content::Known => {
                let existing = self.existing(account, asked.id).await?;
                // It went while the file was read.
                let Some(existing) = existing else { return Err(Error::NotFound(asked.id)) };
                return self.same_file(account, &existing, &asked, &record).await;
            }
        };
        let (spooled, key) = spooled.unzip();
        record.spooled = key.map(|key| (key, Chunks::SIZE));
        let entry = asked.sealed(&master, account, &record, body.as_ref(), spooled.as_ref());
        let inserted = self.insert_file(entry, spooled).await;
        if matches!(inserted, Err(Error::SignedOut)) {
            // Its key is worth nothing any more: whoever tries again gets another one.
            drop(self.other_master_key(account).await);
        }
        match inserted? {
            Inserted::New => {
                self.wake(Wake::Enqueued).await;
                Ok(())
            }
            Inserted::Exists(existing) => self.same_file(account, &existing, &asked, &record).await,
        }
    }

    /// In a task of its own: once the row may be on disk, nobody may take its file away by going away.
    async fn insert_file(&self, entry: NewEntry, spooled: Option<Spooled>) -> Result<Inserted> {
        let Parts { store, settings, .. } = self.parts();
        let (store, limit, now) = (store.clone(), settings.limits.entries, self.now());
        let inserting = tokio::spawn(async move {
            let answer = store.enqueue(vec![entry], limit, now).await;
            let refused = match &answer {
                Ok(answers) => !matches!(answers.first(), Some(Inserted::New)),
                Err(
                    Error::QuotaReached { .. }
                    | Error::IdConflict(_)
                    | Error::InvalidArgument(_)
                    | Error::DiskFull
                    | Error::SignedOut,
                ) => true,
                // Whether the row is there is not known: if it is not, the next start removes the file.
                Err(_) => false,
            };
            if let Some(spooled) = spooled.filter(|_| !refused) {
                spooled.keep();
            }
            answer
        });
        let answer = inserting.await.map_err(|_| Error::Closed)??;
        answer.into_iter().next().ok_or(Error::Closed)
    }

    async fn existing(&self, account: &str, id: Uuid) -> Result<Option<crate::store::Existing>> {
        let found = self.parts().store.payload(account, id).await?;
        Ok(found.map(|(row, sealed)| crate::store::Existing {
            id,
            account: account.to_owned(),
            kind: row.entry.kind,
            key: row.entry.key,
            content_type: row.entry.content_type,
            generation: sealed.generation,
            key_id: sealed.key_id,
            wrapped_key: sealed.wrapped_key,
            digest: sealed.digest,
        }))
    }

    async fn same_file(
        &self,
        account: &str,
        existing: &crate::store::Existing,
        asked: &Asked<'_>,
        record: &FileRecord,
    ) -> Result<()> {
        let Asked { kind, said, options, .. } = asked;
        let named = (account, *kind, said.content_type.as_str());
        if *existing.account == *account {
            drop(self.key_of(account, &existing.key_id).await?);
        }
        if seal::is_same(&self.parts().keys, existing, named, &seal::Content::File(record), options)? {
            return Ok(());
        }
        Err(Error::IdConflict(asked.id))
    }
}

impl Asked<'_> {
    pub(super) fn sealed(
        &self,
        master: &MasterKey,
        account: &str,
        record: &FileRecord,
        body: Option<&Zeroizing<Vec<u8>>>,
        spooled: Option<&Spooled>,
    ) -> NewEntry {
        let Self { id, kind, endpoint, options, said, parents, watched } = self;
        let content_type = &said.content_type;
        let binding = Binding {
            account,
            id: *id,
            kind,
            key: options.key.as_deref(),
            content_type,
            generation: seal::FIRST_GENERATION,
        };
        let body = body.map(|body| body.as_slice());
        let (payload, described) = seal::seal_file(master, &binding, record, body, options);
        NewEntry {
            id: *id,
            account: account.to_owned(),
            kind: (*kind).to_owned(),
            key: options.key.clone(),
            queue: options.queue.unwrap_or(endpoint.queue),
            content_type: content_type.clone(),
            bytes: record.length,
            payload,
            chosen_id: options.id.is_some(),
            action: options.action,
            payload_version: endpoint.payload_version,
            annihilates: false,
            parents: parents.clone(),
            file: Some(NewFile {
                spool: spooled.map(|spooled| (spooled.name().to_owned(), spooled.bytes())),
                sealed: described,
            }),
            watched: watched.as_ref().map(|of| of.row(&record.sha256)),
        }
    }
}

fn opened(
    master: &MasterKey,
    account: &str,
    entry: &Entry,
    sealed: &SealedPayload,
    file: &LoadedFile,
) -> Result<FileRecord> {
    let Entry { id, kind, key, content_type, .. } = entry;
    let binding = Binding { account, id: *id, kind, key: key.as_deref(), content_type, generation: sealed.generation };
    let described = file.sealed.as_ref().unwrap_or(&sealed.body);
    seal::open_record(master, &binding, &sealed.wrapped_key, described)
}

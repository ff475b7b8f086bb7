//! Uploads by tus that are under way: how far each is, and what becomes of it when it is whole.

use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// A file that is being uploaded.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Upload {
    /// Its id, which will be that of the thing.
    pub id: String,
    /// The collection that the thing will be in.
    pub collection: String,
    /// The last part of that.
    pub kind: String,
    /// Size of the file in bytes.
    pub length: u64,
    /// How much of it there is.
    #[serde(skip)]
    pub offset: u64,
    /// `Upload-Metadata` as sent.
    pub metadata: String,
    /// `Idempotency-Key` without its quotes.
    pub idempotency_key: Option<String>,
    /// `Sync-Key` as sent.
    pub sync_key: Option<String>,
    pub(crate) method: String,
    pub(crate) revision: Option<u64>,
    pub(crate) device: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) fingerprint: String,
    /// SHA-256 that the file is to have, in hexadecimal.
    pub(crate) digest: Option<String>,
    /// In milliseconds since 1970.
    pub(crate) expires: u64,
    /// Where it stood before its last chunk.
    #[serde(skip)]
    pub(crate) before: u64,
    /// Counts whoever asked for it: only the last one may go on writing.
    #[serde(skip)]
    pub(crate) turn: u64,
}

impl Upload {
    /// What `Upload-Metadata` says, decoded.
    pub fn told(&self) -> BTreeMap<String, String> {
        use base64::{Engine as _, prelude::BASE64_STANDARD};
        let pairs = self.metadata.split(',').map(str::trim).filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| {
                let (name, value) = pair.split_once(' ').unwrap_or((pair, ""));
                let value = BASE64_STANDARD.decode(value.trim()).unwrap_or_default();
                (name.to_owned(), String::from_utf8_lossy(&value).into_owned())
            })
            .collect()
    }

    /// When it is given up.
    pub(crate) fn expires(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.expires)
    }
}

/// All of them.
pub(crate) struct Uploads {
    lifetime: Duration,
    /// By id, which is also the order in which they were begun.
    list: BTreeMap<String, Upload>,
    /// Those that are whole, with their size.
    finished: BTreeMap<String, Upload>,
    /// Those that were given up: 410.
    gone: HashSet<String>,
    folder: PathBuf,
}

impl Uploads {
    pub(crate) fn new(lifetime: Duration) -> Self {
        let (list, finished) = Default::default();
        Self { lifetime, list, finished, gone: HashSet::new(), folder: PathBuf::new() }
    }

    /// Takes up what an earlier process left in `folder`.
    pub(crate) fn open(&mut self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        folder.clone_into(&mut self.folder);
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let mut upload: Upload = serde_json::from_slice(&fs::read(&path)?)?;
                upload.offset = fs::metadata(self.part(&upload.id)).map_or(0, |part| part.len().min(upload.length));
                self.list.insert(upload.id.clone(), upload);
            }
        }
        Ok(())
    }

    /// Where the bytes of an upload are.
    pub(crate) fn part(&self, id: &str) -> PathBuf {
        self.folder.join(id)
    }

    fn record(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    pub(crate) fn unfinished(&self) -> impl Iterator<Item = &Upload> {
        self.list.values()
    }

    /// Begins one.
    pub(crate) fn begin(&mut self, mut upload: Upload) -> io::Result<()> {
        let ends = SystemTime::now() + self.lifetime;
        let since = ends.duration_since(UNIX_EPOCH).unwrap_or_default();
        upload.expires = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        fs::write(self.part(&upload.id), [])?;
        fs::write(self.record(&upload.id), serde_json::to_vec(&upload)?)?;
        self.list.insert(upload.id.clone(), upload);
        Ok(())
    }

    /// One that is under way or finished; the status to answer if it is neither.
    pub(crate) fn get(&mut self, id: &str) -> Result<&mut Upload, u16> {
        if self.list.get(id).is_some_and(|upload| upload.expires() <= SystemTime::now()) {
            self.end(id);
        }
        let gone = self.gone.contains(id);
        let known = self.list.get_mut(id).or_else(|| self.finished.get_mut(id));
        known.ok_or(if gone { 410 } else { 404 })
    }

    /// The same by the key of the request that began it.
    pub(crate) fn begun_by(&self, idempotency_key: &str) -> Option<&Upload> {
        let by = |upload: &&Upload| upload.idempotency_key.as_deref() == Some(idempotency_key);
        self.list.values().find(by)
    }

    /// Where an upload belongs, for the rules.
    pub(crate) fn subject(&self, id: &str) -> Option<&Upload> {
        self.list.get(id).or_else(|| self.finished.get(id))
    }

    /// It is whole, and its bytes are elsewhere.
    pub(crate) fn finish(&mut self, id: &str) {
        if let Some(mut upload) = self.list.remove(id) {
            upload.before = upload.offset;
            upload.offset = upload.length;
            // What cannot be removed is taken up by the next process, and wants for nothing but room.
            let _ = fs::remove_file(self.record(id));
            self.finished.insert(id.to_owned(), upload);
        }
    }

    /// Gives one up: 410 from now on.
    pub(crate) fn end(&mut self, id: &str) {
        self.remove(id);
        self.finished.remove(id);
        self.gone.insert(id.to_owned());
    }

    /// Forgets one: 404 from now on.
    pub(crate) fn remove(&mut self, id: &str) {
        if self.list.remove(id).is_some() {
            let _ = fs::remove_file(self.part(id));
            let _ = fs::remove_file(self.record(id));
        }
    }

    pub(crate) fn expire(&mut self) {
        self.list.keys().cloned().collect::<Vec<_>>().iter().for_each(|id| self.end(id));
    }

    pub(crate) fn lose(&mut self) {
        self.list.keys().cloned().collect::<Vec<_>>().iter().for_each(|id| self.remove(id));
    }
}

//! Folders whose files upload themselves: which ones there are, and how they are followed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch::{Receiver, Sender};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    Outbox, Parts,
    payload::{self, EnqueueOptions, OCTET_STREAM},
    seal,
    source::Said,
    validate,
};
use crate::{
    cipher::{Binding, DataKey, KeyId, MasterKey, Part},
    config::{Body, Endpoint},
    entry::{Action, WatchState, WatchStatus},
    error::{Error, Result},
    store::{WatchKey, WatchRow},
    wake::Wake,
};

/// So many folders one account may have watched.
const WATCHES: usize = 100;
/// So many patterns a watch may have, and so many bytes each.
const PATTERNS: usize = 100;
const PATTERN_BYTES: usize = 1024;
/// Where files go that were delivered, if nothing else is said.
const SYNCED: &str = ".synced";

/// What becomes of a file once the server has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AfterAck {
    /// It stays. The folder is what the server is to hold: a file that goes from it goes from the server, where its endpoint has a `delete`.
    #[default]
    Keep,
    /// It is deleted. The folder is where things are handed over: what vanishes from it does not vanish from the server.
    Delete,
    /// It is moved into a folder in the watched one; otherwise as with [`AfterAck::Delete`].
    Move,
}

/// How a folder is watched. In JSON: camelCase, everything but `kind` optional, `null` is as good as absent.
///
/// [`Debug`](fmt::Debug) shows what is set, never a value.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WatchOptions {
    /// Names the endpoint that the files go to. It takes files (`"raw"`, `"multipart"` or `"tus"`).
    pub kind: String,
    /// Files in the folder's folders too. Default: false.
    #[serde(default, deserialize_with = "payload::or_default")]
    pub recursive: bool,
    /// Which files, by their names: `*` stands for anything within a name, `?` for one character, `[a-z]` for one of several. With a `/` in it a
    /// pattern is of the path below the folder, where `**` stands for any folders. A `!` in front excludes, and wins. At most 100. Default: all.
    #[serde(default, deserialize_with = "payload::or_default")]
    pub patterns: Vec<String>,
    /// What becomes of a file once the server has it. Default: [`AfterAck::Keep`].
    #[serde(default, deserialize_with = "payload::or_default")]
    pub after_ack: AfterAck,
    /// With [`AfterAck::Move`]: the name of the folder in the watched one that files are moved into. What is in it is not uploaded. Default:
    /// `.synced`.
    #[serde(default)]
    pub move_to: Option<String>,
    /// As [`EnqueueOptions::params`], the same for every file.
    #[serde(default, deserialize_with = "payload::params")]
    pub params: BTreeMap<String, String>,
    /// The media type of every file. Default: [`OCTET_STREAM`].
    #[serde(default)]
    pub content_type: Option<String>,
}

impl WatchOptions {
    /// With the defaults.
    pub fn new(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), ..Self::default() }
    }
}

impl fmt::Debug for WatchOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchOptions")
            .field("recursive", &self.recursive)
            .field("patterns", &self.patterns.len())
            .field("after_ack", &self.after_ack)
            .field("params", &self.params.len())
            .finish_non_exhaustive()
    }
}

/// A folder that is watched. [`Debug`](fmt::Debug) does not show which.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Watch {
    /// Names it for ever.
    pub id: Uuid,
    /// The folder, as it was given.
    pub dir: String,
    /// Where its files go.
    pub kind: String,
    /// Files in its folders too.
    pub recursive: bool,
    /// Which files; none: all.
    pub patterns: Vec<String>,
    /// What becomes of a file once the server has it.
    pub after_ack: AfterAck,
    /// The folder in it that files are moved into.
    pub move_to: Option<String>,
    /// How it is followed.
    pub state: WatchState,
    /// Why it is not followed better, or which files are left out, in words. Never a name.
    pub why: Option<String>,
    /// So many of its files are known, and were enqueued.
    pub files: u64,
    /// So many of them the server has as they are known.
    pub delivered: u64,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("id", &self.id).field("state", &self.state).finish_non_exhaustive()
    }
}

/// What is sealed of a watch.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Sealed {
    pub(crate) dir: String,
    /// Where it really was when it was first watched. Part of the names of its files' lanes.
    root: String,
    pub(crate) recursive: bool,
    pub(crate) patterns: Vec<String>,
    pub(crate) after_ack: AfterAck,
    pub(crate) move_to: Option<String>,
    pub(super) params: BTreeMap<String, String>,
    pub(super) content_type: String,
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
    pub(super) names: Arc<Names>,
    /// Another one was said since.
    stamp: Vec<u8>,
}

impl Plan {
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
pub(super) struct Names {
    data: DataKey,
}

impl Names {
    pub(super) fn hash(&self, sha256: &[u8; 32]) -> [u8; 32] {
        self.data.tag("content", &[sha256])
    }

    fn binding<'b>(account: &'b str, id: Uuid, kind: &'b str) -> Binding<'b> {
        Binding { account, id, kind, key: None, content_type: "", generation: seal::FIRST_GENERATION }
    }
}

/// What this process follows.
#[derive(Default)]
pub(super) struct Watching {
    /// Rises when there may be other watches, or others to follow.
    list: Sender<u64>,
    states: Mutex<BTreeMap<Uuid, Followed>>,
    /// One change of the list at a time.
    changing: tokio::sync::Mutex<()>,
}

#[derive(Clone, PartialEq, Eq)]
struct Followed {
    account: Arc<str>,
    kind: String,
    state: WatchState,
    why: Option<String>,
}

impl Watching {
    pub(super) fn changed(&self) {
        self.list.send_modify(|version| *version += 1);
    }

    pub(super) fn states_of(&self, account: &str) -> Vec<WatchStatus> {
        let states = self.states();
        let own = states.iter().filter(|(_, followed)| *followed.account == *account);
        own.map(|(id, Followed { kind, state, .. })| WatchStatus { id: *id, kind: kind.clone(), state: *state })
            .collect()
    }

    /// Every change of it is a single step.
    fn states(&self) -> MutexGuard<'_, BTreeMap<Uuid, Followed>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outbox {
    /// Has the files of a folder uploaded by themselves from now on, also after restarts, until [`Outbox::unwatch`]: those that are in it and
    /// those that come. A folder that is watched for that kind already is watched as this says from now on.
    ///
    /// `dir` is how the folder was named, `root` where it really is.
    ///
    /// # Errors
    /// `unknown_kind`, `invalid_argument`; those of the keychain; `signed_out`.
    pub async fn watch(&self, dir: &str, root: &str, options: WatchOptions) -> Result<Watch> {
        let sealed = self.checked_watch(dir, root, &options)?;
        let account = self.account().await?;
        let _one = self.shared.watching.changing.lock().await;
        let names = self.names(&account).await?;
        let tag = names.data.tag("folder", &[options.kind.as_bytes(), root.as_bytes()]);
        let rows = self.parts().store.watches(&account).await?;
        let known = rows.iter().find(|row| row.tag == tag).map(|row| row.id);
        if known.is_none() && rows.len() >= WATCHES {
            return Err(Error::argument(format!(
                "{WATCHES} folders are watched, which is the most: `unwatch` one first"
            )));
        }
        let id = known.unwrap_or_else(Uuid::now_v7);
        // A map, a list and texts always are JSON.
        let plain =
            Zeroizing::new(serde_json::to_vec(&sealed).map_err(|_| Error::argument("it cannot be written down"))?);
        let binding = Names::binding(&account, id, &options.kind);
        let boxed = names.data.seal(Part::Watch, &binding, &plain);
        // What is in folders that are not looked into any more is not gone.
        let anew = match rows.into_iter().find(|row| row.id == id) {
            Some(row) => self.plan(&account, &names, row)?.sealed.recursive && !sealed.recursive,
            None => false,
        };
        let row = WatchRow { id, account: account.to_string(), kind: options.kind, tag, sealed: boxed, folder: None };
        if !self.parts().store.put_watch(row.clone(), anew).await? {
            return Err(Error::SignedOut);
        }
        self.watches_changed().await;
        self.described(self.plan(&account, &names, row)?).await
    }

    /// Uploads no more files of that folder. What is enqueued stays so, and nothing is deleted anywhere.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn unwatch(&self, id: Uuid) -> Result<()> {
        let account = self.account().await?;
        let _one = self.shared.watching.changing.lock().await;
        if !self.parts().store.remove_watch(&account, id).await? {
            return Err(Error::NotFound(id));
        }
        self.watches_changed().await;
        Ok(())
    }

    /// The watched folders of the current account, the oldest first.
    ///
    /// # Errors
    /// Those of the keychain, if there are any.
    pub async fn watches(&self) -> Result<Vec<Watch>> {
        let mut watches = Vec::new();
        for plan in self.plans().await? {
            watches.push(self.described(plan).await?);
        }
        Ok(watches)
    }

    /// What there is to follow. Does not touch the keychain where that is nothing.
    pub(crate) async fn plans(&self) -> Result<Vec<Plan>> {
        let account = self.account().await?;
        let rows = self.parts().store.watches(&account).await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let names = self.names(&account).await?;
        let plan = |row: WatchRow| {
            let plan = self.plan(&account, &names, row);
            plan.inspect_err(|error| tracing::error!(%error, "a watched folder is not followed: `unwatch` it")).ok()
        };
        Ok(rows.into_iter().filter_map(plan).collect())
    }

    /// Tells when [`Outbox::plans`] may answer something new for this process. Ask for it before the first time.
    pub(crate) fn plan_news(&self) -> PlanNews {
        let Parts { board, keys, .. } = self.parts();
        PlanNews {
            outbox: self.clone(),
            list: self.shared.watching.list.subscribe(),
            others: board.others(),
            granted: keys.granted(),
            board: board.version(),
            owner: board.owner(),
        }
    }

    /// Whether this process is the one that follows folders.
    pub(crate) fn follows(&self) -> bool {
        self.parts().board.owner()
    }

    /// Says how a folder is followed.
    pub(crate) fn post_watch(&self, plan: &Plan, state: WatchState, why: Option<String>) {
        let (account, kind) = (Arc::clone(&plan.account), plan.kind.clone());
        let followed = Followed { account, kind, state, why };
        let before = self.shared.watching.states().insert(plan.id, followed.clone());
        if before.as_ref() != Some(&followed) {
            tracing::debug!(watch = %plan.id, ?state, why = followed.why, "how a folder is watched");
            self.status_changed();
        }
    }

    /// Only these are followed from now on.
    pub(crate) fn keep_watches(&self, ids: &BTreeSet<Uuid>) {
        let mut states = self.shared.watching.states();
        let before = states.len();
        states.retain(|id, _| ids.contains(id));
        let fewer = states.len() < before;
        drop(states);
        if fewer {
            self.status_changed();
        }
    }

    /// Puts the key of the account's watches under the new master key: how many were, and how many could not be.
    pub(super) async fn rewrap_watch_key(&self, account: &str, old: KeyId, new: &MasterKey) -> Result<(u64, u64)> {
        let Parts { store, keys, .. } = self.parts();
        let Some(key) = store.watch_key(account).await?.filter(|key| key.key_id == old.0) else { return Ok((0, 0)) };
        let binding = Names::binding(account, key.id, "");
        let data = keys.of_id(account, &old.0).and_then(|old| old.unwrap(&key.wrapped_key, &binding).ok());
        let Some(data) = data else { return Ok((0, 1)) };
        let again = WatchKey { key_id: new.id().0, wrapped_key: new.wrap_again(&data, &binding), ..key };
        Ok((u64::from(store.rewrap_watch_key(old.0, again).await?), 0))
    }

    async fn watches_changed(&self) {
        self.shared.watching.changed();
        self.status_changed();
        self.wake(Wake::Changed).await;
    }

    /// The account's key for names, made if there is none.
    async fn names(&self, account: &str) -> Result<Arc<Names>> {
        let Parts { store, keys, .. } = self.parts();
        let mut master = self.master_key(account).await?;
        let mut again = false;
        let key = loop {
            if let Some(key) = store.watch_key(account).await? {
                break key;
            }
            let id = Uuid::now_v7();
            let (_, wrapped_key) = master.new_data_key(&Names::binding(account, id, ""));
            let key = WatchKey { account: account.to_owned(), id, key_id: master.id().0, wrapped_key };
            match store.keep_watch_key(key).await {
                // Another process has begun the queue anew, or signed the account out.
                Err(Error::SignedOut) if !again => (again, master) = (true, self.other_master_key(account).await?),
                kept => drop(kept?),
            }
        };
        let master = keys.of_id(account, &key.key_id).ok_or(Error::KeyMismatch)?;
        let data = master.unwrap(&key.wrapped_key, &Names::binding(account, key.id, ""));
        Ok(Arc::new(Names { data: data.map_err(|_| Error::Undecryptable(key.id))? }))
    }

    fn plan(&self, account: &Arc<str>, names: &Arc<Names>, row: WatchRow) -> Result<Plan> {
        let binding = Names::binding(account, row.id, &row.kind);
        let plain = names.data.open(Part::Watch, &binding, &row.sealed).ok();
        let sealed = plain.and_then(|plain| serde_json::from_slice(&plain).ok());
        let sealed: Sealed = sealed.ok_or(Error::Undecryptable(row.id))?;
        Ok(Plan {
            id: row.id,
            account: Arc::clone(account),
            kind: row.kind,
            folder: row.folder,
            sealed: Arc::new(sealed),
            names: Arc::clone(names),
            stamp: row.sealed,
        })
    }

    async fn described(&self, plan: Plan) -> Result<Watch> {
        let count = self.parts().store.count_watched(plan.id).await?;
        let followed = self.shared.watching.states().get(&plan.id).cloned();
        let (state, why) = followed.map_or((WatchState::Waiting, None), |followed| (followed.state, followed.why));
        let Sealed { dir, recursive, patterns, after_ack, move_to, .. } = (*plan.sealed).clone();
        Ok(Watch {
            id: plan.id,
            dir,
            kind: plan.kind,
            recursive,
            patterns,
            after_ack,
            move_to,
            state,
            why,
            files: count.files,
            delivered: count.acked,
        })
    }

    /// Everything that can be known of a watch before its folder is looked into.
    fn checked_watch(&self, dir: &str, root: &str, options: &WatchOptions) -> Result<Sealed> {
        let settings = &self.parts().settings;
        let WatchOptions { kind, recursive, patterns, after_ack, move_to, params, content_type } = options;
        let content_type = content_type.clone().unwrap_or_else(|| OCTET_STREAM.to_owned());
        let key = super::watched::key(&[0; 32]);
        let example = EnqueueOptions { key: Some(key.clone()), params: params.clone(), ..EnqueueOptions::default() };
        let said = Said { name: Some("a".into()), content_type: content_type.clone(), metadata: Vec::new() };
        let endpoint = validate::file(settings, kind, Uuid::now_v7(), &said, &example)?;
        if endpoint.delete.is_some() {
            endpoint.check_values(Some(Action::Delete), Some(&key), &of_delete(endpoint, params))?;
        }
        refuse_patterns(patterns)?;
        let move_to = match (after_ack, move_to) {
            (AfterAck::Move, name) => Some(name.clone().unwrap_or_else(|| SYNCED.to_owned())),
            (_, Some(_)) => return Err(Error::argument("`moveTo` goes with `afterAck: \"move\"`")),
            (_, None) => None,
        };
        if move_to.as_deref().is_some_and(|name| !is_folder_name(name)) {
            return Err(Error::argument(
                "`moveTo` is the name of one folder in the watched one, without `/`, `\\` or `..`",
            ));
        }
        Ok(Sealed {
            dir: dir.to_owned(),
            root: root.to_owned(),
            recursive: *recursive,
            patterns: patterns.clone(),
            after_ack: *after_ack,
            move_to,
            params: params.clone(),
            content_type,
        })
    }
}

/// See [`Outbox::plan_news`].
pub(crate) struct PlanNews {
    outbox: Outbox,
    list: Receiver<u64>,
    others: Receiver<u64>,
    granted: Receiver<u64>,
    board: Receiver<u64>,
    owner: bool,
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

/// Those of a watch's params that the URL of a delete names.
pub(super) fn of_delete(endpoint: &Endpoint, params: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let Some(route) = &endpoint.delete else { return BTreeMap::new() };
    let named: BTreeSet<&str> = route.url.params().into_iter().collect();
    let own = params.iter().filter(|(name, _)| named.contains(name.as_str()));
    own.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Whether an endpoint is told what a file is called beside it.
pub(super) fn tells_names(endpoint: &Endpoint) -> bool {
    matches!(endpoint.body, Body::Multipart | Body::Tus)
}

fn refuse_patterns(patterns: &[String]) -> Result<()> {
    if patterns.len() > PATTERNS {
        return Err(Error::argument(format!("`patterns` has {} of them and may have {PATTERNS}", patterns.len())));
    }
    for (place, pattern) in patterns.iter().enumerate() {
        let bare = pattern.strip_prefix('!').unwrap_or(pattern);
        let wrong = if bare.is_empty() {
            "is empty"
        } else if bare.len() > PATTERN_BYTES {
            "is longer than any name"
        } else if bare.starts_with('/') || bare.chars().any(char::is_control) {
            "is of a path below the folder, such as `*.png` or `drafts/**/*.md`"
        } else if glob::Pattern::new(bare).is_err() {
            "is no pattern: `**` stands for whole folders, and a `[` has its `]`"
        } else {
            continue;
        };
        return Err(Error::argument(format!("`patterns[{place}]` {wrong}")));
    }
    Ok(())
}

fn is_folder_name(name: &str) -> bool {
    let plain = !name.is_empty() && name.len() <= 255 && !matches!(name, "." | "..");
    plain && !name.chars().any(|c| c.is_control() || "/\\<>:\"|?*".contains(c)) && !name.ends_with(['.', ' '])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_options_nor_what_is_known_of_a_watch_show_names() {
        let options: WatchOptions = serde_json::from_str(
            r#"{ "kind": "s3cret", "patterns": ["s3cret"], "moveTo": "s3cret", "params": { "a": "s3cret" }, "recursive": null }"#,
        )
        .unwrap();
        let watch = Watch {
            id: Uuid::nil(),
            dir: "/s3cret".into(),
            kind: "s3cret".into(),
            recursive: true,
            patterns: vec!["s3cret".into()],
            after_ack: AfterAck::Move,
            move_to: Some("s3cret".into()),
            state: WatchState::Watching,
            why: None,
            files: 0,
            delivered: 0,
        };
        let shown = format!("{options:?} {watch:?}");
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(!options.recursive);
    }

    #[test]
    fn a_folder_to_move_into_is_one_name_and_patterns_are_of_paths_below() {
        for good in [".synced", "done", "fertig gemacht", "ü"] {
            assert!(is_folder_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a\\b", "/a", "a\n", "a.", "a ", "c:"] {
            assert!(!is_folder_name(bad), "{bad:?}");
        }
        let refused = |pattern: &str| refuse_patterns(&["*".into(), pattern.into()]).is_err();
        for good in ["*.png", "!*.tmp", "a/**/*.md", "[a-c]?"] {
            assert!(!refused(good), "{good}");
        }
        for bad in ["", "!", "/etc/*", "a**", "[a", "a\nb"] {
            let error = refuse_patterns(&["*".into(), bad.into()]).unwrap_err().to_string();
            assert!(error.starts_with("`patterns[1]`"), "{error}");
        }
    }
}

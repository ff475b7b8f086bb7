//! Folders whose files upload themselves: which ones there are, and how they are followed.

mod options;
mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch::Sender;
use uuid::Uuid;
use zeroize::Zeroizing;

pub use self::options::{AfterAck, Watch, WatchOptions};
pub(super) use self::plan::Names;
pub(crate) use self::plan::{Plan, PlanNews};
use self::{
    options::{is_folder_name, refuse_patterns},
    plan::Sealed,
};
use super::{
    Outbox, Parts,
    payload::{EnqueueOptions, OCTET_STREAM},
    source::Said,
    validate,
};
use crate::{
    cipher::{KeyId, MasterKey, Part},
    config::{Body, Endpoint},
    entry::{Action, WatchState, WatchStatus},
    error::{Error, Result},
    store::{WatchKey, WatchRow},
    wake::Wake,
};

/// So many folders one account may have watched.
const WATCHES: usize = 100;
/// Where files go that were delivered, if nothing else is said.
const SYNCED: &str = ".synced";

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
        // What is in folders that are not looked into any more is not gone, nor is what was taken from there once the server had it.
        let anew = match rows.into_iter().find(|row| row.id == id) {
            Some(row) => {
                let plan = Plan::open(&account, &names, row)?;
                let before = &plan.sealed;
                if **before == sealed {
                    // Whoever follows it goes on; where nobody does any more, it begins again.
                    self.watches_changed().await;
                    return self.described(plan).await;
                }
                let kept = |sealed: &Sealed| sealed.after_ack == AfterAck::Keep;
                before.recursive && !sealed.recursive || !kept(before) && kept(&sealed)
            }
            None => false,
        };
        let row = WatchRow { id, account: account.to_string(), kind: options.kind, tag, sealed: boxed, folder: None };
        if !self.parts().store.put_watch(row.clone(), anew).await? {
            return Err(Error::SignedOut);
        }
        self.watches_changed().await;
        self.described(Plan::open(&account, &names, row)?).await
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
            let plan = Plan::open(&account, &names, row);
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
        let store = &self.parts().store;
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
        let master = self.key_of(account, &key.key_id).await?;
        let data = master.unwrap(&key.wrapped_key, &Names::binding(account, key.id, ""));
        Ok(Arc::new(Names { data: data.map_err(|_| Error::Undecryptable(key.id))? }))
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

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;
use zeroize::Zeroizing;

use super::{
    KeyRecord, KeySource, Keys, SourceError,
    testing::{MemoryKeys, Mood},
};
use crate::{
    cipher::{KeyId, MasterKey},
    entry::KeyState,
    error::{Error, Result},
};

mod rotation;

/// Long enough that no test meets it by chance.
const LONG: Duration = Duration::from_secs(60);
/// For tests that wait for the timeout itself.
const SHORT: Duration = Duration::from_millis(100);

/// What the database would say, and what it was told to keep.
#[derive(Clone, Default)]
struct Record {
    now: Arc<Mutex<KeyRecord>>,
    kept: Arc<AtomicUsize>,
    broken: Arc<AtomicBool>,
}

impl Record {
    fn of(id: Option<KeyId>, encrypted_rows: bool) -> Self {
        Self { now: Arc::new(Mutex::new(KeyRecord { id, encrypted_rows })), ..Self::default() }
    }

    fn id(&self) -> Option<KeyId> {
        self.now.lock().unwrap().id
    }

    async fn get(&self, keys: &Keys, account: &str) -> Result<Arc<MasterKey>> {
        keys.get(account, || async { Ok(*self.now.lock().unwrap()) }, |id| self.keep(id)).await
    }

    async fn keep(&self, id: KeyId) -> Result<()> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(Error::DiskFull);
        }
        self.kept.fetch_add(1, Ordering::SeqCst);
        self.now.lock().unwrap().id = Some(id);
        Ok(())
    }
}

fn keys(source: &(impl KeySource + Clone), folder: &TempDir, timeout: Duration) -> Keys {
    Keys::new(Arc::new(source.clone()), folder.path().to_owned(), timeout)
}

fn setup() -> (MemoryKeys, TempDir, Record) {
    (MemoryKeys::new(), tempfile::tempdir().unwrap(), Record::default())
}

fn a_key() -> (Vec<u8>, KeyId) {
    let key = MasterKey::generate();
    (key.expose().to_vec(), key.id())
}

#[tokio::test]
async fn the_first_run_generates_stores_and_records_a_key() {
    let (source, folder, record) = setup();
    let keys = keys(&source, &folder, LONG);
    assert_eq!(keys.state("").state, KeyState::Unused);
    assert_eq!(keys.state("").source, "memory");
    assert!(keys.cached("").is_none());
    let key = record.get(&keys, "").await.unwrap();
    assert_eq!(source.key("").unwrap(), key.expose());
    assert_eq!(record.id(), Some(key.id()));
    assert_eq!(keys.state("").state, KeyState::Ready);
    assert_eq!(keys.cached("").unwrap().id(), key.id());
}

#[tokio::test]
async fn the_second_run_loads_the_same_key_and_keeps_nothing_anew() {
    let (source, folder, record) = setup();
    let first = record.get(&keys(&source, &folder, LONG), "").await.unwrap();
    let second = record.get(&keys(&source, &folder, LONG), "").await.unwrap();
    assert_eq!(first.id(), second.id());
    assert_eq!((source.stores(), record.kept.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test]
async fn no_key_although_the_database_was_written_with_one_is_missing_and_nothing_is_generated() {
    for record in [Record::of(Some(a_key().1), false), Record::of(Some(a_key().1), true), Record::of(None, true)] {
        let (source, folder, _) = setup();
        let keys = keys(&source, &folder, LONG);
        for _ in 0..2 {
            assert!(matches!(record.get(&keys, "").await, Err(Error::KeyMissing)));
        }
        assert_eq!(keys.state("").state, KeyState::Missing);
        assert_eq!((source.stores(), source.key(""), record.kept.load(Ordering::SeqCst)), (0, None, 0));
    }
}

#[tokio::test]
async fn a_missing_key_that_comes_back_is_used() {
    let (source, folder, _) = setup();
    let (bytes, id) = a_key();
    let (record, keys) = (Record::of(Some(id), true), keys(&source, &folder, LONG));
    assert!(matches!(record.get(&keys, "").await, Err(Error::KeyMissing)));
    source.put("", Some(bytes));
    assert_eq!(record.get(&keys, "").await.unwrap().id(), id);
    assert_eq!(keys.state("").state, KeyState::Ready);
}

#[tokio::test]
async fn another_key_is_a_mismatch_and_stays_untouched() {
    let other = a_key().0;
    for (kept, record) in [
        (other, Record::of(Some(a_key().1), true)),
        (vec![1, 2, 3], Record::of(Some(a_key().1), true)),
        // What is no key is somebody's all the same.
        (b"not a key".to_vec(), Record::default()),
        (Vec::new(), Record::default()),
    ] {
        let (source, folder, _) = setup();
        source.put("", Some(kept.clone()));
        let keys = keys(&source, &folder, LONG);
        assert!(matches!(record.get(&keys, "").await, Err(Error::KeyMismatch)));
        assert_eq!(keys.state("").state, KeyState::Mismatch);
        assert_eq!((source.stores(), source.key("")), (0, Some(kept)));
        assert!(keys.cached("").is_none());
    }
}

#[tokio::test]
async fn a_key_that_the_database_does_not_know_is_adopted() {
    for encrypted_rows in [false, true] {
        let (source, folder, _) = setup();
        let (bytes, id) = a_key();
        source.put("", Some(bytes));
        let record = Record::of(None, encrypted_rows);
        assert_eq!(record.get(&keys(&source, &folder, LONG), "").await.unwrap().id(), id);
        assert_eq!((record.id(), source.stores()), (Some(id), 0));
    }
}

#[tokio::test]
async fn a_key_is_not_used_before_the_database_knows_it_and_is_adopted_afterwards() {
    let (source, folder, record) = setup();
    let keys = keys(&source, &folder, LONG);
    record.broken.store(true, Ordering::SeqCst);
    assert!(matches!(record.get(&keys, "").await, Err(Error::DiskFull)));
    assert!(keys.cached("").is_none());
    let stored = source.key("").unwrap();
    record.broken.store(false, Ordering::SeqCst);
    assert_eq!(record.get(&keys, "").await.unwrap().expose(), stored);
    assert_eq!(source.stores(), 1);
}

#[tokio::test]
async fn a_database_that_cannot_be_read_leaves_the_source_alone() {
    let (source, folder, record) = setup();
    let keys = keys(&source, &folder, LONG);
    let unreadable = || async { Err(Error::Database("locked".into())) };
    assert!(matches!(keys.get("", unreadable, |id| record.keep(id)).await, Err(Error::Database(_))));
    assert_eq!((source.loads(), keys.state("").state), (0, KeyState::Unused));
}

#[tokio::test]
async fn locked_and_unavailable_are_told_and_pass() {
    let (source, folder, record) = setup();
    let keys = keys(&source, &folder, LONG);
    source.set(Mood::Locked);
    assert!(matches!(record.get(&keys, "").await, Err(Error::KeychainLocked)));
    assert_eq!(keys.state("").state, KeyState::Locked);
    source.set(Mood::Unavailable);
    assert!(matches!(record.get(&keys, "").await, Err(Error::KeychainUnavailable(why)) if why == "told to be"));
    assert_eq!(keys.state("").state, KeyState::Unavailable);
    assert_eq!((source.stores(), record.id()), (0, None));
    source.set(Mood::Open);
    record.get(&keys, "").await.unwrap();
    assert_eq!(keys.state("").state, KeyState::Ready);
}

#[tokio::test]
async fn a_cached_key_outlives_the_locking_until_it_is_forgotten() {
    let (source, folder, record) = setup();
    let keys = keys(&source, &folder, LONG);
    let key = record.get(&keys, "").await.unwrap();
    source.set(Mood::Locked);
    assert_eq!(record.get(&keys.clone(), "").await.unwrap().id(), key.id());
    keys.forget();
    assert_eq!(keys.state("").state, KeyState::Unused);
    assert!(matches!(record.get(&keys, "").await, Err(Error::KeychainLocked)));
}

#[tokio::test]
async fn a_key_that_was_forgotten_while_its_source_answered_does_not_come_back_into_memory() {
    let (source, folder, record) = setup();
    let keys = keys(&source, &folder, LONG);
    source.set(Mood::HangingAtStore);
    let asked = tokio::spawn(get_owned(&record, &keys));
    while source.stores() == 0 {
        tokio::task::yield_now().await;
    }
    keys.forget_account("");
    source.set(Mood::Open);
    let key = asked.await.unwrap().unwrap();
    assert!(keys.cached("").is_none());
    assert_eq!(keys.state("").state, KeyState::Unused);
    assert_eq!(record.get(&keys, "").await.unwrap().id(), key.id(), "whoever needs it asks again");
    assert!(keys.cached("").is_some());
}

#[tokio::test]
async fn accounts_have_keys_of_their_own() {
    let (source, folder, none) = setup();
    let (ann, keys) = (Record::default(), keys(&source, &folder, LONG));
    let (first, second) = (none.get(&keys, "").await.unwrap(), ann.get(&keys, "ann").await.unwrap());
    assert_ne!(first.id(), second.id());
    assert_eq!(keys.cached("ann").unwrap().id(), second.id());
    assert_eq!(keys.state("bob").state, KeyState::Unused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_callers_ask_once() {
    let (source, folder, record) = setup();
    let keys = keys(&source, &folder, LONG);
    let callers: Vec<_> = (0..100).map(|_| tokio::spawn(get_owned(&record, &keys))).collect();
    let mut ids = Vec::new();
    for caller in callers {
        ids.push(caller.await.unwrap().unwrap().id());
    }
    ids.dedup();
    assert_eq!((ids.len(), source.stores()), (1, 1));
    assert_eq!(source.loads(), 2, "before and after the store");
}

#[tokio::test]
async fn callers_that_wait_for_a_locked_keychain_share_one_answer() {
    let (source, folder, record) = setup();
    let keys = keys(&source, &folder, SHORT);
    source.set(Mood::Hanging);
    let callers: Vec<_> = (0..20).map(|_| tokio::spawn(get_owned(&record, &keys))).collect();
    for caller in callers {
        assert!(matches!(caller.await.unwrap(), Err(Error::KeychainLocked)));
    }
    asked(&source, 1).await;
    assert_eq!(source.loads(), 1);
    source.set(Mood::Open);
}

/// Who has given a call up may have done so before its thread came to ask.
async fn asked(source: &MemoryKeys, times: usize) {
    while source.loads() < times {
        tokio::task::yield_now().await;
    }
}

fn get_owned(record: &Record, keys: &Keys) -> impl Future<Output = Result<Arc<MasterKey>>> + Send + 'static {
    let (record, keys) = (record.clone(), keys.clone());
    async move { record.get(&keys, "").await }
}

#[tokio::test]
async fn two_instances_that_race_at_the_first_run_end_with_one_key() {
    for _ in 0..20 {
        let (source, folder, record) = setup();
        let (one, other) = (keys(&source, &folder, LONG), keys(&source, &folder, LONG));
        let (one, other) = tokio::join!(record.get(&one, ""), record.get(&other, ""));
        assert_eq!(one.unwrap().id(), other.unwrap().id());
        assert_eq!(source.stores(), 1);
    }
}

#[tokio::test]
async fn a_source_that_hangs_is_given_up_and_asked_again_when_it_is_free() {
    let (source, folder, record) = setup();
    let keys = keys(&source, &folder, SHORT);
    source.set(Mood::Hanging);
    for _ in 0..5 {
        assert!(matches!(record.get(&keys, "").await, Err(Error::KeychainLocked)));
    }
    asked(&source, 2).await;
    assert_eq!(source.loads(), 2, "one call and one more are left behind, and no others");
    source.set(Mood::Open);
    // The threads left behind end soon, but when is theirs to choose.
    let key = had(&record, &keys).await;
    assert_eq!(record.id(), Some(key.id()));
}

#[tokio::test]
async fn a_call_left_behind_does_not_keep_the_next_from_noticing_the_unlocking() {
    let (stuck, folder, record) = setup();
    let source = FirstHangs { inner: stuck.clone(), calls: Arc::default() };
    let keys = keys(&source, &folder, SHORT);
    stuck.set(Mood::Hanging);
    assert!(matches!(record.get(&keys, "").await, Err(Error::KeychainLocked)));
    asked(&stuck, 1).await;
    // The first call still hangs; the second is answered, and in time unless the machine is slow.
    had(&record, &keys).await;
    assert_eq!(stuck.loads(), 1);
    stuck.set(Mood::Open);
}

/// Asks until it is answered in time.
async fn had(record: &Record, keys: &Keys) -> Arc<MasterKey> {
    loop {
        match record.get(keys, "").await {
            Ok(key) => return key,
            Err(Error::KeychainLocked) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The first call is at its inner source's mercy, as one with an open prompt is; the others are answered.
#[derive(Clone)]
struct FirstHangs {
    inner: MemoryKeys,
    calls: Arc<(AtomicUsize, Mutex<Option<Vec<u8>>>)>,
}

impl KeySource for FirstHangs {
    fn name(&self) -> &'static str {
        "first hangs"
    }

    fn load(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SourceError> {
        if self.calls.0.fetch_add(1, Ordering::SeqCst) == 0 {
            return self.inner.load(account);
        }
        Ok(self.calls.1.lock().unwrap().clone().map(Zeroizing::new))
    }

    fn store(&self, _: &str, key: &[u8]) -> Result<(), SourceError> {
        *self.calls.1.lock().unwrap() = Some(key.to_vec());
        Ok(())
    }

    fn forget(&self, _: &str) -> Result<(), SourceError> {
        unreachable!("nobody signs out")
    }
}

#[tokio::test]
async fn a_store_that_hangs_keeps_everybody_from_generating_until_it_ends() {
    let (source, folder, record) = setup();
    let (one, other) = (keys(&source, &folder, SHORT), keys(&source, &folder, SHORT));
    source.set(Mood::HangingAtStore);
    assert!(matches!(record.get(&one, "").await, Err(Error::KeychainLocked)));
    assert!(matches!(record.get(&other, "").await, Err(Error::KeychainLocked)));
    assert!(matches!(record.get(&one, "").await, Err(Error::KeychainLocked)));
    assert_eq!(source.stores(), 1);
    // The prompt is answered late: what it stores is what everybody ends with.
    source.set(Mood::Open);
    let mut ids = Vec::new();
    while ids.len() < 2 {
        let keys = if ids.is_empty() { &other } else { &one };
        match record.get(keys, "").await {
            Ok(key) => ids.push(key.id()),
            Err(error) => assert!(matches!(error, Error::KeychainLocked), "{error}"),
        }
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(source.stores(), 1);
}

#[tokio::test]
async fn a_store_that_hangs_answers_later_calls_of_this_process_at_once() {
    let (source, folder, record) = setup();
    let keys = keys(&source, &folder, Duration::from_secs(3600));
    source.set(Mood::HangingAtStore);
    let caller = tokio::spawn(get_owned(&record, &keys));
    while source.stores() == 0 {
        tokio::task::yield_now().await;
    }
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    // Were it to wait for the lock, this would take an hour.
    let answer = tokio::time::timeout(LONG, record.get(&keys, "")).await.expect("it waits for itself");
    assert!(matches!(answer, Err(Error::KeychainLocked)));
    source.set(Mood::Open);
}

#[tokio::test]
async fn a_source_that_loses_what_it_stores_is_not_trusted() {
    #[derive(Clone)]
    struct Forgetful;
    impl KeySource for Forgetful {
        fn name(&self) -> &'static str {
            "forgetful"
        }
        fn load(&self, _: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SourceError> {
            Ok(None)
        }
        fn store(&self, _: &str, _: &[u8]) -> Result<(), SourceError> {
            Ok(())
        }

        fn forget(&self, _: &str) -> Result<(), SourceError> {
            unreachable!("nobody signs out")
        }
    }
    let (_, folder, record) = setup();
    let keys = keys(&Forgetful, &folder, LONG);
    assert!(matches!(record.get(&keys, "").await, Err(Error::KeychainUnavailable(_))));
    assert_eq!(record.id(), None);
}

#[tokio::test]
async fn a_source_that_panics_is_unavailable_and_asked_again() {
    #[derive(Clone)]
    struct Panics(MemoryKeys, Arc<AtomicUsize>);
    impl KeySource for Panics {
        fn name(&self) -> &'static str {
            "panics"
        }
        fn load(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SourceError> {
            assert!(self.1.fetch_add(1, Ordering::SeqCst) >= 3, "on purpose");
            self.0.load(account)
        }
        fn store(&self, account: &str, key: &[u8]) -> Result<(), SourceError> {
            self.0.store(account, key)
        }

        fn forget(&self, _: &str) -> Result<(), SourceError> {
            unreachable!("nobody signs out")
        }
    }
    let (source, folder, record) = setup();
    let keys = keys(&Panics(source, Arc::default()), &folder, LONG);
    for _ in 0..3 {
        assert!(matches!(record.get(&keys, "").await, Err(Error::KeychainUnavailable(_))));
    }
    record.get(&keys, "").await.unwrap();
}

#[tokio::test]
async fn a_cancelled_call_leaves_nothing_behind_but_a_key_to_adopt() {
    let (source, folder, record) = setup();
    let keys = keys(&source, &folder, LONG);
    source.set(Mood::HangingAtStore);
    let caller = tokio::spawn(get_owned(&record, &keys));
    while source.stores() == 0 {
        tokio::task::yield_now().await;
    }
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    source.set(Mood::Open);
    let key = loop {
        match record.get(&keys, "").await {
            Ok(key) => break key,
            Err(error) => assert!(matches!(error, Error::KeychainLocked), "{error}"),
        }
    };
    assert_eq!((source.stores(), source.key("").unwrap().as_slice()), (1, key.expose()));
}

#[test]
fn a_source_that_hangs_does_not_hold_up_the_end_of_the_runtime() {
    let (source, folder, record) = setup();
    source.set(Mood::Hanging);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let keys = keys(&source, &folder, SHORT);
    assert!(matches!(runtime.block_on(record.get(&keys, "")), Err(Error::KeychainLocked)));
    // Would block for ever if the call were on the runtime's blocking pool.
    drop(runtime);
    source.set(Mood::Open);
}

#[test]
fn debug_of_keys_and_errors_shows_no_secret() {
    let (source, folder, record) = setup();
    let keys = keys(&source, &folder, LONG);
    let key = tokio::runtime::Runtime::new().unwrap().block_on(record.get(&keys, "")).unwrap();
    let shown = format!("{keys:?} {key:?}");
    assert_eq!(shown, format!("Keys {{ source: \"memory\", .. }} MasterKey {{ id: {:?}, .. }}", key.id()));
}

#[tokio::test]
async fn a_question_that_nobody_waits_for_any_more_does_not_lock_the_next_account_out() {
    let (folder, source) = (tempfile::tempdir().unwrap(), MemoryKeys::new());
    source.set(Mood::HangingAtStore);
    let keys = Keys::new(Arc::new(source.clone()), folder.path().to_owned(), Duration::from_secs(30));
    let record = || async { Ok(KeyRecord::default()) };
    let keep = |_| async { Ok(()) };
    {
        // As the engine does when another account becomes the current one.
        let asking = keys.get("ada", record, keep);
        let stored = async {
            while source.stores() == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! { biased; _ = asking => unreachable!("it hangs"), () = stored => {} }
    }
    let (got, ()) = tokio::join!(keys.get("eve", record, keep), async {
        tokio::task::yield_now().await;
        source.set(Mood::Open);
    });
    got.expect("the call ends, and so does its lock");
}

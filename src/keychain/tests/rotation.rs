//! From one key to the next, and who could still need the old one.

use super::{
    super::{Finish, Rotation},
    *,
};

impl Record {
    async fn rotate(&self, keys: &Keys) -> Rotation {
        keys.rotate("", || async { Ok(*self.now.lock().unwrap()) }, |id| self.keep(id)).await.unwrap()
    }

    async fn take_up(&self, keys: &Keys) -> Option<Rotation> {
        keys.take_up_rotation("", || async { Ok(*self.now.lock().unwrap()) }, |id| self.keep(id)).await.unwrap()
    }

    async fn finish(&self, keys: &Keys, used: bool) -> Finish {
        let record = || async { Ok(*self.now.lock().unwrap()) };
        keys.finish_rotation("", record, || async { Ok(used) }).await.unwrap()
    }
}

/// What the source has, by id, the newest first.
fn ids(source: &MemoryKeys) -> Vec<KeyId> {
    let bytes = source.key("").unwrap();
    bytes.chunks(32).map(|key| MasterKey::from_bytes(Zeroizing::new(key.to_vec())).unwrap().id()).collect()
}

#[tokio::test]
async fn both_keys_are_kept_until_the_old_one_is_not_needed_and_one_is_left_then() {
    let (source, folder, record) = setup();
    let keys = keys(&source, &folder, LONG);
    let old = record.get(&keys, "").await.unwrap().id();
    let rotation = record.rotate(&keys).await;
    let new = rotation.new.id();
    assert_eq!((rotation.old, ids(&source), record.id()), (vec![old], vec![new, old], Some(new)));
    assert_eq!(record.finish(&keys, true).await, Finish::Needed);
    assert_eq!(ids(&source), [new, old]);
    assert_eq!(record.finish(&keys, false).await, Finish::Done);
    assert_eq!(ids(&source), [new]);
    assert_eq!(keys.cached("").unwrap().id(), new);
}

#[tokio::test]
async fn an_old_key_stays_while_a_call_has_it_in_its_hands() {
    let (source, folder, record) = setup();
    let keys = keys(&source, &folder, LONG);
    let old = record.get(&keys, "").await.unwrap();
    record.rotate(&keys).await;
    assert_eq!(record.finish(&keys, false).await, Finish::InUse);
    assert_eq!(ids(&source).len(), 2);
    drop(old);
    assert_eq!(record.finish(&keys, false).await, Finish::Done);
}

#[tokio::test]
async fn an_old_key_stays_while_another_process_has_a_key() {
    let (source, folder, record) = setup();
    let (first, second) = (keys(&source, &folder, LONG), keys(&source, &folder, LONG));
    record.get(&first, "").await.unwrap();
    record.get(&second, "").await.unwrap();
    record.rotate(&first).await;
    // However often either of them looks: one look does not hide from the other.
    for _ in 0..3 {
        assert_eq!(record.finish(&first, false).await, Finish::Elsewhere);
        assert!(record.take_up(&second).await.is_some());
        assert_eq!(record.finish(&second, false).await, Finish::Elsewhere);
    }
    assert_eq!(ids(&source).len(), 2);
    drop(second);
    assert_eq!(record.finish(&first, false).await, Finish::Done);
}

// Whether somebody waits for a lock is told by Linux only.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_process_that_has_just_had_a_key_counts_while_another_one_looks() {
    let (source, folder, record) = setup();
    let first = keys(&source, &folder, LONG);
    record.get(&first, "").await.unwrap();
    // Another process looks whether it is alone at this moment, as it does for an instant.
    let looks = std::fs::File::options().write(true).open(folder.path().join("key-users.lock")).unwrap();
    drop(first);
    looks.lock().unwrap();
    let second = keys(&source, &folder, LONG);
    let has = std::thread::spawn({
        let (second, record) = (second.clone(), record.clone());
        move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(async { record.get(&second, "").await.map(|key| key.id()) })
        }
    });
    let inode = format!(":{} ", std::os::unix::fs::MetadataExt::ino(&looks.metadata().unwrap()));
    let waits = || {
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        locks.lines().any(|lock| lock.contains("-> FLOCK") && lock.contains(&inode))
    };
    while !waits() {
        assert!(!has.is_finished(), "it has the key and did not say so");
        std::thread::yield_now();
    }
    looks.unlock().unwrap();
    has.join().unwrap().unwrap();
    assert!(looks.try_lock().is_err(), "it is not seen");
}

#[tokio::test]
async fn a_rotation_that_was_cut_off_before_the_database_knew_is_taken_up_with_the_key_that_was_made() {
    let (source, folder, record) = setup();
    let old = record.get(&keys(&source, &folder, LONG), "").await.unwrap().id();
    let new = record.rotate(&keys(&source, &folder, LONG)).await.new.id();
    record.now.lock().unwrap().id = Some(old);
    let keys = keys(&source, &folder, LONG);
    assert_eq!(record.get(&keys, "").await.unwrap().id(), old);
    assert!(keys.is_to_be_taken_up("") && !keys.is_to_be_taken_up(""));
    let rotation = record.take_up(&keys).await.unwrap();
    assert_eq!((rotation.new.id(), rotation.old, record.id()), (new, vec![old], Some(new)));
    assert_eq!(record.finish(&keys, false).await, Finish::Done);
    assert_eq!(ids(&source), [new]);
}

#[tokio::test]
async fn where_nothing_was_begun_nothing_is_taken_up_and_no_key_is_made() {
    let (source, folder, record) = setup();
    let keys = keys(&source, &folder, LONG);
    record.get(&keys, "").await.unwrap();
    record.rotate(&keys).await;
    assert_eq!(record.finish(&keys, false).await, Finish::Done);
    let (before, stores) = (ids(&source), source.stores());
    assert!(record.take_up(&keys).await.is_none());
    assert_eq!((ids(&source), source.stores()), (before, stores));
}

#[tokio::test]
async fn the_key_of_the_next_rotation_which_another_process_has_begun_is_not_overwritten() {
    let (source, folder, record) = setup();
    let keys = keys(&source, &folder, LONG);
    record.get(&keys, "").await.unwrap();
    let rotation = record.rotate(&keys).await;
    let (bytes, next) = a_key();
    source.put("", Some([&bytes[..], rotation.new.expose()].concat()));
    for known in [rotation.new.id(), next] {
        record.now.lock().unwrap().id = Some(known);
        assert_eq!(record.finish(&keys, false).await, Finish::Needed);
        assert_eq!(ids(&source), [next, rotation.new.id()]);
    }
}

//! Watched folders and their files.

use super::*;
use crate::{
    entry::Mark,
    store::{NewWatched, WatchKey, WatchRow, Watched, WatchedCount},
};

fn key(account: &str) -> WatchKey {
    WatchKey { account: account.into(), id: Uuid::now_v7(), key_id: [7; 16], wrapped_key: vec![1, 2, 3] }
}

fn watch(account: &str, tag: u8) -> WatchRow {
    WatchRow {
        id: Uuid::now_v7(),
        account: account.into(),
        kind: "scan".into(),
        tag: [tag; 32],
        sealed: vec![tag; 40],
        folder: None,
    }
}

/// Numbers that no signed type holds, and times before 1970.
fn mark(bytes: u64) -> Mark {
    Mark { file: u64::MAX - bytes, bytes, modified: -5, changed: i64::MAX }
}

pub(super) fn carries(watch: &WatchRow, tag: u8, bytes: u64) -> NewEntry {
    let watched = NewWatched {
        watch: watch.id,
        said: watch.sealed.clone().into(),
        tag: [tag; 32],
        file: Some((mark(bytes), [tag; 32])),
    };
    NewEntry { watched: Some(watched), ..latest(&tag.to_string()) }
}

pub(super) async fn watching(store: &Store) -> WatchRow {
    assert!(store.keep_watch_key(key("")).await.unwrap());
    let row = watch("", 1);
    assert!(store.put_watch(row.clone(), false).await.unwrap());
    row
}

#[tokio::test]
async fn a_file_is_known_with_the_commit_that_enqueues_it_and_as_delivered_with_the_one_that_settles_it() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let row = watching(store).await;
    let entry = carries(&row, 1, 10);
    let id = entry.id;
    fixture.put(entry).await;
    let known = Watched { tag: [1; 32], mark: mark(10), hash: [1; 32], entry: Some(id), acked: false };
    assert_eq!(store.watched(row.id).await.unwrap(), std::slice::from_ref(&known));
    assert!(fixture.claim(id).await);
    fixture.settle(id, acked()).await;
    assert_eq!(store.watched(row.id).await.unwrap(), [Watched { entry: None, acked: true, ..known.clone() }]);
    assert_eq!(store.count_watched(row.id).await.unwrap(), WatchedCount { files: 1, acked: 1 });

    // Touched, and edited.
    store.note_watched(row.id, vec![([1; 32], mark(11)), ([9; 32], mark(1))], Vec::new()).await.unwrap();
    assert_eq!(store.watched(row.id).await.unwrap(), [Watched { mark: mark(11), entry: None, acked: true, ..known }]);
    let newer = carries(&row, 1, 12);
    let newer_id = newer.id;
    fixture.put(newer).await;
    let found = store.watched(row.id).await.unwrap();
    assert_eq!((found[0].mark, found[0].entry, found[0].acked), (mark(12), Some(newer_id), false));
    let gone = NewWatched { watch: row.id, said: row.sealed.clone().into(), tag: [1; 32], file: None };
    fixture.put(NewEntry { watched: Some(gone), ..latest("1") }).await;
    assert_eq!(store.watched(row.id).await.unwrap(), []);
}

#[tokio::test]
async fn an_entry_of_a_watch_that_went_meanwhile_is_taken_and_nothing_is_noted() {
    let fixture = Fixture::new().await;
    let row = watching(&fixture.store).await;
    fixture.put(carries(&row, 1, 10)).await;
    assert!(fixture.store.remove_watch("", row.id).await.unwrap());
    assert!(!fixture.store.remove_watch("", row.id).await.unwrap());
    let late = carries(&row, 2, 10);
    let id = late.id;
    fixture.put(late).await;
    assert!(fixture.store.row("", id).await.unwrap().is_some());
    assert_eq!(fixture.store.watched(row.id).await.unwrap(), []);
    let mut peek = fixture.peek().await;
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM watched").fetch_one(&mut peek).await.unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn watches_are_of_their_account_and_go_with_it() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let row = watching(store).await;
    assert!(!store.put_watch(watch("ann", 1), false).await.unwrap(), "it has no key that it could be sealed with");
    assert!(store.keep_watch_key(key("ann")).await.unwrap());
    assert!(!store.keep_watch_key(key("ann")).await.unwrap(), "the first one counts");
    let ann = watch("ann", 1);
    assert!(store.put_watch(ann.clone(), false).await.unwrap());
    fixture.put(NewEntry { account: "ann".into(), ..carries(&ann, 1, 1) }).await;
    assert_eq!(store.watches("").await.unwrap(), std::slice::from_ref(&row));
    assert!(!store.remove_watch("", ann.id).await.unwrap(), "it is another account's");

    store.leave("ann", false, false, NOW).await.unwrap();
    assert_eq!(store.watches("ann").await.unwrap(), []);
    assert_eq!(store.watch_key("ann").await.unwrap_err().code(), "signed_out");
    assert!(!store.put_watch(watch("ann", 2), false).await.unwrap());
    assert!(!store.keep_watch_key(key("ann")).await.unwrap());
    let mut before = i64::MAX;
    while let Some(next) = store.remove_leaving("ann", before).await.unwrap() {
        before = if next > 0 { next } else { i64::MAX };
    }
    let mut peek = fixture.peek().await;
    for (table, left) in [("watches", 1_i64), ("watch_keys", 1), ("watched", 0)] {
        let text = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        assert_eq!(sqlx::query_scalar::<_, i64>(text).fetch_one(&mut peek).await.unwrap(), left, "{table}");
    }
}

#[tokio::test]
async fn what_is_said_of_a_watch_is_replaced_and_its_files_are_forgotten_only_when_that_is_said() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let row = watching(store).await;
    fixture.put(carries(&row, 1, 10)).await;
    store.note_folder(row.id, vec![4; 16]).await.unwrap();
    let again = WatchRow { sealed: vec![9; 40], ..row.clone() };
    assert!(store.put_watch(again.clone(), false).await.unwrap());
    assert_eq!(store.watches("").await.unwrap(), [WatchRow { folder: Some(vec![4; 16]), ..again.clone() }]);
    assert_eq!(store.watched(row.id).await.unwrap().len(), 1);
    assert!(store.put_watch(again, true).await.unwrap());
    assert_eq!(store.watched(row.id).await.unwrap(), []);
}

#[tokio::test]
async fn a_key_goes_from_one_master_key_to_the_next_and_holds_the_old_one_until_then() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    store.keep_key("", [7; 16], NOW).await.unwrap();
    assert!(store.keep_watch_key(key("")).await.unwrap());
    let known = store.watch_key("").await.unwrap().unwrap();
    assert!(store.key_record("").await.unwrap().1, "it is something encrypted");
    store.keep_key("", [8; 16], NOW).await.unwrap();
    store.forget_old_keys("").await.unwrap();
    let mut peek = fixture.peek().await;
    let keys = "SELECT count(*) FROM keys";
    assert_eq!(sqlx::query_scalar::<_, i64>(keys).fetch_one(&mut peek).await.unwrap(), 2);
    let next = WatchKey { key_id: [8; 16], wrapped_key: vec![4], ..known };
    assert!(store.rewrap_watch_key([7; 16], next.clone()).await.unwrap());
    assert!(!store.rewrap_watch_key([7; 16], next.clone()).await.unwrap());
    assert_eq!(store.watch_key("").await.unwrap(), Some(next));
    store.forget_old_keys("").await.unwrap();
    assert_eq!(sqlx::query_scalar::<_, i64>(keys).fetch_one(&mut peek).await.unwrap(), 1);
}

#[tokio::test]
async fn what_was_found_before_something_else_was_said_of_a_watch_is_enqueued_and_not_known() {
    let fixture = Fixture::new().await;
    let row = watching(&fixture.store).await;
    let late = carries(&row, 1, 10);
    assert!(fixture.store.put_watch(WatchRow { sealed: vec![8; 40], ..row.clone() }, true).await.unwrap());
    let id = fixture.put(late).await;
    assert_eq!(fixture.state(id).await, State::Pending);
    assert_eq!(fixture.store.watched(row.id).await.unwrap(), []);
}

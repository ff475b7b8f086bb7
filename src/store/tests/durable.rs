use super::*;

#[tokio::test]
async fn enqueue_resolves_after_the_commit_and_not_before() {
    let fixture = Fixture::new().await;
    let mut other = fixture.peek().await;
    // Somebody else holds the write lock: no commit is possible.
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let store = fixture.store.clone();
    let mut call = tokio::spawn(async move { store.enqueue(vec![every("a")], LIMIT, NOW).await });
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), &mut call).await;
    assert!(early.is_err(), "resolved without a commit");
    assert_eq!(number(&mut other, "SELECT count(*) FROM entries").await, 0);
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    call.await.unwrap().unwrap();
    assert_eq!(
        number(&mut other, "SELECT count(*) FROM entries").await,
        1,
        "resolved, and another connection does not see it"
    );
}

#[tokio::test]
async fn callers_that_wait_together_share_a_commit() {
    let fixture = Fixture::new().await;
    let mut other = fixture.peek().await;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let pages = wal_frames(fixture.path());
    let calls: Vec<_> = (0..200)
        .map(|_| {
            let store = fixture.store.clone();
            tokio::spawn(async move { store.enqueue(vec![entry(None, Queue::Every)], LIMIT, NOW).await.unwrap() })
        })
        .collect();
    // All of them are queued, or in the group that waits for the lock.
    while fixture.store.writer.queue.lock().unwrap().as_ref().unwrap().capacity() == 4 * writer::GROUP {
        tokio::task::yield_now().await;
    }
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    for call in calls {
        call.await.unwrap();
    }
    // A commit of its own would write at least six pages each.
    let written = wal_frames(fixture.path()) - pages;
    assert!(written < 600, "200 entries wrote {written} pages");
    assert_eq!(fixture.heads().await.len(), 100);
}

fn wal_frames(folder: &Path) -> u64 {
    std::fs::metadata(folder.join("outbox.db-wal")).unwrap().len() / 4120
}

#[tokio::test]
async fn a_caller_that_goes_away_undoes_nothing() {
    let fixture = Fixture::new().await;
    let mut other = fixture.peek().await;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let store = fixture.store.clone();
    let call = tokio::spawn(async move { store.enqueue(vec![every("a")], LIMIT, NOW).await });
    while fixture.store.writer.queue.lock().unwrap().as_ref().unwrap().strong_count() > 1 {
        tokio::task::yield_now().await;
    }
    tokio::task::yield_now().await;
    call.abort();
    let _ = call.await;
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    let sent = fixture.put(every("b")).await;
    let count = fixture.store.counts("").await.unwrap().pending;
    // Aborted before or after it was handed over: one or none, and the writer goes on.
    assert!(count == fixture.seq(sent).await as u64, "{count}");
}

#[tokio::test]
async fn changes_are_told_after_the_commit_and_in_order() {
    let fixture = Fixture::new().await;
    let mut changes = fixture.store.changes();
    let version = fixture.store.version();
    let old = fixture.put(latest("a")).await;
    let new = fixture.put(latest("a")).await;
    assert!(fixture.claim(new).await);
    fixture.settle(new, acked()).await;
    let mut told = Vec::new();
    while let Ok(change) = changes.try_recv() {
        told.push((change.id, change.state.unwrap(), change.seq));
    }
    use State::{Acked, Inflight, Pending, Superseded};
    assert_eq!(told, [(old, Pending, 1), (new, Pending, 2), (old, Superseded, 3), (new, Inflight, 4), (new, Acked, 5)]);
    assert_eq!(*version.borrow(), 5);
    fixture.store.touched_by_others();
    assert_eq!(*version.borrow(), 6);
}

#[tokio::test]
async fn what_changed_nothing_is_not_told() {
    let fixture = Fixture::new().await;
    let id = fixture.put(every("a")).await;
    let version = fixture.store.version();
    let before = *version.borrow();
    fixture.settle(id, acked()).await;
    assert!(fixture.store.enqueue(vec![every("a")], 1, NOW).await.is_err());
    assert_eq!(*version.borrow(), before);
}

#[tokio::test]
async fn close_finishes_what_is_queued_and_later_calls_say_so() {
    let fixture = Fixture::new().await;
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let store = fixture.store.clone();
            tokio::spawn(async move { store.enqueue(vec![every("a")], LIMIT, NOW).await })
        })
        .collect();
    tokio::task::yield_now().await;
    tokio::join!(fixture.store.close(), fixture.store.close());
    let mut receipts = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(_) => receipts += 1,
            Err(error) => assert!(matches!(error, Error::Closed), "{error:?}"),
        }
    }
    assert!(matches!(fixture.store.enqueue(vec![every("a")], LIMIT, NOW).await, Err(Error::Closed)));
    assert!(matches!(fixture.store.counts("").await, Err(Error::Closed)));
    assert!(!fixture.path().join("outbox.db-wal").exists(), "closed cleanly");
    assert_eq!(number(&mut fixture.peek().await, "SELECT count(*) FROM entries").await, receipts);
}

#[tokio::test]
async fn two_processes_write_to_one_database_without_losing_or_blocking() {
    let fixture = Fixture::new().await;
    let second = open(fixture.path()).await;
    fixture.store.set_owner(true).await.unwrap();
    let calls = |store: &Store| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..100 {
                store.enqueue(vec![every(&(n % 5).to_string())], LIMIT, NOW).await.unwrap();
            }
        })
    };
    let (a, b) = (calls(&fixture.store), calls(&second));
    a.await.unwrap();
    b.await.unwrap();
    assert_eq!(fixture.store.counts("").await.unwrap().pending, 200);
    assert_eq!(second.device(), fixture.store.device());
    assert_kept(&mut fixture.peek().await).await;
}

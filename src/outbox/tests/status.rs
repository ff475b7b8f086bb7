use super::*;
use crate::entry::{Counts, KeyState, Reason};

#[tokio::test]
async fn status_counts_the_current_account_and_says_what_holds_it() {
    let fixture = Fixture::new().await;
    let status = fixture.outbox.status().await.unwrap();
    assert!(status.ready && status.owner && !status.paused && status.holds.is_empty());
    assert_eq!((status.counts, status.account.as_str()), (Counts::default(), ""));
    assert_eq!((status.key.state, status.key.source.as_str()), (KeyState::Unused, "memory"));

    let (acked, failed) = (fixture.note("1").await, fixture.note("2").await);
    fixture.note("3").await;
    fixture.ack(acked).await;
    fixture.fail(failed, Reason::Refused).await;
    fixture.outbox.pause().await.unwrap();
    let status = fixture.outbox.status().await.unwrap();
    let expected = Counts { pending: 1, inflight: 0, acked: 1, failed: 1 };
    assert_eq!((status.counts, status.paused, status.key.state), (expected, true, KeyState::Ready));
}

#[tokio::test]
async fn every_change_raises_the_number_of_the_status_and_is_told() {
    let fixture = Fixture::new().await;
    let mut changes = fixture.outbox.status_changes();
    let mut last = fixture.outbox.status().await.unwrap().seq;
    let id = fixture.note("x").await;
    for step in 0..6 {
        match step {
            0 => {}
            1 => fixture.ack(id).await,
            2 => fixture.outbox.pause().await.unwrap(),
            3 => fixture.outbox.resume().await.unwrap(),
            4 => fixture.outbox.set_account("bob").await.unwrap(),
            _ => fixture.board.post_owner(false),
        }
        assert!(soon(changes.changed()).await, "step {step}");
        let seq = fixture.outbox.status().await.unwrap().seq;
        assert!(seq > last, "step {step}: {seq} after {last}");
        last = seq;
    }
}

#[tokio::test]
async fn the_account_and_the_pause_outlive_the_process() {
    let fixture = Fixture::new().await;
    fixture.outbox.set_account("ann").await.unwrap();
    fixture.outbox.pause().await.unwrap();
    let restarted = fixture.beside().await;
    let status = restarted.outbox.status().await.unwrap();
    assert_eq!((status.account.as_str(), status.paused), ("ann", true));
    assert_refused(fixture.outbox.set_account("a\nb").await, "invalid_argument", "control characters");
    assert_refused(fixture.outbox.set_account(&"a".repeat(257)).await, "invalid_argument", "257 bytes");
    assert_eq!(&*fixture.outbox.account().await.unwrap(), "ann");
}

#[tokio::test]
async fn accounts_that_are_set_at_once_end_up_the_same_in_memory_and_on_disk() {
    let fixture = Fixture::new().await;
    let set = |number: usize| {
        let outbox = fixture.outbox.clone();
        tokio::spawn(async move { outbox.set_account(&number.to_string()).await })
    };
    for task in (0..50).map(set).collect::<Vec<_>>() {
        task.await.unwrap().unwrap();
    }
    assert_eq!(*fixture.outbox.account().await.unwrap(), fixture.store.account().await.unwrap());
}

#[tokio::test]
async fn a_change_says_whose_it_is_but_not_to_windows_and_only_the_current_accounts_is_for_them() {
    let fixture = Fixture::new().await;
    let mut changes = fixture.outbox.changes();
    let id = fixture.note("x").await;
    fixture.ack(id).await;
    fixture.outbox.set_account("eve").await.unwrap();
    fixture.note("y").await;
    for account in ["", "", "", "eve"] {
        let change = changes.recv().await.unwrap();
        assert_eq!(&*change.account, account);
        assert_eq!(fixture.outbox.is_current(&change), account == "eve");
        assert!(!serde_json::to_string(&change).unwrap().contains("account"));
    }
}

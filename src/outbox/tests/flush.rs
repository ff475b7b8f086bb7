use super::*;
use crate::{entry::Reason, store::Head};

fn flush(fixture: &Fixture, timeout: Option<Duration>) -> tokio::task::JoinHandle<Result<Flushed>> {
    let outbox = fixture.outbox.clone();
    tokio::spawn(async move { outbox.flush(timeout).await })
}

async fn asked(fixture: &Fixture) {
    while !soon(fixture.wake.wait()).await.has(Wake::Flush) {}
}

#[tokio::test]
async fn flush_answers_what_its_round_did() {
    let fixture = Fixture::new().await;
    let acked_before = fixture.note("0").await;
    fixture.ack(acked_before).await;
    let (acked, failed, again) = (fixture.note("1").await, fixture.note("2").await, fixture.note("3").await);
    fixture.note("4").await;
    let flushing = flush(&fixture, None);
    asked(&fixture).await;
    fixture.ack(acked).await;
    fixture.fail(failed, Reason::Refused).await;
    fixture.fail(again, Reason::Refused).await;
    fixture.outbox.retry(again, false).await.unwrap();
    assert!(!flushing.is_finished(), "the round is not over");
    fixture.board.post_flushed(fixture.board.requested_flush());
    assert_eq!(soon(flushing).await.unwrap().unwrap(), Flushed { acked: 1, failed: 1, waiting: 2 });
}

#[tokio::test]
async fn flush_counts_the_current_account_only() {
    let fixture = Fixture::new().await;
    fixture.outbox.set_account("ann").await.unwrap();
    let of_ann = fixture.note("1").await;
    fixture.outbox.set_account("").await.unwrap();
    let own = [fixture.note("2").await, fixture.note("3").await];
    let flushing = flush(&fixture, None);
    asked(&fixture).await;
    for id in own {
        fixture.ack(id).await;
    }
    fixture.outbox.set_account("ann").await.unwrap();
    fixture.ack(of_ann).await;
    fixture.note("4").await;
    fixture.board.post_flushed(fixture.board.requested_flush());
    assert_eq!(soon(flushing).await.unwrap().unwrap(), Flushed { acked: 2, failed: 0, waiting: 0 });
}

#[tokio::test]
async fn a_flush_that_cannot_keep_up_with_the_news_still_counts_them_all() {
    const MANY: usize = 4500;
    let fixture = Fixture::new().await;
    futures_util::future::join_all((0..MANY).map(|_| fixture.note("x"))).await;
    let flushing = flush(&fixture, None);
    asked(&fixture).await;
    // One commit tells of more changes than are kept for a listener.
    let heads = fixture.store.heads("", "note", 0, MANY as u32).await.unwrap();
    let claim = |head: &Head| Claim { seq: head.seq, generation: 1, revision: 1, request: Some(Vec::new()) };
    let acked = || Verdict::Acked { canonical_id: None, revision: None, etag: None };
    let settle = |head: &Head| Settle {
        seq: head.seq,
        status: None,
        error: None,
        attempted: true,
        verdict: acked(),
        restored: false,
    };
    fixture.store.advance(Vec::new(), heads.iter().map(claim).collect(), 0).await.unwrap();
    fixture.store.advance(heads.iter().map(settle).collect(), Vec::new(), 0).await.unwrap();
    fixture.board.post_flushed(fixture.board.requested_flush());
    assert_eq!(soon(flushing).await.unwrap().unwrap().acked, MANY as u64);
}

#[tokio::test]
async fn a_flush_that_runs_out_of_time_answers_what_is_left() {
    let fixture = Fixture::new().await;
    fixture.note("x").await;
    let flushed = soon(fixture.outbox.flush(Some(Duration::from_millis(5)))).await.unwrap();
    assert_eq!(flushed, Flushed { acked: 0, failed: 0, waiting: 1 });
    assert_eq!(serde_json::to_value(flushed).unwrap(), json!({ "acked": 0, "failed": 0, "waiting": 1 }));
}

#[tokio::test]
async fn a_round_that_was_over_before_does_not_end_a_later_flush() {
    let fixture = Fixture::new().await;
    let first = flush(&fixture, None);
    asked(&fixture).await;
    fixture.board.post_flushed(1);
    soon(first).await.unwrap().unwrap();
    let id = fixture.note("x").await;
    let second = flush(&fixture, None);
    asked(&fixture).await;
    fixture.ack(id).await;
    fixture.board.post_flushed(2);
    assert_eq!(soon(second).await.unwrap().unwrap().acked, 1);
}

#[tokio::test]
async fn a_process_that_does_not_deliver_tells_the_other_one_and_waits_until_nothing_is_left() {
    let fixture = Fixture::new().await;
    let beside = fixture.beside().await;
    let (acked, failed) = (beside.note("1").await, beside.note("2").await);
    std::fs::remove_file(fixture.wake_file()).unwrap();
    let flushing = flush(&beside, Some(PATIENCE));
    asked(&beside).await;
    fixture.ack(acked).await;
    fixture.fail(failed, Reason::Refused).await;
    assert_eq!(soon(flushing).await.unwrap().unwrap(), Flushed { acked: 1, failed: 1, waiting: 0 });
    assert_eq!(std::fs::read(fixture.wake_file()).unwrap(), b"f");
}

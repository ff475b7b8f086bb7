use super::*;
use crate::{board::Backoff, entry::Reason};

#[tokio::test]
async fn delivered_answers_the_acked_entry_whenever_it_is_asked() {
    let fixture = Fixture::new().await;
    let id = fixture.note("x").await;
    let waiting = tokio::spawn({
        let outbox = fixture.outbox.clone();
        async move { outbox.delivered(id, None).await }
    });
    fixture.note("another").await;
    fixture.ack(id).await;
    let entry = soon(waiting).await.unwrap().unwrap();
    assert_eq!((entry.id, entry.state), (id, State::Acked));
    assert_eq!(fixture.outbox.delivered(id, Some(Duration::ZERO)).await.unwrap(), entry);
}

#[tokio::test]
async fn delivered_follows_to_the_entry_that_replaced_it() {
    let fixture = Fixture::new().await;
    let first = fixture.form("a", "1").await;
    let waiting = tokio::spawn({
        let outbox = fixture.outbox.clone();
        async move { outbox.delivered(first, None).await }
    });
    fixture.form("a", "2").await;
    let last = fixture.form("a", "3").await;
    fixture.ack(last).await;
    assert_eq!(soon(waiting).await.unwrap().unwrap().id, last);
    assert_eq!(soon(fixture.outbox.delivered(first, None)).await.unwrap().id, last);
}

/// The entry is acked after `delivered` has read its row and before it waits for news: reading the clock to say until
/// when the entry backs off lies between the two.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_change_between_the_look_and_the_wait_is_not_missed() {
    let fixture = Fixture::new().await;
    let id = fixture.note("x").await;
    let seq = fixture.seq_of(id).await;
    fixture.board.post_backoff(seq, Some(Backoff::Until(Duration::MAX / 2)));
    let runtime = tokio::runtime::Handle::current();
    let acking = fixture.clone();
    let hook = move || std::thread::spawn(move || runtime.block_on(acking.ack(id))).join().unwrap();
    *fixture.clock.hook.lock().unwrap() = Some(Box::new(hook));
    let outbox = fixture.outbox.clone();
    let entry = soon(tokio::spawn(async move { outbox.delivered(id, None).await })).await.unwrap().unwrap();
    assert!(fixture.clock.hook.lock().unwrap().is_none(), "the clock was read");
    assert_eq!(entry.state, State::Acked);
}

#[tokio::test]
async fn a_failure_says_why_and_what_to_do() {
    let fixture = Fixture::new().await;
    for (reason, why, what) in [
        (Reason::Refused, "the server refused it (HTTP 422)", "`retry`"),
        (Reason::OutcomeUnknown, "may have been applied", "`force`"),
        (Reason::Conflict, "newer revision", "`discard`"),
    ] {
        let id = fixture.note("x").await;
        fixture.fail(id, reason).await;
        let failed = fixture.outbox.delivered(id, None).await;
        assert_refused(failed, "not_delivered", why);
        assert_refused(fixture.outbox.delivered(id, None).await, "not_delivered", what);
    }
}

#[tokio::test]
async fn a_discarded_entry_ends_the_wait() {
    let fixture = Fixture::new().await;
    let id = fixture.note("x").await;
    let waiting = tokio::spawn({
        let outbox = fixture.outbox.clone();
        async move { outbox.delivered(id, None).await }
    });
    fixture.outbox.discard(id, false).await.unwrap();
    assert_refused(soon(waiting).await.unwrap(), "not_found", &id.to_string());
}

#[tokio::test]
async fn running_out_of_time_says_what_the_entry_waits_for() {
    let fixture = Fixture::new().await;
    let first = fixture.enqueue("note", "1", options("a")).await.unwrap().id;
    let second = fixture.enqueue("note", "2", options("a")).await.unwrap().id;
    let within = Some(Duration::from_millis(5));
    assert_refused(fixture.outbox.delivered(second, within).await, "timeout", &format!("it waits for entry {first}"));
    fixture.claim(first).await;
    assert_refused(fixture.outbox.delivered(first, within).await, "timeout", "it is being sent. It stays queued");
}

#[tokio::test]
async fn a_timeout_that_no_timer_can_hold_is_a_long_one() {
    let fixture = Fixture::new().await;
    let id = fixture.note("x").await;
    let waiting = tokio::spawn({
        let outbox = fixture.outbox.clone();
        async move { outbox.delivered(id, Some(Duration::MAX)).await }
    });
    fixture.ack(id).await;
    assert_eq!(soon(waiting).await.unwrap().unwrap().id, id);
}

#[tokio::test]
async fn a_process_that_does_not_deliver_hears_of_it_too() {
    let fixture = Fixture::new().await;
    let beside = fixture.beside().await;
    let id = beside.note("x").await;
    let waiting = tokio::spawn(async move { beside.outbox.delivered(id, None).await });
    fixture.ack(id).await;
    assert_eq!(soon(waiting).await.unwrap().unwrap().state, State::Acked);
}

#[tokio::test]
async fn a_waiter_that_cannot_keep_up_with_the_news_reads_the_row() {
    let fixture = Fixture::new().await;
    let id = fixture.note("x").await;
    let mut waiting = std::pin::pin!(fixture.outbox.delivered(id, None));
    // Polled until it waits, then not at all while more happens than any channel keeps.
    assert!(futures_util::poll!(&mut waiting).is_pending());
    fixture.ack(id).await;
    let flood = |_| fixture.note("y");
    for batch in 0..45 {
        futures_util::future::join_all((0..100).map(|number| flood(batch * 100 + number))).await;
    }
    assert_eq!(soon(waiting).await.unwrap().state, State::Acked);
}

use super::*;
use crate::entry::{Reason, WaitingFor};

#[tokio::test]
async fn retry_sends_what_failed_once_more() {
    let fixture = Fixture::new().await;
    let (failed, kept, other) = (fixture.note("1").await, fixture.note("2").await, fixture.form("a", "3").await);
    fixture.fail(failed, Reason::Refused).await;
    fixture.fail(other, Reason::Refused).await;
    fixture.wake.take();
    let of_kind = SelectionFilter { kind: Some("note".into()), ..SelectionFilter::default() };
    assert_eq!(fixture.outbox.retry(of_kind, false).await.unwrap(), [failed]);
    assert!(fixture.wake.take().has(Wake::Retry));
    assert_eq!(fixture.state(failed).await, State::Pending);
    assert_eq!(fixture.state(other).await, State::Failed);
    fixture.fail(failed, Reason::Refused).await;
    let mut all = fixture.outbox.retry(SelectionFilter::default(), false).await.unwrap();
    all.sort();
    assert_eq!(all, [failed, other]);
    assert_eq!(fixture.state(kept).await, State::Pending);
}

#[tokio::test]
async fn retry_of_one_that_is_pending_makes_it_due_now() {
    let fixture = Fixture::new().await;
    let id = fixture.note("x").await;
    fixture.wake.take();
    assert_eq!(fixture.outbox.retry(id, false).await.unwrap(), [id]);
    assert!(fixture.wake.take().clears_backoff());
}

#[tokio::test]
async fn retry_says_why_it_leaves_an_entry_alone() {
    let fixture = Fixture::new().await;
    let (acked, inflight, unknown) = (fixture.note("1").await, fixture.note("2").await, fixture.note("3").await);
    fixture.ack(acked).await;
    fixture.claim(inflight).await;
    fixture.fail(unknown, Reason::OutcomeUnknown).await;
    let old = fixture.form("a", "old").await;
    let new = fixture.form("a", "new").await;
    fixture.wake.take();
    let outbox = &fixture.outbox;
    assert_refused(outbox.retry(acked, false).await, "wrong_state", "the server has");
    assert_refused(outbox.retry(inflight, false).await, "wrong_state", "being sent");
    assert_refused(outbox.retry(unknown, false).await, "wrong_state", "`force`");
    assert_refused(outbox.retry(old, false).await, "wrong_state", &new.to_string());
    assert_refused(outbox.retry(Uuid::now_v7(), false).await, "not_found", "discarded or pruned");
    assert_refused(outbox.retry(Selection::All, false).await, "invalid_argument", "`{}`");
    assert_eq!(fixture.wake.take(), Default::default());
}

#[tokio::test]
async fn what_may_have_been_applied_is_only_sent_again_by_force() {
    let fixture = Fixture::new().await;
    let id = fixture.note("x").await;
    fixture.fail(id, Reason::OutcomeUnknown).await;
    assert!(fixture.outbox.retry(SelectionFilter::default(), false).await.unwrap().is_empty());
    assert_eq!(fixture.state(id).await, State::Failed);
    assert_eq!(fixture.outbox.retry(id, true).await.unwrap(), [id]);
    let entry = fixture.outbox.get(id).await.unwrap();
    assert_eq!((entry.state, entry.possibly_sent), (State::Pending, true));
    let loaded = fixture.store.load(&[fixture.seq_of(id).await]).await.unwrap();
    assert!(loaded[0].forced);
}

#[tokio::test]
async fn discard_deletes_and_says_what_may_be_on_the_server() {
    let fixture = Fixture::new().await;
    let (fresh, unknown, inflight) = (fixture.note("1").await, fixture.note("2").await, fixture.note("3").await);
    fixture.fail(unknown, Reason::OutcomeUnknown).await;
    fixture.claim(inflight).await;
    let ids =
        SelectionFilter { ids: Some(vec![fresh, unknown, inflight, Uuid::now_v7()]), ..SelectionFilter::default() };
    let mut done = fixture.outbox.discard(ids, false).await.unwrap();
    done.ids.sort();
    assert_eq!(
        done,
        Discarded {
            ids: vec![fresh, unknown],
            possibly_applied: vec![unknown],
            inflight: vec![inflight],
            orphaned: vec![]
        }
    );
    let json = serde_json::to_value(&done).unwrap();
    assert_eq!(json["possiblyApplied"], json!([unknown]));
    assert_eq!(fixture.outbox.get(fresh).await.unwrap_err().code(), "not_found");
    assert_eq!(fixture.state(inflight).await, State::Inflight);
    assert_refused(fixture.outbox.discard(fresh, false).await, "not_found", &fresh.to_string());
    let alone = fixture.outbox.discard(inflight, false).await.unwrap();
    assert_eq!((alone.ids, alone.inflight), (vec![], vec![inflight]));
}

#[tokio::test]
async fn everything_is_only_discarded_when_that_is_said() {
    let fixture = Fixture::new().await;
    let id = fixture.note("x").await;
    let empty = SelectionFilter::default;
    assert_refused(fixture.outbox.discard(empty(), false).await, "invalid_argument", "'all'");
    for none in [SelectionFilter { ids: Some(vec![]), ..empty() }, SelectionFilter { states: Some(vec![]), ..empty() }]
    {
        assert_eq!(fixture.outbox.discard(none.clone(), false).await.unwrap(), Discarded::default());
        assert!(fixture.outbox.retry(none, true).await.unwrap().is_empty());
    }
    let many = SelectionFilter { ids: Some(vec![Uuid::now_v7(); 1001]), ..empty() };
    assert_refused(fixture.outbox.discard(many, false).await, "invalid_argument", "1001");
    assert_eq!(fixture.state(id).await, State::Pending);
    assert_eq!(fixture.outbox.discard(Selection::All, false).await.unwrap().ids, [id]);
    assert_eq!(fixture.all().await, []);
    assert!(fixture.wake.take().has(Wake::Changed));
}

#[tokio::test]
async fn only_the_process_that_delivers_is_paused_and_resumed() {
    let fixture = Fixture::new().await;
    let beside = fixture.beside().await;
    assert_eq!(beside.outbox.pause().await.unwrap_err().code(), "not_owner");
    assert_eq!(beside.outbox.resume().await.unwrap_err().code(), "not_owner");
    assert!(!fixture.store.paused().await.unwrap());
    fixture.outbox.pause().await.unwrap();
    assert!(fixture.wake.take().has(Wake::Paused));
    assert!(fixture.store.paused().await.unwrap());
    fixture.outbox.resume().await.unwrap();
    assert!(!fixture.store.paused().await.unwrap());
}

#[tokio::test]
async fn one_entry_is_paused_and_resumed_by_any_process_and_whoever_shows_it_is_told() {
    let fixture = Fixture::new().await;
    let (id, other) = (fixture.note("x").await, fixture.note("y").await);
    fixture.wake.take();
    let mut changes = fixture.outbox.status_changes();
    fixture.outbox.pause_entry(id).await.unwrap();
    changes.changed().await;
    assert!(fixture.wake.take().has(Wake::Changed));
    let entry = fixture.outbox.get(id).await.unwrap();
    assert_eq!((entry.state, entry.paused, entry.waiting_for), (State::Pending, true, Some(WaitingFor::Paused)));
    let entry = fixture.outbox.get(other).await.unwrap();
    assert!(!entry.paused && entry.waiting_for != Some(WaitingFor::Paused), "{entry:#?}");
    assert!(!fixture.outbox.status().await.unwrap().paused, "delivery goes on");

    let beside = fixture.beside().await;
    beside.outbox.resume_entry(id).await.unwrap();
    assert_eq!(std::fs::read(fixture.wake_file()).unwrap(), b"r", "it is due at once");
    assert!(!fixture.outbox.get(id).await.unwrap().paused);
    beside.outbox.pause_entry(id).await.unwrap();
    assert!(fixture.outbox.get(id).await.unwrap().paused);
    // Twice is no mistake.
    fixture.outbox.pause_entry(id).await.unwrap();
    fixture.outbox.resume_entry(id).await.unwrap();
    fixture.outbox.resume_entry(id).await.unwrap();
}

#[tokio::test]
async fn only_what_waits_or_is_being_sent_can_be_paused_and_only_by_its_own_account() {
    let fixture = Fixture::new().await;
    let (failed, inflight) = (fixture.note("x").await, fixture.note("y").await);
    fixture.fail(failed, Reason::Refused).await;
    fixture.claim(inflight).await;
    assert_refused(fixture.outbox.pause_entry(failed).await, "wrong_state", "failed");
    assert_refused(fixture.outbox.resume_entry(failed).await, "wrong_state", "failed");
    fixture.outbox.pause_entry(inflight).await.unwrap();
    let entry = fixture.outbox.get(inflight).await.unwrap();
    assert_eq!((entry.state, entry.paused, entry.waiting_for), (State::Inflight, true, None));
    let nobody = Uuid::now_v7();
    assert_refused(fixture.outbox.pause_entry(nobody).await, "not_found", &nobody.to_string());
    fixture.outbox.set_account("ann").await.unwrap();
    assert_refused(fixture.outbox.resume_entry(inflight).await, "not_found", &inflight.to_string());
}

#[tokio::test]
async fn what_another_process_decides_reaches_the_one_that_delivers() {
    let fixture = Fixture::new().await;
    let id = fixture.note("x").await;
    fixture.fail(id, Reason::Refused).await;
    let beside = fixture.beside().await;
    assert_eq!(beside.outbox.retry(id, false).await.unwrap(), [id]);
    assert_eq!(std::fs::read(fixture.wake_file()).unwrap(), b"r");
    std::fs::remove_file(fixture.wake_file()).unwrap();
    beside.outbox.discard(id, false).await.unwrap();
    assert!(fixture.wake_file().exists());
}

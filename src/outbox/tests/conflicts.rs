use super::*;
use crate::entry::{Applied, Known, Reason, WaitingFor};

async fn contested(fixture: &Fixture) -> (Uuid, Uuid) {
    let (lost, asked) = (fixture.form("a", "lost").await, fixture.form("b", "asked").await);
    fixture.lose(lost, false, 7).await;
    fixture.conflict(asked, false, 9).await;
    (lost, asked)
}

fn ids(entries: &[Entry]) -> Vec<Uuid> {
    entries.iter().map(|entry| entry.id).collect()
}

#[tokio::test]
async fn a_conflict_is_announced_and_stays_on_the_list_until_somebody_has_read_of_it() {
    let fixture = Fixture::new().await;
    let mut changes = fixture.outbox.changes();
    let (lost, asked) = contested(&fixture).await;
    let mut announced = Vec::new();
    while let Ok(change) = changes.try_recv() {
        announced.extend(change.conflict.then_some((change.id, change.state)));
    }
    assert_eq!(announced, [(lost, Some(State::Superseded)), (asked, Some(State::Failed))]);
    let unread = fixture.outbox.conflicts().await.unwrap();
    assert_eq!(ids(&unread), [lost, asked]);
    assert!(unread.iter().all(|entry| entry.conflict));
    assert_eq!((unread[0].lost, unread[1].reason), (true, Some(Reason::Conflict)));
    // Another process, as after a restart, knows of them too and may have read them.
    let restarted = fixture.beside().await;
    assert_eq!(ids(&restarted.outbox.conflicts().await.unwrap()), [lost, asked]);
    restarted.outbox.conflicts_read(&[lost, Uuid::now_v7()]).await.unwrap();
    assert_eq!(ids(&fixture.outbox.conflicts().await.unwrap()), [asked]);
    fixture.outbox.set_account("bob").await.unwrap();
    assert_eq!(fixture.outbox.conflicts().await.unwrap(), []);
    fixture.outbox.conflicts_read(&[asked]).await.unwrap();
    fixture.outbox.set_account("").await.unwrap();
    assert_eq!(ids(&fixture.outbox.conflicts().await.unwrap()), [asked], "bob has read nothing of hers");
    fixture.outbox.conflicts_read(&[lost, asked]).await.unwrap();
    assert_eq!(fixture.outbox.conflicts().await.unwrap(), []);
    let read = fixture.outbox.get(lost).await.unwrap();
    assert!(read.lost && !read.conflict, "to have read of it decides nothing");
    assert_refused(fixture.outbox.conflicts_read(&vec![lost; 1001]).await, "invalid_argument", "1001");
}

#[tokio::test]
async fn what_is_lost_says_so_and_keeps_its_payload() {
    let fixture = Fixture::new().await;
    let (lost, asked) = contested(&fixture).await;
    assert_refused(fixture.outbox.delivered(lost, None).await, "lost", &lost.to_string());
    assert_refused(fixture.outbox.delivered(asked, None).await, "not_delivered", "`resolve` it");
    for (id, text) in [(lost, b"\"lost\"".as_slice()), (asked, b"\"asked\"")] {
        assert_eq!(fixture.outbox.payload(id).await.unwrap().as_bytes(), text);
        assert_eq!(fixture.outbox.get(id).await.unwrap().applied, Applied::No);
    }
    let doubtful = fixture.form("c", "doubtful").await;
    fixture.lose(doubtful, true, 7).await;
    let entry = fixture.outbox.get(doubtful).await.unwrap();
    assert_eq!((entry.lost, entry.applied), (true, Applied::Unknown));
}

#[tokio::test]
async fn a_waiter_hears_that_its_entry_was_lost() {
    let fixture = Fixture::new().await;
    let id = fixture.form("a", "x").await;
    let waiting = tokio::spawn({
        let outbox = fixture.outbox.clone();
        async move { outbox.delivered(id, None).await }
    });
    fixture.lose(id, false, 7).await;
    assert_refused(soon(waiting).await.unwrap(), "lost", "`resolve`");
}

#[tokio::test]
async fn mine_is_sent_above_what_the_server_holds() {
    let fixture = Fixture::new().await;
    let (lost, asked) = contested(&fixture).await;
    for (id, revision) in [(lost, 7), (asked, 9)] {
        fixture.wake.take();
        fixture.outbox.resolve(id, Resolution::Mine).await.unwrap();
        assert!(fixture.wake.take().has(Wake::Retry));
        let row = fixture.loaded(id).await;
        assert_eq!((row.base, row.revision, row.key_suffix), (revision, None, 1));
        let entry = fixture.outbox.get(id).await.unwrap();
        assert!(!entry.lost && !entry.conflict && entry.reason.is_none());
        fixture.ack(id).await;
        assert_eq!(soon(fixture.outbox.delivered(id, None)).await.unwrap().id, id);
    }
    assert_eq!(fixture.outbox.conflicts().await.unwrap(), []);
}

#[tokio::test]
async fn theirs_stands_and_the_payload_goes() {
    let fixture = Fixture::new().await;
    let (lost, asked) = contested(&fixture).await;
    for id in [lost, asked] {
        fixture.outbox.resolve(id, Resolution::Theirs).await.unwrap();
        let entry = fixture.outbox.get(id).await.unwrap();
        assert_eq!((entry.state, entry.lost, entry.conflict), (State::Superseded, false, false));
        assert_refused(fixture.outbox.delivered(id, None).await, "not_delivered", "given up for what the server holds");
        assert_refused(fixture.outbox.payload(id).await, "wrong_state", "no longer kept");
        assert_refused(fixture.outbox.resolve(id, Resolution::Mine).await, "wrong_state", "nothing to decide");
        assert_refused(fixture.outbox.retry(id, false).await, "wrong_state", "given up");
        assert_refused(fixture.outbox.edit(id, payload(json!(1))).await, "wrong_state", "given up");
    }
    assert_eq!(fixture.outbox.conflicts().await.unwrap(), []);
}

#[tokio::test]
async fn a_merged_payload_is_sent_in_place_of_both_even_if_the_first_may_have_been_applied() {
    let fixture = Fixture::new().await;
    let (lost, asked) = contested(&fixture).await;
    let doubtful = fixture.form("c", "doubtful").await;
    fixture.conflict(doubtful, true, 11).await;
    assert_refused(fixture.outbox.edit(doubtful, payload(json!(1))).await, "wrong_state", "use `resolve`");
    for (id, revision) in [(lost, 7), (asked, 9), (doubtful, 11)] {
        fixture.outbox.resolve(id, Resolution::Payload(payload(json!("both")))).await.unwrap();
        assert_eq!(fixture.outbox.payload(id).await.unwrap().as_bytes(), b"\"both\"");
        let row = fixture.loaded(id).await;
        assert_eq!((row.base, row.revision, row.possibly_sent), (revision, None, false));
        fixture.ack(id).await;
    }
    assert_eq!(fixture.outbox.conflicts().await.unwrap(), []);
}

#[tokio::test]
async fn there_is_nothing_to_decide_of_other_entries() {
    let fixture = Fixture::new().await;
    let (pending, acked, refused) = (fixture.note("1").await, fixture.note("2").await, fixture.note("3").await);
    fixture.ack(acked).await;
    fixture.fail(refused, Reason::Refused).await;
    for id in [pending, acked, refused] {
        for resolution in [Resolution::Mine, Resolution::Theirs, Resolution::Payload(payload(json!(1)))] {
            let before = fixture.outbox.get(id).await.unwrap();
            assert_refused(fixture.outbox.resolve(id, resolution).await, "wrong_state", "nothing to decide");
            assert_eq!(fixture.outbox.get(id).await.unwrap(), before);
        }
    }
    for resolution in [Resolution::Mine, Resolution::Payload(payload(json!(1)))] {
        assert_refused(fixture.outbox.resolve(Uuid::now_v7(), resolution).await, "not_found", "discarded or pruned");
    }
    let (lost, _) = contested(&fixture).await;
    fixture.outbox.set_account("bob").await.unwrap();
    assert_refused(fixture.outbox.resolve(lost, Resolution::Theirs).await, "not_found", "this account");
    assert_refused(
        fixture.outbox.resolve(lost, Resolution::Payload(payload(json!(1)))).await,
        "not_found",
        "this account",
    );
}

#[tokio::test]
async fn retry_revives_what_is_lost_only_if_it_is_named() {
    let fixture = Fixture::new().await;
    let (lost, asked) = contested(&fixture).await;
    assert_eq!(fixture.outbox.retry(SelectionFilter::default(), false).await.unwrap(), [asked]);
    assert!(fixture.outbox.get(lost).await.unwrap().lost);
    assert_eq!(fixture.outbox.retry(lost, false).await.unwrap(), [lost]);
    assert_eq!(fixture.state(lost).await, State::Pending);
    assert_eq!(fixture.outbox.conflicts().await.unwrap(), []);
    assert_eq!((fixture.loaded(lost).await.base, fixture.loaded(asked).await.base), (7, 9));
}

#[tokio::test]
async fn an_entry_that_waits_for_a_decision_does_not_hold_its_lane() {
    let fixture = Fixture::new().await;
    let asked = fixture.enqueue("note", "1", options("a")).await.unwrap().id;
    let next = fixture.enqueue("note", "2", options("a")).await.unwrap().id;
    assert_eq!(fixture.outbox.get(next).await.unwrap().waiting_for, Some(WaitingFor::Lane { behind: asked }));
    fixture.conflict(asked, false, 3).await;
    assert_eq!(fixture.outbox.get(next).await.unwrap().waiting_for, Some(WaitingFor::Turn));
    fixture.outbox.resolve(asked, Resolution::Mine).await.unwrap();
    assert_eq!(fixture.outbox.get(next).await.unwrap().waiting_for, Some(WaitingFor::Lane { behind: asked }));
}

#[tokio::test]
async fn a_discarded_conflict_is_no_longer_on_the_list() {
    let fixture = Fixture::new().await;
    let (lost, asked) = contested(&fixture).await;
    let gone = fixture.outbox.discard(lost, false).await.unwrap();
    assert_eq!((gone.ids, gone.possibly_applied), (vec![lost], vec![]));
    assert_eq!(ids(&fixture.outbox.conflicts().await.unwrap()), [asked]);
}

#[tokio::test]
async fn the_next_write_builds_on_what_the_app_has_read() {
    let fixture = Fixture::new().await;
    let before = fixture.form("a", "queued before").await;
    let known =
        Known { revision: Some(41), canonical_id: Some("l-1".into()), exists: Some(true), etag: Some("\"t\"".into()) };
    fixture.outbox.observe("form", "a", known).await.unwrap();
    assert_eq!(fixture.loaded(before).await.base, 0, "what is queued stays as it is");
    let after = fixture.form("a", "queued after").await;
    let row = fixture.loaded(after).await;
    assert_eq!((row.base, row.lane_seen), (41, 41));
    assert_eq!((row.canonical_id.as_deref(), row.etag.as_deref()), (Some("l-1"), Some("\"t\"")));
    // A lower one teaches nothing, and what is not said stays.
    fixture.outbox.observe("form", "a", Known { revision: Some(7), ..Known::default() }).await.unwrap();
    let row = fixture.loaded(after).await;
    assert_eq!((row.lane_seen, row.canonical_id.as_deref()), (41, Some("l-1")));
    fixture.outbox.observe("form", "a", Known { exists: Some(false), ..Known::default() }).await.unwrap();
    let row = fixture.loaded(after).await;
    assert_eq!((row.lane_seen, row.canonical_id, row.etag), (41, None, None));
    // A thing of which nothing was ever enqueued, and one of another account.
    fixture.outbox.observe("form", "b", Known { revision: Some(5), ..Known::default() }).await.unwrap();
    let unseen = fixture.form("b", "x").await;
    assert_eq!(fixture.loaded(unseen).await.base, 5);
    fixture.outbox.set_account("bob").await.unwrap();
    let bobs = fixture.form("a", "x").await;
    assert_eq!(fixture.loaded(bobs).await.base, 0);
}

#[tokio::test]
async fn what_no_request_could_carry_is_not_observed() {
    let fixture = Fixture::new().await;
    let known = || Known { revision: Some(1), ..Known::default() };
    let id = |id: &str| Known { canonical_id: Some(id.into()), ..known() };
    let etag = |etag: &str| Known { etag: Some(etag.into()), ..known() };
    let long = "x".repeat(1025);
    for (kind, key, known, code, hint) in [
        ("fomr", "a", known(), "unknown_kind", "form"),
        ("form", "", known(), "invalid_argument", "`key` is empty"),
        ("form", "a\n", known(), "invalid_argument", "`key` holds control"),
        ("form", &"k".repeat(513), known(), "invalid_argument", "513 bytes"),
        ("form", "a", Known { revision: Some(1 << 53), ..known() }, "invalid_argument", "2^53"),
        ("form", "a", id(""), "invalid_argument", "`known.canonicalId` is empty"),
        ("form", "a", id("a\r\nb"), "invalid_argument", "`known.canonicalId` holds control"),
        ("form", "a", id(&long), "invalid_argument", "1025 bytes"),
        ("form", "a", etag("t"), "invalid_argument", "`known.etag`"),
        ("form", "a", etag("W/\"t\""), "invalid_argument", "W/"),
        ("form", "a", etag("\"t\"x\""), "invalid_argument", "`known.etag`"),
        ("form", "a", etag("\"t\r\nx\""), "invalid_argument", "`known.etag`"),
        ("form", "a", etag("\"ü\""), "invalid_argument", "`known.etag`"),
        ("form", "a", Known { exists: Some(false), ..id("l-1") }, "invalid_argument", "does not exist"),
        ("form", "a", Known { exists: Some(false), ..etag("\"t\"") }, "invalid_argument", "does not exist"),
    ] {
        assert_refused(fixture.outbox.observe(kind, key, known).await, code, hint);
    }
    let id = fixture.form("a", "x").await;
    assert_eq!(fixture.loaded(id).await.lane_seen, 0);
    fixture.outbox.observe("form", "a", Known::default()).await.unwrap();
    fixture.outbox.observe("form", "a", Known { revision: Some((1 << 53) - 1), ..Known::default() }).await.unwrap();
}

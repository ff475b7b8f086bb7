use super::*;
use crate::{
    cipher::{Binding, Part},
    entry::{Action, Queue, Reason, WaitingFor},
    reference::reference,
};

/// The params of an entry, as the engine opens them.
async fn params(fixture: &Fixture, id: Uuid) -> serde_json::Value {
    let row = fixture.loaded(id).await;
    let master = fixture.outbox.master_key(&row.account).await.unwrap();
    let binding = Binding {
        account: &row.account,
        id,
        kind: &row.kind,
        key: row.key.as_deref(),
        content_type: &row.content_type,
        generation: row.payload.generation,
    };
    let data = master.unwrap(&row.payload.wrapped_key, &binding).unwrap();
    let plain = data.open(Part::Params, &binding, row.payload.params.as_ref().unwrap()).unwrap();
    serde_json::from_slice(&plain).unwrap()
}

fn photo() -> EnqueueOptions {
    with(|options| {
        options.params = [("listing", "42"), ("size", "l")].map(|(name, value)| (name.into(), value.into())).into();
    })
}

#[tokio::test]
async fn an_edited_entry_carries_the_new_payload_and_is_otherwise_the_same() {
    let fixture = Fixture::new().await;
    let id = fixture.enqueue("listing", "first", options("a")).await.unwrap().id;
    let before = fixture.outbox.get(id).await.unwrap();
    fixture.wake.take();
    fixture.outbox.edit(id, payload(json!({ "title": "second" }))).await.unwrap();
    assert!(fixture.wake.take().has(Wake::Retry));
    assert_eq!(fixture.outbox.payload(id).await.unwrap().as_bytes(), br#"{"title":"second"}"#);
    let after = fixture.outbox.get(id).await.unwrap();
    assert_eq!(Entry { bytes: before.bytes, updated_at: before.updated_at, ..after.clone() }, before);
    assert_eq!(after.bytes, 18);
    let row = fixture.loaded(id).await;
    assert_eq!((row.payload.generation, row.key_suffix, row.payload_version), (2, 0, 3));
    fixture.ack_as(id, "l-1").await;
}

#[tokio::test]
async fn bytes_are_edited_with_their_media_type_and_the_params_stay() {
    let fixture = Fixture::new().await;
    let id = fixture.outbox.enqueue("photo", Payload::bytes([1, 2], "image/png"), photo()).await.unwrap().id;
    for generation in 2..5 {
        fixture.outbox.edit(id, Payload::bytes([3], "image/webp")).await.unwrap();
        let edited = fixture.outbox.payload(id).await.unwrap();
        assert_eq!((edited.as_bytes(), edited.content_type()), ([3].as_slice(), "image/webp"));
        assert_eq!(fixture.outbox.get(id).await.unwrap().content_type, "image/webp");
        assert_eq!(params(&fixture, id).await, json!({ "listing": "42", "size": "l" }));
        assert_eq!(fixture.loaded(id).await.payload.generation, generation);
    }
}

#[tokio::test]
async fn what_was_enqueued_first_is_still_known_under_its_id() {
    let fixture = Fixture::new().await;
    let options = EnqueueOptions { id: Some(Uuid::now_v7()), ..photo() };
    let enqueue = |bytes: u8, content_type: &'static str| {
        fixture.outbox.enqueue("photo", Payload::bytes([bytes], content_type), options.clone())
    };
    let first = enqueue(1, "image/png").await.unwrap();
    fixture.outbox.edit(first.id, Payload::bytes([2], "image/webp")).await.unwrap();
    assert_eq!(enqueue(1, "image/png").await.unwrap(), first);
    assert_refused(enqueue(2, "image/webp").await, "id_conflict", "other content");
    assert_eq!(fixture.outbox.payload(first.id).await.unwrap().as_bytes(), [2]);
}

#[tokio::test]
async fn what_was_refused_is_sent_again_under_another_key_and_what_was_lost_above_what_beat_it() {
    let fixture = Fixture::new().await;
    let (refused, lost, asked) = (fixture.note("1").await, fixture.form("a", "2").await, fixture.form("b", "3").await);
    fixture.fail(refused, Reason::Refused).await;
    fixture.lose(lost, true, 7).await;
    fixture.conflict(asked, false, 9).await;
    for (id, base) in [(refused, 0), (lost, 7), (asked, 9)] {
        fixture.outbox.edit(id, payload(json!("edited"))).await.unwrap();
        let row = fixture.loaded(id).await;
        assert_eq!((row.key_suffix, row.base, row.revision, row.possibly_sent), (1, base, None, false));
        assert_eq!(row.former_keys.len(), 1);
        let entry = fixture.outbox.get(id).await.unwrap();
        assert_eq!((entry.state, entry.reason, entry.lost, entry.conflict), (State::Pending, None, false, false));
        assert_eq!(fixture.outbox.payload(id).await.unwrap().as_bytes(), b"\"edited\"");
        fixture.ack(id).await;
    }
}

#[tokio::test]
async fn what_the_server_may_have_is_not_edited_and_says_what_to_do() {
    let fixture = Fixture::new().await;
    let (acked, inflight, unknown, unsettled, doubtful) = (
        fixture.note("1").await,
        fixture.note("2").await,
        fixture.note("3").await,
        fixture.note("4").await,
        fixture.note("5").await,
    );
    fixture.ack(acked).await;
    fixture.claim(inflight).await;
    fixture.fail(unknown, Reason::OutcomeUnknown).await;
    fixture.settle(unsettled, 500, Verdict::Unknown).await;
    fixture.conflict(doubtful, true, 3).await;
    let old = fixture.form("a", "old").await;
    let new = fixture.form("a", "new").await;
    let created = fixture.enqueue("listing", "x", options("k")).await.unwrap().id;
    fixture.ack_as(created, "l-1").await;
    let delete = EnqueueOptions { action: Some(Action::Delete), ..options("k") };
    let delete = fixture.outbox.enqueue("listing", payload(json!(null)), delete).await.unwrap().id;
    let new = new.to_string();
    for (id, hint) in [
        (acked, "the server has"),
        (inflight, "being sent"),
        (unknown, "`force`"),
        (unsettled, "wait for its answer"),
        (doubtful, "use `resolve`"),
        (old, new.as_str()),
        (delete, "has no payload"),
    ] {
        let before = fixture.outbox.get(id).await.unwrap();
        assert_refused(fixture.outbox.edit(id, payload(json!("edited"))).await, "wrong_state", hint);
        assert_eq!(fixture.outbox.get(id).await.unwrap(), before);
    }
    assert_refused(fixture.outbox.edit(Uuid::now_v7(), payload(json!(1))).await, "not_found", "discarded or pruned");
    let note = fixture.note("hers").await;
    fixture.outbox.set_account("bob").await.unwrap();
    assert_refused(fixture.outbox.edit(note, payload(json!("bob's"))).await, "not_found", "this account");
    fixture.outbox.set_account("").await.unwrap();
    assert_eq!(fixture.outbox.payload(note).await.unwrap().as_bytes(), b"\"hers\"");
}

#[tokio::test]
async fn a_payload_that_could_not_be_enqueued_is_refused_before_anything_is_written() {
    let fixture = Fixture::new().await;
    let id = fixture.note("first").await;
    let later = fixture.enqueue("listing", "later", EnqueueOptions::default()).await.unwrap().id;
    let nameless = fixture.note("nameless").await;
    for (given, code, hint) in [
        (Payload::bytes([1], "image/png"), "invalid_argument", "takes JSON values"),
        (payload(json!("x".repeat(999))), "payload_too_large", "limits.payloadBytes"),
        (payload(json!(reference(Uuid::now_v7()))), "invalid_argument", "there is no entry"),
        (payload(json!(reference(id))), "invalid_argument", "names itself"),
        (payload(json!(reference(nameless))), "invalid_argument", "gives no id"),
        (payload(json!(reference(later))), "invalid_argument", "was enqueued after this one"),
    ] {
        assert_refused(fixture.outbox.edit(id, given).await, code, hint);
    }
    let image = fixture.outbox.enqueue("photo", Payload::bytes([1], "image/png"), photo()).await.unwrap().id;
    assert_refused(fixture.outbox.edit(image, payload(json!(1))).await, "invalid_argument", "takes bytes");
    assert_refused(fixture.outbox.edit(image, Payload::bytes([1], "png")).await, "invalid_argument", "media type");
    assert_eq!(fixture.outbox.payload(id).await.unwrap().as_bytes(), b"\"first\"");
    assert_eq!(fixture.loaded(id).await.payload.generation, 1);
}

#[tokio::test]
async fn an_edit_that_names_what_waits_for_the_entry_itself_is_refused() {
    let fixture = Fixture::new().await;
    let enqueue = async |key: &str, queue: Queue, after: &[Uuid]| {
        let options = with(|options| {
            (options.key, options.queue, options.after) = (Some(key.to_owned()), Some(queue), after.to_vec());
        });
        fixture.enqueue("listing", "1", options).await.unwrap().id
    };
    let first = enqueue("one", Queue::Latest, &[]).await;
    let follower = enqueue("two", Queue::Every, &[first]).await;
    let behind = enqueue("two", Queue::Every, &[]).await;
    // Takes the place of the first, so the older ones wait for it.
    let newer = enqueue("one", Queue::Latest, &[]).await;
    assert_eq!(fixture.outbox.get(first).await.unwrap().superseded_by, Some(newer));
    for named in [follower, behind] {
        let refused = fixture.outbox.edit(newer, payload(json!(reference(named)))).await;
        assert_refused(refused, "invalid_argument", "discard one of them");
    }
    let other = enqueue("three", Queue::Every, &[]).await;
    let after = enqueue("one", Queue::Every, &[]).await;
    fixture.outbox.edit(after, payload(json!(reference(other)))).await.unwrap();
}

#[tokio::test]
async fn an_entry_that_goes_back_into_its_lane_is_refused_to_wait_for_what_waits_there() {
    let fixture = Fixture::new().await;
    let enqueue = async |key: &str, queue: Queue, after: &[Uuid]| {
        let options = with(|options| {
            (options.key, options.queue, options.after) = (Some(key.to_owned()), Some(queue), after.to_vec());
        });
        fixture.enqueue("listing", "1", options).await.unwrap().id
    };
    let beaten = || Verdict::Conflict { taught: Taught::default(), possibly_sent: false };
    let first = enqueue("one", Queue::Latest, &[]).await;
    let follower = enqueue("two", Queue::Every, &[first]).await;
    let second = enqueue("one", Queue::Every, &[]).await;
    for id in [first, second] {
        fixture.settle(id, 409, beaten()).await;
    }
    fixture.outbox.resolve(first, Resolution::Mine).await.unwrap();
    // Takes the place of the first, and is behind the second if that one comes back.
    let newer = enqueue("one", Queue::Latest, &[]).await;
    assert_eq!(fixture.outbox.get(first).await.unwrap().superseded_by, Some(newer));
    let merged = |named| Resolution::Payload(payload(json!(reference(named))));
    let refused = fixture.outbox.resolve(second, merged(follower)).await;
    assert_refused(refused, "invalid_argument", "discard one of them");
    let other = enqueue("three", Queue::Every, &[]).await;
    assert_refused(
        fixture.outbox.resolve(second, merged(other)).await,
        "invalid_argument",
        "was enqueued after this one",
    );
    fixture.outbox.resolve(second, Resolution::Mine).await.unwrap();
}

#[tokio::test]
async fn an_edit_refers_to_what_the_new_payload_names() {
    let fixture = Fixture::new().await;
    let (first, second) = (
        fixture.enqueue("listing", "1", EnqueueOptions::default()).await.unwrap().id,
        fixture.enqueue("listing", "2", EnqueueOptions::default()).await.unwrap().id,
    );
    let other = fixture.note("other").await;
    let options = with(|options| options.after = vec![other]);
    let id = fixture.outbox.enqueue("note", payload(json!(reference(first))), options).await.unwrap().id;
    fixture.outbox.edit(id, payload(json!(reference(second)))).await.unwrap();
    assert_eq!(fixture.outbox.get(id).await.unwrap().after, [second, other]);
    fixture.ack(other).await;
    fixture.ack_as(second, "l-2").await;
    assert_eq!(fixture.outbox.get(id).await.unwrap().waiting_for, Some(WaitingFor::Turn));
    assert_eq!(fixture.loaded(id).await.references, [(second, Some("l-2".into()))]);
}

#[tokio::test]
async fn what_an_entry_was_told_to_follow_may_be_named_by_an_edit_and_is_followed_when_the_next_does_not() {
    let fixture = Fixture::new().await;
    let listing = fixture.enqueue("listing", "1", EnqueueOptions::default()).await.unwrap().id;
    let options = with(|options| options.after = vec![listing]);
    let id = fixture.outbox.enqueue("note", payload(json!("plain")), options).await.unwrap().id;
    fixture.outbox.edit(id, payload(json!(reference(listing)))).await.unwrap();
    fixture.outbox.edit(id, payload(json!("plain again"))).await.unwrap();
    assert_eq!(fixture.outbox.get(id).await.unwrap().after, [listing]);
    fixture.outbox.edit(id, payload(json!(reference(listing)))).await.unwrap();
    fixture.ack_as(listing, "l-1").await;
    assert_eq!(fixture.loaded(id).await.references, [(listing, Some("l-1".into()))]);
}

#[tokio::test]
async fn a_reference_of_a_param_outlives_an_edit() {
    let fixture = Fixture::new().await;
    let listing = fixture.enqueue("listing", "1", EnqueueOptions::default()).await.unwrap().id;
    let mut options = photo();
    options.params.insert("listing".into(), reference(listing));
    let id = fixture.outbox.enqueue("photo", Payload::bytes([1], "image/png"), options).await.unwrap().id;
    fixture.outbox.edit(id, Payload::bytes([2], "image/png")).await.unwrap();
    assert_eq!(fixture.outbox.get(id).await.unwrap().after, [listing]);
    fixture.ack_as(listing, "l-1").await;
    assert_eq!(params(&fixture, id).await["listing"], reference(listing));
}

#[tokio::test]
async fn without_its_key_nothing_is_edited() {
    let fixture = Fixture::new().await;
    let id = fixture.note("first").await;
    let locked = fixture.beside().await;
    locked.keyring.set(Mood::Locked);
    assert_refused(locked.outbox.edit(id, payload(json!("second"))).await, "keychain_locked", "unlock");
    locked.keyring.set(Mood::Open);
    locked.outbox.edit(id, payload(json!("second"))).await.unwrap();
    assert!(locked.wake_file().exists(), "the process that delivers is told");
    assert_eq!(fixture.outbox.payload(id).await.unwrap().as_bytes(), b"\"second\"");
}

#[tokio::test]
async fn edits_at_once_all_come_to_pass_one_after_another() {
    let fixture = Fixture::new().await;
    let id = fixture.note("first").await;
    let edits = (0..8).map(|number| fixture.outbox.edit(id, payload(json!(number))));
    for answer in futures_util::future::join_all(edits).await {
        answer.unwrap();
    }
    assert_eq!(fixture.loaded(id).await.payload.generation, 9);
    let last: u8 = serde_json::from_slice(fixture.outbox.payload(id).await.unwrap().as_bytes()).unwrap();
    assert!(last < 8);
}

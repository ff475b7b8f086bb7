use super::*;
use crate::entry::{Reason, WaitingFor};

#[tokio::test]
async fn a_list_is_newest_first_and_goes_on_after_its_last_entry() {
    let fixture = Fixture::new().await;
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(fixture.note(&number.to_string()).await);
    }
    ids.reverse();
    let page = |after, limit| fixture.outbox.list(Query { after, limit: Some(limit), ..Query::default() });
    let of = |entries: Vec<Entry>| entries.into_iter().map(|entry| entry.id).collect::<Vec<_>>();
    assert_eq!(of(page(None, 1000).await.unwrap()), ids);
    assert_eq!(of(page(None, 2).await.unwrap()), ids[..2]);
    assert_eq!(of(page(Some(ids[1]), 2).await.unwrap()), ids[2..4]);
    assert_eq!(of(page(Some(ids[3]), 2).await.unwrap()), ids[4..]);
    assert!(page(Some(ids[4]), 2).await.unwrap().is_empty());
    for limit in [0, 1001] {
        assert_refused(page(None, limit).await, "invalid_argument", "between 1 and 1000");
    }
}

#[tokio::test]
async fn a_list_can_be_asked_for_states_kinds_and_keys() {
    let fixture = Fixture::new().await;
    let note = fixture.note("x").await;
    let a = fixture.form("a", "x").await;
    let b = fixture.form("b", "x").await;
    fixture.fail(b, Reason::Refused).await;
    let list = async |json: serde_json::Value| {
        let entries = fixture.outbox.list(serde_json::from_value(json).unwrap()).await.unwrap();
        entries.into_iter().map(|entry| entry.id).collect::<Vec<_>>()
    };
    assert_eq!(list(json!({ "kind": "form" })).await, [b, a]);
    assert_eq!(list(json!({ "key": "a" })).await, [a]);
    assert_eq!(list(json!({ "state": "failed" })).await, [b]);
    assert_eq!(list(json!({ "state": ["failed", "pending"] })).await, [b, a, note]);
    assert!(list(json!({ "state": "pending", "kind": "form", "key": "b" })).await.is_empty());
}

#[tokio::test]
async fn what_was_put_in_comes_out_until_the_server_has_it() {
    let fixture = Fixture::new().await;
    let text = "{\"b\": 1, \"a\":[true ,null]}";
    let value: Box<serde_json::value::RawValue> = serde_json::from_str(text).unwrap();
    let form = fixture.outbox.enqueue("form", Payload::Json(value), options("a")).await.unwrap().id;
    let sizes = [("listing", "1"), ("size", "l")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let photo = EnqueueOptions { params: sizes.into(), ..EnqueueOptions::default() };
    let photo = fixture.outbox.enqueue("photo", Payload::bytes([0, 255], "image/png"), photo).await.unwrap().id;
    assert!(matches!(fixture.outbox.payload(form).await.unwrap(), Payload::Json(value) if value.get() == text));
    let Payload::Bytes { bytes, content_type } = fixture.outbox.payload(photo).await.unwrap() else { panic!("bytes") };
    assert_eq!((bytes.as_slice(), content_type.as_str()), ([0, 255].as_slice(), "image/png"));
    // Also in another process, which asks the keychain anew.
    assert!(fixture.beside().await.outbox.payload(form).await.is_ok());

    fixture.ack(form).await;
    assert_refused(fixture.outbox.payload(form).await, "wrong_state", "the server has entry");
    fixture.fail(photo, Reason::Refused).await;
    assert!(fixture.outbox.payload(photo).await.is_ok(), "what failed is kept");
    let unknown = Uuid::now_v7();
    assert_refused(fixture.outbox.payload(unknown).await, "not_found", &unknown.to_string());
}

#[tokio::test]
async fn the_payload_of_a_replaced_entry_is_gone_and_its_successor_named() {
    let fixture = Fixture::new().await;
    let old = fixture.form("a", "old").await;
    let new = fixture.form("a", "new").await;
    assert_eq!(fixture.outbox.get(old).await.unwrap().superseded_by, Some(new));
    assert_refused(fixture.outbox.payload(old).await, "wrong_state", &new.to_string());
}

#[tokio::test]
async fn a_pending_entry_says_what_it_waits_for_and_others_do_not() {
    let fixture = Fixture::new().await;
    let first = fixture.enqueue("note", "1", options("a")).await.unwrap().id;
    let second = fixture.enqueue("note", "2", options("a")).await.unwrap().id;
    let waiting_for = async |id| fixture.outbox.get(id).await.unwrap().waiting_for;
    assert_eq!(waiting_for(first).await, Some(WaitingFor::Turn));
    assert_eq!(waiting_for(second).await, Some(WaitingFor::Lane { behind: first }));
    fixture.board.post_paused(true);
    assert_eq!(waiting_for(first).await, Some(WaitingFor::Paused));
    fixture.ack(first).await;
    assert_eq!(waiting_for(first).await, None);
    let listed = fixture.all().await;
    assert_eq!(listed[0].waiting_for, Some(WaitingFor::Paused));
    assert_eq!(listed[1].waiting_for, None);
}

#[tokio::test]
async fn an_entry_of_a_kind_that_is_no_longer_configured_is_kept_and_says_so() {
    let fixture = Fixture::new().await;
    let id = fixture.note("x").await;
    let parts = fixture.outbox.parts();
    let updated = Outbox::new(Parts {
        settings: Arc::new(Settings::new(Config::default(), Vec::new()).unwrap()),
        store: parts.store.clone(),
        keys: parts.keys.clone(),
        clock: parts.clock.clone(),
        wake: parts.wake.clone(),
        board: parts.board.clone(),
        folder: parts.folder.clone(),
    });
    assert_eq!(updated.get(id).await.unwrap().waiting_for, Some(WaitingFor::Endpoint));
    assert!(updated.payload(id).await.is_ok());
}

#[tokio::test]
async fn every_verb_is_confined_to_the_current_account() {
    let fixture = Fixture::new().await;
    fixture.outbox.set_account("ann").await.unwrap();
    let id = fixture.note("x").await;
    fixture.outbox.set_account("bob").await.unwrap();
    assert_eq!(fixture.all().await, []);
    assert_eq!(fixture.outbox.status().await.unwrap().counts.pending, 0);
    let outbox = &fixture.outbox;
    assert_eq!(outbox.get(id).await.unwrap_err().code(), "not_found");
    assert_eq!(outbox.payload(id).await.unwrap_err().code(), "not_found");
    assert_eq!(outbox.retry(id, true).await.unwrap_err().code(), "not_found");
    assert_eq!(outbox.discard(id, false).await.unwrap_err().code(), "not_found");
    assert_eq!(outbox.delivered(id, None).await.unwrap_err().code(), "not_found");
    assert_eq!(outbox.discard(Selection::All, false).await.unwrap(), Discarded::default());
    outbox.set_account("ann").await.unwrap();
    assert_eq!(fixture.state(id).await, State::Pending);
    assert!(outbox.payload(id).await.is_ok());
}

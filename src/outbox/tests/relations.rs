use super::*;
use crate::{
    entry::{Action, Reason, WaitingFor},
    reference::reference,
};

async fn listing(fixture: &Fixture, title: &str) -> Uuid {
    fixture.enqueue("listing", title, EnqueueOptions::default()).await.unwrap().id
}

async fn about(fixture: &Fixture, id: Uuid) -> Uuid {
    let note = payload(json!({ "text": "see", "of": [format!("/listings/{}", reference(id))] }));
    fixture.outbox.enqueue("note", note, EnqueueOptions::default()).await.unwrap().id
}

fn after(ids: &[Uuid]) -> EnqueueOptions {
    with(|options| options.after = ids.to_vec())
}

fn deletes(key: &str) -> EnqueueOptions {
    EnqueueOptions { action: Some(Action::Delete), ..options(key) }
}

#[tokio::test]
async fn an_entry_waits_for_what_it_refers_to_and_for_what_it_comes_after_and_says_so() {
    let fixture = Fixture::new().await;
    let (first, second) = (listing(&fixture, "1").await, fixture.note("2").await);
    let note = payload(json!({ "of": reference(first) }));
    let id = fixture.outbox.enqueue("note", note, after(&[second, first])).await.unwrap().id;
    let entry = fixture.outbox.get(id).await.unwrap();
    assert_eq!(entry.after, [first, second]);
    assert!(matches!(entry.waiting_for, Some(WaitingFor::Dependency { on }) if on == first || on == second));
    let within = Some(Duration::from_millis(1));
    assert_refused(fixture.outbox.delivered(id, within).await, "timeout", "on which it depends");
    fixture.ack(second).await;
    assert_eq!(fixture.outbox.get(id).await.unwrap().waiting_for, Some(WaitingFor::Dependency { on: first }));
    fixture.ack_as(first, "l-1").await;
    assert_eq!(fixture.outbox.get(id).await.unwrap().waiting_for, Some(WaitingFor::Turn));
    assert_eq!(fixture.loaded(id).await.references, [(first, Some("l-1".into()))]);
    // What is there already is met at once.
    let late = about(&fixture, first).await;
    assert_eq!(fixture.outbox.get(late).await.unwrap().waiting_for, Some(WaitingFor::Turn));
}

#[tokio::test]
async fn a_reference_counts_however_its_text_is_written_and_in_bytes_it_is_none() {
    let fixture = Fixture::new().await;
    let id = listing(&fixture, "1").await;
    let json = |text: String| Payload::Json(serde_json::value::RawValue::from_string(text).unwrap());
    for (text, refers) in [
        (format!(r#"["\u007bstorage-sync:{id}\u007d"]"#), true),
        (format!(r#"{{ "a": "x{{storage\u002dsync:{id}}}y" }}"#), true),
        (format!(r#"{{ "{{storage-sync:{id}}}": 1 }}"#), false),
    ] {
        let receipt = fixture.outbox.enqueue("note", json(text.clone()), EnqueueOptions::default()).await.unwrap();
        assert_eq!(
            fixture.outbox.get(receipt.id).await.unwrap().after,
            if refers { vec![id] } else { vec![] },
            "{text}"
        );
    }
    let size = with(|options| {
        options.params =
            [("listing", reference(id)), ("size", "l".into())].map(|(name, value)| (name.to_owned(), value)).into();
    });
    let bytes = Payload::bytes(format!("\"{}\"", reference(Uuid::now_v7())), "application/json");
    let receipt = fixture.outbox.enqueue("photo", bytes, size).await.unwrap();
    assert_eq!(fixture.outbox.get(receipt.id).await.unwrap().after, [id], "that of the param only");
}

#[tokio::test]
async fn what_cannot_be_waited_for_is_refused_before_anything_is_written() {
    let fixture = Fixture::new().await;
    let (gone, nameless, foreign) = (listing(&fixture, "gone").await, fixture.note("nameless").await, Uuid::now_v7());
    fixture.outbox.discard(gone, false).await.unwrap();
    fixture.outbox.set_account("bob").await.unwrap();
    fixture.enqueue("listing", "bob's", with(|options| options.id = Some(foreign))).await.unwrap();
    fixture.outbox.set_account("").await.unwrap();
    let deleted = fixture.enqueue("listing", "x", options("a")).await.unwrap().id;
    fixture.ack_as(deleted, "l-1").await;
    let delete = fixture.outbox.enqueue("listing", payload(json!(null)), deletes("a")).await.unwrap().id;
    let own = Uuid::now_v7();
    let many: Vec<Uuid> = (0..257).map(|_| Uuid::now_v7()).collect();
    let of = |id| payload(json!(reference(id)));
    let plain = || payload(json!(1));
    let table = [
        (plain(), after(&[gone]), "there is no entry"),
        (of(gone), EnqueueOptions::default(), "there is no entry"),
        (plain(), after(&[foreign]), "another account"),
        (of(foreign), EnqueueOptions::default(), "another account"),
        (of(Uuid::now_v7()), EnqueueOptions::default(), "there is no entry"),
        (plain(), after(&[Uuid::nil()]), "there is no entry"),
        (plain(), after(&many), "257 entries and may wait for 256"),
        (plain(), EnqueueOptions { id: Some(own), ..after(&[own]) }, "names itself"),
        (of(own), with(|options| options.id = Some(own)), "names itself"),
        (of(nameless), EnqueueOptions::default(), "gives no id"),
        (of(nameless), EnqueueOptions::default(), "`ack.id`"),
        (of(delete), EnqueueOptions::default(), "deletes its thing"),
    ];
    let before = fixture.all().await;
    for (payload, options, hint) in table {
        assert_refused(fixture.outbox.enqueue("note", payload, options).await, "invalid_argument", hint);
    }
    let params = |listing: String| {
        with(|options| {
            options.params =
                [("listing", listing), ("size", "l".into())].map(|(name, value)| (name.to_owned(), value)).into()
        })
    };
    let photo = fixture.outbox.enqueue("photo", Payload::bytes([1], "a/b"), params(reference(Uuid::now_v7()))).await;
    assert_refused(photo, "invalid_argument", "there is no entry");
    assert_eq!(fixture.all().await, before);
    // In `after` it need not give an id.
    fixture.outbox.enqueue("note", plain(), after(&[nameless, delete])).await.unwrap();
}

#[tokio::test]
async fn an_action_is_only_taken_where_the_endpoint_has_a_request_for_it() {
    let fixture = Fixture::new().await;
    let null = || payload(json!(null));
    let doing = |action| EnqueueOptions { action: Some(action), ..options("a") };
    let nothing = EnqueueOptions { key: None, ..doing(Action::Delete) };
    let table = [
        ("form", null(), doing(Action::Delete), "has no `delete`"),
        ("form", payload(json!(1)), doing(Action::Create), "one request"),
        ("form", payload(json!(1)), doing(Action::Update), "one request"),
        ("listing", null(), nothing, "give its `key`"),
        ("listing", payload(json!({})), doing(Action::Delete), "give `null`"),
        ("listing", Payload::bytes("null", "application/json"), doing(Action::Delete), "give `null`"),
        ("listing", Payload::bytes("1", "a/b"), doing(Action::Create), "takes JSON"),
    ];
    for (kind, payload, options, hint) in table {
        assert_refused(fixture.outbox.enqueue(kind, payload, options).await, "invalid_argument", hint);
    }
    assert_eq!(fixture.all().await, []);
    for action in [Action::Create, Action::Update] {
        let id = fixture.enqueue("listing", "x", doing(action)).await.unwrap().id;
        assert_eq!(fixture.outbox.get(id).await.unwrap().action, Some(action));
        assert_eq!(fixture.loaded(id).await.payload_version, 3);
    }
}

#[tokio::test]
async fn what_was_never_created_and_its_delete_cancel_each_other_out() {
    let fixture = Fixture::new().await;
    let created = fixture.enqueue("listing", "x", options("a")).await.unwrap().id;
    let deleted = fixture.outbox.enqueue("listing", payload(json!(null)), deletes("a")).await.unwrap().id;
    assert_eq!(fixture.state(created).await, State::Superseded);
    let delivered = soon(fixture.outbox.delivered(created, None)).await.unwrap();
    assert_eq!((delivered.id, delivered.state, delivered.status), (deleted, State::Acked, None));
}

#[tokio::test]
async fn the_same_under_the_same_id_has_the_same_action_and_comes_after_the_same() {
    let fixture = Fixture::new().await;
    let (a, b) = (fixture.note("a").await, fixture.note("b").await);
    let chosen = EnqueueOptions { id: Some(Uuid::now_v7()), action: Some(Action::Update), ..after(&[a, b]) };
    let first = fixture.enqueue("listing", "x", chosen.clone()).await.unwrap();
    let turned = EnqueueOptions { after: vec![b, a, b], ..chosen.clone() };
    assert_eq!(fixture.enqueue("listing", "x", turned).await.unwrap(), first);
    for other in [
        EnqueueOptions { action: None, ..chosen.clone() },
        EnqueueOptions { action: Some(Action::Create), ..chosen.clone() },
        EnqueueOptions { after: vec![a], ..chosen.clone() },
        EnqueueOptions { after: vec![], ..chosen.clone() },
    ] {
        assert_refused(fixture.enqueue("listing", "x", other).await, "id_conflict", "other content");
    }
    // It is known again although what it waited for is gone.
    fixture.outbox.discard(a, false).await.unwrap();
    assert_eq!(fixture.enqueue("listing", "x", chosen).await.unwrap(), first);
}

#[tokio::test]
async fn a_failed_entry_holds_what_depends_on_it() {
    let fixture = Fixture::new().await;
    let id = listing(&fixture, "x").await;
    let note = about(&fixture, id).await;
    fixture.fail(id, Reason::Refused).await;
    assert_eq!(fixture.outbox.get(note).await.unwrap().waiting_for, Some(WaitingFor::Dependency { on: id }));
    fixture.outbox.retry(id, false).await.unwrap();
    fixture.ack_as(id, "l-1").await;
    assert_eq!(fixture.outbox.get(note).await.unwrap().waiting_for, Some(WaitingFor::Turn));
}

#[tokio::test]
async fn what_depends_on_a_replaced_entry_waits_for_the_one_in_its_place() {
    let fixture = Fixture::new().await;
    let first = fixture.form("a", "1").await;
    let note = fixture.outbox.enqueue("note", payload(json!(1)), after(&[first])).await.unwrap().id;
    let second = fixture.form("a", "2").await;
    let entry = fixture.outbox.get(note).await.unwrap();
    assert_eq!((entry.after, entry.waiting_for), (vec![first], Some(WaitingFor::Dependency { on: second })));
    fixture.ack(second).await;
    assert_eq!(fixture.outbox.get(note).await.unwrap().waiting_for, Some(WaitingFor::Turn));
}

#[tokio::test]
async fn what_depends_on_a_discarded_entry_fails_and_says_what_to_do() {
    let fixture = Fixture::new().await;
    let (parent, behind) = (listing(&fixture, "x").await, fixture.note("y").await);
    let refers = about(&fixture, parent).await;
    let follows = fixture.outbox.enqueue("note", payload(json!(1)), after(&[parent, behind])).await.unwrap().id;
    let mut gone = fixture.outbox.discard(parent, false).await.unwrap();
    gone.orphaned.sort();
    assert_eq!((gone.ids, gone.orphaned), (vec![parent], vec![refers, follows]));
    for orphan in [refers, follows] {
        let entry = fixture.outbox.get(orphan).await.unwrap();
        assert_eq!((entry.state, entry.reason), (State::Failed, Some(Reason::ParentGone)));
        assert!(!entry.conflict && entry.last_error.is_some());
        assert_refused(fixture.outbox.delivered(orphan, None).await, "not_delivered", "that it depends on was removed");
    }
    assert_refused(fixture.outbox.retry(refers, false).await, "wrong_state", "`edit` it");
    assert_eq!(fixture.outbox.retry(SelectionFilter::default(), false).await.unwrap(), [follows]);
    let waits = fixture.outbox.get(follows).await.unwrap();
    assert_eq!((waits.state, waits.waiting_for), (State::Pending, Some(WaitingFor::Dependency { on: behind })));
    // Without the reference it can go.
    fixture.outbox.edit(refers, payload(json!({ "text": "see" }))).await.unwrap();
    let edited = fixture.outbox.get(refers).await.unwrap();
    assert_eq!((edited.state, edited.after, edited.waiting_for), (State::Pending, vec![], Some(WaitingFor::Turn)));
}

#[tokio::test]
async fn a_cascade_takes_everything_that_depends_on_it() {
    let fixture = Fixture::new().await;
    let root = listing(&fixture, "x").await;
    let child = about(&fixture, root).await;
    let grandchild = fixture.outbox.enqueue("note", payload(json!(1)), after(&[child])).await.unwrap().id;
    let other = fixture.note("other").await;
    let mut gone = fixture.outbox.discard(root, true).await.unwrap();
    gone.ids.sort();
    assert_eq!((gone.ids, gone.orphaned), (vec![root, child, grandchild], vec![]));
    assert_eq!(fixture.all().await.iter().map(|entry| entry.id).collect::<Vec<_>>(), [other]);
}

#[tokio::test]
async fn of_a_delivered_entry_that_was_discarded_the_canonical_id_is_still_known() {
    let fixture = Fixture::new().await;
    let id = listing(&fixture, "x").await;
    fixture.ack_as(id, "l-1").await;
    fixture.outbox.discard(id, false).await.unwrap();
    let note = about(&fixture, id).await;
    assert_eq!(fixture.loaded(note).await.references, [(id, Some("l-1".into()))]);
    fixture.outbox.set_account("bob").await.unwrap();
    let note = fixture.outbox.enqueue("note", payload(json!(reference(id))), EnqueueOptions::default()).await;
    assert_refused(note, "invalid_argument", "another account");
}

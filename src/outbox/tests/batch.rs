use super::*;
use crate::{
    entry::{Action, WaitingFor},
    reference::reference,
};

fn item(kind: &str, value: serde_json::Value, options: EnqueueOptions) -> NewItem {
    NewItem::new(kind, payload(value), options)
}

fn named(id: Uuid) -> EnqueueOptions {
    with(|options| options.id = Some(id))
}

fn form(key: &str) -> NewItem {
    item("form", json!(key), options(key))
}

#[tokio::test]
async fn a_batch_is_in_the_queue_in_its_order_and_answers_its_receipts_in_that_order() {
    let fixture = Fixture::new().await;
    let photo = with(|options| {
        options.params = [("listing", "42"), ("size", "l")].map(|(name, value)| (name.into(), value.into())).into();
    });
    let image = NewItem::new("photo", Payload::bytes([0xff, 0xd8], "image/jpeg"), photo);
    let items = vec![form("b"), item("note", json!(1), EnqueueOptions::default()), image, form("a")];
    let receipts = fixture.outbox.enqueue_all(items).await.unwrap();
    assert!(fixture.wake.take().has(Wake::Enqueued));
    let told: Vec<_> = receipts.iter().map(|receipt| (receipt.kind.as_str(), receipt.key.as_deref())).collect();
    assert_eq!(told, [("form", Some("b")), ("note", None), ("photo", None), ("form", Some("a"))]);
    let mut queued: Vec<_> = fixture.all().await.iter().map(|entry| entry.id).collect();
    queued.reverse();
    assert_eq!(queued, receipts.iter().map(|receipt| receipt.id).collect::<Vec<_>>());
    let came_back = fixture.outbox.payload(receipts[2].id).await.unwrap();
    assert_eq!((came_back.as_bytes(), came_back.content_type()), ([0xff, 0xd8].as_slice(), "image/jpeg"));
}

#[tokio::test]
async fn a_batch_of_nothing_is_nothing() {
    let fixture = Fixture::new().await;
    fixture.keyring.set(Mood::Locked);
    assert_eq!(fixture.outbox.enqueue_all(Vec::new()).await.unwrap(), []);
    assert!(!fixture.wake.take().has(Wake::Enqueued));
}

#[tokio::test]
async fn an_item_may_refer_to_one_before_it() {
    let fixture = Fixture::new().await;
    let (listing, size) = (Uuid::now_v7(), Uuid::now_v7());
    let photo = with(|options| {
        options.params = [("listing", reference(listing)), ("size", format!("x-{}", reference(size)))]
            .map(|(name, value)| (name.to_owned(), value))
            .into();
    });
    let items = vec![
        item("listing", json!({ "title": "Lamp" }), named(listing)),
        item("listing", json!({ "title": "Sizes" }), named(size)),
        NewItem::new("photo", Payload::bytes([1], "image/png"), photo),
        item("note", json!("after the listing"), with(|options| options.after = vec![listing])),
    ];
    let receipts = fixture.outbox.enqueue_all(items).await.unwrap();
    let [.., photo, note] = &receipts[..] else { panic!() };
    let waits = fixture.outbox.get(photo.id).await.unwrap();
    assert_eq!(waits.after, [listing, size]);
    assert!(matches!(waits.waiting_for, Some(WaitingFor::Dependency { on }) if on == listing || on == size));
    fixture.ack_as(listing, "l-1").await;
    assert_eq!(fixture.outbox.get(note.id).await.unwrap().waiting_for, Some(WaitingFor::Turn));
    let waits = fixture.outbox.get(photo.id).await.unwrap();
    assert_eq!(waits.waiting_for, Some(WaitingFor::Dependency { on: size }));
    fixture.ack_as(size, "s-1").await;
    assert_eq!(fixture.outbox.get(photo.id).await.unwrap().waiting_for, Some(WaitingFor::Turn));
    let mut references = fixture.loaded(photo.id).await.references;
    references.sort();
    assert_eq!(references, [(listing, Some("l-1".into())), (size, Some("s-1".into()))]);
}

#[tokio::test]
async fn what_is_wrong_with_one_item_is_said_with_its_place_and_refuses_all() {
    let fixture = Fixture::new().await;
    let (a, b) = (Uuid::now_v7(), Uuid::now_v7());
    let missing = Uuid::now_v7();
    let listing = |id| item("listing", json!(1), named(id));
    let note = |value| item("note", value, EnqueueOptions::default());
    let after = |ids: &[Uuid]| with(|options| options.after = ids.to_vec());
    let about = |id| note(json!({ "about": reference(id) }));
    let deletes = |id| {
        item("listing", json!(null), EnqueueOptions { id: Some(id), action: Some(Action::Delete), ..options("k") })
    };
    let table: Vec<(Vec<NewItem>, &str, &str)> = vec![
        (vec![form("a"), item("fomr", json!(1), options("a"))], "unknown_kind", "entries[1]: "),
        (vec![form("a"), item("form", json!(1), EnqueueOptions::default())], "invalid_argument", "entries[1]: "),
        (
            vec![form("a"), item("form", json!("x".repeat(999)), options("a"))],
            "payload_too_large",
            "limits.payloadBytes",
        ),
        (
            vec![
                form("a"),
                note(json!(1)),
                NewItem::new("note", Payload::bytes([1], "a/b"), EnqueueOptions::default()),
            ],
            "invalid_argument",
            "entries[2]: endpoint `note` takes JSON",
        ),
        (vec![listing(a), listing(b), listing(a)], "invalid_argument", "entries[2]: has the same `id` as entries[0]"),
        (vec![about(a), listing(a)], "invalid_argument", "entries[0]: it names entry"),
        (vec![form("a"), about(a), listing(a)], "invalid_argument", "entries[2] of the same call: put that one first"),
        (vec![form("a"), item("note", json!(1), after(&[a])), listing(a)], "invalid_argument", "put that one first"),
        (
            vec![form("a"), item("listing", json!(1), EnqueueOptions { id: Some(a), ..after(&[a]) })],
            "invalid_argument",
            "entries[1]: entry",
        ),
        (vec![form("a"), about(missing)], "invalid_argument", "there is no entry"),
        (vec![item("note", json!(1), named(a)), about(a)], "invalid_argument", "entries[1]: entry"),
        (vec![item("note", json!(1), named(a)), about(a)], "invalid_argument", "gives no id"),
        (vec![deletes(a), about(a)], "invalid_argument", "deletes its thing"),
        (vec![note(json!(1)); 1001], "invalid_argument", "1001 entries and may have 1000"),
    ];
    for (items, code, hint) in table {
        assert_refused(fixture.outbox.enqueue_all(items).await, code, hint);
    }
    fixture.keyring.set(Mood::Locked);
    let locked = Fixture::in_folder(fixture.folder.clone(), fixture.keyring.clone()).await;
    assert_refused(locked.outbox.enqueue_all(vec![form("a")]).await, "keychain_locked", "unlock");
    assert_eq!(fixture.all().await, []);
    assert!(!fixture.wake.take().has(Wake::Enqueued));
}

#[tokio::test]
async fn a_batch_that_does_not_fit_is_refused_as_a_whole() {
    let fixture = Fixture::new().await;
    for _ in 0..20 {
        let full = (0..1000).map(|_| item("note", json!(1), EnqueueOptions::default())).collect();
        fixture.outbox.enqueue_all(full).await.unwrap();
    }
    fixture.outbox.discard(fixture.all().await[0].id, false).await.unwrap();
    let two = vec![form("a"), form("b")];
    assert_refused(fixture.outbox.enqueue_all(two).await, "quota_reached", "19999 entries");
    fixture.outbox.enqueue_all(vec![form("a")]).await.unwrap();
}

#[tokio::test]
async fn a_batch_that_is_repeated_answers_its_first_receipts_and_adds_nothing() {
    let fixture = Fixture::new().await;
    let (listing, note) = (Uuid::now_v7(), Uuid::now_v7());
    let batch = || {
        let about = json!({ "about": reference(listing) });
        vec![item("listing", json!({ "title": "Lamp" }), named(listing)), item("note", about, named(note))]
    };
    let first = fixture.outbox.enqueue_all(batch()).await.unwrap();
    fixture.wake.take();
    assert_eq!(fixture.outbox.enqueue_all(batch()).await.unwrap(), first);
    assert!(!fixture.wake.take().has(Wake::Enqueued), "nothing new to look at");
    fixture.ack_as(listing, "l-1").await;
    assert_eq!(fixture.beside().await.outbox.enqueue_all(batch()).await.unwrap(), first);
    assert_eq!(fixture.all().await.len(), 2);
    // An item that was enqueued by itself before is the same one.
    let more = item("form", json!(1), EnqueueOptions { id: Some(Uuid::now_v7()), ..options("a") });
    let with_more = || batch().into_iter().chain([more.clone()]).collect();
    let second = fixture.outbox.enqueue_all(with_more()).await.unwrap();
    assert_eq!(second[..2], first);
    assert_eq!(fixture.all().await.len(), 3);
    assert_eq!(fixture.outbox.enqueue_all(with_more()).await.unwrap(), second);
}

#[tokio::test]
async fn one_taken_id_refuses_the_whole_batch() {
    let fixture = Fixture::new().await;
    let taken = Uuid::now_v7();
    fixture.enqueue("note", "first", named(taken)).await.unwrap();
    for other in [json!("second"), json!({ "first": 1 })] {
        let batch = vec![form("a"), item("note", other, named(taken)), form("b")];
        assert_refused(fixture.outbox.enqueue_all(batch).await, "id_conflict", &taken.to_string());
        assert_eq!(fixture.all().await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn batches_with_the_same_ids_from_many_callers_are_enqueued_once() {
    let fixture = Fixture::new().await;
    let ids: Vec<Uuid> = (0..20).map(|_| Uuid::now_v7()).collect();
    let batch = || ids.iter().map(|id| item("note", json!(1), named(*id))).collect::<Vec<_>>();
    let callers = (0..16).map(|_| {
        let (outbox, batch) = (fixture.outbox.clone(), batch());
        tokio::spawn(async move { outbox.enqueue_all(batch).await })
    });
    for answer in futures_util::future::join_all(callers).await {
        let receipts = answer.unwrap().unwrap();
        assert_eq!(receipts.iter().map(|receipt| receipt.id).collect::<Vec<_>>(), ids);
    }
    assert_eq!(fixture.all().await.len(), ids.len());
}

#[tokio::test]
async fn a_batch_is_of_the_current_account() {
    let fixture = Fixture::new().await;
    let listing = Uuid::now_v7();
    fixture.outbox.enqueue_all(vec![item("listing", json!(1), named(listing))]).await.unwrap();
    fixture.outbox.set_account("bob").await.unwrap();
    let about = item("note", json!(reference(listing)), EnqueueOptions::default());
    assert_refused(fixture.outbox.enqueue_all(vec![about]).await, "invalid_argument", "another account");
    fixture.outbox.enqueue_all(vec![form("a")]).await.unwrap();
    assert_eq!(fixture.all().await.len(), 1);
}

use std::collections::BTreeMap;

use super::*;
use crate::cipher::Binding;

fn params(given: &[(&str, &str)]) -> EnqueueOptions {
    let params = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    EnqueueOptions { params, ..EnqueueOptions::default() }
}

fn image() -> Payload {
    Payload::bytes([0xff, 0xd8], "image/jpeg")
}

#[tokio::test]
async fn bad_input_is_answered_before_anything_is_written_and_before_the_keychain_is_touched() {
    let fixture = Fixture::new().await;
    fixture.keyring.set(Mood::Locked);
    let json = || Payload::json(&"x").unwrap();
    let text = |length| Payload::json(&"x".repeat(length)).unwrap();
    let photo = [("listing", "42"), ("size", "l")];
    let with_id = |id| EnqueueOptions { id: Some(id), ..options("a") };
    let many: BTreeMap<_, _> = (0..33).map(|number| (format!("p{number}"), "x".to_owned())).collect();
    let table: Vec<(&str, Payload, EnqueueOptions, &str, &str)> = vec![
        ("fomr", json(), options("a"), "unknown_kind", "form"),
        ("form", json(), options(""), "invalid_argument", "`key` is empty"),
        ("form", json(), options("a\nb"), "invalid_argument", "control characters"),
        ("form", json(), options(&"k".repeat(513)), "invalid_argument", "513 bytes"),
        ("note", json(), options("a\u{7f}"), "invalid_argument", "control characters"),
        ("form", json(), EnqueueOptions::default(), "invalid_argument", "key"),
        ("form", json(), options(".."), "invalid_argument", "`..`"),
        ("form", json(), with_id(Uuid::nil()), "invalid_argument", "`id`"),
        ("form", json(), with_id(Uuid::max()), "invalid_argument", "`id`"),
        ("form", text(999), options("a"), "payload_too_large", "limits.payloadBytes"),
        ("form", image(), options("a"), "invalid_argument", "takes JSON values"),
        ("photo", json(), params(&photo), "invalid_argument", "takes bytes"),
        ("photo", image(), EnqueueOptions::default(), "invalid_argument", "listing"),
        ("photo", image(), params(&photo[..1]), "invalid_argument", "size"),
        ("photo", image(), params(&[photo[0], photo[1], ("extra", "x")]), "invalid_argument", "listing"),
        ("photo", image(), params(&[photo[0], ("size", "..")]), "invalid_argument", "size"),
        ("photo", image(), params(&[photo[0], ("size", "")]), "invalid_argument", "size"),
        ("photo", image(), params(&[photo[0], ("size", "a\r\nX: y")]), "invalid_argument", "size"),
        ("photo", image(), params(&[photo[0], ("size", &"x".repeat(1025))]), "invalid_argument", "size"),
        ("note", json(), EnqueueOptions { params: many, ..EnqueueOptions::default() }, "invalid_argument", "32"),
        ("photo", Payload::bytes([1], "jpeg"), params(&photo), "invalid_argument", "media type"),
        ("photo", Payload::bytes([1], "image/png\r\nX: y"), params(&photo), "invalid_argument", "media type"),
        (
            "photo",
            Payload::bytes([1], format!("a/{}", "x".repeat(254))),
            params(&photo),
            "invalid_argument",
            "256 bytes",
        ),
    ];
    for (kind, payload, options, code, hint) in table {
        let case = format!("{kind} {options:?} {payload:?}");
        let refused = fixture.outbox.enqueue(kind, payload, options).await.expect_err(&case);
        assert_eq!(refused.code(), code, "{case}: {refused}");
        assert!(refused.to_string().contains(hint), "{case}: {refused}");
    }
    assert_eq!(fixture.beside().await.all().await, []);
    assert_eq!((fixture.keyring.loads(), fixture.store.key_record("").await.unwrap()), (0, (None, false)));
    assert_eq!(fixture.wake.take(), Default::default(), "nobody was woken for nothing");
}

#[tokio::test]
async fn what_is_at_its_limits_is_taken() {
    let fixture = Fixture::new().await;
    fixture.form(&"k".repeat(512), &"x".repeat(998)).await;
    let long = "x".repeat(1024);
    let options = params(&[("listing", &long), ("size", "ä /?#%")]);
    fixture.outbox.enqueue("photo", Payload::bytes([], format!("a/{}", "x".repeat(253))), options).await.unwrap();
    assert_eq!(fixture.all().await.len(), 2);
}

#[tokio::test]
async fn the_quota_is_answered_with_its_numbers() {
    let folder = Arc::new(TempDir::new().unwrap());
    let fixture = Fixture::in_folder(folder, MemoryKeys::new()).await;
    let config: Config = serde_json::from_value(json!({
        "endpoints": { "note": { "method": "POST", "url": "https://api.example.com/notes" } },
        "limits": { "entries": 2 },
    }))
    .unwrap();
    let parts = fixture.outbox.parts();
    let outbox = Outbox::new(Parts {
        settings: Arc::new(Settings::new(config, Vec::new()).unwrap()),
        store: parts.store.clone(),
        keys: parts.keys.clone(),
        clock: parts.clock.clone(),
        wake: parts.wake.clone(),
        board: parts.board.clone(),
        folder: parts.folder.clone(),
    });
    let note = || outbox.enqueue("note", Payload::json(&1).unwrap(), EnqueueOptions::default());
    let first = note().await.unwrap().id;
    note().await.unwrap();
    assert_refused(note().await, "quota_reached", "the limit is 2");
    outbox.discard(first, false).await.unwrap();
    note().await.unwrap();
}

#[tokio::test]
async fn a_receipt_is_only_given_once_the_entry_can_be_seen_from_another_connection() {
    let fixture = Fixture::new().await;
    let beside = fixture.beside().await;
    for number in 0..50 {
        let id = fixture.note(&number.to_string()).await;
        assert_eq!(beside.state(id).await, State::Pending);
    }
}

#[tokio::test]
async fn a_locked_keychain_is_answered_and_nothing_is_written_until_it_is_unlocked() {
    let fixture = Fixture::new().await;
    fixture.keyring.set(Mood::Locked);
    assert_refused(fixture.enqueue("note", "x", EnqueueOptions::default()).await, "keychain_locked", "unlock it");
    assert_eq!(fixture.all().await, []);
    assert_eq!(fixture.outbox.status().await.unwrap().key.state, crate::entry::KeyState::Locked);
    fixture.keyring.set(Mood::Open);
    let id = fixture.note("x").await;
    assert_eq!(fixture.state(id).await, State::Pending);
    assert!(fixture.wake.take().has(Wake::Keychain), "the engine may be waiting for just this");
}

#[tokio::test]
async fn a_key_that_is_gone_is_never_made_anew() {
    let fixture = Fixture::new().await;
    fixture.note("x").await;
    let restarted = Fixture::in_folder(fixture.folder.clone(), MemoryKeys::new()).await;
    assert_refused(restarted.enqueue("note", "x", EnqueueOptions::default()).await, "key_missing", "restore");
    assert_eq!(restarted.all().await.len(), 1);
    assert_eq!(restarted.keyring.stores(), 0);
}

#[tokio::test]
async fn the_same_under_the_same_id_answers_the_first_receipt() {
    let fixture = Fixture::new().await;
    let chosen = EnqueueOptions { id: Some(Uuid::now_v7()), ..options("a") };
    let first = fixture.enqueue("form", "draft", chosen.clone()).await.unwrap();
    assert!(fixture.wake.take().has(Wake::Enqueued));
    assert_eq!(fixture.enqueue("form", "draft", chosen.clone()).await.unwrap(), first);
    assert_eq!(fixture.all().await.len(), 1);
    assert!(!fixture.wake.take().has(Wake::Enqueued), "nothing new to look at");
    // Also once it is delivered and its payload is gone, and from another process.
    fixture.ack(first.id).await;
    assert_eq!(fixture.enqueue("form", "draft", chosen.clone()).await.unwrap(), first);
    assert_eq!(fixture.beside().await.enqueue("form", "draft", chosen).await.unwrap(), first);
    assert_eq!(fixture.all().await.len(), 1);
}

#[tokio::test]
async fn an_id_with_other_content_is_a_conflict() {
    let fixture = Fixture::new().await;
    let id = Some(Uuid::now_v7());
    let photo = EnqueueOptions { id, ..params(&[("listing", "42"), ("size", "l")]) };
    fixture.outbox.enqueue("photo", image(), photo.clone()).await.unwrap();
    let other = |change: fn(&mut EnqueueOptions)| {
        let mut options = photo.clone();
        change(&mut options);
        options
    };
    let table = [
        (Payload::bytes([0xff, 0xd9], "image/jpeg"), photo.clone()),
        (Payload::bytes([0xff, 0xd8], "image/png"), photo.clone()),
        (image(), other(|options| options.key = Some("a".into()))),
        (image(), other(|options| options.queue = Some(crate::entry::Queue::Latest))),
        (image(), other(|options| drop(options.params.insert("size".into(), "s".into())))),
    ];
    for (payload, options) in table {
        let case = format!("{payload:?} {options:?}");
        let refused = fixture.outbox.enqueue("photo", payload, options).await.expect_err(&case);
        assert_eq!(refused.code(), "id_conflict", "{case}");
    }
    let as_note = fixture.enqueue("note", "x", EnqueueOptions { id, ..EnqueueOptions::default() }).await;
    assert_refused(as_note, "id_conflict", "use a new one");
    fixture.outbox.set_account("bob").await.unwrap();
    assert_eq!(fixture.outbox.enqueue("photo", image(), photo.clone()).await.unwrap_err().code(), "id_conflict");
    fixture.outbox.set_account("").await.unwrap();
    assert_eq!(fixture.all().await.len(), 1);
    fixture.outbox.enqueue("photo", image(), photo).await.unwrap();
}

#[tokio::test]
async fn nothing_of_payload_or_params_reaches_the_disk_in_the_clear() {
    const MARK: &str = "MARK-8f3a91c2";
    let fixture = Fixture::new().await;
    for number in 0..20 {
        fixture.form(&format!("key/{number}"), &format!("{MARK}-{number}")).await;
    }
    let options = params(&[("listing", &format!("{MARK}-listing")), ("size", MARK)]);
    let payload = Payload::bytes(MARK.repeat(20), "text/plain");
    fixture.outbox.enqueue("photo", payload, options).await.unwrap();
    let found = files(fixture.folder.path());
    let contains = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    for (path, bytes) in &found {
        assert!(!contains(bytes, MARK), "{}", path.display());
    }
    // The control: what is meant to be readable is found by the same search.
    assert!(found.iter().any(|(_, bytes)| contains(bytes, "key/19")));
}

#[tokio::test]
async fn another_process_is_told_by_the_wake_file_and_only_another_one() {
    let fixture = Fixture::new().await;
    fixture.note("x").await;
    assert!(!fixture.wake_file().exists());
    assert!(fixture.wake.take().has(Wake::Enqueued));
    let beside = fixture.beside().await;
    beside.note("y").await;
    assert_eq!(std::fs::read(fixture.wake_file()).unwrap(), b"c");
    beside.note("z").await;
    assert_eq!(std::fs::read(fixture.wake_file()).unwrap(), b"cc");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_callers_at_once_keep_the_order_of_their_lanes() {
    const LANES: usize = 64;
    const EACH: usize = 100;
    let fixture = Fixture::new().await;
    let lane = |lane: usize| {
        let fixture = fixture.clone();
        tokio::spawn(async move {
            let mut ids = Vec::new();
            for number in 0..EACH {
                let receipt = fixture.enqueue("note", &number.to_string(), options(&lane.to_string())).await.unwrap();
                ids.push(receipt.id);
            }
            ids
        })
    };
    let tasks: Vec<_> = (0..LANES).map(lane).collect();
    let mut found: HashMap<String, Vec<Uuid>> = HashMap::new();
    let mut given = Vec::new();
    for task in tasks {
        given.push(task.await.unwrap());
    }
    let mut after = None;
    loop {
        let page = fixture.outbox.list(Query { after, limit: Some(1000), ..Query::default() }).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        for entry in page {
            found.entry(entry.key.unwrap()).or_default().push(entry.id);
        }
    }
    for (lane, ids) in given.iter().enumerate() {
        let newest_first = &found[&lane.to_string()];
        assert!(ids.iter().rev().eq(newest_first), "lane {lane}");
    }
    assert_eq!(fixture.outbox.status().await.unwrap().counts.pending, (LANES * EACH) as u64);
}

#[tokio::test]
async fn a_record_that_was_moved_to_another_row_does_not_open() {
    let fixture = Fixture::new().await;
    fixture.note("x").await;
    let master = fixture.outbox.master_key("").await.unwrap();
    let payload = Payload::json(&"x").unwrap();
    let binding = Binding {
        account: "",
        id: Uuid::now_v7(),
        kind: "note",
        key: None,
        content_type: "application/json",
        generation: 1,
    };
    let id = Uuid::now_v7();
    let moved = crate::store::NewEntry {
        id,
        account: String::new(),
        kind: "note".into(),
        key: None,
        queue: crate::entry::Queue::Every,
        content_type: "application/json".into(),
        bytes: 3,
        payload: seal::seal(&master, &binding, &payload, &EnqueueOptions::default()),
        chosen_id: false,
        action: None,
        payload_version: 0,
        annihilates: false,
        parents: Vec::new(),
        file: None,
        watched: None,
    };
    fixture.store.enqueue(vec![moved], 1000, 0).await.unwrap();
    assert_refused(fixture.outbox.payload(id).await, "undecryptable", &id.to_string());
    let again = fixture.enqueue("note", "x", EnqueueOptions { id: Some(id), ..EnqueueOptions::default() }).await;
    assert_refused(again, "undecryptable", &id.to_string());
}

use super::*;

/// Delivers that many entries, of so many bytes each.
async fn deliver(fixture: &Fixture, count: usize, bytes: usize) -> Vec<Uuid> {
    let entries: Vec<_> =
        (0..count).map(|_| NewEntry { payload: sealed(bytes), ..entry(None, Queue::Every) }).collect();
    let ids: Vec<_> = entries.iter().map(|entry| entry.id).collect();
    fixture.store.enqueue(entries, LIMIT, NOW).await.unwrap();
    let mut seqs = Vec::new();
    for id in &ids {
        seqs.push(fixture.seq(*id).await);
    }
    let claims =
        seqs.iter().map(|seq| Claim { seq: *seq, generation: 1, revision: 1, request: Some(vec![1; 200]) }).collect();
    assert_eq!(fixture.store.advance(vec![], claims, NOW).await.unwrap().claimed.len(), count);
    let settles = seqs
        .iter()
        .map(|seq| Settle { seq: *seq, status: None, error: None, attempted: true, verdict: acked(), restored: false })
        .collect();
    fixture.store.advance(settles, vec![], NOW).await.unwrap();
    ids
}

#[tokio::test]
async fn pruning_is_bounded_keeps_the_newest_and_touches_only_what_is_settled() {
    let fixture = Fixture::new().await;
    let old = fixture.put(every("waiting")).await;
    let failed = fixture.put(every("failed")).await;
    assert!(fixture.claim(failed).await);
    fixture.settle(failed, refused()).await;
    let done = deliver(&fixture, 700, 3).await;
    assert!(fixture.store.prune(keep(10, i64::MAX), NOW).await.unwrap(), "one call is bounded");
    assert_eq!(fixture.store.counts("").await.unwrap().acked, 200);
    while fixture.store.prune(keep(10, i64::MAX), NOW).await.unwrap() {}
    let left = fixture
        .store
        .list("", &Filter { states: Some(vec![State::Acked]), ..Filter::default() }, None, 1000)
        .await
        .unwrap();
    let left: Vec<_> = left.into_iter().map(|row| row.entry.id).rev().collect();
    assert_eq!(left, done[690..]);
    assert_eq!((fixture.state(old).await, fixture.state(failed).await), (State::Pending, State::Failed));
    // By age; years in either direction never touch what is not settled.
    while fixture.store.prune(keep(1000, 1000), NOW + 500).await.unwrap() {}
    assert_eq!(fixture.store.counts("").await.unwrap().acked, 10);
    while fixture.store.prune(keep(1000, 1000), i64::MAX).await.unwrap() {}
    assert_eq!(fixture.store.counts("").await.unwrap(), Counts { pending: 1, failed: 1, ..Counts::default() });
    assert_kept(&mut fixture.peek().await).await;
}

#[tokio::test]
async fn pruned_room_is_given_back_to_the_disk() {
    let fixture = Fixture::new().await;
    fixture.store.set_owner(true).await.unwrap();
    deliver(&fixture, 400, 30_000).await;
    fixture.store.checkpoint().await.unwrap();
    let size = || std::fs::metadata(fixture.path().join("outbox.db")).unwrap().len();
    let before = size();
    assert!(before > 12_000_000);
    let mut calls = 0;
    while fixture.store.prune(keep(0, i64::MAX), NOW).await.unwrap() {
        calls += 1;
        assert!(calls < 20);
    }
    fixture.store.checkpoint().await.unwrap();
    assert!(size() < 300_000, "{} of {before} bytes are left", size());
}

#[tokio::test]
async fn deleted_payloads_are_overwritten() {
    let fixture = Fixture::new().await;
    let marked = NewEntry { payload: SealedPayload { body: b"MARKED".repeat(2000), ..sealed(0) }, ..every("a") };
    let id = fixture.put(marked).await;
    fixture.store.checkpoint().await.unwrap();
    let found =
        || std::fs::read(fixture.path().join("outbox.db")).unwrap().windows(12).any(|bytes| bytes == b"MARKEDMARKED");
    assert!(found());
    fixture.store.discard("", &Filter { ids: Some(vec![id]), ..Filter::default() }, false, NOW).await.unwrap();
    fixture.store.checkpoint().await.unwrap();
    assert!(!found());
}

#[tokio::test]
async fn only_the_owner_checkpoints_by_itself() {
    let fixture = Fixture::new().await;
    let wal = || std::fs::metadata(fixture.path().join("outbox.db-wal")).unwrap().len();
    let fill = async || {
        for _ in 0..30 {
            fixture.put(NewEntry { payload: sealed(400_000), ..every("a") }).await;
        }
    };
    fill().await;
    let grown = wal();
    assert!(grown > 12_000_000, "{grown}");
    fixture.store.set_owner(true).await.unwrap();
    fill().await;
    assert!(wal() < grown + 1_000_000, "the owner's WAL grew from {grown} to {}", wal());
    fixture.store.set_owner(false).await.unwrap();
    fill().await;
    fill().await;
    assert!(wal() > grown + 6_000_000);
}

#[tokio::test]
async fn what_a_forgotten_lane_had_used_is_not_used_again_by_one_that_begins_anew() {
    let fixture = Fixture::new().await;
    let id = fixture.put(every("a")).await;
    assert!(fixture.claim(id).await);
    fixture.settle(id, Verdict::Acked { canonical_id: None, revision: Some(41), etag: None }).await;
    fixture.store.discard("", &Filter::default(), false, NOW).await.unwrap();
    let forget = || fixture.store.prune(Keep { lanes_ms: 0, ..keep(1000, 1000) }, NOW + 2);
    while forget().await.unwrap() {}
    for key in ["a", "b"] {
        let later = fixture.put(every(key)).await;
        let later = fixture.loaded(later).await;
        assert_eq!((later.base, later.lane_seen, later.lane_revision), (0, 0, 41), "{key}");
    }
}

#[tokio::test]
async fn a_key_that_was_made_while_its_account_was_leaving_goes_with_it() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    store.keep_key("ann", [1; 16], NOW).await.unwrap();
    store.leave("ann", true, true, NOW).await.unwrap();
    store.keep_key("ann", [2; 16], NOW).await.unwrap();
    store.key_is_gone("ann").await.unwrap();
    store.left("ann").await.unwrap();
    assert_eq!(store.key_record("ann").await.unwrap(), (None, false), "none is missed when the account is back");
    for key_id in [[1; 16], [2; 16]] {
        let mut entry = latest("a");
        (entry.account, entry.payload.key_id) = ("ann".into(), key_id);
        let late = store.enqueue(vec![entry], 100, NOW).await;
        assert!(matches!(late, Err(Error::SignedOut)), "{late:?}");
    }
}

#[tokio::test]
async fn a_key_that_two_accounts_share_is_gone_for_the_one_that_left_alone() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let enqueue = async |account: &str, entry: NewEntry| {
        let mut entry = NewEntry { account: account.into(), ..entry };
        entry.payload.key_id = [1; 16];
        store.enqueue(vec![entry], 100, NOW).await
    };
    for account in ["ann", "bob"] {
        store.keep_key(account, [1; 16], NOW).await.unwrap();
    }
    store.leave("ann", true, true, NOW).await.unwrap();
    store.key_is_gone("ann").await.unwrap();
    store.left("ann").await.unwrap();
    for entry in [latest("a"), NewEntry { chosen_id: true, ..latest("b") }] {
        let late = enqueue("ann", entry.clone()).await;
        assert!(matches!(late, Err(Error::SignedOut)), "{late:?}");
        assert!(enqueue("bob", NewEntry { id: Uuid::now_v7(), ..entry }).await.is_ok());
    }
    // That he has it, also from now on only, is no reason to write under it for her.
    store.keep_key("bob", [1; 16], NOW).await.unwrap();
    let late = enqueue("ann", latest("a")).await;
    assert!(matches!(late, Err(Error::SignedOut)), "{late:?}");
    // She was given it again.
    store.keep_key("ann", [1; 16], NOW).await.unwrap();
    enqueue("ann", latest("a")).await.unwrap();
}

#[tokio::test]
async fn nothing_is_sealed_anew_under_a_key_that_is_gone() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let id = fixture.put(latest("a")).await;
    store.keep_key("", [9; 16], NOW).await.unwrap();
    store.keep_key("", [1; 16], NOW).await.unwrap();
    store.forget_old_keys("").await.unwrap();
    let edit = |key_id| Edit {
        account: String::new(),
        id,
        payload: SealedPayload { generation: 2, key_id, ..sealed(10) },
        content_type: "application/json".into(),
        bytes: 10,
        payload_version: 0,
        references: Vec::new(),
        resolve: false,
    };
    let late = store.edit(edit([9; 16]), NOW).await;
    assert!(matches!(late, Err(Error::SignedOut)), "{late:?}");
    assert!(store.edit(edit([1; 16]), NOW).await.unwrap());
}

#[tokio::test]
async fn what_was_beaten_is_kept_until_somebody_has_read_of_it_and_for_a_while_after() {
    let fixture = Fixture::new().await;
    let id = fixture.put(every("a")).await;
    assert!(fixture.claim(id).await);
    fixture.settle(id, Verdict::Lost { taught: Taught::default(), possibly_sent: false }).await;
    let left = async |now: i64| {
        while fixture.store.prune(Keep { lost_ms: 1000, ..keep(1000, i64::MAX) }, now).await.unwrap() {}
        number(
            &mut fixture.peek().await,
            "SELECT count(*) FROM entries e JOIN payloads p USING (seq) WHERE p.body IS NOT NULL",
        )
        .await
    };
    let years_later = NOW + 1_000_000_000_000;
    assert_eq!(left(years_later).await, 1, "nobody has read of it");
    assert_eq!(fixture.store.conflicts_read("", &[id], years_later).await.unwrap(), [id]);
    assert_eq!(left(years_later + 1000).await, 1);
    assert_eq!(left(years_later + 1001).await, 0);
}

#[tokio::test]
async fn ids_of_entries_that_are_gone_are_forgotten_after_their_time_and_not_before() {
    let fixture = Fixture::new().await;
    let (delivered, unknown) = (fixture.put(every("a")).await, fixture.put(every("b")).await);
    assert!(fixture.claim(delivered).await && fixture.claim(unknown).await);
    fixture.settle(delivered, Verdict::Acked { canonical_id: Some("7".into()), revision: None, etag: None }).await;
    fixture.settle(unknown, Verdict::Unknown).await;
    fixture.store.discard("", &Filter { ids: Some(vec![unknown]), ..Filter::default() }, false, NOW).await.unwrap();
    let left = async |keep: Keep, now: i64| {
        while fixture.store.prune(keep, now).await.unwrap() {}
        let mut peek = fixture.peek().await;
        let mappings = number(&mut peek, "SELECT count(*) FROM mappings").await;
        (mappings, number(&mut peek, "SELECT count(*) FROM tombstones").await)
    };
    let keep = Keep { mappings_ms: 1000, tombstones_ms: 2000, ..keep(0, i64::MAX) };
    assert_eq!(left(keep, NOW).await, (1, 1));
    assert_eq!(left(keep, NOW + 1000).await, (1, 1));
    assert_eq!(left(keep, NOW + 1500).await, (0, 1));
    assert_eq!(left(keep, NOW + 2000).await, (0, 1));
    assert_eq!(left(keep, NOW + 2001).await, (0, 0));
}

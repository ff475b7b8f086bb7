use super::*;

/// Puts entries in one lane one by one, brings the first into a state, and says which of the others is replaced.
#[tokio::test]
async fn a_latest_entry_replaces_the_run_before_it_and_nothing_beyond() {
    use crate::entry::Queue::{Every, Latest};
    enum First {
        Pending,
        Inflight,
        Refused,
        Unknown,
        OutcomeUnknown,
    }
    let table: &[(&str, First, &[Queue], &[bool])] = &[
        ("never sent", First::Pending, &[Latest, Latest], &[true, false]),
        ("a burst", First::Pending, &[Latest, Latest, Latest], &[true, true, false]),
        ("definitively refused", First::Refused, &[Latest, Latest], &[true, false]),
        ("in flight", First::Inflight, &[Latest, Latest], &[false, false]),
        ("in flight, then a burst", First::Inflight, &[Latest, Latest, Latest], &[false, true, false]),
        ("possibly sent", First::Unknown, &[Latest, Latest], &[false, false]),
        ("failed, outcome unknown", First::OutcomeUnknown, &[Latest, Latest], &[false, false]),
        ("every is never replaced", First::Pending, &[Every, Latest], &[false, false]),
        ("every replaces nothing", First::Pending, &[Latest, Every], &[false, false]),
        ("every ends the run", First::Pending, &[Latest, Every, Latest, Latest], &[false, false, true, false]),
        ("every after a refusal", First::Refused, &[Every, Latest, Latest], &[false, true, false]),
    ];
    for (name, first, queues, replaced) in table {
        let fixture = Fixture::new().await;
        let mut ids = vec![fixture.put(entry(Some("a"), queues[0])).await];
        if !matches!(first, First::Pending) {
            assert!(fixture.claim(ids[0]).await);
        }
        match first {
            First::Pending | First::Inflight => {}
            First::Refused => drop(fixture.settle(ids[0], refused()).await),
            First::Unknown => drop(fixture.settle(ids[0], Verdict::Unknown).await),
            First::OutcomeUnknown => {
                fixture.settle(ids[0], Verdict::Failed { reason: Reason::OutcomeUnknown, possibly_sent: true }).await;
            }
        }
        for queue in &queues[1..] {
            ids.push(fixture.put(entry(Some("a"), *queue)).await);
        }
        for (n, id) in ids.iter().enumerate() {
            let row = fixture.row(*id).await;
            assert_eq!(row.entry.state == State::Superseded, replaced[n], "{name}: entry {n} is {:?}", row.entry.state);
            let next = replaced[n].then(|| ids[n + 1]);
            assert_eq!(row.entry.superseded_by, next, "{name}: entry {n}");
        }
        assert_kept(&mut fixture.peek().await).await;
    }
}

#[tokio::test]
async fn members_of_one_batch_replace_each_other_in_order() {
    let fixture = Fixture::new().await;
    let batch = vec![latest("a"), latest("b"), latest("a"), every("a"), latest("a"), latest("a")];
    let ids: Vec<_> = batch.iter().map(|entry| entry.id).collect();
    fixture.store.enqueue(batch, LIMIT, NOW).await.unwrap();
    let mut states = Vec::new();
    for id in &ids {
        states.push(fixture.state(*id).await);
    }
    use State::{Pending, Superseded};
    assert_eq!(states, [Superseded, Pending, Pending, Pending, Superseded, Pending]);
    assert_eq!(fixture.heads().await, [2, 3]);
    assert_kept(&mut fixture.peek().await).await;
}

#[tokio::test]
async fn entries_without_a_key_are_lanes_of_their_own() {
    let fixture = Fixture::new().await;
    for queue in [Queue::Latest, Queue::Every, Queue::Latest] {
        fixture.put(entry(None, queue)).await;
    }
    assert_eq!(fixture.heads().await, [1, 2, 3]);
}

#[tokio::test]
async fn lanes_of_other_accounts_and_kinds_are_other_lanes() {
    let fixture = Fixture::new().await;
    fixture.put(latest("a")).await;
    fixture.store.enqueue(vec![NewEntry { account: "ann".into(), ..latest("a") }], LIMIT, NOW).await.unwrap();
    fixture.put(NewEntry { kind: "file".into(), ..latest("a") }).await;
    assert_eq!(fixture.store.counts("").await.unwrap().pending, 2);
    assert_eq!(fixture.store.counts("ann").await.unwrap().pending, 1);
}

#[tokio::test]
async fn a_chosen_id_is_answered_with_what_exists() {
    let fixture = Fixture::new().await;
    let entry = NewEntry { chosen_id: true, ..latest("a") };
    let first = fixture.store.enqueue(vec![entry.clone()], LIMIT, NOW).await.unwrap();
    assert!(matches!(first[..], [Inserted::New]));
    let other = NewEntry { payload: SealedPayload { digest: vec![9; 32], ..sealed(9) }, ..entry.clone() };
    let [Inserted::Exists(found)] = &fixture.store.enqueue(vec![other], LIMIT, NOW).await.unwrap()[..] else {
        panic!("inserted twice")
    };
    assert_eq!((found.id, &found.digest, &found.key), (entry.id, &vec![4; 32], &Some("a".into())));
    // Also once it was delivered and its body is gone.
    assert!(fixture.claim(entry.id).await);
    fixture.settle(entry.id, acked()).await;
    let again = fixture.store.enqueue(vec![entry.clone(), entry], LIMIT, NOW).await.unwrap();
    assert!(matches!(again[..], [Inserted::Exists(_), Inserted::Exists(_)]));
    assert_eq!(fixture.store.counts("").await.unwrap(), Counts { acked: 1, ..Counts::default() });
}

#[tokio::test]
async fn the_same_chosen_id_from_many_callers_at_once_is_one_entry() {
    let fixture = Fixture::new().await;
    let entry = NewEntry { chosen_id: true, ..every("a") };
    let calls = (0..20).map(|_| fixture.store.enqueue(vec![entry.clone()], LIMIT, NOW));
    let answers = futures_util::future::try_join_all(calls).await.unwrap();
    assert_eq!(answers.iter().flatten().filter(|answer| matches!(answer, Inserted::New)).count(), 1);
    assert_eq!(fixture.store.counts("").await.unwrap().pending, 1);
}

#[tokio::test]
async fn a_random_id_that_is_taken_spoils_nobody_else() {
    let fixture = Fixture::new().await;
    let taken = every("a");
    fixture.put(taken.clone()).await;
    let good = futures_util::future::join_all((0..10).map(|_| fixture.store.enqueue(vec![every("b")], LIMIT, NOW)));
    let bad = fixture.store.enqueue(vec![taken], LIMIT, NOW);
    let (good, bad) = tokio::join!(good, bad);
    assert!(good.iter().all(Result::is_ok), "{good:?}");
    assert!(matches!(bad, Err(Error::Database(_))), "{bad:?}");
    assert_eq!(fixture.store.counts("").await.unwrap().pending, 11);
}

#[tokio::test]
async fn the_quota_refuses_whole_batches_and_only_those() {
    let fixture = Fixture::new().await;
    fixture.store.enqueue(vec![every("a"), latest("b")], 3, NOW).await.unwrap();
    let refused = fixture.store.enqueue(vec![every("a"), every("a")], 3, NOW).await;
    assert!(matches!(refused, Err(Error::QuotaReached { count: 2, limit: 3 })), "{refused:?}");
    let calls = (0..5).map(|_| fixture.store.enqueue(vec![every("c")], 3, NOW));
    let answers = futures_util::future::join_all(calls).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
    // What replaces another entry does not make more of them.
    fixture.store.enqueue(vec![latest("b"), latest("b")], 3, NOW).await.unwrap();
    assert!(fixture.store.enqueue(vec![latest("d")], 3, NOW).await.is_err());
    fixture.store.enqueue(vec![NewEntry { account: "ann".into(), ..every("a") }], 3, NOW).await.unwrap();
    assert_eq!(fixture.store.counts("").await.unwrap().pending, 3);
    assert_kept(&mut fixture.peek().await).await;
}

#[tokio::test]
async fn a_failed_entry_counts_for_the_quota_and_an_acked_one_does_not() {
    let fixture = Fixture::new().await;
    let (failed, done) = (fixture.put(every("a")).await, fixture.put(every("b")).await);
    assert!(fixture.claim(failed).await && fixture.claim(done).await);
    fixture.settle(failed, refused()).await;
    fixture.settle(done, acked()).await;
    assert!(fixture.store.enqueue(vec![every("c")], 1, NOW).await.is_err());
    fixture.store.enqueue(vec![every("c")], 2, NOW).await.unwrap();
}

#[tokio::test]
async fn base_is_what_the_lane_had_seen_at_enqueue() {
    let fixture = Fixture::new().await;
    let first = fixture.put(every("a")).await;
    assert_eq!((fixture.loaded(first).await.base, fixture.loaded(first).await.lane_revision), (0, 0));
    let before = fixture.put(every("a")).await;
    assert!(fixture.store.load(&[fixture.seq(before).await]).await.unwrap().is_empty(), "it is behind another one");
    assert!(fixture.claim(first).await);
    fixture
        .settle(
            first,
            Verdict::Acked { canonical_id: Some("77".into()), revision: Some(41), etag: Some("\"x\"".into()) },
        )
        .await;
    let after = fixture.put(every("a")).await;
    assert_eq!(fixture.loaded(before).await.base, 0);
    assert_eq!(fixture.row(first).await.entry.canonical_id.as_deref(), Some("77"));
    // Own acked revisions count as seen, and the lane's memory outlives its rows.
    assert!(fixture.claim(before).await);
    fixture.settle(before, acked()).await;
    assert_eq!(fixture.loaded(after).await.base, 41);
    assert_eq!(fixture.loaded(after).await.canonical_id.as_deref(), Some("77"));
    fixture.store.discard("", &Filter::default(), false, NOW).await.unwrap();
    let later = fixture.put(every("a")).await;
    let later = fixture.loaded(later).await;
    assert_eq!((later.base, later.lane_revision, later.canonical_id.as_deref()), (42, 42, Some("77")));
}

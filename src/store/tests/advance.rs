use super::*;

#[tokio::test]
async fn a_claim_is_refused_unless_the_row_is_what_was_loaded() {
    let fixture = Fixture::new().await;
    let (head, behind) = (fixture.put(every("a")).await, fixture.put(every("a")).await);
    let claim = |seq, generation| Claim { seq, generation, revision: 1, request: Some(b"frozen".to_vec()) };
    let (head_seq, behind_seq) = (fixture.seq(head).await, fixture.seq(behind).await);
    for (claim, name) in [
        (claim(head_seq, 2), "another generation"),
        (claim(behind_seq, 1), "not the head of its lane"),
        (claim(99, 1), "no such row"),
        (Claim { request: None, ..claim(head_seq, 1) }, "nothing frozen"),
    ] {
        assert!(fixture.store.advance(vec![], vec![claim], NOW).await.unwrap().claimed.is_empty(), "{name}");
    }
    assert_eq!(
        number(&mut fixture.peek().await, "SELECT count(*) FROM requests").await,
        0,
        "nothing of a refused claim stays"
    );
    assert_eq!(fixture.store.advance(vec![], vec![claim(head_seq, 1)], NOW).await.unwrap().claimed, [head_seq]);
    assert!(
        fixture.store.advance(vec![], vec![claim(head_seq, 1)], NOW).await.unwrap().claimed.is_empty(),
        "in flight already"
    );
    let row = fixture.row(head).await;
    assert_eq!((row.entry.state, row.entry.possibly_sent, row.entry.revision), (State::Inflight, true, Some(1)));
    // Another process, or a stale answer: the frozen request of what was possibly sent stays.
    fixture.settle(head, Verdict::Unknown).await;
    let other = Claim { request: Some(b"other".to_vec()), ..claim(head_seq, 1) };
    assert!(
        fixture.store.advance(vec![], vec![other], NOW).await.unwrap().claimed.is_empty(),
        "another request is frozen"
    );
    assert_eq!(fixture.loaded(head).await.request.as_deref(), Some(&b"frozen"[..]));
    assert!(fixture.claim(head).await);
}

#[tokio::test]
async fn an_ack_removes_the_payload_at_once_and_lets_the_next_one_go() {
    let fixture = Fixture::new().await;
    let (first, second) = (fixture.put(every("a")).await, fixture.put(every("a")).await);
    assert!(fixture.claim(first).await);
    assert_eq!(fixture.row(second).await.behind, Some(first));
    let done = fixture.settle(first, acked()).await;
    let head = Head { seq: 2, lane: Some(1) };
    assert_eq!(done.promoted, [Promoted { account: String::new(), kind: "form".into(), head }]);
    assert_eq!(fixture.row(second).await.behind, None);
    let (row, payload) = fixture.store.payload("", first).await.unwrap().unwrap();
    assert_eq!((row.entry.state, row.entry.attempts, row.entry.possibly_sent), (State::Acked, 1, false));
    assert_eq!((payload.body, payload.params, payload.digest), (vec![], None, vec![4; 32]));
    assert_eq!(number(&mut fixture.peek().await, "SELECT count(*) FROM requests").await, 0);
}

#[tokio::test]
async fn a_late_answer_settles_nothing() {
    let fixture = Fixture::new().await;
    let id = fixture.put(every("a")).await;
    fixture.settle(id, acked()).await;
    assert_eq!(fixture.state(id).await, State::Pending, "it was never claimed");
    assert!(fixture.claim(id).await);
    fixture.settle(id, refused()).await;
    let late = Verdict::Acked { canonical_id: Some("1".into()), revision: Some(9), etag: None };
    fixture.settle(id, late).await;
    assert_eq!(fixture.state(id).await, State::Failed);
    assert_eq!(
        number(&mut fixture.peek().await, "SELECT seen FROM lanes").await,
        0,
        "the lane learned from a late answer"
    );
}

#[tokio::test]
async fn what_comes_of_an_attempt_decides_what_stays_frozen() {
    let unsent = |was_possibly_sent| Verdict::Unsent { was_possibly_sent };
    // verdict; possibly sent, request kept, revision kept, suffix, lane's revision
    for (verdict, possibly_sent, request, revision, suffix, lane) in [
        (unsent(false), false, false, None, 0, 0),
        (unsent(true), true, true, Some(1), 0, 0),
        (Verdict::Unknown, true, true, Some(1), 0, 1),
        (Verdict::NotApplied, false, false, Some(1), 1, 1),
    ] {
        let fixture = Fixture::new().await;
        let id = fixture.put(every("a")).await;
        assert!(fixture.claim(id).await);
        fixture.settle(id, verdict.clone()).await;
        let loaded = fixture.loaded(id).await;
        assert_eq!(loaded.possibly_sent, possibly_sent, "{verdict:?}");
        assert_eq!(loaded.first_sent_at.is_some(), possibly_sent, "{verdict:?}");
        assert_eq!(loaded.request.is_some(), request, "{verdict:?}");
        assert_eq!(loaded.revision, revision, "{verdict:?}");
        assert_eq!(loaded.key_suffix, suffix, "{verdict:?}");
        assert_eq!(loaded.lane_revision, lane, "{verdict:?}");
    }
}

#[tokio::test]
async fn the_first_moment_of_sending_is_kept() {
    let fixture = Fixture::new().await;
    let id = fixture.put(every("a")).await;
    let claim =
        |request: Option<&[u8]>| Claim { seq: 1, generation: 1, revision: 1, request: request.map(<[u8]>::to_vec) };
    fixture.store.advance(vec![], vec![claim(Some(b"x"))], 10).await.unwrap();
    fixture.settle(id, Verdict::Unknown).await;
    fixture.store.advance(vec![], vec![claim(None)], 20).await.unwrap();
    fixture.settle(id, Verdict::Unsent { was_possibly_sent: true }).await;
    assert_eq!(fixture.loaded(id).await.first_sent_at, Some(10));
}

#[tokio::test]
async fn a_refused_latest_entry_gives_way_to_the_newer_one_that_came_meanwhile() {
    for verdict in [refused(), Verdict::Unsent { was_possibly_sent: false }, Verdict::NotApplied] {
        let fixture = Fixture::new().await;
        let old = fixture.put(latest("a")).await;
        assert!(fixture.claim(old).await);
        let new = fixture.put(latest("a")).await;
        let done = fixture.settle(old, verdict.clone()).await;
        let row = fixture.row(old).await;
        assert_eq!((row.entry.state, row.entry.superseded_by), (State::Superseded, Some(new)), "{verdict:?}");
        assert_eq!(done.promoted.len(), 1, "{verdict:?}");
        assert_eq!(fixture.heads().await, [2], "{verdict:?}");
        assert_kept(&mut fixture.peek().await).await;
    }
}

#[tokio::test]
async fn a_refused_entry_holds_its_lane_when_what_follows_cannot_replace_it() {
    let possibly = Verdict::Failed { reason: Reason::OutcomeUnknown, possibly_sent: true };
    for (first, second, verdict) in [
        (Queue::Latest, Queue::Every, refused()),
        (Queue::Every, Queue::Latest, refused()),
        (Queue::Latest, Queue::Latest, possibly),
    ] {
        let fixture = Fixture::new().await;
        let old = fixture.put(entry(Some("a"), first)).await;
        assert!(fixture.claim(old).await);
        fixture.put(entry(Some("a"), second)).await;
        fixture.settle(old, verdict).await;
        assert_eq!(fixture.state(old).await, State::Failed);
        assert!(fixture.heads().await.is_empty());
    }
}

#[tokio::test]
async fn settles_and_claims_of_many_lanes_are_one_commit() {
    let fixture = Fixture::new().await;
    let mut ids = Vec::new();
    for lane in 0..8 {
        ids.push(fixture.put(every(&lane.to_string())).await);
        fixture.put(every(&lane.to_string())).await;
    }
    let claims = |seqs: Vec<i64>| {
        seqs.into_iter()
            .map(|seq| Claim { seq, generation: 1, revision: 1, request: Some(vec![1]) })
            .collect::<Vec<_>>()
    };
    let first = fixture.store.advance(vec![], claims((0..8).map(|n| 2 * n + 1).collect()), NOW).await.unwrap();
    assert_eq!(first.claimed.len(), 8);
    let settles = (0..8)
        .map(|n| Settle {
            seq: 2 * n + 1,
            status: Some(200),
            error: None,
            attempted: true,
            verdict: acked(),
            restored: false,
        })
        .collect();
    // What a settle promotes can be claimed in the same commit, and is then not promoted but claimed.
    let second = fixture.store.advance(settles, claims(vec![2, 4]), NOW).await.unwrap();
    assert_eq!(second.claimed, [2, 4]);
    assert_eq!(second.promoted.iter().map(|promoted| promoted.head.seq).collect::<Vec<_>>(), [6, 8, 10, 12, 14, 16]);
    assert_kept(&mut fixture.peek().await).await;
}

#[tokio::test]
async fn revisions_beyond_what_json_holds_are_not_learned() {
    let fixture = Fixture::new().await;
    let id = fixture.put(every("a")).await;
    assert!(fixture.claim(id).await);
    fixture.settle(id, Verdict::Acked { canonical_id: None, revision: Some(1 << 53), etag: None }).await;
    assert_eq!(fixture.state(id).await, State::Acked);
    assert_eq!(number(&mut fixture.peek().await, "SELECT seen FROM lanes").await, 1);
}

#[tokio::test]
async fn an_entry_in_flight_of_a_dead_process_is_pending_and_still_possibly_sent() {
    let fixture = Fixture::new().await;
    let id = fixture.put(latest("a")).await;
    assert!(fixture.claim(id).await);
    fixture.store.close().await;
    let store = open(fixture.path()).await;
    let fixture = Fixture { store, ..fixture };
    assert_eq!(fixture.state(id).await, State::Inflight, "only the owner recovers");
    assert_eq!(fixture.store.recover(NOW).await.unwrap(), 1);
    let loaded = fixture.loaded(id).await;
    assert_eq!(
        (loaded.possibly_sent, loaded.request.is_some(), loaded.revision, loaded.lane_revision),
        (true, true, Some(1), 1)
    );
    assert_eq!(fixture.heads().await, [1]);
    // It may be on the server: it is not replaced.
    fixture.put(latest("a")).await;
    assert_eq!(fixture.state(id).await, State::Pending);
    assert_eq!(fixture.store.recover(NOW).await.unwrap(), 0);
}

#[tokio::test]
async fn permission_to_send_once_more_ends_with_the_process_that_used_it() {
    let fixture = Fixture::new().await;
    let id = fixture.put(latest("a")).await;
    assert!(fixture.claim(id).await);
    fixture.settle(id, Verdict::Failed { reason: Reason::OutcomeUnknown, possibly_sent: true }).await;
    let only = Filter { ids: Some(vec![id]), ..Filter::default() };
    assert_eq!(fixture.store.retry("", &only, true, NOW).await.unwrap(), [id]);
    assert!(fixture.loaded(id).await.forced);
    assert!(fixture.claim(id).await);
    assert_eq!(fixture.store.recover(NOW).await.unwrap(), 1);
    let loaded = fixture.loaded(id).await;
    assert_eq!((loaded.possibly_sent, loaded.forced), (true, false), "what came of it is not known either");
}

#[tokio::test]
async fn what_is_done_without_asking_the_server_teaches_nothing_of_it() {
    let fixture = Fixture::new().await;
    let id = fixture.put(latest("a")).await;
    assert!(fixture.claim(id).await);
    let seq = fixture.seq(id).await;
    let settle = Settle { seq, status: None, error: None, attempted: false, verdict: acked(), restored: false };
    fixture.store.advance(vec![settle], vec![], NOW).await.unwrap();
    assert_eq!(fixture.state(id).await, State::Acked);
    let next = fixture.put(latest("a")).await;
    let loaded = fixture.loaded(next).await;
    assert_eq!((loaded.lane_revision, loaded.lane_seen, loaded.thing), (0, 0, Thing::Unknown));
}

#[tokio::test]
async fn what_is_claimed_only_to_be_failed_has_used_no_revision_and_froze_no_request() {
    let fixture = Fixture::new().await;
    let id = fixture.put(latest("a")).await;
    for possibly_sent in [false, true] {
        let loaded = fixture.loaded(id).await;
        let request = Some(vec![u8::from(possibly_sent)]);
        let claim = Claim { seq: loaded.seq, generation: loaded.payload.generation, revision: 1, request };
        assert_eq!(fixture.store.advance(vec![], vec![claim], NOW).await.unwrap().claimed, [loaded.seq]);
        let (seq, verdict) = (loaded.seq, Verdict::Failed { reason: Reason::OutcomeUnknown, possibly_sent });
        let settle = Settle { seq, status: None, error: None, attempted: false, verdict, restored: false };
        fixture.store.advance(vec![settle], vec![], NOW).await.unwrap();
        let only = Filter { ids: Some(vec![id]), ..Filter::default() };
        assert_eq!(fixture.store.retry("", &only, true, NOW).await.unwrap(), [id]);
        let loaded = fixture.loaded(id).await;
        assert_eq!(
            (loaded.revision, loaded.lane_revision, loaded.request, loaded.possibly_sent),
            (None, 0, None, possibly_sent)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_is_in_every_list_of_what_is_not_settled_while_it_is_sent_and_given_back() {
    let fixture = Fixture::new().await;
    let id = fixture.put(latest("a")).await;
    let live = Filter { states: Some(vec![State::Pending, State::Inflight]), ..Filter::default() };
    let sending = async {
        for _ in 0..300 {
            assert!(fixture.claim(id).await);
            fixture.settle(id, Verdict::Unsent { was_possibly_sent: false }).await;
        }
    };
    let listing = async {
        loop {
            let found = fixture.store.list("", &live, None, 10).await.unwrap();
            assert_eq!(found.len(), 1);
        }
    };
    tokio::select! {
        () = sending => {}
        () = listing => {}
    }
}

use super::*;

fn ids(ids: &[Uuid]) -> Filter {
    Filter { ids: Some(ids.to_vec()), ..Filter::default() }
}

#[tokio::test]
async fn retry_sends_what_was_refused_under_a_new_key_and_the_rest_as_it_was() {
    let fixture = Fixture::new().await;
    let table = [
        // reason, possibly sent, force; retried, suffix, request kept, forced
        (Reason::Refused, false, false, true, 1, false, false),
        (Reason::Refused, true, false, true, 0, true, false),
        (Reason::OutcomeUnknown, true, false, false, 0, true, false),
        (Reason::OutcomeUnknown, true, true, true, 0, true, true),
    ];
    for (n, (reason, possibly_sent, force, retried, suffix, request, forced)) in table.into_iter().enumerate() {
        let id = fixture.put(every(&n.to_string())).await;
        assert!(fixture.claim(id).await);
        fixture.settle(id, Verdict::Failed { reason, possibly_sent }).await;
        let answer = fixture.store.retry("", &ids(&[id]), force, NOW).await.unwrap();
        assert_eq!(answer == [id], retried, "case {n}");
        if !retried {
            assert_eq!(fixture.state(id).await, State::Failed, "case {n}");
            continue;
        }
        let loaded = fixture.loaded(id).await;
        assert_eq!((loaded.key_suffix, loaded.request.is_some(), loaded.forced), (suffix, request, forced), "case {n}");
        assert!(fixture.claim(id).await);
        fixture.settle(id, Verdict::Unknown).await;
        assert!(!fixture.loaded(id).await.forced, "force is for one attempt");
    }
    assert_kept(&mut fixture.peek().await).await;
}

#[tokio::test]
async fn retry_by_filter_answers_failed_and_pending_ones_of_this_account_only() {
    let fixture = Fixture::new().await;
    let failed = fixture.put(every("a")).await;
    assert!(fixture.claim(failed).await);
    fixture.settle(failed, refused()).await;
    let pending = fixture.put(every("b")).await;
    let inflight = fixture.put(every("c")).await;
    assert!(fixture.claim(inflight).await);
    let all = fixture.store.retry("", &Filter::default(), false, NOW).await.unwrap();
    assert_eq!(all, [pending, failed]);
    assert!(fixture.store.retry("ann", &Filter::default(), true, NOW).await.unwrap().is_empty());
    let only_failed = Filter { states: Some(vec![State::Failed]), ..Filter::default() };
    assert!(fixture.store.retry("", &only_failed, false, NOW).await.unwrap().is_empty(), "none is failed any more");
    assert_eq!(fixture.loaded(pending).await.key_suffix, 0);
}

#[tokio::test]
async fn an_id_that_was_discarded_but_may_have_been_applied_is_never_taken_again() {
    let fixture = Fixture::new().await;
    let unknown = fixture.put(every("a")).await;
    assert!(fixture.claim(unknown).await);
    fixture.settle(unknown, Verdict::Unknown).await;
    fixture.store.discard("", &ids(&[unknown]), false, NOW).await.unwrap();
    let again = NewEntry { id: unknown, chosen_id: true, ..every("a") };
    let refused = fixture.store.enqueue(vec![again], LIMIT, NOW).await.unwrap_err();
    assert_eq!(refused.code(), "id_conflict");
    assert_eq!(number(&mut fixture.peek().await, "SELECT count(*) FROM entries").await, 0, "nothing was written");
}

#[tokio::test]
async fn discard_spares_what_is_in_flight_and_remembers_what_may_have_been_applied() {
    let fixture = Fixture::new().await;
    let unsent = fixture.put(every("a")).await;
    let unknown = fixture.put(every("b")).await;
    let inflight = fixture.put(every("c")).await;
    let next = fixture.put(every("b")).await;
    assert!(fixture.claim(unknown).await && fixture.claim(inflight).await);
    fixture.settle(unknown, Verdict::Unknown).await;
    let other = NewEntry { account: "ann".into(), ..every("a") };
    fixture.store.enqueue(vec![other], LIMIT, NOW).await.unwrap();
    let mut changes = fixture.store.changes();

    let discarded = fixture.store.discard("", &ids(&[unsent, unknown, inflight]), false, NOW).await.unwrap();
    assert_eq!(
        discarded,
        Discarded {
            ids: vec![unsent, unknown],
            possibly_applied: vec![unknown],
            inflight: vec![inflight],
            orphaned: vec![]
        }
    );
    assert_eq!(changes.try_recv().unwrap().state, None);
    assert_eq!(fixture.heads().await, [fixture.seq(next).await], "the lane goes on");
    let mut peek = fixture.peek().await;
    assert_eq!(number(&mut peek, "SELECT count(*) FROM tombstones").await, 1);
    assert_eq!(number(&mut peek, "SELECT count(*) FROM requests").await, 1, "of the one in flight");
    assert_eq!(fixture.store.counts("ann").await.unwrap().pending, 1);
    assert_kept(&mut peek).await;
    // A seq is never used again.
    let rest = fixture
        .store
        .discard("", &Filter { kind: Some("form".into()), key: Some("b".into()), ..Filter::default() }, false, NOW)
        .await
        .unwrap();
    assert_eq!(rest.ids, [next]);
    let new = fixture.put(every("b")).await;
    assert_eq!(fixture.seq(new).await, 6);
}

#[tokio::test]
async fn list_is_newest_first_in_pages() {
    let fixture = Fixture::new().await;
    let mut all = Vec::new();
    for n in 0..30 {
        let id = fixture.put(every(&(n % 3).to_string())).await;
        if n % 3 == 0 && n > 10 {
            fixture.store.discard("", &Filter { ids: Some(vec![id]), ..Filter::default() }, false, NOW).await.unwrap();
            continue;
        }
        all.insert(0, id);
    }
    for (n, verdict) in [(0, acked()), (1, refused())] {
        let head = all[all.len() - 1 - n];
        assert!(fixture.claim(head).await);
        fixture.settle(head, verdict).await;
    }
    for states in [None, Some(vec![State::Pending, State::Acked, State::Failed]), Some(STATES.to_vec())] {
        let filter = Filter { states, ..Filter::default() };
        let mut found = Vec::new();
        loop {
            let page = fixture.store.list("", &filter, found.last().copied(), 7).await.unwrap();
            if page.is_empty() {
                break;
            }
            found.extend(page.into_iter().map(|row| row.entry.id));
        }
        assert_eq!(found, all);
    }
    let failed = Filter { states: Some(vec![State::Failed]), ..Filter::default() };
    let failed = fixture.store.list("", &failed, None, 100).await.unwrap();
    assert_eq!(failed.iter().map(|row| row.entry.reason).collect::<Vec<_>>(), [Some(Reason::Refused)]);
    let keyed = Filter { key: Some("1".into()), kind: Some("form".into()), ..Filter::default() };
    assert!(
        fixture
            .store
            .list("", &keyed, None, 100)
            .await
            .unwrap()
            .iter()
            .all(|row| row.entry.key.as_deref() == Some("1"))
    );
    let gone = fixture.store.list("", &Filter::default(), Some(Uuid::nil()), 5).await;
    assert!(matches!(gone, Err(Error::NotFound(_))), "{gone:?}");
    let nothing = Filter { states: Some(vec![]), ..Filter::default() };
    assert!(fixture.store.list("", &nothing, None, 5).await.unwrap().is_empty());
}

#[tokio::test]
async fn settings_survive_a_restart() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    assert_eq!((store.paused().await.unwrap(), store.account().await.unwrap().as_str()), (false, ""));
    assert_eq!(store.key_record("").await.unwrap(), (None, false));
    store.set_paused(true).await.unwrap();
    store.set_account("ann").await.unwrap();
    store.keep_key("ann", [1; 16], NOW).await.unwrap();
    store.keep_key("ann", [2; 16], NOW).await.unwrap();
    store.set_floor("origin", 500, NOW).await.unwrap();
    store.set_floor("origin", 400, NOW + 1).await.unwrap();
    store.set_floor("gone", 1, NOW).await.unwrap();
    store.set_floor("gone", 0, NOW).await.unwrap();
    store.enqueue(vec![NewEntry { account: "ann".into(), ..every("a") }], LIMIT, NOW).await.unwrap();
    let device = store.device();
    store.close().await;
    let store = open(fixture.path()).await;
    assert_eq!((store.paused().await.unwrap(), store.account().await.unwrap().as_str()), (true, "ann"));
    assert_eq!(store.key_record("ann").await.unwrap(), (Some([2; 16]), true));
    assert_eq!(store.floors().await.unwrap(), [("origin".to_owned(), 400, NOW + 1)]);
    assert_eq!(store.pending_kinds().await.unwrap(), (vec![("ann".to_owned(), "form".to_owned())], false));
    assert_eq!(store.device(), device);
}

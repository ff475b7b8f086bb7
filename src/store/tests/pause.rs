use super::*;

async fn is_paused(fixture: &Fixture, id: Uuid) -> bool {
    fixture.row(id).await.entry.paused
}

async fn is_due(fixture: &Fixture, id: Uuid) -> bool {
    let seq = fixture.seq(id).await;
    let due = fixture.heads().await.contains(&seq);
    assert_eq!(!fixture.store.load(&[seq]).await.unwrap().is_empty(), due, "whoever looks sees the same");
    due
}

#[tokio::test]
async fn what_is_paused_is_not_due_and_holds_its_own_lane_only() {
    let fixture = Fixture::new().await;
    let (first, behind) = (fixture.put(every("a")).await, fixture.put(every("a")).await);
    let elsewhere = fixture.put(every("b")).await;
    assert!(fixture.store.pause_entry("", first, true).await.unwrap());
    assert!(!fixture.store.pause_entry("", first, true).await.unwrap(), "it is paused already");
    assert!(!is_due(&fixture, first).await && !is_due(&fixture, behind).await && fixture.claim(elsewhere).await);
    assert_eq!(fixture.row(behind).await.behind, Some(first));
    assert_kept(&mut fixture.peek().await).await;
    assert!(!fixture.store.pause_entry("ann", first, false).await.unwrap(), "it is not hers");
    assert!(fixture.store.pause_entry("", first, false).await.unwrap());
    assert!(!fixture.store.pause_entry("", first, false).await.unwrap());
    assert!(fixture.claim(first).await);
    assert_kept(&mut fixture.peek().await).await;
}

#[tokio::test]
async fn what_is_paused_between_a_look_and_its_claim_is_not_claimed() {
    let fixture = Fixture::new().await;
    let id = fixture.put(every("a")).await;
    let Loaded { seq, payload, .. } = fixture.loaded(id).await;
    fixture.store.pause_entry("", id, true).await.unwrap();
    let claim = Claim { seq, generation: payload.generation, revision: 1, request: Some(b"frozen".to_vec()) };
    let done = fixture.store.advance(vec![], vec![claim], NOW).await.unwrap();
    assert_eq!(done.claimed, Vec::<i64>::new());
    let requests = "SELECT count(*) FROM requests";
    assert_eq!(number(&mut fixture.peek().await, requests).await, 0, "nothing of it is frozen");
}

#[tokio::test]
async fn one_that_is_paused_while_it_is_in_flight_waits_once_it_is_back_and_is_done_with_it_once_it_is_settled() {
    for (verdict, paused) in [
        (Verdict::Unknown, true),
        (Verdict::Unfinished, true),
        (Verdict::NotApplied, true),
        (refused(), false),
        (Verdict::Acked { canonical_id: None, revision: None, etag: None }, false),
    ] {
        let fixture = Fixture::new().await;
        let id = fixture.put(every("a")).await;
        assert!(fixture.claim(id).await);
        assert!(fixture.store.pause_entry("", id, true).await.unwrap());
        fixture.settle(id, verdict.clone()).await;
        assert_eq!(is_paused(&fixture, id).await, paused, "{verdict:?}");
        assert!(!is_due(&fixture, id).await);
        assert_kept(&mut fixture.peek().await).await;
        let again = fixture.store.pause_entry("", id, true).await.unwrap();
        assert!(!again, "{verdict:?}");
    }
}

#[tokio::test]
async fn what_failed_while_it_was_paused_is_not_paused_when_it_is_retried() {
    let fixture = Fixture::new().await;
    let id = fixture.put(every("a")).await;
    assert!(fixture.claim(id).await);
    fixture.store.pause_entry("", id, true).await.unwrap();
    fixture.settle(id, refused()).await;
    let only = Filter { ids: Some(vec![id]), ..Filter::default() };
    assert_eq!(fixture.store.retry("", &only, false, NOW).await.unwrap(), [id]);
    assert!(fixture.claim(id).await);
    assert_kept(&mut fixture.peek().await).await;
}

#[tokio::test]
async fn a_newer_one_that_replaces_what_is_paused_is_not_paused_and_a_delete_of_it_has_nothing_to_wait_for() {
    let fixture = Fixture::new().await;
    let older = fixture.put(latest("a")).await;
    fixture.store.pause_entry("", older, true).await.unwrap();
    let newer = fixture.put(latest("a")).await;
    assert_eq!(fixture.row(older).await.entry.superseded_by, Some(newer));
    assert!(!is_paused(&fixture, older).await && !is_paused(&fixture, newer).await);
    assert!(fixture.claim(newer).await);
    assert_kept(&mut fixture.peek().await).await;
}

#[tokio::test]
async fn a_pause_outlives_the_process_and_says_nothing_of_what_is_depended_on() {
    let fixture = Fixture::new().await;
    let parent = fixture.put(every("a")).await;
    let after = Parent { id: parent, needs_id: false, told: true };
    let child = fixture.put(NewEntry { parents: vec![after], ..every("b") }).await;
    fixture.store.pause_entry("", child, true).await.unwrap();
    assert_eq!(fixture.row(child).await.waits_on, Some(parent));
    assert!(fixture.claim(parent).await);
    fixture.settle(parent, Verdict::Acked { canonical_id: None, revision: None, etag: None }).await;
    assert_kept(&mut fixture.peek().await).await;
    assert!(fixture.row(child).await.waits_on.is_none() && !is_due(&fixture, child).await, "it is still paused");
    fixture.store.recover(NOW).await.unwrap();
    assert!(is_paused(&fixture, child).await);
    assert!(fixture.store.pause_entry("", child, false).await.unwrap());
    assert!(fixture.claim(child).await);
}

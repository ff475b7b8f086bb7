use super::*;

/// An entry whose payload is a file of that name in the spool.
fn spooled(name: &str, key: Option<&str>) -> NewEntry {
    let file = NewFile { spool: Some((name.into(), 1000)), sealed: None };
    NewEntry { file: Some(file), ..entry(key, Queue::Latest) }
}

impl Fixture {
    async fn keep(&self, id: Uuid, uploaded: u64, begun: bool) -> bool {
        let progress = FileProgress { seq: self.seq(id).await, sealed: Some(b"progress".to_vec()), uploaded, begun };
        self.store.keep_progress(progress).await.unwrap()
    }
}

#[tokio::test]
async fn what_files_take_in_the_spool_is_kept_by_every_way_in_and_out() {
    let fixture = Fixture::new().await;
    let bytes = async || fixture.store.spool_bytes().await.unwrap();
    assert_eq!(bytes().await, 0);
    let mut ids = Vec::new();
    for name in ["a", "b", "c", "d"] {
        ids.push(fixture.put(spooled(name, Some(name))).await);
    }
    assert_eq!(bytes().await, 4000);
    let small = NewFile { spool: None, sealed: Some(vec![1]) };
    fixture.put(NewEntry { file: Some(small), ..entry(None, Queue::Every) }).await;
    assert_eq!(bytes().await, 4000, "small ones are in the database");
    fixture.claim(ids[0]).await;
    fixture.settle(ids[0], acked()).await;
    fixture.put(latest("b")).await;
    assert_eq!(fixture.state(ids[1]).await, State::Superseded);
    let one = Filter { ids: Some(vec![ids[2]]), ..Filter::default() };
    fixture.store.discard("", &one, false, NOW).await.unwrap();
    assert_eq!(bytes().await, 1000);
    let leftovers = fixture.store.leftovers(10).await.unwrap();
    let names: Vec<_> = leftovers.iter().map(|leftover| leftover.spool.as_deref().unwrap()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let asked = ["a", "b", "c", "d", "e"].map(str::to_owned);
    assert_eq!(fixture.store.named_in_spool(&asked).await.unwrap(), ["a", "b", "c", "d"]);
    fixture.store.forget_leftovers(leftovers.iter().map(|leftover| leftover.number).collect()).await.unwrap();
    assert_eq!(fixture.store.named_in_spool(&asked).await.unwrap(), ["d"]);
    while fixture.store.prune(keep(0, 0), NOW + 1000).await.unwrap() {}
    assert_eq!((bytes().await, fixture.store.leftovers(10).await.unwrap().len()), (1000, 0));
    assert_kept(&mut fixture.peek().await).await;
}

#[tokio::test]
async fn an_upload_that_is_kept_is_not_possibly_sent_until_its_last_bytes_begin() {
    let fixture = Fixture::new().await;
    let id = fixture.put(spooled("a", Some("a"))).await;
    assert!(!fixture.keep(id, 5, false).await, "it is not under way");
    assert!(fixture.claim(id).await);
    assert!(fixture.keep(id, 5, false).await);
    // A crash.
    fixture.store.recover(NOW).await.unwrap();
    let loaded = fixture.loaded(id).await;
    assert!(!loaded.possibly_sent && loaded.request.is_some() && loaded.revision.is_some(), "the upload goes on");
    let file = loaded.file.unwrap();
    assert_eq!((file.progress.as_deref(), file.uploaded, file.begun), (Some(&b"progress"[..]), 5, false));
    assert_eq!((fixture.row(id).await.entry.uploaded, fixture.row(id).await.entry.file), (5, true));
    // Asked to stop.
    assert!(fixture.claim(id).await);
    fixture.settle(id, Verdict::Unfinished).await;
    let loaded = fixture.loaded(id).await;
    assert!(!loaded.possibly_sent && loaded.request.is_some() && loaded.key_suffix == 0);
    // And killed when the server may have all of it.
    assert!(fixture.claim(id).await);
    assert!(fixture.keep(id, 10, true).await);
    assert!(fixture.keep(id, 10, false).await);
    fixture.store.recover(NOW).await.unwrap();
    assert!(fixture.loaded(id).await.possibly_sent, "what once began stays begun");
}

#[tokio::test]
async fn an_upload_that_gets_ahead_has_no_attempts_behind_it() {
    let fixture = Fixture::new().await;
    let id = fixture.put(spooled("a", Some("a"))).await;
    for (uploaded, attempts) in [(0, 1), (0, 2), (5, 1), (5, 2), (6, 1)] {
        fixture.claim(id).await;
        fixture.keep(id, uploaded, false).await;
        fixture.settle(id, Verdict::Unfinished).await;
        assert_eq!(fixture.loaded(id).await.attempts, attempts, "{uploaded}");
    }
}

#[tokio::test]
async fn a_newer_entry_takes_the_place_of_an_upload_that_stopped_and_what_it_takes_to_end_it_is_left() {
    let fixture = Fixture::new().await;
    let (older, other) = (fixture.put(spooled("a", Some("a"))).await, fixture.put(spooled("b", Some("b"))).await);
    let seqs = [fixture.seq(older).await, fixture.seq(other).await];
    for id in [older, other] {
        fixture.claim(id).await;
        fixture.keep(id, 5, false).await;
    }
    assert!(fixture.store.overtaken(&seqs).await.unwrap().is_empty());
    let newer = fixture.put(latest("a")).await;
    fixture.put(every("b")).await;
    assert_eq!(fixture.store.overtaken(&seqs).await.unwrap(), seqs[..1]);
    fixture.settle(older, Verdict::Unfinished).await;
    assert_eq!(
        (fixture.state(older).await, fixture.row(older).await.entry.superseded_by),
        (State::Superseded, Some(newer))
    );
    let [leftover] = &fixture.store.leftovers(10).await.unwrap()[..] else { panic!() };
    assert_eq!((leftover.id, leftover.spool.as_deref()), (older, Some("a")));
    assert_eq!(
        (leftover.progress.as_deref(), leftover.request.as_deref()),
        (Some(&b"progress"[..]), Some(&b"frozen"[..]))
    );
    assert_eq!((leftover.generation, &leftover.wrapped_key), (1, &vec![1; 60]));
    // What the server may have whole is not ended.
    fixture.keep(other, 5, true).await;
    fixture.settle(other, Verdict::Unknown).await;
    let one = Filter { ids: Some(vec![other]), ..Filter::default() };
    fixture.store.discard("", &one, false, NOW).await.unwrap();
    let leftovers = fixture.store.leftovers(10).await.unwrap();
    assert_eq!((leftovers[1].id, leftovers[1].progress.as_ref()), (other, None));
}

#[tokio::test]
async fn an_older_copy_of_the_database_takes_no_upload_for_unsent() {
    let fixture = Fixture::new().await;
    let (id, other) = (fixture.put(spooled("a", Some("a"))).await, fixture.put(every("b")).await);
    fixture.claim(id).await;
    fixture.keep(id, 5, false).await;
    fixture.claim(other).await;
    let seq = fixture.seq(other).await;
    let settle = Settle { seq, status: None, error: None, attempted: true, verdict: Verdict::Unknown, restored: true };
    fixture.store.advance(vec![settle], vec![], NOW).await.unwrap();
    fixture.store.recover(NOW).await.unwrap();
    assert!(fixture.loaded(id).await.possibly_sent);
}

#[tokio::test]
async fn files_are_salvaged_with_their_entries() {
    let fixture = Fixture::new().await;
    let mut entries = Vec::new();
    for n in 0..500 {
        entries.push(NewEntry { payload: sealed(600), ..spooled(&format!("file-{n}"), Some(&n.to_string())) });
    }
    fixture.store.enqueue(entries, LIMIT, NOW).await.unwrap();
    fixture.store.close().await;
    assert!(super::files::damage(&fixture.path().join("outbox.db"), 17) > 3);
    let opened = Store::open(fixture.path(), NOW).await.unwrap();
    let salvage = opened.salvaged.expect("the damage was not seen");
    let fixture = Fixture { store: opened.store, ..fixture };
    assert!(fixture.store.has_salvaged() && salvage.entries > 100, "{salvage:?}");
    let mut peek = fixture.peek().await;
    let rows = number(&mut peek, "SELECT count(*) FROM files WHERE spool IS NOT NULL").await;
    assert!(rows > 50, "{rows}");
    assert_eq!(fixture.store.spool_bytes().await.unwrap(), 1000 * rows as u64);
    assert_eq!(number(&mut peek, "SELECT count(*) FROM files WHERE seq NOT IN (SELECT seq FROM entries)").await, 0);
}

#[tokio::test]
async fn a_watched_file_whose_entry_was_lost_in_a_damaged_database_is_known_no_more() {
    let fixture = Fixture::new().await;
    let watch = super::watched::watching(&fixture.store).await;
    for tag in 1..=3 {
        fixture.put(super::watched::carries(&watch, tag, 10)).await;
    }
    let acked = fixture.store.watched(watch.id).await.unwrap().remove(0);
    let id = acked.entry.unwrap();
    assert!(fixture.claim(id).await);
    fixture.settle(id, super::acked()).await;
    let entries = (0..1000).map(|n| NewEntry { payload: sealed(600), ..every(&n.to_string()) }).collect();
    fixture.store.enqueue(entries, LIMIT, NOW).await.unwrap();
    let lost = fixture.store.watched(watch.id).await.unwrap().remove(1);
    let mut peek = fixture.peek().await;
    // As if it had been on a page that cannot be read.
    sqlx::query("DELETE FROM entries WHERE id = ?")
        .bind(&lost.entry.unwrap().as_bytes()[..])
        .execute(&mut peek)
        .await
        .unwrap();
    drop(peek);
    fixture.store.close().await;
    assert!(super::files::damage(&fixture.path().join("outbox.db"), 17) > 3);
    let opened = Store::open(fixture.path(), NOW).await.unwrap();
    assert!(opened.salvaged.is_some(), "the damage was not seen");
    let known = opened.store.watched(watch.id).await.unwrap();
    assert!(known.iter().any(|file| file.tag == acked.tag && file.acked), "what was delivered is known: {known:?}");
    assert!(!known.iter().any(|file| file.tag == lost.tag), "what was lost comes again: {known:?}");
}

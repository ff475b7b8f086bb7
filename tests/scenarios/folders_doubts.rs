//! Watched folders where something looks deleted or done and is not: nothing is deleted on the server for it, and nothing stays out.

use std::fs;

use serde_json::json;
use storage_sync_backend::Rule;
use tauri_plugin_storage_sync::{AfterAck, WatchOptions, WatchState, testing::triggers::folders::SystemWatcher};

use crate::folders_bench::{Bench, content, follow, held, options};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_was_away_and_is_empty_deletes_nothing_although_the_system_calls_it_the_same() {
    let mut bench = Bench::new().await;
    bench.stop().await;
    bench.config["folders"]["scanMs"] = json!(1000);
    bench.start(SystemWatcher).await;
    bench.write("a.txt", "a");
    bench.write("b.txt", "b");
    bench.watch(options("doc")).await;
    bench.until_the_same().await;
    let expected = content(&bench.path(""));
    // As a disk that is taken out, made anew, and put in again.
    let away = bench.root().join("away");
    fs::rename(bench.path(""), &away).unwrap();
    bench.until(|watch| watch.state == WatchState::Missing).await;
    for name in ["a.txt", "b.txt"] {
        fs::rename(away.join(name), bench.root().join(name)).unwrap();
    }
    fs::rename(&away, bench.path("")).unwrap();
    bench.until(|watch| watch.why.as_ref().is_some_and(|why| why.contains("it is empty"))).await;
    assert_eq!(bench.backend.world(held), expected);
    fs::rename(bench.root().join("a.txt"), bench.path("a.txt")).unwrap();
    bench.until_the_same().await;
    bench.until(|watch| watch.state == WatchState::Watching && watch.why.is_none()).await;
    // It is trusted again: what is deleted in it is deleted.
    fs::remove_file(bench.path("a.txt")).unwrap();
    bench.until_the_same().await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_away_once_the_server_had_it_is_not_deleted_there_when_the_folder_keeps_from_now_on() {
    let mut bench = Bench::new().await;
    let gate = bench.backend.hold(Rule::hold().kind("docs"));
    bench.write("a.txt", "a");
    let expected = content(&bench.path(""));
    bench.watch(WatchOptions { after_ack: AfterAck::Delete, ..options("doc") }).await;
    bench.until(|watch| watch.files == 1).await;
    // As if it had been taken away and the app ended before that was noted.
    bench.folders = None;
    drop(gate);
    bench.backend.behave();
    bench.until_held(expected.clone()).await;
    bench.until(|watch| watch.delivered == 1).await;
    fs::remove_file(bench.path("a.txt")).unwrap();
    bench.watch(options("doc")).await;
    bench.folders = Some(follow(bench.device(), &bench.config, &bench.root(), SystemWatcher));
    let mut all = expected;
    // Each takes more looks than it would take to miss the first one.
    for name in ["b.txt", "c.txt"] {
        bench.write(name, name);
        all.extend(content(&bench.path("")));
        bench.until_held(all.clone()).await;
    }
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_for_which_there_is_no_room_keep_no_other_out() {
    let mut bench = Bench::new().await;
    bench.stop().await;
    bench.config["limits"] = json!({ "spoolBytes": 100_000 });
    bench.start(SystemWatcher).await;
    for number in 0..30 {
        bench.write(&format!("large {number}"), &"x".repeat(200_000 + number));
    }
    bench.write("small", "y");
    bench.watch(options("doc")).await;
    bench.backend.wait_until(|world| held(world).contains_key("small")).await;
    assert_eq!(bench.backend.world(held).len(), 1);
    bench.until(|watch| watch.why.is_some()).await;
    bench.stop().await;
}

/// A folder of 40 files that the server has, at a queue that takes three entries and a server that takes none.
async fn full() -> Bench {
    let mut bench = Bench::new().await;
    for number in 0..40 {
        bench.write(&format!("{number}.txt"), &number.to_string());
    }
    bench.watch(options("doc")).await;
    bench.until_the_same().await;
    bench.device().until_counted(|counts| counts.acked == 40).await;
    bench.stop().await;
    bench.config["limits"] = json!({ "entries": 3 });
    bench.start(SystemWatcher).await;
    bench.until(|watch| watch.state == WatchState::Watching).await;
    let rule = bench.backend.misbehave(Rule::hold());
    for number in 0..40 {
        fs::remove_file(bench.path(&format!("{number}.txt"))).unwrap();
    }
    let blocked = bench.until(|watch| watch.why.as_ref().is_some_and(|why| why.contains("limit is 3"))).await;
    assert_eq!(blocked.files, 37, "what is enqueued is known no more");
    bench.backend.wait_until(|world| world.held(rule) > 0).await;
    bench
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletes_for_which_there_is_no_room_are_sent_as_room_comes() {
    let mut bench = full().await;
    bench.backend.behave();
    bench.until_the_same().await;
    bench.until(|watch| watch.why.is_none() && watch.files == 0).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_comes_back_while_its_delete_waits_is_uploaded_again() {
    let mut bench = full().await;
    for number in 0..40 {
        bench.write(&format!("{number}.txt"), &number.to_string());
    }
    bench.backend.behave();
    bench.until(|watch| watch.why.is_none() && watch.files == 40).await;
    bench.until_the_same().await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_content_of_a_file_takes_the_place_of_one_that_was_refused_whatever_the_endpoint_queues() {
    let mut bench = Bench::new().await;
    bench.stop().await;
    bench.config["endpoints"]["posted"] = json!({ "method": "POST", "url": "/docs", "body": "multipart" });
    bench.start(SystemWatcher).await;
    bench.backend.misbehave(Rule::status(422).times(1));
    bench.write("a.txt", "refused");
    bench.watch(options("posted")).await;
    bench.device().until_counted(|counts| counts.failed == 1).await;
    bench.write("a.txt", "good");
    bench.until_the_same().await;
    bench.device().until_counted(|counts| counts.failed == 0 && counts.acked == 1).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_is_made_anew_is_told_of_at_once() {
    let mut bench = Bench::new().await;
    bench.stop().await;
    // Longer than this test waits for anything: what is found was told.
    bench.config["folders"]["scanMs"] = json!(3_600_000);
    bench.start(SystemWatcher).await;
    bench.write("a.txt", "a");
    bench.watch(options("doc")).await;
    bench.until_the_same().await;
    fs::remove_dir_all(bench.path("")).unwrap();
    fs::create_dir(bench.path("")).unwrap();
    bench.write("b.txt", "b");
    bench.until_the_same().await;
    bench.write("deep/c.txt", "c");
    bench.until_the_same().await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_of_which_the_same_is_said_again_is_followed_on() {
    let mut bench = Bench::new().await;
    bench.write("a.txt", "a");
    let first = bench.watch(options("doc")).await;
    bench.until_the_same().await;
    bench.until(|watch| watch.state == WatchState::Watching).await;
    let again = bench.watch(options("doc")).await;
    assert_eq!((again.id, again.state, again.files), (first.id, WatchState::Watching, 1));
    bench.stop().await;
}

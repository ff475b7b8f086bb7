//! Watched folders: what comes, changes and goes in them, and what the system tells of it.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use storage_sync_backend::{Rule, World};
use tauri_plugin_storage_sync::{
    AfterAck, WatchOptions, WatchState,
    testing::triggers::folders::{Silent, SystemWatcher, Told, Watcher},
};

use crate::{
    folders_bench::{Bench, content, digest, follow_by, held, options, watch},
    support::ManualClock,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_gets_what_is_written_edited_renamed_and_deleted_in_a_watched_folder() {
    let mut bench = Bench::new().await;
    bench.write("before.txt", "there before it was watched");
    bench.write("deep/er/a.txt", "one");
    let watch = bench.watch(options("doc")).await;
    bench.until_the_same().await;
    bench.until(|watch| watch.state == WatchState::Watching && watch.files == 2 && watch.delivered == 2).await;

    bench.write("new.txt", "new");
    bench.write("deep/er/a.txt", "two, and longer");
    bench.write("fresh/folder/b.txt", "in a folder that was not there");
    bench.until_the_same().await;
    fs::rename(bench.path("new.txt"), bench.path("renamed.txt")).unwrap();
    fs::remove_file(bench.path("before.txt")).unwrap();
    fs::rename(bench.path("deep"), bench.path("moved")).unwrap();
    bench.until_the_same().await;

    // As editors save: beside it, and then over it.
    bench.write("renamed.txt.part", "saved");
    fs::rename(bench.path("renamed.txt.part"), bench.path("renamed.txt")).unwrap();
    bench.until_the_same().await;
    let things = bench.backend.world(|world| {
        let thing = world.resources("docs").find(|thing| thing.last.fields["path"] == "renamed.txt").unwrap();
        (thing.writes, thing.last.revision, thing.last.name.clone())
    });
    assert_eq!(things, (2, 2, Some("renamed.txt".into())), "a newer revision of the same thing");

    assert_eq!(bench.state().await.id, watch.id);
    bench.device().outbox.unwatch(watch.id).await.unwrap();
    assert_eq!(bench.device().outbox.unwatch(watch.id).await.unwrap_err().code(), "not_found");
    assert_eq!(bench.device().outbox.watches().await.unwrap(), []);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changed_while_the_app_was_closed_is_found_at_the_start() {
    let mut bench = Bench::new().await;
    for name in ["same.txt", "edited.txt", "renamed.txt", "deleted.txt"] {
        bench.write(name, name);
    }
    bench.watch(options("doc")).await;
    bench.until_the_same().await;
    bench.until(|watch| watch.delivered == 4).await;
    bench.stop().await;
    bench.write("edited.txt", "edited later");
    // Of the same size, and with the time that it had.
    let time = fs::metadata(bench.path("same.txt")).unwrap().modified().unwrap();
    bench.write("same.txt", "SAME.txt");
    fs::File::options().write(true).open(bench.path("same.txt")).unwrap().set_modified(time).unwrap();
    fs::rename(bench.path("renamed.txt"), bench.path("other.txt")).unwrap();
    fs::remove_file(bench.path("deleted.txt")).unwrap();
    bench.write("new.txt", "new");
    bench.start(SystemWatcher).await;
    bench.until_the_same().await;
    bench.until(|watch| watch.files == 4 && watch.delivered == 4).await;
    bench.stop().await;

    let before = bench.backend.world(World::applied);
    // Nothing changed but how the system sees it.
    fs::File::options().write(true).open(bench.path("new.txt")).unwrap().set_modified(time).unwrap();
    bench.write("marker.txt", "looked at together with the others");
    bench.start(SystemWatcher).await;
    bench.until_the_same().await;
    assert_eq!(
        bench.backend.world(World::applied),
        before + 1,
        "what has the content that the server has is not sent again"
    );
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_being_written_waits_until_nobody_writes_to_it() {
    let mut bench = Bench::new().await;
    bench.folders = None;
    let clock = ManualClock::new();
    let quiet = Duration::from_millis(50);
    let by = Arc::new(clock.clone());
    bench.folders = Some(follow_by(bench.device(), &bench.config, &bench.root(), SystemWatcher, by));
    bench.watch(options("doc")).await;
    let mut text = String::new();
    for number in 0..5 {
        // It is uploaded although time passes only between two writes to the other file.
        let marker = format!("marker-{number}.txt");
        bench.write(&marker, &marker);
        while !bench.backend.world(|world| held(world).contains_key(&marker)) {
            text.push('x');
            bench.write("a.txt", &text);
            clock.advance(quiet / 2);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(!bench.backend.world(|world| held(world).contains_key("a.txt")));
    }
    while !bench.backend.world(|world| held(world).contains_key("a.txt")) {
        clock.advance(quiet);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    bench.until_the_same().await;
    let writes = bench.backend.world(|world| {
        world
            .resources("docs")
            .filter(|thing| thing.last.fields["path"] == "a.txt")
            .map(|thing| thing.writes)
            .sum::<u64>()
    });
    assert_eq!(writes, 1, "it was sent once, as a whole");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_has_is_moved_or_deleted_only_as_long_as_it_is_what_the_server_has() {
    for (after_ack, kind) in [(AfterAck::Move, "doc"), (AfterAck::Delete, "kept")] {
        let mut bench = Bench::new().await;
        let rule = bench.backend.misbehave(Rule::hold().times(1));
        bench.write("deep/a.txt", "first");
        bench.watch(WatchOptions { after_ack, ..options(kind) }).await;
        bench.backend.wait_until(|world| world.held(rule) == 1).await;
        // Edited while the first state of it is on its way.
        bench.write("deep/a.txt", "second");
        bench.backend.behave();
        bench.until(|watch| watch.files == 0).await;
        let expected: BTreeMap<_, _> = [("deep/a.txt".to_owned(), digest(b"second"))].into();
        assert_eq!(
            bench.backend.world(held),
            expected,
            "what vanishes from the folder does not vanish from the server"
        );
        assert_eq!(content(&bench.path("")), BTreeMap::new());
        let moved = bench.path(".synced/deep/a.txt");
        match after_ack {
            AfterAck::Move => assert_eq!(fs::read_to_string(moved).unwrap(), "second"),
            _ => assert!(!moved.exists()),
        }
        // Taken by somebody else before it was: nothing is deleted anywhere.
        let rule = bench.backend.misbehave(Rule::hold().times(1));
        bench.write("b.txt", "b");
        bench.backend.wait_until(|world| world.held(rule) == 1).await;
        fs::remove_file(bench.path("b.txt")).unwrap();
        bench.backend.behave();
        bench.until(|watch| watch.files == 0).await;
        bench.backend.wait_until(|world| held(world).contains_key("b.txt")).await;
        assert!(bench.backend.mutations().iter().all(|mutation| mutation.method != "DELETE"));
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_vanishes_deletes_nothing_is_reported_and_comes_back() {
    let mut bench = Bench::new().await;
    bench.stop().await;
    bench.config["folders"]["scanMs"] = json!(1000);
    bench.start(SystemWatcher).await;
    bench.write("a.txt", "a");
    bench.watch(options("doc")).await;
    bench.until_the_same().await;
    let expected = content(&bench.path(""));
    let away = bench.root().join("away");
    fs::rename(bench.path(""), &away).unwrap();
    let watch = bench.until(|watch| watch.state == WatchState::Missing).await;
    assert_eq!(watch.why.as_deref(), Some("the folder is not there"));
    let shown = bench.device().outbox.status().await.unwrap().watches;
    assert_eq!((shown[0].id, shown[0].state), (watch.id, WatchState::Missing));

    // What is left of a disk that was taken away.
    fs::create_dir(bench.path("")).unwrap();
    fs::write(bench.path(".keep"), "").unwrap();
    let watch = bench.until(|watch| watch.why.as_ref().is_some_and(|why| why.contains("another folder"))).await;
    assert_eq!(watch.state, WatchState::Missing);
    assert_eq!(bench.backend.world(held), expected);
    fs::remove_dir_all(bench.path("")).unwrap();

    fs::write(away.join("b.txt"), "written meanwhile").unwrap();
    fs::rename(&away, bench.path("")).unwrap();
    bench.until_the_same().await;
    bench.until(|watch| watch.state == WatchState::Watching && watch.why.is_none()).await;
    // Another folder with something in it is what the server is to hold from then on.
    fs::rename(bench.path(""), &away).unwrap();
    bench.write("c.txt", "c");
    bench.until_the_same().await;
    bench.stop().await;
}

/// Tells nothing as long as it is told to fail.
#[derive(Clone, Default)]
struct Failing {
    fails: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    told: Arc<Mutex<Option<Told>>>,
}

impl Watcher for Failing {
    fn watch(&self, folder: &Path, recursive: bool, told: Told) -> Result<Box<dyn Send>, Silent> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        *self.told.lock().unwrap() = Some(told.clone());
        if self.fails.load(Ordering::SeqCst) {
            return Err("the system watches as many folders as it may".into());
        }
        SystemWatcher.watch(folder, recursive, told)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_system_cannot_tell_of_changes_they_are_found_all_the_same_and_that_is_reported() {
    let mut bench = Bench::new().await;
    bench.stop().await;
    bench.config["folders"]["scanMs"] = json!(1000);
    let failing = Failing::default();
    failing.fails.store(true, Ordering::SeqCst);
    bench.start(failing.clone()).await;
    bench.write("a.txt", "a");
    bench.watch(options("doc")).await;
    bench.until_the_same().await;
    let watch = bench.until(|watch| watch.state == WatchState::Scanning).await;
    assert_eq!(watch.why.as_deref(), Some("the system watches as many folders as it may"));
    bench.write("a.txt", "edited");
    bench.write("b.txt", "b");
    bench.until_the_same().await;
    assert!(failing.asked.load(Ordering::SeqCst) > 1, "it is asked again");

    failing.fails.store(false, Ordering::SeqCst);
    bench.until(|watch| watch.state == WatchState::Watching).await;
    // It fails later, as when a new folder is one too many.
    failing.fails.store(true, Ordering::SeqCst);
    failing.told.lock().unwrap().as_ref().unwrap().broken("no more of them".into());
    bench.until(|watch| watch.state == WatchState::Scanning).await;
    bench.write("c.txt", "c");
    bench.until_the_same().await;
    bench.stop().await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_pipes_hidden_files_and_the_queue_itself_are_left_out() {
    let mut bench = Bench::new().await;
    fs::write(bench.root().join("secret.txt"), "outside").unwrap();
    fs::create_dir(bench.root().join("outside")).unwrap();
    fs::write(bench.root().join("outside/secret.txt"), "outside").unwrap();
    bench.write("sub/a.txt", "a");
    bench.write(".hidden", "x");
    bench.write("film.mkv.part", "x");
    let link =
        |target: &str, name: &str| std::os::unix::fs::symlink(bench.root().join(target), bench.path(name)).unwrap();
    link("secret.txt", "link.txt");
    link("outside", "folder");
    assert!(std::process::Command::new("mkfifo").arg(bench.path("pipe")).status().unwrap().success());
    bench.watch(options("doc")).await;
    bench.until_held([("sub/a.txt".to_owned(), digest(b"a"))].into()).await;

    // A folder in it is swapped for a link.
    fs::rename(bench.path("sub"), bench.root().join("sub")).unwrap();
    link("outside", "sub");
    bench.write("b.txt", "b");
    bench.until_held([("b.txt".to_owned(), digest(b"b"))].into()).await;

    // The whole disk, with the queue's own folder on it.
    let all = WatchOptions { patterns: vec!["!secret.txt".into()], ..options("doc") };
    watch(bench.device(), &bench.root(), &bench.root(), all).await;
    let expected = ["b.txt", "sub/a.txt", "watched/b.txt"].map(str::to_owned);
    let paths = |world: &World| held(world).into_keys().collect::<Vec<_>>();
    bench.backend.wait_until(|world| paths(world) == expected).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_is_followed_while_its_account_is_the_current_one_and_goes_with_it() {
    let mut bench = Bench::new().await;
    bench.device().outbox.set_account("ann").await.unwrap();
    bench.write("a.txt", "a");
    bench.watch(options("doc")).await;
    bench.until_the_same().await;
    // Another key, and the same names: a rotation changes no lane.
    bench.until(|watch| watch.delivered == 1).await;
    let rotated = bench.device().rotated().await;
    assert!(rotated.finished, "{rotated:?}");
    bench.write("a.txt", "edited");
    bench.until_the_same().await;
    assert_eq!(bench.backend.world(|world| world.resources("docs").next().unwrap().writes), 2);
    bench.stop().await;
    bench.start(SystemWatcher).await;

    bench.device().outbox.set_account("bob").await.unwrap();
    assert_eq!(bench.device().outbox.watches().await.unwrap(), []);
    let before = bench.backend.world(held);
    bench.write("b.txt", "nobody is to send this for bob");
    bench.device().outbox.set_account("ann").await.unwrap();
    bench.until_the_same().await;
    assert_ne!(bench.backend.world(held), before);
    let left = bench.device().outbox.sign_out(Default::default(), None, |_| {}).await.unwrap();
    assert_eq!((left.account.as_str(), bench.device().outbox.watches().await.unwrap()), ("ann", Vec::new()));
    bench.device().outbox.set_account("ann").await.unwrap();
    assert_eq!(bench.state().await.files, 2, "a sign-out that keeps things keeps watches too");

    let discard = tauri_plugin_storage_sync::Leftover::Discard;
    assert!(bench.device().outbox.sign_out(discard, None, |_| {}).await.unwrap().finished);
    bench.device().outbox.set_account("ann").await.unwrap();
    assert_eq!(bench.device().outbox.watches().await.unwrap(), []);
    let url = format!("sqlite://{}", bench.device().folder.join("outbox.db").display());
    let mut database = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await.unwrap();
    for table in ["watches", "watched", "watch_keys"] {
        let text = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        assert_eq!(sqlx::query_scalar::<_, i64>(text).fetch_one(&mut database).await.unwrap(), 0, "{table}");
    }
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_of_a_watch_later_deletes_nothing_that_is_still_there() {
    let mut bench = Bench::new().await;
    for name in ["a.txt", "b.md", "deep/c.txt"] {
        bench.write(name, name);
    }
    let first = bench.watch(options("doc")).await;
    bench.until_the_same().await;
    let all = content(&bench.path(""));
    let narrower = WatchOptions { recursive: false, patterns: vec!["*.txt".into()], ..options("doc") };
    let second = bench.watch(narrower).await;
    assert_eq!(first.id, second.id, "one watch for a folder and a kind");
    bench.until(|watch| watch.files == 1 && watch.state == WatchState::Watching).await;
    fs::remove_file(bench.path("a.txt")).unwrap();
    let expected: BTreeMap<_, _> = all.into_iter().filter(|(path, _)| path != "a.txt").collect();
    bench.until_held(expected).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_is_full_takes_the_rest_of_a_folder_when_there_is_room() {
    let mut bench = Bench::new().await;
    bench.stop().await;
    bench.config["limits"] = json!({ "entries": 3 });
    bench.start(SystemWatcher).await;
    let rule = bench.backend.misbehave(Rule::hold());
    for number in 0..40 {
        bench.write(&format!("{number}.txt"), &number.to_string());
    }
    bench.watch(options("doc")).await;
    let watch = bench.until(|watch| watch.why.as_ref().is_some_and(|why| why.contains("limit is 3"))).await;
    assert_eq!((watch.state, watch.files), (WatchState::Watching, 3));
    bench.backend.wait_until(|world| world.held(rule) > 0).await;
    bench.backend.behave();
    bench.until_the_same().await;
    bench.until(|watch| watch.why.is_none() && watch.files == 40).await;
    bench.stop().await;
}

/// Set in the copy of a test that runs where the system watches next to nothing.
const INSIDE: &str = "STORAGE_SYNC_TEST_FEW_WATCHES";

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_systems_own_limit_a_folder_is_looked_through_and_that_is_reported() {
    if std::env::var_os(INSIDE).is_some() {
        return inside().await;
    }
    let name = "folders::at_the_systems_own_limit_a_folder_is_looked_through_and_that_is_reported";
    // In a user namespace of its own, so that nobody else's limit is touched. The queue's own wake file is watched as well.
    let limit = "echo 2 > /proc/sys/user/max_inotify_watches && exec \"$0\" \"$@\"";
    let mut copy = std::process::Command::new("unshare");
    copy.args(["-r", "sh", "-c", limit]).arg(std::env::current_exe().unwrap());
    copy.args(["--exact", name, "--nocapture"]).env(INSIDE, "1");
    let out = tokio::task::spawn_blocking(move || copy.output().expect("this test needs `unshare` of util-linux"))
        .await
        .unwrap();
    let (said, told) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && said.contains("1 passed"), "needs user namespaces (or root)\n{said}{told}");
}

#[cfg(target_os = "linux")]
async fn inside() {
    let mut bench = Bench::new().await;
    bench.stop().await;
    bench.config["folders"]["scanMs"] = json!(1000);
    bench.start(SystemWatcher).await;
    for folder in 0..5 {
        bench.write(&format!("{folder}/a.txt"), "a");
    }
    bench.watch(options("doc")).await;
    bench.until_the_same().await;
    let watch = bench.until(|watch| watch.state == WatchState::Scanning).await;
    assert!(watch.why.unwrap().contains("fs.inotify.max_user_watches"));
    bench.write("0/a.txt", "edited");
    bench.write("9/b.txt", "b");
    bench.until_the_same().await;
    bench.stop().await;
}

//! Files, of the page and of the disk, are safe once they are in the queue, and arrive whole.

use std::{fs, path::Path};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use storage_sync_backend::{Backend, Rule};

use crate::support::app::{App, Installation};
use crate::support::backend;
use crate::support::desktop::Desktop;
use crate::support::page;
use crate::support::{wait_for, wait_while_it_moves};

/// How large each of the two files is, in bytes.
const SIZE: usize = 50 << 20;

/// Makes a file of the same bytes as `content` in the page, and gives it to the page's file picker as a user would.
const PICK: &str = "
    const [name, seed, size] = arguments
    const words = new Uint32Array(size / 4)
    let word = seed
    for (let at = 0; at < words.length; at++) words[at] = word = Math.imul(word, 1664525) + 1013904223
    const chosen = new DataTransfer()
    chosen.items.add(new File([words], name, { type: 'video/mp4' }))
    const picker = document.querySelector('[data-testid=file-picker]')
    picker.files = chosen.files
    picker.dispatchEvent(new Event('change'))";

fn content(seed: u32, size: usize) -> Vec<u8> {
    let mut word = seed;
    let next = move || {
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        word.to_le_bytes()
    };
    std::iter::repeat_with(next).take(size / 4).flatten().collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn pick(app: &App, name: &str, seed: u32, size: usize) {
    app.run(PICK, vec![json!(name), json!(seed), json!(size)]).await;
}

/// What of the kind `file` waits.
async fn waiting(app: &App) -> Vec<Value> {
    page::undelivered(app).await.into_iter().filter(|entry| entry["kind"] == "file").collect()
}

/// Name and hash of every file that the backend has.
fn arrived(backend: &Backend) -> Vec<(Option<String>, String)> {
    let files = backend.mutations().into_iter().filter(|write| write.collection.ends_with("/files"));
    let mut files: Vec<_> = files.map(|write| (write.name, write.sha256)).collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_file_of_the_page_and_one_of_the_disk_outlive_a_kill_and_arrive_whole() {
    let _desktop = Desktop::take().await;
    let backend = backend::away().await;
    let installation = Installation::new(&backend.url());
    let on_disk = installation.data().join("dev.storage-sync.example/inbox/disk.mp4");
    fs::create_dir_all(on_disk.parent().expect("it is in a folder")).expect("the data folder can be written");
    fs::write(&on_disk, content(2, SIZE)).expect("the data folder can be written");

    let app = installation.start().await;
    let by_path = |path: &str| json!({ "kind": "file", "path": path, "options": { "params": { "listing": "42" } } });
    let path = on_disk.to_str().expect("temporary folders have plain names");
    app.invoke("enqueue_file", by_path(path)).await.expect("the inbox is one of the roots");
    let refused = app.invoke("enqueue_file", by_path("/etc/hostname")).await.expect_err("it is in no root");
    assert_eq!(refused["code"], "path_not_allowed");
    pick(&app, "page.mp4", 1, SIZE).await;
    app.shows_what("file-state", |state| state.starts_with("Saving on this device… ")).await;
    app.show("file-list").await;
    app.picture("files-saving");
    wait_while_it_moves("both files to be saved", async || {
        let (entries, shown) = (waiting(&app).await, app.text("file-list").await);
        (entries.len() == 2).then_some(()).ok_or_else(|| format!("{shown:?}, and the entries are {entries:?}"))
    })
    .await;
    app.shows_what("file-state", |state| state.starts_with("Saved on this device ·")).await;
    app.show("file-list").await;
    app.picture("files-saved");
    app.kill_9();
    // Nothing depends on the original any more.
    fs::remove_file(&on_disk).expect("it is still there");

    // What goes with the creation is taken, and nothing more before the page was seen: on a machine that is slow both would be there by then.
    let gate = backend.hold(Rule::hold().kind("files").method("PATCH"));
    backend.restart().await.expect("the port is free again");
    let app = installation.start().await;
    app.shows_what("file-state", |state| state.contains(" sent")).await;
    app.show("file-list").await;
    app.picture("files-uploading");
    gate.open();
    wait_while_it_moves("both files to arrive", async || {
        let (files, shown) = (arrived(&backend), app.text("file-list").await);
        (files.len() == 2).then_some(()).ok_or_else(|| format!("{shown:?}, and {files:?} arrived"))
    })
    .await;
    assert_eq!(
        arrived(&backend),
        [("disk.mp4", 2), ("page.mp4", 1)].map(|(name, seed)| (Some(name.to_owned()), sha256(&content(seed, SIZE))))
    );
    app.shows("file-state", "Delivered").await;
    app.show("file-list").await;
    app.picture("files-delivered");
    backend::applied_each_once(&backend);
}

#[tokio::test]
async fn an_upload_is_cancelled_and_nothing_of_it_stays() {
    let _desktop = Desktop::take().await;
    let backend = backend::away().await;
    let installation = Installation::new(&backend.url());
    let app = installation.start().await;
    pick(&app, "wrong.mp4", 3, 1 << 20).await;
    app.shows_what("file-state", |state| state.starts_with("Saved on this device ·")).await;
    let spool = installation.data().join("dev.storage-sync.example/storage-sync/spool");
    let spooled = || fs::read_dir(&spool).expect("files are kept there").count();
    assert_eq!(spooled(), 1);
    app.click("file-cancel").await;
    app.click("confirm-yes").await;
    wait_for("the upload to be gone", async || {
        let entries = waiting(&app).await;
        entries.is_empty().then_some(()).ok_or_else(|| format!("the entries are {entries:?}"))
    })
    .await;
    wait_for("its row to be gone", async || match app.text("file-state").await {
        Err(_) => Ok(()),
        Ok(state) => Err(state),
    })
    .await;
    wait_for("its copy to be gone", async || match spooled() {
        0 => Ok(()),
        files => Err(format!("{files} files are kept")),
    })
    .await;
}

/// What the row of that file says.
async fn state_of(app: &App, name: &str) -> String {
    let script = "
        const rows = [...document.querySelectorAll('[data-testid=file-row]')]
        const row = rows.find(row => row.querySelector('[data-testid=file-name]').textContent === arguments[0])
        return row?.querySelector('[data-testid=file-state]').textContent ?? ''";
    app.run(script, vec![json!(name)]).await.as_str().expect("a text").to_owned()
}

async fn press(app: &App, name: &str, button: &str) {
    let script = "
        const rows = [...document.querySelectorAll('[data-testid=file-row]')]
        const row = rows.find(row => row.querySelector('[data-testid=file-name]').textContent === arguments[0])
        row.querySelector(`[data-testid=${arguments[1]}]`).click()";
    app.run(script, vec![json!(name), json!(button)]).await;
}

#[tokio::test]
async fn one_upload_is_paused_while_another_one_arrives_and_goes_on_where_it_was_after_a_restart() {
    let _desktop = Desktop::take().await;
    let backend = backend::there().await;
    let gate = backend.hold(Rule::hold().kind("files").method("PATCH"));
    let installation = Installation::new(&backend.url());
    let app = installation.start().await;
    let becomes = async |app: &App, name: &str, end: &str| {
        wait_while_it_moves(&format!("{name} to be so: {end}"), async || {
            let state = state_of(app, name).await;
            state.ends_with(end).then_some(()).ok_or(state)
        })
        .await;
    };
    pick(&app, "long.mp4", 4, SIZE).await;
    // What goes with the creation is there by the server's word, and nothing more comes to it: it is paused neither before nor after.
    wait_while_it_moves("it to be under way", async || {
        let (entries, state) = (waiting(&app).await, state_of(&app, "long.mp4").await);
        let begun = entries.iter().any(|entry| entry["uploaded"].as_u64().is_some_and(|bytes| bytes > 0));
        begun.then_some(()).ok_or_else(|| format!("{state:?}, and the entries are {entries:?}"))
    })
    .await;
    press(&app, "long.mp4", "file-pause").await;
    becomes(&app, "long.mp4", "· Paused").await;
    gate.open();
    pick(&app, "short.mp4", 5, 1 << 20).await;
    becomes(&app, "short.mp4", "Delivered").await;
    app.show("file-list").await;
    app.picture("files-paused");
    assert_eq!(arrived(&backend), [(Some("short.mp4".to_owned()), sha256(&content(5, 1 << 20)))]);
    let [paused] = &waiting(&app).await[..] else { panic!("one waits") };
    assert_eq!((&paused["paused"], &paused["waitingFor"]["reason"]), (&json!(true), &json!("paused")));
    let uploaded = paused["uploaded"].as_u64().expect("a number");
    assert!(uploaded > 0, "it had begun");
    app.kill_9();

    let app = installation.start().await;
    becomes(&app, "long.mp4", "· Paused").await;
    let [paused] = &waiting(&app).await[..] else { panic!("one waits") };
    assert_eq!(paused["uploaded"], uploaded, "nothing more has left");
    press(&app, "long.mp4", "file-pause").await;
    becomes(&app, "long.mp4", "Delivered").await;
    assert!(arrived(&backend).contains(&(Some("long.mp4".to_owned()), sha256(&content(4, SIZE)))));
    backend::applied_each_once(&backend);
}

/// Drags a file from another program to the window, and lets it go there.
async fn drop_onto(desktop: &Desktop, app: &App, file: &Path) {
    let mut drag = desktop.drag(file).await;
    wait_for("the page to see the drag", async || {
        drag.wiggle();
        let over = app.run("return document.querySelector('[data-over]') !== null", vec![]).await;
        (over == true).then_some(()).ok_or_else(|| "nothing is over it".to_owned())
    })
    .await;
    drag.let_go();
}

#[tokio::test]
async fn a_film_that_is_dropped_is_cancelled_while_it_is_copied_and_nothing_of_it_stays_or_is_sent() {
    let desktop = Desktop::take().await;
    let backend = backend::there().await;
    let installation = Installation::new(&backend.url());
    let elsewhere = tempfile::tempdir().expect("a temporary folder can be made");
    let film = elsewhere.path().join("film.mp4");
    // Takes a while to copy, and no room where it is.
    let file = fs::File::create(&film).expect("a file can be made");
    file.set_len(4 << 30).expect("it is sparse");
    let app = installation.start().await;
    drop_onto(&desktop, &app, &film).await;
    app.shows("file-state", "Saving on this device…").await;
    press(&app, "film.mp4", "file-cancel").await;
    wait_for("its row to be gone", async || match app.text("file-state").await {
        Err(_) => Ok(()),
        Ok(state) => Err(state),
    })
    .await;
    let spool = installation.data().join("dev.storage-sync.example/storage-sync/spool");
    wait_for("its copy to be gone", async || match fs::read_dir(&spool).map_or(0, Iterator::count) {
        0 => Ok(()),
        files => Err(format!("{files} files are kept")),
    })
    .await;
    assert_eq!(waiting(&app).await, [] as [Value; 0]);
    let sent = backend.requests().into_iter().find(|request| request.path.ends_with("/files"));
    assert!(sent.is_none(), "something of it was sent: {sent:?}");
}

#[tokio::test]
async fn a_picture_that_is_dropped_from_another_program_is_shown_and_uploaded_and_no_other_path_is_allowed() {
    let desktop = Desktop::take().await;
    let backend = backend::there().await;
    let installation = Installation::new(&backend.url());
    let elsewhere = tempfile::tempdir().expect("a temporary folder can be made");
    let icon = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tauri-app/src-tauri/icons/icon.png");
    let (dropped, beside) = (elsewhere.path().join("lamp.png"), elsewhere.path().join("beside.png"));
    for file in [&dropped, &beside] {
        fs::copy(&icon, file).expect("it is in the repository");
    }
    let app = installation.start().await;
    let enqueue = async |path: &Path| {
        let path = path.to_str().expect("temporary folders have plain names");
        app.invoke(
            "enqueue_file",
            json!({ "kind": "file", "path": path, "options": { "params": { "listing": "42" } } }),
        )
        .await
    };
    for file in [&dropped, &beside] {
        let refused = enqueue(file).await.expect_err("nobody has dropped it");
        assert_eq!(refused["code"], "path_not_allowed");
    }

    drop_onto(&desktop, &app, &dropped).await;
    app.shows("file-state", "Delivered").await;
    wait_for("the picture to be shown", async || {
        let width = app.run("return document.querySelector('#file-list img')?.naturalWidth ?? null", vec![]).await;
        width.as_u64().filter(|width| *width > 0).map(drop).ok_or_else(|| format!("its width is {width}"))
    })
    .await;
    app.show("file-list").await;
    app.picture("files-dropped");
    let content = fs::read(&icon).expect("it is in the repository");
    assert_eq!(arrived(&backend), [(Some("lamp.png".to_owned()), sha256(&content))]);
    let refused = enqueue(&beside).await.expect_err("that one was not dropped");
    assert_eq!(refused["code"], "path_not_allowed");
}

//! A large file on its way, as the page sees it and as the app's memory does.

use std::{fs, time::Instant};

use serde_json::{Value, json};
use storage_sync_backend::Rule;

use crate::support::app::{App, Installation};
use crate::support::backend;
use crate::support::desktop::Desktop;
use crate::support::page;
use crate::support::{wait_for, wait_while_it_moves};

/// How large the file is, in bytes.
const SIZE: usize = 50 << 20;
/// The largest body that the server takes: the file comes in many chunks.
const DOOR: u64 = 64 << 10;
/// So much may the app's memory grow while such a file goes through it: not all of it is ever held.
const GROWTH: u64 = 32 << 20;

/// Makes a file in the page, and gives it to the page's file picker as a user would.
const PICK: &str = "
    const [name, size] = arguments
    const bytes = new Uint8Array(size)
    for (let at = 0; at < size; at += 4096) bytes[at] = at / 4096
    const chosen = new DataTransfer()
    chosen.items.add(new File([bytes], name, { type: 'video/mp4' }))
    const picker = document.querySelector('[data-testid=file-picker]')
    picker.files = chosen.files
    picker.dispatchEvent(new Event('change'))";

/// Listens to progress beside the page's own listener, through a channel of the same kind, and keeps every message.
const LISTEN: &str = "
    const ipc = window.__TAURI_INTERNALS__
    window.messages = []
    const channel = ipc.transformCallback(({ message }) => { if (message) window.messages.push(message) })
    ipc.invoke('plugin:storage-sync|progress', { channel: `__CHANNEL__:${channel}` })";

async fn number(app: &App, script: &str) -> Option<u64> {
    app.run(script, vec![]).await.as_u64()
}

/// What the bar shows, from 0 to 100.
async fn bar(app: &App) -> Option<u64> {
    number(app, "return Number(document.querySelector('[data-testid=file-bar]')?.ariaValueNow ?? NaN)").await
}

async fn messages(app: &App) -> u64 {
    number(app, "return window.messages.length").await.expect("somebody listens")
}

async fn saved(app: &App) -> Result<(), String> {
    let entries: Vec<Value> = page::undelivered(app).await;
    (entries.iter().any(|entry| entry["kind"] == "file"))
        .then_some(())
        .ok_or_else(|| format!("the entries are {entries:?}"))
}

#[tokio::test]
async fn the_bar_of_an_upload_comes_again_after_a_reload_and_is_told_of_seldom() {
    let _desktop = Desktop::take().await;
    let backend = backend::away().await;
    let app = Installation::new(&backend.url()).start().await;
    app.run(PICK, vec![json!("film.mp4"), json!(SIZE)]).await;
    wait_while_it_moves("the file to be saved", async || {
        let shown = app.text("file-list").await;
        saved(&app).await.map_err(|entries| format!("{shown:?}, and {entries}"))
    })
    .await;
    app.run(LISTEN, vec![]).await;
    let listening = Instant::now();

    backend.misbehave(Rule::too_large(DOOR).kind("files").method("PATCH"));
    backend.restart().await.expect("the port is free again");
    let third = SIZE as u64 / 3;
    wait_while_it_moves("a third of it to arrive", async || {
        let offset = backend.world(|world| world.uploads().map(|upload| upload.offset).max());
        offset.filter(|offset| *offset > third).map(drop).ok_or_else(|| format!("the server has {offset:?}"))
    })
    .await;
    let standstill = backend.hold(Rule::hold().kind("files").method("PATCH"));
    standstill.holds(1).await;
    let before = wait_for("the bar to stand where the upload does", async || match bar(&app).await {
        Some(now) if now >= 33 => Ok(now),
        now => Err(format!("it stands at {now:?}")),
    })
    .await;
    assert!(before < 100, "the upload is under way");
    app.shows_what("file-state", |state| state.contains(" sent")).await;
    let told = messages(&app).await;

    app.reload().await;
    app.run(LISTEN, vec![]).await;
    // First it shows what the server is known to have, then what is on its way too.
    let again = wait_for("the bar to stand again where it stood", async || match bar(&app).await {
        Some(now) if now >= before => Ok(now),
        now => Err(format!("it stood at {before} and stands at {now:?}")),
    })
    .await;
    assert!(again < 100, "nothing went on meanwhile");
    app.shows_what("file-state", |state| state.contains(" sent")).await;
    app.show("file-list").await;
    app.picture("upload-after-reload");

    standstill.open();
    wait_while_it_moves("the file to arrive", async || match (bar(&app).await, app.text("file-state").await) {
        (Some(100), Ok(state)) if state == "Delivered" => Ok(()),
        (bar, state) => Err(format!("{bar:?}, {state:?}")),
    })
    .await;
    let told = told + messages(&app).await;
    let chunks = backend.requests().iter().filter(|request| request.method == "PATCH").count() as u64;
    let seconds = listening.elapsed().as_secs() + 1;
    println!("{told} messages of {chunks} chunks of {SIZE} bytes in {seconds} s");
    assert!(chunks >= SIZE as u64 / DOOR, "it came in many chunks: {chunks}");
    assert!(told > 1, "the page was told of it");
    // So many in a second at most, and one each time that somebody begins to listen or an upload begins or ends.
    let seldom = seconds * 4 + 10;
    assert!(told <= seldom, "the page was told {told} times in {seconds} s");
    // Where it takes that long, this says no more than that.
    assert!(told < chunks / 2 || seldom >= chunks / 2, "the page was told {told} times of {chunks} chunks");
    backend::applied_each_once(&backend);
}

/// A field of `/proc/<pid>/status`, in bytes.
fn memory(app: &App, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", app.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).expect("Linux counts it");
    line.trim().strip_suffix(" kB").expect("it is in kB").trim().parse::<u64>().expect("it is a number") << 10
}

#[tokio::test]
async fn the_apps_memory_grows_by_less_than_a_file_of_the_page_while_that_is_saved() {
    let _desktop = Desktop::take().await;
    let backend = backend::away().await;
    let app = Installation::new(&backend.url()).start().await;
    // What the first file of all brings along is no matter of its size.
    app.run(PICK, vec![json!("small.mp4"), json!(1 << 20)]).await;
    app.shows_what("file-state", |state| state.starts_with("Saved on this device ·")).await;

    // From here on the peak is counted anew.
    fs::write(format!("/proc/{}/clear_refs", app.pid()), "5").expect("a process of ours");
    let before = memory(&app, "VmRSS");
    app.run(PICK, vec![json!("film.mp4"), json!(SIZE)]).await;
    wait_while_it_moves("the file to be saved", async || {
        let (shown, entries) = (app.text("file-list").await, page::undelivered(&app).await);
        let saved = entries.iter().filter(|entry| entry["kind"] == "file").count();
        (saved == 2).then_some(()).ok_or_else(|| format!("{shown:?}"))
    })
    .await;
    let grown = memory(&app, "VmHWM").saturating_sub(before);
    println!("the app's memory grew by {} KiB at most while {} KiB went through it", grown >> 10, SIZE >> 10);
    assert!(grown < GROWTH, "it grew by {grown} bytes while {SIZE} went through it");
}

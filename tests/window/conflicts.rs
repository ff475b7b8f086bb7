//! A listing that was changed on another device meanwhile, and a photo whose listing the server does not know yet.

use std::path::Path;

use serde_json::{Value, json};
use storage_sync_backend::{Backend, Options, Revisions};

use crate::support::app::{App, Installation};
use crate::support::backend;
use crate::support::desktop::Desktop;
use crate::support::page;
use crate::support::wait_for;

/// What the one listing on the server says.
async fn holds(backend: &Backend, title: &str) {
    backend::holds(backend, page::LISTINGS, |it| {
        let content: Value = serde_json::from_slice(&it.body).expect("it is JSON");
        content["title"] == title
    })
    .await;
}

/// Another device edits, then somebody types here: both versions are shown.
async fn met(app: &App, backend: &Backend, typed: &str) {
    app.click(page::EDIT_ELSEWHERE).await;
    // Not the message of it, which goes away by itself.
    backend::holds(backend, page::LISTINGS, |it| String::from_utf8_lossy(&it.body).contains("on the phone")).await;
    // Nothing leaves before all of it is in the queue: where keys come slowly a part of it is saved first.
    app.invoke("pause", json!({})).await.expect("pause is allowed");
    app.type_into(page::TITLE, typed).await;
    wait_for("all that was typed to be in the queue", async || {
        let field = format!("return document.querySelector('[data-testid={}]').value", page::TITLE);
        let (title, entries) = (app.run(&field, vec![]).await, page::undelivered(app).await);
        let [entry] = &entries[..] else { return Err(format!("the entries are {entries:?}")) };
        let saved = app.invoke("payload", json!({ "id": entry["id"] })).await.expect("payload is allowed");
        (saved["json"]["title"] == title).then_some(()).ok_or_else(|| format!("{title} was typed, and it is {saved}"))
    })
    .await;
    app.shows_what(page::SAVED, |said| said.starts_with("Saved on this device")).await;
    app.invoke("resume", json!({})).await.expect("resume is allowed");
    app.shows_what(page::KEEP_MINE, |label| label == "Keep mine").await;
}

#[tokio::test]
async fn a_listing_that_was_changed_on_two_devices_is_decided_side_by_side() {
    let _desktop = Desktop::take().await;
    let options = Options { revisions: Revisions::Compare, ..Options::default() };
    let backend = Backend::start(options).await.expect("the backend listens on a free port");
    let app = Installation::new(&backend.url()).start().await;
    page::type_draft_into(&app, "Lamp").await;
    app.shows(page::SAVED, "Saved on this device and on the server").await;

    met(&app, &backend, " of brass").await;
    app.shows("conflict-mine-title", "Lamp of brass").await;
    app.shows("conflict-theirs-title", "Lamp").await;
    app.shows_what("conflict-theirs-description", |text| text.contains("on the phone")).await;
    app.picture("conflict");
    app.click(page::KEEP_MINE).await;
    app.shows(page::SAVED, "Saved on this device and on the server").await;
    holds(&backend, "Lamp of brass").await;

    met(&app, &backend, ", rewired").await;
    app.shows("conflict-mine-title", "Lamp of brass, rewired").await;
    app.click("conflict-later").await;
    app.shows_what(page::WHY, |why| why.contains("decide which version stands")).await;
    app.click("row-decide").await;
    app.shows("conflict-theirs-title", "Lamp of brass").await;
    app.click("conflict-take-theirs").await;
    app.shows(page::SAVED, "As it is on the server").await;
    app.shows(page::FAILED, "0").await;
    holds(&backend, "Lamp of brass").await;
    backend::applied_each_once(&backend);
}

#[tokio::test]
async fn a_photo_waits_for_the_id_of_its_listing_and_goes_below_it() {
    let _desktop = Desktop::take().await;
    let backend = backend::away().await;
    let app = Installation::new(&backend.url()).start().await;
    page::type_draft(&app, "House with a view").await;
    let photo = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tauri-app/src-tauri/icons/icon.png");
    app.type_into("photo-file", photo.to_str().expect("the path is text")).await;
    app.shows_what(page::WHY, |why| why == "Waits until the server has given its listing an id").await;
    app.picture("photo-waits");

    backend.restart().await.expect("the port is free again");
    app.shows(page::ACKED, "2").await;
    let listing = backend.world(|world| world.resources(page::LISTINGS).next().expect("it is there").id.clone());
    let bytes = std::fs::read(&photo).expect("the icon is there");
    backend::holds(&backend, &format!("listings/{listing}/photos"), |it| it.body.as_ref() == bytes).await;
    backend::applied_each_once(&backend);
}

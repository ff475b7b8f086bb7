//! A draft is safe once it is in the queue, whatever happens to the app, and reaches the server once.

use serde_json::{Value, json};

use crate::support::app::{App, Installation};
use crate::support::backend;
use crate::support::desktop::Desktop;
use crate::support::page;
use crate::support::processes;

#[tokio::test]
async fn a_draft_typed_offline_outlives_a_kill_and_is_delivered_exactly_once() {
    let _desktop = Desktop::take().await;
    let backend = backend::away().await;
    let installation = Installation::new(&backend.url());

    let app = installation.start().await;
    page::type_draft(&app, "House by the sea").await;
    page::waits_for(&app, "offline", |_| true).await;
    app.shows_what(page::WHY, |why| why == format!("Cannot reach {}", backend.url())).await;
    app.picture("draft-pending");
    app.kill_9();

    backend.restart().await.expect("the port is free again");
    let app = installation.start().await;
    app.shows(page::ACKED, "1").await;
    app.shows(page::PENDING, "0").await;
    app.picture("draft-acked");

    backend::holds(&backend, page::LISTINGS, |it| contains(&it.body, "House by the sea")).await;
    backend::applied_each_once(&backend);
    assert_eq!(backend.world(|world| world.applied()), 1, "the drafts on the way to this one were never sent");
}

#[tokio::test]
async fn a_restart_shows_the_queue_as_it_was() {
    let _desktop = Desktop::take().await;
    let backend = backend::away().await;
    let installation = Installation::new(&backend.url());

    let app = installation.start().await;
    page::type_draft(&app, "House in the woods").await;
    let by_hand = json!({ "kind": page::DRAFT, "payload": { "title": "second" }, "options": { "key": "second" } });
    app.invoke("enqueue", by_hand).await.expect("enqueue is allowed");
    app.shows(page::PENDING, "2").await;
    let before = lasting(&app).await;
    app.kill_9();

    let app = installation.start().await;
    app.shows(page::PENDING, "2").await;
    app.picture("restarted");
    assert_eq!(lasting(&app).await, before);
}

#[tokio::test]
async fn delivery_goes_on_when_the_last_window_is_closed() {
    let desktop = Desktop::take().await;
    let backend = backend::away().await;
    let installation = Installation::new(&backend.url()).keeps_alive();
    let app = installation.start().await;
    page::type_draft(&app, "House without windows").await;
    page::waits_for(&app, "offline", |_| true).await;

    desktop.close(app.pid()).await;
    assert!(processes::alive(app.pid()), "the app ended with its window");
    backend.restart().await.expect("the port is free again");

    backend::holds(&backend, page::LISTINGS, |it| contains(&it.body, "House without windows")).await;
    backend::applied_each_once(&backend);
    assert!(desktop.windows(app.pid()).is_empty(), "no window came back for it");
}

/// The queue, without what an attempt that is under way just now changes. No attempt at an origin that is away counts.
async fn lasting(app: &App) -> Vec<Value> {
    let fields = ["id", "kind", "key", "queue", "attempts", "bytes", "createdAt"];
    let pick = |entry: Value| fields.iter().map(|field| entry[*field].clone()).collect();
    page::undelivered(app).await.into_iter().map(pick).collect()
}

fn contains(body: &[u8], text: &str) -> bool {
    String::from_utf8_lossy(body).contains(text)
}

//! What makes a waiting delivery happen now.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use storage_sync_backend::{Backend, Rule};

use crate::support::app::{App, Installation};
use crate::support::backend;
use crate::support::desktop::Desktop;
use crate::support::page;

/// A wait so long that a delivery before its end has another cause.
const LONG: Duration = Duration::from_secs(10);

#[tokio::test]
async fn the_window_gets_the_focus_and_a_delivery_in_backoff_happens_at_once() {
    let desktop = Desktop::take().await;
    let backend = backend::there().await;
    let app = Installation::new(&backend.url()).start().await;
    let window = desktop.window(app.pid()).await;
    let other = desktop.distraction().await;
    desktop.activate(&other.window).await;

    let due = in_long_backoff(&app, &backend, "House with a view").await;
    desktop.activate(&window).await;

    app.shows(page::ACKED, "1").await;
    assert!(delivered_at(&app).await < due, "it was delivered by the end of its backoff, not by the focus");
    backend::applied_each_once(&backend);
}

#[tokio::test]
async fn flush_delivers_what_waits_in_backoff_and_says_so() {
    let _desktop = Desktop::take().await;
    let backend = backend::there().await;
    let app = Installation::new(&backend.url()).start().await;

    let due = in_long_backoff(&app, &backend, "House to let").await;
    let flushed = app.invoke("flush", json!({ "timeoutMs": 30_000 })).await.expect("flush is allowed");

    assert_eq!(flushed, json!({ "acked": 1, "failed": 0, "waiting": 0 }));
    assert!(delivered_at(&app).await < due, "it was delivered by the end of its backoff, not by the flush");
    app.shows(page::ACKED, "1").await;
    backend::applied_each_once(&backend);
}

#[tokio::test]
async fn the_flush_button_delivers_what_waits_in_backoff() {
    let _desktop = Desktop::take().await;
    let backend = backend::there().await;
    let app = Installation::new(&backend.url()).start().await;

    let due = in_long_backoff(&app, &backend, "House for sale").await;
    app.click(page::FLUSH).await;

    app.shows(page::ACKED, "1").await;
    assert!(delivered_at(&app).await < due, "it was delivered by the end of its backoff, not by the button");
}

/// A draft that the backend answered with 500 so often that its next attempt is far away. The backend is well again, and
/// only waiting is in the way. Answers when the wait ends, in milliseconds since the Unix epoch.
async fn in_long_backoff(app: &App, backend: &Backend, title: &str) -> i64 {
    let rule = backend.misbehave(Rule::status(500));
    page::enqueue_draft(app, title).await;
    let least = i64::try_from(LONG.as_millis()).expect("seconds fit");
    let far = |entry: &serde_json::Value| entry["waitingFor"]["until"].as_i64().is_some_and(|at| at > now() + least);
    let entry = page::waits_for(app, "backoff", far).await;
    backend.clear(rule);
    entry["waitingFor"]["until"].as_i64().expect("it was just compared")
}

/// When the one draft was delivered, in milliseconds since the Unix epoch: to hear of it takes a while on a machine that is slow.
async fn delivered_at(app: &App) -> i64 {
    let query = json!({ "query": { "state": ["acked"] } });
    let entries = app.invoke("list", query).await.expect("list is allowed");
    entries[0]["updatedAt"].as_i64().unwrap_or_else(|| panic!("none is delivered: {entries}"))
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    i64::try_from(since.as_millis()).expect("and before the year 292 million")
}

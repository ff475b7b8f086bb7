//! The commands without the npm package: `invoke` is public.

use serde_json::json;

use crate::support::app::Installation;
use crate::support::backend;
use crate::support::desktop::Desktop;
use crate::support::page;

#[tokio::test]
async fn a_value_enqueued_by_hand_is_delivered() {
    let _desktop = Desktop::take().await;
    let backend = backend::there().await;
    let app = Installation::new(&backend.url()).start().await;

    let arguments = json!({ "kind": page::DRAFT, "payload": { "title": "by hand" }, "options": { "key": "by-hand" } });
    let receipt = app.invoke("enqueue", arguments).await.expect("enqueue is allowed");
    assert_eq!(receipt["kind"], page::DRAFT);
    assert_eq!(receipt["key"], "by-hand");

    let wait = json!({ "id": receipt["id"], "timeoutMs": 30_000 });
    let entry = app.invoke("delivered", wait).await.expect("it is delivered");
    assert_eq!(entry["state"], "acked");
    backend::holds(&backend, page::LISTINGS, |it| it.body.as_ref() == br#"{"title":"by hand"}"#).await;
    backend::applied_each_once(&backend);
}

#[tokio::test]
async fn bytes_enqueued_by_hand_arrive_as_they_were() {
    let _desktop = Desktop::take().await;
    let backend = backend::there().await;
    let app = Installation::new(&backend.url()).start().await;
    let every_byte: Vec<u8> = (0..=255).collect();

    let headers = json!({
        "x-kind": page::BYTES,
        // Percent-encoded `{"params":{"listing":"42"}}`.
        "x-options": "%7B%22params%22%3A%7B%22listing%22%3A%2242%22%7D%7D",
        "x-content-type": "application/octet-stream",
    });
    let receipt = app.invoke_bytes("enqueue", &every_byte, headers).await.expect("enqueue is allowed");

    let wait = json!({ "id": receipt["id"], "timeoutMs": 30_000 });
    app.invoke("delivered", wait).await.expect("it is delivered");
    backend::holds(&backend, "listings/42/photos", |it| it.body.as_ref() == every_byte).await;
    backend::applied_each_once(&backend);
}

#[tokio::test]
async fn an_unknown_kind_is_refused_by_name_and_nothing_is_queued() {
    let _desktop = Desktop::take().await;
    let backend = backend::there().await;
    let app = Installation::new(&backend.url()).start().await;

    let arguments = json!({ "kind": "nonsense", "payload": 1 });
    let refusal = app.invoke("enqueue", arguments).await.expect_err("there is no such kind");

    assert_eq!(refusal["code"], "unknown_kind");
    let message = refusal["message"].as_str().expect("a message");
    assert!(message.contains("nonsense") && message.contains(page::DRAFT), "it names neither: {message}");
    assert_eq!(page::undelivered(&app).await, Vec::<serde_json::Value>::new());
}

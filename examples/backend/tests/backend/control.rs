//! The switches over HTTP.

use std::io::ErrorKind;

use serde_json::{Value, json};
use storage_sync_backend::{Backend, Fault, Options, Rule};

use crate::client::{ask, backend};

#[tokio::test]
async fn rules_are_set_added_listed_and_ended_over_http() {
    let backend = backend().await;
    let rules = json!({ "rules": [{ "fault": { "type": "status", "status": 503, "retryAfter": { "seconds": 4 } }, "scope": { "kind": "forms" }, "times": 2 }] });
    let state = ask("PUT /__control").json(&rules).to(&backend).await.json();
    assert_eq!((&state["rules"][0]["left"], &state["idempotency"]), (&json!(2), &json!(true)));
    assert_eq!(ask("PUT /forms/1").to(&backend).await.header("retry-after"), Some("4"));
    let id =
        ask("POST /__control/rules").json(&json!({ "fault": { "type": "portal" } })).to(&backend).await.json()["id"]
            .clone();
    assert_eq!(ask("PUT /other/1").to(&backend).await.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(ask(&format!("DELETE /__control/rules/{id}")).to(&backend).await.status, 204);
    assert_eq!(ask(&format!("DELETE /__control/rules/{id}")).to(&backend).await.status, 404);
    let state = ask("GET /__control").to(&backend).await.json();
    assert_eq!(state["rules"].as_array().unwrap().len(), 1);
    assert_eq!((&state["rules"][0]["hits"], &state["received"]), (&json!(1), &json!(2)));
    assert_eq!(ask("POST /__control/clear?log=true").to(&backend).await.status, 204);
    assert_eq!(ask("PUT /forms/1").to(&backend).await.status, 200);
    assert_eq!(backend.requests().len(), 1);
}

#[tokio::test]
async fn every_fault_can_be_written_as_json() {
    let backend = backend().await;
    for rule in [
        Rule::down(),
        Rule::drop_after().key("1"),
        Rule::slow(std::time::Duration::from_secs(1)).marker("m"),
        Rule::hold().times(1),
        Rule::duplicate(),
        Rule::duplicate_late().times(1),
        Rule::status(429).retry_after_date(5, -3).header("RateLimit", "x").body("{}").method("PUT"),
        Rule::portal(),
        Rule::redirect("https://a.example"),
        Rule::endless(),
        Rule::truncated(),
        Rule::without_id(),
        Rule::answer_header("RateLimit", "x"),
    ] {
        let body = serde_json::to_value(&rule).unwrap();
        assert_eq!(serde_json::from_value::<Rule>(body.clone()).unwrap(), rule, "{body}");
        assert_eq!(ask("POST /__control/rules").json(&body).to(&backend).await.status, 201, "{body}");
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_400_and_changes_nothing() {
    let backend = backend().await;
    let rule = backend.misbehave(Fault::Portal);
    for wrong in [
        json!({ "rules": [{ "fault": { "type": "nonsense" } }] }),
        json!({ "rules": [{ "fault": { "type": "status", "status": 99 } }] }),
        json!({ "rules": [{ "fault": { "type": "status", "status": 503, "headers": { "a b": "" } } }] }),
        json!({ "rules": [{ "fault": { "type": "redirect", "to": "a\nb" } }] }),
        json!({ "rules": [{ "fault": { "type": "portal" }, "times": 0 }] }),
        json!({ "rules": [{ "fault": { "type": "portal" }, "scope": { "kinds": "typo" } }] }),
        json!({ "rules": [{ "fault": { "type": "slow", "ms": 1, "typo": 1 } }] }),
        json!({ "typo": true }),
    ] {
        let reply = ask("PUT /__control").json(&wrong).to(&backend).await;
        assert!(matches!(reply.status, 400..=499) && reply.json()["message"].is_string(), "{wrong}");
    }
    assert!(backend.clear(rule));
}

#[tokio::test]
async fn settings_are_changed_over_http() {
    let backend = backend().await;
    let set = |value: Value| ask("PUT /__control").json(&value);
    set(json!({ "tokens": { "t": "ann" }, "revisions": "compare", "idempotency": false })).to(&backend).await;
    assert_eq!(ask("PUT /forms/1").to(&backend).await.status, 401);
    let state = set(json!({ "rules": [] })).to(&backend).await.json();
    assert_eq!(state["authorization"], true, "what is absent stays");
    let state = set(json!({ "tokens": null })).to(&backend).await.json();
    assert_eq!(
        (&state["authorization"], &state["revisions"], &state["idempotency"]),
        (&json!(false), &json!("compare"), &json!(false))
    );
}

#[tokio::test]
async fn the_log_shows_the_newest_first_and_no_credentials() {
    let backend = backend().await;
    for n in 0..3 {
        ask(&format!("PUT /forms/{n}"))
            .key(&n.to_string())
            .header("Authorization", "Bearer s3cret")
            .header("X-User", "ann")
            .to(&backend)
            .await;
    }
    let log = ask("GET /__control/log?limit=2").to(&backend).await;
    assert!(!log.body.contains("s3cret"));
    let log = log.json();
    assert_eq!(log.as_array().unwrap().len(), 2);
    assert_eq!(
        (&log[0]["idempotencyKey"], &log[0]["applied"], &log[0]["ending"]),
        (&json!("2"), &json!(true), &json!({ "answered": 200 }))
    );
}

#[tokio::test]
async fn a_held_request_is_released_over_http() {
    let backend = backend().await;
    let gate = backend.hold(Rule::hold());
    let held = ask("PUT /forms/1").later(&backend);
    gate.holds(1).await;
    let release = format!("POST /__control/rules/{}/release", gate.rule());
    assert_eq!(ask(&release).to(&backend).await.status, 204);
    assert_eq!(held.await.unwrap().unwrap().status, 200);
}

#[tokio::test]
async fn a_panel_in_a_webview_may_use_them() {
    let backend = backend().await;
    let preflight = ask("OPTIONS /__control")
        .header("Origin", "tauri://localhost")
        .header("Access-Control-Request-Method", "PUT")
        .header("Access-Control-Request-Headers", "content-type");
    let reply = preflight.to(&backend).await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, Some("*")));
    assert_eq!(
        (reply.header("access-control-allow-methods"), reply.header("access-control-allow-headers")),
        (Some("*"), Some("*"))
    );
}

#[tokio::test]
async fn a_control_port_stops_and_starts_the_main_one() {
    let backend = Backend::start(Options { control_port: Some(0), ..Options::default() }).await.unwrap();
    let port = backend.control_url().unwrap().rsplit(':').next().unwrap().parse().unwrap();
    assert_eq!(ask("POST /__control/stop").to(&backend).await.status, 405, "not on the main port");
    assert_eq!(ask("POST /__control/stop").send(port).await.unwrap().status, 204);
    assert_eq!(ask("GET /forms").fails(&backend).await, ErrorKind::ConnectionRefused);
    assert_eq!(ask("GET /__control").send(port).await.unwrap().status, 200);
    assert_eq!(ask("POST /__control/start").send(port).await.unwrap().status, 204);
    assert_eq!(ask("GET /forms").to(&backend).await.status, 200);
    assert_eq!(ask("GET /forms").send(port).await.unwrap().status, 404, "nothing else is there");
}

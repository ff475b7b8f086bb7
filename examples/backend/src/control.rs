//! The same switches over HTTP, for the example app's panel and for `curl`. Open to every origin.
//!
//! | request | meaning |
//! | --- | --- |
//! | `GET /__control` | rules in force (`left`: how many requests more, `hits`, `held`), settings, counts |
//! | `PUT /__control` | a JSON object; each member that is there replaces a setting: `rules` (a list), `idempotency` (bool), `revisions` (`"ignore"`, `"compare"`, `"unaware"`), `named` (a list of kinds), `strict` (bool), `tokens` (token → user, or null) |
//! | `POST /__control/rules` | adds one rule; 201 `{ "id": n }` |
//! | `DELETE /__control/rules/{id}` | ends it |
//! | `POST /__control/rules/{id}/release` | lets one held request through |
//! | `GET /__control/log?limit=100` | the last requests, newest first, without bodies and credentials |
//! | `POST /__control/edit` | writes as another device, see [`Edit`]: `{ "path", "content", "merge", "revision", "device", "syncKey", "delete" }`, all but the path may be left out; answers `{ "id", "revision", "device", "idempotencyKey" }` |
//! | `POST /__control/snapshot` | remembers the state; 201 `{ "id": n }` |
//! | `POST /__control/snapshot/{id}/restore` | goes back to it |
//! | `POST /__control/expire-keys` | forgets the idempotency keys of finished requests |
//! | `POST /__control/expire-uploads`, `/__control/lose-uploads` | ends the time of unfinished tus uploads (410), or forgets them (404) |
//! | `POST /__control/clear` | ends all rules; with `?log=true` forgets the requests too |
//! | `POST /__control/stop`, `/__control/start` | refuses connections, listens again; on [`Options::control_port`](crate::Options::control_port) only |
//!
//! A rule is `{ "fault": { "type": … }, "scope": { "kind", "key", "marker", "method" }, "times": n, "applied": bool }`; all but the fault
//! may be left out. The faults are those of [`Fault`](crate::Fault): `down`, `drop`, `slow` (`ms`), `hold`, `duplicate` (`late`), `cut` (`bytes`),
//! `tooLarge` (`bytes`), `loseUpload`, `staleOffset`,
//! `status` (`status`, `headers`,
//! `retryAfter`: `{ "seconds": n }` or `{ "date": { "in": n, "skew": n } }`, `body`), `portal`, `redirect` (`to`, `status`), `endless`,
//! `truncated`, `withoutId`, `headers` (`headers`). No fault shows on these routes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Weak,
};

use axum::{
    Json, Router,
    extract::{Path, Query, State, rejection::JsonRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use tower_http::cors::{Any, CorsLayer};

use crate::{
    backend::{Backend, Inner},
    edit::Edit,
    fault::Rule,
    options::Revisions,
    rules::Active,
    uploads::Upload,
    world::{Seen, World},
};

/// Weak: the routes belong to what they steer.
type Handle = State<Weak<Inner>>;
type Outcome = Result<Response, Failure>;

/// The routes on the main port.
pub(crate) fn beside(backend: Weak<Inner>) -> Router {
    finish(routes(), backend)
}

/// The routes on a port of their own.
pub(crate) fn apart(backend: Weak<Inner>) -> Router {
    finish(routes().route("/__control/stop", post(stop)).route("/__control/start", post(start)), backend)
}

fn routes() -> Router<Weak<Inner>> {
    Router::new()
        .route("/__control", get(show).put(set))
        .route("/__control/rules", post(add))
        .route("/__control/rules/{id}", delete(remove))
        .route("/__control/rules/{id}/release", post(release))
        .route("/__control/log", get(log))
        .route("/__control/edit", post(edit))
        .route("/__control/snapshot", post(snapshot))
        .route("/__control/snapshot/{id}/restore", post(restore))
        .route("/__control/expire-keys", post(expire_keys))
        .route("/__control/expire-uploads", post(expire_uploads))
        .route("/__control/lose-uploads", post(lose_uploads))
        .route("/__control/clear", post(clear))
}

fn finish(routes: Router<Weak<Inner>>, backend: Weak<Inner>) -> Router {
    let open = CorsLayer::new().allow_origin(Any).allow_methods(Any).allow_headers(Any).allow_private_network(true);
    routes.layer(open).with_state(backend)
}

/// Why a request was not carried out.
enum Failure {
    /// What came makes no sense.
    Bad(String),
    /// There is no such rule or snapshot.
    Unknown(&'static str),
    /// The backend is going away, or cannot listen.
    Gone(String),
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, message) = match self {
            Self::Bad(message) => (StatusCode::BAD_REQUEST, message),
            Self::Unknown(what) => (StatusCode::NOT_FOUND, format!("there is no such {what}")),
            Self::Gone(message) => (StatusCode::SERVICE_UNAVAILABLE, message),
        };
        (status, Json(json!({ "message": message }))).into_response()
    }
}

impl From<JsonRejection> for Failure {
    fn from(rejection: JsonRejection) -> Self {
        Self::Bad(rejection.body_text())
    }
}

fn backend(handle: &Handle) -> Result<Backend, Failure> {
    let inner = handle.upgrade().ok_or_else(|| Failure::Gone("the backend is going away".to_owned()))?;
    Ok(Backend { inner })
}

async fn show(handle: Handle) -> Outcome {
    let backend = backend(&handle)?;
    let mut state = backend.world(state);
    state["url"] = backend.url().into();
    Ok(Json(state).into_response())
}

fn state(world: &World) -> Value {
    json!({
        "rules": world.rules.list().iter().map(rule).collect::<Vec<_>>(),
        "idempotency": world.idempotent,
        "revisions": world.revisions,
        "named": world.named,
        "strict": world.strict,
        "authorization": world.tokens.is_some(),
        "received": world.received(),
        "applied": world.applied(),
        "replayed": world.replayed(),
        "resets": world.resets(),
        "uploads": world.uploads().map(upload).collect::<Vec<_>>(),
        "connections": { "open": world.open_connections(), "total": world.connections() },
    })
}

fn upload(upload: &Upload) -> Value {
    json!({ "id": upload.id, "collection": upload.collection, "offset": upload.offset, "length": upload.length })
}

fn rule(active: &Active) -> Value {
    let mut value = json!(active.rule);
    value["id"] = active.id.into();
    value["left"] = active.left().into();
    value["hits"] = active.hits.into();
    value["held"] = active.held.into();
    value
}

/// What `PUT` may set.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    rules: Option<Vec<Rule>>,
    idempotency: Option<bool>,
    revisions: Option<Revisions>,
    named: Option<BTreeSet<String>>,
    strict: Option<bool>,
    /// Absent: unchanged; null: everybody.
    #[serde(default, deserialize_with = "present")]
    tokens: Option<Option<BTreeMap<String, String>>>,
}

/// Tells a null from an absence.
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<BTreeMap<String, String>>>, D::Error> {
    Deserialize::deserialize(value).map(Some)
}

async fn set(handle: Handle, settings: Result<Json<Settings>, JsonRejection>) -> Outcome {
    let Json(settings) = settings?;
    settings.rules.iter().flatten().try_for_each(Rule::check).map_err(Failure::Bad)?;
    backend(&handle)?.inner.shared.write(|world| {
        if let Some(rules) = settings.rules {
            world.rules.clear_all();
            for rule in rules {
                world.rules.add(rule);
            }
        }
        world.idempotent = settings.idempotency.unwrap_or(world.idempotent);
        world.revisions = settings.revisions.unwrap_or(world.revisions);
        world.strict = settings.strict.unwrap_or(world.strict);
        if let Some(named) = settings.named {
            world.named = named;
        }
        if let Some(tokens) = settings.tokens {
            world.tokens = tokens;
        }
    });
    show(handle).await
}

async fn add(handle: Handle, rule: Result<Json<Rule>, JsonRejection>) -> Outcome {
    let Json(rule) = rule?;
    rule.check().map_err(Failure::Bad)?;
    let id = backend(&handle)?.misbehave(rule);
    Ok((StatusCode::CREATED, Json(json!({ "id": id }))).into_response())
}

async fn remove(handle: Handle, Path(id): Path<u64>) -> Outcome {
    if backend(&handle)?.clear(id) { Ok(StatusCode::NO_CONTENT.into_response()) } else { Err(Failure::Unknown("rule")) }
}

async fn release(handle: Handle, Path(id): Path<u64>) -> Outcome {
    let known = backend(&handle)?.inner.shared.write(|world| world.rules.release(id, 1));
    if known { Ok(StatusCode::NO_CONTENT.into_response()) } else { Err(Failure::Unknown("rule")) }
}

async fn edit(handle: Handle, edit: Result<Json<Edit>, JsonRejection>) -> Outcome {
    let Json(edit) = edit?;
    let done = backend(&handle)?.try_edit(&edit).map_err(Failure::Bad)?;
    let body = json!({
        "id": done.id,
        "revision": done.revision,
        "device": done.device,
        "idempotencyKey": done.idempotency_key,
    });
    Ok(Json(body).into_response())
}

async fn snapshot(handle: Handle) -> Outcome {
    let id = backend(&handle)?.try_snapshot().map_err(|error| Failure::Gone(error.to_string()))?;
    Ok((StatusCode::CREATED, Json(json!({ "id": id }))).into_response())
}

async fn restore(handle: Handle, Path(id): Path<u64>) -> Outcome {
    match backend(&handle)?.try_roll_back(id) {
        Ok(true) => Ok(StatusCode::NO_CONTENT.into_response()),
        Ok(false) => Err(Failure::Unknown("snapshot")),
        Err(error) => Err(Failure::Gone(error.to_string())),
    }
}

async fn expire_keys(handle: Handle) -> Outcome {
    backend(&handle)?.expire_keys();
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn expire_uploads(handle: Handle) -> Outcome {
    backend(&handle)?.expire_uploads();
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn lose_uploads(handle: Handle) -> Outcome {
    backend(&handle)?.lose_uploads();
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What part of the log is wanted.
#[derive(Deserialize)]
struct Part {
    limit: Option<usize>,
}

async fn log(handle: Handle, Query(part): Query<Part>) -> Outcome {
    let entries: Vec<Value> =
        backend(&handle)?.world(|world| world.requests().rev().take(part.limit.unwrap_or(100)).map(entry).collect());
    Ok(Json(entries).into_response())
}

fn entry(seen: &Seen) -> Value {
    json!({
        "number": seen.number,
        "connection": seen.connection,
        "method": seen.method,
        "path": seen.path,
        "kind": seen.kind,
        "key": seen.key,
        "user": seen.user,
        "idempotencyKey": seen.idempotency_key,
        "syncKey": seen.header("sync-key"),
        "syncRevision": seen.header("sync-revision"),
        "syncDevice": seen.header("sync-device"),
        "bytes": seen.bytes,
        "sha256": seen.sha256,
        "applied": seen.applied,
        "replayed": seen.replayed,
        "faults": seen.faults,
        "ending": seen.ending,
    })
}

/// What else is to be cleared.
#[derive(Deserialize)]
struct Also {
    #[serde(default)]
    log: bool,
}

async fn clear(handle: Handle, Query(also): Query<Also>) -> Outcome {
    let backend = backend(&handle)?;
    backend.behave();
    if also.log {
        backend.forget_requests();
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn stop(handle: Handle) -> Outcome {
    backend(&handle)?.stop().await;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn start(handle: Handle) -> Outcome {
    backend(&handle)?.restart().await.map_err(|error| Failure::Gone(error.to_string()))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

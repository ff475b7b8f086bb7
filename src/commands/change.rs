//! `edit` and `resolve`: another payload for an entry that is there, in both forms of `enqueue`, or a decision about it.

use serde_json::Value;
use tauri::{
    Runtime, State, Webview,
    http::HeaderMap,
    ipc::{CommandScope, InvokeBody, Request},
};
use uuid::Uuid;

use super::{
    body,
    limit::WindowLimits,
    scope::{self, KindScope},
};
use crate::{
    error::{Error, Result},
    handle::StorageSync,
    outbox::{Payload, Resolution},
};

/// The header that says that the body is the payload.
const ID: &str = "x-id";

#[tauri::command]
pub(crate) async fn edit<R: Runtime>(
    webview: Webview<R>,
    limits: State<'_, WindowLimits>,
    sync: State<'_, StorageSync>,
    request: Request<'_>,
    scope: CommandScope<KindScope>,
) -> Result<()> {
    let (id, payload) = replacement(request.body(), request.headers(), &["id", "payload"])?;
    scope::check_change(&webview, &scope, &sync, id).await?;
    limits.take(webview.label(), 1, payload.as_bytes().len())?;
    sync.edit(id, payload).await
}

#[tauri::command]
pub(crate) async fn resolve<R: Runtime>(
    webview: Webview<R>,
    limits: State<'_, WindowLimits>,
    sync: State<'_, StorageSync>,
    request: Request<'_>,
    scope: CommandScope<KindScope>,
) -> Result<()> {
    let (id, resolution) = decision(request.body(), request.headers())?;
    scope::check_change(&webview, &scope, &sync, id).await?;
    if let Resolution::Payload(payload) = &resolution {
        limits.take(webview.label(), 1, payload.as_bytes().len())?;
    }
    sync.resolve(id, resolution).await
}

/// An entry and what it is to carry.
pub(super) fn replacement(body: &InvokeBody, headers: &HeaderMap, known: &[&str]) -> Result<(Uuid, Payload)> {
    match (body::bytes(body, headers, ID)?, body) {
        (None, InvokeBody::Json(arguments)) => {
            body::only(arguments, known)?;
            Ok((id(arguments.get("id").and_then(Value::as_str))?, body::json(arguments)?))
        }
        (bytes, _) => {
            let named = body::decoded(headers, ID)?;
            Ok((id(named.as_deref())?, body::payload(bytes.unwrap_or_default(), headers)?))
        }
    }
}

/// An entry and what is decided of it: `choice`, or a payload.
pub(super) fn decision(body: &InvokeBody, headers: &HeaderMap) -> Result<(Uuid, Resolution)> {
    let chosen = match body {
        InvokeBody::Json(arguments) if !headers.contains_key(ID) => {
            arguments.get("choice").map(|choice| (arguments, choice))
        }
        _ => None,
    };
    let Some((arguments, choice)) = chosen else {
        let (id, payload) = replacement(body, headers, &["id", "choice", "payload"])?;
        return Ok((id, Resolution::Payload(payload)));
    };
    body::only(arguments, &["id", "choice"])?;
    let resolution = match choice.as_str() {
        Some("mine") => Resolution::Mine,
        Some("theirs") => Resolution::Theirs,
        _ => return Err(Error::argument("`choice`: say `mine` or `theirs`, or give a `payload` in its place")),
    };
    Ok((id(arguments.get("id").and_then(Value::as_str))?, resolution))
}

fn id(given: Option<&str>) -> Result<Uuid> {
    let id = given.and_then(|id| Uuid::parse_str(id).ok());
    id.ok_or_else(|| Error::argument("`id`: give the id of an entry"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn headers(given: &[(&'static str, &str)]) -> HeaderMap {
        given.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    const ONE: &str = "0193f6a0-0000-7000-8000-000000000001";

    #[test]
    fn an_entry_gets_json_or_bytes() {
        let body = InvokeBody::Json(json!({ "id": ONE, "payload": null }));
        let (id, payload) = replacement(&body, &headers(&[]), &["id", "payload"]).unwrap();
        assert_eq!((id.to_string().as_str(), payload.as_bytes()), (ONE, b"null".as_slice()));
        let given = headers(&[("x-id", ONE), ("x-content-type", "image/png")]);
        for body in [InvokeBody::Raw(vec![0, 255]), InvokeBody::Json(json!([0, 255]))] {
            let (id, payload) = replacement(&body, &given, &["id", "payload"]).unwrap();
            assert_eq!((id.to_string().as_str(), payload.as_bytes()), (ONE, [0, 255].as_slice()));
            assert_eq!(payload.content_type(), "image/png");
            assert!(matches!(decision(&body, &given).unwrap().1, Resolution::Payload(Payload::Bytes { .. })));
        }
    }

    #[test]
    fn a_decision_is_a_choice_or_a_payload_also_one_that_reads_like_a_choice() {
        let decide = |arguments: Value| decision(&InvokeBody::Json(arguments), &headers(&[])).unwrap().1;
        assert!(matches!(decide(json!({ "id": ONE, "choice": "mine" })), Resolution::Mine));
        assert!(matches!(decide(json!({ "id": ONE, "choice": "theirs" })), Resolution::Theirs));
        for payload in [json!("mine"), json!({ "choice": "theirs" }), Value::Null] {
            let text = payload.to_string();
            let resolution = decide(json!({ "id": ONE, "payload": payload }));
            assert!(matches!(resolution, Resolution::Payload(Payload::Json(json)) if json.get() == text));
        }
    }

    #[test]
    fn what_is_refused_is_named_and_not_quoted() {
        let none = headers(&[]);
        for (arguments, named) in [
            (Value::Null, "`id`"),
            (json!("s3cret"), "`id`"),
            (json!({ "id": "s3cret", "payload": 1 }), "`id`"),
            (json!({ "id": 5, "payload": 1 }), "`id`"),
            (json!({ "id": ONE }), "`payload`"),
            (json!({ "id": ONE, "payload": "s3cret", "force": true }), "`force`"),
        ] {
            for error in [
                replacement(&InvokeBody::Json(arguments.clone()), &none, &["id", "payload"]).unwrap_err(),
                decision(&InvokeBody::Json(arguments), &none).unwrap_err(),
            ] {
                let text = error.to_string();
                assert!(error.code() == "invalid_argument" && text.contains(named), "{named}: {text}");
                assert!(!text.contains("s3cret"), "{text}");
            }
        }
        for (arguments, named) in [
            (json!({ "id": ONE, "choice": "s3cret" }), "`choice`"),
            (json!({ "id": ONE, "choice": null }), "`choice`"),
            (json!({ "id": "s3cret", "choice": "mine" }), "`id`"),
            (json!({ "id": ONE, "choice": "mine", "payload": "s3cret" }), "`payload`"),
        ] {
            let text = decision(&InvokeBody::Json(arguments), &none).unwrap_err().to_string();
            assert!(text.contains(named) && !text.contains("s3cret"), "{named}: {text}");
        }
        for (body, given, named) in [
            (InvokeBody::Raw(vec![1]), headers(&[]), "`id`"),
            (InvokeBody::Raw(vec![1]), headers(&[("x-id", "s3cret")]), "`id`"),
            (InvokeBody::Json(json!(["s3cret"])), headers(&[("x-id", ONE)]), "numbers"),
        ] {
            let text = decision(&body, &given).unwrap_err().to_string();
            assert!(text.contains(named) && !text.contains("s3cret"), "{named}: {text}");
        }
    }
}

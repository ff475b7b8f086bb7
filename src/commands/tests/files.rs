//! Files, by their path and handed over by the page; and how far they are.

use super::*;
use crate::commands::Pages;
use tauri::Manager as _;

pub(super) fn permissions() -> Value {
    json!(
        ["default", "allow-enqueue-file", "allow-file", "allow-pause", "allow-resume"]
            .map(|name| format!("storage-sync:{name}"))
    )
}

pub(super) fn config(roots: Value) -> Option<Value> {
    let mut config = form().unwrap();
    config["roots"] = roots;
    config["endpoints"]["video"] = json!({ "method": "POST", "url": "https://a.com/videos", "body": "tus" });
    Some(config)
}

pub(super) fn begin(window: &WebviewWindow<MockRuntime>, kind: &str, bytes: usize) -> Result<String, Value> {
    let options = json!({ "name": "ä.png", "contentType": "image/png" });
    let begun = call(window, "enqueue_file", json!({ "kind": kind, "bytes": bytes, "options": options }))?;
    Ok(begun["transfer"].as_str().unwrap().to_owned())
}

pub(super) fn piece(
    window: &WebviewWindow<MockRuntime>,
    transfer: &str,
    offset: usize,
    body: InvokeBody,
) -> Result<Value, Value> {
    let headers = [("x-transfer", transfer.to_owned()), ("x-offset", offset.to_string())];
    let headers = headers.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    invoke(window, "enqueue_file", body, headers).map(|body| body.deserialize().unwrap())
}

pub(super) fn finish(window: &WebviewWindow<MockRuntime>, transfer: &str) -> Result<Value, Value> {
    call(window, "enqueue_file", json!({ "transfer": transfer, "finish": true }))
}

/// Larger than what is kept in the database.
pub(super) fn large() -> Vec<u8> {
    (0..300_000_u32).map(|n| (n % 251) as u8).collect()
}

#[test]
fn a_page_hands_over_a_file_in_pieces_as_bytes_or_as_numbers_and_it_is_delivered_whole() {
    let bench = start(permissions(), config(json!([])), Builder::new()).unwrap();
    let window = &bench.window;
    for (kind, as_numbers) in [("photo", false), ("photo", true), ("video", false)] {
        let bytes = large();
        let transfer = begin(window, kind, bytes.len()).unwrap();
        let mut offset = 0;
        for part in bytes.chunks(130_000) {
            let body = || if as_numbers { InvokeBody::Json(json!(part)) } else { InvokeBody::Raw(part.to_vec()) };
            let end = offset + part.len();
            assert_eq!(piece(window, &transfer, offset, body()).unwrap(), json!({ "offset": end }));
            // Once more, as when its answer was lost.
            assert_eq!(piece(window, &transfer, offset, body()).unwrap(), json!({ "offset": end }));
            assert_eq!(
                call(window, "enqueue_file", json!({ "transfer": transfer })).unwrap(),
                json!({ "offset": end })
            );
            offset = end;
        }
        let receipt = finish(window, &transfer).unwrap();
        assert_eq!(receipt["kind"], kind);
        let entry = call(window, "delivered", json!({ "id": receipt["id"], "timeoutMs": 20_000 })).unwrap();
        assert_eq!((&entry["state"], &entry["contentType"]), (&json!("acked"), &json!("image/png")));
        let sent = bench.server.0.lock().unwrap().pop().unwrap();
        assert!(sent.body == bytes, "{kind}");
    }
}

#[test]
fn what_is_given_up_or_left_behind_by_its_page_is_no_entry() {
    let bench = start(permissions(), config(json!([])), Builder::new()).unwrap();
    let window = &bench.window;
    let begun = || {
        let transfer = begin(window, "photo", 300_000).unwrap();
        piece(window, &transfer, 0, InvokeBody::Raw(large()[..100_000].to_vec())).unwrap();
        transfer
    };
    let aborted = begun();
    assert_eq!(call(window, "enqueue_file", json!({ "transfer": aborted, "abort": true })).unwrap(), Value::Null);
    let early = begun();
    assert_eq!(code(finish(window, &early)), "invalid_argument");
    let left = begun();
    bench.app.state::<Pages>().gone("main");
    for gone in [aborted, early, left] {
        assert_eq!(code(finish(window, &gone)), "invalid_argument");
    }
    let second = WebviewWindowBuilder::new(&bench.app, "second", tauri::WebviewUrl::default()).build().unwrap();
    let own = begun();
    assert_eq!(code(finish(&second, &own)), "invalid_argument", "it is of another window");
    assert_eq!(
        code(
            begin(window, "nothing", 0)
                .and_then(|transfer| finish(window, &transfer).map(|_| transfer))
                .map(Value::from)
        ),
        "unknown_kind"
    );
    assert_eq!(call(window, "list", json!({})).unwrap(), json!([]));
}

#[test]
fn a_path_is_opened_where_roots_a_drop_or_rust_allow_it_and_nowhere_else() {
    let disk = tempfile::tempdir().unwrap();
    let path = |name: &str| disk.path().canonicalize().unwrap().join(name);
    for name in ["root/a.bin", "dropped.bin", "rust.bin", "built.bin", "other.bin"] {
        std::fs::create_dir_all(path("root")).unwrap();
        std::fs::write(path(name), name).unwrap();
    }
    let roots = json!([format!("{}/*.bin", path("root").display())]);
    let builder = Builder::new().allow_path(path("built.bin"));
    let bench = start(permissions(), config(roots), builder).unwrap();
    call(&bench.window, "pause", json!({})).unwrap();
    let sync = bench.app.storage_sync();
    sync.allow_path(path("rust.bin")).unwrap();
    sync.dropped(&[path("dropped.bin")]);
    let enqueue = |name: &str| {
        let arguments = json!({ "kind": "photo", "path": path(name), "options": { "contentType": "image/png" } });
        call(&bench.window, "enqueue_file", arguments)
    };
    for name in ["root/a.bin", "dropped.bin", "rust.bin", "built.bin"] {
        let receipt = enqueue(name).unwrap();
        let file = call(&bench.window, "file", json!({ "id": receipt["id"] })).unwrap();
        assert_eq!((&file["name"], &file["bytes"]), (&json!(name.rsplit('/').next()), &json!(name.len())));
    }
    assert_eq!(code(enqueue("other.bin")), "path_not_allowed");
    assert_eq!(code(enqueue("root/../other.bin")), "invalid_argument");
    assert_eq!(code(enqueue("root/gone.bin")), "io");
    let wrong = |builder, roots| start(json!([]), config(roots), builder).err().expect("it starts");
    assert!(wrong(Builder::new(), json!(["$PICTURES/**"])).contains("roots[0]"));
    assert!(wrong(Builder::new().allow_path("relative"), json!([])).contains("allow_path"));
}

#[test]
fn the_folders_that_variables_stand_for_are_those_of_the_system() {
    let bench = start(permissions(), config(json!(["$TEMP/**", "$RESOURCE/*"])), Builder::new()).unwrap();
    call(&bench.window, "pause", json!({})).unwrap();
    let file = tempfile::Builder::new().prefix("storage-sync").tempfile().unwrap();
    std::fs::write(file.path(), "x").unwrap();
    call(&bench.window, "enqueue_file", json!({ "kind": "photo", "path": file.path() })).unwrap();
}

#[test]
fn files_can_be_confined_to_kinds_and_are_no_way_around_what_may_not_be_enqueued() {
    let scoped = |scope: Value| {
        let mut permission = json!({ "identifier": "storage-sync:allow-enqueue-file" });
        permission.as_object_mut().unwrap().extend(scope.as_object().unwrap().clone());
        json!([permission])
    };
    for (permissions, expected) in [
        (scoped(json!({})), [true, true]),
        (scoped(json!({ "allow": [{ "kind": "photo" }] })), [true, false]),
        (scoped(json!({ "deny": [{ "kind": "photo" }] })), [false, true]),
    ] {
        let bench = start(permissions.clone(), config(json!([])), Builder::new()).unwrap();
        let may = ["photo", "video"].map(|kind| {
            let by_path = call(&bench.window, "enqueue_file", json!({ "kind": kind, "path": "/x" })).unwrap_err();
            let begun = begin(&bench.window, kind, 1).is_ok();
            assert_eq!(begun, by_path["code"] == "path_not_allowed", "{permissions}");
            begun
        });
        assert_eq!(may, expected, "{permissions}");
    }
}

#[test]
fn progress_is_told_through_the_channel_until_it_is_stopped_or_the_page_is_gone() {
    let bench = start(permissions(), config(json!([])), Builder::new()).unwrap();
    let window = &bench.window;
    let watch = |channel: u32, id: Value| {
        call(window, "progress", json!({ "channel": format!("__CHANNEL__:{channel}"), "id": id })).unwrap()
    };
    let upload = || {
        let bytes = large();
        let transfer = begin(window, "video", bytes.len()).unwrap();
        piece(window, &transfer, 0, InvokeBody::Raw(bytes)).unwrap();
        finish(window, &transfer).unwrap()["id"].clone()
    };
    let told = |channel: u32, id: &Value| {
        let all = bench.told.lock().unwrap();
        let news = all.iter().filter(|(to, _)| *to == channel).flat_map(|(_, news)| news.as_array().unwrap().clone());
        news.filter(|upload| upload["id"] == *id).collect::<Vec<_>>()
    };
    let all = watch(1, Value::Null);
    watch(2, json!(uuid::Uuid::nil()));
    watch(3, Value::Null);
    call(window, "progress", json!({ "stop": all })).unwrap();
    let id = upload();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let begun = |news: &Value| news["sent"].as_u64().unwrap() > 0;
    while !told(3, &id).iter().any(begun) {
        assert!(std::time::Instant::now() < deadline, "nothing was told");
        std::thread::sleep(Duration::from_millis(5));
    }
    let news = told(3, &id).into_iter().find(begun).unwrap();
    assert_eq!(news["total"], 300_000);
    assert!(news["rate"].is_u64() && news.get("left").is_some(), "{news}");
    assert!(told(1, &id).is_empty() && told(2, &id).is_empty());
    bench.app.state::<Pages>().gone("main");
    let id = upload();
    call(window, "delivered", json!({ "id": id, "timeoutMs": 20_000 })).unwrap();
    assert!(told(3, &id).is_empty());
    for wrong in [json!({}), json!({ "channel": "x" }), json!({ "stop": 1, "channel": "__CHANNEL__:1" })] {
        assert_eq!(code(call(window, "progress", wrong)), "invalid_argument");
    }
}

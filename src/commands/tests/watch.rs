//! Folders that a window has watched.

use super::*;

fn config(root: &Path) -> Option<Value> {
    let mut config = form().unwrap();
    config["roots"] = json!([format!("{}/allowed/**", root.display())]);
    config["folders"] = json!({ "quietMs": 20 });
    Some(config)
}

#[test]
fn a_window_has_a_folder_of_roots_watched_and_its_files_are_delivered() {
    let disk = tempfile::tempdir().unwrap();
    let path = |below: &str| disk.path().canonicalize().unwrap().join(below);
    std::fs::create_dir_all(path("allowed/scans")).unwrap();
    std::fs::create_dir_all(path("other")).unwrap();
    std::fs::write(path("allowed/scans/a.txt"), "scanned").unwrap();
    let permissions = json!([
        "storage-sync:default",
        "storage-sync:allow-watch",
        "storage-sync:allow-unwatch",
        "storage-sync:allow-watches"
    ]);
    let bench = start(permissions, config(&disk.path().canonicalize().unwrap()), Builder::new()).unwrap();
    let window = &bench.window;
    let watch = |below: &str, options: Value| call(window, "watch", json!({ "dir": path(below), "options": options }));

    let watched = watch("allowed/scans", json!({ "kind": "photo", "contentType": "text/plain" })).unwrap();
    assert_eq!((&watched["kind"], &watched["afterAck"]), (&json!("photo"), &json!("keep")));
    let listed = call(window, "watches", json!({})).unwrap();
    assert_eq!((&listed[0]["id"], listed.as_array().unwrap().len()), (&watched["id"], 1));
    let again = watch("allowed/scans", json!({ "kind": "photo", "patterns": ["*.txt"] })).unwrap();
    assert_eq!(
        (&again["id"], &again["patterns"]),
        (&watched["id"], &json!(["*.txt"])),
        "one watch for a folder and kind"
    );

    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !bench.server.0.lock().unwrap().iter().any(|request| request.body == b"scanned") {
        assert!(std::time::Instant::now() < deadline, "the file was not delivered");
        std::thread::yield_now();
    }
    assert_eq!(code(watch("other", json!({ "kind": "photo" }))), "path_not_allowed");
    assert_eq!(code(watch("allowed/gone", json!({ "kind": "photo" }))), "io");
    assert_eq!(code(watch("allowed/scans", json!({ "kind": "nothing" }))), "unknown_kind");
    assert_eq!(code(watch("allowed/scans", json!({ "kind": "form" }))), "invalid_argument", "it takes no files");
    assert_eq!(code(watch("allowed/scans", json!({ "kind": "photo", "moveTo": "done" }))), "invalid_argument");
    assert_eq!(code(call(window, "watch", json!({ "dir": path("other") }))), "invalid_argument");
    assert_eq!(call(window, "unwatch", json!({ "id": watched["id"] })).unwrap(), Value::Null);
    assert_eq!(code(call(window, "unwatch", json!({ "id": watched["id"] }))), "not_found");
    assert_eq!(call(window, "watches", json!({})).unwrap(), json!([]));
}

#[test]
fn a_window_watches_for_the_kinds_of_its_scope_only() {
    let disk = tempfile::tempdir().unwrap();
    let dir = disk.path().canonicalize().unwrap().join("allowed");
    std::fs::create_dir_all(&dir).unwrap();
    let permissions = json!([{ "identifier": "storage-sync:allow-watch", "allow": [{ "kind": "video" }] }]);
    let bench = start(permissions, config(dir.parent().unwrap()), Builder::new()).unwrap();
    let refused = call(&bench.window, "watch", json!({ "dir": dir, "options": { "kind": "photo" } }));
    assert_eq!(code(refused), "invalid_argument");
}

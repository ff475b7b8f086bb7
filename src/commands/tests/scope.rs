//! Which kinds a window may enqueue, and change entries of.

use super::*;

fn scoped(identifier: &str, scope: Value) -> Value {
    let mut permission = json!({ "identifier": identifier });
    permission.as_object_mut().unwrap().extend(scope.as_object().unwrap().clone());
    permission
}

#[test]
fn enqueue_can_be_confined_to_kinds() {
    let kinds = ["form", "photo", "other"];
    let allowed = |permissions| {
        let bench = start(permissions, form(), Builder::new()).unwrap();
        // A name that no template of theirs has: refused once the scope has let it through.
        let call = |kind: &str| {
            call(
                &bench.window,
                "enqueue",
                json!({ "kind": kind, "payload": 1, "options": { "params": { "nonsense": "1" } } }),
            )
        };
        let through = |kind: &&str| !call(kind).unwrap_err()["message"].as_str().unwrap().contains("scope of");
        kinds.into_iter().filter(through).collect::<Vec<_>>()
    };
    let form = || json!({ "allow": [{ "kind": "form" }] });
    assert_eq!(allowed(json!(["storage-sync:default"])), kinds);
    assert_eq!(allowed(json!([scoped("storage-sync:default", form())])), ["form"]);
    assert_eq!(allowed(json!([scoped("storage-sync:allow-enqueue", form())])), ["form"]);
    // The scope restricts, whichever permission it stands beside.
    assert_eq!(allowed(json!(["storage-sync:default", scoped("storage-sync:allow-enqueue", form())])), ["form"]);
    assert_eq!(
        allowed(json!([scoped("storage-sync:default", json!({ "deny": [{ "kind": "form" }] }))])),
        ["photo", "other"]
    );
    let both = json!({ "allow": [{ "kind": "form" }, { "kind": "photo" }], "deny": [{ "kind": "form" }] });
    assert_eq!(allowed(json!([scoped("storage-sync:default", both)])), ["photo"]);
}

#[test]
fn a_scope_that_cannot_be_read_allows_nothing() {
    let scope = json!([{ "identifier": "storage-sync:default", "allow": [{ "kinds": ["form"] }] }]);
    let bench = start(scope, form(), Builder::new()).unwrap();
    let answer = call(&bench.window, "enqueue", json!({ "kind": "form", "payload": 1, "options": { "key": "k" } }));
    assert!(answer.is_err(), "{answer:?}");
}

#[test]
fn a_batch_is_no_way_around_what_enqueue_may_not() {
    let kinds = ["form", "photo", "other"];
    let allowed = |permissions: &Value| {
        let bench = start(permissions.clone(), form(), Builder::new()).unwrap();
        let through = |kind: &&str| {
            // The second one has a param that no template of theirs has: refused once the scope has let it through.
            let second = json!({ "kind": kind, "payload": 1, "options": { "params": { "nonsense": "1" } } });
            let entries = json!({ "entries": [{ "kind": "form", "payload": 1, "options": { "key": "a" } }, second] });
            let message =
                call(&bench.window, "enqueue_all", entries).unwrap_err()["message"].as_str().unwrap().to_owned();
            !message.contains("may not enqueue")
        };
        let through = kinds.into_iter().filter(through).collect::<Vec<_>>();
        assert_eq!(
            call(&bench.window, "status", json!({})).unwrap()["pending"],
            0,
            "nothing of a refused batch is kept"
        );
        through
    };
    let form = || json!({ "allow": [{ "kind": "form" }] });
    let everything = "storage-sync:default";
    let status = "storage-sync:allow-status";
    for (permissions, expected) in [
        (json!([everything]), kinds.to_vec()),
        (json!([scoped(everything, form())]), vec!["form"]),
        (json!([everything, scoped("storage-sync:allow-enqueue", form())]), vec!["form"]),
        (json!([everything, scoped("storage-sync:allow-enqueue-all", form())]), vec!["form"]),
        (json!([scoped(everything, json!({ "deny": [{ "kind": "photo" }] }))]), vec!["form", "other"]),
        (json!([everything, scoped("storage-sync:allow-enqueue", json!({ "deny": [{ "kind": "form" }] }))]), vec![]),
        (json!([everything, "storage-sync:deny-enqueue"]), vec![]),
        (json!([status, "storage-sync:allow-enqueue-all"]), vec![]),
        (json!([status, "storage-sync:allow-enqueue-all", "storage-sync:allow-enqueue"]), kinds.to_vec()),
    ] {
        assert_eq!(allowed(&permissions), expected, "{permissions}");
    }
}

#[test]
fn what_a_window_may_not_enqueue_it_may_not_say_anything_of() {
    let allowed = |permissions: &Value| {
        let bench = start(permissions.clone(), form(), Builder::new()).unwrap();
        let observe = |kind: &&str| {
            let known = json!({ "kind": kind, "key": "a", "known": { "revision": 7 } });
            call(&bench.window, "observe", known).is_ok()
        };
        ["form", "photo"].into_iter().filter(observe).collect::<Vec<_>>()
    };
    let form = || json!({ "allow": [{ "kind": "form" }] });
    for (permissions, expected) in [
        (json!(["storage-sync:default"]), vec!["form", "photo"]),
        (json!([scoped("storage-sync:default", form())]), vec!["form"]),
        (json!(["storage-sync:default", scoped("storage-sync:allow-enqueue", form())]), vec!["form"]),
        (json!([scoped("storage-sync:allow-observe", form())]), vec!["form"]),
        (json!(["storage-sync:allow-observe"]), vec!["form", "photo"]),
    ] {
        assert_eq!(allowed(&permissions), expected, "{permissions}");
    }
}

#[test]
fn what_a_window_may_not_enqueue_it_may_not_change_either() {
    let all = json!({ "identifier": "main", "windows": ["main"], "permissions": everything() });
    // What is changed by a window with these, and by one that may do everything, of kinds that are both there.
    let changed = |permissions: &Value| {
        let second = json!({ "identifier": "second", "windows": ["second"], "permissions": permissions });
        let bench = start_with(Place::new(), &[all.clone(), second], listings(), Builder::new()).unwrap();
        let second = WebviewWindowBuilder::new(&bench.app, "second", tauri::WebviewUrl::default()).build().unwrap();
        call(&bench.window, "pause", json!({})).unwrap();
        ["form", "asked"].map(|kind| {
            let entry = json!({ "kind": kind, "payload": 1, "options": { "key": "a" } });
            let id = call(&bench.window, "enqueue", entry).unwrap()["id"].clone();
            let refused = |answer: Result<Value, Value>| {
                answer.is_err_and(|error| error["message"].as_str().unwrap().contains("may not change"))
            };
            // One that waits is not to be decided, which is found out only where it may be.
            let answers = [
                call(&second, "edit", json!({ "id": id, "payload": 2 })),
                call(&second, "resolve", json!({ "id": id, "choice": "theirs" })),
                call(&second, "resolve", json!({ "id": id, "payload": 2 })),
            ];
            let may = answers.map(|answer| !refused(answer));
            let payload = call(&bench.window, "payload", json!({ "id": id })).unwrap();
            assert_eq!(payload["json"], if may[0] { 2 } else { 1 }, "{kind}");
            may
        })
    };
    let form = || json!({ "allow": [{ "kind": "form" }] });
    let (edit, resolve) = ("storage-sync:allow-edit", "storage-sync:allow-resolve");
    let (yes, no) = ([true; 3], [false; 3]);
    for (permissions, expected) in [
        (json!([edit, resolve]), [yes, yes]),
        (json!(["storage-sync:default", edit, resolve]), [yes, yes]),
        (json!([scoped(edit, form()), scoped(resolve, form())]), [yes, no]),
        (json!([scoped(edit, form()), resolve]), [yes, [false, true, true]]),
        (json!([edit, scoped(resolve, form())]), [yes, [true, false, false]]),
        (json!([scoped("storage-sync:default", form()), edit, resolve]), [yes, no]),
        (json!([scoped("storage-sync:default", json!({ "deny": [{ "kind": "form" }] })), edit, resolve]), [no, yes]),
    ] {
        assert_eq!(changed(&permissions), expected, "{permissions}");
    }
}

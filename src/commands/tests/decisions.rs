//! Batches, dependencies and conflicts, as a window meets them.

use tauri::Manager as _;

use super::*;
use crate::Endpoint;

const EVERYTHING: [&str; 7] =
    ["default", "allow-payload", "allow-edit", "allow-resolve", "allow-discard", "allow-pause", "allow-resume"];

fn everything() -> Value {
    json!(EVERYTHING.map(|name| format!("storage-sync:{name}")))
}

fn delivered(bench: &Bench, id: &Value) -> Result<Value, Value> {
    call(&bench.window, "delivered", json!({ "id": id, "timeoutMs": 20_000 }))
}

fn get(bench: &Bench, id: &Value) -> Value {
    call(&bench.window, "get", json!({ "id": id })).unwrap()
}

#[test]
fn a_batch_goes_to_the_server_with_the_ids_that_it_gave() {
    let bench = start(json!(["storage-sync:default"]), listings(), Builder::new()).unwrap();
    let listing = "0193f6a0-0000-7000-8000-000000000009";
    let reference = format!("{{storage-sync:{listing}}}");
    let header = json!({ "entries": [
        { "kind": "listing", "payload": { "title": "Lamp" }, "options": { "id": listing, "key": "draft/7" } },
        { "kind": "part", "bytes": 2, "contentType": "image/png", "options": { "params": { "listing": reference } } },
        { "kind": "form", "payload": { "of": [format!("/listings/{reference}")] }, "options": { "key": "a", "after": [listing] } },
    ] })
    .to_string();
    let length = u32::try_from(header.len()).unwrap().to_be_bytes();
    let body = InvokeBody::Raw([length.as_slice(), header.as_bytes(), &[0, 255]].concat());
    let receipts: Value = invoke(&bench.window, "enqueue_all", body, HeaderMap::new()).unwrap().deserialize().unwrap();
    assert_eq!((&receipts[0]["id"], &receipts[2]["key"]), (&json!(listing), &json!("a")));
    for receipt in receipts.as_array().unwrap() {
        delivered(&bench, &receipt["id"]).unwrap();
    }
    let sent = bench.server.0.lock().unwrap();
    assert_eq!(sent[0].url.as_str(), "https://a.com/listings");
    let part = sent.iter().find(|request| request.url.path() == "/listings/l-1/parts").unwrap();
    assert_eq!(part.body, [0, 255]);
    let form = sent.iter().find(|request| request.method == "PUT").unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&form.body).unwrap(), json!({ "of": ["/listings/l-1"] }));
}

#[test]
fn a_thing_is_created_changed_and_deleted_by_the_requests_of_its_endpoint() {
    let bench = start(json!(["storage-sync:default"]), listings(), Builder::new()).unwrap();
    for (payload, options) in [
        (json!({ "title": "Lamp" }), json!({ "key": "a" })),
        (json!({ "title": "Lantern" }), json!({ "key": "a" })),
        (json!(null), json!({ "key": "a", "action": "delete" })),
    ] {
        let entry = json!({ "kind": "listing", "payload": payload, "options": options });
        let receipt = call(&bench.window, "enqueue", entry).unwrap();
        delivered(&bench, &receipt["id"]).unwrap();
    }
    let sent = bench.server.0.lock().unwrap();
    let requests: Vec<_> = sent.iter().map(|request| format!("{} {}", request.method, request.url.path())).collect();
    assert_eq!(requests, ["POST /listings", "PUT /listings/l-1", "DELETE /listings/l-1"]);
    assert!(sent[2].body.is_empty());
}

#[test]
fn a_conflict_is_heard_listed_and_decided() {
    let bench = start(everything(), listings(), Builder::new()).unwrap();
    let (told, hears) = mpsc::channel();
    bench.app.listen_any("storage-sync://entry", move |event| drop(told.send(event.payload().to_owned())));
    let enqueue = |kind: &str| {
        let entry = json!({ "kind": kind, "payload": "mine", "options": { "key": "contested" } });
        call(&bench.window, "enqueue", entry).unwrap()["id"].clone()
    };
    let (lost, asked) = (enqueue("form"), enqueue("asked"));
    assert_eq!(code(delivered(&bench, &lost)), "lost");
    assert_eq!(code(delivered(&bench, &asked)), "not_delivered");
    let mut announced = Vec::new();
    while announced.len() < 2 {
        let change: Value = serde_json::from_str(&hears.recv_timeout(Duration::from_secs(20)).unwrap()).unwrap();
        if change["conflict"] == true {
            assert_eq!(change.as_object().unwrap().len(), 5);
            announced.push(change["id"].clone());
        }
    }
    assert!(announced.contains(&lost) && announced.contains(&asked));
    let unread = call(&bench.window, "conflicts", json!({})).unwrap();
    let listed: Vec<_> = unread.as_array().unwrap().iter().map(|entry| entry["id"].clone()).collect();
    assert_eq!(listed, [lost.clone(), asked.clone()]);
    assert_eq!((&unread[0]["lost"], &unread[1]["reason"]), (&json!(true), &json!("conflict")));
    call(&bench.window, "conflicts_read", json!({ "ids": listed })).unwrap();
    assert_eq!(call(&bench.window, "conflicts", json!({})).unwrap(), json!([]));
    call(&bench.window, "resolve", json!({ "id": lost, "choice": "theirs" })).unwrap();
    assert_eq!(get(&bench, &lost)["lost"], false);
    assert_eq!(code(call(&bench.window, "payload", json!({ "id": lost }))), "wrong_state");
    // While nothing is sent, what was decided can be seen.
    call(&bench.window, "pause", json!({})).unwrap();
    call(&bench.window, "resolve", json!({ "id": asked, "payload": "both" })).unwrap();
    assert_eq!(call(&bench.window, "payload", json!({ "id": asked })).unwrap()["json"], "both");
    call(&bench.window, "edit", json!({ "id": asked, "payload": { "n": 1.5 } })).unwrap();
    assert_eq!(call(&bench.window, "payload", json!({ "id": asked })).unwrap()["json"], json!({ "n": 1.5 }));
    assert_eq!(code(call(&bench.window, "resolve", json!({ "id": asked, "choice": "mine" }))), "wrong_state");
}

#[test]
fn a_window_discards_an_entry_alone_or_with_what_depends_on_it() {
    let bench = start(everything(), listings(), Builder::new()).unwrap();
    call(&bench.window, "pause", json!({})).unwrap();
    let enqueue = |options: Value| {
        let entry = json!({ "kind": "listing", "payload": 1, "options": options });
        call(&bench.window, "enqueue", entry).unwrap()["id"].clone()
    };
    let parents = [enqueue(json!({})), enqueue(json!({}))];
    let children = parents.clone().map(|parent| enqueue(json!({ "after": [parent] })));
    assert_eq!(get(&bench, &children[0])["after"], json!([parents[0]]));
    let gone = call(&bench.window, "discard", json!({ "which": parents[0] })).unwrap();
    assert_eq!((&gone["ids"], &gone["orphaned"]), (&json!([parents[0]]), &json!([children[0]])));
    assert_eq!(get(&bench, &children[0])["reason"], "parent-gone");
    let gone = call(&bench.window, "discard", json!({ "which": parents[1], "cascade": true })).unwrap();
    assert_eq!((&gone["ids"], &gone["orphaned"]), (&json!([parents[1], children[1]]), &json!([])));
}

#[test]
fn a_window_pauses_one_entry_and_no_other() {
    let bench = start(everything(), form(), Builder::new()).unwrap();
    call(&bench.window, "pause", json!({})).unwrap();
    let enqueue = |key: &str| {
        let entry = json!({ "kind": "form", "payload": 1, "options": { "key": key } });
        call(&bench.window, "enqueue", entry).unwrap()["id"].clone()
    };
    let (one, other) = (enqueue("a"), enqueue("b"));
    call(&bench.window, "pause", json!({ "id": one })).unwrap();
    assert_eq!((&get(&bench, &one)["paused"], &get(&bench, &other)["paused"]), (&json!(true), &json!(false)));
    call(&bench.window, "resume", json!({})).unwrap();
    call(&bench.window, "delivered", json!({ "id": other })).unwrap();
    let waits = get(&bench, &one);
    let wanted = (&json!("pending"), &json!(true), &json!("paused"));
    assert_eq!((&waits["state"], &waits["paused"], &waits["waitingFor"]["reason"]), wanted, "each ends its own");
    call(&bench.window, "resume", json!({ "id": one })).unwrap();
    call(&bench.window, "delivered", json!({ "id": one })).unwrap();
    assert_eq!(get(&bench, &one)["paused"], false);
    assert_eq!(code(call(&bench.window, "pause", json!({ "id": one }))), "wrong_state");
    for wrong in [json!({ "id": 1 }), json!({ "id": "all" }), json!({ "which": one })] {
        assert_eq!(code(call(&bench.window, "pause", wrong)), "invalid_argument");
    }
}

#[test]
fn bytes_that_wait_are_replaced_by_other_bytes() {
    let bench = start(everything(), form(), Builder::new()).unwrap();
    call(&bench.window, "pause", json!({})).unwrap();
    let headers = |given: &[(&'static str, &str)]| {
        given.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect::<HeaderMap>()
    };
    let photo = headers(&[("x-kind", "photo"), ("x-content-type", "image/png")]);
    let receipt: Value =
        invoke(&bench.window, "enqueue", InvokeBody::Raw(vec![1]), photo).unwrap().deserialize().unwrap();
    let id = receipt["id"].as_str().unwrap();
    let other = headers(&[("x-id", id), ("x-content-type", "image/webp")]);
    invoke(&bench.window, "edit", InvokeBody::Raw(vec![7, 0]), other).unwrap();
    let answer = invoke(&bench.window, "payload", InvokeBody::Json(json!({ "id": id })), HeaderMap::new()).unwrap();
    let InvokeResponseBody::Raw(answer) = answer else { panic!() };
    assert!(answer.ends_with(&[7, 0]) && answer[4..].starts_with(br#"{"contentType":"image/webp"}"#));
}

#[test]
fn a_payload_of_an_older_version_of_the_app_is_migrated_before_it_is_sent() {
    let form = |version| Endpoint::new("form", "PUT", "https://a.com/{key}").payload_version(version);
    let old = start(everything(), None, Builder::new().endpoint(form(0))).unwrap();
    call(&old.window, "pause", json!({})).unwrap();
    let entry = json!({ "kind": "form", "payload": { "price": 12.5 }, "options": { "key": "a" } });
    let id = call(&old.window, "enqueue", entry).unwrap()["id"].clone();
    crate::builder::on_event(old.app.handle(), &tauri::RunEvent::Exit);
    let place = old.place.clone();
    drop(old);
    let new = Builder::new().endpoint(form(2)).migrate("form", 0, |mut form| {
        form["price"] = json!({ "amount": form["price"], "currency": "EUR" });
        Ok(form)
    });
    let new = new.migrate("form", 1, |form| Ok(json!({ "v": 2, "form": form })));
    let new = start_in(place, everything(), None, new).unwrap();
    call(&new.window, "resume", json!({})).unwrap();
    delivered(&new, &id).unwrap();
    let sent: Value = serde_json::from_slice(&new.server.0.lock().unwrap()[0].body).unwrap();
    assert_eq!(sent, json!({ "v": 2, "form": { "price": { "amount": 12.5, "currency": "EUR" } } }));
}

#[test]
fn a_page_that_is_gone_waits_for_no_entry_any_more() {
    let bench = start(everything(), form(), Builder::new()).unwrap();
    call(&bench.window, "pause", json!({})).unwrap();
    let entry = json!({ "kind": "form", "payload": 1, "options": { "key": "a" } });
    let id = call(&bench.window, "enqueue", entry).unwrap()["id"].clone();
    let window = bench.window.clone();
    let asked = json!({ "id": id, "timeoutMs": 60_000 });
    let waits = std::thread::spawn(move || call(&window, "delivered", asked));
    let pages = bench.app.state::<crate::commands::Pages>();
    while pages.waiting("main") == 0 {
        assert!(!waits.is_finished(), "it does not wait");
        std::thread::yield_now();
    }
    pages.gone("main");
    assert_eq!(code(waits.join().unwrap()), "closed");
    assert_eq!(call(&bench.window, "get", json!({ "id": id })).unwrap()["state"], "pending");
}

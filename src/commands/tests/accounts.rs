//! Who is signed in, and what is done with what they leave.

use super::*;

fn window(bench: &Bench, label: &str) -> WebviewWindow<MockRuntime> {
    WebviewWindowBuilder::new(&bench.app, label, tauri::WebviewUrl::default()).build().unwrap()
}

#[test]
fn a_window_has_what_its_own_capability_gives_it_and_no_more() {
    let capabilities = [
        json!({ "identifier": "main", "windows": ["main"], "permissions": everything() }),
        json!({ "identifier": "second", "windows": ["second"], "permissions": ["storage-sync:default"] }),
    ];
    let bench = start_with(Place::new(), &capabilities, form(), Builder::new()).unwrap();
    let (second, third) = (window(&bench, "second"), window(&bench, "third"));
    let default = [
        "enqueue",
        "enqueue_all",
        "observe",
        "status",
        "list",
        "get",
        "progress",
        "retry",
        "conflicts",
        "conflicts_read",
        "delivered",
        "flush",
    ];
    for command in COMMANDS {
        assert!(is_let_through(&bench.window, command), "{command} in the window that may");
        assert_eq!(is_let_through(&second, command), default.contains(&command), "{command} in the second window");
        assert!(!is_let_through(&third, command), "{command} in a window without a capability");
    }
}

#[test]
fn somebody_signs_in_out_and_in_again() {
    let bench = start(everything(), form(), Builder::new()).unwrap();
    let sync = |command: &str, arguments: Value| call(&bench.window, command, arguments);
    sync("pause", json!({})).unwrap();
    sync("set_account", json!({ "account": "ada" })).unwrap();
    sync("set_credentials", json!({ "headers": { "Authorization": "Bearer x" }, "account": "ada" })).unwrap();
    let entry = json!({ "kind": "form", "payload": 1, "options": { "key": "a" } });
    let receipt = sync("enqueue", entry.clone()).unwrap();
    let done = sync("sign_out", json!({})).unwrap();
    assert_eq!((&done["account"], &done["kept"], &done["finished"]), (&json!("ada"), &json!(1), &json!(true)));
    assert_eq!(sync("status", json!({})).unwrap()["account"], "");
    assert_eq!(code(sync("get", json!({ "id": receipt["id"] }))), "not_found");
    sync("set_account", json!({ "account": "ada" })).unwrap();
    assert_eq!(sync("get", json!({ "id": receipt["id"] })).unwrap()["state"], "pending");
    let done = sync("sign_out", json!({ "pending": "discard" })).unwrap();
    assert_eq!((&done["discarded"], &done["possiblyApplied"]), (&json!(1), &json!([])));
    sync("set_account", json!({ "account": "ada" })).unwrap();
    assert_eq!(code(sync("get", json!({ "id": receipt["id"] }))), "not_found");
    for wrong in
        [json!({ "pending": "drop" }), json!({ "pending": 1 }), json!({ "timeoutMs": -1 }), json!({ "timeout": 1 })]
    {
        assert_eq!(code(sync("sign_out", wrong)), "invalid_argument");
    }
    for account in [json!("a\nb"), json!("a".repeat(257)), json!(7), Value::Null] {
        assert_eq!(code(sync("set_account", json!({ "account": account }))), "invalid_argument");
    }
}

#[test]
fn nothing_is_given_up_without_the_very_words_and_without_need() {
    let bench = start(everything(), form(), Builder::new()).unwrap();
    let reset = |confirm: Value| call(&bench.window, "reset_encrypted_data", json!({ "confirm": confirm }));
    call(&bench.window, "pause", json!({})).unwrap();
    let entry = json!({ "kind": "form", "payload": 1, "options": { "key": "a" } });
    call(&bench.window, "enqueue", entry).unwrap();
    for confirm in [json!(true), json!(""), json!("yes"), json!("Give up what is queued"), Value::Null] {
        assert_eq!(code(reset(confirm)), "invalid_argument");
    }
    assert_eq!(code(reset(json!(crate::CONFIRM_RESET))), "wrong_state");
    assert_eq!(call(&bench.window, "status", json!({})).unwrap()["pending"], 1);
    // The key is lost while the app is not running.
    crate::builder::on_event(bench.app.handle(), &tauri::RunEvent::Exit);
    let place = bench.place.clone();
    place.keys.0.lock().unwrap().clear();
    let bench = start_in(place.clone(), everything(), form(), Builder::new()).unwrap();
    let done = call(&bench.window, "reset_encrypted_data", json!({ "confirm": crate::CONFIRM_RESET })).unwrap();
    assert_eq!(done["givenUp"], 1);
    let file = std::path::PathBuf::from(done["file"].as_str().unwrap());
    assert_eq!(file.parent(), Some(place.folder.path()));
    assert!(std::fs::read(&file).unwrap().starts_with(b"SQLite format 3\0"));
    call(&bench.window, "resume", json!({})).unwrap();
    let entry = json!({ "kind": "form", "payload": 2, "options": { "key": "b" } });
    let receipt = call(&bench.window, "enqueue", entry).unwrap();
    call(&bench.window, "delivered", json!({ "id": receipt["id"], "timeoutMs": 20_000 })).unwrap();
    assert_eq!(call(&bench.window, "status", json!({})).unwrap()["pending"], 0);
}

#[test]
fn windows_are_told_once_that_somebody_has_to_sign_in_and_nothing_else() {
    let bench = start(everything(), form(), Builder::new()).unwrap();
    let (tell, hears) = mpsc::channel();
    bench.window.listen("storage-sync://auth", move |event| drop(tell.send(event.payload().to_owned())));
    let enqueue = |n: i32| {
        let entry = json!({ "kind": "form", "payload": n, "options": { "key": "guarded" } });
        call(&bench.window, "enqueue", entry).unwrap()["id"].clone()
    };
    let id = enqueue(1);
    let told: Value = serde_json::from_str(&hears.recv_timeout(Duration::from_secs(20)).unwrap()).unwrap();
    assert_eq!(told, Value::Null);
    let status = call(&bench.window, "status", json!({})).unwrap();
    let hold = &status["holds"][0];
    assert_eq!(hold["waitingFor"], json!({ "reason": "auth", "origin": "https://a.com" }));
    assert_eq!(hold["asked"], 1);
    call(&bench.window, "flush", json!({ "timeoutMs": 20_000 })).unwrap();
    assert!(hears.try_recv().is_err(), "the same credentials were asked for twice");
    call(&bench.window, "set_credentials", json!({ "headers": { "Authorization": "Bearer x" } })).unwrap();
    call(&bench.window, "delivered", json!({ "id": id, "timeoutMs": 20_000 })).unwrap();
}

#[test]
fn an_event_tells_a_window_without_permissions_nothing_of_account_origins_or_key() {
    let capabilities = [json!({ "identifier": "main", "windows": ["main"], "permissions": everything() })];
    let bench = start_with(Place::new(), &capabilities, form(), Builder::new()).unwrap();
    let stranger = window(&bench, "stranger");
    let (tell, hears) = mpsc::channel();
    for event in ["storage-sync://status", "storage-sync://entry", "storage-sync://auth"] {
        let tell = tell.clone();
        // As a page listens: to whatever there is.
        stranger.listen_any(event, move |told| drop(tell.send((event, told.payload().to_owned()))));
    }
    call(&bench.window, "set_account", json!({ "account": "ann" })).unwrap();
    let entry = json!({ "kind": "form", "payload": 1, "options": { "key": "guarded" } });
    call(&bench.window, "enqueue", entry).unwrap();
    loop {
        let (event, told) = hears.recv_timeout(Duration::from_secs(20)).unwrap();
        let told: Value = serde_json::from_str(&told).unwrap();
        let told: Vec<_> = told.as_object().into_iter().flat_map(|told| told.keys()).collect();
        match event {
            "storage-sync://status" => assert_eq!(told, ["acked", "failed", "inflight", "pending", "seq"]),
            "storage-sync://entry" => assert_eq!(told, ["id", "kind", "seq", "state"]),
            _ => break assert!(told.is_empty(), "{told:?}"),
        }
    }
    let status = call(&bench.window, "status", json!({})).unwrap();
    assert_eq!((&status["account"], &status["holds"][0]["origin"]), (&json!("ann"), &json!("https://a.com")));
    assert!(!is_let_through(&stranger, "status"));
}

#[test]
fn after_a_restart_nothing_goes_without_the_credentials_that_a_window_gave_until_the_account_is_destroyed() {
    let bench = start(everything(), form(), Builder::new()).unwrap();
    call(&bench.window, "set_account", json!({ "account": "ada" })).unwrap();
    call(&bench.window, "set_credentials", json!({ "headers": { "Authorization": "Bearer x" } })).unwrap();
    crate::builder::on_event(bench.app.handle(), &tauri::RunEvent::Exit);
    let bench = start_in(bench.place.clone(), everything(), form(), Builder::new()).unwrap();
    let sync = |command: &str, arguments: Value| call(&bench.window, command, arguments).unwrap();
    // This server would take it as anybody's.
    let entry = json!({ "kind": "form", "payload": 1, "options": { "key": "open" } });
    let waits_for_credentials = |when: &str| {
        assert_eq!(sync("flush", json!({ "timeoutMs": 20_000 }))["waiting"], 1, "{when}");
        assert_eq!(sync("status", json!({}))["holds"][0]["waitingFor"]["reason"], "auth", "{when}");
        assert!(bench.server.0.lock().unwrap().is_empty(), "{when}: it was sent");
    };
    assert_eq!(sync("status", json!({}))["account"], "ada");
    sync("enqueue", entry.clone());
    waits_for_credentials("after a restart");
    sync("sign_out", json!({ "pending": "keep" }));
    sync("set_account", json!({ "account": "ada" }));
    waits_for_credentials("back after a sign-out that keeps what is queued");
    // Nothing is left of the account, nor what was known of its credentials.
    sync("sign_out", json!({ "pending": "discard" }));
    sync("set_account", json!({ "account": "ada" }));
    let receipt = sync("enqueue", entry);
    sync("delivered", json!({ "id": receipt["id"], "timeoutMs": 20_000 }));
    assert_eq!(bench.server.0.lock().unwrap().len(), 1);
}

#[test]
fn bytes_of_files_that_are_kept_in_the_queue_count_as_those_of_every_other_payload() {
    let mut config = form().unwrap();
    config["limits"] = json!({ "windowBytes": 100_000 });
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let path = |name: &str, bytes: usize| {
        let path = folder.join(name);
        std::fs::write(&path, vec![7; bytes]).unwrap();
        path
    };
    let (small, large) = (path("small", 60_000), path("large", 300_000));
    let bench = start(everything(), Some(config), Builder::new().allow_path(&small).allow_path(&large)).unwrap();
    let second = window(&bench, "second");
    call(&bench.window, "pause", json!({})).unwrap();
    let by_path = |path: &Path| json!({ "kind": "photo", "path": path });
    let in_pieces = |bytes: u64| json!({ "kind": "photo", "bytes": bytes });
    call(&bench.window, "enqueue_file", by_path(&small)).unwrap();
    assert_eq!(code(call(&bench.window, "enqueue_file", by_path(&small))), "rate_limited");
    assert_eq!(code(call(&bench.window, "enqueue_file", in_pieces(60_000))), "rate_limited");
    call(&second, "enqueue_file", in_pieces(60_000)).unwrap();
    assert_eq!(code(call(&second, "enqueue_file", in_pieces(60_000))), "rate_limited");
    // What is put beside the queue has a limit of its own.
    for _ in 0..3 {
        call(&bench.window, "enqueue_file", by_path(&large)).unwrap();
        call(&second, "enqueue_file", in_pieces(65_537)).unwrap();
    }
}

#[test]
fn what_was_first_sent_elsewhere_gets_credentials_there_and_only_there() {
    let bench = start(everything(), form(), Builder::new()).unwrap();
    let entry = |key: &str| json!({ "kind": "form", "payload": 1, "options": { "key": key } });
    let silent = json!({ "origin": "https://a.com", "headers": { "Authorization": "silent" } });
    call(&bench.window, "set_credentials", silent).unwrap();
    let id = call(&bench.window, "enqueue", entry("guarded")).unwrap()["id"].clone();
    call(&bench.window, "flush", json!({ "timeoutMs": 20_000 })).unwrap();
    assert_eq!(call(&bench.window, "get", json!({ "id": id })).unwrap()["possiblySent"], true);
    crate::builder::on_event(bench.app.handle(), &tauri::RunEvent::Exit);
    // An update of the app moves its backend.
    let moved = json!({ "endpoints": { "form": { "method": "PUT", "url": "https://b.com/{key}" } } });
    let bench = start_in(bench.place.clone(), everything(), Some(moved), Builder::new()).unwrap();
    let sync = |command: &str, arguments: Value| call(&bench.window, command, arguments);
    let give = |origin: &str, token: &str| {
        sync("set_credentials", json!({ "origin": origin, "headers": { "Authorization": token } }))
    };
    let since = std::time::Instant::now();
    let asks = json!({ "reason": "auth", "origin": "https://a.com" });
    while sync("get", json!({ "id": id })).unwrap()["waitingFor"] != asks {
        assert!(since.elapsed() < Duration::from_secs(20), "{}", sync("get", json!({ "id": id })).unwrap());
        std::thread::yield_now();
    }
    assert_eq!(sync("status", json!({})).unwrap()["holds"][0]["waitingFor"], asks);
    assert_eq!(code(give("https://c.com", "of nobody")), "invalid_argument");
    give("https://b.com", "of b").unwrap();
    let other = sync("enqueue", entry("guarded")).unwrap()["id"].clone();
    give("https://a.com", "of a").unwrap();
    for id in [id, other] {
        sync("delivered", json!({ "id": id, "timeoutMs": 20_000 })).unwrap();
    }
    let sent = bench.server.0.lock().unwrap();
    let with: Vec<_> =
        sent.iter().flat_map(|sent| sent.credentials.iter().map(|(_, token)| (sent.url.as_str(), &**token))).collect();
    assert_eq!(with, [("https://a.com/guarded", "of a"), ("https://b.com/guarded", "of b")]);
}

#[test]
fn a_window_that_enqueues_without_end_is_held_back_and_the_others_are_not() {
    let mut config = form().unwrap();
    config["limits"] = json!({ "windowEntries": 3, "windowBytes": 1000 });
    let bench = start(
        json!(
            [
                "default",
                "allow-edit",
                "allow-resolve",
                "allow-enqueue-file",
                "allow-watch",
                "allow-unwatch",
                "allow-set-credentials"
            ]
            .map(|name| format!("storage-sync:{name}"))
        ),
        Some(config),
        Builder::new(),
    )
    .unwrap();
    let second = window(&bench, "second");
    let entry = |key: &str| json!({ "kind": "form", "payload": 1, "options": { "key": key } });
    for key in ["a", "b"] {
        call(&bench.window, "enqueue", entry(key)).unwrap();
    }
    let both = json!({ "entries": [entry("c"), entry("d")] });
    let refused = call(&bench.window, "enqueue_all", both).unwrap_err();
    assert_eq!(refused["code"], "rate_limited");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("try again in") && message.contains("limits.windowEntries"), "{message}");
    call(&bench.window, "enqueue", entry("c")).unwrap();
    assert_eq!(code(call(&bench.window, "enqueue", entry("d"))), "rate_limited");
    let id = "00000000-0000-7000-8000-000000000000";
    for change in ["edit", "resolve"] {
        assert_eq!(code(call(&bench.window, change, json!({ "id": id, "payload": 1 }))), "rate_limited", "{change}");
    }
    assert_eq!(code(call(&bench.window, "resolve", json!({ "id": id, "choice": "mine" }))), "not_found");
    for file in [json!({ "kind": "photo", "path": "/nowhere" }), json!({ "kind": "photo", "bytes": 3 })] {
        assert_eq!(code(call(&bench.window, "enqueue_file", file.clone())), "rate_limited", "{file}");
    }
    for (command, arguments) in [
        ("watch", json!({ "dir": "/nowhere", "options": { "kind": "photo" } })),
        ("unwatch", json!({ "id": id })),
        ("set_credentials", json!({ "headers": { "Authorization": "x" } })),
    ] {
        assert_eq!(code(call(&bench.window, command, arguments)), "rate_limited", "{command}");
    }
    let observed = |known: Value| json!({ "kind": "form", "key": "seen", "known": known });
    assert_eq!(code(call(&bench.window, "observe", observed(json!({ "revision": 1 })))), "rate_limited");
    let large = json!({ "kind": "form", "payload": "x".repeat(600), "options": { "key": "large" } });
    call(&second, "enqueue", large.clone()).unwrap();
    assert_eq!(code(call(&second, "enqueue", large)), "rate_limited");
    for known in [json!({ "canonicalId": "i".repeat(600) }), json!({ "etag": format!("\"{}\"", "t".repeat(600)) })] {
        assert_eq!(code(call(&second, "observe", observed(known))), "rate_limited", "its bytes count");
    }
    call(&second, "observe", observed(json!({ "canonicalId": "i" }))).unwrap();
    // What is refused for another reason takes nothing of it.
    call(&second, "enqueue", json!({ "kind": "form" })).unwrap_err();
    call(&second, "enqueue", entry("e")).unwrap();
}

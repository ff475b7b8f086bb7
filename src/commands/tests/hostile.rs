//! A page that calls everything with whatever it likes.

use percent_encoding::percent_decode_str;

use super::*;

/// Nothing that a page gives is repeated in an error: it may be a secret that went to the wrong place.
const SECRET: &str = "s3cret-7f3a";

/// One value of every sort and size.
fn anything() -> Vec<Value> {
    let deep = (0..100).fold(json!(SECRET), |inner, _| json!([inner]));
    vec![
        Value::Null,
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(u64::MAX),
        json!(""),
        json!(SECRET),
        json!(SECRET.repeat(100_000)),
        json!("\u{0}\r\n\u{202e}"),
        json!([]),
        json!([SECRET, 1, null]),
        json!({}),
        json!({ "surplus": SECRET }),
        deep,
    ]
}

/// Calls that are right but for what they name, and the arguments that may be anything.
pub(super) fn calls() -> Vec<(&'static str, Value, &'static [&'static str])> {
    let id = "0193f6a0-0000-7000-8000-000000000001";
    vec![
        ("enqueue", json!({ "kind": "form", "payload": 1, "options": { "key": "k" } }), &["payload"]),
        ("enqueue_all", json!({ "entries": [{ "kind": "form", "payload": 1, "options": { "key": "k" } }] }), &[]),
        ("enqueue_file", json!({ "kind": "photo", "path": "/nowhere", "options": { "key": "k" } }), &[]),
        ("enqueue_file", json!({ "kind": "photo", "bytes": 3, "options": { "name": "n" } }), &[]),
        ("enqueue_file", json!({ "transfer": id }), &[]),
        ("enqueue_file", json!({ "transfer": id, "finish": true }), &[]),
        ("enqueue_file", json!({ "transfer": id, "abort": true }), &[]),
        ("observe", json!({ "kind": "form", "key": "k", "known": { "revision": 1 } }), &[]),
        ("status", json!({}), &[]),
        ("list", json!({ "query": { "limit": 1 } }), &[]),
        ("get", json!({ "id": id }), &[]),
        ("payload", json!({ "id": id }), &[]),
        ("file", json!({ "id": id }), &[]),
        ("progress", json!({ "channel": "__CHANNEL__:1", "id": id }), &[]),
        ("progress", json!({ "stop": 1 }), &[]),
        ("retry", json!({ "which": id, "force": true }), &[]),
        ("discard", json!({ "which": id, "cascade": true }), &[]),
        ("edit", json!({ "id": id, "payload": 1 }), &["payload"]),
        ("resolve", json!({ "id": id, "choice": "mine" }), &[]),
        ("conflicts", json!({}), &[]),
        ("conflicts_read", json!({ "ids": [id] }), &[]),
        ("delivered", json!({ "id": id, "timeoutMs": 1 }), &[]),
        ("flush", json!({ "timeoutMs": 1 }), &[]),
        ("pause", json!({ "id": id }), &[]),
        ("resume", json!({ "id": id }), &[]),
        (
            "set_credentials",
            json!({ "headers": { "Authorization": "x" }, "origin": "https://a.com", "account": "a" }),
            &["headers"],
        ),
        ("set_account", json!({ "account": "a" }), &["headers"]),
        ("sign_out", json!({ "pending": "keep", "timeoutMs": 1 }), &[]),
        ("rotate_key", json!({}), &[]),
        ("reset_encrypted_data", json!({ "confirm": "yes" }), &[]),
        ("watch", json!({ "dir": "/nowhere", "options": { "kind": "photo", "patterns": ["*"] } }), &[]),
        ("unwatch", json!({ "id": id }), &[]),
        ("watches", json!({}), &[]),
    ]
}

/// An answer, or an error in the one form that errors have, which repeats nothing.
pub(super) fn is_proper(command: &str, given: &str, answer: Result<InvokeResponseBody, Value>) -> Option<String> {
    let Err(error) = answer else { return None };
    let said = error.to_string();
    let code = error["code"].as_str().unwrap_or_else(|| panic!("{command} {given}: {said}")).to_owned();
    // The name of a kind that is not there is said: it is a typing error of the app's author.
    assert!(error["message"].is_string(), "{command} {given}: {said}");
    assert!(code == "unknown_kind" || !said.contains(SECRET), "{command} {given}: {said}");
    assert!(said.len() < 2_000, "{command} {given}: the error is as long as what was given");
    let documented: Vec<Value> = serde_json::from_str(include_str!("../../../tests/fixtures/error.json")).unwrap();
    assert!(documented.iter().any(|known| known["code"] == *code), "{command} {given}: {said}");
    // What can only come of a fault of our own.
    assert!(!["database", "database_corrupt", "io", "closed"].contains(&code.as_str()), "{command} {given}: {said}");
    Some(code)
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}

#[test]
fn a_page_that_calls_everything_with_anything_gets_an_answer_each_time_and_breaks_nothing() {
    let names: Vec<_> = calls().into_iter().map(|(command, ..)| command).collect();
    let mut all = COMMANDS.to_vec();
    all.sort_unstable();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    // Some have several forms.
    sorted.dedup();
    assert_eq!(sorted, all, "every command is in the table");

    let bench = start(everything(), form(), Builder::new()).unwrap();
    call(&bench.window, "pause", json!({})).unwrap();
    let entry = json!({ "kind": "form", "payload": { "kept": true }, "options": { "key": "before" } });
    let before = call(&bench.window, "enqueue", entry).unwrap();
    let (mut answers, mut refusals) = (0, 0);
    let mut ask = |command: &str, body: InvokeBody, headers: HeaderMap, given: &str| {
        let code = is_proper(command, given, invoke(&bench.window, command, body, headers));
        answers += 1;
        refusals += usize::from(code.is_some());
        code
    };
    for (command, right, free) in calls() {
        for value in anything() {
            ask(command, InvokeBody::Json(value.clone()), HeaderMap::new(), &short(&value));
            for (name, _) in right.as_object().unwrap() {
                let mut arguments = right.clone();
                arguments[name] = value.clone();
                let given = format!("{name}: {}", short(&value));
                let code = ask(command, InvokeBody::Json(arguments), HeaderMap::new(), &given);
                if value.is_object() && value != json!({}) && !free.contains(&name.as_str()) {
                    assert_eq!(code.as_deref(), Some("invalid_argument"), "{command} {given}");
                }
            }
        }
        let mut more = right.clone();
        more["surplus"] = json!(SECRET);
        let code = ask(command, InvokeBody::Json(more), HeaderMap::new(), "one argument more");
        let takes_some = !right.as_object().unwrap().is_empty();
        assert_eq!(code.is_some(), takes_some, "{command}");
        for (bytes, names) in [
            (vec![], &[][..]),
            (vec![0], &["x-kind", "x-id", "x-options", "x-content-type"]),
            (vec![255; 1 << 20], &["x-kind", "x-id"]),
            (vec![0, 0, 0, 2, b'{', b'}'], &["x-kind"]),
            (vec![255, 255, 255, 255], &["x-options"]),
            (vec![7; 100], &["x-transfer", "x-offset"]),
            (vec![7; 100], &["x-offset"]),
        ] {
            let id = "0193f6a0-0000-7000-8000-000000000001";
            for value in ["", SECRET, "%", "%ff%00", "%7B%22key%22%3A%5B%5D%7D", id, "18446744073709551615"] {
                let headers = names.iter().map(|name| (name.parse().unwrap(), value.parse().unwrap())).collect();
                ask(command, InvokeBody::Raw(bytes.clone()), headers, &format!("{} bytes, {value}", bytes.len()));
            }
        }
    }
    assert!(answers > 600 && refusals > answers / 2, "{answers} calls, {refusals} refused");

    call(&bench.window, "set_account", json!({ "account": "" })).unwrap();
    // One of the calls was a proper `resume`, so it may have been delivered by now.
    match call(&bench.window, "payload", json!({ "id": before["id"] })) {
        Ok(kept) => assert_eq!(kept["json"], json!({ "kept": true })),
        Err(error) => assert_eq!(error["code"], "wrong_state", "{error}"),
    }
    call(&bench.window, "resume", json!({})).unwrap();
    call(&bench.window, "delivered", json!({ "id": before["id"], "timeoutMs": 60_000 })).unwrap();
}

#[test]
fn no_value_of_a_page_leaves_its_place_in_the_url_or_becomes_a_header() {
    let config = json!({ "endpoints": {
        "thing": { "method": "PUT", "url": "https://a.com/v1/{shelf}/things/{key}", "queue": "every" } } });
    let bench = start(everything(), Some(config), Builder::new()).unwrap();
    let nasty = [
        "..",
        ".",
        "%2e%2e",
        "..%2f..",
        "a/../b",
        "a/b",
        "/",
        "//evil.com",
        "\\",
        "..\\..",
        "a?b=c",
        "?",
        "#",
        "a#b",
        "a;b=c",
        "&",
        "http://evil.com/",
        "@evil.com",
        ":80",
        "a b",
        "+",
        "%",
        "%00",
        "%0d%0a",
        "\0",
        "\r\nX-Evil: 1",
        "\n",
        "\u{7f}",
        "\u{80}",
        "é",
        "💡",
        "\u{202e}",
        "\u{feff}",
        "{key}",
        "{id}",
        "\"",
        "'",
        "<script>",
        "a\tb",
        " ",
        "",
    ];
    let mut sent = Vec::new();
    for value in nasty {
        for (shelf, key) in [(value, "k"), ("s", value)] {
            let options = json!({ "key": key, "params": { "shelf": shelf } });
            match call(&bench.window, "enqueue", json!({ "kind": "thing", "payload": 1, "options": options })) {
                Ok(receipt) => sent.push((receipt["id"].clone(), shelf, key)),
                Err(error) => assert_eq!(error["code"], "invalid_argument", "{value:?}"),
            }
        }
    }
    // What is refused has to be: these would be another path, or no header.
    for value in ["..", ".", "\0", "\r\nX-Evil: 1", "\n", "\u{7f}"] {
        assert!(!sent.iter().any(|(_, shelf, key)| *shelf == value || *key == value), "{value:?} was taken");
    }
    assert!(sent.len() > 50, "{}", sent.len());
    for (id, shelf, key) in &sent {
        call(&bench.window, "delivered", json!({ "id": id, "timeoutMs": 60_000 })).unwrap();
        let requests = bench.server.0.lock().unwrap();
        let own = |request: &&Request| request.headers.iter().any(|(_, value)| value.contains(id.as_str().unwrap()));
        let request = requests.iter().find(own).unwrap();
        let url = &request.url;
        assert_eq!((url.scheme(), url.host_str(), url.port(), url.username()), ("https", Some("a.com"), None, ""));
        assert_eq!((url.query(), url.fragment()), (None, None), "{url}");
        let parts: Vec<_> =
            url.path_segments().unwrap().map(|part| percent_decode_str(part).decode_utf8().unwrap()).collect();
        assert_eq!(parts, ["v1", shelf, "things", key], "{url}");
        for (name, value) in &request.headers {
            assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{name}: {value:?}");
        }
    }
}

#[test]
fn no_window_sets_credentials_for_elsewhere_or_headers_that_are_not_credentials() {
    let bench = start(everything(), form(), Builder::new()).unwrap();
    let set = |arguments: Value| call(&bench.window, "set_credentials", arguments);
    for origin in [
        "https://evil.com",
        "http://a.com",
        "https://a.com.evil.com",
        "https://a.com:444",
        "https://a.com@evil.com",
        "//a.com",
        "a.com",
        "",
        "null",
        "file:///",
        "javascript:alert(1)",
        "https://a.com\r\n",
        "https://a.com\\@evil.com",
    ] {
        let answer = set(json!({ "origin": origin, "headers": { "Authorization": "x" } }));
        if let Ok(answer) = &answer {
            // Read as the origin that they are, as browsers do: the credentials stay at home.
            let same = ["https://a.com\r\n", "https://a.com\\@evil.com"].contains(&origin);
            assert!(answer.is_null() && same, "{origin:?} was taken");
            continue;
        }
        assert_eq!(code(answer), "invalid_argument", "{origin:?}");
    }
    for (name, value) in [
        ("Host", "evil.com"),
        ("content-length", "0"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "close"),
        ("Accept-Encoding", "gzip"),
        ("Forwarded", "for=127.0.0.1"),
        ("Via", "1.1 a"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("x-forwarded-host", "evil.com"),
        ("X-Real-IP", "127.0.0.1"),
        ("X-HTTP-Method", "DELETE"),
        ("X-HTTP-Method-Override", "DELETE"),
        ("X-Method-Override", "DELETE"),
        ("X-Original-URL", "/admin"),
        ("X-Rewrite-URL", "/admin"),
        ("Tus-Resumable", "1.0.0"),
        ("Upload-Offset", "0"),
        ("Content-Digest", "sha-256=:x:"),
        ("Repr-Digest", "sha-256=:x:"),
        ("Idempotency-Key", "x"),
        ("Sync-Revision", "9"),
        ("If-Match", "*"),
        ("X\r\nHost", "x"),
        ("X: y", "x"),
        ("", "x"),
        ("Authorization", ""),
        ("Authorization", "a\r\nX-Evil: 1"),
        ("Authorization", "a\0b"),
        ("Authorization", "é"),
    ] {
        assert_eq!(code(set(json!({ "headers": { name: value } }))), "invalid_argument", "{name:?}: {value:?}");
    }
    let many: serde_json::Map<String, Value> = (0..33).map(|n| (format!("X-{n}"), json!("x"))).collect();
    assert_eq!(code(set(json!({ "headers": many }))), "invalid_argument");
    // Who has credentials is remembered on the disk.
    for account in ["a".repeat(257), "a\0b".into(), "a\nb".into()] {
        let headers = json!({ "Authorization": "x" });
        assert_eq!(code(set(json!({ "headers": headers, "account": account }))), "invalid_argument", "{account:?}");
    }
}

#[test]
fn a_window_gives_credentials_to_so_many_accounts_and_always_to_the_current_one() {
    let bench = start(everything(), form(), Builder::new()).unwrap();
    let give = |account: &str, headers: Value| {
        call(&bench.window, "set_credentials", json!({ "account": account, "headers": headers }))
    };
    let some = || json!({ "Authorization": "x".repeat(16 << 10) });
    for account in 0..64 {
        give(&account.to_string(), some()).unwrap();
    }
    let refused = give("one more", some()).unwrap_err();
    assert_eq!(refused["code"], "invalid_argument");
    assert!(refused["message"].as_str().unwrap().contains("64 accounts"), "{refused}");
    give("7", some()).unwrap();
    give("", some()).unwrap();
    give("one more", json!({})).unwrap();
    give("8", json!({})).unwrap();
    give("one more", some()).unwrap();
    call(&bench.window, "set_account", json!({ "account": "ada" })).unwrap();
    give("ada", some()).unwrap();
}

//! Files that a page hands over, step by step and in the wrong order: in the middle of a transfer everything else may happen.

use tauri::Manager as _;

use super::{
    files::{begin, config, finish, piece},
    *,
};
use crate::commands::Pages;

const NOBODY: &str = "0193f6a0-0000-7000-8000-000000000001";

fn bytes(of: &[u8]) -> InvokeBody {
    InvokeBody::Raw(of.to_vec())
}

fn abort(window: &WebviewWindow<MockRuntime>, transfer: &str) -> Value {
    call(window, "enqueue_file", json!({ "transfer": transfer, "abort": true })).unwrap()
}

fn stands(window: &WebviewWindow<MockRuntime>, transfer: &str) -> Result<Value, Value> {
    call(window, "enqueue_file", json!({ "transfer": transfer }))
}

/// Large enough that a part of it is in the spool before all of it has come.
fn large() -> Vec<u8> {
    (0..900_000_u32).map(|n| (n % 251) as u8).collect()
}

/// Files in the spool, complete or not.
pub(super) fn spooled(bench: &Bench) -> Vec<String> {
    let Ok(files) = std::fs::read_dir(bench.place.folder.path().join("spool")) else { return Vec::new() };
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

/// Waits: what reads a transfer hears of its end only then.
pub(super) fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(std::time::Instant::now() < deadline, "it never became so: {what}");
        std::thread::yield_now();
    }
}

/// One that has begun, with a part of it in the spool.
fn begun(bench: &Bench, kind: &str) -> String {
    let before = spooled(bench).len();
    let transfer = begin(&bench.window, kind, large().len()).unwrap();
    piece(&bench.window, &transfer, 0, bytes(&large()[..600_000])).unwrap();
    // It is written by somebody else.
    until("a part is in the spool", || spooled(bench).len() > before);
    transfer
}

fn go_on(bench: &Bench, transfer: &str) -> Result<Value, Value> {
    piece(&bench.window, transfer, 600_000, bytes(&large()[600_000..]))?;
    finish(&bench.window, transfer)
}

#[test]
fn steps_of_a_transfer_in_any_wrong_order_are_refused_and_leave_nothing_behind() {
    let bench = start(everything(), config(json!([])), Builder::new()).unwrap();
    let window = &bench.window;
    let (file, length) = (large(), large().len());
    let over = |transfer: &str, why: &str| {
        assert_eq!(code(piece(window, transfer, 0, bytes(&file[..10]))), "invalid_argument", "{why}");
        assert_eq!(code(stands(window, transfer)), "invalid_argument", "{why}");
        assert_eq!(code(finish(window, transfer)), "invalid_argument", "{why}");
        assert_eq!(abort(window, transfer), Value::Null, "{why}");
        until(why, || spooled(&bench).is_empty());
    };
    call(window, "pause", json!({})).unwrap();
    over(NOBODY, "nobody has begun it");

    let largest = crate::transfers::LARGEST;
    let gaps: [(&str, usize, usize); 5] = [
        ("a gap", 600_001, 10),
        ("a gap to the end of all numbers", usize::MAX, 10),
        ("more than was announced", 600_000, 300_001),
        ("a piece that is too large", 600_000, largest + 1),
        ("only the end", length - 1, 1),
    ];
    for (why, offset, of) in gaps {
        let transfer = begun(&bench, "photo");
        assert_eq!(code(piece(window, &transfer, offset, bytes(&vec![1; of]))), "invalid_argument", "{why}");
        over(&transfer, why);
    }
    let transfer = begun(&bench, "photo");
    assert_eq!(code(finish(window, &transfer)), "invalid_argument");
    over(&transfer, "finished before everything had arrived");
    let transfer = begun(&bench, "photo");
    abort(window, &transfer);
    over(&transfer, "aborted");
    let transfer = begun(&bench, "photo");
    bench.app.state::<Pages>().gone("main");
    over(&transfer, "its page is gone");

    // What is no error: pieces again, and empty ones.
    let transfer = begun(&bench, "photo");
    for (offset, of) in [(0, 10), (100_000, 100_000), (599_999, 50_000), (600_000, 0), (0, 0)] {
        let stands = json!({ "offset": 600_000 });
        assert_eq!(piece(window, &transfer, offset, bytes(&vec![0; of])).unwrap(), stands, "{of} at {offset}");
    }
    let receipt = go_on(&bench, &transfer).unwrap();
    let kept = spooled(&bench);
    assert_eq!(kept.len(), 1, "{kept:?}");
    for step in [go_on(&bench, &transfer), finish(window, &transfer), stands(window, &transfer)] {
        assert_eq!(code(step), "invalid_argument", "it was finished before");
    }
    assert_eq!(abort(window, &transfer), Value::Null);
    assert_eq!(spooled(&bench), kept, "to give up what is finished does nothing");
    call(window, "resume", json!({})).unwrap();
    call(window, "delivered", json!({ "id": receipt["id"], "timeoutMs": 60_000 })).unwrap();
    let sent = bench.server.0.lock().unwrap().pop().unwrap();
    assert!(sent.body == file, "what came twice or late is not in it twice");
    until("the file goes once it is delivered", || spooled(&bench).is_empty());
}

#[test]
fn two_transfers_under_one_id_are_one_entry_if_they_are_the_same_file_and_otherwise_the_second_is_refused() {
    let bench = start(everything(), config(json!([])), Builder::new()).unwrap();
    let window = &bench.window;
    call(window, "pause", json!({})).unwrap();
    let under = |id: &str, file: &[u8]| {
        let asked = json!({ "kind": "photo", "bytes": file.len(), "options": { "id": id } });
        let transfer = call(window, "enqueue_file", asked).unwrap()["transfer"].as_str().unwrap().to_owned();
        piece(window, &transfer, 0, bytes(file)).unwrap();
        transfer
    };
    // The second is there before the first is finished, or begins after it.
    for (number, at_once) in [(1, true), (2, false)] {
        let id = uuid::Uuid::from_u128(number).to_string();
        let first = under(&id, &large());
        let early = at_once.then(|| under(&id, &large()));
        let receipt = finish(window, &first).unwrap();
        let same = early.unwrap_or_else(|| under(&id, &large()));
        assert_eq!(finish(window, &same).unwrap(), receipt);
        let other = under(&id, &vec![1; large().len()]);
        assert_eq!(code(finish(window, &other)), "id_conflict");
        until("one file of each is kept", || spooled(&bench).len() == number as usize);
    }
    assert_eq!(call(window, "status", json!({})).unwrap()["pending"], 2);
}

#[test]
fn whatever_happens_in_the_middle_of_a_transfer_its_file_is_whole_in_the_account_that_began_it_or_refused() {
    let bench = start(everything(), config(json!([])), Builder::new()).unwrap();
    let window = &bench.window;
    let ask = |command: &str, arguments: Value| call(window, command, arguments).unwrap();
    let is_whole = |receipt: &Value| {
        let file = ask("file", json!({ "id": receipt["id"] }));
        assert_eq!(file["bytes"], large().len(), "{file}");
        ask("discard", json!({ "which": receipt["id"] }));
        until("the spool is empty", || spooled(&bench).is_empty());
    };
    ask("pause", json!({}));
    ask("set_account", json!({ "account": "ada" }));

    let transfer = begun(&bench, "photo");
    ask("discard", json!({ "which": "all" }));
    is_whole(&go_on(&bench, &transfer).unwrap());
    let transfer = begun(&bench, "photo");
    assert_eq!(ask("rotate_key", json!({}))["finished"], true, "a transfer holds up no rotation");
    is_whole(&go_on(&bench, &transfer).unwrap());

    // Another account is the current one by then: it is still of the one that began it, also if it had just begun.
    for part in [true, false] {
        let transfer = if part { begun(&bench, "photo") } else { begin(window, "photo", large().len()).unwrap() };
        ask("set_account", json!({ "account": "eve" }));
        if !part {
            piece(window, &transfer, 0, bytes(&large()[..600_000])).unwrap();
        }
        let receipt = go_on(&bench, &transfer).unwrap();
        assert_eq!(code(call(window, "get", json!({ "id": receipt["id"] }))), "not_found");
        ask("set_account", json!({ "account": "ada" }));
        is_whole(&receipt);
    }

    // Whoever is signed out leaves nothing that comes to rest later, and no key is made for it.
    for pending in ["keep", "flush", "discard"] {
        let transfer = begun(&bench, "photo");
        ask("sign_out", json!({ "pending": pending, "timeoutMs": 1 }));
        let had_key = bench.place.keys.0.lock().unwrap().contains_key("ada");
        assert_eq!(had_key, pending != "discard");
        assert_eq!(code(go_on(&bench, &transfer)), "signed_out", "{pending}");
        until("nothing of it is in the spool", || spooled(&bench).is_empty());
        assert_eq!(bench.place.keys.0.lock().unwrap().contains_key("ada"), had_key, "{pending}: no new key was made");
        ask("set_account", json!({ "account": "ada" }));
        assert_eq!(ask("list", json!({})), json!([]), "{pending}");
    }

    // The queue begins anew meanwhile, because its key is lost.
    ask("enqueue", json!({ "kind": "form", "payload": 1, "options": { "key": "a" } }));
    let transfer = begun(&bench, "photo");
    ask("sign_out", json!({ "pending": "keep" }));
    bench.place.keys.0.lock().unwrap().remove("ada");
    ask("set_account", json!({ "account": "ada" }));
    assert_eq!(ask("reset_encrypted_data", json!({ "confirm": crate::CONFIRM_RESET }))["givenUp"], 1);
    is_whole(&go_on(&bench, &transfer).unwrap());
    ask("resume", json!({}));
    let receipt = ask("enqueue", json!({ "kind": "form", "payload": 1, "options": { "key": "after" } }));
    ask("delivered", json!({ "id": receipt["id"], "timeoutMs": 60_000 }));
}

#[test]
fn a_page_that_asks_for_progress_without_end_is_refused_and_one_that_stops_may_go_on() {
    let bench = start(everything(), config(json!([])), Builder::new()).unwrap();
    let window = &bench.window;
    let watch = |n: usize| call(window, "progress", json!({ "channel": format!("__CHANNEL__:{n}") }));
    let stop = |number: &Value| call(window, "progress", json!({ "stop": number })).unwrap();
    let mut numbers: Vec<Value> = Vec::new();
    let refused = loop {
        assert!(numbers.len() < 10_000, "a page may ask without end");
        match watch(numbers.len()) {
            Ok(number) => numbers.push(number),
            Err(error) => break error,
        }
    };
    assert_eq!(refused["code"], "invalid_argument", "{refused}");
    assert!(numbers.len() >= 100, "{} are few", numbers.len());
    let second = WebviewWindowBuilder::new(&bench.app, "second", tauri::WebviewUrl::default()).build().unwrap();
    call(&second, "progress", json!({ "channel": "__CHANNEL__:1" })).unwrap();
    // Of another window it is not its own, and twice is as good as once.
    call(&second, "progress", json!({ "stop": numbers[0] })).unwrap();
    assert_eq!(code(watch(1)), "invalid_argument");
    for _ in 0..2 {
        stop(&numbers[0]);
    }
    watch(1).unwrap();
    assert_eq!(code(watch(1)), "invalid_argument");
}

#[test]
fn a_file_of_the_disk_is_given_up_while_it_is_copied_and_nothing_of_it_stays() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().canonicalize().unwrap();
    let path = place.join("film.mp4");
    // Takes a while to copy, and no room.
    std::fs::File::create(&path).unwrap().set_len(4 << 30).unwrap();
    std::fs::write(place.join("small.mp4"), b"small").unwrap();
    let bench = start(everything(), config(json!([format!("{}/*", place.display())])), Builder::new()).unwrap();
    let window = &bench.window;
    call(window, "pause", json!({})).unwrap();
    let copied = |path: &std::path::Path| {
        call(window, "enqueue_file", json!({ "kind": "photo", "path": path, "transfer": NOBODY }))
    };
    std::thread::scope(|scope| {
        let copying = scope.spawn(|| copied(&path));
        until("a part is in the spool", || !spooled(&bench).is_empty());
        assert_eq!(code(copied(&path)), "invalid_argument", "that id is taken");
        assert_eq!(code(stands(window, NOBODY)), "invalid_argument", "nothing is handed over");
        assert_eq!(abort(window, NOBODY), Value::Null);
        assert_eq!(code(copying.join().unwrap()), "aborted");
    });
    until("nothing of it stays", || spooled(&bench).is_empty());
    assert_eq!(call(window, "list", json!({})).unwrap(), json!([]));
    copied(&place.join("small.mp4")).expect("the id is free again");
    assert_eq!(abort(window, NOBODY), Value::Null);
    let entries = call(window, "list", json!({})).unwrap();
    assert_eq!(entries.as_array().unwrap().len(), 1, "what is saved stays: {entries}");
}

//! Every command is called with marked secrets, right and wrong, in a process whose log is kept at its lowest level. Then no mark may be in the
//! log, an error, an event, a message of a channel, a file, or an answer that is not there to give it.

use std::{fmt::Write as _, path::Path, process::Command};

use super::*;

/// The folder in which the files are that a window names; set for the process that does all this.
const FOLDER: &str = "STORAGE_SYNC_WINDOW_LEAKS_FOLDER";

const PAYLOAD: &str = "mk-payload-2c8f";
const PARAM: &str = "mk-param-91be";
const TOKEN: &str = "mk-token-d04a";
const NAME: &str = "mk-filename-6e37";
/// What the keys of entries begin with. It may be in entries and on the disk, and is to be in nothing else that is told.
const KEY: &str = "mk-key-90c5";
/// What is given where it has no business.
const ARGUMENT: &str = "mk-argument-5a1d";
const MARKS: [&str; 5] = [PAYLOAD, PARAM, TOKEN, NAME, ARGUMENT];

/// A mark and what it looks like once somebody has shown its bytes.
fn shapes() -> Vec<String> {
    let mut shapes = Vec::new();
    for mark in MARKS {
        let (mut list, mut digits) = (String::new(), String::new());
        for byte in &mark.as_bytes()[..9] {
            write!(list, "{byte}, ").unwrap();
            write!(digits, "{byte:02x}").unwrap();
        }
        shapes.extend([mark.to_owned(), list, digits]);
    }
    shapes
}

fn has_no_mark(bytes: &[u8], of: &str) {
    for shape in shapes() {
        if let Some(at) = bytes.windows(shape.len()).position(|window| window == shape.as_bytes()) {
            let around = &bytes[at.saturating_sub(300)..(at + 300).min(bytes.len())];
            panic!("{shape} is in {of}: …{}…", String::from_utf8_lossy(around));
        }
    }
}

fn files_are_clean(folder: &Path) -> usize {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files
        .map(|path| {
            if path.is_dir() {
                return files_are_clean(&path);
            }
            has_no_mark(&std::fs::read(&path).unwrap(), &path.display().to_string());
            1
        })
        .sum()
}

/// Our own log goes to standard error, and from there to the test. What dependencies tell `tracing` alone is looked through in
/// tests/scenarios/leaks.rs.
struct Log;

static LOG: Log = Log;

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!("log: {} {}", record.target(), record.args());
    }

    fn flush(&self) {}
}

#[test]
fn no_call_of_a_window_puts_a_secret_into_the_log_an_error_an_event_or_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    let name = "commands::tests::leaks::a_window_calls_every_command_with_marks";
    command.args(["--exact", name, "--nocapture"]).env(FOLDER, folder.path());
    let out = command.output().unwrap();
    let (said, told) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    has_no_mark(&out.stdout, "an answer, an error, an event or a channel");
    has_no_mark(&out.stderr, "the log and panics");
    let entries = |line: &&str| line.starts_with("window: ") && line.contains(" answered");
    for line in told.lines().chain(said.lines().filter(|line| !entries(line))) {
        assert!(!line.contains(KEY), "the key of an entry is in the log, an error, an event or a channel: {line}");
    }
    assert!(said.lines().filter(entries).any(|line| line.contains(KEY)), "the control: entries tell their keys");
    assert!(out.status.success() && said.contains("window: done"), "{said}\n{told}");
    // The controls: what was looked through is what it is said to be.
    assert!(told.contains("log: tauri_plugin_storage_sync"), "the log was not kept: {told}");
    for seen in
        ["storage-sync://status", "storage-sync://entry", "storage-sync://auth", "window: channel", "invalid_argument"]
    {
        assert!(said.contains(seen), "{seen} was not looked at: {said}");
    }
    for command in COMMANDS {
        // That one is for a queue whose key is lost.
        let answers = said.contains(&format!("window: {command} answered")) || command == "reset_encrypted_data";
        assert!(answers, "{command} never answered: {said}");
        let takes = !["status", "conflicts", "watches", "pause", "resume", "rotate_key"].contains(&command);
        assert!(!takes || said.contains(&format!("window: {command} refused")), "{command} never refused");
    }
}

/// A window whose every answer is shown.
struct Shown<'b>(&'b WebviewWindow<MockRuntime>);

impl Shown<'_> {
    fn call(&self, command: &str, arguments: Value) -> Option<Value> {
        self.invoke(command, InvokeBody::Json(arguments), &[])
    }

    fn invoke(&self, command: &str, body: InvokeBody, headers: &[(&'static str, &str)]) -> Option<Value> {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        match invoke(self.0, command, body, headers) {
            Ok(InvokeResponseBody::Json(answer)) => {
                let answer: Value = serde_json::from_str(&answer).unwrap();
                // These are there to give it.
                if ["payload", "file", "watch", "watches"].contains(&command) {
                    // After `unwatch` there is no folder to name.
                    let gives = MARKS.iter().any(|mark| answer.to_string().contains(mark)) || answer == json!([]);
                    assert!(gives, "{command} gives what was kept");
                    println!("window: {command} answered");
                } else {
                    println!("window: {command} answered {answer}");
                }
                Some(answer)
            }
            Ok(InvokeResponseBody::Raw(_)) => {
                println!("window: {command} answered");
                None
            }
            Err(error) => {
                println!("window: {command} refused {error}");
                None
            }
        }
    }

    fn delivered(&self, receipt: &Value) {
        self.call("delivered", json!({ "id": receipt["id"], "timeoutMs": 60_000 })).expect("it is delivered");
    }

    fn hand_over(&self, kind: &str, bytes: &[u8]) -> Value {
        let options = json!({ "name": format!("{NAME}.png"), "params": { "token": PARAM } });
        let begun =
            self.call("enqueue_file", json!({ "kind": kind, "bytes": bytes.len(), "options": options })).unwrap();
        let transfer = begun["transfer"].as_str().unwrap();
        for (number, part) in bytes.chunks(1 << 17).enumerate() {
            let offset = (number << 17).to_string();
            let headers = [("x-transfer", transfer), ("x-offset", &offset)];
            self.invoke("enqueue_file", InvokeBody::Raw(part.to_vec()), &headers).unwrap();
        }
        self.call("enqueue_file", json!({ "transfer": transfer, "finish": true })).unwrap()
    }
}

/// Does nothing in an ordinary run of the tests.
#[test]
fn a_window_calls_every_command_with_marks() {
    let Some(disk) = std::env::var_os(FOLDER) else { return };
    log::set_logger(&LOG).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let disk = Path::new(&disk).canonicalize().unwrap();
    let bench = start(everything(), Some(config(&disk)), Builder::new()).unwrap();
    for event in ["storage-sync://status", "storage-sync://entry", "storage-sync://auth"] {
        bench.app.listen_any(event, move |told| println!("window: {event} {}", told.payload()));
    }
    let window = Shown(&bench.window);
    right(&window, &bench.told, &disk);
    wrong(&window, &disk);
    files_are_clean(bench.place.folder.path());
    for (channel, news) in bench.told.lock().unwrap().iter() {
        println!("window: channel {channel} was told {news}");
    }
    // The control: the server has it all.
    let requests = bench.server.0.lock().unwrap();
    let has = |mark: &str| {
        requests.iter().any(|request| {
            let everything =
                [request.url.as_str().as_bytes(), &request.body, format!("{:?}", request.url).as_bytes()].concat();
            everything.windows(mark.len()).any(|window| window == mark.as_bytes())
                || request.credentials.iter().any(|(_, value)| value.contains(mark))
        })
    };
    assert!([PAYLOAD, PARAM, TOKEN].into_iter().all(has), "it went over the wire");
    assert!(!has(ARGUMENT), "what was refused was sent");
    println!("window: done");
}

fn config(disk: &Path) -> Value {
    json!({
        "roots": [format!("{}/**", disk.display())],
        "endpoints": {
            "form": { "method": "PUT", "url": "https://a.com/{key}?token={token}" },
            "asked": { "method": "PUT", "url": "https://a.com/asked/{key}?token={token}", "onConflict": "ask" },
            "photo": { "method": "POST", "url": "https://a.com/photos?token={token}", "body": "raw" },
            "scan": { "method": "PUT", "url": "https://a.com/scans/{key}?token={token}", "body": "multipart" },
            "video": { "method": "POST", "url": "https://a.com/videos?token={token}", "body": "tus" } },
    })
}

fn with(key: &str) -> Value {
    json!({ "key": format!("{KEY}-{key}"), "params": { "token": PARAM } })
}

/// Each command as it is meant.
fn right(window: &Shown<'_>, told: &Told, disk: &Path) {
    let form = |key: &str| json!({ "kind": "form", "payload": { "text": PAYLOAD }, "options": with(key) });
    let guarded = window.call("enqueue", form("guarded")).unwrap();
    let waits = || window.call("status", json!({})).unwrap()["holds"] != json!([]);
    while !waits() {
        std::thread::yield_now();
    }
    let credentials = json!({ "headers": { "Authorization": format!("Bearer {TOKEN}") }, "origin": "https://a.com" });
    window.call("set_credentials", credentials);
    window.delivered(&guarded);
    window.call("progress", json!({ "channel": "__CHANNEL__:1" }));
    window.call("pause", json!({}));
    let kept = window.call("enqueue", form("kept")).unwrap();
    let bytes = [PAYLOAD.as_bytes(), &[0, 255]].concat();
    let options = percent_encoding::utf8_percent_encode(&with("bytes").to_string(), percent_encoding::NON_ALPHANUMERIC)
        .to_string();
    window.invoke("enqueue", InvokeBody::Raw(bytes.clone()), &[("x-kind", "photo"), ("x-options", &options)]);
    window.call("enqueue_all", json!({ "entries": [form("one"), form("two")] }));
    window.call("payload", json!({ "id": kept["id"] }));
    window.call("edit", json!({ "id": kept["id"], "payload": { "text": format!("{PAYLOAD} again") } }));
    let handed = window.hand_over("video", &PAYLOAD.repeat(20_000).into_bytes());
    let small = window.hand_over("photo", PAYLOAD.as_bytes());
    window.call("file", json!({ "id": handed["id"] }));
    let path = disk.join(format!("{NAME}.bin"));
    std::fs::write(&path, PAYLOAD.repeat(30_000)).unwrap();
    let by_path = json!({ "kind": "photo", "path": path, "options": { "params": { "token": PARAM } } });
    let by_path = window.call("enqueue_file", by_path).unwrap();
    let watched = disk.join(format!("{NAME}-folder"));
    std::fs::create_dir(&watched).unwrap();
    let options = json!({ "kind": "scan", "patterns": [format!("*{NAME}*")], "params": { "token": PARAM } });
    let watch = window.call("watch", json!({ "dir": watched, "options": options })).unwrap();
    window.call("watches", json!({}));
    window.call("observe", json!({ "kind": "form", "key": with("kept")["key"], "known": { "revision": 3 } }));
    window.call("list", json!({ "query": { "limit": 100 } }));
    window.call("rotate_key", json!({}));
    window.call("resume", json!({}));
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while told.lock().unwrap().is_empty() {
        assert!(std::time::Instant::now() < deadline, "no progress was told");
        std::thread::sleep(Duration::from_millis(5));
    }
    for receipt in [&kept, &handed, &small, &by_path] {
        window.delivered(receipt);
        window.call("get", json!({ "id": receipt["id"] }));
    }
    let asked = json!({ "kind": "asked", "payload": { "text": PAYLOAD }, "options": with("contested") });
    let asked = window.call("enqueue", asked).unwrap();
    window.call("delivered", json!({ "id": asked["id"], "timeoutMs": 60_000 }));
    window.call("conflicts", json!({}));
    window.call("conflicts_read", json!({ "ids": [asked["id"]] }));
    window.call("resolve", json!({ "id": asked["id"], "payload": { "text": PAYLOAD } }));
    window.call("delivered", json!({ "id": asked["id"], "timeoutMs": 60_000 }));
    window.call("retry", json!({ "which": asked["id"], "force": true }));
    window.call("flush", json!({ "timeoutMs": 60_000 }));
    window.call("discard", json!({ "which": asked["id"] }));
    window.call("unwatch", json!({ "id": watch["id"] }));
    window.call("set_account", json!({ "account": "ada" }));
    window.call("sign_out", json!({ "pending": "discard" }));
    window.call("reset_encrypted_data", json!({ "confirm": crate::outbox::CONFIRM }));
}

/// Each with a mark in every place that takes a value.
fn wrong(window: &Shown<'_>, disk: &Path) {
    let missing = disk.join(format!("{ARGUMENT}.bin"));
    let elsewhere = format!("/elsewhere/{ARGUMENT}");
    for (command, right, _) in super::hostile::calls() {
        for name in right.as_object().unwrap().keys() {
            for value in
                [json!(ARGUMENT), json!([ARGUMENT]), json!({ "surplus": ARGUMENT }), json!({ "headers": [ARGUMENT] })]
            {
                // What is a payload, a key or an account may be anything; the name of a kind that is not there is said.
                if ["payload", "kind", "key", "account"].contains(&name.as_str()) {
                    continue;
                }
                let mut arguments = right.clone();
                arguments[name] = value;
                window.call(command, arguments);
            }
        }
        let mut more = right.clone();
        more["surplus"] = json!(ARGUMENT);
        window.call(command, more);
        for headers in
            [&[("x-kind", "photo"), ("x-options", ARGUMENT)][..], &[("x-id", ARGUMENT)], &[("x-transfer", ARGUMENT)]]
        {
            window.invoke(command, InvokeBody::Raw(ARGUMENT.as_bytes().to_vec()), headers);
        }
    }
    let token = |value: String| json!({ "key": "a", "params": { "token": value } });
    for (command, arguments) in [
        ("enqueue", json!({ "kind": "form", "payload": ARGUMENT, "options": token(format!("{ARGUMENT}\n")) })),
        ("enqueue", json!({ "kind": "form", "payload": ARGUMENT.repeat(1 << 17), "options": with("a") })),
        ("enqueue", json!({ "kind": "form", "payload": ARGUMENT, "options": { "key": "a", "after": [ARGUMENT] } })),
        (
            "enqueue_all",
            json!({ "entries": [{ "kind": "form", "payload": ARGUMENT, "options": { "nonsense": ARGUMENT } }] }),
        ),
        ("enqueue_file", json!({ "kind": "photo", "path": missing, "options": { "params": { "token": PARAM } } })),
        ("enqueue_file", json!({ "kind": "photo", "path": elsewhere, "options": { "params": { "token": PARAM } } })),
        ("enqueue_file", json!({ "kind": "photo", "bytes": 3, "options": { "name": format!("../{ARGUMENT}") } })),
        ("enqueue_file", json!({ "kind": "photo", "bytes": 3, "options": { "metadata": { "title": ARGUMENT } } })),
        ("set_credentials", json!({ "headers": { "Authorization": format!("{ARGUMENT}\n") } })),
        (
            "set_credentials",
            json!({ "headers": { "Authorization": "x" }, "origin": format!("https://{ARGUMENT}.com") }),
        ),
        ("enqueue", json!({ "kind": "form", "payload": 1, "options": with("\n") })),
        ("enqueue", json!({ "kind": "form", "payload": 1, "options": with(&"k".repeat(600)) })),
        ("observe", json!({ "kind": "form", "key": format!("{KEY}\n"), "known": { "revision": 1 } })),
        ("observe", json!({ "kind": "form", "key": "a", "known": { "canonicalId": format!("{ARGUMENT}\n") } })),
        ("observe", json!({ "kind": "form", "key": "a", "known": { "etag": ARGUMENT } })),
    ] {
        window.call(command, arguments);
    }
}

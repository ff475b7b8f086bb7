//! Every command in any order, with arguments right and wrong, as no app would ever call them: each call is answered, nothing that was promised is
//! lost, and nothing is left over.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use tauri::Manager as _;

use super::{
    hostile::is_proper,
    transfers::{spooled, until},
    *,
};
use crate::{commands::Pages, fuzz::tests::Dice};

impl Dice {
    fn choose<'t, T: ?Sized>(&mut self, from: &[&'t T]) -> &'t T {
        from[self.roll(from.len())]
    }

    /// One of them, or now and then one that is not there.
    fn id(&mut self, known: &[String]) -> String {
        if known.is_empty() || self.roll(5) == 0 {
            return format!("0193f6a0-0000-7000-8000-00000000000{}", self.roll(4));
        }
        known[known.len() - 1 - self.roll(known.len().min(12))].clone()
    }
}

const ACCOUNTS: [&str; 3] = ["", "ada", "eve"];

/// A file that is handed over.
struct Handed {
    id: String,
    account: String,
    total: usize,
    received: usize,
}

/// An app, and what it was promised.
struct Chaos {
    bench: Bench,
    dice: Dice,
    /// Who is signed in.
    account: String,
    /// By id: whose it is.
    receipts: BTreeMap<String, String>,
    /// Discarded, destroyed with their account, or given up with its key.
    gone: BTreeSet<String>,
    ids: Vec<String>,
    transfers: Vec<Handed>,
    watches: Vec<String>,
    numbers: Vec<Value>,
    /// How each command was answered.
    answers: BTreeMap<(String, bool), u32>,
    /// What was asked, the newest last.
    asked: Vec<String>,
}

impl Chaos {
    fn call(&mut self, command: &str, arguments: Value) -> Option<Value> {
        self.invoke(command, InvokeBody::Json(arguments), HeaderMap::new())
    }

    fn invoke(&mut self, command: &str, body: InvokeBody, headers: HeaderMap) -> Option<Value> {
        let given: String = match &body {
            InvokeBody::Json(arguments) => arguments.to_string().chars().take(200).collect(),
            InvokeBody::Raw(bytes) => format!("{} bytes, {headers:?}", bytes.len()),
        };
        self.asked.push(format!("{} {command} {given}", self.account));
        let answer = invoke(&self.bench.window, command, body, headers);
        *self.answers.entry((command.to_owned(), answer.is_ok())).or_default() += 1;
        match answer {
            Ok(InvokeResponseBody::Json(json)) => Some(serde_json::from_str(&json).unwrap()),
            Ok(InvokeResponseBody::Raw(_)) => Some(Value::Null),
            Err(error) => {
                is_proper(command, &given, Err(error));
                None
            }
        }
    }

    fn promised(&mut self, receipt: &Value, account: &str) {
        let id = receipt["id"].as_str().unwrap().to_owned();
        self.gone.remove(&id);
        self.receipts.insert(id.clone(), account.to_owned());
        self.ids.push(id);
    }

    /// Everything of the current account goes.
    fn emptied(&mut self) {
        let own = self.receipts.iter().filter(|(_, account)| **account == self.account).map(|(id, _)| id.clone());
        self.gone.extend(own.collect::<Vec<_>>());
    }

    fn options(&mut self) -> Value {
        let mut options = json!({ "key": self.dice.choose(&["a", "b", "c", "contested", "guarded", "bad\n"]) });
        if self.dice.roll(4) == 0 {
            options["id"] = json!(self.dice.id(&self.ids));
        }
        if self.dice.roll(4) == 0 {
            options["after"] = json!([self.dice.id(&self.ids)]);
        }
        options
    }

    fn item(&mut self) -> Value {
        let kind = self.dice.choose(&["form", "form", "asked", "listing", "photo", "nothing"]);
        let mut options = self.options();
        if kind == "listing" && self.dice.roll(2) == 0 {
            options["action"] = json!(self.dice.choose(&["create", "update", "delete"]));
        }
        let payload = self.dice.roll(3);
        json!({ "kind": kind, "payload": payload, "options": options })
    }

    /// One call, or two that belong together.
    fn step(&mut self) {
        match self.dice.roll(34) {
            0..=3 => {
                let item = self.item();
                if let Some(receipt) = self.call("enqueue", item) {
                    self.promised(&receipt, &self.account.clone());
                }
            }
            4 => {
                let entries: Vec<_> = (0..self.dice.roll(4)).map(|_| self.item()).collect();
                let receipts = self.call("enqueue_all", json!({ "entries": entries }));
                for receipt in receipts.iter().flat_map(Value::as_array).flatten() {
                    self.promised(receipt, &self.account.clone());
                }
            }
            5..=14 => self.hand_over(),
            15 | 16 => self.discard(),
            17 => {
                let (which, force) = (self.selection(), self.dice.roll(2) == 0);
                self.call("retry", json!({ "which": which, "force": force }));
            }
            18 => {
                let (id, payload) = (self.dice.id(&self.ids), self.dice.roll(3));
                self.call("edit", json!({ "id": id, "payload": payload }));
            }
            19 => {
                let (id, choice) = (self.dice.id(&self.ids), self.dice.choose(&["mine", "theirs", "both"]));
                self.call("resolve", json!({ "id": id, "choice": choice }));
            }
            20 | 21 => self.change_account(),
            22 => drop(self.call("rotate_key", json!({}))),
            23 => self.reset(),
            24 => drop(self.call("pause", json!({}))),
            25 | 26 => drop(self.call("resume", json!({}))),
            27 => self.progress(),
            28 => self.watch(),
            29 => {
                let origin = self.dice.choose(&["https://a.com", "https://b.com", "nowhere"]);
                let headers = if self.dice.roll(3) == 0 { json!({}) } else { json!({ "Authorization": "Bearer x" }) };
                let account = self.dice.choose(&[&ACCOUNTS[..], &["mallory"]].concat());
                self.call("set_credentials", json!({ "origin": origin, "headers": headers, "account": account }));
            }
            30 => {
                let known = [json!({ "revision": 3 }), json!({ "exists": true }), json!({ "etag": "bad" })];
                let known = known[self.dice.roll(3)].clone();
                self.call("observe", json!({ "kind": "form", "key": "a", "known": known }));
            }
            31 => {
                let (id, patience) = (self.dice.id(&self.ids), self.dice.roll(5));
                for command in ["get", "payload", "file"] {
                    self.call(command, json!({ "id": id }));
                }
                self.call("delivered", json!({ "id": id, "timeoutMs": patience }));
            }
            32 => {
                let ids: Vec<_> = (0..self.dice.roll(3)).map(|_| self.dice.id(&self.ids)).collect();
                self.call("conflicts", json!({}));
                self.call("conflicts_read", json!({ "ids": ids }));
                let patience = self.dice.roll(20);
                self.call("flush", json!({ "timeoutMs": patience }));
            }
            _ => {
                self.call("status", json!({}));
                let limit = self.dice.roll(3);
                self.call("list", json!({ "query": { "limit": limit } }));
            }
        }
    }

    /// The next step of a transfer, or a wrong one.
    fn hand_over(&mut self) {
        let unknown = self.dice.id(&[]);
        let at = (!self.transfers.is_empty()).then(|| self.dice.roll(self.transfers.len()));
        let at = at.filter(|_| self.dice.roll(12) > 0);
        let id = at.map_or(unknown, |at| self.transfers[at].id.clone());
        match self.dice.roll(12) {
            0 | 1 => {
                let kind = self.dice.choose(&["photo", "photo", "form", "nothing"]);
                let total = [0, 10, 65_536, 200_000][self.dice.roll(4)];
                let said = if self.dice.roll(10) == 0 { json!(u64::MAX) } else { json!(total) };
                let options = self.options();
                let begun = self.call("enqueue_file", json!({ "kind": kind, "bytes": said, "options": options }));
                if let Some(begun) = begun {
                    let id = begun["transfer"].as_str().unwrap().to_owned();
                    self.transfers.push(Handed { id, account: self.account.clone(), total, received: 0 });
                }
            }
            2..=7 => {
                let of = at.map(|at| &self.transfers[at]);
                let (received, left) = of.map_or((0, 10), |of| (of.received, of.total.saturating_sub(of.received)));
                let offset = match self.dice.roll(16) {
                    0 => received + 1,
                    1 => 0,
                    2 => usize::MAX,
                    _ => received,
                };
                let length = match self.dice.roll(8) {
                    0 => left + 1,
                    1 => 0,
                    2 => left / 2,
                    _ => left,
                };
                let headers = [("x-transfer", id), ("x-offset", offset.to_string())];
                let headers =
                    headers.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
                let bytes = vec![7; length];
                let body = if length < 100 { InvokeBody::Json(json!(bytes)) } else { InvokeBody::Raw(bytes) };
                if let (Some(stands), Some(at)) = (self.invoke("enqueue_file", body, headers), at) {
                    self.transfers[at].received = stands["offset"].as_u64().unwrap() as usize;
                }
            }
            8 => drop(self.call("enqueue_file", json!({ "transfer": id }))),
            9 | 10 => {
                let finished = self.call("enqueue_file", json!({ "transfer": id, "finish": true }));
                // It stays in the list: what is over is asked again.
                if let (Some(receipt), Some(at)) = (finished, at) {
                    let account = self.transfers[at].account.clone();
                    self.promised(&receipt, &account);
                }
            }
            _ if self.dice.roll(4) == 0 => {
                self.asked.push("the page is gone".to_owned());
                self.bench.app.state::<Pages>().gone("main");
                self.transfers.clear();
            }
            _ => drop(self.call("enqueue_file", json!({ "transfer": id, "abort": true }))),
        }
        if self.transfers.len() > 40 {
            self.transfers.drain(..20);
        }
    }

    fn selection(&mut self) -> Value {
        match self.dice.roll(4) {
            0 => json!("all"),
            1 => json!({ "kind": "form", "state": ["failed"] }),
            _ => json!(self.dice.id(&self.ids)),
        }
    }

    /// No more than it names.
    fn discard(&mut self) {
        let which = self.selection();
        let cascade = self.dice.roll(2) == 0;
        let Some(done) = self.call("discard", json!({ "which": which, "cascade": cascade })) else { return };
        let ids = done["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned());
        for id in ids {
            let own = self.receipts.get(&id).is_none_or(|account| *account == self.account);
            assert!(own, "{id} is another account's: {:#?}", self.asked);
            self.gone.insert(id);
        }
    }

    fn change_account(&mut self) {
        let account = self.dice.choose(&ACCOUNTS);
        if self.dice.roll(2) == 0 {
            let (pending, patience) = (self.dice.choose(&["keep", "flush", "discard", "drop"]), self.dice.roll(50));
            let done = self.call("sign_out", json!({ "pending": pending, "timeoutMs": patience }));
            if done.is_some() && pending == "discard" {
                self.emptied();
            }
            if done.is_some() {
                self.account.clear();
            }
            return;
        }
        if self.call("set_account", json!({ "account": account })).is_some() {
            self.account = account.to_owned();
        }
    }

    /// With the words that it wants, and now and then for a reason.
    fn reset(&mut self) {
        if self.dice.roll(2) == 0 && !self.account.is_empty() {
            let account = self.account.clone();
            if self.call("sign_out", json!({ "pending": "keep" })).is_some() {
                self.bench.place.keys.0.lock().unwrap().remove(&account);
                self.account.clear();
            }
            if self.call("set_account", json!({ "account": account })).is_some() {
                self.account = account;
            }
        }
        let confirm = self.dice.choose(&[crate::CONFIRM_RESET, "yes"]);
        if self.call("reset_encrypted_data", json!({ "confirm": confirm })).is_some() {
            self.emptied();
        }
    }

    fn progress(&mut self) {
        if self.dice.roll(2) == 0 {
            let id = self.dice.id(&self.ids);
            let asked = json!({ "channel": format!("__CHANNEL__:{}", self.dice.roll(9)), "id": id });
            let number = self.call("progress", asked);
            self.numbers.extend(number);
        } else {
            // Also those that were stopped before.
            let number = self.numbers.get(self.dice.roll(self.numbers.len() + 1)).cloned().unwrap_or(json!(7777));
            self.call("progress", json!({ "stop": number }));
        }
    }

    fn watch(&mut self) {
        if self.dice.roll(2) == 0 {
            let dir = self.bench.place.folder.path().parent().unwrap().join("not-allowed");
            let dir = if self.dice.roll(3) == 0 { dir } else { watched(&self.bench) };
            let watch = self.call("watch", json!({ "dir": dir, "options": { "kind": "photo" } }));
            self.watches.extend(watch.map(|watch| watch["id"].as_str().unwrap().to_owned()));
        } else {
            let id = self.dice.id(&self.watches);
            self.call("unwatch", json!({ "id": id }));
            self.call("unwatch", json!({ "id": id }));
        }
        self.call("watches", json!({}));
    }

    /// Every receipt is there, or it is known why not.
    fn account_for_all(&mut self) {
        for account in ACCOUNTS {
            self.call("set_account", json!({ "account": account })).expect("it is an account");
            self.account = account.to_owned();
            let own = self.receipts.iter().filter(|(_, of)| *of == account).map(|(id, _)| id.clone());
            for id in own.collect::<Vec<_>>() {
                let there = call(&self.bench.window, "get", json!({ "id": id })).is_ok();
                let gone = self.gone.contains(&id);
                assert_eq!(there, !gone, "{id} of {account:?}: {:#?}", self.asked);
            }
        }
    }

    /// Nothing that was begun is left once all accounts are.
    fn leave(&mut self) {
        self.bench.app.state::<Pages>().gone("main");
        until("no transfer is under way", || !spooled(&self.bench).iter().any(|name| name.ends_with(".part")));
        for account in ACCOUNTS {
            self.call("set_account", json!({ "account": account })).expect("it is an account");
            let done = self.call("sign_out", json!({ "pending": "discard" })).expect("it is signed out");
            assert_eq!(done["finished"], true, "{done}");
        }
        until("the spool is empty", || spooled(&self.bench).is_empty());
    }
}

fn watched(bench: &Bench) -> std::path::PathBuf {
    bench.place.folder.path().canonicalize().unwrap().with_extension("watched")
}

fn start_chaos(dice: Dice) -> Chaos {
    let place = Place::new();
    let mut config = listings().unwrap();
    let root = place.folder.path().canonicalize().unwrap().with_extension("watched");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("a.txt"), "watched").unwrap();
    config["roots"] = json!([format!("{}/**", root.display()), root]);
    config["retry"] = json!({ "baseMs": 2, "capMs": 20 });
    config["limits"] = json!({ "windowEntries": 1_000_000 });
    let bench = start_in(place, everything(), Some(config), Builder::new()).unwrap();
    Chaos {
        bench,
        dice,
        account: String::new(),
        receipts: BTreeMap::new(),
        gone: BTreeSet::new(),
        ids: Vec::new(),
        transfers: Vec::new(),
        watches: Vec::new(),
        numbers: Vec::new(),
        answers: BTreeMap::new(),
        asked: Vec::new(),
    }
}

/// `STORAGE_SYNC_CALLS=20000` makes about so many; `STORAGE_SYNC_SEED` repeats a run.
#[test]
fn commands_in_any_order_are_all_answered_and_every_receipt_is_accounted_for() {
    let number =
        |name: &str, default: u64| std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"));
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let (seed, calls) = (number("STORAGE_SYNC_SEED", now) | 1, number("STORAGE_SYNC_CALLS", 1500));
    println!("STORAGE_SYNC_SEED={seed}, {calls} steps");
    let mut chaos = start_chaos(Dice(seed));
    for step in 1..=calls {
        chaos.step();
        if step % 250 == 0 {
            chaos.account_for_all();
        }
    }
    chaos.account_for_all();

    // The app goes on as if nothing had been. That key was never taken away.
    chaos.call("set_account", json!({ "account": "" })).unwrap();
    chaos.call("resume", json!({})).unwrap();
    // Whoever was signed out has none any more.
    let credentials = json!({ "origin": "https://a.com", "headers": { "Authorization": "Bearer x" } });
    call(&chaos.bench.window, "set_credentials", credentials).expect("they are taken");
    let entry = json!({ "kind": "form", "payload": "after", "options": { "key": "after" } });
    let receipt = chaos.call("enqueue", entry).expect("it is enqueued");
    call(&chaos.bench.window, "delivered", json!({ "id": receipt["id"], "timeoutMs": 60_000 }))
        .expect("it is delivered");
    chaos.leave();
    std::fs::remove_dir_all(watched(&chaos.bench)).unwrap();

    println!("{} receipts, {} of them gone; {:?}", chaos.receipts.len(), chaos.gone.len(), chaos.answers);
    // The controls: most commands were answered and most were refused, and much was promised.
    let met = |ok: bool| chaos.answers.keys().filter(|(_, answered)| *answered == ok).count();
    assert!(met(true) >= COMMANDS.len() - 6 && met(false) >= 12, "{:?}", chaos.answers);
    assert!(chaos.receipts.len() as u64 > calls / 75, "{} receipts", chaos.receipts.len());
}

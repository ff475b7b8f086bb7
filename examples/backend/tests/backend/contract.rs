//! `docs/server-contract.md` is true: every exchange in it is run, in order, against a backend that keeps answers and compares revisions,
//! a new one for each heading.
//!
//! A block of ```` ```http ```` is a request and its answer. The answer has at least these headers and exactly this body, if it shows one.
//! Ids (`srv-1`) and entity tags (`"v1"`) stand for what the server makes up: the same name is the same value, another name another.
//! A request without an answer is applied, and its answer is lost. Between the blocks a comment may say what else happens:
//!
//! | `<!-- … -->` | meaning |
//! | --- | --- |
//! | `server {…}` | settings, as `PUT /__control` takes them |
//! | `edit {…}` | another device writes, as `POST /__control/edit` takes it; `as srv-1` names the id |
//! | `rule {…}` | a fault, as `POST /__control/rules` takes it |
//! | `held` | the next request, which has no answer, is held |
//! | `release` | it goes on |

use std::{collections::BTreeMap, fs};

use serde_json::Value;
use storage_sync_backend::{Backend, Gate, Options, Revisions, Rule};

use crate::client::{Ask, Reply, ask};

/// One step of a section.
#[derive(Debug)]
enum Step {
    Comment(String),
    Exchange { line: usize, request: Message, answer: Option<Message> },
}

/// A request or an answer as the page has it.
#[derive(Debug)]
struct Message {
    first: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Message {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
        let mut lines = head.trim().lines();
        let first = lines.next().expect("a message has a first line").to_owned();
        let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
        let headers = lines.map(|line| header(line).unwrap_or_else(|| panic!("{line:?} is no header"))).collect();
        Self { first, headers, body: body.trim().to_owned() }
    }
}

/// The sections of the page, by their headings.
fn sections(page: &str) -> Vec<(String, Vec<Step>)> {
    let mut sections: Vec<(String, Vec<Step>)> = Vec::new();
    let mut block: Option<(usize, String)> = None;
    let mut elsewhere = false;
    for (number, line) in page.lines().enumerate() {
        let number = number + 1;
        match &mut block {
            Some((begun, _)) if line == "```" => {
                let begun = *begun;
                let text = block.take().map(|(_, text)| text).unwrap_or_default();
                let (request, answer) = match text.split_once("\nHTTP/1.1 ") {
                    Some((request, answer)) => (request, Some(Message::parse(&format!("HTTP/1.1 {answer}")))),
                    None => (text.as_str(), None),
                };
                let request = Message::parse(request);
                let (_, steps) = sections.last_mut().expect("a block has a heading above it");
                steps.push(Step::Exchange { line: begun, request, answer });
            }
            Some((_, text)) => *text += &format!("{line}\n"),
            None if line == "```http" => block = Some((number, String::new())),
            None if line.starts_with("```") => elsewhere = !elsewhere,
            None if elsewhere => {}
            None => {
                if let Some(heading) = line.strip_prefix("### ").or_else(|| line.strip_prefix("## ")) {
                    sections.push((heading.to_owned(), Vec::new()));
                } else if let Some(comment) = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")) {
                    let (_, steps) = sections.last_mut().expect("a comment has a heading above it");
                    steps.push(Step::Comment(comment.to_owned()));
                }
            }
        }
    }
    assert!(block.is_none(), "a block has no end");
    sections
}

/// What the names on the page stand for.
#[derive(Default)]
struct Names(BTreeMap<String, String>);

impl Names {
    /// `text` with what the names stand for. Longer names first, so that `srv-1` leaves `srv-10` alone.
    fn put_in(&self, text: &str) -> String {
        let mut names: Vec<_> = self.0.iter().collect();
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        names.into_iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }

    /// Whether a text of the page fits what came.
    fn fits(&mut self, said: &str, came: &str) -> bool {
        let Some((start, name)) =
            said.find("srv-").map(|at| said.split_at(at)).or_else(|| is_tag(said).then_some(("", said)))
        else {
            return said == came;
        };
        let Some(value) = came.strip_prefix(start) else { return false };
        match self.0.get(name) {
            Some(known) => known == value,
            None if self.0.values().any(|known| known == value) => false,
            None => {
                self.0.insert(name.to_owned(), value.to_owned());
                true
            }
        }
    }

    /// The same of JSON.
    fn json_fits(&mut self, said: &Value, came: &Value) -> bool {
        match (said, came) {
            (Value::String(said), Value::String(came)) => self.fits(said, came),
            (Value::Object(said), Value::Object(came)) => {
                said.len() == came.len()
                    && said.iter().all(|(name, said)| came.get(name).is_some_and(|came| self.json_fits(said, came)))
            }
            _ => said == came,
        }
    }
}

/// `"v1"`
fn is_tag(text: &str) -> bool {
    text.strip_prefix("\"v").and_then(|rest| rest.strip_suffix('"')).is_some_and(|digits| digits.parse::<u32>().is_ok())
}

/// A section while it is run.
struct Run {
    backend: Backend,
    names: Names,
    hold: bool,
    held: Option<(Gate, tokio::task::JoinHandle<std::io::Result<Reply>>)>,
}

impl Run {
    async fn new() -> Self {
        let options = Options { revisions: Revisions::Compare, ..Options::default() };
        let backend = Backend::start(options).await.unwrap();
        Self { backend, names: Names::default(), hold: false, held: None }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Comment(text) => self.comment(&text).await,
            Step::Exchange { line, request, answer } => {
                let ask = self.request(&request);
                match answer {
                    Some(answer) => {
                        let reply = ask.to(&self.backend).await;
                        self.compare(line, &answer, &reply);
                    }
                    None if std::mem::take(&mut self.hold) => {
                        let gate = self.backend.hold(Rule::hold().times(1));
                        let held = ask.later(&self.backend);
                        gate.holds(1).await;
                        self.held = Some((gate, held));
                    }
                    None => {
                        self.backend.misbehave(Rule::drop_after().times(1));
                        let before = self.backend.world(|world| world.applied());
                        ask.fails(&self.backend).await;
                        assert_eq!(self.backend.world(|world| world.applied()), before + 1, "line {line} is applied");
                    }
                }
            }
        }
    }

    async fn comment(&mut self, text: &str) {
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        let (json, name) = rest.rsplit_once(" as ").unwrap_or((rest, ""));
        let control = |line: &str| ask(line).header("Content-Type", "application/json").body(json);
        let status = match verb {
            "server" => control("PUT /__control").to(&self.backend).await.status,
            "rule" => control("POST /__control/rules").to(&self.backend).await.status,
            "edit" => {
                let reply = control("POST /__control/edit").to(&self.backend).await;
                if !name.is_empty() {
                    assert!(self.names.json_fits(&name.into(), &reply.json()["id"]), "{name} is another");
                }
                reply.status
            }
            "held" => {
                self.hold = true;
                200
            }
            "release" => {
                let (gate, held) = self.held.take().expect("something is held");
                gate.open();
                held.await.unwrap().unwrap().status
            }
            _ => panic!("nobody knows what {text:?} means"),
        };
        assert!((200..300).contains(&status), "{text}: {status}");
    }

    fn request(&self, request: &Message) -> Ask {
        let line = request.first.strip_suffix(" HTTP/1.1").expect("a request ends in its version");
        let headers = request.headers.iter();
        let asked = headers
            .fold(ask(&self.names.put_in(line)), |asked, (name, value)| asked.header(name, &self.names.put_in(value)));
        asked.body(self.names.put_in(&request.body))
    }

    fn compare(&mut self, line: usize, said: &Message, came: &Reply) {
        assert_eq!(came.line(), said.first, "line {line} answers {came:?}");
        for (name, value) in &said.headers {
            let header = came.header(name).unwrap_or_else(|| panic!("line {line} has no {name}: {came:?}"));
            assert!(self.names.fits(value, header), "line {line}: {name} is {header}, and the page says {value}");
        }
        if !said.body.is_empty() {
            let body: Value = serde_json::from_str(&said.body).expect("the page shows JSON");
            assert!(self.names.json_fits(&body, &came.json()), "line {line} answers {}", came.body);
        }
    }
}

#[tokio::test]
async fn every_exchange_of_the_server_contract_is_what_this_backend_answers() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/server-contract.md");
    let page = fs::read_to_string(path).unwrap();
    let (mut run_sections, mut exchanges) = (0, 0);
    for (heading, steps) in sections(&page) {
        exchanges += steps.iter().filter(|step| matches!(step, Step::Exchange { .. })).count();
        run_sections += usize::from(!steps.is_empty());
        println!("{heading}");
        let mut run = Run::new().await;
        for step in steps {
            run.step(step).await;
        }
        assert!(run.held.is_none(), "something is still held");
    }
    assert_eq!(exchanges, page.matches("```http\n").count());
    assert!(
        run_sections >= 12 && exchanges >= 40,
        "the page was not read: {run_sections} sections, {exchanges} exchanges"
    );
}

#[test]
fn a_name_on_the_page_stands_for_one_value_and_no_two_for_the_same() {
    let mut names = Names::default();
    assert!(names.fits("/listings/srv-1", "/listings/srv-abc") && names.fits("srv-1", "srv-abc"));
    assert!(
        !names.fits("srv-1", "srv-def") && !names.fits("srv-2", "srv-abc") && !names.fits("/a/srv-1", "/b/srv-abc")
    );
    assert!(names.fits("\"v1\"", "\"1-x\"") && !names.fits("\"v2\"", "\"1-x\"") && names.fits("\"v2\"", "\"2-x\""));
    assert!(names.fits("plain", "plain") && !names.fits("plain", "other"));
    assert_eq!(names.put_in("PUT /listings/srv-1 \"v2\""), "PUT /listings/srv-abc \"2-x\"");
}

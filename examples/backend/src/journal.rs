//! What outlives the process: an append-only file of JSON lines, and a folder of bodies that do not fit in it.
//!
//! A line is one write: what was applied (if it was) and what was answered under its idempotency key (if it had one). Nothing is synced:
//! it survives the process, not the machine.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{content::Content, respond::Answer, things::Mutation, world::World};

/// Bodies above this size, in bytes, or that are not text, get a file of their own.
const INLINE: usize = 64 * 1024;

/// One write.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Line {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) applied: Option<Mutation>,
    /// The body if it is short text; otherwise it is in the file that its hash names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) answered: Option<Answered>,
}

/// An answer under an idempotency key.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answered {
    pub(crate) key: String,
    pub(crate) fingerprint: String,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answered {
    pub(crate) fn new(key: &str, fingerprint: &str, answer: &Answer) -> Self {
        Self {
            key: key.to_owned(),
            fingerprint: fingerprint.to_owned(),
            status: answer.status,
            headers: answer.headers.iter().map(|(name, value)| (name.to_string(), value.clone())).collect(),
            body: String::from_utf8_lossy(&answer.body).into_owned(),
        }
    }

    fn answer(self) -> (String, String, Answer) {
        let headers = self.headers.into_iter().map(|(name, value)| (name.into(), value)).collect();
        let answer = Answer { status: self.status, headers, body: self.body.into(), large: None };
        (self.key, self.fingerprint, answer)
    }
}

/// The open file.
pub(crate) struct Journal {
    lines: File,
    folder: PathBuf,
}

impl Journal {
    /// Opens the journal in `folder`, tells `world` what is in it, and leaves it there for what comes.
    /// A last line that was cut off by a kill is taken away; it was not answered.
    pub(crate) fn open(folder: &Path, world: &mut World) -> io::Result<()> {
        fs::create_dir_all(folder.join("bodies"))?;
        let path = folder.join("journal.jsonl");
        let lines = File::options().create(true).read(true).append(true).open(&path)?;
        let whole = replay(&lines, folder, world)?;
        lines.set_len(whole)?;
        world.journal = Some(Self { lines, folder: folder.to_owned() });
        Ok(())
    }

    /// How long it is, in bytes.
    pub(crate) fn length(&self) -> io::Result<u64> {
        self.lines.metadata().map(|data| data.len())
    }

    /// Takes everything away that was appended since it was that long.
    pub(crate) fn cut(&mut self, length: u64) -> io::Result<()> {
        self.lines.set_len(length)
    }

    /// Appends one write, if there is anything to remember of it.
    pub(crate) fn append(&mut self, mut line: Line, content: &Content) -> io::Result<()> {
        if line.applied.is_none() && line.answered.is_none() {
            return Ok(());
        }
        if let Some(mutation) = &line.applied {
            let body = content.bytes();
            match std::str::from_utf8(&body) {
                // It is where it belongs already.
                _ if content.file().is_some() => {}
                Ok(text) if body.len() <= INLINE => line.text = Some(text.to_owned()),
                _ => fs::write(self.folder.join("bodies").join(&mutation.sha256), body)?,
            }
        }
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        self.lines.write_all(&text)
    }
}

/// Reads whole lines; answers how many bytes they take.
fn replay(lines: &File, folder: &Path, world: &mut World) -> io::Result<u64> {
    let mut reader = BufReader::new(lines);
    let mut text = Vec::new();
    let mut whole = 0;
    while reader.read_until(b'\n', &mut text)? > 0 && text.last() == Some(&b'\n') {
        let line: Line = serde_json::from_slice(&text)?;
        if let Some(mutation) = &line.applied {
            let content = match line.text {
                Some(text) => Content::of(text),
                None => Content::kept(&folder.join("bodies"), &mutation.sha256)?,
            };
            world.apply(mutation, content);
        }
        if let Some(answered) = line.answered {
            let (key, fingerprint, answer) = answered.answer();
            world.keys.finish(key, fingerprint, answer);
        }
        whole += text.len() as u64;
        text.clear();
    }
    Ok(whole)
}

//! The server, and what it was asked.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
};

use serde_json::{Value, json};

/// A request that was answered, or cut off (status 0).
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub status: u64,
    headers: Value,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers[name].as_str()
    }
}

/// A running server and its folder, which outlives it.
pub struct TusServer {
    folder: tempfile::TempDir,
    child: Option<Child>,
    port: u16,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    seen: Mutex<Vec<Seen>>,
    more: Condvar,
}

/// A method that no client uses: its line in the log says that what was answered before is there too.
const MARK: &str = "REPORT";

impl TusServer {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self { folder, child: None, port: 0, log: Arc::default() };
        server.restart();
        server
    }

    /// Starts it on the port that it had.
    pub fn restart(&mut self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tus-server/server.mjs");
        let mut child = Command::new("node")
            .arg(script)
            .arg(self.folder.path())
            .arg(self.port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Node is installed");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().expect("`npm ci` was run at the root of the repository").unwrap();
        self.port = first.strip_prefix("listening ").unwrap().parse().unwrap();
        self.child = Some(child);
        let log = Arc::clone(&self.log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let said: Value = serde_json::from_str(&line).unwrap();
                let method = said["method"].as_str().unwrap().to_owned();
                let status = said["status"].as_u64().unwrap();
                log.seen.lock().unwrap().push(Seen { method, status, headers: said["headers"].clone() });
                log.more.notify_all();
            }
        });
    }

    /// As a crash does it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/files", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// From the next request on.
    pub fn control(&self, control: &Value) {
        let file = self.folder.path().join("control.json");
        // In one step, since the server may be reading it.
        let mut new = tempfile::NamedTempFile::new_in(self.folder.path()).unwrap();
        new.write_all(control.to_string().as_bytes()).unwrap();
        new.persist(file).unwrap();
    }

    /// Requests of that method that were answered or cut off so far.
    pub fn seen(&self, method: &str) -> Vec<Seen> {
        let marks = |seen: &[Seen]| seen.iter().filter(|seen| seen.method == MARK).count();
        let before = marks(&self.log.seen.lock().unwrap());
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "{MARK} / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        let seen = self.log.seen.lock().unwrap();
        let seen = self.log.more.wait_while(seen, |seen| marks(seen) == before).unwrap();
        seen.iter().filter(|seen| seen.method == method).cloned().collect()
    }

    /// Ends when nobody writes to that upload any more, who has hung up already: a question takes its lock.
    pub fn let_go(&self, upload: &Path) {
        let name = upload.file_name().unwrap().to_str().unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let fields = "Host: x\r\nTus-Resumable: 1.0.0\r\nConnection: close\r\n\r\n";
        write!(stream, "HEAD /files/{name} HTTP/1.1\r\n{fields}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// What it keeps: each upload's file and what is known of it.
    pub fn uploads(&self) -> Vec<(PathBuf, Value)> {
        let Ok(files) = std::fs::read_dir(self.folder.path().join("files")) else { return Vec::new() };
        let mut uploads: Vec<_> = files
            .map(|file| file.unwrap().path())
            .filter(|path| path.extension().is_none())
            .map(|path| {
                let known = std::fs::read(path.with_extension("json")).unwrap();
                (path, serde_json::from_slice(&known).unwrap())
            })
            .collect();
        uploads.sort_by(|one, other| one.0.cmp(&other.0));
        uploads
    }

    /// The only upload's bytes.
    pub fn the_file(&self) -> Vec<u8> {
        let [(path, _)] = &self.uploads()[..] else { panic!("{:?}", self.uploads()) };
        std::fs::read(path).unwrap()
    }

    /// Loses every upload, as a server does whose disk was not kept.
    pub fn forget(&self) {
        for (path, _) in self.uploads() {
            std::fs::remove_file(path.with_extension("json")).unwrap();
            std::fs::remove_file(path).unwrap();
        }
    }

    /// Makes every upload older than it may be.
    pub fn let_expire(&self) {
        for (path, mut known) in self.uploads() {
            known["creation_date"] = json!("2001-01-01T00:00:00.000Z");
            std::fs::write(path.with_extension("json"), known.to_string()).unwrap();
        }
    }
}

impl Drop for TusServer {
    fn drop(&mut self) {
        self.kill();
    }
}

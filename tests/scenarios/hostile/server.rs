//! A server that does to a connection what the test says, byte by byte, in the clear or over TLS.

use std::{
    io::{Read, Result, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A connection.
pub trait Wire: Read + Write + Send {}

impl<T: Read + Write + Send> Wire for T {}

/// What it does with one connection: the how manieth it is, and how it is served.
type Serve = dyn Fn(usize, &mut dyn Wire) -> Result<()> + Send + Sync;

/// Serves each connection on a thread of its own.
pub struct Server {
    scheme: &'static str,
    port: u16,
    connections: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // So that it sees it.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

impl Server {
    pub fn start(
        tls: Option<Arc<ServerConfig>>,
        serve: impl Fn(usize, &mut dyn Wire) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (counted, ended, serve): (_, _, Arc<Serve>) =
            (Arc::clone(&connections), Arc::clone(&over), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let number = counted.fetch_add(1, Ordering::SeqCst);
                let (tls, serve) = (tls.clone(), Arc::clone(&serve));
                // A client that has had enough hangs up, and that is no fault here.
                std::thread::spawn(move || drop(connection(stream, tls, number, &*serve)));
            }
        });
        Self { scheme, port, connections, over }
    }

    /// By name, so that a certificate can be for it.
    pub fn url(&self) -> String {
        format!("{}://localhost:{}", self.scheme, self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn connection(mut stream: TcpStream, tls: Option<Arc<ServerConfig>>, number: usize, serve: &Serve) -> Result<()> {
    stream.set_nodelay(true)?;
    match tls {
        None => serve(number, &mut stream),
        Some(config) => {
            let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
            let mut stream = StreamOwned::new(connection, stream);
            serve(number, &mut stream)?;
            stream.conn.send_close_notify();
            stream.flush()
        }
    }
}

/// What is done with a request.
#[derive(Clone)]
pub enum Does {
    /// These bytes, and the connection stays.
    Answer(Vec<u8>),
    /// These bytes, and it is closed.
    Last(Vec<u8>),
    /// The first bytes, then the others for ever.
    Endless(Vec<u8>, Vec<u8>),
    /// The first bytes, then that one again and again, a hundred in a second.
    Drip(Vec<u8>, u8),
}

/// What arrived.
#[derive(Default)]
pub struct Seen {
    pub requests: Mutex<Vec<String>>,
    pub bodies: Mutex<Vec<Vec<u8>>>,
}

impl Seen {
    pub fn lines(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|head| head.lines().next().unwrap_or_default().to_owned()).collect()
    }
}

/// HTTP/1.1: the answers in order, whatever the connection; the last one again and again.
pub fn http(tls: Option<Arc<ServerConfig>>, answers: Vec<Does>) -> (Server, Arc<Seen>) {
    let next = AtomicUsize::new(0);
    http_by(tls, move |_, _| answers[next.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1)].clone())
}

/// HTTP/1.1: to each request, by its head and the length of its body, what `answer` says.
pub fn http_by(
    tls: Option<Arc<ServerConfig>>,
    answer: impl Fn(&str, usize) -> Does + Send + Sync + 'static,
) -> (Server, Arc<Seen>) {
    let seen = Arc::<Seen>::default();
    let shared = Arc::clone(&seen);
    let server = Server::start(tls, move |_, wire| {
        while let Some((head, body)) = request(wire)? {
            let does = answer(&head, body.len());
            shared.requests.lock().unwrap().push(head);
            shared.bodies.lock().unwrap().push(body);
            let write = |wire: &mut dyn Wire, bytes: &[u8]| wire.write_all(bytes).and_then(|()| wire.flush());
            match &does {
                Does::Answer(bytes) => write(wire, bytes)?,
                Does::Last(bytes) => return write(wire, bytes),
                Does::Endless(first, again) => {
                    write(wire, first)?;
                    let many = again.repeat(8192 / again.len().max(1) + 1);
                    loop {
                        write(wire, &many)?;
                    }
                }
                Does::Drip(first, byte) => {
                    write(wire, first)?;
                    loop {
                        write(wire, &[*byte])?;
                        // To be slow is what it does.
                        std::thread::sleep(Duration::from_millis(10));
                    }
                }
            }
        }
        Ok(())
    });
    (server, seen)
}

/// Head and body of the next request.
fn request(wire: &mut dyn Wire) -> Result<Option<(String, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        let mut some = [0; 4096];
        match wire.read(&mut some)? {
            0 => return Ok(None),
            read => bytes.extend_from_slice(&some[..read]),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let length = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.map_or(0, |(_, length)| length.parse::<usize>().unwrap());
    let mut rest = vec![0; (end + length).saturating_sub(bytes.len())];
    wire.read_exact(&mut rest)?;
    Ok(Some((head, [&bytes[end..], &rest].concat())))
}

/// A whole answer with these lines of a head behind the status line.
pub fn answer(status: &str, head: &[&str], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len()).into_bytes();
    for line in head {
        bytes.extend_from_slice(format!("{line}\r\n").as_bytes());
    }
    [bytes.as_slice(), b"\r\n", body].concat()
}

/// What a server says that behaves.
pub fn created(id: &str) -> Vec<u8> {
    let body = serde_json::json!({ "data": { "id": id } }).to_string();
    answer("201 Created", &["Content-Type: application/json"], body)
}

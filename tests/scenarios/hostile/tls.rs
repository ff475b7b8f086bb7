//! TLS and HTTP/2. What a certificate is worth depends on what the process trusts, so this happens in a process of its own, which trusts a CA of the
//! tests.

use std::{
    io::Result,
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::json;

use super::{
    Becomes, OFFLINE, UNKNOWN, UNPROVEN, World,
    server::{Does, Server, Wire, answer, created, http},
};

/// Set for that process only.
const WORKER: &str = "STORAGE_SYNC_TLS_WORKER";

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/hostile/certificates").join(format!("{name}.pem"))
}

fn tls(certificate: &str, protocol: &str) -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_file(file(certificate)).unwrap();
    let key = PrivateKeyDer::from_pem_file(file("key")).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Arc::new(config)
}

#[test]
fn no_certificate_but_a_good_one_and_no_trick_of_http_2_settles_anything_and_no_flood_takes_memory() {
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hostile::tls::a_worker_meets_certificates_and_http_2", "--nocapture"])
        .env("SSL_CERT_FILE", file("authority"))
        .env_remove("SSL_CERT_DIR")
        .env(WORKER, "1")
        .output()
        .unwrap();
    let (said, told) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && said.contains("worker: all met"), "{said}\n{told}");
}

/// Does nothing in an ordinary run of the tests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_meets_certificates_and_http_2() {
    if std::env::var_os(WORKER).is_none() {
        return;
    }
    certificates().await;
    downgrade().await;
    let before = peak_memory();
    http_2().await;
    super::answers::without_end().await;
    let taken = peak_memory() - before;
    assert!(taken < 64 << 10, "{taken} KiB were taken");
    println!("worker: all met, {taken} KiB taken");
}

/// In KiB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn certificates() {
    // The control: with it everything else could be wrong with this test.
    let (server, seen) = http(Some(tls("good", "http/1.1")), vec![Does::Answer(created("7"))]);
    World::meets(&server, "note", Becomes::Acked, "a good certificate").await;
    assert_eq!(seen.lines().len(), 1);
    for bad in ["expired", "early", "elsewhere", "self-signed"] {
        let (server, seen) = http(Some(tls(bad, "http/1.1")), vec![Does::Answer(created("7"))]);
        let world = World::of(&server).await;
        let id = world.device.enqueue("note", Some("one"), json!({})).await;
        let entry = world.device.until(id, |entry| entry.last_error.is_some()).await;
        let Becomes::Waits(offline, counted, possibly_sent) = OFFLINE else { unreachable!() };
        assert!(entry.waiting_for.as_ref().is_some_and(offline), "{bad}: {entry:#?}");
        assert_eq!((entry.attempts, entry.possibly_sent), (counted, possibly_sent), "{bad}: {entry:#?}");
        assert!(entry.last_error.unwrap().contains("certificate"), "{bad}");
        assert!(server.connections() > 0 && seen.lines().is_empty(), "{bad}: nothing was sent");
        world.device.stop().await;
    }
}

/// From https to http on the very same host.
async fn downgrade() {
    let (plain, reached) = http(None, vec![Does::Answer(created("stolen"))]);
    for status in ["301", "302", "303", "307", "308"] {
        let location = format!("Location: {}/notes", plain.url());
        let redirect = Does::Answer(answer(status, &[&location], ""));
        let (server, _) = http(Some(tls("good", "http/1.1")), vec![redirect, Does::Answer(created("7"))]);
        World::meets(&server, "note", UNPROVEN, status).await;
    }
    assert_eq!((plain.connections(), reached.lines().len()), (0, 0));
}

// The types of frames and flags of RFC 9113.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH: u8 = 5;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW: u8 = 8;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `:status: 200` of the static table.
const OK: &[u8] = &[0x88];

/// A field that is not put into the table.
fn field(name: &str, value: &[u8]) -> Vec<u8> {
    assert!(name.len() < 127 && value.len() < 127);
    [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value].concat()
}

fn good_answer(stream: u32) -> Vec<u8> {
    let body = json!({ "data": { "id": "7" } }).to_string();
    let head = [OK, &field("content-type", b"application/json")].concat();
    [frame(HEADERS, END_HEADERS, stream, &head), frame(DATA, END_STREAM, stream, body.as_bytes())].concat()
}

/// What the server does once the request's headers are in, on its stream.
type Trick = fn(&mut dyn Wire, u32) -> Result<()>;

fn again(wire: &mut dyn Wire, bytes: &[u8]) -> Result<()> {
    let many = bytes.repeat(16 * 1024 / bytes.len() + 1);
    loop {
        wire.write_all(&many)?;
    }
}

const TRICKS: &[(&str, Becomes, Trick)] = &[
    ("a good answer", Becomes::Acked, |wire, stream| wire.write_all(&good_answer(stream))),
    ("the stream is reset", UNKNOWN, |wire, stream| wire.write_all(&frame(RESET, 0, stream, &7u32.to_be_bytes()))),
    ("the connection goes away", UNKNOWN, |wire, _| wire.write_all(&frame(GO_AWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 11]))),
    ("headers that never end", Becomes::Stalls, |wire, stream| {
        wire.write_all(&frame(HEADERS, 0, stream, OK))?;
        again(wire, &frame(CONTINUATION, 0, stream, &field("x-more", b"x")))
    }),
    ("headers that never end and are empty", Becomes::Stalls, |wire, stream| {
        wire.write_all(&frame(HEADERS, 0, stream, OK))?;
        again(wire, &frame(CONTINUATION, 0, stream, b""))
    }),
    ("headers that unpack to megabytes", Becomes::Stalls, |wire, stream| {
        // One field goes into the table, and is then named by one byte each time.
        let kept = [&[0x40, 1, b'x', 0x7f, 0x80, 0x1e][..], &[b'y'; 127 + 3840]].concat();
        let head = [OK, &kept, &[0xbe; 8000]].concat();
        wire.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &head))?;
        again(wire, &frame(PING, 0, 0, &[0; 8]))
    }),
    ("headers that cannot be read", UNKNOWN, |wire, stream| {
        wire.write_all(&frame(HEADERS, END_HEADERS, stream, &[0xff; 64]))
    }),
    ("no status", UNKNOWN, |wire, stream| wire.write_all(&frame(HEADERS, END_HEADERS, stream, &field("x", b"y")))),
    ("an answer that was not asked for", UNKNOWN, |wire, stream| wire.write_all(&good_answer(stream + 2))),
    ("a push that was not asked for", UNKNOWN, |wire, stream| {
        let promised = [&2u32.to_be_bytes(), OK].concat();
        wire.write_all(&frame(PUSH, END_HEADERS, stream, &promised))
    }),
    ("a body that never ends", UNPROVEN, |wire, stream| {
        wire.write_all(&frame(HEADERS, END_HEADERS, stream, OK))?;
        again(wire, &frame(DATA, 0, stream, &[b'1'; 1024]))
    }),
    ("a body of nothing that never ends", Becomes::Stalls, |wire, stream| {
        wire.write_all(&frame(HEADERS, END_HEADERS, stream, OK))?;
        again(wire, &frame(DATA, 0, stream, b""))
    }),
    ("a frame beyond its size", UNKNOWN, |wire, stream| wire.write_all(&frame(DATA, 0, stream, &[b'1'; 70_000]))),
    ("a window that grows beyond all numbers", UNKNOWN, |wire, stream| {
        wire.write_all(&frame(WINDOW, 0, stream, &0x7fff_ffff_u32.to_be_bytes()).repeat(2))
    }),
    ("a window that grows by nothing", UNKNOWN, |wire, stream| wire.write_all(&frame(WINDOW, 0, stream, &[0; 4]))),
    ("settings again and again", Becomes::Stalls, |wire, _| {
        again(wire, &frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]))
    }),
    ("pings again and again", Becomes::Stalls, |wire, _| again(wire, &frame(PING, 0, 0, &[7; 8]))),
    ("frames that nobody knows", Becomes::Stalls, |wire, stream| again(wire, &frame(0xfa, 0xff, stream, &[1; 512]))),
    ("HTTP/1.1 after all", UNKNOWN, |wire, _| wire.write_all(&created("7"))),
];

async fn http_2() {
    for (row, becomes, trick) in TRICKS {
        let tricked = AtomicBool::new(false);
        let server = Server::start(Some(tls("good", "h2")), move |_, wire| speak(wire, &tricked, *trick));
        World::meets(&server, "note", *becomes, row).await;
    }
}

/// Plays the trick on the first request of all; everything else is answered as it should be.
fn speak(wire: &mut dyn Wire, tricked: &AtomicBool, trick: Trick) -> Result<()> {
    let mut preface = [0; 24];
    wire.read_exact(&mut preface)?;
    assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    wire.write_all(&frame(SETTINGS, 0, 0, b""))?;
    wire.flush()?;
    loop {
        let mut head = [0; 9];
        wire.read_exact(&mut head)?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        wire.read_exact(&mut payload)?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match (head[3], head[4]) {
            (SETTINGS, flags) if flags & ACK == 0 => wire.write_all(&frame(SETTINGS, ACK, 0, b""))?,
            (PING, flags) if flags & ACK == 0 => wire.write_all(&frame(PING, ACK, 0, &payload))?,
            (HEADERS, _) if !tricked.swap(true, Ordering::SeqCst) => trick(wire, stream)?,
            (HEADERS, _) => wire.write_all(&good_answer(stream))?,
            _ => {}
        }
        wire.flush()?;
    }
}

//! Many requests.

use std::time::Instant;

use storage_sync_backend::{Backend, Log, Options};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::client::ask;

/// Sends so many 1 KiB writes over eight connections, each after the answer to the last.
async fn flood(backend: &Backend, each: usize) {
    let clients = (0..8).map(|client| {
        let port = backend.port();
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut reply = [0; 2048];
            for n in 0..each {
                let request = ask(&format!("PUT /forms/{client}-{n}")).key(&format!("{client}-{n}")).body([b'x'; 1024]);
                stream.write_all(&request.bytes()).await.unwrap();
                let read = stream.read(&mut reply).await.unwrap();
                assert!(reply[..read].starts_with(b"HTTP/1.1 200"));
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_writes_over_a_few_connections_are_each_applied_once() {
    for (log, each) in [(Log::Full, 1000), (Log::Counts, 1000)] {
        let backend = Backend::start(Options { log, ..Options::default() }).await.unwrap();
        let begun = Instant::now();
        flood(&backend, each).await;
        println!("{log:?}: {:.0} requests/s", 8.0 * each as f64 / begun.elapsed().as_secs_f64());
        backend.world(|world| {
            assert_eq!((world.received(), world.applied()), (8000, 8000));
            assert!(world.applied_keys().len() == 8000 && world.applied_keys().values().all(|times| *times == 1));
            assert_eq!(world.requests().len(), if log == Log::Full { 8000 } else { 0 });
            assert_eq!(world.connections(), 8);
        });
    }
}

//! Connections: accepted, served, counted, and reset on demand.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, extract::Request};
use hyper::{body::Incoming, server::conn::http1, service::Service, service::service_fn};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    task::JoinSet,
};

use crate::shared::Shared;

/// A handle of the connection that a request came on; in the request's extensions.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) number: u64,
    reset: Arc<Reset>,
    stop: watch::Receiver<bool>,
}

#[derive(Default)]
struct Reset {
    asked: AtomicBool,
    wake: Notify,
}

impl Connection {
    /// Resolves once the server stops.
    pub(crate) async fn stopped(&self) {
        told(&mut self.stop.clone()).await;
    }

    /// Resets the connection. Never returns: the future that awaits it is dropped together with the connection.
    pub(crate) async fn reset(&self) -> ! {
        self.reset.asked.store(true, Ordering::Release);
        self.reset.wake.notify_one();
        loop {
            std::future::pending::<()>().await;
        }
    }
}

/// Serves connections until `stop` turns true or its sender goes. Every one is closed when this returns.
pub(crate) async fn serve(listener: TcpListener, router: Router, shared: Arc<Shared>, stop: watch::Receiver<bool>) {
    let mut stopped = stop.clone();
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else {
                    // Out of file descriptors, most likely: others have to close first, and asking at once would only spin.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                let number = shared.write(|world| {
                    world.connections += 1;
                    world.open_connections += 1;
                    world.connections
                });
                let guard = Counted(shared.clone());
                open.spawn(serve_one(stream, number, router.clone(), stop.clone(), guard));
            }
            Some(_) = open.join_next() => {}
            () = told(&mut stopped) => break,
        }
    }
    drop(listener);
    open.shutdown().await;
}

/// Resolves once the server stops.
async fn told(stop: &mut watch::Receiver<bool>) {
    // An error means that the backend was dropped, which stops it too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Counts a connection as open while it lives.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.write(|world| world.open_connections -= 1);
    }
}

async fn serve_one(stream: TcpStream, number: u64, router: Router, stop: watch::Receiver<bool>, _open: Counted) {
    // Nagle's algorithm would hold back small answers; where it cannot be switched off they are only later.
    let _ = stream.set_nodelay(true);
    let reset = Arc::new(Reset::default());
    let connection = Connection { number, reset: reset.clone(), stop };
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(connection.clone());
        routes.call(request)
    });
    let socket = Socket { stream, reset: reset.clone() };
    // Only rules end a connection: hyper would end one that idles for half a minute.
    let serving = http1::Builder::new().header_read_timeout(None).serve_connection(TokioIo::new(socket), service);
    tokio::select! {
        // The client left, or broke off: nothing to do about it here.
        _ = serving => {}
        () = reset.wake.notified() => {}
    }
}

/// A stream that says RST rather than FIN when it is dropped after a reset was asked for.
struct Socket {
    stream: TcpStream,
    reset: Arc<Reset>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.reset.asked.load(Ordering::Acquire) {
            // Where it fails the client sees an early end instead, which is as good a fault.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

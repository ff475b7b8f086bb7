//! The reference backend as a program. See the library.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use clap::Parser;
use storage_sync_backend::{Backend, Options, Revisions};

/// The reference REST backend of tauri-plugin-storage-sync: keeps what it receives, and misbehaves when told to.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 4010)]
    port: u16,
    /// The address to listen on.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// Where to keep what is received; in memory if left out.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// A second port with the control routes only, which can stop and start the main one.
    #[arg(long)]
    control_port: Option<u16>,
    /// Do not honour Idempotency-Key.
    #[arg(long)]
    no_idempotency: bool,
    /// Refuse writes whose revision does not beat the stored one.
    #[arg(long)]
    compare_revisions: bool,
    /// Know nothing of Sync-*: an ordinary server, with entity tags.
    #[arg(long, conflicts_with = "compare_revisions")]
    unaware: bool,
    /// Answer 404 to a write below a thing that is not there.
    #[arg(long)]
    strict: bool,
    /// Accept only this bearer token, as USER:TOKEN. May be repeated.
    #[arg(long, value_parser = token)]
    token: Vec<(String, String)>,
}

fn token(text: &str) -> Result<(String, String), String> {
    let (user, token) = text.split_once(':').ok_or("expected USER:TOKEN")?;
    Ok((token.to_owned(), user.to_owned()))
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let backend = Backend::start(Options {
        folder: arguments.folder,
        port: Some(arguments.port),
        host: arguments.host,
        control_port: arguments.control_port,
        idempotency: !arguments.no_idempotency,
        revisions: match (arguments.compare_revisions, arguments.unaware) {
            (true, _) => Revisions::Compare,
            (false, true) => Revisions::Unaware,
            (false, false) => Revisions::Ignore,
        },
        strict: arguments.strict,
        tokens: (!arguments.token.is_empty()).then(|| arguments.token.into_iter().collect()),
        ..Options::default()
    })
    .await?;
    let stop = told_to_stop()?;
    announce(&backend)?;
    stop.await;
    backend.stop().await;
    Ok(())
}

/// One line, flushed: a script that started this waits for it.
fn announce(backend: &Backend) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match backend.control_url() {
        Some(control) => writeln!(out, "listening on {} control on {control}", backend.url())?,
        None => writeln!(out, "listening on {}", backend.url())?,
    }
    out.flush()
}

/// Resolves at ctrl-c or SIGTERM. The handlers are in place when this returns.
#[cfg(unix)]
fn told_to_stop() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Resolves at ctrl-c.
#[cfg(not(unix))]
fn told_to_stop() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        interrupt.recv().await;
    })
}

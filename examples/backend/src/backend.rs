//! The handle of a backend that runs in this process.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use axum::Router;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::{Mutex, watch},
    task::JoinHandle,
};

use crate::{
    connection,
    content::Bodies,
    control,
    edit::Edit,
    fault::Rule,
    journal::Journal,
    options::{Options, Revisions},
    routes,
    shared::Shared,
    things::Mutation,
    world::{Seen, World},
};

/// A backend that runs in this process, on the runtime that it was started on. Clones are the same backend; it stops with the last one.
#[derive(Clone)]
pub struct Backend {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) address: SocketAddr,
    control: Option<SocketAddr>,
    running: Mutex<Option<Running>>,
    /// Ends with the backend, not with `stop`.
    _control: Option<Running>,
    /// Bound, never listening: while the backend is stopped, no other socket is given its port.
    _reserved: Option<TcpSocket>,
}

/// An accept loop. It ends when this is dropped.
struct Running {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    fn start(listener: TcpListener, router: Router, shared: Arc<Shared>) -> Self {
        let (stop, stopped) = watch::channel(false);
        Self { stop, task: tokio::spawn(connection::serve(listener, router, shared, stopped)) }
    }
}

impl Backend {
    /// Starts one and returns once it listens.
    ///
    /// # Errors
    /// If the port is taken, or the folder cannot be used or holds something else.
    pub async fn start(options: Options) -> io::Result<Self> {
        let mut world = World::new(&options, Bodies::new(options.folder.as_deref())?);
        if let Some(folder) = &options.folder {
            Journal::open(folder, &mut world)?;
        }
        world.uploads.open(&world.bodies.folder().join("uploads"))?;
        let shared = Arc::new(Shared::new(world));
        let (reserved, listener) = first_listener(SocketAddr::new(options.host, options.port.unwrap_or(0)))?;
        let address = listener.local_addr()?;
        let apart = options.control_port.map(|port| listen(SocketAddr::new(options.host, port))).transpose()?;
        let control = apart.as_ref().map(TcpListener::local_addr).transpose()?;
        let inner = Arc::new_cyclic(|weak: &Weak<Inner>| Inner {
            shared: shared.clone(),
            address,
            control,
            running: Mutex::new(Some(Running::start(listener, data(&shared, weak), shared.clone()))),
            _control: apart.map(|listener| Running::start(listener, control::apart(weak.clone()), shared.clone())),
            _reserved: reserved,
        });
        Ok(Self { inner })
    }

    /// Where it is: `http://127.0.0.1:PORT`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.inner.address)
    }

    /// The port; it stays the same over `stop` and `restart`.
    pub fn port(&self) -> u16 {
        self.inner.address.port()
    }

    /// Where the separate control routes are, if [`Options::control_port`] asked for them.
    pub fn control_url(&self) -> Option<String> {
        self.inner.control.map(|address| format!("http://{address}"))
    }

    /// Closes the listening socket and every connection; connects are refused once it returns. What is held is dropped, not applied.
    /// What it knows stays. Without effect when it is stopped.
    pub async fn stop(&self) {
        let running = self.inner.running.lock().await.take();
        if let Some(Running { stop, task }) = running {
            stop.send_replace(true);
            // An error means that the loop has ended already.
            let _ = task.await;
        }
    }

    /// Listens again on the same port, with all that it knew and with the rules that were in force. Without effect when it runs.
    ///
    /// # Errors
    /// If the port cannot be had.
    pub async fn restart(&self) -> io::Result<()> {
        let mut running = self.inner.running.lock().await;
        if running.is_none() {
            let shared = &self.inner.shared;
            let router = data(shared, &Arc::downgrade(&self.inner));
            *running = Some(Running::start(listen(self.inner.address)?, router, shared.clone()));
        }
        Ok(())
    }

    /// Adds a rule and answers its id. A `Fault` does too: it is then for all requests until it is cleared.
    pub fn misbehave(&self, rule: impl Into<Rule>) -> u64 {
        let rule = rule.into();
        self.inner.shared.write(|world| world.rules.add(rule))
    }

    /// Adds a rule that holds something, such as `Rule::hold().kind("notes")` or `Rule::duplicate_late()`, and answers the gate that it is.
    pub fn hold(&self, rule: impl Into<Rule>) -> Gate {
        Gate { backend: self.clone(), rule: self.misbehave(rule) }
    }

    /// Ends one rule and lets through what it holds. Answers whether it was in force.
    pub fn clear(&self, rule: u64) -> bool {
        self.inner.shared.write(|world| world.rules.clear(rule))
    }

    /// Ends every rule and lets through what they hold.
    pub fn behave(&self) {
        self.inner.shared.write(|world| world.rules.clear_all());
    }

    /// Changes which bearer tokens are accepted from now on, each with its user's name; None accepts everybody.
    pub fn accept_tokens(&self, tokens: Option<BTreeMap<String, String>>) {
        self.inner.shared.write(|world| world.tokens = tokens);
    }

    /// Changes what revisions are worth from now on.
    pub fn set_revisions(&self, revisions: Revisions) {
        self.inner.shared.write(|world| world.revisions = revisions);
    }

    /// Changes whether a write below a thing needs that thing. See [`Options::strict`].
    pub fn set_strict(&self, strict: bool) {
        self.inner.shared.write(|world| world.strict = strict);
    }

    /// Changes whether `Idempotency-Key` is honoured from now on. What is known of the keys stays.
    pub fn set_idempotency(&self, honoured: bool) {
        self.inner.shared.write(|world| world.idempotent = honoured);
    }

    /// Writes as another device would, past every check, and answers what was done.
    ///
    /// # Panics
    /// If that cannot be done, with why.
    pub fn edit(&self, edit: Edit) -> Mutation {
        self.try_edit(&edit).unwrap_or_else(|why| panic!("{edit:?}: {why}"))
    }

    pub(crate) fn try_edit(&self, edit: &Edit) -> Result<Mutation, String> {
        self.inner.shared.write(|world| world.edit(edit))
    }

    /// Remembers the state as it is: what a backup would have of it, which is things, tombstones and kept answers.
    ///
    /// # Panics
    /// If the journal cannot be asked.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.try_snapshot().expect("the journal says how long it is"))
    }

    pub(crate) fn try_snapshot(&self) -> io::Result<u64> {
        self.inner.shared.write(World::take_snapshot)
    }

    /// Goes back to an older state, as a server that is restored from a backup; on disk too. Later snapshots are forgotten. The books
    /// are not changed: [`Backend::mutations`] and [`World::times_applied`] still say what was applied in all.
    ///
    /// # Panics
    /// If that snapshot was forgotten, or the journal cannot be cut.
    pub fn roll_back(&self, to: Snapshot) {
        let known = self.try_roll_back(to.0).expect("the journal can be cut");
        assert!(known, "that snapshot is younger than a state that was gone back to");
    }

    pub(crate) fn try_roll_back(&self, to: u64) -> io::Result<bool> {
        self.inner.shared.write(|world| world.roll_back(to))
    }

    /// Forgets the idempotency keys of all finished requests, as a server does after their lifetime.
    /// (In memory only: a backend that starts anew on the same folder knows them again.)
    pub fn expire_keys(&self) {
        self.inner.shared.write(|world| world.keys.expire());
    }

    /// Ends the time of all unfinished tus uploads: they are 410 from now on, and what they had is gone.
    pub fn expire_uploads(&self) {
        self.inner.shared.write(|world| world.uploads.expire());
    }

    /// Forgets all unfinished tus uploads, as a server does that lost its disk: they are 404 from now on.
    pub fn lose_uploads(&self) {
        self.inner.shared.write(|world| world.uploads.lose());
    }

    /// Forgets which requests were received. What was applied stays, and the counts do.
    pub fn forget_requests(&self) {
        self.inner.shared.write(World::forget_requests);
    }

    /// Looks at what it knows. Requests wait meanwhile, so `look` should be short.
    pub fn world<T>(&self, look: impl FnOnce(&World) -> T) -> T {
        self.inner.shared.read(look)
    }

    /// The requests that were received, oldest first.
    pub fn requests(&self) -> Vec<Seen> {
        self.world(|world| world.requests().cloned().collect())
    }

    /// The writes that were applied, oldest first.
    pub fn mutations(&self) -> Vec<Mutation> {
        self.world(|world| world.mutations().to_vec())
    }

    /// Returns as soon as `is_so`, which is asked now and after every change.
    ///
    /// # Panics
    /// If it is not so within 60 seconds, with what was received in short.
    pub async fn wait_until(&self, is_so: impl FnMut(&World) -> bool) {
        if !self.wait_within(Duration::from_secs(60), is_so).await {
            let (received, applied, resets) = self.world(|world| (world.received(), world.applied(), world.resets()));
            panic!("not so within 60 s: {received} requests received, {applied} applied, {resets} reset");
        }
    }

    /// The same with a limit of one's own; answers whether it became so.
    pub async fn wait_within(&self, limit: Duration, mut is_so: impl FnMut(&World) -> bool) -> bool {
        let mut changes = self.inner.shared.changes();
        let wait = async {
            while !self.world(&mut is_so) {
                // The sender lives as long as `self`.
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(limit, wait).await.is_ok()
    }
}

/// A state to go back to. See [`Backend::snapshot`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot(u64);

/// A rule that holds requests back. It goes on to do so when this is dropped.
#[derive(Clone)]
pub struct Gate {
    backend: Backend,
    rule: u64,
}

impl Gate {
    /// The id of its rule.
    pub fn rule(&self) -> u64 {
        self.rule
    }

    /// Returns as soon as so many requests are held at the same time.
    ///
    /// # Panics
    /// As [`Backend::wait_until`].
    pub async fn holds(&self, requests: usize) {
        self.backend.wait_until(|world| world.held(self.rule) >= requests).await;
    }

    /// Lets so many requests through, those that will come included.
    pub fn let_through(&self, requests: usize) {
        self.backend.inner.shared.write(|world| world.rules.release(self.rule, requests));
    }

    /// Lets everything through for good.
    pub fn open(&self) {
        self.backend.clear(self.rule);
    }
}

/// The routes of the main port.
fn data(shared: &Arc<Shared>, backend: &Weak<Inner>) -> Router {
    routes::router(shared.clone()).merge(control::beside(backend.clone()))
}

/// The first listener on an address, and what keeps the port for those after it.
#[cfg(target_os = "linux")]
fn first_listener(address: SocketAddr) -> io::Result<(Option<TcpSocket>, TcpListener)> {
    let reserved = bind(address)?;
    let listener = listen(reserved.local_addr()?)?;
    Ok((Some(reserved), listener))
}

/// Only Linux lets two sockets of one user be bound to an address of which one listens.
#[cfg(not(target_os = "linux"))]
fn first_listener(address: SocketAddr) -> io::Result<(Option<TcpSocket>, TcpListener)> {
    Ok((None, listen(address)?))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    bind(address)?.listen(1024)
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // On Windows the same option would let a stranger take the port.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

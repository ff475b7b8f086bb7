//! The one task that writes. It drains its queue into one transaction, commits, and answers every caller after the
//! commit.

use std::{path::PathBuf, sync::Arc};

use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::{
    Discarded, Done, Edit, FileProgress, Inserted, Shared,
    advance::{self, Advance},
    ballast::Ballast,
    decide::{self, Noticed, Observe, Resolve, Rewrite},
    enqueue::{self, Enqueue},
    fault::Fault,
    feed::Changed,
    leave::{self, Leave, Remove},
    lock, open, pragmas,
    prune::{self, Prune},
    rotate::{self, Rewrap},
    spooled,
    trial::Death,
    tx::Tx,
    verbs::{self, Discard, Pause, Retry, Setting},
    watched::{self, Watching},
};
use crate::error::{Error, Result};

/// Callers whose commands share a commit at most.
pub(super) const GROUP: usize = 256;
/// How often the writer lets others run to see whether they join in.
const MOST_YIELDS: usize = 8;

/// What a caller wants, what it gets, and where it waits.
pub(super) struct Job<I, O> {
    pub(super) input: I,
    pub(super) answer: Option<Result<O>>,
    reply: oneshot::Sender<Result<O>>,
}

impl<I, O> Job<I, O> {
    pub(super) fn new(input: I) -> (Self, oneshot::Receiver<Result<O>>) {
        let (reply, waits) = oneshot::channel();
        (Self { input, answer: None, reply }, waits)
    }

    fn finish(self, failed: Option<&Fault>) {
        let answer = match (self.answer, failed) {
            // A refusal holds whatever became of the others.
            (Some(Err(error)), _) => Err(error),
            (_, Some(fault)) => Err(fault.clone().into()),
            (Some(Ok(answer)), None) => Ok(answer),
            (None, None) => Err(Error::Closed),
        };
        // A caller that went away does not undo what it asked for.
        let _ = self.reply.send(answer);
    }
}

/// Everything that is written.
pub(super) enum Command {
    Enqueue(Job<Enqueue, Vec<Inserted>>),
    Advance(Job<Advance, Done>),
    Recover(Job<i64, u64>),
    Retry(Job<Retry, Vec<Uuid>>),
    Discard(Job<Discard, Discarded>),
    Pause(Job<Pause, bool>),
    Set(Job<Setting, ()>),
    Observe(Job<Observe, ()>),
    Edit(Job<(Edit, i64), bool>),
    Resolve(Job<Resolve, bool>),
    Rewrite(Job<Rewrite, bool>),
    Noticed(Job<Noticed, Vec<Uuid>>),
    Progress(Job<FileProgress, bool>),
    ForgetLeftovers(Job<Vec<i64>, ()>),
    Rewrap(Job<Rewrap, ()>),
    ForgetKeys(Job<String, ()>),
    Leave(Job<Leave, ()>),
    Remove(Job<Remove, Option<i64>>),
    CopyAside(Job<PathBuf, ()>),
    Watch(Job<Watching, bool>),
    Prune(Job<Prune, bool>),
    Checkpoint(Job<(), ()>),
    Own(Job<bool, ()>),
}

impl Command {
    /// Needs the connection outside a transaction.
    fn alone(&self) -> bool {
        matches!(self, Self::Prune(_) | Self::CopyAside(_) | Self::Checkpoint(_) | Self::Own(_))
    }

    fn advances(&self) -> bool {
        matches!(self, Self::Advance(_))
    }

    fn finish(self, failed: Option<&Fault>) {
        match self {
            Self::Enqueue(job) => job.finish(failed),
            Self::Advance(job) => job.finish(failed),
            Self::Recover(job) => job.finish(failed),
            Self::Retry(job) => job.finish(failed),
            Self::Discard(job) => job.finish(failed),
            Self::Pause(job) => job.finish(failed),
            Self::Set(job) => job.finish(failed),
            Self::Observe(job) => job.finish(failed),
            Self::Edit(job) => job.finish(failed),
            Self::Resolve(job) => job.finish(failed),
            Self::Rewrite(job) => job.finish(failed),
            Self::Noticed(job) => job.finish(failed),
            Self::Progress(job) => job.finish(failed),
            Self::ForgetLeftovers(job) => job.finish(failed),
            Self::Rewrap(job) => job.finish(failed),
            Self::ForgetKeys(job) => job.finish(failed),
            Self::Leave(job) => job.finish(failed),
            Self::Remove(job) => job.finish(failed),
            Self::CopyAside(job) => job.finish(failed),
            Self::Watch(job) => job.finish(failed),
            Self::Prune(job) => job.finish(failed),
            Self::Checkpoint(job) => job.finish(failed),
            Self::Own(job) => job.finish(failed),
        }
    }
}

/// Owns the write connection.
pub(super) struct Writer {
    /// None between a failed disk and a successful reopening.
    pub(super) connection: Option<SqliteConnection>,
    pub(super) shared: Arc<Shared>,
    pub(super) ballast: Ballast,
    pub(super) owner: bool,
    /// Says to other processes that the database is open here; goes last.
    pub(super) in_use: lock::InUse,
}

impl Writer {
    /// Runs until every handle is gone or `close` was called, and finishes what was queued by then.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let mut commands = Vec::with_capacity(GROUP);
        let mut answered = 0;
        while queue.recv_many(&mut commands, GROUP).await > 0 && !self.shared.trial.is_dead() {
            if answered > 1 {
                gather(&mut queue, &mut commands).await;
            }
            answered = commands.len();
            let mut group = Vec::with_capacity(commands.len());
            for command in commands.drain(..) {
                if command.alone() {
                    self.group(std::mem::take(&mut group)).await;
                    self.alone(command).await;
                } else {
                    group.push(command);
                }
            }
            self.group(group).await;
        }
        // What waits for an answer of a trial that has ended hears that the database is closed.
        drop((commands, queue));
        self.shared.end_changes();
        self.shared.pool().close().await;
        if let Some(connection) = self.connection
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the database did not close cleanly; the next start recovers it");
        }
        drop(self.in_use);
    }

    /// One commit for all, if it can be; the innocent never fail with the guilty.
    async fn group(&mut self, mut commands: Vec<Command>) {
        let mut redo = false;
        let mut relieved = false;
        let mut plain =
            commands.iter().all(|command| matches!(command, Command::Enqueue(job) if enqueue::is_plain(job)));
        loop {
            self.refuse_when_full(&mut commands);
            if commands.is_empty() {
                return;
            }
            let advances = commands.iter().any(Command::advances);
            if advances && self.shared.trial.ends(Death::BeforeTheCommit) {
                return;
            }
            let fault = match self.transact(&mut commands, plain && !redo, redo).await {
                Ok(changes) => {
                    for command in &commands {
                        if let Command::Advance(Job { input, answer: Some(Ok(done)), .. }) = command {
                            self.shared.trial.saw(input, done);
                        }
                    }
                    if advances && self.shared.trial.ends(Death::AfterTheCommit) {
                        return;
                    }
                    if !changes.is_empty() {
                        self.shared.publish(changes);
                    }
                    for command in &commands {
                        if let Command::Advance(Job { input: Advance { restored: Some(device), .. }, .. }) = command {
                            self.shared.renew_device(*device);
                        }
                    }
                    return commands.into_iter().for_each(|command| command.finish(None));
                }
                Err(fault) => fault,
            };
            self.roll_back().await;
            if plain && matches!(fault, Fault::Quota) {
                plain = false;
                continue;
            }
            tracing::warn!(?fault, commands = commands.len(), "a commit failed");
            match fault {
                Fault::Full if !relieved => {
                    relieved = true;
                    self.relieve().await;
                }
                Fault::Disk(_) if !redo => {
                    redo = true;
                    if let Err(fault) = self.reopen().await {
                        return commands.into_iter().for_each(|command| command.finish(Some(&fault)));
                    }
                }
                Fault::Other(_) | Fault::SignedOut if commands.len() > 1 => {
                    for command in commands {
                        Box::pin(self.group(vec![command])).await;
                    }
                    return;
                }
                fault => {
                    self.shared.note(&fault);
                    return commands.into_iter().for_each(|command| command.finish(Some(&fault)));
                }
            }
        }
    }

    async fn transact(&mut self, commands: &mut [Command], plain: bool, redo: bool) -> Result<Vec<Changed>, Fault> {
        let device = self.shared.device();
        let connection = open(&mut self.connection)?;
        if plain {
            return enqueue::commit_plain(connection, device, &mut enqueues(commands)).await;
        }
        let mut tx = Tx::begin(connection, redo);
        let mut rest = commands;
        while !rest.is_empty() {
            let run = rest.iter().take_while(|command| matches!(command, Command::Enqueue(_))).count();
            let (together, after) = rest.split_at_mut(run);
            rest = after;
            if run > 0 {
                enqueue::apply(&mut tx, device, &mut enqueues(together)).await?;
            }
            if let Some((command, after)) = std::mem::take(&mut rest).split_first_mut() {
                tx.last = after.is_empty();
                apply(&mut tx, command).await?;
                rest = after;
            }
        }
        tx.commit().await
    }

    /// New entries would take the room that delivery needs.
    fn refuse_when_full(&mut self, commands: &mut Vec<Command>) {
        let enqueues = commands.iter().any(|command| matches!(command, Command::Enqueue(_)));
        if enqueues && !self.ballast.take_back() {
            for command in commands.extract_if(.., |command| matches!(command, Command::Enqueue(_))) {
                command.finish(Some(&Fault::Full));
            }
        }
    }

    /// Gives SQLite the ballast, and the WAL's room as well.
    async fn relieve(&mut self) {
        self.ballast.give_up();
        if self.owner
            && let Err(fault) = self.checkpoint().await
        {
            tracing::warn!(?fault, "the WAL could not be given back");
        }
    }

    async fn roll_back(&mut self) {
        // SQLite has rolled back by itself after some errors; then there is nothing to do and it says so.
        if let Some(connection) = &mut self.connection
            && let Err(error) = sqlx::raw_sql("ROLLBACK").execute(connection).await
        {
            tracing::debug!(%error, "nothing to roll back");
        }
    }

    /// After the disk failed nothing in memory is trusted. Whether the last commit is on disk is seen from the disk.
    async fn reopen(&mut self) -> Result<(), Fault> {
        tracing::error!("the disk failed: closing, reopening and verifying the database");
        self.shared.pool().close().await;
        if let Some(old) = self.connection.take()
            && let Err(error) = old.close().await
        {
            tracing::warn!(%error, "the failed connection did not close cleanly");
        }
        let fresh = open::connection(&self.shared.folder, self.owner, &self.shared.trial)
            .await
            .map_err(|error| Fault::Disk(error.to_string()))?;
        let fresh = self.connection.insert(fresh);
        open::verify(fresh).await?;
        open::set_up(fresh).await?;
        self.shared.replace_pool();
        if self.owner {
            // Pages whose sync failed may be in the system's cache only, marked clean: writing them into the database
            // makes them dirty again.
            self.checkpoint().await?;
        }
        Ok(())
    }

    async fn checkpoint(&mut self) -> Result<(), Fault> {
        sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(open(&mut self.connection)?).await?;
        Ok(())
    }

    async fn alone(&mut self, mut command: Command) {
        let done = match &mut command {
            Command::Prune(job) => self.prune(&job.input).await.map(|more| job.answer = Some(Ok(more))),
            Command::CopyAside(job) => {
                let copied = leave::copy_aside(open(&mut self.connection), &job.input).await;
                copied.map(|()| job.answer = Some(Ok(())))
            }
            Command::Checkpoint(job) => self.checkpoint().await.map(|()| job.answer = Some(Ok(()))),
            Command::Own(job) => self.own(job.input).await.map(|()| job.answer = Some(Ok(()))),
            _ => Ok(()),
        };
        if let Err(fault) = &done {
            tracing::warn!(?fault, "housekeeping failed");
            self.roll_back().await;
            self.shared.note(fault);
            match fault {
                Fault::Full => self.relieve().await,
                Fault::Disk(_) => {
                    if let Err(fault) = self.reopen().await {
                        self.shared.note(&fault);
                    }
                }
                _ => {}
            }
        }
        command.finish(done.err().as_ref());
    }

    async fn prune(&mut self, input: &Prune) -> Result<bool, Fault> {
        let mut tx = Tx::begin(open(&mut self.connection)?, false);
        let rows = prune::rows(&mut tx, input).await?;
        let changes = tx.commit().await?;
        if !changes.is_empty() {
            self.shared.publish(changes);
        }
        let pages = prune::vacuum(open(&mut self.connection)?).await?;
        Ok(rows || pages)
    }

    async fn own(&mut self, owner: bool) -> Result<(), Fault> {
        let pages = if owner { pragmas::OWNER_CHECKPOINT } else { 0 };
        sqlx::raw_sql(AssertSqlSafe(format!("PRAGMA wal_autocheckpoint = {pages}")))
            .execute(open(&mut self.connection)?)
            .await?;
        self.owner = owner;
        Ok(())
    }
}

/// Several callers were answered right before, and may be about to ask again: one commit for all of them costs little more than one for
/// those who were quickest. Waits for nobody who is not running.
async fn gather(queue: &mut mpsc::Receiver<Command>, commands: &mut Vec<Command>) {
    for _ in 0..MOST_YIELDS {
        tokio::task::yield_now().await;
        let before = commands.len();
        while commands.len() < GROUP
            && let Ok(command) = queue.try_recv()
        {
            commands.push(command);
        }
        if commands.len() == before {
            return;
        }
    }
}

fn open(connection: &mut Option<SqliteConnection>) -> Result<&mut SqliteConnection, Fault> {
    connection.as_mut().ok_or_else(|| Fault::Disk("the database is closed since the disk failed".into()))
}

fn enqueues(commands: &mut [Command]) -> Vec<&mut Job<Enqueue, Vec<Inserted>>> {
    commands
        .iter_mut()
        .filter_map(|command| if let Command::Enqueue(job) = command { Some(job) } else { None })
        .collect()
}

async fn apply(tx: &mut Tx<'_>, command: &mut Command) -> Result<(), Fault> {
    match command {
        Command::Advance(job) => job.answer = Some(Ok(advance::apply(tx, &job.input).await?)),
        Command::Recover(job) => job.answer = Some(Ok(verbs::recover(tx, job.input).await?)),
        Command::Retry(job) => job.answer = Some(Ok(verbs::retry(tx, &job.input).await?)),
        Command::Discard(job) => job.answer = Some(Ok(verbs::discard(tx, &job.input).await?)),
        Command::Pause(job) => job.answer = Some(Ok(verbs::pause(tx, &job.input).await?)),
        Command::Set(job) => {
            verbs::set(&mut tx.batch, &job.input);
            job.answer = Some(Ok(()));
        }
        Command::Observe(job) => {
            decide::observe(&mut tx.batch, &job.input);
            job.answer = Some(Ok(()));
        }
        Command::Edit(job) => job.answer = Some(decide::edit(tx, &job.input.0, job.input.1).await?),
        Command::Resolve(job) => job.answer = Some(Ok(decide::resolve(tx, &job.input).await?)),
        Command::Rewrite(job) => job.answer = Some(Ok(decide::rewrite(tx, &job.input).await?)),
        Command::Noticed(job) => job.answer = Some(Ok(decide::noticed(tx, &job.input).await?)),
        Command::Progress(job) => job.answer = Some(Ok(spooled::progress(tx, &job.input).await?)),
        Command::ForgetLeftovers(job) => {
            spooled::forget(&mut tx.batch, &job.input);
            job.answer = Some(Ok(()));
        }
        Command::Rewrap(job) => job.answer = Some(Ok(rotate::rewrap(tx, &job.input).await?)),
        Command::ForgetKeys(job) => {
            rotate::forget_keys(&mut tx.batch, &job.input);
            job.answer = Some(Ok(()));
        }
        Command::Leave(job) => {
            leave::leave(&mut tx.batch, &job.input);
            job.answer = Some(Ok(()));
        }
        Command::Remove(job) => job.answer = Some(Ok(leave::remove(tx, &job.input).await?)),
        Command::Watch(job) => job.answer = Some(Ok(watched::apply(tx, &job.input).await?)),
        // Enqueues are applied many at a time, these outside of transactions.
        Command::Enqueue(_) | Command::Prune(_) | Command::CopyAside(_) | Command::Checkpoint(_) | Command::Own(_) => {}
    }
    Ok(())
}

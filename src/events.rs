//! Tells the windows what changed: at once when it was quiet before, gathered while it is not, and the last state always.

use std::collections::HashMap;

use futures_util::FutureExt as _;
use uuid::Uuid;

use crate::{
    entry::{AuthRequired, Change, Status},
    error::{Error, Result},
};

/// What windows are told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// `storage-sync://status`
    Status(Status),
    /// `storage-sync://entry`
    Entry(Change),
    /// `storage-sync://auth`
    Auth(AuthRequired),
}

/// Where the news come from.
pub(crate) trait Source: Send {
    /// The whole status, now.
    fn status(&self) -> impl Future<Output = Result<Status>> + Send;
    /// Waits for news. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = News> + Send;
}

/// One piece of news.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum News {
    /// The state of an entry changed.
    Entry(Change),
    /// A server wants other credentials.
    Auth(AuthRequired),
    /// The states of entries changed, and it is not known of which.
    Missed,
    /// The status may be another one.
    Status,
    /// There will be none any more.
    Over,
}

/// Emits until the source is over. `gather` is the time between two looks while there is news; without news nothing runs.
pub(crate) async fn pump<S, E, G, F>(mut source: S, emit: E, gather: G)
where
    S: Source,
    E: Fn(Event),
    G: Fn() -> F,
    F: Future<Output = ()>,
{
    let mut burst = Burst { status: true, ..Burst::default() };
    let mut shown = None;
    loop {
        // One commit is several pieces of news, and they belong together.
        while let Some(news) = source.next().now_or_never() {
            burst.note(news);
            if burst.over {
                break;
            }
        }
        burst.emit(&source, &mut shown, &emit).await;
        if burst.over {
            return;
        }
        burst.gather(&mut source, gather()).await;
        if burst.is_empty() {
            burst.note(source.next().await);
        }
    }
}

/// What has come and was not emitted yet.
#[derive(Default)]
struct Burst {
    entries: HashMap<Uuid, Change>,
    auth: Vec<AuthRequired>,
    status: bool,
    /// Listeners must look again even if the status seems to be the same.
    missed: bool,
    over: bool,
}

impl Burst {
    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.auth.is_empty() && !self.status && !self.missed && !self.over
    }

    fn note(&mut self, news: News) {
        match news {
            News::Entry(mut change) => {
                // A conflict is news also when something else came of the entry right after.
                change.conflict |= self.entries.get(&change.id).is_some_and(|before| before.conflict);
                self.entries.insert(change.id, change);
            }
            News::Auth(required) => {
                self.auth.retain(|other| *other != required);
                self.auth.push(required);
                // It is among the holds now.
                self.status = true;
            }
            News::Missed => self.missed = true,
            News::Status => self.status = true,
            News::Over => self.over = true,
        }
    }

    /// Takes in what comes until `time` is up, so that the source never has to keep much.
    async fn gather(&mut self, source: &mut impl Source, time: impl Future<Output = ()>) {
        let mut time = std::pin::pin!(time);
        while !self.over {
            tokio::select! {
                () = &mut time => return,
                news = source.next() => self.note(news),
            }
        }
    }

    async fn emit(&mut self, source: &impl Source, shown: &mut Option<Status>, emit: &impl Fn(Event)) {
        let mut changes: Vec<Change> = self.entries.drain().map(|(_, change)| change).collect();
        changes.sort_unstable_by_key(|change| change.seq);
        changes.into_iter().map(Event::Entry).for_each(emit);
        let required = std::mem::take(&mut self.auth);
        self.emit_status(source, shown, emit).await;
        required.into_iter().map(Event::Auth).for_each(emit);
    }

    async fn emit_status(&mut self, source: &impl Source, shown: &mut Option<Status>, emit: &impl Fn(Event)) {
        if !(std::mem::take(&mut self.status) || self.missed) {
            return;
        }
        match source.status().await {
            Ok(status) => {
                if std::mem::take(&mut self.missed) || !shown.as_ref().is_some_and(|shown| same(shown, &status)) {
                    emit(Event::Status(status.clone()));
                    *shown = Some(status);
                }
            }
            Err(Error::Closed) => self.over = true,
            Err(error) => {
                // Whatever comes next is told, whether or not it looks new.
                *shown = None;
                self.missed = false;
                tracing::debug!(code = error.code(), "the status cannot be read");
            }
        }
    }
}

/// The number rises with every change, also with those that the status does not show.
fn same(shown: &Status, status: &Status) -> bool {
    Status { seq: shown.seq, ..status.clone() } == *shown
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use tokio::sync::{Notify, mpsc};

    use super::*;
    use crate::entry::State;

    /// Answers what it is told to.
    struct Scripted {
        news: mpsc::UnboundedReceiver<News>,
        status: Arc<Mutex<Result<Status>>>,
        taken: Arc<AtomicUsize>,
    }

    impl Source for Scripted {
        async fn status(&self) -> Result<Status> {
            self.status.lock().unwrap().clone()
        }

        async fn next(&mut self) -> News {
            let news = self.news.recv().await;
            self.taken.fetch_add(1, Ordering::Relaxed);
            news.unwrap_or(News::Over)
        }
    }

    /// A pump whose gathering ends when the test says so.
    struct Bench {
        news: mpsc::UnboundedSender<News>,
        told: usize,
        taken: Arc<AtomicUsize>,
        status: Arc<Mutex<Result<Status>>>,
        gathering: Arc<Notify>,
        gathered: Arc<Notify>,
        emitted: mpsc::UnboundedReceiver<Event>,
        pump: tokio::task::JoinHandle<()>,
    }

    fn bench() -> Bench {
        let (news, receiver) = mpsc::unbounded_channel();
        let (sender, emitted) = mpsc::unbounded_channel();
        let status = Arc::new(Mutex::new(Ok(status(0, 0))));
        let (gathering, gathered) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let taken = Arc::new(AtomicUsize::new(0));
        let source = Scripted { news: receiver, status: Arc::clone(&status), taken: Arc::clone(&taken) };
        let (started, ended) = (Arc::clone(&gathering), Arc::clone(&gathered));
        let gather = move || {
            started.notify_one();
            let ended = Arc::clone(&ended);
            async move { ended.notified().await }
        };
        let pump = tokio::spawn(pump(source, move |event| drop(sender.send(event)), gather));
        Bench { news, told: 0, taken, status, gathering, gathered, emitted, pump }
    }

    impl Bench {
        fn tell(&mut self, news: News) {
            self.told += 1;
            self.news.send(news).unwrap();
        }

        /// Lets the gathering that is under way end once it has everything, and waits for the next one: what was told before it is out.
        async fn round(&mut self) -> Vec<Event> {
            while self.taken.load(Ordering::Relaxed) < self.told {
                tokio::task::yield_now().await;
            }
            self.gathered.notify_one();
            let next = tokio::time::timeout(std::time::Duration::from_secs(20), self.gathering.notified()).await;
            next.expect("what was told changed nothing");
            self.out()
        }

        fn out(&mut self) -> Vec<Event> {
            std::iter::from_fn(|| self.emitted.try_recv().ok()).collect()
        }

        /// Past the status that is told at the start.
        async fn started() -> Self {
            let mut bench = bench();
            bench.gathering.notified().await;
            assert_eq!(bench.out(), [Event::Status(status(0, 0))]);
            bench
        }

        fn now(&mut self, next: Status) {
            *self.status.lock().unwrap() = Ok(next);
            self.tell(News::Status);
        }
    }

    fn status(seq: u64, pending: u64) -> Status {
        serde_json::from_value(serde_json::json!({
            "ready": true, "seq": seq, "pending": pending, "inflight": 0, "acked": 0, "failed": 0, "paused": false, "owner": true,
            "account": "", "key": { "state": "unused", "source": "keychain" }, "holds": [], "watches": []
        }))
        .unwrap()
    }

    fn change(id: u128, state: State, seq: u64) -> Change {
        Change {
            id: Uuid::from_u128(id),
            kind: "form".into(),
            state: Some(state),
            seq,
            conflict: false,
            account: "".into(),
        }
    }

    #[tokio::test]
    async fn after_a_quiet_time_news_is_told_at_once_and_together() {
        let mut bench = Bench::started().await;
        bench.gathered.notify_one();
        bench.tell(News::Entry(change(1, State::Pending, 1)));
        bench.now(status(1, 1));
        bench.gathering.notified().await;
        assert_eq!(bench.out(), [Event::Entry(change(1, State::Pending, 1)), Event::Status(status(1, 1))]);
    }

    #[tokio::test]
    async fn a_burst_becomes_one_event_per_entry_and_one_status_and_the_last_state_arrives() {
        let mut bench = Bench::started().await;
        for seq in 1..=1000 {
            let state = [State::Pending, State::Inflight, State::Acked][usize::try_from(seq % 3).unwrap()];
            bench.tell(News::Entry(change(u128::from(seq % 2), state, seq)));
            bench.now(status(seq, seq));
        }
        assert_eq!(
            bench.round().await,
            [
                Event::Entry(change(1, State::Pending, 999)),
                Event::Entry(change(0, State::Inflight, 1000)),
                Event::Status(status(1000, 1000)),
            ]
        );
    }

    #[tokio::test]
    async fn a_conflict_is_told_although_something_else_came_of_the_entry_right_after() {
        let mut bench = Bench::started().await;
        let lost = Change { conflict: true, ..change(1, State::Superseded, 1) };
        bench.tell(News::Entry(lost));
        bench.tell(News::Entry(change(1, State::Pending, 2)));
        bench.tell(News::Entry(change(2, State::Pending, 3)));
        let told = Change { conflict: true, ..change(1, State::Pending, 2) };
        assert_eq!(bench.round().await, [Event::Entry(told), Event::Entry(change(2, State::Pending, 3))]);
        bench.tell(News::Entry(change(1, State::Acked, 4)));
        assert_eq!(bench.round().await, [Event::Entry(change(1, State::Acked, 4))]);
    }

    #[tokio::test]
    async fn a_status_that_only_has_another_number_is_not_told() {
        let mut bench = Bench::started().await;
        bench.now(status(7, 0));
        assert_eq!(bench.round().await, []);
        bench.now(status(8, 1));
        assert_eq!(bench.round().await, [Event::Status(status(8, 1))]);
    }

    #[tokio::test]
    async fn who_missed_something_is_told_to_look_again() {
        let mut bench = Bench::started().await;
        bench.tell(News::Missed);
        assert_eq!(bench.round().await, [Event::Status(status(0, 0))]);
    }

    #[tokio::test]
    async fn a_status_that_could_not_be_read_is_made_up_for() {
        let mut bench = Bench::started().await;
        *bench.status.lock().unwrap() = Err(Error::Database("busy".into()));
        bench.tell(News::Status);
        assert_eq!(bench.round().await, []);
        bench.now(status(0, 0));
        assert_eq!(bench.round().await, [Event::Status(status(0, 0))]);
    }

    #[tokio::test]
    async fn nothing_runs_while_there_is_no_news_and_it_ends_with_the_source() {
        let mut bench = Bench::started().await;
        bench.gathered.notify_one();
        // No second gathering begins before there is news.
        assert!(tokio::time::timeout(std::time::Duration::from_millis(50), bench.gathering.notified()).await.is_err());
        bench.tell(News::Entry(change(1, State::Acked, 1)));
        bench.tell(News::Over);
        bench.pump.await.unwrap();
        assert_eq!(bench.emitted.recv().await, Some(Event::Entry(change(1, State::Acked, 1))));
    }
}

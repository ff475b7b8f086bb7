//! How far uploads are, from the engine to whoever watches; and which of them are to stop.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;
use uuid::Uuid;

use super::Board;
use crate::{clock::Clock, entry::UploadProgress};

/// A listener is told at most so often.
const EVERY: Duration = Duration::from_millis(250);

/// What the board keeps of uploads.
#[derive(Default)]
pub(super) struct Uploads {
    /// Those that are under way, and of whom.
    running: Mutex<HashMap<Uuid, (Arc<str>, UploadProgress)>>,
    listeners: Mutex<Vec<Weak<Listener>>>,
    stops: Mutex<HashSet<Uuid>>,
}

/// Who listens, and what it was not told yet: the newest of each upload.
struct Listener {
    account: Mutex<Arc<str>>,
    news: Mutex<BTreeMap<Uuid, UploadProgress>>,
    notify: Notify,
    over: AtomicBool,
}

/// Tells how far uploads are: see [`Outbox::progress`](crate::outbox::Outbox::progress).
pub struct ProgressReceiver {
    listener: Arc<Listener>,
    clock: Arc<dyn Clock>,
    quiet_until: Duration,
}

impl ProgressReceiver {
    /// The uploads that got ahead since the last call, each with the newest of it: at most four times a second. The first call answers those
    /// that are under way. Waits while there is nothing to tell; none once the app shuts down. Cancel-safe.
    pub async fn next(&mut self) -> Option<Vec<UploadProgress>> {
        self.clock.sleep_until(self.quiet_until).await;
        loop {
            let told = self.listener.notify.notified();
            let news: Vec<_> = std::mem::take(&mut *lock(&self.listener.news)).into_values().collect();
            if !news.is_empty() {
                self.quiet_until = self.clock.now() + EVERY;
                return Some(news);
            }
            if self.listener.over.load(Ordering::Acquire) {
                return None;
            }
            told.await;
        }
    }
}

impl Listener {
    /// From now on of that account. What is under way there is told anew.
    fn follow(&self, running: &HashMap<Uuid, (Arc<str>, UploadProgress)>, account: &Arc<str>) {
        account.clone_into(&mut lock(&self.account));
        let theirs = running.values().filter(|(of, _)| of == account).map(|(_, upload)| (upload.id, upload.clone()));
        *lock(&self.news) = theirs.collect();
        self.notify.notify_one();
    }
}

impl std::fmt::Debug for ProgressReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProgressReceiver").finish_non_exhaustive()
    }
}

impl Board {
    /// Tells how far the uploads of that account are.
    pub(crate) fn progress(&self, account: &Arc<str>) -> ProgressReceiver {
        let listener = Arc::new(Listener {
            account: Mutex::new(Arc::clone(account)),
            news: Mutex::default(),
            notify: Notify::new(),
            over: AtomicBool::new(false),
        });
        let receiver =
            ProgressReceiver { listener, clock: Arc::clone(&self.shared.clock), quiet_until: Duration::ZERO };
        let running = lock(&self.shared.uploads.running);
        let mut listeners = lock(&self.shared.uploads.listeners);
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.push(Arc::downgrade(&receiver.listener));
        receiver.listener.follow(&running, account);
        drop((listeners, running));
        receiver
    }

    /// Another account is the current one: whoever listens hears of its uploads from now on.
    pub(crate) fn follow_uploads(&self, account: &Arc<str>) {
        let running = lock(&self.shared.uploads.running);
        for listener in lock(&self.shared.uploads.listeners).iter().filter_map(Weak::upgrade) {
            listener.follow(&running, account);
        }
    }

    /// An upload is so far. Called often: costs little when nobody listens.
    pub(crate) fn post_upload(&self, account: &Arc<str>, upload: UploadProgress) {
        let uploads = &self.shared.uploads;
        // Held to the end, so that a listener that comes now is told of the older or of the newer, never of the older last.
        let mut running = lock(&uploads.running);
        running.insert(upload.id, (Arc::clone(account), upload.clone()));
        for listener in lock(&uploads.listeners).iter().filter_map(Weak::upgrade) {
            if *lock(&listener.account) == *account {
                lock(&listener.news).insert(upload.id, upload.clone());
                listener.notify.notify_one();
            }
        }
    }

    /// It is not under way any more. Who listens is still told the last of it.
    pub(crate) fn end_upload(&self, id: Uuid) {
        lock(&self.shared.uploads.running).remove(&id);
        lock(&self.shared.uploads.stops).remove(&id);
    }

    /// Asks for these uploads to stop; wake the engine with `Wake::Changed` then. Answers those that are under way.
    pub(crate) fn stop_uploads(&self, ids: &[Uuid]) -> Vec<Uuid> {
        let running = lock(&self.shared.uploads.running);
        let found: Vec<Uuid> = ids.iter().filter(|id| running.contains_key(id)).copied().collect();
        lock(&self.shared.uploads.stops).extend(&found);
        found
    }

    pub(crate) fn asked_to_stop(&self) -> Vec<Uuid> {
        lock(&self.shared.uploads.stops).drain().collect()
    }
}

/// Nobody waits for news that cannot come.
impl Drop for Uploads {
    fn drop(&mut self) {
        for listener in lock(&self.listeners).iter().filter_map(Weak::upgrade) {
            listener.over.store(true, Ordering::Release);
            listener.notify.notify_one();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        pin::{Pin, pin},
        task::Poll,
    };

    use futures_util::poll;
    use tokio::sync::watch;

    use super::*;
    use crate::clock::SystemClock;

    fn upload(id: u128, sent: u64) -> UploadProgress {
        UploadProgress { id: Uuid::from_u128(id), sent, total: 100, rate: 0, left: None }
    }

    fn board() -> (Board, Arc<str>) {
        (Board::new(Arc::new(SystemClock::default())), "ann".into())
    }

    #[tokio::test]
    async fn the_newest_of_each_upload_arrives_and_the_last_one_always() {
        let (board, ann) = board();
        board.post_upload(&ann, upload(1, 5));
        let mut receiver = board.progress(&ann);
        assert_eq!(receiver.next().await, Some(vec![upload(1, 5)]), "what is under way is told first");
        for sent in 6..=100 {
            board.post_upload(&ann, upload(1, sent));
            board.post_upload(&ann, upload(2, sent - 5));
        }
        board.end_upload(Uuid::from_u128(1));
        assert_eq!(receiver.next().await, Some(vec![upload(1, 100), upload(2, 95)]));
        let mut late = board.progress(&ann);
        assert_eq!(late.next().await, Some(vec![upload(2, 95)]), "of what has ended nothing is left to tell");
        drop(board);
        assert_eq!((receiver.next().await, late.next().await), (None, None));
    }

    /// Stands still until it is moved on.
    #[derive(Default)]
    struct Hand(watch::Sender<Duration>);

    impl Clock for Hand {
        fn now(&self) -> Duration {
            *self.0.borrow()
        }

        fn wall(&self) -> i64 {
            0
        }

        fn sleep_until(&self, at: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            let mut now = self.0.subscribe();
            Box::pin(async move {
                // A clock that is gone stands still.
                let _ = now.wait_for(|now| *now >= at).await;
            })
        }
    }

    #[tokio::test]
    async fn a_listener_is_told_at_most_so_often_and_then_the_newest() {
        let clock = Arc::new(Hand::default());
        let (board, ann) = (Board::new(clock.clone()), "ann".into());
        let mut receiver = board.progress(&ann);
        board.post_upload(&ann, upload(1, 1));
        assert_eq!(receiver.next().await, Some(vec![upload(1, 1)]), "the first of it comes at once");
        for time in 1..5 {
            board.post_upload(&ann, upload(1, u64::from(time) * 10));
            let mut next = pin!(receiver.next());
            assert_eq!(poll!(&mut next), Poll::Pending);
            clock.0.send_replace(EVERY * time - Duration::from_nanos(1));
            assert_eq!(poll!(&mut next), Poll::Pending, "it is too early");
            board.post_upload(&ann, upload(1, u64::from(time) * 10 + 1));
            clock.0.send_replace(EVERY * time);
            assert_eq!(poll!(&mut next), Poll::Ready(Some(vec![upload(1, u64::from(time) * 10 + 1)])));
        }
    }

    #[tokio::test]
    async fn a_listener_hears_of_its_own_account() {
        let (board, ann) = board();
        let bob: Arc<str> = "bob".into();
        let mut receiver = board.progress(&ann);
        board.post_upload(&bob, upload(1, 1));
        board.post_upload(&ann, upload(2, 2));
        assert_eq!(receiver.next().await, Some(vec![upload(2, 2)]));
        board.follow_uploads(&bob);
        assert_eq!(receiver.next().await, Some(vec![upload(1, 1)]));
    }

    #[test]
    fn only_what_is_under_way_is_asked_to_stop() {
        let (board, ann) = board();
        board.post_upload(&ann, upload(1, 1));
        let ids = [Uuid::from_u128(1), Uuid::from_u128(2)];
        assert_eq!(board.stop_uploads(&ids), ids[..1]);
        assert_eq!(board.asked_to_stop(), ids[..1]);
        assert!(board.asked_to_stop().is_empty());
        board.end_upload(ids[0]);
        assert!(board.stop_uploads(&ids).is_empty());
    }
}

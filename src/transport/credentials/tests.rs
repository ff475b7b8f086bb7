use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;

use super::*;

const ORIGIN: &str = "https://api.example.com";

type Given = Result<Vec<(String, String)>, String>;

/// What to answer to which call.
type Answers = Box<dyn Fn(u64, &AuthRequest) -> Given + Send + Sync>;

/// A provider that keeps what it was asked and answers when it is let.
struct Scripted {
    asked: Mutex<Vec<AuthRequest>>,
    calls: AtomicU64,
    let_through: Semaphore,
    answer: Answers,
}

impl Scripted {
    fn new(answer: impl Fn(u64, &AuthRequest) -> Given + Send + Sync + 'static) -> Arc<Self> {
        Self::gated(Semaphore::MAX_PERMITS, answer)
    }

    fn gated(open: usize, answer: impl Fn(u64, &AuthRequest) -> Given + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            asked: Mutex::default(),
            calls: AtomicU64::new(0),
            let_through: Semaphore::new(open),
            answer: Box::new(answer),
        })
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    fn asked(&self) -> Vec<AuthRequest> {
        self.asked.lock().unwrap().clone()
    }
}

impl AuthProvider for Scripted {
    fn headers(&self, ask: AuthRequest) -> Asking<'_> {
        Box::pin(async move {
            self.asked.lock().unwrap().push(ask.clone());
            let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
            self.let_through.acquire().await.unwrap().forget();
            (self.answer)(call, &ask)
        })
    }
}

fn bearer(token: &str) -> Vec<(String, String)> {
    vec![("Authorization".into(), format!("Bearer {token}"))]
}

fn nth(call: u64, _: &AuthRequest) -> Given {
    Ok(bearer(&format!("t{call}")))
}

fn current(version: u64, token: &str) -> Current {
    Current { version, headers: bearer(token) }
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn without_credentials_and_provider_there_are_no_headers_at_version_zero() {
    let credentials = Credentials::new(None);
    let none = Current { version: 0, headers: vec![] };
    assert_eq!(credentials.get("", ORIGIN).await, Ok(none));
    assert_eq!(credentials.version("", ORIGIN), 0);
    assert_eq!(credentials.renew("", ORIGIN, 0).await, None);
}

#[tokio::test]
async fn what_is_set_is_sent_for_its_account_and_origin_only() {
    let credentials = Credentials::new(None);
    let version = credentials.set("ann", "https://API.example.com:443/v1", bearer("a")).unwrap();
    assert_eq!(credentials.get("ann", ORIGIN).await, Ok(current(version, "a")));
    for (account, origin) in [
        ("bob", ORIGIN),
        ("", ORIGIN),
        ("ann", "http://api.example.com"),
        ("ann", "https://api.example.com:8443"),
        ("ann", "https://example.com"),
    ] {
        let got = credentials.get(account, origin).await.unwrap();
        assert_eq!(got, Current { version: 0, headers: vec![] }, "{account} {origin}");
    }
}

#[tokio::test]
async fn versions_rise_and_never_return_even_after_clear() {
    let credentials = Credentials::new(None);
    let first = credentials.set("ann", ORIGIN, bearer("a")).unwrap();
    let second = credentials.set("ann", ORIGIN, bearer("b")).unwrap();
    credentials.clear("ann");
    assert_eq!(credentials.version("ann", ORIGIN), 0);
    let third = credentials.set("ann", ORIGIN, bearer("a")).unwrap();
    assert!(0 < first && first < second && second < third);
    assert_eq!(credentials.version("ann", ORIGIN), third);
}

#[tokio::test]
async fn clear_spares_other_accounts() {
    let credentials = Credentials::new(None);
    let kept = credentials.set("bob", ORIGIN, bearer("b")).unwrap();
    credentials.set("ann", ORIGIN, bearer("a")).unwrap();
    credentials.clear("ann");
    assert_eq!(credentials.get("bob", ORIGIN).await, Ok(current(kept, "b")));
    assert_eq!(
        credentials.get("ann", ORIGIN).await.unwrap_err(),
        "the app has not given its credentials since it started"
    );
    credentials.forget("ann");
    assert_eq!(credentials.get("ann", ORIGIN).await.unwrap().headers, []);
}

#[tokio::test]
async fn where_the_app_gave_some_before_nothing_is_sent_without_until_it_says_that_none_are_needed() {
    let credentials = Credentials::new(None);
    credentials.expect("ann", ORIGIN);
    assert!(credentials.get("ann", ORIGIN).await.is_err());
    assert_eq!(credentials.get("bob", ORIGIN).await.unwrap().version, 0);
    assert_eq!(credentials.get("ann", "https://other.example").await.unwrap().version, 0);
    credentials.set("ann", ORIGIN, Vec::new()).unwrap();
    assert_eq!(credentials.get("ann", ORIGIN).await.unwrap().headers, []);
    // What the database says of an earlier run comes after what the app has said in this one.
    credentials.expect("ann", ORIGIN);
    assert!(credentials.get("ann", ORIGIN).await.is_ok());
}

#[tokio::test]
async fn the_provider_is_asked_at_send_time_and_equal_headers_keep_their_version() {
    let provider = Scripted::new(|call, _| Ok(bearer(if call < 3 { "old" } else { "new" })));
    let credentials = Credentials::new(Some(provider.clone()));
    assert_eq!(credentials.get("ann", ORIGIN).await, Ok(current(1, "old")));
    assert_eq!(credentials.get("ann", ORIGIN).await, Ok(current(1, "old")));
    assert_eq!(credentials.get("ann", ORIGIN).await, Ok(current(2, "new")));
    let plain = AuthRequest { origin: ORIGIN.into(), account: "ann".into(), rejected: false };
    assert_eq!(provider.asked(), vec![plain; 3]);
}

#[tokio::test]
async fn what_the_app_set_comes_before_the_provider_until_it_is_rejected() {
    let provider = Scripted::new(nth);
    let credentials = Credentials::new(Some(provider.clone()));
    let set = credentials.set("", ORIGIN, bearer("set")).unwrap();
    assert_eq!(credentials.get("", ORIGIN).await, Ok(current(set, "set")));
    assert_eq!(provider.calls(), 0);
    assert_eq!(credentials.renew("", ORIGIN, set).await, Some(current(set + 1, "t1")));
    assert!(provider.asked()[0].rejected);
    assert_eq!(credentials.get("", ORIGIN).await, Ok(current(set + 2, "t2")));
}

#[tokio::test]
async fn setting_nothing_forgets_and_asks_the_provider_again() {
    let credentials = Credentials::new(Some(Scripted::new(nth)));
    let set = credentials.set("", ORIGIN, bearer("set")).unwrap();
    let forgotten = credentials.set("", ORIGIN, vec![]).unwrap();
    assert!(forgotten > set);
    assert_eq!(credentials.get("", ORIGIN).await, Ok(current(forgotten + 1, "t1")));
}

#[tokio::test]
async fn many_rejections_of_one_version_ask_the_provider_once() {
    let provider = Scripted::gated(0, nth);
    let credentials = Credentials::new(Some(provider.clone()));
    let old = credentials.set("", ORIGIN, bearer("old")).unwrap();
    let renewals: Vec<_> = (0..16)
        .map(|_| {
            let credentials = credentials.clone();
            tokio::spawn(async move { credentials.renew("", ORIGIN, old).await })
        })
        .collect();
    until(|| provider.calls() == 1).await;
    provider.let_through.add_permits(16);
    for renewal in renewals {
        assert_eq!(renewal.await.unwrap(), Some(current(old + 1, "t1")));
    }
    assert_eq!(provider.calls(), 1);
}

#[tokio::test]
async fn many_rejections_that_the_provider_cannot_help_ask_it_once() {
    let provider = Scripted::new(|_, _| Err("signed out".into()));
    let credentials = Credentials::new(Some(provider.clone()));
    let old = credentials.set("", ORIGIN, bearer("old")).unwrap();
    let all = (0..16).map(|_| credentials.renew("", ORIGIN, old));
    assert_eq!(futures_util::future::join_all(all).await, vec![None; 16]);
    assert_eq!(credentials.renew("", ORIGIN, old).await, None);
    assert_eq!(provider.calls(), 1);
}

#[tokio::test]
async fn attempts_at_the_same_time_share_one_question() {
    let provider = Scripted::gated(0, nth);
    let credentials = Credentials::new(Some(provider.clone()));
    let mut attempts: Vec<_> = (0..16).map(|_| Box::pin(credentials.get("", ORIGIN))).collect();
    for attempt in &mut attempts {
        assert!(futures_util::poll!(attempt).is_pending());
    }
    provider.let_through.add_permits(16);
    for attempt in attempts {
        assert_eq!(attempt.await, Ok(current(1, "t1")));
    }
    assert_eq!(provider.calls(), 1);
}

#[tokio::test]
async fn a_late_rejection_of_an_old_version_answers_the_newer_ones_and_asks_nobody() {
    let provider = Scripted::new(nth);
    let credentials = Credentials::new(Some(provider.clone()));
    let old = credentials.set("", ORIGIN, bearer("old")).unwrap();
    let new = credentials.set("", ORIGIN, bearer("new")).unwrap();
    assert_eq!(credentials.renew("", ORIGIN, old).await, Some(current(new, "new")));
    assert_eq!(provider.calls(), 0);
    assert_eq!(credentials.get("", ORIGIN).await, Ok(current(new, "new")));
}

#[tokio::test]
async fn a_late_rejection_does_not_answer_newer_ones_that_were_rejected_too() {
    let credentials = Credentials::new(None);
    let old = credentials.set("", ORIGIN, bearer("old")).unwrap();
    let new = credentials.set("", ORIGIN, bearer("new")).unwrap();
    assert_eq!(credentials.renew("", ORIGIN, new).await, None);
    assert_eq!(credentials.renew("", ORIGIN, old).await, None);
    let newest = credentials.set("", ORIGIN, bearer("newest")).unwrap();
    assert_eq!(credentials.renew("", ORIGIN, old).await, Some(current(newest, "newest")));
}

#[tokio::test]
async fn a_provider_that_gives_the_rejected_headers_again_has_no_others() {
    let provider = Scripted::new(|_, _| Ok(bearer("same")));
    let credentials = Credentials::new(Some(provider.clone()));
    let got = credentials.get("", ORIGIN).await.unwrap();
    assert_eq!(credentials.renew("", ORIGIN, got.version).await, None);
    assert_eq!(credentials.renew("", ORIGIN, got.version).await, None);
    assert_eq!(provider.calls(), 2);
}

#[tokio::test]
async fn after_a_failed_renewal_the_next_attempt_tells_the_provider_of_the_rejection_again() {
    let provider = Scripted::new(|call, _| match call {
        2 => Err("the token endpoint is down".into()),
        _ => Ok(bearer(&format!("t{call}"))),
    });
    let credentials = Credentials::new(Some(provider.clone()));
    let first = credentials.get("", ORIGIN).await.unwrap();
    assert_eq!(credentials.renew("", ORIGIN, first.version).await, None);
    assert_eq!(credentials.get("", ORIGIN).await, Ok(current(2, "t3")));
    let rejected: Vec<bool> = provider.asked().iter().map(|ask| ask.rejected).collect();
    assert_eq!(rejected, [false, true, true]);
}

#[tokio::test]
async fn a_rejection_of_a_request_without_headers_asks_the_provider_once() {
    let provider = Scripted::new(|_, ask| if ask.rejected { Ok(bearer("t")) } else { Ok(vec![]) });
    let credentials = Credentials::new(Some(provider.clone()));
    assert_eq!(credentials.get("", ORIGIN).await.unwrap(), Current { version: 0, headers: vec![] });
    assert_eq!(credentials.renew("", ORIGIN, 0).await, Some(current(1, "t")));
    assert_eq!(credentials.renew("", ORIGIN, 0).await, Some(current(1, "t")));
    assert_eq!(provider.calls(), 2);
}

#[tokio::test]
async fn an_aborted_attempt_does_not_use_up_the_question() {
    let provider = Scripted::gated(0, nth);
    let credentials = Credentials::new(Some(provider.clone()));
    let old = credentials.set("", ORIGIN, bearer("old")).unwrap();
    {
        let mut renewal = Box::pin(credentials.renew("", ORIGIN, old));
        assert!(futures_util::poll!(&mut renewal).is_pending());
        assert_eq!(provider.calls(), 1);
    }
    provider.let_through.add_permits(1);
    assert_eq!(credentials.renew("", ORIGIN, old).await, Some(current(old + 1, "t2")));
}

#[tokio::test]
async fn what_the_app_sets_while_the_provider_thinks_wins() {
    let provider = Scripted::gated(0, nth);
    let credentials = Credentials::new(Some(provider.clone()));
    let mut attempt = Box::pin(credentials.get("", ORIGIN));
    assert!(futures_util::poll!(&mut attempt).is_pending());
    let set = credentials.set("", ORIGIN, bearer("set")).unwrap();
    provider.let_through.add_permits(1);
    assert_eq!(attempt.await, Ok(current(set, "set")));
    assert_eq!(credentials.version("", ORIGIN), set);
}

#[tokio::test]
async fn an_answer_for_an_account_that_signed_out_meanwhile_is_not_used() {
    let provider = Scripted::gated(0, nth);
    let credentials = Credentials::new(Some(provider.clone()));
    let mut attempt = Box::pin(credentials.get("ann", ORIGIN));
    assert!(futures_util::poll!(&mut attempt).is_pending());
    credentials.clear("ann");
    provider.let_through.add_permits(1);
    assert_eq!(attempt.await, Err("the account was signed out".into()));
    assert_eq!(credentials.version("ann", ORIGIN), 0);
}

#[tokio::test]
async fn a_provider_that_hangs_is_given_up() {
    let mut credentials = Credentials::new(Some(Scripted::gated(0, nth)));
    assert_eq!(credentials.patience.as_secs(), 30);
    credentials.patience = Duration::from_millis(1);
    assert_eq!(credentials.get("", ORIGIN).await, Err("the auth provider did not answer in time".into()));
}

#[tokio::test]
async fn a_provider_that_panics_has_no_credentials() {
    let credentials = Credentials::new(Some(Scripted::new(|_, _| panic!("bug"))));
    assert_eq!(credentials.get("", ORIGIN).await, Err("the auth provider panicked".into()));
}

#[tokio::test]
async fn a_providers_bad_headers_are_refused_without_showing_the_value() {
    let provider = Scripted::new(|_, _| Ok(vec![("Authorization".into(), "Bearer s3cret\r\nHost: evil".into())]));
    let why = Credentials::new(Some(provider)).get("", ORIGIN).await.unwrap_err();
    assert!(why.contains("`Authorization`") && !why.contains("s3cret"), "{why}");
}

#[test]
fn hostile_headers_are_refused_before_anything_changes_and_without_showing_the_value() {
    let credentials = Credentials::new(None);
    let header = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let mut cases = vec![
        header("", "s3cret"),
        header("Author ization", "s3cret"),
        header("Auth\r\nX", "s3cret"),
        header("Authorizatiön", "s3cret"),
        header(&"a".repeat(129), "s3cret"),
        header("Authorization", ""),
        header("Authorization", "  "),
        header("Authorization", "s3cret\n"),
        header("Authorization", "s3cret\r\nHost: evil"),
        header("Authorization", "s3cret\0"),
        header("Authorization", "s3crèt s3cret"),
        header("Authorization", &"s3cret".repeat(3000)),
        (0..33).map(|n| (format!("X-{n}"), "s3cret".into())).collect(),
        vec![("X-A".into(), "s3cret".into()), ("x-a".into(), "s3cret".into())],
    ];
    for name in [
        "Host",
        "Accept-Encoding",
        "X-HTTP-Method-Override",
        "x-forwarded-proto",
        "Upload-Metadata",
        "content-length",
        "Content-Type",
        "Content-Encoding",
        "Transfer-Encoding",
        "Connection",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Upgrade",
        "Expect",
        "Idempotency-Key",
        "Sync-Revision",
        "SYNC-KEY",
        "If-Match",
        "If-None-Match",
        "Range",
        "User-Agent",
    ] {
        cases.push(header(name, "s3cret"));
    }
    for case in cases {
        let error = credentials.set("", ORIGIN, case.clone()).unwrap_err();
        assert_eq!(error.code(), "invalid_argument");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
    assert_eq!(credentials.version("", ORIGIN), 0);
}

#[test]
fn an_origin_that_is_none_is_refused() {
    let credentials = Credentials::new(None);
    for origin in ["", "api.example.com", "/v1", "data:x", "file:///etc", "https://"] {
        assert_eq!(credentials.set("", origin, bearer("a")).unwrap_err().code(), "invalid_argument", "{origin}");
    }
}

#[tokio::test]
async fn usual_headers_are_taken() {
    let credentials = Credentials::new(None);
    let headers = vec![
        ("Authorization".to_owned(), " Basic YTpi ".to_owned()),
        ("Cookie".into(), "sid=1; theme=dark".into()),
        ("Proxy-Authorization".into(), "Basic YTpi".into()),
        ("X-Api-Key".into(), "k".into()),
    ];
    credentials.set("", ORIGIN, headers).unwrap();
    let got = credentials.get("", ORIGIN).await.unwrap().headers;
    assert_eq!(got.len(), 4);
    assert_eq!(got[0], ("Authorization".into(), "Basic YTpi".into()));
}

#[tokio::test]
async fn debug_shows_nothing_secret() {
    let credentials = Credentials::new(Some(Scripted::new(nth)));
    credentials.set("ann@example.com", ORIGIN, bearer("s3cret")).unwrap();
    let current = credentials.get("ann@example.com", ORIGIN).await.unwrap();
    let shown = format!("{credentials:?} {credentials:#?} {current:?} {current:#?}");
    assert!(!shown.contains("s3cret") && !shown.contains("Bearer") && !shown.contains("ann"), "{shown}");
    assert!(shown.contains("Authorization"));
}

//! One attempt on the wire: credentials are asked for at send time, and once more after a 401.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;

use super::prepare::Prepared;
use crate::transport::{Answer, Outcome, Request, Transport, credentials::Credentials};

/// A transport keeps the endpoint's timeout itself; one that does not is cut off so much later.
const GRACE: Duration = Duration::from_secs(5);

/// What came of it.
pub(super) struct Finished {
    pub seq: i64,
    /// Version of the credentials that it carried.
    pub version: u64,
    pub result: Sent,
}

pub(super) enum Sent {
    /// An answer, or the lack of one.
    Answered { answer: Answer, renewed: bool },
    /// The app has no credentials to give: nothing was sent.
    NoCredentials { why: String },
}

/// Whatever a transport does, its entry does not stay in flight for ever.
async fn answer(request: Request, transport: &dyn Transport) -> Answer {
    let patience = request.timeout.saturating_add(GRACE);
    match tokio::time::timeout(patience, transport.deliver(request)).await {
        Ok(answer) => answer,
        Err(_) => unknown("the transport did not answer in time", true),
    }
}

fn unknown(why: &str, timed_out: bool) -> Answer {
    Outcome::Unknown { why: why.into(), timed_out }.into()
}

pub(super) async fn send(prepared: Prepared, transport: Arc<dyn Transport>, credentials: Credentials) -> Finished {
    let Prepared { attempt, account, mut request, .. } = prepared;
    let current = match credentials.get(&account, &attempt.origin).await {
        Ok(current) => current,
        Err(why) => {
            let version = credentials.version(&account, &attempt.origin);
            return Finished { seq: attempt.seq, version, result: Sent::NoCredentials { why } };
        }
    };
    let version = current.version;
    request.credentials = current.headers.clone();
    // An app's own transport may panic: that is an unknown outcome of this entry, not the end of all delivery.
    let answer = AssertUnwindSafe(answer(request, &*transport)).catch_unwind().await;
    let answer = answer.unwrap_or_else(|_| unknown("the transport panicked", false));
    let renewed = matches!(answer.outcome, Outcome::Unauthorized { .. })
        && credentials.renew(&account, &attempt.origin, version).await.is_some();
    Finished { seq: attempt.seq, version, result: Sent::Answered { answer, renewed } }
}

//! What is logged, and what is not.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use super::{
    super::Http,
    SECRET, secretive,
    server::{Reply, Server, reply},
};
use crate::{config::CanonicalId, transport::Transport};

/// Keeps all that is logged by this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl tracing::field::Visit for Log {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        write!(self.0.lock().unwrap(), " {field}={value:?}").unwrap();
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        span.record(&mut self.clone());
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        values.record(&mut self.clone());
    }

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn the_log_tells_origin_and_outcome_and_no_secret() {
    let log = Log::default();
    let logging = tracing::subscriber::set_default(log.clone());
    let server = Server::start([
        reply(200, &[], &format!("{{\"id\":\"{SECRET}\",\"revision\":1,\"device\":\"{SECRET}\"}}")),
        reply(409, &[&format!("Sync-Device: {SECRET}")], "{\"revision\":1}"),
        reply(302, &[&format!("Location: /{SECRET}")], ""),
        Reply::Reset,
    ])
    .await;
    for _ in 0..4 {
        let mut request = secretive("POST", &server.url(""));
        request.ack.id = CanonicalId::Pointer("/id".into());
        let shown = format!("{request:?}");
        assert!(!shown.contains(SECRET), "{shown}");
        Http::new().unwrap().deliver(request).await;
    }
    drop(logging);
    let told = log.0.lock().unwrap().clone();
    assert!(told.contains(&server.address.to_string()), "{told}");
    for outcome in ["acked", "conflict", "unproven", "unknown"] {
        assert!(told.contains(outcome), "{outcome}: {told}");
    }
    assert!(!told.contains(SECRET), "{told}");
}

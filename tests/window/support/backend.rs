//! The reference backend, over real TCP, that can be away.

use storage_sync_backend::{Backend, Options, Resource};

use super::{free_port, wait_for};

/// A backend whose port refuses connections; the address is known before it ever listens.
pub async fn away() -> Backend {
    let options = Options { port: Some(free_port()), ..Options::default() };
    let backend = Backend::start(options).await.expect("the backend listens on a free port");
    backend.stop().await;
    backend
}

/// A backend that listens.
pub async fn there() -> Backend {
    Backend::start(Options::default()).await.expect("the backend listens on a free port")
}

/// Waits until some resource of the collection passes `is`.
pub async fn holds(backend: &Backend, collection: &str, is: impl Fn(&Resource) -> bool) {
    wait_for(&format!("the backend to hold it in {collection}"), async || {
        backend.world(|world| {
            let bodies: Vec<_> = world.resources(collection).map(|it| it.body.clone()).collect();
            world.resources(collection).any(&is).then_some(()).ok_or_else(|| format!("it holds {bodies:?}"))
        })
    })
    .await;
}

/// That the backend applied something, and nothing twice.
pub fn applied_each_once(backend: &Backend) {
    backend.world(|world| {
        assert!(world.applied() > 0, "the backend applied nothing");
        for (key, times) in world.applied_keys() {
            assert_eq!(*times, 1, "the backend applied {key} more than once");
        }
    });
}

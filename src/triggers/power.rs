//! The machine woke from sleep.
//!
//! On Linux logind says so (`PrepareForSleep(false)` on the system bus). Elsewhere nothing is watched: waking brings the network
//! back and a window into focus, and those two wake the engine.

use crate::wake::WakeSignal;

/// Wakes after every sleep, until it is dropped. Ends at once where there is nothing to watch.
#[cfg(not(target_os = "linux"))]
pub(super) async fn watch(_wake: WakeSignal) {}

/// Wakes after every sleep, until it is dropped. Ends where there is no system bus.
#[cfg(target_os = "linux")]
pub(super) async fn watch(wake: WakeSignal) {
    let signals = async { logind::subscribe(&zbus::Connection::system().await?).await };
    match signals.await {
        Ok(signals) => logind::follow(signals, wake).await,
        // Containers and minimal systems have none, and that is all right.
        Err(error) => tracing::debug!(%error, "waking from sleep is not watched: there is no logind to ask"),
    }
}

#[cfg(target_os = "linux")]
mod logind {
    use futures_util::StreamExt as _;
    use zbus::proxy::{CacheProperties, SignalStream};

    use crate::wake::{Wake, WakeSignal};

    pub(super) async fn subscribe(bus: &zbus::Connection) -> zbus::Result<SignalStream<'static>> {
        let manager: zbus::Proxy<'_> = zbus::proxy::Builder::new(bus)
            .destination("org.freedesktop.login1")?
            .path("/org/freedesktop/login1")?
            .interface("org.freedesktop.login1.Manager")?
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        manager.receive_signal("PrepareForSleep").await
    }

    /// Until the bus goes away.
    pub(super) async fn follow(mut signals: SignalStream<'static>, wake: WakeSignal) {
        while let Some(signal) = signals.next().await {
            // True comes before the sleep, false after it.
            if matches!(signal.body().deserialize::<bool>(), Ok(false)) {
                tracing::debug!("the machine woke from sleep");
                wake.wake(Wake::Resume);
            }
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{process::Stdio, time::Duration};

    use tokio::io::{AsyncBufReadExt as _, BufReader};

    use super::*;
    use crate::wake::{Wake, Wakes};

    /// A bus of our own, which ends with this.
    struct Bus {
        daemon: tokio::process::Child,
        address: String,
    }

    async fn bus() -> Bus {
        let mut daemon = tokio::process::Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--print-address=1"])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("this test needs `dbus-daemon`");
        let mut lines = BufReader::new(daemon.stdout.take().unwrap()).lines();
        let address = lines.next_line().await.unwrap().unwrap();
        Bus { daemon, address }
    }

    async fn connect(bus: &Bus) -> zbus::Connection {
        zbus::connection::Builder::address(bus.address.as_str()).unwrap().build().await.unwrap()
    }

    async fn emit(from: &zbus::Connection, before_sleep: bool) {
        let (path, interface) = ("/org/freedesktop/login1", "org.freedesktop.login1.Manager");
        from.emit_signal(None::<&str>, path, interface, "PrepareForSleep", &before_sleep).await.unwrap();
    }

    /// Everything sent before on this connection has been handled by the bus, and everything the bus sent before has come here.
    async fn round_trip(connection: &zbus::Connection) {
        let bus = zbus::fdo::DBusProxy::new(connection).await.unwrap();
        bus.get_id().await.unwrap();
    }

    #[tokio::test]
    async fn waking_from_sleep_wakes() {
        let bus = bus().await;
        let logind = connect(&bus).await;
        logind.request_name("org.freedesktop.login1").await.unwrap();
        let wake = WakeSignal::default();

        let signals = logind::subscribe(&connect(&bus).await).await.unwrap();
        let following = tokio::spawn(logind::follow(signals, wake.clone()));
        emit(&logind, true).await;
        emit(&logind, false).await;
        let woken = tokio::time::timeout(Duration::from_secs(20), wake.wait()).await.expect("no wake came");
        assert!(woken.has(Wake::Resume));
        following.abort();
    }

    #[tokio::test]
    async fn falling_asleep_wakes_nothing_and_neither_does_anyone_but_logind() {
        let mut bus = bus().await;
        let (logind, stranger) = (connect(&bus).await, connect(&bus).await);
        logind.request_name("org.freedesktop.login1").await.unwrap();
        let wake = WakeSignal::default();

        let ours = connect(&bus).await;
        let signals = logind::subscribe(&ours).await.unwrap();
        emit(&logind, true).await;
        emit(&stranger, false).await;
        for connection in [&logind, &stranger, &ours] {
            round_trip(connection).await;
        }
        bus.daemon.kill().await.unwrap();
        let followed = tokio::time::timeout(Duration::from_secs(20), logind::follow(signals, wake.clone())).await;
        followed.expect("it ends with the bus");
        assert_eq!(wake.take(), Wakes::default());
    }
}

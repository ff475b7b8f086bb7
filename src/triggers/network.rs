//! The network changed: an interface came or went, or an address did.

use netwatcher::{Update, WatchHandle};

use crate::wake::{Wake, WakeSignal};

/// Ends the watch when it is dropped, after a callback that is running.
pub(super) struct Watch {
    _handle: WatchHandle,
}

/// Wakes at every change from now on. None where the system cannot be asked; the slow retry covers that.
pub(super) fn watch(wake: WakeSignal) -> Option<Watch> {
    let handle = netwatcher::watch_interfaces_with_callback(move |update: Update| {
        // The first one only says how things are.
        if !update.is_initial {
            tracing::debug!("the network changed");
            wake.wake(Wake::Network);
        }
    });
    match handle {
        Ok(handle) => Some(Watch { _handle: handle }),
        Err(error) => {
            tracing::warn!(%error, "network changes cannot be watched: delivery resumes by retry only");
            None
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{process::Command, time::Duration};

    use super::*;
    use crate::wake::Wakes;

    /// Set in the copy of this test that runs inside a network namespace.
    const INSIDE: &str = "STORAGE_SYNC_TEST_INSIDE_NETNS";

    #[test]
    fn a_change_of_the_real_network_wakes_and_the_state_at_the_start_does_not() {
        if std::env::var_os(INSIDE).is_some() {
            return inside();
        }
        let name = "triggers::network::tests::a_change_of_the_real_network_wakes_and_the_state_at_the_start_does_not";
        let copy = Command::new("unshare")
            .arg("-rn")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(INSIDE, "1")
            .output()
            .expect("this test needs `unshare` of util-linux");
        let said = String::from_utf8_lossy(&copy.stdout);
        assert!(
            copy.status.success() && said.contains("1 passed"),
            "needs user namespaces (or root), and `ip`\n{said}{}",
            String::from_utf8_lossy(&copy.stderr)
        );
    }

    fn inside() {
        ip("link set lo up");
        let wake = WakeSignal::default();
        let watch = watch(wake.clone()).unwrap();
        assert_eq!(wake.take(), Wakes::default(), "the state at the start is no change");

        ip("link add v0 type veth peer name v1");
        ip("addr add 10.9.9.1/24 dev v0");
        ip("link set v1 up");
        ip("link set v0 up");
        assert!(next(&wake).has(Wake::Network));

        // Whatever the lines above still cause must not stand in for the next change.
        settle(&wake);
        ip("link set v0 down");
        assert!(next(&wake).has(Wake::Network));

        drop(watch);
        wake.take();
        ip("link del v0");
        assert_eq!(wake.take(), Wakes::default(), "nothing comes after it was dropped");
    }

    fn next(wake: &WakeSignal) -> Wakes {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(20), wake.wait()).await })
            .expect("no wake came")
    }

    /// Waits until the kernel has given the interface its last address (the IPv6 one, once it is no longer tentative) and told us.
    fn settle(wake: &WakeSignal) {
        for _ in 0..200 {
            wake.take();
            std::thread::sleep(Duration::from_millis(100));
            let tentative = Command::new("ip").args(["-6", "addr", "show", "tentative"]).output().unwrap();
            if tentative.stdout.is_empty() && wake.take() == Wakes::default() {
                return;
            }
        }
        panic!("the network never came to rest");
    }

    fn ip(arguments: &str) {
        let status = Command::new("ip").args(arguments.split(' ')).status().expect("this test needs `ip` of iproute2");
        assert!(status.success(), "ip {arguments}");
    }
}

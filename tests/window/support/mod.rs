//! What the tests of the real window stand on: the desktop, the app behind a WebDriver, the backend as a process.

pub mod app;
pub mod backend;
pub mod desktop;
pub mod keychain;
pub mod page;
pub mod processes;

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a condition may take before its test fails. Not a claim about speed: a busy machine is slow, not broken.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(100);

/// Looks until `probe` answers something, and fails the test with `what` and the last answer when it never does.
pub async fn wait_for<T>(what: &str, probe: impl AsyncFnMut() -> Result<T, String>) -> T {
    look(what, probe, false).await
}

/// As [`wait_for`], for what takes as long as it takes: it fails only when what is seen instead has stood still for so long.
pub async fn wait_while_it_moves<T>(what: &str, probe: impl AsyncFnMut() -> Result<T, String>) -> T {
    look(what, probe, true).await
}

async fn look<T>(what: &str, mut probe: impl AsyncFnMut() -> Result<T, String>, moves: bool) -> T {
    let (mut deadline, mut before) = (Instant::now() + PATIENCE, String::new());
    loop {
        match probe().await {
            Ok(found) => return found,
            Err(instead) if Instant::now() >= deadline => {
                panic!("waited {PATIENCE:?} for {what}; instead: {instead}")
            }
            Err(instead) if moves && instead != before => {
                (deadline, before) = (Instant::now() + PATIENCE, instead);
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A port of the loopback interface that nobody listened on a moment ago.
pub fn free_port() -> u16 {
    let [port] = free_ports();
    port
}

/// As many of them, each another one.
pub fn free_ports<const MANY: usize>() -> [u16; MANY] {
    // All of them are held until all are known, or one could be given twice.
    let listeners = [(); MANY].map(|()| TcpListener::bind(("127.0.0.1", 0)).expect("loopback has free ports"));
    listeners.each_ref().map(|listener| listener.local_addr().expect("a bound listener has an address").port())
}

/// A program of this workspace, built beside this test by `cargo build`.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    let folder = test.ancestors().nth(2).expect("a test lives in <target>/<profile>/deps");
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is not there: run `scripts/test window`, which builds the programs first",
        path.display()
    );
    path
}

/// `<target>/window`, where the pictures go.
fn pictures() -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    let target = test.ancestors().nth(3).expect("a test lives in <target>/<profile>/deps");
    let folder = target.join("window");
    std::fs::create_dir_all(&folder).expect("the target folder can be written");
    folder
}

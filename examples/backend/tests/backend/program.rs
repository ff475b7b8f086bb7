//! The program.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::client::ask;

/// Starts it on a free port and waits for its line.
async fn start(more: &[&str]) -> (Child, u16) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_storage-sync-backend"))
        .args(["--port", "0"])
        .args(more)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let line = BufReader::new(child.stdout.take().unwrap()).lines().next_line().await.unwrap().unwrap();
    let port = line.strip_prefix("listening on http://127.0.0.1:").unwrap().parse().unwrap();
    (child, port)
}

#[tokio::test]
async fn it_says_where_it_listens_and_keeps_what_it_has_over_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let (mut child, port) = start(&["--folder", path, "--token", "ann:t"]).await;
    assert_eq!(ask("PUT /forms/1").send(port).await.unwrap().status, 401);
    let put = ask("PUT /forms/1").key("k").header("Authorization", "Bearer t").body("x");
    assert_eq!(put.clone().send(port).await.unwrap().status, 200);
    child.kill().await.unwrap();

    let (_child, port) = start(&["--folder", path, "--token", "ann:t"]).await;
    assert_eq!(put.send(port).await.unwrap().header("idempotency-replayed"), Some("true"));
}

#[cfg(unix)]
#[tokio::test]
async fn told_to_end_it_ends_well() {
    for signal in ["TERM", "INT"] {
        let (mut child, port) = start(&[]).await;
        let _open = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let id = child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().await.unwrap().success());
        assert!(child.wait().await.unwrap().success(), "{signal}");
    }
}

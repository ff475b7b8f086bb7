//! Lines that are cut in the middle of things.

use tauri_plugin_storage_sync::testing::transport::Outcome;

use crate::{
    proxy::{Cut, Proxy},
    server::TusServer,
    support::{Keeper, MIB, OnDisk, attempt, content, is_acked},
};

fn through(proxy: &Proxy) -> String {
    format!("http://127.0.0.1:{}/files", proxy.port)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_in_the_middle_of_a_chunk_costs_only_what_was_under_way() {
    let server = TusServer::start();
    let proxy = Proxy::to(server.port()).await;
    let (bytes, keeper) = (content(4 * MIB), Keeper::new());
    proxy.cut(Cut::Up(MIB as u64 + MIB as u64 / 2));
    let answer = attempt(&through(&proxy), &OnDisk::holding(&bytes), &keeper).await;
    assert!(is_acked(&answer), "{answer:?}");
    assert_eq!(proxy.cuts(), 1);
    assert!(server.the_file() == bytes);
    // It was created once, and no chunk went to where another had arrived. The server may have taken nothing of the one that was cut.
    assert_eq!(server.seen("POST").len(), 1);
    let patches = server.seen("PATCH");
    let taken = patches.iter().filter(|patch| patch.status == 204);
    let offsets: Vec<_> = taken.map(|patch| patch.header("upload-offset").unwrap().to_owned()).collect();
    assert_eq!(offsets.iter().collect::<std::collections::BTreeSet<_>>().len(), offsets.len(), "{offsets:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_the_last_bytes_is_found_out_without_sending_them_again() {
    let server = TusServer::start();
    let proxy = Proxy::to(server.port()).await;
    let (bytes, keeper) = (content(MIB), Keeper::new());
    // The questions before it are far smaller.
    proxy.cut(Cut::Answer(MIB as u64));
    let answer = attempt(&through(&proxy), &OnDisk::holding(&bytes), &keeper).await;
    assert!(is_acked(&answer), "{answer:?}");
    assert_eq!(proxy.cuts(), 1);
    assert_eq!(server.seen("PATCH").len(), 1);
    assert!(server.the_file() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_the_creation_costs_an_empty_upload_at_most() {
    let server = TusServer::start();
    let proxy = Proxy::to(server.port()).await;
    let (bytes, keeper) = (content(MIB), Keeper::new());
    // OPTIONS comes first, and is answered; the first cut is in it, so count from what follows.
    assert!(is_acked(&attempt(&through(&proxy), &OnDisk::holding(&content(1)), &Keeper::new()).await));
    proxy.cut(Cut::Answer(400));
    let answer = attempt(&through(&proxy), &OnDisk::holding(&bytes), &keeper).await;
    if !is_acked(&answer) {
        assert!(matches!(answer.outcome, Outcome::Unknown { .. }) && answer.unapplied, "{answer:?}");
        assert!(is_acked(&attempt(&through(&proxy), &OnDisk::holding(&bytes), &keeper).await));
    }
    assert_eq!(proxy.cuts(), 1);
    let complete = server.uploads().into_iter().filter(|(path, _)| std::fs::read(path).unwrap() == bytes).count();
    assert_eq!(complete, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_cut_wherever_the_file_arrives_once_and_whole() {
    let mut seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::try_from(now.as_nanos() & u128::from(u64::MAX)).unwrap() | 1
    });
    println!("SEED={seed}");
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let server = TusServer::start();
    let proxy = Proxy::to(server.port()).await;
    let (bytes, keeper) = (content(3 * MIB), Keeper::new());
    let source = OnDisk::holding(&bytes);
    for round in 0..200 {
        // The early rounds are cut, so that it comes to an end.
        if round < 25 {
            let after = random(MIB as u64);
            proxy.cut(if random(3) == 0 { Cut::Answer(after) } else { Cut::Up(after) });
        }
        let answer = attempt(&through(&proxy), &source, &keeper).await;
        if is_acked(&answer) {
            break;
        }
        assert!(round < 199, "{answer:?}");
    }
    assert!(proxy.cuts() > 0);
    let complete = server.uploads().into_iter().filter(|(path, _)| std::fs::read(path).unwrap() == bytes).count();
    assert_eq!(complete, 1);
    // Uploads whose creation was cut off are the only ones left over, with what came along with it at most.
    let left = |bytes: u64| bytes <= MIB as u64 / 4 || bytes == 3 * MIB as u64;
    assert!(server.uploads().iter().all(|(path, _)| left(std::fs::metadata(path).unwrap().len())));
}

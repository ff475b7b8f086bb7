//! A folder full of changes, and an app that is killed again and again: at rest the server has exactly what the folder has.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tauri_plugin_storage_sync::testing::triggers::folders::SystemWatcher;

use crate::{
    dice::{Dice, number, seed},
    folders_bench::{config, content, follow, held, options, watch},
    support::{Device, Setup, backend},
    worker::SameKey,
};

/// The folder of the queue, the one that is watched, and how: set for the process that is killed only.
const DATA: &str = "STORAGE_SYNC_FOLDERS_DATA";
const ROOT: &str = "STORAGE_SYNC_FOLDERS_ROOT";
const CONFIG: &str = "STORAGE_SYNC_FOLDERS_CONFIG";

/// What somebody does in a folder.
struct Script {
    dice: Dice,
    root: PathBuf,
    files: u64,
    /// What is there.
    there: Vec<PathBuf>,
    written: u64,
}

impl Script {
    fn path(&mut self) -> PathBuf {
        let (number, folder) = (self.dice.roll(self.files * 2), self.dice.roll(4));
        let folder = if folder == 0 { self.root.clone() } else { self.root.join(format!("folder {folder}")) };
        fs::create_dir_all(&folder).unwrap();
        folder.join(format!("file {number}.txt"))
    }

    /// A few bytes, or more than fit into a row of the database; two of the same size now and then.
    fn text(&mut self) -> Vec<u8> {
        self.written += 1;
        let length = if self.dice.roll(50) == 0 { 70_000 } else { 8 + self.dice.roll(30) };
        let mut text = format!("{:08x}", self.written).into_bytes();
        text.resize(length as usize, b'.');
        text
    }

    fn any(&mut self) -> Option<usize> {
        let there = self.there.len() as u64;
        (there > 0).then(|| self.dice.roll(there) as usize)
    }

    fn put(&mut self, path: PathBuf) {
        if !self.there.contains(&path) {
            self.there.push(path);
        }
    }

    fn step(&mut self) {
        let (path, text) = (self.path(), self.text());
        match (self.dice.roll(10), self.any()) {
            (0..4, _) | (_, None) => {
                fs::write(&path, text).unwrap();
                self.put(path);
            }
            (4 | 5, Some(one)) => fs::write(&self.there[one], text).unwrap(),
            (6, Some(one)) => {
                // As editors save.
                let beside = self.there[one].with_extension("txt.part");
                fs::write(&beside, text).unwrap();
                fs::rename(beside, &self.there[one]).unwrap();
            }
            (7, Some(one)) => {
                let old = self.there.swap_remove(one);
                fs::rename(&old, &path).unwrap();
                self.put(path);
            }
            (_, Some(one)) => fs::remove_file(self.there.swap_remove(one)).unwrap(),
        }
    }
}

/// An app in a process of its own. Dropping it kills it.
struct Apart(Child);

impl Apart {
    fn start(data: &Path, root: &Path, config: &Value) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "folders_kills::an_app_apart_follows_a_folder_until_it_is_killed",
                "--nocapture",
                "--quiet",
            ])
            .env(DATA, data)
            .env(ROOT, root)
            .env(CONFIG, config.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while lines.next().expect("it lives until it is killed").unwrap() != "app: follows" {}
        Self(child)
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // SIGKILL.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

async fn start(data: &Path, config: &Value) -> Device {
    let mut setup = Setup::new(data, config.clone());
    setup.source = Some(Arc::new(SameKey));
    setup.start().await
}

/// Does nothing unless it was started as [`Apart`].
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_apart_follows_a_folder_until_it_is_killed() {
    let (Some(data), Some(root)) = (std::env::var_os(DATA), std::env::var_os(ROOT)) else { return };
    let config: Value = serde_json::from_str(&std::env::var(CONFIG).unwrap()).unwrap();
    let device = start(Path::new(&data), &config).await;
    let _folders = follow(&device, &config, Path::new(&root), SystemWatcher);
    println!("app: follows");
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_thousand_files_and_many_kills_the_server_has_exactly_what_the_folder_has() {
    let files = number("STORAGE_SYNC_FILES", 1000);
    let kills = number("STORAGE_SYNC_KILLS", 12);
    let seed = seed();
    println!("{files} files, {kills} kills, STORAGE_SYNC_SEED={seed}");
    let (disk, backend) = (tempfile::tempdir().unwrap(), backend().await);
    let (data, root) = (disk.path().join("data"), disk.path().canonicalize().unwrap().join("watched"));
    fs::create_dir_all(&root).unwrap();
    let mut config = config(&backend);
    config["folders"]["quietMs"] = 20.into();
    let first = start(&data, &config).await;
    watch(&first, &root, &root, options("doc")).await;
    first.stop().await;

    let mut script = Script { dice: Dice::new(seed), root: root.clone(), files, there: Vec::new(), written: 0 };
    let steps = files * 4 / (kills + 1);
    for _ in 0..kills {
        let (data, root, config) = (data.clone(), root.clone(), config.clone());
        let app;
        (script, app) = tokio::task::spawn_blocking(move || {
            // Some of it while the app is closed.
            (0..steps / 4).for_each(|_| script.step());
            let app = Apart::start(&data, &root, &config);
            for step in 0..steps {
                script.step();
                // Not to wait for anything: to die at another moment each time, and to be looked at in the middle of things.
                if step % 16 == 0 {
                    std::thread::sleep(Duration::from_micros(script.dice.roll(20_000)));
                }
            }
            (script, app)
        })
        .await
        .unwrap();
        // Half of them die in the middle of delivery, the others as they come to it.
        if script.dice.roll(2) == 0 {
            let some = backend.world(|world| world.applied()) + 1 + script.dice.roll(1 + steps / 8);
            // Before the app was started there may have been less than that to deliver, and all of it is by now.
            let all = content(&script.root);
            backend.wait_until(|world| world.applied() >= some || held(world) == all).await;
        }
        tokio::task::spawn_blocking(move || drop(app)).await.unwrap();
    }
    let before = backend.world(|world| world.applied());
    let device = start(&data, &config).await;
    let folders = follow(&device, &config, &root, SystemWatcher);
    let expected = content(&root);
    let same = backend.wait_until(|world| held(world) == expected);
    if tokio::time::timeout(Duration::from_secs(300), same).await.is_err() {
        let (have, watches) = (backend.world(held), device.outbox.watches().await);
        let missing: Vec<_> = expected.iter().filter(|(path, hash)| have.get(*path) != Some(hash)).collect();
        let extra: Vec<_> = have.iter().filter(|(path, _)| !expected.contains_key(*path)).collect();
        panic!("missing or old: {missing:#?}\nnot deleted: {extra:#?}\n{watches:?}");
    }
    device.until_counted(|counts| counts.pending + counts.inflight == 0).await;
    assert_eq!(backend.world(held), expected, "and it stays so");
    let after = backend.world(|world| world.applied());
    println!(
        "{} steps, {} files at the end; {before} writes before the last start, {after} in the end",
        script.written,
        expected.len()
    );
    assert!(script.written >= files && before > 0, "the app that was killed did something");
    drop(folders);
    device.stop().await;
}

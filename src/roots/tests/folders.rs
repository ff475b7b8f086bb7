//! What is in a folder, and files that are taken from it.
#![cfg(unix)]

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::{
    entry::Mark,
    roots::{Folder, Take},
};

fn listed(folder: &Folder, recursive: bool) -> Vec<String> {
    let listing = folder.list(recursive, &|_, _| true).unwrap();
    let mut paths: Vec<_> = listing.files.into_iter().map(|(path, _)| path).collect();
    paths.sort();
    paths
}

fn mark(folder: &Folder, path: &str) -> Mark {
    folder.open_file(path).unwrap().mark
}

#[test]
fn a_listing_holds_regular_files_that_are_allowed_and_nothing_behind_a_link() {
    let home = Home::new();
    for file in ["Pictures/a.png", "Pictures/b.txt", "Pictures/2026/c.png", "outside/secret.png"] {
        home.write(file);
    }
    link(&home.path("outside"), &home.path("Pictures/folder"));
    link(&home.path("outside/secret.png"), &home.path("Pictures/link.png"));
    link(&home.path("Pictures"), &home.path("Pictures/2026/round"));
    let pipe = home.path("Pictures/pipe.png");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let roots = home.roots(&["$PICTURE/**/*.png"]);
    let folder = roots.open_folder(&home.text("Pictures")).unwrap();
    assert_eq!(listed(&folder, true), ["2026/c.png", "a.png"]);
    assert_eq!(listed(&folder, false), ["a.png"]);
    let listing = folder.list(true, &|path, _| path != "2026/c.png").unwrap();
    assert!(!listing.incomplete && listing.unnamed == 0);
    let mut others = listing.others;
    others.sort();
    assert_eq!(
        others,
        ["2026/c.png", "b.txt"],
        "what is there and not wanted, or not allowed, is told apart from what is not there"
    );
    assert_eq!(
        listed(&home.roots(&["$PICTURE/**", "!$PICTURE/2026"]).open_folder(&home.text("Pictures")).unwrap(), true),
        ["a.png", "b.txt"]
    );
}

#[test]
fn of_a_folder_in_which_nothing_can_be_allowed_nobody_is_told_whether_it_is_there() {
    let home = Home::new();
    for folder in ["Pictures/deep", "Pictures/other", "Pictures/film/x/y"] {
        std::fs::create_dir_all(home.path(folder)).unwrap();
    }
    for file in ["Pictures/a.png", "Pictures/deep/b.png", "Pictures/other/c.png", "Pictures/film/x/y/d.mp4"] {
        home.write(file);
    }
    let roots = home.roots(&["$PICTURE/a.png", "$PICTURE/deep/*.png", "$PICTURE/f*m/**"]);
    for (folder, allowed) in [
        ("Pictures", true),
        ("Pictures/deep", true),
        ("Pictures/deep/below", false),
        ("Pictures/other", false),
        ("Pictures/nowhere", false),
        ("Pictures/film", true),
        ("Pictures/film/x/y", true),
    ] {
        match roots.open_folder(&home.text(folder)) {
            Ok(_) => assert!(allowed, "{folder} is opened"),
            Err(error) => assert_eq!((error.code(), allowed), ("path_not_allowed", false), "{folder}: {error}"),
        }
    }
    assert_eq!(roots.open_folder(&home.text("Pictures/film/nowhere")).err().unwrap().code(), "io");
}

#[test]
fn the_own_folder_is_passed_over_also_inside_of_another_one() {
    let home = Home::new();
    for file in ["app/a.txt", "app/storage-sync/outbox.db"] {
        home.write(file);
    }
    std::fs::hard_link(home.path("app/storage-sync/outbox.db"), home.path("app/db.txt")).unwrap();
    let folder = home.roots(&["$APPDATA/**"]).open_folder(&home.text("app")).unwrap();
    let listing = folder.list(true, &|_, _| true).unwrap();
    assert!(!listing.incomplete, "it is no folder that could not be read");
    assert_eq!(listed(&folder, true), ["a.txt", "db.txt"]);
    assert_eq!(code(&home, folder.open_file("db.txt")), "path_not_allowed", "and under a second name it is not opened");
    assert_eq!(
        code(&home, home.roots(&["$APPDATA/**"]).open_folder(&home.text("app/storage-sync"))),
        "path_not_allowed"
    );
}

#[test]
fn names_that_cannot_be_told_are_counted_and_what_is_too_deep_leaves_the_listing_incomplete() {
    use std::os::unix::ffi::OsStrExt as _;
    let home = Home::new();
    home.write("Pictures/a.png");
    fs::write(home.path("Pictures").join(std::ffi::OsStr::from_bytes(b"\xff.png")), "x").unwrap();
    fs::write(home.path("Pictures").join("new\nline.png"), "x").unwrap();
    let folder = home.roots(&["$PICTURE/**"]).open_folder(&home.text("Pictures")).unwrap();
    let listing = folder.list(true, &|_, _| true).unwrap();
    assert_eq!((listing.files.len(), listing.unnamed, listing.incomplete), (1, 2, false));
    let deep = (0..70).fold(home.path("Pictures"), |path, _| path.join("d"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("b.png"), "x").unwrap();
    let listing = folder.list(true, &|_, _| true).unwrap();
    assert_eq!((listing.files.len(), listing.incomplete), (1, true));
}

#[test]
fn a_folder_that_is_swapped_for_a_link_while_it_is_listed_leads_nowhere_else() {
    let home = Home::new();
    fs::write(home.path("Pictures/2026/right.png"), "right").unwrap();
    fs::write(home.path("outside/wrong.png"), "wrong").unwrap();
    let [folder, aside, trap] = ["Pictures/2026", "Pictures/aside", "Pictures/trap"].map(|name| home.path(name));
    link(&home.path("outside"), &trap);
    let roots = home.roots(&["$PICTURE/**"]);
    let opened = roots.open_folder(&home.text("Pictures")).unwrap();
    let over = AtomicBool::new(false);
    let (mut found, mut passed) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                fs::rename(&folder, &aside).unwrap();
                fs::rename(&trap, &folder).unwrap();
                fs::rename(&folder, &trap).unwrap();
                fs::rename(&aside, &folder).unwrap();
            }
        });
        while found + passed < 5_000 || found == 0 || passed == 0 {
            let listing = opened.list(true, &|_, _| true);
            let paths = listing.map(|listing| listing.files).unwrap_or_default();
            assert!(paths.iter().all(|(path, _)| path.ends_with("right.png")), "{paths:?}");
            if paths.iter().any(|(path, _)| path == "2026/right.png") { found += 1 } else { passed += 1 }
        }
        over.store(true, Ordering::Relaxed);
    });
    println!("{found} found, {passed} passed over");
}

#[test]
fn a_file_is_taken_only_if_it_is_the_one_that_is_meant() {
    let home = Home::new();
    home.write("Pictures/a.png");
    let folder = home.roots(&["$PICTURE/**"]).open_folder(&home.text("Pictures")).unwrap();
    let meant = mark(&folder, "a.png");
    let other = Mark { modified: meant.modified + 1, ..meant };
    assert!(!folder.take("a.png", Take::Delete, other, &|_| panic!("it is not even read")).unwrap());
    assert!(!folder.take("a.png", Take::Delete, meant, &|_| Ok(false)).unwrap(), "another content");
    assert_eq!(listed(&folder, true), ["a.png"], "it is where it was");

    // Somebody saves over it at the last moment.
    let meant = mark(&folder, "a.png");
    let saved = |opened: Opened| {
        assert_eq!(content(Ok(opened)), "Pictures/a.png");
        fs::write(home.path("Pictures/a.png"), "newer").unwrap();
        Ok(true)
    };
    assert!(folder.take("a.png", Take::Delete, meant, &saved).unwrap());
    assert_eq!(content(folder.open_file("a.png")), "newer", "what is there now stays");
    // And while it is found to be another one.
    let meant = mark(&folder, "a.png");
    let saved = |_: Opened| {
        fs::write(home.path("Pictures/a.png"), "newest").unwrap();
        Ok(false)
    };
    assert!(!folder.take("a.png", Take::Delete, meant, &saved).unwrap());
    assert_eq!(content(folder.open_file("a.png")), "newest");
    assert_eq!(content(folder.open_file("a (1).png")), "newer", "nothing is overwritten or lost");
    assert_eq!(fs::read_dir(home.path("Pictures")).unwrap().count(), 3, "and nothing is left behind");
}

#[test]
fn what_is_moved_keeps_its_folders_and_overwrites_nothing() {
    let home = Home::new();
    for text in ["one", "two"] {
        fs::write(home.path("Pictures/2026/a.tar.gz"), text).unwrap();
        let folder = home.roots(&["$PICTURE/**"]).open_folder(&home.text("Pictures")).unwrap();
        let meant = mark(&folder, "2026/a.tar.gz");
        assert!(folder.take("2026/a.tar.gz", Take::Move(".synced"), meant, &|_| Ok(true)).unwrap());
    }
    let moved = |name: &str| fs::read_to_string(home.path("Pictures/.synced/2026").join(name)).unwrap();
    assert_eq!((moved("a.tar.gz"), moved("a.tar (1).gz")), ("one".into(), "two".into()));
    assert!(!home.path("Pictures/2026/a.tar.gz").exists());
    assert_eq!(fs::read_dir(home.path("Pictures/2026")).unwrap().count(), 0);
}

#[test]
fn links_in_the_way_of_what_is_taken_lead_nowhere() {
    let home = Home::new();
    home.write("outside/a.png");
    home.write("Pictures/a.png");
    link(&home.path("outside/a.png"), &home.path("Pictures/link.png"));
    link(&home.path("outside"), &home.path("Pictures/folder"));
    link(&home.path("outside"), &home.path("Pictures/.synced"));
    let folder = home.roots(&["$PICTURE/**"]).open_folder(&home.text("Pictures")).unwrap();
    let meant = mark(&folder, "a.png");
    for path in ["link.png", "folder/a.png"] {
        assert_eq!(code(&home, folder.take(path, Take::Delete, meant, &|_| Ok(true))), "path_not_allowed", "{path}");
    }
    assert_eq!(code(&home, folder.take("a.png", Take::Move(".synced"), meant, &|_| Ok(true))), "io");
    assert_eq!(content(folder.open_file("a.png")), "Pictures/a.png", "it is where it was");
    assert_eq!(fs::read_dir(home.path("outside")).unwrap().count(), 1);
    // A link that takes the place of the file at the last moment.
    let meant = mark(&folder, "a.png");
    fs::remove_file(home.path("Pictures/a.png")).unwrap();
    link(&home.path("outside/a.png"), &home.path("Pictures/a.png"));
    assert_eq!(code(&home, folder.take("a.png", Take::Delete, meant, &|_| Ok(true))), "path_not_allowed");
    assert_eq!(fs::read_to_string(home.path("outside/a.png")).unwrap(), "outside/a.png");
}

#[test]
fn what_a_kill_left_behind_is_put_back() {
    let home = Home::new();
    let id = "0f0e0d0c-0000-4000-8000-000000000001";
    for folder in ["Pictures", "Pictures/2026"] {
        let aside = home.path(folder).join(format!(".storage-sync-{id}"));
        fs::create_dir(&aside).unwrap();
        fs::write(aside.join("a.png"), "left").unwrap();
    }
    fs::create_dir(home.path("Pictures/.storage-sync-notes")).unwrap();
    fs::write(home.path("Pictures/a.png"), "newer").unwrap();
    let folder = home.roots(&["$PICTURE/**"]).open_folder(&home.text("Pictures")).unwrap();
    folder.put_back("").unwrap();
    folder.put_back("2026").unwrap();
    assert_eq!(content(folder.open_file("a.png")), "newer");
    assert_eq!(content(folder.open_file("a (1).png")), "left");
    assert_eq!(content(folder.open_file("2026/a.png")), "left");
    let left = |folder: &str| home.path(folder).join(format!(".storage-sync-{id}")).exists();
    assert!(!left("Pictures") && !left("Pictures/2026"));
    assert!(home.path("Pictures/.storage-sync-notes").exists(), "which is not ours");
}

#[test]
fn what_is_written_through_an_open_handle_while_a_file_is_looked_at_is_not_lost() {
    use std::io::Write as _;
    let home = Home::new();
    home.write("Pictures/a.png");
    let folder = home.roots(&["$PICTURE/**"]).open_folder(&home.text("Pictures")).unwrap();
    for take in [Take::Delete, Take::Move(".synced")] {
        let mut writer = fs::File::options().append(true).open(home.path("Pictures/a.png")).unwrap();
        let meant = mark(&folder, "a.png");
        let before = content(folder.open_file("a.png"));
        let written = |_: Opened| {
            (&writer).write_all(b", and more").unwrap();
            Ok(true)
        };
        assert!(!folder.take("a.png", take, meant, &written).unwrap());
        writer.flush().unwrap();
        assert_eq!(content(folder.open_file("a.png")), format!("{before}, and more"));
    }
}

#[test]
fn a_file_that_is_looked_at_is_not_taken_for_one_that_a_kill_left_behind() {
    let home = Home::new();
    home.write("Pictures/a.png");
    let folder = home.roots(&["$PICTURE/**"]).open_folder(&home.text("Pictures")).unwrap();
    let meant = mark(&folder, "a.png");
    // As another watch of the same folder does meanwhile.
    let looked = |_: Opened| {
        assert!(!folder.put_back("").unwrap());
        Ok(true)
    };
    assert!(folder.take("a.png", Take::Delete, meant, &looked).unwrap());
    assert!(listed(&folder, true).is_empty());
    assert_eq!(fs::read_dir(home.path("Pictures")).unwrap().count(), 1, "only the folder that was there");
}

/// Set in the copy of a test that may mount.
#[cfg(target_os = "linux")]
const INSIDE: &str = "STORAGE_SYNC_TEST_MOUNTS";

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_cannot_be_renamed_stays_and_nothing_is_left_beside_it() {
    let name = "roots::tests::folders::a_file_that_cannot_be_renamed_stays_and_nothing_is_left_beside_it";
    if std::env::var_os(INSIDE).is_none() {
        // What is mounted on cannot be renamed: as a file on Windows that somebody has open.
        let mut copy = std::process::Command::new("unshare");
        copy.args(["-rm"]).arg(std::env::current_exe().unwrap());
        let out = copy.args(["--exact", name, "--nocapture"]).env(INSIDE, "1").output().unwrap();
        let (said, told) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success() && said.contains("1 passed"), "needs user namespaces (or root)\n{said}{told}");
        return;
    }
    let home = Home::new();
    home.write("Pictures/a.png");
    let file = home.path("Pictures/a.png");
    let mounted = std::process::Command::new("mount").arg("--bind").args([&file, &file]).status().unwrap();
    assert!(mounted.success());
    let folder = home.roots(&["$PICTURE/**"]).open_folder(&home.text("Pictures")).unwrap();
    let meant = mark(&folder, "a.png");
    for take in [Take::Delete, Take::Move(".synced")] {
        assert_eq!(code(&home, folder.take("a.png", take, meant, &|_| Ok(true))), "io");
        assert_eq!(listed(&folder, true), ["a.png"]);
        assert_eq!(fs::read_dir(home.path("Pictures")).unwrap().count(), 2, "the file and the folder that was there");
    }
    assert!(std::process::Command::new("umount").arg(&file).status().unwrap().success());
    assert!(folder.take("a.png", Take::Delete, mark(&folder, "a.png"), &|_| Ok(true)).unwrap());
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_tells_whether_a_disk_begins_there() {
    let home = Home::new();
    home.write("Pictures/a.png");
    assert!(!home.roots(&["$PICTURE/**"]).open_folder(&home.text("Pictures")).unwrap().is_a_disk());
    let roots = Roots::new(&["/proc".into(), "/proc/**".into()], &Default::default(), None).unwrap();
    assert!(roots.open_folder("/proc").unwrap().is_a_disk());
    assert!(!roots.open_folder("/proc/sys").unwrap().is_a_disk());
}

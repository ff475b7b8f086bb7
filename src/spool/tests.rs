use std::{fs, path::Path, process::Command};

use tempfile::TempDir;

use super::*;

const PLENTY: Room = Room { limit: 1 << 40, taken: Taken { used: 0, since: 0 }, expected: None };

/// The database says what it said.
fn no_news() -> Option<Taken> {
    None
}

fn spool() -> (TempDir, Spool) {
    let folder = TempDir::new().unwrap();
    let spool = Spool::new(folder.path());
    (folder, spool)
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(found) = fs::read_dir(folder.join(FOLDER)) else { return Vec::new() };
    found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn spooled(spool: &Spool, content: &[u8]) -> Spooled {
    let mut staged = spool.stage(PLENTY, &no_news).unwrap();
    staged.write(content).unwrap();
    staged.finish().unwrap()
}

fn kept(spool: &Spool, content: &[u8]) -> String {
    let spooled = spooled(spool, content);
    let name = spooled.name().to_owned();
    spooled.keep();
    name
}

#[test]
fn a_complete_file_is_there_under_a_name_that_tells_nothing_and_for_the_user_only() {
    let (folder, spool) = spool();
    assert!(names(folder.path()).is_empty(), "nothing is made before it is needed");
    let name = kept(&spool, b"sealed");
    assert_eq!(names(folder.path()), std::slice::from_ref(&name));
    assert!(is_name(&name) && !name.ends_with(PART), "{name}");
    let file = spool.open(&name).unwrap();
    let mut read = [0; 3];
    file.read_exact_at(2, &mut read).unwrap();
    assert_eq!((&read, file.bytes()), (b"ale", 6));
    assert!(file.read_exact_at(4, &mut read).is_err(), "there is no more");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let inside = folder.path().join(FOLDER);
        assert_eq!((mode(&inside), mode(&inside.join(name))), (0o700, 0o600));
    }
}

#[test]
fn an_unfinished_copy_and_a_file_that_no_row_came_to_name_leave_nothing() {
    let (folder, spool) = spool();
    let mut staged = spool.stage(PLENTY, &no_news).unwrap();
    staged.write(&[1; 1000]).unwrap();
    assert_eq!(names(folder.path()).len(), 1);
    drop(staged);
    assert!(names(folder.path()).is_empty());
    drop(spooled(&spool, b"x"));
    assert!(names(folder.path()).is_empty());
    let tight = Room { limit: 100, ..PLENTY };
    assert!(spool.stage(tight, &no_news).unwrap().write(&[1; 100]).is_ok(), "what left nothing takes no room");
}

#[test]
fn a_copy_that_begins_anew_is_empty() {
    let (_folder, spool) = spool();
    let mut staged = spool.stage(PLENTY, &no_news).unwrap();
    staged.write(b"something longer").unwrap();
    staged.restart().unwrap();
    staged.write(b"x").unwrap();
    let spooled = staged.finish().unwrap();
    assert_eq!((spooled.bytes(), spool.open(spooled.name()).unwrap().bytes()), (1, 1));
}

#[test]
fn what_does_not_fit_is_refused_before_and_while_it_is_copied_and_it_is_said_how_much_is_missing() {
    let (folder, spool) = spool();
    let room = |used, expected| {
        let taken = Taken { used, since: spool.committed() };
        Room { limit: 100, taken, expected }
    };
    let refused = |error| match error {
        Error::SpoolFull { missing, limit: 100 } => missing,
        other => panic!("{other}"),
    };
    assert_eq!(refused(spool.stage(room(30, Some(75)), &no_news).unwrap_err()), 5);
    let mut one = spool.stage(room(30, Some(40)), &no_news).unwrap();
    assert_eq!(refused(spool.stage(room(30, Some(40)), &no_news).unwrap_err()), 10, "what others copy counts");
    one.write(&[0; 40]).unwrap();
    let one = one.finish().unwrap();
    assert_eq!(refused(spool.stage(room(30, Some(31)), &no_news).unwrap_err()), 1, "until a row names it");
    one.keep();
    let mut two = spool.stage(room(70, None), &no_news).unwrap();
    two.write(&[0; 30]).unwrap();
    assert_eq!(refused(two.write(&[0; 1]).unwrap_err()), 1);
    drop(two);
    let mut three = spool.stage(room(30, None), &no_news).unwrap();
    three.write(&[0; 70]).unwrap();
    let four = spool.stage(room(30, None), &no_news).unwrap();
    three.finish().unwrap().keep();
    let mut four = four;
    assert_eq!(refused(four.write(&[0; 1]).unwrap_err()), 1, "what was finished meanwhile counts");
    drop(four);
    assert_eq!(names(folder.path()).len(), 2);
    // No disk has that much.
    let huge = Room { limit: u64::MAX, taken: Taken::default(), expected: Some(1 << 60) };
    let Err(Error::NoRoom { missing }) = spool.stage(huge, &no_news) else { panic!() };
    assert!(missing > 1 << 50, "{missing}");
}

#[test]
fn before_a_copy_is_refused_the_database_is_asked_what_has_left_meanwhile() {
    let (_folder, spool) = spool();
    let full = Room { limit: 100, taken: Taken { used: 90, since: 0 }, expected: None };
    let delivered = || Some(Taken { used: 10, since: spool.committed() });
    let mut copy = spool.stage(full, &delivered).unwrap();
    copy.write(&[0; 90]).unwrap();
    let Err(Error::SpoolFull { missing: 1, .. }) = copy.write(&[0; 1]) else { panic!("it does not fit") };
    drop(copy);
    // What was committed after it began, and is delivered by now.
    let mut copy = spool.stage(Room { taken: Taken::default(), ..full }, &delivered).unwrap();
    drop(kept(&spool, &[0; 95]));
    copy.write(&[0; 90]).unwrap();
}

#[test]
fn a_file_that_claims_more_than_there_can_be_takes_no_room_from_others() {
    let (_folder, spool) = spool();
    let taken = Taken { used: 30, since: 0 };
    let room = |expected| Room { limit: 1_000, taken, expected };
    let mut one = spool.stage(room(Some(100)), &no_news).unwrap();
    for claimed in [u64::MAX, u64::MAX - 100, 1 << 62] {
        for refused in [
            spool.stage(room(Some(claimed)), &no_news).map(drop),
            spool.refuse_what_cannot_fit(room(Some(claimed)), &no_news),
        ] {
            let Err(Error::SpoolFull { missing, limit: 1_000 }) = refused else { panic!("{claimed}") };
            assert!(missing > 1 << 61, "{missing}");
        }
        assert!(spool.stage(room(Some(870)), &no_news).is_ok(), "after a claim of {claimed}");
    }
    // One that keeps its claim at hand while it is refused has nothing of it either.
    let mut greedy = spool.stage(Room { taken: Taken::default(), ..room(None) }, &no_news).unwrap();
    assert!(greedy.write(&[0; 2_000]).is_err());
    let mut third = spool.stage(room(Some(870)), &no_news).unwrap();
    third.write(&[0; 870]).unwrap();
    one.write(&[0; 100]).unwrap();
}

#[test]
fn the_sweep_takes_what_is_neither_locked_nor_named() {
    let (folder, spool) = spool();
    let (named, orphan) = (kept(&spool, b"named"), kept(&spool, b"orphan"));
    let copying = spool.stage(PLENTY, &no_news).unwrap();
    let finished = spooled(&spool, b"not committed");
    // As a killed process leaves it: its lock went with it.
    let part = format!("{}{PART}", "0".repeat(32));
    fs::write(folder.path().join(FOLDER).join(&part), b"half").unwrap();
    fs::write(folder.path().join(FOLDER).join("notes.txt"), b"not ours").unwrap();
    let other = Spool::new(folder.path());
    let list = other.list().unwrap();
    assert_eq!(list.len(), 5);
    let unlocked = other.unlocked(&list);
    let mut found = unlocked.names();
    found.sort();
    let mut expected = vec![named.clone(), orphan, part];
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(other.sweep(unlocked, |name| name == named), 2);
    let left = names(folder.path());
    assert_eq!(left.len(), 4, "{left:?}");
    assert!(left.contains(&named) && left.contains(&"notes.txt".to_owned()));
    drop((copying, finished));
}

#[test]
fn a_file_that_the_sweep_has_locked_is_not_named_by_anybody() {
    let (_folder, spool) = spool();
    let name = kept(&spool, b"orphan");
    let unlocked = spool.unlocked(std::slice::from_ref(&name));
    let second = Spool::new(&spool.shared.parent).unlocked(&[name]);
    assert!(second.names().is_empty());
    drop(unlocked);
}

#[test]
fn a_file_goes_when_nobody_reads_it_any_more() {
    let (folder, spool) = spool();
    let name = kept(&spool, b"sealed");
    let (one, two) = (spool.open(&name).unwrap(), spool.open(&name).unwrap());
    spool.remove(&name).unwrap();
    drop(one);
    assert_eq!(names(folder.path()), std::slice::from_ref(&name));
    let mut read = [0; 6];
    two.read_exact_at(0, &mut read).unwrap();
    drop(two);
    assert!(names(folder.path()).is_empty());
    spool.remove(&name).unwrap();
    assert!(spool.open(&name).is_err());
}

#[test]
fn a_garbled_name_reaches_nothing_outside() {
    let (folder, spool) = spool();
    fs::write(folder.path().join("outbox.db"), b"precious").unwrap();
    for name in ["../outbox.db", "outbox.db", "", "..", "/etc/hostname", &"a".repeat(31), &"A".repeat(32)] {
        assert!(spool.open(name).is_err(), "{name}");
        spool.remove(name).unwrap();
    }
    assert!(folder.path().join("outbox.db").exists());
}

/// The test below, in a process of its own: on a disk of 24 MiB.
#[test]
#[cfg(target_os = "linux")]
fn a_disk_that_fills_up_while_a_file_is_copied_keeps_nothing_of_it_and_room_for_the_database() {
    let program = std::env::current_exe().unwrap();
    let folder = TempDir::new().unwrap();
    let script = format!(
        "mount -t tmpfs -o size=40m none '{0}' && SPOOL_DISK='{0}' exec '{1}' --exact spool::tests::on_a_small_disk --nocapture",
        folder.path().display(),
        program.display()
    );
    let output = Command::new("unshare").args(["-rm", "sh", "-c", &script]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
}

/// Run by the test above, on a disk of 40 MiB.
#[test]
fn on_a_small_disk() {
    let Some(folder) = std::env::var_os("SPOOL_DISK").map(std::path::PathBuf::from) else { return };
    let spool = Spool::new(&folder);
    let said = |expected: u64| Room { expected: Some(expected), ..PLENTY };
    let Err(Error::NoRoom { missing }) = spool.stage(said(50 << 20), &no_news) else { panic!("it does not fit") };
    assert!((20 << 20..30 << 20).contains(&missing), "{missing}");
    let mut staged = spool.stage(PLENTY, &no_news).unwrap();
    let error = std::iter::repeat_with(|| staged.write(&[7; 1 << 20])).find_map(Result::err).unwrap();
    assert!(matches!(error, Error::NoRoom { .. }), "{error}");
    assert!(fs4::available_space(&folder).unwrap() > 4 << 20, "the database has room");
    drop(staged);
    assert!(names(&folder).is_empty());
    assert!(fs4::available_space(&folder).unwrap() > 35 << 20);
    // Somebody else fills it.
    let mut staged = spool.stage(said(10 << 20), &no_news).unwrap();
    staged.write(&[7; 1 << 20]).unwrap();
    let full = fs::write(folder.join("other"), vec![0; 64 << 20]);
    assert!(full.is_err());
    let error = std::iter::repeat_with(|| staged.write(&[7; 1 << 16])).find_map(Result::err).unwrap();
    let Error::NoRoom { missing } = error else { panic!("{error}") };
    assert!((8 << 20..10 << 20).contains(&missing), "{missing}");
    drop(staged);
    assert!(names(&folder).is_empty());
}

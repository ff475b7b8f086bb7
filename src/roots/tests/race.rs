//! Somebody who swaps what is there while it is opened.
#![cfg(unix)]

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// How often it is tried to open the file meanwhile.
const TRIES: usize = 20_000;

/// Ends the other thread also when an assertion fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Opens `file` again and again while `swap` is run again and again: what is opened is always the right file. Both have to come out, or
/// nothing was raced.
fn race(home: &Home, roots: &Roots, file: &str, mut swap: impl FnMut() + Send) {
    let over = AtomicBool::new(false);
    let (mut opened, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                swap();
            }
        });
        let _stop = Stop(&over);
        while opened + refused < TRIES || opened == 0 || refused == 0 {
            match roots.open_file(file) {
                Ok(right) => {
                    assert_eq!(content(Ok(right)), "right");
                    opened += 1;
                }
                Err(error) => {
                    assert!(matches!(error.code(), "path_not_allowed" | "io"), "{error}");
                    refused += 1;
                }
            }
        }
    });
    println!("{}: {opened} opened, {refused} refused", home.folder.path().display());
}

#[test]
fn a_folder_that_is_swapped_for_a_link_while_it_is_opened_leads_nowhere_else() {
    let home = Home::new();
    let file = home.text("Pictures/2026/a.png");
    fs::write(&file, "right").unwrap();
    fs::write(home.path("outside/a.png"), "wrong").unwrap();
    let [folder, aside, trap] = ["Pictures/2026", "Pictures/aside", "Pictures/trap"].map(|name| home.path(name));
    link(&home.path("outside"), &trap);
    let swap = || {
        fs::rename(&folder, &aside).unwrap();
        fs::rename(&trap, &folder).unwrap();
        fs::rename(&folder, &trap).unwrap();
        fs::rename(&aside, &folder).unwrap();
    };
    race(&home, &home.roots(&["$PICTURE/**"]), &file, swap);
    let roots = home.roots(&[]);
    roots.allow(Path::new(&file)).unwrap();
    assert_eq!(content(roots.open_file(&file)), "right");
    race(&home, &roots, &file, swap);
}

#[test]
fn a_file_that_is_swapped_for_a_link_or_a_pipe_while_it_is_opened_is_not_read() {
    let home = Home::new();
    let file = home.path("Pictures/a.png");
    fs::write(&file, "right").unwrap();
    fs::write(home.path("outside/secret"), "wrong").unwrap();
    let [aside, trap, pipe] = ["Pictures/aside", "Pictures/trap", "Pictures/pipe"].map(|name| home.path(name));
    link(&home.path("outside/secret"), &trap);
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let swap = || {
        fs::rename(&file, &aside).unwrap();
        for other in [&trap, &pipe] {
            fs::rename(other, &file).unwrap();
            fs::rename(&file, other).unwrap();
        }
        fs::rename(&aside, &file).unwrap();
    };
    race(&home, &home.roots(&["$PICTURE/*"]), file.to_str().unwrap(), swap);
}

//! Paths that are made to lead elsewhere: all refused before anything is read.

use super::*;
use crate::roots::written::{self, System};

#[test]
fn paths_that_do_not_name_one_file_plainly_are_refused_on_every_system() {
    let home = Home::new();
    home.write("Pictures/a.png");
    let roots = home.roots(&["$PICTURE/**"]);
    let pictures = home.text("Pictures");
    for wrong in [
        String::new(),
        "a.png".into(),
        "./a.png".into(),
        "~/a.png".into(),
        format!("file://{pictures}/a.png"),
        format!("{pictures}/../outside/a"),
        format!("{pictures}/./a.png"),
        format!("{pictures}/2026/../a.png"),
        format!("{pictures}/.."),
        format!("{pictures}//a.png"),
        format!("{pictures}/a.png/"),
        format!("{pictures}/a.png\0"),
        format!("{pictures}/a.png\0.txt"),
        format!("{pictures}/a.png\n"),
        format!("{pictures}/a\u{7f}.png"),
        format!("{pictures}/a\u{85}.png"),
        format!("{pictures}/{}", "a".repeat(40_000)),
    ] {
        assert_eq!(code(&home, roots.open_file(&wrong)), "invalid_argument", "{wrong:?}");
    }
}

#[test]
fn what_windows_takes_for_something_else_is_refused_there() {
    for refused in [
        r"C:\a\NUL",
        r"C:\a\nul.txt",
        r"C:\a\NUL .txt",
        r"C:\nul\a",
        r"C:\a\con",
        r"C:\a\COM1",
        r"C:\a\com0.log",
        "C:\\a\\LPT\u{b9}.txt",
        r"C:\a\CONIN$",
        r"C:\a\conout$",
        r"C:\a\file.txt:stream",
        r"C:\a\file.txt::$DATA",
        r"C:\a\folder:$I30:$INDEX_ALLOCATION\x",
        r"C:\a\name.",
        r"C:\a\name ",
        r"C:\a.\name",
        r"C:\a \name",
        r"C:\a\...",
        r"C:\a\..",
        r"C:\a\..\b",
        r"C:\a\.\b",
        "C:/a/../b",
        r"C:\a\\b",
        r"C:\a\",
        r"C:a",
        r"C:",
        r"C:\",
        r"\a",
        r"a\b",
        r"1:\a",
        r"\\.\C:\a",
        r"\\.\pipe\x",
        r"\\.\GLOBALROOT\Device\x",
        r"\\?\GLOBALROOT\Device\HarddiskVolume1\a",
        r"\\?\Volume{b75e2c83-0000-0000-0000-602f00000000}\a",
        r"\\?\C:\a\..\b",
        r"\\?\C:a",
        "//./PhysicalDrive0",
        "//?/C:/a/NUL",
        r"\\?\UNC\.\pipe\x",
        r"\\server",
        r"\\server\share",
        r"\\\share\a",
        r"C:\a\b?",
        r"C:\a\*",
        r#"C:\a\"b""#,
        r"C:\a|b",
        "C:\\a\u{0}b",
    ] {
        assert!(written::check(refused, System::Windows).is_err(), "{refused}");
    }
    for (taken, as_) in [
        (r"C:\a\b.txt", r"C:\a\b.txt"),
        ("c:/a/b.txt", r"C:\a\b.txt"),
        (r"\\?\C:\a\b", r"C:\a\b"),
        (r"\\server\share\a", r"\\server\share\a"),
        (r"\\?\UNC\server\share\a", r"\\server\share\a"),
        (r"C:\a\NULL", r"C:\a\NULL"),
        (r"C:\a\COM10", r"C:\a\COM10"),
        (r"C:\a\common.txt", r"C:\a\common.txt"),
        (r"C:\a\.profile", r"C:\a\.profile"),
        (r"C:\a\..b", r"C:\a\..b"),
    ] {
        assert_eq!(written::check(taken, System::Windows).as_deref(), Ok(as_), "{taken}");
    }
}

#[test]
fn what_is_outside_is_refused_whether_or_not_it_is_there() {
    let home = Home::new();
    let there = home.write("outside/secret");
    let roots = home.roots(&["$PICTURE/**"]);
    let refusal = |path: &str| roots.open_file(path).unwrap_err().to_string();
    assert_eq!(code(&home, roots.open_file(&there)), "path_not_allowed");
    assert_eq!(refusal(&there), refusal(&home.text("outside/gone")));
    assert_eq!(refusal(&there), refusal("/etc/passwd"));
    // A folder whose name only begins alike.
    fs::create_dir(home.path("Pictures-secret")).unwrap();
    assert_eq!(code(&home, roots.open_file(&home.write("Pictures-secret/a"))), "path_not_allowed");
}

#[test]
fn names_that_only_look_like_others_lead_nowhere() {
    let home = Home::new();
    home.write("outside/secret");
    home.write("Pictures/caf\u{e9}.png");
    let roots = home.roots(&["$PICTURE/**", "!$PICTURE/none"]);
    for look_alike in [
        "Pictures/\u{ff0e}\u{ff0e}/outside/secret",
        "Pictures/\u{2024}\u{2024}/outside/secret",
        "Pictures/..\u{2215}outside/secret",
        "Pictures/..\u{ff0f}outside/secret",
        "Pictures/%2e%2e/outside/secret",
        "Pictures/..%2foutside/secret",
        "Pictures/...",
        "Pictures/.. ",
        "Pictures/a.png.",
        "Pictures/cafe\u{301}.png",
        "Pictures/CAF\u{c9}.PNG",
        "Pictures/\u{202e}gnp.a",
        "Pictures/a.png\u{200b}",
    ] {
        assert!(
            matches!(code(&home, roots.open_file(&home.text(look_alike))), "io" | "path_not_allowed"),
            "{look_alike}"
        );
    }
}

#[test]
fn folders_and_what_is_no_file_are_refused() {
    let home = Home::new();
    let roots = home.roots(&["$PICTURE/**"]);
    assert_eq!(code(&home, roots.open_file(&home.text("Pictures/2026"))), "path_not_allowed");
    assert_eq!(code(&home, roots.open_file(&home.text("Pictures/gone.png"))), "io");
    home.write("Pictures/a.png");
    assert_eq!(code(&home, roots.open_file(&home.text("Pictures/a.png/x"))), "io");
}

#[test]
fn the_queue_itself_is_refused_by_its_path_and_by_any_other() {
    let home = Home::new();
    let database = home.write("app/storage-sync/outbox.db");
    fs::create_dir(home.path("app/storage-sync/spool")).unwrap();
    let spooled = home.write("app/storage-sync/spool/1");
    let patterns = ["$HOME/**", "$APPDATA/**", "$APPDATA/storage-sync/**", "$APPDATA/storage-sync/spool/*"];
    let absolute =
        [format!("{}/*", home.text("app/storage-sync")), format!("{}/*", home.text("app/storage-sync/spool"))];
    for pattern in patterns.into_iter().chain(absolute.iter().map(String::as_str)) {
        let roots = home.roots(&[pattern]);
        for file in [&database, &spooled] {
            assert_eq!(code(&home, roots.open_file(file)), "path_not_allowed", "{pattern}");
            roots.allow(Path::new(file)).unwrap();
            assert_eq!(code(&home, roots.open_file(file)), "path_not_allowed", "{pattern}");
        }
        assert!(roots.open_folder(&home.text("app/storage-sync")).is_err(), "{pattern}");
    }
    // A second name of the same file; one of another file is nobody's business.
    fs::hard_link(&database, home.path("Pictures/innocent.png")).unwrap();
    fs::hard_link(home.write("outside/a"), home.path("Pictures/b.png")).unwrap();
    let roots = home.roots(&["$PICTURE/**"]);
    assert_eq!(code(&home, roots.open_file(&home.text("Pictures/innocent.png"))), "path_not_allowed");
    assert_eq!(content(roots.open_file(&home.text("Pictures/b.png"))), "outside/a");
}

#[cfg(unix)]
#[test]
fn no_link_is_followed_below_a_root() {
    let home = Home::new();
    home.write("outside/secret");
    let inside = home.write("Pictures/2026/a.png");
    link(&home.path("outside/secret"), &home.path("Pictures/last.png"));
    link(&home.path("outside"), &home.path("Pictures/middle"));
    link(Path::new("2026/a.png"), &home.path("Pictures/kind.png"));
    link(Path::new("2026"), &home.path("Pictures/kindly"));
    link(Path::new("/proc/self/root"), &home.path("Pictures/magic"));
    link(Path::new("loop"), &home.path("Pictures/loop"));
    let roots = home.roots(&["$PICTURE/**", "$HOME/**"]);
    for linked in ["last.png", "middle/secret", "kind.png", "kindly/a.png", "magic/etc/passwd", "loop", "loop/a"] {
        let path = home.text(&format!("Pictures/{linked}"));
        assert_eq!(code(&home, roots.open_file(&path)), "path_not_allowed", "{linked}");
        assert!(roots.open_file(&path).unwrap_err().to_string().contains("link"), "{linked}");
    }
    assert!(roots.open_folder(&home.text("Pictures/kindly")).is_err());
    let folder = roots.open_folder(&home.text("Pictures")).unwrap();
    for linked in ["last.png", "middle/secret", "kindly/a.png"] {
        assert_eq!(code(&home, folder.open_file(linked)), "path_not_allowed", "{linked}");
    }
    assert_eq!(content(roots.open_file(&inside)), "Pictures/2026/a.png");
}

#[cfg(unix)]
#[test]
fn a_root_may_itself_be_reached_through_links_by_either_of_its_names() {
    let home = Home::new();
    home.write("Pictures/a.png");
    home.write("Pictures/b.png");
    link(&home.path("Pictures"), &home.path("linked"));
    let bases = [("$PICTURE", home.path("linked"))].into();
    let patterns = ["$PICTURE/*.png".to_owned(), format!("!{}/b*", home.text("Pictures"))];
    let roots = Roots::new(&patterns, &bases, None).unwrap();
    for name in ["linked", "Pictures"] {
        assert_eq!(content(roots.open_file(&home.text(&format!("{name}/a.png")))), "Pictures/a.png");
        assert_eq!(code(&home, roots.open_file(&home.text(&format!("{name}/b.png")))), "path_not_allowed");
        let folder = roots.open_folder(&home.text(name)).unwrap();
        assert_eq!(content(folder.open_file("a.png")), "Pictures/a.png");
        assert_eq!(code(&home, folder.open_file("b.png")), "path_not_allowed");
    }
}

#[cfg(unix)]
#[test]
fn what_was_dropped_is_what_it_was_then() {
    let home = Home::new();
    home.write("outside/secret");
    let file = home.write("Documents/secret");
    let linked = home.path("Documents/link");
    link(Path::new("secret"), &linked);
    let roots = home.roots(&[]);
    roots.allow(Path::new(&file)).unwrap();
    roots.allow(&linked).unwrap();
    assert_eq!(content(roots.open_file(&file)), "Documents/secret");
    assert_eq!(code(&home, roots.open_file(linked.to_str().unwrap())), "path_not_allowed");
    fs::rename(home.path("Documents"), home.path("moved")).unwrap();
    link(&home.path("outside"), &home.path("Documents"));
    assert_eq!(code(&home, roots.open_file(&file)), "path_not_allowed");
}

#[cfg(unix)]
#[test]
fn pipes_sockets_and_devices_are_refused_without_being_opened() {
    use std::process::Command;
    let home = Home::new();
    let fifo = home.text("Pictures/fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let socket = home.text("Pictures/socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let roots = home.roots(&["$PICTURE/**", "/dev/*"]);
    for special in [fifo.as_str(), &socket, "/dev/null", "/dev/zero", "/dev/tty"] {
        assert_eq!(code(&home, roots.open_file(special)), "path_not_allowed", "{special}");
    }
}

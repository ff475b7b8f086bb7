//! Patterns, single paths and folders.

use super::*;
use crate::error::Error;

#[test]
fn an_empty_list_allows_nothing() {
    let home = Home::new();
    let file = home.write("Pictures/a.png");
    assert_eq!(code(&home, home.roots(&[]).open_file(&file)), "path_not_allowed");
}

#[test]
fn a_pattern_allows_what_it_matches_and_nothing_else() {
    let home = Home::new();
    let files = [
        "Pictures/a.png",
        "Pictures/b.jpeg",
        "Pictures/.hidden.png",
        "Pictures/2026/a.png",
        "Pictures/2026/.thumbs",
        "Documents/a.pdf",
        "Documents/a.png",
    ]
    .map(|file| home.write(file));
    let table: [(&[&str], [bool; 7]); 9] = [
        (&["$PICTURE/**"], [true, true, false, true, false, false, false]),
        (&["$PICTURE/*"], [true, true, false, false, false, false, false]),
        (&["$PICTURE/**/*.png"], [true, false, false, true, false, false, false]),
        (&["$PICTURE/.hidden.png"], [false, false, true, false, false, false, false]),
        (&["$PICTURE/?.png"], [true, false, false, false, false, false, false]),
        (&["$HOME/Documents/*.pdf"], [false, false, false, false, false, true, false]),
        (&["$PICTURE/**", "$HOME/Documents/*.pdf"], [true, true, false, true, false, true, false]),
        (&["$HOME/**", "!$PICTURE/**"], [false, false, false, false, false, true, true]),
        (&["$PICTURE/**", "!$PICTURE/2026"], [true, true, false, false, false, false, false]),
    ];
    for (patterns, allowed) in table {
        let roots = home.roots(patterns);
        for (file, allowed) in files.iter().zip(allowed) {
            match roots.open_file(file) {
                Ok(opened) => assert!(allowed, "{patterns:?} {file}: {}", opened.name),
                Err(error) => assert!(!allowed && error.code() == "path_not_allowed", "{patterns:?} {file}: {error}"),
            }
        }
    }
}

#[test]
fn a_pattern_without_a_variable_begins_where_it_is_fixed() {
    let home = Home::new();
    let (inside, beside) = (home.write("outside/a.txt"), home.write("Documents/a.txt"));
    let pattern = format!("{}/*.txt", home.text("outside"));
    let roots = home.roots(&[&pattern]);
    assert_eq!(content(roots.open_file(&inside)), "outside/a.txt");
    assert_eq!(code(&home, roots.open_file(&beside)), "path_not_allowed");
    let roots = home.roots(&[&inside]);
    assert_eq!(content(roots.open_file(&inside)), "outside/a.txt");
}

#[test]
fn a_wrong_pattern_names_its_place_in_the_configuration() {
    let home = Home::new();
    for wrong in [
        "",
        "!",
        "photos/*",
        "$PICTURE",
        "$PICTURES/*",
        "$PICTURE/../*",
        "$PICTURE/./*",
        "$PICTURE//*",
        "$PICTURE/a**",
        "$PICTURE/[a",
        "$PICTURE/\n",
        "$picture/*",
        "file:///home/**",
    ] {
        match home.try_roots(&["$PICTURE/**", wrong]) {
            Err(Error::InvalidConfig { field, message }) => assert!(field == "roots[1]" && !message.is_empty()),
            _ => panic!("{wrong:?} was taken"),
        }
    }
}

#[test]
fn a_folder_that_this_system_does_not_have_allows_nothing_and_stops_nothing() {
    let home = Home::new();
    let file = home.write("Pictures/a.png");
    assert_eq!(code(&home, home.roots(&["$VIDEO/**", "!$FONT/**"]).open_file(&file)), "path_not_allowed");
}

#[test]
fn what_is_denied_is_denied_however_it_is_spelled_and_whoever_allowed_it() {
    let home = Home::new();
    fs::create_dir_all(home.path("Pictures/Private/deep")).unwrap();
    let files = ["Pictures/Private/a.png", "Pictures/Private/deep/a.png"].map(|file| home.write(file));
    let roots = home.roots(&["$HOME/**", "!$PICTURE/private"]);
    for file in &files {
        assert_eq!(code(&home, roots.open_file(file)), "path_not_allowed");
        roots.allow(Path::new(file)).unwrap();
        roots.dropped(&[PathBuf::from(file)]);
        assert_eq!(code(&home, roots.open_file(file)), "path_not_allowed");
    }
}

#[test]
fn a_name_that_the_folder_does_not_list_is_not_asked_for_where_something_is_denied() {
    let home = Home::new();
    let file = home.write("Pictures/a.png");
    let roots = home.roots(&["$PICTURE/**", "!$PICTURE/secret*"]);
    assert_eq!(content(roots.open_file(&file)), "Pictures/a.png");
    // On file systems with two spellings of a name the first would lead to the file, and past the pattern.
    for other in ["Pictures/A.PNG", "Pictures/SECRET~1"] {
        assert!(roots.open_file(&home.text(other)).is_err(), "{other}");
    }
    let tilde = home.write("Pictures/report~1.png");
    assert_eq!(content(roots.open_file(&tilde)), "Pictures/report~1.png");
}

#[test]
fn one_path_is_allowed_by_rust_and_by_a_drop_and_no_other() {
    let home = Home::new();
    let [a, b, c] = ["outside/a", "outside/b", "outside/c"].map(|file| home.write(file));
    let roots = home.roots(&[]);
    roots.allow(Path::new(&a)).unwrap();
    roots.dropped(&[PathBuf::from(&b), PathBuf::from("relative"), home.path("outside")]);
    assert_eq!(content(roots.open_file(&a)), "outside/a");
    assert_eq!(content(roots.open_file(&b)), "outside/b");
    assert_eq!(code(&home, roots.open_file(&c)), "path_not_allowed");
    // A folder was dropped, but nothing that is in it.
    assert_eq!(code(&home, roots.open_file(&home.text("outside"))), "path_not_allowed");
    assert_eq!(code(&home, roots.open_folder(&home.text("outside")).map(drop)), "path_not_allowed");
    roots.allow(&home.path("outside")).unwrap();
    roots.dropped(&[home.path("outside")]);
    roots.open_folder(&home.text("outside")).map(drop).unwrap();
    for wrong in ["relative", "/a/../b", ""] {
        assert_eq!(code(&home, roots.allow(Path::new(wrong))), "invalid_argument", "{wrong}");
    }
}

#[test]
fn what_was_dropped_long_ago_is_forgotten_and_what_rust_allowed_is_not() {
    let home = Home::new();
    let [by_rust, first, last] = ["outside/rust", "outside/first", "outside/last"].map(|file| home.write(file));
    let roots = home.roots(&[]);
    roots.allow(Path::new(&by_rust)).unwrap();
    roots.dropped(&[PathBuf::from(&by_rust), PathBuf::from(&first)]);
    let many: Vec<_> = (0..10_000).map(|n| home.path("outside").join(n.to_string())).collect();
    roots.dropped(&many);
    roots.dropped(&[PathBuf::from(&last)]);
    assert_eq!(content(roots.open_file(&by_rust)), "outside/rust");
    assert_eq!(content(roots.open_file(&last)), "outside/last");
    assert_eq!(code(&home, roots.open_file(&first)), "path_not_allowed");
}

#[test]
fn what_is_copied_is_what_was_opened_whatever_becomes_of_the_path() {
    let home = Home::new();
    let file = home.write("Pictures/a.png");
    let opened = home.roots(&["$PICTURE/**"]).open_file(&file);
    fs::remove_file(&file).unwrap();
    fs::write(&file, "another").unwrap();
    assert_eq!(content(opened), "Pictures/a.png");
}

#[test]
fn files_in_an_open_folder_are_found_by_their_path_in_it_by_the_same_rules() {
    let home = Home::new();
    for file in ["Pictures/2026/a.png", "Pictures/b.png", "Pictures/b.txt"] {
        home.write(file);
    }
    fs::write(home.path("Pictures/.hidden.png"), "hidden").unwrap();
    let roots = home.roots(&["$PICTURE/**/*.png", "!$PICTURE/**/no*"]);
    let folder = roots.open_folder(&home.text("Pictures")).unwrap();
    assert_eq!(content(folder.open_file("2026/a.png")), "Pictures/2026/a.png");
    for refused in ["b.txt", ".hidden.png", "no.png"] {
        assert_eq!(code(&home, folder.open_file(refused)), "path_not_allowed", "{refused}");
    }
    for wrong in ["", "..", "2026/../b.png", "/b.png", "2026//a.png", "b.png/", "b\0.png"] {
        assert_eq!(code(&home, folder.open_file(wrong)), "invalid_argument", "{wrong}");
    }
    assert_eq!(code(&home, folder.open_file("gone.png")), "io");
    // The handle is of the folder, not of its name.
    fs::rename(home.path("Pictures"), home.path("Elsewhere")).unwrap();
    assert_eq!(content(folder.open_file("2026/a.png")), "Pictures/2026/a.png");
}

#[test]
fn a_folder_is_opened_where_something_in_it_may_be_allowed() {
    let home = Home::new();
    home.write("outside/a");
    let roots = home.roots(&["$HOME/Documents/*.pdf", "!$HOME/Documents/old"]);
    assert!(roots.open_folder(&home.text("Documents")).is_ok());
    fs::create_dir(home.path("Documents/old")).unwrap();
    for refused in ["Pictures", "outside", "Documents/old"] {
        assert_eq!(code(&home, roots.open_folder(&home.text(refused))), "path_not_allowed", "{refused}");
    }
    roots.allow(&home.path("outside")).unwrap();
    assert_eq!(content(roots.open_folder(&home.text("outside")).unwrap().open_file("a")), "outside/a");
}

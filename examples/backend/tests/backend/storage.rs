//! What outlives the process.

use std::{fs, io::Write, path::Path};

use storage_sync_backend::{Backend, Options, Revisions, Rule};

use crate::client::ask;

async fn on(folder: &Path) -> Backend {
    let options = Options { folder: Some(folder.to_owned()), revisions: Revisions::Compare, ..Options::default() };
    Backend::start(options).await.unwrap()
}

#[tokio::test]
async fn a_new_backend_on_the_same_folder_knows_what_the_old_one_knew() {
    let folder = tempfile::tempdir().unwrap();
    let first = on(folder.path()).await;
    let old = ask("PUT /forms/1").key("k").revision(2, "d").body("text").to(&first).await;
    ask("PUT /forms/2").body("gone").to(&first).await;
    ask("DELETE /forms/2").to(&first).await;
    let photo = vec![255_u8; 100_000];
    ask("POST /photos").key("p").body(photo.clone()).to(&first).await;
    drop(first);

    let second = on(folder.path()).await;
    assert_eq!(ask("GET /forms/1").to(&second).await.body, "text");
    assert_eq!(ask("GET /forms/2").to(&second).await.status, 404);
    second.world(|world| {
        assert_eq!(world.resources("photos").next().unwrap().body, photo);
        assert_eq!((world.applied(), world.mutations().len(), world.times_applied("k")), (4, 4, 1));
    });
    let again = ask("PUT /forms/1").key("k").revision(2, "d").body("text").to(&second).await;
    assert_eq!((again.header("idempotency-replayed"), &again.body), (Some("true"), &old.body));
    assert_eq!(ask("PUT /forms/1").revision(1, "d").body("older").to(&second).await.status, 409);
    assert_eq!(ask("PUT /forms/1").revision(3, "d").body("newer").to(&second).await.status, 200);
    assert_eq!(second.mutations()[4].number, 5);
}

#[tokio::test]
async fn a_lost_answer_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let first = on(folder.path()).await;
    first.misbehave(Rule::drop_after());
    ask("PUT /forms/1").key("k").body("x").fails(&first).await;
    drop(first);
    let second = on(folder.path()).await;
    assert_eq!(ask("PUT /forms/1").key("k").body("x").to(&second).await.header("idempotency-replayed"), Some("true"));
}

#[tokio::test]
async fn a_line_that_a_kill_cut_off_is_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let first = on(folder.path()).await;
    ask("PUT /forms/1").body("kept").to(&first).await;
    drop(first);
    let path = folder.path().join("journal.jsonl");
    fs::File::options().append(true).open(&path).unwrap().write_all(b"{\"applied\":{\"numb").unwrap();

    let second = on(folder.path()).await;
    ask("PUT /forms/2").body("after").to(&second).await;
    drop(second);
    let third = on(folder.path()).await;
    assert_eq!(third.world(|world| world.resources("forms").count()), 2);
}

#[tokio::test]
async fn a_folder_with_something_else_in_it_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("journal.jsonl"), "something else\n").unwrap();
    let options = Options { folder: Some(folder.path().to_owned()), ..Options::default() };
    assert!(Backend::start(options).await.is_err());
    assert_eq!(fs::read_to_string(folder.path().join("journal.jsonl")).unwrap(), "something else\n");
}

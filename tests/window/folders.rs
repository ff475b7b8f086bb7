//! A folder whose files upload themselves.

use std::fs;

use crate::support::app::Installation;
use crate::support::backend;
use crate::support::desktop::Desktop;
use crate::support::page;
use crate::support::wait_for;

#[tokio::test]
async fn a_watched_folder_is_shown_and_followed_also_over_a_kill() {
    let _desktop = Desktop::take().await;
    let backend = backend::there().await;
    let installation = Installation::new(&backend.url());
    let (first, second) = (installation.inbox().join("a.txt"), installation.inbox().join("b.txt"));

    let app = installation.start().await;
    wait_for("the app to suggest its inbox", async || {
        let value = "return document.querySelector(`[data-testid=${arguments[0]}]`).value";
        let suggested = app.run(value, vec![page::FOLDER.into()]).await;
        suggested.as_str().filter(|path| !path.is_empty()).map(drop).ok_or_else(|| "the field is empty".to_owned())
    })
    .await;
    app.click(page::WATCH).await;
    app.shows(page::FOLDER_STATE, "Watching").await;
    fs::write(&first, "from the folder").expect("the folder is there");
    backend::holds(&backend, page::SCANS, |it| it.body.as_ref() == b"from the folder").await;
    app.shows(page::FOLDER_COUNTS, "1 of 1 files are on the server").await;
    app.show(page::FOLDER_COUNTS).await;
    app.picture("folder");
    app.kill_9();

    fs::write(&first, "edited while it was closed").expect("the folder is there");
    fs::write(&second, "written while it was closed").expect("the folder is there");
    let app = installation.start().await;
    for text in ["edited while it was closed", "written while it was closed"] {
        backend::holds(&backend, page::SCANS, |it| it.body.as_ref() == text.as_bytes()).await;
    }
    app.shows(page::FOLDER_COUNTS, "2 of 2 files are on the server").await;
    backend::applied_each_once(&backend);
    assert_eq!(backend.world(|world| world.resources(page::SCANS).count()), 2, "what was edited is the same thing");
}

//! What the other tests lean on: the window opens, and takes and gives away the focus.

use crate::support::app::Installation;
use crate::support::desktop::Desktop;
use crate::support::{backend, page};

#[tokio::test]
async fn the_real_window_opens_and_shows_an_empty_queue() {
    let desktop = Desktop::take().await;
    let backend = backend::away().await;
    let app = Installation::new(&backend.url()).start().await;

    desktop.window(app.pid()).await;
    app.shows("title", "Listings").await;
    app.shows(page::PENDING, "0").await;
    app.picture("opened");
}

//! Uploads by the tus protocol 1.0 (<https://tus.io/protocols/resumable-upload>), with its extensions creation, creation-with-upload,
//! expiration, termination and checksum.
//!
//! - The request creates the upload, and only that one carries the idempotency key. The file follows in chunks, whose size adapts to the line and
//!   to what the server takes.
//! - What the server has is for the server to say: on any doubt it is asked (HEAD), and the upload goes on from the offset that it names.
//! - The upload's URL is kept before anything is sent to it, and before its last bytes go out that is kept too. So a vanished upload is
//!   created anew if its last bytes were never sent, and is of unknown outcome if they were.
//! - An upload that the server has whole is delivered, also if the answer that said so was lost or was a fault. A server that examines a file
//!   when it is complete has to refuse it with 4xx.

mod checksum;
mod flow;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod fuzz;
mod pace;
mod servers;
#[cfg(test)]
mod tests;
mod wire;

use url::Url;

pub(super) use self::servers::Servers;
use super::{Answer, Request, http::Clients, upload::Upload};

/// Uploads as much as it takes until the server has all of it, or something stops it.
pub(super) async fn upload(clients: &Clients, servers: &Servers, upload: &Upload) -> Answer {
    flow::Run::new(clients, servers, upload).run().await
}

/// The request that ends the upload at `url`, which `of` has created.
pub(super) fn termination(url: &Url, of: &Request) -> Request {
    let mut request = Request::new("DELETE", url.clone());
    request.headers = wire::lasting(&of.headers);
    request.headers.push((wire::VERSION.0.to_owned(), wire::VERSION.1.to_owned()));
    request.credentials = of.credentials.clone();
    request.deletes = true;
    request.timeout = of.timeout;
    request
}

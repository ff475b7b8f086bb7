//! A file as the body of one request: as it is, or as a field of a form.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use sha2::{Digest as _, Sha256};

use super::exchange::{Outgoing, unsendable};
use crate::transport::{
    Outcome,
    upload::{Form, Upload},
};

/// What a file of no known name is called, since some servers take a part without a name for text.
const NAMELESS: &str = "file";

/// Puts the file into `outgoing`.
///
/// # Errors
/// What HTTP cannot express: nothing was sent.
pub(super) fn fill(outgoing: &mut Outgoing, upload: &Upload) -> Result<(), Outcome> {
    let Form::Multipart { part } = &upload.form else {
        outgoing.content.push_file(&upload.source, 0, upload.source.len());
        return Ok(());
    };
    let boundary = boundary(upload, part);
    let media = HeaderValue::from_str(&format!("multipart/form-data; boundary={boundary}"));
    outgoing.headers.insert(CONTENT_TYPE, media.map_err(|_| unsendable("the boundary"))?);
    let content = &mut outgoing.content;
    content.push_bytes(head(upload, part, &boundary));
    content.push_file(&upload.source, 0, upload.source.len());
    content.push_bytes(format!("\r\n--{boundary}--\r\n"));
    Ok(())
}

/// Made from the request and the file, so that every attempt carries the same bytes: a server that recognises an idempotency key may refuse it with others.
pub(super) fn boundary(upload: &Upload, part: &str) -> String {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    };
    add(part);
    for (name, value) in &upload.request.headers {
        if name.eq_ignore_ascii_case("idempotency-key") {
            add(value);
        }
    }
    // Nothing can hold the digest of itself: whoever chose the fields and the file cannot have put the boundary into them.
    for (name, value) in &upload.metadata {
        add(name);
        add(value);
    }
    hash.update(upload.source.len().to_be_bytes());
    hash.update(upload.source.sha256().unwrap_or_default());
    format!("storage-sync-{}", &BASE64_URL_SAFE_NO_PAD.encode(hash.finalize())[..40])
}

/// What stands before the file: RFC 7578. The fields come first, so that a server knows them when the file begins.
pub(super) fn head(upload: &Upload, part: &str, boundary: &str) -> String {
    let mut head = String::new();
    for (name, value) in &upload.metadata {
        if !matches!(name.as_str(), "filename" | "filetype") {
            let name = escaped(name);
            head.push_str(&format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            ));
        }
    }
    let (name, file) = (escaped(part), escaped(upload.named("filename").unwrap_or(NAMELESS)));
    let media = upload.named("filetype").filter(|media| media.bytes().all(|byte| matches!(byte, b' '..=b'~')));
    let media = media.unwrap_or("application/octet-stream");
    head.push_str(&format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\nContent-Type: {media}\r\n\r\n"
    ));
    head
}

/// As browsers write names (the HTML standard, "multipart/form-data encoding algorithm"), with other controls as spaces.
fn escaped(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for character in name.chars() {
        match character {
            '"' => escaped.push_str("%22"),
            '\r' => escaped.push_str("%0D"),
            '\n' => escaped.push_str("%0A"),
            control if control.is_control() => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

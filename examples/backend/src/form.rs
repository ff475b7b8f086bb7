//! Forms with a file in them: `multipart/form-data`.

use std::{collections::BTreeMap, path::Path};

use multer::Multipart;

use crate::content::{Content, Incoming};

/// The longest field that is kept, in bytes.
const LONGEST: usize = 64 * 1024;

/// What is in a form.
#[derive(Debug, Clone)]
pub(crate) struct Form {
    pub(crate) file: Content,
    pub(crate) name: Option<String>,
    pub(crate) content_type: String,
    /// What was told beside the file.
    pub(crate) fields: BTreeMap<String, String>,
}

/// Whether that media type is of a form, and what its parts are divided by.
pub(crate) fn boundary(content_type: Option<&str>) -> Option<String> {
    multer::parse_boundary(content_type?).ok()
}

/// Takes a form apart. The first part with a file name is the file.
pub(crate) async fn read(body: &Content, boundary: &str, folder: &Path) -> Result<Form, String> {
    let stream = body.stream().map_err(|error| error.to_string())?.into_data_stream();
    let mut parts = Multipart::new(stream, boundary);
    let (mut found, mut fields) = (None, BTreeMap::new());
    while let Some(mut part) = parts.next_field().await.map_err(|error| error.to_string())? {
        let field = part.name().unwrap_or_default().to_owned();
        let (name, media) = (part.file_name().map(str::to_owned), part.content_type().map(ToString::to_string));
        let mut incoming = Incoming::new(folder);
        while let Some(piece) = part.chunk().await.map_err(|error| error.to_string())? {
            incoming.push(&piece).await.map_err(|error| error.to_string())?;
        }
        let content = incoming.finish().await.map_err(|error| error.to_string())?;
        if name.is_some() && found.is_none() {
            found = Some((content, name, media));
        } else if content.length <= LONGEST as u64 {
            fields.insert(field, String::from_utf8_lossy(&content.bytes()).into_owned());
        } else {
            return Err(format!("the field {field:?} is too long"));
        }
    }
    let (file, name, media) = found.ok_or("there is no file in the form")?;
    Ok(Form { file, name, content_type: media.unwrap_or_else(|| "application/octet-stream".to_owned()), fields })
}

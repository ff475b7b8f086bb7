//! What is asked of a path before anything is looked for: that it names one thing, plainly, on the system that it is for.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// No system takes longer ones, in bytes.
const LONGEST: usize = 32 * 1024;

/// Whose rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum System {
    Unix,
    Windows,
}

impl System {
    /// The one that this was compiled for.
    pub(super) const HERE: Self = if cfg!(windows) { Self::Windows } else { Self::Unix };
}

/// A path as a window gave it.
pub(super) fn checked(written: &str) -> Result<PathBuf> {
    check(written, System::HERE).map(PathBuf::from).map_err(Error::argument)
}

/// A path as the system or Rust code gave it.
pub(super) fn path(path: &Path) -> Result<PathBuf> {
    let text = path.to_str().ok_or_else(|| Error::argument("the path is not Unicode, so no window can name it"))?;
    checked(text)
}

/// A path below a folder: names with `/` between them.
pub(super) fn relative(written: &str) -> Result<Vec<&str>> {
    characters(written).map_err(Error::argument)?;
    let separators: &[char] = if System::HERE == System::Windows { &['/', '\\'] } else { &['/'] };
    let names: Vec<&str> = written.split(separators).collect();
    names.iter().try_for_each(|name| self::name(name, System::HERE)).map_err(Error::argument)?;
    Ok(names)
}

/// The path in the one form that is compared with others.
pub(super) fn check(written: &str, system: System) -> Result<String, String> {
    characters(written)?;
    let (start, rest) = match system {
        System::Unix => ("/".to_owned(), written.strip_prefix('/').ok_or_else(not_absolute)?.to_owned()),
        System::Windows => windows(written)?,
    };
    let separator = if system == System::Windows { '\\' } else { '/' };
    rest.split(separator).try_for_each(|name| self::name(name, system))?;
    Ok(start + &rest)
}

fn characters(written: &str) -> Result<(), String> {
    if written.is_empty() {
        return Err("the path is empty".into());
    }
    if written.len() > LONGEST {
        return Err("the path is longer than any file's".into());
    }
    if written.chars().any(char::is_control) {
        return Err("the path holds control characters: give it as the system does, without quotes or line ends".into());
    }
    Ok(())
}

fn not_absolute() -> String {
    "the path must be absolute, and not a URL: give it as a dialog or a drop does".into()
}

/// Drive or share, and what is on it.
fn windows(written: &str) -> Result<(String, String), String> {
    let mut path = written.replace('/', "\\");
    if let Some(share) = path.strip_prefix("\\\\?\\UNC\\") {
        path = format!("\\\\{share}");
    } else if let Some(plain) = path.strip_prefix("\\\\?\\") {
        path = plain.to_owned();
    }
    if let Some(rest) = path.strip_prefix("\\\\") {
        let mut parts = rest.splitn(3, '\\');
        let (Some(server), Some(share), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(not_absolute());
        };
        // `\\.\` and `\\?\` lead to devices.
        if [server, share].iter().any(|name| name.is_empty() || name.trim_matches(['.', '?', ' ']).is_empty()) {
            return Err("the path is of a device, not of a file".into());
        }
        return Ok((format!("\\\\{server}\\{share}\\"), rest.to_owned()));
    }
    match path.as_bytes() {
        [drive, b':', b'\\', ..] if drive.is_ascii_alphabetic() => {
            Ok((format!("{}:\\", path[..1].to_ascii_uppercase()), path[3..].to_owned()))
        }
        _ => Err(not_absolute()),
    }
}

/// One name of a path.
fn name(name: &str, system: System) -> Result<(), String> {
    if name.is_empty() {
        return Err("the path has a name missing: two separators in a row, or one at the end".into());
    }
    if matches!(name, "." | "..") {
        return Err("the path holds `.` or `..`: give it without detours".into());
    }
    if system == System::Windows {
        if name.contains(['<', '>', ':', '"', '|', '?', '*', '/']) {
            return Err("the path holds `:` or another character that no file name has on Windows".into());
        }
        if name.ends_with(['.', ' ']) {
            return Err("a name of the path ends with a dot or a space, which Windows would leave out".into());
        }
        if is_device(name) {
            return Err("a name of the path is that of a device".into());
        }
    }
    Ok(())
}

/// What Windows takes for a device in any folder, whatever follows the first dot.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end_matches(' ').to_uppercase();
    if matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$" | "CLOCK$") {
        return true;
    }
    let number = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
    let mut digits = number.unwrap_or_default().chars();
    matches!((digits.next(), digits.next()), (Some('0'..='9' | '¹' | '²' | '³'), None))
}

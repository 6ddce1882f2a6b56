//! Texts that may stand in a file of their own: `{ file = "…" }`.

use std::os::unix::fs::PermissionsExt as _;

use super::document::{Entry, Value};
use super::section::{Reading, text_of};

/// Keys and passwords are short.
const BYTES_MAX: u64 = 64 << 10;
const OTHERS_MAY_READ: u32 = 0o004;

/// The text of an entry, or the content of the file that it names.
pub(crate) fn text(entry: &Entry, reading: &mut Reading) -> Option<String> {
    if let Some(text) = text_of(&entry.node) {
        return Some(text.to_owned());
    }
    let Value::Table(inner) = &entry.node.value else { return None };
    let node = &inner.iter().find(|e| e.name == "file")?.node;
    let path = reading.absolute(text_of(node)?);
    let bytes = reading.read(&node.span, "the secret", &path, BYTES_MAX)?;
    if std::fs::metadata(&path).is_ok_and(|m| m.permissions().mode() & OTHERS_MAY_READ != 0) {
        let message = format!("the secret `{}` can be read by every user of this machine", path.display());
        reading.warn(&node.span, message, format!("`chmod 600 {}`", path.display()));
    }
    let Ok(mut text) = String::from_utf8(bytes) else {
        let message = format!("the secret `{}` is not UTF-8", path.display());
        reading.error(&node.span, message, "secrets are text: encode it, by base64 for example");
        return None;
    };
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.contains('\0') {
        let message = format!("the secret `{}` has a NUL in it", path.display());
        reading.error(&node.span, message, "secrets are text: encode it, by base64 for example");
        return None;
    }
    Some(text)
}

//! The media type of a file by its name, and whether its content is worth compressing.

/// A media type as it stands in `Content-Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Media {
    pub text: &'static str,
    /// Text and the like: there may be a compressed file beside it, and caches must know.
    pub compressible: bool,
}

/// For names that say nothing.
pub const UNKNOWN: Media = Media { text: "application/octet-stream", compressible: false };

const fn plain(text: &'static str) -> Media {
    Media { text, compressible: false }
}

const fn squeezable(text: &'static str) -> Media {
    Media { text, compressible: true }
}

/// By the last extension, letters in any case. Types are those of the IANA registry and, for text, say UTF-8.
pub fn of(name: &str) -> Media {
    let Some((_, extension)) = name.rsplit_once('.') else { return UNKNOWN };
    let mut lower = [0; 12];
    let Some(lower) = lower.get_mut(..extension.len()) else { return UNKNOWN };
    lower.copy_from_slice(extension.as_bytes());
    lower.make_ascii_lowercase();
    match &*lower {
        b"html" | b"htm" => squeezable("text/html; charset=utf-8"),
        b"css" => squeezable("text/css; charset=utf-8"),
        b"js" | b"mjs" | b"cjs" => squeezable("text/javascript; charset=utf-8"),
        b"json" | b"map" => squeezable("application/json"),
        b"webmanifest" => squeezable("application/manifest+json"),
        b"jsonld" => squeezable("application/ld+json"),
        b"geojson" => squeezable("application/geo+json"),
        b"wasm" => squeezable("application/wasm"),
        b"svg" => squeezable("image/svg+xml"),
        b"xml" | b"xsl" => squeezable("application/xml"),
        b"xhtml" => squeezable("application/xhtml+xml"),
        b"atom" => squeezable("application/atom+xml"),
        b"rss" => squeezable("application/rss+xml"),
        b"txt" | b"text" | b"log" => squeezable("text/plain; charset=utf-8"),
        b"md" | b"markdown" => squeezable("text/markdown; charset=utf-8"),
        b"csv" => squeezable("text/csv; charset=utf-8"),
        b"ics" => squeezable("text/calendar; charset=utf-8"),
        b"vcf" => squeezable("text/vcard; charset=utf-8"),
        b"vtt" => squeezable("text/vtt; charset=utf-8"),
        b"ttf" => squeezable("font/ttf"),
        b"otf" => squeezable("font/otf"),
        b"eot" => squeezable("application/vnd.ms-fontobject"),
        b"ico" => squeezable("image/vnd.microsoft.icon"),
        b"bmp" => squeezable("image/bmp"),
        b"rtf" => squeezable("application/rtf"),
        b"woff" => plain("font/woff"),
        b"woff2" => plain("font/woff2"),
        b"png" => plain("image/png"),
        b"jpg" | b"jpeg" => plain("image/jpeg"),
        b"gif" => plain("image/gif"),
        b"webp" => plain("image/webp"),
        b"avif" => plain("image/avif"),
        b"jxl" => plain("image/jxl"),
        b"tif" | b"tiff" => plain("image/tiff"),
        b"mp3" => plain("audio/mpeg"),
        b"m4a" => plain("audio/mp4"),
        b"aac" => plain("audio/aac"),
        b"ogg" | b"oga" | b"opus" => plain("audio/ogg"),
        b"flac" => plain("audio/flac"),
        b"wav" => plain("audio/wav"),
        b"mp4" | b"m4v" => plain("video/mp4"),
        b"webm" => plain("video/webm"),
        b"ogv" => plain("video/ogg"),
        b"mov" => plain("video/quicktime"),
        b"mpeg" | b"mpg" => plain("video/mpeg"),
        b"m3u8" => squeezable("application/vnd.apple.mpegurl"),
        b"pdf" => plain("application/pdf"),
        b"epub" => plain("application/epub+zip"),
        b"zip" => plain("application/zip"),
        b"gz" | b"tgz" => plain("application/gzip"),
        b"zst" => plain("application/zstd"),
        b"7z" => plain("application/x-7z-compressed"),
        b"tar" => plain("application/x-tar"),
        b"doc" => plain("application/msword"),
        b"xls" => plain("application/vnd.ms-excel"),
        b"ppt" => plain("application/vnd.ms-powerpoint"),
        b"docx" => plain("application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        b"xlsx" => plain("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        b"pptx" => plain("application/vnd.openxmlformats-officedocument.presentationml.presentation"),
        b"odt" => plain("application/vnd.oasis.opendocument.text"),
        b"ods" => plain("application/vnd.oasis.opendocument.spreadsheet"),
        _ => UNKNOWN,
    }
}

/// Whether the name carries a hash of the content, as bundlers and Django's manifest storage write it: such a file
/// never changes under its name.
///
/// A part between dots or dashes counts as one if it is 8 to 64 lower-case hexadecimal digits with at least a letter
/// and a digit among them (so that a date is none).
pub fn is_hashed(name: &str) -> bool {
    let Some((stem, _)) = name.rsplit_once('.') else { return false };
    // The last part of a UUID looks like a hash, and names something that may well change.
    let lengths: Vec<usize> = stem.split(['.', '-']).map(str::len).collect();
    if lengths.windows(5).any(|w| w == [8, 4, 4, 4, 12]) {
        return false;
    }
    stem.split(['.', '-']).skip(1).any(|part| {
        (8..=64).contains(&part.len())
            && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            && part.bytes().any(|b| b.is_ascii_digit())
            && part.bytes().any(|b| b.is_ascii_alphabetic())
    })
}

/// Whether content of this type, as an answer names it, is worth compressing.
pub fn is_compressible(content_type: &[u8]) -> bool {
    let essence = content_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    let mut lower = [0; 64];
    let Some(lower) = lower.get_mut(..essence.len()) else { return false };
    lower.copy_from_slice(essence);
    lower.make_ascii_lowercase();
    match &*lower {
        b"application/json"
        | b"application/javascript"
        | b"application/x-javascript"
        | b"application/xml"
        | b"application/wasm"
        | b"application/rtf"
        | b"application/x-ndjson"
        | b"application/graphql"
        | b"application/vnd.ms-fontobject"
        | b"image/svg+xml"
        | b"image/bmp"
        | b"font/ttf"
        | b"font/otf" => true,
        other => other.starts_with(b"text/") || other.ends_with(b"+json") || other.ends_with(b"+xml"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_in_all_its_kinds_is_worth_compressing_and_pictures_are_not() {
        for yes in [
            "text/html; charset=utf-8",
            "Application/JSON",
            "application/problem+json",
            "image/svg+xml",
            "text/event-stream",
        ] {
            assert!(is_compressible(yes.as_bytes()), "{yes}");
        }
        for no in ["image/png", "application/zip", "application/octet-stream", "", "video/mp4", "font/woff2"]
        {
            assert!(!is_compressible(no.as_bytes()), "{no}");
        }
    }

    #[test]
    fn a_type_follows_from_the_last_extension() {
        for (name, text) in [
            ("a.css", "text/css; charset=utf-8"),
            ("A.MIN.JS", "text/javascript; charset=utf-8"),
            ("archive.tar.gz", "application/gzip"),
            ("README", "application/octet-stream"),
            ("a.", "application/octet-stream"),
            ("a.averyveryverylongone", "application/octet-stream"),
            ("photo.JPeG", "image/jpeg"),
        ] {
            assert_eq!(of(name).text, text, "{name}");
        }
        assert!(of("a.svg").compressible && !of("a.png").compressible);
    }

    #[test]
    fn hashed_names_are_known_and_dates_are_not() {
        for (name, hashed) in [
            ("base.55e7cbb9ba48.css", true),
            ("main.3f2a1b9c.chunk.js", true),
            ("index-4f3c2b1a.js", true),
            ("3f2504e0-4f89-11d3-9a0c-0305e82c3301.jpg", false),
            ("avatar.3f2504e0-4f89-11d3-9a0c-0305e82c3301.jpg", false),
            ("app.css", false),
            ("photo-20240101.jpg", false),
            ("55e7cbb9ba48.css", false),
            ("a.deadbeef.css", false),
            ("a.55E7CBB9BA48.css", false),
            ("a.55e7cbb9ba48", false),
        ] {
            assert_eq!(is_hashed(name), hashed, "{name}");
        }
    }
}

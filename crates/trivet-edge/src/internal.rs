//! Files that an app has the edge send: `X-Accel-Redirect` with the path of an internal route, or `X-Sendfile` with the
//! path of a file in such a route's folder.

use trivet_http::h1::response;
use trivet_http::path;
use trivet_wire::frame::Response;

use crate::answer::Own;
use crate::ending::Ending;
use crate::files::Lookup;
use crate::log;
use crate::net::Net;
use crate::route::{About, Internal};
use crate::static_files::{self, is_hidden};

/// Fields of the app's own head that go with the file.
const KEPT: [&str; 7] = [
    "content-type",
    "content-disposition",
    "content-language",
    "cache-control",
    "expires",
    "set-cookie",
    "link",
];

/// What the app asks for.
enum Wanted<'a> {
    Path(&'a [u8]),
    File(&'a [u8]),
}

/// Whether an answer sends to a file; only where the site has internal routes.
pub(crate) fn is_wanted(about: Option<&About>, r: &Response<'_>) -> bool {
    about.is_some_and(About::has_internals) && wanted(r).is_some()
}

fn wanted<'a>(r: &Response<'a>) -> Option<Wanted<'a>> {
    r.fields().find_map(|(name, value)| match name.len() {
        16 if name.eq_ignore_ascii_case(b"x-accel-redirect") => Some(Wanted::Path(value)),
        10 if name.eq_ignore_ascii_case(b"x-sendfile") => Some(Wanted::File(value)),
        _ => None,
    })
}

impl Net {
    /// Sends the file that the app names, with some of the app's fields. `end`: the app gives no body of its own.
    pub(crate) fn send_internal(&mut self, xkey: u32, r: &Response<'_>, end: bool) {
        let Some(x) = self.exchanges.table.get_mut(xkey) else { return };
        let seat = x.seat();
        let Some(about) = x.about().cloned() else { return };
        let kept: Vec<(&[u8], &[u8])> = r
            .fields()
            .filter(|(name, value)| {
                KEPT.iter().any(|k| name.eq_ignore_ascii_case(k.as_bytes()))
                    && response::valid_name(name)
                    && response::valid_value(value)
            })
            .collect();
        let found = wanted(r).and_then(|wanted| self.find_internal(&about, &wanted));
        let wishes = self.wishes_of(xkey);
        // What is still to come of the request nobody reads, and who waits to be asked for it is not asked.
        let owes = self.exchanges.table.get(xkey).is_some_and(|x| x.owes_continue);
        let key = self.exchanges.table.get(xkey).and_then(|x| x.connection);
        if let Some(c) = key.and_then(|key| self.connections.get_mut(key))
            && (owes || !c.body.is_none())
        {
            c.close = true;
        }
        match (found, wishes) {
            (Some((slot, plain, coded)), Some(fields)) => {
                let plain = plain.with_fields(&kept);
                let coded = coded.map(|form| form.map(|form| form.with_fields(&kept)));
                let fields = fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
                let is_head = self.exchanges.table.get(xkey).is_some_and(|x| x.is_head);
                let wishes = static_files::wishes(fields, is_head);
                static_files::answer(self, xkey, &wishes, slot, &plain, &coded);
            }
            _ => self.answer_own(xkey, 404, Own::default(), Ending::AppError),
        }
        // What the app still has to say, nobody hears.
        if !end && let Some(seat) = seat {
            self.cancels.push(seat);
        }
    }

    fn find_internal(&mut self, about: &About, wanted: &Wanted<'_>) -> Option<static_files::Forms> {
        let text = |bytes| std::str::from_utf8(bytes).ok();
        let (slot, name) = match wanted {
            Wanted::Path(raw) => {
                let raw = raw.split(|b| *b == b'?').next()?;
                let mut canonical = String::new();
                path::canonical(raw, &mut canonical).ok()?;
                let is_for = |i: &&Internal| i.rule.matches(&canonical).is_some();
                let internal = about.internals().iter().find(is_for)?;
                let rest = canonical.strip_prefix(&*internal.files.at)?.strip_prefix('/')?;
                (internal.files.folder.slot, rest.to_owned())
            }
            Wanted::File(file) => {
                let file = text(file)?;
                let inside = |i: &Internal| {
                    let rest = file.strip_prefix(&*i.files.root)?.strip_prefix('/')?;
                    Some((i.files.folder.slot, rest.to_owned()))
                };
                about.internals().iter().find_map(inside)?
            }
        };
        let plain_name = !name.is_empty()
            && !is_hidden(&name)
            && name.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if plain_name && let Lookup::File { plain, coded } = self.files.find(slot, &name, self.now_ms) {
            return Some((slot, plain, coded));
        }
        log::warn(
            "an app sends to a file that no internal route has",
            &[(
                "path",
                &String::from_utf8_lossy(match wanted {
                    Wanted::Path(path) | Wanted::File(path) => path,
                }),
            )],
        );
        None
    }

    /// The request's fields that say which part of a file in which form is wanted.
    fn wishes_of(&self, xkey: u32) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
        let request = self.exchanges.table.get(xkey)?.request()?;
        // RFC 9110 §13.1, §14.2: for these methods they mean something here.
        if !matches!(request.head.method, b"GET" | b"HEAD") {
            return Some(Vec::new());
        }
        Some(request.fields().map(|(name, value)| (name.to_vec(), value.to_vec())).collect())
    }
}

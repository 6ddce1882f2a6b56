//! Counts the frames of a client that bring nothing, by their headers alone, before anything else reads them.
//!
//! Every flood of HTTP/2 is frames that cost the sender less than the server: they are paid from a purse that time
//! and useful work fill again. What the machine behind bounds by itself (sizes of heads, frames in a head, streams
//! reset before they were taken) is not counted again.

/// What a purse holds, and a new connection begins with.
const PURSE_MAX: u32 = 4_000;
/// What comes in by itself each second.
const PURSE_PER_SECOND: u64 = 200;
/// For a request that was answered whole.
pub(super) const ANSWERED: u32 = 2;
/// Body bytes in either direction that are worth one.
pub(super) const USEFUL_BYTES: u64 = 1024;
/// Opening a stream and taking it back has made the server do all the work of a request.
const RESET_COST: u32 = 10;
/// Settings make us walk through all streams, and each wants an answer.
const SETTINGS_COST: u32 = 4;
/// A DATA frame shorter than this that does not end its stream costs more than it brings.
const SHORT_DATA_BYTES: u32 = 64;

const FRAME_HEADER_BYTES: usize = 9;
const PREFACE_BYTES: u32 = 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A connection's frames as they pass by.
#[derive(Debug)]
pub(super) struct Watch {
    header: [u8; FRAME_HEADER_BYTES],
    have: usize,
    /// Bytes of the present frame's payload (before the first frame: of the preface) that are still to come.
    skip: u32,
    data: bool,
    /// A head has begun whose last frame has not.
    head_open: bool,
    purse: u32,
    filled_ms: u64,
    useful_bytes: u64,
}

impl Watch {
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            header: [0; FRAME_HEADER_BYTES],
            have: 0,
            skip: PREFACE_BYTES,
            data: false,
            head_open: false,
            purse: PURSE_MAX,
            filled_ms: now_ms,
            useful_bytes: 0,
        }
    }

    /// Looks at what comes next. `false`: the client has sent more that is good for nothing than is bearable.
    pub(super) fn look(&mut self, mut bytes: &[u8], now_ms: u64) -> bool {
        let earned = now_ms.saturating_sub(self.filled_ms).saturating_mul(PURSE_PER_SECOND) / 1000;
        if earned > 0 {
            self.filled_ms = now_ms;
            self.earn(u32::try_from(earned).unwrap_or(PURSE_MAX));
        }
        while !bytes.is_empty() {
            if self.skip > 0 {
                let n = bytes.len().min(self.skip as usize);
                self.skip -= n as u32;
                bytes = &bytes[n..];
                continue;
            }
            let n = bytes.len().min(FRAME_HEADER_BYTES - self.have);
            self.header[self.have..self.have + n].copy_from_slice(&bytes[..n]);
            self.have += n;
            bytes = &bytes[n..];
            if self.have == FRAME_HEADER_BYTES {
                self.have = 0;
                let cost = self.frame();
                let Some(left) = self.purse.checked_sub(cost) else { return false };
                self.purse = left;
            }
        }
        true
    }

    fn frame(&mut self) -> u32 {
        let [a, b, c, kind, flags, ..] = self.header;
        let length = u32::from_be_bytes([0, a, b, c]);
        self.skip = length;
        self.data = kind == DATA;
        match kind {
            DATA if flags & END_STREAM != 0 => 0,
            DATA if length >= SHORT_DATA_BYTES => {
                self.useful(length.into());
                0
            }
            HEADERS | CONTINUATION => {
                self.head_open = flags & END_HEADERS == 0;
                // Whose head fits into one frame has no reason to cut it in pieces.
                u32::from(self.head_open && length < SHORT_DATA_BYTES)
            }
            RST_STREAM => RESET_COST,
            SETTINGS => SETTINGS_COST,
            // PRIORITY, PING, WINDOW_UPDATE, short DATA, and what nobody knows.
            _ => 1,
        }
    }

    /// Something useful was done.
    pub(super) fn earn(&mut self, amount: u32) {
        self.purse = self.purse.saturating_add(amount).min(PURSE_MAX);
    }

    /// Body bytes went in or out.
    pub(super) fn useful(&mut self, bytes: u64) {
        self.useful_bytes += bytes;
        let worth = self.useful_bytes / USEFUL_BYTES;
        self.useful_bytes %= USEFUL_BYTES;
        self.earn(u32::try_from(worth).unwrap_or(PURSE_MAX));
    }

    /// Something has begun that must end in the time that a head has: the preface, a head, a frame other than DATA.
    pub(super) fn is_waiting(&self) -> bool {
        self.head_open || self.have > 0 || (self.skip > 0 && !self.data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: u32) -> Vec<u8> {
        let mut bytes = length.to_be_bytes()[1..].to_vec();
        bytes.extend_from_slice(&[kind, flags, 0, 0, 0, 1]);
        bytes.resize(bytes.len() + length as usize, 7);
        bytes
    }

    fn open() -> Watch {
        let mut watch = Watch::new(0);
        assert!(watch.look(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0));
        watch
    }

    fn until_refused(watch: &mut Watch, bytes: &[u8]) -> u32 {
        (0..10_000).find(|_| !watch.look(bytes, 0)).unwrap_or(u32::MAX)
    }

    #[test]
    fn frames_that_bring_nothing_are_paid_for() {
        assert_eq!(until_refused(&mut open(), &frame(6, 0, 8)), 4_000, "PING");
        assert_eq!(until_refused(&mut open(), &frame(SETTINGS, 0, 0)), 1_000);
        assert_eq!(until_refused(&mut open(), &frame(RST_STREAM, 0, 4)), 400);
        assert_eq!(until_refused(&mut open(), &frame(DATA, 0, 0)), 4_000);
        assert_eq!(until_refused(&mut open(), &frame(CONTINUATION, 0, 0)), 4_000);
        assert_eq!(until_refused(&mut open(), &frame(8, 0, 4)), 4_000, "WINDOW_UPDATE");
        assert_eq!(until_refused(&mut open(), &frame(0xbe, 0, 4)), 4_000, "unknown");
    }

    #[test]
    fn requests_and_bodies_are_free() {
        assert_eq!(until_refused(&mut open(), &frame(HEADERS, END_HEADERS | END_STREAM, 20)), u32::MAX);
        assert_eq!(until_refused(&mut open(), &frame(DATA, 0, 1_000)), u32::MAX);
        assert_eq!(until_refused(&mut open(), &frame(DATA, END_STREAM, 0)), u32::MAX);
    }

    #[test]
    fn time_and_useful_bytes_fill_the_purse() {
        let mut watch = open();
        assert!(until_refused(&mut watch, &frame(6, 0, 8)) < u32::MAX);
        assert!(!watch.look(&frame(6, 0, 8), 4));
        assert!(watch.look(&frame(6, 0, 8), 10));
        watch.useful(2 * USEFUL_BYTES + 1);
        assert!(watch.look(&frame(6, 0, 8), 10));
    }

    #[test]
    fn how_the_bytes_are_cut_changes_nothing() {
        let bytes =
            [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 12), &frame(HEADERS, 0, 30)]
                .concat();
        let mut watch = Watch::new(0);
        for byte in &bytes {
            assert!(watch.look(&[*byte], 0));
        }
        assert!(watch.is_waiting(), "the head is open");
        assert_eq!(watch.purse, PURSE_MAX - SETTINGS_COST - 1);
        for byte in frame(CONTINUATION, END_HEADERS, 1) {
            assert!(watch.is_waiting());
            assert!(watch.look(&[byte], 0));
        }
        assert!(!watch.is_waiting());
        assert!(watch.look(&frame(DATA, 0, 200)[..100], 0));
        assert!(!watch.is_waiting(), "bodies have a pace of their own");
    }
}

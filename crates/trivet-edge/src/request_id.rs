//! Request ids: 32 hexadecimal digits, unique among all edges; made here or taken over from a trusted peer.

/// Longest id that is taken over.
const TAKEN_BYTES_MAX: usize = 128;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Makes ids: a random part for each edge process and a count.
#[derive(Debug)]
pub(crate) struct RequestIds {
    text: [u8; 32],
    count: u64,
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        let mut seed = [0u8; 16];
        // Fails only on kernels without getrandom; then time and process id must do.
        if rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty()).is_err() {
            seed[..8].copy_from_slice(&trivet_wire::monotonic_ns().to_le_bytes());
            seed[8..12].copy_from_slice(&std::process::id().to_le_bytes());
        }
        let mut text = [0; 32];
        for (i, byte) in seed.iter().enumerate() {
            text[2 * i] = HEX[usize::from(byte >> 4)];
            text[2 * i + 1] = HEX[usize::from(byte & 15)];
        }
        let count =
            u64::from_le_bytes([seed[8], seed[9], seed[10], seed[11], seed[12], seed[13], seed[14], 0]);
        Self { text, count }
    }

    #[inline]
    pub(crate) fn next(&mut self) -> [u8; 32] {
        self.count = self.count.wrapping_add(1);
        let mut rest = self.count;
        for digit in self.text[16..].iter_mut().rev() {
            *digit = HEX[(rest & 15) as usize];
            rest >>= 4;
        }
        self.text
    }
}

/// Whether an id from a trusted peer is taken over.
pub(crate) fn acceptable(id: &[u8]) -> bool {
    !id.is_empty()
        && id.len() <= TAKEN_BYTES_MAX
        && id.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:+/=".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_are_hexadecimal() {
        let mut ids = RequestIds::new();
        let (a, b) = (ids.next(), ids.next());
        assert_ne!(a, b);
        assert!(a.iter().all(u8::is_ascii_hexdigit));
        assert_ne!(RequestIds::new().next()[..16], a[..16]);
    }

    #[test]
    fn only_harmless_ids_are_taken_over() {
        assert!(acceptable(b"9b2e-1"));
        assert!(!acceptable(b"") && !acceptable(b"a b") && !acceptable(b"a\"b") && !acceptable(&[b'a'; 129]));
    }
}

//! Session tickets (RFC 5077, RFC 8446 §4.6.1): what lets a client come back without a whole handshake. The keys are the
//! supervisor's, so that they are the same for every edge, and outlive it.

use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;
use trivet_wire::control::{TICKET_KEY_SECONDS, TicketKey};

const NAME_BYTES: usize = 16;

#[derive(Debug)]
struct Key {
    name: [u8; NAME_BYTES],
    key: LessSafeKey,
}

/// What a session is good for besides the name that it was begun with, which rustls itself looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    /// Of the authorities that clients' certificates were verified by.
    pub(crate) digest: [u8; 32],
    pub(crate) required: bool,
}

/// All listeners' tickets. The first key makes them; with all of them they are read.
#[derive(Debug, Default)]
pub(crate) struct Tickets(RwLock<Vec<Key>>);

impl Tickets {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// From now on these keys.
    pub(crate) fn take(&self, keys: &[TicketKey]) {
        let keys = keys
            .iter()
            .filter_map(|k| {
                let key = UnboundKey::new(&AES_256_GCM, &k.key).ok()?;
                Some(Key { name: k.name, key: LessSafeKey::new(key) })
            })
            .collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }
}

impl Tickets {
    /// What is sealed with a ticket: with another context it cannot be opened.
    fn bound_to(name: &[u8; NAME_BYTES], context: Option<&Context>) -> Aad<Vec<u8>> {
        let mut bytes = name.to_vec();
        if let Some(Context { digest, required }) = context {
            bytes.extend_from_slice(digest);
            bytes.push(u8::from(*required));
        }
        Aad::from(bytes)
    }

    fn seal(&self, plain: &[u8], context: Option<&Context>) -> Option<Vec<u8>> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Key { name, key } = keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut ticket = [&name[..], &nonce[..], plain].concat();
        let tag = key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Self::bound_to(name, context),
                &mut ticket[NAME_BYTES + NONCE_LEN..],
            )
            .ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn open(&self, ticket: &[u8], context: Option<&Context>) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME_BYTES)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Key { name, key } = keys.iter().find(|k| k.name == *name)?;
        let mut plain = sealed.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let bytes = key.open_in_place(nonce, Self::bound_to(name, context), &mut plain).ok()?.len();
        plain.truncate(bytes);
        Some(plain)
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        !self.0.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn lifetime(&self) -> u32 {
        // A ticket that was made with a key just before its change is good as long as the next key is.
        TICKET_KEY_SECONDS
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, None)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.open(ticket, None)
    }
}

/// Tickets that are good in one context only.
#[derive(Debug)]
pub(crate) struct TicketsOf {
    pub(crate) tickets: Arc<Tickets>,
    pub(crate) context: Context,
}

impl ProducesTickets for TicketsOf {
    fn enabled(&self) -> bool {
        self.tickets.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.tickets.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.tickets.seal(plain, Some(&self.context))
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.tickets.open(ticket, Some(&self.context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> TicketKey {
        TicketKey { name: [n; 16], key: [n; 32] }
    }

    #[test]
    fn a_ticket_is_read_as_long_as_its_key_is_there() {
        let tickets = Tickets::new();
        assert!(!tickets.enabled());
        tickets.take(&[key(1)]);
        let ticket = tickets.encrypt(b"state").unwrap();
        assert_ne!(tickets.encrypt(b"state").unwrap(), ticket, "no two are alike");
        let other_edge = Tickets::new();
        other_edge.take(&[key(2), key(1)]);
        assert_eq!(other_edge.decrypt(&ticket).as_deref(), Some(&b"state"[..]));
        other_edge.take(&[key(3), key(2)]);
        assert_eq!(other_edge.decrypt(&ticket), None);
    }

    #[test]
    fn a_ticket_is_good_for_its_own_context_only() {
        let tickets = Tickets::new();
        tickets.take(&[key(1)]);
        let of = |digest, required| TicketsOf {
            tickets: tickets.clone(),
            context: Context { digest: [digest; 32], required },
        };
        let all: [&dyn ProducesTickets; 4] = [&*tickets.clone(), &of(1, true), &of(1, false), &of(2, true)];
        for (i, one) in all.iter().enumerate() {
            let ticket = one.encrypt(b"state").unwrap();
            for (j, other) in all.iter().enumerate() {
                assert_eq!(other.decrypt(&ticket).is_some(), i == j, "{i} {j}");
            }
        }
    }

    #[test]
    fn a_ticket_that_was_touched_is_refused() {
        let tickets = Tickets::new();
        tickets.take(&[key(1)]);
        let ticket = tickets.encrypt(b"state").unwrap();
        for at in 0..ticket.len() {
            let mut touched = ticket.clone();
            touched[at] ^= 1;
            assert_eq!(tickets.decrypt(&touched), None, "byte {at}");
            assert_eq!(tickets.decrypt(&ticket[..at]), None, "{at} bytes");
        }
        assert_eq!(tickets.decrypt(&[]), None);
    }
}

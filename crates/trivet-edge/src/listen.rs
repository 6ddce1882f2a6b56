//! New connections: from the listening sockets that the supervisor holds.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::io::Errno;
use rustix::net::SocketFlags;

use crate::address;
use crate::connection::{AddressText, Connection};
use crate::edge::Edge;
use crate::log;
use crate::net::Listening;
use crate::route::Hosts;
use crate::tls::Acceptor;

/// Connections taken from one listener before the others get their turn.
const ACCEPT_BATCH: usize = 64;

impl Listening {
    pub(crate) fn new(
        name: &str,
        socket: OwnedFd,
        unix: bool,
        hosts: Rc<Hosts>,
        acceptor: Option<Acceptor>,
    ) -> Self {
        let local = if unix { None } else { local_address(&socket) };
        // A wildcard address says nothing about where a client came in.
        let local = local.filter(|a| !a.ip().is_unspecified());
        if !unix {
            // Accepted sockets inherit it.
            let _ = rustix::net::sockopt::set_tcp_nodelay(&socket, true);
        }
        // The description is shared with the supervisor, which never accepts.
        let _ = rustix::io::ioctl_fionbio(&socket, true);
        Self {
            name: name.to_owned(),
            socket: Some(socket),
            unix,
            hosts,
            acceptor,
            local: local.map(|a| (AddressText::of(Some(a.ip())), a.port())),
            paused: false,
        }
    }
}

fn local_address(socket: &OwnedFd) -> Option<SocketAddr> {
    SocketAddr::try_from(rustix::net::getsockname(socket).ok()?).ok()
}

impl Edge {
    /// Takes everything that waits at a listener which is about to go.
    pub(crate) fn accept_all(&mut self, index: usize) {
        loop {
            let before = self.net.connections.len();
            self.accept(index);
            if self.net.connections.len() < before + ACCEPT_BATCH {
                return;
            }
        }
    }

    /// Takes what waits at a listener.
    pub(crate) fn accept(&mut self, index: usize) {
        for _ in 0..ACCEPT_BATCH {
            let listener = &mut self.net.listeners[index];
            let Some(listening) = &listener.socket else { return };
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            match rustix::net::acceptfrom_with(listening, flags) {
                Ok((socket, peer)) => {
                    let peer = peer.and_then(|a| SocketAddr::try_from(a).ok());
                    self.welcome(index, socket, peer);
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    if !listener.paused {
                        listener.paused = true;
                        log::warn(
                            "out of descriptors: new connections wait; hint: raise the limit (ulimit -n)",
                            &[("connections", &(self.net.connections.len() - self.net.http2.streams))],
                        );
                        self.watch_listener(index, false);
                    }
                    return;
                }
                // The client was faster than we: nobody to talk to.
                Err(_) => {}
            }
        }
    }

    fn welcome(&mut self, index: usize, socket: OwnedFd, peer: Option<SocketAddr>) {
        let listener = &self.net.listeners[index];
        let mut c = Connection::new(socket, index, peer.map(|p| p.ip()), peer.map_or(0, |p| p.port()));
        c.trusted = match c.ip {
            Some(ip) => address::trusted(ip, self.net.server.trusted_peers.as_deref()),
            None => self.net.server.trust_unix,
        };
        if !listener.unix && listener.local.is_none() {
            c.local =
                c.socket.as_ref().and_then(local_address).map(|a| (AddressText::of(Some(a.ip())), a.port()));
        }
        if let Some(acceptor) = &listener.acceptor {
            c.tls = acceptor.accept();
            if c.tls.is_none() {
                return;
            }
        }
        // Its first request is likely to be there already.
        c.readable = true;
        let secure = c.tls.is_some();
        let key = self.net.connections.insert(c);
        // A handshake has no longer than a head.
        let (keep_alive_ms, head_ms) = (self.net.server.keep_alive_ms, self.net.server.head_ms);
        let idle = self.net.now_ms + if secure { head_ms } else { keep_alive_ms.max(head_ms) };
        self.net.set_deadline(key, idle);
        self.receive(key);
        let generation = self.net.connections.generation(key);
        self.net.fresh.push((key, generation, 0));
    }
}

//! Taking up a configuration, at the start and in mid-flight: all of it or nothing. Requests and connections keep what
//! they began with.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use rustix::event::epoll;
use trivet_http::h1::Limits;
use trivet_wire::channel::Channel;
use trivet_wire::control::{self, TicketKey};

use crate::access_log::AccessLog;
use crate::config::{self, Config};
use crate::connection::Phase;
use crate::edge::Edge;
use crate::files::read_at;
use crate::net::{LINGER_MS, Listening};
use crate::pools::take_apps;
use crate::route::{Hosts, Parts, Site};
use crate::tickets::Tickets;
use crate::tls::{Acceptor, Authorities, Identity, SiteTls};

/// The access logs, each with its thread.
#[derive(Debug, Default)]
pub(crate) struct Logs(Vec<(config::AccessLog, Rc<RefCell<AccessLog>>)>);

impl Logs {
    /// Those of a configuration: logs that are there already go on.
    fn take(&self, wanted: &[config::AccessLog], fds: Vec<OwnedFd>, control: &Channel) -> io::Result<Self> {
        let mut taken = Vec::new();
        for (wanted, fd) in wanted.iter().zip(fds) {
            let log = if let Some((_, log)) = self.0.iter().find(|(known, _)| known == wanted) {
                log.borrow().reopen(fd);
                log.clone()
            } else {
                let control = control.as_fd().try_clone_to_owned()?;
                Rc::new(RefCell::new(AccessLog::new(wanted, fd, control)?))
            };
            taken.push((wanted.clone(), log));
        }
        Ok(Self(taken))
    }

    /// From the next line on, other files.
    pub(crate) fn reopen(&self, fds: impl Iterator<Item = OwnedFd>) {
        for ((_, log), fd) in self.0.iter().zip(fds) {
            log.borrow().reopen(fd);
        }
    }

    pub(crate) fn lost(&self) -> u64 {
        self.0.iter().map(|(_, log)| log.borrow().lost()).sum()
    }

    pub(crate) fn finish(&self) {
        for (_, log) in &self.0 {
            log.borrow().finish();
        }
    }

    fn list(&self) -> Vec<Rc<RefCell<AccessLog>>> {
        self.0.iter().map(|(_, log)| log.clone()).collect()
    }
}

/// All of a file, whatever its position.
fn content(file: Option<OwnedFd>) -> io::Result<Vec<u8>> {
    let file = file.ok_or_else(|| io::Error::other("a descriptor is missing"))?;
    let mut bytes = vec![0; rustix::fs::fstat(&file)?.st_size as usize];
    let got = read_at(&file, &mut bytes, 0)?;
    bytes.truncate(got);
    Ok(bytes)
}

impl Edge {
    /// Takes up a configuration. Descriptors: the configuration and the certificates as files, then the listeners, then
    /// the logs. An error: everything is as it was.
    pub(crate) fn configure(&mut self, mut fds: impl Iterator<Item = OwnedFd>) -> io::Result<()> {
        let config: Config = serde_json::from_slice(&content(fds.next())?)?;
        let secrets = Secrets::read(fds.next())?;
        let sockets: Vec<_> = fds.by_ref().take(config.listeners.len()).collect();
        let logs: Vec<_> = fds.by_ref().take(config.logs.len()).collect();
        if sockets.len() < config.listeners.len() || logs.len() < config.logs.len() {
            return Err(io::Error::other("fewer descriptors than configured"));
        }
        let acceptors = acceptors(&config, &secrets, &self.tickets)?;
        let logs = self.logs.take(&config.logs, logs, &self.control)?;
        let server = &config.server;
        let apps = take_apps(&mut self.pools.list, &config.apps, server.transport, server.generation);
        let files = &mut self.net.files;
        let log_list = logs.list();
        let mut parts = Parts { apps: &apps, logs: &log_list, folder: &mut |options| files.folder(options) };
        let sites: Result<Vec<_>, _> = config.sites.iter().map(|s| Site::compile(s, &mut parts)).collect();
        let sites = match sites {
            Ok(sites) => sites,
            Err(e) => {
                let old = &self.config.server;
                take_apps(&mut self.pools.list, &self.config.apps, old.transport, old.generation);
                return Err(io::Error::other(e));
            }
        };
        let hosts = (0..config.listeners.len()).map(|listener| hosts_of(listener, &config, &sites)).collect();
        // Nothing can fail any more.
        self.tickets.take(&secrets.ticket_keys);
        self.logs = logs;
        self.net.limits = Limits {
            request_line_bytes_max: server.request_line_bytes_max,
            head_bytes_max: server.head_bytes_max,
            fields_max: server.fields_max,
            field_bytes_max: server.field_bytes_max,
        };
        self.net.server = server.clone();
        self.net.spools.set_dir(&server.spool_dir);
        self.listen(&config.listeners, sockets, hosts, acceptors);
        self.config = config;
        drop((sites, log_list));
        self.net.files.sweep();
        Ok(())
    }

    /// New certificates for the same sites, new ticket keys. Connections keep what they began with.
    pub(crate) fn take_secrets(&mut self, file: Option<OwnedFd>) -> io::Result<()> {
        let secrets = Secrets::read(file)?;
        let acceptors = acceptors(&self.config, &secrets, &self.tickets)?;
        for (l, acceptor) in self.config.listeners.iter().zip(acceptors) {
            if let Some(listening) =
                self.net.listeners.iter_mut().find(|open| open.socket.is_some() && open.name == l.name)
            {
                listening.acceptor = acceptor;
            }
        }
        self.tickets.take(&secrets.ticket_keys);
        Ok(())
    }

    /// Listeners that stay go on as they are, new ones begin, and those that are gone take no more connections.
    fn listen(
        &mut self,
        wanted: &[config::Listener],
        sockets: Vec<OwnedFd>,
        hosts: Vec<Hosts>,
        acceptors: Vec<Option<Acceptor>>,
    ) {
        for slot in 0..self.net.listeners.len() {
            let open = &self.net.listeners[slot];
            if open.socket.is_none() || wanted.iter().any(|l| l.name == open.name) {
                continue;
            }
            // What the kernel has accepted for us is ours to serve.
            self.accept_all(slot);
            if let Some(socket) = self.net.listeners[slot].socket.take() {
                let _ = epoll::delete(&self.net.epoll, &socket);
            }
            self.part_with(slot);
        }
        for (((l, socket), hosts), acceptor) in wanted.iter().zip(sockets).zip(hosts).zip(acceptors) {
            let hosts = Rc::new(hosts);
            if let Some(open) =
                self.net.listeners.iter_mut().find(|open| open.socket.is_some() && open.name == l.name)
            {
                open.hosts = hosts;
                open.acceptor = acceptor;
                continue;
            }
            let new = Listening::new(&l.name, socket, l.unix, hosts, acceptor);
            let free = (0..self.net.listeners.len()).find(|&slot| self.is_left(slot));
            let slot = free.unwrap_or(self.net.listeners.len());
            match self.net.listeners.get_mut(slot) {
                Some(place) => *place = new,
                None => self.net.listeners.push(new),
            }
            self.watch_listener(slot, true);
        }
    }

    /// Lets go of what is kept for listeners that are no more, once their last connection has ended: an app that only
    /// they led to can then be forgotten.
    pub(crate) fn forget_listeners(&mut self) {
        if self.net.draining {
            return;
        }
        let mut some = false;
        for slot in 0..self.net.listeners.len() {
            if !self.net.listeners[slot].hosts.is_empty() && self.is_left(slot) {
                self.net.listeners[slot].hosts = Rc::default();
                some = true;
            }
        }
        if some {
            self.net.files.sweep();
        }
    }

    /// Whether a listener is no more, and no connection of it either.
    fn is_left(&self, slot: usize) -> bool {
        let connections = &self.net.connections;
        let is_its = |key| connections.get(key).is_some_and(|c| c.listener == slot);
        self.net.listeners[slot].socket.is_none() && !connections.keys().any(is_its)
    }

    /// Connections of this listener end with their next answer; idle ones get a moment for a last request.
    fn part_with(&mut self, slot: usize) {
        let idle = self.net.now_ms + LINGER_MS;
        for key in self.net.connections.keys().collect::<Vec<_>>() {
            let Some(c) = self.net.connections.get_mut(key).filter(|c| c.listener == slot) else { continue };
            if c.stream.is_some() {
                continue;
            }
            if let Some(session) = &mut c.session {
                session.parting = true;
                self.net.session_due(key);
                continue;
            }
            c.close = true;
            if c.phase == Phase::Head {
                c.deadline_ms = c.deadline_ms.min(idle);
            }
        }
    }
}

/// The sites of a listener, by their hosts.
fn hosts_of(listener: usize, config: &Config, compiled: &[Rc<Site>]) -> Hosts {
    let here = || config.sites.iter().zip(compiled).filter(|(site, _)| site.listeners.contains(&listener));
    let mut hosts = Hosts::default();
    for (site, compiled) in here() {
        hosts.add(&site.hosts, compiled);
    }
    if here().any(|(site, _)| site.when_secured.is_some()) {
        let mut secured = Hosts::default();
        for (site, itself) in here() {
            let other = site.when_secured.and_then(|place| compiled.get(place));
            secured.add(&site.hosts, other.unwrap_or(itself));
        }
        hosts.set_secured(secured);
    }
    hosts
}

/// What the supervisor has read.
struct Secrets {
    identities: Vec<Arc<Identity>>,
    authorities: Vec<Arc<Authorities>>,
    ticket_keys: Vec<TicketKey>,
}

impl Secrets {
    fn read(file: Option<OwnedFd>) -> io::Result<Self> {
        let texts: control::Secrets = serde_json::from_slice(&content(file)?)?;
        let identity = |t: &control::IdentityText| {
            Identity::new(t.chain.as_bytes(), t.key.as_bytes()).map(Arc::new).map_err(io::Error::other)
        };
        let authorities =
            |pem: &String| Authorities::new(pem.as_bytes()).map(Arc::new).map_err(io::Error::other);
        Ok(Self {
            identities: texts.identities.iter().map(identity).collect::<io::Result<_>>()?,
            authorities: texts.authorities.iter().map(authorities).collect::<io::Result<_>>()?,
            ticket_keys: texts.ticket_keys,
        })
    }

    fn of<'a>(&self, site: &'a config::Site) -> io::Result<Option<SiteTls<'a>>> {
        let Some(identity) = site.identity.and_then(|place| self.identities.get(place)) else {
            return Ok(None);
        };
        let missing = || io::Error::other("the authorities of a site are missing");
        let client = site
            .client
            .as_ref()
            .map(|rule| self.authorities.get(rule.place).map(|all| (rule, all.clone())).ok_or_else(missing));
        Ok(Some(SiteTls { hosts: &site.hosts, identity: identity.clone(), client: client.transpose()? }))
    }
}

/// What makes each listener's connections secure.
fn acceptors(
    config: &Config,
    secrets: &Secrets,
    tickets: &Arc<Tickets>,
) -> io::Result<Vec<Option<Acceptor>>> {
    let of = |index: usize, l: &config::Listener| {
        if !l.tls {
            return Ok(None);
        }
        let sites = config.sites.iter().filter(|s| s.listeners.contains(&index));
        let sites: Vec<_> = sites.filter_map(|s| secrets.of(s).transpose()).collect::<io::Result<_>>()?;
        Acceptor::new(&sites, tickets, config.server.strict_sni).map(Some).map_err(io::Error::other)
    };
    config.listeners.iter().enumerate().map(|(index, l)| of(index, l)).collect()
}

//! A new configuration while the old one serves: everything that can fail first, then the edge's word, then all of it.

use std::io;
use std::os::fd::OwnedFd;

use serde_json::Value;
use trivet_wire::control::ToEdge;

use super::{Next, Served, Service, ServiceError, now, open_access_logs};
use crate::identity::{Identities, sealed};
use crate::listen::Listener;
use crate::log::Level;
use crate::machine::{App, Event};
use crate::plain;
use crate::status::Outcome;

/// A configuration that the edge is being asked about.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) revision: u32,
    pub(super) next: Next,
    pub(super) identities: Identities,
    pub(super) logs: Vec<OwnedFd>,
    /// The number of each of its apps.
    pub(super) ids: Vec<u32>,
}

/// Somebody who waits for a reload.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) asker: u64,
    /// The configuration has not been decided about yet.
    pub(super) config: bool,
    pub(super) apps: Vec<u32>,
    pub(super) errors: Vec<String>,
}

impl Service {
    /// Takes up the configuration anew; without one, or for one app, replaces workers.
    pub(super) fn reload(&mut self, app: Option<&str>, asker: Option<u64>) {
        let wanted: Vec<u32> = match app {
            Some(name) => self.apps.iter().filter(|a| a.settings.name == name).map(|a| a.id).collect(),
            None => self.apps.iter().map(|a| a.id).collect(),
        };
        if let (Some(name), []) = (app, &wanted[..]) {
            return self.tell_asker(asker, Err(format!("there is no app `{name}`")));
        }
        if app.is_none() && self.settings.reread.is_some() {
            return self.reread(asker);
        }
        for served in self.apps.iter_mut().filter(|a| wanted.contains(&a.id)) {
            served.known_failure = None;
        }
        self.events.extend(wanted.iter().map(|&app| Event::ReloadApp { app }));
        if let Some(asker) = asker {
            self.waiting.push(Waiting { asker, config: false, apps: wanted, errors: Vec::new() });
        }
    }

    pub(super) fn tell_asker(&mut self, asker: Option<u64>, outcome: Result<String, String>) {
        if let (Some(asker), Some(control)) = (asker, &mut self.control) {
            let done = outcome.is_ok();
            control.tell(asker, &Outcome { done, message: outcome.unwrap_or_else(|e| e) });
        }
    }

    fn reread(&mut self, asker: Option<u64>) {
        if self.pending.is_some() {
            // The file as it will be then counts.
            return self.tell_asker(asker, Err("another reload is under way; try again".to_owned()));
        }
        let read = match &mut self.settings.reread {
            Some(reread) => (reread.0)(&self.settings.listeners),
            None => return,
        };
        match read.and_then(|next| self.prepare(next)) {
            Ok(pending) => {
                for warning in &pending.next.warnings {
                    self.log(Level::Warn, warning, &[]);
                }
                if let Some(asker) = asker {
                    let waiting = Waiting { asker, config: true, apps: Vec::new(), errors: Vec::new() };
                    self.waiting.push(waiting);
                }
                self.propose(pending);
            }
            Err(why) => {
                self.log(Level::Error, "the new configuration is not taken; going on with the old one", &[]);
                for line in why.lines() {
                    self.log(Level::Error, line, &[]);
                }
                self.tell_asker(asker, Err(why));
            }
        }
    }

    /// Everything that can fail, before anything is changed.
    fn prepare(&mut self, next: Next) -> Result<Pending, String> {
        let prepared = Identities::load(next.edge.identities.clone(), next.edge.authorities.clone(), now())
            .map_err(ServiceError::from)
            .and_then(|identities| Ok((identities, open_access_logs(&next.edge.logs)?)));
        let (identities, logs) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                next.new.into_iter().for_each(Listener::close);
                return Err(error.to_string());
            }
        };
        let mut last = self.app_last;
        let ids = next
            .apps
            .iter()
            .map(|new| {
                self.apps.iter().find(|a| a.settings.name == new.name).map_or_else(
                    || {
                        last += 1;
                        last
                    },
                    |a| a.id,
                )
            })
            .collect();
        self.app_last = last;
        self.revision += 1;
        Ok(Pending { revision: self.revision, next, identities, logs, ids })
    }

    /// Asks the edge. Without one the next edge will begin with it.
    fn propose(&mut self, pending: Pending) {
        if self.edge.as_ref().is_none_or(|e| e.link.is_none()) {
            return self.commit(pending);
        }
        let sockets: io::Result<Vec<OwnedFd>> = pending
            .next
            .listeners
            .iter()
            .map(|(bind, _)| {
                let all = self.settings.listeners.iter().chain(&pending.next.new);
                let found = all.into_iter().find(|l| l.bind == *bind);
                found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?.fd().try_clone_to_owned()
            })
            .collect();
        let config = &pending.next.edge.config;
        let secrets = pending.identities.file(&self.tickets);
        let fds = sockets.and_then(|sockets| edge_fds(config, &pending.ids, secrets, sockets, &pending.logs));
        match fds {
            Ok(fds) => {
                let revision = pending.revision;
                self.pending = Some(pending);
                self.tell_edge(&ToEdge::Configure { revision }, fds);
            }
            Err(error) => self.drop_pending(pending, &plain(&error)),
        }
    }

    pub(super) fn configured(&mut self, revision: u32, refused: Option<String>) {
        let Some(pending) = self.pending.take_if(|p| p.revision == revision) else { return };
        match refused {
            None => self.commit(pending),
            Some(why) => self.drop_pending(pending, &why),
        }
    }

    pub(super) fn drop_pending(&mut self, pending: Pending, why: &str) {
        pending.next.new.into_iter().for_each(Listener::close);
        let fields = [("why", why.to_owned())];
        self.log(Level::Error, "the new configuration is not taken; going on with the old one", &fields);
        for waiting in self.waiting.iter_mut().filter(|w| w.config) {
            waiting.config = false;
            waiting.errors.push(why.to_owned());
        }
    }

    /// The edge goes by the new configuration: so does everything else.
    fn commit(&mut self, pending: Pending) {
        let Pending { next, identities, logs, ids, .. } = pending;
        let mut there = std::mem::take(&mut self.settings.listeners);
        there.extend(next.new);
        for (bind, name) in next.listeners {
            if let Some(at) = there.iter().position(|l| l.bind == bind) {
                let mut listener = there.swap_remove(at);
                listener.name = name;
                self.settings.listeners.push(listener);
            }
        }
        there.into_iter().for_each(Listener::close);
        self.identities = identities;
        self.access_logs = logs;
        self.settings.edge = next.edge;
        let mut old = std::mem::take(&mut self.apps);
        let mut changed = Vec::new();
        for (id, settings) in ids.into_iter().zip(next.apps) {
            let policy = settings.policy;
            if let Some(at) = old.iter().position(|a| a.id == id) {
                let mut served = old.swap_remove(at);
                let restart = served.settings.worker != settings.worker;
                if restart {
                    changed.push(id);
                    served.known_failure = None;
                    served.before.get_or_insert(served.settings.worker);
                }
                if restart || served.settings.policy != policy {
                    self.events.push_back(Event::ChangeApp { app: id, policy, restart });
                }
                served.settings = settings;
                self.apps.push(served);
            } else {
                self.events.push_back(Event::AddApp(App { id, name: settings.name.clone(), policy }));
                self.apps.push(Served { id, settings, before: None, python: None, known_failure: None });
            }
        }
        self.events.extend(old.iter().map(|a| Event::RemoveApp { app: a.id }));
        for waiting in self.waiting.iter_mut().filter(|w| w.config) {
            waiting.config = false;
            waiting.apps.clone_from(&changed);
        }
        let fields = [("revision", self.revision.to_string())];
        self.log(Level::Info, "the configuration is in use", &fields);
    }

    pub(super) fn reload_failed(&mut self, app: u32) {
        let Some(served) = self.apps.iter_mut().find(|a| a.id == app) else { return };
        // Workers that are replaced from now on must not meet what the new ones could not start with.
        if let Some(before) = served.before.take() {
            served.settings.worker = before;
        }
        let why = served.known_failure.as_deref().unwrap_or("its workers did not start; see the log");
        let error = format!("app `{}`: {why}; the running workers stay", served.settings.name);
        for waiting in self.waiting.iter_mut().filter(|w| w.apps.contains(&app)) {
            waiting.errors.push(error.clone());
        }
    }

    /// Those who wait for a reload that is over.
    pub(super) fn answer_reloads(&mut self) {
        for served in &mut self.apps {
            if served.before.is_some() && !self.machine.is_reloading(served.id) {
                served.before = None;
            }
        }
        let busy = |w: &Waiting| w.config || w.apps.iter().any(|&app| self.machine.is_reloading(app));
        let (busy, over) = std::mem::take(&mut self.waiting).into_iter().partition(busy);
        self.waiting = busy;
        for Waiting { asker, errors, .. } in over {
            let outcome = if errors.is_empty() { Ok("reloaded".to_owned()) } else { Err(errors.join("\n")) };
            self.tell_asker(Some(asker), outcome);
        }
    }
}

/// What [`ToEdge::Configure`] takes along.
pub(super) fn edge_fds(
    config: &Value,
    ids: &[u32],
    secrets: io::Result<OwnedFd>,
    sockets: Vec<OwnedFd>,
    logs: &[OwnedFd],
) -> io::Result<Vec<OwnedFd>> {
    let mut config = config.clone();
    for (app, id) in config["apps"].as_array_mut().into_iter().flatten().zip(ids) {
        app["id"] = (*id).into();
    }
    let mut fds = vec![sealed(&serde_json::to_vec(&config)?)?, secrets?];
    fds.extend(sockets);
    for log in logs {
        fds.push(log.try_clone()?);
    }
    Ok(fds)
}

//! A new configuration while the old one serves: everything that can fail first, then the edge's word, then all of it.

use std::io;
use std::os::fd::OwnedFd;

use serde_json::Value;
use trivet_wire::channel::DESCRIPTORS_MAX;
use trivet_wire::control::{FromWorker, ToEdge, ToWorker, WorkerStart};

use super::{Next, Served, Service, ServiceError, now, open_access_logs, spawn_worker};
use crate::access_logs::AccessLogs;
use crate::identity::{Identities, sealed};
use crate::link::Link;
use crate::listen::{self, Listener};
use crate::log::Level;
use crate::machine::{App, Event};
use crate::status::Outcome;
use crate::{plain, process};

/// A configuration that the edge is being asked about.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) revision: u32,
    pub(super) next: Next,
    pub(super) identities: Identities,
    pub(super) logs: AccessLogs,
    /// The number of each of its apps.
    pub(super) ids: Vec<u32>,
}

/// Whether an app can be imported is tried before anything is changed.
#[derive(Debug)]
pub(super) struct Trial {
    name: String,
    pid: u32,
    pub(super) link: Link,
}

/// A configuration whose apps are being tried.
#[derive(Debug)]
pub(super) struct Trying {
    pending: Pending,
    pub(super) trials: Vec<Trial>,
}

impl Trying {
    fn give_up(self) -> Pending {
        self.trials.iter().for_each(|trial| process::kill_group(trial.pid));
        self.pending
    }
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
        if !self.machine.is_running() {
            return self.tell_asker(asker, Err("the server is stopping".to_owned()));
        }
        let wanted: Vec<u32> = match app {
            Some(name) => self.apps.iter().filter(|a| a.settings.name == name).map(|a| a.id).collect(),
            None => self.apps.iter().map(|a| a.id).collect(),
        };
        if let (Some(name), []) = (app, &wanted[..]) {
            return self.tell_asker(asker, Err(format!("there is no app `{name}`")));
        }
        if app.is_none() && self.settings.reread.is_some() {
            return self.reread(asker.as_slice());
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

    fn reread(&mut self, askers: &[u64]) {
        if let Some(trying) = self.trying.take() {
            // Imports may take long, or for ever: what the file says now counts.
            self.drop_pending(trying.give_up(), "it was reloaded again meanwhile");
        }
        if self.pending.is_some() {
            // The file as it will be then counts.
            self.reload_again.get_or_insert_default().extend(askers);
            return;
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
                for &asker in askers {
                    let waiting = Waiting { asker, config: true, apps: Vec::new(), errors: Vec::new() };
                    self.waiting.push(waiting);
                }
                self.try_apps(pending);
            }
            Err(why) => {
                self.log(Level::Error, "the new configuration is not taken; going on with the old one", &[]);
                for line in why.lines() {
                    self.log(Level::Error, line, &[]);
                }
                for &asker in askers {
                    self.tell_asker(Some(asker), Err(why.clone()));
                }
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

    /// Has the apps that are new or changed imported beside those that serve.
    fn try_apps(&mut self, pending: Pending) {
        let mut trials = Vec::new();
        for new in &pending.next.apps {
            let known = self.apps.iter().find(|a| a.settings.name == new.name);
            if known.is_some_and(|a| a.settings.worker == new.worker && !self.machine.is_unloaded(a.id)) {
                continue;
            }
            let started = spawn_worker(&new.worker, false, self.lines_end(), self.descriptors);
            let started = started.and_then(|(pid, mut link)| {
                let start = WorkerStart { check_only: true, reload: false, ..new.worker.start.clone() };
                link.send(&ToWorker::Start(start), Vec::new())?;
                Ok(Trial { name: new.name.clone(), pid, link })
            });
            match started {
                Ok(trial) => trials.push(trial),
                Err(error) => {
                    let why = format!("app `{}`: cannot start its Python: {}", new.name, plain(&error));
                    return self.drop_pending(Trying { pending, trials }.give_up(), &why);
                }
            }
        }
        self.trying = Some(Trying { pending, trials });
        self.read_trials();
    }

    /// Goes on when all apps have been imported, or one cannot be.
    pub(super) fn read_trials(&mut self) {
        let Some(trying) = &mut self.trying else { return };
        let mut failed = None;
        trying.trials.retain(|trial| {
            let why = match trial.link.receive().and_then(|m| m.map(|m| m.json()).transpose()) {
                Ok(None | Some(FromWorker::Changed { .. })) => return true,
                Ok(Some(FromWorker::Ready { .. })) => None,
                Ok(Some(FromWorker::ImportFailed { summary: why } | FromWorker::Unfit { why })) => Some(why),
                Err(_) => Some("its worker ended before it had imported the app".to_owned()),
            };
            process::kill_group(trial.pid);
            failed = failed.take().or(why.map(|why| format!("app `{}`: {why}", trial.name)));
            false
        });
        let over = failed.is_some() || trying.trials.is_empty();
        let Some(trying) = self.trying.take_if(|_| over) else { return };
        let pending = trying.give_up();
        match failed {
            Some(why) => self.drop_pending(pending, &why),
            None => self.propose(pending),
        }
    }

    /// Asks the edge. Without one the next edge will begin with it.
    fn propose(&mut self, mut pending: Pending) {
        // Time has passed since they were opened: they may have been moved away meanwhile.
        match open_access_logs(&pending.next.edge.logs) {
            Ok(logs) => pending.logs = logs,
            Err(error) => return self.drop_pending(pending, &error.to_string()),
        }
        let there: Vec<&Listener> = self.settings.listeners.iter().collect();
        let binds: Vec<_> = pending.next.listeners.iter().map(|(bind, _)| bind).collect();
        if let Err(error) = listen::begin(&pending.next.new, &there, &binds) {
            return self.drop_pending(pending, &error.to_string());
        }
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
        let logs = pending.logs.descriptors();
        let fds = sockets.and_then(|sockets| edge_fds(config, &pending.ids, secrets, sockets, logs?));
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
        self.catch_up();
    }

    /// Does what was asked for while another reload was under way, all of it at once.
    pub(super) fn catch_up(&mut self) {
        if let Some(askers) = self.reload_again.take() {
            self.reread(&askers);
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
        self.catch_up_with_files();
    }

    /// Logs and certificates of which the edge could not be told while it was being asked about others.
    fn catch_up_with_files(&mut self) {
        if std::mem::take(&mut self.reopen_after) {
            self.reopen_logs();
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
                let restart = served.settings.worker != settings.worker || self.machine.is_unloaded(id);
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
                changed.push(id);
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
        self.catch_up_with_files();
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
            if served.before.is_some() && !self.machine.is_changing(served.id) {
                served.before = None;
            }
        }
        let busy = |w: &Waiting| w.config || w.apps.iter().any(|&app| self.machine.is_changing(app));
        let (busy, over) = std::mem::take(&mut self.waiting).into_iter().partition(busy);
        self.waiting = busy;
        for Waiting { asker, mut errors, apps, .. } in over {
            for served in self.apps.iter().filter(|a| apps.contains(&a.id)) {
                if self.machine.is_unloaded(served.id) {
                    let why = served.known_failure.as_deref().unwrap_or("see the log");
                    errors.push(format!("app `{}` cannot be loaded: {why}", served.settings.name));
                }
            }
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
    logs: Vec<OwnedFd>,
) -> io::Result<Vec<OwnedFd>> {
    let mut config = config.clone();
    for (app, id) in config["apps"].as_array_mut().into_iter().flatten().zip(ids) {
        app["id"] = (*id).into();
    }
    if sockets.len() + logs.len() + 2 > DESCRIPTORS_MAX {
        let most = DESCRIPTORS_MAX - 2;
        return Err(io::Error::other(format!("more than {most} addresses and access logs together")));
    }
    let mut fds = vec![sealed(&serde_json::to_vec(&config)?)?, secrets?];
    fds.extend(sockets);
    fds.extend(logs);
    Ok(fds)
}

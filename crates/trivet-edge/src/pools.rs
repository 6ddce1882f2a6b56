//! The apps' pools, each with its workers and its queue, and how a worker is named among them all.

use std::rc::Rc;

use trivet_pool::{Limits, Pool, Worker};
use trivet_wire::control::Transport;

use crate::config;
use crate::route::AppRef;

/// A worker's place: its app's among the pools, its own among the app's workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) app: u16,
    pub(crate) index: u16,
}

impl Seat {
    pub(crate) fn new(app: u16, index: usize) -> Self {
        Self { app, index: index as u16 }
    }

    /// For the low half of an epoll token.
    pub(crate) fn token(self) -> u32 {
        u32::from(self.app) << 16 | u32::from(self.index)
    }

    pub(crate) fn of_token(token: u32) -> Self {
        Self { app: (token >> 16) as u16, index: token as u16 }
    }
}

/// One app's pool.
pub(crate) struct AppPool {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) timeout_ms: u64,
    pub(crate) pool: Pool,
    /// Everybody who may still send a request to this app has one.
    place: Rc<()>,
    /// The configuration does not have the app any more.
    pub(crate) removed: bool,
    /// It came with a reload, and none of its workers is there yet: nobody is told that the others do not serve.
    pub(crate) is_new: bool,
    /// Workers to be retired once nobody can send a request any more.
    pub(crate) retiring: Vec<u32>,
}

impl AppPool {
    fn new(app: &config::App, transport: Transport, generation: u32) -> Self {
        Self {
            id: app.id,
            name: app.name.clone(),
            timeout_ms: app.timeout_ms,
            pool: Pool::new(limits(app), transport, generation),
            place: Rc::new(()),
            removed: false,
            is_new: false,
            retiring: Vec::new(),
        }
    }

    /// Whether a request can be served now or soon.
    pub(crate) fn serves(&self) -> bool {
        self.removed || self.is_new || self.pool.workers().any(|w| w.accepting && w.slots > 0)
    }

    /// Whether nobody can send it a request any more.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.removed && Rc::strong_count(&self.place) == 1
    }
}

/// All of them, by their places.
#[derive(Default)]
pub(crate) struct Pools {
    pub(crate) list: Vec<AppPool>,
}

impl Pools {
    #[inline]
    pub(crate) fn worker(&mut self, seat: Seat) -> Option<&mut Worker> {
        self.list.get_mut(usize::from(seat.app))?.pool.worker(seat.index.into())
    }

    /// The pool that a worker belongs to.
    pub(crate) fn of(&mut self, seat: Seat) -> &mut Pool {
        &mut self.list[usize::from(seat.app)].pool
    }
}

fn limits(app: &config::App) -> Limits {
    Limits {
        queue_length_max: app.queue_length_max as usize,
        queue_ns: app.queue_ms.saturating_mul(1_000_000),
    }
}

/// Brings the pools up to the configuration's apps; the routes' ends of them, in the order of the configuration.
pub(crate) fn take_apps(
    pools: &mut Vec<AppPool>,
    apps: &[config::App],
    transport: Transport,
    generation: u32,
) -> Vec<Rc<AppRef>> {
    let first = pools.is_empty();
    for pool in pools.iter_mut() {
        pool.removed = !apps.iter().any(|a| a.id == pool.id);
    }
    let mut taken = Vec::new();
    for app in apps {
        let known = pools.iter().position(|p| p.id == app.id);
        let slot = known.unwrap_or_else(|| {
            let mut new = AppPool::new(app, transport, generation);
            new.is_new = !first;
            let free = pools.iter().position(|p| p.is_forgotten() && p.pool.workers().next().is_none());
            let slot = free.unwrap_or(pools.len());
            match pools.get_mut(slot) {
                Some(place) => *place = new,
                None => pools.push(new),
            }
            slot
        });
        let pool = &mut pools[slot];
        pool.name.clone_from(&app.name);
        pool.timeout_ms = app.timeout_ms;
        pool.pool.set_limits(limits(app));
        taken.push(Rc::new(AppRef { slot: slot as u16, place: pool.place.clone(), config: app.clone() }));
    }
    taken
}

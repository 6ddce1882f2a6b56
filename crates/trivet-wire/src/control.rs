//! What the processes tell each other besides requests: JSON messages over a [`Channel`](crate::channel::Channel).
//!
//! Each child's descriptor 3 is its channel to the supervisor, which is its lifeline too.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The descriptor number at which every child finds its channel to the supervisor.
pub const CHANNEL_FD: i32 = 3;

/// Supervisor to edge.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToEdge {
    /// The configuration, as first message and whenever it has changed. Descriptors: files with the configuration and
    /// with [`Secrets`] (both JSON), the listeners in its order, the access logs in its order. Each but the first
    /// is answered by [`FromEdge::Configured`].
    Configure { revision: u32 },
    /// A worker of an app is ready. Descriptor: the channel to it.
    Worker { app: u32, worker: u32, pid: u32, slots: u16 },
    /// Give this worker no new request, take back what it has not started; [`FromEdge::Idle`] when it has none left.
    Retire { worker: u32 },
    /// This worker is dead.
    Gone { worker: u32 },
    /// Whether requests for this app may wait for a worker, as they may at first; else they are refused at once.
    Hope { app: u32, hope: bool },
    /// Descriptors: the access logs, opened anew.
    ReopenLogs,
    /// Descriptor: a file with [`Secrets`], the certificates in the order of those before.
    Secrets,
    /// Finish within this time and say [`FromEdge::Drained`].
    Drain { within_ms: u64 },
    /// Asks for [`FromEdge::Status`].
    Status,
}

/// Edge to supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromEdge {
    /// Serving.
    Ready,
    /// The configuration is in use; or why it is not, and the one before still is.
    Configured {
        revision: u32,
        refused: Option<String>,
    },
    /// The retired worker has nothing in hand any more.
    Idle {
        worker: u32,
    },
    /// A request of this worker is past its time: it has been answered with 504 or cut. The worker gets no new
    /// request; it must be dumped and replaced.
    Stuck {
        worker: u32,
        request_id: String,
        request_line: String,
        seconds: f64,
    },
    /// The worker broke the contract (its ring or frames are not believable): replace it.
    Broken {
        worker: u32,
        why: String,
    },
    Drained,
    /// Nobody takes what is written to the socket of an access log: another one is wanted.
    LogGone,
    Status(Value),
}

/// Supervisor to worker.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToWorker {
    /// First message.
    Start(WorkerStart),
    /// An edge. Descriptor: the channel to it, which says [`Attach`] first.
    Edge { generation: u32 },
    /// No request will come any more: call what is to be called at exit and end.
    Quit,
}

/// What a worker is told at its start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerStart {
    /// Version and build of the binary: compared with the extension's.
    pub build: String,
    pub worker: u32,
    /// `MODULE:APP`, `MODULE` or `MODULE:FACTORY()`.
    pub app: String,
    /// Folder that the worker is in and that stands first in `sys.path`.
    pub chdir: String,
    /// Further folders for `sys.path`.
    pub pythonpath: Vec<String>,
    /// `site-packages` of ours, for the public `trivet` package where the app's own Python has none; goes last.
    pub fallback_path: Option<String>,
    pub threads: u16,
    /// More than one worker process serves the app (`wsgi.multiprocess`).
    pub multiprocess: bool,
    /// Watch the loaded files and tell [`FromWorker::Changed`].
    pub reload: bool,
    /// Only import the app, tell [`FromWorker::Ready`] and end.
    pub check_only: bool,
    /// Process title, shown by `ps`.
    pub title: String,
    /// Why the last worker could not import the app: the same failure is not printed again.
    #[serde(default)]
    pub known_failure: Option<String>,
}

/// Worker to supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromWorker {
    /// The app is imported; slots may be offered.
    Ready { python: String, app: String },
    /// The app cannot be imported; the traceback has been printed to the standard error.
    ImportFailed { summary: String },
    /// The extension does not fit the binary or the interpreter.
    Unfit { why: String },
    /// A loaded file changed.
    Changed { path: String },
}

/// Edge to worker, first message on their channel. Descriptors: for [`Transport::Ring`] the memory, the worker's
/// bell, the edge's bell; for [`Transport::Socket`] the stream.
#[derive(Debug, Serialize, Deserialize)]
pub struct Attach {
    pub version: u32,
    pub transport: Transport,
    pub generation: u32,
    pub tickets: u16,
    pub request_bytes: u32,
    pub response_bytes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Ring,
    Socket,
}

/// Worker to edge: attached; `slots` are free now, each further one comes with [`Free`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Attached {
    pub slots: u16,
}

/// Worker to edge: a slot that was busy for an earlier edge is free now.
#[derive(Debug, Serialize, Deserialize)]
pub struct Free {
    pub free: u16,
}

/// Ticket keys are changed so often, and good for as long again.
pub const TICKET_KEY_SECONDS: u32 = 12 * 60 * 60;

/// What the edge may know and nobody else.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Secrets {
    /// By their place in the configuration.
    pub identities: Vec<IdentityText>,
    /// Certificates of those who issue clients' certificates, PEM, by their place in the configuration.
    pub authorities: Vec<String>,
    /// The first makes session tickets, all of them read them.
    pub ticket_keys: Vec<TicketKey>,
}

/// A key for session tickets and the name that it has in them.
#[derive(Clone, Serialize, Deserialize)]
pub struct TicketKey {
    pub name: [u8; 16],
    pub key: [u8; 32],
}

impl std::fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TicketKey").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A certificate chain and its key, both PEM, as the supervisor passes them to the edge.
#[derive(Clone, Serialize, Deserialize)]
pub struct IdentityText {
    pub chain: String,
    pub key: String,
}

impl std::fmt::Debug for IdentityText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key is nobody's to see.
        f.debug_struct("IdentityText").field("chain", &self.chain).finish_non_exhaustive()
    }
}

//! Why a request or connection ended: one word for each way, for the access log.

/// The first thing that went wrong, or that nothing did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Ending {
    /// The answer was handed over whole.
    #[default]
    Done,
    /// The client closed its connection before it had the whole answer.
    ClientClosed,
    /// The client took its stream of HTTP/2 back.
    Reset,
    /// The request's head did not come in time.
    HeadTimeout,
    /// The request's body did not come in time.
    BodyTimeout,
    /// The client did not take the answer in time.
    SendTimeout,
    /// The request is none that may be served.
    Refused,
    /// It is larger than a limit.
    Limit,
    /// The app's queue was full, or the request was in it for too long.
    Overload,
    /// No worker of the app starts.
    AppDown,
    /// The app took longer than it may.
    AppTimeout,
    /// The app's process ended, or had to be ended, with the request in hand.
    AppDied,
    /// The app failed, and gave no answer or a part of one.
    AppError,
    /// The body had fewer bytes than the answer's head had said.
    CutShort,
    /// A failure of the server's own: no space for a body, a file that cannot be read.
    ServerError,
    /// The server was told to stop, and its time for that was over.
    Shutdown,
}

impl Ending {
    /// Of a request that was refused with this status.
    pub(crate) fn of_refusal(status: u16) -> Self {
        match status {
            413 | 414 | 431 => Self::Limit,
            _ => Self::Refused,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::ClientClosed => "client-closed",
            Self::Reset => "reset",
            Self::HeadTimeout => "head-timeout",
            Self::BodyTimeout => "body-timeout",
            Self::SendTimeout => "send-timeout",
            Self::Refused => "refused",
            Self::Limit => "limit",
            Self::Overload => "overload",
            Self::AppDown => "app-down",
            Self::AppTimeout => "app-timeout",
            Self::AppDied => "app-died",
            Self::AppError => "app-error",
            Self::CutShort => "cut-short",
            Self::ServerError => "server-error",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Connections that ended without any request; there is no line of theirs in an access log.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unused {
    pub(crate) closed: u64,
    pub(crate) timed_out: u64,
    pub(crate) refused: u64,
}

impl Unused {
    /// Counts one; the word for it.
    pub(crate) fn count(&mut self, ending: Ending) -> Option<&'static str> {
        let (count, word) = match ending {
            Ending::ClientClosed | Ending::Reset => (&mut self.closed, "closed by the client"),
            Ending::HeadTimeout | Ending::BodyTimeout | Ending::SendTimeout => {
                (&mut self.timed_out, "timed out")
            }
            Ending::Refused | Ending::Limit => (&mut self.refused, "refused"),
            // Our own doing, or nothing that a connection without a request can end by.
            Ending::Done
            | Ending::Overload
            | Ending::AppDown
            | Ending::AppTimeout
            | Ending::AppDied
            | Ending::AppError
            | Ending::CutShort
            | Ending::ServerError
            | Ending::Shutdown => return None,
        };
        *count += 1;
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_has_each_word_and_no_other() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/logging.md");
        let guide = std::fs::read_to_string(path).expect("the guide is there");
        let (_, table) = guide.split_once("| ended | ").expect("the table of endings");
        let rows = table.lines().skip(2).map_while(|line| line.strip_prefix("| `"));
        let told: Vec<&str> = rows.filter_map(|row| row.split('`').next()).collect();
        // All numbers up to the last one are endings: the compiler keeps `word` complete.
        let ours = [
            Ending::Done,
            Ending::ClientClosed,
            Ending::Reset,
            Ending::HeadTimeout,
            Ending::BodyTimeout,
            Ending::SendTimeout,
            Ending::Refused,
            Ending::Limit,
            Ending::Overload,
            Ending::AppDown,
            Ending::AppTimeout,
            Ending::AppDied,
            Ending::AppError,
            Ending::CutShort,
            Ending::ServerError,
            Ending::Shutdown,
        ];
        assert_eq!(ours.len(), Ending::Shutdown as usize + 1);
        assert_eq!(told, ours.map(Ending::word));
    }
}

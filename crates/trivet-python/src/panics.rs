//! A panic ends the process, which is started again, except in [`caught`]: around a library that panics on what
//! somebody else sends. That needs `panic = "unwind"`; with `abort` everything ends the process.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Of all modules of the library the first one to be imported calls it: for threads of ours, and for calls from
/// Python, which would else see an exception and go on with what was left half done.
pub(crate) fn end_the_process() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            if !CATCHING.get() {
                tell(panicked);
                std::process::abort();
            }
        }));
    });
}

/// The result of `work`, or None if it panicked. What it had borrowed must not be used any more, only dropped; and
/// what is dropped while it unwinds must not panic again.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Option<T> {
    let before = CATCHING.replace(true);
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(before);
    done.ok()
}

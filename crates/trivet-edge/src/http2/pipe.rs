//! What the protocol machine takes for its socket: two buffers in memory.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Frames that wait for the socket; beyond this the machine makes no further ones.
pub(super) const OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// Empty buffers larger than this are given back.
const KEPT_BYTES: usize = 16 * 1024;

#[derive(Debug, Default)]
struct Buffers {
    input: Vec<u8>,
    input_at: usize,
    output: Vec<u8>,
}

/// Shared by the machine and its [`Session`](super::Session).
///
/// It never wakes anybody: the session polls after each change.
#[derive(Clone, Debug, Default)]
pub(super) struct Pipe(Rc<RefCell<Buffers>>);

impl Pipe {
    pub(super) fn put(&self, data: &[u8]) {
        self.0.borrow_mut().input.extend_from_slice(data);
    }

    /// Bytes that the machine has not taken yet.
    pub(super) fn input_bytes(&self) -> usize {
        let buffers = self.0.borrow();
        buffers.input.len() - buffers.input_at
    }

    pub(super) fn output_bytes(&self) -> usize {
        self.0.borrow().output.len()
    }

    /// Exchanges the output for an empty buffer.
    pub(super) fn swap_output(&self, empty: &mut Vec<u8>) {
        std::mem::swap(&mut self.0.borrow_mut().output, empty);
    }

    /// Takes the buffer back whose bytes have been sent.
    pub(super) fn recycle(&self, mut sent: Vec<u8>) {
        sent.clear();
        if sent.capacity() <= KEPT_BYTES {
            self.0.borrow_mut().output = sent;
        }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut guard = self.0.borrow_mut();
        let buffers = &mut *guard;
        let rest = &buffers.input[buffers.input_at..];
        if rest.is_empty() {
            return Poll::Pending;
        }
        let n = rest.len().min(into.remaining());
        into.put_slice(&rest[..n]);
        buffers.input_at += n;
        if buffers.input_at == buffers.input.len() {
            buffers.input_at = 0;
            buffers.input.clear();
            if buffers.input.capacity() > KEPT_BYTES {
                buffers.input = Vec::new();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let output = &mut self.0.borrow_mut().output;
        if output.len() >= OUTPUT_BYTES_MAX {
            return Poll::Pending;
        }
        output.extend_from_slice(data);
        Poll::Ready(Ok(data.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let output = &mut self.0.borrow_mut().output;
        if output.len() >= OUTPUT_BYTES_MAX {
            return Poll::Pending;
        }
        let before = output.len();
        for part in parts {
            output.extend_from_slice(part);
        }
        Poll::Ready(Ok(output.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

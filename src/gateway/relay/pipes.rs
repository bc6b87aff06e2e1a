//! A worker's pipes for splice: borrowed while bytes are in flight, returned empty.
//!
//! A pipe costs 5 µs to make, so it is kept for the next who needs one. A pipe that still holds
//! bytes is closed, never pooled: a byte of one connection must not appear on another. Must not
//! know: sockets, flows.

use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use rustix::pipe::PipeFlags;

/// What all workers may make together. The kernel gives one user, on the whole node, 1,024 pipes
/// of 64 KiB and shrinks the rest to 8 KiB (`fs.pipe-user-pages-soft`).
#[derive(Debug)]
pub struct PipeBudget {
    max: usize,
    made: AtomicUsize,
    denied: AtomicU64,
}

impl PipeBudget {
    /// A budget of `max` pipes; 0 means that everything is copied.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max, made: AtomicUsize::new(0), denied: AtomicU64::new(0) }
    }

    /// Pipes that exist now.
    #[must_use]
    pub fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }

    /// How often no pipe could be had, and bytes were copied instead.
    #[must_use]
    pub fn denied(&self) -> u64 {
        self.denied.load(Ordering::Relaxed)
    }
}

/// The idle pipes of one worker.
#[derive(Debug)]
pub(in crate::gateway) struct PipePool {
    budget: Arc<PipeBudget>,
    idle: RefCell<Vec<Ends>>,
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

impl PipePool {
    pub(in crate::gateway) fn new(budget: Arc<PipeBudget>) -> Self {
        Self { budget, idle: RefCell::default() }
    }

    /// An empty pipe, or `None` when the budget or the kernel has none: then bytes are copied.
    pub(super) fn borrow(self: &Rc<Self>) -> Option<Pipe> {
        let ends = self.idle.borrow_mut().pop().or_else(|| self.make());
        if ends.is_none() {
            self.budget.denied.fetch_add(1, Ordering::Relaxed);
        }
        Some(Pipe { ends: Some(ends?), held: 0, pool: Rc::clone(self) })
    }

    fn make(&self) -> Option<Ends> {
        if self.budget.made.fetch_add(1, Ordering::Relaxed) < self.budget.max {
            let flags = PipeFlags::NONBLOCK | PipeFlags::CLOEXEC;
            if let Ok((read, write)) = rustix::pipe::pipe_with(flags) {
                return Some(Ends { read, write });
            }
        }
        self.budget.made.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for PipePool {
    fn drop(&mut self) {
        self.budget.made.fetch_sub(self.idle.borrow().len(), Ordering::Relaxed);
    }
}

/// A borrowed pipe. On drop it goes back to the pool when empty and is closed when not.
#[derive(Debug)]
pub(super) struct Pipe {
    ends: Option<Ends>,
    /// Bytes inside. Never compared with a capacity: a 64 KiB pipe was seen to hold 264,704.
    held: usize,
    pool: Rc<PipePool>,
}

impl Pipe {
    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Notes that `n` bytes went in.
    pub(super) fn filled(&mut self, n: usize) {
        self.held += n;
    }

    /// Notes that `n` bytes went out.
    pub(super) fn emptied(&mut self, n: usize) {
        self.held = self.held.saturating_sub(n);
    }

    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Takes the bytes out again, for a sink that they cannot be spliced into.
    ///
    /// # Errors
    /// What `read(2)` says; the pipe is closed then, and what it held is lost.
    pub(super) fn into_bytes(mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.held);
        while self.held > 0 {
            let mut chunk = [0; 4096];
            let end = self.read_end()?;
            let n = rustix::io::retry_on_intr(|| rustix::io::read(end, &mut chunk))?;
            bytes.extend_from_slice(chunk.get(..n).unwrap_or_default());
            self.held = if n == 0 { 0 } else { self.held.saturating_sub(n) };
        }
        Ok(bytes)
    }

    pub(super) fn read_end(&self) -> io::Result<BorrowedFd<'_>> {
        self.ends.as_ref().map(|e| e.read.as_fd()).ok_or_else(gone)
    }

    pub(super) fn write_end(&self) -> io::Result<BorrowedFd<'_>> {
        self.ends.as_ref().map(|e| e.write.as_fd()).ok_or_else(gone)
    }
}

fn gone() -> io::Error {
    io::Error::other("the pipe was returned")
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let Some(ends) = self.ends.take() else { return };
        if self.held == 0 {
            self.pool.idle.borrow_mut().push(ends);
        } else {
            drop(ends);
            self.pool.budget.made.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_pipe_can_be_taken_out_and_the_pipe_is_clean() {
        let pool = Rc::new(PipePool::new(Arc::new(PipeBudget::new(1))));
        let mut pipe = pool.borrow().expect("a pipe");
        let bytes: Vec<u8> = (0..10_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let written = rustix::io::write(pipe.write_end().expect("an end"), &bytes);
        pipe.filled(written.expect("room for it"));
        assert_eq!(pipe.into_bytes().expect("bytes"), bytes);
        assert!(pool.borrow().expect("the same pipe").is_empty());
    }

    #[test]
    fn an_empty_pipe_is_pooled_and_a_dirty_one_is_closed() {
        let budget = Arc::new(PipeBudget::new(2));
        let pool = Rc::new(PipePool::new(Arc::clone(&budget)));
        let mut dirty = pool.borrow().expect("a pipe");
        let clean = pool.borrow().expect("a pipe");
        assert!(pool.borrow().is_none(), "the budget is two");
        assert_eq!((budget.made(), budget.denied()), (2, 1));
        dirty.filled(1);
        drop(dirty);
        drop(clean);
        assert_eq!((budget.made(), pool.idle.borrow().len()), (1, 1));
        drop(pool);
        assert_eq!(budget.made(), 0);
    }
}

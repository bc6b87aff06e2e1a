//! One direction of a bare relay: copies small, splices bulk. Must not know: epoll.

use std::os::fd::OwnedFd;

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown},
    pipe::{PipeFlags, SpliceFlags},
};

/// Where bytes are copied through; nothing stays in it between two calls.
const SCRATCH_BYTES: usize = 64 << 10;
/// As many reads in a row that took this much make a flow bulk: from then on it is spliced.
const BULK_READS: u8 = 3;
const BULK_READ_BYTES: usize = 32 << 10;
/// A splice that moved less ends that.
const QUIET_BYTES: usize = 8 << 10;
/// At most this much for one flow before the others have their turn.
const TURN_BYTES: usize = 1 << 20;

type Pipe = (OwnedFd, OwnedFd);

/// What all flows share.
pub(super) struct Tools {
    scratch: Box<[u8]>,
    /// Empty pipes: making one costs as much as a few copies.
    pipes: Vec<Pipe>,
}

impl Tools {
    pub(super) fn new() -> Self {
        Self { scratch: vec![0; SCRATCH_BYTES].into(), pipes: Vec::new() }
    }

    fn pipe(&mut self) -> Option<Pipe> {
        let fresh = || rustix::pipe::pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok();
        self.pipes.pop().or_else(fresh)
    }
}

/// What came of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// The kernel will tell when there is more to do.
    Waits,
    /// There is more to do already.
    More,
    /// The end has come and was passed on.
    Done,
    /// A socket has failed.
    Broken,
}

/// One direction.
pub(super) struct Flow {
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The kernel has told of the end, and will not tell again: read until it is seen.
    pub(super) ending: bool,
    ended: bool,
    done: bool,
    bulk_reads: u8,
    bulk: bool,
    /// Read but not written yet; without capacity when there is nothing.
    rest: Vec<u8>,
    /// A pipe and how much is in it; none while the flow waits for bytes.
    pipe: Option<Box<(Pipe, usize)>>,
}

impl Flow {
    pub(super) fn new() -> Self {
        Self {
            // To try costs no more than to be told, and mostly it can.
            readable: true,
            writable: true,
            ending: false,
            ended: false,
            done: false,
            bulk_reads: 0,
            bulk: false,
            rest: Vec::new(),
            pipe: None,
        }
    }

    pub(super) fn advance(&mut self, from: &OwnedFd, to: &OwnedFd, tools: &mut Tools) -> Moved {
        if self.done {
            return Moved::Done;
        }
        self.turn(from, to, tools).unwrap_or(Moved::Broken)
    }

    /// Gives back what is lent. A pipe with bytes in it is closed instead.
    pub(super) fn end(mut self, tools: &mut Tools) {
        self.return_pipe(tools);
    }

    fn turn(&mut self, from: &OwnedFd, to: &OwnedFd, tools: &mut Tools) -> Result<Moved, Errno> {
        let mut moved = 0;
        loop {
            if !self.write_rest(to)? {
                return Ok(Moved::Waits);
            }
            if self.ended {
                self.return_pipe(tools);
                rustix::net::shutdown(to, Shutdown::Write)?;
                self.done = true;
                return Ok(Moved::Done);
            }
            if !self.readable {
                self.return_pipe(tools);
                return Ok(Moved::Waits);
            }
            if moved >= TURN_BYTES {
                return Ok(Moved::More);
            }
            if self.bulk && self.pipe.is_none() {
                self.pipe = tools.pipe().map(|pipe| Box::new((pipe, 0)));
                self.bulk = self.pipe.is_some();
            }
            moved += if self.bulk { self.splice_in(from)? } else { self.copy(from, to, tools)? };
        }
    }

    /// Writes what is held back; false when the socket is full.
    fn write_rest(&mut self, to: &OwnedFd) -> Result<bool, Errno> {
        loop {
            // One of the two, never both: nothing is read while anything is held.
            let piped = self.pipe.as_ref().map_or(0, |pipe| pipe.1);
            if piped == 0 && self.rest.is_empty() {
                return Ok(true);
            }
            if !self.writable {
                return Ok(false);
            }
            let written = match &mut self.pipe {
                Some(pipe) if piped > 0 => splice(&pipe.0.0, to, piped).inspect(|n| pipe.1 -= n),
                _ => rustix::net::send(to, &self.rest, SendFlags::NOSIGNAL).inspect(|n| {
                    self.rest.drain(..n);
                }),
            };
            match written {
                Ok(_) => {}
                Err(Errno::AGAIN) => self.writable = false,
                Err(e) => return Err(e),
            }
            if self.rest.is_empty() {
                self.rest = Vec::new();
            }
        }
    }

    fn copy(&mut self, from: &OwnedFd, to: &OwnedFd, tools: &mut Tools) -> Result<usize, Errno> {
        let read = match rustix::net::recv(from, &mut *tools.scratch, RecvFlags::empty()) {
            Ok((n, _)) => n,
            Err(Errno::AGAIN) => {
                self.readable = false;
                return Ok(0);
            }
            Err(e) => return Err(e),
        };
        self.ended = read == 0;
        // A read that did not fill the buffer has emptied the socket: the next byte is an event.
        self.readable = self.ending || read == tools.scratch.len();
        self.bulk_reads = if read >= BULK_READ_BYTES { self.bulk_reads + 1 } else { 0 };
        if read == 0 {
            return Ok(0);
        }
        let written = match rustix::net::send(to, &tools.scratch[..read], SendFlags::NOSIGNAL) {
            Ok(n) => n,
            Err(Errno::AGAIN) => 0,
            Err(e) => return Err(e),
        };
        if written < read {
            self.writable = false;
            self.rest = tools.scratch[written..read].to_vec();
        } else if self.bulk_reads >= BULK_READS {
            self.bulk_reads = 0;
            self.bulk = true;
        }
        Ok(read)
    }

    /// Only ever into an empty pipe: then "try again" is about the socket and not about the pipe.
    fn splice_in(&mut self, from: &OwnedFd) -> Result<usize, Errno> {
        let Some(pipe) = &mut self.pipe else { return Ok(0) };
        match splice(from, &pipe.0.1, TURN_BYTES) {
            Ok(n) => {
                self.ended = n == 0;
                self.bulk = n >= QUIET_BYTES;
                pipe.1 = n;
                Ok(n)
            }
            Err(Errno::AGAIN) => {
                self.readable = false;
                Ok(0)
            }
            Err(e) => Err(e),
        }
    }

    fn return_pipe(&mut self, tools: &mut Tools) {
        if let Some((pipe, 0)) = self.pipe.take().map(|pipe| *pipe) {
            tools.pipes.push(pipe);
        }
    }
}

fn splice(from: &OwnedFd, to: &OwnedFd, most: usize) -> Result<usize, Errno> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    rustix::pipe::splice(from, None, to, None, most, flags)
}

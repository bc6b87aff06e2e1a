//! When operations begin: as fast as they are done, or at a rate that does not wait for them.
//!
//! In an open loop an operation is due at an instant, and its latency counts from there: a gateway
//! that stalls is charged for everything that was due meanwhile (no coordinated omission). Must
//! not know: what an operation is.

use std::{
    cell::Cell,
    io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::net;

/// Hands out the instants at which operations are due, to all clients together.
#[derive(Debug)]
pub struct Arrivals {
    start: Instant,
    /// Between two operations; `None`: closed loop.
    gap: Option<Duration>,
    deadline: Option<Instant>,
    count: u64,
    begun: Cell<u64>,
}

impl Arrivals {
    /// Begins now.
    #[must_use]
    pub fn new(rate: Option<f64>, duration: Option<Duration>, count: Option<u64>) -> Self {
        let start = Instant::now();
        Self {
            start,
            gap: rate.map(|rate| Duration::from_secs_f64(1.0 / rate)),
            // None too for one that no clock can tell.
            deadline: duration.and_then(|d| start.checked_add(d)),
            count: count.unwrap_or(u64::MAX),
            begun: Cell::new(0),
        }
    }

    /// Waits until the next operation is due; `None` when there are no more.
    pub async fn next(&self, alarm: &Alarm) -> Option<Instant> {
        let turn = self.begun.get();
        if turn >= self.count {
            return None;
        }
        let due = match self.gap {
            Some(gap) => self.start + gap.mul_f64(turn as f64),
            None => Instant::now(),
        };
        if self.deadline.is_some_and(|deadline| due >= deadline) {
            return None;
        }
        self.begun.set(turn + 1);
        // A timer that cannot be set is no reason to be early without a word: it is then late.
        alarm.until(due).await.ok()?;
        Some(due)
    }

    /// How many operations were begun.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.begun.get()
    }
}

/// Wakes at an instant, to the microsecond: the runtime's own timers are good to a millisecond.
#[derive(Debug)]
pub struct Alarm {
    timer: AsyncFd<OwnedFd>,
}

impl Alarm {
    /// Takes a kernel timer.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { timer: net::sys::watch_timer(timer)? })
    }

    /// Waits until `due`; not at all when it is past.
    ///
    /// # Errors
    /// What the kernel says of its timer.
    pub async fn until(&self, due: Instant) -> io::Result<()> {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let once = Itimerspec { it_interval: zero, it_value: value };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        let read = |timer: &OwnedFd| Ok(rustix::io::read(timer, &mut [0; 8])?);
        self.timer.async_io(Interest::READABLE, read).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instants(arrivals: &Arrivals) -> Vec<Duration> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let alarm = Alarm::new().unwrap();
            let mut due = Vec::new();
            while let Some(at) = arrivals.next(&alarm).await {
                assert!(Instant::now() >= at, "never early");
                due.push(at - arrivals.start);
            }
            due
        })
    }

    #[test]
    fn an_open_loop_is_due_at_its_rate_whatever_happens() {
        let arrivals = Arrivals::new(Some(1000.0), None, Some(20));
        let due = instants(&arrivals);
        let expected: Vec<_> = (0..20).map(Duration::from_millis).collect();
        assert_eq!(due, expected);
    }

    #[test]
    fn both_bounds_hold() {
        let by_time = Arrivals::new(Some(1000.0), Some(Duration::from_millis(10)), None);
        assert_eq!(instants(&by_time).len(), 10);
        assert_eq!(instants(&Arrivals::new(None, None, Some(7))).len(), 7);
        let none = Arrivals::new(None, Some(Duration::ZERO), None);
        assert_eq!((instants(&none).len(), none.begun()), (0, 0));
    }
}

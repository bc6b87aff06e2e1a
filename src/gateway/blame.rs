//! Which endpoint a failure counts against, and when.
//!
//! What can only be the endpoint's doing counts at once: it could not be connected to, or it reset
//! before any byte. An alert, a close or silence may be the answer that the ClientHello deserves:
//! it counts only when another endpoint answered the same hello by a ServerHello. So a stranger
//! whose hellos nobody can answer ejects nobody. Must not know: what ejection leads to.

use std::{io, sync::Arc, time::Instant};

use rustix::io::Errno;

use super::{connect::DialError, first_flight::Failure, metrics::Metrics};
use crate::routing::{Endpoint, EndpointSet, Fault, Route};

/// The endpoints of one connection that failed, while it is not known whose doing it was.
#[derive(Debug, Default)]
pub(super) struct Blame {
    suspects: Vec<Arc<Endpoint>>,
}

/// Where a failure is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Court<'a> {
    pub(super) set: &'a EndpointSet,
    pub(super) route: &'a Route,
    pub(super) metrics: &'a Metrics,
}

impl Blame {
    /// An endpoint did not answer the hello as it should.
    pub(super) fn failed(&mut self, court: Court<'_>, endpoint: &Arc<Endpoint>, failure: Failure) {
        match failure {
            Failure::Reset => court.count(endpoint, Fault::Connection),
            Failure::Closed | Failure::Silent | Failure::Alert => {
                self.suspects.push(Arc::clone(endpoint));
            }
        }
    }

    /// An endpoint answered by a ServerHello: it is well, and those asked before it are not.
    pub(super) fn answered(&mut self, court: Court<'_>, endpoint: &Endpoint) {
        court.clear(endpoint);
        for suspect in self.suspects.drain(..) {
            court.count(&suspect, Fault::Handshake);
        }
    }
}

impl Court<'_> {
    /// An endpoint could not be connected to.
    pub(super) fn unreachable(self, endpoint: &Endpoint, error: &DialError) {
        let its_doing = match error {
            DialError::Timeout => true,
            DialError::Io(error) => !is_ours(error),
            DialError::Ourselves => false,
        };
        if its_doing {
            self.count(endpoint, Fault::Connection);
        }
    }

    /// Counts a failure that is the endpoint's doing.
    pub(super) fn count(self, endpoint: &Endpoint, fault: Fault) {
        let now = Instant::now();
        if !self.set.failed(endpoint, fault, now) {
            return;
        }
        self.metrics.ejected();
        let Some((until, times)) = endpoint.state.ejection() else { return };
        let route = self.route.to_string();
        let time = until.saturating_duration_since(now);
        tracing::warn!(%route, endpoint = %endpoint.address, ?time, times, "endpoint ejected");
    }

    fn clear(self, endpoint: &Endpoint) {
        if endpoint.state.succeeded(Instant::now()) {
            self.metrics.returned();
            let route = self.route.to_string();
            tracing::info!(%route, endpoint = %endpoint.address, "endpoint is back");
        }
    }
}

/// True for what is missing here and not there: ports, descriptors, watches, memory, permission.
fn is_ours(error: &io::Error) -> bool {
    let Some(errno) = Errno::from_io_error(error) else { return false };
    matches!(
        errno,
        Errno::ADDRNOTAVAIL
            | Errno::MFILE
            | Errno::NFILE
            | Errno::NOBUFS
            | Errno::NOMEM
            // `fs.epoll.max_user_watches`.
            | Errno::NOSPC
            | Errno::PERM
            | Errno::ACCESS
            | Errno::AFNOSUPPORT
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_here_is_not_the_endpoints_doing() {
        let check = |errno: Errno, ours| {
            assert_eq!(is_ours(&io::Error::from_raw_os_error(errno.raw_os_error())), ours);
        };
        check(Errno::ADDRNOTAVAIL, true);
        check(Errno::MFILE, true);
        check(Errno::NOSPC, true);
        check(Errno::CONNREFUSED, false);
        check(Errno::HOSTUNREACH, false);
        check(Errno::TIMEDOUT, false);
        check(Errno::CONNRESET, false);
    }
}

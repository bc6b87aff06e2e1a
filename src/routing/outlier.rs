//! Outlier ejection: when an endpoint is left alone, for how long, and how it comes back.
//!
//! One `Health` per endpoint, shared by all workers and all sets that hold it. It exists only
//! once something failed: of an endpoint that never failed a pick reads one byte. Must not know:
//! what a failure looks like on the wire, who else is in the set (`EndpointSet` does), the clock.

use std::time::{Duration, Instant};

/// When an endpoint of a set is ejected: DestinationRule `outlierDetection`, or the gateway's own
/// default.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outlier {
    /// Failures in a row that eject (`consecutive5xxErrors`, `consecutiveGatewayErrors`); 0:
    /// never.
    pub consecutive: u16,
    /// `splitExternalLocalOriginErrors`: failures to connect, and resets, are counted apart from
    /// failures of TLS and eject at this number (`consecutiveLocalOriginFailures`; 0: never).
    /// `None`: all are counted together.
    pub consecutive_local: Option<u16>,
    /// `interval`: for each such time in service an endpoint is forgiven one earlier ejection.
    pub interval: Duration,
    /// `baseEjectionTime`: the first ejection lasts so long, the n-th n times that.
    pub base_ejection_time: Duration,
    /// No ejection lasts longer.
    pub max_ejection_time: Duration,
    /// `maxEjectionPercent`: an ejection that would take more of the set than this does not
    /// happen; one endpoint may always be ejected.
    pub max_ejection_percent: u8,
    /// `minHealthPercent`: the panic rule. When less of a tier than this is in service, ejections
    /// are not looked at there. 0: never.
    pub min_health_percent: u8,
}

impl Default for Outlier {
    /// What holds where no DestinationRule speaks: three in a row, 5 s to 60 s, panic below 30 %.
    fn default() -> Self {
        Self {
            consecutive: 3,
            consecutive_local: None,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(5),
            max_ejection_time: Duration::from_secs(60),
            max_ejection_percent: 100,
            min_health_percent: 30,
        }
    }
}

/// How an endpoint failed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It could not be connected to, or reset before any byte: never the client's doing. What
    /// Envoy calls local origin.
    Connection,
    /// It answered badly where another endpoint answered the same hello well.
    Handshake,
}

/// What is known of an endpoint that has failed at least once.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Failures in a row: of connections (or of both kinds together), and of handshakes.
    connection: u16,
    handshake: u16,
    /// Ejections that were not forgiven yet.
    ejections: u16,
    state: State,
    /// When it came back into service.
    returned: Option<Instant>,
    base: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    InService,
    /// Nothing is sent there before this. Then one connection may try.
    Ejected(Instant),
    /// One connection tries; if nothing is heard of it until then, another may.
    Probed(Instant),
}

/// What a pick has to know of [`Health`], small enough for one atomic byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Mark {
    /// In service and without a failure since its last success.
    Clean,
    /// In service, with failures that a success would wipe out.
    Failing,
    /// Ejected, or on probation.
    Ejected,
}

impl Health {
    pub(super) fn mark(&self) -> Mark {
        match self.state {
            State::InService if self.connection == 0 && self.handshake == 0 => Mark::Clean,
            State::InService => Mark::Failing,
            State::Ejected(_) | State::Probed(_) => Mark::Ejected,
        }
    }

    /// Counts a failure; true when it ejected the endpoint, again or for the first time.
    ///
    /// `may_eject` is asked only when the failure would take it out of service. What fails while
    /// it is out, and is not the probe, was sent earlier and says nothing new.
    pub(super) fn failed(
        &mut self,
        fault: Fault,
        now: Instant,
        outlier: &Outlier,
        may_eject: impl FnOnce() -> bool,
    ) -> bool {
        match self.state {
            State::Ejected(_) => return false,
            State::Probed(_) => {
                self.eject(now, outlier);
                return true;
            }
            State::InService => {}
        }
        let (count, limit) = match (fault, outlier.consecutive_local) {
            (Fault::Connection, Some(limit)) => (&mut self.connection, limit),
            (Fault::Connection, None) => (&mut self.connection, outlier.consecutive),
            (Fault::Handshake, Some(_)) => (&mut self.handshake, outlier.consecutive),
            (Fault::Handshake, None) => (&mut self.connection, outlier.consecutive),
        };
        *count = count.saturating_add(1);
        let enough = limit != 0 && *count >= limit;
        if !enough || !may_eject() {
            return false;
        }
        self.forgive(now, outlier);
        self.eject(now, outlier);
        true
    }

    /// Counts a success: whatever it was, it is in service now. True when it was out.
    pub(super) fn succeeded(&mut self, now: Instant) -> bool {
        (self.connection, self.handshake) = (0, 0);
        let was_out = self.state != State::InService;
        if was_out {
            self.state = State::InService;
            self.returned = Some(now);
        }
        was_out
    }

    /// True while nothing may be sent there.
    pub(super) fn is_closed(&self, now: Instant) -> bool {
        match self.state {
            State::InService => false,
            State::Ejected(until) | State::Probed(until) => now < until,
        }
    }

    /// False while nothing may be sent there. When its time is over the caller is its probe, and
    /// for all others it is closed for another base time.
    pub(super) fn claim(&mut self, now: Instant) -> bool {
        if self.is_closed(now) {
            return false;
        }
        if self.state != State::InService {
            self.state = State::Probed(now + self.base);
        }
        true
    }

    /// Until when it is ejected, and how often it was; `None` in service.
    pub(super) fn ejection(&self) -> Option<(Instant, u16)> {
        match self.state {
            State::InService => None,
            State::Ejected(until) | State::Probed(until) => Some((until, self.ejections)),
        }
    }

    fn eject(&mut self, now: Instant, outlier: &Outlier) {
        self.ejections = self.ejections.saturating_add(1);
        let time = outlier.base_ejection_time.saturating_mul(self.ejections.into());
        // As in Envoy: a base time above the maximum is itself the maximum.
        let most = outlier.max_ejection_time.max(outlier.base_ejection_time);
        self.state = State::Ejected(now + time.min(most));
        self.base = outlier.base_ejection_time;
        (self.connection, self.handshake) = (0, 0);
    }

    /// Takes one ejection off for each interval in service.
    fn forgive(&mut self, now: Instant, outlier: &Outlier) {
        let Some(returned) = self.returned else { return };
        let served = now.saturating_duration_since(returned).as_nanos();
        let intervals = served / outlier.interval.as_nanos().max(1);
        self.ejections = self.ejections.saturating_sub(intervals.try_into().unwrap_or(u16::MAX));
    }
}

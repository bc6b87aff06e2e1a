//! What the two ends of a connection do: chosen by the seed and the connection's number, so that
//! either end knows. Must not know: sockets.

use std::time::Duration;

use super::stream::mix;

/// A seeded source of choices.
#[derive(Clone, Debug)]
pub struct Choices(u64);

impl Choices {
    pub fn new(seed: u64, number: u64) -> Self {
        Self(mix(mix(seed) ^ number))
    }

    /// Less than `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = mix(self.0);
        self.0 % end
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// Which service is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// All of its endpoints are good.
    Steady,
    /// Some of its endpoints may refuse, or reset before they say anything.
    Mixed,
}

/// Who stops reading for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Endpoint,
}

/// How a connection that was relayed ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// This side ends its half; the other then says this much more and ends its own.
    Fin(Side, u64),
    /// This side resets when everything was heard.
    Reset(Side),
    /// This side resets while the other says this much.
    Abort(Side, u64),
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    UnknownName,
    NoName,
    NoAlpn,
    OldVersion,
    NoEndpoint,
    NotTls,
    CutByFin,
    CutByReset,
}

const REFUSALS: [Refusal; 8] = [
    Refusal::UnknownName,
    Refusal::NoName,
    Refusal::NoAlpn,
    Refusal::OldVersion,
    Refusal::NoEndpoint,
    Refusal::NotTls,
    Refusal::CutByFin,
    Refusal::CutByReset,
];

/// What is said and heard in turn on a connection that is relayed.
#[derive(Clone, Debug)]
pub struct Talk {
    pub target: Target,
    /// The client's first bytes come with the hello. Otherwise it waits for the endpoint's.
    pub pipelined: bool,
    /// Bytes of the client, then bytes of the endpoint.
    pub rounds: Vec<(u64, u64)>,
    /// Both at once.
    pub duplex: bool,
    /// Between two rounds.
    pub pause: Duration,
    /// This side reads nothing for so long while the other says the first round.
    pub stall: Option<(Side, Duration)>,
    pub end: End,
}

/// One connection.
#[derive(Clone, Debug)]
pub enum Script {
    Refused(Refusal),
    Relayed(Talk),
}

impl Script {
    pub fn new(seed: u64, number: u64) -> Self {
        let mut choices = Choices::new(seed, number);
        if choices.percent(12) {
            let kind = usize::try_from(choices.below(REFUSALS.len() as u64)).expect("small");
            return Self::Refused(REFUSALS[kind]);
        }
        Self::Relayed(Talk::choose(&mut choices))
    }
}

impl Talk {
    fn choose(choices: &mut Choices) -> Self {
        let target = if choices.percent(30) { Target::Mixed } else { Target::Steady };
        // 8 MiB, but for most much less.
        let doublings = if choices.percent(25) { 23 } else { 16 };
        let rounds = 1 + choices.below(3);
        let rounds = (0..rounds).map(|_| (size(choices, doublings), size(choices, doublings)));
        let mut rounds: Vec<_> = rounds.collect();
        let stalls = choices.percent(6).then(|| {
            let side = one_of(choices, Side::Client, Side::Endpoint);
            (side, Duration::from_millis(100 + choices.below(1500)))
        });
        match stalls {
            // More than all buffers hold.
            Some((Side::Client, _)) => rounds[0].1 += 4 << 20,
            Some((Side::Endpoint, _)) => rounds[0].0 += 4 << 20,
            None => {}
        }
        let pause = if choices.percent(20) { choices.below(3000) } else { 0 };
        let side = one_of(choices, Side::Client, Side::Endpoint);
        let end = match choices.below(20) {
            0..=1 => End::Reset(side),
            2..=3 => End::Abort(side, 1 + choices.below(6 << 20)),
            _ => End::Fin(side, size(choices, doublings)),
        };
        Self {
            target,
            // Bytes that follow the hello make the first endpoint final: it must be a good one.
            pipelined: target == Target::Steady && choices.percent(50),
            rounds,
            duplex: choices.percent(25),
            pause: Duration::from_millis(pause),
            stall: stalls,
            end,
        }
    }
}

fn one_of<T>(choices: &mut Choices, a: T, b: T) -> T {
    if choices.percent(50) { a } else { b }
}

/// Each doubling is as likely as any other; 0 too.
fn size(choices: &mut Choices, doublings: u64) -> u64 {
    let most = 1 << choices.below(doublings + 1);
    choices.below(most + 1)
}

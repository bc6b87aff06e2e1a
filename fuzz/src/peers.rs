//! What a relay without a network is made of: its peers, the sockets towards them, what happens.
//!
//! Must not know: the relay.

use diolkos::gateway::relay::machine::{Loss, Side};

/// More bytes than this show nothing that fewer do not.
pub const SENT_MAX: u8 = 2;
/// Room for any number of bytes.
pub const OPEN: u8 = u8::MAX;

/// Something that happens to a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A peer does something.
    Peer(Side, Act),
    /// The sweep looks for sides that are gone.
    Sweep,
    /// Half the linger passes.
    Tick,
    /// The gateway asks it to end at a quiet moment.
    Leave,
}

/// Something that a peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It sends a byte.
    Send,
    /// It sends FIN.
    Fin,
    /// It resets.
    Reset,
    /// It reads no more.
    Block,
    /// It has room for just one byte.
    Trickle,
    /// It reads again.
    Unblock,
    /// Its host is gone: nothing comes, nothing is taken.
    Vanish,
}

impl Action {
    /// Every action.
    pub fn all() -> impl Iterator<Item = Self> {
        let acts =
            [Act::Send, Act::Fin, Act::Reset, Act::Block, Act::Trickle, Act::Unblock, Act::Vanish];
        let of = move |side| acts.into_iter().map(move |act| Self::Peer(side, act));
        let ours = [Self::Sweep, Self::Tick, Self::Leave];
        of(Side::Downstream).chain(of(Side::Upstream)).chain(ours)
    }
}

/// How the bytes go: it decides in which order the machine hears of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Driver {
    /// Read and written in one go; what is left is kept.
    Copy,
    /// Into a pipe, then out of it.
    Splice,
}

/// What was taken before the relay began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Taken {
    /// Bytes, not delivered yet.
    pub held: u8,
    /// And the FIN behind them.
    pub ended: bool,
    /// Which was passed on.
    pub finished: bool,
}

impl Taken {
    /// All that the first flight can leave behind.
    pub fn all() -> impl Iterator<Item = Self> {
        let plain = [(0, false), (1, false), (0, true), (1, true)];
        let plain = plain.map(|(held, ended)| Self { held, ended, finished: false });
        plain.into_iter().chain([Self { held: 0, ended: true, finished: true }])
    }
}

/// One peer, and the socket towards it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Peer {
    pub sent: u8,
    /// Of these, not taken yet.
    pub waiting: u8,
    pub fin: bool,
    pub reset: bool,
    /// The kernel has told of the reset, which it does once.
    pub told: bool,
    pub vanished: bool,
    pub room: u8,
    pub got: u8,
    pub got_fin: bool,
}

impl Peer {
    /// False when it cannot, or when it changes nothing.
    pub fn act(&mut self, act: Act) -> bool {
        let room = match act {
            Act::Block => 0,
            Act::Trickle => 1,
            Act::Unblock => OPEN,
            Act::Send if !self.is_over() && self.sent < SENT_MAX => {
                (self.sent, self.waiting) = (self.sent + 1, self.waiting + 1);
                return true;
            }
            Act::Send => return false,
            Act::Fin => return !self.is_over() && !std::mem::replace(&mut self.fin, true),
            Act::Reset => return !self.vanished && !std::mem::replace(&mut self.reset, true),
            Act::Vanish => return !self.reset && !std::mem::replace(&mut self.vanished, true),
        };
        std::mem::replace(&mut self.room, room) != room
    }

    /// What the sweep sees: an error that was not told yet, or silence.
    pub fn loss(&self) -> Option<Loss> {
        let reset = (self.reset && !self.told).then_some(Loss::Reset);
        reset.or(self.vanished.then_some(Loss::Vanished))
    }

    /// It sends nothing more.
    pub fn is_over(&self) -> bool {
        self.fin || self.is_gone()
    }

    pub fn is_gone(&self) -> bool {
        self.reset || self.vanished
    }

    /// As `recv(2)`; `None` is EAGAIN. Behind a FIN the end comes before the error.
    pub fn read(&mut self) -> Option<Result<u8, Loss>> {
        if self.waiting > 0 {
            return Some(Ok(std::mem::take(&mut self.waiting)));
        }
        if self.fin {
            return Some(Ok(0));
        }
        let told = std::mem::replace(&mut self.told, self.reset);
        self.reset.then_some(if told { Ok(0) } else { Err(Loss::Reset) })
    }

    /// As `send(2)`; `None` is EAGAIN.
    pub fn write(&mut self, n: u8) -> Option<Result<u8, Loss>> {
        assert!(!self.got_fin, "bytes behind a FIN: {self:?}");
        if self.reset {
            self.told = true;
            return Some(Err(Loss::Reset));
        }
        let n = n.min(self.room);
        if n == 0 || self.vanished {
            return None;
        }
        self.got += n;
        self.room -= if self.room == OPEN { 0 } else { n };
        Some(Ok(n))
    }
}

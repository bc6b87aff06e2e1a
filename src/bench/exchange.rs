//! What load and pods say to each other once they are connected, in clear or inside TLS.
//!
//! The pod speaks first: a greeting of [`GREETING_BYTES`]. Then the client sends requests, one at
//! a time; the first 16 bytes of each say how long it is and how long the answer is to be. Bytes
//! are counted, not compared. Must not know: sockets.

/// How long a pod's first words are. In clear they begin as a TLS record does, because a gateway
/// may look at what an endpoint says first.
pub const GREETING_BYTES: usize = 100;
/// The length of a request's head, and so the shortest request.
pub const HEAD_BYTES: usize = 16;
/// More than this in one direction of one request is a mistake.
pub const BYTES_MAX: u64 = 1 << 40;

/// A handshake record of 95 bytes, TLS 1.2 as all versions write it there.
pub const GREETING: [u8; GREETING_BYTES] = {
    let mut bytes = [0; GREETING_BYTES];
    (bytes[0], bytes[1], bytes[2], bytes[4]) = (22, 3, 3, 95);
    bytes
};

/// One request and its answer, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The whole request, its head included.
    pub up: u64,
    /// The answer.
    pub down: u64,
}

impl Exchange {
    /// `None` when one of the lengths is out of bounds.
    #[must_use]
    pub fn new(up: u64, down: u64) -> Option<Self> {
        let sound =
            (HEAD_BYTES as u64..=BYTES_MAX).contains(&up) && (1..=BYTES_MAX).contains(&down);
        sound.then_some(Self { up, down })
    }

    /// The first bytes of the request.
    #[must_use]
    pub fn head(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(&self.up.to_le_bytes());
        bytes[8..].copy_from_slice(&self.down.to_le_bytes());
        bytes
    }

    /// Reads a head; `None` when this is none.
    #[must_use]
    pub fn parse(head: [u8; HEAD_BYTES]) -> Option<Self> {
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&head[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        Self::new(number(0), number(8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_both_lengths_and_nothing_else_is_a_head() {
        let exchange = Exchange::new(64, 1 << 30).unwrap();
        assert_eq!(Exchange::parse(exchange.head()), Some(exchange));
        for (up, down) in [(15, 1), (16, 0), (16, BYTES_MAX + 1), (BYTES_MAX + 1, 1)] {
            assert_eq!(Exchange::new(up, down), None, "{up} {down}");
        }
        assert_eq!(Exchange::parse([0xff; HEAD_BYTES]), None);
    }
}

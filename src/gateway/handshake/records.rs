//! TLS records by their headers, however they are cut into reads.
//!
//! Of a record's body at most two bytes are kept. Must not know: what a record means for the
//! handshake.

/// As much of a record as a stranger can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// A handshake message in plain text, or an encrypted one of TLS 1.2.
    Handshake,
    /// A handshake record that begins with a ServerHello.
    ServerHello,
    ChangeCipherSpec,
    /// A plain alert that ends the connection, with its description.
    Alert(u8),
    /// Content type 23, with its length.
    Encrypted(u16),
    /// Nothing that matters: a closing alert, an encrypted one of TLS 1.2, a heartbeat.
    Other,
}

/// The stream of one side.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// Header and first bytes of the record that is being read.
    head: [u8; HEAD],
    got: u8,
    /// Bytes of its body to be passed over.
    left: u16,
    lost: bool,
}

const HEADER: usize = 5;
const HEAD: usize = HEADER + 2;

impl Records {
    /// Reads on and shows each record as soon as it is known. False when these are no records;
    /// what follows then is not looked at any more.
    pub(super) fn read(&mut self, mut bytes: &[u8], mut see: impl FnMut(Record)) -> bool {
        while !self.lost {
            let skipped = bytes.len().min(usize::from(self.left));
            self.left -= u16::try_from(skipped).unwrap_or(self.left);
            bytes = bytes.get(skipped..).unwrap_or_default();
            let Some((first, rest)) = bytes.split_first() else { break };
            bytes = rest;
            self.head[usize::from(self.got)] = *first;
            self.got += 1;
            self.lost = !self.is_plausible();
            if let Some(length) = self.whole_head() {
                see(self.record(length));
                self.left = length - length.min(2);
                self.got = 0;
            }
        }
        !self.lost
    }

    /// The length of the record's body, when all is there that is needed to know it.
    fn whole_head(&self) -> Option<u16> {
        let got = usize::from(self.got);
        let length = u16::from_be_bytes([self.head[3], self.head[4]]);
        (got >= HEADER && got >= HEADER + usize::from(length.min(2))).then_some(length)
    }

    fn is_plausible(&self) -> bool {
        matches!((self.got, self.head[0], self.head[1]), (1, 20..=24, _) | (2.., _, 3))
    }

    fn record(&self, length: u16) -> Record {
        match (self.head[0], length) {
            (20, _) => Record::ChangeCipherSpec,
            // close_notify, user_canceled and no_renegotiation end nothing by themselves.
            (21, 2) if !matches!(self.head[6], 0 | 90 | 100) => Record::Alert(self.head[6]),
            (22, _) if self.head[5] == 2 && length > 2 => Record::ServerHello,
            (22, _) => Record::Handshake,
            (23, length) => Record::Encrypted(length),
            _ => Record::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("a length").to_be_bytes();
        [&[kind, 3, 3], &length[..], body].concat()
    }

    #[test]
    fn records_are_the_same_however_they_are_cut() {
        let wire = [
            record(22, &[2, 0, 0, 70, 3, 3]),
            record(20, &[1]),
            record(23, &[7; 1000]),
            record(23, &[]),
            record(22, &[]),
            record(21, &[2, 48]),
            record(21, &[1, 0]),
        ]
        .concat();
        let expected = [
            Record::ServerHello,
            Record::ChangeCipherSpec,
            Record::Encrypted(1000),
            Record::Encrypted(0),
            Record::Handshake,
            Record::Alert(48),
            Record::Other,
        ];
        for step in [1, 2, 3, 5, 7, 64, wire.len()] {
            let (mut records, mut seen) = (Records::default(), Vec::new());
            let read = |piece| records.read(piece, |record| seen.push(record));
            assert!(wire.chunks(step).all(read), "by {step}");
            assert_eq!(seen, expected, "by {step}");
        }
    }

    #[test]
    fn what_is_no_record_is_noticed_and_left() {
        for wire in [&b"HTTP/1.1 400"[..], &[22, 2, 0], &[25], &[0]] {
            let mut records = Records::default();
            assert!(!records.read(wire, |record| panic!("{record:?}")), "{wire:?}");
            assert!(!records.read(&record(22, &[2, 0, 0]), |record| panic!("{record:?}")));
        }
    }
}

//! What every connection said and heard at both ends, and what the gateway must have counted.
//!
//! A connection that somebody aborts may lose bytes: for these there are two bounds, for all others
//! one figure. Must not know: how a script is played.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use super::{
    PATIENCE,
    script::{End, Refusal, Side},
    stream::Wrong,
};

/// What one end said and heard after its first words.
type Moved = (u64, u64);

#[derive(Debug, Default)]
pub struct Ledger(RefCell<Book>);

#[derive(Debug, Default)]
struct Book {
    begun: u64,
    late: u64,
    /// Connections that are relayed and have not ended at both ends.
    open: HashMap<u64, Entry>,
    /// By outcome.
    ended: BTreeMap<&'static str, u64>,
    /// At least and at most: bytes from clients, and to clients.
    received: (u64, u64),
    sent: (u64, u64),
    wrong: Vec<Wrong>,
}

#[derive(Debug, Default)]
struct Entry {
    hurry: bool,
    dialled: bool,
    hello: u64,
    greeting: u64,
    client: Option<Moved>,
    server: Option<Moved>,
}

impl Ledger {
    /// The number of a new connection.
    pub fn begin(&self) -> u64 {
        let mut book = self.0.borrow_mut();
        book.begun += 1;
        book.begun
    }

    /// How many there were.
    pub fn begun(&self) -> u64 {
        self.0.borrow().begun
    }

    /// A connection could not begin when it was due.
    pub fn note_late(&self) {
        self.0.borrow_mut().late += 1;
    }

    pub fn note_wrong(&self, wrong: Wrong) {
        self.0.borrow_mut().wrong.push(wrong);
    }

    /// Fails when anything is wrong.
    #[track_caller]
    pub fn check(&self) {
        let book = self.0.borrow();
        let shown = book.wrong.iter().take(10).cloned().collect::<Vec<_>>().join("\n");
        assert!(book.wrong.is_empty(), "{} wrong:\n{shown}", book.wrong.len());
    }

    /// It was refused as it had to be.
    pub fn refused(&self, refusal: Refusal) {
        let outcome = match refusal {
            Refusal::UnknownName => "unknown_name",
            Refusal::NoName => "no_sni",
            Refusal::NoAlpn => "alpn_denied",
            Refusal::OldVersion => "bad_version",
            Refusal::NoEndpoint => "no_endpoint",
            Refusal::NotTls => "not_tls",
            Refusal::CutByFin => "client_eof_before_hello",
            Refusal::CutByReset => "client_rst_before_hello",
        };
        *self.0.borrow_mut().ended.entry(outcome).or_default() += 1;
    }

    /// A connection that is to be relayed begins.
    pub fn expect(&self, number: u64, hurry: bool) {
        self.0.borrow_mut().open.insert(number, Entry { hurry, ..Entry::default() });
    }

    /// An endpoint was dialled for it; whether its script is played without pauses.
    pub fn dialled(&self, number: u64) -> Result<bool, Wrong> {
        let mut book = self.0.borrow_mut();
        let entry = book.open.get_mut(&number).ok_or("dialled for nobody, or after the end")?;
        if entry.dialled {
            return Err("a second good endpoint is dialled".into());
        }
        entry.dialled = true;
        Ok(entry.hurry)
    }

    /// The client has done its part: bytes of its hello, and what it said and heard then.
    pub fn client_done(
        &self,
        number: u64,
        end: End,
        hello: u64,
        moved: Moved,
    ) -> Result<(), Wrong> {
        self.done(number, end, |entry| (entry.hello, entry.client) = (hello, Some(moved)))
    }

    /// The endpoint has done its part: bytes of its greeting, and what it said and heard then.
    pub fn server_done(
        &self,
        number: u64,
        end: End,
        greeting: u64,
        moved: Moved,
    ) -> Result<(), Wrong> {
        self.done(number, end, |entry| (entry.greeting, entry.server) = (greeting, Some(moved)))
    }

    fn done(&self, number: u64, end: End, part: impl FnOnce(&mut Entry)) -> Result<(), Wrong> {
        let mut book = self.0.borrow_mut();
        let entry = book.open.get_mut(&number).ok_or("it ended twice")?;
        part(entry);
        let (Some(client), Some(server)) = (entry.client, entry.server) else { return Ok(()) };
        let Entry { hello, greeting, .. } = *entry;
        book.open.remove(&number);
        let outcome = match end {
            End::Fin(..) => "ok",
            End::Reset(Side::Client) | End::Abort(Side::Client, _) => "client_rst",
            End::Reset(Side::Endpoint) | End::Abort(Side::Endpoint, _) => "endpoint_rst",
        };
        *book.ended.entry(outcome).or_default() += 1;
        let (up, down) = ((server.1, client.0), (client.1, server.0));
        let lost = |(heard, said): (u64, u64)| match end {
            End::Abort(..) => heard > said,
            End::Fin(..) | End::Reset(_) => heard != said,
        };
        if lost(up) || lost(down) {
            return Err(format!("heard and said do not agree: up {up:?}, down {down:?}"));
        }
        add(&mut book.received, up, hello);
        add(&mut book.sent, down, greeting);
        Ok(())
    }

    /// Waits until every connection has ended at both ends.
    pub async fn wait_until_all_ended(&self) {
        let deadline = Instant::now() + 2 * PATIENCE;
        loop {
            self.check();
            let open = self.0.borrow().open.len();
            if open == 0 {
                return;
            }
            if Instant::now() > deadline {
                let book = self.0.borrow();
                panic!("{open} have not ended: {:?}", book.open.iter().next());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// By outcome.
    pub fn ended(&self) -> BTreeMap<String, u64> {
        self.0.borrow().ended.iter().map(|(outcome, n)| ((*outcome).to_owned(), *n)).collect()
    }

    /// Bytes that came from all clients, their hellos included.
    pub fn received(&self) -> RangeInclusive<u64> {
        let (least, most) = self.0.borrow().received;
        least..=most
    }

    /// Bytes that went to all clients.
    pub fn sent(&self) -> RangeInclusive<u64> {
        let (least, most) = self.0.borrow().sent;
        least..=most
    }

    /// One line for whoever looks on.
    pub fn summary(&self) -> String {
        let book = self.0.borrow();
        let (up, down) = (book.received.0 >> 20, book.sent.0 >> 20);
        let mut text = format!("{} connections, {up} MiB up, {down} MiB down;", book.begun);
        for (outcome, n) in &book.ended {
            let _ = write!(text, " {outcome} {n}");
        }
        if book.late > 0 {
            let _ = write!(text, "; {} began late, for there were too many", book.late);
        }
        text
    }
}

fn add(sum: &mut (u64, u64), (heard, said): (u64, u64), first_words: u64) {
    sum.0 += heard + first_words;
    sum.1 += said + first_words;
}

#[test]
fn bytes_that_nobody_heard_are_noticed_unless_somebody_aborted() {
    let ledger = Ledger::default();
    let end = |number, end, heard| {
        ledger.expect(number, false);
        ledger.client_done(number, end, 100, (10, 20)).expect("half of it");
        ledger.server_done(number, end, 9, (20, heard))
    };
    end(1, End::Fin(Side::Client, 0), 10).expect("all was heard");
    assert!(end(2, End::Reset(Side::Client), 9).is_err(), "one is lost");
    assert!(end(3, End::Fin(Side::Client, 0), 11).is_err(), "one is too many");
    end(4, End::Abort(Side::Client, 0), 9).expect("some may be lost");
    assert!(end(5, End::Abort(Side::Client, 0), 11).is_err(), "but none is too many");
    assert_eq!((ledger.received(), ledger.sent()), (219..=220, 58..=58));
}

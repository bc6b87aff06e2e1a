//! Which name has which address: a readable text in a file or a ConfigMap, and the only place where
//! addresses are given.
//!
//! ```text
//! diolkos-addresses 1
//! 127.255.0.2 bar.ns2.global
//! 127.255.0.3 foo.ns2.global
//! end
//! ```
//!
//! Lines of `#` and empty lines may stand anywhere. Must not know: which names are exported.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use super::Range;
use crate::routing::Host;

mod config_map;
mod file;
mod held;

pub use config_map::AddressMap;
pub use file::AddressFile;
pub use held::{Held, Record};

const HEADER: &str = "diolkos-addresses 1";
/// Without it a file that was cut off would look whole, and the addresses cut off would be given
/// again.
const END: &str = "end";
const COMMENT: &str = "\
# Which name has which address in importing clusters. Written by `diolkos export`, which never
# gives an address of this file to another name; `--forget NAME` frees one. Keep this file.
";

/// All records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    by_host: BTreeMap<String, Ipv4Addr>,
    used: BTreeSet<u32>,
}

/// What came of giving addresses.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// How many names got one.
    pub count: usize,
    /// Names for which none was left.
    pub without: BTreeSet<String>,
}

/// What is wrong with a text that should be a book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub problem: String,
}

impl Book {
    /// Reads a book.
    ///
    /// # Errors
    /// When the text is anything else than a whole book, in which every name and every address
    /// stands once.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut book = Self::default();
        let (mut begun, mut ended, mut last) = (false, false, 0);
        for (line, content) in (1..).zip(text.lines()) {
            last = line;
            let fault = |problem: String| Fault { line, problem };
            match content.trim() {
                "" => {}
                comment if comment.starts_with('#') => {}
                _ if ended => return Err(fault(format!("something stands after `{END}`"))),
                HEADER if !begun => begun = true,
                _ if !begun => return Err(fault(format!("`{HEADER}` is missing before this"))),
                END => ended = true,
                record => book.read(record).map_err(fault)?,
            }
        }
        if !ended {
            let what = if begun { END } else { HEADER };
            let problem =
                format!("`{what}` is missing: this is no file of addresses, or it is cut");
            return Err(Fault { line: last.max(1), problem });
        }
        Ok(book)
    }

    fn read(&mut self, record: &str) -> Result<(), String> {
        let mut parts = record.split_whitespace();
        let (Some(address), Some(host), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err("a record is an address and a name".to_owned());
        };
        let shown =
            |text: &str| text.chars().take(64).collect::<String>().escape_debug().to_string();
        let Ok(address) = address.parse::<Ipv4Addr>() else {
            return Err(format!("`{}` is no IPv4 address", shown(address)));
        };
        if let Some(why) = Range::forbids(address) {
            return Err(format!("{address} cannot be the address of a name: {why}"));
        }
        if Host::parse(host).is_none_or(|parsed| parsed.as_str() != host) {
            return Err(format!("`{}` is no name in lower case", shown(host)));
        }
        if !self.used.insert(address.into()) {
            return Err(format!("{address} is there twice: two names cannot share it"));
        }
        if self.by_host.insert(host.to_owned(), address).is_some() {
            return Err(format!("{host} is there twice: which address is it to keep?"));
        }
        Ok(())
    }

    /// The book as a file: sorted by address.
    #[must_use]
    pub fn text(&self) -> String {
        let mut records: Vec<_> = self.by_host.iter().map(|(host, ip)| (*ip, host)).collect();
        records.sort_unstable();
        let mut text = format!("{COMMENT}{HEADER}\n");
        for (address, host) in records {
            text += &format!("{address} {host}\n");
        }
        text + END + "\n"
    }

    /// The address of a name.
    #[must_use]
    pub fn address_of(&self, host: &str) -> Option<Ipv4Addr> {
        self.by_host.get(host).copied()
    }

    /// How many recorded addresses are outside of a range, and the first of these with its name.
    #[must_use]
    pub fn outside(&self, range: Range) -> Option<(usize, &str, Ipv4Addr)> {
        let mut outside = self.by_host.iter().filter(|(_, address)| !range.contains(**address));
        let (host, address) = outside.next()?;
        Some((1 + outside.count(), host, *address))
    }

    /// How many names are recorded.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_host.len()
    }

    /// True when none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_host.is_empty()
    }

    /// Frees the address of a name, if it had one.
    pub fn forget(&mut self, host: &str) -> Option<Ipv4Addr> {
        let address = self.by_host.remove(host)?;
        self.used.remove(&address.into());
        Some(address)
    }

    /// Gives an address to each name that has none, as long as the range has one. `taken` is what
    /// others use. New ones follow the highest recorded in the range, so that one which was freed
    /// is given again as late as can be.
    pub fn assign<'h>(
        &mut self,
        hosts: impl Iterator<Item = &'h str>,
        range: Range,
        taken: impl Fn(Ipv4Addr) -> bool,
    ) -> Given {
        let in_range = |address: &&u32| range.contains(Ipv4Addr::from(**address));
        let highest = self.used.iter().rev().find(in_range);
        let first = highest.map_or(range.base(), |highest| highest + 1);
        let free = {
            let used = &self.used;
            let all = range.from(first).chain(range.from(0).take_while(move |a| *a < first));
            let free = all.filter(|address| !used.contains(address)).map(Ipv4Addr::from);
            free.filter(|address| !taken(*address))
        };
        let new = hosts.filter(|host| !self.by_host.contains_key(*host));
        let (mut given, mut without) = (BTreeMap::new(), BTreeSet::new());
        let mut free = free.into_iter();
        for host in new {
            if given.contains_key(host) || without.contains(host) {
                continue;
            }
            match free.next() {
                Some(address) => _ = given.insert(host.to_owned(), address),
                None => _ = without.insert(host.to_owned()),
            }
        }
        let count = given.len();
        self.used.extend(given.values().map(|address| u32::from(*address)));
        self.by_host.extend(given);
        Given { count, without }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOK: &str = "diolkos-addresses 1\n10.0.0.3 b.ns.global\n10.0.0.2 a.ns.global\nend\n";

    fn range(text: &str) -> Range {
        text.parse().expect("a range")
    }

    /// The addresses; or the names for which none was left.
    fn assign(book: &mut Book, hosts: &[&str], in_range: &str) -> Result<Vec<String>, String> {
        let given = book.assign(hosts.iter().copied(), range(in_range), |_| false);
        if !given.without.is_empty() {
            return Err(Vec::from_iter(given.without).join(" "));
        }
        let addresses = hosts.iter().map(|host| book.address_of(host).expect("given").to_string());
        Ok(addresses.collect())
    }

    #[test]
    fn a_book_is_read_as_it_is_written() {
        let book = Book::parse(BOOK).expect("a book");
        assert_eq!(book.len(), 2);
        let text = book.text();
        assert!(text.ends_with("1\n10.0.0.2 a.ns.global\n10.0.0.3 b.ns.global\nend\n"), "{text}");
        assert_eq!(Book::parse(&text), Ok(book));
        assert_eq!(Book::parse("# x\n\n diolkos-addresses 1\nend\n#\n"), Ok(Book::default()));
        assert_eq!(Book::parse(&BOOK.replace('\n', "\r\n")), Book::parse(BOOK));
    }

    #[test]
    fn anything_else_is_refused_with_its_line() {
        let with =
            |record: &str| format!("diolkos-addresses 1\n10.0.0.2 a.global\n{record}\nend\n");
        for (text, line, problem) in [
            (String::new(), 1, "`diolkos-addresses 1` is missing"),
            ("# only\n".into(), 1, "`diolkos-addresses 1` is missing"),
            ("apiVersion: v1\n".into(), 1, "`diolkos-addresses 1` is missing"),
            ("diolkos-addresses 2\nend\n".into(), 1, "`diolkos-addresses 1` is missing"),
            ("diolkos-addresses 1\n10.0.0.2 a.global\n".into(), 2, "`end` is missing"),
            (BOOK[..BOOK.len() - 5].into(), 3, "`end` is missing"),
            (format!("{BOOK}10.0.0.9 c.global\n"), 5, "after `end`"),
            (with("10.0.0.2 b.global"), 3, "10.0.0.2 is there twice"),
            (with("10.0.0.3 a.global"), 3, "a.global is there twice"),
            (with("10.0.0.3"), 3, "an address and a name"),
            (with("10.0.0.3 b c"), 3, "an address and a name"),
            (with("fd00::1 b.global"), 3, "no IPv4 address"),
            (with("10.0.0.03 b.global"), 3, "no IPv4 address"),
            (with("0.0.0.0 b.global"), 3, "0.0.0.0 cannot be the address of a name: addresses of"),
            (with("224.0.0.7 b.global"), 3, "are multicast"),
            (with("127.0.0.1 b.global"), 3, "this host's own services"),
            (with("255.255.255.255 b.global"), 3, "broadcast"),
            (with("10.0.0.3 B.global"), 3, "no name in lower case"),
            (with("10.0.0.3 b..global"), 3, "no name in lower case"),
            (with("\u{1b}[2J x"), 3, "`\\u{1b}[2J` is no IPv4"),
            (with("diolkos-addresses 1"), 3, "no IPv4 address"),
        ] {
            let fault = Book::parse(&text).expect_err(&text);
            assert!(fault.line == line && fault.problem.contains(problem), "{text}: {fault:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_odd_and_what_is_read_is_written_again(
            lines in proptest::collection::vec(
                "(10\\.0\\.0\\.[0-9]{1,3} [a-c.]{1,4}|end|diolkos-addresses 1|#.*|.*)", 0..8,
            )
        ) {
            let records = format!("{HEADER}\n{}\n{END}\n", lines.join("\n"));
            for text in [lines.join("\n"), records] {
                if let Ok(book) = Book::parse(&text) {
                    assert_eq!(book.used.len(), book.by_host.len());
                    assert_eq!(Book::parse(&book.text()), Ok(book));
                }
            }
        }
    }

    #[test]
    fn a_recorded_name_keeps_its_address_and_new_ones_follow() {
        let mut book = Book::default();
        let given = assign(&mut book, &["b.global", "a.global"], "10.0.0.0/24");
        assert_eq!(given.as_deref(), Ok(&["10.0.0.2".to_owned(), "10.0.0.3".to_owned()][..]));
        // Not exported now, and recorded still.
        let given = assign(&mut book, &["c.global", "c.global", "a.global"], "10.0.0.0/24");
        assert_eq!(given.expect("given"), ["10.0.0.4", "10.0.0.4", "10.0.0.3"]);
        assert_eq!(book.address_of("b.global").map(|a| a.to_string()).as_deref(), Some("10.0.0.2"));
        // Another range is for new names only.
        let given = assign(&mut book, &["a.global", "d.global"], "10.9.0.0/16");
        assert_eq!(given.expect("given"), ["10.0.0.3", "10.9.0.2"]);
    }

    #[test]
    fn what_was_freed_is_given_again_last() {
        let mut book = Book::default();
        let hosts = ["a", "b", "c", "d", "e"];
        assign(&mut book, &hosts, "10.0.0.0/29").expect("five of six");
        assert_eq!(book.forget("b").map(|a| a.to_string()).as_deref(), Some("10.0.0.3"));
        assert_eq!(book.forget("b"), None);
        let given = assign(&mut book, &["f", "b"], "10.0.0.0/29");
        assert_eq!(given.expect("given"), ["10.0.0.7", "10.0.0.3"]);
        book.forget("e");
        let without = assign(&mut book, &["g", "h", "h", "a"], "10.0.0.0/29");
        assert_eq!(without, Err("h".to_owned()));
        let has = |host: &str| book.address_of(host).map(|a| a.to_string());
        assert_eq!((has("g").as_deref(), has("h")), (Some("10.0.0.6"), None));
    }

    #[test]
    fn addresses_of_others_are_not_given() {
        let mut book = Book::default();
        let two = Ipv4Addr::new(10, 0, 0, 2);
        let hosts = ["a"].into_iter();
        let given = book.assign(hosts, range("10.0.0.0/24"), |ip| ip == two);
        assert_eq!((given.count, given.without.len()), (1, 0));
        assert_eq!(book.address_of("a"), Some(Ipv4Addr::new(10, 0, 0, 3)));
    }
}

//! The PROXY protocol's header, versions 1 and 2, read strictly (haproxy.org, proxy-protocol.txt).
//!
//! Whoever may send one names any source address it likes, so the gateway reads it from trusted
//! proxies only, and from those it is required. A header for a health check (`LOCAL`), for an
//! unknown family and for a UNIX socket names no address; the socket's stands then. Additional
//! fields are walked, so that their lengths must fit, and dropped; a checksum among them must be
//! right. Pure. Must not know: who is trusted, or what follows the header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header.
    NeedMore,
    /// A whole header.
    Header {
        /// Its bytes on the wire.
        len: usize,
        /// The address that it names; `None`: the socket's own.
        source: Option<SocketAddr>,
    },
    /// No header, or a malformed one.
    Bad(BadHeader),
}

/// Which rule a header breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHeader {
    /// There is none.
    Missing,
    /// Version 1: not `PROXY`, family, two addresses, two ports, CRLF, with one space between.
    Line,
    /// Version 1: an address is not one of the family, or a port not a number without leading zero.
    Address,
    /// Version 2: neither version 2, nor `LOCAL` or `PROXY`.
    Command,
    /// Version 2: a family or transport that is not defined, or a datagram.
    Family,
    /// Version 2: longer than the limit, or too short for the family's addresses.
    Length,
    /// Version 2: a field does not end where the header does.
    Field,
    /// Version 2: the checksum is another.
    Checksum,
}

impl BadHeader {
    /// For the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Line => "line",
            Self::Address => "address",
            Self::Command => "command",
            Self::Family => "family",
            Self::Length => "length",
            Self::Field => "field",
            Self::Checksum => "checksum",
        }
    }
}

const V1_START: &[u8] = b"PROXY ";
/// With CRLF, as the specification says.
const V1_MAX: usize = 107;
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Before the addresses.
const V2_FIXED: usize = 16;
/// Addresses and fields. The addresses of a UNIX socket take 216; load balancers add 30 to a few
/// hundred.
const V2_REST_MAX: usize = 2048;
/// `PP2_TYPE_CRC32C`.
const CHECKSUM_FIELD: u8 = 3;

/// Reads the header at the start of `wire`.
#[must_use]
pub fn parse(wire: &[u8]) -> Parsed {
    for (start, read) in [(V1_START, version_1 as fn(&[u8]) -> _), (V2_SIGNATURE, version_2)] {
        let common = start.len().min(wire.len());
        if wire[..common] == start[..common] {
            if wire.len() < start.len() {
                return Parsed::NeedMore;
            }
            return read(wire).unwrap_or_else(Parsed::Bad);
        }
    }
    Parsed::Bad(BadHeader::Missing)
}

fn version_1(wire: &[u8]) -> Result<Parsed, BadHeader> {
    let within = &wire[..wire.len().min(V1_MAX)];
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return if wire.len() < V1_MAX { Ok(Parsed::NeedMore) } else { Err(BadHeader::Line) };
    };
    let line = std::str::from_utf8(&wire[V1_START.len()..end]).map_err(|_| BadHeader::Line)?;
    let len = end + 2;
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Ok(Parsed::Header { len, source: None });
    }
    let parts: Vec<&str> = line.split(' ').collect();
    let &[family, source, destination, source_port, destination_port] = &parts[..] else {
        return Err(BadHeader::Line);
    };
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| BadHeader::Address),
        "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| BadHeader::Address),
        _ => Err(BadHeader::Line),
    };
    let source = (address(source)?, port(source_port)?);
    let _ = (address(destination)?, port(destination_port)?);
    Ok(Parsed::Header { len, source: Some(crate::net::unmapped(source.into())) })
}

fn port(text: &str) -> Result<u16, BadHeader> {
    let port = text.parse::<u16>().map_err(|_| BadHeader::Address)?;
    // No sign and no leading zero.
    if port.to_string() == text { Ok(port) } else { Err(BadHeader::Address) }
}

fn version_2(wire: &[u8]) -> Result<Parsed, BadHeader> {
    let Some(&[command, family, high, low]) = wire.get(12..V2_FIXED) else {
        // What is there already must be right.
        return match wire.get(12) {
            Some(command) if !matches!(command, 0x20 | 0x21) => Err(BadHeader::Command),
            _ => Ok(Parsed::NeedMore),
        };
    };
    if !matches!(command, 0x20 | 0x21) {
        return Err(BadHeader::Command);
    }
    let is_local = command == 0x20;
    let addresses = match family {
        // A check by the proxy itself: what follows is to be ignored, whatever it is.
        _ if is_local => 0,
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        _ => return Err(BadHeader::Family),
    };
    let rest = usize::from(u16::from_be_bytes([high, low]));
    if rest > V2_REST_MAX {
        return Err(BadHeader::Length);
    }
    let len = V2_FIXED + rest;
    let Some(header) = wire.get(..len) else { return Ok(Parsed::NeedMore) };
    if is_local {
        return Ok(Parsed::Header { len, source: None });
    }
    let (named, fields) =
        header[V2_FIXED..].split_at_checked(addresses).ok_or(BadHeader::Length)?;
    check_fields(header, fields)?;
    let port = |at: usize| u16::from_be_bytes([named[at], named[at + 1]]);
    let source = match family {
        0x11 => {
            let bytes: [u8; 4] = named[..4].try_into().map_err(|_| BadHeader::Length)?;
            Some(SocketAddr::from((bytes, port(8))))
        }
        0x21 => {
            let bytes: [u8; 16] = named[..16].try_into().map_err(|_| BadHeader::Length)?;
            Some(SocketAddr::from((bytes, port(32))))
        }
        _ => None,
    };
    Ok(Parsed::Header { len, source: source.map(crate::net::unmapped) })
}

/// Walks type, length, value to the end.
fn check_fields(header: &[u8], mut fields: &[u8]) -> Result<(), BadHeader> {
    while !fields.is_empty() {
        let (&[kind, high, low], behind) = fields.split_first_chunk().ok_or(BadHeader::Field)?;
        let len = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) = behind.split_at_checked(len).ok_or(BadHeader::Field)?;
        if kind == CHECKSUM_FIELD {
            let said: [u8; 4] = value.try_into().map_err(|_| BadHeader::Field)?;
            // It is computed with zeros in its own place.
            let at = header.len() - rest.len() - len;
            let zeroed = header
                .iter()
                .enumerate()
                .map(|(i, &byte)| if (at..at + len).contains(&i) { 0 } else { byte });
            if crc32c(zeroed) != u32::from_be_bytes(said) {
                return Err(BadHeader::Checksum);
            }
        }
        fields = rest;
    }
    Ok(())
}

/// CRC-32C (Castagnoli), a bit at a time: a few hundred bytes for each connection of a proxy that
/// sends one.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    let step = |crc: u32, byte: u8| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 }
        })
    };
    !bytes.fold(u32::MAX, step)
}

#[cfg(test)]
mod tests;

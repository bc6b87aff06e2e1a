//! One way in: where peers connect, and where the application is.
//!
//! Must not know: sockets, TLS.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

/// One way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// Where peers connect.
    pub listen: SocketAddr,
    /// Where plain bytes go.
    pub to: SocketAddr,
}

impl Inbound {
    fn leads_to_itself(&self) -> bool {
        let (from, to) = (self.listen.ip(), self.to.ip());
        let is_here = from.is_unspecified() && (to.is_loopback() || to.is_unspecified());
        self.listen.port() == self.to.port() && (from == to || is_here)
    }
}

impl FromStr for Inbound {
    type Err = String;

    /// Reads `FROM=TO`. Each is `IP:PORT` or a port alone: of every address for FROM, of 127.0.0.1
    /// for TO.
    fn from_str(text: &str) -> Result<Self, String> {
        let side = |text: &str, ip: IpAddr| match text.parse::<u16>() {
            Ok(port) => Some(SocketAddr::new(ip, port)),
            Err(_) => text.parse().ok(),
        };
        let read = || {
            let (from, to) = text.split_once('=')?;
            let listen = side(from, Ipv6Addr::UNSPECIFIED.into())?;
            Some(Self { listen, to: side(to, Ipv4Addr::LOCALHOST.into())? })
        };
        let form = "is not FROM=TO, such as 15006=8080 or 10.0.0.7:15006=127.0.0.1:8080";
        match read() {
            None => Err(format!("{text:?} {form}")),
            Some(way) if way.to.port() == 0 => Err(format!("{text:?} {form}: TO wants a port")),
            Some(way) if way.leads_to_itself() => Err(format!("{text:?} leads to itself")),
            Some(way) => Ok(way),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_in_is_two_addresses_or_ports() {
        let read = |text: &str| {
            let Inbound { listen, to } = text.parse().expect(text);
            format!("{listen} {to}")
        };
        assert_eq!(read("15006=8080"), "[::]:15006 127.0.0.1:8080");
        assert_eq!(read("127.0.0.1:0=[::1]:80"), "127.0.0.1:0 [::1]:80");
        for text in ["", "15006", "15006=", "=8080", "15006=0", "localhost:1=2", "1=2=3", "65536=1"]
        {
            let error = text.parse::<Inbound>().expect_err(text);
            assert!(error.contains("FROM=TO"), "{error}");
        }
        for text in ["1.2.3.4:5=1.2.3.4:5", "8080=8080", "8080=[::1]:8080"] {
            let error = text.parse::<Inbound>().expect_err(text);
            assert!(error.contains("leads to itself"), "{error}");
        }
        assert_eq!(read("8080=10.0.0.1:8080"), "[::]:8080 10.0.0.1:8080");
    }
}

//! Which addresses are never endpoints.
//!
//! Pure. An object must not be able to point the gateway at itself, at its node's metadata
//! service or at whatever listens on its loopback. Must not know: objects, services.

use std::net::{IpAddr, SocketAddr};

use super::Identity;

/// Why an address is refused as an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressRefusal {
    /// `0.0.0.0`, `::`.
    Unspecified,
    /// Also the broadcast address.
    Multicast,
    /// 169.254.0.0/16 holds the cloud's metadata service.
    LinkLocal,
    /// Refused unless every listener of ours is on loopback too.
    Loopback,
    /// Ours: it would come back to us.
    OwnListener,
}

impl AddressRefusal {
    /// The reason, for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "the address is unspecified",
            Self::Multicast => "the address is multicast",
            Self::LinkLocal => "the address is link-local",
            Self::Loopback => "the address is loopback, and this gateway listens elsewhere",
            Self::OwnListener => "the address is a listener of this gateway",
        }
    }
}

/// The reason to refuse `address`, if there is one.
#[must_use]
pub fn refuse(address: SocketAddr, identity: &Identity) -> Option<AddressRefusal> {
    let ip = address.ip().to_canonical();
    if ip.is_unspecified() {
        Some(AddressRefusal::Unspecified)
    } else if is_multicast(ip) {
        Some(AddressRefusal::Multicast)
    } else if is_link_local(ip) {
        Some(AddressRefusal::LinkLocal)
    } else if is_own(ip, address.port(), identity) {
        Some(AddressRefusal::OwnListener)
    } else if ip.is_loopback() && !identity.dials_loopback() {
        Some(AddressRefusal::Loopback)
    } else {
        None
    }
}

fn is_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast(),
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn is_own(ip: IpAddr, port: u16, identity: &Identity) -> bool {
    let here = || ip.is_loopback() || identity.own_addresses.iter().any(|o| o.to_canonical() == ip);
    let all = identity.listeners.iter().chain(&identity.operator_listeners);
    all.filter(|listener| listener.port() == port).any(|listener| {
        let own = listener.ip().to_canonical();
        own == ip || (own.is_unspecified() && here())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(listeners: &[&str], address: &str, expected: Option<AddressRefusal>) {
        let identity = Identity {
            listeners: listeners.iter().map(|l| l.parse().expect("a listener")).collect(),
            own_addresses: vec!["10.0.0.9".parse().expect("an address")],
            ..Identity::default()
        };
        let address = address.parse().expect("an address");
        assert_eq!(refuse(address, &identity), expected, "{address} {listeners:?}");
    }

    #[test]
    fn addresses_that_lead_nowhere_or_inside_are_refused() {
        let any = &["[::]:15443"][..];
        check(any, "10.0.0.1:80", None);
        check(any, "[fd00::1]:80", None);
        check(any, "0.0.0.0:80", Some(AddressRefusal::Unspecified));
        check(any, "[::]:80", Some(AddressRefusal::Unspecified));
        check(any, "224.0.0.1:80", Some(AddressRefusal::Multicast));
        check(any, "255.255.255.255:80", Some(AddressRefusal::Multicast));
        check(any, "[ff02::1]:80", Some(AddressRefusal::Multicast));
        check(any, "169.254.169.254:80", Some(AddressRefusal::LinkLocal));
        check(any, "[fe80::1]:80", Some(AddressRefusal::LinkLocal));
        check(any, "[::ffff:169.254.169.254]:80", Some(AddressRefusal::LinkLocal));
        check(any, "127.0.0.1:80", Some(AddressRefusal::Loopback));
        check(any, "[::1]:80", Some(AddressRefusal::Loopback));
        check(&[], "127.0.0.1:80", Some(AddressRefusal::Loopback));
    }

    #[test]
    fn our_own_listeners_are_refused_on_every_address_they_answer_on() {
        check(&["[::]:15443"], "10.0.0.9:15443", Some(AddressRefusal::OwnListener));
        check(&["[::]:15443"], "[::ffff:10.0.0.9]:15443", Some(AddressRefusal::OwnListener));
        check(&["[::]:15443"], "127.0.0.1:15443", Some(AddressRefusal::OwnListener));
        check(&["[::]:15443"], "10.0.0.9:8080", None);
        check(&["[::]:15443"], "10.0.0.8:15443", None);
        check(&["127.0.0.1:15443"], "127.0.0.1:15443", Some(AddressRefusal::OwnListener));
    }

    #[test]
    fn a_sidecar_dials_loopback_as_its_workload_could() {
        let identity = Identity { role: crate::discovery::Role::Sidecar, ..Identity::default() };
        assert_eq!(refuse(([127, 0, 0, 1], 80).into(), &identity), None);
    }

    #[test]
    fn loopback_serves_a_gateway_that_listens_only_there() {
        check(&["127.0.0.1:15443", "[::1]:15443"], "127.0.0.1:9000", None);
        check(
            &["127.0.0.1:15443", "10.0.0.9:15443"],
            "127.0.0.1:9000",
            Some(AddressRefusal::Loopback),
        );
    }
}

//! A range of IP addresses, as operators write it: `10.0.0.0/8`, `fd00::/8`, or one address.
//!
//! IPv4 addresses that came as IPv6 (`::ffff:10.0.0.1`) are taken for what they are. Must not
//! know: what a range is for.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A range of addresses with a common prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Not of the form.
    #[error("{0:?} is not an address or a range; expected such as 10.0.0.0/8, fd00::/8, 10.0.0.1")]
    Form(String),
    /// Bits beyond the prefix: most likely a slip.
    #[error("{given} has bits beyond its prefix; the range that holds it is {meant}")]
    HostBits {
        /// As written.
        given: String,
        /// Without those bits.
        meant: Cidr,
    },
}

impl Cidr {
    /// Whether the address is in the range.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.prefix) == self.address
    }
}

/// The address with the bits beyond the prefix cleared.
#[must_use]
pub fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix.into())).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix.into())).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let form = || CidrError::Form(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| form())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            // A sign would be read too.
            Some(prefix) if prefix.bytes().all(|b| b.is_ascii_digit()) => {
                prefix.parse().ok().filter(|p| *p <= bits).ok_or_else(form)?
            }
            Some(_) => return Err(form()),
        };
        if masked(address, prefix) != address {
            let meant = Self { address: masked(address, prefix), prefix };
            return Err(CidrError::HostBits { given: text.to_owned(), meant });
        }
        // ::ffff:10.0.0.0/104 is 10.0.0.0/8.
        match (address.to_canonical(), prefix.checked_sub(96)) {
            (v4 @ IpAddr::V4(_), Some(prefix)) if address.is_ipv6() => {
                Ok(Self { address: v4, prefix })
            }
            _ => Ok(Self { address, prefix }),
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(range: &str, address: &str, expected: bool) {
        let range: Cidr = range.parse().expect(range);
        assert_eq!(range.contains(address.parse().expect(address)), expected, "{address} {range}");
    }

    #[test]
    fn a_range_contains_what_shares_its_prefix() {
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.0", false);
        check("10.1.2.3", "10.1.2.3", true);
        check("10.1.2.3", "10.1.2.4", false);
        check("0.0.0.0/0", "203.0.113.9", true);
        check("fd00::/8", "fdff::1", true);
        check("2001:db8:1:2::/64", "2001:db8:1:3::1", false);
        check("::/0", "2001:db8::1", true);
    }

    #[test]
    fn families_do_not_mix_but_a_mapped_address_is_ipv4() {
        check("10.0.0.0/8", "::ffff:10.0.0.1", true);
        check("::ffff:10.0.0.0/104", "10.0.0.1", true);
        check("::/0", "10.0.0.1", false);
        check("0.0.0.0/0", "::1", false);
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "::/129", "10.0/8", "a/8"] {
            assert!(matches!(text.parse::<Cidr>(), Err(CidrError::Form(_))), "{text}");
        }
        let error = "10.1.2.3/16".parse::<Cidr>().expect_err("a slip").to_string();
        assert!(error.ends_with("10.1.0.0/16"), "{error}");
    }
}

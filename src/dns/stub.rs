//! What a cluster's DNS is told, so that it asks us for our suffixes.
//!
//! Must not know: sockets, what we answer.

use std::{fmt::Write as _, net::SocketAddr};

use super::name::DnsName;

/// A cluster DNS that can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stub {
    /// CoreDNS since 1.4: a server block for its Corefile.
    CoreDns,
    /// kube-dns: its ConfigMap.
    KubeDns,
}

/// The text that makes `stub` ask the server at `address` for names under `suffixes`.
#[must_use]
pub fn text(stub: Stub, suffixes: &[DnsName], address: SocketAddr) -> String {
    let at = match address.port() {
        53 => address.ip().to_string(),
        _ => address.to_string(),
    };
    let mut text = match stub {
        Stub::CoreDns => {
            "# Add to the Corefile in the ConfigMap coredns of kube-system.\n".to_owned()
        }
        Stub::KubeDns => "# kubectl apply -f, where kube-dns has no stub domains yet.\n".to_owned(),
    };
    if address.ip().is_loopback() || address.ip().is_unspecified() {
        text += &format!(
            "# {} is an address of one machine only: put here the address of the Service in \
             front of diolkos dns.\n",
            address.ip()
        );
    }
    match stub {
        Stub::CoreDns => {
            for suffix in suffixes {
                let _ = write!(
                    text,
                    "{suffix}:53 {{\n    errors\n    cache 30\n    forward . {at}\n}}\n"
                );
            }
        }
        Stub::KubeDns => {
            let domains: serde_json::Map<_, _> =
                suffixes.iter().map(|s| (s.to_string(), vec![at.clone()].into())).collect();
            let domains = serde_json::Value::Object(domains);
            let _ = write!(
                text,
                "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: kube-dns\n  namespace: \
                 kube-system\ndata:\n  stubDomains: |\n    {domains}\n"
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stub: Stub, address: &str, expected: &str) {
        let suffixes = ["global", "mesh.example"].map(|s| DnsName::parse(s).expect("a name"));
        let text = text(stub, &suffixes, address.parse().expect("an address"));
        let bare: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(bare.join("\n"), expected);
    }

    #[test]
    fn coredns_gets_a_server_block_for_each_suffix() {
        check(
            Stub::CoreDns,
            "10.96.0.20:53",
            "global:53 {\n    errors\n    cache 30\n    forward . 10.96.0.20\n}\n\
             mesh.example:53 {\n    errors\n    cache 30\n    forward . 10.96.0.20\n}",
        );
        check(
            Stub::CoreDns,
            "[fd00::1]:15053",
            "global:53 {\n    errors\n    cache 30\n    forward . [fd00::1]:15053\n}\n\
             mesh.example:53 {\n    errors\n    cache 30\n    forward . [fd00::1]:15053\n}",
        );
    }

    #[test]
    fn kube_dns_gets_its_config_map() {
        check(
            Stub::KubeDns,
            "10.96.0.20:53",
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: kube-dns\n  namespace: \
             kube-system\ndata:\n  stubDomains: |\n    \
             {\"global\":[\"10.96.0.20\"],\"mesh.example\":[\"10.96.0.20\"]}",
        );
    }

    #[test]
    fn an_address_of_one_machine_is_remarked() {
        let suffixes = [DnsName::parse("global").expect("a name")];
        let of = |address: &str| text(Stub::CoreDns, &suffixes, address.parse().expect("address"));
        assert!(of("127.0.0.1:15053").contains("put here the address of the Service"));
        assert!(!of("10.96.0.20:53").contains("put here"));
    }
}

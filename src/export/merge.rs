//! The same host in several clusters becomes one import.
//!
//! Must not know: addresses, what others own, YAML.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Remark,
    offer::{Port, View},
    peer::Peer,
};

/// A host as it is to be called in the importing cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The ports that every cluster of `clusters` has.
    pub ports: Vec<Port>,
    /// Clusters that serve it, by their place among all, in their order.
    pub clusters: Vec<usize>,
    /// Subsets, and the clusters that have each.
    pub subsets: BTreeMap<Arc<str>, Vec<usize>>,
}

/// Merges what clusters offer, in their order. A caller has one list of ports for one host, so only
/// ports that all have are taken; a cluster that shares none with those before it is left out.
#[must_use]
pub fn merge(clusters: &[(&Peer, &View)]) -> (BTreeMap<String, Import>, Vec<Remark>) {
    let mut imports: BTreeMap<String, Import> = BTreeMap::new();
    let mut remarks = Vec::new();
    for (place, (peer, view)) in clusters.iter().enumerate() {
        for (host, offer) in &view.offers {
            let import = match imports.get_mut(host) {
                Some(import) => {
                    let first = &clusters[import.clusters[0]].0.name;
                    let mut said = Said { host, first, second: &peer.name, remarks: &mut remarks };
                    match common(&import.ports, &offer.ports, &mut said) {
                        Some(ports) => import.ports = ports,
                        None => continue,
                    }
                    import.clusters.push(place);
                    import
                }
                None => imports.entry(host.clone()).or_insert(Import {
                    ports: offer.ports.clone(),
                    clusters: vec![place],
                    subsets: BTreeMap::new(),
                }),
            };
            for subset in &offer.subsets {
                import.subsets.entry(Arc::clone(subset)).or_default().push(place);
            }
        }
    }
    (imports, remarks)
}

struct Said<'a> {
    host: &'a str,
    first: &'a str,
    second: &'a str,
    remarks: &'a mut Vec<Remark>,
}

impl Said<'_> {
    fn say(&mut self, text: &str) {
        self.remarks.push(Remark::warning(format!("{}: {text}", self.host)));
    }
}

/// The ports that both have; `None` when there is none.
fn common(known: &[Port], offered: &[Port], said: &mut Said<'_>) -> Option<Vec<Port>> {
    let find = |ports: &[Port], number| ports.iter().find(|port| port.number == number).cloned();
    let (first, second) = (said.first, said.second);
    let numbers = |ports: &[Port]| {
        ports.iter().map(|port| port.number.to_string()).collect::<Vec<_>>().join(", ")
    };
    let mut ports = Vec::new();
    for port in known {
        let Some(other) = find(offered, port.number) else { continue };
        let mut port = port.clone();
        if port.protocol != other.protocol {
            said.say(&format!(
                "port {} is {} in {first} and {} in {second}: it is exported as TCP",
                port.number, port.protocol, other.protocol
            ));
            port.protocol = "TCP";
        }
        ports.push(port);
    }
    if ports.is_empty() {
        let (known, offered) = (numbers(known), numbers(offered));
        said.say(&format!(
            "{second} has ports {offered} and {first} has {known}: the gateway of {second} is left \
             out"
        ));
        return None;
    }
    let missing = |from: &[Port], has: &str, lacks: &str, said: &mut Said<'_>| {
        for port in from.iter().filter(|port| find(&ports, port.number).is_none()) {
            said.say(&format!(
                "port {} is in {has} and not in {lacks}: it is not exported",
                port.number
            ));
        }
    };
    missing(known, first, second, said);
    missing(offered, second, first, said);
    Some(ports)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        export::offer::Offer,
        manifests::{Kind, ObjectRef, Severity},
    };

    fn view(ports: &[(u16, &'static str)], subsets: &[&str]) -> View {
        let port = |(number, protocol): &(u16, &'static str)| Port {
            number: *number,
            name: format!("p-{number}"),
            protocol,
        };
        let offer = Offer {
            service: ObjectRef { kind: Kind::Service, namespace: "ns2".into(), name: "bar".into() },
            ports: ports.iter().map(port).collect(),
            subsets: subsets.iter().map(|s| Arc::from(*s)).collect(),
        };
        View { offers: [("bar.ns2.global".to_owned(), offer)].into(), ..View::default() }
    }

    fn check(views: &[View], ports: &[&str], clusters: &[usize], said: &[&str]) -> Import {
        let peers: Vec<Peer> =
            (1..=views.len()).map(|n| format!("c{n}=d").parse().expect("a cluster")).collect();
        let (imports, remarks) = merge(&peers.iter().zip(views).collect::<Vec<_>>());
        let import = &imports["bar.ns2.global"];
        let found = import.ports.iter().map(|p| format!("{} {}", p.number, p.protocol));
        assert_eq!(found.collect::<Vec<_>>(), ports);
        assert_eq!(import.clusters, clusters);
        let text = |remark: &Remark| {
            assert_eq!(remark.severity, Severity::Warning);
            remark.text.strip_prefix("bar.ns2.global: ").expect("names the host").to_owned()
        };
        assert_eq!(remarks.iter().map(text).collect::<Vec<_>>(), said);
        import.clone()
    }

    #[test]
    fn one_host_in_several_clusters_is_one_import() {
        let views = [view(&[(80, "HTTP")], &["v1"]), view(&[(80, "HTTP")], &["v1", "v2"])];
        let import = check(&views, &["80 HTTP"], &[0, 1], &[]);
        assert_eq!(
            import.subsets,
            [("v1".into(), vec![0, 1]), ("v2".into(), vec![1])].into_iter().collect()
        );
    }

    #[test]
    fn only_ports_that_all_have_are_taken() {
        check(
            &[view(&[(80, "HTTP"), (90, "TCP")], &[]), view(&[(80, "HTTP"), (70, "TCP")], &[])],
            &["80 HTTP"],
            &[0, 1],
            &[
                "port 90 is in c1 and not in c2: it is not exported",
                "port 70 is in c2 and not in c1: it is not exported",
            ],
        );
        check(
            &[view(&[(80, "HTTP")], &[]), view(&[(90, "TCP")], &["v1"]), view(&[(80, "TCP")], &[])],
            &["80 TCP"],
            &[0, 2],
            &[
                "c2 has ports 90 and c1 has 80: the gateway of c2 is left out",
                "port 80 is HTTP in c1 and TCP in c3: it is exported as TCP",
            ],
        );
    }
}

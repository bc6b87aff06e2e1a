//! What is called, port by port and subset by subset.
//!
//! Must not know: identities.

use std::sync::Arc;

use super::{Asked, Member, Mismatch, World, asked, reference, remote};
use crate::{
    export::offer::Port,
    manifests::{
        ObjectRef,
        kinds::{
            DestinationRule, Service, ServiceEntry,
            destination_rule::Subset,
            service::Transport,
            service_entry::{EntryPort, Protocol, Workload},
        },
    },
};

pub(super) fn compare(world: &World<'_>, found: &mut Vec<Mismatch>) {
    let objects = world.member.store.objects();
    for entry in objects.service_entries.iter() {
        let object = reference(crate::manifests::Object::ServiceEntry(Arc::clone(entry)));
        for (index, host) in entry.spec.hosts.iter().enumerate() {
            let Some(parts) = remote(&host.0, world.suffix) else { continue };
            match asked(parts) {
                Some(asked) => entry_fits(world, entry, &object, (index, asked), found),
                None => found.push(world.member.mismatch(
                    &object,
                    format_args!("spec.hosts[{index}]"),
                    format!(
                        "{}: no Service of another cluster can be meant: write \
                         NAME.NAMESPACE.{}",
                        parts.0, world.suffix
                    ),
                )),
            }
        }
    }
    for rule in objects.destination_rules.iter() {
        let asked = remote(&rule.spec.host.0, world.suffix).and_then(asked);
        if let Some(asked) = asked {
            rule_fits(world, rule, asked, found);
        }
    }
}

fn entry_fits(
    world: &World<'_>,
    entry: &ServiceEntry,
    object: &ObjectRef,
    (index, asked): (usize, Asked<'_>),
    found: &mut Vec<Mismatch>,
) {
    let (targets, any) = world.targets(entry.spec.endpoints.iter());
    let field = format!("spec.hosts[{index}]");
    let service = asked.reference();
    let (having, lacking): (Vec<_>, Vec<_>) =
        targets.into_iter().partition(|target| target.service(&asked).is_some());
    if any && having.is_empty() {
        let text = format!("{}: no other cluster has {service}", asked.host);
        return found.push(world.member.mismatch(object, &field, text));
    }
    for target in lacking.iter().filter(|_| !any) {
        let text = format!("{}: {} has no {service}", asked.host, target.name);
        found.push(world.member.mismatch(object, &field, text));
    }
    for (index, port) in entry.spec.ports.iter().enumerate() {
        if port.protocol == Protocol::Udp {
            continue;
        }
        let faults: Vec<String> =
            having.iter().filter_map(|target| port_fault(target, &asked, port)).collect();
        if !any || faults.len() == having.len() {
            let field = format!("spec.ports[{index}].number");
            let told = |fault| world.member.mismatch(object, &field, fault);
            found.extend(faults.into_iter().map(told));
        }
    }
}

/// Why a cluster does not answer for a port.
fn port_fault(target: &Member, asked: &Asked<'_>, port: &EntryPort) -> Option<String> {
    let service = target.service(asked)?;
    let shown = target.shown(&asked.reference());
    let number = port.number;
    let tcp = |service: &Service| -> Vec<u16> {
        let ports = service.spec.ports.iter().filter(|port| port.protocol == Transport::Tcp);
        ports.map(|port| port.port).collect()
    };
    let ports = tcp(service);
    if !ports.contains(&number) {
        let has = ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let has = if has.is_empty() { "none".to_owned() } else { has };
        return Some(format!("{number}: {shown} has no such TCP port; it has {has}"));
    }
    let offer = target.view.offers.get(asked.host);
    let offered = |port: &Port| port.number == number;
    if offer.is_some_and(|offer| offer.ports.iter().any(offered)) {
        return None;
    }
    let why = target.reader.refusal(asked.host, number);
    Some(format!("{number}: {shown} is not served by its gateway: {why}"))
}

fn rule_fits(
    world: &World<'_>,
    rule: &Arc<DestinationRule>,
    asked: Asked<'_>,
    found: &mut Vec<Mismatch>,
) {
    let object = reference(crate::manifests::Object::DestinationRule(Arc::clone(rule)));
    let entries = world.member.store.objects().service_entries.iter();
    let ours: Vec<_> = entries
        .filter(|entry| {
            let mut hosts = entry.spec.hosts.iter();
            hosts.any(|host| host.0 == rule.spec.host.0)
        })
        .collect();
    let endpoints: Vec<&Workload> = ours.iter().flat_map(|e| e.spec.endpoints.iter()).collect();
    for (index, subset) in rule.spec.subsets.iter().enumerate() {
        let picked = endpoints.iter().copied().filter(|e| e.labels.matches(&subset.labels));
        if let Some(entry) = ours.first().filter(|_| !endpoints.is_empty())
            && picked.clone().next().is_none()
        {
            let entry = reference(crate::manifests::Object::ServiceEntry(Arc::clone(entry)));
            let entry = world.member.shown(&entry);
            let text = format!("{}: no endpoint of {entry} has them", subset.labels);
            let field = format!("spec.subsets[{index}].labels");
            found.push(world.member.mismatch(&object, field, text));
            continue;
        }
        let (targets, any) = world.targets(picked);
        // A service that is not offered at all is told of its entry.
        let offering = targets.iter().filter(|t| t.view.offers.contains_key(asked.host));
        let offering: Vec<_> = offering.collect();
        let faults: Vec<String> =
            offering.iter().filter_map(|target| subset_fault(target, &asked, subset)).collect();
        if !any || faults.len() == offering.len() {
            let field = format!("spec.subsets[{index}].name");
            let told = |fault| world.member.mismatch(&object, &field, fault);
            found.extend(faults.into_iter().map(told));
        }
    }
}

/// Why a cluster does not know a subset.
fn subset_fault(target: &Member, asked: &Asked<'_>, subset: &Subset) -> Option<String> {
    let offer = target.view.offers.get(asked.host)?;
    let name = subset.name.to_ascii_lowercase();
    if offer.subsets.iter().any(|known| **known == *name) {
        return None;
    }
    let lacks = format!("{}: {} has no such subset", subset.name, target.shown(&offer.service));
    Some(match target.reader.rule_of(&offer.service) {
        Some(rule) if !offer.subsets.is_empty() => {
            let has = offer.subsets.join(", ");
            format!("{lacks}; {} has {has}", target.shown(&rule))
        }
        Some(rule) => format!("{lacks}; {} has none", target.shown(&rule)),
        None => format!("{lacks}; no DestinationRule of {} is for it", target.name),
    })
}

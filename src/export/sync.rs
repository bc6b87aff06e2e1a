//! One run: from what clusters offer to the objects of the importing cluster, written or shown.
//!
//! Addresses are recorded before anything that holds them is written. Must not know: how offers
//! were read, how remarks are shown.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use super::{
    Deed, Destination, ExportError, Import, Peer, Range, Record, Remark, Shape, Taken, View,
    addresses::Held,
    destination::{Changes, Found},
    merge::merge,
    object,
};
use crate::manifests::Kind;

/// How often a run begins anew because somebody changed the record of addresses meanwhile.
const RACES_MAX: usize = 5;

/// What is exported to which cluster, and where it goes.
#[derive(Clone, Debug)]
pub struct Export {
    /// The clusters that offer, in the order in which their gateways are written.
    pub peers: Vec<Peer>,
    /// What all objects have in common.
    pub shape: Shape,
    /// From where new names get their addresses.
    pub range: Range,
    /// Which name has which address.
    pub record: Record,
    /// Where the objects go.
    pub destination: Destination,
    /// Names whose address is freed first.
    pub forget: Vec<String>,
    /// Everything of ours may be removed, and nothing written in its place.
    pub allow_empty: bool,
}

/// What a run did or, when it was not to write, would do.
#[derive(Debug, Default)]
pub struct Done {
    /// The objects of each host, as YAML.
    pub objects: BTreeMap<String, String>,
    /// Hosts whose files or objects were written.
    pub written: Vec<String>,
    /// Hosts whose files or objects were removed.
    pub removed: Vec<String>,
    /// Hosts that were right already.
    pub unchanged: usize,
    /// What was done to each object of a cluster.
    pub deeds: Vec<Deed>,
    /// Hosts that a cluster did not let us write, or whose objects are somebody else's: to be tried
    /// again.
    pub refused: BTreeSet<String>,
    /// Hosts whose address somebody else uses: not written, and what is there stays.
    pub contested: BTreeSet<String>,
    /// Names that got an address in this run.
    pub named: usize,
    /// Names in the file of addresses.
    pub recorded: usize,
    /// The file of addresses is another than before.
    pub recorded_anew: bool,
    /// What the operator should know.
    pub remarks: Vec<Remark>,
}

impl Done {
    /// True when nothing was written, or would be.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.written.is_empty() && self.removed.is_empty() && !self.recorded_anew
    }
}

impl Export {
    /// Runs once. `views` are those of `peers`, in their order; `taken` is what others own in the
    /// importing cluster. With `write` false neither objects nor addresses are touched.
    ///
    /// # Errors
    /// When addresses cannot be read or recorded, or objects not be written; also when everything
    /// of ours would go and nothing come, unless that is allowed.
    pub async fn run(
        &self,
        views: &[View],
        taken: &Taken,
        write: bool,
    ) -> Result<Done, ExportError> {
        let mut races = 0;
        loop {
            match self.once(views, taken, write).await {
                Err(ExportError::Raced { .. }) if races < RACES_MAX => races += 1,
                ended => return ended,
            }
        }
    }

    async fn once(&self, views: &[View], taken: &Taken, write: bool) -> Result<Done, ExportError> {
        let mut held = self.record.hold(write).await?;
        let mut done = Done::default();
        let freed = self.free(&mut held, &mut done.remarks);
        let found = self.destination.look().await?;
        self.is_not_lost(&held, &found)?;
        let mut taken = taken.clone();
        taken.extend(found.taken.clone());
        let clusters: Vec<_> = self.peers.iter().zip(views).collect();
        let (mut imports, remarks) = merge(&clusters);
        done.remarks.extend(views.iter().flat_map(|view| view.remarks.iter().cloned()));
        done.remarks.extend(remarks);
        done.remarks.extend(found.remarks.iter().cloned());
        let clashes = found.clashes(imports.keys());
        imports.retain(|host, _| self.is_ours_to_write(host, &taken, &found, &mut done));

        let in_use = |ip: Ipv4Addr| taken.user_of(IpAddr::V4(ip)).is_some();
        let given = held.book.assign(imports.keys().map(String::as_str), self.range, in_use);
        done.named = given.count;
        done.remarks.extend(given.without.iter().map(|host| self.exhausted(host)));
        done.recorded = held.book.len();
        done.remarks.extend(self.outside(&held));
        done.recorded_anew = held.is_changed();
        self.make_objects(&imports, &held, (&taken, &found), &mut done);
        done.remarks.extend(freed.iter().map(|freed| say_freed(freed, &imports, &held, write)));

        let mut changes = self.changes(&found, views, &imports, &mut done);
        changes.clashes = clashes;
        self.is_not_all_gone(&found, &changes)?;
        if write {
            held.save().await?;
        }
        let applied = self.destination.apply(&changes, &found, write).await?;
        done.written = applied.written;
        done.removed = applied.removed;
        done.deeds = applied.deeds;
        done.remarks.extend(applied.remarks);
        done.refused.extend(applied.refused);
        Ok(done)
    }

    fn is_not_lost(&self, held: &Held, found: &Found) -> Result<(), ExportError> {
        match held.absent() {
            Some(record) if !found.ours.is_empty() => Err(ExportError::Lost {
                record: record.to_owned(),
                place: self.destination.place(),
                count: found.ours.len(),
                what: self.destination.units(),
            }),
            _ => Ok(()),
        }
    }

    /// Frees what is to be forgotten, and gives the addresses that names had.
    fn free(&self, held: &mut Held, remarks: &mut Vec<Remark>) -> BTreeMap<&str, Ipv4Addr> {
        let mut freed = BTreeMap::new();
        for name in &self.forget {
            match held.book.forget(name) {
                Some(address) => _ = freed.insert(&**name, address),
                None if freed.contains_key(&**name) => {}
                None => {
                    remarks.push(Remark::error(format!("--forget {name}: it has no address")));
                }
            }
        }
        freed
    }

    fn exhausted(&self, host: &str) -> Remark {
        let (range, size) = (self.range, self.range.size());
        Remark::error(format!(
            "{host}: has no address and is not written: of the {size} addresses of range {range} \
             none is left; give a larger --range, or free names that are gone with --forget"
        ))
    }

    /// Another range is for new names only; it may also have been mistyped, here or there.
    fn outside(&self, held: &Held) -> Option<Remark> {
        let (count, host, address) = held.book.outside(self.range)?;
        Some(Remark::warning(format!(
            "{count} recorded addresses are outside of range {}, such as {address} of {host}: they \
             stay; the range is for new names only",
            self.range
        )))
    }

    /// An empty directory of manifests looks like a cluster that offers nothing.
    fn is_not_all_gone(&self, found: &Found, changes: &Changes) -> Result<(), ExportError> {
        let all = changes.write.is_empty() && changes.remove.len() == found.ours.len();
        match changes.remove.first() {
            Some(first) if all && !self.allow_empty => Err(ExportError::Empty {
                place: self.destination.place(),
                count: changes.remove.len(),
                what: self.destination.units(),
                first: first.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// False, with the reason, for a host that somebody else has.
    fn is_ours_to_write(&self, host: &str, taken: &Taken, found: &Found, done: &mut Done) -> bool {
        let left = "it is left alone";
        if found.is_foreign(Kind::ServiceEntry, host) {
            let stays =
                if found.ours.contains_key(host) { ", and our DestinationRule stays" } else { "" };
            let text = format!("{host}: {}: {left}{stays}", self.whose_name(host));
            done.remarks.push(Remark::error(text));
            done.refused.insert(host.to_owned());
            return false;
        }
        if let Some(whose) = taken.owner_of(host, &self.shape.namespace) {
            done.remarks.push(Remark::note(format!("{host}: {whose} has this host: {left}")));
            return false;
        }
        let other = self.destination.other_at(host, found);
        if let Some(path) = &other {
            let text = format!("{host}: {} is a file of somebody else: {left}", path.display());
            done.remarks.push(Remark::error(text));
        }
        other.is_none()
    }

    fn whose_name(&self, host: &str) -> String {
        let namespace = &self.shape.namespace;
        format!(
            "ServiceEntry {namespace}/{host} is somebody else's (it has not the labels of this \
             exporter)"
        )
    }

    fn make_objects(
        &self,
        imports: &BTreeMap<String, Import>,
        held: &Held,
        (taken, found): (&Taken, &Found),
        done: &mut Done,
    ) {
        let peers: Vec<&Peer> = self.peers.iter().collect();
        for (host, import) in imports {
            let Some(address) = held.book.address_of(host) else { continue };
            if let Some(whose) = taken.user_of(IpAddr::V4(address)) {
                let text = format!(
                    "{host}: its address {address} is also that of {whose}: it is not written, and \
                     what is there of it stays; give that one another address, or this one by \
                     --forget {host}"
                );
                done.remarks.push(Remark::error(text));
                done.contested.insert(host.clone());
                continue;
            }
            let rule = taken.rule_of(host, &self.shape.namespace);
            let foreign = found.is_foreign(Kind::DestinationRule, host);
            if foreign {
                let namespace = &self.shape.namespace;
                let text = format!(
                    "{host}: DestinationRule {namespace}/{host} is somebody else's: none is written \
                     in its place"
                );
                done.remarks.push(Remark::warning(text));
            } else if let Some(whose) = rule {
                let text = format!("{host}: {whose} is its rule: none is written beside it");
                done.remarks.push(Remark::note(text));
            }
            let with_rule = rule.is_none() && !foreign;
            let text = object::text((host, import, address), &self.shape, &peers, with_rule);
            done.objects.insert(host.clone(), text);
        }
    }

    /// Compares what is to be with what is. What would lose the gateway of a cluster whose
    /// manifests are broken stays as it is: what is missing there may be only unreadable.
    fn changes(
        &self,
        found: &Found,
        views: &[View],
        imports: &BTreeMap<String, Import>,
        done: &mut Done,
    ) -> Changes {
        let mut changes = Changes::default();
        if matches!(self.destination, Destination::Shown) {
            return changes;
        }
        let one = self.destination.unit();
        let broken = self.peers.iter().zip(views).filter(|(_, view)| view.broken);
        let broken: BTreeSet<&str> = broken.map(|(peer, _)| &*peer.name).collect();
        for host in done.objects.keys().chain(found.ours.keys()).collect::<BTreeSet<_>>() {
            let (old, new) = (found.ours.get(host), done.objects.get(host));
            let stays: BTreeSet<&str> = imports.get(host).map_or_else(BTreeSet::new, |import| {
                import.clusters.iter().map(|place| &*self.peers[*place].name).collect()
            });
            let lost = old.and_then(|old| {
                let lost = old.clusters.iter().find(|name| !stays.contains(&***name));
                lost.filter(|name| broken.contains(&***name))
            });
            match (old, new, lost) {
                (Some(_), _, Some(cluster)) => done.remarks.push(Remark::warning(format!(
                    "{host}: its {one} stays as it is: {cluster} does not offer it, but has broken \
                     manifests"
                ))),
                (Some(_), None, None) if done.contested.contains(host) => done.unchanged += 1,
                // Our rule says how the gateways are reached: calls by an entry that somebody else
                // has taken over would fail without it.
                (Some(_), None, None) if done.refused.contains(host) => done.unchanged += 1,
                (Some(old), Some(new), None) if old.is(new) => {
                    done.unchanged += 1;
                }
                (_, Some(new), _) => _ = changes.write.insert(host.clone(), new.clone()),
                (Some(_), None, None) => _ = changes.remove.insert(host.clone()),
                (None, None, _) => {}
            }
        }
        changes
    }
}

/// What became of an address that was freed: callers of a name that is exported still have to
/// learn another.
fn say_freed(
    (name, address): (&&str, &Ipv4Addr),
    imports: &BTreeMap<String, Import>,
    held: &Held,
    write: bool,
) -> Remark {
    let (is, has) = if write { ("is", "has") } else { ("would be", "would have") };
    let text = format!("{name}: {address} {is} freed");
    if !imports.contains_key(*name) {
        return Remark::note(text);
    }
    let now = match held.book.address_of(name) {
        Some(now) if now == *address => "the same again".to_owned(),
        Some(now) => format!("{now} now"),
        None => "none now".to_owned(),
    };
    Remark::warning(format!("{text}; it is still exported and {has} {now}"))
}

#[cfg(test)]
mod tests;

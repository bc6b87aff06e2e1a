//! Changes what a running gateway serves, as its users do: diolkos by its manifests, Envoy by xDS
//! from files, HAProxy and nginx by their whole configuration and a signal.
//!
//! In turn one of the first route's pods is taken out and another comes back, and one route more
//! comes or goes. Must not know: what load there is.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    Peer,
    configs::{self, Site},
    envoy, manifests,
    peer::stream_module,
};

/// What a reader of the results should know of them.
pub(in crate::bench) const NOTES: [&str; 2] = [
    "churn: HAProxy (master-worker, listeners handed over) and nginx reload for each change; \
     HAProxy's runtime API, which changes servers without a reload, is not used. CPU is that of \
     all their processes. floor and direct have no routes and do the same work unchanged.",
    "churn: only endpoints and other routes change. A change of the loaded route's own settings, \
     for which Envoy ends a listener's connections after its drain time, is not among them.",
];

/// A gateway that can be changed.
pub(in crate::bench) struct Changer {
    peer: Peer,
    dir: PathBuf,
    listen: SocketAddr,
    pods: Vec<SocketAddr>,
    routes: usize,
    process: Pid,
}

impl Changer {
    /// `None` when it has no routes.
    pub(in crate::bench) fn new(peer: Peer, site: &Site<'_>, process: Pid) -> Option<Self> {
        let Site { dir, listen, pods, routes, .. } = *site;
        let (dir, pods) = (dir.to_owned(), pods.to_vec());
        let has_routes = !matches!(peer, Peer::Direct | Peer::Floor);
        has_routes.then_some(Self { peer, dir, listen, pods, routes, process })
    }

    /// Makes the change of this turn: even ones take a pod out and let the one before back in, odd
    /// ones are about the route that comes and goes.
    pub(in crate::bench) fn change(&self, turn: u64) -> anyhow::Result<()> {
        let turn = usize::try_from(turn).unwrap_or(0);
        let site = Site {
            left_out: Some(turn / 2 % self.pods.len()),
            routes: self.routes + usize::from(matches!(turn % 4, 1 | 2)),
            ..self.site()
        };
        self.apply(&site, turn % 2 == 0)
    }

    /// Everything is there, one route more among it. Gives its name: once that is served, all
    /// changes were taken.
    pub(in crate::bench) fn last(&self) -> anyhow::Result<String> {
        let site = Site { routes: self.routes + 1, ..self.site() };
        self.apply(&site, true)?;
        self.apply(&site, false)?;
        Ok(configs::name(self.routes))
    }

    /// Everything is as it was at first.
    pub(in crate::bench) fn settle(&self) -> anyhow::Result<()> {
        self.apply(&self.site(), true)?;
        self.apply(&self.site(), false)
    }

    fn site(&self) -> Site<'_> {
        let Self { dir, listen, pods, routes, .. } = self;
        Site { routes: *routes, changing: true, ..Site::new(dir, *listen, pods) }
    }

    fn apply(&self, site: &Site<'_>, endpoints: bool) -> anyhow::Result<()> {
        match self.peer {
            Peer::Direct | Peer::Floor => {}
            Peer::Haproxy => {
                replace(site.dir, "names.map", configs::haproxy_map(site))?;
                let text = configs::haproxy(site, &site.dir.join("names.map"));
                replace(site.dir, "haproxy.cfg", text)?;
                kill_process(self.process, Signal::USR2)?;
            }
            Peer::Nginx => {
                let module = stream_module().unwrap_or_default();
                replace(site.dir, "nginx.conf", configs::nginx(site, module))?;
                kill_process(self.process, Signal::HUP)?;
            }
            Peer::Envoy if endpoints => envoy::write_endpoints(site, 0)?,
            Peer::Envoy => envoy::write_routes(site)?,
            Peer::Diolkos if endpoints => manifests::write_route(site, 0)?,
            Peer::Diolkos if site.routes > self.routes => {
                manifests::write_route(site, self.routes)?;
            }
            Peer::Diolkos => manifests::remove_route(site, self.routes)?,
        }
        Ok(())
    }
}

/// Replaces a file whole: whoever reads it sees the old one or the new one.
pub(in crate::bench) fn replace(dir: &Path, name: &str, text: String) -> std::io::Result<()> {
    let new = dir.join(format!(".{name}.new"));
    fs::write(&new, text)?;
    fs::rename(new, dir.join(name))
}

//! What can be said of manifests without a gateway: `check` and `explain`.
//!
//! Must not know: the command line, how answers are printed.

use std::net::IpAddr;

use crate::{
    config::{Settings, types::Listen},
    discovery::{Catalog, Change, CheckReport, Explanation, Identity, Role},
    manifests::{Problem, Severity, Store, source::PATIENCE},
    parity,
    routing::SharedTable,
};

use super::{
    discovery::{OwnedQuestion, located, open},
    parts, source_gate,
};

/// Who the ingress gateway of another cluster is, when it has these settings: as a gateway here,
/// but none of this host's addresses is its own.
#[must_use]
pub fn gateway_elsewhere(settings: &Settings) -> Identity {
    let identity = parts::identity(settings, &settings.gateway.listen, Vec::new());
    Identity { role: Role::Ingress, own_addresses: Vec::new(), ..identity }
}

/// What a set of manifests comes to.
#[derive(Debug)]
pub struct Loaded {
    catalog: Catalog,
    store: Store,
}

impl Loaded {
    /// Reads everything that the settings name once; waits for the Kubernetes API where that is
    /// named.
    ///
    /// # Errors
    /// When a directory or the credentials cannot be read, or the API is away.
    pub fn read(settings: &Settings) -> anyhow::Result<Self> {
        let mut store = Store::new();
        let tell = |why: &str| eprintln!("waiting: {why}");
        let changes = store.apply(open(settings)?.load_once(PATIENCE, tell)?);
        let ports = [settings.admin.listen, settings.health.listen, settings.agent.listen];
        let ports = ports.into_iter().chain([settings.metrics.listen]);
        let operators = ports.filter_map(Listen::address).collect();
        let identity = parts::identity(settings, &settings.gateway.listen, operators);
        let mut catalog = Catalog::new(identity, SharedTable::new().into());
        catalog.apply(&Change::of_store(store.objects(), &changes));
        Ok(Self { catalog, store })
    }

    /// Why a name leads where it leads.
    #[must_use]
    pub fn explain(
        &self,
        settings: &Settings,
        sni: &str,
        alpn: Vec<String>,
        source: Option<IpAddr>,
    ) -> Explanation {
        let alpn_wanted = settings.gateway.alpn.clone();
        let question = OwnedQuestion { server_name: sni.to_owned(), alpn, alpn_wanted };
        let mut explanation = question.answer(&self.catalog);
        source_gate::add(&mut explanation, settings, source);
        explanation
    }

    /// What is exposed and what is left out.
    #[must_use]
    pub fn report(&self) -> CheckReport {
        CheckReport::new(&self.catalog)
    }

    /// Whether the Envoy of this dump would do the same.
    #[must_use]
    pub fn compare(&self, settings: &Settings, dump: &parity::Dump) -> parity::Report {
        parity::compare(&self.catalog, &settings.gateway.alpn, dump)
    }

    /// Every remark, with the file and line of its object.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        located(&self.store, &self.report().findings)
    }

    /// What is wrong with the files.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.store.problems()
    }

    /// True when an object is broken.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.problems().iter().any(|p| p.severity == Severity::Error)
    }
}

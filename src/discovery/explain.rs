//! Why a server name leads where it leads: the decision, gate by gate, with the nearest miss.
//!
//! Pure: asks the catalog, in the order in which the gateway asks the table. Must not know: who
//! asks, connections.

use std::{fmt, sync::Arc};

use super::{Catalog, LeftOut, left_out::Place};
use crate::routing::{self, Endpoint, Policy, Route, SubsetKey};

mod gates;
mod hints;
mod preference;
mod shown;

use preference::preference;

/// What is asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Question<'a> {
    /// The server name, in any case.
    pub server_name: &'a str,
    /// The application protocols that the client offers; `None`: not judged.
    pub alpn: Option<&'a [&'a str]>,
    /// The protocols of which one is wanted; empty: any, or none.
    pub alpn_wanted: &'a [&'a str],
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// As asked.
    pub server_name: String,
    /// The gates in order, up to the first that refuses.
    pub steps: Vec<Step>,
    /// What was reached, when every gate let it pass.
    pub reached: Option<Reached>,
}

/// One gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub gate: Gate,
    /// Whether it lets the name pass.
    pub passed: bool,
    /// What it saw.
    pub seen: String,
    /// What would have passed, or where it comes from.
    pub hints: Vec<String>,
}

/// What a server name goes through, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// `outbound_.<port>_.<subset>_.<host>`.
    Form,
    /// One of Istio's application protocols is offered.
    Alpn,
    /// A service has the host, as asked or as rewritten.
    Service,
    /// `exportTo` shows the service to the gateway.
    ExportTo,
    /// `hosts` of a Gateway that selects us cover the host as asked.
    Hosts,
    /// The service has the port.
    Port,
    /// The DestinationRule has the subset.
    Subset,
    /// The operator's rules let the source through. Not judged here: the gateway's owner adds it.
    Source,
    /// There is an endpoint.
    Endpoints,
}

impl Gate {
    /// A word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Alpn => "alpn",
            Self::Service => "service",
            Self::ExportTo => "exportTo",
            Self::Hosts => "hosts",
            Self::Port => "port",
            Self::Subset => "subset",
            Self::Source => "source",
            Self::Endpoints => "endpoints",
        }
    }
}

/// Where a name leads.
#[derive(Clone, Debug)]
pub struct Reached {
    /// Its route.
    pub route: Arc<Route>,
    /// Those one of which is picked, each with its tier and weight.
    pub endpoints: Vec<(Arc<Endpoint>, routing::Place)>,
    /// Those left out of this port and subset.
    pub left_out: Vec<LeftOut>,
    /// The policy in force.
    pub policy: Policy,
    /// `namespace/name` of the DestinationRule it comes from.
    pub rule: Option<Arc<str>>,
    /// What says which endpoints are near; `None`: nothing does.
    pub preference: Option<String>,
    /// The rule itself has `outlierDetection`.
    pub detects: bool,
    /// `namespace/name` of the mesh's ConfigMap, whose defaults hold.
    pub mesh: Option<Arc<str>>,
}

impl Explanation {
    /// Answers one question.
    #[must_use]
    pub fn new(question: &Question<'_>, catalog: &Catalog) -> Self {
        let name = question.server_name.to_ascii_lowercase();
        let mut steps = Vec::new();
        let reached = gates::pass(&name, question, catalog, &mut steps);
        Self { server_name: question.server_name.to_owned(), steps, reached }
    }

    /// The gate that refuses, if any.
    #[must_use]
    pub fn refused_at(&self) -> Option<Gate> {
        self.steps.iter().find(|step| !step.passed).map(|step| step.gate)
    }
}

impl Reached {
    /// Where a route leads.
    #[must_use]
    pub fn new(route: &Arc<Route>, catalog: &Catalog) -> Self {
        let SubsetKey { port, subset, host } = route.key();
        let defined = catalog.defined_as(&route.service);
        let (preference, detects) = preference(route, defined.as_str(), catalog);
        let set = route.endpoints.load();
        let ours = |left_out: &&LeftOut| {
            left_out.port == port && (left_out.subset.is_empty() || *left_out.subset == *subset)
        };
        // An endpoint that only the rule for the whole port leaves out may serve a subset.
        let serves = |left_out: &LeftOut| match left_out.place {
            Place::Address(address) => set.endpoints().iter().any(|e| e.address == address),
            Place::Name(..) => false,
        };
        let left_out = catalog.left_out_of(host).iter().filter(ours);
        let places = (0..set.endpoints().len()).map(|index| set.place(index));
        let namespace = &route.service.namespace;
        Self {
            left_out: left_out.filter(|left_out| !serves(left_out)).cloned().collect(),
            endpoints: set.endpoints().iter().cloned().zip(places).collect(),
            policy: set.policy().clone(),
            rule: catalog.rule_of(defined.as_str(), namespace).map(|rule| Arc::clone(&rule.name)),
            preference,
            detects,
            mesh: catalog.world().mesh.name.clone(),
            route: Arc::clone(route),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.server_name.escape_debug())?;
        for step in &self.steps {
            let verdict = if step.passed { "pass" } else { "REFUSED" };
            writeln!(f, "  {:<10}{verdict:<9}{}", step.gate.as_str(), step.seen)?;
            for hint in &step.hints {
                writeln!(f, "{:21}{hint}", "")?;
            }
        }
        match &self.reached {
            Some(reached) => reached.fmt(f),
            None => Ok(()),
        }
    }
}

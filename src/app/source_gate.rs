//! The operator's rules about sources (`gateway.policy`) as a gate of an explanation.
//!
//! The catalog knows names, the gateway knows sources: here the two meet. Must not know: how
//! either decides.

use std::net::IpAddr;

use super::parts::source_rules;
use crate::{
    config::Settings,
    discovery::{
        Explanation, Gate,
        explain::{Reached, Step},
    },
    gateway::judge_source,
    routing::SubsetKey,
};

/// Adds the gate where the gateway has it: behind the name, before the endpoints. An explanation
/// that ends before is left alone, and so is one where there are no rules and no source.
pub(super) fn add(explanation: &mut Explanation, settings: &Settings, source: Option<IpAddr>) {
    let rules = source_rules(settings);
    if rules.is_empty() && source.is_none() {
        return;
    }
    let Some(at) = explanation.steps.iter().position(|step| step.gate == Gate::Endpoints) else {
        return;
    };
    let name = explanation.server_name.to_ascii_lowercase();
    let (Some(asked), Some(reached)) = (SubsetKey::parse(&name), &explanation.reached) else {
        return;
    };
    let hosts = [asked.host, reached.route.service.host.as_str()];
    let n = rules.len();
    let (passed, seen) = match source {
        None => (true, format!("not asked; --source IP holds it against gateway.policy ({n})")),
        Some(source) => {
            let judged = judge_source(&rules, source, hosts);
            let seen = match judged.rule {
                Some(rule) => {
                    format!("{source}: rule {} of {n} of gateway.policy decides", rule + 1)
                }
                None => format!("{source}: none of the {n} rules of gateway.policy decides"),
            };
            let dry = ", and one with dry_run would refuse";
            let seen = seen + if judged.dry_denied { dry } else { "" };
            (!judged.denied, seen + &belongs(reached, source))
        }
    };
    explanation.steps.insert(at, Step { gate: Gate::Source, passed, seen, hints: Vec::new() });
    if !passed {
        explanation.steps.truncate(at + 1);
        explanation.reached = None;
    }
}

/// The endpoint that a source belongs to, where the source decides.
fn belongs(reached: &Reached, source: IpAddr) -> String {
    let set = reached.route.endpoints.load();
    let endpoint = set.of_source(source).map(|index| set.endpoints()[index].address);
    endpoint.map(|address| format!("; it belongs to {address}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{app::offline::Loaded, config::Sources};

    /// What the gate says of a call of `bar` from `source` under these rules.
    fn check(rules: &str, source: Option<&str>, expected: Option<(bool, &str)>) {
        let config = concat!(env!("CARGO_MANIFEST_DIR"), "/config/demo");
        let set = |text: &str| crate::config::Override::assignment(text).expect("a setting");
        let overrides = vec![
            set("gateway.listen=127.0.0.1:15443"),
            set(&format!("manifests.directories=[{config}]")),
            set(&format!("gateway.policy={rules}")),
        ];
        let settings = Settings::load(&Sources { overrides, ..Sources::default() });
        let settings = settings.expect("settings");
        let loaded = Loaded::read(&settings).expect("manifests");
        let source = source.map(|ip| ip.parse().expect("an address"));
        let name = "outbound_.8080_._.bar.ns2.global";
        let explanation = loaded.explain(&settings, name, vec!["istio".into()], source);
        let step = explanation.steps.iter().find(|step| step.gate == Gate::Source);
        let seen = step.map(|step| (step.passed, step.seen.as_str()));
        assert_eq!(seen, expected, "{rules} from {source:?}");
        let served = expected.is_none_or(|(passed, _)| passed);
        assert_eq!(explanation.refused_at().is_none(), served);
        assert_eq!(explanation.reached.is_some(), served);
    }

    #[test]
    fn the_rules_are_a_gate_where_there_are_rules_or_a_source() {
        let rules = "[{action: allow, sources: [10.0.0.0/8]}, {action: deny}]";
        check("[]", None, None);
        let none = "10.0.0.7: none of the 0 rules of gateway.policy decides";
        check("[]", Some("10.0.0.7"), Some((true, none)));
        let ask = "not asked; --source IP holds it against gateway.policy (2)";
        check(rules, None, Some((true, ask)));
        let first = "10.0.0.7: rule 1 of 2 of gateway.policy decides";
        check(rules, Some("10.0.0.7"), Some((true, first)));
        let second = "192.0.2.9: rule 2 of 2 of gateway.policy decides";
        check(rules, Some("192.0.2.9"), Some((false, second)));
        let dry = "192.0.2.9: none of the 1 rules of gateway.policy decides, and one with dry_run \
                   would refuse";
        check("[{action: deny, dry_run: true}]", Some("192.0.2.9"), Some((true, dry)));
    }
}

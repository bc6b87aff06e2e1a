//! Istio `EnvoyFilter`, only as far as it rewrites cluster names.
//!
//! Must not know: Envoy's configuration. The multicluster gateways of Istio 1.1 to 1.7 carry a
//! filter `tcp_cluster_rewrite`; whatever form the object has, its settings are the only map with
//! both `cluster_pattern` and `cluster_replacement`.

use serde::{Deserialize, Deserializer};
use serde_norway::Value;

use super::{Meta, tree::Tree};

/// Nesting below which settings are looked for; real ones are at depth 5.
const DEPTH_MAX: usize = 64;

/// An EnvoyFilter.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct EnvoyFilter {
    /// Name and namespace.
    #[serde(rename = "metadata")]
    pub meta: Meta,
    /// Every `tcp_cluster_rewrite` in it.
    #[serde(default, rename = "spec", deserialize_with = "rewrites")]
    pub rewrites: Box<[ClusterRewrite]>,
}

/// Settings of `tcp_cluster_rewrite`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterRewrite {
    /// A regular expression, such as `\.global$`.
    pub pattern: Box<str>,
    /// What takes its place, such as `.svc.cluster.local`.
    pub replacement: Box<str>,
}

fn rewrites<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<[ClusterRewrite]>, D::Error> {
    let Tree(spec) = Tree::deserialize(deserializer)?;
    let mut found = Vec::new();
    search(&spec, DEPTH_MAX, &mut found);
    Ok(found.into())
}

fn search(value: &Value, depth: usize, found: &mut Vec<ClusterRewrite>) {
    if depth == 0 {
        return;
    }
    match value {
        Value::Mapping(map) => {
            let text = |key: &str| map.get(key).and_then(Value::as_str);
            if let (Some(pattern), Some(replacement)) =
                (text("cluster_pattern"), text("cluster_replacement"))
            {
                let (pattern, replacement) = (pattern.into(), replacement.into());
                found.push(ClusterRewrite { pattern, replacement });
            }
            map.values().for_each(|value| search(value, depth - 1, found));
        }
        Value::Sequence(values) => values.iter().for_each(|value| search(value, depth - 1, found)),
        Value::Tagged(tagged) => search(&tagged.value, depth - 1, found),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

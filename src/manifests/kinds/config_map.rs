//! Kubernetes `ConfigMap`, of which only the mesh's own settings are read: key `mesh` of `istio`.
//!
//! Must not know: which ConfigMap is the mesh's, what its settings come to.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

use super::{
    ExportTo, HostName, List, Meta, budget,
    destination_rule::{LocalitySetting, TcpKeepalive},
    scalar,
};

/// A ConfigMap.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ConfigMap {
    /// Name and namespace.
    #[serde(rename = "metadata")]
    pub meta: Meta,
    /// Its key `mesh`, read; `None` when it has none.
    #[serde(default, rename = "data", deserialize_with = "mesh")]
    pub mesh: Option<Box<MeshConfig>>,
}

/// Istio's MeshConfig, as far as it bears on a gateway of passing TLS. What is not written is
/// `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshConfig {
    /// The namespace whose policies hold for all.
    #[serde(default, deserialize_with = "scalar::optional_text")]
    pub root_namespace: Option<Box<str>>,
    /// Who sees Services and ServiceEntries that do not say.
    #[serde(default)]
    pub default_service_export_to: List<ExportTo>,
    /// Who sees DestinationRules that do not say.
    #[serde(default)]
    pub default_destination_rule_export_to: List<ExportTo>,
    /// Time to connect, where no DestinationRule has one.
    #[serde(default, deserialize_with = "scalar::optional_duration")]
    pub connect_timeout: Option<Duration>,
    /// Keepalive towards endpoints, where no DestinationRule has one.
    #[serde(default)]
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Preference by locality, where no DestinationRule has one.
    #[serde(default)]
    pub locality_lb_setting: Option<LocalitySetting>,
    /// Settings of services, by host.
    #[serde(default)]
    pub service_settings: List<ServiceSetting>,
}

/// An entry of `serviceSettings`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ServiceSetting {
    /// What is set.
    #[serde(default, deserialize_with = "scalar::or_default")]
    pub settings: Setting,
    /// For which hosts.
    #[serde(default)]
    pub hosts: List<HostName>,
}

/// `serviceSettings[].settings`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Setting {
    /// No cluster calls another one's service of this host.
    #[serde(default, deserialize_with = "scalar::or_default")]
    pub cluster_local: bool,
}

#[derive(Default, Deserialize)]
struct Data {
    #[serde(default)]
    mesh: Option<String>,
}

/// The text of `mesh` is a document in a document: it is guarded as one.
fn mesh<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<MeshConfig>>, D::Error> {
    let Data { mesh } = scalar::or_default(deserializer)?;
    let Some(text) = mesh.filter(|text| !text.trim().is_empty()) else { return Ok(None) };
    if let Some(problem) = budget::too_much(&text) {
        return Err(D::Error::custom(format_args!("mesh: {problem}")));
    }
    let read = serde_norway::from_str::<Option<Box<MeshConfig>>>(&text);
    // A document that is empty but for comments is one that sets nothing.
    let read = read.map(Option::unwrap_or_default);
    read.map(Some).map_err(|error| D::Error::custom(format_args!("mesh: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mesh: &str) -> Result<MeshConfig, String> {
        let mesh = serde_json::to_string(mesh).expect("a string");
        let map =
            format!("{{\"metadata\": {{\"name\": \"istio\"}}, \"data\": {{\"mesh\": {mesh}}}}}");
        let map: Result<ConfigMap, _> = serde_norway::from_str(&map);
        map.map(|map| *map.mesh.expect("a mesh")).map_err(|error| error.to_string())
    }

    #[test]
    fn what_bears_on_us_is_read_and_the_rest_is_passed_over() {
        let mesh = "rootNamespace: root\nconnectTimeout: 3s\naccessLogFile: /dev/stdout\n\
                    defaultConfig: {discoveryAddress: 'istiod:15012'}\n\
                    tcpKeepalive: {time: 60s, probes: 3}\ndefaultServiceExportTo: ['.', ns1]\n\
                    serviceSettings:\n- settings: {clusterLocal: true}\n  hosts: ['*.a.svc.x']\n";
        let read = read(mesh).expect("a mesh");
        assert_eq!(read.root_namespace.as_deref(), Some("root"));
        assert_eq!(read.connect_timeout, Some(Duration::from_secs(3)));
        assert_eq!(read.tcp_keepalive.and_then(|keepalive| keepalive.probes), Some(3));
        assert_eq!(read.default_service_export_to.len(), 2);
        assert!(read.service_settings[0].settings.cluster_local);
    }

    #[test]
    fn a_mesh_that_cannot_be_read_is_told() {
        for (mesh, expected) in [
            ("connectTimeout: soon", "`soon` is not a duration"),
            ("a: [", "mesh:"),
            (&"[".repeat(1_000), "nested 1000 deep"),
        ] {
            let error = read(mesh).expect_err("broken");
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn other_maps_have_no_mesh() {
        for data in ["{}", "{other: text}", "null", "{mesh: ''}"] {
            let map = format!("{{metadata: {{name: a}}, data: {data}}}");
            let map: ConfigMap = serde_norway::from_str(&map).expect("a ConfigMap");
            assert_eq!(map.mesh, None, "{data}");
        }
        assert_eq!(read("# nothing\n"), Ok(MeshConfig::default()));
    }
}

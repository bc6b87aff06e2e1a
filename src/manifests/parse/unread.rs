//! Fields of Istio's kinds that exist but are not read, so that only unknown ones are warned of.
//!
//! Must not know: how fields are read. The names are those of Istio's API up to 1.30.

use serde_ignored::Path;

use super::fault::Fault;
use crate::manifests::Kind;

/// By the field they stand in.
const DESTINATION_RULE: &[(&str, &[&str])] = &[
    ("trafficPolicy", &["tunnel", "proxyProtocol", "retryBudget"]),
    ("loadBalancer", &["zoneAwareLbSetting"]),
    ("connectionPool", &["http"]),
    ("consistentHash", &["httpHeaderName", "httpCookie", "httpQueryParameterName"]),
    (
        "tls",
        &[
            "clientCertificate",
            "privateKey",
            "caCertificates",
            "credentialName",
            "insecureSkipVerify",
            "caCrl",
        ],
    ),
];

const GATEWAY: &[(&str, &[&str])] = &[
    ("port", &["targetPort"]),
    ("servers", &["defaultEndpoint"]),
    (
        "tls",
        &[
            "httpsRedirect",
            "serverCertificate",
            "privateKey",
            "caCertificates",
            "caCrl",
            "credentialName",
            "credentialNames",
            "caCertCredentialName",
            "tlsCertificates",
            "subjectAltNames",
            "verifyCertificateSpki",
            "verifyCertificateHash",
            "minProtocolVersion",
            "maxProtocolVersion",
            "cipherSuites",
        ],
    ),
];

/// The warning about a field that was passed over; `None` when it is a known one.
pub(super) fn unknown_field(kind: Kind, path: &Path<'_>) -> Option<Fault> {
    let mut keys = Vec::new();
    let field = print(path, &mut keys);
    let unread = match kind {
        Kind::DestinationRule => DESTINATION_RULE,
        Kind::Gateway => GATEWAY,
        _ => &[],
    };
    let is_known = match keys.as_slice() {
        ["status" | "apiVersion" | "kind"] | ["status" | "metadata", ..] => true,
        [.., parent, key] => {
            unread.iter().any(|(known, fields)| known == parent && fields.contains(key))
        }
        _ => false,
    };
    (!is_known).then(|| {
        Fault::warning(format!("Istio's {kind} has no such field: correct or remove it"))
            .field(field)
    })
}

/// `spec.servers[0].port`, and its keys without the indices.
fn print<'p>(path: &'p Path<'_>, keys: &mut Vec<&'p str>) -> String {
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", print(parent, keys)),
        Path::Map { parent, key } => {
            let parent = print(parent, keys);
            keys.push(key);
            if parent.is_empty() { key.clone() } else { format!("{parent}.{key}") }
        }
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => print(parent, keys),
    }
}

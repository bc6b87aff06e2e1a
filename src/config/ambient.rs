//! What a pod says of itself: the downward API and Istio's `ISTIO_META_*` variables.
//!
//! The weakest layer above the defaults. Must not know: any other layer.

use serde_norway::Value;

use super::{Origin, SettingsError, layers::Tree};

/// How a variable's text becomes the key's value.
#[derive(Clone, Copy, Debug)]
enum Form {
    Text,
    CommaList,
    JsonMap,
}

/// The variables, each with a key it fills.
const VARIABLES: [(&str, &str, Form); 8] = [
    ("ISTIO_META_NETWORK", "gateway.network", Form::Text),
    ("ISTIO_META_REQUESTED_NETWORK_VIEW", "gateway.requested_network_view", Form::CommaList),
    ("POD_NAMESPACE", "gateway.namespace", Form::Text),
    ("NODE_NAME", "gateway.node", Form::Text),
    ("ISTIO_METAJSON_LABELS", "gateway.labels", Form::JsonMap),
    ("ISTIO_META_NETWORK", "sidecar.network", Form::Text),
    ("ISTIO_META_REQUESTED_NETWORK_VIEW", "sidecar.requested_network_view", Form::CommaList),
    ("ISTIO_METAJSON_LABELS", "sidecar.labels", Form::JsonMap),
];

/// Sets what the environment says of the pod; an empty variable says nothing.
pub(super) fn apply(
    tree: &mut Tree,
    environment: &[(String, String)],
) -> Result<(), SettingsError> {
    for (variable, key, form) in VARIABLES {
        let found = environment.iter().find(|(name, _)| name == variable);
        if let Some((_, text)) = found.filter(|(_, text)| !text.is_empty()) {
            tree.set(key, form.value(text), &Origin::Environment(variable.to_owned()))?;
        }
    }
    Ok(())
}

impl Form {
    /// A text that is not of the form stays a text, which the key then refuses.
    fn value(self, text: &str) -> Value {
        let as_text = || Value::String(text.to_owned());
        match self {
            Self::Text => as_text(),
            Self::CommaList => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                items.map(|item| Value::String(item.to_owned())).collect()
            }
            Self::JsonMap => serde_json::from_str(text).unwrap_or_else(|_| as_text()),
        }
    }
}

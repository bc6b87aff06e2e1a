//! The secret `cacerts`, from which istiod takes its authority, as a manifest.
//!
//! Must not know: certificates; what it is given is text.

/// The file.
pub(super) const FILE: &str = "cacerts-secret.yaml";

/// The manifest that holds `files`, by name.
pub(super) fn manifest(files: &[(&str, &str)]) -> String {
    let mut text = "\
# kubectl create -f, before istiod starts. Not apply: that keeps a copy of the key in an annotation.
apiVersion: v1
kind: Secret
metadata:
  name: cacerts
  namespace: istio-system
type: Opaque
stringData:
"
    .to_owned();
    for (name, content) in files {
        text += &format!("  {name}: |\n");
        for line in content.lines() {
            text += &format!("    {line}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_holds_each_file_as_it_is() {
        let (key, cert) = ("-----BEGIN X-----\nab==\n-----END X-----\n", "one\ntwo\n");
        let text = manifest(&[("ca-key.pem", key), ("ca-cert.pem", cert)]);
        let read: serde_norway::Value = serde_norway::from_str(&text).expect("YAML");
        assert_eq!(read["kind"], "Secret");
        assert_eq!(read["type"], "Opaque");
        assert_eq!(read["metadata"]["name"], "cacerts");
        assert_eq!(read["metadata"]["namespace"], "istio-system");
        assert_eq!(read["stringData"]["ca-key.pem"], key);
        assert_eq!(read["stringData"]["ca-cert.pem"], cert);
    }
}

//! The page at `/`: state at a glance and a way to everything else.
//!
//! Must not know: how state is found. Works without scripts and loads nothing.

use super::Readiness;

const PAGE: &str = include_str!("page.html");

/// The page, with the state of this moment.
pub(super) fn render(readiness: &Readiness, log_level: &str) -> String {
    let state = if readiness.ready { "ready" } else { "not ready" };
    let reasons: String =
        readiness.reasons.iter().map(|reason| format!("<li>{}</li>", text(reason))).collect();
    PAGE.replace("{{version}}", crate::version::VERSION)
        .replace("{{state}}", state)
        .replace("{{level}}", &text(log_level))
        // Last: a reason holds names from manifests, which may look like one of these.
        .replace("{{reasons}}", &reasons)
}

fn text(raw: &str) -> String {
    raw.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_manifests_stay_text() {
        let reasons = vec!["<script>alert(\"{{level}}\")</script> & more".to_owned()];
        let page = render(&Readiness { ready: false, reasons }, "info");
        assert!(page.contains(
            "<li>&lt;script&gt;alert(&quot;{{level}}&quot;)&lt;/script&gt; &amp; more</li>"
        ));
        assert!(page.contains("not ready") && page.contains(crate::version::VERSION));
    }

    #[test]
    fn nothing_is_left_open() {
        let page = render(&Readiness { ready: true, reasons: vec![] }, "info");
        assert!(!page.contains("{{"), "{page}");
    }
}

//! Files that want to crash, stall or fill the reader.

use std::time::{Duration, Instant};

use super::*;

/// A broken object `Service default/a`, found in at most this time.
fn check_refused(text: impl AsRef<[u8]>, expected: &str) {
    let start = Instant::now();
    let parsed = read(&text);
    let problems = problems(&parsed);
    assert!(problems.iter().any(|problem| problem.contains(expected)), "{problems:.300?}");
    assert!(parsed.items.iter().all(|item| item.object.is_none()), "{expected}");
    // Hundreds of times what it takes, but far less than what an unbounded reader would.
    assert!(start.elapsed() < Duration::from_secs(20), "{expected}");
}

fn with_spec(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec: {spec}")
}

#[test]
fn deep_nesting_is_refused() {
    for open in ["[", "{", "[{a"] {
        check_refused(with_spec(&open.repeat(1_000_000)), "nested");
    }
    check_refused("[".repeat(1_000_000), "nested");
    check_refused("{\"a\":".repeat(800_000), "nested");
    check_refused(with_spec(&format!("\n  ports: \n    {}", "- ".repeat(300_000))), "error: ");
    check_refused(with_spec(&format!("\n  {}", "? ".repeat(100_000))), "error: ");
    let open = "[".repeat(150);
    let close = "]".repeat(150);
    check_refused(istio("EnvoyFilter", &format!("{{a: {open}{close}}}")), "recursion limit");
}

#[test]
fn aliases_that_multiply_are_refused() {
    let wide = format!("[{}]", "a, ".repeat(2_000));
    let many = "*w, ".repeat(2_000);
    let text = format!(
        "{{hosts: [a.b], subjectAltNames: &w {wide}, resolution: NONE, \
         endpoints: [{}]}}",
        "{labels: {a: b}}, ".repeat(3)
    );
    assert!(read(istio("ServiceEntry", &text)).items.len() == 1);
    let bomb = format!("{{hosts: [a.b], a: &w {wide}, b: &x [{many}], c: [*x, *x, *x, *x, *x]}}");
    check_refused(istio("EnvoyFilter", &bomb), "its aliases make it larger than it is");
    let mut laughs = String::from("{a0: &a0 [x, x, x, x, x, x, x, x, x, x]");
    for level in 1..30 {
        let list = format!("*a{}, ", level - 1).repeat(10);
        laughs.push_str(&format!(", a{level}: &a{level} [{list}]"));
    }
    check_refused(istio("EnvoyFilter", &(laughs + "}")), "aliases make it larger");
    let addresses = "1.2.3.4, ".repeat(5_000);
    let slice = format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: a}}\n\
         addressType: IPv4\nendpoints: [{{addresses: &w [{addresses}]}}, {}]\n",
        "{addresses: *w}, ".repeat(5_000)
    );
    check_refused(slice, "its aliases make it larger than it is");
}

#[test]
fn odd_bytes_are_refused() {
    let text = with_spec("{externalName: \"a\0b\"}");
    check_refused(&text, "control characters are not allowed");
    let mut latin = text.replace('\0', "x").into_bytes();
    let at = latin.iter().position(|byte| *byte == b'x').expect("an x");
    latin[at] = 0xe9;
    check_broken(
        &latin,
        &["a.yaml:4: error: Service default/a: it is not UTF-8: save the file as \
                            UTF-8"],
    );
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(read([b"\xff\xfe".as_slice(), &utf16].concat()).unreadable);
    check_refused("apiVersion: v1\nkind: Service\nmetadata: {name: *nobody}\n", "unknown anchor");
    for byte in 0..=u8::MAX {
        for text in [vec![byte; 3], [b"kind: ".as_slice(), &[byte], b"\na: [\n---\n"].concat()] {
            read(text);
        }
    }
}

#[test]
fn large_parts_are_refused() {
    let huge = with_spec(&format!("{{externalName: {}}}", "a".repeat(DOCUMENT_BYTES_MAX)));
    check_refused(huge, "more than 4194304: split it");
    let values = with_spec(&format!("[{}]", "1,".repeat(1_100_000)));
    check_refused(values, "more than 1000000 values");
    let file = vec![b'#'; FILE_BYTES_MAX + 1];
    let parsed = read(&file);
    assert!(parsed.unreadable);
    assert!(problems(&parsed)[0].contains("more than the 67108864 that are read: split it"));
    assert!(read(&file[1..]).problems.is_empty());
}

#[test]
fn many_broken_documents_end_the_reading() {
    let parsed = read("---\nx\n".repeat(1_000_000));
    assert_eq!(parsed.problems.len(), BROKEN_MAX + 1);
    assert!(problems(&parsed)[BROKEN_MAX].contains("the rest is not read"));
    let list = format!("kind: List\napiVersion: v1\nitems:\n{}", "- x\n".repeat(1_000_000));
    assert_eq!(read(list).problems.len(), BROKEN_MAX + 1);
    let nested =
        "{\"kind\":\"List\",\"apiVersion\":\"v1\",\"items\":[".repeat(50) + &"]}".repeat(50);
    assert!(problems(&read(nested))[0].contains("lists are nested too deep"));
}

#[test]
fn every_prefix_of_a_file_is_read_without_panic() {
    let text = format!("{}---\n{}", service("a"), istio("DestinationRule", "{host: a}"));
    for end in 0..=text.len() {
        let parsed = read(&text[..end]);
        assert!(parsed.items.len() <= 2);
    }
}

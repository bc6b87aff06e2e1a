//! Which texts can be names in Kubernetes, and so in what is written.
//!
//! Must not know: what they name.

/// Bytes of a host, whose name with `.yaml` is a file name of at most 255.
pub(super) const HOST_BYTES_MAX: usize = 250;

/// A label of RFC 1123 in lower case: a namespace, a Service, a port.
pub(super) fn is_label(text: &str) -> bool {
    let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inside)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// The value of a label of an object.
pub(super) fn is_label_value(text: &str) -> bool {
    let inside = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let ends = [text.bytes().next(), text.bytes().last()];
    (1..=63).contains(&text.len())
        && text.bytes().all(inside)
        && ends.into_iter().flatten().all(|b| b.is_ascii_alphanumeric())
}

/// The key of a label of an object, with or without a prefix.
pub(super) fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        None => is_label_value(text),
        Some((prefix, name)) => {
            prefix.len() <= 253 && prefix.split('.').all(is_label) && is_label_value(name)
        }
    }
}

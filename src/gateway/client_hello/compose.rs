//! A ClientHello of our own, for asking an endpoint whether it shakes hands.
//!
//! Any TLS 1.2 or 1.3 server that takes X25519 or P-256 can answer it. Nobody could finish the
//! handshake: no key belongs to the share. Must not know: sockets, who is asked.

/// One record that holds a ClientHello for `server_name`, with these random bytes. `None` when the
/// name is too long to be one.
pub(in crate::gateway) fn compose(
    server_name: &str,
    alpn: &[u8],
    random: [u8; 32],
) -> Option<Vec<u8>> {
    // Any 32 bytes are a public key of X25519 (RFC 7748 §5).
    let share = prefixed(2, &[&[0, 0x1d][..], &prefixed(2, &random)?].concat())?;
    let name = prefixed(2, &[&[0][..], &prefixed(2, server_name.as_bytes())?].concat())?;
    let extensions = [
        extension(0, &name)?,
        extension(10, &[0, 4, 0, 0x1d, 0, 0x17])?, // supported_groups: X25519, P-256
        extension(11, &[1, 0])?,                   // ec_point_formats: uncompressed
        extension(13, &[0, 10, 4, 3, 8, 4, 4, 1, 5, 3, 8, 5])?, // ECDSA and RSA with SHA-2
        extension(16, &prefixed(2, &prefixed(1, alpn)?)?)?,
        extension(23, &[])?,              // extended_master_secret
        extension(43, &[4, 3, 4, 3, 3])?, // supported_versions: 1.3, 1.2
        extension(45, &[1, 1])?,          // psk_key_exchange_modes: with (EC)DHE
        extension(51, &share)?,
    ]
    .concat();
    // AES-GCM and ChaCha20 of TLS 1.3, then ECDHE with AES-GCM of TLS 1.2.
    let ciphers = [0x13, 1, 0x13, 2, 0x13, 3, 0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x2c, 0xc0, 0x30];
    let body = [
        &[3, 3][..],
        &random,
        &[0], // no session
        &prefixed(2, &ciphers)?,
        &[1, 0], // no compression
        &prefixed(2, &extensions)?,
    ]
    .concat();
    let message = [&[1][..], &prefixed(3, &body)?].concat();
    Some([&[22, 3, 1][..], &prefixed(2, &message)?].concat())
}

fn extension(kind: u8, body: &[u8]) -> Option<Vec<u8>> {
    Some([&[0, kind][..], &prefixed(2, body)?].concat())
}

/// The bytes behind their length in `width` bytes; `None` when it does not fit.
fn prefixed(width: usize, bytes: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(bytes.len()).ok()?.to_be_bytes();
    let (above, length) = length.split_at(length.len().checked_sub(width)?);
    above.iter().all(|byte| *byte == 0).then(|| [length, bytes].concat())
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::panic)]
mod tests {
    use rustls::server::Acceptor;

    use super::*;
    use crate::gateway::client_hello::{Scan, Scanner};

    const NAME: &str = "outbound_.8080_._.bar.ns2.svc.cluster.local";

    #[test]
    fn our_own_reader_and_rustls_read_it_back() {
        let wire = compose(NAME, b"istio", [7; 32]).expect("a hello");
        let Scan::Hello(hello) = Scanner::new(1 << 14).scan(&wire) else { panic!("a hello") };
        assert_eq!(hello.wire_len, wire.len());
        let mut acceptor = Acceptor::default();
        acceptor.read_tls(&mut &wire[..]).expect("read");
        let accepted = acceptor.accept().ok().flatten().expect("a hello");
        assert_eq!(accepted.client_hello().server_name(), Some(NAME));
        let mut alpn = accepted.client_hello().alpn().expect("ALPN");
        assert_eq!(alpn.next(), Some(&b"istio"[..]));
    }

    #[test]
    fn what_does_not_fit_makes_none() {
        assert_eq!(compose(&"x".repeat(1 << 16), b"istio", [0; 32]), None);
        assert_eq!(compose("a.b", &[b'x'; 256], [0; 32]), None);
    }
}

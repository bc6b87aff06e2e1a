//! The body of a ClientHello: fixed fields, then extensions, each held to its exact length.
//!
//! Must not know: records. What BoringSSL refuses in the parts read here is refused; extensions
//! that nobody here asks about are opaque, but count as duplicates and must fit.

use super::{Alpn, ClientHello, Malformed, RANDOM_LEN, Refusal, ServerName, reader::Reader};

const TLS_1_0: u16 = 0x0301;
const SESSION_ID_MAX: usize = 32;
const NULL_COMPRESSION: u8 = 0;
const HOST_NAME: u8 = 0;
const HOST_NAME_MAX: usize = 255;
const ECH_OUTER: u8 = 0;
const ECH_INNER: u8 = 1;

const EXT_SERVER_NAME: u16 = 0;
const EXT_SUPPORTED_GROUPS: u16 = 10;
const EXT_ALPN: u16 = 16;
const EXT_PRE_SHARED_KEY: u16 = 41;
const EXT_EARLY_DATA: u16 = 42;
const EXT_SUPPORTED_VERSIONS: u16 = 43;
const EXT_KEY_SHARE: u16 = 51;
const EXT_ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

/// Reads the hello behind its handshake header; `wire_len` is passed through.
///
/// A legacy_version above 0x0303 passes: a server must tolerate it (RFC 5246 §E.1), and BoringSSL
/// does. Envoy's own inspector, as of 1.40, closes the connection above 0x0304.
pub(super) fn read(body: &[u8], wire_len: usize) -> Result<ClientHello, Refusal> {
    let mut body = Reader::new(body);
    let legacy_version = body.u16().ok_or(Malformed::Length)?;
    if legacy_version < TLS_1_0 {
        return Err(Refusal::BadVersion);
    }
    let mut hello = ClientHello {
        wire_len,
        server_name: None,
        alpn: Alpn::default(),
        legacy_version,
        supported_versions: Box::default(),
        supported_groups: Box::default(),
        key_share_groups: Box::default(),
        random: body.array::<RANDOM_LEN>().ok_or(Malformed::Length)?,
        early_data: false,
        ech: false,
    };
    check_fixed_fields(&mut body)?;
    // a hello may end here: TLS 1.2 and older know hellos without extensions
    if !body.is_empty() {
        let extensions = body.u16_prefixed().ok_or(Malformed::Length)?;
        if !body.is_empty() {
            return Err(Malformed::Length.into());
        }
        read_extensions(extensions, &mut hello)?;
    }
    Ok(hello)
}

fn check_fixed_fields(body: &mut Reader<'_>) -> Result<(), Malformed> {
    let session_id = body.u8_prefixed().ok_or(Malformed::Length)?;
    if session_id.into_bytes().len() > SESSION_ID_MAX {
        return Err(Malformed::SessionId);
    }
    let cipher_suites = body.u16_prefixed().ok_or(Malformed::Length)?.into_bytes();
    if cipher_suites.is_empty() || !cipher_suites.len().is_multiple_of(2) {
        return Err(Malformed::CipherSuites);
    }
    let compression_methods = body.u8_prefixed().ok_or(Malformed::Length)?;
    if !compression_methods.into_bytes().contains(&NULL_COMPRESSION) {
        return Err(Malformed::CompressionMethods);
    }
    Ok(())
}

/// Reads the extensions in one walk. All of them are read before any is believed, so that what
/// stands behind the server name can still refuse the hello.
fn read_extensions(mut list: Reader<'_>, hello: &mut ClientHello) -> Result<(), Malformed> {
    let mut kinds = Vec::with_capacity(32);
    while !list.is_empty() {
        let kind = list.u16().ok_or(Malformed::Extensions)?;
        let extension = list.u16_prefixed().ok_or(Malformed::Extensions)?;
        kinds.push(kind);
        match kind {
            EXT_SERVER_NAME => hello.server_name = Some(server_name(extension)?),
            EXT_ALPN => hello.alpn = alpn(extension)?,
            EXT_SUPPORTED_VERSIONS => hello.supported_versions = supported_versions(extension)?,
            EXT_SUPPORTED_GROUPS => hello.supported_groups = supported_groups(extension)?,
            EXT_KEY_SHARE => hello.key_share_groups = key_share_groups(extension)?,
            EXT_EARLY_DATA if !extension.is_empty() => return Err(Malformed::EarlyData),
            EXT_EARLY_DATA => hello.early_data = true,
            EXT_ENCRYPTED_CLIENT_HELLO => hello.ech = ech(extension)?,
            EXT_PRE_SHARED_KEY if !list.is_empty() => return Err(Malformed::PreSharedKeyNotLast),
            _ => {}
        }
    }
    // sorted, because 16 KiB hold 4,000 empty extensions: comparing each pair would take 8 ms
    kinds.sort_unstable();
    let twice = kinds.windows(2).any(|pair| matches!(pair, [a, b] if a == b));
    if twice { Err(Malformed::DuplicateExtension) } else { Ok(()) }
}

/// RFC 6066 allows a list of names of several types; no client sends one, and BoringSSL reads
/// exactly one host_name.
fn server_name(mut extension: Reader<'_>) -> Result<ServerName, Malformed> {
    let name = whole(&mut extension, Reader::u16_prefixed)
        .and_then(|mut list| {
            let kind = list.u8()?;
            let name = whole(&mut list, Reader::u16_prefixed)?.into_bytes();
            (kind == HOST_NAME && (1..=HOST_NAME_MAX).contains(&name.len())).then_some(name)
        })
        .ok_or(Malformed::ServerName)?;
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    Ok(match str::from_utf8(name) {
        Ok(text) if name.iter().all(allowed) => {
            ServerName::Name(text.to_ascii_lowercase().into_boxed_str())
        }
        _ => ServerName::BadName(name.into()),
    })
}

fn alpn(mut extension: Reader<'_>) -> Result<Alpn, Malformed> {
    let list = whole(&mut extension, Reader::u16_prefixed).ok_or(Malformed::Alpn)?;
    let mut names = list;
    while !names.is_empty() {
        match names.u8_prefixed() {
            Some(name) if !name.is_empty() => {}
            _ => return Err(Malformed::Alpn),
        }
    }
    if list.is_empty() { Err(Malformed::Alpn) } else { Ok(Alpn(list.into_bytes().into())) }
}

fn supported_versions(mut extension: Reader<'_>) -> Result<Box<[u16]>, Malformed> {
    whole(&mut extension, Reader::u8_prefixed)
        .and_then(Reader::into_u16s)
        .ok_or(Malformed::SupportedVersions)
}

fn supported_groups(mut extension: Reader<'_>) -> Result<Box<[u16]>, Malformed> {
    whole(&mut extension, Reader::u16_prefixed)
        .and_then(Reader::into_u16s)
        .ok_or(Malformed::SupportedGroups)
}

/// An empty list is sound: the client asks the server to choose (RFC 8446 §4.2.8).
fn key_share_groups(mut extension: Reader<'_>) -> Result<Box<[u16]>, Malformed> {
    let mut shares = whole(&mut extension, Reader::u16_prefixed).ok_or(Malformed::KeyShare)?;
    let mut groups = Vec::new();
    while !shares.is_empty() {
        let group = shares.u16().ok_or(Malformed::KeyShare)?;
        match shares.u16_prefixed() {
            Some(key) if !key.is_empty() => groups.push(group),
            _ => return Err(Malformed::KeyShare),
        }
    }
    Ok(groups.into_boxed_slice())
}

/// Always true when sound. The outer body is for the endpoint; an inner one has no body.
fn ech(mut extension: Reader<'_>) -> Result<bool, Malformed> {
    match extension.u8() {
        Some(ECH_OUTER) => Ok(true),
        Some(ECH_INNER) if extension.is_empty() => Ok(true),
        _ => Err(Malformed::EncryptedClientHello),
    }
}

/// One field that fills its parent to the last byte.
fn whole<'a, T>(
    parent: &mut Reader<'a>,
    field: impl FnOnce(&mut Reader<'a>) -> Option<T>,
) -> Option<T> {
    let value = field(parent)?;
    parent.is_empty().then_some(value)
}

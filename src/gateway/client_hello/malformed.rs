//! The ways in which a first flight is TLS and still no well-formed ClientHello.
//!
//! Must not know: how any of them is found, or what is answered.

/// Which rule the first flight broke. Where it breaks several, the one whose bytes come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// A record that holds no handshake bytes, first or between the pieces of the hello.
    NotHandshake,
    /// A handshake record without a byte in it.
    EmptyRecord,
    /// A record of more than 16,384 bytes.
    RecordTooLong,
    /// The handshake message is another one than ClientHello.
    NotClientHello,
    /// Handshake bytes behind the hello in its last record.
    ExcessData,
    /// The fixed fields run past the end of the hello, or bytes are left behind its extensions.
    Length,
    /// A session id of more than 32 bytes.
    SessionId,
    /// No cipher suite, or half of one.
    CipherSuites,
    /// No compression method, or the null one is not among them.
    CompressionMethods,
    /// An extension runs past the end of the extensions.
    Extensions,
    /// One extension type twice.
    DuplicateExtension,
    /// Not exactly one server name of type host_name and 1 to 255 bytes.
    ServerName,
    /// An empty protocol list, an empty name, or lengths that disagree.
    Alpn,
    /// An empty list of versions, or lengths that disagree.
    SupportedVersions,
    /// An empty list of groups, or lengths that disagree.
    SupportedGroups,
    /// A key share without a key, or lengths that disagree.
    KeyShare,
    /// An early_data extension with a body.
    EarlyData,
    /// An encrypted_client_hello that is neither outer nor empty inner.
    EncryptedClientHello,
    /// A pre_shared_key extension that is not the last one.
    PreSharedKeyNotLast,
}

impl Malformed {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::NotHandshake,
        Self::EmptyRecord,
        Self::RecordTooLong,
        Self::NotClientHello,
        Self::ExcessData,
        Self::Length,
        Self::SessionId,
        Self::CipherSuites,
        Self::CompressionMethods,
        Self::Extensions,
        Self::DuplicateExtension,
        Self::ServerName,
        Self::Alpn,
        Self::SupportedVersions,
        Self::SupportedGroups,
        Self::KeyShare,
        Self::EarlyData,
        Self::EncryptedClientHello,
        Self::PreSharedKeyNotLast,
    ];

    /// The word for it in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotHandshake => "not_handshake",
            Self::EmptyRecord => "empty_record",
            Self::RecordTooLong => "record_too_long",
            Self::NotClientHello => "not_client_hello",
            Self::ExcessData => "excess_data",
            Self::Length => "length",
            Self::SessionId => "session_id",
            Self::CipherSuites => "cipher_suites",
            Self::CompressionMethods => "compression_methods",
            Self::Extensions => "extensions",
            Self::DuplicateExtension => "duplicate_extension",
            Self::ServerName => "server_name",
            Self::Alpn => "alpn",
            Self::SupportedVersions => "supported_versions",
            Self::SupportedGroups => "supported_groups",
            Self::KeyShare => "key_share",
            Self::EarlyData => "early_data",
            Self::EncryptedClientHello => "encrypted_client_hello",
            Self::PreSharedKeyNotLast => "pre_shared_key_not_last",
        }
    }
}

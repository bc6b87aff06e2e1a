//! The names of alerts: RFC 8446 §6, and those of older versions that are still seen.
//!
//! Must not know: who sent one.

/// `alert:<name>`; one word for all that have no name, so that labels stay bounded.
pub(super) fn class(description: u8) -> &'static str {
    match description {
        10 => "alert:unexpected_message",
        20 => "alert:bad_record_mac",
        21 => "alert:decryption_failed",
        22 => "alert:record_overflow",
        30 => "alert:decompression_failure",
        40 => "alert:handshake_failure",
        41 => "alert:no_certificate",
        42 => "alert:bad_certificate",
        43 => "alert:unsupported_certificate",
        44 => "alert:certificate_revoked",
        45 => "alert:certificate_expired",
        46 => "alert:certificate_unknown",
        47 => "alert:illegal_parameter",
        48 => "alert:unknown_ca",
        49 => "alert:access_denied",
        50 => "alert:decode_error",
        51 => "alert:decrypt_error",
        70 => "alert:protocol_version",
        71 => "alert:insufficient_security",
        80 => "alert:internal_error",
        86 => "alert:inappropriate_fallback",
        109 => "alert:missing_extension",
        110 => "alert:unsupported_extension",
        111 => "alert:certificate_unobtainable",
        112 => "alert:unrecognized_name",
        113 => "alert:bad_certificate_status_response",
        114 => "alert:bad_certificate_hash_value",
        115 => "alert:unknown_psk_identity",
        116 => "alert:certificate_required",
        120 => "alert:no_application_protocol",
        121 => "alert:ech_required",
        _ => "alert:other",
    }
}

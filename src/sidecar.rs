//! Gives an unmodified application its mutual TLS, on either end of a call.
//!
//! Not built yet: this page holds the place in the import table. Will build its endpoint sets
//! through `discovery`; must not know the gateway, DNS or how certificates are issued.

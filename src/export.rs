//! Writes the ServiceEntries that other clusters need, each with a stable address.
//!
//! Not built yet: this page holds the place in the import table. Will know `manifests`; must not
//! know the gateway or any connection.

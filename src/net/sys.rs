//! The only unsafe code: socket options and an ioctl that no crate offers safely.
//!
//! `TCP_DEFER_ACCEPT`, `TCP_INFO` and `SIOCOUTQ` of Linux. Must not know: why they are asked for.

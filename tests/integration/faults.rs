//! What goes wrong between hosts: hosts that vanish, packets that are lost, lines that are slow or
//! narrow, ports that run out. Clients, gateway and pods are hosts of their own, the peers scripted.
//!
//! Settings are shortened; what is waited for ends the wait. Each test has its own hosts, and all
//! may run at once.

// Bytes that are seldom sent so.
mod bytes;
// Nobody gets there, or not this way.
mod dial;
// It was there a moment ago.
mod gone;
// It gets there, but badly.
mod line;
// Somebody stands still.
mod standstill;

mod net;
mod peer;

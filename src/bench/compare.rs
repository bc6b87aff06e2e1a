//! Starts several gateways in turn, gives each the same work and reads what it cost. Must not know: how a gateway works.

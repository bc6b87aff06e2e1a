//! Load-tests any gateway that speaks SNI passthrough, ours or a rival's.
//!
//! Must not know: the gateway. Everything here goes through sockets, so that the same work can be
//! pointed at Envoy, HAProxy, nginx or a bare relay, and the same questions asked of each.
//!
//! * [`serve`] plays the pods, [`run`] makes the calls. Both speak [`exchange`]: a greeting, then
//!   requests that say how long they are and how long the answer is to be.
//! * [`floor`] is the least that a gateway can do: it accepts, connects and moves bytes.
//! * [`compare`] starts several gateways in turn, gives each the same work, and reads from the
//!   kernel what the work has cost. [`faults`] puts them through what goes wrong instead.

pub mod churn;
pub mod compare;
pub mod dial;
pub mod exchange;
pub mod faults;
pub mod floor;
pub mod hello;
pub mod link;
pub mod material;
pub mod pace;
pub mod plan;
pub mod progress;
pub mod report;
pub mod run;
pub mod serve;
pub mod stop;
pub mod tally;

pub use plan::{Mode, Plan, Scenario};
pub use report::Report;

/// Lifts the soft limit of open files to the hard one; returns it. A load test needs a descriptor
/// for each connection at each end, and a relay two.
pub fn lift_open_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let lifted = Rlimit { current: now.maximum, maximum: now.maximum };
    // When it cannot be lifted, what is there is what counts.
    let _ = setrlimit(Resource::Nofile, lifted);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

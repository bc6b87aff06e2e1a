//! The gateway follows the API as a pod does: another user, nothing to write, and the system calls
//! of `config/seccomp.json` only.

use rustix::process::Signal;

use super::*;
use crate::{
    confined::{is_confined, profile},
    support::{cage::Cage, mesh::Files},
};

#[test]
fn the_api_is_followed_with_what_a_pod_may_do() {
    let _turn = turn();
    let Some(cage) = Cage::new(&profile()) else { return };
    let (Some(mut cluster), Some(ip)) = (Cluster::with_istio(), outer_address()) else { return };
    let (first, second) = (pod(ip), pod(ip));
    cluster.apply(&gateway(&["*.global"]));
    cluster.apply(&mesh("ns2", "bar", &[&first]));
    // Nobody in particular sees into the cluster's directory.
    let read = |file| std::fs::read_to_string(file).expect("a file");
    let files = Files::with(&[("ca.pem", &read(cluster.file("ca.pem"))[..])]);
    let (theirs, ours) = (cluster.file("ca.pem"), files.at("ca.pem"));
    let (theirs, ours) = (theirs.display().to_string(), ours.display().to_string());
    files.write("kubeconfig", &read(cluster.kubeconfig()).replace(&theirs, &ours));
    let path = files.at("kubeconfig");
    let flags = ["--kubeconfig", path.to_str().expect("a path")];
    let command = gateway_of(&flags, &["drain.pause=100ms"]);
    let mut process = Process::spawn_within(cage.command(&command, &[files.path()], &[]), LONG);
    is_confined(&process);
    let mut talk = until_reached(&process, &key("ns2", "bar"), &first);

    cluster.apply(&mesh("ns2", "bar", &[&first, &second]));
    until_reached(&process, &key("ns2", "bar"), &second).end();

    // What it does when the API is away it may do too, and when it is back.
    cluster.stop_api();
    let age = || process.sample("diolkos_kubernetes_age_seconds");
    soon("the outage has an age", || (age() > Some(0.5)).then_some(()));
    talk.round(2);
    cluster.start_api();
    cluster.kubectl(&["delete", "endpointslice", "-n", "ns2", "bar-0"], "");
    soon("it is followed again", || (!is_shown(&process, &first)).then_some(()));
    talk.round(3);
    talk.end();

    process.signal(Signal::TERM);
    assert_eq!(process.ended(LONG).code(), Some(0));
}

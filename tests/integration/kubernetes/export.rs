//! `diolkos export` out of a live cluster: what it offers is in the directory, and stays so.

use std::process::Command;

use super::*;
use crate::support::{daemon::Daemon, process::diolkos};

fn export(cluster: &Cluster, directory: &Path) -> Command {
    let source = format!("c2=kubeconfig:{},gateway=192.0.2.10", cluster.kubeconfig().display());
    let mut command = diolkos();
    command.args(["export", "--for", "c1", "--range", "240.240.0.0/16", "--cluster", &source]);
    command.arg("--addresses").arg(directory.join("addresses.txt"));
    command.arg("--to-dir").arg(directory.join("imported"));
    command
}

#[test]
fn what_a_live_cluster_offers_is_exported_as_it_changes() {
    let _turn = turn();
    let (Some(cluster), Some(ip)) = (Cluster::with_istio(), outer_address()) else { return };
    let (bar, baz) = (pod(ip), pod(ip));
    cluster.apply(&gateway(&["*.global"]));
    cluster.apply(&mesh("ns2", "bar", &[&bar]));
    let directory = tempfile::tempdir().expect("a directory");
    let file = |host: &str| directory.path().join(format!("imported/{host}.yaml"));

    let once = export(&cluster, directory.path()).output().expect("it runs");
    assert!(once.status.success(), "{}", String::from_utf8_lossy(&once.stderr));
    assert!(file("bar.ns2.global").exists());

    let _export = Daemon::start(export(&cluster, directory.path()).arg("--watch"));
    cluster.apply(&mesh("ns2", "baz", &[&baz]));
    soon("the new service is exported", || file("baz.ns2.global").exists().then_some(()));
    cluster.kubectl(&["delete", "service", "-n", "ns2", "bar"], "");
    soon("the old one is not", || (!file("bar.ns2.global").exists()).then_some(()));

    // An importing cluster takes what was written.
    let written = std::fs::read_to_string(file("baz.ns2.global")).expect("a file");
    let dry = ["apply", "--server-side", "--dry-run=server", "--validate=strict"];
    let said = cluster.try_kubectl(&dry, &written);
    assert!(said.good, "{}\n{written}", said.stderr);
}

#[test]
fn an_api_that_is_away_fails_a_program_that_does_not_stay() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("kubeconfig");
    let source = format!("c2=kubeconfig:{},gateway=192.0.2.10", file.display());
    let arguments = ["export", "--for", "c1", "--addresses", "a.txt", "--cluster", &source];
    let output = diolkos().args(arguments).current_dir(&directory).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("--cluster c2") && said.contains("kubeconfig"), "{said}");
}

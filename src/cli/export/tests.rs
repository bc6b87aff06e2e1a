//! Which arguments fit together.

use clap::Parser as _;

use super::*;
use crate::cli::{Cli, Command};

fn args(line: &str) -> Result<ExportArgs, String> {
    match Cli::try_parse_from(format!("diolkos export {line}").split_whitespace()) {
        Ok(Cli { command: Command::Export(args) }) => Ok(args),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

const GOOD: &str = "--cluster c2=m,gateway=192.0.2.1 --for c1 --addresses a";

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let check = |more: &str, why: &str| {
        let line = format!("{GOOD} {more}");
        let refused = args(&line).and_then(|args| args.export().map_err(|e| e.to_string()));
        let error = refused.expect_err(&line);
        assert!(error.contains(why), "{line}: {error}");
    };
    check("--cluster c2=n,gateway=192.0.2.2", "two of this name");
    check("--cluster c3=n", "how it is reached");
    check("--form egress", "needs --egress");
    check("--egress 10.0.0.1", "for --form egress only");
    check("--range 10.0.0.0/33", "write a range");
    check("--watch", "--to-dir");
    check("--watch --to-dir d --check", "cannot be used with");
    check("--watch --to-dir d --forget x", "cannot be used with");
    check("--selector app", "write KEY=VALUE");
    check("--annotation mine=1", "must hold diolkos");
    check("--namespace A", "no namespace");
    check("--status 127.0.0.1:0", "--watch");
    check("--to-dir d --apply", "cannot be used with");
    check("--apply", "--apply needs the API of the importing cluster: --cluster c1=kubeconfig:");
    check("--apply --cluster c1=m", "--cluster c1=kubeconfig:FILE");
    check("--exporter A", "small letters");
    check("--exporter a-", "small letters");
    let long = format!("--exporter {}", "a".repeat(100));
    check(&long, "it has 100 characters: write at most 63");
    check("--exporter a", "--apply");
    let line = GOOD.replace("--addresses a", "--addresses configmap:b");
    let error = args(&line).expect("parsed").export().expect_err("no API").to_string();
    assert!(error.contains("--addresses configmap: needs the API"), "{error}");
    assert!(args(&GOOD.replace("--addresses a", "")).expect_err("none").contains("--addresses"));
    let alone = args("--cluster c1=m --for c1 --addresses a").expect("parsed").export();
    assert!(alone.expect_err("no other").to_string().contains("no other --cluster"));
}

#[test]
fn arguments_become_an_export() {
    let line = format!(
        "{GOOD} --cluster c1=n --form egress --egress gw:443 --selector a=b,c=d \
         --annotation diolkos/export --suffix Mesh --forget A.b"
    );
    let args = args(&line).expect("parsed");
    let export = args.export().expect("fits");
    assert_eq!(export.peers.len(), 1);
    assert_eq!((export.shape.form, &*export.shape.namespace), (Form::Egress, "istio-system"));
    assert_eq!((export.range.to_string(), &*export.forget[0]), ("127.255.0.0/16".into(), "a.b"));
    assert_eq!(args.wanted().labels.to_string(), "a=b,c=d");
    let settings = Settings::load(&args.sources(Sources::default()).expect("valid"));
    assert_eq!(settings.expect("valid").gateway.rewrite_suffix, "mesh");
}

#[test]
fn an_applied_export_keeps_its_addresses_beside_its_objects() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("kubeconfig");
    let config = "
apiVersion: v1
kind: Config
current-context: a
clusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]
contexts: [{name: a, context: {cluster: a, user: ''}}]
users: []
";
    std::fs::write(&file, config).expect("written");
    let line =
        format!("--cluster c1=kubeconfig:{} --cluster c2=m,gateway=192.0.2.1", file.display());
    let export = |more: &str| {
        let args = args(&format!("{line} --for c1 --apply {more}")).expect(more);
        args.export().map_err(|error| error.to_string())
    };
    let given = export("").expect("fits");
    assert!(matches!(given.record, Record::ConfigMap(_)), "{:?}", given.record);
    assert_eq!(given.destination.place(), "cluster c1 (http://127.0.0.1:1/)");
    assert_eq!(given.shape.exporter.as_deref(), Some("default"));
    assert!(matches!(export("--addresses a").expect("fits").record, Record::File(_)));
    assert!(export("--addresses configmap:ns/b --exporter x").is_ok());
    assert!(export("--addresses configmap:A").expect_err("a name").contains("no ConfigMap's name"));
}

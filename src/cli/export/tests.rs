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

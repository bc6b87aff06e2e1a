//! Directories as they should be, and with one thing wrong. Must not know: how it is found.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::certs::Authority;

const DAY: Duration = Duration::from_secs(86_400);

/// `root`, `cluster1` with a workload below it, and `cluster2`, made at `made`.
fn mesh(made: SystemTime) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = Authority::root(made).unwrap();
    root.write(&dir.path().join("root")).unwrap();
    for name in ["cluster1", "cluster2"] {
        root.cluster(name, made).unwrap().write(&dir.path().join(name)).unwrap();
    }
    let id = SpiffeId::new("cluster.local", "ns1", "sleep").unwrap();
    let cluster = Authority::read(&dir.path().join("cluster1")).unwrap();
    cluster.workload(&id, made).unwrap().write(&dir.path().join("cluster1/sleep")).unwrap();
    dir
}

/// What is not good, with paths below `dir`.
fn remarks(dir: &TempDir, now: SystemTime) -> Vec<String> {
    let audit = audit(&[dir.path()], now);
    let bad = audit.remarks.iter().filter(|remark| remark.verdict != Verdict::Good);
    let prefix = format!("{}/", dir.path().display());
    let told: Vec<_> = bad.map(|remark| remark.to_string().replace(&prefix, "")).collect();
    assert_eq!(audit.is_good(), !told.iter().any(|t| t.contains("FAILED")), "{told:?}");
    told
}

/// Breaks a sound mesh and expects remarks that begin so, in this order.
fn check(breaks: impl FnOnce(&Path), expected: &[&str]) {
    let now = SystemTime::now();
    let dir = mesh(now);
    breaks(dir.path());
    let found = remarks(&dir, now);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found} is not {expected}");
    }
}

fn copy(dir: &Path, from: &str, to: &str) {
    fs::copy(dir.join(from), dir.join(to)).unwrap();
}

#[test]
fn a_sound_mesh_is_good_and_every_file_is_named() {
    let now = SystemTime::now();
    let dir = mesh(now);
    let audit = audit(&[dir.path()], now);
    assert!(audit.is_good());
    let named: BTreeSet<_> =
        audit.remarks.iter().map(|r| r.path.strip_prefix(dir.path()).unwrap()).collect();
    for file in [
        "root/root-cert.pem",
        "root/root-key.pem",
        "cluster1/root-cert.pem",
        "cluster1/ca-cert.pem",
        "cluster1/ca-key.pem",
        "cluster1/sleep/cert-chain.pem",
        "cluster1/sleep/key.pem",
        "cluster2/ca-cert.pem",
    ] {
        assert!(named.contains(Path::new(file)), "{file} in {named:?}");
    }
}

#[test]
fn a_key_of_another_certificate_is_named() {
    let expected = "cluster1/ca-key.pem: FAILED: is not the key of the certificate in ca-cert.pem";
    check(|dir| copy(dir, "cluster2/ca-key.pem", "cluster1/ca-key.pem"), &[expected]);
    let expected = "cluster1/sleep/key.pem: FAILED: is not the key of the certificate in cert-";
    check(|dir| copy(dir, "cluster2/ca-key.pem", "cluster1/sleep/key.pem"), &[expected]);
    let expected = "root/root-key.pem: FAILED: is no private key in PEM";
    check(|dir| fs::write(dir.join("root/root-key.pem"), "no").unwrap(), &[expected]);
}

#[test]
fn a_missing_file_is_named() {
    let gone = |name: &'static str| move |dir: &Path| fs::remove_file(dir.join(name)).unwrap();
    check(gone("cluster1/ca-key.pem"), &["cluster1/ca-key.pem: FAILED: cannot be read: No such"]);
    check(gone("cluster1/ca-cert.pem"), &["cluster1/ca-cert.pem: FAILED: No such file"]);
    check(gone("cluster2/cert-chain.pem"), &["cluster2/cert-chain.pem: FAILED: No such file"]);
    check(
        gone("cluster2/root-cert.pem"),
        &[
            "cluster2/root-cert.pem: FAILED: No such file",
            "cluster2/ca-cert.pem: FAILED: does not lead to the root in root-cert.pem: its issuer, \
             O=Istio, CN=Root CA, is neither there nor in cert-chain.pem",
        ],
    );
    let nowhere = audit(&["/nowhere/at/all"], SystemTime::now());
    assert!(nowhere.remarks[0].to_string().starts_with("/nowhere/at/all: FAILED: holds no"));
}

#[test]
fn another_root_is_named_where_it_is_and_where_it_is_not_followed() {
    let another = |dir: &Path| {
        let other = Authority::root(SystemTime::now()).unwrap();
        other.write(&dir.join("cluster2/.other")).unwrap();
        copy(dir, "cluster2/.other/root-cert.pem", "cluster2/root-cert.pem");
    };
    check(
        another,
        &[
            "cluster2/ca-cert.pem: FAILED: does not lead to the root in root-cert.pem: that has \
             the right name, O=Istio, CN=Root CA, and another key",
            "cluster2/root-cert.pem: FAILED: is another root than ",
        ],
    );
    let whole = |dir: &Path| {
        let now = SystemTime::now();
        fs::remove_dir_all(dir.join("cluster2")).unwrap();
        let other = Authority::root(now).unwrap().cluster("cluster2", now).unwrap();
        other.write(&dir.join("cluster2")).unwrap();
    };
    check(whole, &["cluster2/root-cert.pem: FAILED: is another root than "]);
}

#[test]
fn what_stands_in_the_place_of_something_else_is_named() {
    check(
        |dir| copy(dir, "cluster2/cert-chain.pem", "cluster1/cert-chain.pem"),
        &["cluster1/cert-chain.pem: FAILED: does not begin with the certificate of ca-cert.pem"],
    );
    check(
        |dir| {
            copy(dir, "cluster1/sleep/cert-chain.pem", "cluster2/ca-cert.pem");
            copy(dir, "cluster1/sleep/cert-chain.pem", "cluster2/cert-chain.pem");
            copy(dir, "cluster1/sleep/key.pem", "cluster2/ca-key.pem");
        },
        &["cluster2/ca-cert.pem: FAILED: is no authority's certificate (no CA:TRUE)"],
    );
    check(
        |dir| copy(dir, "cluster1/ca-cert.pem", "cluster2/root-cert.pem"),
        &[
            "cluster2/root-cert.pem: FAILED: is not signed by itself: it is no root",
            "cluster2/ca-cert.pem: FAILED: does not lead to the root",
            "cluster2/root-cert.pem: FAILED: is another root than ",
        ],
    );
    check(
        |dir| {
            copy(dir, "cluster1/cert-chain.pem", "cluster1/sleep/cert-chain.pem");
            copy(dir, "cluster1/ca-key.pem", "cluster1/sleep/key.pem");
        },
        &["cluster1/sleep/cert-chain.pem: FAILED: begins with an authority's certificate"],
    );
    check(
        |dir| fs::write(dir.join("cluster1/ca-cert.pem"), "no").unwrap(),
        &["cluster1/ca-cert.pem: FAILED: holds no certificate in PEM"],
    );
}

#[test]
fn an_authority_below_pathlen_0_is_refused() {
    let nested = |dir: &Path| {
        // Made by another tool: ours refuses to.
        let now = SystemTime::now();
        let own = Authority::read(&dir.join("cluster1")).unwrap();
        let below = own.below("nested", now).unwrap();
        below.write(&dir.join("nested")).unwrap();
        let chain = [dir.join("nested/ca-cert.pem"), dir.join("cluster1/cert-chain.pem")];
        let text: String = chain.map(|path| fs::read_to_string(path).unwrap()).concat();
        fs::write(dir.join("nested/cert-chain.pem"), text).unwrap();
    };
    check(
        nested,
        &["nested/ca-cert.pem: FAILED: its issuer in cert-chain.pem allows 0 authorities below"],
    );
}

#[test]
fn time_is_told_by_file() {
    let made = SystemTime::now();
    let dir = mesh(made);
    let after = |days| remarks(&dir, made + DAY * days);
    assert_eq!(after(0), [""; 0]);
    let [leaf] = &after(2)[..] else { panic!("{:?}", after(2)) };
    assert!(leaf.starts_with("cluster1/sleep/cert-chain.pem: FAILED: has expired on "), "{leaf}");
    let late = after(705);
    assert!(late[0].starts_with("cluster1/ca-cert.pem: warning: ends soon, on "), "{late:#?}");
    let later = after(731);
    assert!(later[0].starts_with("cluster1/ca-cert.pem: FAILED: has expired on "), "{later:#?}");
    assert!(later.iter().any(|r| r.starts_with("cluster1/sleep/cert-chain.pem: FAILED: has exp")));
    let early = remarks(&dir, made - DAY);
    assert!(early[0].starts_with("cluster1/root-cert.pem: FAILED: is not valid before "));
}

#[test]
fn a_key_that_others_can_read_is_remarked() {
    let open = |dir: &Path| {
        let path = dir.join("cluster1/ca-key.pem");
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    };
    check(open, &["cluster1/ca-key.pem: warning: others than its owner can read it: chmod 600"]);
}

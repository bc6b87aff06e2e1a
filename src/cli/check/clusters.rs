//! `diolkos check --cluster`: whether clusters agree with each other. Must not know: what is
//! compared.

use std::{collections::BTreeSet, io::Write, path::Path, time::SystemTime};

use anyhow::Context as _;

use crate::{
    app::offline,
    certs::{self, audit::Verdict},
    cli::{CheckArgs, UsageError, shown::line},
    config::{Settings, Sources},
    export::{
        Reader, Wanted,
        sameness::{Member, Mismatch, TrustDomain, compare, trust_domains},
    },
    manifests::{Problem, Severity, Store, source::PATIENCE},
    telemetry::stdout,
};

pub(super) fn run(args: &CheckArgs) -> anyhow::Result<bool> {
    let mut names = BTreeSet::new();
    if let Some(twice) = args.cluster.iter().find(|peer| !names.insert(&*peer.name)) {
        return usage(format!("--cluster {}: there are two of this name", twice.name));
    }
    if names.len() < 2 {
        return usage("--cluster: give two or more, to be compared".to_owned());
    }
    if let Some(other) = args.certs.iter().find(|peer| !names.contains(&*peer.name)) {
        return usage(format!("--certs {}: there is no --cluster of this name", other.name));
    }
    if let Some(other) = args.certs.iter().find(|peer| peer.kubernetes.is_some()) {
        return usage(format!("--certs {}: certificates are in a directory", other.name));
    }
    let settings = Settings::load(&args.sources(Sources::of_this_process())?)?;
    let suffix = &settings.gateway.rewrite_suffix;
    let mut members = Vec::new();
    for peer in &args.cluster {
        let source = peer.open().and_then(|source| {
            let tell = |why: &str| eprintln!("waiting: {}: {}", peer.name, line(&why));
            source.load_once(PATIENCE, tell)
        });
        let mut store = Store::new();
        let changes = store.apply(source.with_context(|| format!("--cluster {}", peer.name))?);
        let gateway = offline::gateway_elsewhere(&settings);
        let reader = Reader::new(&peer.name, gateway, Wanted::default());
        members.push(Member::new(&peer.name, store, &changes, reader));
    }
    let mut mismatches = compare(&members, suffix);
    let mut domains = trust_domains(&members, suffix);
    let directories: Vec<&Path> = args.certs.iter().map(|peer| &*peer.directory).collect();
    mismatches.extend(certificates(&directories, &mut domains));
    mismatches.extend(differ(&domains));
    show(&members, suffix, &mismatches)
}

fn usage(text: String) -> anyhow::Result<bool> {
    Err(UsageError(text).into())
}

/// What is wrong with the certificates; the trust domains in them are added to `domains`.
fn certificates(directories: &[&Path], domains: &mut Vec<TrustDomain>) -> Vec<Mismatch> {
    let audit = certs::audit(directories, SystemTime::now());
    for (path, id) in &audit.workloads {
        if domains.iter().all(|known| known.name != id.trust_domain()) {
            let place = path.display().to_string();
            domains.push(TrustDomain { name: id.trust_domain().to_owned(), place });
        }
    }
    let failed = audit.remarks.into_iter().filter(|remark| remark.verdict == Verdict::Failed);
    let mismatch = |remark: certs::Remark| Mismatch {
        at: remark.path.display().to_string(),
        message: remark.text,
    };
    failed.map(mismatch).collect()
}

/// All clusters are of one trust domain, or their identities mean nothing to each other.
fn differ(domains: &[TrustDomain]) -> Option<Mismatch> {
    let (first, others) = domains.split_first()?;
    let other = others.first()?;
    let message = format!(
        "the trust domain is {} here and {} in {}: callers take identities of one only",
        first.name, other.name, other.place
    );
    Some(Mismatch { at: first.place.clone(), message })
}

fn show(members: &[Member], suffix: &str, mismatches: &[Mismatch]) -> anyhow::Result<bool> {
    let mut out = stdout();
    let mut good = mismatches.is_empty();
    for member in members {
        writeln!(
            out,
            "{}: {} objects, {} services offered to others, {} ServiceEntries for those of others",
            member.name,
            member.store.objects().len(),
            member.view.offers.len(),
            member.imports(suffix),
        )?;
    }
    writeln!(out, "{} mismatches", mismatches.len())?;
    for mismatch in mismatches {
        writeln!(out, "  {}", line(mismatch))?;
    }
    let problems: Vec<(&Member, Problem)> = members
        .iter()
        .flat_map(|member| member.store.problems().into_iter().map(move |p| (member, p)))
        .filter(|(_, problem)| problem.severity != Severity::Note)
        .collect();
    writeln!(out, "{} problems", problems.len())?;
    for (member, problem) in &problems {
        writeln!(out, "  {}: {}", member.name, line(problem))?;
        good &= problem.severity != Severity::Error;
    }
    Ok(good)
}

//! What a run of `diolkos export` prints. Must not know: how it came about.

use std::io::{self, Write as _};

use super::ExportArgs;
use crate::{
    export::{Destination, Done, Export, Range, Remark, cluster::What, escapes_capture},
    manifests::Severity,
    telemetry::stdout,
};

/// The objects, or what became of them.
pub(super) fn show(args: &ExportArgs, export: &Export, done: &Done) -> io::Result<()> {
    let mut out = stdout();
    if let Destination::Shown = &export.destination {
        for (index, objects) in done.objects.values().enumerate() {
            let between = if index == 0 { "" } else { "---\n" };
            write!(out, "{between}{objects}")?;
        }
        return Ok(());
    }
    if args.check {
        would(&mut out, export, done)?;
    } else {
        removed(export, done);
    }
    let (written, removed) =
        if args.check { ("to write", "to remove") } else { ("written", "removed") };
    writeln!(
        out,
        "{}: {} names, {} of them with a new address; {} {} {written}, {} {removed}, {} as they \
         were in {}",
        args.importing,
        done.objects.len(),
        done.named,
        done.written.len(),
        export.destination.units(),
        done.removed.len(),
        done.unchanged,
        export.destination.place(),
    )
}

fn would(out: &mut impl io::Write, export: &Export, done: &Done) -> io::Result<()> {
    if let Destination::Cluster(_) = &export.destination {
        return done
            .deeds
            .iter()
            .try_for_each(|deed| writeln!(out, "would {} {}", deed.what, deed.object));
    }
    for host in &done.written {
        writeln!(out, "would write {host}")?;
    }
    for host in &done.removed {
        writeln!(out, "would remove {host}")?;
    }
    Ok(())
}

/// Each thing that is gone is named.
fn removed(export: &Export, done: &Done) {
    if let Destination::Folder(folder) = &export.destination {
        for host in &done.removed {
            let file = folder.file_of(host);
            eprintln!("removed {}: {host} is not exported any more", file.display());
        }
    }
    for deed in done.deeds.iter().filter(|deed| deed.what == What::Delete) {
        eprintln!("deleted {}: it is not exported any more", deed.object);
    }
}

/// What must be known of a range before it is relied on.
pub(super) fn range_remark(range: Range) -> Option<Remark> {
    let first: std::net::Ipv4Addr = range.first();
    escapes_capture(first.into()).then(|| Remark {
        severity: Severity::Note,
        text: format!(
            "{range} is loopback, which sidecars of Istio 1.4 and later do not capture: use --range \
             240.240.0.0/16 with those"
        ),
    })
}

//! G25: names that nobody has are nowhere to be found afterwards.

use std::{fs, io::Read as _, time::Instant};

use anyhow::ensure;

use super::{
    Peer, Stage,
    flights::{Hello, server_name},
    front::{Front, Terms},
    goal::{Cell, Goal, How},
    script::{Clients, Pod},
};

pub(super) const GOAL: Goal = Goal {
    name: "G25",
    done: "1,000,000 random names (--quick, rivals: 3,000), some of them with control bytes",
    reach: "0 more series, ≤ 1 MiB more resident, 0 endpoints dialled, ≤ 10 log lines/s, 0 control \
            bytes in log and access log",
    how: How::Measured { measure, rivals: true },
};

/// So many before anything is read: what is kept for such connections is there then.
const FIRST: u64 = 500;

fn measure(stage: &Stage<'_>, peer: Peer) -> anyhow::Result<Cell> {
    let ours = peer == Peer::Diolkos;
    let count = if ours { stage.pick(1_000_000, 3_000) } else { 3_000 };
    let pod = Pod::new()?;
    let access = stage.place.join("access.log");
    let path = format!("access_log.path={}", access.display());
    let settings = ["access_log.format=text", &path, "log.level=info"];
    let front =
        stage.front(peer, &[pod.address], &Terms { settings: &settings, ..Terms::default() })?;
    let clients = Clients::of(&front)?;
    ask(&clients, 0..FIRST)?;
    let series = || if ours { series(&front) } else { Ok(0) };
    // What answering takes is no matter of names: it is there before memory is read.
    let (series_before, resident) = (series()?, front.reading()?.resident);
    let (begun, lines) = (Instant::now(), log(&front).lines().count());
    ask(&clients, FIRST..FIRST + count)?;
    let a_second = (log(&front).lines().count() - lines) as f64 / begun.elapsed().as_secs_f64();
    let more = front.reading()?.resident.saturating_sub(resident);
    let (new_series, dialled) = (series()? - series_before, pod.refuse_all());
    let written = log(&front) + &fs::read_to_string(&access).unwrap_or_default();
    let control = written.chars().filter(|c| c.is_control() && *c != '\n').count();
    let met =
        new_series == 0 && more <= 1 << 20 && dialled == 0 && a_second <= 10.0 && control == 0;
    let series = if ours { format!("{new_series} more series, ") } else { String::new() };
    let figure = format!(
        "{count} names: {series}{} KiB more, {dialled} dialled, {a_second:.1} log lines/s, {control} \
         control bytes",
        more >> 10
    );
    Ok(Cell::measured(met, figure))
}

fn ask(clients: &Clients, numbers: std::ops::Range<u64>) -> anyhow::Result<()> {
    let mut hello = Hello::new("");
    for number in numbers {
        let odd = ["", "\u{1b}[31m", "\r\n", "%s", "\""][usize::try_from(number % 5)?];
        let random = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let name = format!("outbound_.8080_._.{random:016x}{odd}.bench.global");
        hello.extensions[0] = server_name(name.as_bytes());
        let mut client = clients.say(&hello.wire())?;
        // However it is refused.
        let _ = client.read(&mut [0; 16]);
    }
    Ok(())
}

fn series(front: &Front) -> anyhow::Result<i64> {
    let (status, text) = front.ask("/stats/prometheus")?;
    ensure!(status == 200, "its metrics are not to be had: {status}");
    Ok(i64::try_from(text.lines().filter(|line| !line.starts_with('#')).count())?)
}

fn log(front: &Front) -> String {
    fs::read_to_string(front.dir.join("log")).unwrap_or_default()
}

//! A gateway under a fault: started as a program on terms that a goal sets, and read from outside.
//! Must not know: what is done to it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Signal, kill_process};

use super::{Peer, Stage, apart::Apart};
use crate::bench::compare::{
    START_TIMEOUT,
    churn::Changer,
    configs::{Site, name},
    process::{Child, Reading},
};

/// Where gateways listen, unless they have a host of their own.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 31, 0, 1);
const OPERATOR_TIMEOUT: Duration = Duration::from_secs(2);

/// On what terms a gateway runs.
#[derive(Default)]
pub(super) struct Terms<'a> {
    /// Settings of diolkos, as `key=value`.
    pub(super) settings: &'a [&'a str],
    /// Workers beyond the first, of diolkos.
    pub(super) more_workers: usize,
    pub(super) changing: bool,
    /// The limit of connections of a gateway that must have one; HAProxy does.
    pub(super) connections: Option<usize>,
    pub(super) under: Under<'a>,
}

/// What it has to live with.
#[derive(Default)]
pub(super) enum Under<'a> {
    #[default]
    Nothing,
    /// So many descriptors.
    Files(u64),
    /// A control group, by its `cgroup.procs`.
    Group(&'a Path),
    /// Another user than root.
    User(u32),
    /// A host of its own.
    Host(&'a Apart),
}

/// A gateway that accepts connections. Ends when dropped.
pub(super) struct Front {
    pub(super) target: SocketAddr,
    operators: SocketAddr,
    pub(super) child: Child,
    pub(super) dir: PathBuf,
    changer: Option<Changer>,
}

impl Stage<'_> {
    /// Starts a gateway in front of these pods.
    pub(super) fn front(
        &self,
        peer: Peer,
        pods: &[SocketAddr],
        terms: &Terms<'_>,
    ) -> anyhow::Result<Front> {
        let (target, operators) = match terms.under {
            // Nobody else is there.
            Under::Host(apart) => {
                ((apart.gateway(), 15443).into(), (apart.gateway(), 15000).into())
            }
            _ => (free_address()?, free_address()?),
        };
        let dir = tempfile::tempdir_in(self.place)?.keep();
        let settings: Vec<String> = terms.settings.iter().map(|s| (*s).to_owned()).collect();
        let site = Site {
            workers: 1 + terms.more_workers,
            changing: terms.changing,
            connections: terms.connections.unwrap_or(Site::CONNECTIONS),
            operators: Some(operators),
            settings: &settings,
            ..Site::new(&dir, target, pods)
        };
        let command = peer.command(&site, &self.what.program)?;
        if let Under::User(_) = terms.under {
            open_to_all(self.place, &dir)?;
        }
        let command = under(command, &terms.under);
        let mut child = Child::start(command, &dir.join("log"), Some(&self.cores))?;
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect_timeout(&target, Duration::from_secs(1)).is_err() {
            child.check(peer.name())?;
            if Instant::now() > deadline {
                bail!("{} does not accept on {target}: {}", peer.name(), child.log_tail());
            }
            thread::sleep(Duration::from_millis(5));
        }
        let changer = terms.changing.then(|| Changer::new(peer, &site, child.pid())).flatten();
        let mut front = Front { target, operators, child, dir, changer };
        // It listens before it serves, and others serve as soon as they listen.
        while peer == Peer::Diolkos && !front.ask("/ready").is_ok_and(|(status, _)| status == 200) {
            front.child.check(peer.name())?;
            ensure!(Instant::now() < deadline, "never ready: {}", front.child.log_tail());
            thread::sleep(Duration::from_millis(5));
        }
        Ok(front)
    }
}

impl Front {
    /// The name of its first route.
    pub(super) fn name(&self) -> String {
        name(0)
    }

    /// By which it can be changed, where it was started to be.
    pub(super) fn changer(&mut self) -> anyhow::Result<Changer> {
        self.changer.take().context("it was not started to be changed")
    }

    pub(super) fn reading(&self) -> anyhow::Result<Reading> {
        Ok(self.child.reading()?)
    }

    /// Per cent of a core that it takes in this time.
    pub(super) fn cpu_over(&self, time: Duration) -> anyhow::Result<f64> {
        let (before, begun) = (self.reading()?, Instant::now());
        thread::sleep(time);
        let took = self.reading()?.since(&before).cpu_ns;
        Ok(took as f64 / begun.elapsed().as_nanos() as f64 * 100.0)
    }

    /// How many descriptors it has.
    pub(super) fn files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.pid())).map_or(0, Iterator::count)
    }

    pub(super) fn is_alive(&mut self) -> bool {
        self.child.check("").is_ok()
    }

    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill_process(self.child.pid(), signal)?)
    }

    /// What diolkos says to an operator: status and body.
    pub(super) fn ask(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&self.operators, OPERATOR_TIMEOUT)?;
        stream.set_read_timeout(Some(OPERATOR_TIMEOUT))?;
        let host = self.operators;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
        let status = head.split_whitespace().nth(1).context("no status")?.parse()?;
        Ok((status, body.to_owned()))
    }
}

fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((ADDRESS, 0))
        .with_context(|| format!("cannot listen on {ADDRESS}: is all of 127.0.0.0/8 loopback?"))?;
    Ok(listener.local_addr()?)
}

/// The same command, living with something.
fn under(command: Command, under: &Under<'_>) -> Command {
    let script = match under {
        Under::Nothing => return command,
        Under::Files(files) => format!("ulimit -n {files}; exec \"$0\" \"$@\""),
        Under::Group(procs) => format!("echo $$ > '{}'; exec \"$0\" \"$@\"", procs.display()),
        Under::User(user) => {
            let mut command = command;
            command.uid(*user).gid(*user);
            return command;
        }
        Under::Host(apart) => {
            let mut inside = Command::new("ip");
            inside.args(["netns", "exec", apart.name()]);
            return followed_by(inside, &command);
        }
    };
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(script);
    followed_by(shell, &command)
}

fn followed_by(mut command: Command, inner: &Command) -> Command {
    command.arg(inner.get_program()).args(inner.get_args());
    command
}

/// Another user reads what we have written.
fn open_to_all(place: &Path, dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    for path in [place, dir] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
    }
    Ok(())
}

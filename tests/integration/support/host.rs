//! Hosts of their own: network namespaces and the cables between them.
//!
//! Must not know: what runs there.

use std::{
    fs::{self, File},
    os::fd::AsFd as _,
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{PATIENCE, eventually, tools};

/// Where `ip netns` keeps files that stand in for those of /etc.
const FILES: &str = "/etc/netns";

/// A network namespace with its loopback up; gone when dropped, unless something still runs there.
pub struct Host {
    name: String,
    number: u32,
}

impl Host {
    /// `None`, said aloud, where we are not root or have no `ip`; in CI that fails.
    pub fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        tools::find("ip")?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("diolkos-{}-{number}", std::process::id());
        let added = tools::run(&mut program("ip", &["netns", "add", &name]), b"", PATIENCE);
        if !added.good {
            let reason = format!("no network namespace can be made: {}", added.stderr.trim());
            assert!(std::env::var_os("CI").is_none(), "{reason}");
            eprintln!("skipped: {reason}");
            return None;
        }
        let host = Self { name, number };
        host.run("ip link set lo up");
        Some(host)
    }

    /// As many as that.
    pub fn some(count: usize) -> Option<Vec<Self>> {
        (0..count).map(|_| Self::new()).collect()
    }

    /// Lays a cable to another host and gives each end its address, as in `10.1.0.1/24`.
    pub fn link(&self, ours: &str, other: &Self, theirs: &str) {
        let (here, there) = (other.plug(), self.plug());
        let (name, peer) = (&self.name, &other.name);
        self.run(&format!("ip link add {here} type veth peer name {there} netns {peer}"));
        for (host, address, plug) in [(self, ours, &here), (other, theirs, &there)] {
            host.run(&format!("ip address add {address} dev {plug}"));
            host.run(&format!("ip link set {plug} up"));
        }
        let up = || {
            let shown =
                tools::run(&mut self.command("ip", &["link", "show", &here]), b"", PATIENCE);
            shown.stdout.contains("LOWER_UP").then_some(())
        };
        eventually(&format!("{name} is linked to {peer}"), up);
    }

    /// The name of the interface that another host has towards this one.
    pub fn plug(&self) -> String {
        format!("to{}", self.number)
    }

    /// Runs a line of words on this host, which must go well.
    pub fn run(&self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        let done = tools::run(&mut self.command(words[0], &words[1..]), b"", PATIENCE);
        assert!(done.good, "{line}: {done:?}");
    }

    /// A program on this host, with the host's own resolv.conf if it was given one.
    pub fn command(&self, name: &str, arguments: &[&str]) -> Command {
        program("ip", &[&["netns", "exec", &self.name, name], arguments].concat())
    }

    /// Does this on a thread of this host: sockets made there, and threads and processes started
    /// there, belong to the host for good.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = Path::new("/run/netns").join(&self.name);
        let moved = move || {
            let namespace = File::open(path).expect("a namespace");
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network).expect("moved");
            work()
        };
        let done = thread::scope(|scope| scope.spawn(moved).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Gives programs that are started by [`Host::command`] this resolv.conf.
    pub fn resolves_by(&self, text: &str) {
        let dir = Path::new(FILES).join(&self.name);
        // Another host may just be taking the directory above away.
        eventually("a directory", || fs::create_dir_all(&dir).ok());
        fs::write(dir.join("resolv.conf"), text).expect("written");
    }

    /// Sets a value of /proc/sys/net.
    pub fn tune(&self, name: &str, value: &str) {
        self.within(|| fs::write(Path::new("/proc/sys/net").join(name), value).expect(name));
    }

    /// Adds a rule of nftables for packets that come to this host (`input`) or leave it
    /// (`output`). What it counts is in [`Host::filtered`].
    pub fn filter(&self, hook: &str, rule: &str) {
        self.run("nft add table ip faults");
        self.run(&format!(
            "nft add chain ip faults {hook} {{ type filter hook {hook} priority 0 ; }}"
        ));
        self.run(&format!("nft add rule ip faults {hook} {rule}"));
    }

    /// How many packets met the rules.
    pub fn filtered(&self) -> u64 {
        let listed = tools::run(&mut self.command("nft", &["list", "ruleset"]), b"", PATIENCE);
        let mut words = listed.stdout.split_whitespace();
        let mut met = 0;
        while words.any(|word| word == "packets") {
            met += words.next().and_then(|n| n.parse::<u64>().ok()).expect("a number");
        }
        met
    }

    /// A counter of TCP, by the name that `/proc/net/netstat` has for it.
    pub fn counted(&self, name: &str) -> u64 {
        // Of the thread: that of the process is another host's.
        let path = "/proc/thread-self/net/netstat";
        let text = self.within(|| fs::read_to_string(path).expect("read"));
        let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
        let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
        let mut both = names.split(' ').zip(values.split(' '));
        let (_, value) = both.find(|(n, _)| *n == name).expect("its counter");
        value.parse().expect("a number")
    }

    /// Takes all rules away.
    pub fn filter_nothing(&self) {
        self.run("nft flush ruleset");
    }

    /// Drops every packet that comes or leaves.
    pub fn drop_everything(&self) {
        self.filter("input", "drop");
        self.filter("output", "drop");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = program("ip", &["netns", "del", &self.name]).status();
        let _ = fs::remove_dir_all(Path::new(FILES).join(&self.name));
        // Fails when others have files there.
        let _ = fs::remove_dir(FILES);
    }
}

fn program(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(arguments);
    command
}

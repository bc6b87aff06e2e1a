//! Programs of others: found, run to their end, and what they said. Must not know: what for.

use std::{
    env,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A process that does not outlive its owner.
pub struct Process(Child);

impl Process {
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }

    /// What it prints, where that was piped.
    pub fn stdout(&mut self) -> std::process::ChildStdout {
        self.0.stdout.take().expect("piped")
    }

    /// One that runs already.
    pub fn of(child: Child) -> Self {
        Self(child)
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("a child can be waited for")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a program printed, and whether it was content.
#[derive(Debug)]
pub struct Said {
    pub good: bool,
    pub stdout: String,
    pub stderr: String,
}

/// The program, from `target/counterparts` or the PATH. `None` when absent, which is printed; where
/// `CI` is set it fails instead.
pub fn find(name: &str) -> Option<PathBuf> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/counterparts");
    let path = env::var_os("PATH").unwrap_or_default();
    let found = [ours].into_iter().chain(env::split_paths(&path)).map(|dir| dir.join(name));
    let found = found.into_iter().find(|file| file.is_file());
    if found.is_none() {
        let reason = format!("{name} is not installed; tests/setup.sh brings it");
        assert!(env::var_os("CI").is_none(), "{reason}");
        eprintln!("skipped: {reason}");
    }
    found
}

/// Runs a program to its end. Its standard input holds `input` and stays open: several clients take
/// the end of their input for a wish to leave.
pub fn run(command: &mut Command, input: &[u8], patience: Duration) -> Said {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process::start(command);
    let mut stdin = process.0.stdin.take().expect("piped");
    // One that ends without reading its input may have been refused: its output says so.
    let _ = stdin.write_all(input);
    let stdout = collect(process.0.stdout.take().expect("piped"));
    let stderr = collect(process.0.stderr.take().expect("piped"));
    let deadline = Instant::now() + patience;
    let status = loop {
        if let Some(status) = process.ended() {
            break Some(status);
        }
        if Instant::now() > deadline {
            break None;
        }
        thread::park_timeout(Duration::from_millis(5));
    };
    drop(process);
    let (stdout, stderr) = (stdout.join().expect("reader"), stderr.join().expect("reader"));
    let Some(status) = status else {
        panic!("{command:?} had not ended after {patience:?}\n{stdout}\n{stderr}");
    };
    Said { good: status.success(), stdout, stderr }
}

fn collect(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).expect("a pipe can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

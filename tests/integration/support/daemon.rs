//! A command of the program that stays, with its log in JSON. Must not know: which command.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;

use super::eventually;

/// A run of it. Dropped, it is killed.
pub struct Daemon {
    child: Child,
    log: Arc<Mutex<Vec<Value>>>,
}

impl Daemon {
    /// Starts it with `--set log.format=json`.
    pub fn start(command: &mut Command) -> Self {
        command.args(["--set", "log.format=json"]).stdin(Stdio::null());
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
        let log = Arc::<Mutex<Vec<Value>>>::default();
        let (stderr, into) = (child.stderr.take().expect("a pipe"), Arc::clone(&log));
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                into.lock().expect("log").push(value);
            }
        });
        Self { child, log }
    }

    /// What it logged so far.
    pub fn log(&self) -> Vec<Value> {
        self.log.lock().expect("log").clone()
    }

    /// Waits for a line whose message holds this.
    pub fn said(&self, part: &str) -> Value {
        let holds = |line: &Value| line["message"].as_str().is_some_and(|said| said.contains(part));
        eventually(&format!("it says {part:?}"), || self.log().into_iter().find(holds))
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("kill");
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        eventually("it has ended", || self.child.try_wait().expect("wait"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

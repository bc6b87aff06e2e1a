//! The log: subscriber, format, live change of level, and the one function that escapes bytes from
//! the network. Beside it standard output, for what is printed and not logged.
//!
//! Must not know: who logs what.

use std::{
    io::{self, IsTerminal},
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer, Registry,
    filter::Targets,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    reload,
};

mod escape;
mod json;
mod stdout;

pub use escape::{Escaped, escape};
pub use json::now;
pub use stdout::stdout;

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object for each line.
    Json,
}

/// A level that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is not a level; expected error, warn, info, debug or trace, or with parts such as \
     info,diolkos::gateway=debug"
)]
pub struct LevelError(String);

/// The log has a subscriber already.
#[derive(Debug, Error)]
pub enum StartError {
    /// The level cannot be read.
    #[error(transparent)]
    Level(#[from] LevelError),
    /// Somebody else set a subscriber in this process.
    #[error("the log was started twice in this process")]
    Twice,
}

/// The level of the running log; clones change the same log.
#[derive(Clone, Debug)]
pub struct Level {
    filter: reload::Handle<Targets, Registry>,
    current: Arc<Mutex<String>>,
}

impl Level {
    /// Changes what is logged from now on. A level that cannot be read changes nothing.
    ///
    /// # Errors
    /// When `level` is not a level.
    pub fn set(&self, level: &str) -> Result<(), LevelError> {
        let targets = targets(level)?;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        self.filter.reload(targets).map_err(|_| LevelError(level.to_owned()))?;
        level.clone_into(&mut current);
        Ok(())
    }

    /// What was set last.
    #[must_use]
    pub fn current(&self) -> String {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Starts the log of this process on standard error.
///
/// # Errors
/// When `level` is not a level, or a log was started before.
pub fn start(format: Format, level: &str) -> Result<Level, StartError> {
    let (subscriber, level) = subscriber(format, level, io::stderr, io::stderr().is_terminal())?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| StartError::Twice)?;
    Ok(level)
}

/// Whether a level can be read.
///
/// # Errors
/// When it cannot.
pub fn check_level(level: &str) -> Result<(), LevelError> {
    targets(level).map(drop)
}

fn subscriber<W>(
    format: Format,
    level: &str,
    writer: W,
    colours: bool,
) -> Result<(impl Subscriber + Send + Sync, Level), LevelError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(targets(level)?);
    let lines = fmt::layer().with_writer(writer).with_ansi(colours);
    let lines = match format {
        Format::Text => lines.boxed(),
        Format::Json => lines.event_format(json::Json).boxed(),
    };
    let current = Arc::new(Mutex::new(level.to_owned()));
    let subscriber = Registry::default().with(filter).with(lines);
    Ok((subscriber, Level { filter: handle, current }))
}

/// Reads `level` and `module=level` parts. Stricter than [`Targets`] itself, which takes any other
/// word for the name of a module.
fn targets(text: &str) -> Result<Targets, LevelError> {
    let error = || LevelError(text.chars().take(100).collect());
    let level = |level: &str| match level {
        "off" | "error" | "warn" | "info" | "debug" | "trace" => {
            level.parse::<LevelFilter>().map_err(|_| error())
        }
        _ => Err(error()),
    };
    text.split(',').map(str::trim).try_fold(Targets::new(), |targets, part| {
        Ok(match part.split_once('=') {
            None => targets.with_default(level(part)?),
            Some(("", _)) => return Err(error()),
            Some((module, of_module)) => targets.with_target(module, level(of_module)?),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `log` writes at first under `level`.
    fn written(format: Format, level: &str, log: impl FnOnce(&Level)) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let (subscriber, level) =
            subscriber(format, level, move || writer.clone(), false).expect("a level");
        tracing::subscriber::with_default(subscriber, || log(&level));
        let bytes = lines.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn only_levels_and_parts_are_read() {
        for good in ["info", "off", "trace", "info,diolkos::gateway=debug", "warn, a=trace"] {
            assert_eq!(check_level(good), Ok(()), "{good}");
        }
        for bad in ["", "loud", "INFO", "info,", "diolkos", "=info", "a=", "a=b", "a=info=debug"] {
            assert_eq!(check_level(bad), Err(LevelError(bad.into())), "{bad}");
        }
    }

    #[test]
    fn a_change_of_level_holds_from_the_next_line_on() {
        let text = written(Format::Text, "info", |level| {
            tracing::debug!("first");
            level.set("debug").expect("a level");
            assert_eq!(level.current(), "debug");
            tracing::debug!("second");
            level.set("nonsense").expect_err("not a level");
            assert_eq!(level.current(), "debug");
            tracing::debug!("third");
            level.clone().set("error").expect("a level");
            tracing::warn!("fourth");
        });
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("second") && text.contains("third"), "{text}");
    }

    #[test]
    fn a_part_holds_for_its_module_only() {
        let text = written(Format::Text, "warn,diolkos::chatty=debug", |_| {
            tracing::info!("quiet");
            tracing::debug!(target: "diolkos::chatty::inner", "loud");
        });
        assert!(text.contains("loud") && !text.contains("quiet"), "{text}");
    }

    #[test]
    fn a_json_line_holds_message_and_fields() {
        let text = written(Format::Json, "info", |_| {
            tracing::info!(
                generation = 7_u64,
                delta = -3_i64,
                load = 0.5,
                full = true,
                server_name = "a\"b\n",
                address = %"[::1]:1",
                "table published"
            );
        });
        let line: serde_json::Value = serde_json::from_str(&text).expect("one JSON object");
        let time = line["time"].as_str().expect("a time");
        assert!(time.ends_with('Z') && time.contains('T'), "{time}");
        let mut rest = line.clone();
        rest.as_object_mut().expect("an object").remove("time");
        let expected = serde_json::json!({
            "level": "info", "target": "diolkos::telemetry::tests", "message": "table published",
            "generation": 7, "delta": -3, "load": 0.5, "full": true, "server_name": "a\"b\n",
            "address": "[::1]:1",
        });
        assert_eq!(rest, expected);
        assert!(text.ends_with('\n') && text.lines().count() == 1, "{text}");
    }
}

//! A log event as one JSON object on one line. Must not know: spans; our events carry their facts
//! as fields.

use std::fmt;

use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

/// Writes `time`, `level`, `target`, `message` and the fields.
pub(super) struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let time = now();
        let metadata = event.metadata();
        let mut object = Object(Map::new());
        event.record(&mut object);
        // Ours go in last: no field can pass for them.
        object.0.insert("time".into(), time.into());
        object.0.insert("level".into(), metadata.level().as_str().to_ascii_lowercase().into());
        object.0.insert("target".into(), metadata.target().into());
        writeln!(writer, "{}", Value::Object(object.0))
    }
}

/// The time of day as RFC 3339 has it, `2024-05-06T07:08:09.123456Z`: for logs, and for who says to
/// others when something was.
#[must_use]
pub fn now() -> String {
    let mut time = String::new();
    // Into a String nothing fails.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    time
}

struct Object(Map<String, Value>);

impl Object {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Object {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}

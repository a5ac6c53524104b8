//! Log lines: one JSON object each, on stdout, with the field names that MetalLB's log readers know (reference 5.2).

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::flags::LogLevel;

/// What passes at a level: ours as asked, libraries only from warnings on.
///
/// kube is silent: it reports every attempt, and the watches and writes that use it report each change of state.
pub fn filter(level: LogLevel) -> Targets {
    let ours = match level {
        LogLevel::All => LevelFilter::TRACE,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::None => LevelFilter::OFF,
    };
    let (libraries, kube) = match level {
        LogLevel::All => (LevelFilter::DEBUG, LevelFilter::DEBUG),
        _ => (ours.min(LevelFilter::WARN), LevelFilter::OFF),
    };
    Targets::new()
        .with_default(libraries)
        .with_targets([("kube_client", kube), ("kube_runtime", kube)])
        .with_target("ferrolb", ours)
}

/// Writes `{"ts":..,"level":..,"caller":..,"msg":..,<fields>}`.
#[derive(Debug, Default, Clone, Copy)]
pub struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut line = Line {
            message: String::new(),
            fields: String::new(),
        };
        event.record(&mut line);
        let level = match *metadata.level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        writer.write_str("{\"ts\":\"")?;
        SystemTime.format_time(&mut writer)?;
        let file = metadata
            .file()
            .and_then(|path| path.rsplit('/').next())
            .unwrap_or(metadata.target());
        write!(
            writer,
            "\",\"level\":\"{level}\",\"caller\":\"{file}:{}\"",
            metadata.line().unwrap_or(0)
        )?;
        writeln!(
            writer,
            ",\"msg\":{}{}}}",
            quoted(&line.message),
            line.fields
        )
    }
}

struct Line {
    message: String,
    fields: String,
}

impl Line {
    fn put(&mut self, field: &Field, value: impl fmt::Display) {
        // Writing into a String cannot fail.
        let _ = write!(self.fields, ",{}:{value}", quoted(field.name()));
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            _ => self.put(field, quoted(&format!("{value:?}"))),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = value.to_owned(),
            _ => self.put(field, quoted(value)),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.put(field, value);
        } else {
            self.put(field, quoted(&value.to_string()));
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            let _ = write!(text, ": {cause}");
            source = cause.source();
        }
        self.put(field, quoted(&text));
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{Layer, Registry};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: LogLevel, log: impl FnOnce()) -> Vec<serde_json::Value> {
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(JsonLine)
            .with_writer(move || writer.clone())
            .with_filter(filter(level));
        tracing::subscriber::with_default(Registry::default().with(layer), log);
        let bytes = kept.0.lock().unwrap();
        String::from_utf8_lossy(&bytes)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn a_line_is_json_with_the_names_that_log_readers_know() {
        let lines = logged(LogLevel::Info, || {
            tracing::info!(service = "default/web", ips = ?["192.0.2.1"], count = 3, ok = true, "it \"works\"");
        });
        let line = &lines[0];
        assert_eq!(line["level"], "info");
        assert_eq!(line["msg"], "it \"works\"");
        assert_eq!(line["service"], "default/web");
        assert_eq!(line["ips"], "[\"192.0.2.1\"]");
        assert_eq!(line["count"], 3);
        assert_eq!(line["ok"], true);
        assert!(line["ts"].as_str().unwrap().ends_with('Z'));
        assert!(line["caller"].as_str().unwrap().starts_with("logging.rs:"));
    }

    #[test]
    fn libraries_are_heard_from_warnings_on_and_kube_not_at_all() {
        let lines = logged(LogLevel::Debug, || {
            tracing::debug!("ours");
            tracing::info!(target: "hyper", "theirs");
            tracing::warn!(target: "hyper", "theirs, serious");
            tracing::warn!(target: "kube_client::client", "every attempt");
        });
        let messages: Vec<_> = lines
            .iter()
            .map(|line| line["msg"].as_str().unwrap())
            .collect();
        assert_eq!(messages, ["ours", "theirs, serious"]);
    }

    #[test]
    fn none_is_silent() {
        assert!(logged(LogLevel::None, || tracing::error!("anything")).is_empty());
    }
}

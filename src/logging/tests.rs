use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use super::origin::{UtcTime, civil_date};
use super::*;

/// Collects log lines.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// The log of `events` with these values of the two variables.
fn logged(tf_level: Option<&str>, directives: Option<&str>, events: impl FnOnce()) -> String {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter(tf_level, directives).0)
        .with_writer(log.clone())
        .event_format(TensorFlowFormat)
        .finish();
    tracing::subscriber::with_default(subscriber, events);
    log.text()
}

fn all_levels() {
    tracing::debug!("D");
    tracing::info!("I");
    tracing::warn!("W");
    tracing::error!("E");
    tracing::info!(target: "opentelemetry_sdk", "library I");
    tracing::warn!(target: "opentelemetry_sdk", "library W");
}

#[test]
fn line_has_tensorflows_format() {
    let line = logged(None, None, || {
        tracing::info!(
            attempt = 2,
            model = "m",
            "Running at {} ...",
            "0.0.0.0:8500"
        );
    });
    let (time, rest) = line.split_at(26);
    let shape: String = time
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(shape, "0000-00-00 00:00:00.000000");
    let rest = rest
        .strip_prefix(": I onnx_model_server/logging/tests.rs:")
        .unwrap();
    let (number, rest) = rest.split_once("] ").unwrap();
    number.parse::<u32>().unwrap();
    assert_eq!(rest, "Running at 0.0.0.0:8500 ... attempt=2 model=m\n");
}

#[test]
fn event_stays_on_one_line() {
    let line = logged(None, None, || {
        tracing::warn!(name = "a\nb", "forged\r\n2026 \u{1b}[31mtext\0 é\u{85}");
    });
    let (_, rest) = line.split_once("] ").unwrap();
    let expected = "forged\\r\\n2026 \\u{1b}[31mtext\\u{0} é\\u{85} name=a\\nb\n";
    assert_eq!(rest, expected);
}

#[test]
fn json_has_the_message_and_typed_fields() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(log.clone())
        .event_format(JsonFormat)
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        let model = "a\"b\n{\u{1b}";
        tracing::warn!(%model, count = 2u64, down = -1, ok = true, share = 0.5, "a {}", "b");
    });
    let text = log.text();
    let (line, rest) = text.split_once('\n').unwrap();
    assert_eq!(rest, "");
    assert!(!line.contains(char::is_control), "{line:?}");
    let mut event: Value = serde_json::from_str(line).unwrap();
    let time = event["time"].take();
    let source = event["source"].take();
    assert_eq!(
        time.as_str().unwrap().len(),
        "2026-01-01T00:00:00.000000Z".len()
    );
    let source = source.as_str().unwrap();
    assert!(
        source.starts_with("onnx_model_server/logging/tests.rs:"),
        "{source}"
    );
    let expected = json!({
        "time": null, "level": "WARN", "source": null, "message": "a b",
        "model": "a\"b\n{\u{1b}", "count": 2, "down": -1, "ok": true, "share": 0.5,
    });
    assert_eq!(event, expected);
}

#[test]
fn tensorflows_level_is_honoured() {
    check_letters(None, None, "IWEW");
    check_letters(Some("0"), None, "IWEW");
    check_letters(Some("1"), None, "WEW");
    check_letters(Some("2"), None, "E");
    check_letters(Some("3"), None, "");
    check_letters(Some("10"), None, "");
    check_letters(Some("-1"), None, "IWEW");
    check_letters(Some("garbage"), None, "IWEW");
}

#[test]
fn warnings_that_any_client_can_cause_are_not_logged() {
    let events = || {
        for what in ["a reset", "another"] {
            tracing::warn!(target: "h2::proto::streams", what, "limit W");
            tracing::warn!(target: "hyper::proto", what, "limit W");
        }
        tracing::error!(target: "h2::codec", "E");
    };
    for level in [None, Some("0"), Some("1"), Some("2")] {
        let text = logged(level, None, events);
        assert_eq!(text.lines().count(), 1, "{level:?}: {text}");
        assert!(text.ends_with("] E\n"), "{text}");
    }
    assert_eq!(logged(None, Some("warn"), events).lines().count(), 5);
}

/// Each folder of `crates/` is a crate whose events are the server's.
#[test]
fn every_crate_is_heard_as_the_server() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.push("onnx_model_server".to_owned());
    names.sort();
    let mut known = CRATES.map(str::to_owned);
    known.sort();
    assert_eq!(names, known);

    let events = || {
        tracing::debug!(target: "serving::lifecycle", "D");
        tracing::debug!(target: "hyper::proto", "D");
    };
    let text = logged(None, Some("onnx_model_server=debug"), events);
    assert_eq!(text.lines().count(), 1);
    assert!(
        text.contains(" onnx_model_server/serving/logging/tests.rs:"),
        "{text}"
    );
    assert_eq!(
        logged(None, Some("warn,net=debug"), events).lines().count(),
        0
    );
}

#[test]
fn own_variable_goes_first() {
    check_letters(Some("3"), Some("onnx_model_server=debug"), "IIWE");
    check_letters(Some("2"), Some(""), "E");
    check_letters(Some("2"), Some("=,=nonsense=x"), "E");
    let (_, complaint) = filter(None, Some("=,=nonsense=x"));
    assert!(
        complaint
            .unwrap()
            .starts_with("ONNX_MODEL_SERVER_LOG is ignored: ")
    );
}

#[track_caller]
fn check_letters(tf_level: Option<&str>, directives: Option<&str>, expected: &str) {
    let log = logged(tf_level, directives, all_levels);
    let letters: String = log
        .lines()
        .map(|line| line.chars().nth(28).unwrap())
        .collect();
    assert_eq!(letters, expected, "{log}");
}

/// Expected texts: `date -u -d @<seconds>`.
#[test]
fn time_is_utc_with_microseconds() {
    check_time(0, 0, "1970-01-01 00:00:00.000000");
    check_time(951_782_399, 999_999_999, "2000-02-28 23:59:59.999999");
    check_time(951_782_400, 1_000, "2000-02-29 00:00:00.000001");
    check_time(1_767_225_599, 0, "2025-12-31 23:59:59.000000");
    check_time(1_767_225_600, 0, "2026-01-01 00:00:00.000000");
    check_time(4_107_542_400, 0, "2100-03-01 00:00:00.000000");
    check_time(253_402_300_800, 0, "10000-01-01 00:00:00.000000");
}

#[track_caller]
fn check_time(seconds: u64, nanos: u32, expected: &str) {
    let time = UNIX_EPOCH + Duration::new(seconds, nanos);
    assert_eq!(UtcTime(time, ' ').to_string(), expected);
}

#[test]
fn every_day_follows_the_one_before() {
    let mut previous = civil_date(0);
    assert_eq!(previous, (1970, 1, 1));
    for day in 1..200_000 {
        let (year, month, date) = civil_date(day);
        let same_month = (previous.0, previous.1, previous.2 + 1);
        let next = match previous {
            (year, 12, 31) => (year + 1, 1, 1),
            (year, month, date) if date == days_of_month(year, month) => (year, month + 1, 1),
            _ => same_month,
        };
        assert_eq!((year, month, date), next);
        previous = next;
    }
}

fn days_of_month(year: u64, month: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

//! Writes metrics as text for Prometheus.
//!
//! One writer, two dialects: TensorFlow Serving's (`util/prometheus_exporter.cc`), whose number
//! format and names are part of the protocol, and the plain one of our own page.
//!
//! Not here: which metrics are on which page (`tensorflow`, `server`).

mod number;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use super::family::{Point, Snapshot, Unit};
use super::instrument::{MetricType, Reading};
use number::{General, seconds};

/// The page in TensorFlow Serving's dialect, metrics in the order of their names.
///
/// Differs from TensorFlow Serving in one thing: a newline in a label value is written `\n`, because
/// with a raw newline a client could put lines of its own on the page.
pub fn tensorflow_page(mut metrics: Vec<Snapshot>) -> String {
    metrics.sort_unstable_by_key(|metric| metric.about.name);
    let mut page = String::new();
    for metric in &metrics {
        let name = tensorflow_name(metric.about.name);
        write_metric(&mut page, &name, metric, "{}");
    }
    page
}

/// The page in the plain dialect, metrics in the order given.
pub fn prometheus_page(metrics: &[Snapshot]) -> String {
    let mut page = String::new();
    for metric in metrics {
        let name = metric.about.name;
        put(
            &mut page,
            format_args!("# HELP {name} {}\n", metric.about.help),
        );
        write_metric(&mut page, name, metric, "");
    }
    page
}

/// `no_labels` is printed instead of labels if a metric has none.
fn write_metric(page: &mut String, name: &str, metric: &Snapshot, no_labels: &str) {
    let metric_type = match metric.metric_type {
        MetricType::Counter => "counter",
        MetricType::Gauge => "gauge",
        MetricType::Histogram => "histogram",
    };
    put(page, format_args!("# TYPE {name} {metric_type}\n"));
    for point in &metric.points {
        let labels = labels(&metric.label_names, point);
        let braced = match labels.as_str() {
            "" => no_labels.to_owned(),
            _ => format!("{{{labels}}}"),
        };
        let unit = metric.about.unit;
        match &point.reading {
            Reading::Number(value) => {
                put(page, format_args!("{name}{braced} "));
                match unit {
                    Unit::Plain => put(page, format_args!("{value}\n")),
                    Unit::Nanoseconds => put(page, format_args!("{}\n", seconds(*value as f64))),
                }
            }
            Reading::Histogram {
                limits,
                counts,
                sum,
            } => {
                let count = write_buckets(page, name, &labels, unit, limits, counts);
                let sum = number(unit, *sum as f64);
                put(page, format_args!("{name}_sum{braced} {sum}\n"));
                put(page, format_args!("{name}_count{braced} {count}\n"));
            }
        }
    }
}

/// Returns the number of values in all buckets.
fn write_buckets(
    page: &mut String,
    name: &str,
    labels: &str,
    unit: Unit,
    limits: &[f64],
    counts: &[u64],
) -> u64 {
    let comma = if labels.is_empty() { "" } else { "," };
    let limits = limits.iter().map(|&limit| number(unit, limit));
    let limits = limits.chain(std::iter::once("+Inf".to_owned()));
    let mut cumulative = 0;
    for (limit, count) in limits.zip(counts) {
        cumulative += count;
        put(
            page,
            format_args!("{name}_bucket{{{labels}{comma}le=\"{limit}\"}} {cumulative}\n"),
        );
    }
    cumulative
}

fn number(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Plain => General(value).to_string(),
        Unit::Nanoseconds => seconds(value),
    }
}

/// `name="value",…` without braces.
fn labels(names: &[&str], point: &Point) -> String {
    let mut text = String::new();
    for (name, value) in names.iter().zip(&point.label_values) {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&label_name(name));
        text.push_str("=\"");
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                _ => text.push(character),
            }
        }
        text.push('"');
    }
    text
}

/// A metric's internal name (`/tensorflow/serving/request_count`) in Prometheus's form
/// (`:tensorflow:serving:request_count`).
fn tensorflow_name(internal: &str) -> String {
    sanitized(internal, |c| c.is_ascii_alphanumeric() || c == '_', ':')
}

fn label_name(name: &str) -> String {
    sanitized(name, |c| c.is_ascii_alphanumeric(), '_')
}

fn sanitized(name: &str, is_kept: impl Fn(char) -> bool, replacement: char) -> String {
    let leading_digit = name.starts_with(|c: char| c.is_ascii_digit());
    let kept = name
        .chars()
        .map(|c| if is_kept(c) { c } else { replacement });
    leading_digit
        .then_some('_')
        .into_iter()
        .chain(kept)
        .collect()
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("a String takes all text");
}

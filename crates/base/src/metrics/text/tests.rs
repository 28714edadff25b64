//! Expected texts are those of TensorFlow Serving's `prometheus_exporter_test.cc` and, for
//! numbers, of C's `printf("%g")`.

use super::super::family::{About, Collect, Family};
use super::super::instrument::{Buckets, Counter, Gauge, Histogram, Instrument};
use super::*;
use std::sync::LazyLock;

static POWERS_OF_TWO: LazyLock<Buckets> = LazyLock::new(|| Buckets::exponential(1.0, 2.0, 10));

fn family<M: Instrument, const N: usize>(
    name: &'static str,
    label_names: &'static [&'static str; N],
    new_instrument: fn() -> M,
) -> Family<M, N> {
    let about = About {
        name,
        help: "A metric of a test.",
        unit: Unit::Plain,
    };
    Family::new(about, label_names, new_instrument)
}

fn unknown(_: &str) -> bool {
    false
}

#[test]
fn a_counter_is_one_line() {
    let total = family("/test/path/total", &["name"], Counter::default);
    total.update(["abc"], unknown, |it| it.add(2));
    assert_eq!(
        tensorflow_page(vec![total.snapshot().unwrap()]),
        "# TYPE :test:path:total counter\n:test:path:total{name=\"abc\"} 2\n"
    );
}

#[test]
fn a_gauge_may_be_negative() {
    let level = family("/test/level", &["name"], Gauge::default);
    level.update(["abc"], unknown, |it| it.set(-3));
    assert_eq!(
        tensorflow_page(vec![level.snapshot().unwrap()]),
        "# TYPE :test:level gauge\n:test:level{name=\"abc\"} -3\n"
    );
}

#[test]
fn a_value_equal_to_a_limit_counts_in_the_next_bucket() {
    let sizes = family("/test/path/histogram", &["name"], || {
        Histogram::new(&POWERS_OF_TWO)
    });
    for value in [2, 20, 200] {
        sizes.update(["abc"], unknown, |it| it.record(value));
    }
    let expected = "\
# TYPE :test:path:histogram histogram
:test:path:histogram_bucket{name=\"abc\",le=\"1\"} 0
:test:path:histogram_bucket{name=\"abc\",le=\"2\"} 0
:test:path:histogram_bucket{name=\"abc\",le=\"4\"} 1
:test:path:histogram_bucket{name=\"abc\",le=\"8\"} 1
:test:path:histogram_bucket{name=\"abc\",le=\"16\"} 1
:test:path:histogram_bucket{name=\"abc\",le=\"32\"} 2
:test:path:histogram_bucket{name=\"abc\",le=\"64\"} 2
:test:path:histogram_bucket{name=\"abc\",le=\"128\"} 2
:test:path:histogram_bucket{name=\"abc\",le=\"256\"} 3
:test:path:histogram_bucket{name=\"abc\",le=\"512\"} 3
:test:path:histogram_bucket{name=\"abc\",le=\"+Inf\"} 3
:test:path:histogram_sum{name=\"abc\"} 222
:test:path:histogram_count{name=\"abc\"} 3
";
    assert_eq!(tensorflow_page(vec![sizes.snapshot().unwrap()]), expected);
}

#[test]
fn label_values_are_escaped() {
    let total = family("/test/path/total", &["name"], Counter::default);
    total.update(["\"abc\\\""], unknown, |it| it.add(1));
    let page = tensorflow_page(vec![total.snapshot().unwrap()]);
    assert!(page.contains("{name=\"\\\"abc\\\\\\\"\"} 1"), "{page}");
}

/// TensorFlow Serving writes the newline as it is.
#[test]
fn a_newline_in_a_label_cannot_add_a_line() {
    let total = family("/test/path/total", &["name"], Counter::default);
    total.update(["a\nb 1"], unknown, |it| it.add(1));
    let page = tensorflow_page(vec![total.snapshot().unwrap()]);
    assert!(page.contains("{name=\"a\\nb 1\"} 1"), "{page}");
    assert_eq!(page.lines().count(), 2, "{page}");
}

#[test]
fn names_are_mangled() {
    assert_eq!(label_name("my-name+1"), "my_name_1");
    assert_eq!(label_name("my_name"), "my_name");
    assert_eq!(label_name("1st"), "_1st");
    assert_eq!(tensorflow_name("0/path-total_count"), "_0:path:total_count");
    assert_eq!(
        tensorflow_name("/tensorflow/serving/request_count"),
        ":tensorflow:serving:request_count"
    );
}

#[test]
fn metrics_are_in_the_order_of_their_names() {
    let late = family("/b/late", &["name"], Counter::default);
    let early = family("/a/early", &["name"], Counter::default);
    assert_eq!(
        tensorflow_page(vec![late.snapshot().unwrap(), early.snapshot().unwrap()]),
        "# TYPE :a:early counter\n# TYPE :b:late counter\n"
    );
}

#[test]
fn a_metric_without_labels_has_empty_braces() {
    let count = family("/runs", &[], Counter::default);
    count.update([], unknown, |it| it.add(5));
    assert_eq!(
        tensorflow_page(vec![count.snapshot().unwrap()]),
        "# TYPE :runs counter\n:runs{} 5\n"
    );

    let sizes = family("/sizes", &[], || Histogram::new(&POWERS_OF_TWO));
    sizes.update([], unknown, |it| it.record(1));
    let page = tensorflow_page(vec![sizes.snapshot().unwrap()]);
    assert!(page.contains("\n:sizes_bucket{le=\"1\"} 0\n"), "{page}");
    assert!(
        page.ends_with("\n:sizes_sum{} 1\n:sizes_count{} 1\n"),
        "{page}"
    );
}

#[test]
fn the_plain_dialect_has_help_and_no_empty_braces() {
    let count = family("runs_total", &[], Counter::default);
    count.update([], unknown, |it| it.add(5));
    assert_eq!(
        prometheus_page(&[count.snapshot().unwrap()]),
        "# HELP runs_total A metric of a test.\n# TYPE runs_total counter\nruns_total 5\n"
    );
}

/// `printf "%g"` of each number.
#[test]
fn numbers_are_printed_as_by_c() {
    let table = [
        ("0", 0.0),
        ("1", 1.0),
        ("32.4", 32.4),
        ("99999.9", 99999.9),
        ("100000", 100000.0),
        ("123456", 123456.0),
        ("999999", 999999.0),
        ("1e+06", 999999.5),
        ("1e+06", 1000000.0),
        ("1e+06", 1000005.0),
        ("1.00002e+06", 1000015.0),
        ("1.27482e+06", 1274823.6),
        ("1.47476e+09", 1474762410.0),
        ("1.84467e+19", 18446744073709551615.0),
        ("1e+21", 1e21),
        ("1234.57", 1234.5678),
        ("0.5", 0.5),
        ("0.0001", 0.0001),
        ("0.000123457", 0.000123456789),
        ("1.23457e-05", 0.00001234567),
    ];
    for (text, number) in table {
        assert_eq!(General(number).to_string(), text);
    }
}

#[test]
fn seconds_have_the_digits_they_need() {
    assert_eq!(seconds(50_000.0), "0.00005");
    assert_eq!(seconds(2_500_000_000.0), "2.5");
    assert_eq!(seconds(30_000_000_000.0), "30");
}

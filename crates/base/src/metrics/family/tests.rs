use std::sync::Barrier;
use std::thread;

use super::super::instrument::{Buckets, Counter, Histogram};
use super::*;

fn counters<const N: usize>(label_names: &'static [&'static str; N]) -> Family<Counter, N> {
    let about = About {
        name: "test",
        help: "",
        unit: Unit::Plain,
    };
    Family::new(about, label_names, Counter::default)
}

fn unknown(_: &str) -> bool {
    false
}

fn add<const N: usize>(family: &Family<Counter, N>, values: [&str; N]) {
    family.update(values, unknown, |it| it.add(1));
}

/// Label values joined by `|`, and the number.
fn points(family: &dyn Collect) -> Vec<(String, i64)> {
    let points = family.snapshot().unwrap().points.into_iter();
    points
        .map(|point| match point.reading {
            Reading::Number(value) => (point.label_values.join("|"), value),
            Reading::Histogram { .. } => panic!("a counter or gauge"),
        })
        .collect()
}

#[test]
fn points_are_in_the_order_of_label_values() {
    let family = counters(&["model", "status"]);
    for values in [
        ["b", "OK"],
        ["a", "OK"],
        ["a", "NOT_FOUND"],
        ["", "OK"],
        ["a", "OK"],
    ] {
        add(&family, values);
    }
    let expected = [("|OK", 1), ("a|NOT_FOUND", 1), ("a|OK", 2), ("b|OK", 1)];
    let expected = expected.map(|(labels, value)| (labels.to_owned(), value));
    assert_eq!(points(&family), expected);
}

#[test]
fn names_beyond_the_bound_are_counted_as_other() {
    let family = counters(&["model", "status"]);
    for i in 0..MAX_FIRST_VALUES + 500 {
        add(&family, [&format!("model-{i}"), "NOT_FOUND"]);
    }

    // A name that has its place keeps it, also for new statuses.
    add(&family, ["model-0", "OK"]);

    let points = points(&family);
    assert_eq!(points.len(), MAX_FIRST_VALUES + 2);
    assert!(points.contains(&("(other)|NOT_FOUND".to_owned(), 500)));
    assert!(points.contains(&("model-0|OK".to_owned(), 1)));
}

#[test]
fn a_known_model_has_a_place_beyond_the_bound() {
    let family = counters(&["model", "status"]);
    for i in 0..MAX_FIRST_VALUES {
        add(&family, [&format!("model-{i}"), "NOT_FOUND"]);
    }
    family.update(["mine", "OK"], |name| name == "mine", |it| it.add(1));
    assert!(points(&family).contains(&("mine|OK".to_owned(), 1)));
}

#[test]
fn series_are_bounded_in_all() {
    let family = counters(&["model", "status"]);
    // Filled in one step, because one by one would take too long for a test.
    let full = (0..MAX_SERIES).map(|i| {
        Arc::new(Series {
            values: ["m".into(), format!("{i:05}").into()],
            instrument: Counter::default(),
        })
    });
    family.table.store(Arc::new(Table::new(full.collect())));

    add(&family, ["m", "one more"]);
    add(&family, ["n", "another"]);
    add(&family, ["m", "00000"]);

    let points = points(&family);
    assert_eq!(points.len(), MAX_SERIES + 1);
    assert_eq!(points[0], ("(other)|(other)".to_owned(), 2));
    assert_eq!(points[1], ("m|00000".to_owned(), 1));
}

#[test]
fn a_long_label_value_is_not_kept() {
    let family = counters(&["model", "status"]);
    add(&family, [&"m".repeat(MAX_VALUE_BYTES + 1), "OK"]);
    add(&family, [&"m".repeat(1 << 20), "OK"]);
    assert_eq!(points(&family), [("(other)|OK".to_owned(), 2)]);
}

#[test]
fn removed_series_start_again_at_zero() {
    let family = counters(&["model"]);
    add(&family, ["a"]);
    add(&family, ["b"]);
    family.remove(|values| &*values[0] == "a");
    assert_eq!(points(&family), [("b".to_owned(), 1)]);

    add(&family, ["a"]);
    assert_eq!(points(&family), [("a".to_owned(), 1), ("b".to_owned(), 1)]);
}

#[test]
fn no_update_is_lost_between_threads() {
    static LIMITS: std::sync::LazyLock<Buckets> =
        std::sync::LazyLock::new(|| Buckets::up_to(&[10, 100]));
    const THREADS: usize = 8;
    const ROUNDS: usize = 2000;
    let counts = counters(&["model"]);
    let about = counts.about;
    let sizes = Family::new(about, &["model"], || Histogram::new(&LIMITS));
    let start = Barrier::new(THREADS);

    // Every round requests one of 64 series, so inserts and updates overlap.
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                for round in 0..ROUNDS {
                    let model = format!("{}", round % 64);
                    add(&counts, [&model]);
                    sizes.update([&model], unknown, |it| it.record(50));
                }
            });
        }
    });

    let total: i64 = points(&counts).iter().map(|(_, value)| value).sum();
    assert_eq!(total, (THREADS * ROUNDS) as i64);
    assert_eq!(points(&counts).len(), 64);
    let mut in_bucket = 0;
    let mut sums = 0;
    for point in sizes.snapshot().unwrap().points {
        if let Reading::Histogram { counts, sum, .. } = point.reading {
            assert_eq!((counts[0], counts[2]), (0, 0));
            in_bucket += counts[1];
            sums += sum;
        }
    }
    assert_eq!(in_bucket, (THREADS * ROUNDS) as u64);
    assert_eq!(sums, 50 * in_bucket);
}

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};

use super::super::instrument::{Buckets, Counter, Gauge, Histogram};
use super::super::text::prometheus_page;
use super::*;
use crate::families;

static SIZES: LazyLock<Buckets> = LazyLock::new(|| Buckets::up_to(&[1]));

families! {
    struct Bakery {
        /// Loaves that were sold,
        /// by baker.
        sold: Counter = "sold_total" ["baker", "oven"];
        shelf: Gauge = "shelf" ["baker"];
        /// Rows of one tray.
        tray: Histogram = "tray" [] in SIZES;
    }
}

fn page(registry: &Registry) -> String {
    prometheus_page(&registry.snapshots())
}

#[test]
fn declared_families_are_on_the_page_in_their_order() {
    let registry = Registry::default();
    let bakery = Bakery::register(&registry);
    bakery.sold.update(["ann", "1"], |_| false, |it| it.add(2));
    bakery.tray.single().record(3);
    assert_eq!(
        page(&registry),
        "# HELP sold_total Loaves that were sold, by baker.\n\
         # TYPE sold_total counter\n\
         sold_total{baker=\"ann\",oven=\"1\"} 2\n\
         # HELP shelf \n\
         # TYPE shelf gauge\n\
         # HELP tray Rows of one tray.\n\
         # TYPE tray histogram\n\
         tray_bucket{le=\"1\"} 0\n\
         tray_bucket{le=\"+Inf\"} 1\n\
         tray_sum 3\n\
         tray_count 1\n"
    );
}

#[test]
fn only_series_with_all_labels_are_forgotten() {
    let registry = Registry::default();
    let bakery = Bakery::register(&registry);
    for labels in [["ann", "1"], ["ann", "2"], ["ben", "1"]] {
        bakery.sold.update(labels, |_| false, |it| it.add(1));
    }
    bakery.shelf.update(["ann"], |_| false, |it| it.set(7));
    registry.forget(&[("baker", "ann"), ("oven", "1")]);

    let page = page(&registry);
    let series: Vec<&str> = page.lines().filter(|it| !it.starts_with('#')).collect();
    assert_eq!(
        series,
        [
            "sold_total{baker=\"ann\",oven=\"2\"} 1",
            "sold_total{baker=\"ben\",oven=\"1\"} 1",
            "shelf{baker=\"ann\"} 7",
        ]
    );
}

#[test]
fn a_metric_kept_elsewhere_is_read_for_each_page() {
    static LEVEL: AtomicI64 = AtomicI64::new(-1);

    let registry = Registry::default();
    let read = || Some(LEVEL.load(Ordering::Relaxed)).filter(|&level| level >= 0);
    let level = Read::gauge(About::new("level", "The level."), read);
    registry.register(Arc::new(level.with_labels(&[("tank", "a")])));
    registry.register(Arc::new(Read::counter(
        About::new("events_total", ""),
        || u64::MAX,
    )));
    assert!(registry.snapshot("level").is_none());
    assert!(!page(&registry).contains("level"));

    LEVEL.store(5, Ordering::Relaxed);
    assert_eq!(
        page(&registry),
        "# HELP level The level.\n# TYPE level gauge\nlevel{tank=\"a\"} 5\n\
         # HELP events_total \n# TYPE events_total counter\n\
         events_total 9223372036854775807\n"
    );
}

#[test]
fn a_metric_is_found_by_its_name() {
    let registry = Registry::default();
    let bakery = Bakery::register(&registry);
    bakery.shelf.update(["ann"], |_| false, |it| it.set(7));
    let shelf = registry.snapshot("shelf").unwrap();
    assert_eq!(shelf.points[0].reading, Reading::Number(7));
    assert!(registry.snapshot("shop").is_none());
}

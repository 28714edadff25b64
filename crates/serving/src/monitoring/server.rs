//! This server's own metrics, with names as Prometheus recommends.
//!
//! `docs/metrics.md` describes each metric; a test keeps the two lists the same.
//!
//! The series of a version live as long as the version: see [`ServerMetrics::set_model_state`].
//!
//! Not here: TensorFlow Serving's metrics (`tensorflow`), the process's (`process`).

mod decimal;

use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use super::{Direction, LogOutcome, RequestLabels};
use base::id::ServableId;
use base::metrics::family::{About, Collect, Family, Point, Snapshot, Unit};
use base::metrics::instrument::{
    Buckets, Counter, Gauge, GaugeGuard, Histogram, Instrument, InstrumentKind, Reading,
};
use base::vocabulary::{ManagerState, Port, Protocol};
use decimal::Decimal;

/// 50 µs to 30 s, in nanoseconds.
static DURATIONS: LazyLock<Buckets> = LazyLock::new(|| {
    Buckets::up_to(&[
        50_000,
        100_000,
        250_000,
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        25_000_000,
        50_000_000,
        100_000_000,
        250_000_000,
        500_000_000,
        1_000_000_000,
        2_500_000_000,
        5_000_000_000,
        10_000_000_000,
        30_000_000_000,
    ])
});
static BATCH_SIZES: LazyLock<Buckets> = LazyLock::new(|| {
    Buckets::up_to(&[
        1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192,
    ])
});

/// One family per metric.
pub(super) struct ServerMetrics {
    requests: Family<Counter, 6>,
    request_duration: Family<Histogram, 5>,
    requests_in_flight: Family<Arc<Gauge>, 4>,
    queue_duration: Family<Histogram, 3>,
    queue_depth: Family<Arc<Gauge>, 3>,
    run_duration: Family<Histogram, 3>,
    codec_duration: Family<Histogram, 5>,
    batch_size: Family<Histogram, 3>,
    batch_padding: Family<Counter, 3>,
    model_state: Family<Gauge, 3>,
    model_load_duration: Family<Gauge, 2>,
    model_loads: Family<Counter, 2>,
    request_log_records: Family<Counter, 2>,
    connections_refused: Family<Arc<Counter>, 1>,
    /// Counted elsewhere.
    log_lines_dropped: OnceLock<fn() -> u64>,
}

impl ServerMetrics {
    /// All families, without series. Long, because it lists each metric with its text and labels.
    pub(super) fn new() -> Self {
        Self {
            requests: family(
                "onnx_model_server_requests_total",
                "Requests answered, by canonical status code.",
                &[
                    "model",
                    "version",
                    "signature",
                    "protocol",
                    "method",
                    "code",
                ],
                Counter::default,
            ),
            request_duration: family(
                "onnx_model_server_request_duration_seconds",
                "Time to answer a request that got to a version of a model.",
                &["model", "version", "signature", "protocol", "method"],
                || Histogram::new(&DURATIONS),
            ),
            requests_in_flight: family(
                "onnx_model_server_requests_in_flight",
                "Requests being answered now.",
                &["model", "version", "signature", "protocol"],
                Default::default,
            ),
            queue_duration: family(
                "onnx_model_server_queue_duration_seconds",
                "Time that a request waited for its run to begin.",
                &["model", "version", "signature"],
                || Histogram::new(&DURATIONS),
            ),
            queue_depth: family(
                "onnx_model_server_queue_depth",
                "Requests waiting for their run to begin.",
                &["model", "version", "signature"],
                Default::default,
            ),
            run_duration: family(
                "onnx_model_server_run_duration_seconds",
                "Time of one run of the graph, which can serve a batch of requests.",
                &["model", "version", "signature"],
                || Histogram::new(&DURATIONS),
            ),
            codec_duration: family(
                "onnx_model_server_codec_duration_seconds",
                "Time to decode a request or to encode its answer.",
                &["model", "version", "signature", "protocol", "direction"],
                || Histogram::new(&DURATIONS),
            ),
            batch_size: family(
                "onnx_model_server_batch_size",
                "Rows of requests in one batch, without padding.",
                &["model", "version", "signature"],
                || Histogram::new(&BATCH_SIZES),
            ),
            batch_padding: family(
                "onnx_model_server_batch_padding_rows_total",
                "Rows added to reach an allowed batch size.",
                &["model", "version", "signature"],
                Counter::default,
            ),
            model_state: family(
                "onnx_model_server_model_state",
                "1 for the state that a version is in, 0 for the others.",
                &["model", "version", "state"],
                Gauge::default,
            ),
            model_load_duration: family(
                "onnx_model_server_model_load_duration_seconds",
                "Time that a loaded version took to load.",
                &["model", "version"],
                Gauge::default,
            ),
            model_loads: family(
                "onnx_model_server_model_loads_total",
                "Attempts to load a version, by canonical status code.",
                &["model", "code"],
                Counter::default,
            ),
            request_log_records: family(
                "onnx_model_server_request_log_records_total",
                "Sampled requests of the request log, by result.",
                &["model", "outcome"],
                Counter::default,
            ),
            connections_refused: family(
                "onnx_model_server_connections_refused_total",
                "Connections rejected because the port was at --max_connections.",
                &["port"],
                Default::default,
            ),
            log_lines_dropped: OnceLock::new(),
        }
    }

    pub(super) fn record_request(
        &self,
        request: &RequestLabels<'_>,
        status: &'static str,
        elapsed: Duration,
    ) {
        let version = request.version.map(Decimal::new).unwrap_or_default();
        let version = version.as_str();
        let signature = request.signature.unwrap_or_default();
        let protocol = request.protocol.label();
        let method = request.api.label();
        let labels = [request.model, version, signature, protocol, method, status];
        self.requests
            .update(labels, |it| self.has_model(it), |count| count.add(1));
        if request.version.is_some() {
            let labels = [request.model, version, signature, protocol, method];
            self.time(&self.request_duration, labels, elapsed);
        }
    }

    pub(super) fn start_request(
        &self,
        servable: &ServableId,
        signature: &str,
        protocol: Protocol,
    ) -> GaugeGuard {
        let version = Decimal::new(servable.version);
        let labels = [
            &servable.name,
            version.as_str(),
            signature,
            protocol.label(),
        ];
        self.raise(&self.requests_in_flight, labels)
    }

    pub(super) fn enqueue(&self, servable: &ServableId, signature: &str) -> GaugeGuard {
        let version = Decimal::new(servable.version);
        let labels = [&servable.name, version.as_str(), signature];
        self.raise(&self.queue_depth, labels)
    }

    pub(super) fn record_queue(&self, servable: &ServableId, signature: &str, waited: Duration) {
        let version = Decimal::new(servable.version);
        let labels = [&servable.name, version.as_str(), signature];
        self.time(&self.queue_duration, labels, waited);
    }

    pub(super) fn record_run(&self, servable: &ServableId, signature: &str, elapsed: Duration) {
        let version = Decimal::new(servable.version);
        let labels = [&servable.name, version.as_str(), signature];
        self.time(&self.run_duration, labels, elapsed);
    }

    pub(super) fn record_codec(
        &self,
        servable: &ServableId,
        signature: &str,
        protocol: Protocol,
        direction: Direction,
        elapsed: Duration,
    ) {
        let version = Decimal::new(servable.version);
        let direction = match direction {
            Direction::Decode => "decode",
            Direction::Encode => "encode",
        };
        let labels = [
            &servable.name,
            version.as_str(),
            signature,
            protocol.label(),
            direction,
        ];
        self.time(&self.codec_duration, labels, elapsed);
    }

    pub(super) fn record_batch(
        &self,
        servable: &ServableId,
        signature: &str,
        rows: usize,
        padding: usize,
    ) {
        let version = Decimal::new(servable.version);
        let labels: [&str; 3] = [&servable.name, version.as_str(), signature];
        let is_known = |it: &str| self.has_model(it);
        self.batch_size
            .update(labels, is_known, |sizes| sizes.record(rows as u64));
        self.batch_padding
            .update(labels, is_known, |total| total.add(padding as u64));
    }

    pub(super) fn record_load(&self, servable: &ServableId, status: &'static str, took: Duration) {
        let is_known = |it: &str| self.has_model(it);
        self.model_loads
            .update([&servable.name, status], is_known, |count| count.add(1));
        if status == "OK" {
            let version = Decimal::new(servable.version);
            let nanos = i64::try_from(took.as_nanos()).unwrap_or(i64::MAX);
            self.model_load_duration.update(
                [&servable.name, version.as_str()],
                is_known,
                |duration| duration.set(nanos),
            );
        }
    }

    pub(super) fn record_request_log(&self, model: &str, outcome: LogOutcome) {
        self.request_log_records.update(
            [model, outcome.label()],
            |it| self.has_model(it),
            |count| count.add(1),
        );
    }

    pub(super) fn refused_connections(&self, port: Port) -> Arc<Counter> {
        let series = self.connections_refused.series([port.label()], |_| true);
        Arc::clone(&series.instrument)
    }

    pub(super) fn count_dropped_log_lines(&self, dropped: fn() -> u64) {
        // A second call changes nothing.
        let _ = self.log_lines_dropped.set(dropped);
    }

    /// At its end a version leaves every metric, so that series do not accumulate over years of new versions.
    pub(super) fn set_model_state(&self, servable: &ServableId, state: ManagerState) {
        let version = Decimal::new(servable.version);
        if state == ManagerState::End {
            self.forget(&servable.name, version.as_str());
            return;
        }
        for each in ManagerState::BEFORE_END {
            self.model_state.update(
                [&servable.name, version.as_str(), each.name()],
                |_| true,
                |gauge| gauge.set(i64::from(each == state)),
            );
        }
    }

    /// Whether the model has a version before its end.
    pub(super) fn has_model(&self, name: &str) -> bool {
        self.model_state.has_first(name)
    }

    /// All metrics, in the order of the page.
    pub(super) fn snapshots(&self) -> Vec<Snapshot> {
        let families: [&dyn Collect; 14] = [
            &self.requests,
            &self.request_duration,
            &self.requests_in_flight,
            &self.queue_duration,
            &self.queue_depth,
            &self.run_duration,
            &self.codec_duration,
            &self.batch_size,
            &self.batch_padding,
            &self.model_state,
            &self.model_load_duration,
            &self.model_loads,
            &self.request_log_records,
            &self.connections_refused,
        ];
        let dropped = self.log_lines_dropped.get().map_or(0, |dropped| dropped());
        let log_lines_dropped = Snapshot {
            about: about(
                "onnx_model_server_log_lines_dropped_total",
                "Lines of the log that were dropped since they could not be written in time.",
            ),
            kind: InstrumentKind::Counter,
            label_names: &[],
            points: vec![Point {
                label_values: Vec::new(),
                reading: Reading::Number(i64::try_from(dropped).unwrap_or(i64::MAX)),
            }],
        };
        let build_info = Snapshot {
            about: about(
                "onnx_model_server_build_info",
                "Always 1; the server's version is in the label.",
            ),
            kind: InstrumentKind::Gauge,
            label_names: &["version"],
            points: vec![Point {
                label_values: vec![env!("CARGO_PKG_VERSION").into()],
                reading: Reading::Number(1),
            }],
        };
        let families = families.map(Collect::snapshot);
        families
            .into_iter()
            .chain([log_lines_dropped, build_info])
            .collect()
    }

    fn time<const N: usize>(
        &self,
        family: &Family<Histogram, N>,
        labels: [&str; N],
        elapsed: Duration,
    ) {
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        family.update(labels, |it| self.has_model(it), |it| it.record(nanos));
    }

    fn raise<const N: usize>(
        &self,
        family: &Family<Arc<Gauge>, N>,
        labels: [&str; N],
    ) -> GaugeGuard {
        let series = family.series(labels, |it| self.has_model(it));
        GaugeGuard::raise(Arc::clone(&series.instrument))
    }

    fn forget(&self, model: &str, version: &str) {
        fn drop_version<M: Instrument, const N: usize>(
            family: &Family<M, N>,
            model: &str,
            version: &str,
        ) {
            family.remove(|values| {
                let mut values = values.iter().map(|it| &**it);
                values.next() == Some(model) && values.next() == Some(version)
            });
        }
        drop_version(&self.requests, model, version);
        drop_version(&self.request_duration, model, version);
        drop_version(&self.requests_in_flight, model, version);
        drop_version(&self.queue_duration, model, version);
        drop_version(&self.queue_depth, model, version);
        drop_version(&self.run_duration, model, version);
        drop_version(&self.codec_duration, model, version);
        drop_version(&self.batch_size, model, version);
        drop_version(&self.batch_padding, model, version);
        drop_version(&self.model_state, model, version);
        drop_version(&self.model_load_duration, model, version);
    }
}

fn family<M: Instrument, const N: usize>(
    name: &'static str,
    help: &'static str,
    label_names: &'static [&'static str; N],
    new_instrument: fn() -> M,
) -> Family<M, N> {
    Family::new(about(name, help), label_names, new_instrument)
}

/// A name that ends in `_seconds` belongs to a metric that counts nanoseconds.
fn about(name: &'static str, help: &'static str) -> About {
    let unit = if name.ends_with("_seconds") {
        Unit::Nanoseconds
    } else {
        Unit::Plain
    };
    About { name, help, unit }
}

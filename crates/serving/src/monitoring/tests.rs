//! Bucket limits and label values are those of TensorFlow Serving (`servables/tensorflow/util.cc`,
//! `batching/batching_session.cc`, `batching_util.h`).

use std::time::Duration;

use super::*;
use base::id::ServableId;
use base::vocabulary::{Api, ManagerState, Protocol, ServerPort};

/// The limits of the latency histograms as TensorFlow Serving prints them.
const LATENCY_LIMITS: &str = "10 18 32.4 58.32 104.976 188.957 340.122 612.22 1102 1983.59 \
    3570.47 6426.84 11568.3 20823 37481.3 67466.4 121440 218591 393464 708235 1.27482e+06 \
    2.29468e+06 4.13043e+06 7.43477e+06 1.33826e+07 2.40887e+07 4.33596e+07 7.80473e+07 \
    1.40485e+08 2.52873e+08 4.55172e+08 8.19309e+08 1.47476e+09 +Inf";

const QUEUING_LIMITS: &str = "100 120 144 172.8 207.36 248.832 298.598 358.318 429.982 515.978 \
    619.174 743.008 891.61 1069.93 1283.92 1540.7 1848.84 2218.61 2662.33 3194.8 3833.76 4600.51 \
    5520.61 6624.74 7949.68 9539.62 11447.5 13737.1 16484.5 19781.4 23737.6 28485.2 34182.2 \
    41018.6 49222.4 59066.8 70880.2 85056.2 102067 122481 146977 176373 211647 253977 304772 \
    365726 438871 526646 631975 758370 910044 1.09205e+06 +Inf";

const EXAMPLE_LIMITS: &str = "1 2 4 8 16 32 64 128 256 512 1024 2048 4096 8192 16384 +Inf";

const BATCH_LIMITS: &str = "1 2 4 8 16 32 64 128 256 512 1024 2048 4096 8192 +Inf";

/// The limits of `graph_run_time_usecs_histogram` on the page of TensorFlow Serving 2.20.
const RUN_TIME_LIMITS: &str = "1000 2000 4000 8000 16000 32000 64000 128000 256000 512000 1.024e+06 \
    2.048e+06 4.096e+06 8.192e+06 1.6384e+07 3.2768e+07 6.5536e+07 1.31072e+08 2.62144e+08 \
    5.24288e+08 +Inf";

fn predict(protocol: Protocol, model: &str) -> RequestLabels<'_> {
    RequestLabels {
        protocol,
        api: Api::Predict,
        model,
        version: Some(3),
        signature: Some("serving_default"),
    }
}

fn mnist() -> ServableId {
    ServableId::new("mnist", 3)
}

/// Metrics with one recorded event of every kind.
fn busy_metrics() -> Metrics {
    let metrics = Metrics::new();
    let time = Duration::from_micros(1500);
    metrics.record_load(&mnist(), "OK", Duration::from_millis(2500));
    metrics.set_model_state(&mnist(), ManagerState::Available);
    metrics.record_request(&predict(Protocol::Grpc, "mnist"), "OK", time);
    drop(metrics.start_request(&mnist(), "serving_default", Protocol::Grpc));
    drop(metrics.enqueue(&mnist(), "serving_default"));
    metrics.record_codec(
        &mnist(),
        "serving_default",
        Protocol::Grpc,
        Direction::Decode,
        time,
    );
    metrics.record_runtime_latency("mnist", Api::Predict, time);
    metrics.record_run_start();
    metrics.record_run(&mnist(), "serving_default", time);
    metrics.record_build(time);
    metrics.record_files_load("/models/mnist/3", true, time);
    metrics.record_files_load("/models/mnist/4", false, time);
    metrics.record_queue(&mnist(), "serving_default", time);
    metrics.record_queuing_latency(time);
    metrics.record_input_batch_size(2);
    metrics.record_batch(&mnist(), "serving_default", 3, 1);
    metrics.record_example_count("mnist", 5);
    metrics.refused_connections(ServerPort::Rest).add(1);
    metrics.record_request_log("mnist", LogOutcome::Written);
    metrics.record_warmup("/models/mnist/3", "OK", time, 7);
    metrics
}

#[track_caller]
fn check_has(page: &str, lines: &[&str]) {
    for line in lines {
        assert!(page.lines().any(|it| it == *line), "no {line} in\n{page}");
    }
}

/// The limits of a histogram's first point, as printed.
fn limits(page: &str, name: &str) -> String {
    let bucket = format!("{name}_bucket{{");
    let limits = page.lines().filter(|line| line.starts_with(&bucket));
    let limits = limits.map(|line| {
        let (_, limit) = line.rsplit_once("le=\"").unwrap();
        limit.split_once('"').unwrap().0
    });
    limits.collect::<Vec<_>>().join(" ")
}

#[test]
fn limits_are_printed_as_in_the_original() {
    let page = busy_metrics().tensorflow_page();
    let table = [
        (":tensorflow:serving:request_latency", LATENCY_LIMITS),
        (":tensorflow:serving:runtime_latency", LATENCY_LIMITS),
        (":tensorflow:serving:model_warmup_latency", LATENCY_LIMITS),
        (":tensorflow:serving:request_example_counts", EXAMPLE_LIMITS),
        (
            ":tensorflow:core:graph_run_time_usecs_histogram",
            RUN_TIME_LIMITS,
        ),
        (
            ":tensorflow:serving:batching_session:queuing_latency",
            QUEUING_LIMITS,
        ),
        (
            ":tensorflow:serving:batching_session:padding_size",
            BATCH_LIMITS,
        ),
        (
            ":tensorflow:serving:batching_session:input_batch_size",
            BATCH_LIMITS,
        ),
        (
            ":tensorflow:serving:batching_session:processed_batch_size",
            BATCH_LIMITS,
        ),
    ];
    for (name, expected) in table {
        assert_eq!(limits(&page, name), expected, "{name}");
    }
}

// As TensorFlow Serving 2.20 lists them: families of TensorFlow's own batching.
#[test]
fn families_without_series_have_their_types() {
    let page = busy_metrics().tensorflow_page();
    for (name, kind) in [
        ("mixed_priority_batching_policy", "gauge"),
        ("padding_size_v2", "histogram"),
        ("processed_batch_size_v2", "counter"),
    ] {
        let name = format!(":tensorflow:serving:batching:{name}");
        check_has(&page, &[&format!("# TYPE {name} {kind}")]);
        assert!(!page.lines().any(|line| line.starts_with(&name)), "{page}");
    }
}

#[test]
fn tensorflow_page_has_the_labels_of_the_original() {
    check_has(
        &busy_metrics().tensorflow_page(),
        &[
            ":tensorflow:serving:request_count{model_name=\"mnist\",status=\"OK\"} 1",
            ":tensorflow:serving:request_latency_sum{model_name=\"mnist\",API=\"Predict\",entrypoint=\"GRPC\"} 1500",
            ":tensorflow:serving:runtime_latency_count{model_name=\"mnist\",API=\"Predict\",runtime=\"TF1\"} 1",
            ":tensorflow:serving:request_example_counts_sum{model=\"mnist\"} 5",
            ":tensorflow:serving:request_example_count_total{model=\"mnist\"} 5",
            ":tensorflow:serving:request_log_count{model_name=\"mnist\",status_code=\"OK\"} 1",
            ":tensorflow:serving:model_warmup_latency_sum{model_path=\"/models/mnist/3\",status=\"OK\"} 1500",
            ":tensorflow:serving:model_warmup_records_read{model_path=\"/models/mnist/3\",status=\"OK\"} 7",
            ":tensorflow:serving:batching_session:queuing_latency_sum{thread_pool_name=\"\"} 1500",
            ":tensorflow:serving:batching_session:wrapped_run_count{} 1",
            ":tensorflow:serving:batching_session:padding_size_sum{execution_batch_size=\"4\"} 1",
            ":tensorflow:serving:batching_session:input_batch_size_sum{} 2",
            ":tensorflow:serving:batching_session:processed_batch_size_sum{} 4",
            ":tensorflow:core:direct_session_runs{} 1",
            ":tensorflow:core:graph_runs{} 1",
            ":tensorflow:core:graph_run_time_usecs{} 1500",
            ":tensorflow:core:graph_run_time_usecs_histogram_sum{} 1500",
            ":tensorflow:core:graph_build_calls{} 1",
            ":tensorflow:core:graph_build_time_usecs{} 1500",
            ":tensorflow:cc:saved_model:load_attempt_count{model_path=\"/models/mnist/3\",status=\"success\"} 1",
            ":tensorflow:cc:saved_model:load_attempt_count{model_path=\"/models/mnist/4\",status=\"fail\"} 1",
            ":tensorflow:cc:saved_model:load_latency{model_path=\"/models/mnist/3\"} 1500",
        ],
    );
}

#[test]
fn tensorflow_page_of_an_idle_server_has_only_types() {
    let page = Metrics::new().tensorflow_page();
    assert!(
        page.lines().all(|line| line.starts_with("# TYPE ")),
        "{page}"
    );
    assert!(
        page.ends_with("histogram\n") && !page.ends_with("\n\n"),
        "{page}"
    );
    check_has(
        &page,
        &[
            "# TYPE :tensorflow:serving:request_count counter",
            "# TYPE :tensorflow:serving:request_latency histogram",
            "# TYPE :tensorflow:serving:runtime_latency histogram",
            "# TYPE :tensorflow:core:direct_session_runs counter",
            "# TYPE :tensorflow:core:graph_build_calls counter",
            "# TYPE :tensorflow:core:graph_build_time_usecs counter",
            "# TYPE :tensorflow:core:graph_run_time_usecs counter",
            "# TYPE :tensorflow:core:graph_run_time_usecs_histogram histogram",
            "# TYPE :tensorflow:core:graph_runs counter",
            "# TYPE :tensorflow:cc:saved_model:load_attempt_count counter",
            "# TYPE :tensorflow:cc:saved_model:load_latency counter",
        ],
    );
}

#[test]
fn rest_requests_are_counted_whatever_they_are() {
    let metrics = Metrics::new();
    let malformed = RequestLabels {
        protocol: Protocol::Rest,
        api: Api::Other,
        model: "",
        version: None,
        signature: None,
    };
    let status = RequestLabels {
        api: Api::Status,
        model: "mnist",
        ..malformed
    };
    let time = Duration::from_micros(20);
    metrics.record_request(&malformed, "INVALID_ARGUMENT", time);
    metrics.record_request(&status, "OK", time);
    metrics.record_request(&predict(Protocol::Rest, "mnist"), "OK", time);
    metrics.record_request(&predict(Protocol::Rest, "mnist"), "NOT_FOUND", time);

    let page = metrics.tensorflow_page();
    check_has(
        &page,
        &[
            ":tensorflow:serving:request_count{model_name=\"\",status=\"INVALID_ARGUMENT\"} 1",
            ":tensorflow:serving:request_count{model_name=\"mnist\",status=\"NOT_FOUND\"} 1",
            ":tensorflow:serving:request_count{model_name=\"mnist\",status=\"OK\"} 2",
            ":tensorflow:serving:request_latency_count{model_name=\"mnist\",API=\"\",entrypoint=\"REST\"} 1",
            ":tensorflow:serving:request_latency_count{model_name=\"mnist\",API=\"predict\",entrypoint=\"REST\"} 1",
        ],
    );
    assert_eq!(page.matches("request_latency_count{").count(), 2, "{page}");
}

#[test]
fn only_three_grpc_calls_are_counted_as_by_the_original() {
    let metrics = Metrics::new();
    for api in [
        Api::Predict,
        Api::Classify,
        Api::Regress,
        Api::MultiInference,
        Api::Metadata,
        Api::Status,
        Api::Reload,
        Api::Other,
    ] {
        let request = RequestLabels {
            api,
            ..predict(Protocol::Grpc, "mnist")
        };
        metrics.record_request(&request, "OK", Duration::ZERO);
        metrics.record_runtime_latency("mnist", api, Duration::ZERO);
    }
    assert_eq!(metrics.first_value("/tensorflow/serving/request_count"), 3);
    let page = metrics.tensorflow_page();
    assert_eq!(page.matches("runtime_latency_count{").count(), 3, "{page}");
    assert_eq!(metrics.page().matches("_requests_total{").count(), 8);
}

#[test]
fn first_value_is_the_first_point_by_label() {
    let metrics = Metrics::new();
    let name = "/tensorflow/serving/request_count";
    assert_eq!(metrics.first_value(name), 0);
    for (model, times) in [("b", 1), ("a", 2)] {
        for _ in 0..times {
            metrics.record_request(&predict(Protocol::Grpc, model), "OK", Duration::ZERO);
        }
    }
    assert_eq!(metrics.first_value(name), 2);
    assert_eq!(
        metrics.first_value("/tensorflow/serving/request_latency"),
        0
    );
    assert_eq!(metrics.first_value(":tensorflow:serving:request_count"), 0);
    assert_eq!(metrics.first_value(""), 0);
}

#[test]
fn own_page_has_every_part_of_a_request() {
    let version = "model=\"mnist\",version=\"3\"";
    let labels = format!("{version},signature=\"serving_default\"");
    let lines = [
        format!("requests_total{{{labels},protocol=\"grpc\",method=\"predict\",code=\"OK\"}} 1"),
        format!(
            "request_duration_seconds_sum{{{labels},protocol=\"grpc\",method=\"predict\"}} 0.0015"
        ),
        format!("requests_in_flight{{{labels},protocol=\"grpc\"}} 0"),
        format!("queue_duration_seconds_bucket{{{labels},le=\"0.001\"}} 0"),
        format!("queue_duration_seconds_bucket{{{labels},le=\"0.0025\"}} 1"),
        format!("queue_depth{{{labels}}} 0"),
        format!("run_duration_seconds_count{{{labels}}} 1"),
        format!(
            "codec_duration_seconds_sum{{{labels},protocol=\"grpc\",direction=\"decode\"}} 0.0015"
        ),
        format!("batch_size_bucket{{{labels},le=\"2\"}} 0"),
        format!("batch_size_bucket{{{labels},le=\"4\"}} 1"),
        format!("batch_padding_rows_total{{{labels}}} 1"),
        format!("model_state{{{version},state=\"AVAILABLE\"}} 1"),
        format!("model_state{{{version},state=\"LOADING\"}} 0"),
        format!("model_load_duration_seconds{{{version}}} 2.5"),
        "model_loads_total{model=\"mnist\",code=\"OK\"} 1".to_owned(),
    ];
    let page = busy_metrics().page();
    for line in lines {
        check_has(&page, &[&format!("onnx_model_server_{line}")]);
    }
    assert!(page.contains("\nprocess_start_time_seconds 1"), "{page}");
}

#[test]
fn own_histograms_hold_their_limits() {
    let metrics = Metrics::new();
    metrics.record_batch(&mnist(), "s", 4, 0);
    let bucket =
        "onnx_model_server_batch_size_bucket{model=\"mnist\",version=\"3\",signature=\"s\"";
    check_has(
        &metrics.page(),
        &[
            &format!("{bucket},le=\"2\"}} 0"),
            &format!("{bucket},le=\"4\"}} 1"),
        ],
    );
}

#[test]
fn gauges_fall_when_the_level_is_dropped() {
    let metrics = Metrics::new();
    let depth = "onnx_model_server_queue_depth{model=\"mnist\",version=\"3\",signature=\"s\"}";
    let first = metrics.enqueue(&mnist(), "s");
    let second = metrics.enqueue(&mnist(), "s");
    check_has(&metrics.page(), &[&format!("{depth} 2")]);
    drop(first);
    check_has(&metrics.page(), &[&format!("{depth} 1")]);
    drop(second);
    check_has(&metrics.page(), &[&format!("{depth} 0")]);
}

#[test]
fn a_version_at_its_end_leaves_the_page() {
    let metrics = busy_metrics();
    let newer = ServableId::new("mnist", 4);
    metrics.set_model_state(&newer, ManagerState::Available);
    metrics.set_model_state(&mnist(), ManagerState::End);

    let page = metrics.page();
    assert!(!page.contains("version=\"3\""), "{page}");
    assert!(page.contains("model=\"mnist\",version=\"4\""), "{page}");
    assert!(page.contains("model_loads_total{model=\"mnist\""), "{page}");
}

#[test]
fn names_from_clients_are_bounded_and_models_are_not() {
    let metrics = Metrics::new();
    metrics.set_model_state(&mnist(), ManagerState::Available);
    for i in 0..1500 {
        let name = format!("guess-{i}");
        let request = RequestLabels {
            version: None,
            signature: None,
            ..predict(Protocol::Grpc, &name)
        };
        metrics.record_request(&request, "NOT_FOUND", Duration::ZERO);
    }
    metrics.record_request(&predict(Protocol::Grpc, "mnist"), "OK", Duration::ZERO);

    let page = metrics.tensorflow_page();
    check_has(
        &page,
        &[
            ":tensorflow:serving:request_count{model_name=\"(other)\",status=\"NOT_FOUND\"} 500",
            ":tensorflow:serving:request_count{model_name=\"mnist\",status=\"OK\"} 1",
        ],
    );
    let own = metrics.page();
    assert_eq!(own.matches("_requests_total{").count(), 1002, "{own}");
    assert!(!own.contains("request_duration_seconds_sum{model=\"guess"));
}

#[test]
fn the_documentation_names_every_metric() {
    let documentation = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/metrics.md"
    ));
    let metrics = busy_metrics();
    let pages = metrics.tensorflow_page() + &metrics.page();
    for line in pages.lines().filter(|line| line.starts_with("# TYPE ")) {
        let name = line.split(' ').nth(2).unwrap();
        assert!(documentation.contains(&format!("`{name}`")), "{name}");
    }
}

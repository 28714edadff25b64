//! Cases of `saved_model_warmup_test.cc` and `saved_model_warmup_util_test.cc`; comments give their
//! names there.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use prost::Message;
use tempfile::TempDir;

use super::*;
use base::error::Code;
use base::id::ServableId;
use base::tensor::{DataType, Tensor};
use codec::tfrecord::encode_record;
use mapper::signature::{CLASSIFY_METHOD_NAME, REGRESS_METHOD_NAME, derive};
use mapper::version_dir::MappedSignature;
use proto::tensorflow::serving as pb;
use proto::tensorflow::serving::internal::{
    SerializedExampleList, SerializedInput, serialized_input::Kind,
};
use proto::tensorflow::serving::prediction_log::LogType;
use proto::tensorflow::{TensorProto, TensorShapeProto, tensor_shape_proto::Dim};
use runtime::placement::GraphThreads;
use runtime::{Graph, RunControl, ValueInfo};
use serving::servable::Servable;

/// Counts its runs and returns one value for each row of its input.
struct StubGraph {
    inputs: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
    runs: Arc<AtomicUsize>,
    kind: RunKind,
}

/// The behaviour of a run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RunKind {
    Succeeds,
    Fails,
    /// Continues until it is stopped.
    NeverEnds,
}

impl Graph for StubGraph {
    fn inputs(&self) -> &[ValueInfo] {
        &self.inputs
    }

    fn outputs(&self) -> &[ValueInfo] {
        &self.outputs
    }

    fn work_follows_shapes(&self) -> bool {
        true
    }

    fn threads(&self) -> GraphThreads {
        GraphThreads::CALLER
    }

    fn run(
        &self,
        inputs: &[Tensor],
        outputs: &[usize],
        control: &RunControl,
    ) -> Result<Vec<Tensor>> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        while self.kind == RunKind::NeverEnds && !control.is_terminated() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if self.kind != RunKind::Succeeds {
            return Err(ServingError::invalid_argument("Run failed"));
        }
        let rows = inputs[0].shape()[0];
        let answer = |_| Tensor::from_vec(&[rows, 1], vec![1.0_f32; rows]).unwrap();
        Ok(outputs.iter().map(answer).collect())
    }
}

/// A servable with a signature for each kind of call, its directory, and a warmup.
struct Fixture {
    root: TempDir,
    servable: ServableHandle,
    runs: Arc<AtomicUsize>,
    runtime: tokio::runtime::Runtime,
}

fn value(name: &str, dtype: DataType, shape: &[i64]) -> ValueInfo {
    ValueInfo {
        name: name.to_owned(),
        dtype: Some(dtype),
        shape: Some(shape.to_vec()),
    }
}

impl Fixture {
    fn new() -> Self {
        Self::with_runs(RunKind::Succeeds)
    }

    fn with_runs(kind: RunKind) -> Self {
        let runs = Arc::<AtomicUsize>::default();
        let signature = |name: &str, method: &str, input: ValueInfo, output: &str| {
            let graph = StubGraph {
                inputs: vec![input],
                outputs: vec![value(output, DataType::Float, &[-1, 1])],
                runs: Arc::clone(&runs),
                kind,
            };
            let mut signature = derive(name, &graph).unwrap();
            signature.method_name = method.to_owned();
            signature.definition.method_name = method.to_owned();
            (signature, Arc::new(graph) as Arc<dyn Graph>)
        };
        let examples = || value("inputs", DataType::String, &[-1]);
        let servable = Servable::new(
            ServableId::new("m", 1),
            [
                signature(
                    "serving_default",
                    "tensorflow/serving/predict",
                    value("x", DataType::Float, &[-1, 3]),
                    "y",
                ),
                signature("classify", CLASSIFY_METHOD_NAME, examples(), "scores"),
                signature("regress", REGRESS_METHOD_NAME, examples(), "outputs"),
            ]
            .map(MappedSignature::from),
            BTreeMap::new(),
            &Arc::default(),
        );
        Self {
            root: TempDir::new().unwrap(),
            servable: ServableHandle::new(servable),
            runs,
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_time()
                .build()
                .unwrap(),
        }
    }

    fn write(&self, contents: &[u8]) {
        let file = self.root.path().join(WARMUP_FILE);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, contents).unwrap();
    }

    fn write_logs(&self, logs: impl IntoIterator<Item = LogType>) {
        let records: Vec<u8> = logs
            .into_iter()
            .flat_map(|log| encode_record(&record(Some(log))))
            .collect();
        self.write(&records);
    }

    fn warm_up(&self, options: WarmupOptions) -> Result<()> {
        let warmup = Warmup::new(
            options,
            InferenceOptions::default(),
            Arc::default(),
            self.runtime.handle().clone(),
        );
        let open = |name: &str| match File::open(self.root.path().join(name)) {
            Ok(file) => {
                let bytes = file.metadata().unwrap().len();
                Ok(Some((file, bytes)))
            }
            Err(_) => Ok(None),
        };
        warmup.warm_up(&self.servable, self.root.path(), open)
    }

    fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    /// Without synthesized requests.
    #[track_caller]
    fn check_error(&self, code: Code, text: &str) {
        let error = self.warm_up(REPLAY).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

const REPLAY: WarmupOptions = WarmupOptions {
    is_enabled: true,
    num_request_iterations: 1,
    timeout: None,
    synthesizes: false,
};

fn record(log_type: Option<LogType>) -> Vec<u8> {
    pb::PredictionLog {
        log_metadata: None,
        log_type,
    }
    .encode_to_vec()
}

/// Names a model that does not exist: only the signature counts.
fn spec(signature_name: &str) -> Option<pb::ModelSpec> {
    Some(pb::ModelSpec {
        name: "another".to_owned(),
        signature_name: signature_name.to_owned(),
        ..pb::ModelSpec::default()
    })
}

fn input() -> Option<SerializedInput> {
    let examples = vec![bytes::Bytes::new()];
    Some(SerializedInput {
        kind: Some(Kind::ExampleList(SerializedExampleList { examples })),
    })
}

fn predict() -> LogType {
    let dim = |size| Dim {
        size,
        ..Dim::default()
    };
    let x = TensorProto {
        dtype: DataType::Float.number(),
        tensor_shape: Some(TensorShapeProto {
            dim: vec![dim(1), dim(3)],
            unknown_rank: false,
        }),
        float_val: vec![1.0, 2.0, 3.0],
        ..TensorProto::default()
    };
    let request = pb::PredictRequest {
        inputs: BTreeMap::from([("x".to_owned(), x)]),
        ..pb::PredictRequest::default()
    };
    LogType::PredictLog(pb::PredictLog {
        request: Some(request),
        response: None,
    })
}

fn classify() -> LogType {
    LogType::ClassifyLog(pb::ClassifyLog {
        request: Some(pb::ClassificationRequest {
            model_spec: spec("classify"),
            input: input(),
        }),
        response: None,
    })
}

fn regress() -> LogType {
    LogType::RegressLog(pb::RegressLog {
        request: Some(pb::RegressionRequest {
            model_spec: spec("regress"),
            input: input(),
        }),
        response: None,
    })
}

fn multi_inference() -> LogType {
    let task = |signature: &str, method: &str| pb::InferenceTask {
        model_spec: spec(signature),
        method_name: method.to_owned(),
    };
    LogType::MultiInferenceLog(pb::MultiInferenceLog {
        request: Some(pb::MultiInferenceRequest {
            tasks: vec![
                task("classify", CLASSIFY_METHOD_NAME),
                task("regress", REGRESS_METHOD_NAME),
            ],
            input: input(),
        }),
        response: None,
    })
}

// MixedWarmupData, RunSuccess. Its counts of runs are those of TensorFlow, which runs the tasks of
// a multi-inference together; here each task is a run.
#[test]
fn mixed_requests_are_replayed() {
    for iterations in [1, 2] {
        let fixture = Fixture::new();
        let kinds = [predict, classify, regress, multi_inference];
        fixture.write_logs(
            kinds
                .into_iter()
                .flat_map(|kind| (0..10).map(move |_| kind())),
        );
        fixture
            .warm_up(WarmupOptions {
                num_request_iterations: iterations,
                ..REPLAY
            })
            .unwrap();
        assert_eq!(fixture.runs(), 50 * iterations as usize);
    }
}

// UnsupportedLogType_SessionRun, UnsupportedLogType_PredictStreamed
#[test]
fn unsupported_log_types_are_refused() {
    let fixture = Fixture::new();
    fixture.write_logs([LogType::SessionRunLog(pb::SessionRunLog::default())]);
    fixture.check_error(Code::Unimplemented, "Unsupported log_type for warmup: 5");
    fixture.write_logs([LogType::PredictStreamedLog(
        pb::PredictStreamedLog::default(),
    )]);
    fixture.check_error(Code::Unimplemented, "Unsupported log_type for warmup: 7");
}

// NoWarmupDataFile, WarmupDataFileEmpty
#[test]
fn nothing_recorded_runs_nothing() {
    let fixture = Fixture::new();
    fixture.warm_up(REPLAY).unwrap();
    fixture.write(b"");
    fixture.warm_up(REPLAY).unwrap();
    // Even an empty file prevents synthesized requests.
    fixture.warm_up(WarmupOptions::default()).unwrap();
    assert_eq!(fixture.runs(), 0);
}

// UnsupportedFileFormat
#[test]
fn other_format_is_data_loss() {
    let fixture = Fixture::new();
    fixture.write(b"this is a text file, not records");
    fixture.check_error(
        Code::DataLoss,
        ". Please verify your warmup data is in TFRecord format.",
    );
}

// TooManyWarmupRecords
#[test]
fn too_many_records_are_refused() {
    let fixture = Fixture::new();
    fixture.write_logs((0..1000).map(|_| predict()));
    fixture.warm_up(REPLAY).unwrap();
    fixture.write_logs((0..1001).map(|_| predict()));
    fixture.check_error(
        Code::InvalidArgument,
        "Number of warmup records exceeds the maximum (1000) at ",
    );
    assert_eq!(fixture.runs(), 2001);
}

// UnparsableRecord
#[test]
fn unparsable_record_is_refused() {
    let fixture = Fixture::new();
    fixture.write(&encode_record(b"\xffno message"));
    fixture.check_error(Code::InvalidArgument, "Failed to parse warmup record: ");
}

// RunFailure
#[test]
fn failing_request_fails_the_warmup() {
    let fixture = Fixture::with_runs(RunKind::Fails);
    fixture.write_logs([predict(), predict()]);
    fixture.check_error(Code::InvalidArgument, "Run failed");
    assert_eq!(fixture.runs(), 1);
}

// lifecycle.md 7: a record without a request is skipped but counted
#[test]
fn record_without_request_is_skipped() {
    let fixture = Fixture::new();
    fixture.write(
        &[
            encode_record(&record(None)),
            encode_record(&record(Some(predict()))),
        ]
        .concat(),
    );
    fixture.warm_up(REPLAY).unwrap();
    assert_eq!(fixture.runs(), 1);
}

#[test]
fn made_up_requests_run_each_signature() {
    let fixture = Fixture::new();
    fixture.warm_up(WarmupOptions::default()).unwrap();
    assert_eq!(fixture.runs(), 3);
}

#[test]
fn failing_made_up_requests_do_no_harm() {
    let fixture = Fixture::with_runs(RunKind::Fails);
    fixture.warm_up(WarmupOptions::default()).unwrap();
    assert_eq!(fixture.runs(), 3);
}

#[test]
fn recorded_requests_have_as_long_as_the_load() {
    let fixture = Fixture::with_runs(RunKind::NeverEnds);
    fixture.write_logs([predict()]);
    let options = WarmupOptions {
        timeout: Some(Duration::from_millis(50)),
        ..REPLAY
    };
    let error = fixture.warm_up(options).unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_eq!(fixture.runs(), 1);
}

#[test]
fn disabled_warmup_does_nothing() {
    let fixture = Fixture::new();
    let disabled = WarmupOptions {
        is_enabled: false,
        ..WarmupOptions::default()
    };
    fixture.warm_up(disabled).unwrap();
    fixture.write_logs([predict()]);
    fixture.warm_up(disabled).unwrap();
    assert_eq!(fixture.runs(), 0);
}

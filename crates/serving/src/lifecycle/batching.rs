//! A loader whose servables run requests in batches.
//!
//! Not here: batching itself (`batching`), which file has the parameters (`config`).

use std::path::Path;
use std::sync::Arc;

use super::Loader;
use super::fixed_rows::{defaults_have_rows, fixed_rows};
use crate::batching::{
    BatchMetrics, BatchScheduler, BatchingExecutor, BatchingOptions, QueueLimits,
};
use crate::monitoring::Metrics;
use crate::servable::Servable;
use base::error::Result;
use base::id::ServableId;
use mapper::signature::{FeatureTensor, Feed, Signature};
use runtime::placement::Placements;

/// Wraps every signature that another loader loads in a batching executor. All share one
/// scheduler.
pub struct BatchingLoader<F> {
    inner: Arc<dyn Loader>,
    scheduler: Arc<BatchScheduler>,
    metrics: Arc<Metrics>,
    placements: Arc<Placements>,
    options: F,
}

impl<F> BatchingLoader<F>
where
    F: Fn(&Path) -> Result<Option<BatchingOptions>> + Send + Sync,
{
    /// Wraps `inner`. `options` returns how the version in a directory is batched, or `None` if it is
    /// not batched. If it fails, the load fails with its error.
    pub fn new(
        inner: Arc<dyn Loader>,
        scheduler: Arc<BatchScheduler>,
        metrics: Arc<Metrics>,
        placements: Arc<Placements>,
        options: F,
    ) -> Self {
        Self {
            inner,
            scheduler,
            metrics,
            placements,
            options,
        }
    }
}

impl<F> Loader for BatchingLoader<F>
where
    F: Fn(&Path) -> Result<Option<BatchingOptions>> + Send + Sync,
{
    fn load(&self, id: &ServableId, directory: &Path) -> Result<Servable> {
        let Some(options) = (self.options)(directory)? else {
            return self.inner.load(id, directory);
        };
        let limits = QueueLimits::try_new(&options)?;
        let servable = self.inner.load(id, directory)?;
        Ok(servable.map_executors(|signature, executor| {
            if !is_fed_by_rows(signature) || !answers_by_rows(signature) {
                tracing::info!(servable = %id, signature = signature.name, "not batched");
                return executor;
            }
            if let Some(rows) = fixed_rows(signature, executor.graph().as_ref()) {
                tracing::info!(
                    servable = %id,
                    signature = signature.name,
                    "not batched: the graph takes {rows} rows and no others"
                );
                return executor;
            }
            if defaults_have_rows(signature, executor.graph().as_ref()) {
                tracing::info!(
                    servable = %id,
                    signature = signature.name,
                    "not batched: a default of the graph can have rows of its own"
                );
                return executor;
            }
            let metrics = Arc::clone(&self.metrics);
            BatchingExecutor::wrap(
                executor,
                {
                    let sent = signature.inputs.iter();
                    sent.filter(|input| !input.graph_has_default).count()
                },
                limits.clone(),
                Arc::clone(&self.scheduler),
                BatchMetrics::new(metrics, id.clone(), signature.name.clone()),
                Arc::clone(&self.placements),
            )
        }))
    }
}

/// Whether dimension 0 of everything fed to the graph is the number of the request's rows. This is not
/// true of sparse and ragged features, nor of inputs whose axis 0 a map moves: requests with them run by
/// themselves. The same applies to a graph all of whose inputs have defaults.
fn is_fed_by_rows(signature: &Signature) -> bool {
    let is_left_out = signature.inputs.iter().any(|it| it.graph_has_default);
    if signature.feeds.is_empty() && is_left_out {
        return false;
    }
    let mut sent = signature.inputs.iter().filter(|it| !it.graph_has_default);
    sent.all(|it| it.has_rows)
        && signature.feeds.iter().all(|feed| {
            matches!(
                feed,
                Feed::Input(_) | Feed::Feature(_, FeatureTensor::Dense(_))
            )
        })
}

/// Whether, as far as is known at load, dimension 0 of all outputs is the number of the request's rows.
fn answers_by_rows(signature: &Signature) -> bool {
    signature.outputs.iter().all(|output| output.has_rows)
}

#[cfg(test)]
#[cfg(feature = "onnxruntime")]
mod tests {
    use prost::Message;

    use super::*;
    use crate::lifecycle::ServableLoader;
    use crate::lifecycle::fake::FakeLoader;
    use crate::servable::ExpansionBudget;
    use base::error::{Code, ServingError};
    use base::tensor::{DataType, Tensor};
    use mapper::signature::{RequestInputs, RequestTensor};
    use mapper::version_dir::OnnxLoader;
    use proto::onnx::{
        GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
        TypeProto, ValueInfoProto, tensor_shape_proto, type_proto,
    };
    use runtime::ort::testing::onnx_runtime;

    fn load(options: Result<Option<BatchingOptions>>) -> (Result<Servable>, usize) {
        let inner = FakeLoader::new();
        let scheduler = BatchScheduler::try_new(&BatchingOptions::default()).unwrap();
        let options = std::sync::Mutex::new(Some(options));
        let loader = BatchingLoader::new(
            Arc::clone(&inner) as Arc<dyn Loader>,
            Arc::new(scheduler),
            Arc::new(Metrics::new()),
            Arc::default(),
            move |_: &Path| options.lock().unwrap().take().unwrap(),
        );
        let id = ServableId::new("m", 1);
        let loaded = loader.load(&id, Path::new("m/1"));
        (loaded, inner.loads(&id))
    }

    #[test]
    fn version_loads_with_and_without_options() {
        assert!(load(Ok(None)).0.is_ok());
        assert!(load(Ok(Some(BatchingOptions::default()))).0.is_ok());
    }

    /// `WrapSessionForBatchingConfigError` of `bundle_factory_util_test.cc`.
    #[test]
    fn wrong_options_fail_the_load() {
        let options = BatchingOptions {
            max_batch_size: 2,
            allowed_batch_sizes: vec![1, 3],
            ..BatchingOptions::default()
        };
        let (loaded, loads) = load(Ok(Some(options)));
        assert_eq!(loaded.err().unwrap().code(), Code::InvalidArgument);
        assert_eq!(loads, 0);
    }

    #[test]
    fn unreadable_options_fail_the_load() {
        let (loaded, _) = load(Err(ServingError::invalid_argument("no")));
        assert_eq!(loaded.err().unwrap().to_string(), "no");
    }

    /// Whether a request of four floats in a row is batched.
    fn is_batched(directory: &Path) -> bool {
        let placements = Arc::<Placements>::default();
        let inner = ServableLoader::new(OnnxLoader::new(onnx_runtime()), Arc::clone(&placements));
        let options = BatchingOptions::default();
        let scheduler = Arc::new(BatchScheduler::try_new(&options).unwrap());
        let metrics = Arc::new(Metrics::new());
        let measured = Arc::clone(&metrics);
        let options = move |_: &Path| Ok(Some(options.clone()));
        let loader = BatchingLoader::new(Arc::new(inner), scheduler, measured, placements, options);
        let servable = loader.load(&ServableId::new("m", 1), directory).unwrap();

        let x = Tensor::zeros(DataType::Float, &[1, 4]).unwrap();
        let inputs = RequestInputs::from([("x".to_owned(), RequestTensor::Valid(x))]);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let budget = ExpansionBudget::unbounded();
        let run = servable.run("serving_default", inputs, &[], None, &budget);
        runtime.unwrap().block_on(run).unwrap();
        let metric = ":tensorflow:serving:batching_session:wrapped_run_count{} 1";
        metrics.tensorflow_page().contains(metric)
    }

    /// `x: float[1, 4]`, a shape that a Reshape requires.
    #[test]
    fn graph_of_fixed_rows_is_not_batched() {
        let project = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        assert!(!is_batched(&project.join("tests/data/zoo/fixed_batch/1")));
    }

    #[test]
    fn rows_that_are_merely_declared_do_not_matter() {
        let directory = tempfile::tempdir().unwrap();
        let model = declared_four_in_a_row().encode_to_vec();
        std::fs::write(directory.path().join("model.onnx"), model).unwrap();
        assert!(is_batched(directory.path()));
    }

    #[test]
    fn axis_0_that_a_map_moves_is_not_batched() {
        for (entry, expected) in [
            ("input { alias: 'x' transpose: [0, 1] }", true),
            ("input { alias: 'x' transpose: [1, 0] }", false),
            ("output { alias: 'y' transpose: [1, 0] }", false),
            ("output { alias: 'y' reshape: [-1] }", false),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let model = declared_four_in_a_row().encode_to_vec();
            std::fs::write(directory.path().join("model.onnx"), model).unwrap();
            let map = format!("signature {{ {entry} }}");
            std::fs::write(directory.path().join("signature_map.pbtxt"), map).unwrap();
            assert_eq!(is_batched(directory.path()), expected, "{entry}");
        }
    }

    #[test]
    fn defaults_with_rows_are_not_batched() {
        for (op_type, inputs, dims, expected) in [
            ("Add", ["x", "w"].as_slice(), [2, 4].as_slice(), false),
            ("Add", &["x", "w"], &[3, 4], false),
            ("Add", &["x", "w"], &[1, 4], true),
            ("Add", &["x", "w"], &[4], true),
            ("Add", &["x", "w"], &[], true),
            ("MatMul", &["x", "w"], &[4, 2], true),
            ("Gemm", &["x", "w"], &[4, 3], true),
            // Passed through, independent of the request.
            ("Identity", &["w"], &[], false),
            ("Identity", &["w"], &[1], false),
            ("Identity", &["w"], &[2], false),
            ("Identity", &["w"], &[0], false),
        ] {
            for width in [4, -1] {
                let directory = tempfile::tempdir().unwrap();
                let model = with_default(op_type, inputs, dims, width).encode_to_vec();
                std::fs::write(directory.path().join("model.onnx"), model).unwrap();
                let is_batched = is_batched(directory.path());
                assert_eq!(is_batched, expected, "{op_type} {dims:?} {width}");
            }
        }
    }

    /// y = -x and z = an operator on `inputs`; input w has a default of zeros.
    fn with_default(op_type: &str, inputs: &[&str], dims: &[i64], width: i64) -> ModelProto {
        let mut model = declared_four_in_a_row();
        let graph = model.graph.as_mut().unwrap();
        graph.node[0].op_type = Some("Neg".to_owned());
        graph.node.push(NodeProto {
            input: inputs.iter().map(|&it| it.to_owned()).collect(),
            output: vec!["z".to_owned()],
            op_type: Some(op_type.to_owned()),
            ..NodeProto::default()
        });
        let named = |name: &str, dims: Option<&[i64]>| {
            let dim = |&size: &i64| tensor_shape_proto::Dimension {
                value: (size >= 0).then_some(tensor_shape_proto::dimension::Value::DimValue(size)),
                ..tensor_shape_proto::Dimension::default()
            };
            ValueInfoProto {
                name: Some(name.to_owned()),
                r#type: Some(TypeProto {
                    value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                        elem_type: Some(1),
                        shape: dims.map(|dims| TensorShapeProto {
                            dim: dims.iter().map(dim).collect(),
                        }),
                    })),
                    ..TypeProto::default()
                }),
                ..ValueInfoProto::default()
            }
        };
        graph.input = vec![named("x", Some(&[-1, width])), named("w", Some(dims))];
        graph.output = vec![named("y", None), named("z", None)];
        let count = dims.iter().product::<i64>();
        graph.initializer.push(TensorProto {
            name: Some("w".to_owned()),
            dims: dims.to_vec(),
            data_type: Some(1),
            float_data: vec![0.0; usize::try_from(count).unwrap()],
            ..TensorProto::default()
        });
        model
    }

    /// y = x, declared as `x: float[1, 4]`.
    fn declared_four_in_a_row() -> ModelProto {
        let dim = |size| tensor_shape_proto::Dimension {
            value: Some(tensor_shape_proto::dimension::Value::DimValue(size)),
            ..tensor_shape_proto::Dimension::default()
        };
        let value = |name: &str| ValueInfoProto {
            name: Some(name.to_owned()),
            r#type: Some(TypeProto {
                value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                    elem_type: Some(1),
                    shape: Some(TensorShapeProto {
                        dim: vec![dim(1), dim(4)],
                    }),
                })),
                ..TypeProto::default()
            }),
            ..ValueInfoProto::default()
        };
        let node = NodeProto {
            input: vec!["x".to_owned()],
            output: vec!["y".to_owned()],
            op_type: Some("Identity".to_owned()),
            ..NodeProto::default()
        };
        let graph = GraphProto {
            name: Some("graph".to_owned()),
            node: vec![node],
            input: vec![value("x")],
            output: vec![value("y")],
            ..GraphProto::default()
        };
        let opset = OperatorSetIdProto {
            version: Some(17),
            ..OperatorSetIdProto::default()
        };
        ModelProto {
            ir_version: Some(8),
            opset_import: vec![opset],
            graph: Some(graph),
            ..ModelProto::default()
        }
    }
}

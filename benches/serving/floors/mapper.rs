//! The graph that the server's loader makes, compared with the unmodified file: in one process, on one
//! thread and in turns. ONNX Runtime allows one environment in a process, so both are called through
//! the server's.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base::id::ServableId;
use base::tensor::Tensor;
use mapper::version_dir::OnnxLoader;
use runtime::ort::{OnnxRuntime, OnnxRuntimeOptions};
use runtime::{Backend, Graph, GraphSource, RunControl};
use serving::lifecycle::{Loader, ServableLoader};

use crate::Result;
use crate::models::onnxruntime;
use crate::stats::{Random, percentile, sorted_micros};

/// Runs for the median of one side of a pair.
const RUNS: usize = 15;
/// Height and width of an image in the model's tests.
const SIDE: usize = 32;

/// The times of `pairs` pairs in microseconds: the served graph's and the untouched file's.
pub(crate) fn measure(version: &Path, pairs: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let output = Command::new(std::env::current_exe()?)
        .arg("mapper")
        .arg(version)
        .arg(pairs.to_string())
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for line in text.lines() {
        let (a, b) = line.split_once(' ').ok_or("a pair is missing")?;
        ours.push(a.parse()?);
        theirs.push(b.parse()?);
    }
    if ours.len() != pairs {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("the pairs were not measured: {errors}").into());
    }
    Ok((ours, theirs))
}

/// The role: prints both times of each pair.
pub(super) fn run(arguments: &[String]) -> Result<()> {
    let [version, pairs] = arguments else {
        return Err("a version directory and a number of pairs are missing".into());
    };
    let version = Path::new(version);
    let options = OnnxRuntimeOptions {
        library: Some(onnxruntime()),
        intra_op_threads: 1,
        inter_op_threads: 1,
        spinning: false,
        pool_only: false,
    };
    let backend: Arc<dyn Backend> = Arc::new(OnnxRuntime::open(&options)?);
    let served = served_graph(Arc::clone(&backend), version)?;
    let untouched = backend.load(GraphSource {
        origin: "the untouched file".to_owned(),
        model: std::fs::read(version.join("model.onnx"))?.into(),
        weights: Vec::new(),
        sharing: None,
        declared_shapes: HashMap::new(),
        work_follows_shapes: true,
    })?;
    let tensor = input(untouched.as_ref())?;
    for pair in 0..pairs.parse::<usize>()? + 1 {
        let (ours, theirs) = if pair % 2 == 0 {
            let ours = time(served.as_ref(), &tensor)?;
            (ours, time(untouched.as_ref(), &tensor)?)
        } else {
            let theirs = time(untouched.as_ref(), &tensor)?;
            (time(served.as_ref(), &tensor)?, theirs)
        };
        // The first pair warms up.
        if pair > 0 {
            println!("{ours} {theirs}");
        }
    }
    Ok(())
}

/// The graph that the server would run for the model's default signature.
fn served_graph(backend: Arc<dyn Backend>, version: &Path) -> Result<Arc<dyn Graph>> {
    let loader = ServableLoader::new(OnnxLoader::new(backend), Arc::default());
    let servable = loader.load(&ServableId::new("model", 1), version)?;
    let found = Mutex::new(None);
    let _ = servable.map_executors(|_, executor| {
        if let Ok(mut found) = found.lock() {
            *found = Some(Arc::clone(executor.graph()));
        }
        executor
    });
    let found = found.into_inner().map_err(|_| "the graph was lost")?;
    found.ok_or_else(|| "the model has no signature".into())
}

/// Random values of the size that the file declares.
fn input(graph: &dyn Graph) -> Result<Tensor> {
    let declared = graph.inputs().first().and_then(|it| it.shape.as_ref());
    let declared = declared.ok_or("the graph has no input of a known shape")?;
    // One image; height and width are not declared.
    let dims: Vec<usize> = declared
        .iter()
        .enumerate()
        .map(|(axis, &dim)| usize::try_from(dim).unwrap_or(if axis == 0 { 1 } else { SIDE }))
        .collect();
    let mut random = Random::new();
    let values = (0..dims.iter().product()).map(|_| random.next() as f32);
    let tensor = Tensor::from_vec(&dims, values.collect::<Vec<f32>>());
    tensor.ok_or_else(|| "the shape holds other values".into())
}

/// The median of some runs, in microseconds.
fn time(graph: &dyn Graph, tensor: &Tensor) -> Result<f64> {
    let mut latencies: Vec<Duration> = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let start = Instant::now();
        graph.run(std::slice::from_ref(tensor), &[0], &RunControl::default())?;
        latencies.push(start.elapsed());
    }
    Ok(percentile(&sorted_micros(&latencies), 0.5))
}

//! The server's loader and graph beside the untouched file, in one process and in turns.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use onnx_model_server::id::ServableId;
use onnx_model_server::lifecycle::Loader;
use onnx_model_server::lifecycle::loader::OnnxLoader;
use onnx_model_server::runtime::ort::{OnnxRuntime, OnnxRuntimeOptions};
use onnx_model_server::runtime::{Graph, RunControl};
use onnx_model_server::tensor::Tensor;
use ort::session::Session;
use ort::value::TensorRef;

use super::bare;
use crate::Result;
use crate::models::onnxruntime;
use crate::stats::{Random, percentile, sorted_micros};

/// Runs whose median is one side of a pair.
const RUNS: usize = 15;

/// The times of `pairs` pairs in microseconds: through the server's graph, and bare.
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
    let graph = served_graph(version)?;
    // The same environment and thread pool; leaked, because two of them would be freed twice.
    let environment = ort::init_from(onnxruntime())?.build()?;
    let environment = Box::leak(Box::new(environment));
    let mut session = bare::open(environment, &version.join("model.onnx"), 1)?;

    let (name, shape) = bare::input(&session, 1)?;
    let mut random = Random::new();
    let count = shape.iter().product::<i64>() as usize;
    let values: Vec<f32> = (0..count).map(|_| random.next() as f32).collect();
    let dims: Vec<usize> = shape.iter().map(|&dim| dim as usize).collect();
    let tensor = Tensor::from_vec(&dims, values.clone()).ok_or("the shape holds other values")?;
    for pair in 0..pairs.parse::<usize>()? + 1 {
        let through_server = || time(|| run_served(graph.as_ref(), &tensor));
        let mut untouched = || time(|| run_bare(&mut session, &name, &shape, &values));
        let (ours, theirs) = if pair % 2 == 0 {
            let ours = through_server()?;
            (ours, untouched()?)
        } else {
            let theirs = untouched()?;
            (through_server()?, theirs)
        };
        // The first pair warms up.
        if pair > 0 {
            println!("{ours} {theirs}");
        }
    }
    Ok(())
}

/// The graph that the server would run for the model's default signature.
fn served_graph(version: &Path) -> Result<Arc<dyn Graph>> {
    let options = OnnxRuntimeOptions {
        library: Some(onnxruntime()),
        intra_op_threads: 1,
        inter_op_threads: 1,
        spinning: false,
    };
    let loader = OnnxLoader::new(Arc::new(OnnxRuntime::open(&options)?));
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

fn run_served(graph: &dyn Graph, tensor: &Tensor) -> Result<()> {
    graph.run(std::slice::from_ref(tensor), &[0], &RunControl::default())?;
    Ok(())
}

fn run_bare(session: &mut Session, name: &str, shape: &[i64], values: &[f32]) -> Result<()> {
    let tensor = TensorRef::from_array_view((shape, values))?;
    session.run(ort::inputs![name => tensor])?;
    Ok(())
}

/// The median of some runs, in microseconds.
fn time(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut latencies: Vec<Duration> = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let start = Instant::now();
        run()?;
        latencies.push(start.elapsed());
    }
    Ok(percentile(&sorted_micros(&latencies), 0.5))
}

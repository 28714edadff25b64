//! Bare ONNX Runtime: sessions of the crate `ort` on the unmodified file, called in a loop.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ort::environment::Environment;
use ort::session::Session;
use ort::value::{TensorRef, ValueType};

use crate::Result;
use crate::models::onnxruntime;
use crate::stats::{Random, percentile, sorted_micros};

/// How a graph is run.
#[derive(Clone, Copy)]
pub(crate) struct BareRun<'a> {
    pub(crate) model: &'a Path,
    /// Rows of a run.
    pub(crate) batch: usize,
    /// Threads within a run.
    pub(crate) threads: usize,
    /// Runs at a time.
    pub(crate) concurrency: usize,
    pub(crate) time: Duration,
}

/// The result.
pub(crate) struct Bare {
    pub(crate) runs_per_second: f64,
    pub(crate) p50_micros: f64,
}

impl BareRun<'_> {
    /// Runs it in a process of its own.
    pub(crate) fn measure(&self) -> Result<Bare> {
        let output = Command::new(std::env::current_exe()?)
            .arg("bare")
            .arg(self.model)
            .args([self.batch, self.threads, self.concurrency].map(|it| it.to_string()))
            .arg(self.time.as_millis().to_string())
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let numbers: Vec<f64> = text
            .split_whitespace()
            .map(str::parse)
            .collect::<std::result::Result<_, _>>()?;
        let [runs_per_second, p50_micros] = numbers[..] else {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(format!("bare ONNX Runtime did not run: {errors}").into());
        };
        Ok(Bare {
            runs_per_second,
            p50_micros,
        })
    }
}

/// The role: prints runs per second and the median of their times in microseconds.
pub(super) fn run(arguments: &[String]) -> Result<()> {
    let [model, numbers @ ..] = arguments else {
        return Err("a model is missing".into());
    };
    let numbers: Vec<usize> = numbers
        .iter()
        .map(|it| it.parse())
        .collect::<std::result::Result<_, _>>()?;
    let [batch, threads, concurrency, millis] = numbers[..] else {
        return Err("batch, threads, concurrency and milliseconds are missing".into());
    };
    let environment = ort::init_from(onnxruntime())?
        .with_telemetry(false)
        .build()?;
    let time = Duration::from_millis(millis as u64);
    let sessions: Vec<Session> = (0..concurrency)
        .map(|_| open(&environment, &PathBuf::from(model), threads))
        .collect::<Result<_>>()?;
    let loops: Vec<_> = sessions
        .into_iter()
        .map(|session| {
            std::thread::spawn(move || {
                call(session, batch, time).map_err(|error| error.to_string())
            })
        })
        .collect();
    let mut latencies = Vec::new();
    let mut per_second = 0.0;
    for one in loops {
        let (mut own, rate) = one.join().map_err(|_| "a run panicked")??;
        latencies.append(&mut own);
        per_second += rate;
    }
    let micros = sorted_micros(&latencies);
    println!("{per_second} {}", percentile(&micros, 0.5));
    Ok(())
}

/// A session with threads of its own and ONNX Runtime's defaults otherwise.
fn open(environment: &Environment, model: &Path, threads: usize) -> Result<Session> {
    let mut builder = Session::builder(environment)?
        .with_intra_threads(threads)
        .map_err(|error| error.to_string())?;
    Ok(builder.commit_from_file(model)?)
}

/// Runs for this long, after a fifth of that to warm up.
fn call(mut session: Session, batch: usize, time: Duration) -> Result<(Vec<Duration>, f64)> {
    let (name, shape) = input(&session, batch)?;
    let mut random = Random::new();
    let count = shape.iter().product::<i64>() as usize;
    let values: Vec<f32> = (0..count).map(|_| random.next() as f32).collect();
    let mut run = || -> Result<Duration> {
        let start = Instant::now();
        let tensor = TensorRef::from_array_view((shape.as_slice(), values.as_slice()))?;
        let outputs = session.run(ort::inputs![name.as_str() => tensor])?;
        drop(outputs);
        Ok(start.elapsed())
    };
    let warm = Instant::now() + time / 5;
    while Instant::now() < warm {
        run()?;
    }
    let mut latencies = Vec::new();
    let start = Instant::now();
    while start.elapsed() < time || latencies.is_empty() {
        latencies.push(run()?);
    }
    let rate = latencies.len() as f64 / start.elapsed().as_secs_f64();
    Ok((latencies, rate))
}

/// The name of the one input, and its shape with `batch` for undeclared sizes.
fn input(session: &Session, batch: usize) -> Result<(String, Vec<i64>)> {
    let input = session.inputs().first().ok_or("the graph has no input")?;
    let ValueType::Tensor { shape, .. } = input.dtype() else {
        return Err("the graph's input is not a tensor".into());
    };
    let fixed = |&dim: &i64| if dim < 0 { batch as i64 } else { dim };
    Ok((input.name().to_owned(), shape.iter().map(fixed).collect()))
}

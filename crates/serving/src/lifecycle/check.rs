//! Checks a version directory: loads it as the server would and runs each signature once.
//!
//! Not here: the output of the command `show` (`mapper::version_dir`).

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Loader;
use crate::servable::{ExpansionBudget, Servable};
use base::error::{Result, ServingError};
use base::id::ServableId;
use base::tensor::{Tensor, element_count};
use mapper::signature::{RequestInputs, RequestTensor, Signature, known_shape};
use mapper::version_dir::check_tag_set;

/// The maximum number of elements of a tensor that a check creates.
const MAX_PROBE_ELEMENTS: usize = 1 << 28;

/// The result of a check.
#[derive(Clone, Debug)]
pub struct CheckReport {
    /// A text for users, line by line.
    pub text: String,
    /// Whether the server would serve the version, and every signature ran.
    pub passed: bool,
}

/// Loads the version in `directory` with the server's `loader` and runs each signature once on zeros of
/// the declared shape (1 for a dim of any size; no examples if it takes tf.Example). A signature with an
/// input of unknown rank is not run, because its shape would be a guess. `warnings` returns further
/// remarks about the loaded servable.
pub fn check(
    loader: &dyn Loader,
    directory: &Path,
    saved_model_tags: &[String],
    warnings: &dyn Fn(&Servable) -> Vec<String>,
) -> CheckReport {
    let mut report = CheckReport {
        text: String::new(),
        passed: true,
    };
    let start = Instant::now();
    let loaded = check_tag_set(directory, saved_model_tags)
        .and_then(|()| loader.load(&ServableId::new("check", 1), directory));
    let servable = match loaded {
        Ok(servable) => servable,
        Err(error) => {
            report.line(
                false,
                &format!("{} is not served: {error}", directory.display()),
            );
            return report;
        }
    };
    let loaded = format!(
        "{} loaded in {}",
        directory.display(),
        millis(start.elapsed())
    );
    report.line(true, &loaded);
    for warning in warnings(&servable) {
        let _ = writeln!(report.text, "warn {warning}");
    }
    for signature in servable.signatures() {
        for change in &signature.changes {
            let name = &signature.name;
            report.line(
                true,
                &format!("signature_def['{name}']: {change} (signature map)"),
            );
        }
        if let Some(alias) = input_of_unknown_rank(signature) {
            let name = &signature.name;
            let line = format!(
                "signature_def['{name}'] was not run: the rank of its input '{alias}' is unknown"
            );
            report.line(true, &line);
            continue;
        }
        let start = Instant::now();
        let result = run_once(&servable, signature);
        let took = millis(start.elapsed());
        let line = match &result {
            Ok(()) => format!("signature_def['{}'] ran in {took}", signature.name),
            Err(error) => format!("signature_def['{}'] failed: {error}", signature.name),
        };
        report.line(result.is_ok(), &line);
    }
    report
}

impl CheckReport {
    fn line(&mut self, passed: bool, line: &str) {
        let _ = writeln!(self.text, "{} {line}", if passed { "ok  " } else { "FAIL" });
        self.passed &= passed;
    }
}

/// An input whose shape would have to be guessed.
fn input_of_unknown_rank(signature: &Signature) -> Option<&str> {
    let inputs = signature.inputs.iter().enumerate();
    let mut inputs = inputs.filter(|(_, input)| !input.graph_has_default);
    let found = inputs.find(|(index, input)| {
        let is_example = signature.examples.iter().any(|it| it.input == *index);
        let info = signature.definition.inputs.get(&input.alias);
        !is_example && info.and_then(known_shape).is_none()
    });
    found.map(|(_, input)| input.alias.as_str())
}

fn run_once(servable: &Servable, signature: &Signature) -> Result<()> {
    let mut inputs = RequestInputs::new();
    let needed = signature.inputs.iter().enumerate();
    for (index, input) in needed.filter(|(_, input)| !input.graph_has_default) {
        let is_example = signature.examples.iter().any(|it| it.input == index);
        let shape = match signature.sample_shape(&input.alias) {
            _ if is_example => vec![0],
            None => {
                let text = format!("the rank of input '{}' is unknown", input.alias);
                return Err(ServingError::invalid_argument(text));
            }
            Some(shape) => shape,
        };
        let small = element_count(&shape).is_some_and(|count| count <= MAX_PROBE_ELEMENTS);
        let zeros = small.then(|| Tensor::zeros(input.dtype, &shape)).flatten();
        let zeros = zeros.ok_or_else(|| {
            let text = format!("no zeros of input '{}' can be made", input.alias);
            ServingError::invalid_argument(text)
        })?;
        inputs.insert(input.alias.clone(), RequestTensor::Valid(zeros));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| ServingError::internal(format!("cannot start a run: {error}")))?;
    let budget = ExpansionBudget::unbounded();
    let wanted = signature.answerable_outputs();
    let run = servable.run(&signature.name, inputs, &wanted, None, &budget);
    let (outputs, _) = runtime.block_on(run)?;
    match outputs.len() == wanted.len() {
        true => Ok(()),
        false => Err(ServingError::internal("an output is missing")),
    }
}

fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

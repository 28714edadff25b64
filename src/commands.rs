//! The program's commands other than serving: `show` and `check` examine one version directory,
//! `import` converts SavedModels, `run` and `example` try one, `health` asks a running server, `hash_password` and `hash_token` make hashes for an
//! `--auth_config_file`.
//!
//! A command counts only as the first argument, where the server's flags would begin with `--`. The
//! flags are those of `saved_model_cli show`, in the form `--dir=X` or `--dir X`; `arguments` declares
//! them.
//!
//! Not here: showing and checking models (`mapper::version_dir`), the server's flags (`config`).

mod arguments;
mod bounded;
mod health;
mod import;
mod run;
mod secret;

use std::path::Path;

use crate::server;
use api::access::auth;
use base::error::{Result, ServingError};
use mapper::version_dir::{self, SavedModelOptions};
use runtime::BackendOptions;
use serving::inference;
use serving::lifecycle::{self, CheckReport};
use serving::servable::Servable;

pub use self::arguments::{
    CheckArguments, Command, ExampleArguments, ImportArguments, Refusal, RunArguments,
    ShowArguments,
};

/// The section of the server's `--help` about the commands.
pub const SUMMARY: &str = "\
Commands, as the first argument; each has a --help of its own:
\tshow                             \tprints the signatures of a version directory
\tcheck                            \tloads a version directory as the server would and runs each signature once
\timport                           \twrites the ONNX files that the server makes of a SavedModel when it loads it
\trun                              \truns a signature once and prints its outputs
\texample                          \tprints the body of a valid REST request
\thealth                           \tasks a running server whether it is ready
\thash_password, hash_token        \tprint an entry for an --auth_config_file
";

/// The result of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// For stdout.
    pub text: String,
    /// Whether all is well.
    pub passed: bool,
}

impl Command {
    /// Runs the command. Can take as long as loading the model.
    ///
    /// # Errors
    ///
    /// Those of a load, or a timeout; for `check`, if the backend cannot be opened; for the hashes, if
    /// stdin is not one line.
    pub fn run(self) -> Result<Report> {
        let text = match self {
            Self::Show(arguments) => show(arguments)?,
            Self::Check(arguments) => {
                let report = check(arguments)?;
                return Ok(Report {
                    text: report.text,
                    passed: report.passed,
                });
            }
            Self::Import(arguments) => return import::run(&arguments),
            Self::Run(arguments) => {
                let (timeout, directory) =
                    (arguments.version.timeout(), arguments.version.dir.clone());
                bounded::within(timeout, &directory, move || run::run(&arguments))?
            }
            Self::Example(arguments) => example(arguments)?,
            Self::HashPassword => auth::hash_password(&secret::read(std::io::stdin())?)? + "\n",
            Self::HashToken => auth::hash_token(&secret::read(std::io::stdin())?) + "\n",
            Self::Health { flags } => return Ok(health::run(&flags)),
        };
        Ok(Report { text, passed: true })
    }
}

fn show(arguments: ShowArguments) -> Result<String> {
    let (tags, shown) = (arguments.version.tags(), arguments.shown());
    let directory = arguments.version.dir.clone();
    let show = move || version_dir::show(&directory, &tags, &shown);
    bounded::within(arguments.version.timeout(), &arguments.version.dir, show)
}

fn example(arguments: ExampleArguments) -> Result<String> {
    let (tags, name) = (arguments.version.tags(), arguments.signature_def);
    let directory = arguments.version.dir.clone();
    let example = move || version_dir::example(&directory, &tags, name.as_deref());
    bounded::within(arguments.version.timeout(), &arguments.version.dir, example)
}

fn check(arguments: CheckArguments) -> Result<CheckReport> {
    let backend = BackendOptions {
        choice: arguments.backend,
        onnxruntime_library: arguments.onnxruntime_library,
        ..BackendOptions::default()
    };
    let directory = arguments.version.dir.clone();
    let saved_model = SavedModelOptions {
        tags: arguments.version.tags(),
        partial: arguments.saved_model_partial,
    };
    let check = move || match missing_operators(&directory, &saved_model) {
        Some(report) => Ok(report),
        None => check_directory(&backend, &directory, saved_model),
    };
    bounded::within(arguments.version.timeout(), &arguments.version.dir, check)
}

/// The runtime for a load and its runs.
fn small_runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .map_err(|error| ServingError::internal(format!("cannot start a run: {error}")))
}

/// The report on a SavedModel that is not served because of its operators. No backend is needed to find them.
fn missing_operators(directory: &Path, saved_model: &SavedModelOptions) -> Option<CheckReport> {
    let needed = version_dir::needed_operators(directory, &saved_model.tags).ok()??;
    if needed.is_complete() || saved_model.partial {
        return None;
    }
    Some(CheckReport {
        text: format!(
            "FAIL {} is not served: it needs TensorFlow's {}, which this server does not run; see \
             docs/importing.md#unsupported-operators\n{}",
            directory.display(),
            needed.missing_text(),
            needed.text()
        ),
        passed: false,
    })
}

fn check_directory(
    backend: &BackendOptions,
    directory: &Path,
    saved_model: SavedModelOptions,
) -> Result<CheckReport> {
    let runtime = small_runtime()?;
    let tags = saved_model.tags.clone();
    let loader = server::check_loader(backend, saved_model, runtime.handle().clone())?;
    let warnings = |servable: &Servable| {
        let batching = server::check_version_batching(directory).err();
        let batching = batching.map(|error| {
            format!(
                "with --enable_batching and --enable_per_model_batching_parameters the version is \
                 not served: {error}"
            )
        });
        let signatures = servable.signatures().filter_map(|signature| {
            let error = inference::refusal(&signature.definition)?.to_string();
            Some(format!(
                "signature_def['{}']: its method {} is refused in every request: {}",
                signature.name,
                signature.method_name,
                error.lines().next().unwrap_or_default()
            ))
        });
        batching.into_iter().chain(signatures).collect()
    };
    Ok(lifecycle::check(
        loader.as_ref(),
        directory,
        &tags,
        &warnings,
    ))
}

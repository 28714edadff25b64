//! The arguments of the commands, each declared once; a doc comment is its text in `--help`.
//!
//! The server's own flags keep TensorFlow Serving's parser (`config::flags`), which no other follows.
//!
//! Not here: running a command (`commands`).

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::config::Flags;
use mapper::version_dir::Shown;
use runtime::BackendChoice;

const DEFAULT_TAG_SET: &str = "serve";

const EXIT_STATUS: &str = "\
The exit status is 0 if all is well, 1 if the server would not serve the directory, a signature
failed or the server is not ready, 2 for wrong arguments.";

#[derive(Parser)]
#[command(
    name = "onnx_model_server",
    args_override_self = true,
    disable_help_subcommand = true,
    after_help = EXIT_STATUS
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

/// A command to run instead of the server.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
#[command(rename_all = "snake_case")]
pub enum Command {
    /// Print the signatures of a version directory in the layout of `saved_model_cli show`, and for each
    /// alias the ONNX graph's tensor and its origin
    #[command(after_help = EXIT_STATUS)]
    Show(ShowArguments),
    /// Load a version directory as the server would, recorded warmup requests included, and run each
    /// signature once on zeros, apart from those with an input of unknown rank
    #[command(after_help = EXIT_STATUS)]
    Check(CheckArguments),
    /// Write the ONNX files that the server makes of a SavedModel when it loads it
    #[command(after_help = EXIT_STATUS)]
    Import(ImportArguments),
    /// Run a signature of a version directory once and print its outputs as `saved_model_cli run` does
    #[command(after_help = EXIT_STATUS)]
    Run(RunArguments),
    /// Print the body of a valid REST request to a signature of a version directory
    #[command(after_help = EXIT_STATUS)]
    Example(ExampleArguments),
    /// Print the password_argon2 of an --auth_config_file for the line on stdin
    HashPassword,
    /// Print the token_sha256 of an --auth_config_file for the line on stdin
    HashToken,
    /// Check whether a local server is ready
    #[command(after_help = EXIT_STATUS)]
    Health {
        /// The flags that the server was started with; without them, the first server among the processes
        /// is asked
        #[arg(
            value_name = "SERVER'S FLAGS",
            allow_hyphen_values = true,
            trailing_var_arg = true
        )]
        flags: Vec<OsString>,
    },
}

/// The version directory of a command.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(rename_all = "snake_case")]
pub struct VersionArguments {
    /// The version directory, `BASE_PATH/VERSION`
    #[arg(long)]
    pub dir: PathBuf,
    /// Tags of the meta graph, comma-separated; without it: serve
    #[arg(long, value_name = "TAGS")]
    tag_set: Option<String>,
    /// Time limit of loads and runs, as the server's flag; 0: none
    #[arg(long, value_name = "SECONDS", default_value_t = default_timeout_seconds())]
    model_load_timeout_seconds: u32,
}

impl VersionArguments {
    /// Tags of the meta graph.
    pub fn tags(&self) -> Vec<String> {
        tags(self.tag_set.as_deref())
    }

    /// The time limit.
    pub fn timeout(&self) -> Option<Duration> {
        let timeout = Duration::from_secs(self.model_load_timeout_seconds.into());
        Some(timeout).filter(|timeout| !timeout.is_zero())
    }
}

/// The arguments of `show`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(rename_all = "snake_case")]
pub struct ShowArguments {
    /// The version directory.
    #[command(flatten)]
    pub version: VersionArguments,
    /// Show every signature
    #[arg(long, conflicts_with = "signature_def")]
    all: bool,
    /// Show only this signature
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    signature_def: Option<String>,
}

impl ShowArguments {
    /// How much of the directory to show.
    pub fn shown(&self) -> Shown {
        match &self.signature_def {
            _ if self.all => Shown::All,
            Some(signature) => Shown::Signature(signature.clone()),
            None if self.version.tag_set.is_some() => Shown::SignatureNames,
            None => Shown::TagSets,
        }
    }
}

/// The arguments of `check`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(rename_all = "snake_case")]
pub struct CheckArguments {
    /// The version directory.
    #[command(flatten)]
    pub version: VersionArguments,
    /// The backend that runs the graphs, as the server's flag: auto, onnxruntime, tract
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = backend)]
    pub backend: BackendChoice,
    /// The ONNX Runtime shared library, as the server's flag
    #[arg(long, value_name = "FILE")]
    pub onnxruntime_library: Option<PathBuf>,
    /// Accept a SavedModel of which only some signatures can be imported, as the server's flag
    #[arg(long)]
    pub saved_model_partial: bool,
}

/// The arguments of `import`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(rename_all = "snake_case")]
pub struct ImportArguments {
    /// A version directory, its saved_model.pb, or a base path, whose versions are all imported
    #[arg(value_name = "DIR")]
    pub path: PathBuf,
    /// The version directory to write, or the base path; versions that it has already are an error
    #[arg(long, value_name = "DIR", required_unless_present = "list_ops")]
    pub output: Option<PathBuf>,
    /// Only list the TensorFlow operators that each signature needs; those that are not supported are marked
    #[arg(long, alias = "list-ops", conflicts_with = "output")]
    list_ops: bool,
    /// Tags of the meta graph, comma-separated; without it: serve
    #[arg(long, value_name = "TAGS", alias = "saved_model_tags")]
    tag_set: Option<String>,
    /// Another alias for an input or output: OLD=NEW, input:OLD=NEW or SIGNATURE:OLD=NEW; repeatable
    #[arg(long, value_name = "OLD=NEW")]
    pub rename: Vec<String>,
    /// Leave out the signatures that cannot be imported, as the server's flag
    #[arg(long)]
    pub saved_model_partial: bool,
}

impl ImportArguments {
    /// Tags of the meta graph.
    pub fn tags(&self) -> Vec<String> {
        tags(self.tag_set.as_deref())
    }
}

/// The arguments of `run`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(rename_all = "snake_case")]
pub struct RunArguments {
    /// The version directory.
    #[command(flatten)]
    pub version: VersionArguments,
    /// The signature to run
    #[arg(long, value_name = "NAME", default_value = "serving_default")]
    pub signature_def: String,
    /// Files of NumPy, by input. The help is a text of its own, because brackets make links here.
    #[arg(
        long,
        help = "Values from NumPy's files: 'INPUT=FILE.npy;INPUT=FILE.npz[NAME]'",
        value_name = "FILES",
        default_value = "",
        hide_default_value = true
    )]
    pub inputs: String,
    /// Values as Python's literals or JSON: 'INPUT=[[1, 2.5]];INPUT=np.ones((1, 3))'. np.zeros, np.ones, np.full and
    /// np.array are known
    #[arg(
        long,
        value_name = "LITERALS",
        default_value = "",
        hide_default_value = true
    )]
    pub input_exprs: String,
    /// Values as tf.Example: 'INPUT=[{"age": [22.0], "name": ["a"]}]'
    #[arg(
        long,
        value_name = "EXAMPLES",
        default_value = "",
        hide_default_value = true
    )]
    pub input_examples: String,
    /// The backend that runs the graphs, as the server's flag: auto, onnxruntime, tract
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = backend)]
    pub backend: BackendChoice,
    /// The ONNX Runtime shared library, as the server's flag
    #[arg(long, value_name = "FILE")]
    pub onnxruntime_library: Option<PathBuf>,
}

/// The arguments of `example`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(rename_all = "snake_case")]
pub struct ExampleArguments {
    /// The version directory.
    #[command(flatten)]
    pub version: VersionArguments,
    /// The signature; without it serving_default, or the only one
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub signature_def: Option<String>,
}

/// Arguments that no command runs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The help that was asked for, or the error and the usage of the command.
    pub text: String,
    /// Whether the arguments are wrong.
    pub is_error: bool,
}

impl Command {
    /// Reads a process's arguments, its own name first. `None` if the first is not a command.
    ///
    /// # Errors
    ///
    /// A help text, or the error in the arguments.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Option<Result<Self, Refusal>> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        let name = arguments.get(1)?.to_str()?;
        if !Self::has_subcommand(name) {
            return None;
        }
        let parsed = CommandLine::try_parse_from(&arguments);
        Some(match parsed {
            Ok(line) => Ok(line.command),
            Err(error) => Err(Refusal {
                is_error: error.use_stderr(),
                text: match name {
                    // The argument itself could be the secret.
                    "hash_password" | "hash_token" if error.kind() != ErrorKind::DisplayHelp => {
                        format!("error: {name} takes no arguments: it reads stdin\n")
                    }
                    _ => error.render().to_string(),
                },
            }),
        })
    }
}

fn tags(tag_set: Option<&str>) -> Vec<String> {
    let tag_set = tag_set.unwrap_or(DEFAULT_TAG_SET);
    tag_set.split(',').map(str::to_owned).collect()
}

/// That of the server's flag.
fn default_timeout_seconds() -> u32 {
    u32::try_from(Flags::default().model_load_timeout_seconds).unwrap_or(0)
}

fn backend(name: &str) -> Result<BackendChoice, String> {
    BackendChoice::from_name(name)
        .ok_or_else(|| format!("expected one of {}", BackendChoice::NAMES))
}

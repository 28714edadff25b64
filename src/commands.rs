//! The program's commands other than serving: `show` and `check` examine one version directory,
//! `health` asks a running server, `hash_password` and `hash_token` make hashes for an
//! `--auth_config_file`.
//!
//! A command counts only as the first argument, where the server's flags would begin with `--`. The
//! flags are those of `saved_model_cli show`, in the form `--dir=X` or `--dir X`.
//!
//! Not here: showing and checking models (`mapper::version_dir`), the server's flags (`config`).

mod bounded;
mod health;
mod secret;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::server;
use api::access::auth;
use base::error::{Result, ServingError};
use mapper::version_dir::{self, Shown};
use runtime::{BackendChoice, BackendOptions};
use serving::inference;
use serving::lifecycle::{self, CheckReport};
use serving::servable::Servable;

/// How the commands are called.
pub const USAGE: &str = "\
usage: onnx_model_server show --dir DIR [--all]
       onnx_model_server show --dir DIR --tag_set TAGS [--signature_def NAME]
       onnx_model_server check --dir DIR [--tag_set TAGS] [--backend NAME]
                         [--onnxruntime_library FILE] [--model_load_timeout_seconds N]
       onnx_model_server hash_password < FILE
       onnx_model_server hash_token < FILE
       onnx_model_server health [SERVER'S FLAGS]

show   prints the signatures of a version directory in the layout of `saved_model_cli show`, and
       for each alias the ONNX graph's tensor and what led to it
check  loads a version directory as the server would, recorded warmup requests included, and runs
       each signature once on zeros, apart from those with an input of unknown rank
hash_password, hash_token  print what password_argon2 and token_sha256 of an --auth_config_file
       hold for the line on stdin
health asks the server that was started with these flags on this machine, without flags the first
       one among the processes, whether it is ready

  --dir DIR                   the version directory, <base path>/<version>
  --all                       everything there is to show
  --tag_set TAGS              tags of the meta graph, comma-separated; default: serve
  --signature_def NAME        only this signature
  --backend NAME              as the server's flag: auto, onnxruntime, tract
  --onnxruntime_library FILE  as the server's flag
  --model_load_timeout_seconds N  as the server's flag, the runs of a check included, for show too;
                              default: 1800, 0: no bound

The exit status is 0 if all is well, 1 if the server would not serve the directory, a signature
failed or the server is not ready, 2 for wrong arguments.
";

/// The section of the server's `--help` about the commands.
pub const SUMMARY: &str = "\
Commands, as the first argument; each has a --help of its own:
\tshow                             \tprints the signatures of a version directory
\tcheck                            \tloads a version directory as the server would and runs each signature once
\thealth                           \tasks a running server whether it is ready
\thash_password, hash_token        \tprint what an --auth_config_file holds
";

const DEFAULT_TAG_SET: &str = "serve";

/// A command to run instead of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `show`.
    Show {
        /// The version directory.
        directory: PathBuf,
        /// Tags of the meta graph.
        tags: Vec<String>,
        /// How much of it to show.
        shown: Shown,
        /// The time limit.
        timeout: Option<Duration>,
    },
    /// `check`.
    Check {
        /// The version directory.
        directory: PathBuf,
        /// Tags of the meta graph.
        tags: Vec<String>,
        /// The backend that runs the graphs.
        backend: BackendChoice,
        /// `None`: the server's search path.
        onnxruntime_library: Option<PathBuf>,
        /// The time limit.
        timeout: Option<Duration>,
    },
    /// `hash_password`.
    HashPassword,
    /// `hash_token`.
    HashToken,
    /// `health`.
    Health {
        /// The flags of the server to ask; empty: those of the first server among the processes.
        flags: Vec<OsString>,
    },
    /// `--help` of a command.
    Help,
}

/// The result of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// For stdout.
    pub text: String,
    /// Whether all is well.
    pub passed: bool,
}

impl Command {
    /// Reads a process's arguments, its own name first. `None` if the first is not a command.
    ///
    /// # Errors
    ///
    /// The error in the arguments, on one line.
    pub fn parse(
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Option<std::result::Result<Self, String>> {
        let mut arguments = arguments.into_iter().skip(1);
        let command = arguments.next()?;
        match command.to_str()? {
            name @ ("show" | "check") => {
                Some(Arguments::parse(arguments).and_then(|arguments| arguments.into_command(name)))
            }
            name @ ("hash_password" | "hash_token") => Some(match arguments.next() {
                None if name == "hash_token" => Ok(Self::HashToken),
                None => Ok(Self::HashPassword),
                Some(help) if help == "-h" || help == "--help" => Ok(Self::Help),
                // The argument itself could be the secret.
                Some(_) => Err(format!("{name} takes no arguments: it reads stdin")),
            }),
            "health" => Some(Ok(health_of(arguments.collect()))),
            _ => None,
        }
    }

    /// Runs the command. Can take as long as loading the model.
    ///
    /// # Errors
    ///
    /// Those of a load, or a timeout; for `check`, if the backend cannot be opened; for the hashes, if
    /// stdin is not one line.
    pub fn run(&self) -> Result<Report> {
        match self {
            Self::Show {
                directory,
                tags,
                shown,
                timeout,
            } => {
                let (place, tags, shown) = (directory.clone(), tags.clone(), shown.clone());
                let show = move || version_dir::show(&place, &tags, &shown);
                Ok(Report {
                    text: bounded::within(*timeout, directory, show)?,
                    passed: true,
                })
            }
            Self::Check {
                directory,
                tags,
                backend,
                onnxruntime_library,
                timeout,
            } => {
                let backend = BackendOptions {
                    choice: *backend,
                    onnxruntime_library: onnxruntime_library.clone(),
                    ..BackendOptions::default()
                };
                let (place, tags) = (directory.clone(), tags.clone());
                let check = move || check(&backend, &place, &tags);
                let report = bounded::within(*timeout, directory, check)?;
                Ok(Report {
                    text: report.text,
                    passed: report.passed,
                })
            }
            Self::HashPassword => {
                let hash = auth::hash_password(&secret::read(std::io::stdin())?)?;
                Ok(Report {
                    text: hash + "\n",
                    passed: true,
                })
            }
            Self::HashToken => {
                let hash = auth::hash_token(&secret::read(std::io::stdin())?);
                Ok(Report {
                    text: hash + "\n",
                    passed: true,
                })
            }
            Self::Health { flags } => Ok(health::run(flags)),
            Self::Help => Ok(Report {
                text: USAGE.to_owned(),
                passed: true,
            }),
        }
    }
}

fn check(backend: &BackendOptions, directory: &Path, tags: &[String]) -> Result<CheckReport> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .map_err(|error| ServingError::internal(format!("cannot start a run: {error}")))?;
    let loader = server::check_loader(backend, tags.to_vec(), runtime.handle().clone())?;
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
        tags,
        &warnings,
    ))
}

fn health_of(flags: Vec<OsString>) -> Command {
    let asks_for_help = |flag: &OsString| flag == "-h" || flag == "--help";
    if flags.iter().any(asks_for_help) {
        return Command::Help;
    }
    Command::Health { flags }
}

/// The arguments after a command's name. If a name occurs more than once, the last one counts.
#[derive(Default)]
struct Arguments {
    help: bool,
    all: bool,
    directory: Option<OsString>,
    tag_set: Option<OsString>,
    signature_def: Option<OsString>,
    backend: Option<OsString>,
    onnxruntime_library: Option<OsString>,
    timeout: Option<OsString>,
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = OsString>) -> std::result::Result<Self, String> {
        let mut parsed = Self::default();
        while let Some(argument) = arguments.next() {
            let (name, value) = split(argument);
            let slot = match name.as_str() {
                "-h" | "--help" => {
                    parsed.help = true;
                    continue;
                }
                "--all" => {
                    parsed.all = true;
                    continue;
                }
                "--dir" => &mut parsed.directory,
                "--tag_set" => &mut parsed.tag_set,
                "--signature_def" => &mut parsed.signature_def,
                "--backend" => &mut parsed.backend,
                "--onnxruntime_library" => &mut parsed.onnxruntime_library,
                bounded::FLAG => &mut parsed.timeout,
                _ => return Err(format!("unknown argument: {name}")),
            };
            let value = value.or_else(|| arguments.next());
            // A meta graph can be without tags; no other value can be empty.
            let value = value.filter(|it| !it.is_empty() || name == "--tag_set");
            *slot = Some(value.ok_or_else(|| format!("{name} needs a value"))?);
        }
        Ok(parsed)
    }

    fn into_command(self, name: &str) -> std::result::Result<Command, String> {
        if self.help {
            return Ok(Command::Help);
        }
        let directory = self.directory.ok_or("--dir is missing")?.into();
        let has_tag_set = self.tag_set.is_some();
        let tag_set = self.tag_set.unwrap_or_else(|| DEFAULT_TAG_SET.into());
        let tags = tag_set
            .to_string_lossy()
            .split(',')
            .map(str::to_owned)
            .collect();
        let timeout = match self.timeout {
            Some(seconds) => bounded::parse(&seconds.to_string_lossy())?,
            None => bounded::default_bound(),
        };
        if name == "check" {
            if self.all || self.signature_def.is_some() {
                return Err(
                    "check runs every signature: --all and --signature_def are for show".to_owned(),
                );
            }
            let backend = self.backend.unwrap_or_else(|| "auto".into());
            let backend = backend.to_string_lossy();
            let backend = BackendChoice::from_name(&backend)
                .ok_or_else(|| format!("--backend is one of {}", BackendChoice::NAMES))?;
            return Ok(Command::Check {
                directory,
                tags,
                backend,
                onnxruntime_library: self.onnxruntime_library.map(PathBuf::from),
                timeout,
            });
        }
        if self.onnxruntime_library.is_some() || self.backend.is_some() {
            return Err(
                "show runs nothing: --backend and --onnxruntime_library are for check".to_owned(),
            );
        }
        if self.all && self.signature_def.is_some() {
            return Err("--all shows every signature: leave it or --signature_def out".to_owned());
        }
        let shown = match self.signature_def {
            _ if self.all => Shown::All,
            Some(signature) => Shown::Signature(signature.to_string_lossy().into_owned()),
            None if has_tag_set => Shown::SignatureNames,
            None => Shown::TagSets,
        };
        Ok(Command::Show {
            directory,
            tags,
            shown,
            timeout,
        })
    }
}

/// `--name=value` or `--name`.
fn split(argument: OsString) -> (String, Option<OsString>) {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};

    let bytes = argument.as_bytes();
    let (name, value) = match bytes.iter().position(|&byte| byte == b'=') {
        Some(at) => (
            &bytes[..at],
            Some(OsString::from_vec(bytes[at + 1..].to_vec())),
        ),
        None => (bytes, None),
    };
    (String::from_utf8_lossy(name).into_owned(), value)
}

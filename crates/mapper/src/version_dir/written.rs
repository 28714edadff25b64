//! Writes the version directory that the server makes of an unconverted SavedModel in memory.
//!
//! Not here: the import (`imported`), new aliases (`rename`).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use prost::Message;

use super::SavedModelOptions;
use super::absent::{has_saved_model, no_onnx_file};
use super::imported::ImportedFiles;
use super::plan::{graph_file, read_map_file, read_saved_model};
use super::rename::Renames;
use super::show::check_tag_set;
use crate::signature::{MAP_FILE, SAVED_MODEL_FILE};
use base::error::{Result, ServingError};
use codec::proto_text;
use onnx::OnnxModel;
use proto::onnx_model_server::{Signature as MapSignature, SignatureMap};
use proto::tensorflow::SavedModel as SavedModelProto;
use storage::version_directory::{MAX_MESSAGE_BYTES, VersionDirectory};

/// The folders of a SavedModel whose contents are in the ONNX files afterwards.
const IMPORTED_FOLDERS: [&str; 2] = ["variables", "assets"];
/// Folders nested deeper than this are not copied.
const MAX_DEPTH: usize = 8;

/// How a version is imported.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// The meta graph, and whether all of its signatures are needed.
    pub saved_model: SavedModelOptions,
    /// New aliases: `OLD=NEW`.
    pub renames: Vec<String>,
}

/// The result of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The paths of the files in the version directory, sorted.
    pub files: Vec<String>,
    /// The signatures that are left out, with the reason.
    pub refused: Vec<String>,
    /// The number of TensorFlow operators that were translated.
    pub operators: usize,
    /// The number of nodes of all graphs.
    pub nodes: usize,
}

/// The unconverted versions that a path means: itself, or the versions of a base path, in ascending order, each
/// with its name below the base path. A path of a `saved_model.pb` means its directory.
///
/// # Errors
///
/// `NOT_FOUND` if there is none.
pub fn unconverted_versions(path: &Path) -> Result<Vec<(Option<String>, PathBuf)>> {
    if path.is_file() && path.ends_with(SAVED_MODEL_FILE) {
        let parent = path.parent().filter(|it| !it.as_os_str().is_empty());
        return Ok(vec![(None, parent.unwrap_or(Path::new(".")).to_owned())]);
    }
    let directory = VersionDirectory::open(path)?;
    if directory.has(SAVED_MODEL_FILE) {
        return Ok(vec![(None, path.to_owned())]);
    }
    let mut versions: Vec<(u64, String)> = entries(path)?
        .into_iter()
        .filter_map(|name| Some((name.parse().ok()?, name)))
        .filter(|(_, name)| path.join(name).join(SAVED_MODEL_FILE).is_file())
        .collect();
    versions.sort_unstable();
    if versions.is_empty() {
        return Err(no_onnx_file(&directory));
    }
    let versions = versions.into_iter();
    let versions = versions.map(|(_, name)| (Some(name.clone()), path.join(name)));
    Ok(versions.collect())
}

/// Imports the version in `source` and writes it as the directory `output`, which appears complete, in one step.
///
/// # Errors
///
/// Those of a load; `ALREADY_EXISTS` if `output` exists; `FAILED_PRECONDITION` if `source` has ONNX files.
pub fn import_version(source: &Path, output: &Path, options: &ImportOptions) -> Result<Written> {
    let directory = VersionDirectory::open(source)?;
    if let Some(file) = directory.onnx_files()?.first() {
        return Err(ServingError::failed_precondition(format!(
            "{} has the ONNX file {file}, which the server uses: there is nothing to import",
            source.display()
        )));
    }
    if !has_saved_model(&directory) {
        return Err(no_onnx_file(&directory));
    }
    check_tag_set(source, &options.saved_model.tags)?;
    let saved = read_saved_model(&directory, &options.saved_model.tags)?;
    let renames = Renames::find(&options.renames, &saved.signatures)?;
    let imported = ImportedFiles::read(&directory, &saved, options.saved_model.partial)?;
    let map = map_of(&directory, &imported, &renames)?;
    let refused: Vec<String> = imported.refused.iter().map(ToString::to_string).collect();
    let left_out = imported.refused.iter().map(|it| it.signature.as_str());
    let saved_model = without(&directory, &options.saved_model.tags, &left_out.collect())?;
    let statistics = imported.statistics;
    let unfinished = Unfinished::new(output)?;
    for (name, model) in imported.models {
        unfinished.write_model(&name, model)?;
    }
    unfinished.write(SAVED_MODEL_FILE, &[&saved_model])?;
    if !map.signature.is_empty() {
        unfinished.write(MAP_FILE, &[proto_text::print(&map).as_bytes()])?;
    }
    unfinished.copy_rest(&directory, Path::new(""), 0)?;
    Ok(Written {
        files: unfinished.finish(output)?,
        refused,
        operators: statistics.operators,
        nodes: statistics.nodes,
    })
}

/// The map of the written version: that of the directory, with the files and the tensors of the signatures where
/// they do not follow from the names, and with new aliases.
fn map_of(
    directory: &VersionDirectory,
    imported: &ImportedFiles,
    renames: &Renames,
) -> Result<SignatureMap> {
    let mut map = SignatureMap {
        signature: read_map_file(directory)?,
    };
    let files: Vec<String> = imported.models.keys().cloned().collect();
    for (name, file) in &imported.files {
        let mut made = imported.maps.get(name).cloned().unwrap_or_default();
        made.name.clone_from(name);
        renames.enter(&mut made);
        if graph_file(name, &files).as_ref() != Some(file) {
            made.graph.clone_from(file);
        }
        let is_empty = made.input.is_empty() && made.output.is_empty() && made.graph.is_empty();
        match map.signature.iter_mut().find(|it| it.name == *name) {
            _ if is_empty => {}
            None => map.signature.push(made),
            Some(own) => merge(own, made, renames.concern(name), directory)?,
        }
    }
    Ok(map)
}

/// Adds to a signature of the directory's own map.
fn merge(
    own: &mut MapSignature,
    made: MapSignature,
    is_renamed: bool,
    directory: &VersionDirectory,
) -> Result<()> {
    if !made.input.is_empty() || !made.output.is_empty() {
        let reason = match is_renamed {
            true => "rename there instead",
            false => "an input and an output have one name, which needs a map of its own",
        };
        return Err(ServingError::failed_precondition(format!(
            "{}: signature '{}' is in the directory's {MAP_FILE}: {reason}",
            directory.path().display(),
            own.name
        )));
    }
    if own.graph.is_empty() {
        own.graph = made.graph;
    }
    Ok(())
}

/// The contents of `saved_model.pb`, without these signatures.
fn without(
    directory: &VersionDirectory,
    tags: &[String],
    signatures: &BTreeSet<&str>,
) -> Result<Vec<u8>> {
    let contents = directory.read(SAVED_MODEL_FILE, MAX_MESSAGE_BYTES)?;
    if signatures.is_empty() {
        return Ok(contents.to_vec());
    }
    let mut saved = SavedModelProto::decode(contents).map_err(|error| {
        let path = directory.path().join(SAVED_MODEL_FILE);
        ServingError::invalid_argument(format!("{} is damaged: {error}", path.display()))
    })?;
    let wanted: BTreeSet<&str> = tags.iter().map(String::as_str).collect();
    for graph in &mut saved.meta_graphs {
        let found = graph.meta_info_def.iter().flat_map(|it| &it.tags);
        if found.map(String::as_str).collect::<BTreeSet<_>>() == wanted {
            graph
                .signature_def
                .retain(|name, _| !signatures.contains(name.as_str()));
        }
    }
    Ok(saved.encode_to_vec())
}

/// A version directory under a hidden name, which is removed unless it is finished.
struct Unfinished {
    path: PathBuf,
}

impl Unfinished {
    fn new(output: &Path) -> Result<Self> {
        if output.symlink_metadata().is_ok() {
            let text = format!("{} exists already", output.display());
            return Err(ServingError::new(base::error::Code::AlreadyExists, text));
        }
        let name = output.file_name().ok_or_else(|| {
            ServingError::invalid_argument(format!(
                "{} is not the name of a directory",
                output.display()
            ))
        })?;
        let hidden = format!(".{}.{}.new", name.to_string_lossy(), std::process::id());
        let path = output.with_file_name(hidden);
        fs::create_dir_all(&path).map_err(|error| cannot_write(&path, error))?;
        Ok(Self { path })
    }

    fn write(&self, name: &str, parts: &[&[u8]]) -> Result<()> {
        let path = self.path.join(name);
        let write = || {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            let mut file = File::create(&path)?;
            parts.iter().try_for_each(|part| file.write_all(part))
        };
        write().map_err(|error| cannot_write(&path, error))
    }

    fn write_model(&self, name: &str, model: OnnxModel) -> Result<()> {
        let weights_file = format!("{name}.data");
        let stored = model.into_files(&weights_file);
        self.write(name, &[&stored.model])?;
        if stored.weights.is_empty() {
            return Ok(());
        }
        let parts: Vec<&[u8]> = stored.weights.iter().map(|it| &it[..]).collect();
        self.write(&weights_file, &parts)
    }

    /// Copies the files that an import does not replace: warmup requests, labels, batching parameters.
    fn copy_rest(&self, directory: &VersionDirectory, folder: &Path, depth: usize) -> Result<()> {
        for name in entries(&directory.path().join(folder))? {
            let path = folder.join(&name);
            let is_top = depth == 0;
            let is_replaced = is_top
                && (IMPORTED_FOLDERS.contains(&name.as_str())
                    || [SAVED_MODEL_FILE, MAP_FILE].contains(&name.as_str()));
            if is_replaced || name.starts_with('.') || depth > MAX_DEPTH {
                continue;
            }
            if directory.path().join(&path).is_dir() {
                self.copy_rest(directory, &path, depth + 1)?;
            } else if let Some((mut file, _)) = directory.open_file(&path.to_string_lossy())? {
                self.write(&path.to_string_lossy(), &[])?;
                let target = self.path.join(&path);
                let mut copy = || {
                    let mut written = File::options().append(true).open(&target)?;
                    io::copy(&mut file, &mut written).map(drop)
                };
                copy().map_err(|error| cannot_write(&target, error))?;
            }
        }
        Ok(())
    }

    /// Gives the directory its name. Returns the paths of its files, sorted.
    fn finish(self, output: &Path) -> Result<Vec<String>> {
        let mut files = Vec::new();
        list(&self.path, Path::new(""), &mut files)?;
        files.sort_unstable();
        fs::rename(&self.path, output).map_err(|error| cannot_write(output, error))?;
        Ok(files)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After `finish` it does not exist.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn list(root: &Path, folder: &Path, files: &mut Vec<String>) -> Result<()> {
    for name in entries(&root.join(folder))? {
        let path = folder.join(&name);
        match root.join(&path).is_dir() {
            true => list(root, &path, files)?,
            false => files.push(path.to_string_lossy().into_owned()),
        }
    }
    Ok(())
}

/// The names in a folder, sorted.
fn entries(folder: &Path) -> Result<Vec<String>> {
    let read = || -> io::Result<Vec<String>> {
        let names = fs::read_dir(folder)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    };
    let mut names = read().map_err(|error| {
        ServingError::not_found(format!("{} cannot be listed: {error}", folder.display()))
    })?;
    names.sort_unstable();
    Ok(names)
}

fn cannot_write(path: &Path, error: io::Error) -> ServingError {
    let text = format!("{} cannot be written: {error}", path.display());
    ServingError::failed_precondition(text).caused_by(error)
}

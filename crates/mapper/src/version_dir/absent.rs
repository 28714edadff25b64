//! Errors for a directory without an ONNX model: they name its contents, and how to get to a model.
//!
//! Not here: the formats (`foreign`).

use std::fs::{self, DirEntry, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::signature::SAVED_MODEL_FILE;
use base::error::{Result, ServingError};
use storage::foreign::{
    Foreign, MAX_HEAD, MAX_TAIL, Sample, is_unfinished_onnx, of_contents, of_name,
};
use storage::version_directory::VersionDirectory;

/// Maximum number of entries of a directory to look at.
const MAX_ENTRIES: usize = 10_000;
/// Maximum number of files to open.
const MAX_OPENED: usize = 32;
/// Maximum number of versions to name.
const MAX_NAMED: usize = 10;
/// The folders of a SavedModel.
const SAVED_MODEL_FOLDERS: [&str; 3] = ["variables", "assets", "assets.extra"];

/// Whether the directory has a `saved_model.pb` that is not, by accident, a file of another format.
pub(super) fn has_saved_model(directory: &VersionDirectory) -> bool {
    directory.has(SAVED_MODEL_FILE) && not_saved_model(directory).is_none()
}

/// The other format of a file that is called `saved_model.pb`.
fn not_saved_model(directory: &VersionDirectory) -> Option<Foreign> {
    sniffed(directory, SAVED_MODEL_FILE)
        .filter(|it| *it != Foreign::SavedModel)
        .map(begins_as_onnx)
}

/// `NOT_FOUND`: the directory has neither an `*.onnx` file nor a SavedModel.
pub(super) fn no_onnx_file(directory: &VersionDirectory) -> ServingError {
    let path = directory.path().display();
    let by_accident = not_saved_model(directory);
    let absent = format!("no ONNX model (*.onnx) in {path}");
    let found = match by_accident {
        Some(foreign) => Some(format!("{SAVED_MODEL_FILE} is {foreign}")),
        None => found_instead(directory),
    };
    ServingError::not_found(match found {
        Some(found) => format!("{absent}: {found}"),
        None => absent,
    })
}

/// Explains a base path without versions, in sentences. It looks only at names because every poll calls it.
pub fn base_path_hint(base_path: &Path, names: &[String]) -> Option<String> {
    let names = &names[..names.len().min(MAX_ENTRIES)];
    let first = base_path.join("1");
    let first = first.display();
    let is_saved_model = |name: &&String| of_name(name) == Some(Foreign::SavedModel);
    if let Some(name) = names.iter().find(is_saved_model) {
        return Some(format!(
            "The base path is itself a TensorFlow SavedModel: it holds {name}. Move its files into a \
             version directory, {first}."
        ));
    }
    let mut names: Vec<&String> = names.iter().filter(|it| !it.starts_with('.')).collect();
    names.sort();
    if let Some(name) = names.iter().find(|name| name.ends_with(".onnx")) {
        return Some(format!(
            "The base path holds {name} itself. Move it into a version directory: {first}/{name}."
        ));
    }
    let like_version = |name: &&String| Some(((*name).clone(), number_in(name)?));
    if let Some((name, number)) = names.iter().find_map(like_version) {
        return Some(format!(
            "The base path holds {name}. The name of a version directory is a whole number: rename it \
             to {}.",
            base_path.join(number).display()
        ));
    }
    let foreign = |name: &&&String| of_name(name).filter(|it| *it != Foreign::Xml);
    let name = names.iter().find(|name| foreign(name).is_some())?;
    let foreign = foreign(&name)?;
    Some(format!(
        "The base path holds {name}, by its name {foreign}. The ONNX model belongs into a version \
         directory: {first}/model.onnx."
    ))
}

/// The whole number for a folder whose name resembles a version: `v1`, `1.0`, `version-3`, `2024-01-31`;
/// `None` for other names, and for whole numbers.
fn number_in(name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    let mut prefixes = ["version", "ver", "v", "rev"].iter();
    let rest = prefixes.find_map(|it| lower.strip_prefix(it));
    let has_prefix = rest.is_some();
    let is_separator = |c: char| matches!(c, '.' | '-' | '_' | ' ');
    let rest = rest.unwrap_or(&lower).trim_start_matches(is_separator);
    let parts: Vec<&str> = rest.split(is_separator).collect();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|it| it.is_ascii_digit());
    if !parts.iter().all(is_number) || (parts.len() == 1 && !has_prefix) {
        return None;
    }
    // A date is one number.
    let number = match parts.first()?.len() >= 4 {
        true => parts.concat(),
        false => (*parts.first()?).to_owned(),
    };
    let number: i64 = number.parse().ok()?;
    Some(number.to_string())
}

/// The error for a file that cannot be parsed as an ONNX model: it names the format if that is recognised,
/// and otherwise gives the parser's reason.
pub(super) fn not_a_model(origin: &str, contents: &[u8], error: ServingError) -> ServingError {
    let text = error.to_string();
    let is_cut_off = || CUT_OFF.iter().any(|it| text.contains(it));
    match of_contents(&Sample::of(contents)) {
        Some(Foreign::CutOff) if !is_cut_off() => error,
        Some(foreign) if text.contains("is not an ONNX model") => {
            ServingError::invalid_argument(format!("{origin} is not an ONNX model but {foreign}"))
        }
        _ => error,
    }
}

/// The error for a `saved_model.pb` next to an ONNX model: it names the format if the file is something
/// else, and otherwise gives the reason that it cannot be used.
pub(super) fn not_a_saved_model(
    origin: &Path,
    contents: &[u8],
    error: ServingError,
) -> ServingError {
    let text = match of_contents(&Sample::of(contents)).map(begins_as_onnx) {
        Some(foreign) if foreign.stands_in() => foreign.to_string(),
        // For a broken file, TensorFlow Serving's text is enough.
        None
        | Some(
            Foreign::SavedModel
            | Foreign::SavedModelText
            | Foreign::Zeros
            | Foreign::Archive
            | Foreign::Text
            | Foreign::Json
            | Foreign::Xml,
        ) => return error,
        Some(foreign) => format!(
            "{}. Remove it, or put the {SAVED_MODEL_FILE} that the ONNX model was made from in its place",
            foreign.noun()
        ),
    };
    let text = format!("{} is not a SavedModel but {text}", origin.display());
    error.with_text(text)
}

/// A file that begins like an ONNX model is one, under any name.
fn begins_as_onnx(foreign: Foreign) -> Foreign {
    match foreign {
        Foreign::CutOff => Foreign::OnnxOtherName,
        foreign => foreign,
    }
}

/// The error for a file of a version whose records cannot be read, with the file's format if that is
/// recognised.
pub fn not_records(directory: &VersionDirectory, name: &str, error: ServingError) -> ServingError {
    match sniffed(directory, name) {
        Some(foreign) if foreign.stands_in() && foreign != Foreign::Empty => {
            let text = format!("{error} {name} is {foreign}");
            error.with_text(text)
        }
        _ => error,
    }
}

/// Refuses a weights file with the contents of another format. Weights have no format of their own, so this
/// only recognises a file that is text from its first byte.
///
/// # Errors
///
/// `INVALID_ARGUMENT`, naming the format.
pub(super) fn check_weights(origin: &Path, contents: &[u8]) -> Result<()> {
    match of_contents(&Sample::of(contents)) {
        Some(foreign) if foreign.stands_in() && foreign != Foreign::Empty => {
            Err(ServingError::invalid_argument(format!(
                "{} is not the model's weights but {foreign}",
                origin.display()
            )))
        }
        _ => Ok(()),
    }
}

/// The protobuf library's errors for a truncated message.
const CUT_OFF: [&str; 3] = [
    "buffer underflow",
    "delimited length exceeded",
    "end of stream",
];

/// The names of the versions under a directory that is a base path, in ascending order.
fn versions(entries: &[DirEntry]) -> Vec<String> {
    let mut versions: Vec<(u64, String)> = entries
        .iter()
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some((name.parse().ok()?, name))
        })
        .collect();
    versions.sort();
    versions.into_iter().map(|(_, name)| name).collect()
}

fn found_instead(directory: &VersionDirectory) -> Option<String> {
    let entries = fs::read_dir(directory.path()).ok()?;
    let mut entries: Vec<DirEntry> = entries.flatten().take(MAX_ENTRIES).collect();
    entries.sort_by_key(DirEntry::file_name);
    if let Some(versions) = versions_text(directory.path(), &versions(&entries)) {
        return Some(versions);
    }
    let is_visible = |name: &String| !name.starts_with('.');
    let names = entries.iter().map(DirEntry::file_name);
    let names = names.filter_map(|name| name.into_string().ok());
    let names: Vec<String> = names.filter(is_visible).collect();
    foreign_file(directory, &names)
        .map(|(name, foreign)| format!("{name} is {foreign}"))
        .or_else(|| deeper(directory.path(), &names))
}

/// A file of a known format. Files whose name suggests a format come first, and their contents refine it.
/// Without such files, the contents alone decide. Models are preferred to weights.
fn foreign_file<'a>(
    directory: &VersionDirectory,
    names: &'a [String],
) -> Option<(&'a str, Foreign)> {
    let named = names.iter().filter_map(|name| Some((name, of_name(name)?)));
    let named = named.take(MAX_OPENED).map(|(name, by_name)| {
        let foreign = match sniffed(directory, name) {
            Some(by_contents) => by_name.or_by_contents(by_contents),
            None => by_name,
        };
        (name.as_str(), foreign)
    });
    let named = named.min_by_key(|(name, foreign)| rank(name, *foreign));
    named.or_else(|| {
        names.iter().take(MAX_OPENED).find_map(|name| {
            let foreign = match begins_as_onnx(sniffed(directory, name)?) {
                // Labels, maps and notes.
                Foreign::Text | Foreign::Json | Foreign::Xml | Foreign::Empty => return None,
                foreign => foreign,
            };
            Some((name.as_str(), foreign))
        })
    })
}

/// How informative each of several files is; the smallest rank wins.
fn rank(name: &str, foreign: Foreign) -> u8 {
    match foreign {
        Foreign::Unfinished if is_unfinished_onnx(name) => 0,
        Foreign::Unfinished => 2,
        _ if foreign.is_weights() => 3,
        _ => 1,
    }
}

/// The format that the contents of a file suggest; `None` if it is not a regular file or the format is not
/// recognised.
fn sniffed(directory: &VersionDirectory, name: &str) -> Option<Foreign> {
    let (file, size) = directory.open_file(name).ok()??;
    let head = part(&file, 0, MAX_HEAD)?;
    let tail = part(&file, size.saturating_sub(MAX_TAIL as u64), MAX_TAIL)?;
    of_contents(&Sample {
        head: &head,
        tail: &tail,
        size,
    })
}

fn part(mut file: &File, start: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(start)).ok()?;
    file.take(length as u64).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn versions_text(path: &Path, versions: &[String]) -> Option<String> {
    let last = versions.last()?;
    let mut named: Vec<&str> = versions.iter().map(String::as_str).collect();
    let more = named.len().saturating_sub(MAX_NAMED);
    named.drain(..more);
    let others = match more {
        0 => String::new(),
        _ => format!(" and {more} lower ones"),
    };
    Some(format!(
        "it is a base path with the versions {}{others}. Name one of them: {}",
        named.join(", "),
        path.join(last).display()
    ))
}

/// Finds a model that is one folder too deep.
fn deeper(path: &Path, names: &[String]) -> Option<String> {
    let mut folders = names.iter().filter(|name| {
        let found = path.join(name).symlink_metadata();
        !SAVED_MODEL_FOLDERS.contains(&name.as_str()) && found.is_ok_and(|it| it.is_dir())
    });
    folders.find_map(|folder| {
        let entries = fs::read_dir(path.join(folder)).ok()?;
        let entries = entries.flatten().take(MAX_ENTRIES);
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.ends_with(".onnx") || name == SAVED_MODEL_FILE)
            .collect();
        names.sort();
        let name = names.first()?;
        if let Some(number) = number_in(folder) {
            let version = path.join(number);
            return Some(format!(
                "it is a base path that holds {folder}/{name}. The name of a version directory is a whole \
                 number: rename {folder}, and name that directory here: {}",
                version.display()
            ));
        }
        Some(format!(
            "{folder}/{name} lies a folder too deep. Move the contents of {folder} up, into {}",
            path.display()
        ))
    })
}

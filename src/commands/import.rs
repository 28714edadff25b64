//! The command `import`: writes the version directories that the server makes of SavedModels in memory, or
//! lists the operators that they need.
//!
//! Not here: the import itself (`mapper::version_dir`).

use std::io::Write;
use std::path::Path;

use super::Report;
use super::arguments::ImportArguments;
use base::error::Result;
use mapper::version_dir::{
    ImportOptions, SavedModelOptions, Written, import_version, needed_operators,
    unconverted_versions,
};

/// Runs the command. Each version gets a line on stdout when it is done.
pub(super) fn run(arguments: &ImportArguments) -> Result<Report> {
    match &arguments.output {
        Some(output) => import(arguments, output),
        None => list_operators(arguments),
    }
}

fn import(arguments: &ImportArguments, output: &Path) -> Result<Report> {
    let options = ImportOptions {
        saved_model: SavedModelOptions {
            tags: arguments.tags(),
            partial: arguments.saved_model_partial,
        },
        renames: arguments.rename.clone(),
    };
    let mut passed = true;
    for (name, source) in unconverted_versions(&arguments.path)? {
        let target = name.map_or_else(|| output.to_owned(), |it| output.join(it));
        let line = match import_version(&source, &target, &options) {
            Ok(written) => described(&source, &target, &written),
            Err(error) => {
                passed = false;
                format!("FAIL {}: {}: {error}", source.display(), error.code())
            }
        };
        print(&line);
    }
    Ok(Report {
        text: String::new(),
        passed,
    })
}

fn described(source: &Path, target: &Path, written: &Written) -> String {
    let mut text = format!(
        "ok   {}: {} operators became {} nodes; wrote {} into {}",
        source.display(),
        written.operators,
        written.nodes,
        written.files.join(", "),
        target.display()
    );
    for refused in &written.refused {
        text += &format!("\nwarn left out: {refused}");
    }
    text
}

/// A line on stdout, now: an import of many versions takes a while. A reader that is gone is not a failure.
fn print(line: &str) {
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "{line}");
    let _ = stdout.flush();
}

fn list_operators(arguments: &ImportArguments) -> Result<Report> {
    let mut report = Report {
        text: String::new(),
        passed: true,
    };
    for (name, source) in unconverted_versions(&arguments.path)? {
        if let Some(name) = name {
            report.text += &format!("version {name}:\n");
        }
        match needed_operators(&source, &arguments.tags())? {
            Some(needed) => {
                report.text += &needed.text();
                report.passed &= needed.is_complete();
            }
            None => report.text += "has ONNX files, which the server uses\n",
        }
    }
    Ok(report)
}

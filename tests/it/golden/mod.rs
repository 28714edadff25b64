//! Replays recorded answers of the real TensorFlow Serving (`tests/data/golden`).
//!
//! This is done twice: with the models in the repository, and with the recordings' own models if those
//! are next to the clone. Models that take examples are played once more each time, with graphs without
//! the parsing and with signature maps that describe it instead. A table of groups goes to stderr, so
//! that it also shows in a run without failures.

mod case;
mod compare;
mod imported;
mod lists;
mod play;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

pub(crate) use self::compare::code_name;
use self::lists::{LEFT_OUT, Listed, NOT_YET};
use self::play::Played;
use crate::support::material;

/// The groups whose requests are examples.
const EXAMPLES: &[&str] = &[
    "grpc_classify",
    "grpc_regress",
    "grpc_multi_inference",
    "rest_classify",
    "rest_regress",
];

#[tokio::test(flavor = "multi_thread")]
async fn recorded_answers_with_models_in_the_repository() {
    let folder = material::data().join("golden");
    let played = play::play_all(&folder, &folder.join("models")).await;
    let report = Report::new(&played, NOT_YET, LEFT_OUT);
    report.print("models in the repository");
    report.judge();
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_answers_with_the_recordings_own_models() {
    let Some(folder) = material::shared("golden") else {
        print("golden: the recordings' own models are not next to this clone; nothing played\n");
        return;
    };
    let played = play::play_all(&folder, &folder.join("models")).await;
    let report = Report::new(&played, NOT_YET, &[]);
    report.print("the recordings' own models");
    report.judge();
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_answers_with_a_cut_model_in_the_repository() {
    let folder = material::data().join("golden");
    // The others need no cutting (`make_stand_ins.py`).
    let played = play::play_cut(&folder, &folder.join("models"), EXAMPLES, &["ex"]).await;
    let report = Report::new(&played, NOT_YET, LEFT_OUT);
    report.print("a cut model in the repository");
    report.judge();
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_answers_with_the_recordings_own_cut_models() {
    let Some(folder) = material::shared("golden") else {
        print("golden: the recordings' own models are not next to this clone; nothing played\n");
        return;
    };
    let cut = [
        "ex",
        "half_plus_two",
        "half_plus_two_tf2",
        "half_plus_three",
    ];
    let played = play::play_cut(&folder, &folder.join("models"), EXAMPLES, &cut).await;
    let report = Report::new(&played, NOT_YET, &[]);
    report.print("the recordings' own cut models");
    report.judge();
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_answers_of_the_second_round() {
    let folder = material::data().join("golden2");
    let played = play::play_all(&folder, &folder.join("models")).await;
    let report = Report::new(&played, &[], &[]);
    report.print("the second round");
    report.judge();
}

// The copies in the repository equal the recordings.
#[test]
fn recordings_in_the_repository_are_the_recorded_ones() {
    for round in ["golden", "golden2"] {
        let Some(recorded) = material::shared(round) else {
            continue;
        };
        let copied = material::data().join(round);
        for file in ["rest.jsonl", "grpc.jsonl", "reload.jsonl", "setups.json"] {
            let read = |folder: &Path| std::fs::read(folder.join(file)).ok();
            assert!(read(&recorded) == read(&copied), "{round}/{file} differs");
        }
    }
}

/// How a replay went, by group.
struct Report<'a> {
    groups: BTreeMap<&'a str, Counts>,
    /// Cases that failed and are not on a list.
    failures: Vec<String>,
    /// Entries of the list of expected failures that no longer fail.
    stale: Vec<&'a str>,
}

#[derive(Default)]
struct Counts {
    total: usize,
    passed: usize,
    not_yet: usize,
    left_out: usize,
}

impl<'a> Report<'a> {
    fn new(played: &'a [Played], not_yet: &'a [Listed], left_out: &[Listed]) -> Self {
        let mut groups: BTreeMap<&str, Counts> = BTreeMap::new();
        let mut failures = Vec::new();
        // Per entry: whether it covers any case, and whether one of those failed.
        let mut used = vec![(false, false); not_yet.len()];
        for case in played {
            let covers = |listed: &Listed| listed.0 == case.id || listed.0 == case.group;
            let counts = groups.entry(&case.group).or_default();
            counts.total += 1;
            if left_out.iter().any(covers) {
                counts.left_out += 1;
                continue;
            }
            let entry = not_yet.iter().position(covers);
            if let Some(entry) = entry {
                used[entry].0 = true;
                used[entry].1 |= case.result.is_err();
            }
            match (&case.result, entry) {
                (Ok(()), _) => counts.passed += 1,
                (Err(_), Some(_)) => counts.not_yet += 1,
                (Err(error), None) => failures.push(format!("{}: {error}", case.id)),
            }
        }
        let entries = not_yet.iter().zip(used);
        let stale = entries.filter(|(_, (covers, failed))| *covers && !failed);
        Self {
            groups,
            failures,
            stale: stale.map(|(listed, _)| listed.0).collect(),
        }
    }

    fn print(&self, title: &str) {
        let mut text = format!("golden, {title}: passed/total\n");
        let mut all = Counts::default();
        for (group, counts) in &self.groups {
            counts.write(&mut text, group);
            all.total += counts.total;
            all.passed += counts.passed;
            all.not_yet += counts.not_yet;
            all.left_out += counts.left_out;
        }
        all.write(&mut text, "all");
        print(&text);
    }

    fn judge(&self) {
        assert!(
            self.failures.is_empty(),
            "{} recorded answers are not given:\n{}",
            self.failures.len(),
            self.failures.join("\n")
        );
        let stale = &self.stale;
        assert!(
            stale.is_empty(),
            "these pass: remove them from the list NOT_YET: {stale:?}"
        );
    }
}

impl Counts {
    fn write(&self, text: &mut String, name: &str) {
        let (passed, total) = (self.passed, self.total);
        write!(text, "  {name:24} {passed:4}/{total}").expect("writing to a string");
        for (count, what) in [(self.not_yet, "not yet"), (self.left_out, "left out")] {
            if count > 0 {
                write!(text, "  {what} {count}").expect("writing to a string");
            }
        }
        text.push('\n');
    }
}

/// Writes to stderr, past the test runner's capture.
pub(crate) fn print(text: &str) {
    // A closed stderr should not fail the test.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// The files of recordings in `folder`. Only the first round has sequences.
fn recordings(folder: &Path) -> Vec<PathBuf> {
    let files = ["rest.jsonl", "grpc.jsonl", "reload.jsonl"].map(|file| folder.join(file));
    files.into_iter().filter(|file| file.is_file()).collect()
}

//! The table of figures, and the same as JSON.
//!
//! A figure is printed as soon as it is known. A figure that could not be measured is a row too, with
//! the reason.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::Result;
use crate::stats::Summary;

/// The limit of a figure. For a figure with a ratio it applies to the ratio's median.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!(">= {least}"),
            Self::AtMost(most) => format!("<= {most}"),
        }
    }
}

/// One row.
pub(crate) struct Figure {
    name: String,
    unit: &'static str,
    ours: Option<Summary>,
    against: Option<(String, Summary)>,
    ratio: Option<Summary>,
    bound: Option<Bound>,
    /// Further facts: the tool that measured it, CPU time, a peer's figure.
    notes: Map<String, Value>,
}

impl Figure {
    /// A figure of the server, in the unit that it is printed in.
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, ours: &[f64]) -> Self {
        Self {
            name: name.into(),
            unit,
            ours: Some(Summary::of(ours)),
            against: None,
            ratio: None,
            bound: None,
            notes: Map::new(),
        }
    }

    /// A figure that could not be measured.
    pub(crate) fn missing(name: impl Into<String>, reason: impl ToString) -> Self {
        let mut missing = Self::new(name, "", &[]);
        missing.ours = None;
        missing.with_note("not measured", reason.to_string())
    }

    /// The same quantity for the floor, and the ratio of each round.
    pub(crate) fn against(mut self, what: &str, theirs: &[f64], ratios: &[f64]) -> Self {
        self.against = Some((what.to_owned(), Summary::of(theirs)));
        self.ratio = Some(Summary::of(ratios));
        self
    }

    pub(crate) fn must_be(mut self, bound: Bound) -> Self {
        self.bound = Some(bound);
        self
    }

    pub(crate) fn with_note(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.notes.insert(key.to_owned(), value.into());
        self
    }

    fn verdict(&self) -> &'static str {
        let judged = self.ratio.or(self.ours).map(|it| it.median);
        match (self.bound, judged) {
            (None, Some(_)) => "",
            (_, None) => "NOT MEASURED",
            (Some(bound), Some(value)) if bound.holds(value) => "pass",
            (Some(_), Some(_)) => "FAIL",
        }
    }

    fn line(&self) -> String {
        let ours = self.ours.map_or(String::new(), |it| {
            format!("{} {}", short(it.median), self.unit)
        });
        let (what, theirs) = match &self.against {
            Some((what, theirs)) => (what.as_str(), short(theirs.median)),
            None => ("", String::new()),
        };
        let spread = self.ratio.or(self.ours).map_or(String::new(), |it| {
            let text = [it.min, it.median, it.max].map(short).join(" / ");
            if self.ratio.is_some() {
                format!("x {text}")
            } else {
                text
            }
        });
        let bound = self.bound.map_or(String::new(), Bound::text);
        let notes: Vec<String> = self
            .notes
            .iter()
            .map(|(key, value)| match value {
                Value::String(text) => format!("{key}: {text}"),
                Value::Number(number) => {
                    format!("{key}: {}", short(number.as_f64().unwrap_or(f64::NAN)))
                }
                other => format!("{key}: {other}"),
            })
            .collect();
        format!(
            "{:46} {:>15}  {:>18} {:>8}  {:>24}  {:>8} {:5} {}",
            self.name,
            ours,
            what,
            theirs,
            spread,
            bound,
            self.verdict(),
            notes.join("; ")
        )
    }

    fn json(&self) -> Value {
        let summary = |it: Summary| json!({ "min": it.min, "median": it.median, "max": it.max });
        json!({
            "figure": self.name,
            "unit": self.unit,
            "ours": self.ours.map(summary),
            "against": self.against.as_ref().map(|(what, theirs)| {
                json!({ "what": what, "value": summary(*theirs) })
            }),
            "ratio": self.ratio.map(summary),
            "must_be": self.bound.map(Bound::text),
            "verdict": self.verdict(),
            "notes": self.notes,
        })
    }
}

/// Three or more significant digits.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 10_000.0 => format!("{:.1}k", value / 1000.0),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// All figures of one run.
#[derive(Default)]
pub(crate) struct Report {
    figures: Vec<Figure>,
}

impl Report {
    /// Prints the head of the table.
    pub(crate) fn begin() -> Self {
        println!(
            "{:46} {:>15}  {:>18} {:>8}  {:>24}  {:>8}",
            "figure", "ours (median)", "against", "(median)", "min / median / max", "must be"
        );
        Self::default()
    }

    /// Adds a row and prints it.
    pub(crate) fn add(&mut self, figure: Figure) {
        println!("{}", figure.line());
        self.figures.push(figure);
    }

    /// Writes the report and prints which limits did not hold. `facts` describe the run.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub(crate) fn finish(self, path: &Path, facts: Value) -> Result<()> {
        let with = |verdict: &str| {
            let figures = self.figures.iter();
            figures.filter(|it| it.verdict() == verdict).count()
        };
        let (passed, failed, missing) = (with("pass"), with("FAIL"), with("NOT MEASURED"));
        println!("{passed} hold, {failed} do not, {missing} not measured");
        for figure in &self.figures {
            if figure.verdict() == "FAIL" || figure.verdict() == "NOT MEASURED" {
                println!("{}", figure.line());
            }
        }
        let figures: Vec<Value> = self.figures.iter().map(Figure::json).collect();
        let report = json!({ "run": facts, "figures": figures });
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, serde_json::to_string_pretty(&report)?)?;
        println!("{}", path.display());
        Ok(())
    }
}

//! A model of fixed sizes through the server's loader and graph, compared with its original file.

use super::Bench;
use crate::Result;
use crate::floors::mapper::measure;
use crate::models::repository;
use crate::report::Bound::AtMost;
use crate::report::Figure;
use crate::stats::ratios;

const PAIRS: usize = 40;

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    let version = repository().join("tests/data/zoo/torch_resnet/1");
    let (ours, theirs) = measure(&version, PAIRS)?;
    let ratio = ratios(&ours, &theirs);
    let (low, high) = median_interval(&ratio);
    bench.report.add(
        Figure::new("torch_resnet through loader and graph", "µs", &ours)
            .against("untouched file", &theirs, &ratio)
            .must_be(AtMost(1.02))
            .with_note("pairs", PAIRS)
            .with_note(
                "95 % interval of the median",
                format!("{low:.3} to {high:.3}"),
            ),
    );
    Ok(())
}

/// The order statistics that contain the median with 95 % (normal approximation of the binomial).
fn median_interval(values: &[f64]) -> (f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() as f64 / 2.0;
    let reach = 1.96 * (sorted.len() as f64).sqrt() / 2.0;
    let low = (middle - reach).floor().max(0.0) as usize;
    let high = ((middle + reach).ceil() as usize).min(sorted.len() - 1);
    (sorted[low], sorted[high])
}

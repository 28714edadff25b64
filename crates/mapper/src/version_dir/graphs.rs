//! Decides which graphs a version needs. Signatures with the same graph, or with graphs that differ only in
//! their heads, share one; the other graphs of a file share their weights.
//!
//! Not here: loading a graph (`version_dir`), the second graph for other ranks (`ranked`).

use std::collections::{HashMap, HashSet};

use super::bind::BoundSignature;
use onnx::OnnxModel;
use runtime::WeightSharing;

/// A graph to be loaded, for one signature or more.
pub(super) struct PlannedGraph {
    pub(super) model: OnnxModel,
    /// The inputs whose declared rank can be relied on.
    pub(super) ranked: HashSet<String>,
    /// The weights that it shares with the other graphs.
    pub(super) sharing: Option<WeightSharing>,
    /// Indices of the signatures that run on it.
    pub(super) signatures: Vec<usize>,
    /// The file that the graph is from.
    origin: String,
}

/// The graphs for `signatures`. Signatures that do not need a graph are left out.
pub(super) fn plan(signatures: &[BoundSignature]) -> Vec<PlannedGraph> {
    let mut graphs: Vec<PlannedGraph> = Vec::new();
    for (index, bound) in signatures.iter().enumerate() {
        if bound.needs_no_graph() {
            continue;
        }
        let ranked = bound.ranked_inputs();
        let taken = graphs.iter_mut().find_map(|graph| {
            let model = graph.with(&bound.model, &ranked)?;
            Some((graph, model))
        });
        match taken {
            Some((graph, model)) => {
                graph.model = model;
                graph.signatures.push(index);
            }
            None => graphs.push(PlannedGraph {
                model: bound.model.clone(),
                ranked,
                sharing: None,
                signatures: vec![index],
                origin: bound.model.origin().to_owned(),
            }),
        }
    }
    share_weights(&mut graphs);
    graphs
}

impl PlannedGraph {
    /// The graph that can also run one more signature, if there is one.
    fn with(&self, model: &OnnxModel, ranked: &HashSet<String>) -> Option<OnnxModel> {
        if self.origin != model.origin() || self.ranked != *ranked {
            return None;
        }
        if self.model.is_same_graph(model) {
            return Some(self.model.clone());
        }
        self.model.merged(model)
    }
}

/// Sets the shared weights of the graphs of each file.
fn share_weights(graphs: &mut [PlannedGraph]) {
    // By file, name and address: an edit for one signature can have replaced its weight.
    let mut users: HashMap<(&str, &str, usize), usize> = HashMap::new();
    for graph in graphs.iter() {
        for (name, address) in graph.model.shareable_weights() {
            *users.entry((&graph.origin, name, address)).or_default() += 1;
        }
    }
    let mut shared: HashMap<String, HashSet<String>> = HashMap::new();
    for ((origin, name, _), _) in users.into_iter().filter(|(_, users)| *users > 1) {
        let names = shared.entry(origin.to_owned()).or_default();
        names.insert(name.to_owned());
    }
    let shared = shared.into_iter();
    let shared: HashMap<String, WeightSharing> = shared
        .map(|(origin, names)| (origin, WeightSharing::new(names)))
        .collect();
    for graph in graphs {
        graph.sharing = shared.get(&graph.origin).cloned();
    }
}

//! Which declared ranks a request may change: those of inputs that reach operators only which refuse
//! a wrong rank with an error.
//!
//! Whatever a node reads may change the rank of whatever it returns; graphs nested in it and functions
//! that it calls are taken as a whole.
//!
//! Not here: which operators these are (`kernel_limits`), dropping ranks (`relax`).

use std::collections::{HashMap, HashSet};

use super::known::{FunctionKey, call_key};
use super::{OnnxModel, kernel_limits, walk};
use crate::proto::onnx::{FunctionProto, NodeProto};

impl OnnxModel {
    /// The inputs whose declared rank has to be enforced, since an operator behind them is not known
    /// to check it.
    pub fn inputs_to_keep_ranked(&self) -> HashSet<String> {
        let functions = self.proto.functions.iter();
        let functions: HashMap<FunctionKey, &FunctionProto> = functions
            .map(|it| {
                let key = [it.domain(), it.name(), it.overload()].map(str::to_owned);
                let [domain, name, overload] = key;
                ((domain, name, overload), it)
            })
            .collect();
        let mut trust = Trust {
            functions,
            known: HashMap::new(),
        };
        let graph = self.graph();
        let trusted: Vec<bool> = graph.node.iter().map(|it| trust.node(it)).collect();
        let mut reaches: HashSet<&str> = HashSet::new();
        loop {
            let before = reaches.len();
            for (node, is_trusted) in graph.node.iter().zip(&trusted).rev() {
                let mut outputs = node.output.iter();
                if !is_trusted || outputs.any(|name| reaches.contains(name.as_str())) {
                    walk::for_each_name_read(node, &mut |name| {
                        reaches.insert(name);
                    });
                }
            }
            // Nodes are in order, so that one pass finds all; if not, further ones do.
            if reaches.len() == before {
                break;
            }
        }
        let inputs = graph.input.iter().map(|it| it.name());
        let kept = inputs.filter(|name| reaches.contains(name));
        kept.map(str::to_owned).collect()
    }
}

struct Trust<'a> {
    functions: HashMap<FunctionKey, &'a FunctionProto>,
    /// By function; one that is being looked at is not trusted, as it calls itself.
    known: HashMap<FunctionKey, bool>,
}

impl Trust<'_> {
    /// Whether all operators of a node check their ranks.
    fn node(&mut self, node: &NodeProto) -> bool {
        let key = call_key(node);
        if let Some(&function) = self.functions.get(&key) {
            return self.function(key, function);
        }
        kernel_limits::checks_ranks(node)
            && walk::subgraphs(node).all(|graph| graph.node.iter().all(|it| self.node(it)))
    }

    fn function(&mut self, key: FunctionKey, function: &FunctionProto) -> bool {
        if let Some(&known) = self.known.get(&key) {
            return known;
        }
        self.known.insert(key.clone(), false);
        let trusted = function.node.iter().all(|it| self.node(it));
        self.known.insert(key, trusted);
        trusted
    }
}

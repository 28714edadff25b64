//! The operators that a signature reaches, without translating any.

use std::collections::{BTreeMap, HashSet};

use crate::graph::{Body, Graph, TensorRef, function_names};

/// The operators that the outputs need, through functions, each with the name of one of its nodes. Calls by a
/// function's name are not operators. `fed` are outputs of nodes that clients feed.
pub(crate) fn reached<'a>(
    graph: &Graph<'a>,
    outputs: &[TensorRef<'a>],
    fed: &HashSet<(&'a str, usize)>,
) -> BTreeMap<&'a str, &'a str> {
    let mut scan = Scan {
        graph,
        found: BTreeMap::new(),
        functions: Vec::new(),
        seen: HashSet::new(),
    };
    let unfed = outputs
        .iter()
        .filter(|it| !fed.contains(&(it.node, it.index)));
    scan.body(&graph.main, unfed.map(|it| it.node), fed);
    let none = HashSet::new();
    while let Some(name) = scan.functions.pop() {
        let function = &graph.functions[name];
        let results = function.results().into_iter().flatten();
        scan.body(&function.body, results.map(|it| it.node), &none);
    }
    scan.found
}

struct Scan<'a, 'b> {
    graph: &'b Graph<'a>,
    found: BTreeMap<&'a str, &'a str>,
    /// Functions that were reached and are to be scanned.
    functions: Vec<&'a str>,
    seen: HashSet<&'a str>,
}

impl<'a> Scan<'a, '_> {
    fn body(
        &mut self,
        body: &Body<'a>,
        roots: impl Iterator<Item = &'a str>,
        fed: &HashSet<(&'a str, usize)>,
    ) {
        let mut queue: Vec<&str> = roots.collect();
        let mut seen = HashSet::new();
        while let Some(name) = queue.pop() {
            let Some(node) = body.nodes.get(name).filter(|_| seen.insert(name)) else {
                continue;
            };
            if !self.graph.functions.contains_key(node.op.as_str()) {
                self.found.entry(&node.op).or_insert(&node.name);
            }
            // An assertion is not translated, nor are the nodes that it reads.
            if node.op == "Assert" {
                continue;
            }
            for function in function_names(node) {
                if let Some((name, _)) = self.graph.functions.get_key_value(function)
                    && self.seen.insert(name)
                {
                    self.functions.push(name);
                }
            }
            let inputs = node.input.iter().filter_map(|it| TensorRef::parse(it));
            let needed = inputs.filter(|it| !fed.contains(&(it.node, it.index)));
            queue.extend(needed.map(|it| it.node));
        }
    }
}

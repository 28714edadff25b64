//! Which nodes and functions write variables, or change other things that outlast a request.
//!
//! Not here: the meaning of a write for a signature (`translation`, `import`), the order of reads and writes
//! (`order`).

use std::collections::{HashMap, HashSet};

use proto::tensorflow::NodeDef;

use crate::graph::{Body, Graph, function_names};

/// The beginnings of the names of operators that change a variable, a table or another resource.
const WRITES: &[&str] = &[
    "Apply",
    "Assign",
    "CountUpTo",
    "DestroyResourceOp",
    "LookupTableImport",
    "LookupTableInsert",
    "LookupTableRemove",
    "ResourceAccumulator",
    "ResourceApply",
    "ResourceCountUpTo",
    "ResourceScatter",
    "ResourceSparseApply",
    "ResourceStridedSliceAssign",
    "RngReadAndSkip",
    "RngSkip",
    "ScatterAdd",
    "ScatterDiv",
    "ScatterMax",
    "ScatterMin",
    "ScatterMul",
    "ScatterNdAdd",
    "ScatterNdMax",
    "ScatterNdMin",
    "ScatterNdSub",
    "ScatterNdUpdate",
    "ScatterSub",
    "ScatterUpdate",
    "SparseApply",
    "StatefulRandomBinomial",
    "StatefulStandardNormal",
    "StatefulTruncatedNormal",
    "StatefulUniform",
    "StridedSliceAssign",
];

/// Which functions write, and whether anything does.
pub(crate) struct Effects {
    functions: HashSet<String>,
    /// The addresses of the nodes that write, themselves or by a function that they call.
    nodes: HashSet<usize>,
}

impl Effects {
    pub(crate) fn of(graph: &Graph<'_>) -> Self {
        let mut functions: HashSet<String> = HashSet::new();
        let mut callers: HashMap<&str, Vec<&str>> = HashMap::new();
        let mut queue: Vec<&str> = Vec::new();
        for (name, function) in &graph.functions {
            if writes(&function.body) {
                queue.push(name);
            }
            for node in function.body.nodes.values() {
                for called in function_names(node) {
                    if graph.functions.contains_key(called) {
                        callers.entry(called).or_default().push(name);
                    }
                }
            }
        }
        while let Some(name) = queue.pop() {
            if functions.insert(name.to_owned()) {
                queue.extend(callers.get(name).into_iter().flatten().copied());
            }
        }
        let bodies = graph.functions.values().map(|it| &it.body);
        let bodies = bodies.chain(std::iter::once(&graph.main));
        let writes = |node: &&&NodeDef| {
            is_write(node)
                || function_names(node)
                    .iter()
                    .any(|it| functions.contains(*it))
        };
        let nodes = bodies.flat_map(|it| it.nodes.values());
        let nodes = nodes.filter(writes).map(|it| address(it)).collect();
        Self { functions, nodes }
    }

    /// Whether anything in the file writes.
    pub(crate) fn any(&self) -> bool {
        !self.nodes.is_empty()
    }

    /// For a translation that leaves out all that is only waited for.
    pub(crate) fn none() -> Self {
        Self {
            functions: HashSet::new(),
            nodes: HashSet::new(),
        }
    }

    /// Whether a function, or one that it calls, writes.
    pub(crate) fn of_function(&self, name: &str) -> bool {
        self.functions.contains(name)
    }

    /// Whether a node writes, itself or by a function that it calls.
    pub(crate) fn of_node(&self, node: &NodeDef) -> bool {
        self.nodes.contains(&address(node))
    }
}

fn address(node: &NodeDef) -> usize {
    std::ptr::from_ref(node).addr()
}

fn writes(body: &Body<'_>) -> bool {
    body.nodes.values().any(|node| is_write(node))
}

/// Whether the node itself writes.
pub(crate) fn is_write(node: &NodeDef) -> bool {
    WRITES.iter().any(|it| node.op.starts_with(it))
}

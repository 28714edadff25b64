//! Which nodes and functions write variables.
//!
//! Not here: what a write means for a signature (`translation`, `signature`).

use std::collections::{HashMap, HashSet};

use proto::tensorflow::NodeDef;

use crate::graph::{Body, Graph, function_names};

/// The operators that change a variable or a table.
const WRITES: &[&str] = &[
    "Assign",
    "AssignAdd",
    "AssignAddVariableOp",
    "AssignSub",
    "AssignSubVariableOp",
    "AssignVariableOp",
    "LookupTableImport",
    "LookupTableImportV2",
    "LookupTableInsert",
    "LookupTableInsertV2",
    "LookupTableRemoveV2",
    "ResourceScatterAdd",
    "ResourceScatterUpdate",
    "ScatterAdd",
    "ScatterUpdate",
];
/// Operators that only stand for what they wait for.
const JOINTS: &[&str] = &["NoOp", "Identity", "IdentityN"];

/// Which functions write variables, and which nodes may lead to a write.
pub(crate) struct Effects {
    functions: HashSet<String>,
    /// Whether anything in the file writes.
    any: bool,
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
        let any = !functions.is_empty() || writes(&graph.main);
        Self { functions, any }
    }

    /// Whether a function, or one that it calls, writes a variable.
    pub(crate) fn of_function(&self, name: &str) -> bool {
        self.functions.contains(name)
    }

    /// Whether a node might write a variable, itself or by what it waits for.
    pub(crate) fn of_node(&self, node: &NodeDef) -> bool {
        self.any
            && (is_write(node)
                || JOINTS.contains(&node.op.as_str())
                || function_names(node).iter().any(|it| self.of_function(it)))
    }
}

fn writes(body: &Body<'_>) -> bool {
    body.nodes.values().any(|node| is_write(node))
}

/// Whether the node itself changes a variable.
pub(crate) fn is_write(node: &NodeDef) -> bool {
    WRITES.contains(&node.op.as_str())
}

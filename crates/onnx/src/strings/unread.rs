//! Drops numbers of strings that are no longer read: a backend might run the casts, and fail.

use std::collections::HashSet;

use super::loop_plan::Plan;
use super::{is_integer_cast, moved};
use crate::{OnnxModel, is_op, traverse};
use proto::onnx::{GraphProto, NodeProto};

impl OnnxModel {
    /// Drops unread casts to integers, unread nodes that move elements, and unread tensors that nodes with
    /// one of the `added` tensors carry or return.
    pub(super) fn drop_unread(&mut self, added: &HashSet<String>) {
        drop_from_graph(self.graph_mut(), added);
        for function in &mut self.proto.functions {
            drop_from(&mut function.node, &function.output, added);
        }
    }
}

fn drop_from_graph(graph: &mut GraphProto, added: &HashSet<String>) {
    let outputs: Vec<String> = graph.output.iter().map(|it| it.name().to_owned()).collect();
    drop_from(&mut graph.node, &outputs, added);
}

fn drop_from(nodes: &mut Vec<NodeProto>, outputs: &[String], added: &HashSet<String>) {
    if !is_sorted(nodes) {
        return;
    }
    let mut read: HashSet<String> = outputs.iter().cloned().collect();
    let mut kept = Vec::with_capacity(nodes.len());
    for mut node in std::mem::take(nodes).into_iter().rev() {
        let is_read = node.output.iter().any(|it| read.contains(it));
        if is_droppable(&node, added) && !is_read {
            continue;
        }
        if is_op(&node, "If") {
            drop_results(&mut node, &read, added);
        }
        if is_op(&node, "Loop") || is_op(&node, "Scan") {
            drop_rounds(&mut node, &read, added);
        }
        for graph in traverse::subgraphs_mut(&mut node) {
            drop_from_graph(graph, added);
        }
        if is_op(&node, "Scan") {
            drop_scanned(&mut node, added);
        }
        traverse::for_each_name_read(&node, &mut |name| {
            read.insert(name.to_owned());
        });
        kept.push(node);
    }
    kept.reverse();
    *nodes = kept;
}

/// Whether no node reads the output of a later one.
fn is_sorted(nodes: &[NodeProto]) -> bool {
    let mut later: HashSet<&str> = HashSet::new();
    for node in nodes.iter().rev() {
        later.extend(
            node.output
                .iter()
                .filter(|it| !it.is_empty())
                .map(String::as_str),
        );
        let mut is_early = false;
        traverse::for_each_name_read(node, &mut |name| is_early |= later.contains(name));
        if is_early {
            return false;
        }
    }
    true
}

fn is_droppable(node: &NodeProto, added: &HashSet<String>) -> bool {
    let is_added = node.output.iter().any(|it| added.contains(it));
    is_integer_cast(node) || !moved(node).is_empty() || (is_added && is_op(node, "Constant"))
}

/// Drops the results of an `If` that are not read.
fn drop_results(node: &mut NodeProto, read: &HashSet<String>, added: &HashSet<String>) {
    if !node.output.iter().any(|it| added.contains(it)) {
        return;
    }
    for index in (0..node.output.len()).rev() {
        if read.contains(&node.output[index]) || node.output.len() == 1 {
            continue;
        }
        node.output.remove(index);
        for graph in traverse::subgraphs_mut(node) {
            graph.output.remove(index);
        }
    }
}

/// Drops tensors that a loop or a scan carries from round to round without any other reader.
fn drop_rounds(node: &mut NodeProto, read: &HashSet<String>, added: &HashSet<String>) {
    let Some(plan) = Plan::of(node) else {
        return;
    };
    let Some(graph) = traverse::subgraphs(node).next() else {
        return;
    };
    if !graph.input.iter().any(|it| added.contains(it.name())) || !is_sorted(&graph.node) {
        return;
    }
    let outer = |index: usize| &node.output[index - plan.carried.start];
    let carried = plan.carried.clone();
    let mut dropped: Vec<usize> = carried.filter(|it| !read.contains(outer(*it))).collect();
    loop {
        let without: HashSet<usize> = dropped.iter().map(|it| plan.result_of(*it)).collect();
        let live = live_names(graph, &without, added);
        let count = dropped.len();
        dropped.retain(|index| !live.contains(graph.input[*index].name()));
        if dropped.len() == count {
            break;
        }
    }
    for index in dropped.into_iter().rev() {
        node.input.remove(index);
        node.output.remove(index - plan.carried.start);
        if let Some(graph) = traverse::subgraphs_mut(node).next() {
            graph.input.remove(index);
            graph.output.remove(plan.result_of(index));
        }
    }
}

/// The names read to compute the outputs of a graph, except those at `without`, and by nodes that cannot be
/// dropped.
fn live_names<'a>(
    graph: &'a GraphProto,
    without: &HashSet<usize>,
    added: &HashSet<String>,
) -> HashSet<&'a str> {
    let outputs = graph.output.iter().enumerate();
    let outputs = outputs.filter(|(index, _)| !without.contains(index));
    let mut live: HashSet<&str> = outputs.map(|(_, it)| it.name()).collect();
    for node in graph.node.iter().rev() {
        let is_live = node.output.iter().any(|it| live.contains(it.as_str()));
        if is_live || !is_droppable(node, added) {
            traverse::for_each_name_read(node, &mut |name| {
                live.insert(name);
            });
        }
    }
    live
}

/// Drops inputs that a scan iterates over without reading them.
fn drop_scanned(node: &mut NodeProto, added: &HashSet<String>) {
    let Some(plan) = Plan::of(node) else {
        return;
    };
    let Some(graph) = traverse::subgraphs(node).next() else {
        return;
    };
    let mut inputs = graph.input.iter();
    if !inputs.any(|it| added.contains(it.name())) {
        return;
    }
    let live = live_names(graph, &HashSet::new(), &HashSet::new());
    let is_unread = |index: &usize| !live.contains(graph.input[*index].name());
    let mut unread: Vec<usize> = plan.scanned.clone().filter(is_unread).collect();
    if unread.len() == plan.scanned.len() {
        unread.pop();
    }
    for index in unread.into_iter().rev() {
        node.input.remove(index);
        if let Some(graph) = traverse::subgraphs_mut(node).next() {
            graph.input.remove(index);
        }
        for attribute in &mut node.attribute {
            let at = index - plan.scanned.start;
            match attribute.name() {
                "num_scan_inputs" => attribute.i = attribute.i.map(|it| it - 1),
                "scan_input_axes" | "scan_input_directions" if at < attribute.ints.len() => {
                    attribute.ints.remove(at);
                }
                _ => {}
            }
        }
    }
}

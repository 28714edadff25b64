//! Follows strings into the graphs of an `If`, a `Loop` or a `Scan`, and out of them.
//!
//! Not here: nodes without graphs (`follow`), which inputs of a loop are carried (`loop_plan`).

use super::comparison::EMPTY;
use super::follow::{Made, Visit};
use super::loop_plan::Plan;
use super::source::Source;
use crate::interface::tensor_value;
use crate::known::STRING;
use crate::{node, traverse};
use proto::onnx::{GraphProto, NodeProto, ValueInfoProto};

impl Visit<'_> {
    /// Visits the graphs in a node. `given` are the sources of the inputs of each.
    pub(super) fn visit_nested(&mut self, node: &mut NodeProto, given: &[(usize, Source)]) -> Made {
        let mut made = Made::default();
        // The graphs are moved out, to be changed while the rest of the node is read.
        let mut graphs: Vec<GraphProto> =
            traverse::subgraphs_mut(node).map(std::mem::take).collect();
        for graph in &mut graphs {
            self.scopes.enter_nested(node, graph);
            self.enter(graph);
            for (index, source) in given {
                let name = graph.input[*index].name().to_owned();
                self.insert(&name, Some(source.clone()));
            }
            self.nodes(&mut graph.node);
            made.facts.push(self.scopes.results(graph));
            let outputs = graph.output.iter();
            let sources = outputs.map(|it| self.source(it.name())).collect();
            made.results.push(sources);
            self.leave();
        }
        for (place, graph) in traverse::subgraphs_mut(node).zip(graphs) {
            *place = graph;
        }
        made
    }

    /// The strings that a nested graph returns: a tensor that it makes itself.
    pub(super) fn result(
        &mut self,
        graph: &mut GraphProto,
        source: Source,
    ) -> Option<(ValueInfoProto, bool)> {
        let (from, is_sure) = self.as_strings(source, &mut graph.node)?;
        let name = self.strings_name(&from);
        graph.node.push(node("Identity", &[&from], &name));
        Some((strings_value(&name, is_sure), is_sure))
    }

    /// An `If` returns strings if all its branches do.
    pub(super) fn choice(&mut self, node: &mut NodeProto) -> Made {
        let mut made = self.visit_nested(node, &[]);
        for index in 0..node.output.len() {
            let sources = made
                .results
                .iter()
                .map(|it| it.get(index).cloned().flatten());
            let sources: Option<Vec<Source>> = sources.collect();
            let Some(sources) = sources.filter(|it| it.len() == 2) else {
                continue;
            };
            let is_text = |it: &Source| match it {
                Source::Strings { .. } => true,
                Source::Numbers(it) => it.as_slice::<i32>().is_some_and(|it| !it.contains(&EMPTY)),
            };
            if !sources.iter().all(is_text)
                || sources.iter().all(|it| matches!(it, Source::Numbers(_)))
            {
                continue;
            }
            let mut are_sure = false;
            let mut graphs: Vec<GraphProto> =
                traverse::subgraphs_mut(node).map(std::mem::take).collect();
            for (graph, source) in graphs.iter_mut().zip(sources) {
                if let Some((value, is_sure)) = self.result(graph, source) {
                    graph.output.push(value);
                    are_sure |= is_sure;
                }
            }
            for (place, graph) in traverse::subgraphs_mut(node).zip(graphs) {
                *place = graph;
            }
            let output = node.output[index].clone();
            let name = self.strings_name(&output);
            node.output.push(name.clone());
            let is_sure = are_sure;
            made.outputs
                .push((output, Source::Strings { name, is_sure }));
        }
        made
    }

    /// A loop also carries the strings of a carried tensor if every round returns strings for it. A scan also
    /// scans the strings of a scanned one.
    pub(super) fn rounds(&mut self, node: &mut NodeProto, before: &mut Vec<NodeProto>) -> Made {
        let Some(plan) = Plan::of(node) else {
            return self.visit_nested(node, &[]);
        };
        let mut taken = Vec::new();
        for index in plan.carried.clone().chain(plan.scanned.clone()) {
            if let Some(source @ Source::Strings { .. }) = self.source(&node.input[index]) {
                let inner = self.strings_name(&node.input[index]);
                taken.push((index, inner, source));
            }
        }
        loop {
            if self.retries == 0 {
                taken.clear();
            }
            let given = taken.iter().map(|(index, inner, source)| {
                let is_sure = matches!(source, Source::Strings { is_sure: true, .. });
                let name = inner.clone();
                (*index, Source::Strings { name, is_sure })
            });
            let given: Vec<(usize, Source)> = given.collect();
            let mut tried = node.clone();
            let was_changed = self.is_changed;
            let made = self.visit_nested(&mut tried, &given);
            let results = made.results.first().cloned().unwrap_or_default();
            let result = |index: usize| results.get(plan.result_of(index)).cloned().flatten();
            let is_passed = |index: usize| {
                plan.scanned.contains(&index)
                    || matches!(result(index), Some(Source::Strings { .. }))
            };
            if taken.iter().all(|(index, ..)| is_passed(*index)) {
                *node = tried;
                return self.take_strings(node, &plan, taken, &results, made, before);
            }
            self.is_changed = was_changed;
            self.retries = self.retries.saturating_sub(1);
            taken.retain(|(index, ..)| is_passed(*index));
        }
    }

    /// Adds the inputs and outputs for strings to a loop or scan.
    pub(super) fn take_strings(
        &mut self,
        node: &mut NodeProto,
        plan: &Plan,
        taken: Vec<(usize, String, Source)>,
        results: &[Option<Source>],
        mut made: Made,
        before: &mut Vec<NodeProto>,
    ) -> Made {
        let Some(mut graph) = traverse::subgraphs_mut(node).next().map(std::mem::take) else {
            return made;
        };
        // Carried strings are inserted after the other carried inputs; scanned ones go to the end.
        let (mut scanned, mut at) = (Vec::new(), plan.carried.end);
        let old_outputs = node.output.clone();
        for (index, inner, source) in taken {
            let Some((from, is_sure)) = self.as_strings(source, before) else {
                continue;
            };
            let value = strings_value(&inner, is_sure);
            if plan.scanned.contains(&index) {
                scanned.push(index);
                node.input.push(from);
                graph.input.push(value);
                continue;
            }
            let result = results.get(plan.result_of(index)).cloned().flatten();
            let Some((result, _)) = result.and_then(|it| self.result(&mut graph, it)) else {
                continue;
            };
            node.input.insert(at, from);
            graph.input.insert(at, value);
            graph.output.insert(plan.result_of(at), result);
            let outer = at - plan.carried.start;
            let name = self.strings_name(&inner);
            node.output.insert(outer, name.clone());
            let output = old_outputs[index - plan.carried.start].clone();
            made.outputs
                .push((output, Source::Strings { name, is_sure }));
            at += 1;
        }
        for attribute in &mut node.attribute {
            let count = scanned.len() as i64;
            match attribute.name() {
                "num_scan_inputs" => attribute.i = attribute.i.map(|it| it + count),
                "scan_input_axes" | "scan_input_directions" => {
                    let of =
                        |index: &usize| attribute.ints.get(index - plan.scanned.start).copied();
                    let more: Vec<i64> = scanned.iter().filter_map(of).collect();
                    attribute.ints.extend(more);
                }
                _ => {}
            }
        }
        if let Some(place) = traverse::subgraphs_mut(node).next() {
            *place = graph;
        }
        made
    }
}

fn strings_value(name: &str, is_sure: bool) -> ValueInfoProto {
    if is_sure {
        return tensor_value(name, STRING);
    }
    ValueInfoProto {
        name: Some(name.to_owned()),
        ..ValueInfoProto::default()
    }
}

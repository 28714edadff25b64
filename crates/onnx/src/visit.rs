//! Replaces nodes everywhere in a model: in the main graph, in graphs nested in it and in functions, using
//! the known facts about tensors there.
//!
//! Not here: the replacements themselves (`integer_division`, `guard`, `rewrite`, `strings`).

use std::collections::HashSet;

use super::known::{Facts, Functions, Scopes};
use super::{OnnxModel, is_onnx_domain, traverse};
use base::error::Result;
use proto::onnx::{FunctionProto, GraphProto, NodeProto, OperatorSetIdProto};

/// The version of ONNX's own operators for models that do not import them.
const OPSET: i64 = 17;

/// The surroundings of a node.
pub(super) struct NodeContext<'a> {
    /// The known facts about the tensors that it reads.
    pub(super) known: &'a Scopes,
    /// The version of ONNX's own operators there.
    pub(super) opset: i64,
    /// The names of the whole model.
    pub(super) names: &'a mut Names,
    /// Whether the node calls a function of the model.
    pub(super) is_call: bool,
    /// The known facts about the results of each graph nested in the node.
    pub(super) bodies: &'a [Vec<Facts>],
}

/// Names that are taken anywhere in a model: in its graph, in graphs nested in it, in its functions.
#[derive(Default)]
pub(super) struct Names(HashSet<String>);

impl Names {
    /// Takes an unused name, made from `wish`.
    pub(super) fn take(&mut self, wish: &str) -> String {
        let mut name = wish.to_owned();
        let mut number = 0;
        while !self.0.insert(name.clone()) {
            number += 1;
            name = format!("{wish}.{number}");
        }
        name
    }
}

/// The replacement for a node: `None` if it stays as it is.
pub(super) type Replaced = Result<Option<Vec<NodeProto>>>;

impl OnnxModel {
    /// Replaces nodes with the nodes that `replace` returns for them. `ranked` are the graph's inputs whose
    /// declared rank is enforced.
    pub(super) fn replace_everywhere(
        &mut self,
        ranked: &HashSet<String>,
        replace: &mut dyn FnMut(&NodeProto, &mut NodeContext<'_>) -> Replaced,
    ) -> Result<()> {
        self.import_onnx();
        let original = self.proto.functions.clone();
        let mut visit = Visit::of(self, &original, replace);
        visit.main(self.graph_mut(), ranked)?;
        visit.defaults(&mut self.proto.functions)?;
        for function in &mut self.proto.functions {
            if let Some(inputs) = visit.called_with(function) {
                visit.function(function, &inputs)?;
            }
        }
        Ok(())
    }

    /// Imports ONNX's own operators into models and functions that only use others.
    pub(super) fn import_onnx(&mut self) {
        // A model without imports is of the first version.
        if !self.proto.opset_import.is_empty() {
            import(&mut self.proto.opset_import, OPSET);
        }
        let version = self.opset();
        for function in &mut self.proto.functions {
            import(&mut function.opset_import, version);
        }
    }

    /// Whether the model has both an operator that quantizes and one that dequantizes. A backend can choose
    /// integer kernels for the operators between them, which do not expect tensors without elements.
    pub fn quantizes(&self) -> bool {
        ["QuantizeLinear", "DequantizeLinear"]
            .iter()
            .all(|wanted| self.has_operator(&|op_type| op_type == *wanted))
    }

    pub(super) fn has_operator(&self, is_wanted: &dyn Fn(&str) -> bool) -> bool {
        let functions = self.proto.functions.iter().map(|it| &it.node);
        let mut found = false;
        for nodes in functions.chain([&self.graph().node]) {
            traverse::for_each_node(nodes, &mut |node| found |= is_wanted(node.op_type()));
        }
        found
    }

    /// Every name of a tensor or a node in the model.
    pub(super) fn names(&self) -> Names {
        let mut names = traverse::names(self.graph());
        add_node_names(&self.graph().node, &mut names);
        for function in &self.proto.functions {
            let declared = function.value_info.iter().map(|value| value.name());
            names.extend(declared);
            let defaults = &function.attribute_proto;
            let defaults = defaults.iter().flat_map(|it| it.g.iter().chain(&it.graphs));
            for graph in defaults {
                names.extend(traverse::names(graph));
                add_node_names(&graph.node, &mut names);
            }
            let values = function.input.iter().chain(&function.output);
            names.extend(values.map(String::as_str));
            traverse::collect_node_names(&function.node, &mut names);
            add_node_names(&function.node, &mut names);
        }
        Names(names.into_iter().map(str::to_owned).collect())
    }
}

fn import(imports: &mut Vec<OperatorSetIdProto>, version: i64) {
    if !imports.iter().any(|it| is_onnx_domain(it.domain())) {
        imports.push(OperatorSetIdProto {
            domain: Some(String::new()),
            version: Some(version),
        });
    }
}

fn add_node_names<'a>(nodes: &'a [NodeProto], names: &mut HashSet<&'a str>) {
    traverse::for_each_node(nodes, &mut |node| {
        names.insert(node.name());
    });
}

/// A visit of the graphs of a model.
pub(super) struct Visit<'a, 'b> {
    scopes: Scopes,
    functions: Functions<'a>,
    names: Names,
    replace: &'b mut dyn FnMut(&NodeProto, &mut NodeContext<'_>) -> Replaced,
}

impl<'a, 'b> Visit<'a, 'b> {
    /// A visit of a model that has these functions.
    pub(super) fn of(
        model: &OnnxModel,
        functions: &'a [FunctionProto],
        replace: &'b mut dyn FnMut(&NodeProto, &mut NodeContext<'_>) -> Replaced,
    ) -> Self {
        Self {
            scopes: Scopes::of_model(model.quantizes(), model.has_defaults(), model.opset()),
            functions: Functions::new(functions),
            names: model.names(),
            replace,
        }
    }

    /// Visits the main graph. Like `defaults`, it comes before `function`: both contain calls.
    pub(super) fn main(&mut self, graph: &mut GraphProto, ranked: &HashSet<String>) -> Result<()> {
        self.scopes.enter_main(graph, |name| ranked.contains(name));
        self.nodes(&mut graph.node)?;
        self.scopes.leave();
        Ok(())
    }

    /// Visits the graphs that are defaults of functions' attributes. Their names are those of the place where
    /// the function uses the attribute, so every name is unknown.
    pub(super) fn defaults(&mut self, functions: &mut [FunctionProto]) -> Result<()> {
        for function in functions {
            self.scopes.leave_main(function);
            let around = self.scopes.take_all();
            let mut holder = NodeProto {
                attribute: std::mem::take(&mut function.attribute_proto),
                ..NodeProto::default()
            };
            let visited = self.nested(&mut holder);
            function.attribute_proto = holder.attribute;
            self.scopes.put_back(around);
            visited?;
        }
        Ok(())
    }

    /// The facts about the inputs of a function that hold in all calls; `None` if it is not called.
    pub(super) fn called_with(&self, function: &FunctionProto) -> Option<Vec<Facts>> {
        self.functions.called_with(function).map(<[_]>::to_vec)
    }

    /// Visits a function that is called with `inputs`.
    pub(super) fn function(
        &mut self,
        function: &mut FunctionProto,
        inputs: &[Facts],
    ) -> Result<()> {
        self.scopes.enter_function(function, inputs);
        self.nodes(&mut function.node)?;
        self.scopes.leave();
        Ok(())
    }

    fn nodes(&mut self, nodes: &mut Vec<NodeProto>) -> Result<()> {
        let mut visited = Vec::with_capacity(nodes.len());
        for mut node in std::mem::take(nodes) {
            let bodies = self.nested(&mut node)?;
            self.scopes.learn(&node, &bodies, &mut self.functions);
            let mut context = NodeContext {
                known: &self.scopes,
                opset: self.scopes.opset,
                names: &mut self.names,
                is_call: self.functions.has(&node),
                bodies: &bodies,
            };
            match (self.replace)(&node, &mut context)? {
                Some(new) => visited.extend(new),
                None => visited.push(node),
            }
        }
        *nodes = visited;
        Ok(())
    }

    /// Visits the graphs nested in a node. Returns the known facts about the results of each.
    fn nested(&mut self, node: &mut NodeProto) -> Result<Vec<Vec<Facts>>> {
        if traverse::subgraphs(node).next().is_none() {
            return Ok(Vec::new());
        }
        let mut bodies = Vec::new();
        // A function can use a graph that it is given in a place where its names are others.
        let is_given = self.functions.has(node);
        let around = is_given.then(|| self.scopes.take_all());
        // The graphs are moved out, to be changed while the rest of the node is read.
        let mut graphs: Vec<GraphProto> =
            traverse::subgraphs_mut(node).map(std::mem::take).collect();
        for graph in &mut graphs {
            self.scopes.enter_nested(node, graph);
            self.nodes(&mut graph.node)?;
            bodies.push(self.scopes.results(graph));
            self.scopes.leave();
        }
        for (place, graph) in traverse::subgraphs_mut(node).zip(graphs) {
            *place = graph;
        }
        if let Some(around) = around {
            self.scopes.put_back(around);
        }
        Ok(bodies)
    }
}

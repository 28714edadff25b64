//! Which declared ranks a request can change: those of inputs that only reach operators which refuse a wrong
//! rank with an error.
//!
//! Any tensor that a node reads might change the rank of any tensor that it returns, unless the graph
//! determines that rank; graphs nested in the node and functions that it calls are treated as a whole.
//!
//! Not here: the list of these operators (`kernel_limits`), dropping ranks (`dynamic_shapes`).

use std::collections::{BTreeSet, HashMap, HashSet};

use super::known::{FunctionKey, call_key, key_of, may_be_operator};
use super::{OnnxModel, kernel_limits, traverse};
use base::error::{Result, ServingError};
use proto::onnx::{AttributeProto, FunctionProto, NodeProto};

impl OnnxModel {
    /// The inputs whose declared rank must be enforced because an operator behind them is not known to check
    /// it.
    pub fn inputs_to_keep_ranked(&self) -> HashSet<String> {
        self.inputs_that_reach(kernel_limits::checks_ranks, &HashSet::new())
    }

    /// The inputs whose declared rank must be enforced because they reach an operator whose behaviour with
    /// other ranks is not known.
    ///
    /// # Errors
    ///
    /// `UNIMPLEMENTED` if such an input has no declared rank, and the graph does not determine the rank of
    /// the tensor that the operator reads.
    pub fn inputs_of_untried_operators(&self) -> Result<HashSet<String>> {
        let trusts = |node: &NodeProto| !kernel_limits::is_untried(node);
        let reaching = self.inputs_that_reach(trusts, &HashSet::new());
        if reaching.is_empty() {
            return Ok(reaching);
        }
        let inputs = self.inputs();
        let (ranked, open): (Vec<_>, Vec<_>) =
            inputs.into_iter().partition(|it| it.shape.is_some());
        let ranked = ranked.into_iter().map(|it| it.name).collect();
        let changing = self.inputs_that_reach(trusts, &self.names_of_known_rank(&ranked)?);
        match open.iter().find(|it| changing.contains(&it.name)) {
            None => Ok(reaching),
            Some(input) => Err(ServingError::unimplemented(format!(
                "{}: the input '{}' has no rank and reaches an operator that was not tried with other \
                 ranks than it expects (with ONNX Runtime {}): {}. Declare the input's shape",
                self.origin,
                input.name,
                kernel_limits::FOUND_ON,
                self.untried_operators()
            ))),
        }
    }

    /// The names of tensors whose rank follows from the graph and the ranks of these inputs, for every tensor
    /// of that name in the model.
    fn names_of_known_rank(&self, ranked: &HashSet<String>) -> Result<HashSet<String>> {
        let (mut known, mut unknown) = (HashSet::new(), HashSet::new());
        self.clone()
            .replace_everywhere(ranked, &mut |node, place| {
                for output in &node.output {
                    match place.known.facts(output).rank {
                        Some(_) => known.insert(output.clone()),
                        None => unknown.insert(output.clone()),
                    };
                }
                Ok(None)
            })?;
        known.retain(|name| !unknown.contains(name));
        Ok(known)
    }

    /// The names of operators that are in neither list of `kernel_limits`.
    fn untried_operators(&self) -> String {
        let functions: HashSet<FunctionKey> = self.proto.functions.iter().map(key_of).collect();
        let mut names = BTreeSet::new();
        let bodies = self.proto.functions.iter().map(|it| &it.node);
        for nodes in bodies.chain([&self.graph().node]) {
            traverse::for_each_node(nodes, &mut |node| {
                let is_call = functions.contains(&call_key(node));
                if kernel_limits::is_untried(node) && (!is_call || may_be_operator(node.domain())) {
                    names.insert(node.op_type());
                }
            });
        }
        Vec::from_iter(names).join(", ")
    }

    /// The inputs that reach a node that `trusts` rejects, ignoring paths through the `settled` tensors.
    fn inputs_that_reach(
        &self,
        trusts: fn(&NodeProto) -> bool,
        settled: &HashSet<String>,
    ) -> HashSet<String> {
        let functions = self.proto.functions.iter();
        let functions: HashMap<FunctionKey, &FunctionProto> =
            functions.map(|it| (key_of(it), it)).collect();
        let mut trust = Trust {
            trusts,
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
                    traverse::for_each_name_read(node, &mut |name| {
                        if !settled.contains(name) {
                            reaches.insert(name);
                        }
                    });
                }
            }
            // If the nodes are in order, one pass finds all; otherwise further passes do.
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
    /// For an operator of a backend.
    trusts: fn(&NodeProto) -> bool,
    functions: HashMap<FunctionKey, &'a FunctionProto>,
    /// By function; a function that is being examined is not trusted, because it calls itself.
    known: HashMap<FunctionKey, bool>,
}

impl Trust<'_> {
    /// Whether all operators of a node are trusted.
    fn node(&mut self, node: &NodeProto) -> bool {
        let key = call_key(node);
        if let Some(&function) = self.functions.get(&key) {
            let is_trusted = self.function(key, function) && self.graphs(&node.attribute);
            if !is_trusted || !may_be_operator(node.domain()) {
                return is_trusted;
            }
        }
        (self.trusts)(node) && self.graphs(&node.attribute)
    }

    fn graphs(&mut self, attributes: &[AttributeProto]) -> bool {
        let graphs = attributes
            .iter()
            .flat_map(|it| it.g.iter().chain(&it.graphs));
        let mut nodes = graphs.flat_map(|it| &it.node);
        nodes.all(|it| self.node(it))
    }

    fn function(&mut self, key: FunctionKey, function: &FunctionProto) -> bool {
        if let Some(&known) = self.known.get(&key) {
            return known;
        }
        self.known.insert(key.clone(), false);
        let trusted =
            function.node.iter().all(|it| self.node(it)) && self.graphs(&function.attribute_proto);
        self.known.insert(key, trusted);
        trusted
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::constant::constant_node;
    use crate::node;
    use base::tensor::Tensor;
    use proto::onnx::{GraphProto, ModelProto, ValueInfoProto};

    /// A model with the inputs `x` and `n`, neither of which has a shape.
    fn model(nodes: Vec<NodeProto>, functions: Vec<FunctionProto>) -> OnnxModel {
        let input = ["x", "n"].map(|name| ValueInfoProto {
            name: Some(name.to_owned()),
            ..ValueInfoProto::default()
        });
        let proto = ModelProto {
            graph: Some(GraphProto {
                node: nodes,
                input: input.into(),
                ..GraphProto::default()
            }),
            functions,
            ..ModelProto::default()
        };
        OnnxModel::parse("test", &proto.encode_to_vec()).unwrap()
    }

    fn names(names: &[&str]) -> HashSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn inputs_of_operators_that_check_ranks_are_free() {
        let model = model(vec![node("Add", &["x", "n"], "y")], vec![]);
        assert_eq!(model.inputs_to_keep_ranked(), names(&[]));
        assert!(model.inputs_of_untried_operators().unwrap().is_empty());
    }

    #[test]
    fn ranks_in_front_of_others_are_kept_through_what_lies_between() {
        let nodes = vec![
            node("Relu", &["x"], "positive"),
            node("ReverseSequence", &["positive", "lengths"], "y"),
            node("Cast", &["n"], "z"),
        ];
        let model = model(nodes, vec![]);
        assert_eq!(model.inputs_to_keep_ranked(), names(&["x"]));
        // It is not untried, because a check stands in front of it.
        assert!(model.inputs_of_untried_operators().unwrap().is_empty());
    }

    #[test]
    fn an_open_rank_in_front_of_an_untried_operator_is_refused() {
        let mut untried = node("BeamSearch", &["n"], "y");
        untried.domain = Some("com.microsoft".to_owned());
        let model = model(vec![untried], vec![]);
        let error = model.inputs_of_untried_operators().unwrap_err().to_string();
        assert!(
            error.contains("'n'") && error.contains("BeamSearch"),
            "{error}"
        );
    }

    #[test]
    fn a_rank_that_follows_from_the_graph_is_known() {
        let shape = Tensor::from_vec(&[2], vec![1_i64, -1]).unwrap();
        let served = |between: Vec<NodeProto>| {
            let mut untried = node("BeamSearch", &["m"], "y");
            untried.domain = Some("com.microsoft".to_owned());
            let nodes = between.into_iter().chain([untried]).collect();
            model(nodes, vec![]).inputs_of_untried_operators().is_ok()
        };
        let constant = constant_node("s", &shape).unwrap();
        assert!(served(vec![constant, node("Reshape", &["x", "s"], "m")]));
        assert!(!served(vec![node("Reshape", &["x", "n"], "m")]));
        assert!(!served(vec![node("Relu", &["x"], "m")]));
    }

    #[test]
    fn functions_are_followed() {
        let function = |body: &str| FunctionProto {
            name: Some("Step".to_owned()),
            domain: Some("local".to_owned()),
            input: vec!["a".to_owned()],
            output: vec!["b".to_owned()],
            node: vec![node(body, &["a"], "b")],
            ..FunctionProto::default()
        };
        let mut call = node("Step", &["x"], "y");
        call.domain = Some("local".to_owned());
        let kept = |body| model(vec![call.clone()], vec![function(body)]).inputs_to_keep_ranked();
        assert_eq!(kept("Relu"), names(&[]));
        assert_eq!(kept("DFT"), names(&["x"]));
        let mut with_default = function("Relu");
        with_default.attribute_proto.push(AttributeProto {
            g: Some(GraphProto {
                node: vec![node("DFT", &["a"], "c")],
                ..GraphProto::default()
            }),
            ..AttributeProto::default()
        });
        let model = model(vec![call.clone()], vec![with_default]);
        assert_eq!(model.inputs_to_keep_ranked(), names(&["x"]));
    }

    /// A backend has an operator of that name.
    #[test]
    fn functions_do_not_hide_operators() {
        let mut call = node("BeamSearch", &["x"], "y");
        call.domain = Some("com.microsoft".to_owned());
        let function = FunctionProto {
            name: Some("BeamSearch".to_owned()),
            domain: Some("com.microsoft".to_owned()),
            input: vec!["a".to_owned()],
            output: vec!["b".to_owned()],
            node: vec![node("Relu", &["a"], "b")],
            ..FunctionProto::default()
        };
        let model = model(vec![call], vec![function]);
        let error = model.inputs_of_untried_operators().unwrap_err().to_string();
        assert!(error.contains("BeamSearch"), "{error}");
    }

    #[test]
    fn nested_graphs_read_what_is_around_them() {
        let mut choice = node("If", &["n"], "y");
        choice.attribute.push(proto::onnx::AttributeProto {
            g: Some(GraphProto {
                node: vec![node("STFT", &["x", "step"], "inner")],
                ..GraphProto::default()
            }),
            ..Default::default()
        });
        let model = model(vec![choice], vec![]);
        assert_eq!(model.inputs_to_keep_ranked(), names(&["x", "n"]));
    }
}

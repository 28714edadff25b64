//! Attributes that make a kernel of ONNX Runtime end the process, or never return, on any request.
//!
//! Found like the lists of `kernel_limits`, on the same version: every operator was tried with each of its
//! attributes at 0, negative, at the limits of 32 and 64 bits, with other lengths and left out, one by one
//! and together. ONNX Runtime itself refuses all other nonsensical values.
//!
//! Not here: requirements on inputs (`kernel_limits`), the text of a refusal (`guard`).

use std::collections::HashMap;

use super::domains::{MICROSOFT, ML, NCHWC, is_onnx_domain};
use super::traverse;
use proto::onnx::{AttributeProto, NodeProto};

/// ONNX Runtime's tensors have no more dimensions in practice; a larger number of dimensions is an error or
/// worse.
const MAX_RANK: i64 = 64;
/// Samples along one side of a bin: each bin needs memory for their square.
const MAX_SAMPLING: i64 = 1024;
/// Attention has thousands at most; the kernel divides by the lower 32 bits of the file's value.
const MAX_HEADS: i64 = 1 << 16;
/// ONNX Runtime builds trees by recursion, on the stack of the thread that loads.
const MAX_TREE_DEPTH: usize = 2000;
/// A kernel iterates over all distances up to this one.
const MAX_SKIPS: i64 = 1 << 16;

/// ONNX allows no negative ones. With those, kernels of convolutions read outside of the image.
const PADDED: &[(&str, IsFine)] = &[("pads", |it, name| it.ints(name).iter().all(|&pad| pad >= 0))];

/// The name of an attribute that makes the node unsafe: by its value, or because the caller of a function
/// sets it.
pub(super) fn fatal(node: &NodeProto) -> Option<&'static str> {
    let attributes = Attributes(node);
    let checks: &[(&'static str, IsFine)] = match (node.domain(), node.op_type()) {
        (domain, "Conv") if is_onnx_domain(domain) || domain == NCHWC => PADDED,
        (MICROSOFT, "FusedConv") => PADDED,
        (domain, "GatherND") if is_onnx_domain(domain) || domain == MICROSOFT => {
            &[("batch_dims", |it, name| it.int(name, 0, 0..=MAX_RANK))]
        }
        (domain, "RoiAlign") if is_onnx_domain(domain) => &[
            ("sampling_ratio", |it, name| {
                it.int(name, 0, i64::from(i32::MIN)..=MAX_SAMPLING)
            }),
            ("spatial_scale", |it, name| it.float(name, 1.0).is_finite()),
        ],
        (domain, "RandomNormal" | "RandomNormalLike") if is_onnx_domain(domain) => {
            &[("scale", |it, name| it.float(name, 1.0) > 0.0)]
        }
        (domain, "RandomUniform" | "RandomUniformLike") if is_onnx_domain(domain) => {
            &[("high", |it, name| {
                it.float("low", 0.0) <= it.float(name, 1.0)
            })]
        }
        (domain, "TfIdfVectorizer") if is_onnx_domain(domain) => &[
            ("max_skip_count", |it, name| it.int(name, 0, 0..=MAX_SKIPS)),
            ("ngram_indexes", |it, _| it.has_index_for_each_ngram()),
        ],
        // It transposes the outputs of the body, which might have no elements.
        (domain, "Scan") if is_onnx_domain(domain) => &[("scan_output_axes", |it, name| {
            it.ints(name).iter().all(|&axis| axis == 0)
        })],
        (ML, "TreeEnsembleClassifier") => &[
            ("nodes_truenodeids", |it, _| it.trees_are_shallow()),
            // It uses two classes even if there is only one.
            ("classlabels_strings", |it, name| {
                it.get(name).is_none_or(|it| it.strings.len() != 1)
            }),
        ],
        (ML, "TreeEnsembleRegressor") => &[("nodes_truenodeids", |it, _| it.trees_are_shallow())],
        (ML, "TreeEnsemble") => &[("nodes_truenodeids", |it, _| it.roots_are_shallow())],
        (ML, "FeatureVectorizer") => &[("inputdimensions", |it, name| {
            it.ints(name).iter().all(|&size| size >= 0)
        })],
        (MICROSOFT, "GroupQueryAttention") => &[
            ("num_heads", |it, name| it.int(name, 1, 1..=MAX_HEADS)),
            ("kv_num_heads", |it, name| it.int(name, 1, 1..=MAX_HEADS)),
        ],
        _ => return None,
    };
    let mut failed = checks
        .iter()
        .filter(|(name, is_fine)| attributes.is_of_caller(name) || !is_fine(&attributes, name));
    failed.next().map(|(name, _)| *name)
}

/// Whether the kernel is safe with the attribute of this name.
type IsFine = fn(&Attributes<'_>, &str) -> bool;

struct Attributes<'a>(&'a NodeProto);

impl Attributes<'_> {
    fn get(&self, name: &str) -> Option<&AttributeProto> {
        traverse::attribute(self.0, name)
    }

    /// Whether, in a function, the value is that of an attribute of the function.
    fn is_of_caller(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|it| !it.ref_attr_name().is_empty())
    }

    fn int(&self, name: &str, default: i64, allowed: std::ops::RangeInclusive<i64>) -> bool {
        allowed.contains(&self.get(name).map_or(default, AttributeProto::i))
    }

    fn float(&self, name: &str, default: f32) -> f32 {
        self.get(name).map_or(default, AttributeProto::f)
    }

    fn ints(&self, name: &str) -> &[i64] {
        self.get(name).map_or(&[], |it| it.ints.as_slice())
    }

    /// The pool holds all n-grams of one item, then all of two and so on, starting at the offsets in
    /// `ngram_counts`; each n-gram has an index. The kernel does not check that there are enough.
    fn has_index_for_each_ngram(&self) -> bool {
        let strings = self.get("pool_strings").map_or(0, |it| it.strings.len());
        let pool = self.ints("pool_int64s").len().max(strings);
        let starts = self.ints("ngram_counts");
        let start = |index: usize| match starts.get(index) {
            Some(start) => usize::try_from(*start).unwrap_or(pool).min(pool),
            None => pool,
        };
        let ngrams = (0..starts.len())
            .map(|index| start(index + 1).saturating_sub(start(index)) / (index + 1));
        ngrams.sum::<usize>() <= self.ints("ngram_indexes").len()
    }

    /// Trees whose nodes are numbered within each tree.
    fn trees_are_shallow(&self) -> bool {
        let numbers = self
            .ints("nodes_treeids")
            .iter()
            .zip(self.ints("nodes_nodeids"));
        let index: HashMap<(i64, i64), usize> = numbers
            .enumerate()
            .map(|(index, (tree, node))| ((*tree, *node), index))
            .collect();
        let trees = self.ints("nodes_treeids");
        let child = |name: &str, of: usize| {
            let child = self.ints(name).get(of)?;
            index.get(&(*trees.get(of)?, *child)).copied()
        };
        let modes = self
            .get("nodes_modes")
            .map_or(&[][..], |it| &it.strings[..]);
        let is_leaf = |index: usize| modes.get(index).is_none_or(|mode| mode[..] == *b"LEAF");
        is_shallow(trees.len(), |of| {
            let names = ["nodes_truenodeids", "nodes_falsenodeids"];
            let names = names.iter().filter(|_| !is_leaf(of));
            names.filter_map(|name| child(name, of)).collect()
        })
    }

    /// Trees whose nodes are all numbered together, and leaves separately.
    fn roots_are_shallow(&self) -> bool {
        let sides = [
            ("nodes_truenodeids", "nodes_trueleafs"),
            ("nodes_falsenodeids", "nodes_falseleafs"),
        ];
        is_shallow(self.ints("nodes_truenodeids").len(), |of| {
            let children = sides.iter().filter_map(|(children, leaves)| {
                let is_leaf = self.ints(leaves).get(of).is_none_or(|leaf| *leaf != 0);
                let child = usize::try_from(*self.ints(children).get(of)?).ok()?;
                (!is_leaf).then_some(child)
            });
            children.collect()
        })
    }
}

/// Whether no path along the children of `count` nodes is longer than [`MAX_TREE_DEPTH`]. Goes layer by layer
/// from the nodes that are not children. Each layer has a node at most once, so the limit ends the loop.
fn is_shallow(count: usize, children: impl Fn(usize) -> Vec<usize>) -> bool {
    let mut is_child = vec![false; count];
    for node in 0..count {
        for child in children(node) {
            if let Some(is_child) = is_child.get_mut(child) {
                *is_child = true;
            }
        }
    }
    let mut layer: Vec<usize> = (0..count).filter(|node| !is_child[*node]).collect();
    let mut layer_of = vec![usize::MAX; count];
    for depth in 0..MAX_TREE_DEPTH {
        if layer.is_empty() {
            return true;
        }
        let mut next = Vec::new();
        for child in layer.into_iter().flat_map(&children) {
            if layer_of.get(child).is_some_and(|seen| *seen != depth) {
                layer_of[child] = depth;
                next.push(child);
            }
        }
        layer = next;
    }
    layer.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io_transforms::{int_attribute, ints_attribute};
    use crate::node;

    fn with(op_type: &str, domain: &str, attributes: Vec<AttributeProto>) -> NodeProto {
        NodeProto {
            domain: Some(domain.to_owned()),
            attribute: attributes,
            ..node(op_type, &["x"], "y")
        }
    }

    fn float_attribute(name: &str, value: f32) -> AttributeProto {
        AttributeProto {
            f: Some(value),
            ..int_attribute(name, 0)
        }
    }

    #[test]
    fn values_that_the_specification_allows_are_fine() {
        assert_eq!(fatal(&with("GatherND", "", vec![])), None);
        let two = vec![int_attribute("batch_dims", 2)];
        assert_eq!(fatal(&with("GatherND", "ai.onnx", two)), None);
        assert_eq!(fatal(&with("RandomUniform", "", vec![])), None);
        assert_eq!(fatal(&with("RandomNormal", "", vec![])), None);
        assert_eq!(fatal(&with("RoiAlign", "", vec![])), None);
        let group = vec![int_attribute("group", 0)];
        assert_eq!(fatal(&with("Conv", "", group)), None, "ONNX Runtime says");
    }

    /// A tree in which each node has a leaf and the next node as children.
    fn chain(depth: i64) -> NodeProto {
        let nodes = 2 * depth + 1;
        let children = |offset| {
            let children = (0..nodes).map(|node| if node % 2 == 0 { node + offset } else { 0 });
            children.collect::<Vec<i64>>()
        };
        let modes = (0..nodes).map(|node| match node % 2 == 0 && node + 1 < nodes {
            true => b"BRANCH_LEQ".to_vec(),
            false => b"LEAF".to_vec(),
        });
        let modes = AttributeProto {
            name: Some("nodes_modes".to_owned()),
            strings: modes.map(Into::into).collect(),
            ..AttributeProto::default()
        };
        let attributes = vec![
            ints_attribute("nodes_treeids", &vec![0; nodes as usize]),
            ints_attribute("nodes_nodeids", &(0..nodes).collect::<Vec<_>>()),
            ints_attribute("nodes_truenodeids", &children(1)),
            ints_attribute("nodes_falsenodeids", &children(2)),
            modes,
        ];
        with("TreeEnsembleRegressor", ML, attributes)
    }

    #[test]
    fn trees_have_a_bound_on_their_depth() {
        assert_eq!(fatal(&chain(100)), None);
        assert_eq!(fatal(&chain(10_000)), Some("nodes_truenodeids"));
        // Two nodes that are each other's children have no root; ONNX Runtime refuses them.
        let circle = vec![
            ints_attribute("nodes_truenodeids", &[1, 0]),
            ints_attribute("nodes_falsenodeids", &[1, 0]),
            ints_attribute("nodes_trueleafs", &[0, 0]),
            ints_attribute("nodes_falseleafs", &[0, 0]),
        ];
        assert_eq!(fatal(&with("TreeEnsemble", ML, circle)), None);
    }

    #[test]
    fn values_that_end_the_process_are_named() {
        let negative = vec![int_attribute("batch_dims", i64::MIN)];
        assert_eq!(fatal(&with("GatherND", "", negative)), Some("batch_dims"));
        let pads = || vec![ints_attribute("pads", &[1, 1, 1, -1])];
        for domain in ["", NCHWC] {
            assert_eq!(fatal(&with("Conv", domain, pads())), Some("pads"));
        }
        assert_eq!(fatal(&with("FusedConv", MICROSOFT, pads())), Some("pads"));
        let zero = vec![float_attribute("scale", 0.0)];
        assert_eq!(fatal(&with("RandomNormalLike", "", zero)), Some("scale"));
        let nan = vec![float_attribute("low", f32::NAN)];
        assert_eq!(fatal(&with("RandomUniformLike", "", nan)), Some("high"));
        let axes = vec![ints_attribute("scan_output_axes", &[0, 1])];
        assert_eq!(fatal(&with("Scan", "", axes)), Some("scan_output_axes"));
        let labels = |labels: &[&str]| {
            let attribute = AttributeProto {
                name: Some("classlabels_strings".to_owned()),
                strings: labels
                    .iter()
                    .map(|it| it.as_bytes().to_vec().into())
                    .collect(),
                ..AttributeProto::default()
            };
            fatal(&with("TreeEnsembleClassifier", ML, vec![attribute]))
        };
        assert_eq!(labels(&["one"]), Some("classlabels_strings"));
        assert_eq!(labels(&["one", "two"]), None);
        assert_eq!(labels(&[]), None);
        // Its lower 32 bits are 0.
        let heads = vec![int_attribute("num_heads", 1 << 32)];
        let node = with("GroupQueryAttention", MICROSOFT, heads);
        assert_eq!(fatal(&node), Some("num_heads"));
    }

    #[test]
    fn a_value_of_the_caller_is_not_believed() {
        let mut of_caller = int_attribute("batch_dims", 0);
        of_caller.ref_attr_name = Some("dims".to_owned());
        let node = with("GatherND", "", vec![of_caller]);
        assert_eq!(fatal(&node), Some("batch_dims"));
    }

    #[test]
    fn every_ngram_of_the_pool_needs_an_index() {
        // Two of one item and one of two items.
        let pool = |indexes: &[i64]| {
            let attributes = vec![
                ints_attribute("pool_int64s", &[1, 2, 1, 2]),
                ints_attribute("ngram_counts", &[0, 2]),
                ints_attribute("ngram_indexes", indexes),
            ];
            fatal(&with("TfIdfVectorizer", "", attributes))
        };
        assert_eq!(pool(&[0, 1, 2]), None);
        assert_eq!(pool(&[0, 1]), Some("ngram_indexes"));
        assert_eq!(pool(&[]), Some("ngram_indexes"));
    }
}

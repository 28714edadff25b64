//! Finds the entry of a variable by the objects of the Python program that saved it.
//!
//! Two graphs of objects describe the same program: that of the checkpoint names entries, that of the SavedModel
//! names variables as the nodes of the graph do. Objects correspond if the same path leads to them.

use std::collections::{HashMap, HashSet};

use base::error::{Result, ServingError};
use prost::Message;
use proto::tensorflow::{SavedObjectGraph, TrackableObjectGraph, saved_object};

use crate::checkpoint::Bundle;

/// The entry with the checkpoint's graph of objects.
const KEY: &str = "_CHECKPOINTABLE_OBJECT_GRAPH";
/// The attribute of an object that is a variable's value.
const VALUE: &str = "VARIABLE_VALUE";

/// Reads the graph of objects of a checkpoint; an empty one if it has none.
///
/// # Errors
///
/// `INVALID_ARGUMENT` if it is damaged.
pub(super) fn read(checkpoint: &Bundle<'_>) -> Result<TrackableObjectGraph> {
    let Some(elements) = checkpoint.read(KEY, None)? else {
        return Ok(TrackableObjectGraph::default());
    };
    let message = elements.strings().and_then(|it| it.first());
    let graph = message.and_then(|it| TrackableObjectGraph::decode(it.clone()).ok());
    graph.ok_or_else(|| {
        ServingError::invalid_argument(format!("the checkpoint's entry '{KEY}' is damaged"))
    })
}

/// The entry of each variable by its name. The path to an object counts before the name that the checkpoint
/// notes, because two variables can have the same name there.
pub(super) fn keys(
    checkpoint: &TrackableObjectGraph,
    saved: Option<&SavedObjectGraph>,
) -> HashMap<String, String> {
    let mut keys = HashMap::new();
    if let Some(saved) = saved {
        by_path(checkpoint, saved, &mut keys);
    }
    let attributes = checkpoint.nodes.iter().flat_map(|it| &it.attributes);
    for attribute in attributes.filter(|it| it.name == VALUE && !it.full_name.is_empty()) {
        let key = keys.entry(attribute.full_name.clone());
        key.or_insert_with(|| attribute.checkpoint_key.clone());
    }
    keys
}

fn by_path(
    checkpoint: &TrackableObjectGraph,
    saved: &SavedObjectGraph,
    keys: &mut HashMap<String, String>,
) {
    let node = |index: i32| usize::try_from(index).ok();
    let mut queue = vec![(0usize, 0usize)];
    let mut seen = HashSet::from([(0, 0)]);
    while let Some((ours, theirs)) = queue.pop() {
        let (Some(object), Some(tracked)) = (saved.nodes.get(ours), checkpoint.nodes.get(theirs))
        else {
            continue;
        };
        if let Some(saved_object::Kind::Variable(variable)) = &object.kind
            && let Some(value) = tracked.attributes.iter().find(|it| it.name == VALUE)
            && !variable.name.is_empty()
        {
            let key = keys.entry(variable.name.clone());
            key.or_insert_with(|| value.checkpoint_key.clone());
        }
        let children: HashMap<&str, i32> = tracked
            .children
            .iter()
            .map(|it| (it.local_name.as_str(), it.node_id))
            .collect();
        for child in &object.children {
            let tracked = children.get(child.local_name.as_str());
            if let Some(pair) = node(child.node_id).zip(tracked.and_then(|it| node(*it)))
                && seen.insert(pair)
            {
                queue.push(pair);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::tensorflow::{
        SavedObject, SavedVariable,
        trackable_object_graph::{
            TrackableObject,
            trackable_object::{ObjectReference, SerializedTensor},
        },
    };

    use super::*;

    fn child(name: &str, node_id: i32) -> ObjectReference {
        ObjectReference {
            node_id,
            local_name: name.to_owned(),
        }
    }

    fn tracked(full_name: &str, key: &str) -> TrackableObject {
        TrackableObject {
            attributes: vec![SerializedTensor {
                name: VALUE.to_owned(),
                full_name: full_name.to_owned(),
                checkpoint_key: key.to_owned(),
            }],
            ..TrackableObject::default()
        }
    }

    /// Two variables have the same name in the checkpoint; the SavedModel calls one of them otherwise.
    #[test]
    fn paths_count_before_names() {
        let children = vec![
            child("a", 1),
            child("b", 2),
            child("loop", 0),
            child("lost", 9),
        ];
        let checkpoint = TrackableObjectGraph {
            nodes: vec![
                TrackableObject {
                    children: children.clone(),
                    ..TrackableObject::default()
                },
                tracked("w", "key of a"),
                tracked("w", "key of b"),
                tracked("alone", "key of alone"),
            ],
        };
        let variable = |name: &str| SavedObject {
            kind: Some(saved_object::Kind::Variable(SavedVariable {
                name: name.to_owned(),
                ..SavedVariable::default()
            })),
            ..SavedObject::default()
        };
        let saved = SavedObjectGraph {
            nodes: vec![
                SavedObject {
                    children,
                    ..SavedObject::default()
                },
                variable("w_1"),
                variable("w"),
            ],
            ..SavedObjectGraph::default()
        };
        let found = keys(&checkpoint, Some(&saved));
        assert_eq!(found["w_1"], "key of a");
        assert_eq!(found["w"], "key of b");
        assert_eq!(found["alone"], "key of alone");
        assert_eq!(keys(&checkpoint, None)["w"], "key of a");
    }
}

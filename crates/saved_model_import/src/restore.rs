//! The values of variables: from the entries of the checkpoint that the graph restores them from, or from
//! constants that the graph assigns to them before the first request.
//!
//! TensorFlow Serving runs the restore op, then the init op (`saved_model/loader.cc`). Here both are followed
//! without running anything. A variable that neither sets is looked up in the object graph, as TensorFlow's
//! Python API does: Keras has written files whose restore op leaves variables out.
//!
//! Not here: reading the checkpoint (`checkpoint`).

mod objects;
mod run;

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use base::error::{Result, ServingError};
use base::tensor::{DataType, Tensor as Elements};
use proto::tensorflow::{CollectionDef, MetaGraphDef, NodeDef, collection_def, tensor_info};

use self::run::{Run, Source};
use crate::checkpoint::Bundle;
use crate::constants::Constants;
use crate::files::Files;
use crate::graph::resource_name;
use crate::graph::{Graph, TensorRef, attribute};
use crate::value::Shape;
use proto::tensorflow::attr_value;

/// Where a SavedModel has its checkpoint.
const CHECKPOINT: &str = "variables/variables";
/// The signature whose output names the op that initialises the model.
const INIT_OP: &str = "__saved_model_init_op";
/// The collections that name it in the files of TensorFlow 1, the first that exists counts.
const INIT_OP_COLLECTIONS: [&str; 2] = ["saved_model_main_op", "legacy_init_op"];

/// The values of variables.
pub(crate) struct Variables<'f> {
    origin: String,
    checkpoint: Option<Bundle<'f>>,
    sources: HashMap<Rc<str>, Source>,
    declared: HashMap<Rc<str>, Declared>,
    /// The entry of each variable by the object graph of the SavedModel.
    objects: OnceCell<HashMap<String, String>>,
    saved_objects: Option<proto::tensorflow::SavedObjectGraph>,
    read: RefCell<HashMap<Place, Elements>>,
}

/// An entry of the checkpoint and the part of it, by which values are shared between signatures.
type Place = (Rc<str>, Rc<str>);

/// The dtype and the shape that a variable's node states.
struct Declared {
    dtype: Option<DataType>,
    shape: Shape,
}

impl<'f> Variables<'f> {
    /// Follows the restore op and the init op.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` for a damaged index; the errors of reading it.
    pub(crate) fn of(
        origin: &str,
        meta_graph: &MetaGraphDef,
        graph: &Graph<'_>,
        constants: &Constants,
        files: &'f dyn Files,
    ) -> Result<Self> {
        let declared = declared(graph);
        let mut run = Run::new(graph, constants);
        if let Some(saver) = &meta_graph.saver_def
            && let Some(op) = TensorRef::parse(&saver.restore_op_name)
        {
            run.main(op.node, TensorRef::parse(&saver.filename_tensor_name));
        }
        if let Some(op) = init_op(meta_graph)
            && let Some(op) = TensorRef::parse(op)
        {
            run.main(op.node, None);
        }
        let sources = run.finish();
        // A graph without variables can still restore lookup tables.
        let has_saver = meta_graph.saver_def.is_some();
        let checkpoint = match has_saver || !declared.is_empty() {
            true => Bundle::open(files, CHECKPOINT).map_err(|it| within(origin, &it))?,
            false => None,
        };
        Ok(Self {
            origin: origin.to_owned(),
            checkpoint,
            sources,
            declared,
            objects: OnceCell::new(),
            saved_objects: meta_graph.object_graph_def.clone(),
            read: RefCell::default(),
        })
    }

    /// The value of a variable, by the name that is unique in the model; `None` if nothing sets it.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` for a damaged or missing checkpoint, naming its file and the variable.
    pub(crate) fn value(&self, name: &str) -> Result<Option<Elements>> {
        let elements = match self.sources.get(name) {
            Some(Source::Entry { key, part }) => Some(self.entry(name, key, part)?),
            Some(Source::Constant(elements)) => Some(elements.clone()),
            Some(Source::Computed(_)) => return Ok(None),
            None => match self.key_by_objects(name)? {
                Some(key) => Some(self.entry(name, &key.into(), &"".into())?),
                None => None,
            },
        };
        if let Some(elements) = &elements {
            self.check(name, elements)?;
        }
        Ok(elements)
    }

    /// Whether the checkpoint or a constant sets a variable. Nothing is read but the object graph.
    ///
    /// # Errors
    ///
    /// As `value`.
    pub(crate) fn is_set(&self, name: &str) -> Result<bool> {
        Ok(self.sources.contains_key(name) || self.key_by_objects(name)?.is_some())
    }

    /// The shape that a variable's node states.
    pub(crate) fn declared_shape(&self, name: &str) -> Shape {
        let declared = self.declared.get(name);
        declared.map_or_else(Shape::unknown, |it| it.shape.clone())
    }

    /// The operator that computes a variable's first value, which is why it is not known.
    pub(crate) fn computed_by(&self, name: &str) -> Option<&str> {
        match self.sources.get(name)? {
            Source::Computed(op) => Some(op),
            _ => None,
        }
    }

    /// An entry of the checkpoint; `None` if there is none of this name.
    ///
    /// # Errors
    ///
    /// As `value`.
    pub(crate) fn checkpoint_entry(&self, key: &str) -> Result<Option<Elements>> {
        match &self.checkpoint {
            Some(checkpoint) => checkpoint
                .read(key, None)
                .map_err(|error| within(&self.origin, &error)),
            None => Ok(None),
        }
    }

    fn entry(&self, name: &str, key: &Rc<str>, part: &Rc<str>) -> Result<Elements> {
        let place = (Rc::clone(key), Rc::clone(part));
        if let Some(known) = self.read.borrow().get(&place) {
            return Ok(known.clone());
        }
        let damaged = |text: String| {
            ServingError::invalid_argument(format!("{}: variable '{name}': {text}", self.origin))
        };
        let Some(checkpoint) = &self.checkpoint else {
            return Err(damaged(format!(
                "{CHECKPOINT}.index is missing, which has its value. Copy the folder 'variables' too"
            )));
        };
        let slice = crate::checkpoint::Slice::parse(part);
        let slice = slice
            .ok_or_else(|| damaged(format!("it is restored from '{part}', which is not a part")))?;
        let elements = checkpoint.read(key, slice.as_ref());
        let elements = elements
            .map_err(|error| within(&format!("{}: variable '{name}'", self.origin), &error))?;
        let elements = elements.ok_or_else(|| {
            damaged(format!(
                "{CHECKPOINT}.index has no entry '{key}', which it is restored from"
            ))
        })?;
        self.read.borrow_mut().insert(place, elements.clone());
        Ok(elements)
    }

    /// The entry that the object graph gives a variable.
    fn key_by_objects(&self, name: &str) -> Result<Option<String>> {
        if self.objects.get().is_none() {
            let objects = match &self.checkpoint {
                Some(checkpoint) => {
                    let origin = |error| within(&self.origin, &error);
                    let graph = objects::read(checkpoint).map_err(origin)?;
                    objects::keys(&graph, self.saved_objects.as_ref())
                }
                None => HashMap::new(),
            };
            let _ = self.objects.set(objects);
        }
        Ok(self.objects.get().and_then(|it| it.get(name)).cloned())
    }

    /// Refuses a value of another dtype or shape than the variable's node says.
    fn check(&self, name: &str, elements: &Elements) -> Result<()> {
        let Some(declared) = self.declared.get(name) else {
            return Ok(());
        };
        let has_shape = declared.shape.0.as_ref().is_none_or(|dims| {
            let fits = |(dim, &size): (&Option<i64>, &usize)| {
                dim.is_none_or(|it| usize::try_from(it) == Ok(size))
            };
            dims.len() == elements.shape().len() && dims.iter().zip(elements.shape()).all(fits)
        });
        if has_shape && declared.dtype.is_none_or(|it| it == elements.dtype()) {
            return Ok(());
        }
        Err(ServingError::invalid_argument(format!(
            "{}: variable '{name}' has the dtype and shape {elements:?} in {CHECKPOINT}.index, but others in the \
             graph",
            self.origin
        )))
    }
}

fn within(origin: &str, error: &ServingError) -> ServingError {
    ServingError::new(error.code(), format!("{origin}: {error}"))
}

/// The op that TensorFlow runs after it has restored the variables (`GetInitOp` in `loader_util.cc`).
pub(crate) fn init_op(meta_graph: &MetaGraphDef) -> Option<&str> {
    if let Some(signature) = meta_graph.signature_def.get(INIT_OP) {
        return match signature.outputs.get(INIT_OP)?.encoding.as_ref()? {
            tensor_info::Encoding::Name(name) => Some(name),
            _ => None,
        };
    }
    let collections = &meta_graph.collection_def;
    let collection = INIT_OP_COLLECTIONS
        .iter()
        .find_map(|it| collections.get(*it));
    match collection {
        Some(CollectionDef {
            kind: Some(collection_def::Kind::NodeList(list)),
        }) => list.value.first().map(String::as_str),
        _ => None,
    }
}

/// The statements of all variables' nodes, those of the main graph first.
fn declared(graph: &Graph<'_>) -> HashMap<Rc<str>, Declared> {
    let mut declared = HashMap::new();
    let functions = graph.functions.values().map(|it| &it.body);
    for body in std::iter::once(&graph.main).chain(functions) {
        for node in body.nodes.values().filter(|it| is_variable(it)) {
            let dtype = match attribute(node, "dtype") {
                Some(attr_value::Value::Type(number)) => DataType::from_number(*number),
                _ => None,
            };
            let shape = match attribute(node, "shape") {
                Some(attr_value::Value::Shape(shape)) => crate::op::shape_of(shape),
                _ => Shape::unknown(),
            };
            let declaration = Declared { dtype, shape };
            declared.entry(resource_name(node)).or_insert(declaration);
        }
    }
    declared
}

fn is_variable(node: &NodeDef) -> bool {
    matches!(node.op.as_str(), "VarHandleOp" | "VariableV2" | "Variable")
}

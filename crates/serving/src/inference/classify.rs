//! `Classify`: the rules of `servables/tensorflow/classifier.cc`, plus the labels and top-k that a
//! signature map can add to a graph that only returns scores.
//!
//! Not here: where labels come from (`mapper::version_dir`).

mod top_k;

use std::sync::Arc;

use super::examples::INPUTS;
use super::{ExamplesRequest, InferenceOptions, InferenceService};
use crate::servable::{Servable, ServableHandle};
use base::error::{Result, ServingError};
use base::id::ServableId;
use base::tensor::{DataType, Tensor, shape_text};
use base::vocabulary::Api;
use mapper::signature::{CLASSIFY_METHOD_NAME, Classes, SignatureDef, definition_text};

const CLASSES: &str = "classes";
const SCORES: &str = "scores";

/// The response to a `Classify`.
#[derive(Clone, Debug)]
pub struct ClassificationResponse {
    /// The version that answered.
    pub servable: ServableId,
    /// The signature that was used.
    pub signature_name: String,
    /// The classes of every example.
    pub result: ClassificationResult,
}

/// The classes of every example, with the tensors that contain them.
///
/// Invariant: `classes: string[n, c]` and `scores: float[n, c]`, with `n` and `c` as given here.
#[derive(Clone, Debug)]
pub struct ClassificationResult {
    classes: Option<Tensor>,
    scores: Option<Tensor>,
    num_examples: usize,
    num_classes: usize,
    /// The labels of the columns, if the model does not return a tensor `classes`.
    ///
    /// Invariant: `c` labels.
    declared: Option<Arc<Classes>>,
    /// The positions in the tensors of the classes to return, the same number for every example;
    /// `None`: all of them, in the order of the tensors.
    ranking: Option<Vec<usize>>,
}

/// One class of one example.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Class<'a> {
    /// Empty if the signature has no labels; not necessarily UTF-8.
    pub label: &'a [u8],
    /// 0 if the signature has no scores.
    pub score: f32,
}

impl ClassificationResult {
    /// The result of these outputs for `num_examples` examples.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if an output does not have the required shape or dtype, or if the two do not
    /// match.
    pub fn try_new(
        classes: Option<Tensor>,
        scores: Option<Tensor>,
        num_examples: usize,
    ) -> Result<Self> {
        let class_width = checked_width(CLASSES, classes.as_ref(), DataType::String, num_examples)?;
        let score_width = checked_width(SCORES, scores.as_ref(), DataType::Float, num_examples)?;
        let num_classes = match (class_width, score_width) {
            (Some(classes), Some(scores)) if classes != scores => {
                return Err(ServingError::invalid_argument(format!(
                    "Tensors class and score should match in dim_size(1). Got {classes} vs. {scores}"
                )));
            }
            (classes, scores) => classes.or(scores).unwrap_or(0),
        };
        Ok(Self {
            classes,
            scores,
            num_classes,
            num_examples,
            declared: None,
            ranking: None,
        })
    }

    /// Adds the signature's declarations about the columns of `scores`: its labels, unless the model
    /// itself returns `classes`, and how many of the best to keep. Of equal scores the first ranks
    /// higher, as in TensorFlow's `TopKV2`; NaN ranks lowest.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if the number of labels differs from the number of columns.
    pub fn with_declared(mut self, declared: Arc<Classes>) -> Result<Self> {
        let Some(scores) = self.scores.as_ref().and_then(Tensor::as_slice::<f32>) else {
            return Ok(self);
        };
        if declared.top_k > 0 {
            self.ranking = Some(top_k::best(scores, self.num_classes, declared.top_k));
        }
        if self.classes.is_none() {
            let (labels, columns) = (declared.labels.len(), self.num_classes);
            if labels != columns {
                return Err(ServingError::invalid_argument(format!(
                    "Expected as many labels as {SCORES} in dim_size(1). Got {labels} vs. {columns}"
                )));
            }
            self.declared = Some(declared);
        }
        Ok(self)
    }

    /// The classes of each example: in the model's order, or the best first if the signature declares
    /// how many to keep.
    pub fn examples(&self) -> impl Iterator<Item = impl Iterator<Item = Class<'_>>> {
        let scores = self.scores.as_ref().and_then(Tensor::as_slice::<f32>);
        let class = move |index: usize| Class {
            label: self.label(index),
            score: scores.map_or(0.0, |scores| scores[index]),
        };
        let ranking = self.ranking.as_deref();
        let width = match ranking {
            Some(ranking) => ranking.len() / self.num_examples.max(1),
            None => self.num_classes,
        };
        (0..self.num_examples).map(move |example| {
            let places = example * width..(example + 1) * width;
            places.map(move |place| class(ranking.map_or(place, |ranking| ranking[place])))
        })
    }

    /// The approximate memory that it keeps alive.
    pub(super) fn memory_bytes(&self) -> usize {
        let tensors = self.classes.iter().chain(&self.scores);
        tensors.map(Tensor::memory_bytes).sum()
    }

    /// The label of the class at position `index` in the tensors.
    fn label(&self, index: usize) -> &[u8] {
        let labels = self.classes.as_ref().and_then(Tensor::strings);
        match (labels, &self.declared) {
            (Some(labels), _) => &labels[index],
            (None, Some(declared)) => &declared.labels[index % self.num_classes],
            (None, None) => &[],
        }
    }
}

impl InferenceService {
    /// Classifies examples by one signature of one servable.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if the signature is missing or not one for classification, if the request
    /// has no examples, or if the graph's outputs are not a valid result; those of
    /// [`Servable::run`](crate::servable::Servable::run).
    pub async fn classify(
        &self,
        servable: &ServableHandle,
        request: ExamplesRequest,
    ) -> Result<ClassificationResponse> {
        let (signature_name, definition) = super::definition(servable, &request.signature_name)
            .map_err(|name| super::no_signature(&name))?;
        let outputs = classification_outputs(&definition, &self.options)?;
        let declared = declared_classes(servable, &signature_name);
        let (inputs, _expansion) = request.examples.to_inputs(&self.expansion)?;
        let sampled = self.sampled(&servable.id, &request);
        let fetched = self
            .run(
                Api::Classify,
                servable,
                &signature_name,
                inputs,
                &outputs,
                request.deadline,
            )
            .await?;
        let response = ClassificationResponse {
            servable: servable.id.clone(),
            signature_name,
            result: classification_result(
                fetched,
                &outputs,
                declared,
                request.examples.examples.len(),
            )?,
        };
        self.log(sampled, &response);
        Ok(response)
    }
}

/// Checks that a signature can classify, and returns the aliases to fetch (`PreProcessClassification`).
pub(super) fn classification_outputs(
    definition: &SignatureDef,
    options: &InferenceOptions,
) -> Result<Vec<String>> {
    if options.check_method_name && definition.method_name != CLASSIFY_METHOD_NAME {
        return Err(ServingError::invalid_argument(format!(
            "Expected classification signature method_name to be {CLASSIFY_METHOD_NAME}. Was: {}",
            definition.method_name
        )));
    }
    if definition.inputs.len() != 1 {
        return Err(ServingError::invalid_argument("Expected one input Tensor."));
    }
    if !matches!(definition.outputs.len(), 1 | 2) {
        return Err(ServingError::invalid_argument(format!(
            "Expected one or two output Tensors, found {}",
            definition.outputs.len()
        )));
    }
    if !definition.inputs.contains_key(INPUTS) {
        return Err(ServingError::invalid_argument(format!(
            "No classification inputs found in SignatureDef: {}",
            definition_text(definition)
        )));
    }
    let outputs: Vec<String> = [CLASSES, SCORES]
        .into_iter()
        .filter(|alias| definition.outputs.contains_key(*alias))
        .map(str::to_owned)
        .collect();
    if outputs.is_empty() {
        return Err(ServingError::invalid_argument(format!(
            "Expected classification signature outputs to contain at least one of \"{CLASSES}\" \
             or \"{SCORES}\". Signature was: {}",
            definition_text(definition)
        )));
    }
    Ok(outputs)
}

/// The signature's declarations about the columns of its scores.
pub(super) fn declared_classes(servable: &Servable, signature_name: &str) -> Option<Arc<Classes>> {
    let signature = servable.signature(signature_name).ok()?;
    let scores = signature.outputs.iter().find(|it| it.alias == SCORES)?;
    scores.classes.clone()
}

/// Checks the graph's outputs and builds the result (`PostProcessClassificationResult`).
pub(super) fn classification_result(
    fetched: Vec<(String, Tensor)>,
    outputs: &[String],
    declared: Option<Arc<Classes>>,
    num_examples: usize,
) -> Result<ClassificationResult> {
    if fetched.len() != outputs.len() {
        return Err(ServingError::invalid_argument(format!(
            "Expected {} output tensor(s).  Got: {}",
            outputs.len(),
            fetched.len()
        )));
    }
    let (mut classes, mut scores) = (None, None);
    for (alias, tensor) in fetched {
        match alias.as_str() {
            CLASSES => classes = Some(tensor),
            SCORES => scores = Some(tensor),
            _ => {}
        }
    }
    let result = ClassificationResult::try_new(classes, scores, num_examples)?;
    match declared {
        Some(declared) => result.with_declared(declared),
        None => Ok(result),
    }
}

/// The number of classes of each example in an output; `None` if the signature has no such output.
fn checked_width(
    alias: &str,
    output: Option<&Tensor>,
    dtype: DataType,
    num_examples: usize,
) -> Result<Option<usize>> {
    let Some(output) = output else {
        return Ok(None);
    };
    let &[batch, width] = output.shape() else {
        return Err(ServingError::invalid_argument(format!(
            "Expected Tensor shape: [batch_size num_classes] but got {}",
            shape_text(output.shape())
        )));
    };
    if output.dtype() != dtype {
        return Err(ServingError::invalid_argument(format!(
            "Expected {alias} Tensor of {}. Got: {}",
            dtype.proto_name(),
            output.dtype().proto_name()
        )));
    }
    if batch != num_examples {
        return Err(ServingError::invalid_argument(format!(
            "Expected {alias} output batch size of {num_examples}. Got: {batch}"
        )));
    }
    Ok(Some(width))
}

#[cfg(test)]
mod tests;

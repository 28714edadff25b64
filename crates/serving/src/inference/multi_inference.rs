//! `MultiInference`: several classifications and regressions of the same examples
//! (`servables/tensorflow/multi_inference.cc`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::classify::{
    ClassificationResult, classification_outputs, classification_result, declared_classes,
};
use super::regress::{regression_outputs, regression_values};
use super::{Examples, InferenceService};
use crate::servable::ServableHandle;
use base::error::{Result, ServingError};
use base::id::ServableId;
use base::tensor::{DataType, Tensor};
use base::vocabulary::Api;
use mapper::signature::{
    CLASSIFY_METHOD_NAME, Classes, FedTensor, REGRESS_METHOD_NAME, SignatureDef, check_run,
};

/// A `MultiInference` request, for the servable that the first task names.
#[derive(Clone, Debug)]
pub struct MultiInferenceRequest {
    /// Each has another signature of the same model.
    pub tasks: Vec<InferenceTask>,
    /// The examples, which are the same for every task.
    pub examples: Examples,
    /// When the client stops waiting.
    pub deadline: Option<Instant>,
}

/// One part of a [`MultiInferenceRequest`].
#[derive(Clone, Debug)]
pub struct InferenceTask {
    /// Has to be the same in all tasks. Only the first task selects the version.
    pub model_name: String,
    /// Empty for `serving_default`.
    pub signature_name: String,
    /// [`CLASSIFY_METHOD_NAME`] or [`REGRESS_METHOD_NAME`]; the signature's own method name is ignored.
    pub method_name: String,
}

/// The response to a [`MultiInferenceRequest`].
#[derive(Clone, Debug)]
pub struct MultiInferenceResponse {
    /// The version that answered.
    pub servable: ServableId,
    /// In the order of the tasks.
    pub results: Vec<InferenceResult>,
}

/// The result of an [`InferenceTask`].
#[derive(Clone, Debug)]
pub struct InferenceResult {
    /// The signature that was used.
    pub signature_name: String,
    /// Depends on the method of the task.
    pub outcome: InferenceOutcome,
}

/// The result of a classification or of a regression.
#[derive(Clone, Debug)]
pub enum InferenceOutcome {
    /// The classes of every example.
    Classification(ClassificationResult),
    /// The value of every example.
    Regression(Vec<f32>),
}

impl InferenceOutcome {
    /// The approximate memory that it keeps alive.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Classification(result) => result.memory_bytes(),
            Self::Regression(values) => values.len() * size_of::<f32>(),
        }
    }
}

/// A task that passed its checks.
struct Plan {
    signature_name: String,
    method: Method,
    outputs: Vec<String>,
    /// For [`Method::Classify`]: the labels of the scores' columns.
    declared: Option<Arc<Classes>>,
}

#[derive(Clone, Copy)]
enum Method {
    Classify,
    Regress,
}

impl InferenceService {
    /// Applies several signatures of one servable to the same examples.
    ///
    /// All tasks are checked before the first runs, and all run before the first result is checked, as
    /// in TensorFlow Serving's single run.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` for tasks without a model name, with another model, with a signature that the
    /// model does not have or with the same signature twice; `UNIMPLEMENTED` for a method that neither
    /// classifies nor regresses; otherwise those of [`classify`](Self::classify) and
    /// [`regress`](Self::regress).
    pub async fn multi_inference(
        &self,
        servable: &ServableHandle,
        request: MultiInferenceRequest,
    ) -> Result<MultiInferenceResponse> {
        let plans = self.plan(servable, &request.tasks)?;
        let (inputs, _expansion) = request.examples.to_inputs(&self.expansion)?;
        check_common_run(servable, &plans)?;
        let sampled = self.sampled(&servable.id, &request);
        let mut fetched = Vec::with_capacity(plans.len());
        for Plan {
            signature_name,
            outputs,
            ..
        } in &plans
        {
            let run = self.run(
                Api::MultiInference,
                servable,
                signature_name,
                inputs.clone(),
                outputs,
                request.deadline,
            );
            fetched.push(run.await?);
        }

        let num_examples = request.examples.examples.len();
        self.metrics
            .record_example_count(&servable.id.name, num_examples);
        let results: Result<Vec<_>> = plans
            .into_iter()
            .zip(fetched)
            .map(|(plan, fetched)| plan.result(fetched, num_examples))
            .collect();
        let response = MultiInferenceResponse {
            servable: servable.id.clone(),
            results: results?,
        };
        self.log(sampled, &response);
        Ok(response)
    }

    /// Checks the tasks one after another.
    fn plan(&self, servable: &ServableHandle, tasks: &[InferenceTask]) -> Result<Vec<Plan>> {
        let mut plans: Vec<Plan> = Vec::new();
        for task in tasks {
            if task.model_name.is_empty() {
                return Err(ServingError::invalid_argument(
                    "Found ModelSpec with an empty model name.",
                ));
            }
            if task.model_name != tasks[0].model_name {
                return Err(ServingError::invalid_argument(
                    "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
                ));
            }
            let found = super::definition(servable, &task.signature_name);
            let signature_name = match &found {
                Ok((name, _)) | Err(name) => name.clone(),
            };
            if plans
                .iter()
                .any(|plan| plan.signature_name == signature_name)
            {
                return Err(ServingError::invalid_argument(format!(
                    "Duplicate evaluation of signature: {signature_name}"
                )));
            }
            let (_, definition) = found.map_err(|name| {
                ServingError::invalid_argument(format!(
                    "Requested signature not found in model graph: {name}"
                ))
            })?;
            let (method, outputs) = self.method_outputs(&task.method_name, &definition)?;
            plans.push(Plan {
                declared: declared_classes(servable, &signature_name),
                signature_name,
                method,
                outputs,
            });
        }
        Ok(plans)
    }

    fn method_outputs(
        &self,
        method_name: &str,
        definition: &SignatureDef,
    ) -> Result<(Method, Vec<String>)> {
        match method_name {
            CLASSIFY_METHOD_NAME => {
                let outputs = classification_outputs(definition, &self.options)?;
                Ok((Method::Classify, outputs))
            }
            REGRESS_METHOD_NAME => {
                let outputs = regression_outputs(definition, &self.options)?;
                Ok((Method::Regress, outputs))
            }
            other => Err(ServingError::unimplemented(format!(
                "Unsupported signature method_name: {other}"
            ))),
        }
    }
}

/// Checks the single run that TensorFlow Serving would make for all tasks: the examples fed to the
/// input of every signature, all outputs fetched.
fn check_common_run(servable: &ServableHandle, plans: &[Plan]) -> Result<()> {
    let signatures = plans.iter().map(|plan| {
        let signature = servable.signature(&plan.signature_name);
        signature.map(|signature| (plan, signature))
    });
    let signatures = signatures.collect::<Result<Vec<_>>>()?;
    // Only in a SavedModel do signatures share one graph's tensor names.
    let are_original = signatures.iter().all(|(_, it)| it.is_original);
    if !are_original {
        return Ok(());
    }
    let mut fed: BTreeMap<&str, FedTensor<'_>> = BTreeMap::new();
    for input in signatures.iter().flat_map(|(_, it)| &it.inputs) {
        let tensor = FedTensor {
            name: &input.tensor_name,
            declared: input.dtype,
            sent: DataType::String,
        };
        // If signatures disagree about a tensor, the one with strings is right.
        let known = fed.entry(tensor.name).or_insert(tensor);
        if input.dtype == DataType::String {
            *known = tensor;
        }
    }
    let fetched = signatures.iter().flat_map(|(plan, signature)| {
        let aliases = plan.outputs.iter();
        aliases.map(|alias| signature.output_tensor_name(alias))
    });
    check_run(fed.into_values().collect(), fetched)
}

impl Plan {
    fn result(
        self,
        fetched: Vec<(String, Tensor)>,
        num_examples: usize,
    ) -> Result<InferenceResult> {
        let outcome = match self.method {
            Method::Classify => InferenceOutcome::Classification(classification_result(
                fetched,
                &self.outputs,
                self.declared,
                num_examples,
            )?),
            Method::Regress => {
                InferenceOutcome::Regression(regression_values(&fetched, num_examples)?)
            }
        };
        Ok(InferenceResult {
            signature_name: self.signature_name,
            outcome,
        })
    }
}

#[cfg(test)]
mod tests;

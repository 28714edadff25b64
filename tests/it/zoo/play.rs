//! Plays a zoo's cases over REST and gRPC.

use proto::tensorflow::serving::internal::{
    SerializedExampleList, SerializedInput, serialized_input,
};
use proto::tensorflow::serving::{
    ClassificationRequest, ClassificationResponse, PredictRequest, RegressionRequest,
    RegressionResponse,
};
use tonic::{Code, Status};

use super::case::Case;
use crate::golden::code_name;
use crate::support::json::{Json, Tolerance};
use crate::support::predict::{self, model_version};
use crate::support::server::TestServer;
use crate::support::tensor::Values;

const CLASSIFY: &str = "/tensorflow.serving.PredictionService/Classify";
const REGRESS: &str = "/tensorflow.serving.PredictionService/Regress";

/// Plays the case over REST; `None` if REST cannot express it.
pub(crate) async fn over_rest(server: &TestServer, case: &Case) -> Option<Result<(), String>> {
    let (path, body) = case.rest.as_ref()?;
    let reply = server.post(path, body).await;
    let is_fine = if case.is_kernel_specific {
        reply.status >= 400
    } else {
        i64::from(reply.status) == case.rest_status
    };
    if !is_fine {
        let (status, text) = (reply.status, reply.text());
        return Some(Err(format!(
            "status {status}, not {}: {text}",
            case.rest_status
        )));
    }
    let Some(expected) = case.rest_body.as_ref().filter(|_| reply.status == 200) else {
        let body = Json::parse(&reply.body);
        let error = body.as_ref().ok().and_then(|it| it.get("error")?.as_str());
        return Some(check_error(case, error.unwrap_or_default()));
    };
    // Decimals are rounded to the dtype's precision; the exact bits are tested over gRPC.
    let tolerance = Tolerance {
        abs: case.tolerance.abs.max(f32::MIN_POSITIVE.into()),
        rel: case.tolerance.rel.max(f32::EPSILON.into()),
    };
    let actual = Json::parse(&reply.body);
    Some(actual.and_then(|actual| expected.check(&actual, tolerance)))
}

/// Plays the case over gRPC; `None` if gRPC cannot express it.
pub(crate) async fn over_grpc(
    server: &TestServer,
    model: &str,
    case: &Case,
) -> Option<Result<(), String>> {
    let result = match case.verb.as_str() {
        "predict" => predict(server, model, case).await?,
        "classify" => classify(server, model, case).await?,
        "regress" => regress(server, model, case).await?,
        verb => return Some(Err(format!("no verb {verb}"))),
    };
    Some(match result {
        Ok(result) if case.grpc_code == "OK" => result,
        Ok(_) => Err(format!("OK, not {}", case.grpc_code)),
        Err(_) if case.is_kernel_specific => Ok(()),
        Err(status) if code_name(status.code()) == case.grpc_code => {
            check_error(case, status.message())
        }
        Err(status) => Err(format!("{status}, not {}", case.grpc_code)),
    })
}

fn check_error(case: &Case, actual: &str) -> Result<(), String> {
    match &case.error_text {
        Some(expected) if !actual.contains(expected.as_str()) => {
            Err(format!("the error says '{actual}', not '{expected}'"))
        }
        _ => Ok(()),
    }
}

/// The status, or the comparison with the recorded answer.
type PlayedCase = Option<Result<Result<(), String>, Status>>;

async fn predict(server: &TestServer, model: &str, case: &Case) -> PlayedCase {
    let inputs = case.inputs.as_ref()?.iter();
    let request = PredictRequest {
        model_spec: Some(model_version(model, case.version, &case.signature_name)),
        inputs: inputs
            .map(|(alias, tensor)| (alias.clone(), tensor.to_content()))
            .collect(),
        ..PredictRequest::default()
    };
    let outputs = match predict::call(&server.grpc, &request).await {
        Ok(outputs) => outputs,
        Err(status) => return Some(Err(status)),
    };
    let Some(expected) = &case.outputs else {
        return Some(Ok(Ok(())));
    };
    if !expected.keys().eq(outputs.keys()) {
        let (expected, actual) = (expected.keys(), outputs.keys());
        return Some(Ok(Err(format!("outputs {actual:?}, not {expected:?}"))));
    }
    let check = expected.iter().try_for_each(|(alias, tensor)| {
        let result = tensor.check(&outputs[alias], case.tolerance);
        result.map_err(|error| format!("output {alias}: {error}"))
    });
    Some(Ok(check))
}

async fn classify(server: &TestServer, model: &str, case: &Case) -> PlayedCase {
    let request = ClassificationRequest {
        model_spec: Some(model_version(model, case.version, &case.signature_name)),
        input: Some(input(case)?),
    };
    let called = server.grpc.call_as(CLASSIFY, &request).await;
    Some(called.map(|response: ClassificationResponse| {
        let result = response.result.unwrap_or_default();
        let classes = result.classifications.iter().flat_map(|row| &row.classes);
        check_floats(case, "scores", classes.map(|class| class.score).collect())
    }))
}

async fn regress(server: &TestServer, model: &str, case: &Case) -> PlayedCase {
    let request = RegressionRequest {
        model_spec: Some(model_version(model, case.version, &case.signature_name)),
        input: Some(input(case)?),
    };
    let called = server.grpc.call_as(REGRESS, &request).await;
    Some(called.map(|response: RegressionResponse| {
        let result = response.result.unwrap_or_default();
        let values = result.regressions.iter().map(|row| row.value);
        check_floats(case, "outputs", values.collect())
    }))
}

fn input(case: &Case) -> Option<SerializedInput> {
    let examples = case.examples.as_ref()?.iter();
    let list = SerializedExampleList {
        examples: examples.map(|example| example.clone().into()).collect(),
    };
    Some(SerializedInput {
        kind: Some(serialized_input::Kind::ExampleList(list)),
    })
}

fn check_floats(case: &Case, alias: &str, actual: Vec<f32>) -> Result<(), String> {
    let mut expected = case
        .outputs
        .as_ref()
        .and_then(|outputs| outputs.get(alias))
        .cloned();
    let expected = expected
        .as_mut()
        .ok_or(format!("nothing recorded for {alias}"))?;
    // The answer has no shape of its own.
    expected.shape.clear();
    let actual = crate::support::tensor::TestTensor {
        shape: Vec::new(),
        values: Values::Float(actual),
    };
    expected.check(&actual, case.tolerance)
}

/// Checks that every request of a model fails, and the server survives.
pub(crate) async fn fails(server: &TestServer, model: &str, case: &Case) -> Result<(), String> {
    let (path, body) = case.rest.as_ref().ok_or("no request")?;
    let status = server.post(path, body).await.status;
    if status == 200 {
        return Err("REST answers".to_owned());
    }
    match predict(server, model, case).await {
        Some(Ok(_)) => Err("gRPC answers".to_owned()),
        Some(Err(status)) if status.code() == Code::Unavailable => Err("the server is gone".into()),
        _ => Ok(()),
    }
}

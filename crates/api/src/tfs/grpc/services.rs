//! The services of the port: the access rule of each method, and the messages that its calls can send.
//!
//! Every path is looked up here before any of its body is read. Calls of undeclared services are refused.
//!
//! Not here: the flags that enable services (`grpc`), checking the rules (`access`).

use crate::access::{CallHead, CountsAs, Right};
use base::vocabulary::{Api, Protocol};
use net::limit::ExemptCall;

/// A service that the port can have.
pub(super) struct Service {
    /// With its package.
    pub(super) name: &'static str,
    /// The API of each method, where there is one, and its access rule.
    method: fn(&str) -> Option<Method>,
}

/// The rule for a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Method {
    api: Api,
    right: Right,
    counts_as: CountsAs,
    messages: Messages,
}

/// The messages that come with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Messages {
    /// One message, as large as the flags allow.
    Request,
    /// One small message.
    Small,
    /// Several small messages.
    SmallStream,
}

/// A call of inference or model management.
const fn request(api: Api) -> Method {
    Method {
        api,
        right: Right::Permission,
        counts_as: CountsAs::Request,
        messages: Messages::Request,
    }
}

/// A probe, which needs no credentials.
const fn probe(exempt: ExemptCall) -> Method {
    Method {
        api: Api::Other,
        right: Right::Open,
        counts_as: CountsAs::Exempt(exempt),
        messages: Messages::Small,
    }
}

pub(super) static PREDICTION: Service = Service {
    name: "tensorflow.serving.PredictionService",
    method: |method| match method {
        "Predict" => Some(request(Api::Predict)),
        "Classify" => Some(request(Api::Classify)),
        "Regress" => Some(request(Api::Regress)),
        "MultiInference" => Some(request(Api::MultiInference)),
        "GetModelMetadata" => Some(request(Api::Metadata)),
        _ => None,
    },
};
pub(super) static MODEL: Service = Service {
    name: "tensorflow.serving.ModelService",
    method: |method| match method {
        "GetModelStatus" => Some(request(Api::Status)),
        "HandleReloadConfigRequest" => Some(request(Api::Reload)),
        _ => None,
    },
};
pub(super) static PROFILER: Service = Service {
    name: "tensorflow.ProfilerService",
    method: |_| {
        Some(Method {
            api: Api::Other,
            right: Right::Identity,
            counts_as: CountsAs::UncountedRequest,
            messages: Messages::Small,
        })
    },
};
pub(super) static HEALTH: Service = Service {
    name: "grpc.health.v1.Health",
    method: |method| match method {
        "Watch" => Some(probe(ExemptCall::Lasting)),
        _ => Some(probe(ExemptCall::Probe)),
    },
};
pub(super) static REFLECTION: [Service; 2] = [
    Service {
        name: "grpc.reflection.v1.ServerReflection",
        method: |_| Some(REFLECT),
    },
    Service {
        name: "grpc.reflection.v1alpha.ServerReflection",
        method: |_| Some(REFLECT),
    },
];
const REFLECT: Method = Method {
    api: Api::Other,
    right: Right::Identity,
    counts_as: CountsAs::Exempt(ExemptCall::Reflection),
    messages: Messages::SmallStream,
};

/// The services that are on the port.
#[derive(Default)]
pub(super) struct Declared(Vec<&'static Service>);

impl Declared {
    pub(super) fn add(&mut self, service: &'static Service) {
        self.0.push(service);
    }

    /// A call with this path, for the door, and the messages that come with it; `None` if the port does not
    /// have the method.
    pub(super) fn call(&self, path: &str) -> (CallHead<'static>, Option<Messages>) {
        let method = self.find(path);
        let head = CallHead {
            protocol: Protocol::Grpc,
            api: method.map_or(Api::Other, |it| it.api),
            // The message names it.
            model: None,
            right: method.map_or(Right::Identity, |it| it.right),
            counts_as: method.map_or(CountsAs::Exempt(ExemptCall::Probe), |it| it.counts_as),
        };
        (head, method.map(|it| it.messages))
    }

    fn find(&self, path: &str) -> Option<Method> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        let service = self.0.iter().find(|it| it.name == service)?;
        (service.method)(method)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|it| it.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_declared_is_found() {
        let mut declared = Declared::default();
        declared.add(&PREDICTION);
        declared.add(&HEALTH);
        let find = |path| declared.call(path).1;
        assert_eq!(find("/grpc.health.v1.Health/Check"), Some(Messages::Small));
        assert_eq!(
            find("/tensorflow.serving.PredictionService/Predict"),
            Some(Messages::Request)
        );
        for path in [
            "/tensorflow.ProfilerService/Profile",
            "/tensorflow.serving.PredictionService/predict",
            "/tensorflow.serving.ModelService/GetModelStatus",
            "/grpc.health.v1.Healthy/Check",
            "/grpc.health.v1.Health",
            "/tensorflow.serving.predictionservice/Predict",
            "grpc.health.v1.Health/Check",
            "//grpc.health.v1.Health/Check",
            "*",
            "",
        ] {
            assert_eq!(find(path), None, "{path}");
        }
    }
}

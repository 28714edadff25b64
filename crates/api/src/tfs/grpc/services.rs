//! The services of the port: access to each, and the messages that its calls can send.
//!
//! Every path is looked up here before any of its body is read. Calls of undeclared services are refused.
//!
//! Not here: the flags that enable services (`grpc`), permissions for models (`authorized`).

/// A service that the port can have.
pub(super) struct Service {
    /// With its package.
    pub(super) name: &'static str,
    pub(super) access: Access,
    pub(super) takes: Takes,
}

/// The callers that are allowed to use a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Everyone: load balancers have no credentials.
    Anybody,
    /// Authenticated callers, if there are rules.
    Known,
}

/// The messages that come with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// One message, as large as the flags allow; the call counts as a request.
    Request,
    /// One small message; the call counts as a request.
    SmallRequest,
    /// One small message; the call is a probe or lasts.
    Probe,
    /// Several small messages.
    SmallStream,
}

pub(super) static PREDICTION: Service = Service {
    name: "tensorflow.serving.PredictionService",
    access: Access::Known,
    takes: Takes::Request,
};
pub(super) static MODEL: Service = Service {
    name: "tensorflow.serving.ModelService",
    access: Access::Known,
    takes: Takes::Request,
};
pub(super) static PROFILER: Service = Service {
    name: "tensorflow.ProfilerService",
    access: Access::Known,
    takes: Takes::SmallRequest,
};
pub(super) static HEALTH: Service = Service {
    name: "grpc.health.v1.Health",
    access: Access::Anybody,
    takes: Takes::Probe,
};
pub(super) static REFLECTION: [Service; 2] = [
    Service {
        name: "grpc.reflection.v1.ServerReflection",
        access: Access::Known,
        takes: Takes::SmallStream,
    },
    Service {
        name: "grpc.reflection.v1alpha.ServerReflection",
        access: Access::Known,
        takes: Takes::SmallStream,
    },
];

/// The services that are on the port.
#[derive(Default)]
pub(super) struct Declared(Vec<&'static Service>);

impl Declared {
    pub(super) fn add(&mut self, service: &'static Service) {
        self.0.push(service);
    }

    /// The service and the method that a path names, if the port has the service.
    pub(super) fn find<'a>(&self, path: &'a str) -> Option<(&'static Service, &'a str)> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        let found = self.0.iter().find(|it| it.name == service)?;
        Some((found, method))
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
        let find = |path| declared.find(path).map(|(it, method)| (it.name, method));
        assert_eq!(
            find("/grpc.health.v1.Health/Check"),
            Some(("grpc.health.v1.Health", "Check"))
        );
        for path in [
            "/tensorflow.ProfilerService/Profile",
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

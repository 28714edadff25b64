//! The services of the port: who may call each, and what its calls may send.
//!
//! Every path is looked up here before anything of its body is read. What is not declared is refused.
//!
//! Not here: which of them flags turn on (`grpc`), what methods do with models (`authorized`).

/// A service that may be on the port.
pub(super) struct Service {
    /// With its package.
    pub(super) name: &'static str,
    pub(super) access: Access,
    pub(super) takes: Takes,
}

/// Who may call a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Load balancers have no credentials.
    Anybody,
    /// Who is known, where there are rules.
    Known,
}

/// What comes with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// One message, as large as the flags allow; the call counts as a request.
    Request,
    /// One small message; the call counts as a request.
    SmallRequest,
    /// One small message; the call is a probe or lasts.
    Probe,
    /// Small messages, one after the other.
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

    /// The service and the method that a path names, where the service is on the port.
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

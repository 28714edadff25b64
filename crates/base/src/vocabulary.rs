//! The words that all layers share: protocols, ports, calls, the states of a version.
//!
//! Not here: identifiers (`id`), errors (`error`).

/// The protocol of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC.
    Grpc,
    /// HTTP with JSON.
    Rest,
}

impl Protocol {
    /// `grpc` or `rest`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Rest => "rest",
        }
    }
}

/// A port of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerPort {
    /// gRPC, over TCP or a UNIX socket.
    Grpc,
    /// REST.
    Rest,
    /// Health, metrics and model states.
    Admin,
}

impl ServerPort {
    /// `grpc`, `rest` or `admin`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Rest => "rest",
            Self::Admin => "admin",
        }
    }
}

/// The call that a request asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// `Predict`, `:predict`.
    Predict,
    /// `Classify`, `:classify`.
    Classify,
    /// `Regress`, `:regress`.
    Regress,
    /// `MultiInference`.
    MultiInference,
    /// `GetModelMetadata`, `/metadata`.
    Metadata,
    /// `GetModelStatus` and its REST form.
    Status,
    /// `HandleReloadConfigRequest`.
    Reload,
    /// A request whose call is unknown: `OPTIONS`, a malformed path.
    Other,
}

impl Api {
    /// The name in labels, for example `multi_inference`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Predict => "predict",
            Self::Classify => "classify",
            Self::Regress => "regress",
            Self::MultiInference => "multi_inference",
            Self::Metadata => "metadata",
            Self::Status => "status",
            Self::Reload => "reload",
            Self::Other => "other",
        }
    }
}

/// The states of a version, in this order only (`ServableState::ManagerState`,
/// `core/servable_state.h`). The numbers are `ModelVersionStatus.State`'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub enum ManagerState {
    /// Tracked, but not loading yet.
    Start = 10,
    /// Being loaded, warmup and retries included.
    Loading = 20,
    /// Serving.
    Available = 30,
    /// Accepts no new requests; those in flight finish.
    Unloading = 40,
    /// Unloaded, or failed to load.
    End = 50,
}

impl ManagerState {
    /// All before the last.
    pub const BEFORE_END: [Self; 4] =
        [Self::Start, Self::Loading, Self::Available, Self::Unloading];

    /// The name in `get_model_status.proto`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "START",
            Self::Loading => "LOADING",
            Self::Available => "AVAILABLE",
            Self::Unloading => "UNLOADING",
            Self::End => "END",
        }
    }
}

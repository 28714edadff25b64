//! The text files that flags name, read into their messages.

use std::path::Path;

use super::flags::{Flags, SessionThreads};
use base::error::Result;
use codec::proto_text;
use net::tls::TlsConfig;
use proto::onnx_model_server::AuthConfig;
use proto::tensorflow::serving::{
    BatchingParameters, ModelConfig, ModelConfigList, ModelServerConfig, MonitoringConfig,
    PlatformConfigMap, SslConfig, model_server_config,
};

/// The platform in all existing configurations.
const PLATFORM: &str = "tensorflow";

/// The models to serve: those of `--model_config_file`, or else the one model of `--model_name` and
/// `--model_base_path` (`BuildSingleModelConfig`, `model_servers/server.cc`).
///
/// # Errors
///
/// Those of [`read_model_server_config`].
pub fn model_server_config(flags: &Flags) -> Result<ModelServerConfig> {
    if !flags.model_config_file.is_empty() {
        return read_model_server_config(Path::new(&flags.model_config_file));
    }
    let (name, base_path) = (&flags.model_name, &flags.model_base_path);
    tracing::info!(
        "Building single TensorFlow model file config:  model_name: {name} model_base_path: \
         {base_path}"
    );
    let model = ModelConfig {
        name: name.clone(),
        base_path: base_path.clone(),
        model_platform: PLATFORM.to_owned(),
        ..ModelConfig::default()
    };
    let list = ModelConfigList {
        config: vec![model],
    };
    Ok(ModelServerConfig {
        config: Some(model_server_config::Config::ModelConfigList(list)),
    })
}

/// Reads `--model_config_file`.
///
/// # Errors
///
/// For this and the other readers: the file system's status with `<path>; <reason>` for a file that
/// cannot be read (`NOT_FOUND` if it is missing), `INVALID_ARGUMENT` `Invalid protobuf file: '<path>'`
/// for one that does not parse; the log has the position.
pub fn read_model_server_config(path: &Path) -> Result<ModelServerConfig> {
    proto_text::read_file(path)
}

/// Checks that `--platform_config_file` is a platform configuration. Its content is not used, because
/// there is only one platform.
///
/// # Errors
///
/// As [`read_model_server_config`].
pub fn check_platform_config(flags: &Flags) -> Result<()> {
    match flags.platform_config_file.as_str() {
        "" => Ok(()),
        path => proto_text::check_file::<PlatformConfigMap>(Path::new(path)),
    }
}

/// Reads `--monitoring_config_file`.
///
/// # Errors
///
/// As [`read_model_server_config`].
pub fn read_monitoring_config(path: &Path) -> Result<MonitoringConfig> {
    proto_text::read_file(path)
}

/// Reads `--batching_parameters_file`.
///
/// # Errors
///
/// As [`read_model_server_config`].
pub fn read_batching_parameters(path: &Path) -> Result<BatchingParameters> {
    proto_text::read_file(path)
}

/// Reads `--ssl_config_file`, whose values are PEM texts, not file names.
///
/// # Errors
///
/// As [`read_model_server_config`], but the log has only the position, because the text contains a key.
/// (TensorFlow Serving aborts the process.)
pub fn read_tls_config(path: &Path) -> Result<TlsConfig> {
    proto_text::read_secret_file(path).map(tls_config)
}

/// Converts the message of a `--ssl_config_file` to the form that the sockets use.
pub(crate) fn tls_config(message: SslConfig) -> TlsConfig {
    TlsConfig {
        server_key: message.server_key,
        server_cert: message.server_cert,
        custom_ca: message.custom_ca,
        client_verify: message.client_verify,
    }
}

/// Reads `--auth_config_file`.
///
/// # Errors
///
/// As [`read_tls_config`].
pub fn read_auth_config(path: &Path) -> Result<AuthConfig> {
    proto_text::read_secret_file(path)
}

/// The thread counts of every session, from the flags and `--tensorflow_session_config_file`.
///
/// # Errors
///
/// As [`read_model_server_config`]: the file must be a `tensorflow.ConfigProto`. All its other settings
/// concern only TensorFlow.
pub fn session_threads(flags: &Flags) -> Result<SessionThreads> {
    let path = &flags.tensorflow_session_config_file;
    let from_file = if path.is_empty() {
        SessionThreads::default()
    } else {
        read_session_threads(Path::new(path))?
    };
    Ok(flags.session_threads(from_file))
}

fn read_session_threads(path: &Path) -> Result<SessionThreads> {
    let config = proto_text::read_described_file(path, "tensorflow.ConfigProto")?;
    let count = |name| {
        let count = config
            .get_field_by_name(name)
            .and_then(|value| value.as_i32());
        usize::try_from(count.unwrap_or(0)).unwrap_or(0)
    };
    Ok(SessionThreads {
        intra_op: count("intra_op_parallelism_threads"),
        inter_op: count("inter_op_parallelism_threads"),
    })
}

#[cfg(test)]
mod tests;

//! Configurations that are refused, and unusual ones that are not.
//!
//! Texts are those of the recorded exchanges and of `model_servers/server_core.cc`. Not here: the versions that
//! an accepted configuration loads and unloads (`reload`).

#![expect(deprecated, reason = "`model_type` is still allowed")]

use super::support::*;
use base::error::Code;
use proto::tensorflow::serving::model_server_config::Config;
use proto::tensorflow::serving::{LoggingConfig, ModelConfig, ModelServerConfig, ModelType};

/// Checks how a core that serves `m` 123 answers a reload to other models.
#[track_caller]
fn check_refused(models: impl FnOnce(&Fixture) -> Vec<ModelConfig>, code: Code, text: &str) {
    let fixture = Fixture::new();
    fixture.add_version("m", "123");
    fixture.core.start(list([fixture.model("m")])).unwrap();
    check_error(&fixture, list(models(&fixture)), code, text);
    // A refused configuration does not affect the models that serve.
    assert_eq!(fixture.latest("m"), Some(123));
}

// server_core_test.cc AbsolutePathSucceeds, RelativePathFails, MixedAbsoluteRelativeFails;
// reload_invalid/03, /05 of the recorded exchanges
#[test]
fn relative_base_path_is_refused() {
    let relative = |fixture: &Fixture, path: &str| {
        let mut model = fixture.model("rel");
        model.base_path = path.to_owned();
        vec![fixture.model("m"), model]
    };
    check_refused(
        |fixture| relative(fixture, "rel/path"),
        Code::InvalidArgument,
        "Expected model rel to have an absolute path or URI; got base_path()=rel/path",
    );
    check_refused(
        |fixture| relative(fixture, ""),
        Code::InvalidArgument,
        "Expected model rel to have an absolute path or URI; got base_path()=",
    );
}

#[test]
fn file_uri_is_a_path() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    let mut model = fixture.model("m");
    model.base_path = format!("file://{}", model.base_path);
    fixture.core.start(list([model])).unwrap();
    assert_eq!(fixture.latest("m"), Some(1));
}

// The text is TensorFlow's for a scheme without a file system.
#[test]
fn unknown_storage_is_refused_by_scheme() {
    check_refused(
        |fixture| {
            let mut model = fixture.model("far");
            model.base_path = "s3://bucket/far".to_owned();
            vec![fixture.model("m"), model]
        },
        Code::Unimplemented,
        "File system scheme 's3' not implemented (file: 's3://bucket/far')",
    );
}

// server_core_test.cc DuplicateModelNameInConfig; reload_invalid/01 of the recorded exchanges
#[test]
fn duplicate_model_name_is_refused() {
    check_refused(
        |fixture| vec![fixture.model("m"), fixture.model("m")],
        Code::InvalidArgument,
        "Illegal to list model m multiple times in config list",
    );
}

// server_core_test.cc IllegalToChangeModelPlatform; reload_invalid/07 of the recorded exchanges
#[test]
fn changed_platform_is_refused() {
    for other in ["other", "onnx"] {
        check_refused(
            |fixture| {
                let mut model = fixture.model("m");
                model.model_platform = other.to_owned();
                vec![model]
            },
            Code::InvalidArgument,
            &format!(
                "Illegal to change a model's platform. For model m platform was tensorflow and \
                 new platform requested is {other}"
            ),
        );
    }
}

// server_core_test.cc UnknownModelPlatform; reload_invalid/09, /10 of the recorded exchanges
#[test]
fn unknown_platform_is_refused() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    fixture.core.start(list([fixture.model("m")])).unwrap();
    let mut bp = fixture.model("bp");
    bp.model_platform = "foo".to_owned();
    check_error(
        &fixture,
        list([fixture.model("m"), bp]),
        Code::InvalidArgument,
        "Model bp requests unsupported platform foo",
    );
    fixture.core.reload(list([fixture.model("m")])).unwrap();
    assert_eq!(fixture.latest("m"), Some(1));
}

// reload_no_platform of the recorded exchanges: the second error is also as in TensorFlow Serving
#[test]
fn missing_platform_is_refused_for_good() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    fixture.core.start(list([fixture.model("m")])).unwrap();
    let mut np = fixture.model("np");
    np.model_platform.clear();
    let text = "Illegal setting neither ModelServerConfig::model_type (deprecated) nor \
                ModelServerConfig::model_platform, model name is np";
    let config = list([fixture.model("m"), np]);
    check_error(&fixture, config, Code::InvalidArgument, text);
    let config = list([fixture.model("m")]);
    check_error(&fixture, config, Code::InvalidArgument, text);
    assert_eq!(fixture.latest("m"), Some(1));
}

// server_core_test.cc IllegalConfigModelTypeAndPlatformSet
#[test]
fn type_and_platform_together_are_refused() {
    check_refused(
        |fixture| {
            let mut model = fixture.model("n");
            model.model_type = ModelType::Tensorflow.into();
            vec![model]
        },
        Code::InvalidArgument,
        "Illegal setting both ModelServerConfig::model_type (deprecated) and \
         ModelServerConfig::model_platform, model name is n",
    );
}

#[test]
fn other_model_type_is_refused() {
    check_refused(
        |fixture| {
            let mut model = fixture.model("n");
            model.model_platform.clear();
            model.model_type = ModelType::Other.into();
            vec![model]
        },
        Code::InvalidArgument,
        "ModelServerConfig::model_type choice 2 not supported.",
    );
}

// server_core_test.cc DeprecatedModelTypeConfig
#[test]
fn deprecated_model_type_loads() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    let mut model = fixture.model("m");
    model.model_platform.clear();
    model.model_type = ModelType::Tensorflow.into();
    fixture.core.start(list([model])).unwrap();
    // It counts as the same platform.
    fixture.core.reload(list([fixture.model("m")])).unwrap();
}

#[test]
fn onnx_platform_loads() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    let mut model = fixture.model("m");
    model.model_platform = "onnx".to_owned();
    fixture.core.start(list([model])).unwrap();
}

// server_core_test.cc IllegalReconfigurationToCustomConfig
#[test]
fn transition_to_custom_config_is_refused() {
    let fixture = Fixture::new();
    fixture.core.start(list([])).unwrap();
    let custom = ModelServerConfig {
        config: Some(Config::CustomModelConfig(prost_types::Any::default())),
    };
    let text = "Cannot transition to requested config. It is only legal to transition from one \
                ModelConfigList to another.";
    check_error(&fixture, custom, Code::FailedPrecondition, text);
    let empty = ModelServerConfig::default();
    check_error(&fixture, empty, Code::FailedPrecondition, text);
}

#[test]
fn empty_first_config_does_nothing() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    fixture.core.start(ModelServerConfig::default()).unwrap();
    fixture.core.reload(ModelServerConfig::default()).unwrap();
    fixture.core.reload(list([fixture.model("m")])).unwrap();
    assert_eq!(fixture.latest("m"), Some(1));
}

// server_core_test.cc RequestLoggingOff is the rest of this file. The stock binary has no request
// logger, so its RequestLoggingOn cannot happen.
#[test]
fn logging_config_is_refused_after_the_load() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    let mut model = fixture.model("m");
    model.logging_config = Some(LoggingConfig::default());
    let error = fixture.core.start(list([model])).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(error.to_string(), "No request-logger-creator provided.");
    assert_eq!(fixture.latest("m"), Some(1));
}

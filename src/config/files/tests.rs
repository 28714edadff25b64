use std::io::Write;

use super::*;
use base::error::Code;

fn file_of(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn models(config: ModelServerConfig) -> Vec<ModelConfig> {
    match config.config {
        Some(model_server_config::Config::ModelConfigList(list)) => list.config,
        other => panic!("{other:?}"),
    }
}

#[test]
fn single_model_comes_from_flags() {
    let flags = Flags {
        model_name: "m".to_owned(),
        model_base_path: "/models/m".to_owned(),
        ..Flags::default()
    };
    let models = models(model_server_config(&flags).unwrap());
    assert_eq!(models.len(), 1);
    assert_eq!(models[0].name, "m");
    assert_eq!(models[0].base_path, "/models/m");
    assert_eq!(models[0].model_platform, "tensorflow");
}

#[test]
fn config_file_goes_before_the_single_model() {
    let file = file_of(
        "model_config_list { config { name: 'a' base_path: '/a' model_platform: 'tensorflow' }
         config { name: 'b' base_path: '/b' model_platform: 'tensorflow'
           model_version_policy { specific { versions: 1 versions: 3 } }
           version_labels { key: 'stable' value: 1 } } }",
    );
    let flags = Flags {
        model_config_file: file.path().to_str().unwrap().to_owned(),
        model_base_path: "/ignored".to_owned(),
        ..Flags::default()
    };
    let models = models(model_server_config(&flags).unwrap());
    assert_eq!(models.len(), 2);
    assert_eq!(models[1].version_labels["stable"], 1);
    assert!(models[1].model_version_policy.is_some());
}

#[test]
fn missing_config_file_is_not_found() {
    let error = read_model_server_config(Path::new("/nonexistent/models.config")).unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    let text = "/nonexistent/models.config; No such file or directory";
    assert_eq!(error.to_string(), text);
}

#[test]
fn monitoring_config_is_read() {
    // The example in TensorFlow Serving's documentation, comma included.
    let file = file_of(
        "prometheus_config {\n  enable: true,\n  path: \"/monitoring/prometheus/metrics\"\n}\n",
    );
    let config = read_monitoring_config(file.path()).unwrap();
    let prometheus = config.prometheus_config.unwrap();
    assert!(prometheus.enable);
    assert_eq!(prometheus.path, "/monitoring/prometheus/metrics");
}

#[test]
fn batching_parameters_are_read() {
    // The example in TensorFlow Serving's documentation.
    let file = file_of(
        "max_batch_size { value: 128 }\nbatch_timeout_micros { value: 0 }\n\
         max_enqueued_batches { value: 1000000 }\nnum_batch_threads { value: 8 }\n",
    );
    let parameters = read_batching_parameters(file.path()).unwrap();
    assert_eq!(parameters.max_batch_size, Some(128));
    assert_eq!(parameters.batch_timeout_micros, Some(0));
    assert_eq!(parameters.num_batch_threads, Some(8));
    assert_eq!(parameters.max_execution_batch_size, None);
}

#[test]
fn ssl_config_holds_pem_texts() {
    let file = file_of("server_key: '-----BEGIN\\nk\\n'\n  '-----END\\n'\nclient_verify: true");
    let config = read_tls_config(file.path()).unwrap();
    assert_eq!(config.server_key, "-----BEGIN\nk\n-----END\n");
    assert!(config.client_verify);
}

#[test]
fn session_config_file_fills_in_thread_counts() {
    let file = file_of(
        "intra_op_parallelism_threads: 3 inter_op_parallelism_threads: -1
         device_count { key: 'CPU' value: 1 } gpu_options { allow_growth: true }",
    );
    let mut flags = Flags {
        tensorflow_session_config_file: file.path().to_str().unwrap().to_owned(),
        ..Flags::default()
    };
    check_threads(&flags, 3, 0);
    flags.tensorflow_inter_op_parallelism = 2;
    check_threads(&flags, 3, 2);
}

#[track_caller]
fn check_threads(flags: &Flags, intra_op: usize, inter_op: usize) {
    let expected = SessionThreads { intra_op, inter_op };
    assert_eq!(session_threads(flags).unwrap(), expected);
}

#[test]
fn session_config_file_must_parse() {
    let file = file_of("intra_op_parallelism_thread: 3");
    let flags = Flags {
        tensorflow_session_config_file: file.path().to_str().unwrap().to_owned(),
        ..Flags::default()
    };
    let error = session_threads(&flags).unwrap_err();
    let text = format!("Invalid protobuf file: '{}'", file.path().display());
    assert_eq!(
        (error.code(), error.to_string()),
        (Code::InvalidArgument, text)
    );
}

/// The example in TensorFlow Serving's documentation: its platform configuration is of a type that only
/// TensorFlow Serving has.
#[test]
fn platform_config_has_to_be_one() {
    let check = |text: &str| {
        let file = file_of(text);
        let path = file.path().to_str().unwrap().to_owned();
        let flags = Flags {
            platform_config_file: path.clone(),
            ..Flags::default()
        };
        let result = check_platform_config(&flags);
        result.map_err(|error| (error.code(), error.to_string().replace(&path, "FILE")))
    };
    let adapter = "type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig";
    for good in [
        String::new(),
        "platform_configs { key: 'tensorflow' value {} }".to_owned(),
        format!(
            "platform_configs {{ key: 'tensorflow' value {{ source_adapter_config {{ [{adapter}] {{ \
             legacy_config {{ }} }} }} }} }}"
        ),
        format!(
            "platform_configs {{ key: 'tensorflow' value {{ source_adapter_config {{ type_url: \
             '{adapter}' }} }} }}"
        ),
    ] {
        assert_eq!(check(&good), Ok(()), "{good}");
    }
    let invalid = (
        Code::InvalidArgument,
        "Invalid protobuf file: 'FILE'".to_owned(),
    );
    for wrong in [
        "{}",
        "<!DOCTYPE html>",
        "model_config_list {}",
        "platform_configs {",
    ] {
        assert_eq!(check(wrong), Err(invalid.clone()), "{wrong}");
    }
}

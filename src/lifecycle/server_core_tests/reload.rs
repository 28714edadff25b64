//! Configurations: what they bring up, take down, and how they are refused.

#![expect(deprecated, reason = "`model_type` is still allowed")]

use std::fs;

use super::support::*;
use crate::error::Code;
use crate::proto::tensorflow::serving::model_server_config::Config;
use crate::proto::tensorflow::serving::{LoggingConfig, ModelServerConfig, ModelType};
use crate::servable::{ManagerState, ServableLookup};

// server_core_test.cc CreateWaitsTillModelsAvailable
#[test]
fn start_waits_until_models_are_available() {
    let fixture = Fixture::new();
    fixture.add_version("m", "123");
    fixture.core.start(list([fixture.model("m")])).unwrap();
    assert_eq!(fixture.latest("m"), Some(123));
    assert_eq!(fixture.state("m", 123), Some(ManagerState::Available));
}

// server_core_test.cc ReloadConfigWaitsTillModelsAvailable
#[test]
fn reload_waits_until_models_are_available() {
    let fixture = Fixture::new();
    fixture.add_version("m", "123");
    fixture.core.start(list([])).unwrap();
    fixture.core.reload(list([fixture.model("m")])).unwrap();
    assert_eq!(fixture.latest("m"), Some(123));
}

// server_core_test.cc ReloadConfigUnloadsModels, ReloadConfigHandlesLoadingAPreviouslyUnloadedModel
#[test]
fn dropped_model_ends_and_comes_back() {
    let fixture = Fixture::new();
    fixture.add_version("m", "123");
    fixture.core.start(list([fixture.model("m")])).unwrap();
    fixture.core.reload(list([])).unwrap();
    fixture.await_state("m", 123, ManagerState::End);
    assert_eq!(fixture.latest("m"), None);
    assert_eq!(fixture.core.states("m")[0].code, Code::Ok);

    fixture.core.reload(list([fixture.model("m")])).unwrap();
    assert_eq!(fixture.latest("m"), Some(123));
    assert_eq!(fixture.loader.loads(&id("m", 123)), 2);
}

//! Every target on its seeds, and on damaged seeds: the same ones in every run.

mod seeds;

use std::fs;
use std::path::PathBuf;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;

/// Where to write the seeds for a fuzzer; each target has a folder of its own.
const SEEDS_VARIABLE: &str = "FUZZ_SEEDS";

/// A target's name, its check and its seeds.
type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

const TARGETS: &[Target] = &[
    ("checkpoint", checkpoint::check, seeds::checkpoint),
    (
        "checkpoint_table",
        checkpoint_table::check,
        seeds::checkpoint_table,
    ),
    ("config_text", config_text::check, seeds::config_text),
    ("example", example::check, seeds::example),
    ("import", import::check, seeds::import),
    ("onnx_model", onnx_model::check, seeds::onnx_model),
    ("rest_body", rest_body::check, seeds::rest_body),
    ("rest_url", rest_url::check, seeds::rest_url),
    ("saved_model", saved_model::check, seeds::saved_model),
    ("signature_map", signature_map::check, seeds::signature_map),
    ("tensor_proto", tensor_proto::check, seeds::tensor_proto),
    ("tfrecord", tfrecord::check, seeds::tfrecord),
];

/// `fuzz/` has a program for each target, and initial seeds.
#[test]
fn every_target_has_a_program_and_seeds() {
    let fuzz = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut programs: Vec<String> = fs::read_dir(fuzz.join("fuzz_targets"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    programs.sort();
    let names: Vec<&str> = TARGETS.iter().map(|(name, ..)| *name).collect();
    assert_eq!(programs, names);

    for (name, _, seeds) in TARGETS {
        let seeds = seeds();
        assert!(seeds.len() >= 4, "{name} has {} seeds", seeds.len());
        let Some(folder) = std::env::var_os(SEEDS_VARIABLE) else {
            continue;
        };
        let folder = PathBuf::from(folder).join(name);
        fs::create_dir_all(&folder).unwrap();
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{number}")), seed).unwrap();
        }
    }
}

/// One change of an input.
#[derive(Clone, Debug)]
enum Damage {
    Replace(u8),
    Insert(Vec<u8>),
    Remove(usize),
    /// A piece of this length is repeated.
    Repeat(usize),
    /// The end is replaced by that of another seed.
    Splice(Index),
}

fn damage() -> impl Strategy<Value = (Index, Damage)> {
    let damage = prop_oneof![
        4 => any::<u8>().prop_map(Damage::Replace),
        2 => vec(any::<u8>(), 1..6).prop_map(Damage::Insert),
        2 => (1..40usize).prop_map(Damage::Remove),
        1 => (1..40usize).prop_map(Damage::Repeat),
        1 => any::<Index>().prop_map(Damage::Splice),
    ];
    (any::<Index>(), damage)
}

fn apply(input: &mut Vec<u8>, place: Index, damage: &Damage, seeds: &[Vec<u8>]) {
    let place = place.index(input.len() + 1);
    let end = |len: usize| (place + len).min(input.len());
    match damage {
        Damage::Replace(byte) => input
            .iter_mut()
            .skip(place)
            .take(1)
            .for_each(|it| *it = *byte),
        Damage::Insert(bytes) => drop(input.splice(place..place, bytes.iter().copied())),
        Damage::Remove(len) => drop(input.drain(place..end(*len))),
        Damage::Repeat(len) => {
            let piece = input[place..end(*len)].to_vec();
            input.splice(place..place, piece);
        }
        Damage::Splice(other) => {
            let other = &seeds[other.index(seeds.len())];
            input.truncate(place);
            input.extend_from_slice(other.get(place..).unwrap_or_default());
        }
    }
}

/// Runs a target on its seeds as they are, and on `cases` damaged ones.
fn check_damaged(name: &str, cases: u32) {
    let (_, check, seeds) = TARGETS.iter().find(|target| target.0 == name).unwrap();
    let seeds = seeds();
    seeds.iter().for_each(|seed| check(seed));

    let config = Config {
        failure_persistence: None,
        ..Config::with_cases(cases)
    };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let inputs = (any::<Index>(), vec(damage(), 1..6));
    TestRunner::new_with_rng(config, random)
        .run(&inputs, |(seed, changes)| {
            let mut input = seeds[seed.index(seeds.len())].clone();
            for (place, damage) in &changes {
                apply(&mut input, *place, damage, &seeds);
            }
            check(&input);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn checkpoints_hold() {
    check_damaged("checkpoint", 10_000);
}

#[test]
fn tables_of_checkpoints_hold() {
    check_damaged("checkpoint_table", 5000);
}

#[test]
fn config_texts_hold() {
    check_damaged("config_text", 5000);
}

#[test]
fn examples_hold() {
    check_damaged("example", 10_000);
}

#[test]
fn imports_hold() {
    check_damaged("import", 1500);
}

#[test]
fn onnx_models_hold() {
    check_damaged("onnx_model", 1500);
}

#[test]
fn rest_bodies_hold() {
    check_damaged("rest_body", 20_000);
}

#[test]
fn rest_urls_hold() {
    check_damaged("rest_url", 20_000);
}

#[test]
fn saved_models_hold() {
    check_damaged("saved_model", 1500);
}

#[test]
fn signature_maps_hold() {
    check_damaged("signature_map", 1500);
}

#[test]
fn tensor_protos_hold() {
    check_damaged("tensor_proto", 20_000);
}

#[test]
fn tfrecords_hold() {
    check_damaged("tfrecord", 10_000);
}

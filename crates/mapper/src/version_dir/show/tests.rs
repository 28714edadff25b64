//! The layouts are those that `saved_model_cli show` of TensorFlow 2.21 printed for the same directories,
//! plus the lines with `graph:`.

use std::path::Path;

use prost::Message;

use super::*;
use proto::tensorflow::{MetaGraphDef, SavedModel, meta_graph_def::MetaInfoDef};

fn shown(model: &str, what: Shown) -> String {
    let directory = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .join("tests/data/zoo")
        .join(model);
    show(&directory, &["serve".to_owned()], &what).unwrap()
}

#[test]
fn show_lists_tag_sets_and_names() {
    let text = "The given SavedModel contains the following tag-sets:\n'serve'\n";
    assert_eq!(shown("scalar/1", Shown::TagSets), text);
    let text = "The given SavedModel MetaGraphDef contains SignatureDefs with the following keys:\n\
                SignatureDef key: \"__saved_model_init_op\"\n\
                SignatureDef key: \"reduce\"\n\
                SignatureDef key: \"scaled\"\n\
                SignatureDef key: \"serving_default\"\n";
    assert_eq!(shown("scalar/1", Shown::SignatureNames), text);
}

#[test]
fn show_lists_the_tag_sets_of_the_file() {
    let meta_graph = |tags: &[&str]| MetaGraphDef {
        meta_info_def: Some(MetaInfoDef {
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            ..MetaInfoDef::default()
        }),
        ..MetaGraphDef::default()
    };
    let saved_model = SavedModel {
        meta_graphs: vec![meta_graph(&["train"]), meta_graph(&["serve", "gpu"])],
        ..SavedModel::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("saved_model.pb");
    std::fs::write(file, saved_model.encode_to_vec()).unwrap();

    let shown = show(folder.path(), &["serve".to_owned()], &Shown::TagSets).unwrap();

    // As `saved_model_cli` sorts and joins them (`_show_tag_sets`).
    let text = "The given SavedModel contains the following tag-sets:\n'gpu, serve'\n'train'\n";
    assert_eq!(shown, text);
}

#[test]
fn show_describes_one_signature() {
    let text = "The given SavedModel SignatureDef contains the following input(s):
  inputs['x'] tensor_info:
      dtype: DT_FLOAT
      shape: (-1)
      name: reduce_x:0
      graph: x (same name)
The given SavedModel SignatureDef contains the following output(s):
  outputs['total'] tensor_info:
      dtype: DT_FLOAT
      shape: ()
      name: PartitionedCall:0
      graph: total (same name)
Method name is: tensorflow/serving/predict
";
    assert_eq!(
        shown("scalar/1", Shown::Signature("reduce".to_owned())),
        text
    );
}

#[test]
fn show_describes_every_signature() {
    let text = "
MetaGraphDef with tag-set: 'serve' contains the following SignatureDefs:

signature_def['__saved_model_init_op']:
  The given SavedModel SignatureDef contains the following input(s):
  The given SavedModel SignatureDef contains the following output(s):
    outputs['__saved_model_init_op'] tensor_info:
        dtype: DT_INVALID
        shape: unknown_rank
        name: NoOp
  Method name is: 

signature_def['serving_default']:
  The given SavedModel SignatureDef contains the following input(s):
    inputs['x'] tensor_info:
        dtype: DT_FLOAT
        shape: (1, 4)
        name: serving_default_x:0
        graph: x (same name)
  The given SavedModel SignatureDef contains the following output(s):
    outputs['y'] tensor_info:
        dtype: DT_FLOAT
        shape: (1, 2, 2)
        name: PartitionedCall:0
        graph: y (same name)
  Method name is: tensorflow/serving/predict
";
    assert_eq!(shown("fixed_batch/1", Shown::All), text);
}

#[test]
fn show_names_the_rules() {
    let text = shown("keyed.renamed/1", Shown::All);
    assert!(
        text.contains("graph: keys_out (only one left that fits)"),
        "{text}"
    );
    let text = shown("keyed/1", Shown::All);
    assert!(
        text.contains("graph: Placeholder_1:0 (original tensor's name)"),
        "{text}"
    );
    let text = shown(
        "half_plus_two/1",
        Shown::Signature("regress_x_to_y".to_owned()),
    );
    assert!(text.contains("(tf.Example)"), "{text}");
}

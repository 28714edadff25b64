//! Writes the ONNX model of each signature of a SavedModel: `convert DIRECTORY OUTPUT`. For work on the
//! importer; the server's own command is `import`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use base::error::Result;
use bytes::Bytes;
use prost::Message;
use proto::tensorflow::SavedModel;
use saved_model_import::{Files, import};

struct Folder(PathBuf);

impl Files for Folder {
    fn read(&self, path: &str) -> Result<Option<Bytes>> {
        Ok(std::fs::read(self.0.join(path)).ok().map(Bytes::from))
    }

    fn size(&self, path: &str) -> Result<Option<u64>> {
        let metadata = std::fs::metadata(self.0.join(path)).ok();
        Ok(metadata.map(|it| it.len()))
    }

    // The default reads the whole file for each part.
    fn read_range(&self, path: &str, offset: u64, length: u64) -> Result<Option<Bytes>> {
        let Ok(file) = File::open(self.0.join(path)) else {
            return Ok(None);
        };
        let mut part = vec![0; usize::try_from(length).expect("a length in memory")];
        file.read_exact_at(&mut part, offset)
            .expect("a part of the file");
        Ok(Some(Bytes::from(part)))
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, directory, output] = arguments.as_slice() else {
        panic!("usage: convert DIRECTORY OUTPUT");
    };
    let folder = Folder(PathBuf::from(directory));
    let bytes = folder
        .read("saved_model.pb")
        .expect("a file that can be read")
        .expect("saved_model.pb");
    let saved = SavedModel::decode(bytes).expect("a SavedModel");
    let served = |it: &&proto::tensorflow::MetaGraphDef| {
        it.meta_info_def
            .as_ref()
            .is_some_and(|it| it.tags == ["serve"])
    };
    let meta_graph = saved
        .meta_graphs
        .iter()
        .find(served)
        .expect("a meta graph to serve");
    let imported = import(directory, meta_graph, &folder).expect("an import");
    std::fs::create_dir_all(output).expect("a folder");
    let mut lines = String::new();
    for (name, signature) in imported.signatures {
        let file = name.replace('/', "_") + ".onnx";
        std::fs::write(Path::new(output).join(&file), signature.model.encode()).expect("a file");
        lines += &format!(
            "{name}\t{file}\t{:?}\t{:?}\n",
            signature.inputs, signature.outputs
        );
    }
    std::fs::write(Path::new(output).join("signatures.tsv"), lines).expect("a file");
    for refused in imported.refused {
        println!("REFUSED {refused}");
    }
    eprintln!("{:?}", imported.statistics);
}

//! Texts are those of `server_core.cc` and the recorded exchanges of the group `grpc_model_spec`.

use super::*;
use crate::servable::Servable;
use base::error::Code;
use base::id::ServableId;

fn table(versions: &[i64]) -> LookupTable {
    let table = LookupTable::default();
    for &version in versions {
        let id = ServableId::new("m", version);
        let servable = Servable::new(id, [], BTreeMap::new(), &Arc::default());
        table.insert(ServableHandle::new(servable));
    }
    table
}

fn find(table: &LookupTable, name: &str, version: Option<VersionChoice>) -> Result<i64> {
    let spec = ModelSpec {
        name: name.to_owned(),
        version,
    };
    table.find(&spec).map(|handle| handle.id.version)
}

#[track_caller]
fn check_error(result: Result<i64>, code: Code, text: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (code, text));
}

#[test]
fn latest_is_the_highest_available() {
    let table = table(&[3, 20, 1]);
    assert_eq!(find(&table, "m", None).unwrap(), 20);
    table.remove("m", 20);
    assert_eq!(find(&table, "m", None).unwrap(), 3);
    table.remove("m", 1);
    table.remove("m", 3);
    check_error(
        find(&table, "m", None),
        Code::NotFound,
        "Servable not found for request: Latest(m)",
    );
    assert!(table.table.load().versions.is_empty());
}

#[test]
fn label_resolves_before_the_version() {
    let table = table(&[1]);
    let label = |label: &str| Some(VersionChoice::Label(label.to_owned()));
    let of_m = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]);
    table.set_labels(Labels::from([("m".to_owned(), of_m)]));
    assert_eq!(find(&table, "m", label("a")).unwrap(), 1);
    check_error(
        find(&table, "m", label("b")),
        Code::NotFound,
        "Servable not found for request: Specific(m, 2)",
    );
    for unknown in ["", "c"] {
        check_error(
            find(&table, "m", label(unknown)),
            Code::InvalidArgument,
            &format!("Unrecognized servable version label: {unknown}"),
        );
    }
}

#[test]
fn empty_name_is_refused() {
    check_error(
        find(&table(&[]), "", None),
        Code::InvalidArgument,
        "ModelSpec has no name specified.",
    );
}

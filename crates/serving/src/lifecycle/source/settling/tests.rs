//! Looks at artificial times.

use super::*;

const GAP: Duration = Duration::from_secs(1);

/// A version and a clock.
struct Watched {
    version: Version,
    now: Instant,
    loaded: Option<Arc<Files>>,
}

impl Watched {
    fn new() -> Self {
        Self {
            version: Version::new("m/1".into()),
            now: Instant::now(),
            loaded: None,
        }
    }

    /// A look after a pause of `pause` thousandths of the gap.
    fn look(&mut self, pause: u32, files: &[(&str, u64)]) -> Settling {
        self.note(pause, Some(Files::of(files)))
    }

    fn note(&mut self, pause: u32, files: Option<Files>) -> Settling {
        self.now += GAP * pause / 1000;
        let settling = self.version.note(files, self.now, GAP);
        if settling == Settling::Settled {
            self.version.hand_over(self.loaded.as_ref());
        }
        settling
    }
}

const HALF: &[(&str, u64)] = &[("model.onnx", 1)];
const MODEL: &[(&str, u64)] = &[("model.onnx", 2)];
const WITH_MAP: &[(&str, u64)] = &[("model.onnx", 2), ("signature_map.pbtxt", 1)];

#[test]
fn two_looks_that_agree_settle() {
    let mut it = Watched::new();
    assert_eq!(it.look(0, MODEL), Settling::New);
    assert_eq!(it.version.fingerprint(), Fingerprint::UNREADABLE);
    assert_eq!(it.look(1000, MODEL), Settling::Settled);
    assert_eq!(it.version.fingerprint(), Files::of(MODEL).fingerprint());
}

#[test]
fn looks_that_follow_each_other_closely_count_as_one() {
    let mut it = Watched::new();
    it.look(0, MODEL);
    for _ in 0..3 {
        assert_eq!(it.look(300, MODEL), Settling::New);
    }
    assert_eq!(it.look(300, MODEL), Settling::Settled);
}

#[test]
fn a_copy_in_progress_never_settles() {
    let mut it = Watched::new();
    assert_eq!(it.look(0, &[]), Settling::New);
    assert_eq!(it.look(1000, HALF), Settling::Changing);
    assert_eq!(it.look(1000, MODEL), Settling::Changing);
    assert_eq!(it.look(1000, WITH_MAP), Settling::Changing);
    assert_eq!(it.look(1000, WITH_MAP), Settling::Settled);
}

#[test]
fn a_change_after_settling_counts_once_it_has_settled() {
    let mut it = Watched::new();
    it.look(0, MODEL);
    it.look(1000, MODEL);
    let before = it.version.fingerprint();
    assert_eq!(it.look(1000, WITH_MAP), Settling::SettledBefore);
    assert_eq!(it.version.fingerprint(), before);
    assert_eq!(it.look(1000, WITH_MAP), Settling::Settled);
    assert_ne!(it.version.fingerprint(), before);
}

#[test]
fn deleted_files_count_unless_the_version_serves() {
    for serves in [true, false] {
        let mut it = Watched::new();
        it.look(0, WITH_MAP);
        it.look(1000, WITH_MAP);
        it.loaded = serves.then(|| Arc::new(Files::of(WITH_MAP)));
        let before = it.version.fingerprint();
        it.look(1000, MODEL);
        assert_eq!(it.look(1000, MODEL), Settling::Settled);
        assert_eq!(it.version.fingerprint() == before, serves);
        // If other files come, all changes count.
        it.look(1000, &[("model.onnx", 3)]);
        it.look(1000, &[("model.onnx", 3)]);
        assert_ne!(it.version.fingerprint(), before);
    }
}

/// Deleted files are compared with the serving version, not with files that failed to load in between.
#[test]
fn deleting_what_broke_a_load_counts() {
    const NEW: &[(&str, u64)] = &[("model.onnx", 3)];
    const BROKEN: &[(&str, u64)] = &[("model.onnx", 3), ("signature_map.pbtxt", 7)];
    let mut it = Watched::new();
    it.look(0, MODEL);
    it.look(1000, MODEL);
    it.loaded = Some(Arc::new(Files::of(MODEL)));
    for files in [BROKEN, NEW, BROKEN, MODEL] {
        it.look(1000, files);
        assert_eq!(it.look(1000, files), Settling::Settled);
        assert_eq!(it.version.fingerprint(), Files::of(files).fingerprint());
    }
}

#[test]
fn what_cannot_be_read_settles_as_that() {
    let mut it = Watched::new();
    assert_eq!(it.note(0, None), Settling::New);
    assert_eq!(it.note(1000, None), Settling::Settled);
    assert_eq!(it.version.fingerprint(), Fingerprint::UNREADABLE);
    it.look(1000, MODEL);
    assert_eq!(it.look(1000, MODEL), Settling::Settled);
    let before = it.version.fingerprint();
    assert_ne!(before, Fingerprint::UNREADABLE);
    // Files that were read before and cannot be read for a while count as unchanged.
    for _ in 0..3 {
        assert_eq!(it.note(1000, None), Settling::SettledBefore);
        assert_eq!(it.version.fingerprint(), before);
    }
}

//! Versions that wait for files that the serving version has.

use super::*;

#[test]
fn a_new_version_waits_for_what_the_serving_one_has() {
    const MODEL: (&str, u64) = ("model.onnx", 9);
    const MAP: (&str, u64) = ("signature_map.pbtxt", 1);
    let fixture = Fixture::new(LATEST);
    fixture.put("1", &[MODEL, MAP]);
    fixture.look();
    assert_eq!(fixture.aspired(), (vec![1], Rest::Settled));
    *fixture.serving.borrow_mut() = vec![1];

    fixture.put("2", &[MODEL]);
    assert_eq!(fixture.look(), Found::Unsure);
    for _ in 0..3 {
        assert_eq!(fixture.aspired(), (vec![1], Rest::Version));
    }
    fixture.put("2", &[MODEL, MAP]);
    assert_eq!(fixture.aspired(), (vec![1], Rest::Version));
    assert_eq!(fixture.aspired(), (vec![2], Rest::Settled));

    // Without a waiting time, or after it, the version goes without them.
    fixture.put("3", &[MODEL]);
    *fixture.serving.borrow_mut() = vec![2];
    fixture.look();
    assert_eq!(fixture.aspired(), (vec![2], Rest::Version));
    fixture.companion_wait.set(Duration::ZERO);
    assert_eq!(fixture.aspired(), (vec![3], Rest::Settled));
    // A version that went without them does not wait again.
    fixture.companion_wait.set(Duration::from_secs(3600));
    assert_eq!(fixture.aspired(), (vec![3], Rest::Settled));
}

#[test]
fn a_version_before_the_serving_one_waits_for_nothing() {
    let fixture = Fixture::new(LATEST);
    fixture.put("1", &[("model.onnx", 1)]);
    fixture.put("2", &[("model.onnx", 2), ("signature_map.pbtxt", 1)]);
    fixture.look();
    assert_eq!(fixture.aspired(), (vec![2], Rest::Settled));
    *fixture.serving.borrow_mut() = vec![2];
    fixture.remove("2");
    assert_eq!(fixture.look(), Found::Unsure);
    assert_eq!(fixture.aspired(), (vec![1], Rest::Settled));
}

#[test]
fn nothing_serves_so_nothing_is_waited_for() {
    let fixture = Fixture::new(VersionPolicy::All);
    fixture.put("1", &[("model.onnx", 1), ("signature_map.pbtxt", 1)]);
    fixture.put("2", &[("model.onnx", 1)]);
    fixture.look();
    assert_eq!(fixture.aspired(), (vec![2, 1], Rest::Settled));
}

const OLD: &[(&str, u64)] = &[("model.onnx", 1), ("signature_map.pbtxt", 1)];
const HALF: &[(&str, u64)] = &[("model.onnx", 2)];
const WHOLE: &[(&str, u64)] = &[("model.onnx", 2), ("signature_map.pbtxt", 2)];

impl Fixture {
    /// Version 1 with the files of `OLD`, which serves.
    fn serve_old() -> Self {
        let fixture = Self::new(LATEST);
        fixture.put("1", OLD);
        fixture.look();
        assert_eq!(fixture.aspired(), (vec![1], Rest::Settled));
        fixture.load(1, OLD);
        fixture
    }

    /// From now on a version serves, loaded with these files.
    fn load(&self, version: i64, files: &[(&str, u64)]) {
        *self.serving.borrow_mut() = vec![version];
        let files = Arc::new(Files::of(files));
        self.loaded.borrow_mut().insert(version, files);
    }

    fn unload(&self) {
        self.serving.borrow_mut().clear();
        self.loaded.borrow_mut().clear();
    }

    /// Checks that after two more looks version 1 is aspired with these files.
    #[track_caller]
    fn check_aspired_as(&self, files: &[(&str, u64)], expected: Rest) {
        let mut found = self.look();
        if found == Found::Unsure {
            found = self.look();
        }
        let mut last = found;
        for _ in 0..2 {
            last = self.look();
        }
        let Found::Aspired { versions, rest } = last else {
            panic!("nothing is said");
        };
        let versions: Vec<_> = versions.iter().map(|it| it.fingerprint).collect();
        assert_eq!(versions, [Files::of(files).fingerprint()]);
        assert_eq!(rest, expected);
    }
}

#[test]
fn a_serving_version_that_is_rewritten_waits_for_what_it_has() {
    let fixture = Fixture::serve_old();
    for (files, expected, rest) in [
        (&OLD[1..], OLD, Rest::Settled),
        (&[], OLD, Rest::Settled),
        (HALF, OLD, Rest::Changing),
        (WHOLE, WHOLE, Rest::Settled),
    ] {
        fixture.put("1", files);
        fixture.check_aspired_as(expected, rest);
    }
    // Until the waiting time is over.
    fixture.load(1, WHOLE);
    fixture.put("1", &[("model.onnx", 3)]);
    fixture.check_aspired_as(WHOLE, Rest::Changing);
    fixture.companion_wait.set(Duration::ZERO);
    fixture.check_aspired_as(&[("model.onnx", 3)], Rest::Settled);
    fixture.companion_wait.set(Duration::from_secs(3600));
    fixture.check_aspired_as(&[("model.onnx", 3)], Rest::Settled);
}

/// A directory is deleted and made again between two looks, or one look misses it.
#[test]
fn a_serving_version_that_is_exchanged_waits_for_what_it_has() {
    for is_missed in [false, true] {
        let fixture = Fixture::serve_old();
        fixture.remove("1");
        if is_missed {
            assert_eq!(fixture.look(), Found::Unsure);
        }
        fixture.put("1", HALF);
        fixture.check_aspired_as(OLD, Rest::Changing);
        fixture.put("1", WHOLE);
        fixture.check_aspired_as(WHOLE, Rest::Settled);
    }
}

/// The version was unloaded meanwhile, or is being unloaded.
#[test]
fn a_version_that_was_gone_waits_for_what_it_had() {
    for (is_unloaded, is_looked_for) in [(false, true), (true, false), (true, true)] {
        for number in [1, 2] {
            let fixture = Fixture::serve_old();
            fixture.remove("1");
            assert_eq!(fixture.look(), Found::Unsure);
            assert_eq!(fixture.aspired(), (vec![], Rest::Settled));
            if is_unloaded {
                fixture.unload();
            }
            if is_looked_for {
                fixture.aspired();
            }
            fixture.put(&number.to_string(), HALF);
            assert_eq!(fixture.look(), Found::Unsure);
            for _ in 0..2 {
                assert_eq!(fixture.aspired(), (vec![], Rest::Version));
            }
            fixture.put(&number.to_string(), WHOLE);
            assert_eq!(fixture.aspired(), (vec![], Rest::Version));
            assert_eq!(fixture.aspired(), (vec![number], Rest::Settled));
        }
    }
}

#[test]
fn deleting_what_broke_a_second_load_is_a_change() {
    let fixture = Fixture::serve_old();
    let new = WHOLE;
    let broken = &[new, &[("batching_params.pbtxt", 7)]].concat();
    for files in [broken, new, broken, OLD, broken, &OLD[..1]] {
        fixture.put("1", files);
        let expected = if files.len() == 1 { OLD } else { files };
        fixture.check_aspired_as(expected, Rest::Settled);
    }
}

#[test]
fn a_wait_counts_from_the_last_file_that_came() {
    let mut version = Version::new("m/1".into());
    let (begin, wait) = (Instant::now(), Duration::from_secs(10));
    let mut waits = |seconds: u64, missing| {
        version.waits_for(missing, wait, begin + Duration::from_secs(seconds))
    };
    assert!(waits(0, 3));
    assert!(waits(9, 2));
    assert!(waits(18, 2));
    assert!(!waits(19, 2));
    assert!(!waits(20, 0));
}

#[test]
fn a_wait_counts_from_the_last_change_of_any_file() {
    let mut version = Version::new("m/1".into());
    let (begin, wait) = (Instant::now(), Duration::from_secs(10));
    for (seconds, bytes, waits) in [(0, 1, true), (9, 2, true), (18, 2, true), (19, 2, false)] {
        let now = begin + Duration::from_secs(seconds);
        version.note(
            Some(Files::of(&[("model.onnx", bytes)])),
            now,
            Duration::ZERO,
        );
        assert_eq!(version.waits_for(1, wait, now), waits, "{seconds}");
    }
}

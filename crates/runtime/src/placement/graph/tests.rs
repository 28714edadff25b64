//! Each decision and its reason, and the counter.

use super::*;
use crate::ValueInfo;
use crate::placement::expectation::tests::rows;
use base::error::Result;
use base::tensor::Tensor;

const POOL: GraphThreads = GraphThreads {
    pool: 2,
    can_keep_to_one: true,
};
const BRIEF: Duration = CONSTANTS.brief;
const SHORT: Duration = CONSTANTS.short;

/// The facts about a graph that decide.
struct Facts {
    work_follows_shapes: bool,
    threads: GraphThreads,
}

impl Graph for Facts {
    fn inputs(&self) -> &[ValueInfo] {
        &[]
    }

    fn outputs(&self) -> &[ValueInfo] {
        &[]
    }

    fn work_follows_shapes(&self) -> bool {
        self.work_follows_shapes
    }

    fn threads(&self) -> GraphThreads {
        self.threads
    }

    fn run(&self, _: &[Tensor], _: &[usize], _: &RunControl) -> Result<Vec<Tensor>> {
        Ok(Vec::new())
    }
}

fn placement(shared: &Arc<Placements>, threads: GraphThreads) -> GraphPlacement {
    let facts = Facts {
        work_follows_shapes: true,
        threads,
    };
    GraphPlacement::new(&facts, Arc::clone(shared))
}

/// A graph after this many runs of one size and duration.
fn after(shared: &Arc<Placements>, runs: usize, shape: RunShape, took: Duration) -> GraphPlacement {
    let placement = placement(shared, POOL);
    repeat(&placement, runs, shape, took);
    placement
}

fn repeat(placement: &GraphPlacement, runs: usize, shape: RunShape, took: Duration) {
    for _ in 0..runs {
        run(placement, shape, took);
    }
}

/// Makes a run that takes this long, and returns where and on how many threads it happened.
fn run(
    placement: &GraphPlacement,
    shape: RunShape,
    took: Duration,
) -> (Placement, Threads, Reason) {
    let decision = placement.decide(shape);
    let threads = begin(placement, &decision, shape, |begun| begun.learn(took));
    (decision.place, threads, decision.reason)
}

/// Begins a run and returns its number of threads as the counter has it.
fn begin(
    placement: &GraphPlacement,
    decision: &Decision,
    shape: RunShape,
    then: impl FnOnce(&Begun<'_>),
) -> Threads {
    let control = RunControl::default();
    let (place, reason) = (decision.place, decision.reason);
    let counts = placement.shared.counts();
    let count = |threads| counts.count(place, threads, reason);
    let before = (count(Threads::One), count(Threads::Pool));
    let begun = placement.begin((place, reason), shape, &control);
    let threads = match (
        count(Threads::One) - before.0,
        count(Threads::Pool) - before.1,
    ) {
        (1, 0) => Threads::One,
        (0, 1) => Threads::Pool,
        other => panic!("counted {other:?} times"),
    };
    if placement.threads == POOL {
        assert_eq!(control.is_kept_to_one_thread(), threads == Threads::One);
    }
    then(&begun);
    threads
}

#[test]
fn brief_runs_happen_inline_beside_others() {
    let shared = Arc::default();
    let placement = after(&shared, CONSTANTS.trials, rows(10), BRIEF);
    let other = placement.decide(rows(10));
    assert_eq!(
        (other.place, other.reason),
        (Placement::Inline, Reason::Brief)
    );
    let decided = run(&placement, rows(10), BRIEF);
    assert_eq!(decided, (Placement::Inline, Threads::One, Reason::Brief));
}

#[test]
fn short_runs_happen_inline_if_no_other_is_in_flight() {
    let shared = Arc::default();
    let placement = after(&shared, CONSTANTS.trials, rows(10), SHORT);
    let alone = placement.decide(rows(10));
    assert_eq!(
        (alone.place, alone.reason),
        (Placement::Inline, Reason::ShortAndAlone)
    );
    let contended = placement.decide(rows(10));
    assert_eq!(
        (contended.place, contended.reason),
        (Placement::Thread, Reason::OtherRuns)
    );
    drop((alone, contended));
    let decided = run(&placement, rows(10), SHORT);
    assert_eq!(
        decided,
        (Placement::Inline, Threads::One, Reason::ShortAndAlone)
    );
}

#[test]
fn brief_and_short_are_learned_for_each_size() {
    let shared = Arc::default();
    let placement = after(&shared, CONSTANTS.trials, rows(10), SHORT);
    repeat(&placement, CONSTANTS.trials, rows(4), BRIEF);
    assert_eq!(placement.decide(rows(4)).reason, Reason::Brief);
    assert_eq!(placement.decide(rows(10)).reason, Reason::ShortAndAlone);
    assert_eq!(placement.decide(rows(11)).reason, Reason::NotShort);
}

#[test]
fn unknown_runs_happen_on_a_thread_and_the_pool() {
    let shared = Arc::default();
    let placement = placement(&shared, POOL);
    let decided = run(&placement, rows(10), SHORT * 2);
    assert_eq!(
        decided,
        (Placement::Thread, Threads::Pool, Reason::NotShort)
    );
}

#[test]
fn nothing_is_expected_of_a_graph_whose_values_decide() {
    let shared: Arc<Placements> = Arc::default();
    let facts = Facts {
        work_follows_shapes: false,
        threads: POOL,
    };
    let placement = GraphPlacement::new(&facts, Arc::clone(&shared));
    repeat(&placement, CONSTANTS.trials, rows(10), BRIEF);
    let decided = run(&placement, rows(10), BRIEF);
    assert_eq!(
        decided,
        (Placement::Thread, Threads::Pool, Reason::ValuesDecide)
    );
}

#[test]
fn no_run_on_an_empty_tensor_is_expected_to_be_short() {
    let shared = Arc::default();
    let placement = after(&shared, CONSTANTS.trials, rows(10), BRIEF);
    assert_eq!(placement.decide(rows(1)).place, Placement::Inline);
    repeat(&placement, CONSTANTS.trials, rows(0), BRIEF);
    let decided = run(&placement, rows(0), BRIEF);
    assert_eq!(
        decided,
        (Placement::Thread, Threads::Pool, Reason::EmptyInput)
    );
}

#[test]
fn contended_runs_are_kept_to_one_thread() {
    let shared = Arc::default();
    let placement = placement(&shared, POOL);
    let (first, second) = (placement.decide(rows(10)), placement.decide(rows(10)));
    let control = RunControl::default();
    let begun = placement.begin((first.place, first.reason), rows(10), &control);
    assert!(!control.is_kept_to_one_thread());
    // With it there is a run for each of the two threads of the pool.
    let threads = begin(&placement, &second, rows(10), |_| drop(begun));
    assert_eq!(threads, Threads::One);
    for _ in 0..CONSTANTS.contention_outlasts {
        let decision = placement.decide(rows(10));
        assert_eq!(begin(&placement, &decision, rows(10), |_| ()), Threads::One);
    }
    let decision = placement.decide(rows(10));
    assert_eq!(
        begin(&placement, &decision, rows(10), |_| ()),
        Threads::Pool
    );
}

#[test]
fn runs_that_are_long_on_one_thread_go_back_to_the_pool() {
    let shared = Arc::default();
    let placement = after(&shared, CONSTANTS.trials, rows(10), BRIEF * 2);
    let threads = |size| {
        let decision = placement.decide(rows(size));
        begin(&placement, &decision, rows(size), |_| ())
    };
    repeat(&placement, CONSTANTS.trials - 1, rows(8), SHORT * 2);
    assert_eq!(threads(10), Threads::One, "it was perhaps interrupted");
    run(&placement, rows(8), SHORT * 2);
    assert_eq!((threads(8), threads(7)), (Threads::Pool, Threads::One));
    // As it is short on several threads, one thread is not tried again immediately.
    repeat(
        &placement,
        CONSTANTS.retry_one_thread_after - 1,
        rows(8),
        BRIEF * 2,
    );
    assert_eq!(threads(8), Threads::Pool);
    run(&placement, rows(8), BRIEF * 2);
    assert_eq!(threads(8), Threads::One);
}

#[test]
fn the_number_of_threads_is_counted_as_the_backend_has_it() {
    let shared = Arc::default();
    let fixed = GraphThreads {
        pool: 2,
        can_keep_to_one: false,
    };
    for (threads, expected) in [(fixed, Threads::Pool), (GraphThreads::CALLER, Threads::One)] {
        let placement = placement(&shared, threads);
        repeat(&placement, CONSTANTS.trials, rows(10), BRIEF);
        let decided = run(&placement, rows(10), BRIEF);
        assert_eq!(decided, (Placement::Inline, expected, Reason::Brief));
    }
}

#[test]
fn requests_are_batched_unless_they_are_lone_and_short() {
    let shared = Arc::default();
    let placement = after(&shared, CONSTANTS.trials, rows(10), BRIEF);
    let decide = |shape, is_busy| {
        let decision = placement.decide_in_batches(shape, is_busy);
        (decision.place, decision.reason)
    };
    let joined = (Placement::Batch, Reason::OthersCanJoin);
    assert_eq!(decide(rows(10), false), joined);
    for _ in 0..=CONSTANTS.lone_after {
        placement.note_batch(1);
    }
    assert_eq!(decide(rows(10), false), (Placement::Inline, Reason::Brief));
    assert_eq!(
        decide(rows(11), false),
        (Placement::Batch, Reason::NotShort)
    );
    assert_eq!(
        decide(rows(10), true),
        (Placement::Batch, Reason::BatchInFlight)
    );
    placement.note_batch(2);
    assert_eq!(decide(rows(10), false), joined);
}

#[test]
fn a_batch_on_its_thread_does_not_keep_short_runs_off_the_workers() {
    let shared = Arc::default();
    let placement = after(&shared, CONSTANTS.trials, rows(10), SHORT);
    let batched = placement.decide_in_batches(rows(10), false);
    assert_eq!(batched.place, Placement::Batch);
    assert_eq!(placement.decide(rows(10)).reason, Reason::ShortAndAlone);
    drop(batched);
}

#[test]
fn without_learning_each_run_has_the_default() {
    let shared = Arc::new(Placements::new(false, Arc::default()));
    let placement = after(&shared, CONSTANTS.trials * 2, rows(10), BRIEF);
    for _ in 0..=CONSTANTS.lone_after {
        placement.note_batch(1);
    }
    let first = placement.decide(rows(10));
    let control = RunControl::default();
    let _contends = placement.begin((first.place, first.reason), rows(10), &control);
    let decided = run(&placement, rows(10), BRIEF);
    assert_eq!(
        decided,
        (Placement::Thread, Threads::Pool, Reason::LearningOff)
    );
    let batched = placement.decide_in_batches(rows(10), false);
    assert_eq!(
        (batched.place, batched.reason),
        (Placement::Batch, Reason::LearningOff)
    );
    assert_eq!(begin(&placement, &batched, rows(10), |_| ()), Threads::Pool);
}

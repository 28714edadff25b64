use std::collections::VecDeque;
use std::thread::{ThreadId, current};
use std::time::Instant;

use tokio::sync::oneshot::error::RecvError;

use super::*;

/// The longest wait for an expected event.
const PATIENCE: Duration = Duration::from_secs(20);

fn threads(max_threads: usize, keep_alive: Duration) -> &'static BlockingPool {
    threads_of(Options {
        max_threads,
        max_of_model: max_threads,
        keep_alive,
        ..Options::for_cpus(1)
    })
}

fn threads_of(options: Options) -> &'static BlockingPool {
    Box::leak(Box::new(BlockingPool::new(options)))
}

fn share() -> Arc<Share> {
    Arc::default()
}

fn waiting(threads: &BlockingPool) -> usize {
    let state = threads.lock();
    state.waiting.iter().map(VecDeque::len).sum::<usize>() + state.ready.len()
}

type Work<T> = (oneshot::Receiver<T>, QueuedJob);

fn finished<T>((receiver, _place): Work<T>) -> Result<T, RecvError> {
    receiver.blocking_recv()
}

/// Occupies a thread until something is sent; returns the thread's id.
fn occupy(threads: &'static BlockingPool) -> (mpsc::Sender<()>, Work<ThreadId>) {
    occupy_for(&share(), threads)
}

fn occupy_for(
    share: &Arc<Share>,
    threads: &'static BlockingPool,
) -> (mpsc::Sender<()>, Work<ThreadId>) {
    let (go_on, wait) = mpsc::channel();
    let (begins, begun) = mpsc::channel();
    let work = threads.spawn(share, move || {
        begins.send(()).unwrap();
        wait.recv().unwrap();
        current().id()
    });
    begun.recv_timeout(PATIENCE).unwrap();
    (go_on, work)
}

fn finish((go_on, work): (mpsc::Sender<()>, Work<ThreadId>)) -> ThreadId {
    go_on.send(()).unwrap();
    finished(work).unwrap()
}

fn poll_until(is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
}

#[test]
fn the_thread_that_was_busy_last_has_the_next_job() {
    let threads = threads(8, PATIENCE);
    let works: Vec<_> = (0..3).map(|_| occupy(threads)).collect();
    for (number, work) in works.into_iter().enumerate() {
        let id = finish(work);
        poll_until(|| threads.lock().idle.len() == number + 1);
        assert_eq!(finish(occupy(threads)), id);
        poll_until(|| threads.lock().idle.len() == number + 1);
    }
    assert_eq!(threads.lock().started.len(), 3);
}

#[test]
fn jobs_wait_in_order_where_all_threads_are_busy() {
    let threads = threads(1, PATIENCE);
    let share = share();
    let first = occupy_for(&share, threads);
    let order = Arc::new(Mutex::new(Vec::new()));
    let later: Vec<_> = (0..4)
        .map(|number| {
            let order = Arc::clone(&order);
            threads.spawn(&share, move || order.lock().unwrap().push(number))
        })
        .collect();
    assert_eq!(waiting(threads), 4);
    finish(first);
    for work in later {
        finished(work).unwrap();
    }
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3]);
    assert_eq!(threads.lock().started.len(), 1);
}

#[test]
fn what_nobody_waits_for_leaves_the_queue() {
    let threads = threads(1, PATIENCE);
    let share = share();
    let first = occupy_for(&share, threads);
    let held = Arc::new(());
    let [before, given_up, after] = [(), (), ()].map(|()| {
        let held = Arc::clone(&held);
        threads.spawn(&share, move || drop(held))
    });
    drop(given_up);
    assert_eq!(waiting(threads), 2);
    assert_eq!(Arc::strong_count(&held), 3);
    finish(first);
    assert_eq!(finished(before), Ok(()));
    assert_eq!(finished(after), Ok(()));
}

#[test]
fn a_panic_ends_its_job_only() {
    let threads = threads(1, PATIENCE);
    let share = share();
    let failed = threads.spawn(&share, || panic!("on purpose"));
    assert!(finished(failed).is_err());
    assert_eq!(finished(threads.spawn(&share, || 7)), Ok(7));
    assert_eq!(threads.lock().started.len(), 1);
}

#[test]
fn idle_threads_end_and_others_follow() {
    let threads = threads(8, Duration::ZERO);
    for _ in 0..3 {
        let works: Vec<_> = (0..4).map(|_| occupy(threads)).collect();
        for work in works {
            finish(work);
        }
        poll_until(|| !threads.lock().has_threads());
        assert_eq!(threads.lock().idle.len(), 0);
    }
    // Each is submitted while the thread of the one before ends.
    for number in 0..2000 {
        assert_eq!(
            finished(threads.spawn(&share(), move || number)),
            Ok(number)
        );
    }
}

#[test]
fn a_model_leaves_half_of_what_is_left_to_others() {
    let threads = threads(16, PATIENCE);
    let mut held = Vec::new();
    let mut counts = Vec::new();
    for _ in 0..6 {
        let share = share();
        let before = held.len();
        loop {
            let (go_on, wait) = mpsc::channel::<()>();
            let work = threads.spawn(&share, move || wait.recv().is_err());
            held.push((go_on, work));
            if waiting_of(threads, &share) > 0 {
                break;
            }
        }
        counts.push(held.len() - before - 1);
    }
    // The last two have one each, although the others use the whole limit.
    assert_eq!(counts, [8, 4, 2, 1, 1, 1]);
    drop(held);
    poll_until(|| threads.lock().running == 0);
    assert_eq!(waiting(threads), 0);
}

#[test]
fn runs_of_one_model_follow_the_cpus() {
    let counts = [1, 2, 8, 16, 64].map(|cpus| Options::for_cpus(cpus).max_of_model);
    assert_eq!(counts, [6, 6, 24, 48, 192]);
}

#[test]
fn a_model_has_its_bound_and_leaves_what_is_left_to_others() {
    let options = Options {
        max_of_model: 3,
        ..Options::for_cpus(1)
    };
    let threads = threads_of(options);
    let [one, another] = [share(), share()];
    let held: Vec<_> = (0..10)
        .map(|number| {
            let (go_on, wait) = mpsc::channel::<()>();
            let share = if number < 8 { &one } else { &another };
            (go_on, threads.spawn(share, move || wait.recv().is_err()))
        })
        .collect();
    assert_eq!([&one, &another].map(running_of), [3, 2]);
    assert_eq!(waiting_of(threads, &one), 5);
    for (go_on, work) in held {
        drop(go_on);
        assert_eq!(finished(work), Ok(true));
    }
    poll_until(|| threads.lock().running == 0);
}

fn running_of(share: &Arc<Share>) -> usize {
    share.running.load(Ordering::Relaxed)
}

fn waiting_of(threads: &BlockingPool, share: &Arc<Share>) -> usize {
    let state = threads.lock();
    let jobs = state.waiting.iter().flatten();
    jobs.filter(|it| Arc::ptr_eq(&it.share, share)).count()
}

#[test]
fn models_that_wait_take_turns() {
    let threads = threads(2, PATIENCE);
    let shares = [share(), share()];
    let first = shares.each_ref().map(|share| occupy_for(share, threads));
    let order = Arc::new(Mutex::new(Vec::new()));
    let [a, b] = &shares;
    let works: Vec<_> = [(a, "a1"), (a, "a2"), (a, "a3"), (b, "b1"), (b, "b2")]
        .into_iter()
        .map(|(share, name)| {
            let order = Arc::clone(&order);
            threads.spawn(share, move || order.lock().unwrap().push(name))
        })
        .collect();
    assert_eq!(waiting(threads), 5);
    for each in first {
        finish(each);
    }
    for work in works {
        finished(work).unwrap();
    }
    let order = order.lock().unwrap();
    let of = |model: &str| -> Vec<_> {
        let names = order.iter().filter(|it| it.starts_with(model));
        names.copied().collect()
    };
    assert_eq!(
        (of("a"), of("b")),
        (vec!["a1", "a2", "a3"], vec!["b1", "b2"])
    );
}

#[test]
fn versions_of_a_model_have_one_share() {
    let share = Share::of_model("one");
    assert!(Arc::ptr_eq(&share, &Share::of_model("one")));
    assert!(!Arc::ptr_eq(&share, &Share::of_model("another")));
}

#[cfg(target_os = "linux")]
mod long_runs {
    use super::*;
    use crate::placement::priority::tests::{cpus, niceness};

    /// Runs each model on one thread at a time, and soon treats a run as long.
    fn impatient() -> &'static BlockingPool {
        threads_of(Options {
            max_of_model: 1,
            keep_alive: PATIENCE,
            long: Duration::from_millis(20),
            very_long: Duration::from_millis(40),
            ..Options::for_cpus(1)
        })
    }

    fn poll_until_low(threads: &BlockingPool) {
        poll_until(|| threads.lock().started.iter().any(|it| it.is_low()));
    }

    #[test]
    fn a_long_run_goes_on_at_a_low_priority_and_its_thread_ends() {
        let threads = impatient();
        let usual = niceness();
        let (go_on, wait) = mpsc::channel();
        let work = threads.spawn(&share(), move || {
            let before = niceness();
            wait.recv().unwrap();
            (before, niceness())
        });
        poll_until_low(threads);
        go_on.send(()).unwrap();
        // 19 is the end of the scale.
        assert_eq!(finished(work), Ok((usual, (usual + 10).min(19))));
        poll_until(|| !threads.lock().has_threads());
        assert_eq!(threads.lock().idle.len(), 0);
        assert_eq!(finished(threads.spawn(&share(), niceness)), Ok(usual));
    }

    #[test]
    fn a_very_long_run_leaves_one_cpu_to_others() {
        let threads = impatient();
        let all = cpus();
        let (go_on, wait) = mpsc::channel();
        let work = threads.spawn(&share(), move || {
            wait.recv().unwrap();
            cpus()
        });
        poll_until(|| {
            let state = threads.lock();
            let mut started = state.started.iter();
            started.any(|it| it.left_cpu.load(Ordering::Relaxed))
        });
        go_on.send(()).unwrap();
        assert_eq!(finished(work), Ok((all - 1).max(1)));
        assert_eq!(finished(threads.spawn(&share(), cpus)), Ok(all));
    }

    #[test]
    fn what_waits_for_the_end_of_a_long_run_has_the_usual_priority() {
        let threads = impatient();
        let share = share();
        let long = occupy_for(&share, threads);
        let later = threads.spawn(&share, || (niceness(), current().id()));
        assert_eq!(waiting_of(threads, &share), 1);
        poll_until_low(threads);
        let low = finish(long);
        let (later, id) = finished(later).unwrap();
        assert_eq!(later, niceness());
        assert_ne!(id, low);
    }

    #[test]
    fn a_thread_with_nothing_to_do_keeps_its_priority() {
        let threads = impatient();
        // On a busy machine one of them can become long.
        poll_until(|| {
            finish(occupy(threads));
            poll_until(|| {
                let state = threads.lock();
                state.idle.len() == state.started.len()
            });
            threads.lock().idle.len() == 1
        });
        std::thread::sleep(4 * threads.options.long);
        assert_eq!(finished(threads.spawn(&share(), niceness)), Ok(niceness()));
    }
}

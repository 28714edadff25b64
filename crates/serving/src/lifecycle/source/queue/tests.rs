//! The order of looks at artificial times.

use super::*;
use crate::lifecycle::source::VersionPolicy;

const INTERVAL: Duration = Duration::from_secs(1);
const GAP: Duration = Duration::from_millis(100);
const HURRY: Duration = Duration::from_millis(10);

fn model(name: &str, base_path: &str) -> Arc<WatchedModel> {
    Arc::new(WatchedModel {
        name: name.into(),
        base_path: base_path.into(),
        policy: VersionPolicy::Latest(1),
    })
}

fn queue(models: &[(&str, &str)]) -> Queue {
    let mut queue = Queue::new(Timing {
        interval: Some(INTERVAL),
        gap: GAP,
    });
    queue.replace(models.iter().map(|it| model(it.0, it.1)).collect());
    queue
}

fn aspired(rest: Rest) -> Result<Found> {
    Ok(Found::Aspired {
        versions: Vec::new(),
        rest,
    })
}

fn names(jobs: &[Job]) -> Vec<&str> {
    jobs.iter().map(|job| job.model.name.as_ref()).collect()
}

fn all_due(queue: &mut Queue, now: Instant) -> Vec<Job> {
    std::iter::from_fn(|| queue.next(now)).collect()
}

#[test]
fn models_are_looked_at_in_order_and_again_later() {
    let mut queue = queue(&[("z", "/z"), ("a", "/a"), ("m", "/m")]);
    let start = Instant::now();
    assert!(
        queue.next(start + INTERVAL * 10).is_none(),
        "no caller asked"
    );
    queue.ask(start, HURRY);
    let jobs = all_due(&mut queue, start);
    assert_eq!(names(&jobs), ["z", "a", "m"]);
    queue.finish(&jobs[0], start, aspired(Rest::Settled));
    queue.finish(&jobs[1], start, aspired(Rest::Changing));
    queue.finish(&jobs[2], start, Ok(Found::Unsure));
    assert_eq!(names(&all_due(&mut queue, start + HURRY)), ["m"]);
    assert_eq!(names(&all_due(&mut queue, start + GAP)), ["a"]);
    assert_eq!(names(&all_due(&mut queue, start + INTERVAL)), ["z"]);
}

#[test]
fn without_an_interval_only_what_has_not_settled_is_looked_at_again() {
    let mut queue = queue(&[("a", "/a"), ("b", "/b")]);
    queue.timing.interval = None;
    let now = Instant::now();
    queue.ask(now, HURRY);
    let jobs = all_due(&mut queue, now);
    queue.finish(&jobs[0], now, aspired(Rest::Settled));
    queue.finish(&jobs[1], now, aspired(Rest::Version));
    let later = all_due(&mut queue, now + INTERVAL * 1000);
    assert_eq!(names(&later), ["b"]);
}

#[test]
fn slow_storage_is_asked_less_often() {
    let mut queue = queue(&[("a", "/a")]);
    let start = Instant::now();
    queue.ask(start, HURRY);
    let job = queue.next(start).unwrap();
    let end = start + INTERVAL;
    queue.finish(&job, end, aspired(Rest::Settled));
    assert!(queue.next(end + INTERVAL * 3).is_none());
    assert!(queue.next(end + INTERVAL * 4).is_some());
}

#[test]
fn a_base_path_that_hangs_holds_one_look() {
    let mut queue = queue(&[("a", "/hung"), ("b", "/hung"), ("c", "/c")]);
    let start = Instant::now();
    let requests = queue.ask(start, HURRY);
    let jobs = all_due(&mut queue, start);
    assert_eq!(names(&jobs), ["a", "c"]);
    queue.finish(&jobs[1], start, aspired(Rest::Settled));
    assert_eq!(queue.stalled(start), [] as [Arc<str>; 0]);
    assert!(queue.answer(&requests[0], start).is_none());

    let later = start + STALLED_AFTER;
    // New sets of models do not change that.
    for _ in 0..3 {
        queue.replace(vec![
            model("a", "/hung"),
            model("b", "/hung"),
            model("c", "/c"),
        ]);
        queue.ask(later, HURRY);
        let again = all_due(&mut queue, later);
        assert_eq!(names(&again), ["c"]);
        queue.finish(&again[0], later, aspired(Rest::Settled));
    }
    assert_eq!(queue.stalled(later), ["a".into(), "b".into()]);
    let reports = queue.take_reports(later);
    let text = "the base path /hung of model a has not answered for 5 s";
    assert_eq!(reports[0].to_string(), text);
    assert_eq!((reports.len(), queue.take_reports(later).len()), (1, 0));
    let requests = queue.ask(later, HURRY);
    for request in &requests[..2] {
        let error = queue.answer(request, later).unwrap().unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
    }

    // The look ends, but its answer is for an earlier set of models.
    assert!(!queue.is_current(&jobs[0]));
    assert!(queue.finish(&jobs[0], later, aspired(Rest::Settled)));
    assert_eq!(queue.stalled(later), [] as [Arc<str>; 0]);
    assert_eq!(names(&all_due(&mut queue, later)), ["a", "c"]);
}

#[test]
fn an_answer_that_took_too_long_is_asked_for_again() {
    let mut queue = queue(&[("a", "/a")]);
    let start = Instant::now();
    let requests = queue.ask(start, HURRY);
    let job = queue.next(start).unwrap();
    let later = start + STALLED_AFTER * 2;
    queue.finish(&job, later, aspired(Rest::Settled));
    assert!(queue.answer(&requests[0], later).is_none());
    let job = queue.next(later).unwrap();
    queue.finish(&job, later, aspired(Rest::Settled));
    assert!(queue.answer(&requests[0], later).is_some());
}

#[test]
fn a_look_that_began_before_the_question_does_not_answer_it() {
    let mut queue = queue(&[("a", "/a")]);
    let now = Instant::now();
    queue.ask(now, HURRY);
    let job = queue.next(now).unwrap();
    let request = queue.ask(now, HURRY).remove(0);
    assert!(queue.next(now).is_none());
    queue.finish(&job, now, aspired(Rest::Settled));
    assert!(queue.answer(&request, now).is_none());
    let job = queue.next(now).unwrap();
    queue.finish(&job, now, aspired(Rest::Settled));
    assert!(queue.answer(&request, now).is_some());
}

#[test]
fn what_is_known_of_a_model_stays_with_its_base_path() {
    let mut queue = queue(&[("a", "/a"), ("b", "/b")]);
    let now = Instant::now();
    queue.ask(now, HURRY);
    let before = all_due(&mut queue, now);
    queue.replace(vec![model("a", "/a"), model("b", "/elsewhere")]);
    for job in &before {
        queue.finish(job, now, aspired(Rest::Settled));
    }
    queue.ask(now, HURRY);
    let after = all_due(&mut queue, now);
    assert!(Arc::ptr_eq(&before[0].poll, &after[0].poll));
    assert!(!Arc::ptr_eq(&before[1].poll, &after[1].poll));
}

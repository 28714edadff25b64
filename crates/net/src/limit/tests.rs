use futures_util::FutureExt;

use super::budget::{MAX_LASTING, MAX_PROBES, MAX_REFLECTIONS};
use super::*;
use crate::peer::{ConnectionNumber, Source};
use base::error::Code;

fn from(source: u8, connection: ConnectionNumber) -> Head {
    Head {
        source: Source::V4([10, 0, 0, source]),
        connection,
        bytes: 0,
    }
}

fn makes_room(waits: &Waits) -> bool {
    waits.makes_room().now_or_never().is_some()
}

#[test]
fn who_waits_for_its_client_makes_room_for_requests() {
    let load_shed = LoadShed::new(4, 1 << 30);
    let enter = |source, connection| {
        let admitted = load_shed.enter_from(None, &from(source, connection));
        admitted.map(Arc::new)
    };
    // The server works on one request; the other, from another source, waits for its client.
    let (_working, other) = (enter(1, 1).unwrap(), enter(2, 2).unwrap());
    let stalled = [enter(1, 1).unwrap(), enter(1, 1).unwrap()];
    assert!(enter(3, 3).is_err());
    let other_waits = other.waits();
    let waits: Vec<_> = stalled.iter().map(Admitted::waits).collect();
    let mut let_in = vec![enter(3, 3).unwrap()];
    assert_eq!(
        waits.iter().map(makes_room).collect::<Vec<_>>(),
        [true, false]
    );
    let_in.push(enter(3, 3).unwrap());
    assert!(!makes_room(&waits[1]) && makes_room(&other_waits));
    let_in.push(enter(3, 3).unwrap());
    assert!(makes_room(&waits[1]));
    assert!(enter(3, 3).is_err());
    drop((waits, other_waits, stalled, other));
    assert!(enter(3, 3).is_err());
    drop(let_in);
    assert!(enter(3, 3).is_ok());
}

#[test]
fn all_that_a_waiting_request_holds_counts() {
    let bound = 10 * (UNCOUNTED_BYTES + REQUEST_BYTES);
    let load_shed = LoadShed::new(1000, bound);
    let head = Head {
        bytes: UNCOUNTED_BYTES as usize,
        ..from(1, 1)
    };
    let stalled: Vec<_> = (0..100)
        .map(|_| {
            let admitted = Arc::new(load_shed.enter_from(None, &head).unwrap());
            let waits = admitted.waits();
            (admitted, waits)
        })
        .collect();
    let stay = stalled.iter().map(|(_, waits)| !makes_room(waits));
    assert_eq!(stay.filter(|&it| it).count(), 10);
    // A large request makes room only for smaller ones.
    let large = load_shed.enter_from(None, &from(2, 2)).unwrap();
    assert!(large.grow(2 * bound as usize).is_err());
    drop(large);
    let small = load_shed.enter_from(None, &from(2, 2)).unwrap();
    small.grow(3 * UNCOUNTED_BYTES as usize).unwrap();
    drop(small);
    drop(stalled);
    assert_eq!(load_shed.0.bytes.load(Ordering::Relaxed), 0);
    assert_eq!(load_shed.0.going_bytes.load(Ordering::Relaxed), 0);
}

#[test]
fn the_oldest_of_a_connection_makes_room_for_its_next() {
    let load_shed = LoadShed::new(0, 1 << 30);
    let enter = || load_shed.enter_from(Some(ExemptCall::Lasting), &from(1, 1));
    let watches: Vec<_> = std::iter::from_fn(|| enter().ok()).map(Arc::new).collect();
    let waits: Vec<_> = watches.iter().map(Admitted::waits).collect();
    let next = Arc::new(enter().unwrap());
    assert!(makes_room(&waits[0]) && !makes_room(&waits[1]));
    let _next = (next.waits(), enter().unwrap());
    assert!(makes_room(&waits[1]));
}

#[test]
fn requests_beyond_the_bound_are_refused() {
    let load_shed = LoadShed::new(2, 100);
    let first = load_shed.enter_now(None).unwrap();
    let _second = load_shed.enter_now(None).unwrap();
    let error = load_shed.enter_now(None).unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    drop(first);
    load_shed.enter_now(None).unwrap();
}

#[test]
fn what_comes_beside_the_requests_has_bounds_of_its_own() {
    let load_shed = LoadShed::new(0, 100);
    assert!(load_shed.enter_now(None).is_err());
    for kind in [
        ExemptCall::Probe,
        ExemptCall::Lasting,
        ExemptCall::Reflection,
    ] {
        let (max, max_of_one) = [MAX_PROBES, MAX_LASTING, MAX_REFLECTIONS][kind as usize];
        let enter = |connection| load_shed.enter_from(Some(kind), &from(1, connection));
        let held: Vec<_> = std::iter::from_fn(|| enter(1).ok()).collect();
        assert_eq!(held.len(), max_of_one);
        let admitted = enter(2).unwrap();
        let error = admitted.grow(UNCOUNTED_BYTES as usize + 101).unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted);
        drop(held);
        enter(1).unwrap();
        drop(admitted);
        let all: Vec<_> = (0..)
            .map_while(|connection| enter(connection).ok())
            .collect();
        assert_eq!(all.len(), max);
    }
    assert_eq!(load_shed.large_requests(), (0, true));
}

#[test]
fn an_answer_counts_where_it_is_larger_than_its_request() {
    let load_shed = LoadShed::new(2, 100);
    let admitted = load_shed.enter_now(None).unwrap();
    let uncounted = UNCOUNTED_BYTES as usize;
    admitted.grow(uncounted + 40).unwrap();
    admitted.hold_answer(uncounted).unwrap();
    admitted.hold_answer(uncounted + 90).unwrap();
    let other = load_shed.enter_now(None).unwrap();
    other.grow(uncounted + 10).unwrap();
    assert!(other.hold_answer(uncounted + 11).is_err());
}

#[test]
fn bytes_beyond_the_bound_are_refused() {
    let load_shed = LoadShed::new(2, 100);
    let first = load_shed.enter_now(None).unwrap();
    let second = load_shed.enter_now(None).unwrap();
    let uncounted = UNCOUNTED_BYTES as usize;
    first.grow(uncounted / 2).unwrap();
    first.grow(uncounted / 2 + 60).unwrap();
    second.grow(uncounted).unwrap();
    second.grow(40).unwrap();
    let error = first.grow(1).unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    // All bytes of the first request, including the refused one, are free again.
    drop(first);
    second.grow(60).unwrap();
    assert!(second.grow(1).is_err());
}

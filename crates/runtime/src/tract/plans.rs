//! The cached plans of one graph. tract optimises a graph for the exact shapes of its inputs, so every
//! combination of shapes needs a plan of its own.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tract_onnx::prelude::TypedSimplePlan;

use base::error::{Code, Result, ServingError};

/// The most plans of a graph. Clients usually send one shape or two; batching adds one for each batch
/// size, or one for each of `allowed_batch_sizes`.
const MAX_PLANS: usize = 64;
/// A plan can have a copy of the weights, in the order in which its kernels read them. If there are
/// more than two plans, their copies together should not take more memory than this.
const MAX_WEIGHT_BYTES: usize = 1 << 30;

/// A plan, or the reason why there is none.
type PlanOutcome = Result<Arc<TypedSimplePlan>, (Code, String)>;

/// The properties that a plan is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlanKey {
    /// The shape of each input.
    pub(super) shapes: Vec<Vec<usize>>,
    /// The indices of the outputs, ascending.
    pub(super) outputs: Vec<usize>,
}

/// The plans that were used last.
pub(super) struct Plans {
    max: usize,
    /// In the order of use, the last used at the end. The lock is held for a few comparisons; plans are
    /// made without it.
    slots: Mutex<Vec<Slot>>,
}

#[derive(Clone)]
struct Slot {
    key: PlanKey,
    /// Filled by the first caller; the others wait for it.
    plan: Arc<OnceLock<PlanOutcome>>,
}

impl Plans {
    /// For a graph with this many bytes of weights.
    pub(super) fn new(weight_bytes: usize) -> Self {
        Self {
            max: (MAX_WEIGHT_BYTES / weight_bytes.max(1)).clamp(2, MAX_PLANS),
            slots: Mutex::default(),
        }
    }

    /// The plan for `key`. If there is none, `make` makes it. Failures are not kept.
    pub(super) fn get(
        &self,
        key: PlanKey,
        make: impl FnOnce(&PlanKey) -> Result<Arc<TypedSimplePlan>>,
    ) -> Result<Arc<TypedSimplePlan>> {
        let slot = self.slot(key);
        let made = || make(&slot.key).map_err(|error| (error.code(), error.to_string()));
        match slot.plan.get_or_init(made) {
            Ok(plan) => Ok(Arc::clone(plan)),
            Err((code, message)) => {
                self.remove(&slot);
                Err(ServingError::new(*code, message))
            }
        }
    }

    fn slot(&self, key: PlanKey) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = match slots.iter().position(|slot| slot.key == key) {
            Some(index) => slots.remove(index),
            None => {
                if slots.len() >= self.max {
                    slots.remove(0);
                }
                Slot {
                    key,
                    plan: Arc::default(),
                }
            }
        };
        slots.push(slot.clone());
        slot
    }

    fn remove(&self, slot: &Slot) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|it| !Arc::ptr_eq(&it.plan, &slot.plan));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tract_onnx::prelude::TypedModel;

    use super::*;

    fn key(size: usize) -> PlanKey {
        PlanKey {
            shapes: vec![vec![size]],
            outputs: vec![0],
        }
    }

    /// Whether the plan had to be made.
    fn is_made(plans: &Plans, size: usize) -> bool {
        let made = Cell::new(false);
        let plan = plans.get(key(size), |_| {
            made.set(true);
            Ok(TypedSimplePlan::new(TypedModel::default()).unwrap())
        });
        plan.unwrap();
        made.get()
    }

    #[test]
    fn plans_used_last_are_kept() {
        let plans = Plans::new(0);
        for size in 0..MAX_PLANS {
            assert!(is_made(&plans, size));
        }
        assert!(!is_made(&plans, 0), "there is room for all");
        assert!(is_made(&plans, MAX_PLANS));
        assert!(!is_made(&plans, 0), "used after the others");
        assert!(is_made(&plans, 1), "used before the others");
    }

    #[test]
    fn outputs_tell_plans_apart() {
        let plans = Plans::new(0);
        assert!(is_made(&plans, 1));
        let other = PlanKey {
            outputs: vec![1],
            ..key(1)
        };
        let error = plans.get(other, |_| Err(ServingError::internal("made")));
        assert_eq!(error.unwrap_err().to_string(), "made");
    }

    #[test]
    fn large_weights_are_kept_twice_at_most() {
        let plans = Plans::new(1 << 40);
        assert!(is_made(&plans, 1));
        assert!(is_made(&plans, 2));
        assert!(!is_made(&plans, 1));
        assert!(is_made(&plans, 3));
        assert!(is_made(&plans, 2));
    }

    #[test]
    fn failures_are_not_kept() {
        let plans = Plans::new(0);
        let error = plans.get(key(1), |_| Err(ServingError::invalid_argument("odd size")));
        let error = error.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert_eq!(error.to_string(), "odd size");
        assert!(is_made(&plans, 1));
    }

    #[test]
    fn a_plan_is_made_once_for_all_who_wait() {
        let plans = Plans::new(0);
        let all_there = std::sync::Barrier::new(4);
        let made: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        all_there.wait();
                        usize::from(is_made(&plans, 1))
                    })
                })
                .collect();
            threads.into_iter().map(|it| it.join().unwrap()).sum()
        });
        assert_eq!(made, 1);
    }
}

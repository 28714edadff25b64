//! Every request gets the result that it would get alone, no matter which others are in its batch.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// One request: some rows of numbers and of strings, and the outputs that it wants.
#[derive(Clone, Debug)]
struct Sent {
    width: usize,
    rows: Vec<(u8, String)>,
    fetches: Vec<usize>,
}

impl Sent {
    fn feeds(&self) -> Vec<Tensor> {
        let rows = self.rows.len();
        let elements = self
            .rows
            .iter()
            .flat_map(|(number, _)| vec![f32::from(*number) / 3.0; self.width]);
        let strings = self.rows.iter().map(|(_, text)| Bytes::from(text.clone()));
        vec![
            floats(&[rows, self.width], &elements.collect::<Vec<_>>()),
            Tensor::from_strings(&[rows], strings.collect()).unwrap(),
        ]
    }
}

fn sent() -> impl Strategy<Value = Sent> {
    let fetches = prop::sample::subsequence(vec![0usize, 1], 1..=2).prop_shuffle();
    (1..3usize, vec((any::<u8>(), "[a-z]{0,3}"), 0..6), fetches).prop_map(
        |(width, rows, fetches)| Sent {
            width,
            rows,
            fetches,
        },
    )
}

fn some_options() -> impl Strategy<Value = BatchingOptions> {
    let timeouts = prop_oneof![Just(0i64), Just(200)];
    let allowed = prop_oneof![Just(vec![]), Just(vec![2, 6]), Just(vec![1, 3, 6])];
    (
        timeouts,
        allowed,
        any::<bool>(),
        any::<bool>(),
        1..4i64,
        1..=6i64,
    )
        .prop_map(
            |(timeout, allowed, split, adaptive, threads, execution)| BatchingOptions {
                max_batch_size: 6,
                batch_timeout_micros: timeout,
                max_enqueued_batches: 1000,
                num_batch_threads: threads,
                allowed_batch_sizes: allowed,
                enable_large_batch_splitting: split,
                max_execution_batch_size: Some(execution),
                adaptive,
                ..BatchingOptions::default()
            },
        )
}

/// Output 0 is half plus two, output 1 the strings.
fn graph() -> FakeGraph {
    FakeGraph::new(2, 2, |feeds, output| {
        Ok(match output {
            0 => super::super::fake::half_plus(&feeds[0], 0),
            _ => feeds[1].clone(),
        })
    })
}

async fn answers(it: &Fixture, requests: &[Sent]) -> Vec<Vec<Tensor>> {
    let executions: Vec<_> = requests
        .iter()
        .map(|sent| it.send_all(sent.feeds(), &sent.fetches, None))
        .collect();
    let mut answers = Vec::new();
    for execution in executions {
        answers.push(execution.await.unwrap());
    }
    answers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn batched_answers_are_those_of_single_runs(
        options in some_options(),
        requests in vec(sent(), 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let batched = Fixture::of(graph(), options);
            let direct = DirectExecutor::new(Arc::new(graph()), "a", Arc::default());
            let answers = answers(&batched, &requests).await;
            for (sent, answer) in requests.iter().zip(answers) {
                let alone = direct.execute(sent.feeds(), sent.fetches.clone(), None);
                assert_eq!(answer, alone.await.unwrap().outputs);
            }
        });
    }
}

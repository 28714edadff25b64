//! Plays recorded exchanges against servers in this process.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::case::{self, Case, Request, Setup};
use super::{compare, recordings};
use crate::support::http;
use crate::support::server::TestServer;

/// How long to wait before a server that needs time is asked again.
const RETRY: Duration = Duration::from_millis(20);

/// One exchange after it was played.
pub(crate) struct Played {
    pub(crate) id: String,
    pub(crate) group: String,
    pub(crate) result: Result<(), String>,
}

/// Plays the recordings of `folder` with these models: single exchanges on one server for each setup,
/// each sequence on a new server of its own.
pub(crate) async fn play_all(folder: &Path, models: &Path) -> Vec<Played> {
    let setups = case::read_setups(&folder.join("setups.json"));
    play_runs(&setups, read_cases(folder, models), models).await
}

/// Plays these groups once more, with `<name>_cut` instead of each of these models: graphs that take
/// features, and maps that describe how to parse them.
pub(crate) async fn play_cut(
    folder: &Path,
    models: &Path,
    groups: &[&str],
    cut: &[&str],
) -> Vec<Played> {
    let mut setups = case::read_setups(&folder.join("setups.json"));
    for setup in setups.values_mut() {
        setup.cut(cut);
    }
    let mut cases = read_cases(folder, models);
    cases.retain(|case| groups.contains(&case.group.as_str()));
    play_runs(&setups, cases, models).await
}

fn read_cases(folder: &Path, models: &Path) -> Vec<Case> {
    let files = recordings(folder);
    let cases = files.iter().flat_map(|file| case::read_cases(file, models));
    cases.collect()
}

async fn play_runs(
    setups: &BTreeMap<String, Setup>,
    cases: Vec<Case>,
    models: &Path,
) -> Vec<Played> {
    let mut runs: BTreeMap<(String, String), Vec<Case>> = BTreeMap::new();
    for case in cases {
        let sequence = if case.seq > 0 { &case.group } else { "" };
        let run = (case.setup.clone(), sequence.to_owned());
        runs.entry(run).or_default().push(case);
    }
    let mut played = Vec::new();
    for ((setup, _), cases) in runs {
        played.extend(play_run(&setups[&setup], cases, models).await);
    }
    played
}

async fn play_run(setup: &Setup, mut cases: Vec<Case>, models: &Path) -> Vec<Played> {
    cases.sort_by_key(|case| case.seq);
    let files = tempfile::tempdir().unwrap();
    let flags = setup.write(models, files.path());
    let server = match TestServer::try_start(&flags, files).await {
        Ok(server) => server,
        Err(error) => {
            let error = format!("the server does not start: {error}");
            let played = cases
                .into_iter()
                .map(|case| played(case, Err(error.clone())));
            return played.collect();
        }
    };
    server.settled(&setup.models()).await;
    let mut all = Vec::new();
    let mut settled = Instant::now();
    for case in cases {
        let result = play_until(&server, &case, settled).await;
        settled = Instant::now() + case.pause;
        all.push(played(case, result));
    }
    server.stop().await;
    all
}

fn played(case: Case, result: Result<(), String>) -> Played {
    Played {
        id: case.id,
        group: case.group,
        result,
    }
}

/// Plays an exchange, and repeats it if it fails while the previous exchange might still have an
/// effect.
async fn play_until(server: &TestServer, case: &Case, settled: Instant) -> Result<(), String> {
    loop {
        let result = play(server, case).await;
        if result.is_ok() || Instant::now() >= settled {
            return result;
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn play(server: &TestServer, case: &Case) -> Result<(), String> {
    match &case.request {
        Request::Rest { bytes, expect } => {
            let reply = http::exchange(server.rest, bytes).await;
            compare::check_rest(expect, &reply.map_err(|error| error.to_string())?)
        }
        Request::Grpc {
            method,
            message,
            timeout,
            metadata,
            expect,
        } => {
            let message = message.clone();
            let reply = server.grpc.call_with(method, message, *timeout, metadata);
            compare::check_grpc(method, expect, &reply.await)
        }
    }
}

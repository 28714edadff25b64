//! TFRecord files and the `PredictionLog` messages in them: warmup files.

use prost::Message;

use base::error::{Code, Result};
use codec::tfrecord::{RecordReader, append_record};
use proto::tensorflow::serving::PredictionLog;
use proto::tensorflow::serving::prediction_log::LogType;
use wire::tfs::{classification, multi_inference, regression};

/// The header of a record. A file can end within it.
const LENGTH_BYTES: usize = 12;

/// Reads the bytes as a file, and as the contents of one.
pub fn check(data: &[u8]) {
    if let Ok(records) = read(data) {
        let rest = data.strip_prefix(&written(&records)[..]);
        let rest = rest.expect("another file has these records");
        assert!(rest.len() < LENGTH_BYTES, "a record is left out");
        records.iter().for_each(|record| check_log(record));
    }
    check_log(data);
    check_framing(data);
}

fn read(file: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut reader = RecordReader::new(file, file.len() as u64);
    let mut records = Vec::new();
    while let Some(record) = reader.next_record()? {
        records.push(record);
    }
    Ok(records)
}

fn written(records: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    records.iter().for_each(|it| append_record(&mut file, it));
    file
}

/// Records survive a round trip; with any one byte changed, the file is refused. The first byte chooses
/// where to cut and which byte to change.
fn check_framing(data: &[u8]) {
    let Some((&first, content)) = data.split_first() else {
        return;
    };
    let size = usize::from(first % 64) + 1;
    let records: Vec<Vec<u8>> = content.chunks(size).map(<[u8]>::to_vec).collect();
    let mut file = written(&records);
    assert_eq!(read(&file).ok(), Some(records), "records are lost");
    let place = usize::from(first) * 31;
    if let Some(byte) = file.len().checked_sub(1).map(|last| place.min(last)) {
        file[byte] ^= 1 << (first % 8);
        let error = read(&file).expect_err("a changed byte is not noticed");
        assert_eq!(error.code(), Code::DataLoss);
    }
}

/// The requests of a log, as a replay reads them.
fn check_log(record: &[u8]) {
    let Ok(PredictionLog {
        log_type: Some(log),
        ..
    }) = PredictionLog::decode(record)
    else {
        return;
    };
    match log {
        LogType::ClassifyLog(log) => {
            let _ = classification::from_proto(log.request.unwrap_or_default(), None);
        }
        LogType::RegressLog(log) => {
            let _ = regression::from_proto(log.request.unwrap_or_default(), None);
        }
        LogType::MultiInferenceLog(log) => {
            let _ = multi_inference::from_proto(log.request.unwrap_or_default(), None);
        }
        LogType::PredictLog(log) => {
            let request = log.request.unwrap_or_default().encode_to_vec();
            super::tensor_proto::check(&request);
        }
        LogType::PredictStreamedLog(_) | LogType::SessionRunLog(_) => {}
    }
}

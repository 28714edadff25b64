//! Decoding and encoding of bodies with many numbers, compared with `serde_json::Value` and with a
//! plain pass over the memory. Prints MB/s of JSON text by CPU time (the machine can be busy
//! otherwise), ratios, and how much memory grows.
//!
//! `cargo bench --bench json`

use std::hint::black_box;
use std::time::Duration;

use base::tensor::{DataType, Element, Tensor};
use wire::tfs::json::{Format, InputSpec, decode_predict, encode_predict};

const MIB: usize = 1 << 20;
const ROW: usize = 256;

fn main() {
    for size in [MIB, 64 * MIB] {
        let name = format!("{}MiB", size / MIB);
        decode(
            &format!("short_floats/{name}"),
            DataType::Float,
            body(size, short_float),
        );
        decode(
            &format!("python_floats/{name}"),
            DataType::Float,
            body(size, long_float),
        );
        decode(
            &format!("doubles/{name}"),
            DataType::Double,
            body(size, long_float),
        );
        decode(
            &format!("pixels/{name}"),
            DataType::Float,
            body(size, pixel),
        );
        decode(
            &format!("int64s/{name}"),
            DataType::Int64,
            body(size, integer),
        );
        encode(
            &format!("floats/{name}"),
            tensor(size / 12, |bits| unit(bits) as f32),
        );
        encode(&format!("doubles/{name}"), tensor(size / 20, unit));
        encode(
            &format!("int64s/{name}"),
            tensor(size / 10, |bits| (bits >> 34) as i64),
        );
    }
}

/// Uniform random numbers, the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

fn short_float(bits: u64) -> String {
    format!("{:.6}", unit(bits))
}

/// A float32 as Python writes it.
fn long_float(bits: u64) -> String {
    f64::from(unit(bits) as f32).to_string()
}

fn pixel(bits: u64) -> String {
    (bits >> 56).to_string()
}

fn integer(bits: u64) -> String {
    (bits >> 34).to_string()
}

/// A row request of about `size` bytes.
fn body(size: usize, number: impl Fn(u64) -> String) -> Vec<u8> {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut body = r#"{"signature_name": "serving_default", "instances": ["#.to_owned();
    while body.len() < size {
        let row: Vec<String> = (0..ROW).map(|_| number(random.next())).collect();
        body.push('[');
        body.push_str(&row.join(", "));
        body.push_str("], ");
    }
    body.truncate(body.len() - 2);
    body.push_str("]}");
    body.into_bytes()
}

fn tensor<T: Element>(count: usize, number: impl Fn(u64) -> T) -> Tensor {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let rows = count / ROW;
    let elements = (0..rows * ROW).map(|_| number(random.next())).collect();
    Tensor::from_vec(&[rows, ROW], elements).expect("as many elements as the shape says")
}

fn decode(name: &str, dtype: DataType, body: Vec<u8>) {
    let run = || {
        let specs = |_: &str| {
            Ok(vec![InputSpec {
                alias: "x".to_owned(),
                is_optional: false,
                dtype,
                kept: Vec::new(),
            }])
        };
        decode_predict(&body, specs).expect("the body is right")
    };
    reset_peak();
    let before = resident("VmRSS:");
    let decoded = run();
    let grown = resident("VmHWM:").saturating_sub(before);
    let tensor = decoded.inputs["x"].bytes().map_or(0, |bytes| bytes.len());
    drop(decoded);

    let ours = fastest(|| drop(black_box(run())));
    let value = fastest(|| {
        let value: serde_json::Value = serde_json::from_slice(&body).expect("strict JSON");
        drop(black_box(value));
    });
    let pass = fastest(|| {
        black_box(
            body.iter()
                .fold(0u64, |sum, &byte| sum.wrapping_add(byte.into())),
        );
    });
    report(&format!("decode/{name}"), body.len(), ours, value, pass);
    println!(
        "{:44} peak memory {:.2} x the tensor",
        "",
        grown as f64 / tensor as f64
    );
}

fn encode(name: &str, tensor: Tensor) {
    let outputs = [("y".to_owned(), tensor)];
    let text = encode_predict(&outputs, Format::Row).expect("numbers can be written");
    let value: serde_json::Value = serde_json::from_slice(&text).expect("strict JSON");
    let ours = fastest(|| {
        drop(black_box(encode_predict(&outputs, Format::Row)));
    });
    let theirs = fastest(|| drop(black_box(serde_json::to_vec(&value))));
    let their_size = serde_json::to_vec(&value).map_or(0, |text| text.len());
    // Scaled as if it had written as many bytes.
    let theirs = theirs.mul_f64(text.len() as f64 / their_size as f64);
    let pass = fastest(|| drop(black_box(text.clone())));
    report(&format!("encode/{name}"), text.len(), ours, theirs, pass);
}

fn report(name: &str, size: usize, ours: Duration, value: Duration, pass: Duration) {
    let rate = |time: Duration| size as f64 / time.as_secs_f64() / 1e6;
    println!(
        "wire/json/{name:34} {:6.0} MB/s   Value {:6.0} MB/s ({:4.1} x)   memory {:6.0} MB/s",
        rate(ours),
        rate(value),
        value.as_secs_f64() / ours.as_secs_f64(),
        rate(pass),
    );
}

/// The shortest of at least three runs that take at least half a second together.
fn fastest(mut run: impl FnMut()) -> Duration {
    let start = processor_time();
    let mut best = Duration::MAX;
    let mut runs = 0;
    while runs < 3 || processor_time() - start < Duration::from_millis(500) {
        let start = processor_time();
        run();
        best = best.min(processor_time() - start);
        runs += 1;
    }
    best
}

/// The CPU time of this thread.
fn processor_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a timespec to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Resets the peak, if the system supports that.
fn reset_peak() {
    // Memory that the allocator keeps would hide the following allocations.
    #[cfg(target_env = "gnu")]
    // SAFETY: has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// A line of `/proc/self/status`, in bytes; zero if it does not exist.
fn resident(line: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|one| one.strip_prefix(line));
    let kilobytes = found.and_then(|rest| rest.trim().strip_suffix("kB"));
    let kilobytes = kilobytes.and_then(|number| number.trim().parse::<usize>().ok());
    kilobytes.unwrap_or_default() * 1024
}

use std::io::{PipeReader, Read, pipe};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};

use super::super::queue::{MAX_BYTES, MAX_LINES};
use super::*;

const LONG: Duration = Duration::from_secs(60);

/// A queue, and a thread that writes to `target` and passes on reports.
fn start(target: impl Write + Send + 'static) -> (&'static Queue, Receiver<Loss>) {
    static REPORTS: Mutex<Option<Sender<Loss>>> = Mutex::new(None);
    let queue: &'static Queue = Box::leak(Box::new(Queue::new()));
    let (sender, reports) = mpsc::channel();
    thread::spawn(move || {
        let mut writer = Writer::new(queue, target, |loss| {
            let reports = REPORTS.lock().unwrap();
            reports.as_ref().unwrap().send(loss).unwrap();
        });
        *REPORTS.lock().unwrap() = Some(sender);
        loop {
            writer.work();
        }
    });
    (queue, reports)
}

/// Pushes lines until more are accepted than a pipe holds and some are dropped; returns the number of
/// accepted lines.
fn overfill(queue: &Queue, line: &str) -> usize {
    const PIPE_BYTES: usize = 64 << 10;
    let mut pushed = 0;
    loop {
        queue.push(line.as_bytes());
        pushed += 1;
        let taken = pushed - usize::try_from(queue.dropped()).unwrap();
        if taken < pushed && taken * line.len() > PIPE_BYTES {
            return taken;
        }
        assert!(taken < 10 * MAX_LINES, "there is a bound");
    }
}

fn read_lines(mut reader: PipeReader, lines: usize) -> String {
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    while text.iter().filter(|&&byte| byte == b'\n').count() < lines {
        let len = reader.read(&mut piece).unwrap();
        assert_ne!(len, 0, "the writer is gone");
        text.extend_from_slice(&piece[..len]);
    }
    String::from_utf8(text).unwrap()
}

/// Both limits, one after the other, because all reports of one process go through the same channel.
#[test]
fn what_does_not_fit_is_dropped_and_reported() {
    for line in ["short\n".to_owned(), "x".repeat(MAX_BYTES / 100) + "\n"] {
        let (reader, target) = pipe().unwrap();
        let (queue, reports) = start(target);
        // None of this waits for the reader.
        let taken = overfill(queue, &line);
        let dropped = queue.dropped();
        assert!(!queue.wait_until_written(Instant::now() + Duration::from_millis(50)));
        assert!(!queue.is_idle());

        assert_eq!(read_lines(reader, taken), line.repeat(taken));
        let mut reported = 0;
        while reported < dropped {
            let loss = reports.recv_timeout(LONG).unwrap();
            assert_eq!(loss.failure, None);
            reported += loss.lines;
        }
        assert_eq!(reported, dropped);
        assert!(queue.wait_until_written(Instant::now() + LONG));
        assert_eq!(queue.dropped(), dropped);
    }
    lines_that_cannot_be_written_are_counted();
}

/// A disk that is full, then accepts three bytes of a line, then is full again, then has room.
struct Disk {
    results: Vec<Result<usize, i32>>,
    text: mpsc::Sender<Vec<u8>>,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.results.pop().unwrap_or(Ok(bytes.len()));
        let len = result
            .map_err(io::Error::from_raw_os_error)?
            .min(bytes.len());
        self.text.send(bytes[..len].to_vec()).unwrap();
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lines_that_cannot_be_written_are_counted() {
    let (text, written) = mpsc::channel();
    let full = Err(libc::ENOSPC);
    let results = vec![full, Ok(3), Err(libc::EAGAIN), Err(libc::EINTR), full];
    let (queue, reports) = start(Disk { results, text });
    for (line, dropped) in [("first\n", 1), ("second\n", 2), ("third\n", 2)] {
        queue.push(line.as_bytes());
        assert!(queue.wait_until_written(Instant::now() + LONG));
        assert_eq!(queue.dropped(), dropped, "{line}");
    }
    let loss = reports.recv_timeout(LONG).unwrap();
    assert_eq!(loss.lines, 2);
    assert!(loss.failure.unwrap().contains("No space left"));
    // An incomplete line is ended before the next one.
    let all: Vec<u8> = written.try_iter().flatten().collect();
    assert_eq!(String::from_utf8(all).unwrap(), "sec\nthird\n");
}

#[test]
fn pieces_are_whole_lines() {
    let long = "x".repeat(2 * PIECE_BYTES) + "\n";
    let cases: [(&str, usize); 5] = [
        ("a\nb\n", 4),
        ("no end", 6),
        ("a\nno end", 2),
        (&long, long.len()),
        (&format!("a\n{long}"), 2),
    ];
    for (text, length) in cases {
        assert_eq!(first_piece(text.as_bytes()), length, "{text:.20}");
    }
}

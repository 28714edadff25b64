//! Sockets: accepting, HTTP/1 and HTTP/2, TLS, timeouts and limits. Knows no protocol above HTTP.
//!
//! Not here: the paths and their handlers (`api`), access control (`api::access`).

pub mod activity;
pub mod blocking;
pub mod busy_poll;
pub mod connection;
pub mod early_answer;
pub mod frames;
pub mod gate;
pub mod head;
pub mod isolate;
pub mod limit;
pub mod linger;
pub mod lone_stream;
pub mod peer;
pub mod places;
pub mod prompt;
pub mod promptness;
pub mod receive;
pub mod request_line;
pub mod serve;
pub mod shares;
pub mod stalled;
pub mod tls;
pub mod turns;
pub mod unix_authority;
pub mod waiting;

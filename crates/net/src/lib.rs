//! Sockets: accepting, HTTP/1 and HTTP/2, TLS, timeouts and limits. Knows no protocol above HTTP.
//!
//! Not here: the paths and their handlers (`api`), access control (`api::access`).

pub mod back_to_back;
pub mod blocking;
pub mod busy_poll;
pub mod catch_panic;
pub mod concurrency_limit;
pub mod connection;
pub mod early_answer;
pub mod first_byte_timeout;
pub mod frames;
pub mod head;
pub mod in_flight;
pub mod inline_stream;
pub mod limit;
pub mod linger;
pub mod peer;
pub mod places;
pub mod protocols;
pub mod receive;
pub mod request_line;
pub mod serve;
pub mod shares;
pub mod stalled;
pub mod tls;
pub mod turns;
pub mod unix_authority;
pub mod waiting;

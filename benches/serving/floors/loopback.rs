//! A socket that reads a number of bytes and writes them back, over and over.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};

use super::{bytes_argument, end_with_parent};
use crate::Result;

pub(super) fn run(arguments: &[String]) -> Result<()> {
    let mut buffer = vec![0; bytes_argument(arguments)?];
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?);
    end_with_parent();
    loop {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        while stream.read_exact(&mut buffer).is_ok() {
            stream.write_all(&buffer)?;
        }
    }
}

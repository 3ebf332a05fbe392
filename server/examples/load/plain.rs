//! Bytes that are echoed by a thread of this process: what the loopback gives without any protocol.

use crate::Failed;
use std::io::{Read, Write};
use std::net::TcpListener;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) struct Talk {
    stream: TcpStream,
    row: Vec<u8>,
    answer: Vec<u8>,
}

impl Talk {
    pub(crate) async fn new(row: Vec<u8>) -> Result<Self, Failed> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, size) = (listener.local_addr()?, row.len());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            let mut bytes = vec![0; size];
            // As a server does that needs all of a request to answer it.
            loop {
                stream.read_exact(&mut bytes)?;
                stream.write_all(&bytes)?;
            }
            #[allow(unreachable_code, reason = "says what the errors above are")]
            Ok::<(), std::io::Error>(())
        });
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let answer = vec![0; size];
        Ok(Self { stream, row, answer })
    }

    pub(crate) async fn ask(&mut self) -> Result<(), Failed> {
        self.stream.write_all(&self.row).await?;
        self.stream.read_exact(&mut self.answer).await?;
        Ok(())
    }
}

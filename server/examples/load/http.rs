//! HTTP/1.1 on a connection that is kept.

use crate::{Failed, Load};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Room for an answer's head.
const ROOM: usize = 64 << 10;

pub(crate) struct Talk {
    stream: TcpStream,
    question: Vec<u8>,
    buffer: Vec<u8>,
    /// Bytes that an answer has at least.
    least: usize,
}

impl Talk {
    pub(crate) async fn v2(load: &Load, row: &[u8]) -> Result<Self, Failed> {
        let json = format!(
            r#"{{"inputs":[{{"name":"{}","shape":[1,{}],"datatype":"FP32","parameters":{{"binary_data_size":{}}}}}],"parameters":{{"binary_data_output":true}}}}"#,
            load.input,
            load.elements,
            row.len()
        );
        let head = format!(
            "POST /v2/models/{}/infer HTTP/1.1\r\nHost: {}\r\nContent-Type: application/octet-stream\r\n\
             Inference-Header-Content-Length: {}\r\nContent-Length: {}\r\n\r\n{json}",
            load.model,
            load.address,
            json.len(),
            json.len() + row.len()
        );
        Self::new(load, &head, row, row.len()).await
    }

    pub(crate) async fn post(load: &Load, row: &[u8]) -> Result<Self, Failed> {
        let kind = if load.body.is_some() { "application/json" } else { "application/octet-stream" };
        let (body, least) = load.body.as_ref().map_or((row, row.len()), |body| (body.as_bytes(), 1));
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            load.path,
            load.address,
            body.len()
        );
        Self::new(load, &head, body, least).await
    }

    async fn new(load: &Load, head: &str, body: &[u8], least: usize) -> Result<Self, Failed> {
        let stream = TcpStream::connect(load.address).await?;
        stream.set_nodelay(true)?;
        let question = [head.as_bytes(), body].concat();
        Ok(Self { stream, question, buffer: vec![0; ROOM + body.len()], least })
    }

    pub(crate) async fn ask(&mut self) -> Result<(), Failed> {
        self.stream.write_all(&self.question).await?;
        let mut filled = 0;
        let (end, length) = loop {
            let count = self.stream.read(&mut self.buffer[filled..]).await?;
            if count == 0 {
                return Err("the connection was closed".into());
            }
            filled += count;
            if let Some(end) = self.buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n") {
                break (end + 4, length(&self.buffer[..end])?);
            }
        };
        if length < self.least {
            return Err(format!("an answer has {length} bytes, expected {} at least", self.least).into());
        }
        let whole = end + length;
        if whole > self.buffer.len() {
            self.buffer.resize(whole, 0);
        }
        self.stream.read_exact(&mut self.buffer[filled.min(whole)..whole]).await?;
        Ok(())
    }
}

/// What a head says of its body.
fn length(head: &[u8]) -> Result<usize, Failed> {
    let head = std::str::from_utf8(head)?;
    let mut lines = head.lines();
    let first = lines.next().unwrap_or_default();
    if first.split(' ').nth(1) != Some("200") {
        return Err(first.to_owned().into());
    }
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    length.ok_or_else(|| format!("an answer does not say how long it is: {head}").into())
}

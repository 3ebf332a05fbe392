//! gRPC, as frames: the same ones for each question, but for the stream's number.

use crate::{Failed, Load};
use prost::Message;
use skep_server::grpc::ModelInferRequest;
use skep_server::grpc::model_infer_request::InferInputTensor;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const AWAY: u8 = 7;
const WINDOW: u8 = 8;
/// Of data, and of settings and pings.
const END: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// As much as the other side may send at once.
const WIDE: u32 = 1 << 30;
/// The window that both sides begin with.
const FIRST: i64 = 65_535;
/// The most bytes of a frame, unless the other side says that it takes more.
const FRAME: usize = 16_384;
/// The most bytes of a frame that is taken: clients that ask for large answers say so.
const LARGE_FRAME: u32 = 1 << 20;

pub(crate) struct Talk {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    head: Vec<u8>,
    message: Vec<u8>,
    /// Bytes that an answer has at least.
    least: usize,
    stream: u32,
    payload: Vec<u8>,
    /// What may be sent: on the connection, and on a new stream.
    window: i64,
    of_stream: i64,
    /// In one frame.
    frame: usize,
    /// Bytes that came since the other side heard how many there were.
    taken: u32,
}

struct Came {
    kind: u8,
    flags: u8,
    stream: u32,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header that goes into no table.
fn header(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        block.push(text.len() as u8);
        block.extend(text.as_bytes());
    }
}

impl Talk {
    pub(crate) async fn new(load: &Load, row: &[u8]) -> Result<Self, Failed> {
        let stream = TcpStream::connect(load.address).await?;
        stream.set_nodelay(true)?;
        let (reader, mut writer) = stream.into_split();
        let mut begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let settings = [(4_u16, WIDE), (5, LARGE_FRAME)];
        let settings = settings.map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat());
        begin.extend(frame(SETTINGS, 0, 0, &settings.concat()));
        begin.extend(frame(WINDOW, 0, 0, &WIDE.to_be_bytes()));
        writer.write_all(&begin).await?;
        let mut head = vec![0x83, 0x86];
        header(&mut head, ":path", "/inference.GRPCInferenceService/ModelInfer");
        header(&mut head, ":authority", &load.address.to_string());
        header(&mut head, "content-type", "application/grpc");
        header(&mut head, "te", "trailers");
        let input = InferInputTensor {
            name: load.input.clone(),
            datatype: "FP32".to_owned(),
            shape: vec![1, i64::try_from(load.elements)?],
            ..InferInputTensor::default()
        };
        let request = ModelInferRequest {
            model_name: load.model.clone(),
            inputs: vec![input],
            raw_input_contents: vec![row.to_vec().into()],
            ..ModelInferRequest::default()
        };
        let bytes = request.encode_to_vec();
        let mut message = vec![0];
        message.extend(u32::try_from(bytes.len())?.to_be_bytes());
        message.extend(bytes);
        Ok(Self {
            reader: BufReader::with_capacity(128 << 10, reader),
            writer,
            head,
            message,
            least: row.len(),
            stream: 1,
            payload: Vec::new(),
            window: FIRST,
            of_stream: FIRST,
            frame: FRAME,
            taken: 0,
        })
    }

    pub(crate) async fn ask(&mut self) -> Result<(), Failed> {
        let (stream, mut left) = (self.stream, self.of_stream);
        self.stream += 2;
        let mut bytes = frame(HEADERS, END_HEADERS, stream, &self.head);
        let (mut sent, mut came) = (0, 0);
        while sent < self.message.len() {
            let room = usize::try_from(left.min(self.window)).unwrap_or(0);
            let next = room.min(self.frame).min(self.message.len() - sent);
            if next == 0 {
                self.writer.write_all(&bytes).await?;
                bytes.clear();
                let before = self.of_stream;
                let frame = self.read(stream, &mut left).await?;
                left += self.of_stream - before;
                if frame.stream == stream && frame.kind != WINDOW {
                    return Err("an answer came before the question was out".into());
                }
                continue;
            }
            let end = sent + next;
            let flags = if end == self.message.len() { END } else { 0 };
            let piece = &self.message[sent..end];
            bytes.extend(frame(DATA, flags, stream, piece));
            (sent, left, self.window) = (end, left - next as i64, self.window - next as i64);
            if bytes.len() > 256 << 10 {
                self.writer.write_all(&bytes).await?;
                bytes.clear();
            }
        }
        self.writer.write_all(&bytes).await?;
        loop {
            let frame = self.read(stream, &mut left).await?;
            if frame.stream != stream {
                continue;
            }
            match frame.kind {
                DATA => came += self.payload.len(),
                RESET => return Err(format!("the stream was reset: {:?}", self.payload).into()),
                _ => {}
            }
            if matches!(frame.kind, DATA | HEADERS) && frame.flags & END != 0 {
                break;
            }
        }
        if came < self.least {
            return Err(format!("an answer has {came} bytes, expected {} at least", self.least).into());
        }
        Ok(())
    }

    /// Reads a frame, and does what belongs to the connection.
    async fn read(&mut self, own: u32, left: &mut i64) -> Result<Came, Failed> {
        let mut head = [0; 9];
        self.reader.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let came = Came {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff,
        };
        self.payload.resize(length as usize, 0);
        self.reader.read_exact(&mut self.payload).await?;
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, |four| i64::from(u32::from_be_bytes(four)));
        match came.kind {
            DATA => {
                self.taken += length;
                if self.taken > WIDE / 2 {
                    self.writer.write_all(&frame(WINDOW, 0, 0, &self.taken.to_be_bytes())).await?;
                    self.taken = 0;
                }
            }
            WINDOW if came.stream == 0 => self.window += number(&self.payload),
            WINDOW if came.stream == own => *left += number(&self.payload),
            SETTINGS if came.flags & ACK == 0 => {
                for setting in self.payload.chunks_exact(6) {
                    match setting[1] {
                        4 => self.of_stream = number(&setting[2..]),
                        5 => self.frame = usize::try_from(number(&setting[2..])).unwrap_or(FRAME),
                        _ => {}
                    }
                }
                self.writer.write_all(&frame(SETTINGS, ACK, 0, &[])).await?;
            }
            PING if came.flags & ACK == 0 => {
                let pong = frame(PING, ACK, 0, &self.payload);
                self.writer.write_all(&pong).await?;
            }
            AWAY => return Err("the server goes away".into()),
            _ => {}
        }
        Ok(came)
    }
}

// SPDX-License-Identifier: Apache-2.0
//! A client that knows only as much of HTTP as the tests need.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

/// Longer than anything takes; a test that waits for it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An answer: status and body.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        serde_json::from_str(&self.text).unwrap()
    }

    pub(crate) fn says(&self) -> (u16, &str) {
        (self.status, &self.text)
    }
}

/// A call that has been sent, and whose answer is to come.
pub(crate) struct Pending(BufReader<UnixStream>);

/// Sends a call; none when nobody listens.
pub(crate) fn send(socket: &Path, call: &Value) -> std::io::Result<Pending> {
    request(socket, "POST", "/api/v1", "application/json", &call.to_string())
}

/// Sends any request.
pub(crate) fn request(
    socket: &Path,
    method: &str,
    path: &str,
    accept: &str,
    body: &str,
) -> std::io::Result<Pending> {
    request_with(socket, method, path, &format!("Accept: {accept}\r\n"), body)
}

/// The same with any headers.
pub(crate) fn request_with(
    socket: &Path,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> std::io::Result<Pending> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    // In one piece: a refusal may come before a second one is sent.
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers}\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes())?;
    Ok(Pending(BufReader::new(stream)))
}

/// Asks, and waits for the answer.
pub(crate) fn call(socket: &Path, call: &Value) -> Answer {
    send(socket, call).unwrap().answer().unwrap()
}

/// Gets one of the older endpoints.
pub(crate) fn get(socket: &Path, path: &str) -> std::io::Result<Answer> {
    request(socket, "GET", path, "application/json", "")?.answer()
}

/// Begins a stream.
pub(crate) fn stream(socket: &Path, call: &Value) -> Records {
    let mut pending = request(socket, "POST", "/api/v1", "application/recordio", &call.to_string()).unwrap();
    let (status, headers) = pending.head().unwrap();
    if status != 200 {
        let text = pending.rest(&headers).unwrap();
        panic!("no stream: {status} {}", String::from_utf8_lossy(&text));
    }
    Records { body: pending.0, rest: Vec::new() }
}

/// Begins a stream elsewhere; or the answer that there is none.
pub(crate) fn records(socket: &Path, path: &str, accept: &str, body: &str) -> Result<Records, Answer> {
    records_with(socket, path, &format!("Accept: {accept}\r\n"), body)
}

/// The same with any headers.
pub(crate) fn records_with(socket: &Path, path: &str, headers: &str, body: &str) -> Result<Records, Answer> {
    let mut pending = request_with(socket, "POST", path, headers, body).unwrap();
    let (status, headers) = pending.head().unwrap();
    if status != 200 {
        let text = String::from_utf8_lossy(&pending.rest(&headers).unwrap()).into_owned();
        return Err(Answer { status, text });
    }
    Ok(Records { body: pending.0, rest: Vec::new() })
}

impl Pending {
    pub(crate) fn answer(mut self) -> std::io::Result<Answer> {
        let (status, headers) = self.head()?;
        let body = self.rest(&headers)?;
        Ok(Answer { status, text: String::from_utf8_lossy(&body).into_owned() })
    }

    fn head(&mut self) -> std::io::Result<(u16, String)> {
        let mut head = String::new();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if line == "\r\n" {
                break;
            }
            head.push_str(&line.to_lowercase());
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Ok((status, head))
    }

    fn rest(&mut self, headers: &str) -> std::io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if headers.contains("transfer-encoding: chunked") {
            while let Some(chunk) = chunk(&mut self.0)? {
                body.extend(chunk);
            }
        } else {
            self.0.read_to_end(&mut body)?;
        }
        Ok(body)
    }
}

/// Sends a stream of input; the answer is to come.
pub(crate) struct Sending(UnixStream);

impl Sending {
    pub(crate) fn to(socket: &Path, id: &Value) -> Sending {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = "POST /api/v1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/recordio\r\n\
                    Message-Content-Type: application/json\r\nAccept: application/json\r\n\
                    Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut sending = Sending(stream);
        sending.record(json!({ "type": "CONTAINER_ID", "container_id": id }));
        sending
    }

    /// Input; nothing is its end.
    pub(crate) fn data(&mut self, bytes: &[u8]) {
        let data = base64::engine::general_purpose::STANDARD.encode(bytes);
        self.io(json!({ "type": "DATA", "data": { "type": "STDIN", "data": data } }));
    }

    /// Any piece.
    pub(crate) fn io(&mut self, io: Value) {
        self.record(json!({ "type": "PROCESS_IO", "process_io": io }));
    }

    fn record(&mut self, payload: Value) {
        let call = json!({ "type": "ATTACH_CONTAINER_INPUT", "attach_container_input": payload }).to_string();
        let record = format!("{}\n{call}", call.len());
        write!(self.0, "{:x}\r\n{record}\r\n", record.len()).unwrap();
    }

    /// Ends the stream.
    pub(crate) fn finish(mut self) -> Answer {
        let _ = self.0.write_all(b"0\r\n\r\n");
        Pending(BufReader::new(self.0)).answer().unwrap()
    }

    /// Waits for an answer though the stream has not ended.
    pub(crate) fn answer(self) -> Answer {
        Pending(BufReader::new(self.0)).answer().unwrap()
    }
}

/// The records of a stream.
pub(crate) struct Records {
    body: BufReader<UnixStream>,
    rest: Vec<u8>,
}

impl Records {
    /// The next record that is no sign of life; none at the end.
    pub(crate) fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let length: usize = std::str::from_utf8(&self.rest[..end]).unwrap().parse().unwrap();
                if self.rest.len() > end + length {
                    let record: Value = serde_json::from_slice(&self.rest[end + 1..=end + length]).unwrap();
                    self.rest.drain(..=end + length);
                    if record["type"] == "HEARTBEAT" || record["control"]["type"] == "HEARTBEAT" {
                        continue;
                    }
                    return Some(record);
                }
            }
            self.rest.extend(chunk(&mut self.body).unwrap()?);
        }
    }

    /// The next record of this type.
    pub(crate) fn of(&mut self, kind: &str) -> Value {
        loop {
            let record = self.next().unwrap_or_else(|| panic!("the stream ended before {kind}"));
            if record["type"] == kind {
                return record;
            }
        }
    }

    /// All data to the end, of both streams.
    pub(crate) fn data(&mut self) -> (String, String) {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some(record) = self.next() {
            let (data, stream) = match record.get("stream") {
                Some(stream) => (&record["data"], stream),
                None => (&record["data"]["data"], &record["data"]["type"]),
            };
            let to = if stream == "STDERR" { &mut stderr } else { &mut stdout };
            to.extend(bytes(data));
        }
        (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }
}

/// Bytes as JSON has them.
pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap_or_default()).unwrap()
}

fn chunk(from: &mut BufReader<UnixStream>) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let length = usize::from_str_radix(line.trim(), 16).unwrap();
    let mut chunk = vec![0; length + 2];
    from.read_exact(&mut chunk)?;
    chunk.truncate(length);
    Ok((length > 0).then_some(chunk))
}

/// An id: `a` or `a.b`.
pub(crate) fn id(text: &str) -> Value {
    match text.rsplit_once('.') {
        None => json!({ "value": text }),
        Some((parent, value)) => json!({ "value": value, "parent": id(parent) }),
    }
}

/// A call about one container.
pub(crate) fn about(kind: &str, text: &str) -> Value {
    json!({ "type": kind, kind.to_lowercase(): { "container_id": id(text) } })
}

/// A launch of a shell command.
pub(crate) fn launch(text: &str, command: &str) -> Value {
    let mut call = about("LAUNCH_CONTAINER", text);
    call["launch_container"]["command"] = json!({ "value": command });
    call
}

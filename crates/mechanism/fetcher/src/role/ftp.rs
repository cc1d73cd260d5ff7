// SPDX-License-Identifier: Apache-2.0
//! ftp (RFC 959, 2428, 3659): one file, in binary, passive.
//!
//! Written here because the server is hostile: lines are bounded, each step has the stall timeout, and the data
//! connection goes to the address that the control connection has, whatever the server answers to PASV.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use berth_model::Class;

use super::http::Pace;
use super::sink::Sink;
use super::{Context, Failure};
use crate::egress::Hop;

const LINE: u64 = 4096;
const LINES: usize = 256;
const CONNECT: Duration = Duration::from_secs(30);
const TRIES: u32 = 4;

/// Parts of an ftp URL.
struct Place {
    host: String,
    port: u16,
    user: String,
    password: String,
    path: String,
}

pub(super) fn download(context: &Context, url: &str, sink: &mut Sink<'_>) -> Result<(), Failure> {
    let place = Place::of(url)?;
    let mut tries = 0;
    loop {
        let before = sink.at();
        match attempt(context, &place, sink) {
            Ok(()) => return Ok(()),
            Err(Fault::Final(failure)) => return Err(failure),
            Err(Fault::Cut(text)) => {
                tries = if sink.at() > before { 1 } else { tries + 1 };
                if tries > TRIES || sink.total().is_none() {
                    return Err(failed(text));
                }
                super::say(&format!("{text}; going on at byte {}", sink.at()));
                std::thread::sleep(Duration::from_millis(100 << tries));
            }
        }
    }
}

enum Fault {
    /// It would be the same again.
    Final(Failure),
    /// The connection was lost on the way.
    Cut(String),
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Fault {
        Fault::Final(failure)
    }
}

fn failed(text: impl std::fmt::Display) -> Failure {
    Failure::new(Class::Internal, format!("Error downloading resource: {text}"))
}

fn attempt(context: &Context, place: &Place, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let stall = Duration::from_millis(context.setup.stall_ms.max(1));
    let mut control = Control::connect(context, place, stall)?;
    control.expect(&[220], "welcome us")?;
    match control.ask(&format!("USER {}", place.user))? {
        230 => {}
        331 => {
            let code = control.ask(&format!("PASS {}", place.password))?;
            wanted(code, &[230, 202])?;
        }
        code => wanted(code, &[230])?,
    }
    let code = control.ask("TYPE I")?;
    wanted(code, &[200])?;
    let size = match control.ask(&format!("SIZE {}", place.path))? {
        213 => control.text.trim().parse::<u64>().ok(),
        550 => return Err(Fault::Final(code_failure(550))),
        _ => None,
    };
    match sink.at() {
        0 if sink.total().is_none() => sink.begin(size)?,
        _ if size != sink.total() => {
            return Err(failed("the file on the server has changed while it was fetched").into());
        }
        at => {
            let code = control.ask(&format!("REST {at}"))?;
            if code != 350 {
                sink.restart()?;
            }
        }
    }
    let mut data = control.data(stall)?;
    let code = control.ask(&format!("RETR {}", place.path))?;
    wanted(code, &[125, 150])?;

    let mut pace = Pace::new(stall);
    let mut piece = vec![0; 128 << 10];
    loop {
        let count = match data.read(&mut piece) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) if timed_out(&error) => return Err(pace.stalled().into()),
            Err(error) => return Err(Fault::Cut(format!("the data connection failed: {error}"))),
        };
        if count == 0 {
            break;
        }
        sink.write(&piece[..count])?;
        pace.moved(count as u64)?;
        if let Some(total) = sink.total().filter(|total| sink.at() > *total) {
            return Err(
                failed(format!("it is longer than the {total} bytes that its server announced")).into()
            );
        }
    }
    if let Some(total) = sink.total().filter(|total| sink.at() < *total) {
        return Err(Fault::Cut(format!("the server sent {} of {total} bytes", sink.at())));
    }
    drop(data);
    let code = control.reply()?;
    wanted(code, &[226, 250])?;
    let _ = control.ask("QUIT");
    Ok(())
}

fn code_failure(code: u16) -> Failure {
    let class = match code {
        530 | 532 => Class::Denied,
        550 => Class::NotFound,
        _ => Class::Internal,
    };
    Failure::new(class, format!("Error downloading resource, received FTP return code {code}"))
}

fn wanted(code: u16, good: &[u16]) -> Result<(), Fault> {
    match good.contains(&code) {
        true => Ok(()),
        // 4xx passes by itself, but for one that never does.
        false if (400..500).contains(&code) && code != 450 => {
            Err(Fault::Cut(format!("received FTP return code {code}")))
        }
        false => Err(code_failure(code).into()),
    }
}

fn timed_out(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock)
}

struct Control {
    stream: BufReader<TcpStream>,
    peer: SocketAddr,
    stall: Duration,
    /// The text of the last line of the last reply.
    text: String,
}

impl Control {
    fn connect(context: &Context, place: &Place, stall: Duration) -> Result<Control, Fault> {
        let addresses = context.resolve(&place.host, place.port, Hop::First)?;
        let stream = connect(&addresses, stall)?;
        let peer = stream.peer_addr().map_err(|error| failed(format!("look at the connection: {error}")))?;
        Ok(Control { stream: BufReader::new(stream), peer, stall, text: String::new() })
    }

    /// One reply, perhaps of several lines (RFC 959, 4.2).
    fn reply(&mut self) -> Result<u16, Fault> {
        let mut first: Option<String> = None;
        for _ in 0..LINES {
            let mut line = Vec::new();
            let read = (&mut self.stream).take(LINE).read_until(b'\n', &mut line);
            match read {
                Ok(0) => return Err(Fault::Cut("the server closed the control connection".into())),
                Ok(_) if line.last() != Some(&b'\n') && line.len() as u64 >= LINE => {
                    return Err(failed("the server's answer has a line that does not end").into());
                }
                Ok(_) => {}
                Err(error) if timed_out(&error) => return Err(Pace::new(self.stall).stalled().into()),
                Err(error) => return Err(Fault::Cut(format!("the control connection failed: {error}"))),
            }
            let line = String::from_utf8_lossy(&line);
            let code = line.get(..3).filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()));
            let is_last = line.as_bytes().get(3) != Some(&b'-');
            match (&first, code) {
                (None, Some(code)) if is_last => return self.end(code, &line),
                (None, Some(code)) => first = Some(code.to_owned()),
                (None, None) => return Err(failed("the server does not speak ftp").into()),
                (Some(begun), Some(code)) if begun == code && line.as_bytes().get(3) == Some(&b' ') => {
                    return self.end(code, &line);
                }
                (Some(_), _) => {}
            }
        }
        Err(failed("the server's answer does not end").into())
    }

    fn end(&mut self, code: &str, line: &str) -> Result<u16, Fault> {
        self.text = line.get(4..).unwrap_or_default().to_owned();
        code.parse().map_err(|_| failed("the server does not speak ftp").into())
    }

    fn expect(&mut self, good: &[u16], what: &str) -> Result<(), Fault> {
        let code = self.reply()?;
        match good.contains(&code) {
            true => Ok(()),
            false => Err(failed(format!("the server did not {what}, but answered {code}")).into()),
        }
    }

    fn ask(&mut self, command: &str) -> Result<u16, Fault> {
        let line = format!("{command}\r\n");
        self.stream
            .get_mut()
            .write_all(line.as_bytes())
            .map_err(|error| Fault::Cut(format!("the control connection failed: {error}")))?;
        self.reply()
    }

    /// A data connection to where the control connection goes.
    fn data(&mut self, stall: Duration) -> Result<TcpStream, Fault> {
        let port = match self.ask("EPSV")? {
            // (|||port|)
            229 => self.text.split('|').nth(3).and_then(|port| port.parse().ok()),
            _ => match self.ask("PASV")? {
                227 => passive(&self.text),
                code => return Err(code_failure(code).into()),
            },
        };
        let port: u16 = port.ok_or_else(|| failed("the server named no data port"))?;
        connect(&[SocketAddr::new(self.peer.ip(), port)], stall)
    }
}

/// The port of `… (h1,h2,h3,h4,p1,p2) …`; the address in it is not looked at.
fn passive(text: &str) -> Option<u16> {
    let numbers = text.find(|c: char| c.is_ascii_digit()).map(|at| &text[at..])?;
    let end = numbers.find(|c: char| !c.is_ascii_digit() && c != ',').unwrap_or(numbers.len());
    let parts = numbers[..end].split(',').map(|part| part.parse::<u8>().ok()).collect::<Option<Vec<_>>>()?;
    match parts[..] {
        [_, _, _, _, high, low] => Some(u16::from_be_bytes([high, low])),
        _ => None,
    }
}

fn connect(addresses: &[SocketAddr], stall: Duration) -> Result<TcpStream, Fault> {
    let mut last = String::from("no address");
    for address in addresses {
        match TcpStream::connect_timeout(address, CONNECT.min(stall)) {
            Ok(stream) => {
                let timeouts =
                    stream.set_read_timeout(Some(stall)).and_then(|()| stream.set_write_timeout(Some(stall)));
                timeouts.map_err(|error| failed(format!("set up the connection: {error}")))?;
                return Ok(stream);
            }
            Err(error) => last = format!("connect to {address}: {error}"),
        }
    }
    Err(failed(last).into())
}

impl Place {
    fn of(url: &str) -> Result<Place, Failure> {
        let wrong = |why: &str| {
            Failure::new(Class::Invalid, format!("'{}' is no ftp URL: {why}", crate::uri::shown(url)))
        };
        let rest = url.strip_prefix("ftp://").ok_or_else(|| wrong("it does not begin with ftp://"))?;
        let (authority, path) = rest.split_once('/').ok_or_else(|| wrong("it has no path"))?;
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, authority),
        };
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| wrong("its port is no number"))?)
            }
            _ => (place, 21),
        };
        let plain = |text: &str| {
            let text = percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
            match text.chars().any(char::is_control) {
                true => Err(wrong("it has control characters in it")),
                false => Ok(text),
            }
        };
        let (user, password) = match login {
            Some(login) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                (plain(user)?, plain(password)?)
            }
            None => ("anonymous".to_owned(), "ftp@".to_owned()),
        };
        match host.is_empty() || path.is_empty() {
            true => Err(wrong("it has no host or no path")),
            false => Ok(Place { host: host.to_owned(), port, user, password, path: plain(path)? }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_and_lines_can_not_be_smuggled() {
        let place = Place::of("ftp://u%40x:p@[::1]:2121/a%20b/c").unwrap_or_else(|_| panic!("a good one"));
        assert_eq!((place.host.as_str(), place.port), ("[::1]", 2121));
        assert_eq!((place.user.as_str(), place.password.as_str()), ("u@x", "p"));
        assert_eq!(place.path, "a b/c");
        for wrong in
            ["ftp://h/a%0d%0aDELE%20b", "ftp://u%0a@h/a", "ftp://h", "ftp://h/", "ftp://h:x/a", "ftp:///a"]
        {
            assert!(Place::of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_the_port_of_a_passive_answer_counts() {
        assert_eq!(passive("Entering Passive Mode (169,254,169,254,4,1)."), Some(1025));
        assert_eq!(passive("=127,0,0,1,0,21"), Some(21));
        for wrong in ["", "(1,2,3)", "(1,2,3,4,5,6,7)", "(1,2,3,4,5,256)", "(1,2,3,4,,6)"] {
            assert_eq!(passive(wrong), None, "{wrong}");
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! `/files/…`: sandboxes by their virtual paths, as LIST_FILES and READ_FILE have them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use berth_proto::agent::response::ReadFile;
use berth_proto::v1::FileInfo;
use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::{Bytes, Frame, SizeHint};
use hyper::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};

use super::query::Query;
use crate::answer::Body;
use crate::server::Shared;
use crate::{Core, Refusal};

/// `/files/browse`
pub(super) async fn browse(core: &dyn Core, query: &Query) -> Result<Value, Refusal> {
    let files = core.list_files(query.need("path")?).await?;
    Ok(files.iter().map(entry).collect())
}

fn entry(file: &FileInfo) -> Value {
    json!({
        "path": file.path,
        "nlink": file.nlink.unwrap_or_default(),
        "size": file.size.unwrap_or_default(),
        "mtime": file.mtime.as_ref().map_or(0.0, |time| (time.nanoseconds / 1_000_000_000) as f64),
        "mode": mode(file.mode.unwrap_or_default()),
        "uid": file.uid,
        "gid": file.gid,
    })
}

/// As `ls -l` has it (inode(7)).
fn mode(mode: u32) -> String {
    let kind = match mode & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o060_000 => 'b',
        0o020_000 => 'c',
        0o010_000 => 'p',
        0o140_000 => 's',
        _ => '-',
    };
    let mut text = String::from(kind);
    for (at, letter) in "rwxrwxrwx".chars().enumerate() {
        text.push(if mode & (0o400 >> at) == 0 { '-' } else { letter });
    }
    text
}

/// `/files/read`
pub(super) async fn read(core: &dyn Core, query: &Query) -> Result<Value, Refusal> {
    let path = query.need("path")?;
    let (offset, length) = (query.count("offset")?, query.count("length")?);
    let Some(offset) = offset else {
        // Where it ends, for those that look at its end.
        let piece = core.read_file(path, 0, Some(0)).await?;
        return Ok(json!({ "offset": piece.size, "data": "" }));
    };
    let piece = core.read_file(path, offset, length).await?;
    Ok(json!({ "offset": offset, "data": String::from_utf8_lossy(&piece.data) }))
}

/// `/files/debug`
pub(super) async fn places(core: &dyn Core) -> Result<Value, Refusal> {
    let places = core.file_places().await?;
    Ok(Value::Object(places.into_iter().map(|(path, real)| (path, Value::String(real))).collect()))
}

/// `/files/download`: as long as it is now; what a file grows by meanwhile is not sent.
pub(super) async fn download(shared: &Shared, query: &Query) -> Result<Response<Body>, Refusal> {
    let path = query.need("path")?.to_owned();
    let first = shared.core.read_file(&path, 0, None).await.map_err(|refusal| {
        match refusal.to_string().as_str() {
            "Cannot read a directory.\n" => Refusal::bad_request("Cannot download a directory.\n"),
            _ => refusal,
        }
    })?;
    let name = path.rsplit('/').find(|part| !part.is_empty()).unwrap_or("file");
    let plain = |c: char| if c.is_ascii_graphic() && !matches!(c, '"' | '\\' | ';') { c } else { '_' };
    let disposition = format!("attachment; filename={}", name.chars().map(plain).collect::<String>());
    let disposition = HeaderValue::from_str(&disposition).expect("its letters are plain");
    let kind = media_type(name);
    let body =
        Download { core: Arc::clone(&shared.core), path, sent: 0, size: first.size, next: Next::Here(first) };
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(CONTENT_DISPOSITION, disposition);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

/// By the name's end; what a browser would run as a page of ours is only shown.
fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("txt" | "log" | "md" | "conf" | "html" | "htm" | "js" | "svg" | "xml") => "text/plain",
        Some("json") => "application/json",
        Some("csv") => "text/csv",
        Some("css") => "text/css",
        Some("gz" | "tgz") => "application/gzip",
        Some("tar") => "application/x-tar",
        Some("zip") => "application/zip",
        Some("pdf") => "application/pdf",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        _ => "application/octet-stream",
    }
}

type Reading = Pin<Box<dyn Future<Output = Result<ReadFile, Refusal>> + Send>>;

enum Next {
    Here(ReadFile),
    Coming(Reading),
}

/// A file as a body, a piece at a time.
struct Download {
    core: Arc<dyn Core>,
    path: String,
    sent: u64,
    size: u64,
    next: Next,
}

impl Download {
    fn read_on(&self) -> Reading {
        let (core, path, offset) = (Arc::clone(&self.core), self.path.clone(), self.sent);
        Box::pin(async move { core.read_file(&path, offset, None).await })
    }
}

impl hyper::body::Body for Download {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        let data = match &mut self.next {
            Next::Here(piece) => std::mem::take(&mut piece.data),
            Next::Coming(reading) => match reading.as_mut().poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(refusal)) => return Poll::Ready(Some(Err(refusal))),
                Poll::Ready(Ok(piece)) => piece.data,
            },
        };
        let left = usize::try_from(self.size - self.sent).unwrap_or(usize::MAX);
        let data = Bytes::from(data);
        let data = data.slice(..data.len().min(left));
        if data.is_empty() {
            let short = || Refusal::failed(format!("{} became shorter while it was sent", self.path));
            return Poll::Ready((left > 0).then(|| Err(short())));
        }
        self.sent += data.len() as u64;
        self.next = Next::Coming(self.read_on());
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.size - self.sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_written_as_ls_does() {
        assert_eq!(mode(0o100_644), "-rw-r--r--");
        assert_eq!(mode(0o040_750), "drwxr-x---");
        assert_eq!(mode(0o120_777), "lrwxrwxrwx");
    }

    #[test]
    fn nothing_that_a_browser_would_run_is_sent_as_such() {
        assert_eq!(
            (media_type("a.html"), media_type("stdout"), media_type("x.tar")),
            ("text/plain", "application/octet-stream", "application/x-tar")
        );
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The questions that we ask.

use std::time::Duration;

use hyper::body::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{
    Ask, Create, Engine, EngineError, ExecCreate, ExecInspected, Flow, Inspected, Limits, Result, Texts,
};

/// What stands in a path or a query as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The name of an image is several parts of a path.
const IMAGE: &AsciiSet = &PLAIN.remove(b'/').remove(b':').remove(b'@');

fn plain(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// One of a list of containers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Listed {
    pub(crate) id: String,
    pub(crate) names: Vec<String>,
    pub(crate) labels: Texts,
    pub(crate) state: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Made {
    id: String,
}

/// Something that runs in a container, and the connection to it.
#[derive(Debug)]
pub(crate) struct ExecStarted {
    pub(crate) stream: UnixStream,
    /// What has come with the answer.
    pub(crate) early: Bytes,
}

impl Engine {
    /// Whether it answers.
    pub(crate) async fn ping(&self, limit: Duration) -> Result<()> {
        self.ask(Ask::get("ping", "/_ping"), limit).await.map(drop)
    }

    /// Makes a container; its id at the engine.
    pub(crate) async fn create(&self, name: &str, what: &Create, limit: Duration) -> Result<String> {
        let path = format!("/containers/create?name={}", plain(name));
        let made: Made = self.read(Ask::post("create", path).json(what), limit).await?;
        Ok(made.id)
    }

    /// Lets it run. One that runs is let be.
    pub(crate) async fn start(&self, id: &str, limit: Duration) -> Result<()> {
        self.ask(Ask::post("start", format!("/containers/{}/start", plain(id))), limit).await.map(drop)
    }

    pub(crate) async fn inspect(&self, id: &str, limit: Duration) -> Result<Inspected> {
        self.read(Ask::get("inspect", format!("/containers/{}/json", plain(id))), limit).await
    }

    /// The same in the engine's own words.
    pub(crate) async fn describe(&self, id: &str, limit: Duration) -> Result<Bytes> {
        self.ask(Ask::get("inspect", format!("/containers/{}/json", plain(id))), limit).await
    }

    /// All containers, running or not, with this label.
    pub(crate) async fn list(&self, label: &str, limit: Duration) -> Result<Vec<Listed>> {
        #[derive(Serialize)]
        struct Filters<'a> {
            label: [&'a str; 1],
        }
        let filters = serde_json::to_string(&Filters { label: [label] }).expect("texts become JSON");
        let path = format!("/containers/json?all=1&filters={}", plain(&filters));
        self.read(Ask::get("list", path), limit).await
    }

    /// Asks it to end, and makes it after so many seconds.
    pub(crate) async fn stop(&self, id: &str, seconds: u64, limit: Duration) -> Result<()> {
        let path = format!("/containers/{}/stop?t={seconds}", plain(id));
        self.ask(Ask::post("stop", path), limit).await.map(drop)
    }

    pub(crate) async fn kill(&self, id: &str, signal: i32, limit: Duration) -> Result<()> {
        let path = format!("/containers/{}/kill?signal={signal}", plain(id));
        self.ask(Ask::post("kill", path), limit).await.map(drop)
    }

    pub(crate) async fn pause(&self, id: &str, limit: Duration) -> Result<()> {
        self.ask(Ask::post("pause", format!("/containers/{}/pause", plain(id))), limit).await.map(drop)
    }

    pub(crate) async fn unpause(&self, id: &str, limit: Duration) -> Result<()> {
        self.ask(Ask::post("unpause", format!("/containers/{}/unpause", plain(id))), limit).await.map(drop)
    }

    /// Takes it away, with the volumes that have no name. What is gone is taken away.
    pub(crate) async fn remove(&self, id: &str, limit: Duration) -> Result<()> {
        let path = format!("/containers/{}?force=1&v=1", plain(id));
        match self.ask(Ask::delete("remove", path), limit).await {
            Err(error) if error.is_missing() => Ok(()),
            result => result.map(drop),
        }
    }

    /// Waits until it does not run, as long as that takes.
    pub(crate) async fn wait(&self, id: &str, limit: Duration) -> Result<()> {
        let path = format!("/containers/{}/wait?condition=not-running", plain(id));
        let mut flow = self.flow(Ask::post("wait", path), limit).await?;
        while flow.next().await?.is_some() {}
        Ok(())
    }

    /// What it writes, from the beginning or from a moment on: with the time before each line, and until it ends, if wanted.
    pub(crate) async fn logs(
        &self,
        id: &str,
        since: Option<&str>,
        (times, follow): (bool, bool),
        limit: Duration,
    ) -> Result<Flow> {
        let (times, follow) = (u8::from(times), u8::from(follow));
        let mut path =
            format!("/containers/{}/logs?follow={follow}&stdout=1&stderr=1&timestamps={times}", plain(id));
        if let Some(since) = since {
            path.push_str(&format!("&since={}", plain(since)));
        }
        self.flow(Ask::get("logs", path), limit).await
    }

    pub(crate) async fn update(&self, id: &str, limits: &Limits, limit: Duration) -> Result<()> {
        let ask = Ask::post("update", format!("/containers/{}/update", plain(id))).json(limits);
        self.ask(ask, limit).await.map(drop)
    }

    /// Whether the image is there.
    pub(crate) async fn has_image(&self, name: &str, limit: Duration) -> Result<bool> {
        let path = format!("/images/{}/json", utf8_percent_encode(name, IMAGE));
        match self.ask(Ask::get("inspect image", path), limit).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Brings an image. `progress` is told what has come; nothing for `stall` is a failure.
    pub(crate) async fn pull(
        &self,
        name: &str,
        credentials: Option<String>,
        stall: Duration,
        mut progress: impl FnMut(&Pulled),
    ) -> Result<()> {
        let stalled = || EngineError::Stalled { image: name.to_owned(), limit: stall };
        let mut ask = Ask::post("pull", format!("/images/create?fromImage={}", plain(name)));
        if let Some(credentials) = credentials {
            ask = ask.header("X-Registry-Auth", credentials);
        }
        let mut flow = match self.flow(ask, stall).await {
            Err(EngineError::Late { .. }) if self.is_up() => return Err(stalled()),
            flow => flow?,
        };
        let mut held = Vec::new();
        let mut said = Pulled::default();
        while let Some(bytes) = timeout(stall, flow.next()).await.map_err(|_| stalled())?? {
            held.extend_from_slice(&bytes);
            if held.len() > super::LONGEST {
                let why = "a line of its progress does not end".to_owned();
                return Err(EngineError::Strange { call: "pull", why });
            }
            while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = held.drain(..=end).collect();
                said.hear(&line)?;
                progress(&said);
            }
        }
        said.hear(&held)
    }

    /// A connection to streams of it, from now on: with `stdin=1`, or with what it writes.
    pub(crate) async fn attach(&self, id: &str, streams: &str, limit: Duration) -> Result<ExecStarted> {
        let path = format!("/containers/{}/attach?stream=1&{streams}", plain(id));
        let (stream, early) = self.hijack(Ask::post("attach", path), limit).await?;
        Ok(ExecStarted { stream, early })
    }

    /// Tells its terminal the size.
    pub(crate) async fn resize(&self, id: &str, size: (u16, u16), limit: Duration) -> Result<()> {
        let path = format!("/containers/{}/resize?h={}&w={}", plain(id), size.0, size.1);
        self.ask(Ask::post("resize", path), limit).await.map(drop)
    }

    pub(crate) async fn exec_create(&self, id: &str, what: &ExecCreate, limit: Duration) -> Result<String> {
        let ask = Ask::post("exec", format!("/containers/{}/exec", plain(id))).json(what);
        let made: Made = self.read(ask, limit).await?;
        Ok(made.id)
    }

    /// Runs it; the connection carries its streams.
    pub(crate) async fn exec_start(&self, exec: &str, tty: bool, limit: Duration) -> Result<ExecStarted> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Start {
            detach: bool,
            tty: bool,
        }
        let path = format!("/exec/{}/start", plain(exec));
        let ask = Ask::post("exec start", path).json(&Start { detach: false, tty });
        let (stream, early) = self.hijack(ask, limit).await?;
        Ok(ExecStarted { stream, early })
    }

    pub(crate) async fn exec_inspect(&self, exec: &str, limit: Duration) -> Result<ExecInspected> {
        self.read(Ask::get("exec inspect", format!("/exec/{}/json", plain(exec))), limit).await
    }

    pub(crate) async fn exec_resize(&self, exec: &str, size: (u16, u16), limit: Duration) -> Result<()> {
        let path = format!("/exec/{}/resize?h={}&w={}", plain(exec), size.0, size.1);
        self.ask(Ask::post("exec resize", path), limit).await.map(drop)
    }
}

/// How far a pull has come: the bytes of its layers.
#[derive(Debug, Default)]
pub(crate) struct Pulled {
    layers: std::collections::BTreeMap<String, (u64, u64)>,
    pub(crate) unpacking: bool,
}

impl Pulled {
    /// Bytes so far, and those that there will be, as far as that is known.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        self.layers.values().fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1))
    }

    fn hear(&mut self, line: &[u8]) -> Result<()> {
        #[derive(Deserialize)]
        struct Line {
            #[serde(default)]
            error: Option<String>,
            #[serde(default)]
            id: Option<String>,
            #[serde(default)]
            status: String,
            #[serde(default, rename = "progressDetail")]
            detail: Option<Detail>,
        }
        #[derive(Deserialize)]
        struct Detail {
            current: Option<u64>,
            total: Option<u64>,
        }
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let line: Line = serde_json::from_slice(line)
            .map_err(|error| EngineError::Strange { call: "pull", why: error.to_string() })?;
        if let Some(message) = line.error {
            return Err(EngineError::Refused { status: 500, message });
        }
        self.unpacking = line.status == "Extracting";
        let known = line.id.zip(line.detail.and_then(|detail| detail.current.zip(detail.total)));
        // Unpacking counts the same bytes again.
        if let (Some((id, (current, total))), false) = (known, self.unpacking) {
            // An engine has some hundred layers at most.
            if self.layers.len() < 1024 || self.layers.contains_key(&id) {
                self.layers.insert(id, (current, total));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_adds_up_and_an_error_in_its_midst_is_one() {
        let mut pulled = Pulled::default();
        let lines = [
            r#"{"status":"Pulling from x","id":"latest"}"#,
            r#"{"status":"Downloading","progressDetail":{"current":5,"total":10},"id":"a"}"#,
            r#"{"status":"Downloading","progressDetail":{"current":7,"total":20},"id":"b"}"#,
            r#"{"status":"Downloading","progressDetail":{"current":10,"total":10},"id":"a"}"#,
            r#"{"status":"Extracting","progressDetail":{"current":1,"total":10},"id":"a"}"#,
        ];
        lines.iter().for_each(|line| pulled.hear(line.as_bytes()).unwrap());
        assert_eq!((pulled.bytes(), pulled.unpacking), ((17, 30), true));
        let error = pulled.hear(br#"{"errorDetail":{"message":"no"},"error":"no"}"#).unwrap_err();
        assert_eq!(error.to_string(), "no");
        assert!(pulled.hear(b"<html>").is_err());
    }
}

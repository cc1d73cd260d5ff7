// SPDX-License-Identifier: Apache-2.0
//! How a container stands.

use serde_json::Value;

/// How a container stands, as `berth ps -a -o json` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// There is none of that name.
    None,
    /// It ended with this wait status word.
    Exited(i64),
    /// Nobody can say how it ended, and this is why.
    Unknown(String),
    /// It is being launched, or runs.
    Live(String),
}

impl State {
    /// Of the container `name`, from what was printed.
    ///
    /// # Errors
    /// It is not what `berth ps` prints.
    pub fn read(list: &str, name: &str) -> Result<State, String> {
        let strange = || format!("berth ps printed {list:?}");
        let list: Vec<Value> = serde_json::from_str(list).map_err(|e| format!("{}: {e}", strange()))?;
        let mut named = list.iter().filter(|c| c["id"] == name);
        let Some(container) = named.next() else { return Ok(State::None) };
        if named.next().is_some() {
            return Err(format!("{name} is listed twice"));
        }
        let state = &container["state"];
        let text = |key: &str| state[key].as_str().unwrap_or_default().to_owned();
        match state["status"].as_str() {
            Some("exited") => state["wait_status"].as_i64().map(State::Exited).ok_or_else(strange),
            Some("unknown") => Ok(State::Unknown(text("message"))),
            Some(other) => Ok(State::Live(other.to_owned())),
            None => Err(strange()),
        }
    }
}

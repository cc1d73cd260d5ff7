// SPDX-License-Identifier: Apache-2.0
//! `berth gc`: removes the ended containers whose time is over, or tells what would go and what stays, and why. The agent
//! does the same by itself (`--gc_delay`, `--gc_disk_headroom`, `--disk_watch_interval`).

use crate::cli::{Format, Gc, Global};
use crate::exit::{Failure, say};
use crate::find;
use crate::text::{decimal, escaped, json_of, show, show_json};
use berth_client::{Error, block_on};
use berth_proto::convert::container_id;
use berth_proto::own::collection_explanation::Item;
use std::fmt::Write;
use std::time::Duration;

/// Collects, or explains.
pub(crate) fn gc(global: &Global, args: &Gc) -> Result<u8, Failure> {
    let agent = find::agent(global);
    let collected = block_on(async {
        let mut connection = agent.connect().await?;
        let explained = connection.explain_gc().await?;
        if args.explain {
            match args.output {
                Format::Json => show_json(&json_of(&explained)),
                Format::Table => {
                    let going = explained.removed.iter().map(|item| line("would go", item));
                    let staying = explained.kept.iter().map(|item| line("stays", item));
                    show(&going.chain(staying).collect::<String>());
                }
            }
            return Ok(0);
        }
        let mut code = 0;
        for item in &explained.removed {
            let Some(Ok(id)) = item.container_id.as_ref().map(container_id) else { continue };
            match connection.remove(&id).await {
                Ok(()) => show(&format!("{id}\n")),
                // The agent, or somebody else, was faster.
                Err(error) if error.is_unknown() => {}
                Err(error) => {
                    code = 1;
                    say(format_args!("berth: {id} is not removed: {}", crate::exit::chain(&error)));
                }
            }
        }
        Ok::<u8, Error>(code)
    });
    collected.and_then(|done| done).map_err(|e: Error| Failure::client(&e).code(1))
}

fn line(verb: &str, item: &Item) -> String {
    let mut text = format!("{verb}: {} {}", escaped(item.kind()), escaped(&item.path));
    if let Some(bytes) = item.bytes {
        let _ = write!(text, " {}", decimal(bytes));
    }
    if let Some(reason) = &item.reason {
        let _ = write!(text, ": {}", escaped(reason));
    }
    if let Some(remaining) = item.remaining.as_ref().filter(|remaining| remaining.nanoseconds > 0) {
        let left = Duration::from_secs(u64::try_from(remaining.nanoseconds).unwrap_or(0) / 1_000_000_000);
        let _ = write!(text, ", and goes in {}", humantime::format_duration(left));
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_proto::v1::DurationInfo;

    #[test]
    fn a_line_says_what_stays_why_and_for_how_long() {
        let item = Item {
            path: "/w/sandboxes/a".into(),
            kind: Some("sandbox".into()),
            reason: Some("it has ended".into()),
            remaining: Some(DurationInfo { nanoseconds: 90_000_000_000 }),
            ..Item::default()
        };
        let expected = "stays: sandbox /w/sandboxes/a: it has ended, and goes in 1m 30s\n";
        assert_eq!(line("stays", &item), expected);
        let item = Item { remaining: None, bytes: Some(1500), ..item };
        assert_eq!(line("would go", &item), "would go: sandbox /w/sandboxes/a 1.5kB: it has ended\n");
    }
}

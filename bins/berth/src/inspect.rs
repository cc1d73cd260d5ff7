// SPDX-License-Identifier: Apache-2.0
//! `berth inspect`: all that is known of containers.

use crate::cli::{Format, Global, Inspect};
use crate::exit::{Failure, say};
use crate::find::Places;
use crate::list;
use crate::template::Template;
use crate::text::{self, plain, show};
use berth_client::Connection;
use berth_factory::oneshot::Native;
use berth_model::ContainerId;
use serde_json::Value;

/// Shows all that is known, one array of all that were named.
pub(crate) fn inspect(global: &Global, args: &Inspect) -> Result<u8, Failure> {
    if args.output == Format::Table {
        return Err(Failure::text("--output table: inspect knows json only; `berth ps` has a table").code(1));
    }
    let format = args.format.as_deref().filter(|format| *format != "json");
    let format = format.map(Template::parse).transpose().map_err(|e| e.code(1))?;
    let places = Places::open(global).map_err(|e| e.code(1))?;
    let all = berth_client::block_on(async {
        let mut all = Vec::new();
        for name in &args.names {
            let there = async |connection: &mut Connection, id: &ContainerId| {
                Ok(text::json_of(&connection.inspect(id).await?))
            };
            all.push(places.at(name, async |native, name| here(native, name), there).await);
        }
        all
    });
    let mut shown = Vec::new();
    let mut code = 0;
    for one in all.map_err(|e| Failure::client(&e).code(1))? {
        match one {
            Ok(value) => shown.push(value),
            Err(failure) => {
                code = 1;
                let _ = failure.report();
            }
        }
    }
    if let Some(format) = format {
        for value in &shown {
            show(&format!("{}\n", format.render(value).map_err(|e| e.code(1))?));
        }
        return Ok(code);
    }
    match serde_json::to_string_pretty(&shown) {
        Ok(text) => show(&format!("{}\n", plain(&text))),
        Err(e) => say(format_args!("berth: {e}")),
    }
    Ok(code)
}

fn here(native: &Native, name: &str) -> Result<Value, Failure> {
    let mut value = native.inspect(name).map_err(|e| Failure::of(&e))?;
    value["state"] = list::state_of(native.look(name).ok().flatten().as_ref());
    Ok(value)
}

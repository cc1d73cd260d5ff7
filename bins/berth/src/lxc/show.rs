// SPDX-License-Identifier: Apache-2.0
//! `templates`, `ls`, `info`: LXC's answers as tables and JSON.

use super::cli::{Info, Ls, Shown};
use super::{failed, pass, tool};
use crate::cli::Format;
use crate::exit::Failure;
use crate::text::{self, Look, escaped, show, show_json};
use berth_factory::lxc::{self, Call, Row};
use serde_json::{Value, json};

pub(crate) fn templates(args: &Shown) -> Result<u8, Failure> {
    let all = lxc::templates().map_err(|error| failed(&error).code(1))?;
    if args.output == Format::Json {
        show_json(&all.iter().map(|one| json!({"name": one.name, "path": one.path})).collect());
        return Ok(0);
    }
    let rows = all
        .iter()
        .map(|one| (Look::Plain, vec![escaped(&one.name), escaped(&one.path.display().to_string())]));
    show(&text::table(&["TEMPLATE", "PATH"], rows.collect(), text::colours()));
    Ok(0)
}

pub(crate) fn ls(args: &Ls) -> Result<u8, Failure> {
    let mut options = Vec::new();
    for (given, flag) in [
        (args.active, "--active"),
        (args.running, "--running"),
        (args.frozen, "--frozen"),
        (args.stopped, "--stopped"),
        (args.defined, "--defined"),
    ] {
        options.extend(given.then(|| flag.to_owned()));
    }
    options.extend(args.nesting.map(|depth| format!("--nesting={depth}")));
    options.extend(args.filter.as_ref().map(|filter| format!("--filter={filter}")));
    options.extend(args.groups.as_ref().map(|groups| format!("--groups={groups}")));
    if let Some(columns) = &args.fancy_format {
        let call = Call::bare("lxc-ls", "all").option("--lxcpath=", &args.common.lxcpath);
        let call = options.iter().fold(call, |call, option| call.argument(option));
        return pass::on(call.argument("--fancy").option("--fancy-format=", columns));
    }
    let rows = lxc::list(&args.common.lxcpath, &options).map_err(|error| failed(&error).code(1))?;
    if args.output == Format::Json {
        show_json(&rows.iter().map(json_of).collect());
    } else if args.line {
        rows.iter().for_each(|row| show(&format!("{}\n", escaped(&row.name))));
    } else {
        let cells = rows.iter().map(|row| (Look::Plain, cells(row))).collect();
        let titles = ["NAME", "STATE", "PID", "AUTOSTART", "GROUPS", "IPV4", "IPV6", "UNPRIVILEGED"];
        show(&text::table(&titles, cells, text::colours()));
    }
    Ok(0)
}

fn cells(row: &Row) -> Vec<String> {
    let several = |all: &[String]| match all {
        [] => "-".to_owned(),
        all => escaped(&all.join(", ")),
    };
    vec![
        escaped(&row.name),
        escaped(&row.state),
        row.pid.map_or("-".to_owned(), |pid| pid.to_string()),
        u8::from(row.autostart).to_string(),
        several(&row.groups),
        several(&row.ipv4),
        several(&row.ipv6),
        row.unprivileged.to_string(),
    ]
}

fn json_of(row: &Row) -> Value {
    json!({
        "name": row.name, "state": row.state, "pid": row.pid, "autostart": row.autostart, "groups": row.groups,
        "ipv4": row.ipv4, "ipv6": row.ipv6, "unprivileged": row.unprivileged,
    })
}

pub(crate) fn info(args: &Info) -> Result<u8, Failure> {
    let name = args.which.get();
    if args.output == Format::Json {
        let info = lxc::info(&args.common.lxcpath, name).map_err(|error| failed(&error).code(1))?;
        show_json(&json!({
            "name": info.name, "state": info.state, "pid": info.pid, "ips": info.ips, "other": info.other,
            "root_password_file": lxc::password_file(&args.common.lxcpath, name),
        }));
        return Ok(0);
    }
    let flags = [
        (args.ips, "--ips"),
        (args.pid, "--pid"),
        (args.stats, "--stats"),
        (args.no_humanize, "--no-humanize"),
        (args.state, "--state"),
    ];
    let call = super::with(tool("lxc-info", name, &args.common), &flags, &[]);
    pass::on(args.config.iter().fold(call, |call, key| call.option("--config=", key)))
}

// SPDX-License-Identifier: Apache-2.0
//! Values that are of their type and yet can not be, alone or together. Only flags that are built have rules:
//! the others are refused before anybody could ask what they mean.

use std::path::Path;

use crate::problem::{Problem, What};
use crate::resolved::{Resolved, Setting, not_allowed};
use crate::typed::Typed;
use crate::value::Value;

/// No agent waits longer for the executors of the one before.
const LONGEST_RETURN: std::time::Duration = std::time::Duration::from_secs(15);

/// sun_path of sockaddr_un has 108 bytes, the last of them NUL (unix(7)).
const SOCKET_PATH: usize = 107;

/// Everything that the rules object to.
pub(crate) fn check(typed: &Typed, resolved: &Resolved) -> Vec<Problem> {
    let mut problems = Vec::new();
    let setting = |name: &str| resolved.setting(name).expect("rules name flags of the table");
    let times = [
        "http_heartbeat_interval",
        "disk_watch_interval",
        "allocation_interval",
        "offer_timeout",
        "hooks_timeout",
    ];
    for name in times {
        let setting = setting(name);
        if matches!(&setting.value, Some(Value::Duration(duration)) if duration.is_zero()) {
            problems.push(not_allowed(setting, "it must be more than nothing", "give a time such as 15secs"));
        }
    }
    if resolved.executor_reregistration_timeout > LONGEST_RETURN {
        let why = "executors have 15secs at most to come back";
        problems.push(not_allowed(setting("executor_reregistration_timeout"), why, "give a shorter time"));
    }
    if resolved.executors.authenticate && resolved.executors.key.is_none() {
        let asked = setting("authenticate_http_executors");
        let what = What::Conflict(
            "--authenticate_http_executors asks executors for a token, and there is no key to make one with"
                .to_owned(),
        );
        let advice =
            "give --jwt_secret_key the path of a file with a random key, which its owner alone may read";
        problems.push(Problem::new(what, Some(asked.origin.clone()), advice).about(asked.row.name));
    }
    let variables = setting("executor_environment_variables");
    if matches!(&variables.value, Some(Value::Json(json)) if crate::resolved::variables(json).is_none()) {
        let why = "`executor_environment_variables` must only contain string values";
        problems.push(not_allowed(variables, why, "give an object such as {\"NAME\":\"value\"}"));
    }
    if !(0.0..=1.0).contains(&resolved.gc_disk_headroom) {
        let why = "it is a part of the disk, from 0 to 1";
        problems.push(not_allowed(setting("gc_disk_headroom"), why, "give a number such as 0.1"));
    }
    problems.extend(directories(setting("work_dir"), setting("runtime_dir"), resolved));
    let length = resolved.socket.as_os_str().len();
    if length > SOCKET_PATH {
        let why = format!("a unix socket's path has at most {SOCKET_PATH} bytes, and this has {length}");
        problems.push(not_allowed(setting("socket"), why, "give a shorter --socket or --runtime_dir"));
    }
    problems.extend(crate::resolved::tcp(setting("ip"), setting("port")).err().map(|problem| *problem));
    let of_master = setting("local_master");
    problems.extend(crate::resolved::local_master(of_master).err().map(|problem| *problem));
    if resolved.local_master.is_none() {
        for name in ["allocation_interval", "offer_timeout"] {
            if let Some(given) = typed.get(name) {
                let what = What::Conflict(format!("--{name} is of the local master, and there is none"));
                let advice = "give --local_master=127.0.0.1:5050 too, or leave it away";
                problems.push(
                    Problem::new(what, Some(given.origin.clone()), advice).about(setting(name).row.name),
                );
            }
        }
    }
    problems.extend(authentication(typed, resolved, &setting));
    if typed.get("socket_group").is_some() && resolved.socket_group.is_empty() {
        let advice = "leave it away, or name a group";
        problems.push(not_allowed(setting("socket_group"), "a group has a name", advice));
    }
    problems
}

/// Whoever can ask the API is root of this host: over TCP they are asked who they are, unless somebody said that they are not.
fn authentication<'a>(
    typed: &Typed,
    resolved: &Resolved,
    setting: &impl Fn(&str) -> &'a Setting,
) -> Vec<Problem> {
    const CREDENTIALS: &str = "give --http_credentials the path of a file with {\"credentials\":[{\"principal\":\"...\",\"secret\":\"...\"}]}";
    let mut problems = Vec::new();
    let (http, readwrite) = (&resolved.http, "authenticate_http_readwrite");
    for (name, on) in [("authenticate_http_readonly", http.readonly), (readwrite, http.readwrite)] {
        if on && http.credentials.is_none() {
            let what = What::Conflict(format!("--{name} asks everybody who they are, and nobody could tell"));
            let origin = setting(name).origin.clone();
            problems.push(Problem::new(what, Some(origin), CREDENTIALS).about(setting(name).row.name));
        }
    }
    let credentials = setting("http_credentials");
    if let Some(Value::Json(json)) = &credentials.value
        && !are_credentials(json)
    {
        let why = "it is no list of principals and their secrets";
        problems.push(not_allowed(credentials, why, CREDENTIALS));
    }
    let master = resolved.local_master.map(|master| master.address);
    for address in resolved.tcp.into_iter().chain(master) {
        if http.readwrite || typed.get(readwrite).is_some() {
            break;
        }
        let of_address: &[&str] = if Some(address) == master { &["local_master"] } else { &["ip", "port"] };
        let asked = of_address.iter().map(|name| setting(name)).find(|setting| setting.value.is_some());
        let what =
            format!("whoever can reach {address} would be root of this host, and is not asked who they are");
        let advice = "give --authenticate_http_readwrite and --http_credentials; \
                      or --no-authenticate_http_readwrite, if everybody is meant";
        let problem = Problem::new(What::Conflict(what), asked.map(|asked| asked.origin.clone()), advice);
        problems.push(problem.about(setting(readwrite).row.name));
    }
    problems
}

fn are_credentials(json: &serde_json::Value) -> bool {
    let Some(all) = json["credentials"].as_array() else { return false };
    let is_one = |one: &serde_json::Value| one["principal"].is_string() && one["secret"].is_string();
    !all.is_empty() && all.iter().all(is_one)
}

fn directories(work: &Setting, runtime: &Setting, resolved: &Resolved) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (setting, path) in [(work, &resolved.work_dir), (runtime, &resolved.runtime_dir)] {
        if path.parent().is_none() || is_of_the_system(path) {
            let why = "the agent owns this directory, and sets its mode";
            let advice = "name a directory that is for the agent alone";
            problems.push(not_allowed(setting, why, advice));
        }
    }
    if resolved.work_dir == resolved.runtime_dir {
        let what = What::Conflict(format!(
            "--work_dir and --runtime_dir are both '{}'",
            resolved.work_dir.display()
        ));
        let advice = "one survives reboots and the other must not: give two directories";
        problems.push(Problem::new(what, Some(runtime.origin.clone()), advice).about("runtime_dir"));
    }
    problems
}

/// Directories that everybody else uses too.
fn is_of_the_system(path: &Path) -> bool {
    const SHARED: &[&str] = &[
        "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/mnt", "/opt", "/proc", "/root", "/run",
        "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/lib", "/var/run", "/var/tmp",
    ];
    SHARED.iter().any(|shared| path == Path::new(shared))
}

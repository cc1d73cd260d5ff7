// SPDX-License-Identifier: Apache-2.0
//! Sessions for programs of others: std's `Command` can give a child a process group of its own, but no session.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Lets the command's process lead a session of its own (setsid(2)), so that it and all that stay with it can be found and
/// ended together. When `spawn` returns, it does.
pub fn lead(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec the child calls only setsid(2), which is async-signal-safe, and turns its error number
    // into an `io::Error`, which allocates nothing.
    unsafe { command.pre_exec(|| rustix::process::setsid().map(drop).map_err(Into::into)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_leads_its_session() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "read -r stat < /proc/$$/stat; set -- ${stat##*)}; test $$ = $4"]);
        assert!(lead(&mut command).status().unwrap().success());
    }
}

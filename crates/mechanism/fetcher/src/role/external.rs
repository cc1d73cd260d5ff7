// SPDX-License-Identifier: Apache-2.0
//! What outside programs fetch: `s3` by the AWS client where it is installed, everything else by Hadoop's, as in Mesos.
//!
//! They are started without a shell, with the URI as one argument that begins with a scheme, and with an environment that
//! the agent gave. They put the file into the sandbox, or into a directory of the user's own from where the agent copies
//! it into its cache.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use berth_model::Class;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use super::sink::{Sink, place, temporary};
use super::{Context, Failure, say};
use crate::wire::{Clients, Job};

/// The name of the file in [`Clients::staging`].
pub(crate) const STAGED: &str = "file";

/// How often a running program is looked at.
const LOOK: Duration = Duration::from_millis(50);

enum Client<'c> {
    Hadoop(&'c Path),
    Aws(&'c Path),
}

pub(super) fn fetch(context: &Context, job: &Job, uri: &str, mut sink: Sink<'_>) -> Result<u64, Failure> {
    let Some(clients) = &context.setup.clients else {
        return Err(Failure::new(Class::Internal, "no programs were named for this URI"));
    };
    let client = Client::of(clients, uri)?;
    if job.cached {
        let total = client.size(clients, uri);
        sink.announce(total)?;
        let staging = clients.staging.as_deref();
        let staging =
            staging.ok_or_else(|| Failure::new(Class::Internal, "no place for the cache was named"))?;
        let bytes = client.run(clients, uri, &staging.join(STAGED), &mut sink)?;
        return Ok(bytes);
    }
    // The program makes the file itself, in the working directory, which is the sandbox.
    let name = temporary();
    let done = client
        .run(clients, uri, Path::new(&name), &mut sink)
        .and_then(|bytes| adopt(context, job, &name, bytes));
    if done.is_err() {
        let _ = rustix::fs::unlinkat(CWD, &name, AtFlags::empty());
    }
    done
}

/// Gives the file that the program made its name and mode.
fn adopt(context: &Context, job: &Job, name: &OsString, bytes: u64) -> Result<u64, Failure> {
    let failed = |error| Failure::io("take what the program fetched", error);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, name, flags, Mode::empty()).map_err(failed)?;
    let mode = if job.executable { 0o755 } else { 0o644 };
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(failed)?;
    let (dir, _) = place(context, &job.output)?;
    rustix::fs::renameat(CWD, name, &dir, job.output.file_name().unwrap_or_default()).map_err(failed)?;
    context.arrived(job, bytes, Some(file.into()))
}

impl<'c> Client<'c> {
    fn of(clients: &'c Clients, uri: &str) -> Result<Client<'c>, Failure> {
        let is_s3 = uri.starts_with("s3://");
        match (&clients.aws, &clients.hadoop) {
            (Some(aws), _) if is_s3 => Ok(Client::Aws(aws)),
            (_, Some(hadoop)) => Ok(Client::Hadoop(hadoop)),
            _ => {
                let scheme = uri.split("://").next().unwrap_or_default();
                let either = if is_s3 { "the AWS client `aws` or " } else { "" };
                let text = format!(
                    "Failed to create HDFS client: '{scheme}' needs {either}the Hadoop client `hadoop`, \
                     in the agent's PATH or named by --hadoop_home, and it is not installed"
                );
                Err(Failure::new(Class::Unsupported, text))
            }
        }
    }

    fn command(&self, clients: &Clients) -> Command {
        let program = match self {
            Client::Hadoop(program) | Client::Aws(program) => program,
        };
        let mut command = Command::new(program);
        command.env_clear().envs(clients.environment.iter().cloned()).stdin(Stdio::null());
        command
    }

    /// How large the resource is, if the program can say.
    fn size(&self, clients: &Clients, uri: &str) -> Option<u64> {
        let mut command = self.command(clients);
        let at = match self {
            Client::Hadoop(_) => {
                command.args(["fs", "-du", uri]);
                0
            }
            Client::Aws(_) => {
                command.args(["s3", "ls", uri]);
                2
            }
        };
        let output = command.stderr(Stdio::inherit()).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit()))?;
        line.split_whitespace().nth(at)?.parse().ok()
    }

    fn run(&self, clients: &Clients, uri: &str, to: &Path, sink: &mut Sink<'_>) -> Result<u64, Failure> {
        let to: PathBuf = if to.is_absolute() { to.into() } else { Path::new(".").join(to) };
        let what = match self {
            Client::Hadoop(_) => "HDFS copyToLocal",
            Client::Aws(_) => "aws s3 cp",
        };
        let failed =
            |why: &dyn std::fmt::Display| Failure::new(Class::Internal, format!("{what} failed: {why}"));
        let mut command = self.command(clients);
        match self {
            Client::Hadoop(_) => command.args(["fs", "-copyToLocal", uri]).arg(&to),
            Client::Aws(_) => command.args(["s3", "cp", "--no-progress", uri]).arg(&to),
        };
        say(&format!("Running {what} for '{}'", crate::uri::shown(uri)));
        let mut child = command.spawn().map_err(|error| failed(&error))?;
        let status = loop {
            match child.try_wait().map_err(|error| failed(&error))? {
                Some(status) => break status,
                None => std::thread::sleep(LOOK),
            }
            let bytes = std::fs::symlink_metadata(&to).map_or(0, |found| found.len());
            sink.alive(bytes)?;
            if bytes > sink.most() {
                let _ = child.kill();
                return Err(failed(&format!("it wrote more than {} bytes", sink.most())));
            }
        };
        if !status.success() {
            return Err(failed(&status));
        }
        let found = std::fs::symlink_metadata(&to).map_err(|error| failed(&error))?;
        match found.is_file() {
            true => Ok(found.len()),
            false => Err(failed(&"it made no regular file")),
        }
    }
}

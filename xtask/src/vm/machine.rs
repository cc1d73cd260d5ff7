// SPDX-License-Identifier: Apache-2.0
//! One VM from its start to its end: qemu, which emulates the processors (`tcg`), since a CI machine is often a VM
//! itself. The kernel's console goes into a file; what the tests print comes through a port of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::error::Error;

pub(super) const QEMU: &str = "qemu-system-x86_64";

/// How many of the console's last lines are shown when a VM ended badly.
const LAST: usize = 40;

/// By what a VM's time goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// The real one: when this machine is busy, the VM's processors stand still while its clock goes on.
    Real,
    /// The instructions that its one processor has executed: nothing that happens outside takes time from a program. For
    /// what is measured of processors; a disk is slow by this clock.
    Instructions,
}

/// What a VM is made of.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) kernel: PathBuf,
    pub(super) initramfs: PathBuf,
    /// The first one is the root.
    pub(super) disks: Vec<PathBuf>,
    /// More words for the kernel.
    pub(super) words: String,
    /// Where the console goes.
    pub(super) console: PathBuf,
    pub(super) clock: Clock,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// By itself, or by a panic.
    Off,
    /// It was stopped when its time was over.
    TimeOver,
    /// It was stopped because it stood still: a program was to have ended by its own clock, and it said nothing of that.
    Still,
}

impl Machine {
    fn command(&self) -> Command {
        let mut qemu = Command::new(QEMU);
        qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-M", "pc"]);
        qemu.args(["-cpu", "Nehalem", "-m", "2G"]);
        qemu.args(match self.clock {
            Clock::Real => ["-accel", "tcg,thread=multi", "-smp", "2"],
            Clock::Instructions => ["-accel", "tcg,thread=single", "-icount", "shift=3"],
        });
        qemu.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(&self.initramfs);
        let words = format!(
            "console=ttyS0 panic=-1 oops=panic psi=1 mitigations=off random.trust_cpu=on tsc=reliable {}",
            self.words
        );
        qemu.arg("-append").arg(words.trim());
        qemu.arg("-serial").arg(format!("file:{}", self.console.display()));
        qemu.args(["-device", "virtio-serial-pci", "-chardev", "stdio,id=results,signal=off"]);
        qemu.args(["-device", "virtserialport,chardev=results,name=results"]);
        for (number, disk) in self.disks.iter().enumerate() {
            let drive = format!("file={},if=none,id=d{number},format=raw,cache=unsafe", disk.display());
            qemu.arg("-drive").arg(drive);
            qemu.arg("-device").arg(format!("virtio-blk-pci,drive=d{number}"));
        }
        qemu
    }

    /// Boots it and hands on each line that comes out of the port, until it is off or `limit` is over. Who hears says by when
    /// there is to be another one, if that is known.
    pub(super) fn run(
        &self,
        limit: Duration,
        mut hear: impl FnMut(&str) -> Option<Instant>,
    ) -> Result<Ended, Error> {
        let deadline = Instant::now() + limit;
        let mut command = self.command();
        let start = |source| Error::Start { program: QEMU.to_owned(), source };
        // Open and silent: at its end, qemu would close the port.
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(start)?;
        let mut child = Killed(child);
        let lines = lines_of(&mut child.0);
        let mut sooner: Option<Instant> = None;
        loop {
            let until = sooner.map_or(deadline, |sooner| sooner.min(deadline));
            match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => sooner = hear(&line),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(Ended::Off),
                Err(mpsc::RecvTimeoutError::Timeout) if until < deadline => return Ok(Ended::Still),
                Err(mpsc::RecvTimeoutError::Timeout) => return Ok(Ended::TimeOver),
            }
        }
    }

    /// The last lines of the console.
    pub(super) fn last_words(&self) -> Vec<String> {
        last_lines(&self.console)
    }
}

/// The last lines of a file, without the bytes that move a cursor.
fn last_lines(file: &Path) -> Vec<String> {
    let bytes = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(LAST);
    lines[from..]
        .iter()
        .map(|line| line.chars().filter(|c| !c.is_control() || *c == '\t').collect())
        .collect()
}

fn lines_of(child: &mut Child) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    if let Some(output) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned();
                if sender.send(text).is_err() {
                    return;
                }
                line.clear();
            }
        });
    }
    receiver
}

/// A child that does not outlive us.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_a_console_are_plain_text() {
        let file = std::env::temp_dir().join(format!("berth-console-{}", std::process::id()));
        fs::write(&file, "one\r\n\n\x1b[31mKernel panic\x1b[0m\n").unwrap();
        let lines = last_lines(&file);
        fs::remove_file(&file).unwrap();
        assert_eq!(lines, ["one", "[31mKernel panic[0m"]);
        assert!(last_lines(Path::new("/nonexistent")).is_empty());
    }
}

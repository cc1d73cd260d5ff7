// SPDX-License-Identifier: Apache-2.0
//! Words in the forms of Mesos.

use std::time::Duration;

use berth_proto::v1::{CommandInfo, TaskInfo};

/// A length of time: the largest unit that it has one of, or the next smaller one where only that is whole
/// (`15mins`, `90secs`).
pub fn duration(time: Duration) -> String {
    const UNITS: [(u128, &str); 8] = [
        (1, "ns"),
        (1_000, "us"),
        (1_000_000, "ms"),
        (1_000_000_000, "secs"),
        (60_000_000_000, "mins"),
        (3_600_000_000_000, "hrs"),
        (86_400_000_000_000, "days"),
        (604_800_000_000_000, "weeks"),
    ];
    let nanos = time.as_nanos();
    let mut at = UNITS.iter().rposition(|(unit, _)| nanos >= *unit).unwrap_or(0);
    if !nanos.is_multiple_of(UNITS[at].0) && at > 0 && nanos.is_multiple_of(UNITS[at - 1].0) {
        at -= 1;
    }
    let (unit, name) = UNITS[at];
    match nanos % unit {
        0 => format!("{}{name}", nanos / unit),
        _ => format!("{}{name}", nanos as f64 / unit as f64),
    }
}

/// What the executor of a command is called.
pub(crate) fn command_executor(task: &TaskInfo) -> String {
    let described = task.command.as_ref().map_or_else(|| "NO COMMAND".to_owned(), described);
    format!("Command Executor (Task: {}) (Command: {described})", task.task_id.value)
}

fn described(command: &CommandInfo) -> String {
    if !command.shell() {
        let Some(value) = &command.value else { return "NO EXECUTABLE".to_owned() };
        return format!("[{value}, {}]", command.arguments.join(", "));
    }
    let Some(value) = &command.value else { return "NO COMMAND".to_owned() };
    let cut = match value.chars().count() > 15 {
        true => value.chars().take(12).collect::<String>() + "...",
        false => value.clone(),
    };
    format!("sh -c '{cut}'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_proto::v1::TaskId;

    #[test]
    fn a_time_is_told_in_the_largest_unit_that_is_whole_or_the_one_below() {
        for (nanos, text) in [
            (60_000_000_000u64, "1mins"),
            (90_000_000_000, "90secs"),
            (900_000_000_000, "15mins"),
            (2_000_000_000, "2secs"),
            (1_500_000_000, "1500ms"),
            (1_234_567_890, "1.23456789secs"),
            (604_800_000_000_000, "1weeks"),
            (7, "7ns"),
            (0, "0ns"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn the_executor_of_a_command_is_called_by_its_task_and_the_beginning_of_its_command() {
        let task = |command: Option<CommandInfo>| TaskInfo {
            task_id: TaskId { value: "ticker".to_owned() },
            command,
            ..TaskInfo::default()
        };
        let shell = |value: &str| CommandInfo { value: Some(value.to_owned()), ..CommandInfo::default() };
        let told = |command| {
            let name = command_executor(&task(command));
            name.strip_prefix("Command Executor (Task: ticker) (Command: ").unwrap().to_owned()
        };
        assert_eq!(told(Some(shell("while true; do date; done"))), "sh -c 'while true; ...')");
        assert_eq!(told(Some(shell("exactly fifteen"))), "sh -c 'exactly fifteen')");
        let arguments = vec!["sleep".to_owned(), "5".to_owned()];
        let exec = CommandInfo { shell: Some(false), arguments, ..shell("/bin/sleep") };
        assert_eq!(told(Some(exec)), "[/bin/sleep, sleep, 5])");
        assert_eq!(
            told(Some(CommandInfo { shell: Some(false), ..CommandInfo::default() })),
            "NO EXECUTABLE)"
        );
        assert_eq!(told(None), "NO COMMAND)");
    }
}

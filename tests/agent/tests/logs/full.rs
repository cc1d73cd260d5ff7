// SPDX-License-Identifier: Apache-2.0
//! A full disk: an agent whose --work_dir is a small file system of its own mount namespace.

use crate::{ground, leave, logs, run};
use berth_test_agent::until;

#[test]
fn a_full_disk_stops_no_task_and_what_is_lost_is_counted_and_said_in_its_place() {
    let mut ground = ground!(a_full_disk_stops_no_task_and_what_is_lost_is_counted_and_said_in_its_place);
    ground.stop();
    let script =
        format!("mount -t tmpfs -o size=6m,mode=0711 none {} && exec \"$@\"", ground.work_dir().display());
    let below = ["--mount", "--propagation", "private", "sh", "-c", &script, "sh"].map(str::to_owned);
    let mut command = ground.agent_below("unshare", &below);
    ground.start_as(&mut command);
    let flood = "head -c 2000000 /dev/zero > ballast; seq 1 1000000; rm ballast; echo after; exit 7";
    let options = ["--log-opt", "max-size=64m"];
    let name = run(&ground, "c", &options, flood);
    until("it goes on after the flood", || logs(&ground, &["--tail", "1"], &name) == "after\n");
    let lost = || ground.api().inspect(&name).unwrap().output_lost;
    until("the loss is told", || !lost().is_empty());
    let lost = lost();
    let words = lost.first().map(String::as_str).unwrap_or_default();
    assert!(words.contains("of stdout are missing in the log: No space left on device"), "{lost:?}");
    let missing: usize = words.split(' ').next().unwrap().parse().unwrap();
    let text = logs(&ground, &[], &name);
    let notice: Vec<&str> = text.lines().filter(|line| line.starts_with("[berth] ")).collect();
    let said = format!("[berth] {missing} bytes of output (");
    assert!(notice.len() == 1 && notice[0].starts_with(&said), "{notice:?} {lost:?}");
    assert!(notice[0].ends_with("are missing here: no space left on device"), "{notice:?}");
    // Every byte is in the log or in the count.
    let kept: usize =
        text.lines().filter(|line| !line.starts_with("[berth] ")).map(|line| line.len() + 1).sum();
    let printed: usize =
        (1..=1_000_000).map(|n: usize| n.to_string().len() + 1).sum::<usize>() + "after\n".len();
    // A line of which a part was lost is ended before the notice.
    assert!((printed..=printed + 1).contains(&(kept + missing)), "{kept} + {missing} of {printed}");
    assert_eq!(ground.api().code(&name).unwrap(), Some(7));
    ground.api().destroy(&name).unwrap();
    ground.stop();
    leave(ground);
}

// SPDX-License-Identifier: Apache-2.0
//! Hooks of the operator's after a fetch.

use crate::server::{Server, ok};
use crate::{leave, run};
use berth_test_agent::{Ground, skip};

#[test]
fn what_was_fetched_is_shown_to_a_hook_before_anything_of_the_container_runs() {
    let mut ground = match Ground::new("fetch-hooked") {
        Ok(ground) => ground,
        Err(lacked) => {
            let test = "what_was_fetched_is_shown_to_a_hook_before_anything_of_the_container_runs";
            return skip(test, &lacked);
        }
    };
    let hooks = std::env::temp_dir().join(format!("berth-hooks-{}", std::process::id()));
    std::fs::create_dir_all(hooks.join("post-fetch")).unwrap();
    // Its failure is for the log alone.
    let script = "#!/bin/sh\ndir=$(sed 's/.*\"directory\":\"\\([^\"]*\\)\".*/\\1/')\n\
                  cp \"$dir/words\" \"$dir/shown\"\nexit 3\n";
    berth_testing::script(&hooks.join("post-fetch/a"), script);
    let mut agent = ground.agent();
    ground.start_as(agent.arg(format!("--hooks_dir={}", hooks.display())));
    let server = Server::new(|_, stream| ok(stream, b"some words"));
    let words = server.url("words");
    let exit = run(&ground, "c", &["--uri", &words], "cat shown");
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(0), "some words"), "{exit:?}");
    let log = ground.log();
    assert!(
        log.contains("after the fetch of") && log.contains("/post-fetch/a failed (exit status: 3)"),
        "{log}"
    );
    // Nothing is fetched, and nothing is run.
    let exit = run(&ground, "without", &[], "test ! -e shown");
    assert_eq!(exit.code, Some(0), "{exit:?}");
    std::fs::remove_dir_all(&hooks).unwrap();
    leave(ground);
}

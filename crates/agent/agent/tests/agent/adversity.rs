// SPDX-License-Identifier: Apache-2.0
//! Full disks, and kills at any moment.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::json;

use crate::client::{about, launch, send};
use crate::ground::on;
use crate::process::{kill, started, terminate};

/// A small disk of its own, as long as it is held.
struct Disk(PathBuf);

impl Disk {
    fn at(path: &Path) -> Disk {
        let size = c"size=1m,mode=0711";
        mount("berth-test", path, "tmpfs", MountFlags::empty(), size).unwrap();
        Disk(path.to_owned())
    }

    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("filler")).unwrap();
        while file.write_all(&[7; 4096]).is_ok() {}
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn on_a_full_disk_an_agent_starts_refuses_launches_in_words_and_makes_room() {
    on("full", |ground| {
        let disk = Disk::at(&ground.site.work_dir());
        ground.start();
        ground.launch("old", "echo text; exit 3");
        ground.wait("old");
        ground.launch("runs", "sleep 1000");
        ground.stop();
        disk.fill();
        ground.start();
        assert_eq!(ground.wait("old")["exit_status"], 3 << 8);
        assert_eq!(ground.listed(), ["runs"]);
        let refused = ground.call(&launch("new", "true"));
        assert_eq!(refused.status, 503, "{}", refused.text);
        assert!(
            refused.text.contains("nothing can be launched") && refused.text.contains("free space"),
            "{}",
            refused.text
        );
        assert_eq!(ground.stream(&about("READ_LOGS", "old")).data().0, "text\n");
        assert_eq!(ground.call(&json!({ "type": "PRUNE_IMAGES" })).says(), (200, ""));
        assert_eq!(ground.remove("old").says(), (200, ""));
        fs::remove_file(ground.site.work_dir().join("filler")).unwrap();
        ground.launch("new", "exit 5");
        assert_eq!(ground.wait("new")["exit_status"], 5 << 8, "there is room again");
        // One that fills while the agent runs.
        disk.fill();
        let refused = ground.call(&launch("newer", "true"));
        assert!(refused.status == 503 || refused.status == 400, "{refused:?}");
        assert_eq!(ground.kill("runs").says(), (200, ""));
        assert_eq!(ground.wait("runs")["exit_status"], 9);
        fs::remove_file(ground.site.work_dir().join("filler")).unwrap();
        for id in ["new", "runs"] {
            assert_eq!(ground.remove(id).says(), (200, ""));
        }
        ground.stop();
        drop(disk);
    });
}

/// What a client knows of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// Its launch was not answered.
    Asked,
    /// It was launched.
    Launched,
    /// Its removal was not answered.
    Removing,
    /// It was removed.
    Removed,
}

#[test]
fn a_kill_at_any_moment_breaks_no_promise() {
    on("sweep", |ground| {
        let known: Arc<Mutex<BTreeMap<String, Known>>> = Arc::default();
        for round in 0..8u64 {
            let process = started(ground);
            let stop = Arc::new(AtomicBool::new(false));
            let clients: Vec<_> = (0..4)
                .map(|client| {
                    let (known, stop, socket) = (Arc::clone(&known), Arc::clone(&stop), ground.socket());
                    std::thread::spawn(move || {
                        let set = |id: &str, now| {
                            known.lock().unwrap().insert(id.to_owned(), now);
                        };
                        let ask = |call| send(&socket, &call).and_then(|p| p.answer()).map(|a| a.status);
                        for number in 0.. {
                            if stop.load(Ordering::SeqCst) {
                                return;
                            }
                            let id = format!("c{round}-{client}-{number}");
                            set(&id, Known::Asked);
                            let Ok(200) = ask(launch(&id, "exit 6")) else { return };
                            set(&id, Known::Launched);
                            if number % 2 == 0 {
                                let Ok(200) = ask(about("WAIT_CONTAINER", &id)) else { return };
                                set(&id, Known::Removing);
                                let Ok(200) = ask(about("REMOVE_CONTAINER", &id)) else { return };
                                set(&id, Known::Removed);
                            }
                        }
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_millis(30 + 37 * round));
            kill(process);
            stop.store(true, Ordering::SeqCst);
            clients.into_iter().for_each(|client| client.join().unwrap());
        }
        let process = started(ground);
        let all = known.lock().unwrap().clone();
        let mut kept = 0;
        for (id, known) in &all {
            let answer = ground.call(&about("WAIT_CONTAINER", id));
            let status =
                (answer.status == 200).then(|| answer.json()["wait_container"]["exit_status"].clone());
            match known {
                Known::Launched => assert_eq!(status, Some((6 << 8).into()), "{id}: {answer:?}"),
                Known::Removed => assert_eq!(answer.status, 404, "{id}: {answer:?}"),
                Known::Asked | Known::Removing => {
                    assert!(matches!(answer.status, 200 | 404), "{id}: {answer:?}")
                }
            }
            if status.is_some() {
                kept += 1;
                assert_eq!(ground.remove(id).says(), (200, ""), "{id}");
            }
        }
        println!("{} containers, {kept} of them kept, over 8 kills", all.len());
        terminate(process);
    });
}

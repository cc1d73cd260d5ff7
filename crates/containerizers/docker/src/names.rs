// SPDX-License-Identifier: Apache-2.0
//! What our containers are called at the engine, and how they are told from those of others: by labels. The name alone is
//! that of Mesos, of which there may be several agents at one engine.

use std::path::Path;

use berth_model::ContainerId;
use sha2::{Digest as _, Sha256};

use crate::engine::Texts;

/// Before each name.
const PREFIX: &str = "mesos-";
/// The engine takes longer names, but its host names and paths do not.
const LONGEST: usize = 200;

/// Whose it is: the agent's `--work_dir`, which one agent alone has.
pub(crate) const WORK_DIR: &str = "org.apache.berth.work_dir";
/// The container's id.
pub(crate) const CONTAINER: &str = "org.apache.berth.container";
/// Which launch of that id it belongs to.
pub(crate) const LAUNCH: &str = "org.apache.berth.launch";

/// The name of a container at the engine: `mesos-<id>`, with what a name may not hold replaced, and told apart by a digest.
pub(crate) fn name(id: &ContainerId) -> String {
    let id = id.value();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if id.len() <= LONGEST && id.bytes().all(fits) {
        return format!("{PREFIX}{id}");
    }
    let kept: String =
        id.chars().take(LONGEST / 2).map(|c| if c.is_ascii() && fits(c as u8) { c } else { '_' }).collect();
    let digest = Sha256::digest(id.as_bytes());
    let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{PREFIX}{kept}-{digest}")
}

/// The labels of a container.
pub(crate) fn labels(id: &ContainerId, launch: &str, work_dir: &Path) -> Texts {
    Texts::from([
        (WORK_DIR.to_owned(), work_dir.display().to_string()),
        (CONTAINER.to_owned(), id.value().to_owned()),
        (LAUNCH.to_owned(), launch.to_owned()),
    ])
}

/// The id of a container of ours, by its labels.
pub(crate) fn id_of(labels: &Texts, work_dir: &Path) -> Option<ContainerId> {
    let ours = labels.get(WORK_DIR).is_some_and(|dir| Path::new(dir) == work_dir);
    ours.then(|| labels.get(CONTAINER)).flatten().and_then(|id| ContainerId::new(id.clone()).ok())
}

/// Which launch a container belongs to.
pub(crate) fn launch_of(labels: &Texts) -> &str {
    labels.get(LAUNCH).map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_fits_is_in_the_name_as_it_is() {
        assert_eq!(name(&ContainerId::new("web-1").unwrap()), "mesos-web-1");
    }

    #[test]
    fn ids_that_do_not_fit_have_names_of_their_own() {
        let one = name(&ContainerId::new("a:b").unwrap());
        let two = name(&ContainerId::new("a@b").unwrap());
        assert!(one.starts_with("mesos-a_b-") && two.starts_with("mesos-a_b-"), "{one} {two}");
        assert_ne!(one, two);
        let long = "x".repeat(240);
        assert!(name(&ContainerId::new(long).unwrap()).len() < 160);
    }

    #[test]
    fn a_container_is_ours_by_its_labels_alone() {
        let id = ContainerId::new("web").unwrap();
        let mut labels = labels(&id, "n", Path::new("/w"));
        assert_eq!(id_of(&labels, Path::new("/w")), Some(id));
        assert_eq!(id_of(&labels, Path::new("/other")), None);
        labels.remove(CONTAINER);
        assert_eq!(id_of(&labels, Path::new("/w")), None);
        assert_eq!(id_of(&Texts::new(), Path::new("/w")), None);
    }
}

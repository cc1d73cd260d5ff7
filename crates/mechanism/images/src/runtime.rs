// SPDX-License-Identifier: Apache-2.0
//! What an image's configuration means for the command that runs in it: [`berth_store::runtime`] has Mesos's table, and
//! here is by whose rule it is read, and all that a container takes of it at once.

use berth_image::config::RuntimeConfig;
use berth_model::CommandInfo;
pub use berth_store::runtime::RuntimeError;
use berth_store::runtime::{self, Program};

/// Whose rule holds where an image has a command and no entry point, and words are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// They are arguments of the image's command (images of type DOCKER, whose users rely on Mesos's table).
    Mesos,
    /// They are the command, as docker's users mean them (images of type OCI, and the command line).
    Docker,
}

/// What a container takes of its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wishes {
    /// What runs.
    pub program: Program,
    /// Variables, below those that are asked for.
    pub environment: Vec<(String, String)>,
    /// Where it starts.
    pub working_directory: Option<String>,
    /// Whom it runs as.
    pub user: Option<String>,
    /// Directories for data.
    pub volumes: Vec<String>,
    /// What asks it to end.
    pub stop_signal: Option<i32>,
}

/// What comes of a command in an image.
///
/// # Errors
/// [`RuntimeError`].
pub fn wishes(command: &CommandInfo, image: &RuntimeConfig, rule: Rule) -> Result<Wishes, RuntimeError> {
    let own = |text: &str| text.to_owned();
    let words_are_it =
        rule == Rule::Docker && !command.shell && command.value.is_none() && image.entrypoint.is_none();
    let program = match command.arguments.split_first() {
        Some((path, _)) if words_are_it => Program { path: path.clone(), argv: command.arguments.clone() },
        _ => runtime::program(command, Some(image))?,
    };
    let good = |(name, value): &(&str, &str)| !name.contains('\0') && !value.contains('\0');
    let variables = runtime::environment(image).filter(good);
    Ok(Wishes {
        program,
        environment: variables.map(|(name, value)| (own(name), own(value))).collect(),
        working_directory: runtime::working_directory(image)?.map(own),
        user: runtime::user(image).map(own),
        volumes: runtime::volumes(image)?.into_iter().map(own).collect(),
        stop_signal: runtime::stop_signal(image)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn run(rule: Rule, given: &str, entry: &str, cmd: &str) -> Result<String, RuntimeError> {
        let some = |text: &str| Some(words(text)).filter(|words| !words.is_empty());
        let image = RuntimeConfig { entrypoint: some(entry), cmd: some(cmd), ..RuntimeConfig::default() };
        let command = CommandInfo { shell: false, arguments: words(given), ..CommandInfo::default() };
        Ok(wishes(&command, &image, rule)?.program.argv.join(" "))
    }

    #[test]
    fn dockers_users_name_the_program_where_the_image_has_no_entry_point() {
        let docker = |given, entry, cmd| run(Rule::Docker, given, entry, cmd);
        assert_eq!(docker("cat /etc/os-release", "", "bash").unwrap(), "cat /etc/os-release");
        assert_eq!(docker("cat /x", "", "").unwrap(), "cat /x");
        assert_eq!(docker("cat /x", "tini --", "bash").unwrap(), "tini -- cat /x");
        assert_eq!(docker("", "", "bash -l").unwrap(), "bash -l");
        assert_eq!(docker("", "tini --", "bash").unwrap(), "tini -- bash");
        assert_eq!(docker("", "", ""), Err(RuntimeError::NoExecutable));
    }

    #[test]
    fn mesoss_users_give_arguments_to_the_images_command() {
        let mesos = |given, entry, cmd| run(Rule::Mesos, given, entry, cmd);
        assert_eq!(mesos("a b", "", "C c").unwrap(), "C a b");
        assert_eq!(mesos("a", "E e", "C").unwrap(), "E e a");
        assert_eq!(mesos("a", "", ""), Err(RuntimeError::NoExecutable));
    }

    #[test]
    fn a_line_for_the_shell_leaves_the_image_out() {
        let command = CommandInfo { value: Some("ls".into()), ..CommandInfo::default() };
        let image = RuntimeConfig { entrypoint: Some(words("E")), ..RuntimeConfig::default() };
        for rule in [Rule::Docker, Rule::Mesos] {
            let program = wishes(&command, &image, rule).unwrap().program;
            assert_eq!((program.path.as_str(), program.argv.join(" ")), ("sh", "sh -c ls".to_owned()));
        }
    }

    #[test]
    fn what_the_image_says_is_checked_before_anything_is_made() {
        let command = CommandInfo { value: Some("ls".into()), ..CommandInfo::default() };
        for bad in [
            RuntimeConfig { working_dir: "../etc".into(), ..RuntimeConfig::default() },
            RuntimeConfig { working_dir: "/a/../../etc".into(), ..RuntimeConfig::default() },
            RuntimeConfig { stop_signal: "SIGNOTHING".into(), ..RuntimeConfig::default() },
        ] {
            wishes(&command, &bad, Rule::Docker).unwrap_err();
        }
        let env = ["A=1", "B=", "=x", "C", "D=a=b", "E=\0"].map(str::to_owned).to_vec();
        let image = RuntimeConfig { env, ..RuntimeConfig::default() };
        let all = wishes(&command, &image, Rule::Docker).unwrap().environment;
        let all: Vec<_> = all.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(all, ["A=1", "B=", "D=a=b"]);
    }
}

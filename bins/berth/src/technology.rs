// SPDX-License-Identifier: Apache-2.0
//! `run --containerizer`: the same words for another technology. What it can not be told is refused, before anything is made.

use crate::cli::{Network, Pull, Run};
use crate::exit::Failure;
use berth_model::{
    ContainerConfig, ContainerInfo, ContainerType, DockerInfo, DockerNetwork, ExternalInfo, LxcInfo, LxcMode,
    MesosInfo, UserNamespace, UserNamespaceMode,
};
use clap::ValueEnum;

/// Whose container it is to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Technology {
    /// The agent's own
    #[default]
    Mesos,
    /// That of a Docker engine
    Docker,
    /// That of LXC, from a template
    Lxc,
    /// That of the operator's program
    External,
}

/// Puts image and technology into a configuration for the agent.
pub(crate) fn choose(args: &Run, config: &mut ContainerConfig) -> Result<(), Failure> {
    if args.containerizer != Technology::Lxc && (args.template.is_some() || args.system || args.unprivileged)
    {
        return Err(Failure::text("--template, --system and --unprivileged are for --containerizer lxc"));
    }
    let Some(info) = &mut config.container_info else { return Ok(()) };
    match (args.containerizer, args.image().0) {
        (Technology::Mesos, Some(image)) => {
            info.mesos = Some(MesosInfo { image: Some(crate::image::for_agent(args, image)?) });
        }
        (Technology::Mesos, None) => {}
        (Technology::Docker, Some(image)) => docker(args, info, image),
        (Technology::Docker, None) => {
            return Err(Failure::text(
                "--containerizer docker needs an image: berth run --containerizer docker IMAGE …",
            ));
        }
        (Technology::Lxc, image) => lxc(args, info, image)?,
        (Technology::External, image) => {
            info.r#type = ContainerType::External;
            info.external =
                image.map(|image| ExternalInfo { image: image.to_owned(), ..ExternalInfo::default() });
            if image.is_some() {
                // There is nobody to read the image's own command.
                config.command_info.value = config.command_info.arguments.first().cloned();
            }
        }
    }
    Ok(())
}

fn lxc(args: &Run, info: &mut ContainerInfo, image: Option<&str>) -> Result<(), Failure> {
    let (Some(template), None) = (&args.template, image) else {
        return Err(Failure::text(
            "--containerizer lxc needs a template, and -- before the command: \
             berth run --containerizer lxc --template busybox -- COMMAND …",
        ));
    };
    info.r#type = ContainerType::Lxc;
    info.lxc = Some(LxcInfo {
        template: Some(template.clone()),
        template_options: args.template_option.clone(),
        mode: if args.system { LxcMode::System } else { LxcMode::Application },
        ..LxcInfo::default()
    });
    if args.unprivileged {
        let users = UserNamespace { mode: UserNamespaceMode::Private, ..UserNamespace::default() };
        info.linux_info.get_or_insert_default().user_namespace = Some(users);
    }
    Ok(())
}

fn docker(args: &Run, info: &mut ContainerInfo, image: &str) {
    info.r#type = ContainerType::Docker;
    info.network_infos.clear();
    info.docker = Some(DockerInfo {
        image: image.to_owned(),
        network: match args.network {
            // As with docker itself.
            None => DockerNetwork::Bridge,
            Some(Network::None) => DockerNetwork::None,
            Some(Network::Host) => DockerNetwork::Host,
        },
        force_pull_image: Some(args.pull == Some(Pull::Always)),
        ..DockerInfo::default()
    });
}

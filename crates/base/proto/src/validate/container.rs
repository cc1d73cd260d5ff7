// SPDX-License-Identifier: Apache-2.0
//! Containers: their volumes, and what Docker needs.

use super::command::{SecretInvalid, check_secret};
use crate::v1::volume::{Source, source::Type};
use crate::v1::{ContainerInfo, Volume, container_info};

/// What is wrong with a container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says it all")]
pub enum ContainerInvalid {
    #[error("Invalid volume: {0}")]
    Volume(VolumeInvalid),
    #[error("DockerInfo 'docker' is not set for DOCKER typed ContainerInfo")]
    NoDocker,
    #[error("Parameter in DockerInfo must not be 'name'")]
    DockerName,
}

/// What is wrong with a volume.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says it all")]
pub enum VolumeInvalid {
    #[error("Only one of them should be set: 'host_path', 'image' and 'source'")]
    NotOne,
    #[error("'source.{field}' is not set for {kind} volume")]
    NoSource { field: &'static str, kind: &'static str },
    #[error("'source.type' is unknown")]
    UnknownSource,
    #[error("{0}")]
    Secret(SecretInvalid),
}

/// Checks a container.
///
/// # Errors
/// What is wrong with it.
pub fn validate(container: &ContainerInfo) -> Result<(), ContainerInvalid> {
    container.volumes.iter().try_for_each(volume).map_err(ContainerInvalid::Volume)?;
    if container.r#type() != container_info::Type::Docker {
        return Ok(());
    }
    let docker = container.docker.as_ref().ok_or(ContainerInvalid::NoDocker)?;
    let has_name = docker.parameters.iter().any(|parameter| parameter.key == "name");
    if has_name { Err(ContainerInvalid::DockerName) } else { Ok(()) }
}

fn volume(volume: &Volume) -> Result<(), VolumeInvalid> {
    let set = [volume.host_path.is_some(), volume.image.is_some(), volume.source.is_some()];
    if set.into_iter().filter(|is_set| *is_set).count() != 1 {
        return Err(VolumeInvalid::NotOne);
    }
    volume.source.as_ref().map_or(Ok(()), source)
}

fn source(source: &Source) -> Result<(), VolumeInvalid> {
    let kind = source.r#type();
    let (field, is_set) = match kind {
        Type::DockerVolume => ("docker_volume", source.docker_volume.is_some()),
        Type::SandboxPath => ("sandbox_path", source.sandbox_path.is_some()),
        Type::Secret => ("secret", source.secret.is_some()),
        Type::HostPath => ("host_path", source.host_path.is_some()),
        Type::CsiVolume => ("csi_volume", source.csi_volume.is_some()),
        Type::Unknown => return Err(VolumeInvalid::UnknownSource),
    };
    if !is_set {
        return Err(VolumeInvalid::NoSource { field, kind: kind.as_str_name() });
    }
    match &source.secret {
        Some(secret) if kind == Type::Secret => check_secret(secret).map_err(VolumeInvalid::Secret),
        _ => Ok(()),
    }
}

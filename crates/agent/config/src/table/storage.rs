// SPDX-License-Identifier: Apache-2.0
//! Flags of images, the fetcher, disks and volumes.

use super::{Row, row};

pub(super) const IMAGES: &[Row] = &[
    row("image_providers", "Kinds of images that native containers may have").ours("docker,oci"),
    row(
        "image_provisioner_backend",
        "How root file systems are put together; not given: the best that works",
    ),
    row("image_gc_config", "When unused images are collected, as JSON; not given: only when asked"),
    row(
        "docker_registry",
        "Where images come from that name no registry; a directory: archives of docker save, for all",
    )
    .both("https://registry-1.docker.io"),
    row("docker_store_dir", "Where images are kept")
        .ours("<work_dir>/store")
        .mesos("<tmp>/mesos/store/docker"),
    row("docker_config", "A Docker client's configuration with its credentials, as JSON or its file")
        .secret(),
    row("docker_ignore_runtime", "Ignore command, environment, user and directory of an image").both("false"),
    row("appc_store_dir", "Where Appc images are kept: with all others, so it may be left away")
        .ours("<work_dir>/store")
        .mesos("<tmp>/mesos/store/appc"),
    row("appc_simple_discovery_uri_prefix", "Before the names of Appc images: http://, https:// or a path")
        .both("http://"),
];

pub(super) const FETCHER: &[Row] = &[
    row("fetcher_cache_dir", "Where fetched files are kept for the next container")
        .ours("<work_dir>/fetch")
        .mesos("<tmp>/mesos/fetch"),
    row("fetcher_cache_size", "How large that cache may become; 0B: nothing is kept").both("2GB"),
    row("fetcher_stall_timeout", "How long a transfer may stand still").both("1mins"),
    row(
        "fetcher_allow",
        "Networks that are spoken to though they are private, link-local or of a cloud's metadata, by redirect too: \
         addresses with commas between, as in 10.0.0.0/8",
    ),
    row("fetcher_deny", "Networks that are never spoken to"),
    row("fetcher_local_files", "Let URIs name files of this host that the container's user may read")
        .ours("true"),
    row("fetcher_certificates", "A file of certificates that are trusted instead of the host's"),
];

pub(super) const DISK: &[Row] = &[
    row("enforce_container_disk_quota", "End containers that use more disk than they asked for")
        .both("false"),
    row("container_disk_watch_interval", "How often their use is measured").both("15secs"),
    row("xfs_project_range", "The project ids for XFS quotas").both("[5000-10000]").not_built(),
    row("xfs_kill_containers", "End containers over quota instead of failing their writes")
        .both("false")
        .not_built(),
    row("xfs_quota_headroom", "What a container may use above its quota before it is ended")
        .both("10MB")
        .not_built(),
    row("volume_gid_range", "Group ids for shared volumes, such as [10000-20000]").not_built(),
    row(
        "host_path_volume_force_creation",
        "Host paths that are made when a volume needs them, with colons between",
    )
    .not_built(),
    row("docker_volume_checkpoint_dir", "Where the state of Docker volumes is kept")
        .mesos("/var/run/mesos/isolators/docker/volume")
        .not_built(),
    row("docker_volume_chown", "Give the root of a Docker volume to the container's user")
        .both("false")
        .not_built(),
    row("csi_plugin_config_dir", "Where CSI plugins are described").not_built(),
    row("resource_provider_config_dir", "Where local resource providers are described").not_built(),
    row("disk_profile_adaptor", "The module for storage profiles").not_built(),
];

// SPDX-License-Identifier: Apache-2.0
//! The command line of `berth image`.
#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments here are help texts, with brackets of their own"
)]

use crate::cli::Format;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What `berth image --help` ends with.
pub(crate) const IMAGE: &str = "\
Images are in the store below the work directory, which an agent there uses too; none is needed for these commands.
IMAGE is a registry's reference (debian:12, 127.0.0.1:5000/app), a file (oci:DIR[:TAG], oci-archive:FILE[:TAG],
docker-archive:FILE[:NAME], tar:FILE), or for one that is here the beginning of its id.

Registries are configured in /etc/berth/registries.toml and registries.d ($BERTH_REGISTRIES_DIR names another
directory), the one of references that name none by $BERTH_DOCKER_REGISTRY; credentials come from $BERTH_DOCKER_CONFIG,
and from where podman and docker keep them.";

/// What to do with images.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Bring an image into the store
    Pull(ImagePull),
    /// Send an image to a registry
    Push(ImagePush),
    /// List images
    #[command(alias = "list")]
    Ls(ImageLs),
    /// Show all that is known of images, as JSON
    Inspect(ImageInspect),
    /// Remove images
    #[command(alias = "remove")]
    Rm(ImageRm),
    /// Remove all that nothing names or holds
    Prune(ImagePrune),
    /// Bring an image from a file or directory, under a name
    #[command(alias = "load")]
    Import(ImageImport),
    /// Write an image to a file, as an archive of OCI
    #[command(alias = "save")]
    Export(ImageExport),
    /// Give an image a further name
    Tag(ImageTag),
    /// Show what a pull would do: hosts, credentials, what would be fetched
    ExplainPull(ImageExplain),
    /// Check the store, and remove what is of no use
    Fsck(ImageFsck),
    /// Collect what is not needed; --explain only tells
    Gc(ImageGc),
}

#[derive(Debug, Args)]
pub(crate) struct ImagePull {
    /// For another platform, such as linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Print nothing but the digest
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
}

#[derive(Debug, Args)]
pub(crate) struct ImagePush {
    /// Print nothing but the digest
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Where to, if not to where its name says
    #[arg(value_name = "REFERENCE")]
    pub(crate) to: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ImageLs {
    /// Also those without a name
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Do not shorten
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    /// Only those of this repository
    #[arg(value_name = "REPOSITORY")]
    pub(crate) repository: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ImageInspect {
    /// A line for each instead, such as '{{.Id}}' or '{{json .Config}}'
    #[arg(short, long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ImageRm {
    /// Take the name away though a container holds the image, which goes when that ends
    #[arg(short, long)]
    pub(crate) force: bool,
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ImagePrune {
    /// Also images with names that no container holds
    #[arg(short, long)]
    pub(crate) all: bool,
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ImageImport {
    /// Print nothing but the digest
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    /// An archive, or a layout's directory: of which kind is seen, or said as in IMAGE
    #[arg(value_name = "PATH")]
    pub(crate) from: String,
    /// Its name
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ImageExport {
    /// The file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
}

#[derive(Debug, Args)]
pub(crate) struct ImageTag {
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct ImageExplain {
    /// Ask nobody: tell only what is configured
    #[arg(long)]
    pub(crate) offline: bool,
    /// For another platform, such as linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    #[arg(value_name = "REFERENCE")]
    pub(crate) reference: String,
}

#[derive(Debug, Args)]
pub(crate) struct ImageFsck {
    /// Remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ImageGc {
    /// Remove nothing: tell what would go and what would stay, and why
    #[arg(long)]
    pub(crate) explain: bool,
    /// Also images with names that no container holds
    #[arg(short, long)]
    pub(crate) all: bool,
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
}

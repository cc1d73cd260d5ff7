// SPDX-License-Identifier: Apache-2.0
//! What an image runs on, in Go's names as image indexes have them, and the choice among several.

use crate::Class;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// Not one to three parts.
    #[error("'{0}' is not a platform; write os/architecture or os/architecture/variant, such as linux/arm64")]
    Parts(String),
    /// A part that is empty or has other than letters, digits, `.`, `-` and `_`.
    #[error("the platform '{0}' has a part that is empty or not made of letters, digits, '.', '-' and '_'")]
    Part(String),
}

impl PlatformError {
    /// A wrong platform is always a wrong request.
    pub fn class(&self) -> Class {
        Class::Invalid
    }
}

/// An operating system and a processor, such as `linux/amd64` or `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// The generation of a processor, such as `v7` of `arm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// A platform; other names of the same processor (`x86_64`, `aarch64`, …) become Go's.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
        let lower = architecture.to_ascii_lowercase();
        let (architecture, implied) = match lower.as_str() {
            "x86_64" | "x86-64" => ("amd64", None),
            "x86" | "i386" | "i686" => ("386", None),
            "aarch64" => ("arm64", None),
            "armhf" | "armv7l" => ("arm", Some("v7")),
            "armel" => ("arm", Some("v6")),
            "powerpc64le" | "ppc64el" => ("ppc64le", None),
            other => (other, None),
        };
        let given = variant.filter(|v| !v.is_empty()).map(str::to_ascii_lowercase);
        let variant = given.or(implied.map(str::to_owned));
        // These say nothing more than their absence does.
        let variant = match (architecture, variant.as_deref()) {
            ("arm64", Some("v8" | "8")) | ("amd64", Some("v1")) => None,
            ("arm", Some("5" | "6" | "7" | "8")) => variant.map(|v| format!("v{v}")),
            _ => variant,
        };
        Platform { os: os.to_ascii_lowercase(), architecture: architecture.to_owned(), variant }
    }

    /// The platform that this program was built for.
    pub fn host() -> Platform {
        Platform::new(std::env::consts::OS, std::env::consts::ARCH, None)
    }

    /// How well an image made for `offered` runs on this platform: the smaller the better, `None` not at all.
    ///
    /// A processor runs what was made for earlier variants of it; one with no variant stated takes the first there
    /// is, as Docker does.
    pub fn fits(&self, offered: &Platform) -> Option<u32> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        match (generation(self), generation(offered)) {
            (Some(mine), Some(theirs)) => mine.checked_sub(theirs),
            _ if self.variant == offered.variant => Some(0),
            _ if self.variant.is_none() || offered.variant.is_none() => Some(64),
            _ => None,
        }
    }

    /// The best of those offered, by its place; the first among equals. `None` when none runs here.
    pub fn choose<'a>(&self, offered: impl IntoIterator<Item = Option<&'a Platform>>) -> Option<usize> {
        let ranked = offered.into_iter().enumerate();
        let fitting = ranked.filter_map(|(place, platform)| Some((self.fits(platform?)?, place)));
        fitting.min().map(|(_, place)| place)
    }
}

/// The number of a variant `v<n>`, with what a missing one stands for.
fn generation(platform: &Platform) -> Option<u32> {
    match (platform.architecture.as_str(), platform.variant.as_deref()) {
        ("arm", None) => Some(7),
        ("arm64", None) => Some(8),
        ("amd64", None) => Some(1),
        (_, Some(variant)) => variant.strip_prefix('v')?.parse().ok(),
        _ => None,
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Platform, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let shown = || crate::image::reference::shortened(text);
        let good = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        };
        if !(2..=3).contains(&parts.len()) {
            return Err(PlatformError::Parts(shown()));
        }
        if !parts.iter().all(good) {
            return Err(PlatformError::Part(shown()));
        }
        Ok(Platform::new(parts[0], parts[1], parts.get(2).copied()))
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! LXC's tools: what may be said to them, running them so that nothing of them is left, and reading what they say.

mod call;
mod clear;
mod config;
mod error;
mod half;
mod idmap;
mod kennel;
mod list;
mod name;
mod network;
mod password;
mod template;

pub use call::{Call, Ended, Progress, installed, last_words, log_errors, version};
pub(crate) use clear::remove_tree;
pub use clear::{clear, is_left};
pub use config::{Config, Key, Line, check_value, quoted};
pub use error::Error;
pub use half::{Change, Half, is_half, is_marked};
pub use idmap::{IdMap, USERS};
pub use kennel::Kennel;
pub use list::{Info, Row, info, list};
pub use name::Name;
pub use network::missing_bridge;
pub use password::{PASSWORD, Password, password, password_file};
pub use template::{Template, templates};

/// The result of something asked of LXC.
pub type Result<T> = std::result::Result<T, Error>;

/// Where LXC keeps containers, unless it is told otherwise.
pub const LXC_PATH: &str = "/var/lib/lxc";

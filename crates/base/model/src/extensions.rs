// SPDX-License-Identifier: Apache-2.0
//! Every number of ours in messages of Mesos. Nothing else may define one.
//!
//! Values of enums start at 100, fields and calls at 1000, so that what Mesos adds does not meet them; clients that
//! do not know them skip them. Fields of messages that are wholly ours start at 1. A number is never used again for
//! something else.

/// What a number names; numbers are unique among those of one kind in one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A value of an enum of Mesos.
    Value,
    /// A field of a message of Mesos.
    Field,
    /// A value of `type` in a message `Call` of Mesos, and its field.
    Call,
    /// A field or value in a message of our own.
    Own,
}

/// One number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension {
    /// The message or enum it is in.
    pub message: &'static str,
    /// What it names.
    pub kind: Kind,
    /// Its name on the wire.
    pub name: &'static str,
    /// The number.
    pub number: i32,
}

macro_rules! registry {
    ($($message:literal $kind:ident { $($(#[$doc:meta])* $CONST:ident = $number:literal $name:literal,)+ })+) => {
        $($(
            #[doc = concat!("`", $message, "`: `", $name, "`.")]
            $(#[$doc])*
            pub const $CONST: i32 = $number;
        )+)+

        /// All of them.
        pub const REGISTRY: &[Extension] = &[
            $($(Extension { message: $message, kind: Kind::$kind, name: $name, number: $CONST },)+)+
        ];
    };
}

registry! {
    "ContainerInfo.Type" Value {
        CONTAINER_TYPE_LXC = 100 "LXC",
        CONTAINER_TYPE_EXTERNAL = 101 "EXTERNAL",
    }
    "ContainerInfo" Field {
        CONTAINER_INFO_LXC = 1000 "lxc",
        CONTAINER_INFO_EXTERNAL = 1001 "external",
    }
    "ContainerInfo.LxcInfo" Own {
        LXC_INFO_TEMPLATE = 1 "template",
        LXC_INFO_TEMPLATE_OPTIONS = 2 "template_options",
        LXC_INFO_CLONE_FROM = 3 "clone_from",
        LXC_INFO_MODE = 4 "mode",
        LXC_INFO_CONFIG = 5 "config",
        LXC_INFO_KEEP_ROOTFS = 6 "keep_rootfs",
    }
    "ContainerInfo.LxcInfo.Mode" Own {
        LXC_MODE_APPLICATION = 0 "APPLICATION",
        LXC_MODE_SYSTEM = 1 "SYSTEM",
    }
    "ContainerInfo.ExternalInfo" Own {
        EXTERNAL_INFO_IMAGE = 1 "image",
        EXTERNAL_INFO_OPTIONS = 2 "options",
    }
    "CommandInfo" Field {
        COMMAND_INFO_WORKING_DIRECTORY = 1000 "working_directory",
    }
    "Image.Type" Value {
        IMAGE_TYPE_OCI = 100 "OCI",
    }
    "Image" Field {
        IMAGE_OCI = 1000 "oci",
    }
    "Image.Oci" Own {
        OCI_REFERENCE = 1 "reference",
        OCI_CONFIG = 2 "config",
    }
    "LinuxInfo" Field {
        LINUX_INFO_USER_NAMESPACE = 1000 "user_namespace",
        LINUX_INFO_READ_ONLY_ROOTFS = 1001 "read_only_rootfs",
        LINUX_INFO_CDI_DEVICES = 1002 "cdi_devices",
        LINUX_INFO_DEVICES = 1003 "devices",
    }
    "LinuxInfo.Device" Own {
        DEVICE_PATH = 1 "path",
        DEVICE_CONTAINER_PATH = 2 "container_path",
        DEVICE_ACCESS = 3 "access",
    }
    "LinuxInfo.UserNamespace" Own {
        USER_NAMESPACE_MODE = 1 "mode",
        USER_NAMESPACE_UID_MAPS = 2 "uid_maps",
        USER_NAMESPACE_GID_MAPS = 3 "gid_maps",
    }
    "LinuxInfo.UserNamespace.Mode" Own {
        USER_NAMESPACE_MODE_UNKNOWN = 0 "UNKNOWN",
        USER_NAMESPACE_MODE_HOST = 1 "HOST",
        USER_NAMESPACE_MODE_PRIVATE = 2 "PRIVATE",
    }
    "LinuxInfo.UserNamespace.IdMap" Own {
        ID_MAP_CONTAINER_ID = 1 "container_id",
        ID_MAP_HOST_ID = 2 "host_id",
        ID_MAP_SIZE = 3 "size",
    }
    "agent.Call" Call {
        CALL_UPDATE_CONTAINER = 1000 "UPDATE_CONTAINER",
        CALL_INSPECT_CONTAINER = 1001 "INSPECT_CONTAINER",
        CALL_SUBSCRIBE = 1002 "SUBSCRIBE",
        CALL_READ_LOGS = 1003 "READ_LOGS",
        CALL_GET_OPERATIONS_IN_FLIGHT = 1004 "GET_OPERATIONS_IN_FLIGHT",
        CALL_EXPLAIN_PULL = 1005 "EXPLAIN_PULL",
        CALL_EXPLAIN_GC = 1006 "EXPLAIN_GC",
        CALL_RENAME = 1007 "RENAME",
        CALL_PAUSE = 1008 "PAUSE",
        CALL_RESUME = 1009 "RESUME",
    }
    "master.Call" Call {
        MASTER_CALL_KILL_TASK = 1000 "KILL_TASK",
    }
    "agent.Call.GetContainers" Field {
        GET_CONTAINERS_SHOW_ENDED = 1000 "show_ended",
        GET_CONTAINERS_SHOW_SUMMARIES = 1001 "show_summaries",
        GET_CONTAINERS_WITHOUT_STATISTICS = 1002 "without_statistics",
    }
    "agent.Response.GetContainers.Container" Field {
        LISTED_CONTAINER_SUMMARY = 1000 "summary",
    }
    "agent.Call.UpdateContainer" Own {
        UPDATE_CONTAINER_CONTAINER_ID = 1 "container_id",
        UPDATE_CONTAINER_RESOURCES = 2 "resources",
        UPDATE_CONTAINER_LIMITS = 3 "limits",
    }
    "agent.Call.InspectContainer" Own {
        INSPECT_CONTAINER_CONTAINER_ID = 1 "container_id",
    }
    "agent.Call.Subscribe" Own {
        SUBSCRIBE_SINCE = 1 "since",
    }
    "agent.Call.ReadLogs" Own {
        READ_LOGS_CONTAINER_ID = 1 "container_id",
        READ_LOGS_STREAM = 2 "stream",
        READ_LOGS_SINCE = 3 "since",
        READ_LOGS_TAIL = 4 "tail",
        READ_LOGS_FOLLOW = 5 "follow",
        READ_LOGS_SINCE_TIME = 6 "since_time",
        READ_LOGS_UNTIL_TIME = 7 "until_time",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_and_names_are_unique_in_each_message() {
        let mut numbers = BTreeSet::new();
        let mut names = BTreeSet::new();
        for extension in REGISTRY {
            assert!(numbers.insert((extension.message, extension.number)), "number again: {extension:?}");
            assert!(names.insert((extension.message, extension.name)), "name again: {extension:?}");
        }
    }

    #[test]
    fn numbers_stay_clear_of_those_of_mesos() {
        for extension in REGISTRY {
            let least = match extension.kind {
                Kind::Value => 100,
                Kind::Field | Kind::Call => 1000,
                Kind::Own => 0,
            };
            assert!(extension.number >= least, "{extension:?}");
        }
    }

    #[test]
    fn enums_of_the_model_use_the_numbers_of_the_registry() {
        use crate::{ContainerType, ImageType, LxcMode, UserNamespaceMode};
        assert_eq!(ContainerType::Lxc.number(), CONTAINER_TYPE_LXC);
        assert_eq!(ContainerType::External.number(), CONTAINER_TYPE_EXTERNAL);
        assert_eq!(ImageType::Oci.number(), IMAGE_TYPE_OCI);
        assert_eq!(LxcMode::System.number(), LXC_MODE_SYSTEM);
        assert_eq!(LxcMode::Application.number(), LXC_MODE_APPLICATION);
        assert_eq!(UserNamespaceMode::Unknown.number(), USER_NAMESPACE_MODE_UNKNOWN);
        assert_eq!(UserNamespaceMode::Host.number(), USER_NAMESPACE_MODE_HOST);
        assert_eq!(UserNamespaceMode::Private.number(), USER_NAMESPACE_MODE_PRIVATE);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The options for limits that `run` and `update` have in common, beside processors, memory and processes.

use clap::Args;

#[derive(Debug, Default, Clone, Args)]
#[command(next_help_heading = "More limits")]
pub(crate) struct Limiting {
    /// Its weight among others for processors; 1024 is that of one processor
    #[arg(short = 'c', long, value_name = "N")]
    pub(crate) cpu_shares: Option<u64>,
    /// The processors that it may run on, such as 0-1,3
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// The nodes that it may have memory from
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// Memory that stays with it when the host runs short; 0 for none
    #[arg(long, value_name = "BYTES")]
    pub(crate) memory_reservation: Option<String>,
    /// Memory and swap together; as much as --memory for no swap, -1 for any
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<String>,
    /// End all of it when one of its processes is killed for lack of memory
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) oom_group: Option<bool>,
    /// Its weight among others for disks, 10 to 1000 (other containers have 100)
    #[arg(long, value_name = "N")]
    pub(crate) blkio_weight: Option<u16>,
    /// Bytes a second that it may read from a disk, such as /dev/sda:1mb; -1 for no limit
    #[arg(long, value_name = "DISK:RATE")]
    pub(crate) device_read_bps: Vec<String>,
    /// Bytes a second that it may write to a disk
    #[arg(long, value_name = "DISK:RATE")]
    pub(crate) device_write_bps: Vec<String>,
    /// Requests a second to read from a disk
    #[arg(long, value_name = "DISK:RATE")]
    pub(crate) device_read_iops: Vec<String>,
    /// Requests a second to write to a disk
    #[arg(long, value_name = "DISK:RATE")]
    pub(crate) device_write_iops: Vec<String>,
    /// Memory in huge pages of a size, such as 2MB:64m; -1 for no limit
    #[arg(long, value_name = "SIZE:BYTES")]
    pub(crate) hugetlb: Vec<String>,
}

impl Limiting {
    /// Whether none is given.
    pub(crate) fn is_empty(&self) -> bool {
        format!("{self:?}") == format!("{:?}", Limiting::default())
    }
}

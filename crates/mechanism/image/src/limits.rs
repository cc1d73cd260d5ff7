// SPDX-License-Identifier: Apache-2.0
//! How much an archive may ask for.

/// Limits on what one archive may turn into. Each is refused with an error that names the entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the tar stream, holes of sparse files included.
    pub bytes: u64,
    /// Bytes that one byte of the file on disk may turn into. Gzip reaches 1,032 at its very best.
    pub ratio: u64,
    /// Bytes of the tar stream that are not yet measured against `ratio`.
    pub ratio_free: u64,
    /// Entries of all kinds, skipped ones included.
    pub entries: u64,
    /// Directories from the root to an entry, counted in the name and, through links, in the tree.
    pub depth: u32,
    /// Bytes of a name or a link target, with the closing NUL (`PATH_MAX` counts that way).
    pub path: usize,
    /// Bytes of one file, holes included.
    pub file: u64,
    /// Bytes of all names of directories together: they are kept until the end, for modes and times.
    pub directory_names: u64,
}

impl Default for Limits {
    /// Room for any image that people really use: 64 GiB, 1:1000 after 64 MiB, two million entries, files of
    /// 16 GiB, 256 levels, names of 4,096 bytes.
    fn default() -> Limits {
        Limits {
            bytes: 64 << 30,
            ratio: 1000,
            ratio_free: 64 << 20,
            entries: 2_000_000,
            depth: 256,
            path: 4096,
            file: 16 << 30,
            directory_names: 64 << 20,
        }
    }
}

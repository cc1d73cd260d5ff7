// SPDX-License-Identifier: Apache-2.0
//! Memory in huge pages, for each size of page: `hugetlb.2MB.limit_in_bytes` on v1, `hugetlb.2MB.max` on v2, and the same
//! for reservations (`rsvd`, kernel 5.7), so that a process is told by `mmap` instead of by SIGBUS. Limits are kept in whole
//! pages. Source: cgroup-v1/hugetlb in the kernel's documentation.

use crate::controller::Controller;
use crate::tree::Files;
use crate::usage::Applied;
use crate::{Bytes, Check, Error, HugePages, Limit, Limits, Result, Version, Write};

pub(super) const LIMIT: &str = "limit on huge pages";

pub(super) fn writes(limits: &Limits, version: Version, out: &mut Vec<Write>) -> Result<()> {
    for (index, HugePages { page, limit }) in limits.huge_pages.iter().enumerate() {
        if !page.0.is_power_of_two() || page.0 < 1024 {
            return Err(Error::Invalid { limit: LIMIT, why: "no page has that size" });
        }
        if limits.huge_pages[..index].iter().any(|other| other.page == *page) {
            return Err(Error::Invalid { limit: LIMIT, why: "a size of page is named twice" });
        }
        let (value, last) = match (version, limit) {
            (Version::V1, Limit::At(bytes)) => (bytes.0.to_string(), "limit_in_bytes"),
            (Version::V2, Limit::At(bytes)) => (bytes.0.to_string(), "max"),
            (Version::V1, Limit::Infinite) => ("-1".to_owned(), "limit_in_bytes"),
            (Version::V2, Limit::Infinite) => ("max".to_owned(), "max"),
        };
        for (middle, if_present) in [("", false), (".rsvd", true)] {
            out.push(Write {
                controller: Controller::Hugetlb,
                limit: LIMIT,
                file: format!("hugetlb.{}{middle}.{last}", size(*page)).into(),
                value: value.clone().into(),
                check: Check::HugePages(page.0),
                is_default: *limit == Limit::Infinite,
                if_present,
            });
        }
    }
    Ok(())
}

/// As the kernel names its files: `1GB`, `2MB`, `64KB`.
fn size(page: Bytes) -> String {
    match page.0 {
        bytes if bytes >= 1 << 30 => format!("{}GB", bytes >> 30),
        bytes if bytes >= 1 << 20 => format!("{}MB", bytes >> 20),
        bytes => format!("{}KB", bytes >> 10),
    }
}

/// The sizes of page that this kernel has.
pub fn sizes() -> Vec<Bytes> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let bytes = |name: &str| -> Option<Bytes> {
        let kilobytes = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok()?;
        Some(Bytes(kilobytes << 10))
    };
    let mut sizes: Vec<Bytes> =
        entries.into_iter().filter_map(|entry| bytes(entry.file_name().to_str()?)).collect();
    sizes.sort_unstable();
    sizes
}

pub(super) fn read_back(files: &Files<'_>, version: Version, applied: &mut Applied) {
    let last = match version {
        Version::V1 => "limit_in_bytes",
        Version::V2 => "max",
    };
    for page in sizes() {
        let Some(found) = files.number(&format!("hugetlb.{}.{last}", size(page))) else { continue };
        // v1's "no limit" is the largest number of whole pages.
        if found < 1 << 62 {
            applied.huge_pages.push(HugePages { page, limit: Limit::At(Bytes(found)) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pages: HugePages, version: Version) -> Vec<(String, String)> {
        let mut out = Vec::new();
        writes(&Limits { huge_pages: vec![pages], ..Limits::default() }, version, &mut out).unwrap();
        out.into_iter().map(|write| (write.file.into_owned(), write.value.into_owned())).collect()
    }

    #[test]
    fn the_files_are_named_by_the_size_of_the_page() {
        let pages = HugePages { page: Bytes(2 << 20), limit: Limit::At(Bytes(8 << 20)) };
        assert_eq!(
            values(pages, Version::V1)[0],
            ("hugetlb.2MB.limit_in_bytes".to_owned(), (8 << 20).to_string())
        );
        assert_eq!(values(pages, Version::V2)[1], ("hugetlb.2MB.rsvd.max".to_owned(), (8 << 20).to_string()));
        let pages = HugePages { page: Bytes(1 << 30), limit: Limit::Infinite };
        assert_eq!(values(pages, Version::V1)[0], ("hugetlb.1GB.limit_in_bytes".to_owned(), "-1".to_owned()));
        assert_eq!(values(pages, Version::V2)[0], ("hugetlb.1GB.max".to_owned(), "max".to_owned()));
        assert_eq!(size(Bytes(64 << 10)), "64KB");
    }

    #[test]
    fn a_size_that_no_page_has_is_refused() {
        for page in [0, 3 << 20, 512] {
            let pages = HugePages { page: Bytes(page), limit: Limit::Infinite };
            let limits = Limits { huge_pages: vec![pages], ..Limits::default() };
            assert!(writes(&limits, Version::V2, &mut Vec::new()).is_err(), "{page}");
        }
    }
}

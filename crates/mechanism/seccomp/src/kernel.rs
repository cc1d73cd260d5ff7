// SPDX-License-Identifier: Apache-2.0
//! The version of a kernel, for rules with `minKernel`.

/// A kernel version, as far as profiles look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kernel {
    /// 6 in 6.18.44.
    pub major: u32,
    /// 18 in 6.18.44.
    pub minor: u32,
}

impl Kernel {
    /// The running kernel (uname(2)).
    ///
    /// A release that does not begin with two numbers counts as 0.0: no minimum is reached.
    pub fn running() -> Kernel {
        let name = rustix::system::uname();
        Self::of_release(&name.release().to_string_lossy()).unwrap_or(Kernel { major: 0, minor: 0 })
    }

    /// From a release as in `uname -r`: `6.18.44-generic`.
    pub(crate) fn of_release(release: &str) -> Option<Kernel> {
        let (major, rest) = release.split_once('.')?;
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        Some(Kernel { major: major.parse().ok()?, minor: rest[..digits].parse().ok()? })
    }

    /// From the form that profiles have: `4.8`, nothing more.
    pub(crate) fn of_profile(text: &str) -> Option<Kernel> {
        let (major, minor) = text.split_once('.')?;
        let number =
            |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten();
        Some(Kernel { major: number(major)?, minor: number(minor)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_up_to_their_second_number() {
        let version = |major, minor| Some(Kernel { major, minor });
        assert_eq!(Kernel::of_release("6.18.44-fc-v595"), version(6, 18));
        assert_eq!(Kernel::of_release("5.10-rc1"), version(5, 10));
        assert_eq!(Kernel::of_release("4.8"), version(4, 8));
        assert_eq!(Kernel::of_release("linux"), None);
        assert_eq!(Kernel::of_release("4.x"), None);
        assert!(Kernel::running() > Kernel { major: 3, minor: 0 });
    }

    #[test]
    fn the_form_of_profiles_is_two_numbers_and_nothing_else() {
        assert_eq!(Kernel::of_profile("4.8"), Some(Kernel { major: 4, minor: 8 }));
        for wrong in ["", "4", "4.", ".8", "4.8.1", "4.8-rc1", "+4.8", "4.99999999999"] {
            assert_eq!(Kernel::of_profile(wrong), None, "{wrong}");
        }
        assert!(Kernel { major: 4, minor: 10 } > Kernel { major: 4, minor: 8 });
    }
}

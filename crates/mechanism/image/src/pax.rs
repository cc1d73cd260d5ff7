// SPDX-License-Identifier: Apache-2.0
//! Extended headers of POSIX tar ("pax"), read strictly.
//!
//! A record is `<length> <key>=<value>\n`, and only the length says where it ends: values of extended attributes
//! may hold newlines and zeros. Readers that look for newlines instead can be made to see other sizes and names
//! than this one, so whatever does not fit together exactly is refused. So are keys given twice, of which some
//! readers take the first and some the last.

use std::collections::BTreeMap;

const XATTR: &[u8] = b"SCHILY.xattr.";

/// What we use of an extended header.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pax {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) linkpath: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<Time>,
    /// Attributes that are kept: `user.*` and `security.capability`.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Attributes that are not.
    pub(crate) dropped: u64,
    /// What it says of a sparse file.
    pub(crate) sparse: Option<PaxSparse>,
}

/// A sparse file in one of the pax formats.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PaxSparse {
    /// Major and minor; the first format does not say.
    pub(crate) version: Option<(u64, u64)>,
    pub(crate) name: Option<Vec<u8>>,
    /// With its holes.
    pub(crate) size: Option<u64>,
}

/// A time since 1970: nanoseconds count up from the second, also before 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) sec: i64,
    pub(crate) nsec: u32,
}

impl Pax {
    /// Reads the records of one extended header.
    pub(crate) fn parse(data: &[u8]) -> Result<Pax, String> {
        let mut seen = BTreeMap::new();
        let mut rest = data;
        while !rest.is_empty() {
            let (key, value, after) =
                record(rest).ok_or("an extended header has a record of the wrong length")?;
            if seen.insert(key, value).is_some() {
                return Err(format!("an extended header gives {} twice", crate::name::shown(key)));
            }
            rest = after;
        }
        let mut pax = Pax::default();
        for (key, value) in seen {
            pax.set(key, value)?;
        }
        Ok(pax)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        match key {
            b"path" => self.path = Some(text(key, value)?),
            b"linkpath" => self.linkpath = Some(text(key, value)?),
            b"size" => self.size = Some(number(key, value)?),
            b"uid" => self.uid = Some(number(key, value)?),
            b"gid" => self.gid = Some(number(key, value)?),
            b"mtime" => self.mtime = Some(time(value).ok_or("the extended header's mtime is not a time")?),
            b"GNU.sparse.name" => self.sparse().name = Some(text(key, value)?),
            b"GNU.sparse.realsize" => self.sparse().size = Some(number(key, value)?),
            b"GNU.sparse.major" => {
                let minor = self.sparse().version.map_or(0, |(_, minor)| minor);
                self.sparse().version = Some((number(key, value)?, minor));
            }
            b"GNU.sparse.minor" => {
                let major = self.sparse().version.map_or(0, |(major, _)| major);
                self.sparse().version = Some((major, number(key, value)?));
            }
            _ if key.starts_with(b"GNU.sparse.") || key == b"SCHILY.realsize" => _ = self.sparse(),
            _ => {
                if let Some(attribute) = key.strip_prefix(XATTR) {
                    match kept(attribute) {
                        true => self.xattrs.push((attribute.to_vec(), value.to_vec())),
                        false => self.dropped += 1,
                    }
                }
            }
        }
        Ok(())
    }

    fn sparse(&mut self) -> &mut PaxSparse {
        self.sparse.get_or_insert_default()
    }

    /// Whether it changes what an entry is or is called: such a thing must not hold for a whole archive.
    pub(crate) fn changes_entries(&self) -> bool {
        let harmless = Pax { mtime: self.mtime, dropped: self.dropped, ..Pax::default() };
        *self != harmless
    }
}

/// `trusted.*` and `user.overlay.*` steer overlayfs, `security.*` the host's policies, `system.*` its access
/// lists: none of them is the archive's business, except the capabilities of a file.
pub(crate) fn kept(attribute: &[u8]) -> bool {
    let user = attribute.strip_prefix(b"user.").is_some_and(|rest| !rest.is_empty());
    (user && !attribute.starts_with(b"user.overlay.") && !attribute.contains(&0))
        || attribute == b"security.capability"
}

/// The first record of `data`, and what follows it.
fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let digits = data.iter().take(8).position(|&byte| byte == b' ')?;
    let length = usize::try_from(digits_only(&data[..digits])?).ok()?;
    let body = data.get(digits + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|&byte| byte == b'=')?;
    match equals {
        0 => None,
        _ => Some((&body[..equals], &body[equals + 1..], &data[length..])),
    }
}

fn digits_only(text: &[u8]) -> Option<u64> {
    match !text.is_empty() && text.iter().all(u8::is_ascii_digit) {
        true => std::str::from_utf8(text).ok()?.parse().ok(),
        false => None,
    }
}

fn number(key: &[u8], value: &[u8]) -> Result<u64, String> {
    digits_only(value)
        .ok_or_else(|| format!("the extended header's {} is not a number", String::from_utf8_lossy(key)))
}

/// An empty value would delete what the plain header says, and few readers know that.
fn text(key: &[u8], value: &[u8]) -> Result<Vec<u8>, String> {
    match value.is_empty() || value.contains(&0) {
        true => {
            Err(format!("the extended header's {} is empty or has a zero byte", String::from_utf8_lossy(key)))
        }
        false => Ok(value.to_vec()),
    }
}

fn time(value: &[u8]) -> Option<Time> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(value) => (true, value),
        None => (false, value),
    };
    let dot = value.iter().position(|&byte| byte == b'.');
    let (whole, fraction) = match dot {
        Some(dot) => (&value[..dot], &value[dot + 1..]),
        None => (value, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let sec = i64::try_from(digits_only(whole)?).ok()?;
    let digit = |at: usize| u32::from(fraction.get(at).map_or(0, |digit| digit - b'0'));
    let nsec = (0..9).fold(0, |sum, at| sum * 10 + digit(at));
    Some(match (negative, nsec) {
        (false, _) => Time { sec, nsec },
        (true, 0) => Time { sec: -sec, nsec },
        (true, _) => Time { sec: -sec - 1, nsec: 1_000_000_000 - nsec },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rec(key: &str, value: &[u8]) -> Vec<u8> {
        let body = key.len() + value.len() + 3;
        let mut length = body + 1;
        while length != body + length.to_string().len() {
            length = body + length.to_string().len();
        }
        [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
    }

    #[test]
    fn values_may_hold_newlines_and_zeros() {
        let data = [rec("SCHILY.xattr.user.x", b"a\n0\n\0\n12 size=99\n"), rec("size", b"7")].concat();
        let pax = Pax::parse(&data).unwrap();
        assert_eq!(pax.size, Some(7));
        assert_eq!(pax.xattrs, [(b"user.x".to_vec(), b"a\n0\n\0\n12 size=99\n".to_vec())]);
    }

    #[test]
    fn only_user_attributes_and_capabilities_are_kept() {
        let names = ["user.a", "security.capability", "trusted.overlay.opaque", "user.overlay.opaque"];
        let more = ["security.selinux", "system.posix_acl_access", "user.", "user.z\0"];
        let data: Vec<u8> =
            names.iter().chain(&more).flat_map(|name| rec(&format!("SCHILY.xattr.{name}"), b"y")).collect();
        let pax = Pax::parse(&data).unwrap();
        let kept: Vec<_> = pax.xattrs.iter().map(|(name, _)| name.as_slice()).collect();
        assert_eq!(kept, [&b"security.capability"[..], b"user.a"]);
        assert_eq!(pax.dropped, 6);
    }

    #[test]
    fn records_that_do_not_add_up_are_refused() {
        for bad in [
            &b"6 a=b"[..],
            b"7 a=b\n",
            b"5 a=b\n",
            b"0 a=b\n",
            b" a=b\n",
            b"-6 a=b\n",
            b"+6 a=b\n",
            b"6 a b\n",
            b"5 =b\n",
            b"99999999999999999999 a=b\n",
            b"6 a=b\n\n",
            b"x",
        ] {
            Pax::parse(bad).unwrap_err();
        }
        assert_eq!(Pax::parse(b"6 a=b\n").unwrap(), Pax::default());
    }

    #[test]
    fn a_key_given_twice_is_refused() {
        Pax::parse(&[rec("path", b"a"), rec("path", b"b")].concat()).unwrap_err();
        Pax::parse(&[rec("size", b"1"), rec("size", b"1")].concat()).unwrap_err();
    }

    #[test]
    fn numbers_and_times_are_strict() {
        for bad in ["", "-1", "+1", " 1", "1 ", "0x1", "18446744073709551616"] {
            Pax::parse(&rec("size", bad.as_bytes())).unwrap_err();
        }
        for bad in ["", ".5", "1.5.5", "1.x", "-", "1e3", "99999999999999999999"] {
            Pax::parse(&rec("mtime", bad.as_bytes())).unwrap_err();
        }
        for (text, sec, nsec) in
            [("5", 5, 0), ("5.25", 5, 250_000_000), ("-1.5", -2, 500_000_000), ("-3", -3, 0)]
        {
            assert_eq!(Pax::parse(&rec("mtime", text.as_bytes())).unwrap().mtime, Some(Time { sec, nsec }));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_records_never_panic(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Pax::parse(&data);
        }

        #[test]
        fn what_is_written_is_read(key in "[a-z.]{1,20}", value in proptest::collection::vec(any::<u8>(), 1..300)) {
            let key = format!("SCHILY.xattr.user.{key}");
            let pax = Pax::parse(&rec(&key, &value)).unwrap();
            prop_assert!(pax.dropped == 1 || pax.xattrs[0].1 == value);
        }
    }
}

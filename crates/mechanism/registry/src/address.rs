// SPDX-License-Identifier: Apache-2.0
//! Which machines a request may reach.
//!
//! A registry tells us where to go next: where tokens are made, where a blob lies. One on the internet must not
//! use that to make this host talk to itself, to its neighbours or to the cloud's metadata service. Names prove
//! nothing (they resolve to whatever their owner likes, and to something else a second later), so the address is
//! looked at where it is connected to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where an address lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Zone {
    /// The internet.
    Public,
    /// Networks of one's own (RFC 1918, RFC 6598, unique local).
    Private,
    /// This machine.
    Loopback,
    /// One link: the metadata services of clouds.
    LinkLocal,
    /// No machine's: unspecified, multicast, broadcast, reserved.
    Nowhere,
}

impl Zone {
    /// Where `address` lies; addresses that wrap one of IPv4 lie where that does.
    pub fn of(address: IpAddr) -> Zone {
        match address {
            IpAddr::V4(four) => Zone::of_v4(four),
            IpAddr::V6(six) => Zone::of_v6(six),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Zone {
        match address.octets() {
            [0, ..] | [224..=255, ..] => Zone::Nowhere,
            [127, ..] => Zone::Loopback,
            [169, 254, ..] => Zone::LinkLocal,
            [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Zone::Private,
            // Protocol assignments and benchmarks: never on the internet.
            [192, 0, 0, _] | [198, 18..=19, ..] => Zone::Private,
            _ => Zone::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Zone {
        let inner = |high: u16, low: u16| {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            Zone::of_v4(Ipv4Addr::new(a, b, c, d))
        };
        match address.segments() {
            [0, 0, 0, 0, 0, 0, 0, 0] => Zone::Nowhere,
            [0, 0, 0, 0, 0, 0, 0, 1] => Zone::Loopback,
            // IPv4-mapped, IPv4-compatible, NAT64, 6to4.
            [0, 0, 0, 0, 0, 0xffff | 0, high, low] => inner(high, low),
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => inner(high, low),
            [0x2002, high, low, ..] => inner(high, low),
            [0x64, 0xff9b, 1, ..] => Zone::Private,
            [0xfe80..=0xfebf, ..] => Zone::LinkLocal,
            [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Zone::Private,
            [0xff00..=0xffff, ..] => Zone::Nowhere,
            _ => Zone::Public,
        }
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Zone::Public => "public",
            Zone::Private => "private",
            Zone::Loopback => "loopback",
            Zone::LinkLocal => "link-local",
            Zone::Nowhere => "reserved",
        })
    }
}

/// How far a request may go, by who chose where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// The operator's configuration names the host: anywhere.
    Configured,
    /// A reference names it: anywhere but link-local.
    Named,
    /// A registry in this zone sends us there: no nearer to us than it is itself.
    SentFrom(Zone),
}

impl Reach {
    /// Whether a connection to that address may be made.
    pub fn allows(self, address: IpAddr) -> bool {
        let zone = Zone::of(address);
        match (self, zone) {
            (_, Zone::Nowhere) => false,
            (Reach::Configured, _) => true,
            (_, Zone::LinkLocal) => false,
            (Reach::Named, _) | (Reach::SentFrom(_), Zone::Public) => true,
            (Reach::SentFrom(from), Zone::Private) => {
                matches!(from, Zone::Private | Zone::Loopback | Zone::LinkLocal)
            }
            (Reach::SentFrom(from), Zone::Loopback) => from == Zone::Loopback,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(text: &str) -> Zone {
        Zone::of(text.parse().unwrap())
    }

    #[test]
    fn addresses_lie_where_they_lead() {
        for (zone_wanted, addresses) in [
            (Zone::Public, &["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1", "64:ff9b::808:808"][..]),
            (Zone::Private, &["10.1.2.3", "172.31.255.1", "192.168.0.1", "100.100.100.200", "fd00:ec2::254"]),
            (Zone::Loopback, &["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "::127.0.0.1"]),
            (
                Zone::LinkLocal,
                &[
                    "169.254.169.254",
                    "fe80::1",
                    "::ffff:169.254.169.254",
                    "64:ff9b::a9fe:a9fe",
                    "2002:a9fe:a9fe::",
                ],
            ),
            (Zone::Nowhere, &["0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "ff02::1", "0.1.2.3"]),
        ] {
            for address in addresses {
                assert_eq!(zone(address), zone_wanted, "{address}");
            }
        }
    }

    #[test]
    fn nobody_is_sent_nearer_to_us_than_who_sends() {
        let allows = |from, to: &str| Reach::SentFrom(from).allows(to.parse().unwrap());
        for inner in ["10.0.0.1", "127.0.0.1", "169.254.169.254", "::1", "fd00::1", "::ffff:10.0.0.1"] {
            assert!(!allows(Zone::Public, inner), "{inner}");
        }
        assert!(allows(Zone::Public, "1.1.1.1") && allows(Zone::Private, "1.1.1.1"));
        assert!(allows(Zone::Private, "10.0.0.1") && !allows(Zone::Private, "127.0.0.1"));
        assert!(allows(Zone::Loopback, "127.0.0.1") && !allows(Zone::Loopback, "169.254.1.1"));
        assert!(!Reach::Named.allows("169.254.169.254".parse().unwrap()));
        assert!(Reach::Configured.allows("169.254.169.254".parse().unwrap()));
        assert!(!Reach::Configured.allows("0.0.0.0".parse().unwrap()));
    }
}

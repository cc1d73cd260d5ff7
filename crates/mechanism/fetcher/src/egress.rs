// SPDX-License-Identifier: Apache-2.0
//! Which addresses may be spoken to.
//!
//! Whoever launches a task chooses its URIs, and the fetcher speaks from the host's own network: without rules it is
//! a way to the host's neighbours, to services bound to loopback, and to the metadata service of a cloud. The rules
//! look at the *address* that a connection is made to, after the name was resolved and with no second look-up in
//! between, so a name that changes its mind (DNS rebinding) changes nothing.
//!
//! | address | the URI itself | a redirect |
//! |---|---|---|
//! | public | yes | yes |
//! | private, shared (100.64/10), loopback | yes | only back to the address and port that the URI itself led to |
//! | link-local | no | no |
//! | metadata services | no | no |
//! | no unicast address at all | never | never |
//!
//! [`Egress::deny`] forbids networks whatever the table says, [`Egress::allow`] allows them (all but the last row).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A network: an address and how many of its bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Net {
    address: IpAddr,
    bits: u8,
}

impl Net {
    /// Whether `address` is in it. An IPv4 address that travels inside an IPv6 one counts as itself.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, plain(address)) {
            (IpAddr::V4(net), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                net.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(net), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                net.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        }
    }
}

/// Text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a network; write an address, or one with a prefix length as in 10.0.0.0/8 or fd00::/8")]
pub struct NetError(String);

impl FromStr for Net {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Net, NetError> {
        let wrong = || NetError(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) if !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().map_err(|_| wrong())?
            }
            Some(_) => return Err(wrong()),
        };
        match bits <= most {
            true => Ok(Net { address, bits }),
            false => Err(wrong()),
        }
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl TryFrom<String> for Net {
    type Error = NetError;

    fn try_from(text: String) -> Result<Net, NetError> {
        text.parse()
    }
}

impl From<Net> for String {
    fn from(net: Net) -> String {
        net.to_string()
    }
}

/// What an address is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Anywhere in the internet.
    Public,
    /// A private, shared or unique local network.
    Private,
    /// This host.
    Loopback,
    /// The neighbours on a cable.
    LinkLocal,
    /// Where a cloud tells machines about themselves, secrets included.
    Metadata,
    /// Unspecified, multicast, broadcast, reserved.
    Unusable,
}

impl Kind {
    /// What `address` is for.
    pub fn of(address: IpAddr) -> Kind {
        match plain(address) {
            IpAddr::V4(v4) => Kind::of_v4(v4),
            IpAddr::V6(v6) => Kind::of_v6(v6),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Kind {
        let [a, b, ..] = address.octets();
        match address.octets() {
            // EC2 and most others; ECS tasks; Alibaba; Azure's wire server; Oracle.
            [169, 254, 169, 254] | [169, 254, 170, 2] | [169, 254, 170, 23] => Kind::Metadata,
            [100, 100, 100, 200] | [168, 63, 129, 16] | [192, 0, 0, 192] => Kind::Metadata,
            _ if address.is_loopback() => Kind::Loopback,
            _ if address.is_link_local() => Kind::LinkLocal,
            _ if address.is_private() || (a == 100 && b & 0xc0 == 64) => Kind::Private,
            // 198.18/15 is for benchmarks between own machines.
            _ if a == 198 && b & 0xfe == 18 => Kind::Private,
            _ if a == 0 || a >= 224 => Kind::Unusable,
            _ => Kind::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Kind {
        let first = address.segments()[0];
        match address {
            _ if address == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254) => Kind::Metadata,
            _ if address == Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254) => Kind::Metadata,
            _ if address.is_loopback() => Kind::Loopback,
            _ if address.is_unspecified() || address.is_multicast() => Kind::Unusable,
            _ if first & 0xffc0 == 0xfe80 => Kind::LinkLocal,
            // Unique local, and the old site-local.
            _ if first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfec0 => Kind::Private,
            _ => Kind::Public,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Public => "a public address",
            Kind::Private => "an address of a private network",
            Kind::Loopback => "an address of this host",
            Kind::LinkLocal => "a link-local address",
            Kind::Metadata => "the address of a cloud's metadata service",
            Kind::Unusable => "no address of one host",
        })
    }
}

/// The IPv4 address inside an IPv6 one (mapped, compatible, NAT64, 6to4), so that it is not a way around the rules.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let s = v6.segments();
    let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] => v4(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => address,
        [0, 0, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => address,
    }
}

/// How a connection came to be wanted.
#[derive(Debug, Clone, Copy)]
pub enum Hop<'a> {
    /// It is the URI itself.
    First,
    /// A server sent us there; the URI itself led to these addresses.
    Redirect(&'a [SocketAddr]),
}

/// An address that is not spoken to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// By the rules, or because [`Egress::deny`] has it.
    #[error("{address} is {kind}, and the agent's operator denies it")]
    Denied {
        /// The address.
        address: IpAddr,
        /// What it is.
        kind: Kind,
    },
    /// The URI itself leads there.
    #[error("{address} is {kind}, which is not fetched from unless the agent's operator allows it")]
    Kind {
        /// The address.
        address: IpAddr,
        /// What it is.
        kind: Kind,
    },
    /// A redirect leads there.
    #[error(
        "a redirect to {address}, which is {kind}, is not followed unless the agent's operator allows that address"
    )]
    Redirect {
        /// The address.
        address: IpAddr,
        /// What it is.
        kind: Kind,
    },
}

/// The operator's exceptions from the rules.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Egress {
    /// Networks that are spoken to, by redirect too.
    pub allow: Vec<Net>,
    /// Networks that are not, whatever else is said.
    pub deny: Vec<Net>,
}

impl Egress {
    /// Whether a connection to `to` may be made.
    ///
    /// # Errors
    /// It may not.
    pub fn check(&self, to: SocketAddr, hop: Hop<'_>) -> Result<(), Refusal> {
        let (address, kind) = (to.ip(), Kind::of(to.ip()));
        if self.deny.iter().any(|net| net.contains(address)) {
            return Err(Refusal::Denied { address, kind });
        }
        if kind == Kind::Unusable {
            return Err(Refusal::Kind { address, kind });
        }
        if kind == Kind::Public || self.allow.iter().any(|net| net.contains(address)) {
            return Ok(());
        }
        match (kind, hop) {
            (Kind::Private | Kind::Loopback, Hop::First) => Ok(()),
            (Kind::Private | Kind::Loopback, Hop::Redirect(first))
                if first.iter().any(|known| same(*known, to)) =>
            {
                Ok(())
            }
            (_, Hop::First) => Err(Refusal::Kind { address, kind }),
            (_, Hop::Redirect(_)) => Err(Refusal::Redirect { address, kind }),
        }
    }
}

/// The same server: the step from http to https on the usual ports is one server too.
fn same(known: SocketAddr, to: SocketAddr) -> bool {
    plain(known.ip()) == plain(to.ip())
        && (known.port() == to.port() || (known.port(), to.port()) == (80, 443))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> SocketAddr {
        SocketAddr::new(address.parse().unwrap(), 80)
    }

    fn first(address: &str) -> bool {
        Egress::default().check(at(address), Hop::First).is_ok()
    }

    #[test]
    fn the_uri_itself_may_lead_to_private_networks_and_never_to_metadata() {
        for good in ["8.8.8.8", "10.1.2.3", "192.168.0.1", "127.0.0.1", "::1", "fd00::1", "2001:db8::1"] {
            assert!(first(good), "{good}");
        }
        for bad in [
            "169.254.169.254",
            "169.254.170.2",
            "169.254.1.1",
            "100.100.100.200",
            "168.63.129.16",
            "fd00:ec2::254",
            "fe80::1",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
        ] {
            assert!(!first(bad), "{bad}");
        }
    }

    #[test]
    fn an_ipv4_address_inside_an_ipv6_one_is_judged_as_itself() {
        for bad in ["::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "::169.254.169.254"]
        {
            assert!(!first(bad), "{bad}");
            assert_eq!(Kind::of(bad.parse().unwrap()), Kind::Metadata, "{bad}");
        }
        assert_eq!(Kind::of("::ffff:127.0.0.1".parse().unwrap()), Kind::Loopback);
    }

    #[test]
    fn a_redirect_leads_to_the_internet_or_back_to_where_it_came_from() {
        let egress = Egress::default();
        let known = [at("10.0.0.5")];
        let hop = Hop::Redirect(&known);
        egress.check(at("93.184.216.34"), hop).unwrap();
        egress.check(at("10.0.0.5"), hop).unwrap();
        egress.check(SocketAddr::new("10.0.0.5".parse().unwrap(), 443), hop).unwrap();
        for bad in [at("10.0.0.6"), at("127.0.0.1"), SocketAddr::new("10.0.0.5".parse().unwrap(), 2375)] {
            let refusal = egress.check(bad, hop).unwrap_err();
            assert!(matches!(refusal, Refusal::Redirect { .. }), "{refusal}");
        }
    }

    #[test]
    fn the_operator_allows_and_denies_networks() {
        let egress = Egress {
            allow: vec!["169.254.169.254".parse().unwrap(), "10.0.0.0/8".parse().unwrap()],
            deny: vec!["10.9.0.0/16".parse().unwrap(), "8.8.8.0/24".parse().unwrap()],
        };
        egress.check(at("169.254.169.254"), Hop::First).unwrap();
        egress.check(at("10.1.1.1"), Hop::Redirect(&[])).unwrap();
        egress.check(at("10.9.1.1"), Hop::First).unwrap_err();
        egress.check(at("8.8.8.8"), Hop::First).unwrap_err();
        let all = Egress { allow: vec!["0.0.0.0/0".parse().unwrap()], deny: vec![] };
        all.check(at("0.0.0.0"), Hop::First).unwrap_err();
    }

    #[test]
    fn networks_are_read_strictly() {
        for wrong in
            ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0/8", "10.0.0.0/+8", "x", "fd00::/129", "1.2.3.4/8/8"]
        {
            assert!(wrong.parse::<Net>().is_err(), "{wrong}");
        }
        let net: Net = "0.0.0.0/0".parse().unwrap();
        assert!(net.contains("200.1.1.1".parse().unwrap()));
        assert!(!net.contains("2001:db8::1".parse().unwrap()));
        assert_eq!(serde_json::from_str::<Net>("\"fd00::/8\"").unwrap().to_string(), "fd00::/8");
    }
}

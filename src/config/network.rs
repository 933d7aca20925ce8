//! Networks and egress rules as they are written in the file.

use std::net::IpAddr;

/// An IP network such as `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads `ADDRESS/PREFIX` or `ADDRESS`.
    ///
    /// # Errors
    /// A sentence that says what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "'{}' is not a network; write an IP address, or one with a prefix such as 10.0.0.0/8",
                text.escape_debug()
            )
        };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        if address != address.to_canonical() {
            return Err(format!("'{text}' is an IPv4 address in IPv6 clothes; write the IPv4 address"));
        }
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            // `parse` alone would take "+8" and "08".
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) && !is_padded(digits) => {
                digits.parse().map_err(|_| wrong())?
            }
            Some(_) => return Err(wrong()),
        };
        if prefix > longest {
            return Err(wrong());
        }
        let network = Self { address: masked(address, prefix), prefix };
        if network.address != address {
            return Err(format!(
                "'{text}' has bits behind its prefix; write {}/{prefix}, or {address} for the one address",
                network.address
            ));
        }
        Ok(network)
    }

    /// Whether an address is in it. An IPv4 address in IPv6 clothes counts as what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.prefix) == self.address
    }
}

fn is_padded(digits: &str) -> bool {
    digits.len() > 1 && digits.starts_with('0')
}

/// The address with the bits behind the prefix set to 0.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

/// One entry of `egress.allow`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EgressRule {
    /// Exactly this host name.
    Host(String),
    /// Every name below this one, itself not: `*.example.com`.
    Subdomains(String),
    /// Every address in this network.
    Network(Network),
}

impl EgressRule {
    /// Reads a host name, `*.` and a host name, an address or a network.
    ///
    /// # Errors
    /// A sentence that says what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.parse::<IpAddr>().is_ok() || text.split_once('/').is_some_and(|(a, _)| is_address(a)) {
            return Network::parse(text).map(Self::Network);
        }
        let (host, subdomains) = match text.strip_prefix("*.") {
            Some(host) => (host, true),
            None => (text, false),
        };
        if !is_host(host) {
            return Err(format!(
                "'{}' is not a destination; write a host name without scheme and port (api.example.com), \
                 *.example.com, an IP address or a network (10.0.0.0/8)",
                text.escape_debug()
            ));
        }
        let host = host.to_ascii_lowercase();
        Ok(if subdomains { Self::Subdomains(host) } else { Self::Host(host) })
    }

    /// Whether it names this host. A network names none: it is asked about addresses.
    pub fn names(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        match self {
            Self::Host(name) => host.eq_ignore_ascii_case(name),
            Self::Subdomains(parent) => host
                .to_ascii_lowercase()
                .strip_suffix(parent.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            Self::Network(_) => false,
        }
    }

    /// Whether it holds this address. A name holds none.
    pub fn contains(&self, address: IpAddr) -> bool {
        matches!(self, Self::Network(network) if network.contains(address))
    }
}

fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    // A last label of digits would be read as an IPv4 address by some resolvers.
    let numeric = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    text.len() <= 253 && text.split('.').all(label) && !numeric
}

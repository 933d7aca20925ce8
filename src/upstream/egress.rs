//! What the gateway may dial, checked by name before and by address after resolution, at each connect.

use std::net::IpAddr;

use crate::config::EgressRule;

/// `[egress] allow`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressPolicy {
    /// `None`: whatever provider accounts name.
    rules: Option<Vec<EgressRule>>,
}

impl EgressPolicy {
    /// Reads the configured list; entries were checked with the configuration.
    pub fn new(allow: Option<&[String]>) -> Self {
        let rules =
            allow.map(|entries| entries.iter().filter_map(|entry| EgressRule::parse(entry).ok()).collect());
        Self { rules }
    }

    /// Whether a host's address may be dialled. `local_allowed` is whether an admin chose this destination.
    pub fn allows(&self, host: &str, address: IpAddr, local_allowed: bool) -> bool {
        if is_local(address) && !local_allowed {
            return false;
        }
        let Some(rules) = &self.rules else { return true };
        rules.iter().any(|rule| rule.names(host) || rule.contains(address))
    }
}

/// An IPv4 address written as IPv6 is the IPv4 address.
fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// Loopback, link-local (where clouds serve machine credentials), unspecified.
pub fn is_local(address: IpAddr) -> bool {
    match unmapped(address) {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified() || (v6.segments()[0] & 0xffc0) == 0xfe80,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let open = EgressPolicy::new(None);
        assert!(open.allows("x", ip("8.8.8.8"), false));
        for local in ["127.0.0.1", "169.254.169.254", "::1", "fe80::1", "0.0.0.0", "::", "::ffff:127.0.0.1"] {
            assert!(!open.allows("x", ip(local), false), "{local}");
            assert!(open.allows("x", ip(local), true), "{local}");
        }
        let list: Vec<String> = ["api.openai.com", "*.example.com", "10.0.0.0/8", "fd00::/8", "127.0.0.1"]
            .map(String::from)
            .into();
        let some = EgressPolicy::new(Some(&list));
        for (host, address, allowed) in [
            ("api.openai.com", "1.2.3.4", true),
            ("evil.com", "1.2.3.4", false),
            ("a.example.com", "1.2.3.4", true),
            ("example.com", "1.2.3.4", false),
            ("badexample.com", "1.2.3.4", false),
            ("x", "10.200.0.1", true),
            ("x", "::ffff:10.0.0.1", true),
            ("x", "11.0.0.1", false),
            ("x", "fd12::1", true),
            ("x", "fe12::1", false),
            ("x", "127.0.0.1", true),
            ("x", "127.0.0.2", false),
        ] {
            assert_eq!(some.allows(host, ip(address), true), allowed, "{host} {address}");
        }
        assert!(!EgressPolicy::new(Some(&[])).allows("x", ip("8.8.8.8"), true));
    }
}
